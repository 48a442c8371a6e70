//! `lora-eval experiment` from its command line to the ranking, on a tiny random language model.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "image_grid/program.rs"]
#[expect(dead_code, reason = "some of it is about grids")]
mod program;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use program::{Place, files, fixture, good, program, text, with};

/// Prompts of both groups, four each.
fn suite(place: &Place) -> String {
    let prompts = (0..4).flat_map(|i| {
        let references = ["The river is long and it was there."];
        [
            json!({"id": format!("h{i}"), "group": "heldout", "prompt": format!("What is river {i}?"),
                   "references": references}),
            json!({"id": format!("b{i}"), "group": "base", "prompt": format!("The house {i}")}),
        ]
    });
    let prompts: Vec<Value> = prompts.collect();
    let defaults = json!({"max_new_tokens": 6, "temperature": 0});
    let suite = json!({
        "name": "answers", "strengths": [0, 1], "defaults": defaults, "prompts": prompts,
    });
    place.file("suite.yaml", suite.to_string())
}

/// Twelve steps.
fn config(place: &Place) -> String {
    let config = json!({
        "base": {"model": fixture("decoders/chat/model")},
        "data": {"train": fixture("train/text.jsonl"), "held_out_split": 0.1},
        "optimizer": {"learning_rate": 1e-3},
        "run": {"steps": 12, "batch_size": 2, "seed": 3},
        "output": {"name": "x", "dir": place.path("alone"), "save_every": "1 step"},
    });
    place.file("answers.yaml", config.to_string())
}

/// The command line of an experiment in the folder of that name.
fn experiment(place: &Place, vary: &str, out: &str) -> Vec<String> {
    let (config, suite, out) = (config(place), suite(place), place.text(out));
    ["experiment", &config, "--vary", vary, "--suite", &suite, "--out", &out]
        .map(str::to_owned)
        .to_vec()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn record(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("experiment.json")).unwrap()).unwrap()
}

/// The exit code that an experiment without failures has.
fn code(record: &Value) -> i32 {
    let variants = record["variants"].as_array().unwrap();
    let any = |answer: &str| variants.iter().any(|variant| variant["judged"]["verdict"] == answer);
    match (any("pass"), any("inconclusive")) {
        (true, _) => 0,
        (false, true) => 4,
        (false, false) => 3,
    }
}

/// Runs it to its end; what it printed.
fn whole(arguments: &[String], out: &Path) -> String {
    let done = program::run(arguments);
    assert!(out.join("experiment.json").is_file(), "{}", said(&done));
    assert_eq!(done.status.code(), Some(code(&record(out))), "{}", said(&done));
    String::from_utf8(done.stdout).unwrap()
}

/// Everything that does not tell the hour.
fn results(out: &Path) -> Vec<(String, Vec<u8>)> {
    let lasting = |name: &str| {
        name == "experiment.json" || name.ends_with("scores.json") || name.ends_with(".safetensors")
    };
    files(out).into_iter().filter(|(name, _)| lasting(name)).collect()
}

#[test]
fn two_ranks_are_trained_judged_and_ranked_and_a_second_time_nothing_is_done() {
    let place = Place::new();
    let out = place.path("ranks");
    let arguments = experiment(&place, "lora_rank=4,8", "ranks");
    let shown = whole(&arguments, &out);
    let found = record(&out);
    assert_eq!((&found["key"], &found["written"]), (&json!("adapter.rank"), &json!("lora_rank")));
    let variants = found["variants"].as_array().unwrap();
    let ranks: Vec<&Value> = variants.iter().map(|variant| &variant["rank"]).collect();
    assert_eq!(ranks, [&json!(1), &json!(2)]);
    for variant in variants {
        let value = variant["value"].as_str().unwrap();
        assert_eq!(variant["folder"], format!("lora_rank={value}"));
        assert_eq!(variant["trained"]["steps"], 12);
        assert!(out.join(variant["trained"]["adapter"].as_str().unwrap()).is_dir());
        let verdict = out.join(format!("lora_rank={value}/run/verdict.json"));
        let verdict: Value = serde_json::from_slice(&fs::read(verdict).unwrap()).unwrap();
        assert_eq!(variant["judged"]["verdict"], verdict["verdict"]);
        assert_eq!(variant["judged"]["headline"], verdict["headline"]);
    }
    let note = found["notes"][0].as_str().unwrap();
    assert!(note.contains("it is the rank (4, 8), and alpha/rank is 1, 1"), "{note}");
    assert!(shown.starts_with("place  lora_rank  verdict"), "{shown}");
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("<h2>Ranking</h2>") && report.contains("= 8"));

    let before = files(&out);
    let again = program::run(&with(&arguments, &["-v"]));
    assert_eq!(said(&again).matches("is trained already").count(), 2, "{}", said(&again));
    let after = files(&out);
    let changed = |name: &&String| before.get(*name) != after.get(*name);
    let changed: Vec<&String> = after.keys().filter(changed).collect();
    assert_eq!(changed, Vec::<&String>::new());

    // each is the training that `train` makes, seeds and all, and a third value is added to them
    let alone = place.path("alone");
    good(&["train", &config(&place), "--set", "lora_rank=4"]);
    let adapter = |folder: &Path| fs::read(folder.join("x/adapter_model.safetensors")).unwrap();
    assert!(adapter(&alone) == adapter(&out.join("lora_rank=4/train")));
    whole(&experiment(&place, "lora_rank=2", "ranks"), &out);
    assert_eq!(record(&out)["variants"].as_array().unwrap().len(), 3);
    let verdicts = files(&out).into_keys().filter(|name| name.ends_with("verdict.json"));
    assert_eq!(verdicts.count(), 3);
}

#[test]
fn interrupted_and_killed_it_goes_on_to_the_same_end() {
    let place = Place::new();
    let whole_out = place.path("whole");
    whole(&experiment(&place, "lora_rank=4,8", "whole"), &whole_out);
    let mut interruptions = 0;
    // in the first training, in its run, in the second training
    for (moment, signal) in [
        ("lora_rank=4/train/train.jsonl", "-INT"),
        ("lora_rank=4/train/checkpoints", "-KILL"),
        ("lora_rank=4/run", "-INT"),
        ("lora_rank=8/train/checkpoints", "-KILL"),
    ] {
        let name = format!("{}{signal}", moment.replace('/', "-"));
        let out = place.path(&name);
        let arguments = experiment(&place, "lora_rank=4,8", &name);
        let mut command = program();
        let mut child =
            command.args(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while !out.join(moment).exists() && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        Command::new("kill").args([signal, &child.id().to_string()]).output().unwrap();
        let done = child.wait_with_output().unwrap();
        let interrupted = done.status.code() == Some(130) || done.status.code().is_none();
        let ended = out.join("report.html").is_file();
        assert!(interrupted || ended, "{:?}: {}", done.status, said(&done));
        interruptions += u8::from(interrupted);
        whole(&arguments, &out);
        assert!(results(&whole_out) == results(&out), "{name}");
    }
    assert!(interruptions > 0);
}

#[test]
fn what_was_judged_before_is_not_lost_when_more_is_interrupted() {
    let place = Place::new();
    let out = place.path("out");
    whole(&experiment(&place, "lora_rank=4,8", "out"), &out);
    let more = experiment(&place, "lora_rank=2,16", "out");
    let mut child = program().args(&more).stderr(Stdio::null()).spawn().unwrap();
    while !out.join("lora_rank=2/run/verdict.json").exists() && child.try_wait().unwrap().is_none()
    {
        sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).output().unwrap();
    child.wait().unwrap();
    let values = || -> Vec<String> {
        let record = record(&out);
        let variants = record["variants"].as_array().unwrap();
        variants.iter().map(|variant| variant["value"].as_str().unwrap().to_owned()).collect()
    };
    assert!(
        ["4", "8"].iter().all(|value| values().contains(&(*value).to_owned())),
        "{:?}",
        values()
    );
    // what was removed is not trained again unasked
    fs::remove_dir_all(out.join("lora_rank=8")).unwrap();
    whole(&more, &out);
    let mut all = values();
    all.sort();
    assert_eq!(all, ["16", "2", "4"]);
    assert!(!out.join("lora_rank=8").exists());
}

#[test]
fn a_value_that_cannot_be_is_named_and_the_others_go_on() {
    let place = Place::new();
    for (vary, value, step) in [
        ("lora_rank=none,4,8", "none", "configuration"),
        ("target_modules=[q_proj],[nowhere]", "[nowhere]", "train"),
    ] {
        let out = place.path(step);
        let done = program::run(&experiment(&place, vary, step));
        assert_eq!(done.status.code(), Some(1), "{}", said(&done));
        let found = record(&out);
        let (last, others) = found["variants"].as_array().unwrap().split_last().unwrap();
        assert_eq!((&last["value"], &last["failed"]["step"]), (&json!(value), &json!(step)));
        assert!(last["failed"]["error"].as_str().unwrap().contains("hint:"), "{last}");
        assert!(others.iter().all(|variant| variant["judged"].is_object()), "{found}");
        let key = vary.split('=').next().unwrap();
        assert!(
            said(&done).contains(&format!("variants failed: `{key}={value}`")),
            "{}",
            said(&done)
        );
    }
}

#[test]
fn more_than_one_variable_and_other_wrong_usage_is_refused_before_anything_is_made() {
    let place = Place::new();
    let mut all = String::new();
    for (vary, more, expected) in [
        ("lora_rank=4,8", &["--vary", "lora_alpha=1,2"][..], 2),
        ("lora_rank=4", &[], 2),
        ("lora_rank=4,4.0", &[], 2),
        ("lora_rank=4,8", &["--set", "r=16"], 2),
        ("output.name=a,b", &[], 2),
        ("lora_ranks=4,8", &[], 1),
        ("lora_rank=none,some", &[], 1),
        ("lora_rank=4,8", &["--policy", "nowhere.yaml"], 1),
    ] {
        let done = program::run(&with(&experiment(&place, vary, "out"), more));
        assert_eq!(done.status.code(), Some(expected), "{vary}: {}", said(&done));
        assert!(done.stdout.is_empty() && !place.path("out").exists(), "{vary}");
        let _ = write!(all, "{}", said(&done));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_folder_of_another_experiment_is_refused() {
    let place = Place::new();
    whole(&experiment(&place, "lora_rank=2,4", "out"), &place.path("out"));
    let refused = |arguments: &[String]| {
        let done = program::run(arguments);
        assert_eq!(done.status.code(), Some(1), "{}", said(&done));
        said(&done)
    };
    let error = refused(&experiment(&place, "learning_rate=1e-3,1e-4", "out"));
    assert!(error.contains("varies `lora_rank`, and `learning_rate` is varied here"), "{error}");
    let same = experiment(&place, "lora_rank=2,4", "out");
    let error = refused(&with(&same, &["--set", "run.seed=4"]));
    assert!(error.contains("was trained with `run.seed` 3, which is 4 now"), "{error}");
    place.file("other.yaml", fs::read_to_string(suite(&place)).unwrap().replace("river", "lake"));
    let other = same.iter().map(|word| word.replace("suite.yaml", "other.yaml"));
    let error = refused(&other.collect::<Vec<_>>());
    assert!(error.contains("was judged by another suite"), "{error}");
}

#[test]
fn a_suite_that_the_base_cannot_run_is_found_before_training() {
    let place = Place::new();
    let arguments = experiment(&place, "lora_rank=2,4", "out");
    let pictures = fs::read_to_string(suite(&place)).unwrap().replace("max_new_tokens", "steps");
    place.file("suite.yaml", pictures);
    let done = program::run(&arguments);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("suite.yaml") && said(&done).contains("steps"), "{}", said(&done));
    assert!(!place.path("out").exists());
}

#[test]
fn doctor_reads_the_verdict_beside_a_training_and_that_of_a_named_run() {
    let place = Place::new();
    let out = place.path("out");
    let arguments = experiment(&place, "lora_rank=2,4", "out");
    whole(&with(&arguments, &["--set", "lora_alpha=4"]), &out);
    let alpha = "`adapter.alpha` is 4 in every variant, so alpha/rank changes with the rank: 2, 1";
    assert_eq!(record(&out)["notes"], json!([alpha]));
    let verdict = |rank: usize| text(&out.join(format!("lora_rank={rank}/run/verdict.json")));
    let train = text(&out.join("lora_rank=2/train"));
    let headline = |rank: usize| {
        let found: Value = serde_json::from_slice(&fs::read(verdict(rank)).unwrap()).unwrap();
        format!("{}: {}", verdict(rank), found["headline"].as_str().unwrap())
    };
    let notes = |more: &[&str]| -> Vec<String> {
        let arguments = with(&["doctor".to_owned(), train.clone(), "--json".to_owned()], more);
        let said: Value = serde_json::from_str(&good(&arguments).0).unwrap();
        serde_json::from_value(said["diagnosis"]["notes"].clone()).unwrap()
    };
    assert!(notes(&[]).contains(&headline(2)), "{:?}", notes(&[]));
    let run = text(&out.join("lora_rank=4/run"));
    let of_another = notes(&["--run", &run]);
    assert!(of_another.contains(&headline(4)), "{of_another:?}");
    assert!(of_another[0].contains("its adapters are none of"), "{of_another:?}");
    fs::write(verdict(2), "{").unwrap();
    assert!(notes(&[])[0].contains("verdict.json: damaged"), "{:?}", notes(&[]));
    let error = program::bad(&["doctor", &train, "--run", &train]);
    assert!(error.contains("has no `verdict.json`"), "{error}");
}
