//! Merged weights against the peers' own, on the fixtures of `tests/parity/` (see its README).
//!
//! f32: within 10⁻⁶ of the tensor's largest element of what PEFT, diffusers or LyCORIS made.
//! f16, bf16: within one unit in the last place of the exact result, computed in f64.
//! Every other tensor: the base's bytes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lora_eval::adapter::Adapter;
use lora_eval::adapter::combine::Weighted;
use lora_eval::merge::{Request, merge};
use lora_eval::model::{Base, Shape};
use lora_eval::tensors::{Dtype, Limits, Tensor, TensorFile};
use serde::Deserialize;

#[derive(Deserialize)]
struct Manifest {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    base: String,
    adapters: Vec<Used>,
    expected: String,
    peer: String,
}

#[derive(Deserialize)]
struct Used {
    path: String,
    strength: Strength,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Strength {
    One(f32),
    Two { te: f32, unet: f32 },
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(root().join("manifest.json")).unwrap();
    serde_json::from_str::<Manifest>(&text).unwrap().cases
}

/// All tensors of a model on disk by the keys that the fixtures use.
fn tensors(path: &Path) -> Vec<(String, Tensor)> {
    let base = Base::open(path).unwrap();
    let mut all = Vec::new();
    for file in &base.files {
        let folder = match base.shape {
            Shape::Pipeline => format!("{}/", file.component.unwrap()),
            _ => String::new(),
        };
        for name in file.file.names() {
            all.push((format!("{folder}{name}"), file.file.get(name).unwrap()));
        }
    }
    all
}

/// One unit in the last place of the type, at `value`.
fn ulp(value: f64, dtype: Dtype) -> f64 {
    let (bits, smallest): (i32, i32) = match dtype {
        Dtype::F16 => (10, -14),
        Dtype::BF16 => (7, -126),
        _ => unreachable!("f32 is compared otherwise"),
    };
    let exponent = value.abs().log2().floor().max(f64::from(smallest));
    (exponent - f64::from(bits)).exp2()
}

fn doubles(tensor: &Tensor) -> Vec<f64> {
    if tensor.dtype() == Dtype::F64 {
        let (chunks, _) = tensor.bytes().as_chunks::<8>();
        return chunks.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    }
    tensor.to_f32("x").unwrap().into_iter().map(f64::from).collect()
}

/// The largest error in units of what is allowed.
fn worst(found: &Tensor, expected: &Tensor) -> f64 {
    let (values, exact) = (doubles(found), doubles(expected));
    assert_eq!(values.len(), exact.len());
    let largest = exact.iter().fold(0.0f64, |m, e| m.max(e.abs()));
    let errors = values.iter().zip(&exact).map(|(value, exact)| {
        let allowed = match found.dtype() {
            Dtype::F16 | Dtype::BF16 => ulp(*exact, found.dtype()),
            _ => 1e-6 * largest,
        };
        (value - exact).abs() / allowed
    });
    errors.fold(0.0, f64::max)
}

fn check(case: &Case) -> Vec<String> {
    let root = root();
    let base = Base::open(&root.join(&case.base)).unwrap();
    let mut adapters = Vec::new();
    for used in &case.adapters {
        let adapter = match Adapter::open(&root.join(&used.path)) {
            Ok(adapter) => adapter,
            Err(error) => return vec![format!("{}: {error}", case.name)],
        };
        let (text_encoder, unet) = match used.strength {
            Strength::One(both) => (both, both),
            Strength::Two { te, unet } => (te, unet),
        };
        adapters.push(Weighted { adapter, text_encoder, unet, blocks: Vec::new() });
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let request =
        Request { base: &base, adapters: &adapters, out: &out, dtype: None, strict: true };
    if let Err(error) = merge(&request, &|_| {}) {
        return vec![format!("{}: {error}", case.name)];
    }
    let expected: Arc<TensorFile> =
        TensorFile::open(&root.join(&case.expected), Limits::BASE).unwrap();
    let before: std::collections::BTreeMap<String, Tensor> =
        tensors(&root.join(&case.base)).into_iter().collect();
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (key, tensor) in tensors(&out) {
        let problem = match (expected.get(&key), before.get(&key)) {
            (Some(expected), _) => {
                let worst = worst(&tensor, &expected);
                (worst.is_nan() || worst > 1.0).then(|| format!("{worst:.2} × the tolerance"))
            }
            (None, Some(before)) => (before.bytes() != tensor.bytes())
                .then(|| "changed, and the peer's did not".to_owned()),
            (None, None) => Some("is new, and the peer has none".to_owned()),
        };
        seen.insert(key.clone());
        problems.extend(problem.map(|p| format!("{} ({}): {key}: {p}", case.name, case.peer)));
    }
    let missing = expected.names().filter(|name| !seen.contains(*name));
    problems.extend(missing.map(|name| format!("{}: {name} was not written", case.name)));
    problems
}

#[test]
fn merged_weights_equal_the_peers() {
    let cases = cases();
    assert!(cases.len() > 100, "the manifest lists {} cases", cases.len());
    let problems: Vec<String> = cases.iter().flat_map(check).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
