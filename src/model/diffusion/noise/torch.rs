//! `torch.randn` on the CPU (torch 2.15.0).
//!
//! Sources: `MT19937RNGEngine.h`, `DistributionsHelper.h` and `cpu/DistributionTemplates.h` of `ATen`
//! (`normal_fill` with its AVX2 form for 16 and more elements, `normal_distribution<double>` for
//! fewer). torch chooses the AVX2 form on processors with AVX-512 too. Single numbers need sine, cosine
//! and logarithm of the system's libm in f64: libms differ in the last bit, which rounding to f32
//! hides in all but about one of 10⁸ numbers.

use std::f64::consts::TAU;

use rand_mt::Mt;

use super::cephes;

/// Elements that the vectorised form makes at a time: eight pairs.
const BLOCK: usize = 16;

/// torch's `CPUGeneratorImpl`.
#[derive(Debug, Clone)]
pub struct TorchCpu {
    engine: Mt,
    /// The second number of a pair drawn one by one. Calls for whole blocks leave it where it is.
    next: Option<f64>,
}

impl TorchCpu {
    #[expect(clippy::cast_possible_truncation, reason = "the engine is seeded by the low half")]
    pub fn new(seed: u64) -> Self {
        Self { engine: Mt::new(seed as u32), next: None }
    }

    /// `torch.randn(count, generator=self)`.
    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.single()).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        let (blocks, rest) = values.as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(box_muller);
        if !rest.is_empty()
            && let Some(last) = values.last_chunk_mut::<BLOCK>()
        {
            // the last sixteen are drawn anew, also those that were done
            *last = std::array::from_fn(|_| self.uniform());
            box_muller(last);
        }
        values
    }

    /// 24 bits in [0, 1).
    fn uniform(&mut self) -> f32 {
        (self.engine.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// 53 bits in [0, 1); the first word is the high one.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.engine.next_u32());
        let low = u64::from(self.engine.next_u32());
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }

    /// One number, of which pairs are made in double precision.
    #[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
    fn single(&mut self) -> f32 {
        let value = self.next.take().unwrap_or_else(|| {
            let (turn, u) = (self.uniform_f64(), self.uniform_f64());
            let radius = (-2.0 * (-u).ln_1p()).sqrt();
            let theta = TAU * turn;
            self.next = Some(radius * theta.sin());
            radius * theta.cos()
        });
        value as f32
    }
}

/// Uniform numbers to normal ones: values `i` and `i + 8` are radius and angle of a pair.
fn box_muller(block: &mut [f32; BLOCK]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * cephes::ln(1.0 - *first)).sqrt();
        let (sine, cosine) = cephes::sin_cos(std::f32::consts::TAU * *second);
        // torch adds the mean, which turns −0 into 0
        *first = radius * cosine + 0.0;
        *second = radius * sine + 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn seeds_count_modulo_two_to_the_32() {
        let values = TorchCpu::new(5).normal(40);
        assert_eq!(bits(&values), bits(&TorchCpu::new((1 << 32) + 5).normal(40)));
        assert_ne!(bits(&values), bits(&TorchCpu::new(6).normal(40)));
    }

    #[test]
    fn a_number_left_over_waits_for_the_next_single_draw() {
        let mut stream = TorchCpu::new(9);
        let pair = TorchCpu::new(9).normal(2);
        assert_eq!(stream.normal(1), pair[..1]);
        stream.normal(16);
        assert_eq!(stream.normal(1), pair[1..]);
    }

    #[test]
    fn a_tail_redraws_the_last_sixteen() {
        let (short, long) = (TorchCpu::new(4).normal(32), TorchCpu::new(4).normal(33));
        assert_eq!(short[..17], long[..17]);
        assert!(short[17..].iter().zip(&long[17..]).all(|(a, b)| a != b));
    }

    #[test]
    fn zero_is_never_negative() {
        let mut block = [0.0; BLOCK];
        block[9] = 0.75;
        box_muller(&mut block);
        assert!(block.iter().all(|value| value.to_bits() == 0));
    }
}
