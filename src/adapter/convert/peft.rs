//! PEFT's format: a folder with `adapter_config.json` and `adapter_model.safetensors`.
//!
//! PEFT knows one model at a time, so an adapter of a whole pipeline becomes a folder for each
//! component (`unet/`, `text_encoder/`, …), each of which PEFT loads.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{alpha_for, is_low_rank, refuse_beyond_lora};
use crate::adapter::{Adapter, AdapterError, BiasDelta, Component, Delta, Module, metadata};
use crate::base::atomic::AtomicFolder;
use crate::tensors::{Tensor, TensorError, write_file};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

pub(super) fn write(adapter: &Adapter, out: &Path) -> Result<(), AdapterError> {
    refuse_beyond_lora(adapter, "peft")?;
    let folder = AtomicFolder::create(out).map_err(|e| TensorError::io(out, e))?;
    let components = adapter.components();
    for component in components.keys() {
        // The names of a text encoder's modules do not say which of the two it is.
        let alone = components.len() == 1 && !component.is_text_encoder();
        let part =
            if alone { folder.path().to_owned() } else { folder.path().join(component.name()) };
        std::fs::create_dir_all(&part).map_err(|e| TensorError::io(&part, e))?;
        write_component(adapter, *component, &part)?;
    }
    folder.commit().map_err(|e| TensorError::io(out, e).into())
}

/// Whether a folder is empty or holds a PEFT adapter and nothing else.
pub(super) fn only_an_adapter(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).all(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.as_str() {
            CONFIG | WEIGHTS => path.is_file(),
            "unet" | "text_encoder" | "text_encoder_2" => path.is_dir() && only_an_adapter(&path),
            _ => false,
        }
    })
}

fn write_component(
    adapter: &Adapter,
    component: Component,
    folder: &Path,
) -> Result<(), AdapterError> {
    let modules: Vec<&Module> =
        adapter.modules.values().filter(|m| m.id.component == component).collect();
    let mut tensors = BTreeMap::new();
    for module in &modules {
        let path = format!("base_model.model.{}", module.id.long_path());
        tensors.extend(parts(module).into_iter().map(|(part, t)| (format!("{path}.{part}"), t)));
    }
    let mut config = lora_config(&modules);
    if let Some(own) = &adapter.config {
        for key in ["base_model_name_or_path", "revision", "task_type", "lora_dropout"] {
            if let Some(value) = own.fields.get(key) {
                config.insert(key.to_owned(), value.clone());
            }
        }
    }
    let mut metadata = metadata::kept(adapter);
    metadata.insert("format".to_owned(), "pt".to_owned());
    write_file(&folder.join(WEIGHTS), &tensors, &metadata)?;
    let path = folder.join(CONFIG);
    let text = serde_json::to_vec_pretty(&Value::Object(config))
        .map_err(|e| TensorError::io(&path, e.into()))?;
    std::fs::write(&path, text).map_err(|e| TensorError::io(&path, e).into())
}

/// The tensors of a module by their names after the module's.
pub(super) fn parts(module: &Module) -> Vec<(&'static str, Tensor)> {
    let mut parts = Vec::new();
    match &module.weight {
        Some(Delta::LowRank { down, up, .. }) if module.embedding => {
            parts.extend([("lora_embedding_A", down.clone()), ("lora_embedding_B", up.clone())]);
        }
        Some(Delta::LowRank { down, up, .. }) => {
            parts.extend([("lora_A.weight", down.clone()), ("lora_B.weight", up.clone())]);
        }
        Some(Delta::Replacement(tensor)) => parts.push(("weight", tensor.clone())),
        _ => {}
    }
    match &module.bias {
        Some(BiasDelta::Add { delta, .. }) => parts.push(("lora_B.bias", delta.clone())),
        // PEFT wraps an adapted layer, which moves its own bias one level down.
        Some(BiasDelta::Replace(tensor)) if is_low_rank(module) => {
            parts.push(("base_layer.bias", tensor.clone()));
        }
        Some(BiasDelta::Replace(tensor)) => parts.push(("bias", tensor.clone())),
        None => {}
    }
    if let Some(magnitude) = &module.magnitude {
        let n = magnitude.vector.elements();
        let convolution =
            matches!(&module.weight, Some(Delta::LowRank { down, .. }) if down.shape().len() == 4);
        let shape = if convolution { vec![1, n, 1, 1] } else { vec![n] };
        parts.push(("lora_magnitude_vector", magnitude.vector.reshape(shape)));
    }
    parts
}

/// A `LoraConfig` whose ranks and alphas give every module its own scale.
pub(super) fn lora_config(modules: &[&Module]) -> Map<String, Value> {
    let ranked: Vec<(String, usize, f32)> = modules
        .iter()
        .filter(|m| is_low_rank(m))
        .filter_map(|m| {
            let rank = m.rank()?;
            // Without CLIP's `text_model.` level the name matches with and without it.
            Some((m.id.path.clone(), rank, alpha_for(m.scale, rank)))
        })
        .collect();
    let rank = most_common(ranked.iter().map(|(_, rank, _)| *rank)).unwrap_or(8);
    let alpha = most_common(ranked.iter().map(|(.., alpha)| alpha.to_bits()));
    let alpha = alpha.map_or(rank as f32, f32::from_bits);
    let rank_pattern: Map<String, Value> = ranked
        .iter()
        .filter(|(_, r, _)| *r != rank)
        .map(|(path, r, _)| (path.clone(), json!(r)))
        .collect();
    let alpha_pattern: Map<String, Value> = ranked
        .iter()
        .filter(|(.., a)| a.to_bits() != alpha.to_bits())
        .map(|(path, _, a)| (path.clone(), number(*a)))
        .collect();
    let targets: Vec<&String> = ranked.iter().map(|(path, ..)| path).collect();
    let saved: Vec<String> = modules
        .iter()
        .filter(|m| matches!(m.weight, Some(Delta::Replacement(_))))
        .map(|m| m.id.long_path())
        .collect();
    let any = |wanted: &dyn Fn(&Module) -> bool| modules.iter().any(|m| wanted(m));
    let all_biases = any(&|m| matches!(m.bias, Some(BiasDelta::Replace(_))) && !is_low_rank(m));
    let own_biases = any(&|m| matches!(m.bias, Some(BiasDelta::Replace(_))));
    let bias = if all_biases {
        "all"
    } else if own_biases {
        "lora_only"
    } else {
        "none"
    };
    let Value::Object(config) = json!({
        "peft_type": "LORA",
        "inference_mode": true,
        "r": rank,
        "lora_alpha": number(alpha),
        "target_modules": targets,
        "rank_pattern": rank_pattern,
        "alpha_pattern": alpha_pattern,
        "use_dora": any(&|m| m.magnitude.is_some()),
        "use_rslora": false,
        "fan_in_fan_out": any(&|m| m.transposed && !m.embedding),
        "bias": bias,
        "lora_bias": any(&|m| matches!(m.bias, Some(BiasDelta::Add { scaled: true, .. }))),
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
        "init_lora_weights": true,
        "lora_dropout": 0.0,
    }) else {
        return Map::new();
    };
    config
}

/// Whole numbers as integers, as PEFT writes them.
fn number(value: f32) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    if value.fract() == 0.0 && value.abs() < 1e6 { json!(value as i64) } else { json!(value) }
}

fn most_common<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}
