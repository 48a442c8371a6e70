//! The one table of keys: names, what peers call them, kinds, defaults with their sources, meanings.
//!
//! A key's name is the path of its field in [`super::Settings`] (`task` alone has none).

mod data;
mod model;
mod output;
mod train;

use super::kind::{Kind, Synonym};

/// A trainer whose configurations are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The articles' YAML (`model_config`, `training_config`, or the same keys flat).
    Article,
    /// kohya's sd-scripts, and Akegarasu's lora-scripts on top of it.
    SdScripts,
    /// The training scripts of diffusers.
    Diffusers,
    /// PEFT's `LoraConfig`.
    Peft,
    /// transformers' `Trainer` and TRL.
    Trainer,
    /// LLaMA-Factory.
    LlamaFactory,
    /// axolotl.
    Axolotl,
}

impl Peer {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Article => "the article",
            Self::SdScripts => "sd-scripts",
            Self::Diffusers => "diffusers",
            Self::Peft => "PEFT",
            Self::Trainer => "transformers",
            Self::LlamaFactory => "LLaMA-Factory",
            Self::Axolotl => "axolotl",
        }
    }
}

/// How the value of an alias becomes a value of its key.
#[derive(Debug, Clone, Copy)]
pub enum As {
    /// As it is.
    Same,
    /// A number of steps; 0 is never, -1 is not given.
    Steps,
    /// A number of epochs; 0 is never.
    Epochs,
    /// A part of all steps.
    Ratio,
    /// A switch: the value for on, and that for off; empty: not given. `auto` is not given.
    Flag(&'static str, &'static str),
    /// Words, and the value that each stands for; empty: not given.
    Words(&'static [(&'static str, &'static str)]),
    /// A number of which 0 is not given.
    OffAtZero,
    /// A number, or a list of equal ones.
    Equal,
}

/// Another name of a key.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The name, in an argument list behind the list's name (`network_args.conv_dim`).
    pub name: &'static str,
    /// How its value is read.
    pub how: As,
    /// Whose name it is; none: our own.
    pub peers: &'static [Peer],
    /// Where it means a little else there.
    pub note: Option<&'static str>,
}

/// What holds where a key is not given.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    /// It must be given; what to write.
    Required(&'static str),
    /// No value; what that means.
    None(&'static str),
    /// A value as YAML, and where it is from.
    Is(&'static str, &'static str),
    /// A value that follows from others, and how.
    Derived(&'static str),
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds without it.
    pub default: Fallback,
    /// Other names.
    pub aliases: &'static [Alias],
    /// What it is, in one sentence.
    pub meaning: &'static str,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: Fallback, meaning: &'static str) -> Self {
        Self { name, kind, default, aliases: &[], meaning }
    }

    const fn or(self, aliases: &'static [Alias]) -> Self {
        Self { aliases, ..self }
    }

    /// The first part of its name.
    pub fn section(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }

    /// The last part of its name.
    pub fn leaf(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

const fn alias(name: &'static str, peers: &'static [Peer]) -> Alias {
    Alias { name, how: As::Same, peers, note: None }
}

const fn read_as(name: &'static str, peers: &'static [Peer], how: As) -> Alias {
    Alias { name, how, peers, note: None }
}

const fn synonym(theirs: &'static str, ours: &'static str) -> Synonym {
    Synonym { theirs, ours, note: None }
}

/// Tables, in the order of settings.
const TABLES: [&[Key]; 4] = [model::KEYS, data::KEYS, train::KEYS, output::KEYS];

/// Every key, in the order of settings.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    TABLES.into_iter().flatten()
}

/// The key of that name.
pub(super) fn key(name: &str) -> Option<&'static Key> {
    keys().find(|key| key.name == name)
}

/// The key that has an alias of that name.
pub(super) fn by_alias(name: &str) -> Option<(&'static Key, &'static Alias)> {
    keys().find_map(|key| Some((key, key.aliases.iter().find(|alias| alias.name == name)?)))
}

/// Whether some key's name starts with `path` and a dot.
pub(super) fn is_section(path: &str) -> bool {
    keys().any(|key| is_below(path, key.name))
}

/// Whether `name` is `path`, a dot and more.
pub(super) fn is_below(path: &str, name: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::peers;
    use super::*;

    #[test]
    fn no_name_stands_for_two_things() {
        let mut seen = BTreeSet::new();
        for key in keys() {
            assert!(seen.insert(key.name), "{}", key.name);
            for alias in key.aliases {
                assert!(seen.insert(alias.name), "{}", alias.name);
                assert!(peers::ignored(alias.name).is_none(), "{}", alias.name);
                assert!(peers::refused(alias.name).is_none(), "{}", alias.name);
            }
        }
        for (name, ..) in peers::REFUSED {
            assert!(seen.insert(name), "{name}");
            assert!(peers::ignored(name).is_none(), "{name}");
        }
    }

    #[test]
    fn every_meaning_is_a_phrase_without_its_dot() {
        for key in keys() {
            assert!(!key.meaning.is_empty() && !key.meaning.ends_with('.'), "{}", key.name);
        }
    }
}
