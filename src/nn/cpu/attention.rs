//! Attention on the CPU without the matrix of scores: many queries in blocks, few one by one, each of
//! which keeps the scores of its own keys.

use candle_core::{Layout, Result, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::blocks::{Block, QUERIES};
use super::vector::exp;
use crate::nn::attention::Attention;

/// Sizes and strides of an attention.
#[derive(Debug, Clone)]
pub struct Shapes {
    pub(super) rows: usize,
    pub(super) heads: usize,
    pub(super) groups: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) width: usize,
    pub(super) q: Strided,
    pub(super) k: Strided,
    pub(super) v: Strided,
}

/// Where the features of (row, head, token) start; they lie side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strided {
    offset: usize,
    row: usize,
    head: usize,
    /// From a token to the next.
    pub(super) token: usize,
}

impl Strided {
    fn new(layout: &Layout) -> Result<Self> {
        match (layout.stride(), layout.dims()) {
            ([row, head, token, 1], _) | ([row, head, token, _], [.., 0 | 1]) => {
                Ok(Self { offset: layout.start_offset(), row: *row, head: *head, token: *token })
            }
            (other, _) => bail!("features must lie side by side, found strides {other:?}"),
        }
    }

    pub(super) fn at(self, row: usize, head: usize, token: usize) -> usize {
        self.offset + row * self.row + head * self.head + token * self.token
    }
}

impl Shapes {
    /// Checks that the three fit together.
    pub fn new(q: &Layout, k: &Layout, v: &Layout) -> Result<Self> {
        let (rows, heads, queries, width) = q.shape().dims4()?;
        let (k_rows, groups, keys, k_width) = k.shape().dims4()?;
        let fits = k.shape() == v.shape()
            && (k_rows, k_width) == (rows, width)
            && groups > 0
            && heads.is_multiple_of(groups);
        if !fits {
            bail!("attention of {:?} over {:?} and {:?}", q.shape(), k.shape(), v.shape());
        }
        let (q, k, v) = (Strided::new(q)?, Strided::new(k)?, Strided::new(v)?);
        Ok(Self { rows, heads, groups, queries, keys, width, q, k, v })
    }
}

/// Fewer queries than this go one by one.
const FEW: usize = 16;

/// (rows, queries, heads, width) from q, k and v by their strides.
pub fn attend(
    attention: &Attention,
    shapes: &Shapes,
    (q, k, v): (&[f32], &[f32], &[f32]),
) -> Vec<f32> {
    let Shapes { rows, heads, queries, width, .. } = *shapes;
    let mut y = vec![0.0; rows * queries * heads * width];
    if y.is_empty() {
        return y;
    }
    let arch = Arch::new();
    if queries < FEW {
        one_by_one(arch, attention, shapes, (q, k, v), &mut y);
        return y;
    }
    let block = queries_of_block(rows, queries);
    let blocks = y.chunks_mut(queries * heads * width).enumerate().flat_map(|(row, y)| {
        let of_row = y.chunks_mut(block * heads * width).enumerate();
        of_row.map(move |(i, y)| (row, i * block, y))
    });
    let blocks: Vec<(usize, usize, &mut [f32])> = blocks.collect();
    blocks.into_par_iter().for_each_init(Vec::new, |scratch, (row, first, y)| {
        arch.dispatch(Block { attention, shapes, q, k, v, row, first, scratch, y });
    });
    y
}

/// As many as give every thread some blocks.
fn queries_of_block(rows: usize, queries: usize) -> usize {
    let enough = 2 * rayon::current_num_threads();
    let mut block = QUERIES;
    while block > FEW && rows * queries.div_ceil(block) < enough {
        block /= 2;
    }
    block
}

fn one_by_one(
    arch: Arch,
    attention: &Attention,
    shapes: &Shapes,
    (q, k, v): (&[f32], &[f32], &[f32]),
    y: &mut [f32],
) {
    let Shapes { heads, groups, queries, keys, width, .. } = *shapes;
    let per_task = queries.min(16);
    y.par_chunks_mut(per_task * width).enumerate().for_each_init(Vec::new, |scores, (task, y)| {
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            let place = task * per_task + i;
            let (head, t, row) = (place % heads, place / heads % queries, place / heads / queries);
            let group = head / (heads / groups);
            let visible = attention.visible(row, t, queries, keys);
            arch.dispatch(OneQuery {
                attention,
                q: &q[shapes.q.at(row, head, t)..][..width],
                k: &k[shapes.k.at(row, group, visible.start.min(keys - 1))..],
                v: &v[shapes.v.at(row, group, visible.start.min(keys - 1))..],
                strides: (shapes.k.token, shapes.v.token),
                keys: visible.len(),
                scores,
                y,
            });
        }
    });
}

struct OneQuery<'a> {
    attention: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    strides: (usize, usize),
    keys: usize,
    scores: &'a mut Vec<f32>,
    y: &'a mut [f32],
}

impl WithSimd for OneQuery<'_> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { attention, q, k, v, strides, keys, scores, y } = self;
        let width = q.len();
        scores.clear();
        for key in 0..keys {
            let score = attention.scale * dot(simd, q, &k[key * strides.0..][..width]);
            scores.push(attention.softcap.map_or(score, |cap| cap * (score / cap).tanh()));
        }
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (vectors, rest) = S::as_mut_simd_f32s(scores);
        let mut sums = simd.splat_f32s(0.0);
        for score in vectors {
            *score = exp(simd, simd.sub_f32s(*score, simd.splat_f32s(largest)));
            sums = simd.add_f32s(sums, *score);
        }
        let mut sum = simd.reduce_sum_f32s(sums);
        for score in rest {
            *score = (*score - largest).exp();
            sum += *score;
        }
        for (key, p) in scores.iter().enumerate() {
            let p = *p / sum;
            let v = &v[key * strides.1..][..width];
            for (y, v) in y.iter_mut().zip(v) {
                *y += p * v;
            }
        }
    }
}

#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + tail
}
