//! Attention of many queries on the CPU: a block of queries meets the keys block by block, and the
//! softmax is made on the way (Dao et al., 2022), so the matrix of scores never exists.
//!
//! Queries lie along the vectors, keys and features across them: maxima and sums over keys need no
//! shuffles, and keys and values are read where they are. Each query's numbers are the same
//! operations in the same order whatever queries and rows stand beside it; blocks of keys are
//! counted from the first key that is no padding, and a block that a query does not see leaves its
//! numbers as they are.

#![expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]

use std::f32::consts::LOG2_E;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::attention::Shapes;
use super::tile::{Left, Strip, columns, multiply};
use super::vector::{exp2, tanh};
use crate::nn::attention::Attention;

/// The most queries of a block; a multiple of every vector's length.
pub const QUERIES: usize = 64;
/// Keys of a block: their scores and the values they meet fit the second cache with room.
pub(super) const KEYS: usize = 128;
/// Stands for the largest score before there is one; -∞ would give ∞ − ∞.
const NO_SCORE: f32 = -1e30;

/// Up to [`QUERIES`] queries of one row, in every head.
pub struct Block<'a> {
    pub attention: &'a Attention,
    pub shapes: &'a Shapes,
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub row: usize,
    /// The first query.
    pub first: usize,
    pub scratch: &'a mut Vec<f32>,
    /// (queries of the block, heads, width)
    pub y: &'a mut [f32],
}

/// What a block of queries carries from one block of keys to the next. Rows have [`QUERIES`]
/// columns.
pub(super) struct State<'a> {
    /// Queries times the scale, (width, …).
    pub(super) q: &'a mut [f32],
    /// Results not yet divided by the sums, (width, …).
    pub(super) y: &'a mut [f32],
    /// Scores, then probabilities, (keys, …).
    pub(super) scores: &'a mut [f32],
    /// The largest score so far, to the base of 2.
    pub(super) largest: &'a mut [f32],
    /// The sum of the probabilities so far.
    pub(super) sums: &'a mut [f32],
    /// What the largest score's change makes of earlier results.
    pub(super) factors: &'a mut [f32],
}

impl<'a> State<'a> {
    /// The numbers it takes.
    pub(super) fn length(width: usize) -> usize {
        (2 * width + KEYS + 3) * QUERIES
    }

    /// In the first part of `all`, which is zeros; and the rest of it.
    pub(super) fn new(all: &'a mut [f32], width: usize) -> (Self, &'a mut [f32]) {
        let (q, all) = all.split_at_mut(width * QUERIES);
        let (y, all) = all.split_at_mut(width * QUERIES);
        let (scores, all) = all.split_at_mut(KEYS * QUERIES);
        let (largest, all) = all.split_at_mut(QUERIES);
        let (sums, all) = all.split_at_mut(QUERIES);
        let (factors, all) = all.split_at_mut(QUERIES);
        (Self { q, y, scores, largest, sums, factors }, all)
    }

    /// As before any key was seen.
    pub(super) fn reset(&mut self) {
        self.y.fill(0.0);
        self.sums.fill(0.0);
        self.largest.fill(NO_SCORE);
    }
}

/// Zeros that start where a line of the cache does: vectors that cross no line are read twice as
/// fast.
pub(super) fn aligned(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    const LINE: usize = 16;
    buffer.clear();
    buffer.resize(length + LINE, 0.0);
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    &mut buffer[start..start + length]
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { attention, shapes, q, k, v, row, first, scratch, y } = self;
        let (heads, width) = (shapes.heads, shapes.width);
        let queries = y.len() / (heads * width);
        let visible: Vec<Range<usize>> = (first..first + queries)
            .map(|t| attention.visible(row, t, shapes.queries, shapes.keys))
            .collect();
        let used = queries.div_ceil(S::F32_LANES);
        let (mut state, _) = State::new(aligned(scratch, State::length(width)), width);
        for head in 0..heads {
            let group = head / (heads / shapes.groups);
            for i in 0..queries {
                let q = &q[shapes.q.at(row, head, first + i)..][..width];
                spread(state.q, i, q, score_scale(attention));
            }
            state.reset();
            for keys in key_blocks(attention.start(row), &visible) {
                let k = &k[shapes.k.at(row, group, keys.start)..];
                let v = &v[shapes.v.at(row, group, keys.start)..];
                let block = Keys { range: keys, k, v, strides: (shapes.k.token, shapes.v.token) };
                see(simd, attention, (&block, &visible), &mut state, used);
            }
            for i in 0..queries {
                let sum = state.sums[i];
                let y = &mut y[(i * heads + head) * width..][..width];
                gather(state.y, i, y, if sum == 0.0 { 0.0 } else { 1.0 / sum });
            }
        }
    }
}

/// Column `i` becomes `scale·x`.
pub(super) fn spread(matrix: &mut [f32], i: usize, x: &[f32], scale: f32) {
    for (row, x) in matrix.chunks_exact_mut(QUERIES).zip(x) {
        row[i] = x * scale;
    }
}

/// `y` becomes `scale` times column `i`.
pub(super) fn gather(matrix: &[f32], i: usize, y: &mut [f32], scale: f32) {
    for (row, y) in matrix.chunks_exact(QUERIES).zip(y) {
        *y = row[i] * scale;
    }
}

/// The blocks of keys, counted from `start`, that some query sees.
pub(super) fn key_blocks(
    start: usize,
    visible: &[Range<usize>],
) -> impl Iterator<Item = Range<usize>> {
    let some = || visible.iter().filter(|keys| !keys.is_empty());
    let from = some().map(|keys| keys.start).min().unwrap_or(start);
    let end = some().map(|keys| keys.end).max().unwrap_or(start);
    let first = start + from.saturating_sub(start) / KEYS * KEYS;
    (first..end).step_by(KEYS).map(move |from| from..(from + KEYS).min(end))
}

/// A block of keys and its values.
pub(super) struct Keys<'a> {
    pub(super) range: Range<usize>,
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) strides: (usize, usize),
}

/// Adds a block of keys to the state of all queries.
#[inline(always)]
fn see<S: Simd>(
    simd: S,
    attention: &Attention,
    (block, visible): (&Keys<'_>, &[Range<usize>]),
    state: &mut State<'_>,
    used: usize,
) {
    let (keys, width) = (block.range.len(), state.q.len() / QUERIES);
    score(simd, attention, (block, visible), state, used);
    soften(simd, keys, state, used);
    let v = Left::Columns(block.v, block.strides.1);
    let scores = S::as_simd_f32s(state.scores).0;
    let factors = S::as_simd_f32s(state.factors).0;
    let y = S::as_mut_simd_f32s(state.y).0;
    let vectors = QUERIES / S::F32_LANES;
    multiply(simd, v, (width, keys), scores, y, (vectors, used, Some(factors)));
}

/// What queries are multiplied with so that products with keys are scores to the base of 2, or
/// what the softcap is applied to.
pub(super) fn score_scale(attention: &Attention) -> f32 {
    attention.softcap.map_or(LOG2_E, |_| 1.0) * attention.scale
}

/// The scores of a block of keys, to the base of 2; -∞ where a query does not see a key.
#[inline(always)]
pub(super) fn score<S: Simd>(
    simd: S,
    attention: &Attention,
    (block, visible): (&Keys<'_>, &[Range<usize>]),
    state: &mut State<'_>,
    used: usize,
) {
    let vectors = QUERIES / S::F32_LANES;
    let (keys, width) = (block.range.len(), state.q.len() / QUERIES);
    let k = Left::Rows(block.k, block.strides.0);
    let q = S::as_simd_f32s(state.q).0;
    let scores = S::as_mut_simd_f32s(state.scores).0;
    multiply(simd, k, (keys, width), q, scores, (vectors, used, None));
    if let Some(cap) = attention.softcap {
        for scores in scores.chunks_exact_mut(vectors).take(keys) {
            for score in &mut scores[..used] {
                let inner = simd.mul_f32s(*score, simd.splat_f32s(1.0 / cap));
                *score = simd.mul_f32s(tanh(simd, inner), simd.splat_f32s(cap * LOG2_E));
            }
        }
    }
    hide(&block.range, visible, state.scores);
}

/// Scores of keys that a query does not see become -∞.
fn hide(keys: &Range<usize>, visible: &[Range<usize>], scores: &mut [f32]) {
    for (i, visible) in visible.iter().enumerate() {
        let before = keys.start..visible.start.clamp(keys.start, keys.end);
        let after = visible.end.clamp(keys.start, keys.end)..keys.end;
        for key in before.chain(after) {
            scores[(key - keys.start) * QUERIES + i] = f32::NEG_INFINITY;
        }
    }
}

/// Scores become probabilities, not yet divided by their sum.
#[inline(always)]
pub(super) fn soften<S: Simd>(simd: S, keys: usize, state: &mut State<'_>, used: usize) {
    let vectors = QUERIES / S::F32_LANES;
    let mut strip = Strip { vectors, first: 0 };
    while strip.first < used {
        strip.first += if used - strip.first >= 4 {
            soften_strip::<S, 4>(simd, keys, state, strip);
            4
        } else {
            soften_strip::<S, 1>(simd, keys, state, strip);
            1
        };
    }
}

#[inline(always)]
fn soften_strip<S: Simd, const N: usize>(
    simd: S,
    keys: usize,
    state: &mut State<'_>,
    strip: Strip,
) {
    let here = strip.first..strip.first + N;
    let scores = S::as_mut_simd_f32s(state.scores).0;
    let largest = &mut S::as_mut_simd_f32s(state.largest).0[here.clone()];
    let sums = &mut S::as_mut_simd_f32s(state.sums).0[here.clone()];
    let factors = &mut S::as_mut_simd_f32s(state.factors).0[here.clone()];
    let mut maxima = [simd.splat_f32s(NO_SCORE); N];
    maxima.copy_from_slice(largest);
    for key in 0..keys {
        let scores = columns::<S, N>(scores, key, strip);
        for (maximum, score) in maxima.iter_mut().zip(scores) {
            *maximum = simd.max_f32s(*maximum, score);
        }
    }
    let mut totals = [simd.splat_f32s(0.0); N];
    for scores in scores.chunks_exact_mut(strip.vectors).take(keys) {
        for ((score, maximum), total) in
            scores[here.clone()].iter_mut().zip(maxima).zip(&mut totals)
        {
            *score = exp2(simd, simd.sub_f32s(*score, maximum));
            *total = simd.add_f32s(*total, *score);
        }
    }
    for i in 0..N {
        factors[i] = exp2(simd, simd.sub_f32s(largest[i], maxima[i]));
        sums[i] = simd.mul_add_e_f32s(sums[i], factors[i], totals[i]);
        largest[i] = maxima[i];
    }
}
