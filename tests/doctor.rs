//! Trainings on disk examined: ours, sd-scripts' and transformers' (real ones, `tests/parity/doctor.py`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use lora_eval::advise::doctor::{Diagnosis, Origin, Rule, examine};
use lora_eval::base::random::Random;
use lora_eval::events::EventWriter;
use lora_eval::tensors::{Float, Tensor, serialize};
use serde_json::json;

fn rules(diagnosis: &Diagnosis) -> Vec<Rule> {
    diagnosis.findings.iter().map(|finding| finding.rule).collect()
}

fn of_transformers(case: &str) -> Diagnosis {
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/doctor");
    let diagnosis = examine(&parity.join(case)).unwrap();
    assert_eq!(diagnosis.origin, Origin::Transformers);
    assert_eq!(diagnosis.read.len(), 2, "{:?}", diagnosis.read);
    diagnosis
}

#[test]
fn a_training_of_transformers_that_learns_by_heart_is_overfitting() {
    let diagnosis = of_transformers("overfit");
    assert_eq!(rules(&diagnosis), [Rule::Overfitting], "{diagnosis}");
    let patch = diagnosis.patch().unwrap();
    assert_eq!((patch.key.as_str(), &patch.from), ("max_steps", &Some(json!(80))));
    assert_eq!(patch.to, json!(8));
}

#[test]
fn a_training_of_transformers_that_explodes_is_poisoned_and_diverged() {
    let diagnosis = of_transformers("diverged");
    assert_eq!(rules(&diagnosis), [Rule::PoisonedCheckpoint, Rule::Diverged], "{diagnosis}");
    let patch = diagnosis.patch().unwrap();
    assert_eq!((patch.key.as_str(), &patch.to), ("learning_rate", &json!(15.0)));
}

#[test]
fn a_training_of_transformers_with_a_tiny_alpha_has_too_small_a_scale() {
    let diagnosis = of_transformers("small_scale");
    assert_eq!(rules(&diagnosis), [Rule::ScaleTooSmall, Rule::RateTooLow], "{diagnosis}");
    let patch = diagnosis.patch().unwrap();
    assert_eq!(
        (patch.key.as_str(), &patch.from, &patch.to),
        ("lora_alpha", &Some(json!(0.05)), &json!(8))
    );
    let config = "r: 8  # rank\nlora_alpha: 0.05\nlearning_rate: 1e-5\n";
    assert_eq!(diagnosis.next_config(config).unwrap(), config.replace("0.05", "8"));
}

/// An adapter of one module of a U-Net at rank 4, `up` filled with one value.
fn adapter(up: f32, alpha: f32, metadata: &[(&str, String)]) -> Vec<u8> {
    let name = "lora_unet_down_blocks_0_attentions_0_proj_in";
    let tensor = |shape: [usize; 2], value: f32| {
        Tensor::from_f32(shape.to_vec(), &vec![value; shape[0] * shape[1]], Float::F32)
    };
    let tensors: BTreeMap<String, Tensor> = [
        (format!("{name}.lora_down.weight"), tensor([4, 8], 0.5)),
        (format!("{name}.lora_up.weight"), tensor([8, 4], up)),
        (format!("{name}.alpha"), Tensor::scalar(alpha, Float::F32)),
    ]
    .into();
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    serialize(&tensors, &metadata).unwrap()
}

/// sd-scripts' layout: logs below a folder of the date, adapters beside it.
fn sd_scripts(dir: &Path, tags: &serde_json::Value, alpha: f32, rate: impl Fn(u64) -> f64) {
    let logs = dir.join("logs/20260101120000/network_train");
    let mut writer = EventWriter::create(&logs, None).unwrap();
    let mut draws = Random::new(0, "doctor").at(0, 0, 0);
    for step in 1..=200 {
        let loss = 0.1 * (0.6 * draws.normal() - 0.18).exp();
        let values = [("loss/current", loss), ("loss/average", 0.1), ("lr/unet", rate(step))];
        writer.scalars(step, &values).unwrap();
    }
    let metadata = [
        ("ss_learning_rate", "1e-3".to_owned()),
        ("ss_unet_lr", "0.0001".to_owned()),
        ("ss_network_dim", "4".to_owned()),
        ("ss_network_alpha", alpha.to_string()),
        ("ss_lr_scheduler", "cosine".to_owned()),
        ("ss_dataset_dirs", json!({"10_my cat": {"n_repeats": 10, "img_count": 12}}).to_string()),
        ("ss_tag_frequency", tags.to_string()),
    ];
    fs::write(dir.join("cat-000001.safetensors"), adapter(0.01, alpha, &metadata)).unwrap();
    fs::write(dir.join("cat.safetensors"), adapter(0.02, alpha, &metadata)).unwrap();
}

#[test]
fn a_training_of_sd_scripts_without_captions_is_found() {
    let captioned = json!({"10_my cat": {"my cat": 12, "on a mat": 7}});
    for (tags, found) in [
        (json!({"10_my cat": {}}), true),
        (json!({"10_my cat": {"my cat": 12}}), true),
        (captioned, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        sd_scripts(dir.path(), &tags, 4.0, |_| 1e-4);
        let diagnosis = examine(dir.path()).unwrap();
        assert_eq!(diagnosis.origin, Origin::SdScripts);
        assert_eq!(diagnosis.read.len(), 3, "{:?}", diagnosis.read);
        let expected: &[Rule] = if found { &[Rule::CaptionsNotRead] } else { &[] };
        assert_eq!(rules(&diagnosis), expected, "{diagnosis}");
        let key = diagnosis.patch().map(|patch| patch.key.as_str());
        assert_eq!(key, found.then_some("caption_extension"));
    }
}

#[test]
fn a_training_of_sd_scripts_with_its_default_alpha_and_a_rate_of_zero_is_found() {
    let tags = json!({"10_my cat": {"a cat": 3}});
    let dir = tempfile::tempdir().unwrap();
    sd_scripts(dir.path(), &tags, 0.5, |_| 1e-4);
    let diagnosis = examine(dir.path()).unwrap();
    assert_eq!(rules(&diagnosis), [Rule::ScaleTooSmall], "{diagnosis}");
    let patch = diagnosis.patch().unwrap();
    assert_eq!((patch.key.as_str(), &patch.to), ("network_alpha", &json!(4)));

    let dir = tempfile::tempdir().unwrap();
    sd_scripts(dir.path(), &tags, 4.0, |step| if step < 100 { 1e-4 } else { 0.0 });
    let diagnosis = examine(dir.path()).unwrap();
    assert_eq!(rules(&diagnosis), [Rule::RateZero], "{diagnosis}");
    assert_eq!(diagnosis.patch().unwrap().key, "lr_scheduler");
}

#[test]
fn the_newest_of_several_runs_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for (run, rate) in [("a", 0.0), ("b", 1e-4)] {
        let mut writer = EventWriter::create(&dir.path().join(run), None).unwrap();
        for step in 1..=40 {
            writer.scalars(step, &[("train/loss", 1.0 + 9.0 / step as f64), ("lr", rate)]).unwrap();
        }
        let second = if run == "a" { 1_700_000_000 } else { 1_700_000_100 };
        let name = format!("events.out.tfevents.{second}.host");
        fs::rename(writer.path(), dir.path().join(run).join(name)).unwrap();
    }
    let diagnosis = examine(dir.path()).unwrap();
    assert_eq!((diagnosis.origin, rules(&diagnosis)), (Origin::Other, vec![]), "{diagnosis}");
    assert!(diagnosis.notes[0].starts_with("of 2 runs the newest was read"), "{diagnosis}");
    let older = examine(&dir.path().join("a")).unwrap();
    assert_eq!(rules(&older), [Rule::RateZero]);
}

/// A log of our trainer: 100 steps, a resume at 60, evaluations every ten steps.
fn our_log(held_out: impl Fn(u64) -> f64, start: &serde_json::Value) -> String {
    let mut log = String::new();
    let mut draws = Random::new(1, "doctor").at(0, 0, 0);
    let mut steps = |log: &mut String, from: u64, to: u64, factor: f64| {
        for step in from..=to {
            let loss = factor * (1.0 + (-0.05 * step as f64).exp()) * (1.0 + 0.05 * draws.normal());
            let event = json!({"event": "step", "step": step, "epoch": 1, "loss": loss,
                "smoothed": loss, "grad_norm": 0.4, "lr": 1e-4, "seconds": 0.1, "delta": 2e-3});
            writeln!(log, "{event}").unwrap();
            if step % 10 == 0 {
                let event = json!({"event": "held_out", "step": step, "loss": held_out(step), "best": false});
                writeln!(log, "{event}").unwrap();
            }
        }
    };
    writeln!(log, "{start}").unwrap();
    // What came after the checkpoint at 60 was bad, and is done again.
    steps(&mut log, 1, 60, 1.0);
    steps(&mut log, 61, 80, 50.0);
    let mut again = start.clone();
    again["step"] = json!(60);
    writeln!(log, "{again}").unwrap();
    steps(&mut log, 61, 100, 1.0);
    writeln!(log, "{}", json!({"event": "end", "step": 100, "reason": "all steps made"})).unwrap();
    log
}

fn start() -> serde_json::Value {
    json!({"event": "start", "step": 0, "steps": 100, "examples": 8, "trained": 1000, "scale": 1.0,
        "rank": 8, "alpha": 8, "task": "image", "empty_captions": 1})
}

const CONFIG: &str = "# as it was run\nadapter:\n  rank: 8\n  alpha: 8.0 # scale 1\noptimizer:\n  learning_rate: 1e-4\nvalidation:\n  patience: null # never\n";

#[test]
fn a_training_of_ours_that_went_on_is_judged_by_what_counts() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.jsonl"), our_log(|step| 2.0 - 0.01 * step as f64, &start()))
        .unwrap();
    fs::write(dir.path().join("config.yaml"), CONFIG).unwrap();
    let diagnosis = examine(dir.path()).unwrap();
    assert_eq!((diagnosis.origin, rules(&diagnosis)), (Origin::LoraEval, vec![]), "{diagnosis}");
    assert_eq!(diagnosis.notes, ["the training ended: all steps made"]);
    assert_eq!(diagnosis.next_config(CONFIG).unwrap(), CONFIG);
}

#[test]
fn the_next_configuration_differs_in_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let held_out = |step: u64| 1.0 + (step as f64 / 50.0 - 1.0).powi(2);
    fs::write(dir.path().join("train.jsonl"), our_log(held_out, &start())).unwrap();
    fs::write(dir.path().join("config.yaml"), CONFIG).unwrap();
    let diagnosis = examine(dir.path()).unwrap();
    assert_eq!(rules(&diagnosis), [Rule::Overfitting], "{diagnosis}");
    let next = diagnosis.next_config(CONFIG).unwrap();
    assert_eq!(next, CONFIG.replace("patience: null", "patience: 3"));
    let json = serde_json::to_value(&diagnosis).unwrap();
    assert_eq!(json["findings"][0]["rule"], "overfitting");
    assert_eq!(json["findings"][0]["patch"]["key"], "validation.patience");
}

#[test]
fn captions_beside_the_pictures_tell_their_ending() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data/10_cat");
    fs::create_dir_all(&data).unwrap();
    for name in ["a.png", "b.jpg", "a.tags", "b.tags", "a.json", "other.txt", "more.txt"] {
        fs::write(data.join(name), "x").unwrap();
    }
    let config = format!("data:\n  train: {}\n", json!(dir.path().join("data")));
    fs::write(dir.path().join("config.yaml"), &config).unwrap();
    let mut start = start();
    start["empty_captions"] = json!(8);
    fs::write(dir.path().join("train.jsonl"), our_log(|_| 1.0, &start)).unwrap();
    let diagnosis = examine(dir.path()).unwrap();
    assert_eq!(rules(&diagnosis)[0], Rule::CaptionsNotRead, "{diagnosis}");
    let next = diagnosis.next_config(&config).unwrap();
    assert!(next.contains("image:\n    caption_extension: \".tags\""), "{next}");
}

#[test]
fn checkpoints_of_nothing_and_of_nan_are_told_apart_from_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = "checkpoints/step-00000050";
    fs::create_dir_all(dir.path().join(checkpoint)).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write(&format!("{checkpoint}/style.safetensors"), &adapter(0.5, 4.0, &[]));
    write("style.safetensors", &adapter(0.0, 4.0, &[]));
    // Neither an optimizer's state nor our trainer's own is an adapter.
    write(&format!("{checkpoint}/state.safetensors"), &adapter(f32::NAN, 4.0, &[]));
    write(&format!("{checkpoint}/state.json"), b"{}");
    let state = Tensor::from_f32(vec![1], &[f32::NAN], Float::F32);
    let state = serialize(&[("exp_avg.0".to_owned(), state)].into(), &BTreeMap::new()).unwrap();
    write(&format!("{checkpoint}/optimizer.safetensors"), &state);
    write("torn.safetensors", &adapter(0.5, 4.0, &[])[..100]);
    let diagnosis = examine(dir.path()).unwrap();
    assert_eq!(rules(&diagnosis), [Rule::DeadModules], "{diagnosis}");
    assert_eq!(diagnosis.read.len(), 2);
    assert!(diagnosis.notes[0].contains("torn.safetensors"), "{diagnosis}");
    assert!(diagnosis.notes[1].starts_with("there is no log"), "{diagnosis}");

    write("style.safetensors", &adapter(f32::NAN, 4.0, &[]));
    let diagnosis = examine(dir.path()).unwrap();
    assert_eq!(rules(&diagnosis), [Rule::PoisonedCheckpoint], "{diagnosis}");
    let evidence = diagnosis.findings[0].evidence.join("\n");
    assert!(evidence.contains("last finite checkpoint is") && evidence.contains(checkpoint));
}

#[test]
fn folders_and_logs_that_tell_nothing_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let error = examine(&dir.path().join("absent")).unwrap_err().to_string();
    assert!(error.contains("absent: ") && error.contains("hint: "), "{error}");
    let error = examine(dir.path()).unwrap_err().to_string();
    assert!(error.contains("holds no training") && error.contains("hint: "), "{error}");

    let log = dir.path().join("train.jsonl");
    fs::write(&log, "{\"event\":\"start\"}\nnot json\n{\"event\":\"end\"}\n").unwrap();
    let error = examine(dir.path()).unwrap_err().to_string();
    assert!(error.contains("train.jsonl:2: not JSON"), "{error}");
    fs::write(&log, "{\"event\":\"start\"}\n{\"event\":\"st").unwrap();
    let diagnosis = examine(dir.path()).unwrap();
    assert!(diagnosis.notes.iter().any(|note| note.contains("cut off")), "{diagnosis}");
    fs::write(dir.path().join("config.yaml"), "a:\n  b: [1\n").unwrap();
    let error = examine(dir.path()).unwrap_err().to_string();
    assert!(error.contains("config.yaml:") && error.contains("not valid YAML"), "{error}");

    fs::remove_file(&log).unwrap();
    fs::write(dir.path().join("trainer_state.json"), "{\"log_history\": [").unwrap();
    let error = examine(dir.path()).unwrap_err().to_string();
    assert!(error.contains("trainer_state.json:1: not JSON"), "{error}");
}
