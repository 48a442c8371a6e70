//! Elementary functions on vectors of f32.
//!
//! Arguments are reduced as in Cephes; polynomials are minimax fits of the relative error, and
//! `tanh` and `erf` are the odd rational functions of Eigen. NaN gives NaN.

#![expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]

use pulp::Simd;

/// Adding 1.5·2²³ rounds to an integer, which then stands in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with few bits, so that its multiples are exact.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
/// Of eʳ, |r| ≤ ln 2 / 2; relative error 2e-9.
const EXP: [f32; 7] =
    [1.0, 1.0, 0.499_999_9, 0.166_664_2, 0.041_668_225, 0.008_374_824, 0.001_383_683_5];
/// Of 2ʳ, |r| ≤ 1/2; relative error 2e-9.
const EXP_2: [f32; 7] = [
    1.0,
    std::f32::consts::LN_2,
    0.240_226_46,
    0.055_503_286,
    0.009_618_489,
    0.001_339_994_5,
    0.000_153_458_01,
];

/// `c₀ + c₁·x + c₂·x² + …`
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, c: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(0.0);
    for c in c.into_iter().rev() {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(c));
    }
    sum
}

/// 2ⁿ of the integer n that [`ROUND`] was added to, n from -127, which gives 0, to 128.
#[inline(always)]
fn power_of_two<S: Simd>(simd: S, shifted: S::f32s) -> S::f32s {
    let bits = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23)))
}

/// The larger of x and `limit`; NaN stays, which a maximum need not keep.
#[inline(always)]
pub fn at_least<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let limit = simd.splat_f32s(limit);
    simd.select_f32s(simd.less_than_f32s(x, limit), limit, x)
}

/// The smaller of x and `limit`; NaN stays.
#[inline(always)]
fn at_most<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let limit = simd.splat_f32s(limit);
    simd.select_f32s(simd.greater_than_f32s(x, limit), limit, x)
}

/// eˣ; 0 below -87.7 and infinite above 88.4.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let x = at_most(simd, at_least(simd, x, -88.0), 88.7);
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let r = simd.negate_mul_add_e_f32s(n, simd.splat_f32s(LN_2.0), x);
    let r = simd.negate_mul_add_e_f32s(n, simd.splat_f32s(LN_2.1), r);
    simd.mul_f32s(polynomial(simd, r, EXP), power_of_two(simd, shifted))
}

/// 2ˣ of x below 128; 0 below -126.5.
#[inline(always)]
pub fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let x = at_least(simd, x, -127.0);
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.add_f32s(x, round);
    let r = simd.sub_f32s(x, simd.sub_f32s(shifted, round));
    simd.mul_f32s(polynomial(simd, r, EXP_2), power_of_two(simd, shifted))
}

/// `x·σ(u) = x / (1 + e⁻ᵘ)`
#[inline(always)]
pub fn times_sigmoid<S: Simd>(simd: S, x: S::f32s, u: S::f32s) -> S::f32s {
    let below = simd.add_f32s(simd.splat_f32s(1.0), exp(simd, simd.neg_f32s(u)));
    simd.div_f32s(x, below)
}

/// `x·p(x²) / q(x²)` of x brought into ±`limit`.
#[inline(always)]
fn odd<S: Simd, const P: usize, const Q: usize>(
    simd: S,
    x: S::f32s,
    limit: f32,
    (p, q): ([f32; P], [f32; Q]),
) -> S::f32s {
    let x = at_most(simd, at_least(simd, x, -limit), limit);
    let square = simd.mul_f32s(x, x);
    let above = simd.mul_f32s(x, polynomial(simd, square, p));
    simd.div_f32s(above, polynomial(simd, square, q))
}

/// tanh x
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let p = [
        4.893_524_6e-3,
        6.372_619_3e-4,
        1.485_722_4e-5,
        5.122_297e-8,
        -8.604_672e-11,
        2.000_188e-13,
        -2.760_768_5e-16,
    ];
    let q = [4.893_525e-3, 2.268_434_6e-3, 1.185_347_1e-4, 1.198_258_4e-6];
    odd(simd, x, 7.905_311, (p, q))
}

/// The error function, `2/√π·∫₀ˣ e^(−t²) dt`.
#[inline(always)]
pub fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let p = [
        -1.609_603_3e-2,
        -2.954_6e-3,
        -7.349_906_3e-4,
        -5.692_506_5e-5,
        -2.101_024e-6,
        2.770_681_4e-8,
        -2.726_142e-10,
    ];
    let q = [-1.426_474e-2, -7.373_329e-3, -1.682_827e-3, -2.133_740_5e-4, -1.456_607_2e-5];
    odd(simd, x, 4.0, (p, q))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Exp2,
        Tanh,
        Erf,
    }

    struct Apply<'a>(Function, &'a mut [f32]);

    impl WithSimd for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for part in self.1.chunks_mut(S::F32_LANES) {
                let x = simd.partial_load_f32s(part);
                let y = match self.0 {
                    Function::Exp => exp(simd, x),
                    Function::Exp2 => exp2(simd, x),
                    Function::Tanh => tanh(simd, x),
                    Function::Erf => erf(simd, x),
                };
                simd.partial_store_f32s(part, y);
            }
        }
    }

    fn apply(function: Function, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        Arch::new().dispatch(Apply(function, &mut y));
        let mut scalar = x.to_vec();
        pulp::Scalar.vectorize(Apply(function, &mut scalar));
        for (x, (y, scalar)) in x.iter().zip(y.iter().zip(&scalar)) {
            let same = (y - scalar).abs() <= 1e-6 * y.abs().max(1e-30) || y == scalar;
            assert!(same || y.is_nan() && scalar.is_nan(), "{x}: {y}, {scalar} without vectors");
        }
        y
    }

    fn span(from: f32, to: f32) -> Vec<f32> {
        (0..=40_000u16).map(|i| from + (to - from) * f32::from(i) / 40_000.0).collect()
    }

    /// The largest error of `function`, each in the measure of the value it has.
    fn worst(function: Function, x: &[f32], exact: fn(f64) -> f64, relative: bool) -> f64 {
        let errors = apply(function, x).into_iter().zip(x).map(|(y, x)| {
            let exact = exact(f64::from(*x));
            (f64::from(y) - exact).abs() / if relative { exact.abs() } else { 1.0 }
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn exponentials_have_the_accuracy_of_f32() {
        assert!(worst(Function::Exp, &span(-87.0, 88.0), f64::exp, true) < 1.5e-7);
        assert!(worst(Function::Exp2, &span(-126.0, 0.0), f64::exp2, true) < 1.5e-7);
    }

    #[test]
    fn tanh_and_erf_have_the_accuracy_of_f32() {
        let mut small = span(-10.0, 10.0);
        small.retain(|x| *x != 0.0);
        small.extend(span(1e-6, 1e-2));
        assert!(worst(Function::Tanh, &small, f64::tanh, true) < 5e-7);
        let error = worst(Function::Erf, &small, candle_core::cpu::erf::erf_f64, false);
        assert!(error < 4e-7, "{error}");
    }

    #[test]
    fn ends_of_the_range_and_nan() {
        let ends = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e30, 1e30, 0.0];
        let check = |function: Function, expected: [f32; 6]| {
            for (y, expected) in apply(function, &ends).into_iter().zip(expected) {
                let same = (y - expected).abs() < 2e-7 || y == expected;
                assert!(same || y.is_nan() && expected.is_nan(), "{y} instead of {expected}");
            }
        };
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        check(Function::Exp, [0.0, inf, nan, 0.0, inf, 1.0]);
        check(Function::Tanh, [-1.0, 1.0, nan, -1.0, 1.0, 0.0]);
        check(Function::Erf, [-1.0, 1.0, nan, -1.0, 1.0, 0.0]);
        let y = apply(Function::Exp2, &[f32::NEG_INFINITY, f32::NAN, -1e30, 0.0, -1.0]);
        assert!(y[0] == 0.0 && y[1].is_nan() && y[2] == 0.0 && y[3] == 1.0 && y[4] == 0.5);
    }
}
