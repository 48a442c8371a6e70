//! Group normalisation.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::norm::group_norm;
use super::cpu::norm_backward::group_norm_backward;
use super::cpu::{slice, values};
use super::gated::{Activation, activate};
use super::layer_norm::standardize;

/// `y = (x − mean) / √(var + ε) ⊙ w + b` with mean and variance of a group of channels
/// (Wu and He, 2018).
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// `weight` and `bias` are (channels), a multiple of `groups`.
    pub fn new(weight: Tensor, bias: Tensor, groups: usize, epsilon: f64) -> Self {
        Self { weight, bias, groups, epsilon }
    }

    /// Applies it to (rows, channels, …).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, false)
    }

    /// The norm followed by `SiLU`, in one pass.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, true)
    }

    fn apply(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        let Self { weight, bias, groups, epsilon } = self;
        let channels = weight.elem_count();
        let fits = x.rank() >= 2
            && x.dim(1)? == channels
            && bias.elem_count() == channels
            && *groups > 0
            && channels.is_multiple_of(*groups);
        if !fits {
            let biases = bias.elem_count();
            bail!(
                "a norm of {groups} groups, {channels} weights, {biases} biases on {:?}",
                x.shape()
            );
        }
        let op = Fused { groups: *groups, epsilon: *epsilon, silu };
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            return x.contiguous()?.apply_op3(weight, bias, op);
        }
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32);
        let n = op.standardize(&wide(x)?)?;
        let y = affine(&n, &wide(weight)?, &wide(bias)?)?.to_dtype(x.dtype())?;
        if silu { activate(&y, Activation::Silu) } else { Ok(y) }
    }
}

/// `n ⊙ w + b` with one weight and one bias a channel.
fn affine(n: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let shape = channel_shape(n, weight);
    n.broadcast_mul(&weight.reshape(&*shape)?)?.broadcast_add(&bias.reshape(&*shape)?)
}

/// (1, channels, 1, …)
fn channel_shape(x: &Tensor, weight: &Tensor) -> Vec<usize> {
    let mut shape = vec![1; x.rank()];
    shape[1] = weight.elem_count();
    shape
}

struct Fused {
    groups: usize,
    epsilon: f64,
    silu: bool,
}

impl Fused {
    /// `(x − mean) / √(var + ε)`
    fn standardize(&self, x: &Tensor) -> Result<Tensor> {
        let grouped = x.contiguous()?.reshape((x.dim(0)?, self.groups, ()))?;
        standardize(&grouped, self.epsilon)?.0.reshape(x.shape())
    }

    /// Values of a group of x, (rows, channels, …), and its number of channels.
    fn sizes(&self, x: &Layout, channels: usize) -> (usize, usize) {
        let rows = x.dims().first().copied().unwrap_or(0);
        let group = x.shape().elem_count() / (rows * self.groups).max(1);
        (group.max(1), (channels / self.groups).max(1))
    }

    /// The gradient for x.
    fn of_input(&self, x: &Tensor, w: &Tensor, b: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (group, channels) = self.sizes(x.layout(), w.elem_count());
        let held = [x, w, b, gradient].map(Tensor::storage_and_layout);
        let [values, w, b, g] = held.each_ref().map(|(storage, layout)| slice(storage, layout));
        let (values, w, b, g) = (values?, w?, b?, g?);
        let mut dx = vec![0.0; values.len()];
        let parts = values.par_chunks(group).zip(g.par_chunks(group));
        dx.par_chunks_mut(group).zip(parts).enumerate().for_each(|(i, (dx, (x, g)))| {
            let part = i % self.groups * channels..(i % self.groups + 1) * channels;
            let affine = (&w[part.clone()], &b[part]);
            group_norm_backward(x, affine, g, (self.epsilon, self.silu), dx);
        });
        Tensor::from_vec(dx, x.shape(), x.device())
    }

    /// The gradients for weight and bias, those that are asked for.
    fn of_affine(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if !w.track_op() && !b.track_op() {
            return Ok((None, None));
        }
        let n = self.standardize(x)?;
        let mut gradient = gradient.clone();
        if self.silu {
            gradient = Activation::Silu.backward(&affine(&n, w, b)?, &gradient)?;
        }
        let flat = (x.dim(0)?, x.dim(1)?, ());
        let of_weight = || (&gradient * n)?.reshape(flat)?.sum((0, 2));
        let dw = w.track_op().then(of_weight).transpose()?;
        let db = b.track_op().then(|| gradient.reshape(flat)?.sum((0, 2))).transpose()?;
        Ok((dw, db))
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w, b) = (values(x, x_layout)?, values(w, w_layout)?, values(b, b_layout)?);
        let mut y = vec![0.0; x.len()];
        let (group, channels) = self.sizes(x_layout, w.len());
        let groups = y.par_chunks_mut(group).zip(x.par_chunks(group)).enumerate();
        groups.for_each(|(i, (y, x))| {
            let part = i % self.groups * channels..(i % self.groups + 1) * channels;
            group_norm(x, (&w[part.clone()], &b[part]), (self.epsilon, self.silu), y);
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let dx = x.track_op().then(|| self.of_input(x, w, b, &gradient)).transpose()?;
        let (dw, db) = self.of_affine(x, w, b, &gradient)?;
        Ok((dx, dw, db))
    }
}
