//! Generations while training.

use std::fs;

use serde_json::{Value, json};

use super::program::{Place, bad, files, good, text};
use super::training::{Config, adapter, of_kind, train};

fn steps_and_names(events: &[Value]) -> Vec<(u64, String)> {
    let both = |event: &Value| {
        (event["step"].as_u64().unwrap(), event["name"].as_str().unwrap().to_owned())
    };
    events.iter().map(both).collect()
}

#[test]
fn pictures_are_drawn_before_and_while_it_is_trained() {
    let place = Place::new();
    let lines = "# two of them\na red star --w 64 --h 64 --d 7 --s 2 --l 4\n\na fox --n blurry, grey --w 72 --h 64 --d 1 --s 2\n";
    let config = Config::image("sd1").set("run.steps", 4).set("optimizer.learning_rate", 0.01);
    let plain = config.clone().train(&place, "plain");
    let config = config.set("samples.prompts", place.file("prompts.txt", lines));
    let config = config.set("samples.every", "2 steps").set("samples.at_first", true);
    let out = config.train(&place, "run");
    let said = of_kind(&out, "sample");
    let expected: Vec<(u64, String)> = [0, 2, 4]
        .iter()
        .flat_map(|step| ["a red star", "a fox"].map(|name| (*step, name.to_owned())))
        .collect();
    assert_eq!(steps_and_names(&said), expected);
    let sizes: Vec<(u32, u32)> = said
        .iter()
        .map(|event| {
            let picture = lora_eval::picture::read(event["path"].as_str().unwrap().as_ref());
            let picture = picture.unwrap();
            (picture.width, picture.height)
        })
        .collect();
    assert_eq!(sizes, [(64, 64), (72, 64)].repeat(3));
    let pictures = files(&out.join("samples"));
    assert_eq!(pictures.len(), 6);
    assert!(pictures["step-00000000-1.png"] != pictures["step-00000004-1.png"]);
    assert!(adapter(&out) == adapter(&plain), "drawing changes nothing");

    // the first one is the base's own picture
    let base = super::program::diffusion("sd1");
    let png = place.text("base.png");
    let given = ["generate", "a red star", "--base", &base, "--out", &png, "--seed", "7"];
    let more = ["--steps", "2", "--guidance", "4", "--width", "64", "--height", "64"];
    good(&[&given[..], &more[..], &["--sampler", "euler_a"]].concat());
    let drawn = lora_eval::picture::read(png.as_ref()).unwrap();
    let sample = lora_eval::picture::read(&out.join("samples/step-00000000-1.png")).unwrap();
    assert!(super::program::psnr(&drawn, &sample) > 40.0);
}

#[test]
fn texts_are_completed_and_told_in_the_log() {
    let place = Place::new();
    let prompts = place.file("prompts.txt", "What is the river?\nthe letter --w is no flag here\n");
    let config = Config::text().set("samples.prompts", prompts).set("samples.every", "6 steps");
    let out = config.clone().set("samples.at_first", true).train(&place, "run");
    let said = of_kind(&out, "sample");
    assert_eq!(said.len(), 6);
    assert_eq!(said[1]["name"], "the letter --w is no flag here");
    assert!(said.iter().all(|event| event["path"] == json!(null)));
    let before = said[0]["text"].as_str().unwrap();
    assert!(!before.is_empty());
    let base = text(&super::program::fixture("decoders/chat/model"));
    let given = ["generate", "What is the river?", "--base", &base, "--max-new-tokens", "64"];
    let (generated, _) = good(&[&given[..], &["--temperature", "0"]].concat());
    assert_eq!(generated.trim_end(), before.trim_end(), "strength 0 is the base");
}

#[test]
fn prompts_that_cannot_be_drawn_are_refused_before_the_first_step() {
    let place = Place::new();
    for (line, words) in [
        ("a fox --w wide", "`--w wide`: expected a number"),
        ("a fox --ink 3", "`--ink`"),
        ("a fox --w 65", "multiples of 8"),
        ("a fox --s 0", "step"),
        ("# nothing", "no prompt"),
    ] {
        let prompts = place.file("prompts.txt", line);
        let config = Config::image("sd1").set("samples.prompts", prompts).set("run.steps", 2);
        let config = config.set("samples.every", "1 step");
        let out = place.path("run");
        let said = bad(&train(&config.write(&place, "run.yaml"), &out));
        assert!(said.contains(words), "{line}: {said}");
        let steps = fs::read_to_string(out.join("train.jsonl")).unwrap_or_default();
        assert!(!steps.contains("\"step\":1"), "{line}: it was trained before it was refused");
    }
}
