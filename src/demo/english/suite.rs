//! A suite of held-out prompts, as a YAML file.

use std::fmt::Write as _;

use super::facts::Style;
use super::rows::{Row, Split, task_rows};

/// A suite of `count` held-out prompts with the trigger and references in the house style (group
/// `heldout`), and as many without it and plain references (group `base`), at strengths 0 to 1.5.
pub fn suite(count: usize, seed: u64) -> String {
    let mut yaml = "\
# Held-out prompts of the small English, written by `cargo run --example demo_english -- suite`.
# `heldout` asks for the house style; `base` does not, and its answers should stay plain.
name: house-style
defaults: {chat: true, max_new_tokens: 40, temperature: 0}
seeds: [1]
strengths: 0:1.5:0.25
prompts:
"
    .to_owned();
    for (group, style) in [("heldout", Style::House), ("base", Style::Plain)] {
        for (number, row) in task_rows(count, seed, Split::HeldOut, style).iter().enumerate() {
            write_prompt(&mut yaml, group, number + 1, row);
        }
    }
    yaml
}

/// Texts of the grammar have neither quotes nor backslashes, so that quoting them is all they need.
fn write_prompt(yaml: &mut String, group: &str, number: usize, row: &Row) {
    let kind = row.kind.map_or("story", super::Kind::name);
    let style = row.style.name();
    let _ = write!(
        yaml,
        "  - id: {style}-{number:02}-{kind}\n    group: {group}\n    prompt: \"{}\"\n    references: [\"{}\"]\n",
        row.prompt, row.completion
    );
}
