//! Two-dimensional convolutions and their gradients on plain f32 slices, NCHW.
//!
//! - [`Shape`]: the sizes, checked once
//! - [`convolve`]: 3×3 with stride 1 by Winograd's F(4×4, 3×3), everything else as a product of the
//!   weight and blocks of columns; the weight stays as the file holds it (f32, f16, bf16) and is
//!   widened and transformed piece by piece, which costs less than to read it transformed: 36 values
//!   instead of 9
//! - [`input_gradient`], [`weight_gradient`]
//!
//! Invariant: an image's result depends neither on the images beside it nor on the number of
//! threads. No buffer grows with the image.

mod backward;
mod columns;
mod lines;
mod shape;
mod winograd;

use columns::Columns;
use winograd::Winograd;

use super::multiply::multiply;
use super::product::Matrix;

pub use backward::{input_gradient, weight_gradient};
pub use shape::{ConvError, Shape};

/// `y = x ∗ W + b`, (rows, outputs, height, width), from x (rows, inputs, height, width), the weight
/// as (outputs, inputs / groups · kh · kw) and a bias (outputs).
pub fn convolve(
    x: &[f32],
    weight: Matrix<'_>,
    bias: Option<&[f32]>,
    shape: &Shape,
) -> Result<Vec<f32>, ConvError> {
    let out = shape.check(Some(x.len()), Some(count(weight)), None)?;
    if let Some(found) = bias.map(<[f32]>::len).filter(|found| *found != shape.outputs) {
        return Err(ConvError::Length { what: "the bias", expected: shape.outputs, found });
    }
    let weight = Matrix { columns: shape.depth(), ..weight };
    let plane = out.0 * out.1;
    let mut y = vec![0.0; shape.rows * shape.outputs * plane];
    let outputs = shape.outputs / shape.groups;
    let mut groups: Vec<Vec<&mut [f32]>> = Vec::new();
    groups.resize_with(shape.groups, Vec::new);
    for (i, plane) in y.chunks_exact_mut(plane).enumerate() {
        groups[i % shape.outputs / outputs].push(plane);
    }
    let operands = (x, weight, bias);
    let winograd = Winograd::suits(shape, out);
    for (group, planes) in groups.into_iter().enumerate() {
        if winograd {
            multiply(&Winograd::new(operands, shape, group, out), planes, outputs);
        } else {
            multiply(&Columns::new(operands, shape, group, out), planes, outputs);
        }
    }
    Ok(y)
}

fn count(weight: Matrix<'_>) -> usize {
    weight.bytes.len() / weight.float.size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::Float;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        };
        (0..n).map(|_| next()).collect()
    }

    /// (rows, inputs, size, outputs, kernel, stride, padding, dilation, groups)
    type Sizes = (usize, usize, (usize, usize), usize, (usize, usize), [usize; 4]);

    const CASES: [Sizes; 18] = [
        (1, 1, (1, 1), 1, (1, 1), [1, 0, 1, 1]),
        (2, 3, (8, 8), 5, (3, 3), [1, 1, 1, 1]),
        (3, 130, (9, 13), 33, (3, 3), [1, 1, 1, 1]),
        (2, 20, (6, 70), 9, (3, 3), [1, 0, 1, 1]),
        (1, 7, (12, 8), 41, (3, 3), [1, 2, 1, 1]),
        (2, 8, (8, 12), 12, (3, 3), [1, 1, 1, 4]),
        (1, 5, (6, 7), 3, (3, 3), [1, 3, 1, 1]),
        (2, 6, (5, 5), 4, (3, 3), [1, 1, 1, 2]),
        (2, 17, (9, 9), 10, (3, 3), [2, 1, 1, 1]),
        (1, 16, (8, 8), 6, (3, 3), [2, 1, 1, 2]),
        (2, 4, (10, 7), 3, (3, 3), [1, 2, 2, 1]),
        (2, 4, (10, 9), 3, (3, 3), [3, 2, 2, 1]),
        (2, 37, (5, 9), 19, (1, 1), [1, 0, 1, 1]),
        (1, 6, (9, 8), 6, (1, 1), [2, 0, 1, 3]),
        (1, 3, (33, 40), 8, (7, 7), [2, 3, 1, 1]),
        (2, 3, (8, 9), 4, (5, 3), [1, 1, 1, 1]),
        (1, 2, (7, 7), 3, (2, 4), [1, 5, 1, 1]),
        (1, 6, (9, 9), 6, (3, 3), [1, 1, 1, 6]),
    ];

    fn shape((rows, inputs, size, outputs, kernel, rest): Sizes) -> Shape {
        let [stride, padding, dilation, groups] = rest;
        let (height, width) = size;
        Shape { rows, inputs, height, width, outputs, kernel, stride, padding, dilation, groups }
    }

    /// Calls `term` with the indices in x, in the weight and in y of each product of the definition.
    fn each_term(shape: &Shape, mut term: impl FnMut(usize, usize, usize)) {
        let Shape { inputs, outputs, stride, padding, dilation, groups, .. } = *shape;
        let (height, width) = shape.output().unwrap();
        let (inputs_of, (kh, kw)) = (inputs / groups, shape.kernel);
        for index in 0..shape.rows * outputs * height * width {
            let (x, y) = (index % width, index / width % height);
            let (output, row) =
                (index / (width * height) % outputs, index / (width * height * outputs));
            for tap in 0..inputs_of * kh * kw {
                let (dx, dy, input) = (tap % kw, tap / kw % kh, tap / (kw * kh));
                let x = (x * stride + dx * dilation).wrapping_sub(padding);
                let y = (y * stride + dy * dilation).wrapping_sub(padding);
                if x < shape.width && y < shape.height {
                    let channel = output / (outputs / groups) * inputs_of + input;
                    let pixel = ((row * inputs + channel) * shape.height + y) * shape.width + x;
                    term(pixel, output * inputs_of * kh * kw + tap, index);
                }
            }
        }
    }

    struct Case {
        shape: Shape,
        x: Vec<f32>,
        weight: Vec<f32>,
        g: Vec<f32>,
    }

    impl Case {
        fn new(sizes: Sizes) -> Self {
            let shape = shape(sizes);
            let (height, width) = shape.output().unwrap();
            let x = values(shape.rows * shape.inputs * shape.height * shape.width, 1);
            let weight = values(shape.outputs * shape.depth(), 2);
            let g = values(shape.rows * shape.outputs * height * width, 3);
            Self { shape, x, weight, g }
        }

        fn weight(&self) -> Matrix<'_> {
            Matrix::dense(&self.weight, self.shape.depth())
        }
    }

    /// The largest error relative to the largest value.
    fn error(found: &[f32], expected: &[f64]) -> f64 {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let errors = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
        errors.fold(0.0, f64::max) / largest
    }

    fn expected(case: &Case, weight: &[f32], bias: &[f32]) -> Vec<f64> {
        let plane = case.g.len() / case.shape.rows / case.shape.outputs;
        let bias = |i| f64::from(bias[i / plane % case.shape.outputs]);
        let mut y: Vec<f64> = (0..case.g.len()).map(bias).collect();
        each_term(&case.shape, |x, w, i| y[i] += f64::from(case.x[x]) * f64::from(weight[w]));
        y
    }

    #[test]
    fn equals_the_definition_for_every_shape_and_type() {
        for case in CASES.map(Case::new) {
            let bias = values(case.shape.outputs, 4);
            for float in [Float::F32, Float::F16, Float::BF16] {
                let mut bytes = vec![0; case.weight.len() * float.size()];
                float.encode(&case.weight, &mut bytes);
                let mut rounded = vec![0.0; case.weight.len()];
                float.decode(&bytes, &mut rounded);
                let weight = Matrix { bytes: &bytes, float, columns: case.shape.depth() };
                let y = convolve(&case.x, weight, Some(&bias), &case.shape).unwrap();
                let error = error(&y, &expected(&case, &rounded, &bias));
                assert!(error < 2e-6, "{error:e} {float:?} {:?}", case.shape);
            }
        }
    }

    #[test]
    fn gradients_equal_the_definition_for_every_shape() {
        for case in CASES.map(Case::new) {
            let Case { shape, x, weight, g } = &case;
            let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
            each_term(shape, |i, j, k| {
                dx[i] += f64::from(g[k]) * f64::from(weight[j]);
                dw[j] += f64::from(g[k]) * f64::from(x[i]);
            });
            let found = error(&input_gradient(g, case.weight(), shape).unwrap(), &dx);
            assert!(found < 2e-6, "x: {found:e} {shape:?}");
            let found = error(&weight_gradient(g, x, shape).unwrap(), &dw);
            assert!(found < 2e-6, "weight: {found:e} {shape:?}");
        }
    }

    #[test]
    fn winograd_keeps_the_error_of_many_channels_small() {
        let case = Case::new((1, 640, (8, 8), 16, (3, 3), [1, 1, 1, 1]));
        let y = convolve(&case.x, case.weight(), None, &case.shape).unwrap();
        let error = error(&y, &expected(&case, &case.weight, &[0.0; 16]));
        assert!(error < 4e-6, "{error:e}");
    }

    #[test]
    fn an_image_does_not_depend_on_the_images_beside_it() {
        for kernel in [(3, 3), (1, 1)] {
            let case = Case::new((9, 150, (12, 20), 11, kernel, [1, 1, 1, 1]));
            let all = convolve(&case.x, case.weight(), None, &case.shape).unwrap();
            let one = Shape { rows: 1, ..case.shape };
            for (x, y) in case.x.chunks(case.x.len() / 9).zip(all.chunks(all.len() / 9)) {
                assert!(convolve(x, case.weight(), None, &one).unwrap() == y);
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let stride = |stride| Case::new((3, 40, (11, 12), 70, (3, 3), [stride, 1, 1, 1]));
        for case in [stride(1), stride(2)] {
            let Case { shape, x, g, .. } = &case;
            let [one, three] = [1, 3].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let y = convolve(x, case.weight(), None, shape).unwrap();
                    let dx = input_gradient(g, case.weight(), shape).unwrap();
                    (y, dx, weight_gradient(g, x, shape).unwrap())
                })
            });
            assert!(one == three);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let case = Case::new(CASES[1]);
        let with = |change: fn(&mut Shape)| {
            let mut shape = case.shape;
            change(&mut shape);
            let bias = [0.0; 5];
            convolve(&case.x, case.weight(), Some(&bias), &shape).unwrap_err().to_string()
        };
        assert!(with(|s| s.stride = 0).starts_with("a convolution with stride `0`"));
        assert!(with(|s| s.groups = 2).contains("in `2` groups"));
        assert!(with(|s| s.kernel = (30, 3)).contains("`8`×`8` pixels is smaller"));
        assert!(with(|s| s.padding = usize::MAX).contains("too many values"));
        assert!(with(|s| s.inputs = 4).contains("the input of a convolution: expected `512`"));
        assert!(with(|s| s.outputs = 4).contains("the weight of a convolution: expected `108`"));
        let bias = [0.0; 4];
        let error = convolve(&case.x, case.weight(), Some(&bias), &case.shape).unwrap_err();
        assert!(error.to_string().contains("the bias of a convolution: expected `5`"));
        assert!(weight_gradient(&case.g[1..], &case.x, &case.shape).is_err());
    }

    #[test]
    fn a_batch_of_no_images_has_no_values() {
        let mut shape = shape(CASES[1]);
        shape.rows = 0;
        let weight = values(shape.outputs * shape.depth(), 2);
        let matrix = Matrix::dense(&weight, shape.depth());
        assert!(convolve(&[], matrix, None, &shape).unwrap().is_empty());
        assert!(input_gradient(&[], matrix, &shape).unwrap().is_empty());
        assert!(weight_gradient(&[], &[], &shape).unwrap().iter().all(|value| *value == 0.0));
    }
}
