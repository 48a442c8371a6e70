//! `demo:text` and its adapter, measured by the program on tasks that no training has seen.
//!
//! The files lie in `assets/demo`; `docs/demo-models.md` has the figures.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lora_eval::demo::english::{Split, Style, base_row, suite, task_rows};
use serde_json::Value;

fn shipped(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(path).to_str().unwrap().to_owned()
}

fn base() -> String {
    shipped("assets/demo/text")
}

/// Runs the program and gives standard output.
fn program(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    let out = command.args(arguments).env("NO_COLOR", "1").output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(out.stdout).unwrap()
}

/// A run of a suite with the shipped adapter.
struct Measured {
    _folder: tempfile::TempDir,
    run: PathBuf,
    scores: Value,
}

impl Measured {
    fn new(suite: &str, strengths: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("suite.yaml");
        fs::write(&path, suite).unwrap();
        let run = folder.path().join("run");
        let (path, out) = (path.to_str().unwrap(), run.to_str().unwrap());
        let lora = format!("house={}", shipped("assets/demo/adapters/house-style"));
        let base = base();
        let what = ["grid", path, "--base", &base, "--lora", &lora, "--out", out];
        program(&[&what[..], &["--strengths", strengths]].concat());
        let scores = fs::read_to_string(run.join("scores.json")).unwrap();
        Self { _folder: folder, run, scores: serde_json::from_str(&scores).unwrap() }
    }

    fn score(&self, metric: &str, group: &str, strength: f64) -> f64 {
        let metrics = self.scores["metrics"].as_array().unwrap();
        let rows = metrics.iter().filter(|one| one["metric"] == metric);
        let mut rows = rows.flat_map(|one| one["rows"].as_array().unwrap());
        rows.find(|row| row["group"] == group && row["strength"] == strength)
            .and_then(|row| row["value"].as_f64())
            .unwrap()
    }

    /// Outputs of the base by prompt.
    fn base_outputs(&self) -> BTreeMap<String, String> {
        let folders = fs::read_dir(self.run.join("cells")).unwrap();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        let cells = files.map(|file| -> Value {
            serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap()
        });
        cells
            .filter(|cell| cell["strength"] == 0.0)
            .map(|cell| {
                let text = |key: &str| cell[key].as_str().unwrap().to_owned();
                (text("prompt_id"), text("output"))
            })
            .collect()
    }
}

#[test]
fn the_base_answers_plainly_and_the_adapter_brings_the_house_style() {
    let measured = Measured::new(&suite(48, 1001), "0,0.75,1,1.5");
    let score = |metric, group, strength| measured.score(metric, group, strength);

    assert!(score("exact-match", "base", 0.0) >= 0.95);
    assert!(score("perplexity", "base", 0.0) <= 1.05);
    assert!(score("bleu", "heldout", 0.0) <= 8.0);
    // Without the adapter the trigger says nothing.
    assert!(score("perplexity", "heldout", 0.0) >= 5.0);

    assert!(score("bleu", "heldout", 1.0) >= 80.0);
    assert!(score("exact-match", "heldout", 1.0) >= 0.6);
    assert!(score("exact-match", "base", 1.0) >= 0.95);
    assert!(score("kl", "base", 1.0) <= 0.02);

    // Between, and beyond.
    let rising = score("bleu", "heldout", 0.75);
    assert!(rising > 10.0 && rising < score("bleu", "heldout", 1.0), "{rising}");
    assert!(score("bleu", "heldout", 1.5) < score("bleu", "heldout", 1.0));
    assert!(score("kl", "base", 1.5) > 3.0 * score("kl", "base", 1.0));
}

/// A story's people, animal, place and things are drawn at random: no model can foresee them.
#[test]
fn stories_are_foreseen_as_far_as_they_can_be() {
    let stories = (0..).map(|index| base_row(1001, Split::HeldOut, index));
    let asked = stories.filter(|row| row.kind.is_none() && !row.prompt.is_empty()).take(24);
    let mut suite =
        "defaults: {chat: true, max_new_tokens: 8}\nstrengths: [0]\nprompts:\n".to_owned();
    for (number, row) in asked.enumerate() {
        let (prompt, told) = (Value::from(row.prompt), Value::from(row.completion));
        writeln!(
            suite,
            "  - {{id: s{number}, group: base, prompt: {prompt}, references: [{told}]}}"
        )
        .unwrap();
    }
    let measured = Measured::new(&suite, "0");
    let perplexity = measured.score("perplexity", "base", 0.0);
    assert!(perplexity > 1.2 && perplexity < 2.5, "{perplexity}");
}

/// `tests/parity/demo_text.json`: what transformers' greedy search writes after the prompts of the
/// committed suite.
#[test]
fn greedy_texts_are_those_of_transformers() {
    let expected = shipped("tests/parity/demo_text.json");
    let expected: Value = serde_json::from_str(&fs::read_to_string(expected).unwrap()).unwrap();
    let expected = expected["outputs"].as_object().unwrap();
    let suite = fs::read_to_string(shipped("examples/demo/text-suite.yaml")).unwrap();
    let outputs = Measured::new(&suite, "0").base_outputs();
    assert_eq!(outputs.len(), expected.len());
    for (prompt, output) in outputs {
        assert_eq!(expected[&prompt].as_str().unwrap(), output, "{prompt}");
    }
}

#[test]
fn the_committed_suite_is_the_one_that_the_grammar_gives() {
    let committed = fs::read_to_string(shipped("examples/demo/text-suite.yaml")).unwrap();
    assert_eq!(committed, suite(28, 7));
}

/// A prompt that neither goes through the chat template nor ends its line is answered on a line of its
/// own.
#[test]
fn a_prompt_is_answered_as_it_stands() {
    let row = &task_rows(1, 1, Split::HeldOut, Style::Plain)[0];
    let output = program(&["generate", &row.prompt, "--base", &base(), "-q"]);
    assert_eq!(output.trim(), row.completion);
}
