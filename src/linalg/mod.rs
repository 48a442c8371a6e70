//! Floor 0: dense matrices on the CPU, on top of `faer`.
//!
//! - [`multiply_add`]: `C += A·B` on row-major f32 slices, the inner loop of merging
//! - [`Svd`]: a singular value decomposition, [`svd_of_product`] of a low-rank product and
//!   [`truncated_svd`] of a dense matrix
//!
//! Slices are row-major; sizes are given as (rows, columns).

mod svd;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

pub use svd::{NotFinite, Svd, singular_values, svd_of_product, truncated_svd};

/// `c += a · b` with `a` of shape (m, k), `b` (k, n) and `c` (m, n), on the calling thread.
pub fn multiply_add(c: &mut [f32], a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) {
    let c = MatMut::from_row_major_slice_mut(&mut c[..m * n], m, n);
    let a = MatRef::from_row_major_slice(&a[..m * k], m, k);
    let b = MatRef::from_row_major_slice(&b[..k * n], k, n);
    matmul(c, Accum::Add, a, b, 1.0, Par::Seq);
}

/// The product of `a` (m, k) and `b` (k, n).
pub fn multiply(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f32> {
    let mut c = vec![0.0; m * n];
    multiply_add(&mut c, a, b, (m, k, n));
    c
}

/// The transpose of a (rows, columns) matrix.
pub fn transpose(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut t = vec![0.0; a.len()];
    for (i, row) in a.chunks_exact(columns.max(1)).enumerate().take(rows) {
        for (j, value) in row.iter().enumerate() {
            t[j * rows + i] = *value;
        }
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_and_transpose() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(multiply(&a, &[1.0, 0.0, -1.0], (2, 3, 1)), [-2.0, -2.0]);
        assert_eq!(transpose(&a, 2, 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
