//! An adapter in another float type.

use super::{Adapter, BiasDelta, Delta, Factor, Module, Product};
use crate::tensors::{Float, Tensor, TensorError};

impl Adapter {
    /// The adapter with every tensor rounded once to `float`.
    pub fn cast(&self, float: Float) -> Result<Self, TensorError> {
        let mut adapter = self.clone();
        for module in adapter.modules.values_mut() {
            *module = module.cast(float)?;
        }
        Ok(adapter)
    }
}

impl Module {
    fn cast(&self, float: Float) -> Result<Self, TensorError> {
        let to = |tensor: &Tensor| -> Result<Tensor, TensorError> {
            if Float::of(tensor.dtype()) == Some(float) {
                return Ok(tensor.clone());
            }
            let values = tensor.to_f32(&self.key)?;
            Ok(Tensor::from_f32(tensor.shape().to_vec(), &values, float))
        };
        let product = |p: &Product| -> Result<Product, TensorError> {
            Ok(Product { a: to(&p.a)?, b: to(&p.b)?, t: p.t.as_ref().map(to).transpose()? })
        };
        let factor = |f: &Factor| -> Result<Factor, TensorError> {
            Ok(match f {
                Factor::Full(tensor) => Factor::Full(to(tensor)?),
                Factor::Product(p) => Factor::Product(product(p)?),
            })
        };
        let weight = match &self.weight {
            None => None,
            Some(delta) => Some(match delta {
                Delta::LowRank { down, up, mid } => Delta::LowRank {
                    down: to(down)?,
                    up: to(up)?,
                    mid: mid.as_ref().map(to).transpose()?,
                },
                Delta::Hadamard { w1, w2 } => {
                    Delta::Hadamard { w1: product(w1)?, w2: product(w2)? }
                }
                Delta::Kronecker { w1, w2 } => {
                    Delta::Kronecker { w1: factor(w1)?, w2: factor(w2)? }
                }
                Delta::Scaling { weight, on_input } => {
                    Delta::Scaling { weight: to(weight)?, on_input: *on_input }
                }
                Delta::Glora { a1, a2, b1, b2 } => {
                    Delta::Glora { a1: to(a1)?, a2: to(a2)?, b1: to(b1)?, b2: to(b2)? }
                }
                Delta::Difference(tensor) => Delta::Difference(to(tensor)?),
                Delta::Replacement(tensor) => Delta::Replacement(to(tensor)?),
            }),
        };
        let mut cast = Self { weight, ..self.clone() };
        match &mut cast.bias {
            Some(BiasDelta::Add { delta: tensor, .. } | BiasDelta::Replace(tensor)) => {
                *tensor = to(tensor)?;
            }
            None => {}
        }
        if let Some(magnitude) = &mut cast.magnitude {
            magnitude.vector = to(&magnitude.vector)?;
        }
        Ok(cast)
    }
}
