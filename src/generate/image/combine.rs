//! Classifier-free guidance, with several prompts at once.

use crate::model::diffusion::sampler::{SamplerError, rescale_guidance};

/// `u + g·Σᵢ wᵢ·(cᵢ − u)` row by row (Ho and Salimans, 2022; Liu et al., 2022), in f32 as the peers do.
/// `outputs` holds the rows without prompt, then those of each part. Where a rescale is asked for, the
/// result's deviation goes that far towards that of the prompts' own prediction (Lin et al., 2024).
pub(super) fn guided(
    outputs: &[f32],
    weights: &[f64],
    (guidance, rescale): (f64, f64),
    row: usize,
) -> Result<Vec<f32>, SamplerError> {
    let size = outputs.len() / (1 + weights.len());
    let (without, parts) = outputs.split_at(size);
    let mut result = without.to_vec();
    let mut prompted = without.to_vec();
    for (part, weight) in parts.chunks_exact(size).zip(weights) {
        add(&mut result, part, without, guidance * weight);
        if rescale > 0.0 {
            add(&mut prompted, part, without, *weight);
        }
    }
    if rescale > 0.0 {
        #[expect(clippy::cast_possible_truncation, reason = "predictions are of single precision")]
        rescale_guidance(&mut result, &prompted, size / row, rescale as f32)?;
    }
    Ok(result)
}

/// `to += weight·(part − without)`
#[expect(clippy::cast_possible_truncation, reason = "predictions are of single precision")]
fn add(to: &mut [f32], part: &[f32], without: &[f32], weight: f64) {
    let weight = weight as f32;
    for ((to, part), without) in to.iter_mut().zip(part).zip(without) {
        *to += weight * (part - without);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_pull_with_their_weights() {
        // two rows of one value: without 1 and 2, first part 2 and 4, second part 0 and 0
        let outputs = [1.0, 2.0, 2.0, 4.0, 0.0, 0.0];
        assert_eq!(guided(&outputs[..4], &[1.0], (7.5, 0.0), 1).unwrap(), [8.5, 17.0]);
        assert_eq!(guided(&outputs, &[1.0, 0.5], (2.0, 0.0), 1).unwrap(), [2.0, 4.0]);
        assert_eq!(guided(&outputs, &[0.0, -1.0], (1.0, 0.0), 1).unwrap(), [2.0, 4.0]);
    }
}
