//! Gradients of a convolution.
//!
//! With stride 1 the gradient for x is a convolution of g by the kernel turned by 180° with inputs
//! and outputs exchanged. With stride 2 it is that of g with zeros between its pixels, which pays where
//! Winograd's way saves the factor of 4. Everything else goes through blocks of [`PIXELS`] columns (im2col), whose
//! sums are made in one order whatever the number of threads.

use rayon::prelude::*;

use super::columns::{copy_pixels, position};
use super::lines::{Run, runs};
use super::shape::{ConvError, Shape};
use super::winograd::Winograd;
use super::{convolve, count};
use crate::linalg::{multiply, multiply_add, transpose};
use crate::nn::cpu::product::Matrix;

/// Pixels of y in a block.
const PIXELS: usize = 512;
/// Rows of a block of columns: input channels times positions of the kernel.
const ROWS: usize = 256;

/// The gradient for x, (rows, inputs, height, width), from `g` (rows, outputs, …), that for y.
pub fn input_gradient(g: &[f32], weight: Matrix<'_>, shape: &Shape) -> Result<Vec<f32>, ConvError> {
    let out = shape.check(None, Some(count(weight)), Some(g.len()))?;
    let mut scratch = Vec::new();
    let (rows, taps) = (shape.outputs, shape.kernel.0 * shape.kernel.1);
    let weight = Matrix { columns: shape.depth(), ..weight }.widen(0, rows, &mut scratch);
    if let Some(dense) = dense(shape, out) {
        let size = dense.output()?;
        let spread = (shape.stride > 1).then(|| spread(g, (shape, out), size));
        let turned = Shape {
            inputs: shape.outputs,
            outputs: shape.inputs,
            height: size.0,
            width: size.1,
            padding: shape.dilation * (shape.kernel.0 - 1) - shape.padding,
            ..dense
        };
        let weight = turn(weight, shape);
        let weight = Matrix::dense(&weight, turned.depth());
        return convolve(spread.as_deref().unwrap_or(g), weight, None, &turned);
    }
    let image = shape.inputs * shape.height * shape.width;
    let mut dx = vec![0.0; shape.rows * image];
    let per_task = (ROWS / taps).max(1);
    let plane = shape.height * shape.width;
    let outputs = shape.outputs / shape.groups;
    for group in 0..shape.groups {
        let part = &weight[group * outputs * shape.depth()..][..outputs * shape.depth()];
        let transposed = transpose(part, outputs, shape.depth());
        let channels = shape.inputs_of(group);
        let mut tasks = Vec::new();
        for (i, dx) in dx.chunks_exact_mut(image.max(1)).enumerate() {
            let dx = &mut dx[channels.start * plane..channels.end * plane];
            let parts = dx.chunks_mut((per_task * plane).max(1)).enumerate();
            tasks.extend(parts.map(|(part, dx)| (i, part * per_task, dx)));
        }
        tasks.into_par_iter().for_each(|(i, first, dx)| {
            let rows = dx.len() / plane * taps;
            let weight = &transposed[first * taps * outputs..][..rows * outputs];
            for start in (0..out.0 * out.1).step_by(PIXELS) {
                let mut runs: Vec<Run> = runs(start, PIXELS, (1, out.0, out.1)).collect();
                for run in &mut runs {
                    run.image = i;
                }
                let (g, pixels) = gradients((g, shape, out), group, &runs);
                let columns = multiply(weight, &g, (rows, outputs, pixels));
                for (row, columns) in columns.chunks_exact(pixels).enumerate() {
                    add_pixels(columns, shape, &runs, row, dx);
                }
            }
        });
    }
    Ok(dx)
}

/// The convolution with stride 1 whose gradient this one's is, g spread over its pixels; none where
/// columns cost less.
fn dense(shape: &Shape, out: (usize, usize)) -> Option<Shape> {
    let (kh, kw) = shape.kernel;
    let dense = Shape { stride: 1, ..*shape };
    let worth = match shape.stride {
        1 => true,
        2 => Winograd::suits(&dense, (2 * out.0, 2 * out.1)),
        _ => false,
    };
    (worth && kh == kw && shape.padding <= shape.dilation * (kh - 1)).then_some(dense)
}

/// g with stride − 1 zeros between its pixels, and after them up to `size`.
fn spread(g: &[f32], (shape, out): (&Shape, (usize, usize)), size: (usize, usize)) -> Vec<f32> {
    let (from, to) = (out.0 * out.1, size.0 * size.1);
    let mut spread = vec![0.0; shape.rows * shape.outputs * to];
    spread.par_chunks_mut(to).zip(g.par_chunks(from)).for_each(|(spread, g)| {
        let lines = spread.chunks_mut(size.1).step_by(shape.stride);
        for (line, g) in lines.zip(g.chunks_exact(out.1)) {
            line.iter_mut().step_by(shape.stride).zip(g).for_each(|(to, from)| *to = *from);
        }
    });
    spread
}

/// The weight of a convolution backwards: (outputs, inputs / groups, kh, kw) becomes
/// (inputs, outputs / groups, kh, kw), each kernel turned by 180°.
fn turn(weight: &[f32], shape: &Shape) -> Vec<f32> {
    // runs of the weight that are long enough to be read ahead
    const TOGETHER: usize = 64;
    let taps = shape.kernel.0 * shape.kernel.1;
    let (inputs, outputs) = (shape.inputs / shape.groups, shape.outputs / shape.groups);
    let mut turned = vec![0.0; weight.len()];
    let of_group = inputs * outputs * taps;
    let groups = turned.chunks_mut(of_group.max(1)).zip(weight.chunks(of_group.max(1)));
    for (turned, weight) in groups {
        let parts = turned.par_chunks_mut(TOGETHER * outputs * taps).enumerate();
        parts.for_each(|(part, turned)| {
            if taps == 1 {
                for (i, turned) in turned.chunks_exact_mut(outputs).enumerate() {
                    let column = weight[part * TOGETHER + i..].iter().step_by(inputs);
                    turned.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
                }
                return;
            }
            for output in 0..outputs {
                for (i, turned) in turned.chunks_exact_mut(outputs * taps).enumerate() {
                    let input = part * TOGETHER + i;
                    let kernel = &weight[(output * inputs + input) * taps..][..taps];
                    let turned = &mut turned[output * taps..][..taps];
                    turned.iter_mut().zip(kernel.iter().rev()).for_each(|(to, from)| *to = *from);
                }
            }
        });
    }
    turned
}

/// The gradient for the weight, (outputs, inputs / groups, kh, kw), from `g` (rows, outputs, …),
/// that for y.
pub fn weight_gradient(g: &[f32], x: &[f32], shape: &Shape) -> Result<Vec<f32>, ConvError> {
    let out = shape.check(Some(x.len()), None, Some(g.len()))?;
    let (outputs, depth) = (shape.outputs / shape.groups, shape.depth());
    let all = shape.rows * out.0 * out.1;
    let mut dw = Vec::with_capacity(shape.outputs * depth);
    for group in 0..shape.groups {
        let first = shape.inputs_of(group).start;
        let mut transposed = vec![0.0; depth * outputs];
        let parts = transposed.par_chunks_mut((ROWS * outputs).max(1)).enumerate();
        parts.for_each(|(part, dw)| {
            let rows = dw.len() / outputs;
            let mut columns = Vec::new();
            for start in (0..all).step_by(PIXELS) {
                let runs: Vec<Run> = runs(start, PIXELS, (shape.rows, out.0, out.1)).collect();
                let (g, pixels) = gradients((g, shape, out), group, &runs);
                columns.resize(rows * pixels, 0.0);
                for (row, columns) in columns.chunks_exact_mut(pixels).enumerate() {
                    copy_pixels((x, shape), &runs, (first, part * ROWS + row), columns);
                }
                let g = transpose(&g, outputs, pixels);
                multiply_add(dw, &columns, &g, (rows, pixels, outputs));
            }
        });
        dw.extend(transpose(&transposed, depth, outputs));
    }
    Ok(dw)
}

/// g of a group's outputs at some pixels, (outputs, pixels), and the number of pixels.
fn gradients(
    (g, shape, out): (&[f32], &Shape, (usize, usize)),
    group: usize,
    runs: &[Run],
) -> (Vec<f32>, usize) {
    let pixels = runs.iter().map(|run| run.count).sum();
    let channels = shape.outputs_of(group);
    let mut block = Vec::with_capacity(channels.len() * pixels);
    for channel in channels {
        for run in runs {
            let line = (run.image * shape.outputs + channel) * out.0 + run.line;
            block.extend_from_slice(&g[line * out.1 + run.column..][..run.count]);
        }
    }
    (block, pixels)
}

/// Adds one row of columns to the pixels of x it was copied from; the inverse of [`copy_pixels`].
fn add_pixels(columns: &[f32], shape: &Shape, runs: &[Run], row: usize, dx: &mut [f32]) {
    let (channel, dy, dx_start) = position(shape, row);
    let plane = &mut dx[channel * shape.height * shape.width..][..shape.height * shape.width];
    for run in runs {
        let y = (run.line * shape.stride + dy).checked_sub(shape.padding);
        let Some(y) = y.filter(|y| *y < shape.height) else { continue };
        let line = &mut plane[y * shape.width..][..shape.width];
        for (i, value) in columns[run.lane..][..run.count].iter().enumerate() {
            let x = ((run.column + i) * shape.stride + dx_start).checked_sub(shape.padding);
            if let Some(pixel) = x.and_then(|x| line.get_mut(x)) {
                *pixel += value;
            }
        }
    }
}
