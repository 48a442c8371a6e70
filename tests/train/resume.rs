//! A training that is stopped, killed and gone on with is the training in one go.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::program::{Place, bad, copy, files, fixture, good, program, run, text, with};
use super::training::{Config, adapter, checkpoints, events, numbers, of_kind, resume, train};

/// The variables, the optimizer and the state of the last checkpoint.
fn last_state(out: &Path) -> [Vec<u8>; 2] {
    let step = *checkpoints(out).last().unwrap();
    let folder = out.join(format!("checkpoints/step-{step:08}"));
    ["state.safetensors", "state.json"].map(|name| fs::read(folder.join(name)).unwrap())
}

/// That two trainings ended alike, the second with each step in its log once.
fn same(whole: &Path, other: &Path) {
    assert!(adapter(whole) == adapter(other), "{}", other.display());
    assert!(last_state(whole) == last_state(other), "{}", other.display());
    for key in ["step", "loss", "smoothed", "grad_norm", "lr"] {
        assert_eq!(numbers(whole, "step", key), numbers(other, "step", key), "{key}");
    }
    assert_eq!(numbers(whole, "held_out", "loss"), numbers(other, "held_out", "loss"));
}

fn long_text() -> Config {
    Config::text().set("run.steps", 60).set("validation.every", "7 steps")
}

#[test]
fn from_each_checkpoint_on_it_is_the_training_in_one_go() {
    let text = Config::text().set("validation.every", "2 steps");
    for config in [text, Config::image("sd1"), Config::image("sdxl").set("run.steps", 3)] {
        let place = Place::new();
        let config = config.set("output.keep_last", 100);
        let whole = config.train(&place, "whole");
        let all = checkpoints(&whole);
        assert!(all.len() >= 3);
        assert_eq!(numbers(&whole, "step", "step").len(), all.len());
        let file = config.write(&place, "whole.yaml");
        for cut in &all[..all.len() - 1] {
            let part = place.path(&format!("from-{cut}"));
            copy(&whole, &part);
            for gone in all.iter().filter(|step| *step > cut) {
                fs::remove_dir_all(part.join(format!("checkpoints/step-{gone:08}"))).unwrap();
            }
            good(&resume(&file, &part));
            same(&whole, &part);
            let starts = numbers(&part, "start", "step");
            assert_eq!(starts, [0.0, *cut as f64], "{}", part.display());
        }
    }
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = program();
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Steps that the log tells of.
fn told(out: &Path) -> usize {
    let log = fs::read_to_string(out.join("train.jsonl")).unwrap_or_default();
    log.matches("\"event\":\"step\"").count()
}

/// Interrupts a training that is under way; `false` if it ended before.
fn interrupt(arguments: &[String], out: &Path) -> bool {
    let before = told(out);
    let mut child = spawn(arguments);
    // a log that goes on is written again when the program has started
    while (told(out) <= before || !out.is_dir()) && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).output();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() {
        return false;
    }
    assert!(sent.unwrap().status.success());
    assert_eq!(done.status.code(), Some(130), "{said}");
    let step = *checkpoints(out).last().unwrap();
    assert!(said.contains(&format!("stopped after step {step}; `--resume` goes on")), "{said}");
    assert_eq!(numbers(out, "step", "step").last(), Some(&(step as f64)));
    let end = of_kind(out, "end");
    assert!(end.last().unwrap()["reason"].as_str().unwrap().contains("--resume"), "{end:?}");
    assert!(!adapter(out).is_empty());
    true
}

#[test]
fn interrupted_it_saves_its_step_and_goes_on_again_and_again() {
    let image = Config::image("sd1").set("run.steps", 16);
    for config in [long_text().set("run.steps", 200), image] {
        let place = Place::new();
        let config = config.set("output.save_every", "1 epoch");
        let whole = config.train(&place, "whole");
        let file = config.write(&place, "config.yaml");
        let (mut times, mut runs) = (0, 0);
        while times < 3 {
            assert!(runs < 20, "it ended before it was interrupted");
            let out = place.path(&format!("run{runs}"));
            let mut goes_on = interrupt(&train(&file, &out), &out);
            let mut here = u32::from(goes_on);
            while goes_on && here < 3 {
                goes_on = interrupt(&resume(&file, &out), &out);
                here += u32::from(goes_on);
            }
            if goes_on {
                good(&resume(&file, &out));
            }
            same(&whole, &out);
            (times, runs) = (times + here, runs + 1);
        }
    }
}

#[test]
fn killed_at_fifty_moments_it_loses_what_came_after_its_last_checkpoint_alone() {
    let place = Place::new();
    let config = long_text();
    let whole = config.train(&place, "whole");
    let file = config.write(&place, "config.yaml");
    let (mut killed, mut finished, mut part) = (0, 0, 0u32);
    while killed < 50 || finished == 0 {
        let out = place.path(&format!("run{finished}"));
        let before = checkpoints(&out);
        let more = if before.is_empty() { train(&file, &out) } else { resume(&file, &out) };
        let steps = before.last().unwrap_or(&0);
        let mut child = spawn(&more);
        if killed < 50 {
            // some steps later, at another moment of a step each time; sometimes before the first
            part = (part * 37 + 11) % 64;
            let seen = |out: &Path| told(out) > steps + part as usize % 8;
            while part % 7 != 0 && !seen(&out) && child.try_wait().unwrap().is_none() {
                sleep(Duration::from_micros(500));
            }
            sleep(Duration::from_micros(u64::from(part) * 150));
            child.kill().unwrap();
        }
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        if done.status.success() {
            finished += 1;
            same(&whole, &out);
            let litter = |name: &&String| name.contains(".lora-eval-");
            assert_eq!(files(&out).keys().find(litter), None, "{}", out.display());
            continue;
        }
        assert_eq!(done.status.signal(), Some(9), "{said}");
        killed += 1;
        // each that can be seen is whole, none that was there is lost, and one step at most is
        let after = checkpoints(&out);
        assert!(after.last() >= before.last(), "{before:?} {after:?}");
        assert!(told(&out) <= after.last().unwrap_or(&0) + 1, "{after:?}");
    }
}

#[test]
fn a_finished_training_says_so_and_changes_nothing() {
    for config in [Config::text(), Config::image("sd1").set("run.steps", 2)] {
        let place = Place::new();
        let out = config.train(&place, "run");
        let file = config.write(&place, "run.yaml");
        let before = files(&out);
        let (paths, said) = good(&resume(&file, &out));
        assert!(said.contains("nothing is left to do after step"), "{said}");
        assert!(paths.starts_with(&text(&out)), "{paths}");
        let after = files(&out);
        assert!(before == after, "{:?}", after.keys().filter(|k| before.get(*k) != after.get(*k)));
    }
}

#[test]
fn a_training_is_not_begun_where_one_has_been_nor_gone_on_with_where_none_has() {
    let place = Place::new();
    let config = Config::text().set("run.steps", 2);
    let file = config.write(&place, "run.yaml");
    let said = bad(&resume(&file, &place.path("run")));
    assert!(said.contains("no checkpoint to go on from"), "{said}");
    assert!(!place.path("run").exists());
    good(&train(&file, &place.path("run")));
    let before = place.tree();
    let said = bad(&train(&file, &place.path("run")));
    assert!(said.contains("a training has been here") && said.contains("--resume"), "{said}");
    assert!(place.tree() == before);
}

#[test]
fn what_a_training_was_not_made_of_is_refused_by_name_and_changes_nothing() {
    let place = Place::new();
    let rows = fs::read_to_string(fixture("train/text.jsonl")).unwrap();
    let data = place.file("text.jsonl", &rows);
    let config = Config::text().set("data.train", data.clone()).set("run.steps", 2);
    let out = config.train(&place, "run");
    let file = config.write(&place, "run.yaml");
    let before = files(&out);
    let changes = [
        ("adapter.rank=8", "`adapter.rank` was 4, and is 8"),
        ("adapter.alpha=2", "`adapter.alpha` was 4.0, and is 2.0"),
        ("adapter.dropout=0.2", "`adapter`"),
        ("run.seed=4", "`run.seed` was 3, and is 4"),
        ("run.batch_size=4", "`run.batch_size × run.accumulation` was 2, and is 4"),
        ("optimizer.kind=sgd", "`optimizer.kind` was \"adamw\", and is \"sgd\""),
        ("data.repeats=2", "`data.repeats` was 1, and is 2"),
        ("data.held_out_split=0.3", "`data`"),
    ];
    for (set, words) in changes {
        let said = bad(&with(&resume(&file, &out), &["--set", "run.steps=4", "--set", set]));
        assert!(said.contains(words), "{set}: {said}");
        assert!(files(&out) == before, "{set}");
    }
    fs::write(&data, rows.replace("She made it.", "He made it.")).unwrap();
    let said = bad(&with(&resume(&file, &out), &["--set", "run.steps=4"]));
    assert!(said.contains("`data`") && files(&out) == before, "{said}");
    fs::write(&data, rows).unwrap();
    good(&with(&resume(&file, &out), &["--set", "run.steps=4"]));
    assert_eq!(numbers(&out, "step", "step"), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_caption_that_changed_is_other_data() {
    let place = Place::new();
    copy(&fixture("train/pictures"), &place.path("pictures"));
    let config = Config::image("sd1").set("data.train", place.text("pictures")).set("run.steps", 2);
    let out = config.train(&place, "run");
    let file = config.write(&place, "run.yaml");
    fs::write(place.path("pictures/0.txt"), "a photo of a dog").unwrap();
    let said = bad(&with(&resume(&file, &out), &["--set", "run.steps=3"]));
    assert!(said.contains("`data`"), "{said}");
}

#[test]
fn a_longer_training_goes_on_with_what_was_learnt() {
    let place = Place::new();
    let config = Config::text().set("run.steps", "").set("run.epochs", 1);
    let out = config.train(&place, "run");
    let file = config.write(&place, "run.yaml");
    let first = adapter(&out);
    good(&with(&resume(&file, &out), &["--set", "run.epochs=2"]));
    assert_eq!(numbers(&out, "step", "step"), (1..=20).map(f64::from).collect::<Vec<_>>());
    assert!(adapter(&out) != first);
    let rates = numbers(&out, "step", "lr");
    assert!(rates[10..].iter().all(|rate| *rate > 0.0), "{rates:?}");
    assert_eq!(events(&out).last().unwrap()["reason"], "all steps were taken");
    // the schedule of a training that is only shorter has nothing left to do
    let said = run(&with(&resume(&file, &out), &["--set", "run.epochs=1"]));
    assert!(said.status.success());
    assert_eq!(numbers(&out, "step", "step").len(), 20);
}
