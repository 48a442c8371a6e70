//! Winograd's convolution F(4×4, 3×3): 36 products for 16 pixels of y instead of 144.
//!
//! `y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A` for each tile d of 6×6 pixels (Lavin and Gray, 2015), with the
//! points 0, ±1/√2, ±√2, ∞, whose rounding error is about half of that of the usual 0, ±1, ±2, ∞.
//! Lanes of a vector are tiles.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::ops::Range;

use pulp::Simd;

use super::lines::{Run, copy, line, runs};
use super::shape::Shape;
use crate::nn::cpu::multiply::{DEPTH, Scheme};
use crate::nn::cpu::product::Matrix;

/// Pixels of a tile of y along an axis.
const OUT: usize = 4;
/// Pixels of a tile of x along an axis.
const IN: usize = 6;
/// Values of a kernel.
const TAPS: usize = 9;

/// One group of a convolution by 3×3, stride 1 and dilation 1.
#[derive(Debug)]
pub struct Winograd<'a> {
    x: &'a [f32],
    weight: Matrix<'a>,
    bias: Option<&'a [f32]>,
    shape: &'a Shape,
    group: usize,
    /// Height and width of y.
    out: (usize, usize),
}

impl<'a> Winograd<'a> {
    /// Whether a convolution is done so. The number of images has no part in it, so that an
    /// image's result does not depend on those beside it.
    pub fn suits(shape: &Shape, out: (usize, usize)) -> bool {
        let computed = out.0.next_multiple_of(OUT) * out.1.next_multiple_of(OUT);
        let regular = shape.kernel == (3, 3) && shape.stride == 1 && shape.dilation == 1;
        regular && computed <= 2 * out.0 * out.1
    }

    /// One group of a convolution whose sizes are checked.
    pub fn new(
        (x, weight, bias): (&'a [f32], Matrix<'a>, Option<&'a [f32]>),
        shape: &'a Shape,
        group: usize,
        out: (usize, usize),
    ) -> Self {
        Self { x, weight, bias, shape, group, out }
    }

    /// Images, tiles along y, tiles along x.
    fn tiles(&self) -> (usize, usize, usize) {
        (self.shape.rows, self.out.0.div_ceil(OUT), self.out.1.div_ceil(OUT))
    }

    /// Copies a channel's tiles: of six lines the pixels 0..4 of each tile into `near`, 4..8 into
    /// `far`.
    fn copy_tiles(&self, channel: usize, runs: &[Run], near: &mut [f32], far: &mut [f32]) {
        let Shape { inputs, height, width, padding, .. } = *self.shape;
        let length = near.len() / IN;
        for run in runs {
            let plane =
                &self.x[(run.image * inputs + channel) * height * width..][..height * width];
            let (start, end) = (OUT * run.lane, OUT * (run.lane + run.count));
            let x = OUT * run.column;
            let both = near.chunks_exact_mut(length).zip(far.chunks_exact_mut(length));
            for (i, (near, far)) in both.enumerate() {
                let line = line(plane, width, OUT * run.line + i, padding);
                copy(&mut near[start..end], line, (x, 1), padding);
                copy(&mut far[start..end], line, (x + OUT, 1), padding);
            }
        }
    }
}

impl Scheme for Winograd<'_> {
    const POSITIONS: usize = IN * IN;

    fn columns(&self) -> usize {
        let (images, lines, columns) = self.tiles();
        images * lines * columns
    }

    fn depth(&self) -> usize {
        self.shape.inputs_of(self.group).len()
    }

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn gather<S: Simd>(
        &self,
        simd: S,
        vector: usize,
        depth: Range<usize>,
        v: &mut [[S::f32s; DEPTH]],
    ) {
        let lanes = S::F32_LANES;
        let runs: Vec<Run> = runs(vector * lanes, lanes, self.tiles()).collect();
        let mut near = vec![0.0; IN * OUT * lanes];
        let mut far = near.clone();
        let first = self.shape.inputs_of(self.group).start;
        for (k, channel) in depth.enumerate() {
            self.copy_tiles(first + channel, &runs, &mut near, &mut far);
            let near = S::as_simd_f32s(&near).0.as_chunks::<OUT>().0;
            let far = S::as_simd_f32s(&far).0.as_chunks::<OUT>().0;
            let mut lines = [[simd.splat_f32s(0.0); IN]; IN];
            for (line, (near, far)) in lines.iter_mut().zip(near.iter().zip(far)) {
                let [a, b, c, d] = simd.deinterleave_shfl_f32s(*near);
                let [e, f, _, _] = simd.deinterleave_shfl_f32s(*far);
                *line = transform_input(simd, [a, b, c, d, e, f]);
            }
            for j in 0..IN {
                let column = transform_input(
                    simd,
                    [lines[0][j], lines[1][j], lines[2][j], lines[3][j], lines[4][j], lines[5][j]],
                );
                for (v, value) in v[j..].iter_mut().step_by(IN).zip(column) {
                    v[k] = value;
                }
            }
        }
    }

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn weights<S: Simd>(
        &self,
        simd: S,
        output: usize,
        depth: Range<usize>,
        u: &mut [[f32; DEPTH]],
        scratch: &mut Vec<f32>,
    ) {
        let output = self.shape.outputs_of(self.group).start + output;
        let part = depth.start * TAPS..depth.end * TAPS;
        let values = self.weight.part(output, part, scratch).as_chunks::<TAPS>().0;
        let mut taps = [[0.0; DEPTH]; TAPS];
        for (k, values) in values.iter().take(DEPTH).enumerate() {
            for (taps, value) in taps.iter_mut().zip(values) {
                taps[k] = *value;
            }
            // keeps the compiler from gathering 16 values at once, which takes longer
            std::hint::black_box(&mut taps);
        }
        let mut g = [S::as_simd_f32s(&taps[0]).0; TAPS];
        for (g, taps) in g.iter_mut().zip(&taps) {
            *g = S::as_simd_f32s(taps).0;
        }
        #[expect(clippy::needless_range_loop, reason = "nine slices are read side by side")]
        for block in 0..depth.len().div_ceil(S::F32_LANES) {
            let mut lines = [[simd.splat_f32s(0.0); 3]; IN];
            for j in 0..3 {
                let column =
                    transform_weight(simd, [g[j][block], g[3 + j][block], g[6 + j][block]]);
                for (line, value) in lines.iter_mut().zip(column) {
                    line[j] = value;
                }
            }
            for (u, line) in u.chunks_exact_mut(IN).zip(lines) {
                for (u, value) in u.iter_mut().zip(transform_weight(simd, line)) {
                    S::as_mut_simd_f32s(u).0[block] = value;
                }
            }
        }
    }

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn scatter<S: Simd>(
        &self,
        simd: S,
        (output, vector): (usize, usize),
        sums: &[S::f32s],
        planes: &mut [&mut [f32]],
        (first, step): (usize, usize),
    ) {
        let output = self.shape.outputs_of(self.group).start + output;
        let bias = simd.splat_f32s(self.bias.map_or(0.0, |bias| bias[output]));
        let mut lines = [[bias; IN]; OUT];
        for j in 0..IN {
            let [a, b, c, d, e, f] = [j, j + 6, j + 12, j + 18, j + 24, j + 30];
            let column = [sums[a], sums[b], sums[c], sums[d], sums[e], sums[f]];
            let column = transform_output(simd, column);
            for (line, value) in lines.iter_mut().zip(column) {
                line[j] = value;
            }
        }
        let lanes = S::F32_LANES;
        let (height, width) = self.out;
        for (i, line) in lines.into_iter().enumerate() {
            let mut pixels = transform_output(simd, line);
            for pixel in &mut pixels {
                *pixel = simd.add_f32s(*pixel, bias);
            }
            let pixels = simd.interleave_shfl_f32s(pixels);
            let pixels: &[f32] = bytemuck::cast_slice(&pixels);
            for run in runs(vector * lanes, lanes, self.tiles()) {
                let (y, x) = (OUT * run.line + i, OUT * run.column);
                if y < height {
                    let count = (OUT * run.count).min(width - x);
                    let plane = &mut planes[first + run.image * step];
                    plane[y * width + x..][..count]
                        .copy_from_slice(&pixels[OUT * run.lane..][..count]);
                }
            }
        }
    }
}

/// Bᵀ·d
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn transform_input<S: Simd>(simd: S, d: [S::f32s; IN]) -> [S::f32s; IN] {
    let times = |a: f32, b, c| simd.mul_add_e_f32s(simd.splat_f32s(a), b, c);
    let even = times(-2.0, d[2], d[4]);
    let odd = simd.mul_f32s(simd.splat_f32s(FRAC_1_SQRT_2), times(-2.0, d[1], d[3]));
    let even_far = times(-0.5, d[2], d[4]);
    let odd_far = simd.mul_f32s(simd.splat_f32s(SQRT_2), times(-0.5, d[1], d[3]));
    [
        times(-2.5, d[2], simd.add_f32s(d[0], d[4])),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(even_far, odd_far),
        simd.sub_f32s(even_far, odd_far),
        times(-2.5, d[3], simd.add_f32s(d[1], d[5])),
    ]
}

/// G·g
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn transform_weight<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; IN] {
    let times = |a: f32, b| simd.mul_f32s(simd.splat_f32s(a), b);
    let plus = |a: f32, b, c| simd.mul_add_e_f32s(simd.splat_f32s(a), b, c);
    let third = times(1.0 / 3.0, g[2]);
    let even = simd.neg_f32s(plus(2.0 / 3.0, g[0], third));
    let odd = times(SQRT_2 / 3.0, g[1]);
    let even_far = plus(1.0 / 6.0, g[0], third);
    let odd_far = times(SQRT_2 / 6.0, g[1]);
    [
        g[0],
        simd.sub_f32s(even, odd),
        simd.add_f32s(even, odd),
        simd.add_f32s(even_far, odd_far),
        simd.sub_f32s(even_far, odd_far),
        g[2],
    ]
}

/// Aᵀ·m
#[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
#[inline(always)]
fn transform_output<S: Simd>(simd: S, m: [S::f32s; IN]) -> [S::f32s; OUT] {
    let times = |a: f32, b| simd.mul_f32s(simd.splat_f32s(a), b);
    let plus = |a: f32, b, c| simd.mul_add_e_f32s(simd.splat_f32s(a), b, c);
    let (even, odd) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even_far, odd_far) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(even, even_far)),
        plus(SQRT_2, odd_far, times(FRAC_1_SQRT_2, odd)),
        plus(2.0, even_far, times(0.5, even)),
        plus(2.0 * SQRT_2, odd_far, plus(SQRT_2 / 4.0, odd, m[5])),
    ]
}
