//! A frozen layer and the change that is trained on it, as one operation on the CPU.
//!
//! `y = x·Wᵀ + b + scale·(x·Aᵀ)·Bᵀ` keeps x and y for the backward pass and nothing else; composed of
//! single operations it would keep four tensors of y's size. x·Aᵀ is made once more on the way back:
//! it costs rank/out of the layer.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

use super::Stored;
use super::conv::Kernel;
use super::cpu::conv::{self, convolve, input_gradient, weight_gradient};
use super::cpu::product::{Matrix, product, product_backward, thin_product};
use super::cpu::values;

/// The frozen part of a layer.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    pub weight: Stored,
    pub bias: Option<Vec<f32>>,
    /// Of a convolution.
    pub kernel: Option<Kernel>,
}

/// A layer with its change: x, A and B are its arguments.
pub(super) struct Adapted {
    pub frozen: Frozen,
    pub scale: f32,
}

/// Gradients of x (if wanted), A and B.
type Slopes = (Option<Vec<f32>>, Vec<f32>, Vec<f32>);

/// Products of one layer's shapes on slices.
enum Form {
    /// Inputs and outputs.
    Linear(usize, usize),
    /// The convolution by W or A, with so many outputs.
    Convolution(conv::Shape),
}

impl Adapted {
    fn form(&self, x: &Layout) -> Result<Form> {
        let rows = self.frozen.weight.rows();
        match self.frozen.kernel {
            None => {
                let inputs = self.frozen.weight.matrix().columns;
                if x.dims().last() != Some(&inputs) {
                    bail!("the layer takes {inputs} inputs, found {:?}", x.shape());
                }
                Ok(Form::Linear(inputs, rows))
            }
            Some(kernel) => Ok(Form::Convolution(kernel.shape(x, rows)?)),
        }
    }

    /// Gradients of x (if wanted), A and B on slices.
    fn slopes(
        &self,
        form: &Form,
        (x, a, b, g): (&[f32], &[f32], &[f32], &[f32]),
        wanted: bool,
    ) -> Result<Slopes> {
        let weight = self.frozen.weight.matrix();
        let rank = b.len() / form.outputs().max(1);
        let mut inner = form.down(x, a, rank)?;
        scale(&mut inner, self.scale);
        let of_b = form.up_weight(g, &inner, rank)?;
        let mut of_inner = form.up_back(g, b, rank)?;
        scale(&mut of_inner, self.scale);
        let of_a = form.down_weight(&of_inner, x, rank)?;
        let mut of_x = None;
        if wanted {
            let mut slope = form.frozen_back(g, weight)?;
            add(&mut slope, &form.down_back(&of_inner, a, rank)?);
            of_x = Some(slope);
        }
        Ok((of_x, of_a, of_b))
    }
}

fn scale(values: &mut [f32], factor: f32) {
    if factor != 1.0 {
        values.par_chunks_mut(1 << 14).for_each(|part| part.iter_mut().for_each(|v| *v *= factor));
    }
}

fn add(sum: &mut [f32], more: &[f32]) {
    sum.par_chunks_mut(1 << 14).zip(more.par_chunks(1 << 14)).for_each(|(sum, more)| {
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    });
}

/// Rows of one task, so that the number of threads changes no bit.
const STRETCH: usize = 256;

/// `gᵀ·x`: (m, n) and (m, k) give (n, k); one of n and k is a rank.
fn across(g: &[f32], x: &[f32], (n, k): (usize, usize)) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = g
        .par_chunks(STRETCH * n)
        .zip(x.par_chunks(STRETCH * k))
        .map(|(g, x)| {
            let rows = g.len() / n;
            let turned = crate::linalg::transpose(g, rows, n);
            crate::linalg::multiply(&turned, x, (n, rows, k))
        })
        .collect();
    let mut sum = vec![0.0; n * k];
    for part in &parts {
        add(&mut sum, part);
    }
    sum
}

impl Form {
    fn outputs(&self) -> usize {
        match self {
            Self::Linear(_, outputs) => *outputs,
            Self::Convolution(shape) => shape.outputs,
        }
    }

    /// The convolution by A, and the 1×1 one by B.
    fn by_rank(shape: &conv::Shape, rank: usize) -> Result<(conv::Shape, conv::Shape)> {
        let (height, width) = shape.output().map_err(candle_core::Error::wrap)?;
        let down = conv::Shape { outputs: rank, ..*shape };
        let up = conv::Shape {
            inputs: rank,
            height,
            width,
            kernel: (1, 1),
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
            ..*shape
        };
        Ok((down, up))
    }

    fn frozen(&self, x: &[f32], frozen: &Frozen) -> Result<Vec<f32>> {
        let bias = frozen.bias.as_deref();
        match self {
            Self::Linear(_, outputs) => {
                let mut y = product(x, frozen.weight.matrix());
                if let Some(bias) = bias {
                    y.par_chunks_mut(*outputs).for_each(|row| {
                        row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
                    });
                }
                Ok(y)
            }
            Self::Convolution(shape) => {
                convolve(x, frozen.weight.matrix(), bias, shape).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn frozen_back(&self, g: &[f32], weight: Matrix<'_>) -> Result<Vec<f32>> {
        match self {
            Self::Linear(..) => Ok(product_backward(g, weight)),
            Self::Convolution(shape) => {
                input_gradient(g, weight, shape).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn down(&self, x: &[f32], a: &[f32], rank: usize) -> Result<Vec<f32>> {
        match self {
            Self::Linear(inputs, _) => Ok(thin_product(x, Matrix::dense(a, *inputs))),
            Self::Convolution(shape) => {
                let (down, _) = Self::by_rank(shape, rank)?;
                let a = Matrix::dense(a, a.len() / rank.max(1));
                convolve(x, a, None, &down).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn down_back(&self, of_inner: &[f32], a: &[f32], rank: usize) -> Result<Vec<f32>> {
        match self {
            Self::Linear(inputs, _) => Ok(product_backward(of_inner, Matrix::dense(a, *inputs))),
            Self::Convolution(shape) => {
                let (down, _) = Self::by_rank(shape, rank)?;
                let a = Matrix::dense(a, a.len() / rank.max(1));
                input_gradient(of_inner, a, &down).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn down_weight(&self, of_inner: &[f32], x: &[f32], rank: usize) -> Result<Vec<f32>> {
        match self {
            Self::Linear(inputs, _) => Ok(across(of_inner, x, (rank, *inputs))),
            Self::Convolution(shape) => {
                let (down, _) = Self::by_rank(shape, rank)?;
                weight_gradient(of_inner, x, &down).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn up(&self, inner: &[f32], b: &[f32], rank: usize) -> Result<Vec<f32>> {
        match self {
            Self::Linear(..) => Ok(product(inner, Matrix::dense(b, rank))),
            Self::Convolution(shape) => {
                let (_, up) = Self::by_rank(shape, rank)?;
                convolve(inner, Matrix::dense(b, rank), None, &up).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn up_back(&self, g: &[f32], b: &[f32], rank: usize) -> Result<Vec<f32>> {
        match self {
            Self::Linear(..) => Ok(product_backward(g, Matrix::dense(b, rank))),
            Self::Convolution(shape) => {
                let (_, up) = Self::by_rank(shape, rank)?;
                input_gradient(g, Matrix::dense(b, rank), &up).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn up_weight(&self, g: &[f32], inner: &[f32], rank: usize) -> Result<Vec<f32>> {
        match self {
            Self::Linear(_, outputs) => {
                // (rank, outputs) turned: the long side stays inside
                let turned = across(inner, g, (rank, *outputs));
                Ok(crate::linalg::transpose(&turned, rank, *outputs))
            }
            Self::Convolution(shape) => {
                let (_, up) = Self::by_rank(shape, rank)?;
                weight_gradient(g, inner, &up).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn shape(&self, x: &Layout) -> Result<Shape> {
        match self {
            Self::Linear(_, outputs) => {
                let mut shape = x.dims().to_vec();
                shape.pop();
                shape.push(*outputs);
                Ok(shape.into())
            }
            Self::Convolution(shape) => {
                let (height, width) = shape.output().map_err(candle_core::Error::wrap)?;
                Ok((shape.rows, shape.outputs, height, width).into())
            }
        }
    }
}

impl CustomOp3 for Adapted {
    fn name(&self) -> &'static str {
        "adapted"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let form = self.form(x_layout)?;
        let (x, a, b) = (values(x, x_layout)?, values(a, a_layout)?, values(b, b_layout)?);
        let rank = b.len() / form.outputs().max(1);
        let mut y = form.frozen(x, &self.frozen)?;
        let mut inner = form.down(x, a, rank)?;
        scale(&mut inner, self.scale);
        add(&mut y, &form.up(&inner, b, rank)?);
        Ok((CpuStorage::F32(y), form.shape(x_layout)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let held = [x, a, b, &gradient].map(|tensor| tensor.storage_and_layout());
        let [in_x, in_a, in_b, in_g] =
            held.each_ref().map(|(storage, layout)| slice(storage, layout));
        let form = self.form(x.layout())?;
        let given = (in_x?, in_a?, in_b?, in_g?);
        let (of_x, of_a, of_b) = self.slopes(&form, given, x.track_op())?;
        let like = |slope: Vec<f32>, of: &Tensor| Tensor::from_vec(slope, of.shape(), of.device());
        let of_x = of_x.map(|slope| like(slope, x)).transpose()?;
        Ok((of_x, Some(like(of_a, a)?), Some(like(of_b, b)?)))
    }
}

fn slice<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => values(storage, layout),
        _ => bail!("the gradient of a layer on the CPU was asked for on another device"),
    }
}
