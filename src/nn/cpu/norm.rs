//! Layer, root-mean-square and group normalisation on slices.
//!
//! Mean and variance are taken in pieces, the deviations of each from the mean of those before it
//! (the first is read twice), and joined as by Chan and others (1979): no cancellation, and
//! memory is read once.

use pulp::{Arch, Simd, WithSimd};

use super::vector::times_sigmoid;

/// Layer normalisation of rows of `weight.len()` numbers.
pub fn layer_norm(x: &[f32], (weight, bias): (&[f32], &[f32]), epsilon: f64, y: &mut [f32]) {
    Arch::new().dispatch(Rows { x, weight, bias, epsilon, y });
}

/// Group normalisation of one group, which has `weight.len()` channels, then `SiLU` if asked for.
pub fn group_norm(
    x: &[f32],
    (weight, bias): (&[f32], &[f32]),
    (epsilon, silu): (f64, bool),
    y: &mut [f32],
) {
    Arch::new().dispatch(Group { x, weight, bias, epsilon, silu, y });
}

/// 1/√(mean(x²) + ε)
#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
pub fn inverse_rms(x: &[f32], epsilon: f64) -> f32 {
    // eight partial sums: fast, and exact enough in f32 with at most a few thousand terms each
    let mut sums = [0.0f32; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value * value;
        }
    }
    let rest: f64 = rest.iter().map(|value| f64::from(*value).powi(2)).sum();
    let square = sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() + rest;
    (1.0 / (square / x.len() as f64 + epsilon).sqrt()) as f32
}

/// Numbers of a piece.
pub(super) const PIECE: usize = 4096;

/// Mean and 1/√(variance + ε).
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
#[inline(always)]
pub(super) fn moments<S: Simd>(simd: S, x: &[f32], epsilon: f64) -> (f32, f32) {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for piece in x.chunks(PIECE) {
        let n = piece.len() as f64;
        // deviations are taken from the mean so far, and what is left of their sum corrects it
        let first = count == 0.0;
        let pivot = if first { sums(simd, piece, 0.0).0 / n } else { mean } as f32;
        let (left, around) = sums(simd, piece, pivot);
        let of_piece = f64::from(pivot) + left / n;
        let total = count + n;
        let apart = of_piece - mean;
        squares += around - left * left / n + apart * apart * count * n / total;
        mean += apart * n / total;
        count = total;
    }
    let variance = (squares / count.max(1.0)).max(0.0);
    (mean as f32, (1.0 / (variance + epsilon).sqrt()) as f32)
}

/// Σ(x − pivot) and Σ(x − pivot)².
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn sums<S: Simd>(simd: S, x: &[f32], pivot: f32) -> (f64, f64) {
    let (vectors, rest) = S::as_simd_f32s(x);
    let (fours, ones) = vectors.as_chunks::<4>();
    let wide = simd.splat_f32s(pivot);
    let mut first = [simd.splat_f32s(0.0); 4];
    let mut second = first;
    for four in fours {
        for ((first, second), x) in first.iter_mut().zip(&mut second).zip(four) {
            let d = simd.sub_f32s(*x, wide);
            *first = simd.add_f32s(*first, d);
            *second = simd.mul_add_e_f32s(d, d, *second);
        }
    }
    for x in ones {
        let d = simd.sub_f32s(*x, wide);
        first[0] = simd.add_f32s(first[0], d);
        second[0] = simd.mul_add_e_f32s(d, d, second[0]);
    }
    let sum = |[a, b, c, d]: [S::f32s; 4]| {
        let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
        f64::from(simd.reduce_sum_f32s(sum))
    };
    let mut total = (sum(first), sum(second));
    for x in rest {
        let d = f64::from(x - pivot);
        total.0 += d;
        total.1 += d * d;
    }
    total
}

struct Rows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f64,
    y: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.weight.len().max(1);
        for (y, x) in self.y.chunks_exact_mut(width).zip(self.x.chunks_exact(width)) {
            let (mean, scale) = moments(simd, x, self.epsilon);
            for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(self.weight).zip(self.bias) {
                *y = (x - mean) * scale * weight + bias;
            }
        }
    }
}

struct Group<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f64,
    silu: bool,
    y: &'a mut [f32],
}

impl WithSimd for Group<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, weight, bias, epsilon, silu, y } = self;
        let (mean, scale) = moments(simd, x, epsilon);
        let place = (x.len() / weight.len().max(1)).max(1);
        let channels = y.chunks_exact_mut(place).zip(x.chunks_exact(place));
        for ((y, x), (weight, bias)) in channels.zip(weight.iter().zip(bias)) {
            let affine = Affine { mean, scale: scale * weight, bias: *bias, silu };
            let ((ys, y_rest), (xs, x_rest)) = (S::as_mut_simd_f32s(y), S::as_simd_f32s(x));
            for (y, x) in ys.iter_mut().zip(xs) {
                *y = affine.of(simd, *x);
            }
            if !y_rest.is_empty() {
                let rest = affine.of(simd, simd.partial_load_f32s(x_rest));
                simd.partial_store_f32s(y_rest, rest);
            }
        }
    }
}

/// `(x − mean)·scale + bias`, then `SiLU` if asked for.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub mean: f32,
    pub scale: f32,
    pub bias: f32,
    pub silu: bool,
}

impl Affine {
    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    pub fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let d = simd.sub_f32s(x, simd.splat_f32s(self.mean));
        let y = simd.mul_add_e_f32s(d, simd.splat_f32s(self.scale), simd.splat_f32s(self.bias));
        if !self.silu {
            return y;
        }
        times_sigmoid(simd, y, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, mean: f32) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0 + mean
        };
        (0..n).map(|_| next()).collect()
    }

    /// The definition, in f64.
    fn normal(x: &[f32], epsilon: f64) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        x.iter().map(|x| (f64::from(*x) - mean) / (variance + epsilon).sqrt()).collect()
    }

    #[test]
    fn a_layer_norm_is_its_definition_for_every_width() {
        for width in [1, 3, 16, 63, 64, 320, 1280, 10_000] {
            let (x, weight) = (values(3 * width, 0.5), values(width, 1.0));
            let mut y = vec![0.0; x.len()];
            layer_norm(&x, (&weight, &weight), 1e-5, &mut y);
            for (y, x) in y.chunks(width).zip(x.chunks(width)) {
                for ((y, n), weight) in y.iter().zip(normal(x, 1e-5)).zip(&weight) {
                    let weight = f64::from(*weight);
                    assert!((f64::from(*y) - (n * weight + weight)).abs() < 2e-6, "{width}");
                }
            }
        }
    }

    #[test]
    fn a_large_mean_does_not_cancel_the_variance() {
        let x = values(40_000, 100.0);
        let mut y = vec![0.0; x.len()];
        group_norm(&x, (&[1.0], &[0.0]), (0.0, false), &mut y);
        for (y, n) in y.iter().zip(normal(&x, 0.0)) {
            // a number near 100 has steps of 7.6e-6, and the deviation is 0.577
            assert!((f64::from(*y) - n).abs() < 1.4e-5, "{y} instead of {n}");
        }
    }

    #[test]
    fn a_group_norm_scales_each_channel_and_then_applies_silu() {
        for place in [1, 5, 16, 49, 2000] {
            let x = values(3 * place, 0.2);
            let (weight, bias) = ([0.5, -1.0, 2.0], [0.1, 0.2, 0.3]);
            let mut y = vec![0.0; x.len()];
            group_norm(&x, (&weight, &bias), (1e-6, true), &mut y);
            for (i, (y, n)) in y.iter().zip(normal(&x, 1e-6)).enumerate() {
                let z = n * f64::from(weight[i / place]) + f64::from(bias[i / place]);
                let expected = z / (1.0 + (-z).exp());
                assert!((f64::from(*y) - expected).abs() < 2e-6, "{place}: {y}, {expected}");
            }
        }
    }
}
