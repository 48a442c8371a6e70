//! The way back: from what has been read to a prompt that reads the same.

use std::fmt::{self, Write};

use super::emphasis::Fragment;
use super::read::Prompt;
use super::scan::{is_space, is_word};
use super::tag::AdapterTag;

/// Writes fragments as a prompt. [`parse_emphasis`](super::parse_emphasis) gives the same fragments for it,
/// provided that their weights are finite and neighbours' weights differ, as they do where it made them.
///
/// Text is escaped, so that the prompt as a whole holds no tags, schedules or `AND` either.
#[must_use]
#[expect(clippy::float_cmp, reason = "only text of exactly the neutral weight needs no brackets")]
pub fn render_fragments(fragments: &[Fragment]) -> String {
    let mut out = String::new();
    let neutral = |index: usize| fragments.get(index).filter(|fragment| fragment.weight == 1.0);
    for (index, fragment) in fragments.iter().enumerate() {
        let after = neutral(index + 1);
        let only = fragments.len() == 1;
        let beside_break = |at: Option<usize>| at.is_some_and(|at| is_bare_break(fragments, at));
        if is_bare_break(fragments, index) {
            // spaces around it are no part of the texts beside it
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str("BREAK");
            if after.is_some_and(|next| !next.text.is_empty()) {
                out.push(' ');
            }
        } else if fragment.weight != 1.0 {
            write_weighted(&mut out, fragment);
        } else if fragment.text.is_empty() {
            let implied =
                only || beside_break(index.checked_sub(1)) || beside_break(Some(index + 1));
            if !implied {
                write_weighted(&mut out, fragment);
            }
        } else {
            write_escaped(&mut out, &fragment.text);
        }
    }
    protect_end(out)
}

/// Whether a fragment can be written as the word `BREAK`: with neutral text on both sides, which is what reading
/// that word gives, and no spaces that it would swallow.
#[expect(clippy::float_cmp, reason = "only exactly neutral text merges with what a BREAK leaves")]
fn is_bare_break(fragments: &[Fragment], index: usize) -> bool {
    let neutral = |index: usize| fragments.get(index).filter(|fragment| fragment.weight == 1.0);
    let before = index.checked_sub(1).and_then(neutral);
    let after = neutral(index + 1);
    fragments.get(index).is_some_and(Fragment::is_break)
        && before.is_some_and(|fragment| !fragment.text.ends_with(is_space))
        && after.is_some_and(|fragment| !fragment.text.starts_with(is_space))
}

fn write_weighted(out: &mut String, fragment: &Fragment) {
    out.push('(');
    write_escaped(out, &fragment.text);
    if fragment.text.is_empty() {
        out.push('\\'); // a lone backslash reads as an empty text
    }
    let _ = write!(out, ":{})", fragment.weight);
}

/// Writes text so that every layer of the language takes it literally. A backslash before a character that needs
/// no escape disappears when emphasis is read, so it can break up what would have a meaning.
fn write_escaped(out: &mut String, text: &str) {
    let mut word = String::new();
    let mut after_angle = false;
    for c in text.chars() {
        if is_word(c) {
            if after_angle {
                out.push('\\'); // no tag begins here
            }
            after_angle = false;
            word.push(c);
            continue;
        }
        write_word(out, &mut word);
        if matches!(c, '(' | ')' | '[' | ']' | '\\' | '|') {
            out.push('\\');
        }
        out.push(c);
        after_angle = c == '<';
    }
    write_word(out, &mut word);
}

/// Writes a word; the two words that have a meaning lose it.
fn write_word(out: &mut String, word: &mut String) {
    match word.as_str() {
        "AND" => out.push_str("AN\\D"),
        "BREAK" => out.push_str("BREA\\K"),
        _ => out.push_str(word),
    }
    word.clear();
}

/// A number after a colon at the end would be the weight of the whole prompt.
fn protect_end(mut out: String) -> String {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-');
    let words = out.trim_end_matches(|c| is_number(c) || is_space(c));
    let number = out[words.len()..].find(is_number);
    if let (true, Some(at)) = (words.ends_with(':'), number) {
        out.insert(words.len() + at, '\\');
    }
    out
}

/// The prompt's source in canonical form: each adapter tag with its strengths, all else as it was.
impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut copied = 0;
        for tag in &self.tagged.tags {
            f.write_str(&self.source[copied..tag.span.start])?;
            write!(f, "{tag}")?;
            copied = tag.span.end;
        }
        f.write_str(&self.source[copied..])
    }
}

/// Weights by block as a tag's argument, `:lbw=1,0,0.5`; nothing where there are none.
pub fn block_argument(weights: &[f64]) -> String {
    if weights.is_empty() {
        return String::new();
    }
    let weights: Vec<String> = weights.iter().map(ToString::to_string).collect();
    format!(":lbw={}", weights.join(","))
}

/// The tag in canonical form.
impl fmt::Display for AdapterTag {
    #[expect(clippy::float_cmp, reason = "one number stands for both where they are the same")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<lora:{}:{}", self.name, self.text_encoder)?;
        if self.unet != self.text_encoder {
            write!(f, ":{}", self.unet)?;
        }
        if let Some(rank) = self.dyn_rank {
            write!(f, ":dyn={rank}")?;
        }
        f.write_str(&block_argument(&self.blocks))?;
        f.write_str(">")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::parse_emphasis;

    #[test]
    fn fragments_are_written_as_one_would() {
        for (source, rendered) in [
            ("", ""),
            ("a (b) c", "a (b:1.1) c"),
            ("a BREAK b", "a BREAK b"),
            ("BREAK", "BREAK"),
            ("BREAK BREAK", "BREAK BREAK"),
            (r"a \(b\)", r"a \(b\)"),
            ("(a BREAK b)", r"(a:1.1)(BREA\K:-1.1)(b:1.1)"),
            (r"(\:1.2)", r"(\:1.2)"),
            ("16:9", r"16:\9"),
            ("a AND b", r"a AN\D b"),
            ("a | <b:c>", r"a \| <\b:c>"),
        ] {
            let fragments = parse_emphasis(source).expect(source);
            assert_eq!(render_fragments(&fragments), rendered, "{source}");
            assert_eq!(parse_emphasis(rendered), Ok(fragments), "{source}");
        }
    }

    #[test]
    fn tags_are_written_in_canonical_form() {
        for (source, rendered) in [
            ("a <lyco: x :te=0.50> b", "a <lora:x:0.5> b"),
            ("<lora:x:1:unet=0:dyn=04>", "<lora:x:1:0:dyn=4>"),
            ("<lora:x:0.5:lbw= 1 ,.5,-0>", "<lora:x:0.5:lbw=1,0.5,-0>"),
            ("<lo<lora:x>ra:y:1><b:c>", "<lo<lora:x:1>ra:y:1><b:c>"),
        ] {
            assert_eq!(Prompt::parse(source).expect(source).to_string(), rendered);
        }
    }
}
