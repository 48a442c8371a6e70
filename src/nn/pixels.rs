//! Pixels as tokens and back, each one operation with its gradient.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::cpu::turn::transposes;
use super::cpu::values;

/// (rows, channels, height, width) → (rows, height·width, channels)
pub fn to_tokens(x: &Tensor) -> Result<Tensor> {
    let (rows, channels, height, width) = x.dims4()?;
    let tokens = height * width;
    if fused(x) {
        let to = (rows, tokens, channels).into();
        return x.contiguous()?.apply_op1(Turn { matrix: (channels, tokens), to });
    }
    x.flatten_from(2)?.transpose(1, 2)?.contiguous()
}

/// The way back, (rows, height·width, channels) → (rows, channels, height, width).
pub fn to_pixels(x: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (rows, tokens, channels) = x.dims3()?;
    if fused(x) && tokens == height * width {
        let to = (rows, channels, height, width).into();
        return x.contiguous()?.apply_op1(Turn { matrix: (tokens, channels), to });
    }
    x.transpose(1, 2)?.contiguous()?.reshape((rows, channels, height, width))
}

fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Transposes each matrix of a batch and calls the result by another shape.
struct Turn {
    /// Rows and columns of the matrices.
    matrix: (usize, usize),
    to: Shape,
}

impl CustomOp1 for Turn {
    fn name(&self) -> &'static str {
        "turn"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(transposes(values(x, layout)?, self.matrix)), self.to.clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (rows, columns) = self.matrix;
        let back = Self { matrix: (columns, rows), to: x.shape().clone() };
        gradient.contiguous()?.apply_op1_no_bwd(&back).map(Some)
    }
}
