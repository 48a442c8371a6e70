//! `y = x·Wᵀ` for a weight that stays as the file holds it: f32, f16 or bf16.
//!
//! Decoding makes a language model read every weight once a token, so with few rows of `x` the
//! time is that of reading W. Each row of W is read once for all rows of `x`, and 16-bit weights
//! are widened on the way (exactly), never stored as f32. With few rows each element of `y` is one
//! dot product summed in one order whatever the number of rows: a row's result does not depend on
//! the rows beside it, and so it is with few rows of W. With more rows of both the product is done panel
//! by panel with [`crate::linalg`], with many rows of `x` by [`multiply`], which transposes W block by
//! block.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::multiply::{DEPTH, Scheme, multiply};
use crate::linalg;
use crate::tensors::Float;

/// A matrix of (rows, columns) in a float type, row-major, as bytes.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// Little-endian values.
    pub bytes: &'a [u8],
    /// Their type.
    pub float: Float,
    /// Length of a row.
    pub columns: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of f32.
    pub fn dense(values: &'a [f32], columns: usize) -> Self {
        Self { bytes: bytemuck::cast_slice(values), float: Float::F32, columns }
    }

    fn rows(&self) -> usize {
        self.bytes.len().checked_div(self.row_bytes()).unwrap_or(0)
    }

    fn row_bytes(&self) -> usize {
        self.columns * self.float.size()
    }

    /// The values of rows `first..first + count`; `scratch` holds them where they must be widened.
    pub fn widen<'b>(&self, first: usize, count: usize, scratch: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        let bytes = &self.bytes[first * self.row_bytes()..(first + count) * self.row_bytes()];
        if self.float == Float::F32
            && let Ok(values) = bytemuck::try_cast_slice(bytes)
        {
            return values;
        }
        scratch.resize(count * self.columns, 0.0);
        self.float.decode(bytes, scratch);
        scratch
    }

    /// Some values of a row; `scratch` holds them where they must be widened.
    pub fn part<'b>(self, row: usize, of: Range<usize>, scratch: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        let (start, size) = (row * self.columns + of.start, self.float.size());
        let bytes = &self.bytes[start * size..(start + of.len()) * size];
        Self { bytes, columns: of.len(), ..self }.widen(0, 1, scratch)
    }
}

/// Up to this many rows of `x` or of W, dot products are faster than packing panels of W.
const FEW: usize = 24;
/// From this many rows of `x`, W is transposed.
const MANY: usize = 160;
/// From this long a sum, `g·W` is done so.
const DEEP: usize = 64;
/// Rows of W that are multiplied at once: three by four rows of `x` fill sixteen vector registers.
const TOGETHER: usize = 3;
/// Bytes of W that one task reads; a smaller W is not worth a second thread.
const TASK: usize = 128 << 10;
/// Rows of W in one panel of a large product.
const PANEL: usize = 128;

/// `x·Wᵀ`: (m, k) by (n, k) gives (m, n).
pub fn product(x: &[f32], w: Matrix<'_>) -> Vec<f32> {
    let (k, n) = (w.columns, w.rows());
    let m = x.len().checked_div(k).unwrap_or(0);
    if m * n == 0 {
        return Vec::new();
    }
    if m == 1 {
        return transposed(x, w, 1, n);
    }
    if m >= MANY {
        let mut y = vec![0.0; m * n];
        multiply(&Many { x, w, of: Of::Product }, y.chunks_exact_mut(n).collect(), m);
        return y;
    }
    let columns = transposed(x, w, m, n);
    untranspose(&columns, m, n)
}

/// [`product`] for a W of few rows, such as a low-rank change's A: dot products, x in the place of W.
pub fn thin_product(x: &[f32], w: Matrix<'_>) -> Vec<f32> {
    let (k, n) = (w.columns, w.rows());
    let m = x.len().checked_div(k).unwrap_or(0);
    if m <= FEW || n == 0 || n > FEW {
        return product(x, w);
    }
    transposed(w.widen(0, n, &mut Vec::new()), Matrix::dense(x, k), n, m)
}

/// A product with so many rows of x that blocks of W are worth copying.
struct Many<'a> {
    x: &'a [f32],
    w: Matrix<'a>,
    of: Of,
}

/// Which product.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// `x·Wᵀ`: the lanes of a vector are rows of W.
    Product,
    /// `x·W`: they are columns of W.
    Backward,
}

impl Scheme for Many<'_> {
    const POSITIONS: usize = 1;

    fn columns(&self) -> usize {
        match self.of {
            Of::Product => self.w.rows(),
            Of::Backward => self.w.columns,
        }
    }

    fn depth(&self) -> usize {
        match self.of {
            Of::Product => self.w.columns,
            Of::Backward => self.w.rows(),
        }
    }

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn gather<S: Simd>(
        &self,
        _: S,
        vector: usize,
        depth: Range<usize>,
        v: &mut [[S::f32s; DEPTH]],
    ) {
        let lanes = S::F32_LANES;
        let v: &mut [f32] = bytemuck::cast_slice_mut(v.as_flattened_mut());
        let mut scratch = Vec::new();
        let first = vector * lanes;
        let used = lanes.min(self.columns() - first);
        if self.of == Of::Backward {
            for (row, to) in depth.zip(v.chunks_exact_mut(lanes)) {
                let part = self.w.part(row, first..first + used, &mut scratch);
                to[..used].copy_from_slice(part);
            }
            return;
        }
        for lane in 0..used {
            let part = self.w.part(first + lane, depth.clone(), &mut scratch);
            for (to, value) in v.chunks_exact_mut(lanes).zip(part) {
                to[lane] = *value;
            }
        }
    }

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn weights<S: Simd>(
        &self,
        _: S,
        row: usize,
        depth: Range<usize>,
        u: &mut [[f32; DEPTH]],
        _: &mut Vec<f32>,
    ) {
        let part = &self.x[row * self.depth()..][depth];
        u.as_flattened_mut()[..part.len()].copy_from_slice(part);
    }

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn scatter<S: Simd>(
        &self,
        _: S,
        (_, vector): (usize, usize),
        sums: &[S::f32s],
        rows: &mut [&mut [f32]],
        (row, _): (usize, usize),
    ) {
        let sums: &[f32] = bytemuck::cast_slice(sums);
        let y = &mut rows[row][vector * S::F32_LANES..];
        let count = y.len().min(sums.len());
        y[..count].copy_from_slice(&sums[..count]);
    }
}

/// (n, m) → (m, n)
fn untranspose(columns: &[f32], m: usize, n: usize) -> Vec<f32> {
    const BLOCK: usize = 64;
    let mut y = vec![0.0; m * n];
    y.par_chunks_mut(n * BLOCK.min(m)).enumerate().for_each(|(block, rows)| {
        let first = block * BLOCK.min(m);
        for start in (0..n).step_by(BLOCK) {
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                for j in start..(start + BLOCK).min(n) {
                    row[j] = columns[j * m + first + i];
                }
            }
        }
    });
    y
}

/// `W·xᵀ`, (n, m).
fn transposed(x: &[f32], w: Matrix<'_>, m: usize, n: usize) -> Vec<f32> {
    let mut y = vec![0.0; n * m];
    let arch = Arch::new();
    if m <= FEW {
        let some = |scratch: &mut Vec<f32>, first: usize, y: &mut [f32]| {
            for (i, y) in y.chunks_mut(TOGETHER * m).enumerate() {
                let part = w.widen(first + i * TOGETHER, y.len() / m, scratch);
                arch.dispatch(Dots { w: part, x, y, k: w.columns });
            }
        };
        if w.bytes.len() <= TASK {
            some(&mut Vec::new(), 0, &mut y);
            return y;
        }
        let rows = (TASK / w.row_bytes().max(1)).clamp(1, n.div_ceil(4).max(1));
        let rows = rows.next_multiple_of(TOGETHER);
        y.par_chunks_mut(rows * m)
            .enumerate()
            .for_each_init(Vec::new, |scratch, (task, y)| some(scratch, task * rows, y));
        return y;
    }
    let xt = linalg::transpose(x, m, w.columns);
    y.par_chunks_mut(PANEL * m).enumerate().for_each_init(Vec::new, |scratch, (panel, y)| {
        let rows = y.len() / m;
        let part = w.widen(panel * PANEL, rows, scratch);
        linalg::multiply_add(y, part, &xt, (rows, w.columns, m));
    });
    y
}

/// `g·W`: (m, n) by (n, k) gives (m, k), the gradient of [`product`] with respect to `x`.
pub fn product_backward(g: &[f32], w: Matrix<'_>) -> Vec<f32> {
    let (k, n) = (w.columns, w.rows());
    let m = g.len().checked_div(n).unwrap_or(0);
    if m * k == 0 {
        return vec![0.0; m * k];
    }
    if m > FEW && k <= FEW {
        let wt = linalg::transpose(w.widen(0, n, &mut Vec::new()), n, k);
        return product(g, Matrix::dense(&wt, n));
    }
    let mut dx = vec![0.0; m * k];
    if m >= MANY && n >= DEEP {
        let of_product = Many { x: g, w, of: Of::Backward };
        multiply(&of_product, dx.chunks_exact_mut(k).collect(), m);
        return dx;
    }
    let rows = m.div_ceil(rayon::current_num_threads()).max(1);
    dx.par_chunks_mut(rows * k).zip(g.par_chunks(rows * n)).for_each_init(
        Vec::new,
        |scratch, (dx, g)| {
            let m = g.len() / n;
            for first in (0..n).step_by(PANEL) {
                let count = PANEL.min(n - first);
                let part = w.widen(first, count, scratch);
                let columns: Vec<f32> =
                    g.chunks_exact(n).flat_map(|row| &row[first..first + count]).copied().collect();
                linalg::multiply_add(dx, &columns, part, (m, count, k));
            }
        },
    );
    dx
}

/// Dot products of some rows of W with every row of `x`: y is (rows of W, rows of x).
struct Dots<'a> {
    w: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
    k: usize,
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { w, x, y, k } = self;
        let m = x.len() / k;
        if y.len() == TOGETHER * m {
            let mut row = 0;
            while row + 4 <= m {
                dots::<S, TOGETHER, 4>(simd, w, &x[row * k..(row + 4) * k], (y, row, m));
                row += 4;
            }
            for row in row..m {
                dots::<S, TOGETHER, 1>(simd, w, &x[row * k..(row + 1) * k], (y, row, m));
            }
            return;
        }
        for (w, y) in w.chunks_exact(k).zip(y.chunks_exact_mut(m)) {
            for (row, x) in x.chunks_exact(k).enumerate() {
                dots::<S, 1, 1>(simd, w, x, (&mut *y, row, m));
            }
        }
    }
}

/// R rows of W by M rows of x. Every sum is made in the same order whatever R and M are: one vector of
/// partial sums along k, then their sum, then the rest.
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn dots<S: Simd, const R: usize, const M: usize>(
    simd: S,
    w: &[f32],
    x: &[f32],
    (y, first, m): (&mut [f32], usize, usize),
) {
    let k = w.len() / R;
    let w: [&[f32]; R] = std::array::from_fn(|r| &w[r * k..(r + 1) * k]);
    let x: [&[f32]; M] = std::array::from_fn(|i| &x[i * k..(i + 1) * k]);
    let count = S::as_simd_f32s(w[0]).0.len();
    let w_heads: [&[S::f32s]; R] = std::array::from_fn(|r| &S::as_simd_f32s(w[r]).0[..count]);
    let x_heads: [&[S::f32s]; M] = std::array::from_fn(|i| &S::as_simd_f32s(x[i]).0[..count]);
    let mut sums = [[simd.splat_f32s(0.0); M]; R];
    for j in 0..count {
        let w: [S::f32s; R] = std::array::from_fn(|r| w_heads[r][j]);
        for (i, x) in x_heads.iter().enumerate() {
            let x = x[j];
            for (sums, w) in sums.iter_mut().zip(&w) {
                sums[i] = simd.mul_add_e_f32s(*w, x, sums[i]);
            }
        }
    }
    let start = k - S::as_simd_f32s(w[0]).1.len();
    for (r, sums) in sums.iter().enumerate() {
        for (i, sum) in sums.iter().enumerate() {
            let mut total = simd.reduce_sum_f32s(*sum);
            for (w, x) in w[r][start..].iter().zip(&x[i][start..]) {
                total += w * x;
            }
            y[r * m + first + i] = total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        };
        (0..n).map(|_| next()).collect()
    }

    fn bytes(values: &[f32], float: Float) -> (Vec<u8>, Vec<f32>) {
        let mut bytes = vec![0; values.len() * float.size()];
        float.encode(values, &mut bytes);
        let mut rounded = vec![0.0; values.len()];
        float.decode(&bytes, &mut rounded);
        (bytes, rounded)
    }

    /// The definition, in f64.
    fn reference(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
        x.chunks(k)
            .flat_map(|x| {
                w.chunks(k)
                    .map(|w| x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
            })
            .collect()
    }

    #[test]
    fn equals_the_definition_for_every_type_and_number_of_rows() {
        for float in [Float::F32, Float::F16, Float::BF16] {
            for (m, k, n) in [
                (1, 1, 1),
                (1, 37, 5),
                (3, 64, 9),
                (8, 100, 33),
                (24, 40, 7),
                (50, 72, 300),
                (200, 130, 37),
            ] {
                let (w_bytes, w) = bytes(&values(n * k, 1), float);
                let x = values(m * k, 2);
                let y = product(&x, Matrix { bytes: &w_bytes, float, columns: k });
                for (y, expected) in y.iter().zip(reference(&x, &w, k)) {
                    assert!((f64::from(*y) - expected).abs() < 1e-5, "{float:?} {m} {k} {n}");
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        let (k, n) = (133, 41);
        let (bytes, _) = bytes(&values(n * k, 3), Float::F32);
        let w = Matrix { bytes: &bytes, float: Float::F32, columns: k };
        let x = values(FEW * k, 4);
        let all = product(&x, w);
        for m in 1..FEW {
            assert_eq!(product(&x[..m * k], w), all[..m * n]);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it_where_there_are_many() {
        let (k, n) = (133, 41);
        let (bytes, _) = bytes(&values(n * k, 3), Float::F16);
        let w = Matrix { bytes: &bytes, float: Float::F16, columns: k };
        let x = values(2 * MANY * k, 4);
        let all = product(&x, w);
        for m in [MANY, MANY + 7, 2 * MANY - 1] {
            assert_eq!(product(&x[..m * k], w), all[..m * n]);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it_where_w_has_few() {
        let (k, n) = (133, 7);
        let w = values(n * k, 3);
        let w = Matrix::dense(&w, k);
        let x = values(2 * MANY * k, 4);
        let all = thin_product(&x, w);
        for m in [FEW + 1, MANY] {
            assert_eq!(thin_product(&x[..m * k], w), all[..m * n]);
        }
        for (y, z) in all.iter().zip(product(&x, w)) {
            assert!((y - z).abs() < 1e-5);
        }
    }

    #[test]
    fn the_backward_product_is_that_of_the_definition() {
        for float in [Float::F32, Float::F16, Float::BF16] {
            for (m, k, n) in
                [(5, 17, 300), (3, 8, 40), (200, 37, 300), (170, 8, 90), (161, 130, 6), (50, 3, 3)]
            {
                let (w_bytes, w) = bytes(&values(n * k, 5), float);
                let g = values(m * n, 6);
                let dx = product_backward(&g, Matrix { bytes: &w_bytes, float, columns: k });
                let wt = linalg::transpose(&w, n, k);
                assert_eq!(dx.len(), m * k);
                for (a, b) in dx.iter().zip(reference(&g, &wt, n)) {
                    assert!((f64::from(*a) - b).abs() < 1e-5, "{float:?} {m} {k} {n}");
                }
            }
        }
    }
}
