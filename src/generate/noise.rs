//! Random numbers for sampling that depend on what is sampled and on nothing else.

use sha2::{Digest as _, Sha256};

/// A source of noise for one prompt and seed.
///
/// Each (step, token) has its own number, computed from a counter instead of drawn from a stream, so
/// the size and order of batches change nothing, and all strengths of a prompt and seed share their
/// noise: what differs between their texts is the adapter's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    key: u64,
}

impl Noise {
    /// The noise of a prompt (its tokens) and a seed.
    pub fn new(seed: u64, prompt: &[u32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"lora-eval sampling 1\n");
        hash.update(seed.to_le_bytes());
        for token in prompt {
            hash.update(token.to_le_bytes());
        }
        let mut key = [0; 8];
        key.copy_from_slice(&hash.finalize()[..8]);
        Self { key: u64::from_le_bytes(key) }
    }

    /// A number from the standard Gumbel distribution for `token` at `step`.
    ///
    /// `argmax(ln p + g)` over the tokens is a draw from p (Gumbel-max; Maddison et al., 2014).
    pub fn gumbel(self, step: usize, token: u32) -> f64 {
        let counter = (step as u64) << 32 | u64::from(token);
        let bits = mix(mix(self.key ^ mix(counter)).wrapping_add(counter));
        // 53 random bits, in the middle of their interval: never 0, never 1
        let uniform = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -(-uniform.ln()).ln()
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_have_the_mean_and_variance_of_gumbel() {
        let noise = Noise::new(7, &[1, 2, 3]);
        let values: Vec<f64> =
            (0..200).flat_map(|step| (0..1000).map(move |t| noise.gumbel(step, t))).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        // Euler's constant and π²/6; standard errors are 0.0029 and 0.0085 (kurtosis 5.4)
        assert!((mean - 0.577_215_66).abs() < 0.012, "{mean}");
        assert!((variance - std::f64::consts::PI.powi(2) / 6.0).abs() < 0.035, "{variance}");
    }

    #[test]
    fn seed_prompt_step_and_token_all_matter() {
        let noise = Noise::new(1, &[5]);
        let value = noise.gumbel(3, 4);
        assert_eq!(value, Noise::new(1, &[5]).gumbel(3, 4));
        for other in [
            Noise::new(2, &[5]).gumbel(3, 4),
            Noise::new(1, &[6]).gumbel(3, 4),
            noise.gumbel(4, 4),
            noise.gumbel(3, 5),
        ] {
            assert_ne!(value, other);
        }
    }
}
