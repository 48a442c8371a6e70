//! Poisoned data, rates too high and too low, too little memory.

use std::fs;
use std::path::{Path, PathBuf};

use lora_eval::text::TextTokenizer;
use serde_json::{Value, json};

use super::program::{Place, bad, copy, fixture, good, program, text};
use super::tensors;
use super::training::{
    Config, adapter_path, changes, checkpoints, events, guarded, numbers, of_kind, relative, train,
};

/// A token that occurs in one row alone, counted from 1.
fn token_of(line: usize) -> u32 {
    let tokenizer = TextTokenizer::from_folder(&fixture("decoders/chat/model")).unwrap();
    let rows = fs::read_to_string(fixture("train/text.jsonl")).unwrap();
    let tokens = |row: &str| {
        let row: Value = serde_json::from_str(row).unwrap();
        let all =
            format!("{}{}", row["prompt"].as_str().unwrap(), row["completion"].as_str().unwrap());
        tokenizer.encode(&all, false).unwrap()
    };
    let rows: Vec<Vec<u32>> = rows.lines().map(tokens).collect();
    let others = || rows.iter().enumerate().filter(|(place, _)| place + 1 != line);
    let alone = |token: &&u32| others().all(|(_, row)| !row.contains(token));
    *rows[line - 1].iter().find(alone).unwrap()
}

/// The tiny language model, with no value where a token is embedded.
fn poisoned(place: &Place, token: u32) -> PathBuf {
    let base = place.path("poisoned");
    copy(&fixture("decoders/chat/model"), &base);
    tensors::change(&base.join("model.safetensors"), |all| {
        let embedding = tensors::named(all, "embed_tokens.weight");
        assert_eq!(embedding.dtype, "F32");
        let width = 4 * embedding.shape[1];
        let first = usize::try_from(token).unwrap() * width;
        for value in embedding.bytes[first..first + width].chunks_mut(4) {
            value.copy_from_slice(&f32::NAN.to_le_bytes());
        }
    });
    base
}

fn finite(adapter: &Path) {
    let changes = changes(adapter);
    assert!(changes.values().flatten().all(|value| value.is_finite()));
    assert!(changes.values().flatten().any(|value| *value != 0.0));
}

#[test]
fn a_poisoned_row_is_named_and_left_out_and_the_others_are_learnt() {
    let place = Place::new();
    let base = poisoned(&place, token_of(8));
    for seed in 1..=6 {
        // without warm-up the step that is skipped may be the first that would move anything
        let config = Config::text().set("base.model", text(&base)).set("run.seed", seed);
        let config = config.set("data.held_out_split", 0).set("schedule.warmup", 0);
        let config = config.set("run.batch_size", 4).set("run.steps", 12);
        let out = config.train(&place, &format!("run{seed}"));
        let seen = guarded(&out, "non-finite");
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0]["samples"], json!(["line `8`"]), "{seen:?}");
        let action = seen[0]["action"].as_str().unwrap();
        assert!(action.contains("no finite loss in 1 of"), "{action}");
        assert!(action.contains("left out from here on"), "{action}");
        assert_eq!(numbers(&out, "step", "step").len(), 11, "one step was skipped");
        assert_eq!(of_kind(&out, "end")[0]["step"], 12);
        finite(&adapter_path(&out));
    }
}

#[test]
fn a_poisoned_row_by_itself_is_skipped_and_named() {
    let place = Place::new();
    let base = poisoned(&place, token_of(8));
    let config = Config::text().set("base.model", text(&base)).set("data.held_out_split", 0);
    let out = config.set("run.batch_size", 1).set("run.steps", 22).train(&place, "run");
    let seen = guarded(&out, "non-finite");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0]["samples"], json!(["line `8`"]));
    assert_eq!(numbers(&out, "step", "step").len(), 21);
    finite(&adapter_path(&out));
}

#[test]
fn changes_that_are_not_finite_are_not_written() {
    let place = Place::new();
    // the decay of the only step leaves nothing that is a number, and no loss comes after it
    let config = Config::text().set("run.steps", 1).set("schedule.warmup", 0);
    let config = config.set("optimizer.weight_decay", 1e60);
    let out = place.path("run");
    let said = bad(&train(&config.write(&place, "run.yaml"), &out));
    assert!(said.contains("not finite"), "{said}");
    assert!(!out.join("x").exists() && checkpoints(&out).is_empty(), "{said}");
}

#[test]
fn a_training_that_blows_up_goes_back_halves_its_rate_and_leaves_nothing_poisoned() {
    let place = Place::new();
    for save in ["1 step", "never"] {
        let config = Config::text().set("optimizer.learning_rate", 1).set("schedule.warmup", 0);
        let config = config.set("adapter.alpha", 1e20).set("run.steps", 60);
        let config = config.set("data.held_out_split", 0).set("output.save_every", save);
        let out = place.path(save);
        let file = config.write(&place, "run.yaml");
        let done = program().args(train(&file, &out)).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        let back: Vec<String> = of_kind(&out, "guard")
            .iter()
            .map(|event| event["action"].as_str().unwrap().to_owned())
            .filter(|action| action.contains("back to step"))
            .collect();
        // the first step has already spoilt it, and was found out by the loss of the second
        assert!(back[0].contains("back to step 0, rate × 0.5"), "{back:?}");
        match done.status.code() {
            Some(0) => {
                finite(&adapter_path(&out));
                let losses = numbers(&out, "step", "smoothed");
                assert!(losses[losses.len() - 1] < 2.0 * losses[0], "{losses:?}");
            }
            Some(1) => {
                assert!(back.len() == 4 && said.contains("after 4 returns"), "{said}");
                assert!(said.contains("hint: usually the rate is far too high"), "{said}");
                assert!(!out.join("x").exists(), "{said}");
            }
            _ => panic!("{}: {said}", done.status),
        }
    }
}

#[test]
fn at_a_rate_of_one_it_ends_with_finite_changes_or_a_diagnosis() {
    let place = Place::new();
    let text = Config::text().set("adapter.alpha", 400).set("run.steps", 80);
    let image = Config::image("sd1").set("optimizer.text_encoder_lr", 1).set("run.steps", 20);
    for (name, config) in [("text", text), ("image", image)] {
        let config = config.set("optimizer.learning_rate", 1).set("schedule.warmup", 0);
        let config = config.set("output.save_every", "10 steps");
        let out = place.path(name);
        let file = config.write(&place, "run.yaml");
        let done = program().args(train(&file, &out)).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        match done.status.code() {
            Some(0) => finite(&adapter_path(&out)),
            Some(1) => assert!(said.contains("hint:") && !adapter_path(&out).exists(), "{said}"),
            _ => panic!("{}: {said}", done.status),
        }
        checkpoints(&out);
    }
}

#[test]
fn a_rate_that_teaches_nothing_ends_the_training_with_what_it_usually_is() {
    let place = Place::new();
    let config = Config::text().set("optimizer.learning_rate", 1e-12).set("run.steps", 400);
    let config = config.set("output.save_every", "100 steps");
    let out = place.path("run");
    let said = bad(&train(&config.write(&place, "run.yaml"), &out));
    for words in ["nothing is learnt", "learning rate (1e-12)", "alpha/rank (4/4)"] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(guarded(&out, "nothing-learnt").len(), 1);
    let taken = numbers(&out, "step", "step").len();
    assert!((49..100).contains(&taken), "{taken}");
    // the same with a rate that is merely small goes on
    let config = Config::text().set("optimizer.learning_rate", 1e-5).set("run.steps", 60);
    let out = config.set("output.save_every", "never").train(&place, "small");
    assert!(guarded(&out, "nothing-learnt").is_empty());
}

/// Two texts of so many words.
fn long(place: &Place, words: usize) -> String {
    let all = ["the", "river", "is", "long", "and", "it", "was", "there", "in", "winter"];
    let row = |by: usize| {
        let text: Vec<&str> = (0..words).map(|word| all[word * by % all.len()]).collect();
        json!({"text": text.join(" ")}).to_string() + "\n"
    };
    place.file("long.jsonl", row(3) + &row(7))
}

/// A limit a little below what is taken without one.
fn a_little_less(most: f64, share: f64) -> String {
    format!("{} MB", (most * share / 1e6).floor())
}

#[test]
fn with_less_memory_the_same_steps_are_computed_in_smaller_parts() {
    let place = Place::new();
    let config = Config::text().set("data.train", long(&place, 2500));
    let config = config.set("data.held_out_split", 0).set("data.text.max_length", 100_000);
    let config = config.set("run.steps", 3).set("run.prove", false);
    let most = |out: &Path| numbers(out, "step", "memory").into_iter().fold(0.0, f64::max);
    for (batch, share, words, checkpointing) in
        [(2, 0.93, "micro-batches of 1", false), (1, 0.9, "blocks computed again", true)]
    {
        let config = config.clone().set("run.batch_size", batch).set("run.accumulation", 2 / batch);
        let whole = config.train(&place, &format!("whole{batch}"));
        let limit = a_little_less(most(&whole), share);
        let out =
            config.set("run.memory_limit", limit.clone()).train(&place, &format!("less{batch}"));
        let seen = guarded(&out, "memory");
        let action = seen.last().unwrap()["action"].as_str().unwrap();
        assert!(action.contains("out of memory") && action.contains(words), "{seen:?}");
        let start = &of_kind(&out, "start")[0];
        assert_eq!(start["batch_size"], 1);
        assert_eq!(start["accumulation"], 2);
        assert_eq!(start["checkpointing"], checkpointing);
        let (ours, theirs) = (numbers(&out, "step", "loss"), numbers(&whole, "step", "loss"));
        assert!(relative(&ours, &theirs) < 1e-5, "{ours:?} {theirs:?}");
        assert!(most(&out) <= share * most(&whole), "{} of {limit}", most(&out));
    }
}

#[test]
fn with_too_little_memory_for_anything_it_says_what_to_make_smaller() {
    let place = Place::new();
    let config = Config::text().set("data.train", long(&place, 12_000));
    let config = config.set("data.held_out_split", 0).set("data.text.max_length", 100_000);
    let config = config.set("run.memory_limit", "64 MiB").set("run.prove", false);
    let out = place.path("run");
    let said = bad(&train(&config.write(&place, "run.yaml"), &out));
    assert!(said.contains("out of memory even with micro-batches of 1, blocks computed"), "{said}");
    assert!(said.contains("`data.text.max_length`"), "{said}");
    assert_eq!(guarded(&out, "memory").len(), 2);
    assert!(numbers(&out, "step", "step").is_empty() && !out.join("x").exists());
}

#[test]
fn a_training_with_checkpointing_is_the_training_without() {
    for config in [Config::text(), Config::image("sd1").set("output.precision", "f32")] {
        let place = Place::new();
        let without = config.train(&place, "without");
        let with = config.set("run.checkpointing", true).train(&place, "with");
        let losses = |out: &Path| numbers(out, "step", "loss");
        assert!(relative(&losses(&with), &losses(&without)) < 1e-6);
        let apart = super::training::apart(&adapter_path(&with), &adapter_path(&without));
        assert!(apart < 1e-5, "{apart:e}");
    }
}

#[test]
fn a_guard_speaks_on_standard_error_too() {
    let place = Place::new();
    let base = poisoned(&place, token_of(8));
    let config = Config::text().set("base.model", text(&base)).set("data.held_out_split", 0);
    let file = config.set("run.batch_size", 4).write(&place, "run.yaml");
    let out = place.path("run");
    let (_, said) = good(&train(&file, &out));
    assert!(said.contains("non-finite") && said.contains("line `8`"), "{said}");
    assert!(events(&out).iter().all(|event| event["event"].is_string()));
}
