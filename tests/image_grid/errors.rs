//! Wrong input ends with what is wrong and what to do, and writes nothing. Messages are snapshots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use lora_eval::picture::{Picture, encode_png};
use serde_json::json;

use super::program::{Place, change_json, diffusion, fixture, run, text, with};
use super::tensors::{self, named};

pub const PLAIN: &str =
    "strengths: [0, 1]\ndefaults: {steps: 1}\nprompts: [{id: a, prompt: a fox}]\n";

/// A run that works, until something is changed.
struct Row {
    place: Place,
    suite: String,
    base: String,
    lora: String,
    more: Vec<String>,
    /// Cells may have been written before it fails.
    started: bool,
}

impl Row {
    fn new() -> Self {
        let place = Place::new();
        Self {
            suite: place.file("suite.yaml", PLAIN),
            base: diffusion("sd1"),
            lora: format!("style={}", diffusion("sd1-lora.safetensors")),
            more: Vec::new(),
            started: false,
            place,
        }
    }

    fn suite(yaml: &str) -> Self {
        let row = Self::new();
        row.place.file("suite.yaml", yaml);
        row
    }

    /// A suite of one prompt with this setting.
    fn setting(name: &str, value: &str) -> Self {
        Self::suite(&format!(
            "prompts: [{{id: a, prompt: a fox, settings: {{{name}: {value}}}}}]\n"
        ))
    }

    /// With a copy of the pipeline that `damage` has worked on.
    fn pipeline(damage: impl FnOnce(&Path)) -> Self {
        let mut row = Self::new();
        let folder = row.place.pipeline("sd1", "model");
        damage(&folder);
        row.base = text(&folder);
        row
    }

    /// With a value in a configuration of the pipeline.
    fn config(file: &str, key: &str, value: serde_json::Value) -> Self {
        Self::pipeline(|folder| change_json(&folder.join(file), |config| config[key] = value))
    }

    fn more(mut self, more: &[&str]) -> Self {
        self.more.extend(more.iter().map(|&word| word.to_owned()));
        self
    }

    fn lora(mut self, lora: &str) -> Self {
        lora.clone_into(&mut self.lora);
        self
    }

    fn started(self) -> Self {
        Self { started: true, ..self }
    }

    fn arguments(&self) -> Vec<String> {
        let out = self.place.text("run");
        let given =
            ["grid", &self.suite, "--base", &self.base, "--lora", &self.lora, "--out", &out];
        with(&given.map(str::to_owned), &self.more.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn redacted(&self, said: &str) -> String {
        let fixtures = text(&fixture(""));
        said.replace(self.place.text("").trim_end_matches('/'), "[dir]")
            .replace(fixtures.trim_end_matches('/'), "[fixtures]")
    }
}

/// Runs every row, asserts what holds of all errors, and gives the messages.
fn messages(rows: Vec<(&str, Row)>) -> String {
    let (mut messages, mut broken) = (String::new(), Vec::new());
    for (name, row) in rows {
        let before = row.place.tree();
        let out = run(&row.arguments());
        let said = row.redacted(&String::from_utf8_lossy(&out.stderr));
        let mut wrong = |what: &str| broken.push(format!("{name}: {what}: {said}"));
        if !matches!(out.status.code(), Some(1 | 2)) {
            wrong(&format!("ended with {}", out.status));
        }
        if !said.contains("hint:") {
            wrong("no hint");
        }
        if !out.stdout.is_empty() || said.contains("panicked") || said.len() > 4096 {
            wrong("noise");
        }
        let mut after = row.place.tree();
        if row.started {
            after.retain(|name, _| !name.starts_with("run/") || name.starts_with("run/outputs"));
        }
        if after != before {
            wrong("something was written");
        }
        let _ = writeln!(messages, "{name}\n{said}");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    messages
}

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

fn truncate(path: &Path, by: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - by]).unwrap();
}

#[test]
fn pipelines_that_lack_or_damage_a_part_are_refused() {
    let remove = |path: &'static str| {
        Row::pipeline(move |folder| {
            let path = folder.join(path);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        })
    };
    let write = |path: &'static str, text: &'static str| {
        Row::pipeline(move |folder| fs::write(folder.join(path), text).unwrap())
    };
    insta::assert_snapshot!(messages(vec![
        ("no vae", remove("vae")),
        ("no weights of the vae", remove(VAE)),
        ("no configuration of the vae", remove("vae/config.json")),
        ("a vae cut short", Row::pipeline(|folder| truncate(&folder.join(VAE), 4))),
        ("an empty vae", write(VAE, "")),
        ("no unet", remove("unet")),
        ("no text encoder", remove("text_encoder")),
        ("no tokenizer", remove("tokenizer")),
        ("no vocabulary", remove("tokenizer/vocab.json")),
        ("no merges", remove("tokenizer/merges.txt")),
        ("a vocabulary that is no JSON", write("tokenizer/vocab.json", "{")),
        ("no scheduler", remove("scheduler")),
        ("a scheduler that is no JSON", write("scheduler/scheduler_config.json", "{")),
        ("a scheduler that is a list", write("scheduler/scheduler_config.json", "[]")),
        ("a configuration that is no JSON", write("unet/config.json", "{")),
        ("no model_index.json", remove("model_index.json")),
    ]));
}

#[test]
fn configurations_that_are_not_built_are_refused() {
    let scheduler = |key: &str, value| Row::config("scheduler/scheduler_config.json", key, value);
    let unet = |key: &str, value| Row::config("unet/config.json", key, value);
    let text = |key: &str, value| Row::config("text_encoder/config.json", key, value);
    let vae = |key: &str, value| Row::config("vae/config.json", key, value);
    insta::assert_snapshot!(messages(vec![
        ("scheduler class", scheduler("_class_name", json!("FlowMatchEulerDiscreteScheduler"))),
        ("scheduler class misspelt", scheduler("_class_name", json!("EulerDiscreetScheduler"))),
        ("scheduler class of another type", scheduler("_class_name", json!(3))),
        ("beta_schedule", scheduler("beta_schedule", json!("quadratic"))),
        ("beta_end", scheduler("beta_end", json!("x"))),
        ("num_train_timesteps", scheduler("num_train_timesteps", json!(-1))),
        ("num_train_timesteps huge", scheduler("num_train_timesteps", json!(1u64 << 60))),
        ("prediction_type", scheduler("prediction_type", json!("flow"))),
        ("trained_betas", scheduler("trained_betas", json!("x"))),
        ("act_fn", unet("act_fn", json!("gelu"))),
        ("class_embed_type", unet("class_embed_type", json!("timestep"))),
        ("addition_embed_type", unet("addition_embed_type", json!("image"))),
        ("attention_head_dim of text", unet("attention_head_dim", json!("four"))),
        ("attention_head_dim 0", unet("attention_head_dim", json!(0))),
        ("attention_head_dim 3", unet("attention_head_dim", json!(3))),
        ("norm_num_groups 3", unet("norm_num_groups", json!(3))),
        ("norm_num_groups of text", unet("norm_num_groups", json!("x"))),
        ("num_attention_heads of the text encoder", text("num_attention_heads", json!(5))),
        ("hidden_act", text("hidden_act", json!("swash"))),
        ("num_hidden_layers", text("num_hidden_layers", json!(9))),
        ("groups of the vae", vae("norm_num_groups", json!(5))),
        ("shift_factor", vae("shift_factor", json!(0.1))),
        ("latents_mean", vae("latents_mean", json!([1, 2, 3, 4]))),
    ]));
}

/// A decoder of one channel, which is no picture of three.
fn grey_autoencoder(folder: &Path) {
    tensors::change(&folder.join(VAE), |all| {
        for name in ["decoder.conv_out.weight", "decoder.conv_out.bias"] {
            let tensor = named(all, name);
            let rows = tensor.shape[0];
            tensor.shape[0] = 1;
            tensor.bytes.truncate(tensor.bytes.len() / rows);
        }
    });
}

/// The second text encoder of SDXL in the place of the own one.
fn another_encoder(folder: &Path) {
    let other = fixture("diffusion/sdxl");
    for (from, to) in [("text_encoder_2", "text_encoder"), ("tokenizer_2", "tokenizer")] {
        fs::remove_dir_all(folder.join(to)).unwrap();
        fs::create_dir(folder.join(to)).unwrap();
        for entry in fs::read_dir(other.join(from)).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), folder.join(to).join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let unet = |change: fn(&mut Vec<tensors::Tensor>)| {
        Row::pipeline(move |folder| tensors::change(&folder.join(UNET), change))
    };
    insta::assert_snapshot!(messages(vec![
        (
            "a missing weight",
            unet(|all| all.retain(|t| t.name != "mid_block.resnets.0.conv1.weight")),
        ),
        ("a missing norm", unet(|all| all.retain(|t| t.name != "conv_norm_out.weight"))),
        ("a missing bias of a norm", unet(|all| all.retain(|t| t.name != "conv_norm_out.bias"))),
        (
            "a weight too many",
            unet(|all| {
                let extra = named(all, "mid_block.resnets.0.conv1.weight");
                let extra = tensors::Tensor {
                    name: "motion_modules.0.proj.weight".to_owned(),
                    dtype: "F32".to_owned(),
                    shape: extra.shape.clone(),
                    bytes: extra.bytes.clone(),
                };
                all.push(extra);
            }),
        ),
        (
            "nine channels (inpainting)",
            unet(|all| {
                let conv_in = named(all, "conv_in.weight");
                conv_in.shape[1] = 9;
                let count: usize = conv_in.shape.iter().product();
                conv_in.bytes = vec![0; 4 * count];
            }),
        ),
        (
            "a weight on its side",
            unet(|all| named(all, "time_embedding.linear_1.weight").shape.reverse()),
        ),
        (
            "whole numbers",
            unet(|all| named(all, "time_embedding.linear_1.weight").dtype = "I32".to_owned()),
        ),
        ("an encoder of another width", Row::pipeline(another_encoder),),
        (
            "a small embedding",
            Row::pipeline(|folder| {
                tensors::change(&folder.join("text_encoder/model.safetensors"), |all| {
                    let tokens = named(all, "token_embedding.weight");
                    tokens.shape[0] = 10;
                    tokens.bytes.truncate(10 * 24 * 4);
                });
            }),
        ),
        (
            "NaN in the denoiser",
            unet(|all| {
                named(all, "conv_out.weight").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            })
            .started(),
        ),
        ("an autoencoder of grey pictures", Row::pipeline(grey_autoencoder)),
        (
            "NaN in the autoencoder",
            Row::pipeline(|folder| {
                tensors::change(&folder.join(VAE), |all| {
                    named(all, "decoder.conv_out.weight").bytes[..4]
                        .copy_from_slice(&f32::NAN.to_le_bytes());
                });
            })
            .started(),
        ),
    ]));
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let sdxl = format!("style={}", diffusion("sdxl-lora.safetensors"));
    let nan = |part: &'static str| {
        let mut row = Row::new().started();
        let path = row.place.path("nan.safetensors");
        fs::copy(diffusion("sd1-lora.safetensors"), &path).unwrap();
        tensors::change(&path, |all| {
            let up = |t: &&mut tensors::Tensor| t.name.contains(part) && t.name.contains("lora_up");
            for tensor in all.iter_mut().filter(up) {
                let count = tensor.bytes.len() / 2;
                tensor.bytes = 0x7e00_u16.to_le_bytes().repeat(count);
            }
        });
        row.lora = format!("style={}", text(&path));
        row
    };
    let prompt = |text: &str| {
        Row::suite(&format!(
            "defaults: {{steps: 1}}\nprompts: [{{id: a, prompt: {}}}]\n",
            json!(text)
        ))
    };
    let folder = text(&fixture("diffusion"));
    insta::assert_snapshot!(messages(vec![
        ("of SDXL", Row::new().lora(&sdxl)),
        ("of a language model", Row::new().lora(&text(&fixture("decoders/chat/adapter")))),
        ("absent", Row::new().lora("style=nothing.safetensors")),
        ("a base", Row::new().lora(&diffusion("sd1.safetensors"))),
        ("NaN in the denoiser", nan("lora_unet")),
        ("NaN in the text encoder", nan("lora_te")),
        ("a name that is not given", prompt("a fox <lora:stile:1>")),
        ("a name that is not in the folder", prompt("<lora:ink:1>").more(&["--lora-dir", &folder])),
        ("no folder", Row::new().more(&["--lora-dir", "nowhere"])),
    ]));
}

#[test]
fn suites_that_do_not_fit_are_refused() {
    let mut of_texts = Row::setting("steps", "3");
    of_texts.base = text(&fixture("decoders/chat/model"));
    of_texts.lora = format!("style={}", text(&fixture("decoders/chat/adapter")));
    let mut vae_of_texts = Row::suite("prompts: [{id: a, prompt: a fox}]\n").more(&["--vae", "x"]);
    vae_of_texts.base.clone_from(&of_texts.base);
    vae_of_texts.lora.clone_from(&of_texts.lora);
    let reference = |name: &str, bytes: Option<&[u8]>| {
        let row =
            Row::suite(&format!("prompts: [{{id: a, prompt: a fox, references: [{name}]}}]\n"));
        if let Some(bytes) = bytes {
            row.place.file(name, bytes);
        }
        row
    };
    let grey = Picture { width: 8, height: 8, rgb: vec![90; 192] };
    insta::assert_snapshot!(messages(vec![
        ("a setting of texts", Row::setting("max_new_tokens", "4")),
        ("a setting of pictures for texts", of_texts),
        ("an autoencoder for texts", vae_of_texts),
        ("a sampler that is near", Row::setting("sampler", "eulr_a")),
        ("a sampler that is far", Row::setting("sampler", "qqqqqqqq")),
        ("a scheduler", Row::setting("scheduler", "karas")),
        ("two schedules", Row::setting("sampler", "euler_karras, scheduler: exponential")),
        ("a width", Row::setting("width", "100")),
        ("a small height", Row::setting("height", "8")),
        ("no steps", Row::setting("steps", "0")),
        ("a guidance", Row::setting("guidance", ".nan")),
        ("a clip skip", Row::setting("clip_skip", "0")),
        ("random numbers", Row::setting("rng", "dice")),
        (
            "a sampler on an axis",
            Row::suite("axes: {sampler: [euler, eulr]}\nprompts: [{id: a, prompt: a}]\n")
        ),
        ("a scheduler that is far", Row::setting("scheduler", "qqqqqqqq")),
        (
            "messages",
            Row::suite("prompts:\n  - {id: a, messages: [{role: user, content: a fox}]}\n"),
        ),
        ("no reference", reference("missing.png", None)),
        ("a reference that is no picture", reference("text.png", Some(b"a fox"))),
        (
            "a reference cut short",
            reference("cut.png", Some(&encode_png(&grey, &[]).unwrap()[..60])),
        ),
        ("a vae that is not there", Row::new().more(&["--vae", "nowhere"])),
        ("a vae that is a LoRA", Row::new().more(&["--vae", &diffusion("sd1-lora.safetensors")])),
        ("a vae that is JSON", Row::new().more(&["--vae", &diffusion("cases.json")])),
        ("a vae that is a folder of others", Row::new().more(&["--vae", &diffusion("sd1/unet")])),
    ]));
}
