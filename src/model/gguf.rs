//! GGUF files as bases that can be run: their names and numbers in transformers' terms.
//!
//! llama.cpp's converter writes the rows of Llama's q and k in another order (pairs side by side
//! instead of halves); they are put back when a weight is read, block by block, so adapters made
//! for the original fit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device};
use serde_json::{Value, json};

use super::decoder::DecoderError;
use super::error::BaseError;
use super::layout::{Slot, Table, Target};
use crate::adapter::{Component, ModuleId};
use crate::nn::Weight;
use crate::tensors::gguf::{GgmlType, Gguf, GgufTensor};
use crate::tensors::{Float, Tensor, TensorError};

/// A language model in a GGUF file.
#[derive(Debug)]
pub struct GgufModel {
    /// The open file.
    pub file: Arc<Gguf>,
    /// What `config.json` of the original would say.
    pub config: Value,
    /// Names of transformers → names of the file.
    names: BTreeMap<String, String>,
}

/// Architectures of GGUF that are run, by `general.architecture`.
const KNOWN: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Names below `blk.N.` and below `model.layers.N.`.
const BLOCK: [(&str, &str); 12] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_up", "mlp.gate_up_proj"),
];

/// The name of transformers for a tensor of the file.
fn transformers_name(name: &str) -> Option<String> {
    let (path, kind) = name.rsplit_once('.')?;
    match path {
        "token_embd" => return Some(format!("model.embed_tokens.{kind}")),
        "output_norm" => return Some(format!("model.norm.{kind}")),
        "output" => return Some(format!("lm_head.{kind}")),
        _ => {}
    }
    let (index, inner) = path.strip_prefix("blk.")?.split_once('.')?;
    let (_, theirs) = BLOCK.iter().find(|(ours, _)| *ours == inner)?;
    Some(format!("model.layers.{index}.{theirs}.{kind}"))
}

impl GgufModel {
    /// Opens a file and checks that its architecture is known.
    pub fn open(path: &Path) -> Result<Self, BaseError> {
        let file = Gguf::open(path)?;
        let architecture = file.string("general.architecture")?;
        if !KNOWN.contains(&architecture) {
            let found = crate::base::terminal::printable(architecture);
            return Err(BaseError::NotABase {
                path: path.to_owned(),
                problem: format!(
                    "has the architecture `{found}`; of GGUF files {} are run",
                    KNOWN.join(", ")
                ),
                hint: "give the transformers folder that the file was converted from",
            });
        }
        let config = config(&file, architecture)?;
        let names = file
            .tensors
            .keys()
            .filter_map(|name| Some((transformers_name(name)?, name.clone())))
            .collect();
        Ok(Self { file: Arc::new(file), config, names })
    }

    /// Size of its weights in bytes.
    pub fn size(&self) -> u64 {
        self.file.tensors.values().map(|tensor| tensor.range.len() as u64).sum()
    }

    fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.file.tensors.get(self.names.get(name)?)
    }

    /// Whether there is a tensor of this name (of transformers).
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensor(name).is_some()
    }

    /// Shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensor(name).map(|tensor| tensor.shape.as_slice())
    }

    /// Heads whose rows stand in llama.cpp's order in this tensor.
    fn interleaved(&self, name: &str) -> Option<usize> {
        let count = |key: &str| self.config[key].as_u64().and_then(|n| usize::try_from(n).ok());
        if self.config["model_type"] != "llama" {
            return None;
        }
        match name.rsplit('.').nth(1) {
            Some("q_proj") => count("num_attention_heads"),
            Some("k_proj") => count("num_key_value_heads"),
            _ => None,
        }
    }

    /// A vector as f32.
    pub(super) fn vector(&self, name: &str) -> Result<Option<Vec<f32>>, TensorError> {
        let Some(tensor) = self.tensor(name) else { return Ok(None) };
        let Some(floats) = self.file.floats(tensor) else { return Ok(None) };
        let values = floats.to_f32(name)?;
        let Some(heads) = self.interleaved(name) else { return Ok(Some(values)) };
        Ok(Some(halves(values.len(), heads).map(|row| values[row]).collect()))
    }

    /// A weight (out, in), its rows in transformers' order; types as for [`Weight::load`], and a type
    /// that is asked for decodes quantised blocks.
    pub(super) fn weight(
        &self,
        name: &str,
        dtypes: (Option<DType>, DType),
        device: &Device,
    ) -> Result<Option<Weight>, DecoderError> {
        let Some(tensor) = self.tensor(name) else { return Ok(None) };
        let bytes = self.file.bytes(tensor);
        let rows = tensor.shape.first().copied().unwrap_or(0);
        let ordered = self.interleaved(name).filter(|heads| rows % (2 * heads) == 0).map(|heads| {
            let width = bytes.len() / rows.max(1);
            let order = halves(rows, heads);
            order.flat_map(|row| &bytes[row * width..(row + 1) * width]).copied().collect()
        });
        if let Some(floats) = self.file.floats(tensor) {
            let floats = match ordered {
                Some(bytes) => Tensor::from_bytes(floats.dtype(), tensor.shape.clone(), bytes),
                None => floats,
            };
            return Ok(Some(Weight::load(&floats, dtypes, device)?));
        }
        // candle reads blocks in place only where they are aligned; an allocation is
        let bytes: Vec<u8> = ordered.unwrap_or_else(|| bytes.to_vec());
        let on = if dtypes.0.is_some() { &Device::Cpu } else { device };
        let storage = QStorage::from_data(bytes.into(), on, quantisation(tensor.kind))?;
        let quantized = QTensor::new(storage, tensor.shape.as_slice())?;
        if dtypes.0.is_none() {
            return Ok(Some(Weight::Quantized(Arc::new(quantized))));
        }
        let values = quantized.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let decoded = Tensor::from_f32(tensor.shape.clone(), &values, Float::F32);
        Ok(Some(Weight::load(&decoded, dtypes, device)?))
    }

    /// Its modules, under the names that adapters use.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::default();
        for (name, key) in &self.names {
            let Some(path) = name.strip_suffix(".weight") else { continue };
            let slot = |name: &str, key: &str| {
                let shape = self.shape(name)?.to_vec();
                let rows = 0..shape.first().copied().unwrap_or(0);
                Some(Slot { file: 0, key: key.to_owned(), rows, shape })
            };
            let Some(weight) = slot(name, key) else { continue };
            let bias = format!("{path}.bias");
            let bias = self.names.get(&bias).and_then(|key| slot(&bias, key));
            let id = ModuleId::new(Component::Language, path);
            table.insert(Target { id, weight, bias, transposed: false, tied: false });
        }
        table
    }
}

/// Row of the file for each row in transformers' order: (heads, 2, half) from (heads, half, 2).
fn halves(rows: usize, heads: usize) -> impl Iterator<Item = usize> {
    let width = (rows / heads.max(1)).max(1);
    let half = (width / 2).max(1);
    (0..rows).map(move |row| {
        let (head, at) = (row / width, row % width);
        head * width + 2 * (at % half) + at / half
    })
}

fn quantisation(kind: GgmlType) -> GgmlDType {
    match kind {
        GgmlType::F32 => GgmlDType::F32,
        GgmlType::F16 => GgmlDType::F16,
        GgmlType::BF16 => GgmlDType::BF16,
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q8_1 => GgmlDType::Q8_1,
        GgmlType::Q2_K => GgmlDType::Q2K,
        GgmlType::Q3_K => GgmlDType::Q3K,
        GgmlType::Q4_K => GgmlDType::Q4K,
        GgmlType::Q5_K => GgmlDType::Q5K,
        GgmlType::Q6_K => GgmlDType::Q6K,
        GgmlType::Q8_K => GgmlDType::Q8K,
    }
}

/// What `config.json` of the original would say.
fn config(file: &Gguf, architecture: &str) -> Result<Value, BaseError> {
    let key = |name: &str| format!("{architecture}.{name}");
    let count =
        |name: &str| file.metadata.get(&key(name)).map(|_| file.u64(&key(name))).transpose();
    let number =
        |name: &str| file.metadata.get(&key(name)).map(|_| file.f64(&key(name))).transpose();
    let vocabulary = file.tensors.get("token_embd.weight").and_then(|t| t.shape.first().copied());
    let class = match architecture {
        "qwen2" => "Qwen2ForCausalLM",
        "qwen3" => "Qwen3ForCausalLM",
        _ => "LlamaForCausalLM",
    };
    let heads = file.u64(&key("attention.head_count"))?;
    let head = match count("attention.key_length")? {
        None if architecture == "llama" => count("rope.dimension_count")?,
        given => given,
    };
    let scaling = match file.metadata.get(&key("rope.scaling.type")) {
        None => "none",
        Some(_) => file.string(&key("rope.scaling.type"))?,
    };
    let mut rope = match scaling {
        "none" => Value::Null,
        kind => json!({
            "rope_type": kind,
            "factor": number("rope.scaling.factor")?,
            "attention_factor": number("rope.scaling.attn_factor")?,
            "original_max_position_embeddings": count("rope.scaling.original_context_length")?,
        }),
    };
    // Llama 3.1 and later: one divisor a frequency, at any length
    if let Some(factors) = file.tensors.get("rope_freqs.weight").and_then(|t| file.floats(t)) {
        let factors = factors.to_f32("rope_freqs.weight").map_err(BaseError::Tensors)?;
        rope = json!({
            "rope_type": "longrope", "factor": 1.0, "attention_factor": 1.0,
            "short_factor": factors, "long_factor": factors,
        });
    }
    Ok(json!({
        "architectures": [class],
        "model_type": architecture,
        "hidden_size": file.u64(&key("embedding_length"))?,
        "intermediate_size": file.u64(&key("feed_forward_length"))?,
        "num_hidden_layers": file.u64(&key("block_count"))?,
        "num_attention_heads": heads,
        "num_key_value_heads": count("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head,
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon")?,
        "rope_theta": number("rope.freq_base")?.unwrap_or(10_000.0),
        "rope_scaling": rope,
        "max_position_embeddings": count("context_length")?,
        "vocab_size": vocabulary,
        "tie_word_embeddings": !file.tensors.contains_key("output.weight"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_back_to_halves() {
        // one head of 4: the file holds 0, 2, 1, 3 of the original
        assert_eq!(halves(4, 1).collect::<Vec<_>>(), [0, 2, 1, 3]);
        assert_eq!(halves(8, 2).collect::<Vec<_>>(), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
