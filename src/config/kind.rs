//! Kinds of values: read from a tree, written as YAML.
//!
//! A value is kept as the JSON that [`super::Settings`] is deserialized from, so a key needs no code of
//! its own: its name is the path of a field, its kind the field's type.

use serde_json::{Value as Json, json};

use super::forms::{bad_pattern, bytes, choice, every, length, resolution, stem, targets, warmup};
use super::tree::{Node, Value};

/// The kind of value that a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// A path; relative ones start at the working directory, `~` is not expanded.
    Path,
    /// The stem of a file's name.
    Stem,
    /// `true` or `false`.
    Flag,
    /// A whole number, at least and at most.
    Whole(u64, u64),
    /// A multiple of 8, at least and at most.
    Eights(u64, u64),
    /// One of some whole numbers.
    OneOf(&'static [u64]),
    /// A number: which are allowed, and that in words.
    Number(fn(f64) -> bool, &'static str),
    /// A name: ours, and what peers call it.
    Choice(&'static [&'static str], &'static [Synonym]),
    /// Width and height, multiples of 8: `512`, `512,768`, `[512, 768]`, `512x768`.
    Resolution,
    /// `never`, `500 steps`, `2 epochs`.
    Every,
    /// `2000 steps`, `10 epochs`.
    Length,
    /// Steps (`100`), or a part of all steps (`0.05`).
    Warmup,
    /// `all-linear`, `attention`, a list of names, a regular expression.
    Targets,
    /// Whole numbers by regular expression.
    Ranks,
    /// Numbers by regular expression.
    Alphas,
    /// A size: `8 GiB`, `500 MB`, bytes.
    Bytes,
}

/// What peers call one of our names.
#[derive(Debug, Clone, Copy)]
pub struct Synonym {
    /// Their name, in lower case.
    pub theirs: &'static str,
    /// Ours.
    pub ours: &'static str,
    /// What is to be said about it, if anything.
    pub note: Option<&'static str>,
}

/// Why a value is not of its kind.
#[derive(Debug)]
pub(super) struct Misfit {
    /// The value in question, the whole or a part.
    pub(super) node: Node,
    /// What was expected.
    pub(super) expected: Box<str>,
    /// What to write, where that can be said.
    pub(super) hint: Option<Box<str>>,
}

impl Misfit {
    pub(super) fn new(node: &Node, expected: impl Into<Box<str>>) -> Self {
        Self { node: node.clone(), expected: expected.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<Box<str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The largest whole number of a setting: what JSON, TOML and f64 hold exactly.
pub(super) const LARGEST: u64 = 1 << 53;

/// The number that a text is, `2e-4` and `1_000` included; never NaN or infinite.
pub(super) fn number(text: &str) -> Option<f64> {
    text.trim().replace('_', "").parse::<f64>().ok().filter(|value| value.is_finite())
}

/// The whole number that a text is, `8.0` included.
pub(super) fn whole(text: &str) -> Option<u64> {
    let plain = text.trim().replace('_', "");
    if let Ok(value) = plain.parse::<u64>() {
        return Some(value);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 2^53"
    )]
    number(&plain)
        .filter(|value| value.fract() == 0.0 && (0.0..=LARGEST as f64).contains(value))
        .map(|value| value as u64)
}

/// The switch that a text is, as YAML 1.1 and Python write it too.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The text of a scalar.
pub(super) fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar(text) => Some(text),
        _ => None,
    }
}

impl Kind {
    /// What it takes, in words.
    pub fn expected(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Stem => "a file name without folder and ending".to_owned(),
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Whole(low, LARGEST..) => format!("a whole number, at least {low}"),
            Self::Whole(low, high) => format!("a whole number from {low} to {high}"),
            Self::Eights(low, high) => format!("a multiple of 8 from {low} to {high}"),
            Self::OneOf(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
                format!("one of {}", numbers.join(", "))
            }
            Self::Number(_, words) => words.to_owned(),
            Self::Choice(names, _) => format!("one of `{}`", names.join("`, `")),
            Self::Resolution => {
                "a side, or width and height, multiples of 8 from 32 to 8192".to_owned()
            }
            Self::Every => "`never`, so many `steps` or so many `epochs`".to_owned(),
            Self::Length => "so many `epochs` or so many `steps`, at least 1".to_owned(),
            Self::Warmup => "a number of steps, or a part of all steps below 1".to_owned(),
            Self::Targets => {
                "`all-linear`, `attention`, a list of module names, or a regular expression"
                    .to_owned()
            }
            Self::Ranks => "regular expressions with ranks, at least 1".to_owned(),
            Self::Alphas => "regular expressions with numbers above 0".to_owned(),
            Self::Bytes => "a size of at least 16 MiB, as `8 GiB` or `500 MB`".to_owned(),
        }
    }

    /// Reads a value that is not empty.
    pub(super) fn read(self, node: &Node) -> Result<Json, Misfit> {
        let misfit = || Misfit::new(node, self.expected());
        match self {
            Self::Targets => return targets(node),
            Self::Ranks | Self::Alphas => return self.patterns(node),
            Self::Resolution => return resolution(node).ok_or_else(misfit),
            _ => {}
        }
        let text = scalar(node).ok_or_else(misfit)?;
        let value = match self {
            Self::Text | Self::Path => (!text.contains('\0')).then(|| json!(text)),
            Self::Stem => stem(text).map(Json::from),
            Self::Flag => flag(text).map(Json::from),
            Self::Whole(low, high) => {
                whole(text).filter(|n| (low..=high).contains(n)).map(Json::from)
            }
            Self::Eights(low, high) => whole(text)
                .filter(|n| (low..=high).contains(n) && n.is_multiple_of(8))
                .map(Json::from),
            Self::OneOf(numbers) => whole(text).filter(|n| numbers.contains(n)).map(Json::from),
            Self::Number(allowed, _) => number(text).filter(|n| allowed(*n)).map(Json::from),
            Self::Choice(names, synonyms) => return choice(node, text, names, synonyms),
            Self::Every => every(text),
            Self::Length => length(text),
            Self::Warmup => warmup(text),
            Self::Bytes => bytes(text).map(Json::from),
            Self::Targets | Self::Ranks | Self::Alphas | Self::Resolution => None,
        };
        value.ok_or_else(misfit)
    }

    fn patterns(self, node: &Node) -> Result<Json, Misfit> {
        let value = match self {
            Self::Ranks => Self::Whole(1, MAX_RANK),
            _ => POSITIVE,
        };
        let Value::Map(entries) = &node.value else {
            return Err(Misfit::new(node, self.expected()));
        };
        let pair = |entry: &super::tree::Entry| {
            regex::Regex::new(&entry.key).map_err(|e| bad_pattern(node, &e))?;
            Ok(json!([entry.key, value.read(&entry.node)?]))
        };
        entries.iter().map(pair).collect()
    }

    /// A value as YAML that [`Kind::read`] takes; `null` for none.
    pub(super) fn write(self, value: &Json) -> String {
        let step = |unit: &str| value.get(unit).and_then(Json::as_u64);
        match (self, value) {
            (_, Json::Null) => "null".to_owned(),
            (Self::Every | Self::Length, _) => match (step("Steps"), step("Epochs")) {
                (Some(1), _) => "1 step".to_owned(),
                (Some(n), _) => format!("{n} steps"),
                (_, Some(1)) => "1 epoch".to_owned(),
                (_, Some(n)) => format!("{n} epochs"),
                _ => "never".to_owned(),
            },
            (Self::Warmup, _) => match (step("Steps"), value.get("Fraction")) {
                (Some(n), _) => n.to_string(),
                (None, fraction) => decimal(fraction.and_then(Json::as_f64).unwrap_or(0.0)),
            },
            (Self::Targets, Json::String(name)) if name == "AllLinear" => "all-linear".to_owned(),
            (Self::Targets, Json::String(_)) => "attention".to_owned(),
            (Self::Targets, Json::Object(one)) => {
                escaped(one.values().next().unwrap_or(&Json::Null))
            }
            (Self::Ranks | Self::Alphas, Json::Array(pairs)) => {
                let pair = |pair: &Json| format!("{}: {}", escaped(&pair[0]), pair[1]);
                format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
            (Self::Resolution, Json::Array(sides)) if sides.first() == sides.get(1) => {
                sides.first().unwrap_or(&Json::Null).to_string()
            }
            (_, Json::Number(number)) if number.is_f64() => {
                decimal(number.as_f64().unwrap_or_default())
            }
            (_, Json::String(text)) => quoted(text),
            (_, other) => other.to_string(),
        }
    }
}

/// Numbers above 0.
pub(super) const POSITIVE: Kind = Kind::Number(|n| n > 0.0, "a number above 0");
/// Numbers from 0.
pub(super) const NOT_NEGATIVE: Kind = Kind::Number(|n| n >= 0.0, "a number, at least 0");
/// Probabilities.
pub(super) const PROBABILITY: Kind =
    Kind::Number(|n| (0.0..=1.0).contains(&n), "a number from 0 to 1");
/// Parts that leave something, and decays.
pub(super) const PART: Kind =
    Kind::Number(|n| (0.0..1.0).contains(&n), "a number from 0 to below 1");
/// Learning rates.
pub(super) const RATE: Kind =
    Kind::Number(|n| n > 0.0 && n <= 1.0, "a number above 0 and at most 1");
/// The largest rank: no layer of a supported base is wider.
pub(super) const MAX_RANK: u64 = 65_536;

/// A number that reads back the same, by Python's YAML too: small ones as `2.0e-5`.
fn decimal(number: f64) -> String {
    if number == 0.0 || (1e-4..1e15).contains(&number.abs()) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0e{exponent}"),
        _ => text,
    }
}

/// Text as YAML: plain where no reader could take it for something else.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && flag(text).is_none()
        && number(text).is_none()
        && !["null", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { escaped(&Json::from(text)) }
}

/// JSON that is YAML too: JSON leaves some characters as they are that YAML does not take.
fn escaped(json: &Json) -> String {
    let odd = |c| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    let json = json.to_string();
    let shown = |c: char| if odd(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    if json.contains(odd) { json.chars().map(shown).collect() } else { json }
}
