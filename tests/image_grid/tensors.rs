//! Safetensors files, read and written by their definition, and checkpoints made of them.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use lora_eval::adapter::Component;
use lora_eval::model::{Base, Slot};
use serde_json::{Map, Value, json};

use super::program::{Place, change_json, fixture};

pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub fn read(path: &Path) -> Vec<Tensor> {
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

pub fn write(path: &Path, tensors: &[Tensor]) {
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

pub fn change(path: &Path, change: impl FnOnce(&mut Vec<Tensor>)) {
    let mut tensors = read(path);
    change(&mut tensors);
    write(path, &tensors);
}

pub fn named<'a>(tensors: &'a mut [Tensor], end: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|tensor| tensor.name.ends_with(end)).unwrap()
}

/// Multiplies values of f32.
pub fn multiply(tensor: &mut Tensor, by: f32) {
    assert_eq!(tensor.dtype, "F32");
    let values = tensor.bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) * by);
    tensor.bytes = values.flat_map(f32::to_le_bytes).collect();
}

// ---------------------------------------------------------------------------------------------
// Checkpoints with the numbers of heads and groups that single files are taken to have

/// Tokens of CLIP's vocabulary.
const VOCABULARY: usize = 49_408;

/// The shape that a tensor of `FAMILY.safetensors` has with four times as many channels in the
/// denoiser and eight times as many in the autoencoder, so that 32 groups divide them.
fn widened(name: &str, shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    let (unet, vae) = ("model.diffusion_model.", "first_stage_model.");
    if name.ends_with("token_embedding.weight") {
        shape[0] = VOCABULARY;
    } else if let Some(name) = name.strip_prefix(unet) {
        let fixed_in = name == "input_blocks.0.0.weight"
            || name.ends_with("attn2.to_k.weight")
            || name.ends_with("attn2.to_v.weight");
        let pooled = name == "label_emb.0.0.weight";
        scale(&mut shape, 4, (name.starts_with("out.2."), fixed_in || pooled));
        if pooled {
            shape[1] = 32 + 6 * 256; // single files tell sizes in 256 sinusoids each
        }
    } else if let Some(name) = name.strip_prefix(vae)
        && !name.starts_with("quant_conv")
        && !name.starts_with("post_quant_conv")
    {
        let fixed_out =
            name.starts_with("encoder.conv_out") || name.starts_with("decoder.conv_out");
        let fixed_in = name == "encoder.conv_in.weight" || name == "decoder.conv_in.weight";
        scale(&mut shape, 8, (fixed_out, fixed_in));
    }
    shape
}

fn scale(shape: &mut [usize], by: usize, (fixed_out, fixed_in): (bool, bool)) {
    for (axis, fixed) in [(0, fixed_out), (1, fixed_in)] {
        if !fixed && axis < shape.len() {
            shape[axis] *= by;
        }
    }
}

/// Values that keep activations at about their size, the same in every run.
fn values(name: &str, shape: &[usize]) -> Vec<f16> {
    let count: usize = shape.iter().product();
    let inputs: usize = shape.iter().skip(1).product();
    let norm = shape.len() < 2;
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut draw = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let spread = if norm { 0.1 } else { (3.0 / inputs.max(1) as f32).sqrt() };
    let centre = if norm && name.ends_with("weight") { 1.0 } else { 0.0 };
    (0..count).map(|_| f16::from_f32(centre + spread * draw())).collect()
}

/// What a folder stores of a tensor of a single file.
fn stored(base: &Base, from: &Slot, turned: bool, to: &Slot) -> Tensor {
    let tensor = base.files[from.file].file.get(&from.key).unwrap().rows(from.rows.clone());
    let mut shape = tensor.shape().to_vec();
    let mut bytes = tensor.bytes().to_vec();
    if turned {
        let columns = shape[1];
        let at = |column: usize| (0..shape[0]).map(move |row| 2 * (row * columns + column));
        bytes = (0..columns).flat_map(at).flat_map(|at| [bytes[at], bytes[at + 1]]).collect();
        shape.reverse();
    }
    shape.truncate(to.shape.len()); // a 1 × 1 convolution is a matrix in diffusers
    Tensor { name: to.key.clone(), dtype: "F16".to_owned(), shape, bytes }
}

/// A single file that can be drawn with, f16, and a folder of the same weights.
pub fn checkpoint(family: &str, place: &Place) -> (PathBuf, PathBuf) {
    let template = fixture("diffusion").join(format!("{family}.safetensors"));
    let mut tensors = read(&template);
    for tensor in tensors.iter_mut().filter(|tensor| tensor.dtype == "F16") {
        tensor.shape = widened(&tensor.name, &tensor.shape);
        let values = values(&tensor.name, &tensor.shape);
        tensor.bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    }
    let file = place.path(&format!("{family}-wide.safetensors"));
    write(&file, &tensors);
    let folder = place.pipeline(family, &format!("{family}-wide"));
    let base = Base::open_to_run(&file).unwrap();
    let like = Base::open_to_run(&folder).unwrap();
    for part in &like.files {
        let component = part.component.unwrap();
        let path = folder.join(&part.relative);
        let mut written = Vec::new();
        for target in like.table.targets().filter(|target| target.id.component == component) {
            let from = base.table.get(&target.id).unwrap();
            written.push(stored(&base, &from.weight, from.transposed, &target.weight));
            if let (Some(from), Some(to)) = (&from.bias, &target.bias) {
                written.push(stored(&base, from, false, to));
            }
        }
        write(&path, &written);
        change_json(&folder.join(component.name()).join("config.json"), |config| {
            config["norm_num_groups"] = json!(32);
            match component {
                // heads of single files: eight behind a convolution, of 64 channels elsewhere
                Component::Unet if family == "sd1" => config["attention_head_dim"] = json!(8),
                Component::Unet => {
                    config["attention_head_dim"] = json!([1, 1, 1, 1]);
                    config["addition_time_embed_dim"] = json!(256);
                }
                Component::TextEncoder | Component::TextEncoder2 => {
                    config["num_attention_heads"] = json!(1);
                }
                _ => {}
            }
        });
    }
    (file, folder)
}
