//! Random numbers of a training: each a function of the seed, its purpose and what it is for.
//!
//! Nothing is drawn "next", so order of data, noise, timesteps and dropout are the same on every
//! device, for every batch layout, and after a training went on from a checkpoint. A number is word
//! `i` of Philox4x32-10 on the counter `(i / 4, lane, visit, index)` under the key of a [`Random`]:
//! the first eight bytes (little endian) of SHA-256 of `lora-eval/{seed}/{purpose}`.

use sha2::{Digest, Sha256};

use super::philox::philox4x32;

/// The random numbers of one purpose.
#[derive(Debug, Clone, Copy)]
pub struct Random {
    key: [u32; 2],
}

/// The numbers of one thing, in order.
#[derive(Debug, Clone)]
pub struct Draws {
    key: [u32; 2],
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
    kept: Option<f64>,
}

impl Random {
    /// The numbers of `purpose` (`noise`, `order`, …) under a seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let digest = Sha256::digest(format!("lora-eval/{seed}/{purpose}"));
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| digest[at + i]));
        Self { key: [word(0), word(4)] }
    }

    /// Those for one thing (an example, a module) at one visit; `lane` tells apart what is drawn for
    /// it side by side.
    pub fn at(&self, index: u32, visit: u32, lane: u32) -> Draws {
        Draws {
            key: self.key,
            counter: [0, lane, visit, index],
            words: [0; 4],
            used: 4,
            kept: None,
        }
    }

    /// The numbers from 0 to `count`, shuffled (Fisher and Yates).
    pub fn permutation(&self, count: usize, visit: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        let mut draws = self.at(0, visit, 0);
        for last in (1..count).rev() {
            order.swap(last, draws.below(last + 1));
        }
        order
    }
}

impl Draws {
    fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.words = philox4x32(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform in (0, 1): (word + ½) · 2⁻³².
    pub fn uniform(&mut self) -> f64 {
        (f64::from(self.word()) + 0.5) / 4_294_967_296.0
    }

    /// One of 0 … `count` − 1: ⌊uniform · count⌋.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and below the count"
    )]
    pub fn below(&mut self, count: usize) -> usize {
        (self.uniform() * count as f64) as usize
    }

    /// Standard normal: Box and Muller's transform of two uniform numbers u, v in f64, first the
    /// cosine, √(−2 ln u) · cos 2πv, then the sine.
    pub fn normal(&mut self) -> f64 {
        if let Some(second) = self.kept.take() {
            return second;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.kept = Some(radius * sine);
        radius * cosine
    }

    /// So many standard normal numbers, rounded to f32.
    #[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal() as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_purpose_index_visit_and_lane() {
        let of = |seed, purpose, index, visit, lane| {
            Random::new(seed, purpose).at(index, visit, lane).uniform()
        };
        let base = of(1, "noise", 2, 3, 4);
        assert_eq!(base, of(1, "noise", 2, 3, 4));
        for other in [
            of(2, "noise", 2, 3, 4),
            of(1, "order", 2, 3, 4),
            of(1, "noise", 3, 3, 4),
            of(1, "noise", 2, 4, 4),
            of(1, "noise", 2, 3, 5),
        ] {
            assert_ne!(base, other);
        }
    }

    /// The first numbers of `tests/parity/train_random.py`, a restatement in numpy.
    #[test]
    fn numbers_are_those_of_the_restatement_in_numpy() {
        let uniform = [
            0.803_557_011_880_911_9,
            0.974_383_629_742_078_5,
            0.280_995_372_799_225_15,
            0.903_417_553_636_245_4,
            0.921_767_584_863_118_8,
            0.187_602_601_828_984_92,
        ];
        let normal = [
            0.652_824_849_494_437_6,
            -0.105_990_564_084_452_94,
            1.308_877_135_938_130_4,
            -0.908_666_493_494_552_9,
        ];
        let mut draws = Random::new(42, "noise").at(7, 3, 1);
        assert_eq!(uniform.map(|_| draws.uniform()), uniform);
        let mut draws = Random::new(42, "noise").at(7, 3, 1);
        for value in normal {
            assert!((draws.normal() - value).abs() < 1e-14, "{value}");
        }
        assert_eq!(Random::new(42, "timestep").at(7, 3, 0).below(1000), 247);
        let order = Random::new(42, "order").permutation(10, 3);
        assert_eq!(order, [3, 4, 7, 9, 2, 8, 6, 0, 1, 5]);
    }

    #[test]
    fn a_permutation_holds_each_number_once() {
        let mut order = Random::new(7, "order").permutation(100, 3);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    /// Mean 0 and variance 1 within five standard errors of 40,000 numbers.
    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let values = Random::new(0, "noise").at(0, 0, 0).normals(40_000);
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 5.0 / n.sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{variance}");
    }

    #[test]
    fn a_draw_below_a_count_reaches_all_of_them() {
        let mut draws = Random::new(0, "order").at(0, 0, 0);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[draws.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
    }
}
