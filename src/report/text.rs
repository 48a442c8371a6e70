//! Untrusted text made visible, and the words for groups, hashes and axes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// `text` with every character that would act instead of showing replaced by one that shows.
///
/// Control characters become Unicode's control pictures (`␛`), characters that reorder or hide
/// text become `⟨U+202E⟩`. Line feeds and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !acts(c) => shown.push(c),
            '\0'..='\u{1f}' => shown.push(picture(c)),
            '\u{7f}' => shown.push('␡'),
            c => {
                let _ = write!(shown, "⟨U+{:04X}⟩", u32::from(c));
            }
        }
    }
    Cow::Owned(shown)
}

/// The control picture of a C0 control character.
fn picture(c: char) -> char {
    char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Whether a character acts on its surroundings instead of showing.
fn acts(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // line and paragraph separators, marks and overrides of direction, invisible operators
        '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{fffe}'
        | '\u{ffff}'
        | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

/// What people call a group.
pub fn group(name: &str) -> String {
    match name {
        "heldout" => "Held-out prompts".to_owned(),
        "base" => "Base prompts".to_owned(),
        other => other.to_owned(),
    }
}

/// What people call a group, where there is little room.
pub fn short_group(name: &str) -> String {
    match name {
        "heldout" => "Held-out".to_owned(),
        "base" => "Base".to_owned(),
        other => other.to_owned(),
    }
}

/// Held-out prompts first, base prompts next, others in the order of their names.
pub fn group_order(name: &str) -> (u8, &str) {
    match name {
        "heldout" => (0, name),
        "base" => (1, name),
        other => (2, other),
    }
}

/// `sampler = euler_a, chat = true`; empty without further axes.
pub fn axes(point: &BTreeMap<String, Value>) -> String {
    let parts: Vec<String> = point.iter().map(|(k, v)| format!("{k} = {}", value(v))).collect();
    parts.join(", ")
}

/// A value of a setting: strings without their quotes, all else as JSON.
pub fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The first `most` characters, with `…` where some are left out.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
    }
}

/// The first 10 characters of a hash.
pub fn short_hash(hash: &str) -> String {
    hash.chars().take(10).collect()
}

/// `name` with a plural `s` unless there is one.
pub fn count(n: usize, name: &str) -> String {
    format!("{n} {name}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_shown_and_what_shows_is_kept() {
        assert_eq!(visible("a\u{1b}[31m\0b\r\n\tc"), "a␛[31m␀b␍\n\tc");
        assert_eq!(visible("x\u{202e}y\u{2028}\u{85}"), "x⟨U+202E⟩y⟨U+2028⟩⟨U+0085⟩");
        assert_eq!(visible("Grüße, 你好 👩‍🔬"), "Grüße, 你好 👩‍🔬");
    }

    #[test]
    fn cutting_counts_characters_not_bytes() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äöü…");
    }

    #[test]
    fn groups_have_their_order() {
        let mut names = ["zoo", "base", "art", "heldout"];
        names.sort_by_key(|name| group_order(name));
        assert_eq!(names, ["heldout", "base", "art", "zoo"]);
    }
}
