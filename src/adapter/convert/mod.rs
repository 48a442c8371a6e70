//! An adapter written in another format, the same change of every weight to the bit.
//!
//! Tensors are copied as they are; only names, alphas and shapes of one dimension more or less
//! change. What a format has no words for is refused by name, never dropped.

mod diffusers;
mod kohya;
mod peft;

use std::path::Path;

use super::{Adapter, AdapterError, BiasDelta, Delta, Format, Kind, Module};
use crate::base::hint::first_few;

/// Writes `adapter` at `out` in `format`: a file, or a folder for PEFT.
pub fn write(adapter: &Adapter, format: Format, out: &Path) -> Result<(), AdapterError> {
    check_out(format, out)?;
    match format {
        Format::Kohya => kohya::write(adapter, out),
        Format::Diffusers => diffusers::write(adapter, out),
        Format::Peft => peft::write(adapter, out),
    }
}

/// Refuses a destination that could not be written, before any work is done.
pub fn check_out(format: Format, out: &Path) -> Result<(), AdapterError> {
    let refuse = |problem: &str, hint: &str| {
        let (problem, hint) = (problem.to_owned(), hint.to_owned());
        Err(AdapterError::File { path: out.to_owned(), problem, hint })
    };
    match format {
        Format::Peft if out.is_file() || !peft::only_an_adapter(out) => refuse(
            "exists and holds other things than a PEFT adapter",
            "a PEFT adapter is a folder; name a new one",
        ),
        Format::Kohya | Format::Diffusers if out.is_dir() => {
            refuse("is a folder", "an adapter in this format is a file; name one")
        }
        _ => Ok(()),
    }
}

/// Refuses modules that a format cannot express.
fn refuse_if(
    adapter: &Adapter,
    format: &'static str,
    reason: &'static str,
    hint: &'static str,
    cannot: impl Fn(&Module) -> bool,
) -> Result<(), AdapterError> {
    let modules: Vec<String> =
        adapter.modules.values().filter(|m| cannot(m)).map(|m| m.key.clone()).collect();
    if modules.is_empty() {
        return Ok(());
    }
    Err(AdapterError::CannotExpress { format, reason, modules: first_few(&modules), hint })
}

/// What PEFT's `LoraConfig` and diffusers' keys have no words for.
fn refuse_beyond_lora(adapter: &Adapter, format: &'static str) -> Result<(), AdapterError> {
    refuse_if(
        adapter,
        format,
        "LoHa, LoKr, (IA)³, GLoRA, full and norm differences",
        "keep the kohya format, or `lora-eval merge` the adapter and `lora-eval extract` a LoRA",
        |m| !matches!(m.weight, None | Some(Delta::LowRank { .. } | Delta::Replacement(_))),
    )?;
    refuse_if(
        adapter,
        format,
        "convolutions in Tucker form",
        "`lora-eval resize` to the same rank writes them in plain form",
        |m| matches!(&m.weight, Some(Delta::LowRank { mid: Some(_), .. })),
    )?;
    refuse_if(adapter, format, "DoRA along the inputs", "keep the kohya format", |m| {
        m.magnitude.as_ref().is_some_and(|d| d.axis == super::Axis::Input)
    })?;
    refuse_if(adapter, format, "differences of a bias", "keep the kohya format", |m| {
        matches!(m.bias, Some(BiasDelta::Add { scaled: false, .. }))
    })
}

/// The alpha to store beside a rank so that a reader's `alpha / rank` gives the scale to the bit.
pub(super) fn alpha_for(scale: f32, rank: usize) -> f32 {
    let rank = rank as f32;
    let alpha = scale * rank;
    [alpha, alpha.next_up(), alpha.next_down()]
        .into_iter()
        .find(|candidate| (candidate / rank).to_bits() == scale.to_bits())
        .unwrap_or(alpha)
}

/// Whether a module is a low-rank one (DoRA included).
fn is_low_rank(module: &Module) -> bool {
    matches!(module.weight, Some(Delta::LowRank { .. })) && module.kind() != Kind::Bias
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn scales_survive_as_alphas(alpha in 0.01f32..1000.0, rank in 1usize..513, stored in 1usize..513) {
            let scale = alpha / stored as f32;
            let again = alpha_for(scale, rank) / rank as f32;
            prop_assert!((again - scale).abs() <= scale * f32::EPSILON);
            prop_assert_eq!(alpha_for(alpha / rank as f32, rank) / rank as f32, alpha / rank as f32);
        }
    }
}
