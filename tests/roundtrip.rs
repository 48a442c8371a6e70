//! Adapters written in other formats and read again: the same change of every weight, to the bit.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};

use lora_eval::adapter::combine::{Method, Weighted, combine};
use lora_eval::adapter::resize::resize;
use lora_eval::adapter::{Adapter, AdapterError, Format, Module, RankRule, RowDelta, convert};
use lora_eval::model::Base;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name)
}

fn open(name: &str) -> Adapter {
    Adapter::open(&fixture("adapters").join(name)).unwrap()
}

/// ΔW of a module on its own, of the shape it is made for.
fn delta(module: &Module, strength: f32) -> Vec<f32> {
    let (rows, columns) = module.extent().unwrap();
    let shape = if module.transposed { [columns, rows] } else { [rows, columns] };
    let mut sum = vec![0.0; rows * columns];
    let base = vec![0.0; rows * columns];
    let delta = RowDelta::new(module, &shape, false, strength).unwrap().unwrap();
    delta.add_rows(0..shape[0], &base, &mut sum);
    sum
}

/// Everything that decides what a module does.
fn essence(module: &Module) -> Vec<u8> {
    let mut bytes = module.scale.to_bits().to_le_bytes().to_vec();
    bytes.push(u8::from(module.transposed));
    for (name, tensor) in module.tensors() {
        bytes.extend(name.as_bytes());
        bytes.extend(tensor.bytes());
    }
    bytes.extend(format!("{:?}", module.magnitude.as_ref().map(|m| m.axis)).bytes());
    bytes
}

fn assert_same(a: &Adapter, b: &Adapter) {
    let ids = |adapter: &Adapter| adapter.modules.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(a), ids(b));
    for (id, module) in &a.modules {
        assert_eq!(essence(module), essence(&b.modules[id]), "{id}");
    }
}

/// Writes and reads again.
fn through(adapter: &Adapter, format: Format) -> Result<Adapter, AdapterError> {
    let folder = tempfile::tempdir().unwrap();
    let out = match format {
        Format::Peft => folder.path().join("out"),
        _ => folder.path().join("out.safetensors"),
    };
    convert::write(adapter, format, &out)?;
    let again = Adapter::open(&out)?;
    assert_eq!(again.format, format);
    assert!(again.unread.is_empty(), "{:?}", again.unread);
    Ok(again)
}

#[test]
fn stable_diffusion_through_all_formats() {
    for name in [
        "sd1-kohya",
        "sd1-kohya-no-alpha",
        "sd1-kohya-ranks",
        "sd1-locon",
        "sd1-diffusers",
        "sd1-diffusers-metadata",
        "sd1-diffusers-dora",
        "sd1-processor",
        "sd1-intermediate",
        "sd2-kohya",
        "sdxl-kohya-sgm",
        "sdxl-diffusers",
        "sdxl-locon-sgm",
    ] {
        let original = open(&format!("{name}.safetensors"));
        let mut adapter = original.clone();
        for format in [Format::Diffusers, Format::Peft, Format::Kohya, Format::Peft, Format::Kohya]
        {
            adapter = through(&adapter, format).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_same(&original, &adapter);
        }
    }
}

#[test]
fn language_models_stay_in_peft() {
    for name in [
        "llama-peft",
        "llama-peft-patterns",
        "llama-peft-rslora",
        "llama-peft-dora",
        "llama-peft-embedding",
        "llama-peft-modules-to-save",
        "qwen2-peft-bias-all",
        "qwen2-peft-bias-lora-only",
        "qwen2-peft-lora-bias",
        "gpt2-peft-dora",
    ] {
        let original = open(name);
        assert_same(&original, &through(&original, Format::Peft).unwrap());
        for format in [Format::Kohya, Format::Diffusers] {
            let error = through(&original, format).unwrap_err().to_string();
            assert!(error.contains("cannot express"), "{name}: {error}");
        }
    }
}

#[test]
fn every_lycoris_kind_survives_kohya_and_is_refused_by_name_elsewhere() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixture("adapters")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let lycoris = ["loha", "lokr", "full", "norm", "ia3", "glora", "input-axis", "tucker"];
        if !lycoris.iter().any(|kind| name.contains(kind)) {
            continue;
        }
        seen += 1;
        let original = Adapter::open(&path).unwrap();
        assert_same(&original, &through(&original, Format::Kohya).unwrap());
        for format in [Format::Diffusers, Format::Peft] {
            let error = through(&original, format).unwrap_err();
            assert!(matches!(error, AdapterError::CannotExpress { .. }), "{name}: {error}");
            assert!(error.to_string().contains("lora_unet_"), "{name}: {error}");
        }
    }
    assert!(seen >= 12, "{seen} fixtures");
}

#[test]
fn metadata_is_kept_and_hashes_follow_the_tensors() {
    let original = open("sd1-kohya.safetensors");
    let again = through(&original, Format::Kohya).unwrap();
    let described = |key: &str| ["ss_network_dim", "ss_network_alpha"].contains(&key);
    for (key, value) in original.metadata.iter().filter(|(key, _)| !key.starts_with("sshs_")) {
        assert!(again.metadata.get(key) == Some(value) || described(key), "{key}");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.safetensors");
    convert::write(&original, Format::Kohya, &out).unwrap();
    let file =
        lora_eval::tensors::TensorFile::open(&out, lora_eval::tensors::Limits::ADAPTER).unwrap();
    let hashes = lora_eval::adapter::hashes::Hashes::of(&file);
    assert_eq!(file.metadata()["sshs_model_hash"], hashes.sshs_model_hash);
    assert_eq!(file.metadata()["sshs_legacy_hash"], hashes.sshs_legacy_hash);
}

fn close(a: &[f32], b: &[f32]) {
    let largest = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= 1e-6 * largest.max(1e-6), "{x} {y}");
    }
}

#[test]
fn a_combination_does_what_its_parts_do() {
    let (first, second) = (open("sd1-kohya-ranks.safetensors"), open("sd1-locon.safetensors"));
    let weighted = |adapter: &Adapter, strength: f32| Weighted {
        adapter: adapter.clone(),
        text_encoder: strength,
        unet: strength,
        blocks: Vec::new(),
    };
    let both = [weighted(&first, 0.8), weighted(&second, -0.5)];
    let whole = combine(&both, Method::Concat).unwrap();
    let cut = combine(&both, Method::Svd(64)).unwrap();
    for (id, module) in &whole.modules {
        let mut expected = vec![0.0; delta(module, 1.0).len()];
        for input in &both {
            if let Some(part) = input.adapter.modules.get(id) {
                for (sum, x) in expected.iter_mut().zip(delta(part, input.unet)) {
                    *sum += x;
                }
            }
        }
        close(&delta(module, 1.0), &expected);
        close(&delta(&cut.modules[id], 1.0), &expected);
    }
    assert_eq!(whole.modules.len(), {
        let ids: std::collections::BTreeSet<_> =
            first.modules.keys().chain(second.modules.keys()).collect();
        ids.len()
    });
    let written = through(&whole, Format::Kohya).unwrap();
    assert_same(&whole, &written);
}

#[test]
fn a_dora_is_not_combined_at_another_strength() {
    let dora = open("sd1-dora.safetensors");
    let at =
        |s: f32| [Weighted { adapter: dora.clone(), text_encoder: s, unet: s, blocks: Vec::new() }];
    assert!(combine(&at(1.0), Method::Concat).is_ok());
    let error = combine(&at(0.5), Method::Concat).unwrap_err().to_string();
    assert!(error.contains("DoRA"), "{error}");
}

#[test]
fn resizing_to_the_same_rank_changes_nothing_and_to_a_lower_one_keeps_most() {
    for name in ["sd1-locon.safetensors", "sd1-locon-tucker.safetensors"] {
        let original = open(name);
        let (same, _) = resize(&original, RankRule::Fixed, 64).unwrap();
        for (id, module) in &original.modules {
            close(&delta(&same.modules[id], 1.0), &delta(module, 1.0));
        }
        let (lower, report) = resize(&original, RankRule::Fixed, 1).unwrap();
        assert_eq!(lower.ranks().into_keys().collect::<Vec<_>>(), [1]);
        for entry in &report {
            assert!(entry.kept > 0.5 && entry.kept <= 1.0 + 1e-9, "{entry:?}");
        }
        for (id, module) in &original.modules {
            assert_eq!(lower.modules[id].scale, module.scale, "{id}");
        }
    }
}

/// The single file and the folder hold the same model, so their tables must be the same: every
/// module of one is in the other, with the same values (transposed where the layout does).
#[test]
fn the_original_layout_and_diffusers_name_the_same_modules() {
    for (file, folder) in
        [("sd1-f32.safetensors", "sd1"), ("sd2.safetensors", "sd2"), ("sdxl.safetensors", "sdxl")]
    {
        let single = Base::open(&fixture("bases").join(file)).unwrap();
        let pipeline = Base::open(&fixture("bases").join(folder)).unwrap();
        let mut compared = 0;
        for target in pipeline.table.targets() {
            let other =
                single.table.get(&target.id).unwrap_or_else(|| panic!("{file}: {}", target.id));
            let values = |base: &Base, slot: &lora_eval::model::Slot| -> Vec<f32> {
                let tensor = base.files[slot.file].file.get(&slot.key).unwrap();
                let all = tensor.to_f32(&slot.key).unwrap();
                let line = slot.shape[1..].iter().product::<usize>();
                all[slot.rows.start * line..slot.rows.end * line].to_vec()
            };
            let mut found = values(&single, &other.weight);
            if other.transposed {
                let shape = &other.weight.shape;
                found = lora_eval::linalg::transpose(&found, shape[0], shape[1]);
            }
            let expected = values(&pipeline, &target.weight);
            let half = |x: f32| if file == "sd1-f32.safetensors" { x } else { f16(x) };
            assert!(
                found.iter().zip(&expected).all(|(a, b)| *a == half(*b)),
                "{file}: {}",
                target.id
            );
            compared += 1;
        }
        assert!(compared > 200, "{file}: {compared}");
        let extra: Vec<String> = single
            .table
            .targets()
            .filter(|target| pipeline.table.get(&target.id).is_none())
            .map(|target| target.id.to_string())
            .collect();
        // OpenCLIP-H has one layer more than transformers keeps.
        assert!(
            extra.iter().all(|id| folder == "sd2" && id.starts_with("text_encoder.")),
            "{extra:?}"
        );
    }
}

fn f16(x: f32) -> f32 {
    let mut bytes = [0; 2];
    lora_eval::tensors::Float::F16.encode(&[x], &mut bytes);
    let mut value = [0.0];
    lora_eval::tensors::Float::F16.decode(&bytes, &mut value);
    value[0]
}
