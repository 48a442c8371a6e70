//! Products of small matrices in registers: the inner loops of [`super::blocks`].

#![expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]

use pulp::Simd;

/// A matrix read one number at a time. One of its two indices has stride 1.
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// (m, k) at `row·stride + inner`.
    Rows(&'a [f32], usize),
    /// (m, k) at `row + inner·stride`: the transpose of a row-major matrix.
    Columns(&'a [f32], usize),
}

/// Columns `first..` of row-major matrices whose rows are `vectors` vectors long.
#[derive(Clone, Copy)]
pub struct Strip {
    /// Length of a row in vectors.
    pub vectors: usize,
    /// The first column, in vectors.
    pub first: usize,
}

/// `C = s ⊙ C + A·B` on the first `used` columns of vectors, with A (m, k), B (k, …) and C (m, …)
/// row-major, `vectors` to a row; `s` has one factor a column. Without it C is overwritten. Every
/// element is one sum in the order of k, whatever m and the other columns are.
#[inline(always)]
pub fn multiply<S: Simd>(
    simd: S,
    a: Left<'_>,
    sizes: (usize, usize),
    b: &[S::f32s],
    c: &mut [S::f32s],
    (vectors, used, scale): (usize, usize, Option<&[S::f32s]>),
) {
    let mut strip = Strip { vectors, first: 0 };
    while strip.first < used {
        let left = used - strip.first;
        // six rows by four vectors fill 32 registers, by two 16
        strip.first += if S::REGISTER_COUNT >= 32 && left >= 4 {
            all_rows::<S, 4>(simd, a, sizes, b, c, (strip, scale));
            4
        } else if left >= 2 {
            all_rows::<S, 2>(simd, a, sizes, b, c, (strip, scale));
            2
        } else {
            all_rows::<S, 1>(simd, a, sizes, b, c, (strip, scale));
            1
        };
    }
}

#[inline(always)]
fn all_rows<S: Simd, const N: usize>(
    simd: S,
    a: Left<'_>,
    (m, k): (usize, usize),
    b: &[S::f32s],
    c: &mut [S::f32s],
    (strip, scale): (Strip, Option<&[S::f32s]>),
) {
    let scale = scale.map(|scale| columns::<S, N>(scale, 0, strip));
    let mut row = 0;
    while row < m {
        row += match m - row {
            6.. => {
                rows::<S, 6, N>(simd, a, (row, k), b, c, (strip, scale));
                6
            }
            4.. => {
                rows::<S, 4, N>(simd, a, (row, k), b, c, (strip, scale));
                4
            }
            2.. => {
                rows::<S, 2, N>(simd, a, (row, k), b, c, (strip, scale));
                2
            }
            _ => {
                rows::<S, 1, N>(simd, a, (row, k), b, c, (strip, scale));
                1
            }
        };
    }
}

/// N vectors of row `row`.
#[inline(always)]
pub fn columns<S: Simd, const N: usize>(
    matrix: &[S::f32s],
    row: usize,
    strip: Strip,
) -> [S::f32s; N] {
    let start = row * strip.vectors + strip.first;
    let part = &matrix[start..start + N];
    std::array::from_fn(|i| part[i])
}

/// R rows of C from `row` on.
#[expect(clippy::needless_range_loop, reason = "one index runs along R rows at once")]
#[inline(always)]
fn rows<S: Simd, const R: usize, const N: usize>(
    simd: S,
    a: Left<'_>,
    (row, k): (usize, usize),
    b: &[S::f32s],
    c: &mut [S::f32s],
    (strip, scale): (Strip, Option<[S::f32s; N]>),
) {
    let mut sums = [[simd.splat_f32s(0.0); N]; R];
    if let Some(scale) = scale {
        for (r, sums) in sums.iter_mut().enumerate() {
            let before = columns::<S, N>(c, row + r, strip);
            for ((sum, before), scale) in sums.iter_mut().zip(before).zip(scale) {
                *sum = simd.mul_f32s(before, scale);
            }
        }
    }
    match a {
        Left::Rows(a, stride) => {
            let a: [&[f32]; R] = std::array::from_fn(|r| &a[(row + r) * stride..][..k]);
            for j in 0..k {
                let x: [f32; R] = std::array::from_fn(|r| a[r][j]);
                add(simd, x, columns::<S, N>(b, j, strip), &mut sums);
            }
        }
        Left::Columns(a, stride) => {
            for j in 0..k {
                let part = &a[j * stride + row..][..R];
                let x: [f32; R] = std::array::from_fn(|r| part[r]);
                add(simd, x, columns::<S, N>(b, j, strip), &mut sums);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let start = (row + r) * strip.vectors + strip.first;
        for (c, sum) in c[start..start + N].iter_mut().zip(sums) {
            *c = *sum;
        }
    }
}

/// `sums += x·bᵀ`
#[inline(always)]
fn add<S: Simd, const R: usize, const N: usize>(
    simd: S,
    x: [f32; R],
    b: [S::f32s; N],
    sums: &mut [[S::f32s; N]; R],
) {
    for (x, sums) in x.into_iter().zip(sums) {
        let x = simd.splat_f32s(x);
        for (sum, b) in sums.iter_mut().zip(b) {
            *sum = simd.mul_add_e_f32s(x, b, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    struct Product<'a> {
        a: Left<'a>,
        sizes: (usize, usize),
        b: &'a [f32],
        c: &'a mut [f32],
        used: usize,
        scale: Option<&'a [f32]>,
    }

    impl WithSimd for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self { a, sizes, b, c, used, scale } = self;
            let (b, c) = (S::as_simd_f32s(b).0, S::as_mut_simd_f32s(c).0);
            let scale = scale.map(|scale| S::as_simd_f32s(scale).0);
            let columns = (COLUMNS / S::F32_LANES, used / S::F32_LANES, scale);
            multiply(simd, a, sizes, b, c, columns);
        }
    }

    const COLUMNS: usize = 64;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// On this machine's widest vectors, on those of AVX2 and without vectors.
    fn on_every_set(check: impl Fn(&dyn Fn(Product<'_>))) {
        check(&|product| Arch::new().dispatch(product));
        check(&|product| pulp::Scalar.vectorize(product));
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            check(&|product| Simd::vectorize(avx2, product));
        }
    }

    #[test]
    fn every_instruction_set_gives_the_definition() {
        on_every_set(|multiply| {
            for (m, k, used) in [(1, 1, 16), (5, 7, 32), (9, 40, 48), (15, 3, 64), (20, 128, 64)] {
                let (rows, b) = (values(m * k, 1), values(k * COLUMNS, 2));
                let mut columns = vec![0.0; k * m];
                for (i, x) in rows.iter().enumerate() {
                    columns[i % k * m + i / k] = *x;
                }
                let (before, scale) = (values(m * COLUMNS, 3), values(COLUMNS, 4));
                for a in [Left::Rows(&rows, k), Left::Columns(&columns, m)] {
                    for scale in [None, Some(&*scale)] {
                        let mut c = before.clone();
                        multiply(Product { a, sizes: (m, k), b: &b, c: &mut c, used, scale });
                        for (i, (c, before)) in c.iter().zip(&before).enumerate() {
                            let (row, column) = (i / COLUMNS, i % COLUMNS);
                            if column >= used {
                                assert_eq!(c, before, "a column beyond those used");
                                continue;
                            }
                            let dot: f32 =
                                (0..k).map(|j| rows[row * k + j] * b[j * COLUMNS + column]).sum();
                            let expected = scale.map_or(0.0, |s| s[column] * before) + dot;
                            assert!((c - expected).abs() < 2e-5, "{m} {k} {used}: {c}, {expected}");
                        }
                    }
                }
            }
        });
    }
}
