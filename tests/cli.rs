//! The program as a script calls it: every verb, its JSON, its exit code, its help.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name);
    path.to_string_lossy().into_owned()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lora-eval")).args(arguments).output().unwrap()
}

/// Runs with `--json` and reads the one document on standard output.
fn json(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

#[test]
fn merge_says_what_it_did() {
    let place = Place::new();
    let out = place.text("merged.safetensors");
    let lora = format!("style={}:0.8", fixture("adapters/sd1-kohya.safetensors"));
    let base = fixture("bases/sd1.safetensors");
    let report = json(&["merge", "--base", &base, "--lora", &lora, "--out", &out]);
    assert_eq!(report["modules"], 204);
    assert_eq!(report["merged"], 204);
    assert_eq!(report["copied"], 762);
    assert_eq!(report["unmatched"], serde_json::json!([]));
    assert_eq!(report["out"], out);
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert!(report["relative_change"].as_f64().unwrap() > 0.01);
    assert_eq!(report["coverage"][0]["matched"], report["coverage"][0]["of"]);
    assert_eq!(std::fs::metadata(&out).unwrap().len(), {
        // As large as the base, but for the header's word on what was merged.
        let base = std::fs::metadata(&base).unwrap().len();
        let header = |path: &str| {
            let bytes = std::fs::read(path).unwrap();
            u64::from_le_bytes(bytes[..8].try_into().unwrap())
        };
        base - header(&base_path()) + header(&out)
    });
}

fn base_path() -> String {
    fixture("bases/sd1.safetensors")
}

#[test]
fn merging_into_a_folder_keeps_its_layout_and_its_configuration() {
    let place = Place::new();
    let out = place.path("merged");
    let base = fixture("bases/llama-sharded");
    let lora = fixture("adapters/llama-peft");
    let arguments = [
        "merge",
        "--base",
        &base,
        "--lora",
        &lora,
        "--out",
        out.to_str().unwrap(),
        "--dtype",
        "bf16",
    ];
    json(&arguments);
    let read = |path: &Path| -> Value {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let index = "model.safetensors.index.json";
    let (before, after) = (read(&Path::new(&base).join(index)), read(&out.join(index)));
    assert_eq!(before["weight_map"], after["weight_map"]);
    // Half of f32; transformers counts the tensors' bytes, not those of the headers.
    let size = |index: &Value| index["metadata"]["total_size"].as_u64().unwrap();
    assert_eq!(size(&before), 2 * size(&after));
    let config = read(&out.join("config.json"));
    let dtype = config.get("dtype").or(config.get("torch_dtype")).unwrap();
    assert_eq!(dtype, "bfloat16");
    // A second run replaces the folder as a whole.
    json(&arguments);
}

#[test]
fn a_tied_head_becomes_a_tensor_of_its_own_and_the_configuration_says_so() {
    let place = Place::new();
    let out = place.path("merged");
    let (base, lora) = (fixture("bases/qwen2"), fixture("adapters/qwen2-peft-lm-head"));
    let report = json(&["merge", "--base", &base, "--lora", &lora, "--out", out.to_str().unwrap()]);
    assert!(report["notes"].to_string().contains("lm_head"));
    let config = std::fs::read_to_string(out.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["tie_word_embeddings"], false);
}

#[test]
fn inspect_prints_hashes_and_what_fits() {
    let file = fixture("adapters/sd1-kohya.safetensors");
    let base = fixture("bases/sd1");
    let one = json(&["inspect", &file, "--base", &base]);
    for key in
        ["sha256", "autov2", "sshs_model_hash", "format", "kinds", "ranks", "alphas", "metadata"]
    {
        assert!(!one[key].is_null(), "{key}");
    }
    assert_eq!(one["sshs_model_hash"], one["metadata"]["sshs_model_hash"]);
    assert_eq!(one["base"]["matched"], 204);
    let two = json(&["inspect", &file, &fixture("adapters/llama-peft")]);
    assert_eq!(two.as_array().unwrap().len(), 2);
}

#[test]
fn extract_takes_out_what_merge_put_in() {
    let place = Place::new();
    let (base, lora) = (base_f32(), fixture("adapters/sd1-locon.safetensors"));
    let (tuned, out) = (place.text("tuned.safetensors"), place.text("again.safetensors"));
    json(&["merge", "--base", &base, "--lora", &lora, "--out", &tuned]);
    let report =
        json(&["extract", "--base", &base, "--tuned", &tuned, "--rank", "4", "--out", &out]);
    assert!(report["kept"].as_f64().unwrap() > 0.999_99, "{report}");
    let again = place.text("tuned2.safetensors");
    json(&["merge", "--base", &base, "--lora", &out, "--out", &again]);
    let floats = |path: &str| -> Vec<f32> {
        let bytes = std::fs::read(path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let data = &bytes[8 + usize::try_from(header).unwrap()..];
        data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    for (a, b) in floats(&tuned).iter().zip(floats(&again)) {
        assert!((a - b).abs() < 2e-6, "{a} {b}");
    }
}

fn base_f32() -> String {
    fixture("bases/sd1-f32.safetensors")
}

#[test]
fn a_language_model_is_extracted_to_a_peft_folder() {
    let place = Place::new();
    let (base, lora) = (fixture("bases/llama"), fixture("adapters/llama-peft"));
    let (tuned, out) = (place.text("tuned"), place.text("adapter"));
    json(&["merge", "--base", &base, "--lora", &lora, "--out", &tuned]);
    json(&["extract", "--base", &base, "--tuned", &tuned, "--sv-fro", "0.99", "--out", &out]);
    assert!(Path::new(&out).join("adapter_config.json").is_file());
    let inspected = json(&["inspect", &out, "--base", &base]);
    assert_eq!(inspected["format"], "peft");
}

#[test]
fn resize_combine_and_convert_report_their_work() {
    let place = Place::new();
    let lora = fixture("adapters/sd1-kohya.safetensors");
    let small = place.text("small.safetensors");
    let report = json(&["resize", &lora, "--rank", "2", "--out", &small]);
    assert_eq!(report["ranks"]["2"], 204);
    let both = place.text("both.safetensors");
    let half = format!("{lora}:0.5");
    let report = json(&["combine", &half, &small, "--out", &both]);
    assert_eq!(report["modules"], 204);
    assert_eq!(report["ranks"]["6"], 204);
    let peft = place.text("peft");
    let report = json(&["convert", &both, "--to", "peft", "--out", &peft]);
    assert_eq!((&report["from"], &report["to"]), (&"kohya".into(), &"peft".into()));
    assert!(Path::new(&peft).join("unet/adapter_config.json").is_file());
    assert_eq!(json(&["inspect", &peft])["modules"], 204);
}

#[test]
fn prompt_prints_the_contract() {
    let read = json(&["prompt", "a (red:1.3) fox <lora:ink:0.5:0.8>"]);
    assert_eq!(read["text"], "a (red:1.3) fox ");
    let adapter = &read["adapters"][0];
    assert_eq!(
        (&adapter["name"], &adapter["text_encoder"], &adapter["unet"]),
        (&"ink".into(), &0.5.into(), &0.8.into())
    );
    assert_eq!(read["fragments"][1]["weight"], 1.3);
    let bad = run(&["prompt", "a <lora:ink:much>"]);
    assert_eq!(bad.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&bad.stderr);
    assert!(errors.contains('^') && errors.contains("hint:"), "{errors}");
}

#[test]
fn completions_and_man_pages() {
    let script = run(&["manual", "--completions", "bash"]);
    assert!(String::from_utf8_lossy(&script.stdout).contains("lora-eval"));
    let place = Place::new();
    assert!(run(&["manual", "--man", &place.text("man")]).status.success());
    assert!(place.path("man/lora-eval-merge.1").is_file());
    assert!(!String::from_utf8_lossy(&run(&["--help"]).stdout).contains("manual"));
}

#[test]
fn help_reads_as_it_was_agreed() {
    for (name, arguments) in [("help", vec!["--help"]), ("help_merge", vec!["merge", "--help"])] {
        let output = run(&arguments);
        assert!(output.status.success());
        insta::assert_snapshot!(name, String::from_utf8_lossy(&output.stdout));
    }
}
