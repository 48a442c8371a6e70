//! Gradients of attention on the CPU, block by block like the result: the probabilities are made anew
//! from the scores and are never all there.
//!
//! With P the probabilities, g the gradient and y the result: dV = Pᵀ·g, dS = P⊙(g·Vᵀ − Σ g⊙y),
//! dQ = c·dS·K, dK = c·dSᵀ·Q (Dao et al., 2022, algorithm 4).

#![expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::attention::Shapes;
use super::blocks::{
    KEYS, Keys, QUERIES, State, aligned, gather, key_blocks, score, score_scale, soften, spread,
};
use super::tile::{Left, multiply};
use super::vector::{at_least, exp2};
use crate::nn::attention::Attention;

/// What gradients are made from.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub attention: &'a Attention,
    pub shapes: &'a Shapes,
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    /// The result, (rows, queries, heads, width).
    pub y: &'a [f32],
    /// Its gradient, of the same shape.
    pub g: &'a [f32],
}

/// The gradients of q, k and v, contiguous in their shapes.
pub fn attend_backward(given: Given<'_>) -> [Vec<f32>; 3] {
    let Shapes { rows, heads, groups, queries, keys, width, .. } = *given.shapes;
    let mut dq = vec![0.0; rows * heads * queries * width];
    let mut dk = vec![0.0; rows * groups * keys * width];
    let mut dv = dk.clone();
    if dq.is_empty() {
        return [dq, dk, dv];
    }
    let arch = Arch::new();
    let (of_queries, of_keys) = (heads / groups * queries * width, keys * width);
    let all = dq
        .par_chunks_mut(of_queries)
        .zip(dk.par_chunks_mut(of_keys))
        .zip(dv.par_chunks_mut(of_keys))
        .enumerate();
    all.for_each_init(Vec::new, |scratch, (i, ((dq, dk), dv))| {
        let (row, group) = (i / groups, i % groups);
        arch.dispatch(OneGroup { given, row, group, scratch, dq, dk, dv });
    });
    [dq, dk, dv]
}

/// The heads of one row that share keys.
struct OneGroup<'a> {
    given: Given<'a>,
    row: usize,
    group: usize,
    scratch: &'a mut Vec<f32>,
    dq: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
}

/// Gradients of a block of queries. Rows of `columns` have [`QUERIES`] columns, others the width,
/// filled up to whole vectors.
struct Block<'a> {
    /// Gradients of the results, transposed: (width, …).
    g_columns: &'a mut [f32],
    g_rows: &'a mut [f32],
    q_rows: &'a mut [f32],
    /// Gradients of the probabilities, then of the scores, (keys, …).
    slopes: &'a mut [f32],
    /// Σ g⊙y of each query.
    inner: &'a mut [f32],
    /// 1, as often as a row has numbers: what earlier sums are multiplied with.
    ones: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
}

impl<'a> Block<'a> {
    fn length(width: usize, padded: usize, keys: usize) -> usize {
        (width + KEYS + 1) * QUERIES
            + 2 * QUERIES * padded
            + padded.max(QUERIES)
            + 2 * keys * padded
    }

    fn new(all: &'a mut [f32], (width, padded, keys): (usize, usize, usize)) -> Self {
        let (g_columns, all) = all.split_at_mut(width * QUERIES);
        let (g_rows, all) = all.split_at_mut(QUERIES * padded);
        let (q_rows, all) = all.split_at_mut(QUERIES * padded);
        let (slopes, all) = all.split_at_mut(KEYS * QUERIES);
        let (inner, all) = all.split_at_mut(QUERIES);
        let (ones, all) = all.split_at_mut(padded.max(QUERIES));
        let (dk, dv) = all.split_at_mut(keys * padded);
        ones.fill(1.0);
        Self { g_columns, g_rows, q_rows, slopes, inner, ones, dk, dv }
    }
}

impl WithSimd for OneGroup<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { given, row, group, scratch, dq, dk, dv } = self;
        let Shapes { heads, groups, queries, keys, width, .. } = *given.shapes;
        let padded = width.next_multiple_of(S::F32_LANES);
        let length = State::length(width) + Block::length(width, padded, keys);
        let (mut state, rest) = State::new(aligned(scratch, length), width);
        let mut block = Block::new(rest, (width, padded, keys));
        let shared = heads / groups;
        for (i, dq) in dq.chunks_exact_mut(queries * width).enumerate() {
            let head = group * shared + i;
            for (i, dq) in dq.chunks_mut(QUERIES * width).enumerate() {
                let here = i * QUERIES..i * QUERIES + dq.len() / width;
                load(given, (row, head), here.clone(), &mut state, &mut block);
                step(simd, given, (row, group), here, &mut state, &mut block);
                for (i, dq) in dq.chunks_exact_mut(width).enumerate() {
                    gather(state.y, i, dq, 1.0);
                }
            }
        }
        for (to, from) in [(dk, block.dk), (dv, block.dv)] {
            for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(padded)) {
                to.copy_from_slice(&from[..width]);
            }
        }
    }
}

/// Reads the queries `here` of a head, and the gradients and results at them.
fn load(
    given: Given<'_>,
    (row, head): (usize, usize),
    here: Range<usize>,
    state: &mut State<'_>,
    block: &mut Block<'_>,
) {
    let Shapes { heads, queries, width, .. } = *given.shapes;
    let padded = block.g_rows.len() / QUERIES;
    for (i, t) in here.enumerate() {
        let q = &given.q[given.shapes.q.at(row, head, t)..][..width];
        let at = ((row * queries + t) * heads + head) * width;
        let (g, y) = (&given.g[at..at + width], &given.y[at..at + width]);
        spread(state.q, i, q, score_scale(given.attention));
        spread(block.g_columns, i, g, 1.0);
        block.q_rows[i * padded..][..width].copy_from_slice(q);
        block.g_rows[i * padded..][..width].copy_from_slice(g);
        block.inner[i] = g.iter().zip(y).map(|(g, y)| g * y).sum();
    }
    state.reset();
}

/// Adds what the queries `here` give to the gradients of k and v, and leaves theirs in `state.y`.
#[inline(always)]
fn step<S: Simd>(
    simd: S,
    given: Given<'_>,
    (row, group): (usize, usize),
    here: Range<usize>,
    state: &mut State<'_>,
    block: &mut Block<'_>,
) {
    let Given { attention, shapes, .. } = given;
    let used = here.len().div_ceil(S::F32_LANES);
    let visible: Vec<Range<usize>> =
        here.clone().map(|t| attention.visible(row, t, shapes.queries, shapes.keys)).collect();
    let all = || {
        key_blocks(attention.start(row), &visible).map(|keys| Keys {
            k: &given.k[shapes.k.at(row, group, keys.start)..],
            v: &given.v[shapes.v.at(row, group, keys.start)..],
            strides: (shapes.k.token, shapes.v.token),
            range: keys,
        })
    };
    for keys in all() {
        score(simd, attention, (&keys, &visible), state, used);
        soften(simd, keys.range.len(), state, used);
    }
    for sum in state.sums.iter_mut() {
        *sum = if *sum == 0.0 { 0.0 } else { 1.0 / *sum };
    }
    for keys in all() {
        score(simd, attention, (&keys, &visible), state, used);
        products(simd, attention, (&keys, here.len()), state, block);
    }
}

/// The products of a block of queries with a block of keys.
#[inline(always)]
fn products<S: Simd>(
    simd: S,
    attention: &Attention,
    (keys, queries): (&Keys<'_>, usize),
    state: &mut State<'_>,
    block: &mut Block<'_>,
) {
    let Keys { range, k, v, strides } = keys;
    let (n, width) = (range.len(), state.q.len() / QUERIES);
    let (vectors, used) = (QUERIES / S::F32_LANES, queries.div_ceil(S::F32_LANES));
    let padded = block.g_rows.len() / QUERIES;
    let g = S::as_simd_f32s(block.g_columns).0;
    let slopes = S::as_mut_simd_f32s(block.slopes).0;
    multiply(simd, Left::Rows(v, strides.1), (n, width), g, slopes, (vectors, used, None));
    differentiate(simd, attention, n, state, (block, used));
    let ones = S::as_simd_f32s(block.ones).0;
    let slopes = S::as_simd_f32s(block.slopes).0;
    let dq = S::as_mut_simd_f32s(state.y).0;
    let kt = Left::Columns(k, strides.0);
    multiply(simd, kt, (width, n), slopes, dq, (vectors, used, Some(ones)));
    let along = padded / S::F32_LANES;
    let of_keys = range.start * padded..range.end * padded;
    for (left, right, sum) in [
        (&*state.scores, &*block.g_rows, &mut *block.dv),
        (&*block.slopes, &*block.q_rows, &mut *block.dk),
    ] {
        let sum = S::as_mut_simd_f32s(&mut sum[of_keys.clone()]).0;
        let right = S::as_simd_f32s(right).0;
        let left = Left::Rows(left, QUERIES);
        multiply(simd, left, (n, queries), right, sum, (along, along, Some(ones)));
    }
}

/// Scores become probabilities, and the gradients of these those of `q·k`.
#[inline(always)]
fn differentiate<S: Simd>(
    simd: S,
    attention: &Attention,
    keys: usize,
    state: &mut State<'_>,
    (block, used): (&mut Block<'_>, usize),
) {
    let vectors = QUERIES / S::F32_LANES;
    let (largest, inverse) = (S::as_simd_f32s(state.largest).0, S::as_simd_f32s(state.sums).0);
    let inner = S::as_simd_f32s(block.inner).0;
    let scores = S::as_mut_simd_f32s(state.scores).0.chunks_exact_mut(vectors);
    let slopes = S::as_mut_simd_f32s(block.slopes).0.chunks_exact_mut(vectors);
    for (scores, slopes) in scores.zip(slopes).take(keys) {
        for i in 0..used {
            let score = scores[i];
            let p = exp2(simd, simd.sub_f32s(score, largest[i]));
            let p = simd.mul_f32s(p, inverse[i]);
            let mut slope = simd.mul_f32s(p, simd.sub_f32s(slopes[i], inner[i]));
            slope = simd.mul_f32s(slope, simd.splat_f32s(attention.scale));
            if let Some(cap) = attention.softcap {
                // the score is cap·log₂e·t with t = tanh(…), whose derivative is 1 − t²
                let of_cap = simd.splat_f32s(1.0 / (cap * LOG2_E));
                let t = at_least(simd, simd.mul_f32s(score, of_cap), -1.0);
                let rest = simd.negate_mul_add_e_f32s(t, t, simd.splat_f32s(1.0));
                slope = simd.mul_f32s(slope, rest);
            }
            scores[i] = p;
            slopes[i] = slope;
        }
    }
}
