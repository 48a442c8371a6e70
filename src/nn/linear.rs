//! A linear layer.

use candle_core::{DType, Result, Tensor};

use super::changes::{Attachment, Changes, Part};
use super::low_rank::Frozen;
use super::trained::{Product, Trained, norms, product};
use super::{Slot, Strengths, Weight};
use crate::adapter::Module;

/// `y = x·Wᵀ + b`, with adapters. `x` is (rows, …, in), `y` (rows, …, out).
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    changes: Changes,
    trained: Option<(usize, Trained)>,
}

impl Linear {
    /// A layer with a frozen weight (out, in) and bias (out).
    pub fn new(weight: Weight, bias: Option<Tensor>) -> Self {
        Self { weight, bias, changes: Changes::default(), trained: None }
    }

    /// Its weight.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Its bias.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Attaches a module; `slot` may be the number of its adapter alone, see [`Slot`].
    pub fn attach(
        &mut self,
        slot: impl Into<Slot>,
        module: &Module,
        part: &Part,
        device: &candle_core::Device,
    ) -> std::result::Result<(), Attachment> {
        if module.bias.is_some() && self.bias.is_none() {
            return Err(Attachment::Unsupported(
                "it changes a bias, and the base's module has none",
            ));
        }
        self.changes.attach((slot.into(), module), part, &self.weight, device)
    }

    /// Attaches `scale·B·A` with `a` (rank, in) and `b` (out, rank), which may be variables.
    pub fn attach_low_rank(
        &mut self,
        slot: impl Into<Slot>,
        scale: f32,
        a: Tensor,
        b: Tensor,
    ) -> Result<()> {
        self.changes.attach_low_rank(slot.into(), scale, a, b)
    }

    /// Attaches a change that is trained, as adapter number `adapter` of [`Strengths`].
    pub fn train(&mut self, adapter: usize, trained: Trained) {
        self.trained = Some((adapter, trained));
    }

    /// Applies the layer.
    pub fn forward(&self, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        if let Some((adapter, trained)) = &self.trained
            && let Some(y) = trained.fused(x, || self.frozen_part(), (*adapter, strengths))?
        {
            return self.changes.apply(y, x, strengths);
        }
        let y = self.weight.forward(x)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        let y = self.changes.apply(y, x, strengths)?;
        match &self.trained {
            Some((adapter, trained)) => trained.apply(&y, x, self, (*adapter, strengths)),
            None => Ok(y),
        }
    }
}

impl Linear {
    /// Weight and bias, where the weight lies in a file.
    fn frozen_part(&self) -> Result<Option<Frozen>> {
        let Weight::Stored(weight) = &self.weight else { return Ok(None) };
        let bias = self.bias.as_ref().map(|b| b.to_dtype(DType::F32)?.to_vec1()).transpose()?;
        Ok(Some(Frozen { weight: weight.clone(), bias, kernel: None }))
    }
}

impl Product for Linear {
    fn down(&self, x: &Tensor, a: &Tensor) -> Result<Tensor> {
        product(x, a)
    }

    fn up(&self, x: &Tensor, b: &Tensor) -> Result<Tensor> {
        product(x, b)
    }

    fn frozen(&self, x: &Tensor) -> Result<Tensor> {
        self.weight.forward(x)
    }

    fn norms(&self, delta: &Tensor) -> Result<Tensor> {
        norms(&self.weight, delta)
    }
}
