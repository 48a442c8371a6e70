//! Singular value decompositions.
//!
//! A low-rank product is decomposed exactly through two thin QR factorisations and the SVD of an
//! r×r core. A dense matrix is decomposed to a given rank by block Krylov iteration (Musco & Musco,
//! "Randomized Block Krylov Methods", 2015) until its leading singular values have settled to f32
//! noise; when they do not settle, by the eigenvalues of its Gram matrix in f64.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par, Side};

/// `A ≈ U · diag(s) · Vᵀ`, singular values descending.
#[derive(Debug, Clone)]
pub struct Svd {
    /// Left singular vectors, (rows, k).
    pub u: Mat<f64>,
    /// Singular values, descending, k of them.
    pub s: Vec<f64>,
    /// Right singular vectors, (columns, k).
    pub v: Mat<f64>,
    /// ‖`A‖²_F` of the whole matrix, what was cut off included.
    pub energy: f64,
}

impl Svd {
    /// The best approximation of rank `rank` as two row-major factors of equal scale:
    /// `U·√S` of shape (rows, rank) and `√S·Vᵀ` of shape (rank, columns).
    pub fn factors(&self, rank: usize) -> (Vec<f32>, Vec<f32>) {
        let k = rank.min(self.s.len());
        let root = |j: usize| self.s.get(j).map_or(0.0, |s| s.sqrt());
        let mut up = vec![0.0; self.u.nrows() * rank];
        for (i, row) in up.chunks_exact_mut(rank.max(1)).enumerate() {
            for (j, value) in row.iter_mut().enumerate().take(k) {
                *value = round(self.u[(i, j)] * root(j));
            }
        }
        let columns = self.v.nrows();
        let mut down = vec![0.0; rank * columns];
        for (j, row) in down.chunks_exact_mut(columns.max(1)).enumerate().take(k) {
            for (i, value) in row.iter_mut().enumerate() {
                *value = round(self.v[(i, j)] * root(j));
            }
        }
        (up, down)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
fn round(value: f64) -> f32 {
    value as f32
}

/// Why a decomposition failed: a NaN or infinity in the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the matrix has NaN or infinite values, so it has no singular value decomposition")]
pub struct NotFinite;

fn to_f64(a: &[f32], rows: usize, columns: usize) -> Mat<f64> {
    Mat::from_fn(rows, columns, |i, j| f64::from(a[i * columns + j]))
}

fn check(values: &[f32]) -> Result<(), NotFinite> {
    if values.iter().all(|v| v.is_finite()) { Ok(()) } else { Err(NotFinite) }
}

/// The exact SVD of `up · down`, with `up` of shape (m, r) and `down` (r, n), without forming it.
pub fn svd_of_product(
    up: &[f32],
    down: &[f32],
    (m, r, n): (usize, usize, usize),
) -> Result<Svd, NotFinite> {
    check(up)?;
    check(down)?;
    let up = to_f64(up, m, r);
    let down = to_f64(down, r, n);
    let left = up.qr();
    let right = down.transpose().qr();
    let core = left.thin_R() * right.thin_R().transpose();
    let core = core.thin_svd().map_err(|_| NotFinite)?;
    let s: Vec<f64> = core.S().column_vector().iter().copied().collect();
    Ok(Svd {
        u: left.compute_thin_Q() * core.U(),
        energy: s.iter().map(|s| s * s).sum(),
        s,
        v: right.compute_thin_Q() * core.V(),
    })
}

/// All singular values of a dense (m, n) matrix, descending.
pub fn singular_values(a: &[f32], (m, n): (usize, usize)) -> Result<Vec<f64>, NotFinite> {
    check(a)?;
    let a = to_f64(a, m, n);
    let gram = gram(a.as_ref());
    let values = gram.self_adjoint_eigenvalues(Side::Lower).map_err(|_| NotFinite)?;
    Ok(values.iter().rev().map(|v| v.max(0.0).sqrt()).collect())
}

/// The product of `a` with its transpose on the smaller side.
fn gram(a: MatRef<'_, f64>) -> Mat<f64> {
    if a.nrows() <= a.ncols() { a * a.transpose() } else { a.transpose() * a }
}

/// The leading `rank` singular triplets of a dense (m, n) matrix, exact to f32 noise.
pub fn truncated_svd(a: &[f32], (m, n): (usize, usize), rank: usize) -> Result<Svd, NotFinite> {
    check(a)?;
    let rank = rank.min(m).min(n);
    if m > n {
        // Work with at most as many rows as columns: the basis lives on the smaller side.
        let flipped = truncated_svd(&super::transpose(a, m, n), (n, m), rank)?;
        return Ok(Svd { u: flipped.v, v: flipped.u, ..flipped });
    }
    let energy = a.iter().map(|v| f64::from(*v).powi(2)).sum();
    let view = MatRef::from_row_major_slice(a, m, n);
    if m > SMALL.max(3 * rank)
        && let Some((u, s, v)) = block_krylov(view, rank)
    {
        return Ok(Svd { u, s, v, energy });
    }
    let (u, s, v) = by_gram(&to_f64(a, m, n), rank)?;
    Ok(Svd { u, s, v, energy })
}

type Triplets = (Mat<f64>, Vec<f64>, Mat<f64>);

/// Leading triplets through the eigenvectors of A·Aᵀ in f64. Values below 10⁻⁸ of the largest are
/// noise, far under that of the f32 input.
fn by_gram(a: &Mat<f64>, rank: usize) -> Result<Triplets, NotFinite> {
    let gram = a * a.transpose();
    let eigen = gram.self_adjoint_eigen(Side::Lower).map_err(|_| NotFinite)?;
    let m = a.nrows();
    let u = Mat::from_fn(m, rank, |i, j| eigen.U()[(i, m - 1 - j)]);
    let vs = a.transpose() * &u; // columns are σ·v
    Ok(normalised(u, vs))
}

/// Splits the columns of `σ·v` into their lengths and directions.
fn normalised(u: Mat<f64>, mut vs: Mat<f64>) -> Triplets {
    let s: Vec<f64> = (0..vs.ncols()).map(|j| vs.col(j).norm_l2()).collect();
    for (j, s) in s.iter().enumerate().filter(|(_, s)| **s > 0.0) {
        vs.col_mut(j).iter_mut().for_each(|v| *v /= s);
    }
    (u, s, vs)
}

/// Matrices whose smaller side is up to this are decomposed through their Gram matrix at once.
const SMALL: usize = 256;
/// Leading values have settled when none moved by more than this share of the largest, which is
/// the rounding of f32 itself.
const SETTLED: f64 = 6e-8;

/// Leading triplets by block Lanczos iteration on A·Aᵀ with full reorthogonalisation, or `None` if
/// they did not settle before the basis filled most of the space.
///
/// Products with A are in f32, everything else in f64. The basis Q grows by a block; the values are
/// those of Qᵀ·A (Rayleigh–Ritz), whose Gram matrix grows by the new columns only.
fn block_krylov(a: MatRef<'_, f32>, rank: usize) -> Option<Triplets> {
    let (m, n) = (a.nrows(), a.ncols());
    let block = (rank / 2).clamp(8, 32);
    let most = m * 2 / 3;
    let mut basis = Mat::<f64>::zeros(m, most);
    let mut image = Mat::<f64>::zeros(n, most); // Aᵀ·Q
    let mut gram = Mat::<f64>::zeros(most, most); // imageᵀ·image
    let mut last: Vec<f64> = Vec::new();
    let mut next = product(a, noise(n, block).as_ref());
    let (mut k, mut check_at) = (0, rank + block);
    while k + block <= most {
        let fresh = orthonormal(next, basis.subcols(0, k));
        let fresh_image = product(a.transpose(), to_f32(&fresh).as_ref());
        next = product(a, to_f32(&fresh_image).as_ref());
        basis.subcols_mut(k, block).copy_from(&fresh);
        image.subcols_mut(k, block).copy_from(&fresh_image);
        k += block;
        let columns = gram.submatrix_mut(0, k - block, k, block);
        let all = image.subcols(0, k).transpose();
        matmul(columns, Accum::Replace, all, fresh_image.as_ref(), 1.0, Par::Seq);
        if k < check_at {
            continue;
        }
        check_at = k + (k / 4).max(block);
        // The new columns are the upper triangle; eigenvalues are read from the upper one.
        let square = gram.submatrix(0, 0, k, k);
        let values = square.self_adjoint_eigenvalues(Side::Upper).ok()?;
        let leading: Vec<f64> =
            values.iter().rev().take(rank).map(|value| value.max(0.0).sqrt()).collect();
        let moved = leading.iter().zip(&last).map(|(new, old)| new - old).fold(0.0, f64::max);
        if !last.is_empty() && moved <= SETTLED * leading[0] {
            let eigen = square.self_adjoint_eigen(Side::Upper).ok()?;
            let w = Mat::from_fn(k, rank, |i, j| eigen.U()[(i, k - 1 - j)]);
            return Some(normalised(basis.subcols(0, k) * &w, image.subcols(0, k) * &w));
        }
        last = leading;
    }
    None
}

fn to_f32(a: &Mat<f64>) -> Mat<f32> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| round(a[(i, j)]))
}

fn product(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Mat<f64> {
    let mut c = Mat::<f32>::zeros(a.nrows(), b.ncols());
    matmul(c.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    Mat::from_fn(c.nrows(), c.ncols(), |i, j| f64::from(c[(i, j)]))
}

/// An orthonormal basis of the columns of `block` after those of `basis` are taken out, twice.
fn orthonormal(mut block: Mat<f64>, basis: MatRef<'_, f64>) -> Mat<f64> {
    for _ in 0..2 {
        if basis.ncols() > 0 {
            let shadow = basis.transpose() * &block;
            matmul(block.as_mut(), Accum::Add, basis, shadow.as_ref(), -1.0, Par::Seq);
        }
        block = block.qr().compute_thin_Q();
    }
    block
}

/// Fixed pseudo-random values in (−1, 1): splitmix64 (Steele, Lea & Flood, 2014).
fn noise(rows: usize, columns: usize) -> Mat<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    Mat::from_fn(rows, columns, |_, _| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = (z ^ (z >> 31)) >> 11;
        round(bits as f64 / (1u64 << 52) as f64 - 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(m: usize, n: usize) -> Vec<f32> {
        let a = noise(n, m);
        (0..m * n).map(|i| a[(i % n, i / n)]).collect()
    }

    /// Relative distance between the singular values found and those of faer's full SVD, and
    /// between the error of the approximation and the smallest possible one.
    fn compare(a: &[f32], (m, n): (usize, usize), rank: usize) -> (f64, f64) {
        let found = truncated_svd(a, (m, n), rank).unwrap();
        let dense = to_f64(a, m, n);
        let full = dense.thin_svd().unwrap();
        let s: Vec<f64> = full.S().column_vector().iter().copied().collect();
        let value_error =
            found.s.iter().zip(&s).map(|(f, s)| (f - s).abs() / s).fold(0.0, f64::max);
        let (up, down) = found.factors(rank);
        let rest = &dense - to_f64(&up, m, rank) * to_f64(&down, rank, n);
        let best: f64 = s[rank..].iter().map(|s| s * s).sum::<f64>().sqrt();
        (value_error, (rest.norm_l2() - best) / s[0])
    }

    #[test]
    fn flat_spectrum_is_exact_too() {
        for shape in [(60, 90), (90, 60), (200, 300), (310, 170)] {
            let a = random(shape.0, shape.1);
            let (values, error) = compare(&a, shape, 6);
            assert!(values < 1e-6, "{shape:?}: {values}");
            assert!(error.abs() < 1e-6, "{shape:?}: {error}");
        }
    }

    #[test]
    fn low_rank_with_noise_settles() {
        let (m, n, r) = (240, 320, 8);
        let up = random(m, r);
        let down = random(r, n);
        let mut a = super::super::multiply(&up, &down, (m, r, n));
        for (value, noise) in a.iter_mut().zip(random(m, n)) {
            *value += 1e-3 * noise;
        }
        let (values, error) = compare(&a, (m, n), r);
        assert!(values < 1e-6, "{values}");
        assert!(error.abs() < 1e-6, "{error}");
    }

    #[test]
    fn product_is_decomposed_without_being_formed() {
        let (m, r, n) = (50, 5, 40);
        let (up, down) = (random(m, r), random(r, n));
        let svd = svd_of_product(&up, &down, (m, r, n)).unwrap();
        let (u, d) = svd.factors(r);
        let original = super::super::multiply(&up, &down, (m, r, n));
        let again = super::super::multiply(&u, &d, (m, r, n));
        for (x, y) in original.iter().zip(&again) {
            assert!((x - y).abs() < 2e-6, "{x} {y}");
        }
        let full = singular_values(&original, (m, n)).unwrap();
        for (x, y) in svd.s.iter().zip(&full) {
            assert!((x - y).abs() < 1e-5);
        }
    }

    #[test]
    fn zero_matrix_and_not_a_number() {
        let svd = truncated_svd(&[0.0; 12], (3, 4), 2).unwrap();
        assert_eq!(svd.s, [0.0, 0.0]);
        assert_eq!(truncated_svd(&[f32::NAN; 12], (3, 4), 2).unwrap_err(), NotFinite);
    }
}
