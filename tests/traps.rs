//! The decisions of `docs/compatibility.md` on what peers do differently, T2 to T12.
//!
//! T1 (one name twice in a prompt) is in `tests/prompt.rs`; T6 (LoHa and LoKr scaled once) and the
//! values of T2 and T3 are parity cases (`tests/parity/manifest.json`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};

use lora_eval::adapter::combine::{Method, Weighted, combine};
use lora_eval::adapter::{Adapter, Axis, Component, ModuleId};
use lora_eval::merge::{MergeError, Request, merge};
use lora_eval::model::Base;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name)
}

fn merged(base: &str, adapters: &[(&str, f32)]) -> Result<Vec<u8>, MergeError> {
    let base = Base::open(&fixture("bases").join(base)).unwrap();
    let adapters: Vec<Weighted> = adapters
        .iter()
        .map(|(name, s)| Weighted {
            adapter: Adapter::open(&fixture("adapters").join(name)).unwrap(),
            text_encoder: *s,
            unet: *s,
            blocks: Vec::new(),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let request =
        Request { base: &base, adapters: &adapters, out: &out, dtype: None, strict: false };
    merge(&request, &|_| {})?;
    let bytes = std::fs::read(&out).unwrap();
    // The data alone: the header names the adapters.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    Ok(bytes[8 + usize::try_from(header).unwrap()..].to_vec())
}

fn data(base: &str) -> Vec<u8> {
    let bytes = std::fs::read(fixture("bases").join(base)).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    bytes[8 + usize::try_from(header).unwrap()..].to_vec()
}

const SD1: &str = "sd1-f32.safetensors";

#[test]
fn t2_strength_0_is_the_base_to_the_bit_dora_included() {
    for adapter in
        ["sd1-kohya.safetensors", "sd1-dora.safetensors", "sd1-dora-input-axis.safetensors"]
    {
        assert_eq!(merged(SD1, &[(adapter, 0.0)]).unwrap(), data(SD1), "{adapter}");
    }
}

#[test]
fn t3_the_axis_of_dora_is_read_from_its_shape() {
    let axes = |name: &str| -> Vec<Axis> {
        let adapter = Adapter::open(&fixture("adapters").join(name)).unwrap();
        adapter.modules.values().filter_map(|m| m.magnitude.as_ref()).map(|m| m.axis).collect()
    };
    assert!(axes("sd1-dora.safetensors").iter().all(|axis| *axis == Axis::Output));
    assert!(axes("sd1-dora-input-axis.safetensors").iter().all(|axis| *axis == Axis::Input));
    assert!(axes("llama-peft-dora").iter().all(|axis| *axis == Axis::Output));
}

#[test]
fn t4_t5_adapters_do_not_see_each_other_so_their_order_does_not_matter() {
    let (dora, lora) = (("sd1-dora.safetensors", 0.7), ("sd1-kohya.safetensors", 0.5));
    let (one, other) = (merged(SD1, &[dora, lora]).unwrap(), merged(SD1, &[lora, dora]).unwrap());
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    for (a, b) in floats(&one).iter().zip(floats(&other)) {
        assert!((a - b).abs() <= 1e-6 * a.abs().max(0.1), "{a} {b}");
    }
}

#[test]
fn t7_t9_one_adapter_at_half_strength_comes_out_at_half_strength() {
    let adapter = Adapter::open(&fixture("adapters/sd1-kohya.safetensors")).unwrap();
    let half =
        Weighted { adapter: adapter.clone(), text_encoder: 0.5, unet: 0.5, blocks: Vec::new() };
    let combined = combine(&[half.clone(), half], Method::Concat).unwrap();
    for (id, module) in &combined.modules {
        let original = &adapter.modules[id];
        // Two halves side by side at the shared scale: twice the rank, half the scale, no cross terms.
        assert_eq!(module.rank().unwrap(), 2 * original.rank().unwrap());
        assert_eq!(module.scale, original.scale * 0.5);
    }
}

#[test]
fn t8_text_projection_is_transposed_in_the_single_file_only() {
    let id = ModuleId::new(Component::TextEncoder2, "text_projection");
    for (base, transposed) in [("sdxl.safetensors", true), ("sdxl", false)] {
        let base = Base::open(&fixture("bases").join(base)).unwrap();
        assert_eq!(base.table.get(&id).unwrap().transposed, transposed);
    }
}

#[test]
fn t11_nothing_is_ever_subtracted_the_base_stays_and_merging_again_gives_the_same_bytes() {
    let before = data(SD1);
    let first = merged(SD1, &[("sd1-kohya.safetensors", 0.8)]).unwrap();
    assert_ne!(first, before);
    assert_eq!(first, merged(SD1, &[("sd1-kohya.safetensors", 0.8)]).unwrap());
    assert_eq!(before, data(SD1));
}

#[test]
fn t12_an_adapter_of_which_nothing_fits_is_an_error_that_names_its_base() {
    for (base, adapter, made_for) in [
        ("gpt2", "llama-peft", "q_proj"),
        ("qwen2", "llama-peft", "tiny/llama"), // the same names and widths
        (SD1, "llama-peft", "a language model"),
        ("llama", "sd1-kohya.safetensors", "Stable Diffusion"),
        (SD1, "sdxl-kohya-sgm.safetensors", "Stable Diffusion XL"),
        ("sd1", "sdxl-diffusers.safetensors", "Stable Diffusion XL"),
    ] {
        let error = merged(base, &[(adapter, 1.0)]).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, MergeError::WrongBase(_)), "{text}");
        assert!(text.contains("does not fit this base"), "{text}");
        assert!(text.contains("the adapter was made for") && text.contains(made_for), "{text}");
    }
}
