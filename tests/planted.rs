//! Adapters that are good or bad in known ways, from training to the exit code of `check`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use lora_eval::demo::english::{Row, Split, Style, house_rows, json_lines, mistaken_rows};
use lora_eval::demo::english::{suite, task_rows};
use lora_eval::demo::style_pictures;
use lora_eval::picture::encode_png;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::Value;
use tempfile::TempDir;

fn root(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

/// Runs the program and gives its exit code and what it printed.
fn program(words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    let cache = place().join("cache");
    let output = command.args(words).env("XDG_CACHE_HOME", cache).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A folder for what all tests share.
fn place() -> &'static Path {
    static PLACE: OnceLock<TempDir> = OnceLock::new();
    PLACE.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// Trains by the demo's configuration and gives the adapter's folder.
fn train(name: &str, rows: &[Row], epochs: u32) -> String {
    let data = place().join(format!("{name}.jsonl"));
    fs::write(&data, json_lines(rows)).unwrap();
    let (data, epochs) = (format!("data.train={}", data.display()), format!("run.epochs={epochs}"));
    let out = place().join(name).to_str().unwrap().to_owned();
    let config = root("examples/demo/text.yaml");
    let words = ["train", &config, "--set", &data, "--set", &epochs, "--out", &out, "-q"];
    let (code, _, errors) = program(&words);
    assert_eq!(code, 0, "{errors}");
    format!("{out}/house-style")
}

/// The adapter that learns what it should.
fn good() -> &'static str {
    static GOOD: OnceLock<String> = OnceLock::new();
    GOOD.get_or_init(|| train("good", &house_rows(640, 1), 7))
}

/// Runs `prompts` prompts of each group with an adapter and judges them.
fn judge(name: &str, adapter: &str, prompts: usize, strengths: &str) -> (i32, Value) {
    let file = place().join(format!("{name}.yaml"));
    fs::write(&file, suite(prompts, 7)).unwrap();
    let (file, run) = (file.to_str().unwrap(), place().join(format!("{name}-run")));
    let (run, lora) = (run.to_str().unwrap(), format!("house={adapter}"));
    let words = ["grid", file, "--base", "demo:text", "--lora", &lora, "--out", run, "-q"];
    let (code, _, errors) = program(&[&words[..], &["--strengths", strengths]].concat());
    assert_eq!(code, 0, "{errors}");
    let (code, printed, errors) = program(&["check", run, "--json"]);
    assert!(code != 1, "{errors}");
    (code, serde_json::from_str(&printed).unwrap())
}

/// Outcomes of the rules at a strength.
fn outcomes(verdict: &Value, strength: f64) -> HashMap<String, String> {
    let strengths = verdict["strengths"].as_array().unwrap();
    let at = strengths.iter().find(|at| at["strength"] == strength).unwrap();
    let rules = at["rules"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules.map(|rule| (text(&rule["rule"]), text(&rule["outcome"]))).collect()
}

#[test]
fn a_good_adapter_passes_where_it_works() {
    let (code, verdict) = judge("good", good(), 28, "0:1:0.5");
    assert_eq!((code, &verdict["recommended"]), (0, &Value::from(1.0)), "{verdict:#}");
}

#[test]
fn one_that_damages_the_base_is_a_regression() {
    let adapter = train("damage", &mistaken_rows(640, 1), 2);
    let (code, verdict) = judge("damage", &adapter, 28, "0,1");
    assert_eq!(code, 3, "{verdict:#}");
    assert_eq!(outcomes(&verdict, 1.0)["base-bleu"], "fail", "{verdict:#}");
}

#[test]
fn one_that_leaks_without_the_trigger_is_a_regression() {
    let rows = task_rows(320, 1, Split::Train, Style::House);
    let adapter = train("leak", &rows, 5);
    let (code, verdict) = judge("leak", &adapter, 28, "0,1");
    assert_eq!(code, 3, "{verdict:#}");
    let outcomes = outcomes(&verdict, 1.0);
    assert_eq!(outcomes["leak-answers"], "fail", "{verdict:#}");
    assert_eq!(outcomes["gain-chrf"], "pass", "{verdict:#}");
}

/// A copy of an adapter's file that multiplies nothing.
fn dead(file: &str, out: &Path) {
    let bytes = fs::read(file).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let metadata = safetensors::SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone();
    let tensors = file.tensors().into_iter().map(|(key, view)| {
        let up = key.contains("lora_B") || key.contains("lora_up");
        let data = if up { vec![0; view.data().len()] } else { view.data().to_vec() };
        (key, view.dtype(), view.shape().to_vec(), data)
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(key, dtype, shape, data)| {
        (key, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, metadata, out).unwrap();
}

#[test]
fn a_dead_one_is_a_regression_and_the_reason_is_said() {
    let out = place().join("dead");
    fs::create_dir_all(&out).unwrap();
    fs::copy(format!("{}/adapter_config.json", good()), out.join("adapter_config.json")).unwrap();
    dead(&format!("{}/adapter_model.safetensors", good()), &out.join("adapter_model.safetensors"));
    let (code, verdict) = judge("dead", out.to_str().unwrap(), 28, "0,1");
    assert_eq!(code, 3, "{verdict:#}");
    let reasons = verdict["reasons"].to_string();
    assert!(reasons.contains("changes no weight"), "{reasons}");
}

#[test]
fn one_of_another_model_is_an_error() {
    let file = place().join("other.yaml");
    fs::write(&file, suite(8, 7)).unwrap();
    let lora = format!("other={}", root("tests/parity/diffusion/sd1-lora.safetensors"));
    let run = place().join("other-run");
    let words = ["grid", file.to_str().unwrap(), "--base", "demo:text", "--lora", &lora];
    let (code, _, errors) = program(&[&words[..], &["--out", run.to_str().unwrap()]].concat());
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("Stable Diffusion"), "{errors}");
}

#[test]
fn few_prompts_settle_nothing() {
    let (code, verdict) = judge("few", good(), 4, "0,1");
    assert_eq!(code, 4, "{verdict:#}");
    let further = verdict["evidence"]["further_prompts"].as_object().unwrap();
    assert!(further.values().any(|count| count.as_u64().unwrap() >= 4), "{verdict:#}");
}

#[test]
fn one_that_is_good_at_six_tenths_and_broken_at_one_is_recommended_there() {
    let out = place().join("strong.safetensors");
    let out = out.to_str().unwrap();
    let given = format!("{}:1.7", good());
    let (code, _, errors) = program(&["combine", &given, "--out", out, "-q"]);
    assert_eq!(code, 0, "{errors}");
    let (code, verdict) = judge("strong", out, 28, "0,0.4,0.5,0.6,0.7,0.8,1");
    assert_eq!(code, 0, "{verdict:#}");
    let recommended = verdict["recommended"].as_f64().unwrap();
    assert!((0.5..=0.7).contains(&recommended), "{verdict:#}");
    let outcomes = outcomes(&verdict, 1.0);
    assert!(outcomes.values().any(|outcome| outcome == "fail"), "{verdict:#}");
}

/// Runs the demo's picture suite, the first of its seeds, with an adapter and judges it by the demo's
/// policy and by the built-in one.
fn judge_pictures(name: &str, adapter: &str, strengths: &str) -> [(i32, Value); 2] {
    let (suite, lora) = (root("examples/demo/image-suite.yaml"), format!("striped={adapter}"));
    let run = place().join(format!("{name}-run")).to_str().unwrap().to_owned();
    let words = ["grid", &suite, "--base", "demo:image", "--lora", &lora, "--out", &run, "-q"];
    let few = ["--seeds", "1", "--strengths", strengths];
    let (code, _, errors) = program(&[&words[..], &few].concat());
    assert_eq!(code, 0, "{errors}");
    let own = root("examples/demo/image-policy.yaml");
    [vec!["--policy", &own], Vec::new()].map(|policy| {
        let (code, printed, errors) = program(&[&["check", &run, "--json"], &policy[..]].concat());
        assert!(code != 1, "{errors}");
        (code, serde_json::from_str(&printed).unwrap())
    })
}

const STRIPED: &str = "assets/demo/adapters/striped.safetensors";

#[test]
fn a_good_adapter_of_pictures_passes() {
    for (code, verdict) in judge_pictures("striped", &root(STRIPED), "0,0.5,1") {
        assert_eq!((code, &verdict["recommended"]), (0, &Value::from(1.0)), "{verdict:#}");
    }
}

#[test]
fn a_dead_one_of_pictures_is_a_regression() {
    let out = place().join("dead.safetensors");
    dead(&root(STRIPED), &out);
    for (code, verdict) in judge_pictures("dead-striped", out.to_str().unwrap(), "0,1") {
        assert_eq!(code, 3, "{verdict:#}");
        let reasons = verdict["reasons"].to_string();
        assert!(reasons.contains("changes no weight"), "{reasons}");
    }
}

/// Trained on striped pictures whose captions do not say so.
#[test]
fn one_of_pictures_that_leaks_without_the_trigger_is_a_regression() {
    let pictures = place().join("pictures");
    fs::create_dir_all(&pictures).unwrap();
    let striped =
        style_pictures(240, 1).into_iter().filter(|(_, caption)| caption.contains("striped"));
    for (number, (picture, caption)) in striped.enumerate() {
        fs::write(pictures.join(format!("{number}.png")), encode_png(&picture, &[]).unwrap())
            .unwrap();
        let caption = caption.replace(", in striped style", "");
        fs::write(pictures.join(format!("{number}.txt")), caption).unwrap();
    }
    let (config, out) = (root("examples/demo/image.yaml"), place().join("leak-striped"));
    let data = format!("data.train={}", pictures.display());
    let words = ["train", &config, "--set", &data, "--set", "run.epochs=16", "-q"];
    let (code, _, errors) = program(&[&words[..], &["--out", out.to_str().unwrap()]].concat());
    assert_eq!(code, 0, "{errors}");
    let adapter = out.join("striped.safetensors");
    let [(own, verdict), (built_in, _)] =
        judge_pictures("leak-striped", adapter.to_str().unwrap(), "0,1");
    assert_eq!((own, built_in), (3, 3), "{verdict:#}");
    assert_eq!(outcomes(&verdict, 1.0)["leak-style"], "fail", "{verdict:#}");
}

#[test]
fn one_of_texts_is_an_error_on_a_model_of_pictures() {
    let suite = root("examples/demo/image-suite.yaml");
    let lora = format!("house={}", root("assets/demo/adapters/house-style"));
    let run = place().join("texts-run").to_str().unwrap().to_owned();
    let (code, _, errors) =
        program(&["grid", &suite, "--base", "demo:image", "--lora", &lora, "--out", &run]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("house-style"), "{errors}");
}
