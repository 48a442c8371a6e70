//! Bad input to `grid` and `generate`, through the program: it ends by itself with the right exit
//! code, says which file, line or key is wrong and what to do, and writes nothing.
//!
//! Messages are kept as snapshots; a table is tried to its end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

// ---------------------------------------------------------------------------------------------
// Running the program

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(path)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs the program; on Linux with 2 GB of address space and 10 s of processor time, so that an
/// input which asks for more shows as a signal.
fn run(args: &[String]) -> Output {
    let program = env!("CARGO_BIN_EXE_lora-eval");
    let mut command = if cfg!(target_os = "linux") {
        let mut shell = Command::new("sh");
        let limits = "ulimit -c 0 -v 2000000 -t 10 2>/dev/null; exec \"$0\" \"$@\"";
        shell.args(["-c", limits, program]);
        shell
    } else {
        Command::new(program)
    };
    command.args(args).env("NO_COLOR", "1").env("RUST_BACKTRACE", "1").output().unwrap()
}

/// A folder of its own for a row.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).unwrap();
        text(&self.path(name))
    }

    /// A copy of a folder of the fixtures, to be damaged.
    fn copy(&self, from: &str, name: &str) -> PathBuf {
        fs::create_dir(self.path(name)).unwrap();
        for entry in fs::read_dir(fixture(from)).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), self.path(name).join(entry.file_name())).unwrap();
        }
        self.path(name)
    }

    /// Every file below it and what it holds.
    fn tree(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut all, mut folders) = (Vec::new(), vec![self.0.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path.clone());
                    all.push((path, Vec::new()));
                } else {
                    all.push((path.clone(), fs::read(path).unwrap()));
                }
            }
        }
        all.sort();
        all
    }
}

const MODEL: &str = "decoders/chat/model";
const ADAPTER: &str = "decoders/chat/adapter";
const PLAIN: &str = "prompts: [{id: a, prompt: Hello}]\ndefaults: {max_new_tokens: 4}\n";

/// A row of a table: arguments that start as a run that works.
struct Row {
    place: Place,
    suite: String,
    base: String,
    out: String,
    more: Vec<String>,
    code: i32,
    words: Vec<String>,
    /// It may fail after the run's folder was made, with no cell in it.
    started: bool,
}

impl Row {
    fn new(words: &[&str]) -> Self {
        let place = Place::new();
        Self {
            suite: place.file("suite.yaml", PLAIN),
            base: text(&fixture(MODEL)),
            out: text(&place.path("run")),
            more: vec!["--lora".to_owned(), format!("style={}", text(&fixture(ADAPTER)))],
            code: 1,
            words: words.iter().map(|&word| word.to_owned()).collect(),
            started: false,
            place,
        }
    }

    /// With this suite.
    fn suite(text: impl AsRef<[u8]>, words: &[&str]) -> Self {
        let row = Self::new(words);
        row.place.file("suite.yaml", text);
        row
    }

    /// With a copy of the model that `damage` has worked on.
    fn model(words: &[&str], damage: impl FnOnce(&Path)) -> Self {
        let mut row = Self::new(words);
        let folder = row.place.copy(MODEL, "model");
        damage(&folder);
        row.base = text(&folder);
        row
    }

    /// With a value in the model's `config.json`.
    fn config(key: &str, value: &Value, words: &[&str]) -> Self {
        Self::model(words, |folder| {
            let path = folder.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config[key] = value.clone();
            fs::write(path, config.to_string()).unwrap();
        })
    }

    /// With a `.gguf` base of these bytes.
    fn gguf(bytes: impl AsRef<[u8]>, words: &[&str]) -> Self {
        let mut row = Self::new(words);
        row.base = row.place.file("model.gguf", bytes);
        row
    }

    fn more(mut self, arguments: &[&str]) -> Self {
        self.more.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    fn usage(mut self) -> Self {
        self.code = 2;
        self
    }

    fn started(mut self) -> Self {
        self.started = true;
        self
    }

    fn works(mut self) -> Self {
        self.code = 0;
        self
    }

    fn arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = ["grid", &self.suite, "--base", &self.base, "--out", &self.out]
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        all.extend(self.more.iter().cloned());
        all
    }

    fn redacted(&self, stderr: &str) -> String {
        let fixtures = text(&fixture(""));
        stderr
            .replace(&text(self.place.0.path()), "[dir]")
            .replace(fixtures.trim_end_matches('/'), "[fixtures]")
    }
}

/// Messages of rows that were tried, and which rules they broke.
#[derive(Default)]
struct Table {
    messages: String,
    broken: Vec<String>,
}

impl Table {
    fn row(&mut self, name: &str, row: &Row) -> Output {
        let before = row.place.tree();
        let out = run(&row.arguments());
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        let mut broken = Vec::new();
        if out.status.code() != Some(row.code) {
            broken.push(format!("ended with {}, expected {}", out.status, row.code));
        }
        if stderr.contains("panicked") {
            broken.push("panicked".to_owned());
        }
        if stderr.len() > 8 << 10 {
            broken.push(format!("{} bytes on standard error", stderr.len()));
        }
        if stderr.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            broken.push("control characters on standard error".to_owned());
        }
        let message = row.redacted(&stderr);
        for word in &row.words {
            if !message.contains(word) {
                broken.push(format!("does not say `{word}`"));
            }
        }
        if row.code != 0 {
            if row.code == 1 && !stderr.contains("hint:") {
                broken.push("no hint".to_owned());
            }
            if !out.stdout.is_empty() {
                broken.push("something on standard output".to_owned());
            }
            let mut after = row.place.tree();
            if row.started {
                let run = row.place.path("run");
                after.retain(|(path, _)| {
                    !path.starts_with(&run)
                        || path.starts_with(run.join("cells/")) && path.is_file()
                });
            }
            if after != before {
                broken.push("something was written".to_owned());
            }
        }
        if !broken.is_empty() {
            let short: String = message.chars().take(700).collect();
            self.broken.push(format!("{name}: {}\n{short}", broken.join("; ")));
        }
        writeln!(self.messages, "{name}\n{message}").unwrap();
        out
    }

    fn rows(&mut self, rows: Vec<(&str, Row)>) {
        for (name, row) in rows {
            self.row(name, &row);
        }
    }

    fn holds(&mut self, name: &str, holds: bool) {
        if !holds {
            self.broken.push(format!("{name} does not hold"));
        }
    }

    /// Reports broken rules, and gives all messages.
    fn end(self) -> String {
        assert!(self.broken.is_empty(), "{}", self.broken.join("\n"));
        self.messages
    }
}

// ---------------------------------------------------------------------------------------------
// Safetensors and GGUF files

struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn read_tensors(path: &Path) -> Vec<Tensor> {
    let bytes = fs::read(path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let entries = header.into_iter().filter(|(name, _)| name != "__metadata__");
    entries
        .map(|(name, entry)| {
            let numbers =
                |key: &str| -> Vec<usize> { serde_json::from_value(entry[key].clone()).unwrap() };
            let at = numbers("data_offsets");
            Tensor {
                dtype: entry["dtype"].as_str().unwrap().to_owned(),
                shape: numbers("shape"),
                bytes: bytes[8 + length + at[0]..8 + length + at[1]].to_vec(),
                name,
            }
        })
        .collect()
}

fn write_tensors(path: &Path, tensors: &[Tensor]) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in tensors {
        let offsets = [data.len(), data.len() + tensor.bytes.len()];
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets});
        header.insert(tensor.name.clone(), entry);
        data.extend_from_slice(&tensor.bytes);
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

fn change_tensors(path: &Path, change: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors = read_tensors(path);
    change(&mut tensors);
    write_tensors(path, &tensors);
}

fn named<'a>(tensors: &'a mut [Tensor], end: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|tensor| tensor.name.ends_with(end)).unwrap()
}

fn good_gguf() -> Vec<u8> {
    fs::read(fixture("decoders/gguf-llama-q8_0/gguf-llama-q8_0.gguf")).unwrap()
}

fn gguf_head(tensors: u64, pairs: u64) -> Vec<u8> {
    [b"GGUF".as_slice(), &3u32.to_le_bytes(), &tensors.to_le_bytes(), &pairs.to_le_bytes()].concat()
}

/// A pair whose value is a list of `length` bytes, of which none are there.
fn gguf_list(length: u64) -> Vec<u8> {
    let mut bytes = gguf_head(0, 1);
    bytes.extend([1u64.to_le_bytes().as_slice(), b"a"].concat());
    bytes.extend([9u32, 0].iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(length.to_le_bytes());
    bytes
}

// ---------------------------------------------------------------------------------------------
// Tables

#[test]
fn suites_are_refused_at_their_line() {
    let prompt = |settings: &str| format!("prompts:\n  - id: a\n    prompt: Hello\n{settings}");
    let long = "word ".repeat(400);
    let rows = vec![
        ("empty file", Row::suite("", &["suite.yaml:1:1", "no prompts"])),
        ("no prompts", Row::suite("name: x\nprompts: []\n", &["suite.yaml:2", "no prompts"])),
        ("not text", Row::suite([0xff, 0xfe, 0, 1, 2], &["suite.yaml", "UTF-8"])),
        ("NUL", Row::suite("prompts: \0", &["suite.yaml:1"])),
        ("not YAML", Row::suite("prompts: [", &["suite.yaml:1"])),
        ("an unknown key", Row::suite("promts: []\n", &["suite.yaml:1:1", "`prompts`"])),
        (
            "an unknown setting",
            Row::suite(prompt("defaults:\n  max_tokens: 3\n"), &["suite.yaml:5", "max_new_tokens"]),
        ),
        (
            "an id twice",
            Row::suite(prompt("  - {id: a, prompt: b}\n"), &["suite.yaml:4", "line 2"]),
        ),
        (
            "an unknown adapter in a tag",
            Row::suite(
                "prompts:\n  - id: a\n    prompt: one <lora:stile:0.5>\n",
                &["suite.yaml", "line 2", "`a`", "`style`"],
            ),
        ),
        (
            "a broken tag",
            Row::suite(
                "prompts:\n  - id: a\n    prompt: one <lora:style:much>\n",
                &["suite.yaml", "line 2", "much"],
            ),
        ),
        (
            "an unknown adapter on the axis",
            Row::suite(prompt("axes: {adapter: [stile]}\n"), &["suite.yaml", "adapter", "`style`"]),
        ),
        (
            "a setting of images",
            Row::suite(prompt("defaults: {steps: 20}\n"), &["suite.yaml", "`steps`", "for images"]),
        ),
        (
            "a setting of images of one prompt",
            Row::suite(prompt("    settings: {width: 512}\n"), &["line 2", "`width`"]),
        ),
        (
            "an axis of images",
            Row::suite(prompt("axes: {sampler: [euler, ddim]}\n"), &["suite.yaml", "`sampler`"]),
        ),
        (
            "a prompt longer than the context",
            Row::suite(
                format!("prompts:\n  - {{id: a, prompt: short}}\n  - {{id: b, prompt: {long}}}\n"),
                &["line 3", "`b`", "context of 256", "long_prompts: truncate"],
            ),
        ),
        (
            "no room for a prompt",
            Row::suite(
                prompt("defaults: {max_new_tokens: 256}\n"),
                &["line 2", "`max_new_tokens` is 256", "256 tokens"],
            ),
        ),
        (
            "no room by an axis",
            Row::suite(prompt("axes: {max_new_tokens: [4, 1000000]}\n"), &["1000000", "256"]),
        ),
        (
            "nothing but a tag",
            Row::suite(
                "defaults: {max_new_tokens: 4}\nprompts:\n  - {id: a, prompt: Hello}\n  - {id: b, prompt: '<lora:style:1>'}\n",
                &["suite.yaml", "line 4", "`b`", "no tokens"],
            ),
        ),
        (
            "more cells than a run may have",
            Row::suite(
                prompt("seeds: [1, 2, 3, 4]\nstrengths: 0:99.9:0.1\naxes: {top_k: [1, 2, 3, 4], steps: SIXTYFOUR}\n")
                    .replace("SIXTYFOUR", &format!("{:?}", (1..=64).collect::<Vec<_>>())),
                &["suite.yaml", "1000000 cells"],
            ),
        ),
    ];
    let mut table = Table::default();
    table.rows(rows);
    for (name, file, words) in
        [("a missing suite", "absent.yaml", "absent.yaml"), ("a folder", "", "directory")]
    {
        let mut row = Row::new(&[words]);
        row.suite = text(&row.place.path(file));
        table.row(name, &row);
    }
    insta::assert_snapshot!(table.end());
}

#[test]
fn the_command_line_is_refused() {
    let lora = |text: &str| format!("style={}{text}", fixture(ADAPTER).display());
    let sd1 = text(&fixture("adapters/sd1-kohya.safetensors"));
    let qwen = text(&fixture("adapters/qwen2-peft-lm-head"));
    let rows = vec![
        ("a name twice", Row::new(&["`style`"]).more(&["--lora", &lora(":1")])),
        ("an adapter that is absent", Row::new(&["absent"]).more(&["--lora", "absent"])),
        ("an adapter of a diffusion model", Row::new(&["sd1-kohya"]).more(&["--lora", &sd1])),
        ("an adapter of another model", Row::new(&["qwen2-peft-lm-head"]).more(&["--lora", &qwen])),
        ("a folder that is absent", Row::new(&["absent"]).more(&["--lora-dir", "absent"])),
        (
            "a file as the folder",
            Row::suite(
                "prompts: [{id: a, prompt: '<lora:x:1> b'}]\n",
                &["adapter_config.json", "hint:"],
            )
            .more(&["--lora-dir", &text(&fixture(ADAPTER).join("adapter_config.json"))]),
        ),
        (
            "a tag that the folder has not",
            Row::suite(
                "prompts: [{id: a, prompt: '<lora:adaptor:1> b'}]\n",
                &["`adaptor`", "did you mean `adapter`?"],
            )
            .more(&["--lora-dir", &text(&fixture("decoders/chat"))]),
        ),
        ("shard 4 of 3", Row::new(&["4/3"]).more(&["--shard", "4/3"]).usage()),
        ("shard 0 of 3", Row::new(&["0/3"]).more(&["--shard", "0/3"]).usage()),
        ("no shard", Row::new(&["`x`"]).more(&["--shard", "x"]).usage()),
        ("no array", Row::new(&["no job array"]).more(&["--shard", "auto"]).usage()),
        ("a batch of one row", Row::new(&["--max-batch"]).more(&["--max-batch", "1"]).usage()),
        ("no strength", Row::new(&["much"]).more(&["--strengths", "0,much"]).usage()),
        ("endless strengths", Row::new(&[]).more(&["--strengths", "0:1:1e-300"]).usage()),
        ("no seed", Row::new(&["-1"]).more(&["--seeds=-1"]).usage()),
        ("CUDA", Row::new(&["cuda:7"]).more(&["--device", "cuda:7"])),
    ];
    let mut table = Table::default();
    table.rows(rows);
    insta::assert_snapshot!(table.end());
}

#[test]
fn bases_are_refused() {
    let missing =
        |name: &'static str| move |folder: &Path| fs::remove_file(folder.join(name)).unwrap();
    let replaced = |name: &'static str, bytes: &'static [u8]| {
        move |folder: &Path| fs::write(folder.join(name), bytes).unwrap()
    };
    let mut rows = vec![
        ("no config.json", Row::model(&["config.json"], missing("config.json"))),
        ("no weights", Row::model(&["model.safetensors"], missing("model.safetensors"))),
        ("no tokenizer", Row::model(&["tokenizer.json"], missing("tokenizer.json"))),
        (
            "half a config.json",
            Row::model(
                &["config.json", "JSON"],
                replaced("config.json", b"{\"model_type\": \"lla"),
            ),
        ),
        ("a list", Row::model(&["config.json"], replaced("config.json", b"[1, 2]"))),
        (
            "half a tokenizer.json",
            Row::model(&["tokenizer.json"], replaced("tokenizer.json", b"{\"model\": {")),
        ),
        (
            "a tokenizer of nothing",
            Row::model(&["tokenizer.json"], replaced("tokenizer.json", b"{}")),
        ),
        (
            "cut weights",
            Row::model(&["model.safetensors"], |folder| {
                let bytes = fs::read(folder.join("model.safetensors")).unwrap();
                fs::write(folder.join("model.safetensors"), &bytes[..bytes.len() - 4]).unwrap();
            }),
        ),
    ];
    for (name, file) in [
        ("Stable Diffusion", "bases/sd1.safetensors"),
        ("a pipeline", "bases/sd1"),
        ("GPT-2", "bases/gpt2"),
        ("absent", "absent"),
        ("an adapter", ADAPTER),
    ] {
        let mut row = Row::new(&[]);
        row.more.clear();
        row.base = text(&fixture(file));
        rows.push((name, row));
    }
    let mut table = Table::default();
    table.rows(rows);
    let messages = table.end();
    for word in ["gpt2` is not known; known are llama", "a multiple of 32 groups", "no such folder"]
    {
        assert!(messages.contains(word), "{word}: {messages}");
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    const KNOWN_TYPES: &str = "known are llama, mistral, qwen2, qwen3";
    let rows: Vec<(&str, Value, &[&str])> = vec![
        ("model_type", json!("qwen9"), &["`qwen9`", KNOWN_TYPES, "config.json"]),
        ("model_type", json!(3), &["model_type", KNOWN_TYPES]),
        ("hidden_size", json!(1_000_000_000_000u64), &["hidden_size", "16777216"]),
        ("hidden_size", json!(1 << 24), &["16777216"]),
        ("hidden_size", json!(33), &["33"]),
        ("hidden_size", json!(0), &["hidden_size"]),
        ("hidden_size", json!(-32), &["hidden_size", "`-32`"]),
        ("hidden_size", json!("32"), &["hidden_size"]),
        ("hidden_size", json!(32.5), &["hidden_size"]),
        ("num_hidden_layers", json!(1_000_000_000), &["num_hidden_layers", "16777216"]),
        ("num_hidden_layers", json!(1 << 24), &["`num_hidden_layers`", "up to 4096"]),
        ("num_hidden_layers", json!(3), &["layers.2"]),
        ("num_hidden_layers", json!(0), &["num_hidden_layers"]),
        ("num_attention_heads", json!(3), &["heads"]),
        ("num_attention_heads", json!(1 << 24), &["heads"]),
        ("num_attention_heads", json!(0), &["num_attention_heads"]),
        ("num_key_value_heads", json!(3), &["heads"]),
        ("num_key_value_heads", json!(1 << 24), &["heads"]),
        ("head_dim", json!(1 << 24), &["q_proj"]),
        ("head_dim", json!(7), &["q_proj", "[28, 32]"]),
        ("vocab_size", json!(1u64 << 40), &["vocab_size", "16777216"]),
        ("vocab_size", json!(1 << 24), &["16777216"]),
        ("intermediate_size", json!(1 << 24), &["16777216"]),
        ("max_position_embeddings", json!(1), &["context"]),
        ("max_position_embeddings", json!(1u64 << 40), &["max_position_embeddings", "16777216"]),
        ("rms_norm_eps", json!("small"), &["rms_norm_eps"]),
        ("rms_norm_eps", json!(-1), &["rms_norm_eps"]),
        ("rope_theta", json!(0), &["rope_theta"]),
        ("rope_theta", json!("x"), &["rope_theta"]),
        ("rope_scaling", json!("x"), &["rope_scaling"]),
        ("rope_scaling", json!({"type": "odd", "factor": 2}), &["odd"]),
        ("rope_scaling", json!({"rope_type": "linear", "factor": -2}), &["`factor` is `-2`"]),
        ("hidden_act", json!("swash"), &["hidden_act", "swash"]),
        ("tie_word_embeddings", json!("yes"), &["tie_word_embeddings"]),
        ("sliding_window", json!("x"), &["sliding_window"]),
    ];
    let mut table = Table::default();
    for (key, value, words) in rows {
        let mut row = Row::config(key, &value, words);
        row.words.push("[dir]/".to_owned());
        table.row(&format!("{key} = {value}"), &row);
    }
    insta::assert_snapshot!(table.end());
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let weights = |words: &[&str], change: fn(&mut Vec<Tensor>)| {
        Row::model(words, |folder| change_tensors(&folder.join("model.safetensors"), change))
    };
    let gate = "layers.1.mlp.gate_proj.weight";
    let rows = vec![
        (
            "a missing tensor",
            weights(&["model.layers.1.mlp.gate_proj.weight"], |all| {
                all.retain(|tensor| !tensor.name.ends_with("layers.1.mlp.gate_proj.weight"));
            }),
        ),
        (
            "a missing norm",
            weights(&["model.norm.weight"], |all| {
                all.retain(|tensor| tensor.name != "model.norm.weight");
            }),
        ),
        (
            "a missing head",
            weights(&["lm_head.weight"], |all| {
                all.retain(|tensor| tensor.name != "lm_head.weight");
            }),
        ),
        (
            "a tensor on its side",
            weights(&[gate, "[32, 48]", "[48, 32]"], |all| {
                named(all, "layers.1.mlp.gate_proj.weight").shape.reverse();
            }),
        ),
        (
            "a norm of two dimensions",
            weights(&["model.norm.weight", "[4, 8]"], |all| {
                named(all, "model.norm.weight").shape = vec![4, 8];
            }),
        ),
        (
            "a short norm",
            weights(&["model.norm.weight", "[16]"], |all| {
                let norm = named(all, "model.norm.weight");
                norm.shape = vec![16];
                norm.bytes.truncate(64);
            }),
        ),
        (
            "whole numbers",
            weights(&[gate, "I32", "[dir]/"], |all| {
                named(all, "layers.1.mlp.gate_proj.weight").dtype = "I32".to_owned();
            }),
        ),
        (
            "NaN",
            weights(&["NaN"], |all| {
                named(all, "layers.1.mlp.gate_proj.weight").bytes[..4]
                    .copy_from_slice(&f32::NAN.to_le_bytes());
            })
            .started(),
        ),
    ];
    let mut table = Table::default();
    table.rows(rows);
    insta::assert_snapshot!(table.end());
}

#[test]
fn gguf_files_that_are_damaged_are_refused() {
    let good = good_gguf();
    let mut rows = vec![
        ("four letters".to_owned(), Row::gguf("GGUF", &["model.gguf"])),
        (
            "garbage".to_owned(),
            Row::gguf([b"GGUF".as_slice(), &[0xa5; 4096]].concat(), &["model.gguf"]),
        ),
        (
            "version 9".to_owned(),
            Row::gguf([b"GGUF".as_slice(), &9u32.to_le_bytes(), &[0; 16]].concat(), &["9"]),
        ),
        ("nothing in it".to_owned(), Row::gguf(gguf_head(0, 0), &["model.gguf"])),
        ("2^63 tensors".to_owned(), Row::gguf(gguf_head(1 << 63, 0), &["model.gguf"])),
        ("2^63 pairs".to_owned(), Row::gguf(gguf_head(0, 1 << 63), &["model.gguf"])),
        ("a million pairs".to_owned(), Row::gguf(gguf_head(0, 1_000_000), &["model.gguf"])),
        ("a list of 2^62".to_owned(), Row::gguf(gguf_list(1 << 62), &["model.gguf"])),
        ("a list of 2^30".to_owned(), Row::gguf(gguf_list(1 << 30), &["model.gguf"])),
        ("not GGUF".to_owned(), Row::gguf([0xa5; 64], &["model.gguf"])),
    ];
    for parts in [1, 2, 4, 8, 15] {
        let name = format!("{parts} of 16 parts");
        rows.push((name, Row::gguf(&good[..good.len() * parts / 16], &["model.gguf"])));
    }
    rows.push(("a byte short".to_owned(), Row::gguf(&good[..good.len() - 1], &["model.gguf"])));
    // A key that says something else, in a whole file: the message is about the file.
    for (key, value) in [
        ("llama.attention.head_count", 3u32),
        ("llama.embedding_length", 0),
        ("llama.block_count", u32::MAX),
        ("llama.context_length", 0),
    ] {
        let mut bytes = good.clone();
        let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap() + key.len();
        assert_eq!(bytes[at..at + 4], 4u32.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&value.to_le_bytes());
        rows.push((format!("{key} = {value}"), Row::gguf(bytes, &["model.gguf"])));
    }
    let mut table = Table::default();
    for (name, row) in &rows {
        table.row(name, row);
    }
    insta::assert_snapshot!(table.end());
}

#[test]
fn run_folders_that_belong_to_others_are_left_alone() {
    let mut table = Table::default();
    let mut row = Row::new(&["run"]);
    row.out = row.place.file("run", "a file");
    table.row("a file", &row);

    let row = Row::new(&["report.html", "--out"]);
    fs::create_dir(row.place.path("run")).unwrap();
    row.place.file("run/report.html", "mine");
    table.row("a folder with a report", &row);

    let row = Row::new(&["run"]);
    fs::create_dir(row.place.path("run")).unwrap();
    row.place.file("run/thesis.tex", "mine");
    row.place.file("run/cells", "mine");
    table.row("a folder with a file `cells`", &row);

    let row = Row::new(&["run.json"]);
    fs::create_dir(row.place.path("run")).unwrap();
    row.place.file("run/run.json", "{}");
    table.row("a run.json of nothing", &row);

    // The base and the adapter as the run's folder: their files are not ours.
    let mut row = Row::model(&["model"], |_| {});
    row.out.clone_from(&row.base);
    table.row("the base", &row);

    let row = Row::new(&["run", "thesis.tex"]);
    fs::create_dir(row.place.path("run")).unwrap();
    row.place.file("run/thesis.tex", "mine");
    table.row("a folder with other files", &row);
    insta::assert_snapshot!(table.end());
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_to_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut row = Row::new(&["[dir]/closed/run", "cannot be written", "hint: give an `--out`"]);
    let closed = row.place.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::create_dir(closed.join("try")).is_ok() {
        return; // root may write anywhere
    }
    row.out = text(&closed.join("run"));
    let mut table = Table::default();
    table.row("read-only", &row);
    table.end();
}

// ---------------------------------------------------------------------------------------------
// What goes on, and says so

fn cells(folder: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    for folder in fs::read_dir(folder.join("cells")).unwrap().map(Result::unwrap) {
        for cell in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            all.push(serde_json::from_slice(&fs::read(cell.path()).unwrap()).unwrap());
        }
    }
    all
}

fn scores(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("scores.json")).unwrap()).unwrap()
}

#[test]
fn what_is_cut_off_is_said_and_recorded() {
    let long = "word ".repeat(400);
    let suite = format!(
        "defaults: {{max_new_tokens: 4, long_prompts: truncate}}\nprompts:\n  - {{id: a, prompt: short}}\n  - {{id: b, prompt: {long}}}\n"
    );
    let mut table = Table::default();
    let row = Row::suite(suite, &["prompt `b`", "cut off"]).works();
    table.row("cut", &row);
    for cell in cells(&row.place.path("run")) {
        let cut = cell["truncated"].as_u64().unwrap_or(0);
        // 256 of context, less 4 new ones.
        let tokens = cell["prompt_tokens"].as_u64().unwrap();
        table.holds("cut", (cell["prompt_id"] == "b") == (cut > 0 && tokens == 252));
    }
    insta::assert_snapshot!(table.end());
}

#[test]
fn without_references_there_is_no_bleu_and_a_note_says_so() {
    let row = Row::new(&[]).works();
    let mut table = Table::default();
    table.row("no references", &row);
    table.end();
    let scores = scores(&row.place.path("run"));
    let names: Vec<&str> = scores["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["metric"].as_str().unwrap())
        .collect();
    assert!(!names.contains(&"bleu") && names.contains(&"base-bleu"), "{names:?}");
    assert!(scores["notes"][0].as_str().unwrap().contains("no prompt has references"), "{scores}");
}

#[test]
fn odd_references_are_scored_or_refused() {
    let mut table = Table::default();
    for (name, reference) in [
        ("longer than new tokens", "word ".repeat(50)),
        ("longer than the context", "word ".repeat(400)),
        ("of spaces", "   ".to_owned()),
        ("of nothing", String::new()),
    ] {
        let suite = format!(
            "defaults: {{max_new_tokens: 4}}\nprompts:\n  - {{id: a, prompt: Hello, references: [\"{reference}\"]}}\n"
        );
        let row = Row::suite(suite, &[]).works();
        table.row(name, &row);
    }
    table.end();
}

#[test]
fn an_adapter_with_nan_is_an_error_that_names_it() {
    let mut row = Row::new(&["`a`", "style", "strength 1", "hint:"]).started();
    let adapter = row.place.copy(ADAPTER, "nan");
    change_tensors(&adapter.join("adapter_model.safetensors"), |all| {
        for tensor in all.iter_mut().filter(|tensor| tensor.name.contains("lora_B")) {
            tensor.bytes = f32::NAN.to_le_bytes().repeat(tensor.bytes.len() / 4);
        }
    });
    row.more = vec!["--lora".to_owned(), format!("style={}", text(&adapter))];
    let mut table = Table::default();
    table.row("NaN", &row);
    insta::assert_snapshot!(table.end());
}

#[test]
fn a_chat_needs_a_template() {
    let without = |suite: &str| {
        let row = Row::model(&["chat template", "hint:"], |folder| {
            let path = folder.join("tokenizer_config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config.as_object_mut().unwrap().remove("chat_template");
            fs::write(path, config.to_string()).unwrap();
        });
        row.place.file("suite.yaml", suite);
        row
    };
    let mut table = Table::default();
    table.row(
        "chat",
        &without("defaults: {chat: true, max_new_tokens: 4}\nprompts: [{id: a, prompt: Hello}]\n"),
    );
    table.row(
        "messages",
        &without("prompts:\n  - id: a\n    messages: [{role: user, content: Hello}]\n"),
    );
    table.row(
        "system",
        &without("defaults: {system: Be brief.}\nprompts: [{id: a, prompt: Hello}]\n"),
    );
    insta::assert_snapshot!(table.end());
}

#[test]
fn a_token_beyond_the_embedding_is_refused_before_anything_is_made() {
    // `Hello` has tokens above 10; the embedding and the head keep the first ten rows.
    let mut row = Row::model(&["`a`", "token 39", "10", "hint:"], |folder| {
        change_tensors(&folder.join("model.safetensors"), |all| {
            for name in ["embed_tokens.weight", "lm_head.weight"] {
                let tensor = named(all, name);
                tensor.bytes.truncate(10 * 32 * 4);
                tensor.shape[0] = 10;
            }
        });
        let path = folder.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["vocab_size"] = json!(10);
        fs::write(path, config.to_string()).unwrap();
    });
    row.more.clear();
    let mut table = Table::default();
    table.row("a small embedding", &row);
    insta::assert_snapshot!(table.end());
}
