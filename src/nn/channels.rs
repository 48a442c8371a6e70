//! One number a channel added to a picture.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::values;

/// `x + t` with x (rows, channels, height, width) and t (rows, channels).
pub fn add_to_channels(x: &Tensor, t: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && x.dtype() == DType::F32 && t.dtype() == DType::F32 {
        return x.contiguous()?.apply_op2(&t.contiguous()?, AddToChannels);
    }
    let (rows, channels) = t.dims2()?;
    x.broadcast_add(&t.reshape((rows, channels, 1, 1))?)
}

struct AddToChannels;

impl CustomOp2 for AddToChannels {
    fn name(&self) -> &'static str {
        "add-to-channels"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        t: &CpuStorage,
        t_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, channels, height, width) = x_layout.shape().dims4()?;
        if t_layout.shape().dims2()? != (rows, channels) {
            bail!("{:?} added to the channels of {:?}", t_layout.shape(), x_layout.shape());
        }
        let mut y = values(x, x_layout)?.to_vec();
        let planes = y.par_chunks_mut((height * width).max(1));
        planes
            .zip(values(t, t_layout)?)
            .for_each(|(plane, t)| plane.iter_mut().for_each(|y| *y += t));
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        t: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_t = t.track_op().then(|| gradient.detach().sum(3)?.sum(2)).transpose()?;
        Ok((Some(gradient.clone()), of_t))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn values_and_gradients_are_those_of_a_broadcast() -> Result<()> {
        let numbers =
            |n: usize| (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
        let x = Var::from_vec(numbers(48), (2, 3, 2, 4), &Device::Cpu)?;
        let t = Var::from_vec(numbers(6), (2, 3), &Device::Cpu)?;
        let g = Tensor::from_vec(numbers(48), (2, 3, 2, 4), &Device::Cpu)?;
        let ours = add_to_channels(&x, &t)?;
        let theirs = x.broadcast_add(&t.reshape((2, 3, 1, 1))?)?;
        let flat = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
        assert_eq!(flat(&ours)?, flat(&theirs)?);
        let (ours, theirs) =
            ((ours * &g)?.sum_all()?.backward()?, (theirs * &g)?.sum_all()?.backward()?);
        for var in [&x, &t] {
            let (a, b) = (ours.get(var).map(flat), theirs.get(var).map(flat));
            for (a, b) in a.into_iter().flatten().flatten().zip(b.into_iter().flatten().flatten()) {
                assert!((a - b).abs() < 1e-5);
            }
            assert!(ours.get(var).is_some());
        }
        Ok(())
    }
}
