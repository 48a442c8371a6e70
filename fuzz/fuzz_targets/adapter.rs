//! Any file at all: reading it as an adapter never panics, and what has been read can be applied to
//! a weight of the shape that it says it is made for.
//!
//! Half of the inputs are files as they are. The others are read as a list of tensors with names
//! and shapes such as adapters have, so that most of them get past the header.
//!
//! `cargo +nightly fuzz run adapter -- -max_len=4096`

#![no_main]

use std::fmt::Write as _;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use lora_eval::adapter::{Adapter, Module, RowDelta, made_for};
use lora_eval::tensors::{Limits, TensorFile};

/// Largest weight that a change is applied to, in elements.
const MOST: usize = 1_000_000;

const STEMS: [&str; 11] = [
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
    "lora_unet_input_blocks_4_1_proj_in",
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
    "lora_te2_text_projection",
    "lycoris_model_layers_0_q_proj",
    "unet.up_blocks.1.resnets.0.conv1",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    "diffusion_model.output_blocks.3.1.proj_out",
    "base_model.model.model.layers.7.self_attn.q_proj",
    "base_model.model.model.embed_tokens",
    "base_model.model.h.18446744073709551615.attn.c_attn",
];

const ENDS: [&str; 46] = [
    ".lora_down.weight",
    ".lora_up.weight",
    ".lora_mid.weight",
    ".alpha",
    ".scale",
    ".dora_scale",
    ".hada_w1_a",
    ".hada_w1_b",
    ".hada_w2_a",
    ".hada_w2_b",
    ".hada_t1",
    ".hada_t2",
    ".lokr_w1",
    ".lokr_w1_a",
    ".lokr_w1_b",
    ".lokr_t1",
    ".lokr_w2",
    ".lokr_w2_a",
    ".lokr_w2_b",
    ".lokr_t2",
    ".a1.weight",
    ".a2.weight",
    ".b1.weight",
    ".b2.weight",
    ".weight",
    ".bias",
    ".on_input",
    ".diff",
    ".diff_b",
    ".w_norm",
    ".b_norm",
    ".set_weight",
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_B.bias",
    ".lora_A.default.weight",
    ".lora_embedding_A",
    ".lora_embedding_B",
    ".lora_magnitude_vector",
    ".lora_linear_layer.down.weight",
    ".lora.up.weight",
    "_lora.down.weight",
    "_lora.up.weight",
    "_lora.alpha",
    ".modules_to_save.weight",
    ".base_layer.weight",
];

/// What a module needs to be read at all; what an input adds changes or breaks it.
const SETS: [&[&str]; 8] = [
    &[".lora_down.weight", ".lora_up.weight", ".alpha"],
    &[".lora_down.weight", ".lora_up.weight", ".lora_mid.weight", ".dora_scale"],
    &[".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"],
    &[".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2"],
    &[".lokr_w1", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"],
    &[".lokr_w1_a", ".lokr_w1_b", ".lokr_w2_a", ".lokr_w2_b"],
    &[".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"],
    &[".weight", ".on_input"],
];

const DTYPES: [(&str, usize); 8] = [
    ("F32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("F64", 8),
    ("I64", 8),
    ("I32", 4),
    ("BOOL", 1),
    ("F8_E4M3", 1),
];

#[derive(Debug, Arbitrary)]
struct Plan {
    modules: Vec<PlannedModule>,
    tensors: Vec<Planned>,
    /// A path of any words, beside the usual ones.
    stem: String,
    values: u8,
    metadata: Option<String>,
}

#[derive(Debug, Arbitrary)]
struct PlannedModule {
    stem: u8,
    set: u8,
    shapes: [Shape; 6],
}

#[derive(Debug, Arbitrary)]
struct Planned {
    stem: u8,
    end: u8,
    dtype: u8,
    shape: Shape,
}

#[derive(Debug, Arbitrary)]
struct Shape {
    dimensions: u8,
    extents: [u8; 5],
}

impl Shape {
    /// Mostly 1 to 4, so that shapes agree by chance; now and then nothing, or something huge.
    fn extents(&self) -> Vec<usize> {
        let extent = |byte: u8| match byte {
            0..=199 => usize::from(byte) % 4 + 1,
            200..=219 => 0,
            220..=229 => 1 << 24,
            _ => usize::from(byte) - 224,
        };
        let n = match self.dimensions {
            0..=9 => 0,
            10..=39 => 1,
            40..=179 => 2,
            180..=239 => 4,
            240..=247 => 3,
            _ => 5,
        };
        self.extents[..n].iter().map(|byte| extent(*byte)).collect()
    }
}

impl Plan {
    fn file(&self) -> Option<Vec<u8>> {
        let mut header = String::from("{");
        if let Some(text) = &self.metadata {
            let text = format!("{text:?}").replace("\\u{", "\\\\u{").replace("\\'", "'");
            write!(header, "\"__metadata__\":{{\"lora_adapter_metadata\":{text}}}").ok()?;
        }
        let mut end = 0usize;
        let mut add = |stem: u8, last: &str, dtype: u8, shape: &Shape| -> Option<()> {
            let stem = match STEMS.get(usize::from(stem) % (STEMS.len() + 2)) {
                Some(stem) => (*stem).to_owned(),
                None => {
                    self.stem.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect()
                }
            };
            let (dtype, size) = DTYPES[usize::from(dtype.saturating_sub(160)) % DTYPES.len()];
            let extents = shape.extents();
            let elements = extents.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent))?;
            let bytes = elements.checked_mul(size).filter(|bytes| *bytes <= 1 << 16)?;
            let comma = if header.len() > 1 { "," } else { "" };
            let next = end + bytes;
            write!(
                header,
                "{comma}\"{stem}{last}\":{{\"dtype\":\"{dtype}\",\"shape\":{extents:?},\"data_offsets\":[{end},{next}]}}"
            )
            .ok()?;
            end = next;
            Some(())
        };
        for module in self.modules.iter().take(4) {
            let set = SETS[usize::from(module.set) % SETS.len()];
            for (last, shape) in set.iter().zip(&module.shapes) {
                add(module.stem, last, 0, shape)?;
            }
        }
        for tensor in self.tensors.iter().take(12) {
            let last = ENDS[usize::from(tensor.end) % ENDS.len()];
            add(tensor.stem, last, tensor.dtype, &tensor.shape)?;
        }
        header.push('}');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + end, self.values);
        Some(bytes)
    }
}

fn apply(module: &Module) {
    let Some((rows, columns)) = module.extent() else { return };
    if rows.checked_mul(columns).is_none_or(|elements| elements > MOST) {
        return;
    }
    for (shape, transposed) in [([rows, columns], false), ([columns, rows], true)] {
        let Ok(Some(mut delta)) = RowDelta::new(module, &shape, transposed, 0.5) else { continue };
        let base = vec![0.5f32; rows * columns];
        let mut sum = vec![0.0f32; rows * columns];
        if delta.needs_column_norms() {
            delta.see_rows(0..shape[0], &base);
        }
        delta.add_rows(0..shape[0], &base, &mut sum);
        if let Some(delta) = RowDelta::stacked(vec![delta.clone(), delta]).first() {
            delta.add_rows(0..shape[0], &base, &mut sum);
        }
    }
    let _ = RowDelta::of_bias(module, rows, 0.5);
}

fuzz_target!(|data: &[u8]| {
    let bytes = match data.split_first() {
        Some((1, rest)) => match Plan::arbitrary(&mut Unstructured::new(rest)).ok() {
            Some(plan) => plan.file(),
            None => return,
        },
        _ => Some(data.to_vec()),
    };
    let Some(bytes) = bytes else { return };
    let path = Path::new("x.safetensors");
    let Ok(file) = TensorFile::from_bytes(path, bytes, Limits::ADAPTER) else { return };
    match Adapter::from_file(&file) {
        Ok(adapter) => {
            let modules: usize = adapter.kinds().values().sum();
            assert_eq!(modules, adapter.modules.len());
            assert!(adapter.ranks().keys().all(|rank| *rank > 0));
            let _ = (adapter.dtypes(), adapter.not_finite(), adapter.without_effect());
            assert!(!made_for(&adapter).chars().any(char::is_control));
            adapter.modules.values().for_each(apply);
        }
        Err(error) => {
            assert!(error.to_string().contains("x.safetensors"), "{error}");
            assert!(error.to_string().contains("hint:"), "{error}");
        }
    }
});
