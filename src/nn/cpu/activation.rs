//! Activation functions and their slopes on slices, each times any number of factors.

use pulp::{Arch, Simd, WithSimd};

use super::vector::{at_least, erf, exp, times_sigmoid};
use crate::nn::gated::Activation;

/// √(2/π) and the factor of x³ of the tanh form of GELU.
const GELU_TANH: (f32, f32) = (0.797_884_6, 0.044_715);
/// Of `QuickGelu`.
const QUICK: f32 = 1.702;
/// 1/√(2π)
const DENSITY: f32 = 0.398_942_3;

/// The function itself, or its derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Value,
    Slope,
}

/// `y = f(x) ⊙ factor ⊙ …`, or f′; all of one length.
pub fn apply<const N: usize>(
    activation: Activation,
    form: Form,
    x: &[f32],
    factors: [&[f32]; N],
    y: &mut [f32],
) {
    Arch::new().dispatch(Apply { activation, form, x, factors, y });
}

struct Apply<'a, const N: usize> {
    activation: Activation,
    form: Form,
    x: &'a [f32],
    factors: [&'a [f32]; N],
    y: &'a mut [f32],
}

impl<const N: usize> WithSimd for Apply<'_, N> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { activation, form, x, factors, y } = self;
        let ((xs, x_rest), (ys, y_rest)) = (S::as_simd_f32s(x), S::as_mut_simd_f32s(y));
        let whole = ys.len();
        let vectors = factors.map(|factor| &S::as_simd_f32s(factor).0[..whole]);
        for (i, (y, x)) in ys.iter_mut().zip(xs).enumerate() {
            let mut value = of(simd, (activation, form), *x);
            for factor in vectors {
                value = simd.mul_f32s(value, factor[i]);
            }
            *y = value;
        }
        if !y_rest.is_empty() {
            let mut value = of(simd, (activation, form), simd.partial_load_f32s(x_rest));
            for factor in factors {
                let rest = simd.partial_load_f32s(S::as_simd_f32s(factor).1);
                value = simd.mul_f32s(value, rest);
            }
            simd.partial_store_f32s(y_rest, value);
        }
    }
}

/// The function or its derivative at one vector.
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
pub(super) fn of<S: Simd>(simd: S, (activation, form): (Activation, Form), x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    let square = simd.mul_f32s(x, x);
    // x·σ(u(x)): u and its slope
    let (u, du) = match activation {
        Activation::Silu => (x, splat(1.0)),
        Activation::QuickGelu => (simd.mul_f32s(x, splat(QUICK)), splat(QUICK)),
        Activation::GeluTanh => {
            // (1 + tanh u)/2 = σ(2u)
            let (root, cubic) = (2.0 * GELU_TANH.0, 2.0 * GELU_TANH.0 * GELU_TANH.1);
            let u = simd.mul_add_e_f32s(square, splat(cubic), splat(root));
            (simd.mul_f32s(u, x), simd.mul_add_e_f32s(square, splat(3.0 * cubic), splat(root)))
        }
        Activation::Gelu => {
            let scaled = simd.mul_f32s(x, splat(std::f32::consts::FRAC_1_SQRT_2));
            let half = splat(0.5);
            let normal = simd.mul_add_e_f32s(erf(simd, scaled), half, half);
            if form == Form::Value {
                return simd.mul_f32s(x, normal);
            }
            let density = exp(simd, simd.mul_f32s(square, splat(-0.5)));
            return simd.mul_add_e_f32s(simd.mul_f32s(x, splat(DENSITY)), density, normal);
        }
    };
    if form == Form::Value {
        return times_sigmoid(simd, x, u);
    }
    // σ·(1 + x·u′·(1 − σ)), and 1 − σ = e⁻ᵘ·σ loses no digits
    let e = exp(simd, simd.neg_f32s(at_least(simd, u, -80.0)));
    let one = splat(1.0);
    let s = simd.div_f32s(one, simd.add_f32s(one, e));
    let rest = simd.mul_f32s(simd.mul_f32s(x, du), simd.mul_f32s(e, s));
    simd.mul_add_e_f32s(s, rest, s)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 4] =
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu];

    /// The definitions, in f64.
    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Activation::Gelu => {
                0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / std::f64::consts::SQRT_2))
            }
            Activation::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + u.tanh())
            }
        }
    }

    fn span() -> Vec<f32> {
        (0..20_003u16).map(|i| f32::from(i) / 1000.0 - 10.0).collect()
    }

    #[test]
    fn values_and_slopes_are_those_of_the_definitions() {
        let x = span();
        for activation in ALL {
            let mut y = vec![0.0; x.len()];
            apply(activation, Form::Value, &x, [], &mut y);
            let mut slope = vec![0.0; x.len()];
            apply(activation, Form::Slope, &x, [], &mut slope);
            for (x, (y, slope)) in x.iter().zip(y.iter().zip(&slope)) {
                let x = f64::from(*x);
                let error = (f64::from(*y) - exact(activation, x)).abs();
                assert!(error < 3e-7 * x.abs().max(1.0), "{activation:?} at {x}: {y}");
                let step = 1e-5;
                let rise = exact(activation, x + step) - exact(activation, x - step);
                let error = (f64::from(*slope) - rise / (2.0 * step)).abs();
                assert!(error < 2e-6, "{activation:?} at {x}: slope {slope}");
            }
        }
    }

    #[test]
    fn factors_multiply_every_element() {
        for n in [0, 1, 7, 16, 37, 100] {
            let x = &span()[9_990..9_990 + n];
            let factor: Vec<f32> = (0..n).map(|i| i as f32 - 3.0).collect();
            let (mut plain, mut twice) = (vec![0.0; n], vec![0.0; n]);
            apply(Activation::Silu, Form::Value, x, [], &mut plain);
            apply(Activation::Silu, Form::Value, x, [&factor, &factor], &mut twice);
            for ((plain, twice), factor) in plain.iter().zip(twice).zip(factor) {
                assert!((plain * factor * factor - twice).abs() <= 1e-6 * twice.abs());
            }
        }
    }
}
