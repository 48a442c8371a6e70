//! `docs/configuration.md` is the table of keys, written out. `UPDATE=1` writes it anew:
//!
//!     UPDATE=1 cargo test --test configuration_reference

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use lora_eval::config::{
    Alias, As, Fallback, IGNORED, Key, Kind, OTHER_DEFAULTS, Peer, REFUSED, keys,
};

const INTRODUCTION: &str = "\
# Keys of a training's configuration

Made from the table that the program reads configurations by (`tests/configuration_reference.rs`; `UPDATE=1` writes this
page). `docs/training.md` says how to train.

A configuration is YAML or JSON, or TOML where its name ends in `.toml`. A key's name is its path:

```yaml
base: {model: sd15.safetensors}     # base.model
adapter:
  rank: 16                          # adapter.rank
```

`base: FILE`, `data.resolution`, `data.trigger`, `run.epochs` and `run.steps` are short for longer ones. Other names are those of
peers, written as they write them: at the top level, below any section that ends in `_config` (the articles' `model_config`
and `training_config`), below any section of a TOML file, in sd-scripts' `network_args` and `optimizer_args`, in its
`dataset_config` and axolotl's `datasets`. On the command line `--set KEY=VALUE` takes all of these names and overrides the file.

No key is dropped in silence: one that is not known is an error with the nearest that is, one without a meaning here is
ignored with a note, one that would change the result and is not implemented is an error unless its value says what is done
anyway. One setting given twice, by whatever names, is an error. `train CONFIG --explain` prints every value, and
where it comes from. Relative paths start where the program is started.
";

const SECTIONS: [(&str, &str); 11] = [
    ("task", "Task"),
    ("base", "Base"),
    ("adapter", "Adapter"),
    ("data", "Data"),
    ("optimizer", "Optimizer"),
    ("schedule", "Schedule"),
    ("run", "Run"),
    ("diffusion", "Diffusion"),
    ("validation", "Validation"),
    ("samples", "Samples"),
    ("output", "Output"),
];

#[test]
fn the_reference_is_the_table_of_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let made = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(there.lines()).find(|(made, there)| made != there);
    assert!(
        made == there,
        "docs/configuration.md is not that of the table of keys ({differs:?}); \
         `UPDATE=1 cargo test --test configuration_reference` writes it"
    );
}

#[test]
fn every_key_has_a_section() {
    for key in keys() {
        assert!(SECTIONS.iter().any(|(section, _)| key.section() == *section), "{}", key.name);
    }
}

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (section, title) in SECTIONS {
        writeln!(text, "\n## {title}\n").unwrap();
        for key in keys().filter(|key| key.section() == section) {
            text.push_str(&entry(key));
        }
    }
    text.push_str(&other_defaults());
    text.push_str(&ignored());
    text.push_str(&refused());
    text
}

fn entry(key: &Key) -> String {
    let mut text = format!(
        "- **`{}`**: {}. Takes {}; {}.",
        key.name,
        key.meaning,
        key.kind.expected(),
        default(key.default)
    );
    if !key.aliases.is_empty() {
        let aliases: Vec<String> = key.aliases.iter().map(alias).collect();
        write!(text, " Also {}.", aliases.join(", ")).unwrap();
    }
    text.push_str(&synonyms(key.kind));
    text.push('\n');
    text
}

fn default(default: Fallback) -> String {
    match default {
        Fallback::Required(hint) => format!("must be given ({hint})"),
        Fallback::None(what) => format!("default none: {what}"),
        Fallback::Is("", source) => format!("default empty ({source})"),
        Fallback::Is(value, source) => format!("default `{value}` ({source})"),
        Fallback::Derived(rule) => format!("default: {rule}"),
    }
}

fn alias(alias: &Alias) -> String {
    let mut about: Vec<String> = Vec::new();
    if !alias.peers.is_empty() {
        about.push(peers(alias.peers));
    }
    about.extend(how(alias.how));
    about.extend(alias.note.map(str::to_owned));
    match about.as_slice() {
        [] => format!("`{}`", alias.name),
        about => format!("`{}` ({})", alias.name, about.join("; ")),
    }
}

fn peers(peers: &[Peer]) -> String {
    peers.iter().map(|peer| peer.name()).collect::<Vec<_>>().join(", ")
}

/// How a peer's value is read where it is not taken as it is.
fn how(how: As) -> Option<String> {
    let word = |(theirs, ours): (&str, &str)| match ours {
        "" => format!("`{theirs}` sets nothing"),
        ours => format!("`{theirs}` is `{ours}`"),
    };
    let words = |words: &[(&str, &str)]| words.iter().copied().map(word).collect::<Vec<_>>();
    match how {
        As::Same => None,
        As::Steps => Some("a number of steps".to_owned()),
        As::Epochs => Some("a number of epochs".to_owned()),
        As::Ratio => Some("a part of all steps".to_owned()),
        As::OffAtZero => Some("0 is none".to_owned()),
        As::Equal => Some("a number, or a list of equal ones".to_owned()),
        As::Flag(on, off) => Some(words(&[("true", on), ("false", off)]).join(", ")),
        As::Words(known) => Some(words(known).join(", ")),
    }
}

/// What peers call values.
fn synonyms(kind: Kind) -> String {
    let Kind::Choice(_, synonyms) = kind else { return String::new() };
    let mut by_meaning: BTreeMap<(&str, Option<&str>), Vec<String>> = BTreeMap::new();
    for synonym in synonyms {
        let same = by_meaning.entry((synonym.ours, synonym.note)).or_default();
        same.push(format!("`{}`", synonym.theirs));
    }
    let sentence = |((ours, note), theirs): ((&str, Option<&str>), Vec<String>)| {
        let note = note.map_or(String::new(), |note| format!(" ({note})"));
        format!(" `{ours}` is also {}{note}.", theirs.join(", "))
    };
    by_meaning.into_iter().map(sentence).collect()
}

fn other_defaults() -> String {
    let mut text = "\n## Defaults that differ\n\nWhere a configuration has a peer's keys and not one of these, the program says \
                    what that peer would take.\n\n| key | peer | its default |\n|---|---|---|\n"
        .to_owned();
    for (peer, key, theirs) in OTHER_DEFAULTS {
        writeln!(text, "| `{key}` | {} | {theirs} |", peer.name()).unwrap();
    }
    text
}

fn ignored() -> String {
    let mut text = "\n## Keys of peers that are ignored\n\nEach with a note that says why. A `*` stands for any ending.\n\n"
        .to_owned();
    for (why, names) in grouped(IGNORED.iter().map(|(name, why)| (*why, format!("`{name}`")))) {
        writeln!(text, "- {why}: {}", names.join(", ")).unwrap();
    }
    text
}

fn refused() -> String {
    let mut text = "\n## Keys of peers that are refused\n\nThey would change the result and are not implemented: errors, but for the \
                    values in brackets (off: `false` or 0) and empty ones, which say what is done anyway.\n\n"
        .to_owned();
    let name = |(name, neutral, hint): &(&str, &[&str], &'static str)| {
        let allowed: Vec<String> = neutral.iter().map(|value| format!("`{value}`")).collect();
        match *neutral {
            [] => (*hint, format!("`{name}`")),
            ["false", "0"] => (*hint, format!("`{name}` (off)")),
            _ => (*hint, format!("`{name}` ({})", allowed.join(", "))),
        }
    };
    for (hint, names) in grouped(REFUSED.iter().map(name)) {
        writeln!(text, "- {hint}: {}", names.join(", ")).unwrap();
    }
    text
}

/// What has the same reason together, in the order of the table.
fn grouped(all: impl Iterator<Item = (&'static str, String)>) -> Vec<(&'static str, Vec<String>)> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (why, name) in all {
        match groups.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => groups.push((why, vec![name])),
        }
    }
    groups
}
