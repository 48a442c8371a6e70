//! Attention on the CPU without the matrix of scores: each query keeps the scores of its own keys.

use candle_core::{Layout, Result, bail};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::nn::attention::Attention;

/// Sizes and strides of an attention.
#[derive(Debug, Clone)]
pub struct Shapes {
    rows: usize,
    heads: usize,
    groups: usize,
    queries: usize,
    keys: usize,
    width: usize,
    k: Strided,
    v: Strided,
}

/// Where (row, group, key) starts; a key's features lie side by side.
#[derive(Debug, Clone, Copy)]
struct Strided {
    offset: usize,
    row: usize,
    group: usize,
    key: usize,
}

impl Strided {
    fn new(layout: &Layout) -> Result<Self> {
        match layout.stride() {
            [row, group, key, 1] => {
                Ok(Self { offset: layout.start_offset(), row: *row, group: *group, key: *key })
            }
            other => {
                bail!("keys and values must have their features side by side, found {other:?}")
            }
        }
    }

    fn at(self, row: usize, group: usize, key: usize) -> usize {
        self.offset + row * self.row + group * self.group + key * self.key
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
            && heads % groups == 0
            && q.is_contiguous();
        if !fits {
            bail!("attention of {:?} over {:?} and {:?}", q.shape(), k.shape(), v.shape());
        }
        let (k, v) = (Strided::new(k)?, Strided::new(v)?);
        Ok(Self { rows, heads, groups, queries, keys, width, k, v })
    }
}

/// (rows, heads, queries, width) from q of the same shape and k, v by their strides.
pub fn attend(
    attention: &Attention,
    shapes: &Shapes,
    (q, k, v): (&[f32], &[f32], &[f32]),
) -> Vec<f32> {
    let Shapes { rows, heads, groups, queries, keys, width, .. } = *shapes;
    let mut y = vec![0.0; rows * heads * queries * width];
    if y.is_empty() {
        return y;
    }
    let arch = Arch::new();
    // a task is some queries of one head
    let per_task = queries.min(16);
    let tasks = queries.div_ceil(per_task);
    let mut parts: Vec<(usize, &mut [f32])> = Vec::with_capacity(rows * heads * tasks);
    for (head, y) in y.chunks_mut(queries * width).enumerate() {
        let of_head = y.chunks_mut(per_task * width).enumerate();
        parts.extend(of_head.map(|(task, y)| (head * tasks + task, y)));
    }
    parts.into_par_iter().for_each_init(Vec::new, |scores: &mut Vec<f32>, (task, y)| {
        let (head, first) = (task / tasks, task % tasks * per_task);
        let (row, group) = (head / heads, head % heads / (heads / groups));
        for (i, y) in y.chunks_exact_mut(width).enumerate() {
            let t = first + i;
            let visible = attention.visible(row, t, queries, keys);
            let q = &q[(head * queries + t) * width..][..width];
            arch.dispatch(OneQuery {
                attention,
                q,
                k: &k[shapes.k.at(row, group, visible.start.min(keys - 1))..],
                v: &v[shapes.v.at(row, group, visible.start.min(keys - 1))..],
                strides: (shapes.k.key, shapes.v.key),
                keys: visible.len(),
                scores,
                y,
            });
        }
    });
    y
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
        let mut sum = 0.0;
        for score in scores.iter_mut() {
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
