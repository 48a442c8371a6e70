//! Large products on the CPU: `Y[p] = U[p]·V[p]` at one or more positions p, with U
//! (outputs, depth) and V (depth, columns), which a [`Scheme`] makes, of a convolution from its
//! weight and its image.
//!
//! U and V exist block by block only. A block of columns is gathered for all of the depth and shared
//! by the threads; each thread takes some output channels, makes their part of U in pieces of
//! [`DEPTH`], multiplies, and hands the sums over. Every sum is made in the same order, whatever the
//! blocks are: in order of the depth within a piece, then piece by piece.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Terms of a sum that are added before they are added to the others.
pub const DEPTH: usize = 128;
/// Output channels of a task at most.
const OUTPUTS: usize = 32;
/// Bytes of V that are gathered at once.
const GATHERED: usize = 8 << 20;
/// Bytes of the sums of a task at most.
const SUMS: usize = 1 << 20;
/// Vectors of V that are multiplied at once; two where 16 registers have to hold the sums.
const WIDE: usize = 3;

/// What is multiplied. Its functions must be inlined: the instructions are chosen outside.
pub trait Scheme: Sync {
    /// Matrices that are multiplied independently.
    const POSITIONS: usize;

    /// Columns of V for the whole batch.
    fn columns(&self) -> usize;

    /// Length of the sums.
    fn depth(&self) -> usize;

    /// Writes one vector of columns of V, for each position a part of the depth.
    fn gather<S: Simd>(
        &self,
        simd: S,
        vector: usize,
        depth: Range<usize>,
        v: &mut [[S::f32s; DEPTH]],
    );

    /// Writes one row of U, for each position a part of the depth.
    fn weights<S: Simd>(
        &self,
        simd: S,
        output: usize,
        depth: Range<usize>,
        u: &mut [[f32; DEPTH]],
        scratch: &mut Vec<f32>,
    );

    /// Takes the sums (positions) of one output channel for one vector of columns; the channel's
    /// plane in image i is `planes[first + i * step]`.
    fn scatter<S: Simd>(
        &self,
        simd: S,
        of: (usize, usize),
        sums: &[S::f32s],
        planes: &mut [&mut [f32]],
        place: (usize, usize),
    );
}

/// f32 values that start at a cache line.
#[derive(Debug, Default)]
struct Buffer {
    values: Vec<f32>,
}

impl Buffer {
    /// `length` values, which hold anything.
    fn get(&mut self, length: usize) -> &mut [f32] {
        const LINE: usize = 64;
        if self.values.len() < length + LINE / size_of::<f32>() {
            self.values = vec![0.0; length + LINE / size_of::<f32>()];
        }
        let start = self.values.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
        &mut self.values[start..start + length]
    }
}

#[derive(Debug, Default)]
struct Scratch {
    u: Buffer,
    sums: Buffer,
    raw: Vec<f32>,
}

/// Buffers that wait for the next product: to get them zeroed from the system costs as much as a
/// small product.
static WAITING: Mutex<Vec<(Buffer, Vec<Scratch>)>> = Mutex::new(Vec::new());

/// Computes the products of a scheme. `planes` are those of y, image by image, `outputs` in each.
pub fn multiply<C: Scheme>(scheme: &C, planes: Vec<&mut [f32]>, outputs: usize) {
    let arch = Arch::new();
    let lanes = arch.dispatch(Lanes);
    let vectors = scheme.columns().div_ceil(lanes);
    if planes.is_empty() || vectors == 0 {
        return;
    }
    let threads = rayon::current_num_threads().max(1);
    let per_task = outputs.div_ceil(threads).next_multiple_of(8).min(OUTPUTS);
    let mut tasks: Vec<Vec<&mut [f32]>> = Vec::new();
    tasks.resize_with(outputs.div_ceil(per_task), Vec::new);
    for (i, plane) in planes.into_iter().enumerate() {
        tasks[i % outputs / per_task].push(plane);
    }
    let pieces = scheme.depth().div_ceil(DEPTH).max(1);
    let piece = C::POSITIONS * DEPTH * lanes;
    let of_sums = SUMS / size_of::<f32>() / (per_task * C::POSITIONS * lanes);
    let of_gathered = GATHERED / size_of::<f32>() / (pieces * piece);
    let at_once = even(vectors, of_gathered.min(of_sums).max(WIDE));
    let taken = WAITING.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let (mut gathered, mut scratches) = taken.unwrap_or_default();
    scratches.resize_with(threads, Scratch::default);
    for first in (0..vectors).step_by(at_once) {
        let count = at_once.min(vectors - first);
        let v = gathered.get(pieces * count * piece);
        v.par_chunks_mut(piece).enumerate().for_each(|(i, v)| {
            let start = i / count * DEPTH;
            let depth = start..(start + DEPTH).min(scheme.depth());
            arch.dispatch(Gather { scheme, vector: first + i % count, depth, v });
        });
        let v = &*v;
        let queue = Mutex::new(tasks.iter_mut().enumerate());
        scratches.par_iter_mut().with_max_len(1).for_each(|scratch| {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((task, planes)) = next else { return };
                let start = task * per_task;
                let outputs = start..(start + per_task).min(outputs);
                arch.dispatch(Task {
                    scheme,
                    outputs,
                    vectors: first..first + count,
                    v,
                    planes,
                    scratch,
                });
            }
        });
    }
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if waiting.is_empty() {
        waiting.push((gathered, scratches));
    }
}

/// The size of blocks of about the same size, `most` at most if that is a multiple of [`WIDE`].
fn even(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most)).next_multiple_of(WIDE).min(all)
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

struct Gather<'a, C> {
    scheme: &'a C,
    vector: usize,
    depth: Range<usize>,
    v: &'a mut [f32],
}

impl<C: Scheme> WithSimd for Gather<'_, C> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let v = S::as_mut_simd_f32s(self.v).0.as_chunks_mut().0;
        self.scheme.gather(simd, self.vector, self.depth, v);
    }
}

struct Task<'a, 'b, C> {
    scheme: &'a C,
    outputs: Range<usize>,
    vectors: Range<usize>,
    /// (pieces, vectors, positions, DEPTH, lanes)
    v: &'a [f32],
    planes: &'a mut [&'b mut [f32]],
    scratch: &'a mut Scratch,
}

impl<C: Scheme> WithSimd for Task<'_, '_, C> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scheme, outputs, vectors, v, planes, scratch } = self;
        let Scratch { u, sums, raw } = scratch;
        let (rows, columns) = (outputs.len(), vectors.len());
        let u = u.get(rows * C::POSITIONS * DEPTH).as_chunks_mut::<DEPTH>().0;
        let sums = sums.get(rows * columns * C::POSITIONS * S::F32_LANES);
        let sums = S::as_mut_simd_f32s(sums).0;
        sums.fill(simd.splat_f32s(0.0));
        let v = S::as_simd_f32s(v).0.as_chunks::<DEPTH>().0;
        for (i, v) in v.chunks_exact(columns * C::POSITIONS).enumerate() {
            let depth = i * DEPTH..((i + 1) * DEPTH).min(scheme.depth());
            for (row, u) in u.chunks_exact_mut(C::POSITIONS).enumerate() {
                scheme.weights(simd, outputs.start + row, depth.clone(), u, raw);
            }
            for p in 0..C::POSITIONS {
                matrices::<S, C>(simd, u, v, sums, &Sizes { p, rows, columns, depth: depth.len() });
            }
        }
        for (row, sums) in sums.chunks_exact(columns * C::POSITIONS).enumerate() {
            for (vector, sums) in sums.chunks_exact(C::POSITIONS).enumerate() {
                let what = (outputs.start + row, vectors.start + vector);
                scheme.scatter(simd, what, sums, planes, (row, rows));
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    p: usize,
    rows: usize,
    columns: usize,
    depth: usize,
}

/// Adds the product of u (rows, positions, DEPTH) and v (columns, positions, DEPTH) at a position to
/// the sums (rows, columns, positions).
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn matrices<S: Simd, C: Scheme>(
    simd: S,
    u: &[[f32; DEPTH]],
    v: &[[S::f32s; DEPTH]],
    sums: &mut [S::f32s],
    sizes: &Sizes,
) {
    let mut column = 0;
    while S::REGISTER_COUNT >= 32 && column + WIDE <= sizes.columns {
        strip::<S, C, WIDE>(simd, u, v, sums, (column, sizes));
        column += WIDE;
    }
    while column + 2 <= sizes.columns {
        strip::<S, C, 2>(simd, u, v, sums, (column, sizes));
        column += 2;
    }
    if column < sizes.columns {
        strip::<S, C, 1>(simd, u, v, sums, (column, sizes));
    }
}

#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn strip<S: Simd, C: Scheme, const N: usize>(
    simd: S,
    u: &[[f32; DEPTH]],
    v: &[[S::f32s; DEPTH]],
    sums: &mut [S::f32s],
    (column, sizes): (usize, &Sizes),
) {
    let v: [&[S::f32s; DEPTH]; N] =
        std::array::from_fn(|n| &v[(column + n) * C::POSITIONS + sizes.p]);
    let mut row = 0;
    while S::REGISTER_COUNT >= 32 && row + 8 <= sizes.rows {
        tile::<S, C, 8, N>(simd, u, v, sums, (row, column, sizes));
        row += 8;
    }
    while row + 4 <= sizes.rows {
        tile::<S, C, 4, N>(simd, u, v, sums, (row, column, sizes));
        row += 4;
    }
    while row < sizes.rows {
        tile::<S, C, 1, N>(simd, u, v, sums, (row, column, sizes));
        row += 1;
    }
}

/// R rows of u by N vectors of v, all sums in registers.
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn tile<S: Simd, C: Scheme, const R: usize, const N: usize>(
    simd: S,
    u: &[[f32; DEPTH]],
    v: [&[S::f32s; DEPTH]; N],
    sums: &mut [S::f32s],
    (row, column, sizes): (usize, usize, &Sizes),
) {
    let u = &u[row * C::POSITIONS + sizes.p..][..=(R - 1) * C::POSITIONS];
    let u: [&[f32; DEPTH]; R] = std::array::from_fn(|r| &u[r * C::POSITIONS]);
    let mut tile = [[simd.splat_f32s(0.0); N]; R];
    for k in 0..sizes.depth.min(DEPTH) {
        let mut column = [simd.splat_f32s(0.0); N];
        for (column, v) in column.iter_mut().zip(&v) {
            *column = v[k];
        }
        for (tile, u) in tile.iter_mut().zip(&u) {
            let u = simd.splat_f32s(u[k]);
            for (sum, v) in tile.iter_mut().zip(&column) {
                *sum = simd.mul_add_e_f32s(u, *v, *sum);
            }
        }
    }
    for (r, tile) in tile.iter().enumerate() {
        for (n, part) in tile.iter().enumerate() {
            let at = ((row + r) * sizes.columns + column + n) * C::POSITIONS + sizes.p;
            sums[at] = simd.add_f32s(sums[at], *part);
        }
    }
}
