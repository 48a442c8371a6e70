//! sd-scripts' and LyCORIS' format: flat names, alpha as a tensor.

use std::collections::BTreeMap;
use std::path::Path;

use super::{alpha_for, is_low_rank, refuse_if};
use crate::adapter::fingerprint::{Family, family};
use crate::adapter::kohya_names::{self, UnetNames};
use crate::adapter::{
    Adapter, AdapterError, Axis, BiasDelta, Delta, Factor, Kind, Magnitude, Module, Product,
    metadata,
};
use crate::base::atomic;
use crate::tensors::{Dtype, Float, Tensor, TensorError};

const FORMAT: &str = "kohya";

pub(super) fn write(adapter: &Adapter, out: &Path) -> Result<(), AdapterError> {
    refuse(adapter)?;
    let two_encoders = family(adapter) == Some(Family::Sdxl);
    let unet = if two_encoders { UnetNames::Original } else { UnetNames::Diffusers };
    let mut tensors = BTreeMap::new();
    let mut ranks_alphas = Vec::new();
    for module in adapter.modules.values() {
        let Some(name) = kohya_names::write(&module.id, unet, two_encoders) else {
            continue;
        };
        for (part, tensor) in parts(module) {
            tensors.insert(format!("{name}.{part}"), tensor);
        }
        if let Some(rank) = module.rank().filter(|_| is_low_rank(module)) {
            ranks_alphas.push((rank, alpha_for(module.scale, rank)));
        }
    }
    let mut kept = metadata::kept(adapter);
    metadata::describe_network(&mut kept, adapter, &ranks_alphas);
    let bytes = metadata::with_hashes(out, &tensors, kept)?;
    atomic::write(out, &bytes).map_err(|e| TensorError::io(out, e).into())
}

fn refuse(adapter: &Adapter) -> Result<(), AdapterError> {
    refuse_if(
        adapter,
        FORMAT,
        "modules outside Stable Diffusion",
        "adapters of language models stay in the peft format",
        |m| kohya_names::write(&m.id, UnetNames::Diffusers, false).is_none(),
    )?;
    refuse_if(
        adapter,
        FORMAT,
        "replaced weights and scaled biases (modules_to_save, bias, lora_bias)",
        "keep the peft format",
        |m| {
            matches!(m.weight, Some(Delta::Replacement(_)))
                || matches!(
                    m.bias,
                    Some(BiasDelta::Replace(_) | BiasDelta::Add { scaled: true, .. })
                )
        },
    )
}

/// The tensors of a module by their names after the module's.
fn parts(module: &Module) -> Vec<(&'static str, Tensor)> {
    let mut parts = weight_parts(module);
    let alpha = match (module.rank(), &module.weight) {
        (Some(rank), _) => Some(alpha_for(module.scale, rank)),
        // Two full factors have no scale, but LyCORIS reads an alpha all the same.
        (None, Some(Delta::Kronecker { .. })) => Some(module.alpha.unwrap_or(1.0)),
        _ => None,
    };
    parts.extend(alpha.map(|alpha| ("alpha", Tensor::scalar(alpha, Float::F32))));
    if let Some(magnitude) = &module.magnitude {
        parts.push(("dora_scale", dora_scale(magnitude, module)));
    }
    if let Some(BiasDelta::Add { delta, .. }) = &module.bias {
        let norm = module.kind() == Kind::Norm;
        parts.push((if norm { "b_norm" } else { "diff_b" }, delta.clone()));
    }
    parts
}

fn weight_parts(module: &Module) -> Vec<(&'static str, Tensor)> {
    let product = |p: &Product, names: [&'static str; 3]| {
        let mut parts = vec![(names[0], p.a.clone()), (names[1], p.b.clone())];
        parts.extend(p.t.clone().map(|t| (names[2], t)));
        parts
    };
    let factor = |f: &Factor, full: &'static str, names: [&'static str; 3]| match f {
        Factor::Full(tensor) => vec![(full, tensor.clone())],
        Factor::Product(p) => product(p, names),
    };
    match &module.weight {
        None | Some(Delta::Replacement(_)) => Vec::new(),
        Some(Delta::LowRank { down, up, mid }) => {
            let mut parts =
                vec![("lora_down.weight", down.clone()), ("lora_up.weight", up.clone())];
            parts.extend(mid.clone().map(|mid| ("lora_mid.weight", mid)));
            parts
        }
        Some(Delta::Hadamard { w1, w2 }) => {
            let mut parts = product(w1, ["hada_w1_a", "hada_w1_b", "hada_t1"]);
            parts.extend(product(w2, ["hada_w2_a", "hada_w2_b", "hada_t2"]));
            parts
        }
        Some(Delta::Kronecker { w1, w2 }) => {
            let mut parts = factor(w1, "lokr_w1", ["lokr_w1_a", "lokr_w1_b", "lokr_t1"]);
            parts.extend(factor(w2, "lokr_w2", ["lokr_w2_a", "lokr_w2_b", "lokr_t2"]));
            parts
        }
        Some(Delta::Scaling { weight, on_input }) => {
            let flag = Tensor::from_bytes(Dtype::BOOL, vec![], vec![u8::from(*on_input)]);
            vec![("weight", weight.clone()), ("on_input", flag)]
        }
        Some(Delta::Glora { a1, a2, b1, b2 }) => vec![
            ("a1.weight", a1.clone()),
            ("a2.weight", a2.clone()),
            ("b1.weight", b1.clone()),
            ("b2.weight", b2.clone()),
        ],
        Some(Delta::Difference(tensor)) => {
            let norm = module.kind() == Kind::Norm;
            vec![(if norm { "w_norm" } else { "diff" }, tensor.clone())]
        }
    }
}

/// LyCORIS' shape: (out, 1[, 1, 1]) or (1, in[, 1, 1]).
fn dora_scale(magnitude: &Magnitude, module: &Module) -> Tensor {
    let n = magnitude.vector.elements();
    let mut shape = match magnitude.axis {
        Axis::Output => vec![n, 1],
        Axis::Input => vec![1, n],
    };
    if module
        .weight
        .as_ref()
        .is_some_and(|w| matches!(w, Delta::LowRank { down, .. } if down.shape().len() == 4))
    {
        shape.extend([1, 1]);
    }
    magnitude.vector.reshape(shape)
}
