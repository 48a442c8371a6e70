//! `generate --like`: settings that a picture carries, this program's and the WebUI's.

use std::fmt::Write as _;
use std::fs;

use lora_eval::model::diffusion::sampler::Algorithm;
use lora_eval::picture::{PARAMETERS, Picture, encode_png, read};
use serde_json::Value;

use super::program::{Place, bad, diffusion, good, parameters, run};

/// A picture with this text.
fn carrying(place: &Place, name: &str, text: &str) -> String {
    let picture = Picture { width: 8, height: 8, rgb: vec![90; 192] };
    place.file(name, encode_png(&picture, &[(PARAMETERS, text)]).unwrap())
}

/// What `generate` says of a picture that it made as another one was made.
fn like(place: &Place, family: &str, text: &str, more: &[&str]) -> (Value, String) {
    let (base, lora) = (diffusion(family), diffusion(&format!("{family}-lora.safetensors")));
    let picture = carrying(place, "like.png", text);
    let (lora, out) = (format!("style={lora}"), place.text("out.png"));
    let given = ["generate", "--like", &picture, "--base", &base, "--lora", &lora, "--out", &out];
    let (said, warned) = good(&[given.as_slice(), &["--json"], more].concat());
    (serde_json::from_str(&said).unwrap(), warned)
}

#[test]
fn every_sampler_and_setting_makes_the_same_picture_again() {
    let place = Place::new();
    let mut again = 0;
    for family in ["sd1", "sd2", "sdxl"] {
        let (base, lora) = (diffusion(family), diffusion(&format!("{family}-lora.safetensors")));
        let lora = format!("style={lora}");
        let (one, two) = (place.text("one.png"), place.text("two.png"));
        let draw = |sampler: &str, more: &[&str]| {
            let prompt = "a red fox\nin (snow:1.2) <lora:style:0.5:1>";
            let given = ["generate", prompt, "--base", &base, "--lora", &lora, "--steps", "3"];
            let given = [given.as_slice(), &["--out", &one, "--sampler", sampler], more].concat();
            let out = run(&given);
            if !out.status.success() {
                // a sampler or a schedule that diffusers does not have
                let errors = String::from_utf8_lossy(&out.stderr);
                assert!(errors.contains("diffusers") && errors.contains("hint:"), "{errors}");
                return false;
            }
            good(&["generate", "--like", &one, "--base", &base, "--lora", &lora, "--out", &two]);
            let same = fs::read(&one).unwrap() == fs::read(&two).unwrap();
            assert!(same, "{family} {sampler} {more:?}: {}", parameters(one.as_ref()));
            true
        };
        for algorithm in Algorithm::ALL {
            for schedule in ["automatic", "karras", "sgm_uniform"] {
                again += usize::from(draw(algorithm.name(), &["--scheduler", schedule]));
            }
        }
        let rest: [&[&str]; 3] = [
            &["--seed", "18446744073709551615", "--guidance", "1.5", "--negative", "blurry, \"x\""],
            &["--clip-skip", "2", "--rng", "gpu", "--guidance-rescale", "0.7"],
            &["--width", "72", "--height", "104", "--guidance", "0"],
        ];
        for more in rest {
            assert!(draw("euler_a", more));
        }
    }
    assert!(again > 60, "{again}");
}

#[test]
fn texts_of_the_webui_are_read_by_its_defaults() {
    let place = Place::new();
    let text = "a fox <lora:style:0.5>\nNegative prompt: blurry\nSteps: 2, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 42, Size: 64x72, Model hash: 0123456789, Clip skip: 2, ENSD: 31337, Version: v1.6.0";
    let (made, warned) = like(&place, "sd1", text, &[]);
    let settings = &made["settings"];
    for (key, value) in
        [("sampler", "DPM++ 2M"), ("scheduler", "Karras"), ("rng", "gpu"), ("negative", "blurry")]
    {
        assert_eq!(settings[key], value, "{key}");
    }
    assert_eq!((&made["seed"], &settings["steps"]), (&42.into(), &2.into()));
    assert_eq!((&settings["clip_skip"], &settings["guidance"]), (&2.into(), &6.5.into()));
    assert_eq!((&settings["width"], &settings["height"]), (&64.into(), &72.into()));
    assert_eq!(made["adapters"][0]["strength"], 0.5);
    assert!(warned.contains("ENSD"), "{warned}");
    assert!(made["parameters"].as_str().unwrap().contains("RNG: NV"), "{made}");

    // the WebUI's names of after 1.9, and the random numbers of this program
    let new = "a fox\nSteps: 2, Sampler: Euler a, Schedule type: SGM Uniform, CFG scale: 7, Seed: 1, Size: 64x64, RNG: CPU";
    let (made, warned) = like(&place, "sd1", new, &[]);
    assert_eq!(made["settings"]["scheduler"], "SGM Uniform");
    assert_eq!(made["settings"]["rng"], "cpu");
    assert!(!warned.contains("picture's"), "{warned}");
}

#[test]
fn fields_that_have_no_meaning_here_are_named() {
    let place = Place::new();
    let text = "a fox\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, VAE hash: 0123456789, VAE: kl.ckpt, Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Latent, Eta: 0.5, Lora hashes: \"style: 000000000000\", TI hashes: \"easy: 1234\", Version: v1.9.4";
    let (made, warned) = like(&place, "sd1", text, &[]);
    assert_eq!(made["settings"]["width"], 64);
    for name in [
        "`Denoising strength`",
        "`Hires upscale`",
        "`Hires upscaler`",
        "`TI hashes`",
        "Eta",
        "autoencoder `kl.ckpt`",
        "another file of the adapter `style`",
    ] {
        assert!(warned.contains(name), "{name}: {warned}");
    }
}

#[test]
fn flags_win_over_the_picture() {
    let place = Place::new();
    let text = "a fox\nNegative prompt: blurry\nSteps: 2, Sampler: DPM++ 2M, Schedule type: Exponential, CFG scale: 7, Seed: 1, Size: 64x64, RNG: CPU";
    let more = ["--sampler", "dpmpp_sde_karras", "--seed", "9", "--steps", "1", "--negative", ""];
    let (made, _) = like(&place, "sd1", text, &more);
    assert_eq!(made["seed"], 9);
    assert_eq!(made["settings"]["steps"], 1);
    let about = made["parameters"].as_str().unwrap();
    assert!(about.contains("Sampler: DPM++ SDE, Schedule type: Karras"), "{about}");
    assert!(!about.contains("Negative prompt"), "{about}");
    // a schedule alone keeps the picture's sampler
    let (made, _) = like(&place, "sd1", text, &["--scheduler", "karras"]);
    let about = made["parameters"].as_str().unwrap();
    assert!(about.contains("Sampler: DPM++ 2M, Schedule type: Karras"), "{about}");
}

#[test]
fn a_prompt_alone_is_drawn_with_the_bases_defaults() {
    let place = Place::new();
    let (made, _) = like(&place, "sdxl", "a fox, (snow:1.1)", &["--steps", "1"]);
    assert_eq!(made["settings"]["steps"], 1);
    let about = made["parameters"].as_str().unwrap();
    assert!(about.starts_with("a fox, (snow:1.1)\nSteps: 1, Sampler: Euler,"), "{about}");
    assert_eq!(read(place.path("out.png").as_ref()).unwrap().width, 64);
}

#[test]
fn pictures_that_say_nothing_or_nonsense_are_refused() {
    let place = Place::new();
    let picture = Picture { width: 8, height: 8, rgb: vec![90; 192] };
    let plain = encode_png(&picture, &[]).unwrap();
    let with_text = encode_png(&picture, &[(PARAMETERS, "a fox")]).unwrap();
    let jpeg = place.path("picture.jpg");
    image::RgbImage::from_pixel(8, 8, image::Rgb([1, 2, 3])).save(&jpeg).unwrap();
    let fields = |fields: &str| {
        format!("a fox\nSteps: 2, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, {fields}")
    };
    let long = "x".repeat(1 << 16);
    let mut rows: Vec<(String, String)> = vec![
        ("a PNG without text".to_owned(), place.file("plain.png", plain)),
        ("a JPEG without text".to_owned(), jpeg.to_str().unwrap().to_owned()),
        ("half a PNG".to_owned(), place.file("half.png", &with_text[..with_text.len() / 3])),
        ("a text file".to_owned(), place.file("text.png", "a fox")),
        ("no file".to_owned(), place.text("missing.png")),
        ("a folder".to_owned(), place.text("")),
    ];
    for (number, field) in [
        "Steps: many",
        "Steps: 100000",
        "Seed: -1",
        "Size: 70x64",
        "Size: 999999x64",
        "CFG scale: nan",
        "CFG scale: -3",
        "Clip skip: 99",
        "RNG: dice",
        "Sampler: LMS test",
        "Sampler: Euler, Schedule type: Align Your Steps",
        "Lora hashes: ink",
        "CFG Rescale: 7",
        &format!("Sampler: {long}"),
    ]
    .iter()
    .enumerate()
    {
        let shown = field.chars().take(60).collect();
        rows.push((shown, carrying(&place, &format!("{number}.png"), &fields(field))));
    }
    for (number, prompt) in
        ["a fox <lora:ink:0,8>", "a \u{1b}[31mfox <lora:x:9\u{202e}>", "<lora:unknown:1>"]
            .iter()
            .enumerate()
    {
        rows.push((
            format!("prompt {number}"),
            carrying(&place, &format!("p{number}.png"), prompt),
        ));
    }
    let mut messages = String::new();
    for (name, path) in rows {
        let out = place.text("out.png");
        let base = diffusion("sd1");
        let said = bad(&["generate", "--like", &path, "--base", &base, "--out", &out]);
        let said = said.replace(&place.text(""), "[dir]/");
        assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{name}: {said}");
        assert!(said.len() < 4096, "{name}: {} bytes", said.len());
        assert!(!place.path("out.png").exists(), "{name}");
        let _ = writeln!(messages, "{name}\n{said}");
    }
    insta::assert_snapshot!(messages);
}
