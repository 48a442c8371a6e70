//! Kernels of all pairs of two sets of features, and the estimates made of them.
#![expect(
    clippy::inline_always,
    reason = "only what is inlined into a dispatched function uses the processor's wide registers"
)]

use pulp::Arch;
use rayon::prelude::*;

/// (x·y/d + 1)³ within either set and across both. An image against itself is 0, as the unbiased
/// estimate leaves it out.
pub(super) struct Kernels {
    first: Matrix,
    second: Matrix,
    across: Matrix,
}

/// A matrix, row after row.
struct Matrix {
    columns: usize,
    values: Vec<f64>,
}

impl Kernels {
    /// All rows have the same number of features.
    pub(super) fn new(first: &[&[f64]], second: &[&[f64]]) -> Self {
        let within = |set: &[&[f64]]| {
            let mut matrix = Matrix::new(set, set);
            matrix.values.iter_mut().step_by(set.len() + 1).for_each(|value| *value = 0.0);
            matrix
        };
        Self { first: within(first), second: within(second), across: Matrix::new(first, second) }
    }

    /// Numbers of images.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.first.columns, self.second.columns)
    }

    /// The unbiased estimate of the squared maximum mean discrepancy.
    pub(super) fn discrepancy(&self) -> f64 {
        let (first, second) = self.sizes();
        self.resampled(&vec![1.0; first], &vec![1.0; second])
    }

    /// The estimate where images occur `first` and `second` times, pairs of one image left out.
    pub(super) fn resampled(&self, first: &[f64], second: &[f64]) -> f64 {
        let within = |kernels: &Matrix, times: &[f64]| {
            let draws: f64 = times.iter().sum();
            let pairs = draws * draws - times.iter().map(|times| times * times).sum::<f64>();
            kernels.weighted_sum(times, times) / pairs
        };
        let across = self.across.weighted_sum(first, second)
            / (first.iter().sum::<f64>() * second.iter().sum::<f64>());
        within(&self.first, first) + within(&self.second, second) - 2.0 * across
    }
}

impl Matrix {
    fn new(rows: &[&[f64]], columns: &[&[f64]]) -> Self {
        let arch = Arch::new();
        let row = |x: &&[f64]| -> Vec<f64> {
            let kernel = |y: &&[f64]| {
                let value = dot(x, y) / x.len() as f64 + 1.0;
                value * value * value
            };
            arch.dispatch(|| columns.iter().map(kernel).collect())
        };
        let values = rows.par_iter().flat_map_iter(row).collect();
        Self { columns: columns.len(), values }
    }

    /// Σ `left`ᵢ · valueᵢⱼ · `right`ⱼ.
    fn weighted_sum(&self, left: &[f64], right: &[f64]) -> f64 {
        let sum = || {
            let rows = left.iter().zip(self.values.chunks_exact(self.columns));
            let drawn = rows.filter(|(times, _)| **times != 0.0);
            drawn.map(|(times, row)| times * dot(row, right)).sum()
        };
        Arch::new().dispatch(sum)
    }
}

/// The dot product, in eight running sums.
#[inline(always)]
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (x, y) in x.iter().zip(y) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    let rest = x_rest.iter().zip(y_rest).map(|(x, y)| x * y);
    lanes.into_iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x = 1, 2 and y = 3, 5 with d = 1: kernels 27 within x, 4096 within y, 64, 216, 343 and 1331
    /// across.
    #[test]
    fn the_estimate_is_the_definition() {
        let kernels = Kernels::new(&[&[1.0], &[2.0]], &[&[3.0], &[5.0]]);
        let expected = 27.0 + 4096.0 - 2.0 * (64.0 + 216.0 + 343.0 + 1331.0) / 4.0;
        assert_eq!(kernels.discrepancy(), expected);
    }

    #[test]
    fn drawing_each_image_twice_changes_nothing() {
        let kernels = Kernels::new(&[&[1.0], &[2.0], &[0.5]], &[&[3.0], &[5.0]]);
        let twice = kernels.resampled(&[2.0; 3], &[2.0; 2]);
        assert!((twice - kernels.discrepancy()).abs() < 1e-9);
    }

    #[test]
    fn long_rows_are_summed_whole() {
        let x: Vec<f64> = (0..19).map(f64::from).collect();
        assert_eq!(dot(&x, &x), 2109.0);
    }
}
