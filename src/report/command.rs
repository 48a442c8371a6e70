//! The command line that makes one cell again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::text;
use crate::prompt::{Prompt, block_argument};
use crate::run::{Cell, RunKind, RunRecord};

/// Settings of a text that have a flag of their name.
const TEXT_FLAGS: &[&str] =
    &["max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "system"];
/// Settings of a picture that have a flag of their name.
const IMAGE_FLAGS: &[&str] = &[
    "steps",
    "guidance",
    "guidance_rescale",
    "sampler",
    "scheduler",
    "width",
    "height",
    "negative",
    "clip_skip",
    "rng",
];
/// Settings of a text that are flags of another form.
const TEXT_SWITCHES: &[(&str, &str, &str)] =
    &[("chat", "true", "--chat"), ("long_prompts", "truncate", "--truncate")];

/// A command for a POSIX shell, and the settings that it cannot express.
#[derive(Debug, PartialEq)]
pub struct Command {
    /// `lora-eval generate … --seed 1`; `None` where a NUL keeps it out of any command line.
    pub line: Option<String>,
    /// `chat = true`.
    pub without_flag: Vec<String>,
}

/// The command that makes `cell` again. `prompt` is its entry in the suite, whose settings go
/// before those of the run.
pub fn command(record: &RunRecord, cell: &Cell, prompt: Option<&Value>) -> Command {
    let mut words = vec!["lora-eval".to_owned(), "generate".to_owned()];
    let option = |words: &mut Vec<String>, name: &str, value: &str| {
        if value.starts_with('-') {
            words.push(format!("{name}={value}"));
        } else {
            words.extend([name.to_owned(), value.to_owned()]);
        }
    };
    if !cell.prompt.starts_with('-') {
        words.push(cell.prompt.clone());
    }
    option(&mut words, "--base", &record.base.name);
    if let Some(vae) = &record.base.vae {
        option(&mut words, "--vae", vae);
    }
    let tags = Prompt::parse_text(&cell.prompt).map(|prompt| prompt.adapters).unwrap_or_default();
    for adapter in &cell.adapters {
        let known = record.adapters.iter().find(|known| known.name == adapter.name);
        let path = known.map_or(adapter.name.as_str(), |known| known.path.as_str());
        let strength = match adapter.text_encoder {
            _ if tags.iter().any(|tag| tag.name == adapter.name) => String::new(),
            Some(text) => format!(":{text}:{}", adapter.strength),
            None => format!(":{}", adapter.strength),
        };
        let blocks = block_argument(&adapter.blocks);
        option(&mut words, "--lora", &format!("{}={path}{strength}{blocks}", adapter.name));
    }
    option(&mut words, "--seed", &cell.seed.to_string());
    let mut without_flag = Vec::new();
    for (name, value) in settings(record, cell, prompt) {
        let flags = match record.kind {
            RunKind::Text => TEXT_FLAGS,
            RunKind::Image => IMAGE_FLAGS,
        };
        let value_text = text::value(value);
        let of_text = record.kind == RunKind::Text;
        let switch = TEXT_SWITCHES.iter().find(|(known, ..)| of_text && *known == name);
        if let Some((_, on, flag)) = switch {
            words.extend((value_text == *on).then(|| (*flag).to_owned()));
        } else if of_text && name == "stop" {
            for stop in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                option(&mut words, "--stop", stop);
            }
        } else if name == "adapter" {
            // its strengths are those of the cell
        } else if !flags.contains(&name) {
            without_flag.push(format!("{name} = {}", text::value(value)));
        } else if !value.is_null() {
            option(&mut words, &format!("--{}", name.replace('_', "-")), &text::value(value));
        }
    }
    option(&mut words, "--dtype", &record.dtype);
    option(&mut words, "--device", &record.device);
    if record.kind == RunKind::Image {
        option(&mut words, "--out", &format!("{}.png", text::short_hash(&cell.cell)));
    }
    if cell.prompt.starts_with('-') {
        words.extend(["--".to_owned(), cell.prompt.clone()]);
    }
    let mut line = words.iter().map(|word| quoted(word)).collect::<Option<Vec<_>>>();
    if prompt.is_some_and(|prompt| prompt["messages"].is_array()) {
        // what the template made of them is no prompt: it has its special tokens already
        line = Some(vec!["# a conversation: only its suite makes this cell again".to_owned()]);
    }
    Command { line: line.map(|words| words.join(" ")), without_flag }
}

/// The settings of a cell: the run's, over them its prompt's, over them the further axes'.
pub fn settings<'a>(
    record: &'a RunRecord,
    cell: &'a Cell,
    prompt: Option<&'a Value>,
) -> BTreeMap<&'a str, &'a Value> {
    let mut settings: BTreeMap<&str, &Value> =
        record.settings.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let own = prompt.and_then(|prompt| prompt["settings"].as_object());
    settings.extend(own.into_iter().flatten().map(|(name, value)| (name.as_str(), value)));
    settings.extend(cell.axes.iter().map(|(name, value)| (name.as_str(), value)));
    settings
}

/// `word` as one word of a POSIX shell; with control characters, in the `$'…'` form that bash,
/// zsh, ksh and POSIX 2024 know. No shell can pass a NUL.
pub fn quoted(word: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if word.contains('\0') {
        None
    } else if !word.is_empty() && word.chars().all(plain) {
        Some(word.to_owned())
    } else if matches!(text::visible(word), Cow::Borrowed(_)) {
        Some(format!("'{}'", word.replace('\'', r"'\''")))
    } else {
        let escape = |c: char| match c {
            '\'' | '\\' => format!("\\{c}"),
            '\n' => "\\n".to_owned(),
            c if matches!(text::visible(c.encode_utf8(&mut [0; 4])), Cow::Owned(_)) => {
                let mut bytes = String::new();
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(bytes, "\\{byte:03o}");
                }
                bytes
            }
            c => c.to_string(),
        };
        Some(format!("$'{}'", word.chars().map(escape).collect::<String>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("demo:text").as_deref(), Some("demo:text"));
        assert_eq!(quoted("").as_deref(), Some("''"));
        assert_eq!(quoted("it's $HOME `x`").as_deref(), Some(r"'it'\''s $HOME `x`'"));
        assert_eq!(quoted("a\nb").as_deref(), Some("'a\nb'"));
        assert_eq!(quoted("a\u{1b}'\\").as_deref(), Some(r"$'a\033\'\\'"));
        assert_eq!(quoted("\u{202e}").as_deref(), Some(r"$'\342\200\256'"));
        assert_eq!(quoted("~/x").as_deref(), Some("'~/x'"));
        assert_eq!(quoted("a\0"), None);
    }
}
