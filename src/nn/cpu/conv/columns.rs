//! Convolution as a product of the weight (outputs, inputs·kh·kw) and the image's pixels, repeated
//! for each position of the kernel (im2col), which exist block by block only. Lanes of a vector are
//! pixels of y.

use std::ops::Range;

use pulp::Simd;

use super::lines::{Run, copy, line, runs};
use super::shape::Shape;
use crate::nn::cpu::multiply::{DEPTH, Scheme};
use crate::nn::cpu::product::Matrix;

/// One group of any convolution.
#[derive(Debug)]
pub struct Columns<'a> {
    x: &'a [f32],
    weight: Matrix<'a>,
    bias: Option<&'a [f32]>,
    shape: &'a Shape,
    group: usize,
    /// Height and width of y.
    out: (usize, usize),
}

impl<'a> Columns<'a> {
    /// One group of a convolution whose sizes are checked.
    pub fn new(
        (x, weight, bias): (&'a [f32], Matrix<'a>, Option<&'a [f32]>),
        shape: &'a Shape,
        group: usize,
        out: (usize, usize),
    ) -> Self {
        Self { x, weight, bias, shape, group, out }
    }

    fn pixels(&self) -> (usize, usize, usize) {
        (self.shape.rows, self.out.0, self.out.1)
    }
}

/// The channel in its group, and the distance along y and x, of a position of the kernel.
pub fn position(shape: &Shape, position: usize) -> (usize, usize, usize) {
    let (kh, kw) = shape.kernel;
    let (dy, dx) = (position / kw % kh, position % kw);
    (position / (kh * kw), dy * shape.dilation, dx * shape.dilation)
}

/// Copies what the pixels of `runs` see at one position of the kernel, counted through (channels,
/// kh, kw) from channel `first`.
pub fn copy_pixels(
    (x, shape): (&[f32], &Shape),
    runs: &[Run],
    (first, row): (usize, usize),
    to: &mut [f32],
) {
    let Shape { inputs, height, width, stride, padding, .. } = *shape;
    let (channel, dy, dx) = position(shape, row);
    let channel = first + channel;
    for run in runs {
        let plane = &x[(run.image * inputs + channel) * height * width..][..height * width];
        let line = line(plane, width, run.line * stride + dy, padding);
        let to = &mut to[run.lane..run.lane + run.count];
        copy(to, line, (run.column * stride + dx, stride), padding);
    }
}

impl Scheme for Columns<'_> {
    const POSITIONS: usize = 1;

    fn columns(&self) -> usize {
        let (images, lines, columns) = self.pixels();
        images * lines * columns
    }

    fn depth(&self) -> usize {
        self.shape.depth()
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
        let runs: Vec<Run> = runs(vector * lanes, lanes, self.pixels()).collect();
        let used = runs.last().map_or(0, |run| run.lane + run.count);
        let first = self.shape.inputs_of(self.group).start;
        let v: &mut [f32] = bytemuck::cast_slice_mut(v.as_flattened_mut());
        for (row, to) in depth.zip(v.chunks_exact_mut(lanes)) {
            copy_pixels((self.x, self.shape), &runs, (first, row), to);
            to[used..].fill(0.0);
        }
    }

    #[expect(clippy::inline_always, reason = "instructions of the target must be chosen inside")]
    #[inline(always)]
    fn weights<S: Simd>(
        &self,
        _: S,
        output: usize,
        depth: Range<usize>,
        u: &mut [[f32; DEPTH]],
        scratch: &mut Vec<f32>,
    ) {
        let output = self.shape.outputs_of(self.group).start + output;
        let count = depth.len();
        let part = self.weight.part(output, depth, scratch);
        u.as_flattened_mut()[..count].copy_from_slice(part);
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
        let Some(sums) = sums.first() else { return };
        let pixels = [simd.add_f32s(*sums, bias)];
        let pixels: &[f32] = bytemuck::cast_slice(&pixels);
        let lanes = S::F32_LANES;
        for run in runs(vector * lanes, lanes, self.pixels()) {
            let start = run.line * self.out.1 + run.column;
            let plane = &mut planes[first + run.image * step];
            plane[start..start + run.count].copy_from_slice(&pixels[run.lane..][..run.count]);
        }
    }
}
