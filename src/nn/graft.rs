//! A value with a gradient of its own: for products with frozen weights.
//!
//! candle's backward pass also computes and keeps the gradients of frozen weights. A grafted value
//! is computed apart from the graph, and its gradient is a function given with it.

use candle_core::backend::BackendStorage as _;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor, bail,
};

use super::ConvConfig;

type Backward = Box<dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync>;

struct Graft {
    value: Tensor,
    backward: Backward,
}

/// `value`, computed from `x`; `backward` makes x's gradient of the result's.
fn graft(x: &Tensor, value: Tensor, backward: Backward) -> Result<Tensor> {
    if x.track_op() { x.apply_op1(Graft { value, backward }) } else { Ok(value) }
}

/// `x·Wᵀ` with a frozen weight: (…, in), (out, in) → (…, out).
pub(super) fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let value = super::weight::linear(&x.detach(), w)?;
    let (w, shape) = (w.clone(), x.shape().clone());
    graft(
        x,
        value,
        Box::new(move |gradient| {
            let g = gradient.contiguous()?.reshape(((), w.dim(0)?))?;
            g.matmul(&w)?.reshape(&shape)
        }),
    )
}

/// `x ∗ W` with a frozen weight (out, in / groups, kh, kw).
pub(super) fn conv2d(x: &Tensor, w: &Tensor, config: ConvConfig) -> Result<Tensor> {
    let ConvConfig { stride, padding, dilation, groups } = config;
    let x = x.to_dtype(w.dtype())?.contiguous()?;
    if groups > 1 {
        // no model that is trained has them
        return x.conv2d(w, padding, stride, dilation, groups);
    }
    let value = x.detach().conv2d(w, padding, stride, dilation, groups)?;
    let (w, size) = (w.clone(), x.dims4()?);
    graft(&x, value, Box::new(move |gradient| input_gradient(gradient, &w, size, config)))
}

/// The gradient of a convolution's input of this size.
fn input_gradient(
    gradient: &Tensor,
    w: &Tensor,
    (_, _, height, width): (usize, usize, usize, usize),
    ConvConfig { stride, padding, dilation, .. }: ConvConfig,
) -> Result<Tensor> {
    let (_, _, kernel_height, kernel_width) = w.dims4()?;
    let reach = dilation * (kernel_height - 1);
    if stride == 1 && kernel_height == kernel_width && padding <= reach {
        // a convolution by the kernel turned around, which devices are faster at
        let turned = w.transpose(0, 1)?.contiguous()?.flip(&[2, 3])?.contiguous()?;
        return gradient.contiguous()?.conv2d(&turned, reach - padding, 1, dilation, 1);
    }
    let missing = |side: usize, given: usize, kernel: usize| {
        side + 2 * padding - ((given - 1) * stride + dilation * (kernel - 1) + 1)
    };
    let (_, _, given_height, given_width) = gradient.dims4()?;
    let rest =
        missing(height, given_height, kernel_height).max(missing(width, given_width, kernel_width));
    let whole = gradient.contiguous()?.conv_transpose2d(w, padding, rest, stride, dilation)?;
    whole.narrow(2, 0, height)?.narrow(3, 0, width)?.contiguous()
}

impl CustomOp1 for Graft {
    fn name(&self) -> &'static str {
        "graft"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, layout) = self.value.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => Ok((copied(storage, layout)?, layout.shape().clone())),
            _ => bail!("a value of another device"),
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        let (storage, layout) = self.value.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) if layout.is_contiguous() && layout.start_offset() == 0 => {
                Ok((storage.try_clone(layout)?, layout.shape().clone()))
            }
            _ => bail!("a value of another device, or a view"),
        }
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some((self.backward)(gradient)?.to_dtype(x.dtype())?))
    }
}

/// The values that a layout tells of, contiguous.
fn copied(storage: &CpuStorage, layout: &Layout) -> Result<CpuStorage> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous value, found {layout:?}")
    };
    Ok(match storage {
        CpuStorage::F32(values) => CpuStorage::F32(values[start..end].to_vec()),
        CpuStorage::F64(values) => CpuStorage::F64(values[start..end].to_vec()),
        CpuStorage::F16(values) => CpuStorage::F16(values[start..end].to_vec()),
        CpuStorage::BF16(values) => CpuStorage::BF16(values[start..end].to_vec()),
        other => bail!("a value of type {:?}, which has no gradient", other.dtype()),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn values(shape: &[usize], seed: usize) -> Result<Tensor> {
        let n: usize = shape.iter().product();
        let values = (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 50.0 - 1.0);
        Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu)
    }

    /// Both as candle differentiates them, which is right wherever it can.
    #[test]
    fn gradients_are_those_of_the_plain_operations() -> Result<()> {
        let x = Var::from_tensor(&values(&[2, 3, 8, 8], 1)?)?;
        for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 1), (1, 1, 0), (3, 1, 0)] {
            let w = values(&[4, 3, kernel, kernel], 2)?;
            let config = ConvConfig { stride, padding, dilation: 1, groups: 1 };
            let (ours, theirs) = (conv2d(&x, &w, config)?, x.conv2d(&w, padding, stride, 1, 1)?);
            same(&x, &ours, &theirs)?;
        }
        let x = Var::from_tensor(&values(&[2, 5, 6], 1)?)?;
        let w = values(&[4, 6], 3)?;
        same(&x, &linear(&x, &w)?, &x.broadcast_matmul(&w.t()?)?)
    }

    #[test]
    fn sides_may_need_different_padding() -> Result<()> {
        let x = Var::from_tensor(&values(&[1, 2, 7, 10], 1)?)?;
        let w = values(&[3, 2, 3, 3], 2)?;
        let config = ConvConfig { stride: 2, padding: 1, dilation: 1, groups: 1 };
        let weights = values(&[1, 3, 4, 5], 5)?;
        let loss = |x: &Tensor| (conv2d(x, &w, config)? * &weights)?.sum_all();
        let gradient = loss(&x)?.backward()?.remove(&x).map(|g| g.flatten_all()?.to_vec1::<f64>());
        let gradient = gradient.transpose()?.unwrap_or_default();
        for place in [0, 9, 34, 69, 139] {
            let mut step = vec![0.0; 140];
            step[place] = 1e-4;
            let step = Tensor::from_vec(step, (1, 2, 7, 10), &Device::Cpu)?;
            let (up, down) = (loss(&(x.as_tensor() + &step)?)?, loss(&(x.as_tensor() - &step)?)?);
            let slope = (up - down)?.to_scalar::<f64>()? / 2e-4;
            assert!((slope - gradient[place]).abs() < 1e-7, "{slope} {}", gradient[place]);
        }
        Ok(())
    }

    fn same(x: &Var, ours: &Tensor, theirs: &Tensor) -> Result<()> {
        assert_eq!(ours.flatten_all()?.to_vec1::<f64>()?, theirs.flatten_all()?.to_vec1::<f64>()?);
        let gradient = |y: &Tensor| -> Result<Vec<f64>> {
            let weights = values(y.dims(), 7)?;
            let gradients = (y * weights)?.sum_all()?.backward()?;
            gradients.get(x).map_or(Ok(Vec::new()), |g| g.flatten_all()?.to_vec1())
        };
        let (ours, theirs) = (gradient(ours)?, gradient(theirs)?);
        assert!(!ours.is_empty());
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        Ok(())
    }
}
