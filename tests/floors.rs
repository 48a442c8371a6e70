//! Who may import whom: the floors of the house (see `src/lib.rs`).
//!
//! A module imports only from floors below its own; siblings on one floor do not import each other.
//! Some modules know nothing of tensors' arithmetic and must stay quick to build.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules and their floors. Modules of equal number are siblings.
const FLOORS: [(&str, f32); 29] = [
    ("base", 0.0),
    ("linalg", 0.0),
    ("tensors", 0.5), // a landing of the ground floor: files of tensors need `base`
    ("adapter", 1.0),
    ("prompt", 1.0),
    ("config", 1.0),
    ("events", 1.0),
    ("hub", 1.0),
    ("stats", 1.0),
    ("run", 1.0),
    ("picture", 1.0),
    ("suite", 1.0),
    ("text", 1.0),
    ("nn", 2.0),
    ("data", 2.0),
    ("demo", 2.0),
    ("model", 3.0),
    ("extract", 4.0),
    ("merge", 4.0),
    ("metric", 4.0),
    ("generate", 4.0),
    ("grid", 5.0),
    ("train", 5.0),
    ("advise", 5.0),
    ("lint", 5.0),
    ("report", 5.0),
    ("check", 5.0),
    ("cli", 6.0),
    ("main", 7.0),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

/// The top-level module that a file belongs to.
fn module(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(&root).unwrap().iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Top-level modules that a file names, by `crate::` or (the program) `lora_eval::`.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        ["crate::", "lora_eval::"].iter().flat_map(move |start| {
            line.split(start).skip(1).map(|rest| {
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
            })
        })
    })
    .filter(|name| !name.is_empty())
    .collect()
}

#[test]
fn imports_go_down() {
    let floors: BTreeMap<&str, f32> = FLOORS.into_iter().collect();
    let mut problems = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let floor = floors.get(own.as_str()).unwrap_or_else(|| panic!("`{own}` has no floor"));
        for other in imports(&std::fs::read_to_string(&path).unwrap()) {
            let Some(below) = floors.get(other.as_str()) else { continue };
            if other != own && below >= floor {
                problems.push(format!("{} imports `{other}`", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn doors_say_their_floors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (name, floor) in FLOORS.into_iter().filter(|(name, _)| *name != "main") {
        let door = [root.join(name).join("mod.rs"), root.join(name).with_extension("rs")];
        let door = door.into_iter().find(|path| path.is_file()).unwrap();
        let text = std::fs::read_to_string(door).unwrap();
        assert!(text.starts_with(&format!("//! Floor {}: ", floor.trunc())), "{name}");
    }
}

#[test]
fn nothing_below_the_program_knows_the_command_line() {
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let knows = ["clap::", "indicatif::", "anyhow::"].iter().any(|name| text.contains(name));
        assert!(!knows || module(&path) == "cli", "{}", path.display());
    }
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .into_iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
            (lines > 400).then(|| format!("{}: {lines} lines before its tests", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
