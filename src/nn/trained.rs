//! A change that is being learnt.

use candle_core::{DType, Result, Tensor};

use super::Strengths;
use super::changes::{added, rows_of, scaled};
use super::low_rank::{Adapted, Frozen};
use super::strengths::Active;
use super::weight::linear;

/// `scale·B·A` with variables, and what training adds to it.
#[derive(Debug, Clone)]
pub struct Trained {
    /// (rank, in) or (rank, in, kh, kw)
    pub a: Tensor,
    /// (out, rank) or (out, rank, 1, 1)
    pub b: Tensor,
    /// alpha/rank or alpha/√rank.
    pub scale: f32,
    /// `DoRA`'s magnitude, (out).
    pub magnitude: Option<Tensor>,
    /// Probability that an input of A is dropped.
    pub dropout: f64,
    /// The module's number, for its random numbers.
    pub lane: u32,
}

/// A layer as a function of x and a weight (outputs, depth) given as a tensor.
pub(super) trait Product {
    /// With A.
    fn down(&self, x: &Tensor, a: &Tensor) -> Result<Tensor>;
    /// With B.
    fn up(&self, x: &Tensor, b: &Tensor) -> Result<Tensor>;
    /// With the frozen weight, without bias.
    fn frozen(&self, x: &Tensor) -> Result<Tensor>;
    /// Norms of the rows of the frozen weight plus `delta` (outputs, depth).
    fn norms(&self, delta: &Tensor) -> Result<Tensor>;
}

impl Trained {
    /// The frozen layer and this change in one operation, where that can be: on the CPU in f32, a weight
    /// of a file, all rows at strength 1, nothing but A and B.
    pub(super) fn fused(
        &self,
        x: &Tensor,
        frozen: impl FnOnce() -> Result<Option<Frozen>>,
        (adapter, strengths): (usize, &Strengths),
    ) -> Result<Option<Tensor>> {
        let plain = self.magnitude.is_none() && !(strengths.drops() && self.dropout > 0.0);
        if !plain || !x.device().is_cpu() || x.dtype() != DType::F32 {
            return Ok(None);
        }
        let active = strengths.active(&[(adapter.into(), 1.0)], x.device())?;
        if !active.is_some_and(|active| active.ones && active.rows.is_none()) {
            return Ok(None);
        }
        let Some(frozen) = frozen()? else { return Ok(None) };
        let adapted = Adapted { frozen, scale: self.scale };
        Ok(Some(x.contiguous()?.apply_op3(&self.a, &self.b, adapted)?))
    }

    /// `y`, the layer's output, with this change as adapter number `adapter`.
    ///
    /// `DoRA` is `m ⊙ (W + sBA)/‖W + sBA‖` with the norm taken as a constant (Liu et al., 2024, section
    /// 4.3), computed as PEFT does: `(m/‖·‖ − 1)·Wx + m/‖·‖·sBAx`.
    pub(super) fn apply(
        &self,
        y: &Tensor,
        x: &Tensor,
        layer: &impl Product,
        (adapter, strengths): (usize, &Strengths),
    ) -> Result<Tensor> {
        let Some(active) = strengths.active(&[(adapter.into(), 1.0)], x.device())? else {
            return Ok(y.clone());
        };
        let x = strengths.dropped(rows_of(x, &active)?, self.dropout, self.lane)?;
        let low = layer.up(&layer.down(&x, &self.a)?, &self.b)?;
        let low = (low * f64::from(self.scale))?;
        let change = match &self.magnitude {
            None => low,
            Some(magnitude) => self.weigh(&x, &low, magnitude, layer)?,
        };
        added(y, &times(&change, &active)?, &active)
    }

    fn weigh(
        &self,
        x: &Tensor,
        low: &Tensor,
        magnitude: &Tensor,
        layer: &impl Product,
    ) -> Result<Tensor> {
        let delta = self.b.flatten_from(1)?.matmul(&self.a.flatten_from(1)?)?;
        let norms = layer.norms(&(delta * f64::from(self.scale))?.detach())?;
        let ratio = magnitude.div(&norms)?;
        // outputs lie along the last axis of a linear layer, the second of a convolution
        let ratio = if low.rank() == 4 { ratio.reshape((1, (), 1, 1))? } else { ratio };
        let frozen = layer.frozen(x)?.to_dtype(DType::F32)?;
        frozen.broadcast_mul(&(&ratio - 1.0)?)? + low.broadcast_mul(&ratio)?
    }
}

/// The change times the strengths of the rows; all ones change nothing.
fn times(change: &Tensor, active: &Active) -> Result<Tensor> {
    if active.ones { Ok(change.clone()) } else { scaled(change, &active.factors) }
}

/// Norms of the rows of a frozen matrix plus `delta` (rows, columns), made row by row so that the
/// matrix is never widened whole.
pub(super) fn norms(weight: &super::Weight, delta: &Tensor) -> Result<Tensor> {
    use rayon::prelude::*;
    let (rows, columns) = weight.shape()?;
    let device = delta.device().clone();
    if let super::Weight::Dense(dense) = weight
        && !dense.device().is_cpu()
    {
        return (dense.to_dtype(DType::F32)? + delta)?.sqr()?.sum(1)?.sqrt();
    }
    let delta = delta.flatten_all()?.to_vec1::<f32>()?;
    let norms = (0..rows).into_par_iter().map(|row| {
        let w = weight.rows(row..row + 1)?;
        let delta = &delta[row * columns..(row + 1) * columns];
        let sum: f64 = w.iter().zip(delta).map(|(w, d)| f64::from(w + d).powi(2)).sum();
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
        let norm = sum.sqrt() as f32;
        Ok(norm)
    });
    let norms = norms.collect::<Result<Vec<f32>>>()?;
    Tensor::from_vec(norms, rows, &device)
}

/// `x·Wᵀ` with a weight that is a tensor.
pub(super) fn product(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    linear(x, w)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::nn::{Linear, Weight};

    fn values(shape: &[usize], seed: usize) -> Result<Tensor> {
        let n: usize = shape.iter().product();
        let values = (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0);
        Tensor::from_vec(values.collect::<Vec<f32>>(), shape, &Device::Cpu)
    }

    /// Σ g·y by central differences in every number of A and B, with x a variable or not.
    #[test]
    fn gradients_do_not_depend_on_whether_the_input_has_one() -> Result<()> {
        for rows in [1, 3] {
            let x = values(&[rows, 5, 6], 1)?;
            let a = Var::from_tensor(&values(&[2, 6], 2)?)?;
            let b = Var::from_tensor(&values(&[4, 2], 3)?)?;
            let mut layer = Linear::new(Weight::Dense(values(&[4, 6], 4)?), None);
            let trained = Trained {
                a: a.as_tensor().clone(),
                b: b.as_tensor().clone(),
                scale: 0.5,
                magnitude: None,
                dropout: 0.0,
                lane: 0,
            };
            layer.train(0, trained);
            let strengths = Strengths::new(vec![vec![1.0]; rows]);
            let g = values(&[rows, 5, 4], 5)?;
            let slopes = |x: &Tensor| -> Result<Vec<Vec<f32>>> {
                let all = (layer.forward(x, &strengths)? * &g)?.sum_all()?.backward()?;
                [&a, &b]
                    .iter()
                    .map(|var| all.get(var).unwrap().flatten_all()?.to_vec1::<f32>())
                    .collect()
            };
            let plain = slopes(&x)?;
            let input = Var::from_tensor(&x)?;
            let tracked = slopes(input.as_tensor())?;
            assert_eq!(plain, tracked);
        }
        Ok(())
    }
}
