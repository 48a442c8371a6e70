//! The WebUI's `modules/rng_philox.py` (1.10.1): what `torch.randn` gives on a CUDA card.
//!
//! Element `i` of call `n` is computed from the counter `(n, 0, i, 0)` alone. The WebUI holds
//! uniform numbers and the transform in f64 (numpy's uint32 × float32) and rounds at the end.

use crate::base::philox::{halves, philox4x32};

/// The generator: the key, and how many calls there were.
#[derive(Debug, Clone)]
pub struct Philox {
    key: [u32; 2],
    offset: u32,
}

impl Philox {
    pub fn new(seed: u64) -> Self {
        Self { key: halves(seed), offset: 0 }
    }

    /// `Generator.randn(shape)` for `count` elements. Elements repeat after 2³².
    #[expect(clippy::cast_possible_truncation, reason = "the counter of elements has 32 bits")]
    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        let offset = self.offset;
        self.offset = offset.wrapping_add(1);
        (0..count)
            .map(|index| {
                let [x, y, ..] = philox4x32([offset, 0, index as u32, 0], self.key);
                box_muller(x, y)
            })
            .collect()
    }
}

/// The first of the two numbers of Box and Muller's transform.
#[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
fn box_muller(x: u32, y: u32) -> f32 {
    /// 2⁻³² and 2π · 2⁻³² as the WebUI rounds them.
    const SCALE: f32 = 2.328_306_4e-10;
    const TURN: f32 = (2.328_306_4e-10 * 6.283_185_5_f64) as f32;
    let u = f64::from(x) * f64::from(SCALE) + f64::from(SCALE / 2.0);
    let v = f64::from(y) * f64::from(TURN) + f64::from(TURN / 2.0);
    ((-2.0 * u.ln()).sqrt() * v.sin()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that the head of `rng_philox.py` shows for a CUDA card. They come of an exact 2⁻³² and
    /// 2π; the constants rounded to f32, with which card and WebUI compute, are off by up to 1.2e-7.
    #[test]
    fn seed_zero_gives_the_published_values() {
        let published: [f32; 12] = [
            -0.924_662_6,
            -0.425_344_15,
            -2.643_845_8,
            0.145_183_88,
            -0.120_866_47,
            -0.579_725_6,
            -0.622_851_2,
            -0.328_387_1,
            -1.074_542_3,
            -0.363_144_07,
            -1.671_050_7,
            2.265_505,
        ];
        for (value, expected) in Philox::new(0).normal(12).iter().zip(published) {
            assert!((value - expected).abs() < 4e-7, "{value} {expected}");
        }
    }

    #[test]
    fn an_element_does_not_depend_on_how_many_follow_it() {
        assert_eq!(Philox::new(1 << 40).normal(20)[..5], Philox::new(1 << 40).normal(5));
    }

    #[test]
    fn each_call_has_its_own_offset_even_an_empty_one() {
        let (mut a, mut b) = (Philox::new(7), Philox::new(7));
        a.normal(0);
        b.normal(3);
        assert_eq!(a.normal(4), b.normal(4));
    }
}
