//! Values by key: what was given, each with its origin.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::error::{ConfigError, Place};
use super::keys::{Alias, As, Fallback, Key, Peer};
use super::kind::{Kind, LARGEST, Misfit, PART, flag, number, whole};
use super::peers;
use super::read::{Given, Meaning};
use super::tree::{Node, Value};
use crate::base::terminal::printable;

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was given.
    Given {
        /// Where.
        place: Place,
        /// By which key.
        key: String,
    },
    /// A default, and its source.
    Default(&'static str),
    /// It follows from other values, and how.
    Derived(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given { place: place @ Place::Set(_), .. } => place.fmt(f),
            Self::Given { place, key } => write!(f, "{place} `{}`", printable(key)),
            Self::Default(source) => write!(f, "default: {source}"),
            Self::Derived(rule) => write!(f, "derived: {rule}"),
        }
    }
}

/// A value.
#[derive(Debug)]
pub(super) struct Assigned {
    /// As [`super::Settings`] is deserialized from.
    pub(super) json: Json,
    pub(super) origin: Origin,
    /// The letters of a scalar.
    letters: String,
}

/// Values by key.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_key: BTreeMap<&'static str, Assigned>,
    /// Trainers of which the file has names that no other uses.
    pub(super) peers: BTreeSet<Peer>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
    /// The key by which text encoders got the learning rate 0.
    text_encoder_off: Option<Origin>,
}

impl Values {
    pub(super) fn get(&self, key: &str) -> Option<&Assigned> {
        self.by_key.get(key)
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.json.as_f64()
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.json == Json::Bool(true))
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.json.as_str()
    }

    /// A scalar as it was written, in lower case.
    pub(super) fn letters(&self, key: &str) -> Option<String> {
        self.get(key).map(|value| value.letters.to_ascii_lowercase())
    }

    /// Where a key was given.
    pub(super) fn given(&self, key: &str) -> Option<&Place> {
        match &self.get(key)?.origin {
            Origin::Given { place, .. } => Some(place),
            _ => None,
        }
    }

    /// Where one of some keys was given, or the start of the file.
    pub(super) fn place(&self, path: &Path, keys: &[&str]) -> Place {
        let given = keys.iter().rev().find_map(|key| self.given(key));
        given.cloned().unwrap_or_else(|| Place::File { path: path.into(), line: 1, column: 1 })
    }

    pub(super) fn insert(&mut self, key: &'static Key, json: Json, origin: Origin) {
        self.by_key.insert(key.name, Assigned { json, origin, letters: String::new() });
    }

    /// Takes what a file gives.
    pub(super) fn add_file(&mut self, given: Vec<Given>) -> Result<(), ConfigError> {
        given.into_iter().try_for_each(|given| self.add(&given, false))
    }

    /// Takes an override; it replaces what the file or an earlier override gave.
    pub(super) fn add_override(&mut self, given: Vec<Given>) -> Result<(), ConfigError> {
        given.into_iter().try_for_each(|given| self.add(&given, true))
    }

    fn add(&mut self, given: &Given, replaces: bool) -> Result<(), ConfigError> {
        match given.meaning {
            Meaning::Ignored(why) => {
                let key = printable(&given.written);
                self.notes.push(format!("{}: `{key}` is ignored: {why}", given.place));
                Ok(())
            }
            Meaning::Refused(neutral, _) if peers::is_neutral(&given.node, neutral) => Ok(()),
            Meaning::Refused(_, hint) => Err(ConfigError::Unsupported {
                place: given.node.place.clone(),
                key: given.written.as_str().into(),
                found: given.node.found(),
                hint: hint.into(),
            }),
            Meaning::Setting(key, alias) => self.set(given, key, alias, replaces),
        }
    }

    fn set(
        &mut self,
        given: &Given,
        key: &'static Key,
        alias: Option<&Alias>,
        replaces: bool,
    ) -> Result<(), ConfigError> {
        if let Some(Alias { peers: [peer], .. }) = alias {
            self.peers.insert(*peer);
        }
        let how = alias.map_or(As::Same, |alias| alias.how);
        let read = convert(key.kind, how, &given.node);
        let json = read.map_err(|misfit| wrong(given, key, misfit))?;
        let Some(json) = json else {
            if replaces {
                self.by_key.remove(key.name);
            }
            return Ok(());
        };
        let origin = Origin::Given { place: given.place.clone(), key: given.written.clone() };
        if key.name == "optimizer.text_encoder_lr" {
            if json.as_f64() == Some(0.0) {
                self.text_encoder_off = Some(origin);
                self.by_key.remove(key.name);
                return Ok(());
            }
            self.text_encoder_off = None;
        }
        if !replaces && !self.takes_precedence(given, key, &json)? {
            return Ok(());
        }
        self.note(given, key, alias, &json);
        let letters = match &given.node.value {
            Value::Scalar(text) => text.clone(),
            _ => String::new(),
        };
        self.by_key.insert(key.name, Assigned { json, origin, letters });
        Ok(())
    }

    /// Whether a key of a file counts beside another that set the same, if there is one.
    fn takes_precedence(
        &mut self,
        given: &Given,
        key: &Key,
        value: &Json,
    ) -> Result<bool, ConfigError> {
        let Some(Assigned { origin: Origin::Given { place, key: other }, json, .. }) =
            self.get(key.name)
        else {
            return Ok(true);
        };
        let wins = |a, b| peers::WINS.contains(&(leaf(a), leaf(b)));
        let (winner, loser, at) = if wins(&given.written, other) {
            (given.written.as_str(), other.as_str(), place)
        } else if wins(other, &given.written) {
            (other.as_str(), given.written.as_str(), &given.place)
        } else {
            return Err(ConfigError::Twice {
                place: given.place.clone(),
                key: given.written.as_str().into(),
                setting: key.name,
                other: other.as_str().into(),
                first: place.clone(),
            });
        };
        let counts = winner == given.written;
        if json != value {
            let note = format!("{at}: `{loser}` does not count beside `{winner}`");
            self.notes.push(note);
        }
        Ok(counts)
    }

    /// What is to be said about a value.
    fn note(&mut self, given: &Given, key: &Key, alias: Option<&Alias>, json: &Json) {
        let mut say = |note: &str| {
            let (place, key, found) = (&given.place, &given.written, given.node.found());
            self.notes.push(format!("{place}: `{}` is {found}: {note}", printable(key)));
        };
        let is_default = matches!(key.default, Fallback::Is(text, _)
            if default_json(key, text).as_ref() == Some(json));
        if let Some(note) = alias.and_then(|alias| alias.note).filter(|_| !is_default) {
            say(note);
        }
        if let (Kind::Choice(_, synonyms), Value::Scalar(text)) = (key.kind, &given.node.value) {
            let theirs = text.to_ascii_lowercase();
            if let Some(note) = synonyms.iter().find(|s| s.theirs == theirs).and_then(|s| s.note) {
                say(note);
            }
        }
    }

    /// Of texts, the list is the data: the articles name a language model's examples so.
    pub(super) fn settle_metadata(&mut self, train: &'static Key) {
        let Some(metadata) = self.by_key.remove("data.metadata") else { return };
        if let Origin::Given { place, key } = &metadata.origin {
            let note =
                format!("{place}: `{key}` names the examples: `{}` is set to it", train.name);
            self.notes.push(note);
        }
        self.by_key.insert(train.name, metadata);
    }

    /// A learning rate of 0 for text encoders says that they are not trained.
    pub(super) fn settle_text_encoder(&mut self, key: &'static Key) -> Result<(), ConfigError> {
        let Some(Origin::Given { place, key: rate }) = self.text_encoder_off.take() else {
            return Ok(());
        };
        if let Some(Assigned {
            json: Json::Bool(true), origin: Origin::Given { place, key }, ..
        }) = self.get("adapter.text_encoder")
            && leaf(key) != "network_train_unet_only"
        {
            return Err(ConfigError::Together {
                place: place.clone(),
                problem: format!("`{key}` is `true` and `{rate}` is 0").into(),
                hint: "give text encoders a learning rate, for example `1e-5`".into(),
            });
        }
        self.notes.push(format!("{place}: `{rate}` is 0: text encoders are not trained"));
        self.insert(key, Json::Bool(false), Origin::Given { place, key: rate });
        Ok(())
    }
}

/// A key without its section.
fn leaf(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// A value that is not of its kind.
fn wrong(given: &Given, key: &Key, misfit: Misfit) -> ConfigError {
    let hint = misfit.hint.unwrap_or_else(|| {
        let default = match key.default {
            Fallback::Is(value, _) if !value.is_empty() => format!("; the default is `{value}`"),
            _ => String::new(),
        };
        format!("`{}`: {}{default}", key.name, key.meaning).into()
    });
    ConfigError::Value {
        place: misfit.node.place.clone(),
        key: printable(&given.written).into(),
        found: misfit.node.found(),
        expected: misfit.expected,
        hint,
    }
}

/// A default's JSON.
pub(super) fn default_json(key: &Key, text: &str) -> Option<Json> {
    if text.is_empty() {
        return Some(Json::from(""));
    }
    if text == "{}" {
        return Some(json!([]));
    }
    let place = Place::Set(text.into());
    key.kind.read(&Node { value: Value::Scalar(text.to_owned()), place }).ok()
}

/// The value of a key from that of one of its names; `None`: not given.
fn convert(kind: Kind, how: As, node: &Node) -> Result<Option<Json>, Misfit> {
    if matches!(node.value, Value::Empty) {
        return Ok(None);
    }
    let text = match &node.value {
        Value::Scalar(text) => text.trim(),
        _ => "",
    };
    let stands_for = |value: &str| {
        if value.is_empty() {
            return Ok(None);
        }
        let value = Value::Scalar(value.to_owned());
        kind.read(&Node { value, place: node.place.clone() }).map(Some)
    };
    match how {
        As::Steps => count(kind, "Steps", node, text),
        As::Epochs => count(kind, "Epochs", node, text),
        As::Ratio => Ok(Some(match PART.read(node)?.as_f64() {
            Some(part) if part > 0.0 => json!({ "Fraction": part }),
            _ => json!({ "Steps": 0 }),
        })),
        As::Flag(..) if text.eq_ignore_ascii_case("auto") => Ok(None),
        As::Flag(yes, no) => match flag(text) {
            Some(on) => stands_for(if on { yes } else { no }),
            None => Err(Misfit::new(node, Kind::Flag.expected())),
        },
        As::Words(words) => {
            let known = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
            if let Some((_, value)) = known {
                return stands_for(value);
            }
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(Misfit::new(node, format!("one of `{}`", words.join("`, `"))))
        }
        As::OffAtZero if number(text) == Some(0.0) => Ok(None),
        As::Same | As::OffAtZero => kind.read(node).map(Some),
        As::Equal => equal(kind, node),
    }
}

fn count(kind: Kind, unit: &str, node: &Node, text: &str) -> Result<Option<Json>, Misfit> {
    match (whole(text), kind) {
        (Some(0), Kind::Every) => Ok(Some(json!("Never"))),
        (Some(n), _) if (1..=LARGEST).contains(&n) => Ok(Some(json!({ unit: n }))),
        _ if text == "-1" => Ok(None),
        (_, Kind::Every) => Err(Misfit::new(node, "a whole number, 0 for never")),
        _ => Err(Misfit::new(node, "a whole number, at least 1")),
    }
}

fn equal(kind: Kind, node: &Node) -> Result<Option<Json>, Misfit> {
    let Value::List(items) = &node.value else { return kind.read(node).map(Some) };
    let values = items.iter().map(|item| kind.read(item)).collect::<Result<Vec<_>, _>>()?;
    match values.split_first() {
        None => Ok(None),
        Some((first, rest)) => match rest.iter().position(|value| value != first) {
            None => Ok(Some(first.clone())),
            Some(at) => {
                let odd = items.get(at + 1).unwrap_or(node);
                Err(Misfit::new(odd, "one rate for all text encoders"))
            }
        },
    }
}
