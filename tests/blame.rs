//! `grid --ablate blocks` through the program, on adapters whose damage sits in one block by
//! construction.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{Device, safetensors};
use lora_eval::run::Run;
use serde_json::Value;
use tempfile::TempDir;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    command.env("NO_COLOR", "1").args(arguments).output().unwrap()
}

fn good(arguments: &[&str]) -> String {
    let out = run(arguments);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{arguments:?}: {errors}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn bad(code: i32, arguments: &[&str]) -> String {
    let out = run(arguments);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(errors.contains("hint: "), "{errors}");
    errors
}

/// A copy of an adapter's file whose changes are multiplied by what `factor` says of their names.
fn scaled(from: &Path, to: &Path, factor: impl Fn(&str) -> f64) {
    let mut tensors = safetensors::load(from, &Device::Cpu).unwrap();
    for (name, tensor) in &mut tensors {
        if name.contains("lora_B") || name.contains("lora_up") {
            *tensor = (&*tensor * factor(name)).unwrap();
        }
    }
    safetensors::save(&tensors, to).unwrap();
}

const TEXTS: &str = "
defaults: {max_new_tokens: 12}
strengths: [0, 0.5, 1]
prompts:
  - {id: b1, group: base, prompt: The quick brown fox}
  - {id: b2, group: base, prompt: Once upon a time}
  - {id: b3, group: base, prompt: Two and two}
  - {id: h1, group: heldout, prompt: A little story, references: [the red bird sings]}
  - {id: h2, group: heldout, prompt: A longer story, references: [the blue bird sleeps]}
";

/// The tiny chat model's adapter with all of its effect in the second layer.
fn planted(place: &TempDir) -> PathBuf {
    let (from, to) = (fixture("decoders/chat/adapter"), place.path().join("adapter"));
    fs::create_dir(&to).unwrap();
    fs::copy(from.join("adapter_config.json"), to.join("adapter_config.json")).unwrap();
    let name = "adapter_model.safetensors";
    scaled(&from.join(name), &to.join(name), |n| if n.contains("layers.1.") { 6.0 } else { 1e-3 });
    to
}

#[test]
fn the_layer_that_holds_the_damage_is_named() {
    let place = tempfile::tempdir().unwrap();
    let suite = place.path().join("suite.yaml");
    fs::write(&suite, TEXTS).unwrap();
    let (model, lora) = (fixture("decoders/chat/model"), format!("x={}", text(&planted(&place))));
    let out = place.path().join("run");
    let given =
        ["grid", text(&suite), "--base", text(&model), "--lora", &lora, "--out", text(&out)];
    let shown = good(&[&given[..], &["--ablate", "blocks", "--ablate-prompts", "2"]].concat());
    assert!(shown.contains("blame     x at strength 1"), "{shown}");
    let found = Run::open(&out).unwrap().ablation().unwrap().unwrap();
    assert_eq!((found.damage.metric.as_str(), found.damage.prompts.len()), ("kl", 2));
    assert_eq!(found.gain.as_ref().unwrap().metric, "nll");
    let names: Vec<&str> = found.blocks.iter().map(|block| block.block.as_str()).collect();
    assert_eq!(names, ["L00", "L01"]);
    let shares: Vec<f64> =
        found.blocks.iter().map(|block| -block.damage.value / found.damage.full).collect();
    assert!(shares[0].abs() < 0.05 && shares[1] > 0.95, "{shares:?}");
    // the measured damage is that of the run's own cells
    let cells = Run::open(&out).unwrap().cells().unwrap().found;
    for prompt in &found.damage.prompts {
        let cell = cells.iter().find(|cell| cell.prompt_id == prompt.id && cell.strength == 1.0);
        assert!((cell.unwrap().scores["kl"] - prompt.value).abs() < 1e-5, "{prompt:?}");
    }
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("With L01 off"));
    // a finished run is ablated again without a cell being made, and says the same
    let again =
        good(&[&given[..], &["--ablate", "blocks", "--ablate-prompts", "2", "--json"]].concat());
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["written"], 0);
    assert_eq!(again["ablation"], serde_json::to_value(&found).unwrap());
    // the report is made again from what is on disk
    fs::remove_file(out.join("report.html")).unwrap();
    good(&["report", text(&out)]);
    assert_eq!(fs::read_to_string(out.join("report.html")).unwrap(), report);
    let file = out.join("ablation.json");
    let damaged = fs::read_to_string(&file).unwrap().replacen("\"plan\": \"", "\"plan\": \"0", 1);
    fs::write(&file, damaged).unwrap();
    assert!(bad(1, &["report", text(&out)]).contains("another plan"));
}

#[test]
fn a_denoiser_s_block_that_holds_the_damage_is_named() {
    let place = tempfile::tempdir().unwrap();
    let lora = place.path().join("x.safetensors");
    let from = fixture("diffusion/sd1-lora.safetensors");
    scaled(&from, &lora, |n| if n.contains("mid_block") { 8.0 } else { 0.02 });
    let suite = place.path().join("suite.yaml");
    let yaml = "
defaults: {width: 64, height: 64, steps: 2, sampler: euler_a}
strengths: [0, 1]
prompts:
  - {id: b1, group: base, prompt: a fox}
  - {id: h1, group: heldout, prompt: a tree}
";
    fs::write(&suite, yaml).unwrap();
    let (model, out) = (fixture("diffusion/sd1"), place.path().join("run"));
    let given = ["grid", text(&suite), "--base", text(&model), "--lora", text(&lora)];
    good(&[&given[..], &["--out", text(&out), "--ablate", "blocks"]].concat());
    let found = Run::open(&out).unwrap().ablation().unwrap().unwrap();
    assert_eq!(found.damage.metric, "ssim");
    assert!(found.blocks.len() > 10, "{:?}", found.blocks);
    let worst = found.blocks.iter().min_by(|a, b| a.damage.value.total_cmp(&b.damage.value));
    assert_eq!(worst.unwrap().block, "MID");
}

#[test]
fn what_cannot_be_ablated_is_refused_before_anything_is_made() {
    let place = tempfile::tempdir().unwrap();
    let suite = place.path().join("suite.yaml");
    fs::write(&suite, TEXTS).unwrap();
    let model = fixture("decoders/chat/model");
    let adapter = fixture("decoders/chat/adapter");
    let out = place.path().join("run");
    let (one, two) = (format!("x={}", text(&adapter)), format!("y={}", text(&adapter)));
    let given = ["grid", text(&suite), "--base", text(&model), "--out", text(&out)];
    let ablate = ["--ablate", "blocks"];
    for (more, expected) in [
        (vec!["--lora", &one, "--lora", &two], "2 are on the strength axis"),
        (vec![], "0 are on the strength axis"),
        (vec!["--lora", &one, "--backend", "fake"], "this run has none"),
    ] {
        let error = bad(1, &[&given[..], &more, &ablate].concat());
        assert!(error.contains(expected), "{error}");
        assert!(!out.exists());
    }
    let held_out = place.path().join("heldout.yaml");
    fs::write(&held_out, TEXTS.replace("group: base", "group: heldout")).unwrap();
    let other = ["grid", text(&held_out), "--base", text(&model), "--out", text(&out)];
    let error = bad(1, &[&other[..], &["--lora", &one], &ablate].concat());
    assert!(error.contains("no prompt is of the group `base`"), "{error}");
    let wrong = ["--ablate-strength", "0.7"];
    let error = bad(1, &[&given[..], &["--lora", &one], &ablate, &wrong].concat());
    assert!(error.contains("no strength 0.7") && error.contains("it has 0.5, 1"), "{error}");
    assert!(!out.exists());
}
