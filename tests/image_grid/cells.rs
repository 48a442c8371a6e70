//! What a cell is, and how it is made again alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use lora_eval::picture::infotext::{Infotext, Settings};
use lora_eval::picture::{self, Picture};
use lora_eval::prompt::Prompt;
use serde_json::{Value, json};

use super::program::{
    Made, Place, bad, cell, cells, diffusion, fixture, good, grid, parameters, psnr, text, with,
};
use super::runs::SUITE;

/// Every axis of pictures, two values each.
const AXES: &str = "
seeds: [7]
strengths: [0, 0.75]
defaults: {width: 64, height: 64, guidance_rescale: 0.25}
axes:
  sampler: [euler, dpmpp_2m]
  scheduler: [karras, exponential]
  steps: [3, 4]
  guidance: [1, 6.5]
  clip_skip: [1, 2]
prompts:
  - {id: fox, prompt: 'a red fox <lora:style:0.5:-1>'}
  - {id: cat, group: base, prompt: a cat, settings: {negative: blurry}}
";

fn info(made: &Made) -> (Infotext, Settings) {
    let info = Infotext::parse(&made.parameters());
    let settings = Settings::of(&info).unwrap();
    (info, settings)
}

#[test]
fn the_text_of_a_cell_says_what_it_was_made_with() {
    let place = Place::new();
    let suite = place.file("suite.yaml", AXES);
    good(&grid("sd1", &suite, &place.text("run")));
    let all = cells(&place.path("run"));
    assert_eq!(all.len(), 2 * 2 * 32);
    for made in all.values() {
        let (info, settings) = info(made);
        let axes = &made.record["axes"];
        let at = &made.record;
        assert_eq!(json!(settings.steps), axes["steps"], "{at}");
        assert_eq!(settings.guidance, axes["guidance"].as_f64(), "{at}");
        assert_eq!(json!(settings.clip_skip), axes["clip_skip"], "{at}");
        assert_eq!(settings.schedule.to_lowercase(), axes["scheduler"], "{at}");
        let sampler = if axes["sampler"] == "euler" { "Euler" } else { "DPM++ 2M" };
        assert_eq!(settings.sampler.as_deref(), Some(sampler), "{at}");
        assert_eq!((settings.seed, settings.size), (Some(7), Some((64, 64))), "{at}");
        assert_eq!((settings.rng.as_str(), settings.guidance_rescale), ("CPU", 0.25), "{at}");
        assert_eq!(settings.model.as_deref(), Some("sd1"));
        let (prompt, negative) = match (at["prompt_id"] == "fox", made.strength() == 0.0) {
            (true, _) => ("a red fox <lora:style:0.5:-1>", ""),
            (false, true) => ("a cat", "blurry"),
            (false, false) => ("a cat <lora:style:0.75>", "blurry"),
        };
        assert_eq!((info.prompt.as_str(), info.negative.as_str()), (prompt, negative), "{at}");
        let acts = prompt.contains("<lora");
        assert_eq!(settings.lora_hashes.len(), usize::from(acts), "{at}");
    }
    // what is said differs, and so does what is drawn
    let mut pictures: Vec<Vec<u8>> = all.values().map(|made| made.picture().rgb).collect();
    pictures.sort();
    pictures.dedup();
    // strengths do not move a prompt with a tag, and guidance 1 knows neither a negative prompt nor a
    // rescale: 32 of the fox, 64 of the cat
    assert_eq!(pictures.len(), 32 + 64);
}

#[test]
fn strength_0_is_the_base_without_any_adapter() {
    for family in ["sd1", "sdxl"] {
        let place = Place::new();
        let suite = place.file("suite.yaml", SUITE);
        good(&grid(family, &suite, &place.text("run")));
        let all = cells(&place.path("run"));
        let apart = with(&grid(family, &suite, &place.text("apart")), &["--max-batch", "2"]);
        good(&apart);
        let apart = cells(&place.path("apart"));
        // the base alone cannot know the tag
        let bare = place.file("bare.yaml", SUITE.replace(" <lora:style:0.5:1>", ""));
        let base = diffusion(family);
        let out = place.text("bare");
        let strengths = ["--strengths", "0", "--max-batch", "2"];
        let given = ["grid", &bare, "--base", &base, "--out", &out];
        good(&[given.as_slice(), &strengths].concat());
        let bare = cells(&place.path("bare"));
        for made in bare.values().filter(|made| made.record["prompt_id"] != "tag") {
            let (id, seed) = (&made.record["prompt_id"], &made.record["seed"]);
            let (id, seed) = (id.as_str().unwrap(), seed.as_u64().unwrap());
            let alone = cell(&apart, id, seed, 0.0).picture();
            assert!(alone == made.picture(), "{family} {id}");
            let psnr = psnr(&cell(&all, id, seed, 0.0).picture(), &made.picture());
            assert!(psnr >= 50.0, "{family} {id}: {psnr}");
        }
        let at = |strength| cell(&all, "fox", 1, strength).picture();
        assert!(psnr(&at(0.0), &at(1.0)) < 40.0, "the adapter does nothing");
    }
}

fn draw(place: &Place, name: &str, arguments: &[&str]) -> Picture {
    let out = place.text(name);
    good(&[["generate"].as_slice(), arguments, &["--out", &out]].concat());
    picture::read(out.as_ref()).unwrap()
}

#[test]
fn strengths_side_by_side_are_those_alone() {
    for family in ["sd1", "sd2", "sdxl"] {
        let place = Place::new();
        let suite = place.file("suite.yaml", SUITE);
        let many = ["--strengths", "0,0.25,0.5,1,1.5,-1"];
        good(&with(&grid(family, &suite, &place.text("run")), &many));
        let (base, lora) = (diffusion(family), diffusion(&format!("{family}-lora.safetensors")));
        for made in
            cells(&place.path("run")).values().filter(|made| made.is("fox", 2, made.strength()))
        {
            let lora = format!("style={lora}:{}", made.strength());
            let negative = ["--negative", "blurry, [grey]", "--steps", "3"];
            let given = ["a red fox, (snow:1.2)", "--seed=2", "--base", &base, "--lora", &lora];
            let alone = draw(&place, "alone.png", &[given.as_slice(), &negative].concat());
            let psnr = psnr(&alone, &made.picture());
            assert!(psnr >= 50.0, "{family} at {}: {psnr}", made.strength());
            assert_eq!(parameters(&place.path("alone.png")), made.parameters());
        }
    }
}

#[test]
fn adapters_that_act_on_one_part_only_do_so() {
    let place = Place::new();
    let (base, lora) = (diffusion("sd1"), diffusion("sd1-lora.safetensors"));
    let at = |strengths: &str| {
        let lora = format!("style={lora}:{strengths}");
        let given = ["a fox", "--steps", "3", "--base", &base, "--lora", &lora];
        draw(&place, "a.png", &given)
    };
    let tagged = |tag: &str| {
        let (prompt, lora) = (format!("a fox {tag}"), format!("style={lora}"));
        draw(&place, "b.png", &[&prompt, "--steps", "3", "--base", &base, "--lora", &lora])
    };
    let (none, text, unet, both) = (at("0"), at("1:0"), at("0:1"), at("1"));
    let all = [&none, &text, &unet, &both];
    for (place, one) in all.iter().enumerate() {
        assert!(all[..place].iter().all(|other| other != one), "{place}");
    }
    assert_eq!(tagged("<lora:style:1:0>"), text);
    assert_eq!(tagged("<lora:style:te=0:unet=1>"), unet);
    assert_eq!(tagged("<lora:style:0.5><lora:style:0.5>"), both);
}

/// The text of an element of a page.
fn unescaped(html: &str) -> String {
    let (mut text, mut rest) = (String::new(), html);
    while let Some((before, after)) = rest.split_once('&') {
        let (entity, after) = after.split_once(';').unwrap();
        text.push_str(before);
        text.push(match entity {
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "amp" => '&',
            other => {
                let code = u32::from_str_radix(other.strip_prefix("#x").unwrap(), 16).unwrap();
                char::from_u32(code).unwrap()
            }
        });
        rest = after;
    }
    text + rest
}

/// The commands that a report shows.
fn commands(report: &str) -> BTreeSet<String> {
    let starts = report.match_indices("<code>lora-eval generate ");
    let lines = starts.map(|(at, _)| report[at + 6..].split_once("</code>").unwrap().0);
    lines.map(unescaped).collect()
}

/// What differs between cells of one suite: settings that have no flag of their own elsewhere.
const COMMANDS: &str = "
seeds: [3]
strengths: [0, 0.5]
defaults: {steps: 2, width: 64, height: 72, guidance_rescale: 0.5}
axes: {sampler: [dpmpp_2m, heun], scheduler: [karras]}
prompts:
  - {id: quote, prompt: \"it's a $HOME `fox`\", settings: {negative: 'a \"b\"', clip_skip: 2}}
  - {id: tag, group: base, prompt: 'a fox <lora:style:0.5:1>', settings: {rng: nv}}
  - {id: tag1, prompt: '<lora:style> a fox', settings: {guidance: 3.25}}
  - {id: dash, prompt: '-a fox'}
";

#[test]
fn the_command_of_a_cell_makes_it_again() {
    let place = Place::new();
    let suite = place.file("suite.yaml", COMMANDS);
    let second = format!("second={}:0.25:0.5", diffusion("sd1-lora.safetensors"));
    let arguments = grid("sd1", &suite, &place.text("run"));
    good(&with(&arguments, &["--lora", &second, "--max-batch", "2"]));
    let all = cells(&place.path("run"));
    let commands = commands(&fs::read_to_string(place.path("run/report.html")).unwrap());
    assert_eq!(commands.len(), all.len(), "{commands:?}");
    let program = env!("CARGO_BIN_EXE_lora-eval");
    for line in commands {
        let (_, name) = line.split_once("--out ").unwrap();
        let name = name.split(' ').next().unwrap();
        let script = line.replacen("lora-eval", program, 1);
        let mut shell = Command::new("sh");
        let out = shell.current_dir(place.path("")).args(["-c", &script]).output().unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        let stem = name.trim_end_matches(".png");
        let (_, made) = all.iter().find(|(id, _)| id.starts_with(stem)).unwrap();
        let again = fs::read(place.path(name)).unwrap();
        assert_eq!(parameters(&place.path(name)), made.parameters(), "{line}");
        assert!(again == fs::read(&made.png).unwrap(), "{line}");
    }
}

#[test]
fn prompts_may_name_adapters_of_a_folder() {
    let place = Place::new();
    fs::create_dir(place.path("loras")).unwrap();
    for name in ["one", "two"] {
        fs::copy(
            diffusion("sd1-lora.safetensors"),
            place.path(&format!("loras/{name}.safetensors")),
        )
        .unwrap();
    }
    let suite = place.file(
        "suite.yaml",
        "strengths: [0, 1]\ndefaults: {steps: 2}\nprompts:\n  - {id: a, prompt: 'a fox <lora:one:0.5>'}\n  - {id: b, prompt: a fox}\n  - {id: c, prompt: 'a fox <lora:two:0.25><lora:one:0.25>'}\n",
    );
    let arguments =
        with(&grid("sd1", &suite, &place.text("run")), &["--lora-dir", &place.text("loras")]);
    good(&arguments);
    let all = cells(&place.path("run"));
    let at = |prompt, strength| cell(&all, prompt, 1, strength);
    let names = |made: &Made| -> Vec<String> {
        let adapters = made.record["adapters"].as_array().unwrap();
        adapters.iter().map(|a| a["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(at("a", 1.0)), ["style", "one"]);
    assert_eq!(names(at("b", 1.0)), ["style"]);
    assert_ne!(at("a", 0.0).picture(), at("b", 0.0).picture());
    // two halves of the same adapter are the whole
    assert!(psnr(&at("a", 0.0).picture(), &at("c", 0.0).picture()) >= 50.0);
}

#[test]
fn wild_prompts_are_drawn_and_wrong_ones_are_refused_at_their_place() {
    let wild: Value =
        serde_json::from_slice(&fs::read(fixture("wild_prompts.json")).unwrap()).unwrap();
    let list = |key: &str| -> Vec<String> { serde_json::from_value(wild[key].clone()).unwrap() };
    let place = Place::new();
    fs::create_dir(place.path("loras")).unwrap();
    let mut suite = "seeds: [1]\nstrengths: [0]\ndefaults: {steps: 1}\nprompts:\n".to_owned();
    let prompts = list("prompts");
    assert_eq!(prompts.len(), 20);
    for (number, prompt) in prompts.iter().enumerate() {
        let _ = writeln!(suite, "  - {{id: p{number}, prompt: {}}}", json!(prompt));
        for tag in Prompt::parse(prompt).unwrap().adapters {
            let file = place.path(&format!("loras/{}.safetensors", tag.name));
            fs::copy(diffusion("sd1-lora.safetensors"), file).unwrap();
        }
    }
    let (suite, loras) = (place.file("suite.yaml", suite), place.text("loras"));
    let (base, out) = (diffusion("sd1"), place.text("run"));
    good(&["grid", &suite, "--base", &base, "--lora-dir", &loras, "--out", &out]);
    let all = cells(&place.path("run"));
    assert_eq!(all.len(), 20);
    let mut pictures: Vec<Vec<u8>> = all.values().map(|made| made.picture().rgb).collect();
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), 20, "two prompts give one picture");
    for prompt in list("wrong") {
        let out = place.text("wrong.png");
        let errors = bad(&["generate", &prompt, "--base", &base, "--out", &out]);
        assert!(errors.contains("column"), "{prompt}: {errors}");
        // what is wrong at one step only has no place in the prompt as it was written
        assert!(errors.contains('^') || errors.contains("step 2, where"), "{prompt}: {errors}");
        let of_suite = json!([{"id": "a", "prompt": prompt}]);
        let suite = place.file("wrong.yaml", format!("prompts: {of_suite}\n"));
        let errors = bad(&["grid", &suite, "--base", &base, "--out", &place.text("wrong")]);
        assert!(errors.contains("wrong.yaml") && errors.contains("column"), "{prompt}: {errors}");
        assert!(!place.path("wrong").exists() && !place.path("wrong.png").exists());
    }
}

#[test]
fn noise_depends_on_the_seed_alone() {
    let place = Place::new();
    let one = place.file("one.yaml", SUITE.replace("seeds: [1, 2]", "seeds: [2]"));
    let more = place.file("more.yaml", SUITE.replace("seeds: [1, 2]", "seeds: [1, 5, 2]"));
    good(&grid("sd1", &one, &text(&place.path("a"))));
    good(&with(&grid("sd1", &more, &place.text("b")), &["--strengths", "0,0.5,1"]));
    let (a, b) = (cells(&place.path("a")), cells(&place.path("b")));
    for made in a.values() {
        let prompt = made.record["prompt_id"].as_str().unwrap();
        let other = cell(&b, prompt, 2, made.strength());
        assert_eq!(made.picture(), other.picture(), "{prompt}");
    }
}
