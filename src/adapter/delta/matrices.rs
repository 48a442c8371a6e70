//! Low-rank products as two row-major matrices.

use std::ops::Range;

use crate::adapter::module::Product;
use crate::linalg::{multiply_add, transpose};
use crate::tensors::{Tensor, TensorError};

/// `left` (rows, k) · `right` (k, columns).
#[derive(Debug, Clone)]
pub(super) struct Matrices {
    pub left: Vec<f32>,
    pub right: Vec<f32>,
    pub k: usize,
}

impl Matrices {
    pub(super) fn add(&self, rows: Range<usize>, columns: usize, by: f32, sum: &mut [f32]) {
        let m = rows.len();
        let left = &self.left[rows.start * self.k..rows.end * self.k];
        if (by - 1.0).abs() < f32::EPSILON / 4.0 {
            return multiply_add(sum, left, &self.right, (m, self.k, columns));
        }
        let left: Vec<f32> = left.iter().map(|x| x * by).collect();
        multiply_add(sum, &left, &self.right, (m, self.k, columns));
    }

    /// `left` of shape (rows, k) and `right` (k, columns), or in Tucker form.
    pub(super) fn new(product: &Product) -> Result<Self, TensorError> {
        let (a, b) = (product.a.to_f32("a")?, product.b.to_f32("b")?);
        let Some(t) = &product.t else {
            return Ok(Self { left: a, right: b, k: product.a.shape()[1] });
        };
        let (r, rows) = (product.a.shape()[0], product.a.shape()[1]);
        Ok(Self { left: transpose(&a, r, rows), right: through_core(t, &b, &product.b)?, k: r })
    }

    pub(super) fn columns(&self) -> usize {
        self.right.len() / self.k
    }

    pub(super) fn rows(&self) -> usize {
        self.left.len() / self.k
    }

    pub(super) fn transposed(&self) -> Self {
        Self {
            left: transpose(&self.right, self.k, self.columns()),
            right: transpose(&self.left, self.rows(), self.k),
            k: self.k,
        }
    }
}

/// Several products, each at its strength, as one.
pub(super) fn side_by_side(parts: &[(Matrices, f32)]) -> Matrices {
    let k: usize = parts.iter().map(|(matrices, _)| matrices.k).sum();
    let rows = parts.first().map_or(0, |(m, _)| m.left.len() / m.k);
    let mut left = Vec::with_capacity(rows * k);
    for r in 0..rows {
        for (part, strength) in parts {
            left.extend(part.left[r * part.k..][..part.k].iter().map(|x| x * strength));
        }
    }
    let right = parts.iter().flat_map(|(part, _)| part.right.iter().copied()).collect();
    Matrices { left, right, k }
}

/// `T[m, i, x] = Σ_n core[m, n, x] · down[n, i]`, row-major over (m, i, x).
pub(in crate::adapter) fn through_core(
    core: &Tensor,
    down: &[f32],
    shape: &Tensor,
) -> Result<Vec<f32>, TensorError> {
    let core_values = core.to_f32("core")?;
    let (r, n) = (core.shape()[0], core.shape()[1]);
    let kernel: usize = core.shape()[2..].iter().product();
    let inputs = shape.shape()[1];
    let mut through = vec![0.0; r * inputs * kernel];
    for m in 0..r {
        for j in 0..n {
            let taps = &core_values[(m * n + j) * kernel..][..kernel];
            for (i, x) in down[j * inputs..][..inputs].iter().enumerate() {
                let cell = &mut through[(m * inputs + i) * kernel..][..kernel];
                for (sum, tap) in cell.iter_mut().zip(taps) {
                    *sum += tap * x;
                }
            }
        }
    }
    Ok(through)
}

pub(super) fn scale_all(values: &mut [f32], by: f32) {
    for value in values {
        *value *= by;
    }
}
