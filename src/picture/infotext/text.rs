use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

/// Starts the negative prompt, at the start of a line.
const NEGATIVE: &str = "Negative prompt:";

/// A last line with fewer fields than this is part of the prompt.
const FEWEST_FIELDS: usize = 3;

/// Prompts and fields of one picture.
///
/// [`Infotext::parse`] reads what `Display` writes, where the text can hold it: lines of prompts
/// lose the spaces around them and a prompt its empty lines at both ends; no line of a prompt may
/// start with `Negative prompt:`; there are three fields or more; a key is two or more letters,
/// digits or `_`, after the first also spaces, `-` and `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Infotext {
    /// The prompt, extra networks included. May have several lines.
    pub prompt: String,
    /// The negative prompt; empty if there is none.
    pub negative: String,
    /// Key and value, in order. No key occurs twice.
    pub fields: Vec<(String, String)>,
}

impl Infotext {
    /// Reads the text. Any text is one: what has no fields is a prompt.
    ///
    /// Departures from the WebUI: values such as `512x512` stay whole ([`size`] splits them), an
    /// absent field stays absent ([`super::Settings`] has the defaults), and a `Hypernet` is not added
    /// to the prompt.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let (mut prompts, mut last) = text.rsplit_once('\n').unwrap_or(("", text));
        if FIELD.captures_iter(last).nth(FEWEST_FIELDS - 1).is_none() {
            (prompts, last) = (text, "");
        }
        let (mut prompt, mut negative) = (String::new(), String::new());
        let mut target = &mut prompt;
        for line in prompts.split('\n').map(str::trim) {
            let line = match line.strip_prefix(NEGATIVE) {
                Some(rest) => {
                    target = &mut negative;
                    rest.trim()
                }
                None => line,
            };
            if !target.is_empty() {
                target.push('\n');
            }
            target.push_str(line);
        }
        Self { prompt, negative, fields: fields(last) }
    }

    /// The value of a field.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Replaces a field's value, or adds the field at the end.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        match self.fields.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value.into(),
            None => self.fields.push((key.to_owned(), value.into())),
        }
    }
}

impl fmt::Display for Infotext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.prompt.clone();
        if !self.negative.is_empty() {
            text.push('\n');
            text.push_str(NEGATIVE);
            text.push(' ');
            text.push_str(&self.negative);
        }
        let fields: Vec<String> =
            self.fields.iter().map(|(key, value)| format!("{key}: {}", quote(value))).collect();
        write!(f, "{}", format!("{text}\n{}", fields.join(", ")).trim())
    }
}

/// Width and height in a value such as `512x768`.
pub fn size(value: &str) -> Option<(u32, u32)> {
    let (width, height) = value.split_once('x')?;
    let number = |digits: &str| {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    Some((number(width)?, number(height)?))
}

#[expect(clippy::expect_used, reason = "a constant pattern, with which every test here reads")]
static FIELD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)"#).expect("a valid pattern")
});

/// The fields of a line. A later value of a key takes the place of the earlier one.
fn fields(line: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut places = BTreeMap::new();
    for (_, [key, value]) in FIELD.captures_iter(line).map(|found| found.extract()) {
        // the WebUI stumbles over an empty value and goes on without the field
        if value.is_empty() {
            continue;
        }
        let value = unquote(value);
        let place = *places.entry(key).or_insert(fields.len());
        match fields.get_mut(place) {
            Some((_, old)) => *old = value,
            None => fields.push((key.to_owned(), value)),
        }
    }
    fields
}

/// The WebUI's `quote`: JSON where there is a comma, a colon or a new line. Here also for values
/// that would not be read back as they are: empty ones, and those that start with a quotation mark or
/// have a space at an end.
fn quote(value: &str) -> String {
    let plain = !value.contains([',', ':', '\n'])
        && !value.is_empty()
        && !value.starts_with('"')
        && value.trim() == value;
    if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

/// The WebUI's `unquote`: what is in quotation marks but is no JSON string stays as it is.
fn unquote(value: &str) -> String {
    if value.starts_with('"') && value.ends_with('"') {
        serde_json::from_str(value).unwrap_or_else(|_| value.to_owned())
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn the_example_of_the_webui_is_read() {
        let text = "girl with an artist's beret, ((eyeshadow)), (coquettish), detailed\n\
            Negative prompt: ugly, (((deformed))), [blurry], mutated, (extra_limb)\n\
            Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b";
        let info = Infotext::parse(text);
        assert_eq!(
            info.prompt,
            "girl with an artist's beret, ((eyeshadow)), (coquettish), detailed"
        );
        assert_eq!(info.negative, "ugly, (((deformed))), [blurry], mutated, (extra_limb)");
        assert_eq!(info.get("Sampler"), Some("Euler a"));
        assert_eq!(info.get("Size").and_then(size), Some((512, 512)));
        assert_eq!(info.get("Model hash"), Some("45dee52b"));
        assert_eq!(info.fields.len(), 6);
        assert_eq!(info.to_string(), text);
    }

    #[test]
    fn a_last_line_of_two_fields_is_prompt() {
        let info = Infotext::parse("a cat\nSteps: 20, Seed: 1");
        assert_eq!(info.prompt, "a cat\nSteps: 20, Seed: 1");
        assert!(info.fields.is_empty());
        let info = Infotext::parse("Steps: 20, Seed: 1, Size: 8x8");
        assert_eq!(info.prompt, "");
        assert_eq!(info.fields.len(), 3);
    }

    #[test]
    fn the_negative_prompt_goes_on_to_the_fields() {
        let info = Infotext::parse(
            " one \n two\nNegative prompt:  three \n\n four\nNegative prompt: five\nSteps: 1, Seed: 2, CFG scale: 3,",
        );
        assert_eq!(info.prompt, "one\ntwo");
        assert_eq!(info.negative, "three\n\nfour\nfive");
        assert_eq!(info.fields[2], field("CFG scale", "3"));
    }

    #[test]
    fn quoted_values_are_json_and_broken_ones_stay() {
        let info = Infotext::parse(
            r#"Steps: 20, Lora hashes: "ink: 0123456789ab, b: \"c\\d\"", Hires prompt: "a\nb", X-Y/z: "open, Bad: "\q", Empty: , Twice: 1, Twice: 2, No: """#,
        );
        assert_eq!(
            info.fields,
            [
                field("Steps", "20"),
                field("Lora hashes", r#"ink: 0123456789ab, b: "c\d""#),
                field("Hires prompt", "a\nb"),
                field("X-Y/z", "\"open"),
                field("Bad", r#""\q""#),
                field("Twice", "2"),
                field("No", ""),
            ]
        );
    }

    #[test]
    fn sizes_are_two_whole_numbers() {
        assert_eq!(size("512x768"), Some((512, 768)));
        for other in ["512", "512x", "x1", "512x768x3", "5.0x1", "+5x1", "512X768", "9999999999x1"]
        {
            assert_eq!(size(other), None, "{other}");
        }
    }

    #[test]
    fn reading_takes_no_more_than_linear_time() {
        for part in ["ab: \"", "ab:,", "a", "ab: \"\\\",", ": ", "\"", "Negative prompt:\n"] {
            let started = std::time::Instant::now();
            Infotext::parse(&part.repeat((1 << 20) / part.len()));
            assert!(started.elapsed().as_secs() < 10, "{part}");
        }
    }

    /// Lines without space around them, the first and last not empty, none starting a negative prompt.
    fn prompt() -> impl Strategy<Value = String> {
        let line =
            r#"[\PC,:"\\<>()\[\]é日🖌 ]{0,40}"#.prop_map(|line: String| line.trim().to_owned());
        proptest::collection::vec(line, 0..4).prop_map(|lines| {
            lines.join("\n").trim().replace(NEGATIVE, "positive prompt").trim().to_owned()
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            prompt in prompt(),
            negative in prompt(),
            fields in proptest::collection::btree_map(
                r"[a-zA-Zé日_0-9][a-zA-Zé日_0-9 /\-]{1,10}", r#"[\PC,:"\\\n\té日🖌 x0-9]{0,30}"#, 3..8),
        ) {
            let info = Infotext { prompt, negative, fields: fields.into_iter().collect() };
            let text = info.to_string();
            prop_assert_eq!(Infotext::parse(&text), info, "{}", text);
        }

        #[test]
        fn reading_and_writing_settle(text in r#"(?s)(.|, |Ab: |"|\n|Negative prompt: ){0,60}"#) {
            let once = Infotext::parse(&text);
            if once.fields.len() >= FEWEST_FIELDS {
                prop_assert_eq!(Infotext::parse(&once.to_string()).fields, once.fields);
            }
        }
    }
}
