//! Mistakes that were made once, each with the smallest case that showed it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lora_eval::adapter::combine::{Method, Weighted, combine};
use lora_eval::adapter::{Adapter, Component, Format, RankRule, convert};
use lora_eval::extract::{Request as Extract, extract};
use lora_eval::merge::{MergeError, Request, merge};
use lora_eval::model::Base;
use lora_eval::tensors::{Float, Limits, Tensor, TensorFile, serialize, write_file};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name)
}

fn tensor(shape: &[usize], value: f32) -> Tensor {
    Tensor::from_f32(shape.to_vec(), &vec![value; shape.iter().product()], Float::F32)
}

fn adapter(tensors: &[(&str, &[usize], f32)]) -> Adapter {
    let tensors: BTreeMap<String, Tensor> = tensors
        .iter()
        .map(|(name, shape, value)| ((*name).to_owned(), tensor(shape, *value)))
        .collect();
    let bytes = serialize(&tensors, &BTreeMap::new()).unwrap();
    let path = Path::new("x.safetensors");
    Adapter::from_file(&TensorFile::from_bytes(path, bytes, Limits::ADAPTER).unwrap()).unwrap()
}

fn whole(adapter: Adapter) -> [Weighted; 1] {
    [Weighted { adapter, text_encoder: 1.0, unet: 1.0, blocks: Vec::new() }]
}

#[test]
fn a_module_that_the_original_unet_lacks_is_written_under_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.safetensors");
    let original = adapter(&[
        ("unet.down_blocks.1.motion_modules.0.to_q.lora_A.weight", &[2, 8], 1.0),
        ("unet.down_blocks.1.motion_modules.0.to_q.lora_B.weight", &[8, 2], 1.0),
        ("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", &[2, 8], 1.0),
        ("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight", &[8, 2], 1.0),
    ]);
    convert::write(&original, Format::Kohya, &out).unwrap();
    assert_eq!(Adapter::open(&out).unwrap().modules.len(), 2);
}

#[test]
fn modules_of_other_kernels_are_not_combined() {
    let with = |kernel: usize| {
        adapter(&[
            ("lora_unet_conv_in.lora_down.weight", &[2, 4, kernel, kernel], 1.0),
            ("lora_unet_conv_in.lora_up.weight", &[8, 2, 1, 1], 1.0),
        ])
    };
    let inputs = [whole(with(3)), whole(with(1))].concat();
    for method in [Method::Concat, Method::Svd(2)] {
        assert!(combine(&inputs, method).unwrap_err().to_string().contains("conv_in"));
    }
}

#[test]
fn the_second_text_encoder_alone_stays_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("peft");
    let q = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj";
    let original = adapter(&[
        (&format!("{q}.lora_down.weight"), &[2, 8], 1.0),
        (&format!("{q}.lora_up.weight"), &[8, 2], 1.0),
    ]);
    convert::write(&original, Format::Peft, &out).unwrap();
    let again = Adapter::open(&out).unwrap();
    assert!(again.components().contains_key(&Component::TextEncoder2));
}

/// Llama with both `embed_tokens` and `lm_head` stored and a configuration that ties them.
fn stored_tie(folder: &Path) -> PathBuf {
    let base = folder.join("base");
    std::fs::create_dir(&base).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("bases/llama").join(name), base.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(base.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["tie_word_embeddings"] = true.into();
    std::fs::write(base.join("config.json"), config.to_string()).unwrap();
    base
}

#[test]
fn a_stored_tie_is_undone_when_one_side_changes() {
    let folder = tempfile::tempdir().unwrap();
    let base = Base::open(&stored_tie(folder.path())).unwrap();
    for (adapter, tied) in [("llama-peft-embedding", false), ("llama-peft", true)] {
        let adapters = whole(Adapter::open(&fixture("adapters").join(adapter)).unwrap());
        let out = folder.path().join(adapter);
        let request =
            Request { base: &base, adapters: &adapters, out: &out, dtype: None, strict: true };
        merge(&request, &|_| {}).unwrap();
        let config = std::fs::read_to_string(out.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["tie_word_embeddings"], tied, "{adapter}");
    }
}

#[test]
fn finite_factors_whose_product_is_infinite_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let q = "lora_te_text_model_encoder_layers_0_self_attn_q_proj";
    let huge = adapter(&[
        (&format!("{q}.lora_down.weight"), &[2, 12], 1e30),
        (&format!("{q}.lora_up.weight"), &[12, 2], 1e30),
    ]);
    let adapters = whole(huge);
    for base in ["bases/sd1-f32.safetensors", "bases/sd1.safetensors"] {
        let base = Base::open(&fixture(base)).unwrap();
        let out = folder.path().join("out.safetensors");
        let request =
            Request { base: &base, adapters: &adapters, out: &out, dtype: None, strict: false };
        let error = merge(&request, &|_| {}).unwrap_err();
        assert!(matches!(error, MergeError::Overflow { .. }), "{error}");
        assert!(!out.exists());
    }
}

fn extracted(base: &Path, tuned: &Path) -> (lora_eval::extract::Report, Adapter) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let (base, tuned) = (Base::open(base).unwrap(), Base::open(tuned).unwrap());
    let rule = RankRule::Fixed;
    let request =
        Extract { base: &base, tuned: &tuned, out: &out, rank: 2, rule, dtype: Float::F32 };
    let report = extract(&request).unwrap();
    (report, Adapter::open(&out).unwrap())
}

/// The single file holds the folder's weights rounded to f16, its `text_projection` transposed. So
/// what differs is rounding: far smaller than the weights, in every module.
#[test]
fn a_transposed_projection_is_no_difference() {
    let (_, adapter) = extracted(&fixture("bases/sdxl"), &fixture("bases/sdxl.safetensors"));
    let mut seen = false;
    for (id, module) in &adapter.modules {
        seen |= id.path == "text_projection";
        for (name, tensor) in module.tensors() {
            let largest = tensor.to_f32(name).unwrap().iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(largest < 0.05, "{id}: {largest}"); // the root of a rounding error's size
        }
    }
    assert!(seen);
}

#[test]
fn changed_biases_and_other_tensors_are_reported_beside_a_changed_weight() {
    let folder = tempfile::tempdir().unwrap();
    let base = fixture("bases/sd1-f32.safetensors");
    let file = TensorFile::open(&base, Limits::BASE).unwrap();
    let layer = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj";
    let vae = file.names().find(|name| name.starts_with("first_stage_model.")).unwrap().to_owned();
    let changed = [format!("{layer}.weight"), format!("{layer}.bias"), vae];
    let tensors: BTreeMap<String, Tensor> = file
        .names()
        .map(|name| {
            let old = file.get(name).unwrap();
            let new =
                if changed.iter().any(|c| c == name) { tensor(old.shape(), 0.25) } else { old };
            (name.to_owned(), new)
        })
        .collect();
    let tuned = folder.path().join("tuned.safetensors");
    write_file(&tuned, &tensors, &BTreeMap::new()).unwrap();
    let (report, _) = extracted(&base, &tuned);
    assert_eq!(report.modules, 1);
    assert_eq!(report.unmatched.len(), 2, "{:?}", report.unmatched);
}

/// transformers' adapters of Qwen2.5-VL against its file: each branch is wrapped differently.
#[test]
fn branches_of_a_model_are_found_under_their_own_prefixes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.safetensors");
    let names = ["model.layers.0.mlp.up_proj.weight", "visual.blocks.0.attn.qkv.weight"];
    let tensors = names.iter().map(|name| ((*name).to_owned(), tensor(&[8, 8], 1.0))).collect();
    write_file(&path, &tensors, &BTreeMap::new()).unwrap();
    let base = Base::open(&path).unwrap();
    let up = "base_model.model.model.language_model.layers.0.mlp.up_proj";
    let qkv = "base_model.model.model.visual.blocks.0.attn.qkv";
    let adapter = adapter(&[
        (&format!("{up}.lora_A.weight"), &[2, 8], 1.0),
        (&format!("{up}.lora_B.weight"), &[8, 2], 1.0),
        (&format!("{qkv}.lora_A.weight"), &[2, 8], 1.0),
        (&format!("{qkv}.lora_B.weight"), &[8, 2], 1.0),
    ]);
    let fit = lora_eval::model::fit(&adapter, &base).unwrap();
    assert_eq!((fit.matched.len(), fit.unmatched.len()), (2, 0));
}
