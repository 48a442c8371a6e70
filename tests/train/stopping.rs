//! Held-out losses, the best adapter, early stopping.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::program::{Place, files, fixture, good, with};
use super::training::{Config, adapter, checkpoints, numbers, of_kind, resume};

/// Four rows to learn by heart, and four others that this does not help.
fn overfits(place: &Place) -> Config {
    let rows = fs::read_to_string(fixture("train/text.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    let learnt = place.file("learnt.jsonl", rows[..4].join("\n"));
    let held_out = place.file("held-out.jsonl", rows[10..14].join("\n"));
    let config = Config::text().set("data.train", learnt).set("data.held_out", held_out);
    let config = config.set("optimizer.learning_rate", 0.05).set("schedule.kind", "constant");
    let config = config.set("adapter.rank", 8).set("adapter.dropout", 0).set("run.steps", 300);
    config.set("validation.every", "2 steps").set("output.save_every", "1 step")
}

/// The lowest held-out loss and its step, by the log.
fn best(out: &Path) -> (f64, usize) {
    let said = of_kind(out, "held_out");
    let value = |event: &Value| (event["loss"].as_f64().unwrap(), event["step"].as_u64().unwrap());
    let (loss, step) = said.iter().map(value).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let flagged = said.iter().rfind(|event| event["best"] == true).unwrap();
    assert_eq!(value(flagged), (loss, step));
    (loss, usize::try_from(step).unwrap())
}

#[test]
fn who_learns_by_heart_is_stopped_and_the_best_is_kept() {
    let place = Place::new();
    let config = overfits(&place).set("validation.patience", 5).set("output.keep_last", 2);
    let out = config.train(&place, "run");
    let (loss, step) = best(&out);
    let end = &of_kind(&out, "end")[0];
    let last = usize::try_from(end["step"].as_u64().unwrap()).unwrap();
    assert!(last < 300, "{end}");
    assert_eq!(last, step + 10, "five validations without a better one");
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.contains("did not fall 5 times in a row"), "{reason}");
    let held_out = numbers(&out, "held_out", "loss");
    assert!(held_out.last().unwrap() > &loss, "{held_out:?}");
    // the best one is older than the two that are kept, and written beside the last
    assert_eq!(checkpoints(&out), [step, last - 1, last]);
    let kept = files(&out.join(format!("checkpoints/step-{step:08}/x")));
    assert!(files(&out.join("x-best")) == kept);
    assert!(adapter(&out) != kept);

    // it is over: going on changes nothing, even with more steps
    let file = config.write(&place, "run.yaml");
    let before = files(&out.join("checkpoints"));
    good(&with(&resume(&file, &out), &["--set", "run.steps=400"]));
    assert!(files(&out.join("checkpoints")) == before);
    // with more patience it goes on
    let more = ["--set", "validation.patience=6"];
    good(&with(&resume(&file, &out), &more));
    assert!(*checkpoints(&out).last().unwrap() > last);
}

#[test]
fn the_program_says_what_was_best() {
    let place = Place::new();
    let config = overfits(&place).set("validation.patience", 3);
    let file = config.write(&place, "run.yaml");
    let out = place.path("run");
    let (said, _) = good(&with(&super::training::train(&file, &out), &["--json"]));
    let said: Value = serde_json::from_str(&said).unwrap();
    let (loss, step) = best(&out);
    assert_eq!(said["held_out"].as_f64(), Some(loss));
    assert_eq!(said["held_out_step"], step);
    assert_eq!(said["stopped_early"], true);
    assert_eq!(said["out"].as_str(), out.join("x").to_str());
    assert_eq!(said["best"].as_str(), out.join("x-best").to_str());
    assert_eq!(said["steps"], step + 6);
}

#[test]
fn held_out_losses_do_not_depend_on_when_or_in_what_parts_they_are_measured() {
    for config in [Config::text(), Config::image("sd1").set("data.held_out_split", 0.25)] {
        let place = Place::new();
        let config = config.set("run.steps", 4).set("run.accumulation", 1);
        let often = config.clone().set("validation.every", "1 step").train(&place, "often");
        let seldom = config.clone().set("validation.every", "4 steps").train(&place, "seldom");
        let losses = numbers(&often, "held_out", "loss");
        assert_eq!(losses.len(), 4);
        assert_eq!(&losses[3..], numbers(&seldom, "held_out", "loss"));
        assert!(adapter(&often) == adapter(&seldom), "measuring draws nothing");
    }
}

#[test]
fn a_best_adapter_is_not_left_beside_a_better_last_one() {
    let place = Place::new();
    let config = Config::text().set("run.steps", 5).set("validation.every", "2 steps");
    let out = config.train(&place, "run");
    let (_, step) = best(&out);
    assert_eq!((step, out.join("x-best").is_dir()), (4, true));
    let file = config.write(&place, "run.yaml");
    good(&with(&resume(&file, &out), &["--set", "run.steps=6"]));
    assert_eq!(best(&out).1, 6);
    assert!(!out.join("x-best").exists(), "it is of step 4");
}

#[test]
fn an_improvement_that_is_too_small_is_none() {
    let place = Place::new();
    let config = Config::text().set("validation.every", "1 step").set("validation.patience", 3);
    let out = config.set("validation.min_improvement", 0.9).train(&place, "run");
    assert_eq!(numbers(&out, "held_out", "step"), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(best_flags(&out), [true, false, false, false]);
}

fn best_flags(out: &Path) -> Vec<bool> {
    of_kind(out, "held_out").iter().map(|event| event["best"].as_bool().unwrap()).collect()
}
