//! The discrete cosine transform of 32 values, rounded as `SciPy` rounds it.
//!
//! A perceptual hash asks which coefficients exceed their median. In an image with symmetries most
//! of them are 0 but for rounding, so the hash depends on the order of additions. `SciPy`'s is that
//! of FFTPACK (Swarztrauber, 1982) as pocketfft has it: sums and differences of neighbours, a real
//! inverse Fourier transform of 2 × 4 × 4 points, and a rotation of each pair of results.

use std::f64::consts::{PI, SQRT_2};

/// Number of values.
pub(super) const N: usize = 32;

type Line = [f64; N];

/// Tables of the transform.
pub(super) struct Dct {
    /// cos and sin of 2πi/32; the stages need no more than the first quarter.
    roots: [(f64, f64); N / 4],
    /// cos of 2π(i + 1)/128.
    cosines: Line,
}

/// Where one stage of the Fourier transform has its values: `groups` times the stage's radix
/// sequences of `length`. A sequence is a real number, (real, imaginary) pairs and, as lengths here
/// are even but for the last, a real number.
#[derive(Clone, Copy)]
struct Stage {
    length: usize,
    groups: usize,
}

impl Dct {
    pub(super) fn new() -> Self {
        Self {
            roots: std::array::from_fn(|i| unit(i, 32)),
            cosines: std::array::from_fn(|i| {
                // pocketfft multiplies two roots, each from a table.
                let ((a, b), (c, d)) = (unit((i + 1) & 15, 128), unit((i + 1) & !15, 128));
                a * c - b * d
            }),
        }
    }

    /// Xₖ = 2 Σ xᵢ cos(πk(2i + 1)/64): type II without normalisation.
    pub(super) fn transform(&self, line: &Line) -> Line {
        let mut x = *line;
        x[0] *= 2.0;
        x[N - 1] *= 2.0;
        for k in (1..N - 1).step_by(2) {
            (x[k], x[k + 1]) = (x[k] + x[k + 1], x[k + 1] - x[k]);
        }
        let mut y = [0.0; N];
        self.by_two(Stage { length: 16, groups: 1 }, &x, &mut y);
        self.by_four(Stage { length: 4, groups: 2 }, &y, &mut x);
        self.by_four(Stage { length: 1, groups: 8 }, &x, &mut y);
        for k in 1..N / 2 {
            let (near, far) = (self.cosines[k - 1], self.cosines[N - 1 - k]);
            let sum = near * y[N - k] + far * y[k];
            let difference = near * y[k] - far * y[N - k];
            (y[k], y[N - k]) = (0.5 * (sum + difference), 0.5 * (sum - difference));
        }
        y[N / 2] *= self.cosines[N / 2 - 1];
        y
    }

    fn by_two(&self, stage: Stage, from: &Line, to: &mut Line) {
        let Stage { length, groups } = stage;
        let last = length - 1;
        for group in 0..groups {
            let get = |at: usize, part: usize| from[at + length * (part + 2 * group)];
            let mut put = |at: usize, part: usize, value: f64| {
                to[at + length * (group + groups * part)] = value;
            };
            put(0, 0, get(0, 0) + get(last, 1));
            put(0, 1, get(0, 0) - get(last, 1));
            put(last, 0, 2.0 * get(last, 0));
            put(last, 1, -2.0 * get(0, 1));
            for i in (2..length).step_by(2) {
                let mirror = length - i;
                put(i - 1, 0, get(i - 1, 0) + get(mirror - 1, 1));
                put(i, 0, get(i, 0) - get(mirror, 1));
                let value = (get(i - 1, 0) - get(mirror - 1, 1), get(i, 0) + get(mirror, 1));
                let (real, imaginary) = rotated(value, self.roots[groups * i / 2]);
                put(i - 1, 1, real);
                put(i, 1, imaginary);
            }
        }
    }

    fn by_four(&self, stage: Stage, from: &Line, to: &mut Line) {
        let Stage { length, groups } = stage;
        let last = length - 1;
        for group in 0..groups {
            let get = |at: usize, part: usize| from[at + length * (part + 4 * group)];
            let mut put = |at: usize, part: usize, value: f64| {
                to[at + length * (group + groups * part)] = value;
            };
            let (sum, difference) = (get(0, 0) + get(last, 3), get(0, 0) - get(last, 3));
            let (real, imaginary) = (2.0 * get(last, 1), 2.0 * get(0, 2));
            put(0, 0, sum + real);
            put(0, 2, sum - real);
            put(0, 3, difference + imaginary);
            put(0, 1, difference - imaginary);
            if length == 1 {
                continue;
            }
            let (sum, difference) = (get(0, 3) + get(0, 1), get(0, 3) - get(0, 1));
            let (real, other) = (get(last, 0) + get(last, 2), get(last, 0) - get(last, 2));
            put(last, 0, real + real);
            put(last, 1, SQRT_2 * (other - sum));
            put(last, 2, difference + difference);
            put(last, 3, -SQRT_2 * (other + sum));
            for i in (2..length).step_by(2) {
                let mirror = length - i;
                let pair = |at: usize, i: usize, mirror: usize, part: usize| {
                    (get(i, at) + get(mirror, part), get(i, at) - get(mirror, part))
                };
                let (r2, r1) = pair(0, i - 1, mirror - 1, 3);
                let (i1, i2) = pair(0, i, mirror, 3);
                let (r4, i3) = pair(2, i, mirror, 1);
                let (r3, i4) = pair(2, i - 1, mirror - 1, 1);
                put(i - 1, 0, r2 + r3);
                put(i, 0, i2 + i3);
                let values = [(r1 - r4, i1 + i4), (r2 - r3, i2 - i3), (r1 + r4, i1 - i4)];
                for (part, value) in (1..4).zip(values) {
                    let root = self.roots[part * groups * i / 2];
                    let (real, imaginary) = rotated(value, root);
                    put(i - 1, part, real);
                    put(i, part, imaginary);
                }
            }
        }
    }
}

/// `value` · `root` as complex numbers.
fn rotated((real, imaginary): (f64, f64), (cos, sin): (f64, f64)) -> (f64, f64) {
    (cos * real - sin * imaginary, cos * imaginary + sin * real)
}

/// cos and sin of 2πi/n for i up to n/4, from angles of an eighth of a turn at most.
fn unit(i: usize, n: usize) -> (f64, f64) {
    let step = 0.25 * PI / n as f64;
    let angle = |eighths: usize| eighths as f64 * step;
    if 8 * i < n {
        let angle = angle(8 * i);
        (angle.cos(), angle.sin())
    } else {
        let angle = angle(2 * n - 8 * i);
        (angle.sin(), angle.cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_the_sum_of_cosines() {
        let line: Line = std::array::from_fn(|i| ((i * i * 37 + 11 * i) % 256) as f64);
        let found = Dct::new().transform(&line);
        for (k, found) in found.iter().enumerate() {
            let term = |(i, x): (usize, &f64)| x * (PI * (k * (2 * i + 1)) as f64 / 64.0).cos();
            let expected = 2.0 * line.iter().enumerate().map(term).sum::<f64>();
            assert!((found - expected).abs() < 1e-10, "{k}: {found} and {expected}");
        }
    }

    #[test]
    fn an_even_line_has_a_first_coefficient_only() {
        let mut expected = [0.0; N];
        expected[0] = 64.0 * 200.0;
        assert_eq!(Dct::new().transform(&[200.0; N]), expected);
    }
}
