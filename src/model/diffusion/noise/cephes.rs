//! Logarithm, sine and cosine in f32 as torch's vectorised normal numbers are computed from.
//!
//! These are the polynomials of Cephes (Stephen L. Moshier) in the order of operations of
//! `avx_mathfun.h`, which torch compiles for AVX2 with FMA: where a product is added, it is not
//! rounded first. The results differ from libm's in the last bit here and there.

// An altered version, in Rust, of the relevant parts of `avx_mathfun.h`:
//
// Copyright (C) 2012 Giovanni Garberoglio, Interdisciplinary Laboratory for Computational Science
// (LISC), Fondazione Bruno Kessler and University of Trento; based on `sse_mathfun.h` by Julien
// Pommier.
//
// This software is provided 'as-is', without any express or implied warranty. In no event will the
// authors be held liable for any damages arising from the use of this software. Permission is granted
// to anyone to use this software for any purpose, including commercial applications, and to alter it
// and redistribute it freely, subject to the following restrictions: 1. The origin of this software
// must not be misrepresented; you must not claim that you wrote the original software. If you use this
// software in a product, an acknowledgment in the product documentation would be appreciated but is
// not required. 2. Altered source versions must be plainly marked as such, and must not be
// misrepresented as being the original software. 3. This notice may not be removed or altered from any
// source distribution.

/// ln(x) for normal x > 0.
pub fn ln(x: f32) -> f32 {
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const LN_2_HIGH: f32 = 0.693_359_4;
    let bits = x.to_bits();
    // x = m · 2^e with m in [√½, √2), then m − 1
    let half_to_one = f32::from_bits(bits & 0x007f_ffff | 0x3f00_0000);
    let exponent = (bits >> 23 & 0xff) as f32 - 126.0;
    let (m, e) = if half_to_one < std::f32::consts::FRAC_1_SQRT_2 {
        (half_to_one - 1.0 + half_to_one, exponent - 1.0)
    } else {
        (half_to_one - 1.0, exponent)
    };
    let square = m * m;
    let series = polynomial(
        m,
        &[
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_87e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_4e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    ) * m;
    let tail = series.mul_add(square, e * LN_2_LOW);
    let tail = square.mul_add(-0.5, tail);
    e.mul_add(LN_2_HIGH, m + tail)
}

/// sin(x) and cos(x) for 0 ≤ x < 8192.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number of octants is small and not negative"
)]
pub fn sin_cos(x: f32) -> (f32, f32) {
    /// −π/4 in three parts.
    const MINUS_QUARTER_PI: [f32; 3] = [-0.785_156_25, -2.418_756_5e-4, -3.774_895e-8];
    let octant = ((x * (4.0 * std::f32::consts::FRAC_1_PI)) as u32 + 1) & !1;
    let turns = octant as f32;
    let x = MINUS_QUARTER_PI.iter().fold(x, |x, part| turns.mul_add(*part, x));
    let square = x * x;
    let cosine = polynomial(square, &[2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]) * square;
    let cosine = cosine.mul_add(square, -(square * 0.5)) + 1.0;
    let sine = polynomial(square, &[-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]) * square;
    let sine = sine.mul_add(x, x);
    let (sine, cosine) = if octant & 2 == 0 { (sine, cosine) } else { (cosine, sine) };
    let signed = |value: f32, minus: bool| if minus { -value } else { value };
    (signed(sine, octant & 4 != 0), signed(cosine, octant.wrapping_sub(2) & 4 == 0))
}

/// The polynomial in `x` by Horner's rule, the highest coefficient first.
fn polynomial(x: f32, coefficients: &[f32]) -> f32 {
    coefficients.iter().copied().reduce(|sum, c| sum.mul_add(x, c)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_is_within_two_units_of_the_last_place() {
        for step in 1..=1 << 16 {
            let x = step as f32 / 65536.0;
            let exact = f64::from(x).ln();
            let error = (f64::from(ln(x)) - exact).abs();
            assert!(error <= 2.0 * f64::from(f32::EPSILON) * exact.abs(), "ln {x}");
        }
        assert_eq!(ln(1.0).to_bits(), 0);
    }

    #[test]
    fn sine_and_cosine_are_right_in_every_octant() {
        for step in 0..1 << 16 {
            let x = step as f32 * (std::f32::consts::TAU / 65536.0);
            let (sine, cosine) = sin_cos(x);
            assert!((f64::from(sine) - f64::from(x).sin()).abs() < 1.2e-7, "sin {x}");
            assert!((f64::from(cosine) - f64::from(x).cos()).abs() < 1.2e-7, "cos {x}");
        }
    }
}
