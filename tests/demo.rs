//! `lora-eval demo --quick`, from nothing but a home folder, and the files it ships with.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use lora_eval::demo::Materials;
use serde_json::Value;

fn demo(home: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    command.arg("demo").args(words).env_clear().env("HOME", home).current_dir(home);
    command.output().unwrap()
}

#[test]
fn the_quick_demo_judges_and_reports_both_models_and_goes_on_where_it_was() {
    let home = tempfile::tempdir().unwrap();
    let first = demo(home.path(), &["--quick", "--json"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let said: Value = serde_json::from_slice(&first.stdout).unwrap();
    let out = home.path().join("runs/demo-quick");
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("striped") && report.contains("house-style"));
    for name in ["image", "text"] {
        let verdict = fs::read(out.join(name).join("verdict.json")).unwrap();
        let verdict: Value = serde_json::from_slice(&verdict).unwrap();
        assert_eq!(verdict["verdict"], "pass", "{name}: {verdict:#}");
    }
    let steps = said["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 5);
    assert!(steps.iter().all(|step| step["exit"] == 0 && !step["result"].is_null()), "{said:#}");
    // every command can be given by hand, in the same folder
    let made = |said: &Value| said["steps"][0]["result"]["written"].as_u64();
    assert!(made(&said).unwrap() > 0, "{said:#}");
    let second = demo(home.path(), &["--quick", "--json"]);
    let said: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(made(&said), Some(0), "{said:#}");
}

#[test]
fn the_suites_of_the_examples_are_those_that_the_demo_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo");
    let files = Materials::suites().unwrap();
    for (path, bytes) in &files {
        let committed = fs::read(folder.join(path)).unwrap();
        assert!(committed == *bytes, "{path}: run `cargo run --example demo_materials`");
    }
    let references = fs::read_dir(folder.join("references")).unwrap().count();
    assert_eq!(references, files.len() - 2);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    let output = demo(home.path(), &["--quick", "--out", "file/demo"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("file/demo") && error.contains("--out"), "{error}");
}

#[test]
fn a_file_of_the_user_is_not_overwritten() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("text.yaml"), "mine").unwrap();
    let output = demo(home.path(), &["--quick", "--out", "."]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("text.yaml") && error.contains("--out"), "{error}");
    assert_eq!(fs::read_to_string(home.path().join("text.yaml")).unwrap(), "mine");
}

#[test]
fn a_model_that_does_not_come_with_the_program_is_named() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    let output =
        command.args(["generate", "a fox", "--base", "demo:audio"]).current_dir(&home).output();
    let error = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(error.contains("demo:audio") && error.contains("demo:image"), "{error}");
}
