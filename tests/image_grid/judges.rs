//! Models that judge pictures: what they score, and that a run keeps to its own.

use std::collections::BTreeMap;
use std::fs;

use lora_eval::picture::{Picture, encode_png};
use serde_json::Value;

use super::program::{Place, bad, diffusion, fixture, good, text};

const SUITE: &str = "defaults: {steps: 1, width: 64, height: 64}
seeds: [1, 2, 3, 4, 5, 6, 7, 8]
strengths: [0, 1]
prompts:
  - {id: fox, prompt: a fox, references: [grey.png]}
";

fn picture(value: u8) -> Vec<u8> {
    encode_png(&Picture { width: 64, height: 64, rgb: vec![value; 64 * 64 * 3] }, &[]).unwrap()
}

/// Values of a metric by strength.
fn scores(all: &Value, metric: &str) -> BTreeMap<String, Option<f64>> {
    let metrics = all["metrics"].as_array().unwrap();
    let metric = metrics.iter().find(|m| m["metric"] == metric).unwrap();
    let rows = metric["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["strength"].to_string(), row["value"].as_f64())).collect()
}

#[test]
fn judges_score_every_picture_and_a_run_keeps_to_them() {
    let place = Place::new();
    let (suite, reference) = (place.file("suite.yaml", SUITE), place.file("grey.png", picture(99)));
    let (base, lora) = (diffusion("sd1"), format!("x={}", diffusion("sd1-lora.safetensors")));
    let vision = |name: &str| text(&fixture("vision").join(name));
    let (clip, dino, lpips) = (vision("clip"), vision("dino"), vision("lpips-alex.safetensors"));
    let out = place.text("run");
    let plain = ["grid", &suite, "--base", &base, "--lora", &lora, "--out", &out];
    let judged = ["--clip", &clip, "--dino", &dino, "--lpips", &lpips];
    good(&[plain.as_slice(), &judged].concat());
    let all: Value =
        serde_json::from_slice(&fs::read(place.path("run/scores.json")).unwrap()).unwrap();
    for (metric, of_base) in
        [("clip-image", 100.0), ("dino", 100.0), ("ssim", 1.0), ("lpips", 0.0), ("phash", 0.0)]
    {
        let scores = scores(&all, metric);
        let (base, changed) = (scores["0.0"].unwrap(), scores["1.0"].unwrap());
        assert!((base - of_base).abs() < 1e-4, "{metric}: {base}");
        assert!((changed - of_base).abs() > 1e-4, "{metric}: {changed}");
    }
    for metric in ["clip-text", "clip-reference", "dino-reference", "histogram-reference"] {
        assert!(scores(&all, metric).values().all(Option::is_some), "{metric}");
    }
    for metric in ["kid-clip", "kid-dino"] {
        assert_eq!(scores(&all, metric).keys().collect::<Vec<_>>(), ["1.0"], "{metric}");
    }
    assert_eq!(
        all["notes"],
        serde_json::json!(["MS-SSIM is left out: its five scales need 176 pixels a side"])
    );
    // the same again makes nothing, other judges are refused
    let (again, _) = good(&[plain.as_slice(), &judged].concat());
    assert!(again.contains("0 made now"), "{again}");
    let other = vision("clip-older");
    for judges in [&[][..], &["--clip", &other, "--dino", &dino, "--lpips", &lpips]] {
        let error = bad(&[plain.as_slice(), judges].concat());
        assert!(error.contains("judged by clip, dino, lpips"), "{error}");
    }
    // another picture under the name of a reference makes other cells
    fs::write(reference, picture(200)).unwrap();
    let error = bad(&[plain.as_slice(), &judged].concat());
    assert!(error.contains("holds another run") || error.contains("another"), "{error}");
}
