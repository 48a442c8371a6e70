//! Gradients of the normalisations with respect to their input, on slices.
//!
//! With h the gradient of the normalised n = (x − mean)·r, it is `r·(h − mean(h) − n·mean(h⊙n))`;
//! mean and r are made again from x, which costs less than to keep them. One row or group stays in
//! the cache for its three passes: moments, h with its sums, the result.

use pulp::{Arch, Simd, WithSimd};

use super::activation::{Form, of};
use super::norm::{Affine, PIECE, inverse_rms, moments};
use crate::nn::gated::Activation;

/// The gradient of [`layer_norm`](super::norm::layer_norm) for x, from `g`, that for y.
pub fn layer_norm_backward(x: &[f32], weight: &[f32], g: &[f32], epsilon: f64, dx: &mut [f32]) {
    Arch::new().dispatch(Rows { x, weight, g, epsilon, centred: true, dx });
}

/// The gradient of `x·r ⊙ w` with r of [`inverse_rms`] for x, row by row.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], g: &[f32], epsilon: f64, dx: &mut [f32]) {
    Arch::new().dispatch(Rows { x, weight, g, epsilon, centred: false, dx });
}

/// The gradient of [`group_norm`](super::norm::group_norm) for x, from `g`, that for y.
pub fn group_norm_backward(
    x: &[f32],
    (weight, bias): (&[f32], &[f32]),
    g: &[f32],
    (epsilon, silu): (f64, bool),
    dx: &mut [f32],
) {
    Arch::new().dispatch(Group { x, weight, bias, g, epsilon, silu, dx });
}

struct Rows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    g: &'a [f32],
    epsilon: f64,
    /// Whether the mean was taken off.
    centred: bool,
    dx: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, weight, g, epsilon, centred, dx } = self;
        let width = weight.len().max(1);
        let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(g.chunks_exact(width));
        for ((dx, x), g) in rows {
            let (mean, scale) =
                if centred { moments(simd, x, epsilon) } else { (0.0, inverse_rms(x, epsilon)) };
            let mut sums = Sums { mean, total: 0.0, along: 0.0 };
            let pieces = dx.chunks_mut(PIECE).zip(x.chunks(PIECE));
            for ((dx, x), (g, weight)) in pieces.zip(g.chunks(PIECE).zip(weight.chunks(PIECE))) {
                sums.piece(simd, (x, g, dx), &Slope::Weights(weight));
            }
            sums.finish(simd, (scale, centred), x, dx);
        }
    }
}

struct Group<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    g: &'a [f32],
    epsilon: f64,
    silu: bool,
    dx: &'a mut [f32],
}

impl WithSimd for Group<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, weight, bias, g, epsilon, silu, dx } = self;
        let (mean, scale) = moments(simd, x, epsilon);
        let mut sums = Sums { mean, total: 0.0, along: 0.0 };
        let place = (x.len() / weight.len().max(1)).max(1);
        let channels = dx.chunks_exact_mut(place).zip(x.chunks_exact(place));
        let affine = weight.iter().zip(bias);
        for (((dx, x), g), (weight, bias)) in channels.zip(g.chunks_exact(place)).zip(affine) {
            let affine = Affine { mean, scale: scale * weight, bias: *bias, silu: false };
            let slope = if silu { Slope::Silu(affine, *weight) } else { Slope::One(*weight) };
            for ((dx, x), g) in dx.chunks_mut(PIECE).zip(x.chunks(PIECE)).zip(g.chunks(PIECE)) {
                sums.piece(simd, (x, g, dx), &slope);
            }
        }
        sums.finish(simd, (scale, true), x, dx);
    }
}

/// The slope of y along n.
enum Slope<'a> {
    /// One weight for each number.
    Weights(&'a [f32]),
    /// One for all.
    One(f32),
    /// One for all, and the slope of `SiLU` at the affine image of x.
    Silu(Affine, f32),
}

/// `Σh` and `Σh·(x − mean)`.
struct Sums {
    mean: f32,
    total: f64,
    along: f64,
}

impl Sums {
    /// Writes h of a piece to `dx` and adds it to the sums.
    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn piece<S: Simd>(
        &mut self,
        simd: S,
        (x, g, dx): (&[f32], &[f32], &mut [f32]),
        slope: &Slope<'_>,
    ) {
        let ((xs, x_rest), (gs, g_rest)) = (S::as_simd_f32s(x), S::as_simd_f32s(g));
        let (hs, h_rest) = S::as_mut_simd_f32s(dx);
        let mean = simd.splat_f32s(self.mean);
        let mut sums = [simd.splat_f32s(0.0); 2];
        let mut add = |x: S::f32s, h: S::f32s| {
            sums[0] = simd.add_f32s(sums[0], h);
            sums[1] = simd.mul_add_e_f32s(h, simd.sub_f32s(x, mean), sums[1]);
            h
        };
        let (x_rest, g_rest) = (simd.partial_load_f32s(x_rest), simd.partial_load_f32s(g_rest));
        // past the end g is 0, and so is h
        let rest = match slope {
            Slope::Weights(weights) => {
                let (weights, rest) = S::as_simd_f32s(weights);
                for (((h, x), g), weight) in hs.iter_mut().zip(xs).zip(gs).zip(weights) {
                    *h = add(*x, simd.mul_f32s(*g, *weight));
                }
                simd.mul_f32s(g_rest, simd.partial_load_f32s(rest))
            }
            Slope::One(weight) => {
                let weight = simd.splat_f32s(*weight);
                for ((h, x), g) in hs.iter_mut().zip(xs).zip(gs) {
                    *h = add(*x, simd.mul_f32s(*g, weight));
                }
                simd.mul_f32s(g_rest, weight)
            }
            Slope::Silu(affine, weight) => {
                let weight = simd.splat_f32s(*weight);
                let silu = |x| of(simd, (Activation::Silu, Form::Slope), affine.of(simd, x));
                for ((h, x), g) in hs.iter_mut().zip(xs).zip(gs) {
                    *h = add(*x, simd.mul_f32s(simd.mul_f32s(*g, weight), silu(*x)));
                }
                simd.mul_f32s(simd.mul_f32s(g_rest, weight), silu(x_rest))
            }
        };
        simd.partial_store_f32s(h_rest, add(x_rest, rest));
        self.total += f64::from(simd.reduce_sum_f32s(sums[0]));
        self.along += f64::from(simd.reduce_sum_f32s(sums[1]));
    }

    /// Makes the gradient of h, which `dx` holds.
    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, (scale, centred): (f32, bool), x: &[f32], dx: &mut [f32]) {
        let n = x.len().max(1) as f64;
        let r = f64::from(scale);
        // dx = r·h − offset − (x − mean)·along
        let offset = if centred { (r * self.total / n) as f32 } else { 0.0 };
        let along = (r * r * r * self.along / n) as f32;
        let [r, offset, along, mean] =
            [scale, offset, along, self.mean].map(|value| simd.splat_f32s(value));
        let slope = |x: S::f32s, h: S::f32s| {
            let d = simd.sub_f32s(x, mean);
            let rest = simd.mul_add_e_f32s(d, along, offset);
            simd.sub_f32s(simd.mul_f32s(r, h), rest)
        };
        let ((xs, x_rest), (hs, h_rest)) = (S::as_simd_f32s(x), S::as_mut_simd_f32s(dx));
        for (h, x) in hs.iter_mut().zip(xs) {
            *h = slope(*x, *h);
        }
        let rest = slope(simd.partial_load_f32s(x_rest), simd.partial_load_f32s(h_rest));
        simd.partial_store_f32s(h_rest, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 0.8
        };
        (0..n).map(|_| next()).collect()
    }

    const EPSILON: f64 = 1e-5;

    /// The definition in f64, from h at each number.
    fn exact(x: &[f32], centred: bool, h: impl Fn(usize, f64) -> f64) -> Vec<f64> {
        let count = x.len() as f64;
        let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let mean = if centred { x.iter().sum::<f64>() / count } else { 0.0 };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let r = 1.0 / (variance + EPSILON).sqrt();
        let n: Vec<f64> = x.iter().map(|x| (x - mean) * r).collect();
        let h: Vec<f64> = n.iter().enumerate().map(|(i, n)| h(i, *n)).collect();
        let of_h = if centred { h.iter().sum::<f64>() / count } else { 0.0 };
        let along = h.iter().zip(&n).map(|(h, n)| h * n).sum::<f64>() / count;
        h.iter().zip(&n).map(|(h, n)| r * (h - of_h - n * along)).collect()
    }

    fn close(found: &[f32], expected: &[f64], what: &str) {
        let largest = expected.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
        for (found, expected) in found.iter().zip(expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 4e-6 * largest, "{what}: {found} instead of {expected}");
        }
    }

    #[test]
    fn rows_have_the_gradient_of_the_definition_at_every_width() {
        for width in [2, 7, 16, 63, 320, 1280, 10_000] {
            let (x, g) = (values(3 * width, 1), values(3 * width, 2));
            let weight = values(width, 3);
            let (mut layer, mut rms) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            layer_norm_backward(&x, &weight, &g, EPSILON, &mut layer);
            rms_norm_backward(&x, &weight, &g, EPSILON, &mut rms);
            for row in 0..3 {
                let part = row * width..(row + 1) * width;
                let g = &g[part.clone()];
                let h = |i: usize, _: f64| f64::from(g[i]) * f64::from(weight[i]);
                close(&layer[part.clone()], &exact(&x[part.clone()], true, h), "layer");
                close(&rms[part.clone()], &exact(&x[part], false, h), "rms");
            }
        }
    }

    #[test]
    fn groups_have_the_gradient_of_the_definition_with_and_without_silu() {
        for place in [1, 5, 16, 49, 5000] {
            let (x, g) = (values(3 * place, 4), values(3 * place, 5));
            let (weight, bias) = ([0.5, -1.0, 2.0], [0.1, 0.2, 0.3]);
            for silu in [false, true] {
                let mut dx = vec![0.0; x.len()];
                group_norm_backward(&x, (&weight, &bias), &g, (EPSILON, silu), &mut dx);
                let h = |i: usize, n: f64| {
                    let (w, b) = (f64::from(weight[i / place]), f64::from(bias[i / place]));
                    let z = n * w + b;
                    let s = 1.0 / (1.0 + (-z).exp());
                    let slope = if silu { s * (1.0 + z * (1.0 - s)) } else { 1.0 };
                    f64::from(g[i]) * w * slope
                };
                close(&dx, &exact(&x, true, h), "group");
            }
        }
    }
}
