//! Wrong input ends with what is wrong and what to do, and writes nothing. Messages are snapshots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::program::{Place, change_json, copy, diffusion, files, fixture, good, run, text, with};
use super::tensors::{self, named};
use super::training::{Config, resume, train};

/// A training that works, until something is changed.
struct Row {
    place: Place,
    config: Config,
    more: Vec<String>,
    /// Its folder may have been begun before it fails: no checkpoint, no adapter.
    begun: bool,
}

impl Row {
    fn new(config: Config) -> Self {
        Self { place: Place::new(), config, more: Vec::new(), begun: false }
    }

    fn text(key: &str, value: impl Into<Value>) -> Self {
        Self::new(Config::text().set(key, value))
    }

    fn image(key: &str, value: impl Into<Value>) -> Self {
        Self::new(Config::image("sd1").set("run.steps", 1).set(key, value))
    }

    /// Texts with these lines.
    fn rows(lines: &str) -> Self {
        let row = Self::new(Config::text());
        let data = row.place.file("data.jsonl", lines);
        Self { config: row.config.clone().set("data.train", data), ..row }
    }

    /// A copy of the pictures that `change` has worked on.
    fn pictures(change: impl FnOnce(&Path)) -> Self {
        let row = Self::new(Config::image("sd1").set("run.steps", 1));
        let folder = row.place.path("pictures");
        copy(&fixture("train/pictures"), &folder);
        change(&folder);
        Self { config: row.config.clone().set("data.train", text(&folder)), ..row }
    }

    /// A copy of a language model that `damage` has worked on.
    fn model(damage: impl FnOnce(&Path)) -> Self {
        let row = Self::new(Config::text());
        let folder = row.place.path("model");
        copy(&fixture("decoders/chat/model"), &folder);
        damage(&folder);
        Self { config: row.config.clone().set("base.model", text(&folder)), ..row }
    }

    /// A copy of a pipeline that `damage` has worked on.
    fn pipeline(damage: impl FnOnce(&Path)) -> Self {
        let row = Self::new(Config::image("sd1").set("run.steps", 1));
        let folder = row.place.pipeline("sd1", "pipeline");
        damage(&folder);
        Self { config: row.config.clone().set("base.model", text(&folder)), ..row }
    }

    fn set(self, key: &str, value: impl Into<Value>) -> Self {
        Self { config: self.config.set(key, value), ..self }
    }

    fn more(mut self, words: &[&str]) -> Self {
        self.more.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// A file beside the configuration, and the key that names it.
    fn file(self, key: &str, name: &str, contents: &str) -> Self {
        let path = self.place.file(name, contents);
        self.set(key, path)
    }

    fn begun(mut self) -> Self {
        self.begun = true;
        self
    }

    fn arguments(&self) -> Vec<String> {
        let config = self.config.write(&self.place, "config.yaml");
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        with(&train(&config, &self.place.path("run")), &more)
    }
}

/// Tries every row; the messages, or which rules they broke.
fn tried(rows: Vec<(&str, Row)>) -> String {
    let (mut messages, mut broken) = (String::new(), String::new());
    for (name, row) in rows {
        let arguments = row.arguments();
        let before = row.place.tree();
        let out = run(&arguments);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let mut rule = |holds: bool, rule: &str| {
            if !holds {
                writeln!(broken, "{name}: {rule}: {}\n{said}", out.status).unwrap();
            }
        };
        rule(matches!(out.status.code(), Some(1 | 2)), "must end with 1 or 2");
        rule(!said.contains("panicked"), "panicked");
        rule(out.status.code() == Some(2) || said.contains("hint:"), "no hint");
        rule(out.stdout.is_empty(), "something on standard output");
        let plain = |c: char| !c.is_control() || "\n\t".contains(c);
        rule(said.chars().all(plain) && said.len() < 8 << 10, "control characters, or too long");
        let mut after = row.place.tree();
        after.retain(|path, _| !path.starts_with("cache/"));
        if row.begun {
            after.retain(|path, _| !["run/train.jsonl", "run/config.yaml"].contains(&&**path));
        }
        rule(after == before, "something was written");
        let fixtures = text(&fixture(""));
        let said = said
            .replace(&row.place.text(""), "[dir]/")
            .replace(fixtures.trim_end_matches('/'), "[fixtures]");
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("note: ")).collect();
        writeln!(messages, "{name}\n{}\n", lines.join("\n")).unwrap();
    }
    assert!(broken.is_empty(), "{broken}");
    messages
}

#[test]
fn configurations() {
    insta::assert_snapshot!(tried(vec![
        ("an unknown key", Row::text("optimizer.lerning_rate", 1e-4)),
        ("an unknown section", Row::text("optimiser", json!({"kind": "sgd"}))),
        ("an unknown optimizer", Row::text("optimizer.kind", "adam2")),
        ("a rate below zero", Row::text("optimizer.learning_rate", -1e-4)),
        ("a rate that is no number", Row::text("optimizer.learning_rate", "fast")),
        ("no rank", Row::text("adapter.rank", 0)),
        ("a rank below zero", Row::text("adapter.rank", -4)),
        ("a rank too large for memory", Row::text("adapter.rank", 1e18)),
        ("an alpha of zero", Row::text("adapter.alpha", 0)),
        ("dropout of everything", Row::text("adapter.dropout", 1)),
        ("no steps", Row::text("run.steps", 0)),
        ("a seed below zero", Row::text("run.seed", -1)),
        ("a limit of a few bytes", Row::text("run.memory_limit", "1 MB")),
        ("a resolution that is no multiple of 8", Row::image("data.image.resolution", 65)),
        ("a bucket that the autoencoder has no latent of", Row::image("data.image.bucket_step", 4)),
        ("no text encoder rate", Row::image("optimizer.text_encoder_lr", 0)),
        (
            "nothing trained",
            Row::image("adapter.denoiser", false).set("adapter.text_encoder", false),
        ),
        ("patience without validation", {
            Row::text("validation.every", "never").set("validation.patience", 2)
        }),
        ("a name that is a path", Row::text("output.name", "../x")),
        ("an override of no key", Row::text("run.steps", 2).more(&["--set", "run.stepz=3"])),
        ("an override of no value", Row::text("run.steps", 2).more(&["--set", "run.steps"])),
    ]));
}

#[test]
fn bases_and_targets() {
    let vae = diffusion("sd1/vae/diffusion_pytorch_model.safetensors");
    let gguf = text(&fixture("decoders/gguf-llama-q4_0/gguf-llama-q4_0.gguf"));
    insta::assert_snapshot!(tried(vec![
        ("no base there", Row::text("base.model", "nowhere/model")),
        ("an autoencoder alone", Row::image("base.model", vae)),
        ("an empty folder as a base", {
            let row = Row::new(Config::text());
            fs::create_dir(row.place.path("empty")).unwrap();
            let empty = row.place.text("empty");
            row.set("base.model", empty)
        }),
        ("half a file of weights", {
            Row::model(|folder| {
                let bytes = fs::read(folder.join("model.safetensors")).unwrap();
                fs::write(folder.join("model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
            })
        }),
        ("no tokenizer", {
            Row::model(|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap())
        }),
        ("a model type that is not known", {
            Row::model(|folder| {
                change_json(&folder.join("config.json"), |config| {
                    config["model_type"] = json!("mamba");
                    config["architectures"] = json!(["MambaForCausalLM"]);
                });
            })
        }),
        ("a misspelt target", Row::text("adapter.targets", json!(["q_proj", "v_porj"]))),
        ("a target of another family", Row::text("adapter.targets", json!(["to_q"]))),
        ("a pattern of nothing", Row::text("adapter.targets", ".*\\.nothing_.*")),
        ("a pattern that is none", Row::text("adapter.targets", "layers.(0|1")),
        ("a pattern of ranks that is none", { Row::text("adapter.rank_pattern", json!({"(": 4})) }),
        ("DoRA of quantised weights", { Row::text("base.model", gguf).set("adapter.dora", true) }),
        ("an autoencoder that is none", {
            Row::image("base.vae", text(&fixture("train/text.jsonl")))
        }),
        (
            "pictures where a language model is",
            Row::text("data.train", text(&fixture("train/pictures")))
        ),
        ("texts where a denoiser is", Row::image("data.train", text(&fixture("train/text.jsonl")))),
        ("a task that the base is not for", Row::text("task", "image")),
    ]));
}

#[test]
fn texts() {
    insta::assert_snapshot!(tried(vec![
        ("no data there", Row::text("data.train", "nowhere.jsonl")),
        ("an empty file", Row::rows("")),
        ("a line that is no JSON", Row::rows("{\"text\": \"a\"}\n{\"text\": \n")),
        ("a key that is not known", Row::rows("{\"txet\": \"a river\"}\n")),
        (
            "rows of two kinds",
            Row::rows("{\"text\": \"a\"}\n{\"prompt\": \"b\", \"completion\": \"c\"}\n")
        ),
        (
            "nothing to learn",
            Row::rows("{\"prompt\": \"a\", \"completion\": \"\"}\n")
                .set("data.text.append_eos", false)
        ),
        (
            "answers cut off",
            Row::text("data.text.max_length", 8).set("data.text.append_eos", false)
        ),
        ("held-out data that is not there", Row::text("data.held_out", "nowhere.jsonl")),
        ("prompts that are not there", Row::text("samples.prompts", "nowhere.txt")),
        (
            "prompts without one",
            Row::text("run.steps", 2).file("samples.prompts", "p.txt", "# none\n")
        ),
    ]));
}

#[test]
fn pictures() {
    let remove = |ending: &'static str| {
        move |folder: &Path| {
            for name in files(folder).into_keys().filter(|name| name.ends_with(ending)) {
                fs::remove_file(folder.join(name)).unwrap();
            }
        }
    };
    insta::assert_snapshot!(tried(vec![
        ("no folder", Row::image("data.train", "nowhere")),
        ("captions alone", Row::pictures(remove(".png"))),
        ("half a picture", {
            Row::pictures(|folder| {
                let bytes = fs::read(folder.join("3.png")).unwrap();
                fs::write(folder.join("3.png"), &bytes[..bytes.len() / 2]).unwrap();
            })
        }),
        ("no picture at all", {
            Row::pictures(|folder| fs::write(folder.join("3.png"), "not a picture").unwrap())
        }),
        ("a caption that is not UTF-8", {
            Row::pictures(|folder| fs::write(folder.join("3.txt"), b"\xff\xfe\x00a").unwrap())
        }),
        ("a table of pictures that are not there", {
            Row::pictures(|folder| {
                fs::write(folder.join("metadata.csv"), "file_name,text\nnowhere.png,a cat\n")
                    .unwrap();
            })
        }),
        ("an autoencoder that makes no numbers", {
            Row::pipeline(|folder| {
                let file = folder.join("vae/diffusion_pytorch_model.safetensors");
                tensors::change(&file, |all| {
                    let bias = named(all, "encoder.conv_in.bias");
                    for value in bias.bytes.chunks_mut(4) {
                        value.copy_from_slice(&f32::NAN.to_le_bytes());
                    }
                });
            })
        }),
        ("a prompt of no size", {
            Row::image("samples.every", "1 step").file(
                "samples.prompts",
                "p.txt",
                "a fox --w wide\n",
            )
        }),
        ("a cache that is a file", {
            let row = Row::image("run.steps", 1);
            row.place.file("cache", "");
            row
        }),
    ]));
}

#[test]
fn folders() {
    insta::assert_snapshot!(tried(vec![
        ("a file in place of the folder", {
            let row = Row::new(Config::text());
            row.place.file("run", "mine");
            row
        }),
        ("nothing to go on from", Row::new(Config::text()).more(&["--resume"])),
        ("a folder in place of the log", {
            let row = Row::new(Config::text());
            fs::create_dir_all(row.place.path("run/train.jsonl/x")).unwrap();
            row.begun()
        }),
    ]));
}

/// What is wrong with a checkpoint whose files `damage` has worked on.
fn damaged(damage: impl FnOnce(&Path)) -> String {
    let place = Place::new();
    let config = Config::text().set("run.steps", 2).set("output.save_every", "2 steps");
    let out = config.train(&place, "run");
    damage(&out.join("checkpoints/step-00000002"));
    let before = files(&out);
    let file = config.set("run.steps", 4).write(&place, "run.yaml");
    let failed = run(&resume(&file, &out));
    let said = String::from_utf8_lossy(&failed.stderr).replace(&place.text(""), "[dir]/");
    // where half of a file ends depends on the lengths of paths in it
    let place_of_end = regex::Regex::new(r"line \d+ column \d+").unwrap();
    let said = place_of_end.replace_all(&said, "line [l] column [c]").into_owned();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("hint:") && !said.contains("panicked"), "{said}");
    assert!(files(&out) == before, "{said}");
    said.lines()
        .filter(|line| !line.starts_with("note: "))
        .fold(String::new(), |all, line| all + line + "\n")
}

fn halve(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn checkpoints_that_are_damaged() {
    let state = |change: fn(&mut Value)| {
        move |folder: &Path| change_json(&folder.join("state.json"), change)
    };
    let variables = |change: fn(&mut Vec<tensors::Tensor>)| {
        move |folder: &Path| tensors::change(&folder.join("state.safetensors"), change)
    };
    let messages = [
        ("half of the state", damaged(|folder| halve(&folder.join("state.json")))),
        ("half of the variables", damaged(|folder| halve(&folder.join("state.safetensors")))),
        ("no state", damaged(|folder| fs::remove_file(folder.join("state.json")).unwrap())),
        (
            "no variables",
            damaged(|folder| fs::remove_file(folder.join("state.safetensors")).unwrap()),
        ),
        ("of a format to come", damaged(state(|state| state["format"] = json!(99)))),
        ("of a step below zero", damaged(state(|state| state["state"]["step"] = json!(-1)))),
        (
            "without a variable",
            damaged(variables(|all| all.retain(|t| !t.name.ends_with("q_proj.lora_A")))),
        ),
        (
            "without the optimizer",
            damaged(variables(|all| all.retain(|t| !t.name.starts_with("optimizer/")))),
        ),
        (
            "a moment of another shape",
            damaged(variables(|all| {
                for tensor in all.iter_mut().filter(|tensor| tensor.name.starts_with("optimizer/"))
                {
                    tensor.shape.reverse();
                }
            })),
        ),
    ];
    let all =
        messages.iter().fold(String::new(), |all, (name, said)| format!("{all}{name}\n{said}\n"));
    insta::assert_snapshot!(all);
}

#[test]
fn a_checkpoint_behind_the_damaged_one_is_gone_on_from() {
    let place = Place::new();
    let config = Config::text().set("run.steps", 4).set("output.keep_last", 5);
    let out = config.train(&place, "run");
    let whole = super::training::adapter(&out);
    let file = config.write(&place, "run.yaml");
    halve(&out.join("checkpoints/step-00000004/state.json"));
    let said = run(&resume(&file, &out));
    assert!(String::from_utf8_lossy(&said.stderr).contains("remove this folder"));
    fs::remove_dir_all(out.join("checkpoints/step-00000004")).unwrap();
    good(&resume(&file, &out));
    assert!(super::training::adapter(&out) == whole);
}
