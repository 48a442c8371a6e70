//! Several adapters as one.
//!
//! - *concat*: ranks are put side by side, `up = [up₁ | up₂ …]`, `down = [c₁·down₁ ; c₂·down₂ …]` with
//!   `c = strength · alpha/rank`. The sum is exact; ranks add up.
//! - *svd*: the same sum decomposed and cut to a rank.
//!
//! Adding ups and downs separately, as sd-scripts' `merge_lora.py` and PEFT's `linear` do, is not
//! offered: it mixes each adapter's `up` with the others' `down`.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::resize::{factors, low_rank};
use super::{Adapter, AdapterError, BiasDelta, Delta, Factor, Module, ModuleId};
use crate::base::hint::first_few;
use crate::linalg::svd_of_product;
use crate::tensors::{Float, Tensor};

/// How adapters become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Ranks side by side, exact.
    Concat,
    /// Cut to this rank.
    Svd(usize),
}

/// An adapter and the strengths of its text encoder and UNet parts (language models: the latter).
#[derive(Debug, Clone)]
pub struct Weighted {
    /// The adapter.
    pub adapter: Adapter,
    /// Strength of modules in text encoders.
    pub text_encoder: f32,
    /// Strength of all other modules.
    pub unet: f32,
    /// What the strengths are multiplied by in each block of a base; empty if all are 1. Only a merge,
    /// which knows the base, heeds them.
    pub blocks: Vec<f64>,
}

impl Weighted {
    /// The strength that governs a module.
    pub fn strength(&self, id: &ModuleId) -> f32 {
        if id.component.is_text_encoder() { self.text_encoder } else { self.unet }
    }
}

/// One adapter that does what all of them do together.
pub fn combine(inputs: &[Weighted], method: Method) -> Result<Adapter, AdapterError> {
    let mut by_module: BTreeMap<&ModuleId, Vec<(&Module, f32)>> = BTreeMap::new();
    for input in inputs {
        for (id, module) in &input.adapter.modules {
            by_module.entry(id).or_default().push((module, input.strength(id)));
        }
    }
    let refused: Vec<String> = by_module
        .values()
        .filter(|parts| !can_combine(parts))
        .map(|parts| parts[0].0.key.clone())
        .collect();
    if !refused.is_empty() {
        return Err(AdapterError::CannotExpress {
            format: "combined",
            reason: "these modules together or at this strength (DoRA and replaced weights do not scale, other kinds do not add up)",
            modules: first_few(&refused),
            hint: "`lora-eval merge` applies them all to a base; `lora-eval extract` makes a LoRA of the result",
        });
    }
    let parts: Vec<Vec<(&Module, f32)>> = by_module.into_values().collect();
    let modules: Vec<Module> =
        parts.par_iter().map(|parts| one(parts, method)).collect::<Result<_, AdapterError>>()?;
    let first = inputs.first().map(|input| input.adapter.clone());
    let mut combined = first.ok_or_else(|| AdapterError::File {
        path: "combine".into(),
        problem: "no adapter was given".to_owned(),
        hint: "name at least one".to_owned(),
    })?;
    combined.modules = modules.into_iter().map(|module| (module.id.clone(), module)).collect();
    combined.warnings.clear();
    combined.unread.clear();
    Ok(combined)
}

fn is_plain(module: &Module) -> bool {
    matches!(module.weight, Some(Delta::LowRank { .. })) && module.magnitude.is_none()
}

fn can_combine(parts: &[(&Module, f32)]) -> bool {
    let same_sides = |a: &Module, b: &Module| {
        (a.extent(), a.inputs(), a.transposed) == (b.extent(), b.inputs(), b.transposed)
    };
    let replaces = |m: &Module| {
        matches!(m.weight, Some(Delta::Replacement(_)))
            || matches!(m.bias, Some(BiasDelta::Replace(_)))
    };
    match parts {
        [(module, strength)] => {
            let scales = module.magnitude.is_none() && !replaces(module);
            scales || (strength - 1.0).abs() < f32::EPSILON
        }
        [(first, _), rest @ ..] => {
            rest.iter().all(|(other, _)| same_sides(first, other))
                && (parts.iter().all(|(m, _)| is_plain(m) && m.bias.is_none())
                    || parts.iter().all(|(m, _)| is_difference(m) && !replaces(m)))
        }
        [] => false,
    }
}

fn is_difference(module: &Module) -> bool {
    matches!(module.weight, None | Some(Delta::Difference(_))) && module.magnitude.is_none()
}

fn one(parts: &[(&Module, f32)], method: Method) -> Result<Module, AdapterError> {
    let first = parts[0].0;
    let cut = match method {
        Method::Svd(rank) if is_plain(first) => Some(rank),
        _ => None,
    };
    match (parts, cut) {
        ([(module, strength)], None) => scaled(module, *strength),
        (parts, None) if is_difference(first) => sum(parts),
        (parts, cut) => side_by_side(parts, cut),
    }
}

/// One module at another strength, which goes into its scale and leaves its tensors alone.
fn scaled(module: &Module, strength: f32) -> Result<Module, AdapterError> {
    let mut scaled = module.clone();
    if (strength - 1.0).abs() < f32::EPSILON {
        return Ok(scaled);
    }
    let times = |tensor: &Tensor| -> Result<Tensor, AdapterError> {
        let values: Vec<f32> = tensor.to_f32(&module.key)?.iter().map(|x| x * strength).collect();
        Ok(Tensor::from_f32(tensor.shape().to_vec(), &values, Float::F32))
    };
    match &module.weight {
        Some(Delta::Difference(tensor)) => scaled.weight = Some(Delta::Difference(times(tensor)?)),
        Some(Delta::Scaling { weight, on_input }) => {
            scaled.weight = Some(Delta::Scaling { weight: times(weight)?, on_input: *on_input });
        }
        Some(Delta::Kronecker { w1: Factor::Full(w1), w2: w2 @ Factor::Full(_) }) => {
            let w1 = Factor::Full(times(w1)?);
            scaled.weight = Some(Delta::Kronecker { w1, w2: w2.clone() });
        }
        _ => {
            scaled.scale *= strength;
            scaled.alpha = module.rank().map(|rank| scaled.scale * rank as f32);
        }
    }
    if let Some(BiasDelta::Add { delta, scaled: false }) = &module.bias {
        scaled.bias = Some(BiasDelta::Add { delta: times(delta)?, scaled: false });
    }
    Ok(scaled)
}

/// Full differences and biases added up.
fn sum(parts: &[(&Module, f32)]) -> Result<Module, AdapterError> {
    let mut whole = parts[0].0.clone();
    let add = |tensors: &mut dyn Iterator<Item = (&Tensor, f32)>| {
        let mut total: Option<(Vec<usize>, Vec<f32>)> = None;
        for (tensor, strength) in tensors {
            let values = tensor.to_f32(&parts[0].0.key)?;
            let (_, total) =
                total.get_or_insert_with(|| (tensor.shape().to_vec(), vec![0.0; values.len()]));
            total.iter_mut().zip(&values).for_each(|(sum, x)| *sum += strength * x);
        }
        Ok::<_, AdapterError>(total.map(|(shape, sum)| Tensor::from_f32(shape, &sum, Float::F32)))
    };
    let weights = add(&mut parts.iter().filter_map(|(m, s)| match &m.weight {
        Some(Delta::Difference(tensor)) => Some((tensor, *s)),
        _ => None,
    }))?;
    let biases = add(&mut parts.iter().filter_map(|(m, s)| match &m.bias {
        Some(BiasDelta::Add { delta, .. }) => Some((delta, *s)),
        _ => None,
    }))?;
    whole.weight = weights.map(Delta::Difference);
    whole.bias = biases.map(|delta| BiasDelta::Add { delta, scaled: false });
    Ok(whole)
}

/// Low-rank modules put side by side, then cut to a rank if one is given.
fn side_by_side(parts: &[(&Module, f32)], cut: Option<usize>) -> Result<Module, AdapterError> {
    let first = parts[0].0;
    let mut sides = Vec::new();
    for (module, strength) in parts {
        if let Some(side) = factors(module)? {
            sides.push((side, strength * module.scale));
        }
    }
    let (rows, columns) = sides.first().map_or((0, 0), |((_, _, (m, _, n)), _)| (*m, *n));
    let rank: usize = sides.iter().map(|((_, _, (_, r, _)), _)| r).sum();
    // A factor that all share goes into the scale, so that equal tensors stay as they are.
    let shared = sides.first().map_or(1.0, |(_, c)| *c);
    let scale = if sides.iter().all(|(_, c)| *c == shared) { shared } else { 1.0 };
    let exact = scale == shared && sides.iter().all(|(_, c)| *c == shared);
    let mut left = Vec::with_capacity(rows * rank);
    for row in 0..rows {
        for ((up, _, (_, r, _)), _) in &sides {
            left.extend_from_slice(&up[row * r..][..*r]);
        }
    }
    let mut right = Vec::with_capacity(rank * columns);
    for ((_, down, _), c) in &sides {
        right.extend(down.iter().map(|x| if exact { *x } else { c * x }));
    }
    let (left, right, rank) = match cut {
        None => (left, right, rank),
        Some(cut) => {
            let svd = svd_of_product(&left, &right, (rows, rank, columns))
                .map_err(|source| AdapterError::Decompose { module: first.key.clone(), source })?;
            let cut = cut.min(svd.s.len()).max(1);
            let (left, right) = svd.factors(cut);
            (left, right, cut)
        }
    };
    let Some(Delta::LowRank { down, up, mid }) = &first.weight else {
        return Ok(first.clone());
    };
    let kernel = mid.as_ref().unwrap_or(down).shape().get(2..).unwrap_or(&[]).to_vec();
    let float = if exact && cut.is_none() { widest(parts) } else { Float::F32 };
    let sides = ((left, up.shape()), (right, down.shape()[1], kernel.as_slice()));
    Ok(Module {
        weight: Some(low_rank(sides.0, sides.1, rank, float)),
        scale,
        alpha: Some(scale * rank as f32),
        ..first.clone()
    })
}

/// The type that holds all of the modules' tensors exactly.
fn widest(parts: &[(&Module, f32)]) -> Float {
    let floats: Vec<Float> = parts
        .iter()
        .flat_map(|(module, _)| module.tensors())
        .filter_map(|(_, tensor)| Float::of(tensor.dtype()))
        .collect();
    match floats.split_first() {
        Some((first, rest)) if rest.iter().all(|float| float == first) => *first,
        _ => Float::F32,
    }
}
