//! diffusers' format: one file for the pipeline, ranks and alphas in its metadata.
//!
//! The keys are those of `save_lora_weights` (diffusers ≥ 0.21). They have no alpha, so each
//! component's `LoraConfig` goes into the metadata `lora_adapter_metadata`, as diffusers ≥ 0.34
//! writes and reads it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::{is_low_rank, peft, refuse_beyond_lora, refuse_if};
use crate::adapter::{Adapter, AdapterError, Component, Module, metadata};
use crate::tensors::write_file;

const FORMAT: &str = "diffusers";

pub(super) fn write(adapter: &Adapter, out: &Path) -> Result<(), AdapterError> {
    refuse_if(adapter, FORMAT, "adapters of language models", "keep the peft format", |m| {
        m.id.component == Component::Language
    })?;
    refuse_beyond_lora(adapter, FORMAT)?;
    refuse_if(adapter, FORMAT, "replaced weights and biases", "keep the peft format", |m| {
        !is_low_rank(m) || m.bias.is_some()
    })?;
    let mut tensors = BTreeMap::new();
    for module in adapter.modules.values() {
        let path = format!("{}.{}", module.id.component, module.id.long_path());
        let parts = peft::parts(module);
        tensors.extend(parts.into_iter().map(|(part, t)| (format!("{path}.{part}"), t)));
    }
    let mut kept = metadata::kept(adapter);
    kept.insert("format".to_owned(), "pt".to_owned());
    let configs = Value::Object(configs(adapter)).to_string();
    kept.insert("lora_adapter_metadata".to_owned(), configs);
    Ok(write_file(out, &tensors, &kept)?)
}

/// `component.field` → value, for every component.
fn configs(adapter: &Adapter) -> Map<String, Value> {
    let mut fields = Map::new();
    for component in adapter.components().keys() {
        let modules: Vec<&Module> =
            adapter.modules.values().filter(|m| m.id.component == *component).collect();
        let config = peft::lora_config(&modules);
        fields.extend(config.into_iter().map(|(key, v)| (format!("{component}.{key}"), v)));
    }
    fields
}
