//! Activation functions, and the gates of feed-forward layers.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail,
};
use rayon::prelude::*;

use super::cpu::activation::{Form, apply};
use super::cpu::values;

/// A function on single numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x·σ(x)`
    Silu,
    /// `x·Φ(x)`, exactly.
    Gelu,
    /// `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`
    GeluTanh,
    /// `x·σ(1.702·x)` (CLIP of `OpenAI`).
    QuickGelu,
}

impl Activation {
    /// `f′(x) ⊙ gradient` of contiguous f32 tensors on the CPU.
    pub(super) fn backward(self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(gradient, &Times(self, Form::Slope))
    }
}

fn fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// `activation(x)`, element by element.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if fused(x) {
        return x.contiguous()?.apply_op1(Activate(activation));
    }
    match activation {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::QuickGelu => x * ((x * -1.702)?.exp()? + 1.0)?.recip()?,
    }
}

/// `activation(gate) ⊙ up`, of one shape.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    if fused(gate) && fused(up) {
        return gate.contiguous()?.apply_op2(&up.contiguous()?, Gated(activation));
    }
    activate(gate, activation)? * up
}

/// `hidden ⊙ gelu(gate)` of (…, 2d), whose first half is `hidden` (Shazeer, 2020; diffusers'
/// `GEGLU`); gives (…, d).
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if width % 2 != 0 {
        bail!("a hidden and a gate half need an even width, found {:?}", x.shape());
    }
    if fused(x) {
        return x.contiguous()?.apply_op1(Geglu);
    }
    let half = |from| x.narrow(D::Minus1, from, width / 2);
    half(0)? * activate(&half(width / 2)?, Activation::Gelu)?
}

/// Elements of a task.
const TASK: usize = 1 << 14;

/// `f(x) ⊙ factor ⊙ …` on all threads.
fn apply_parallel<const N: usize>(
    activation: Activation,
    form: Form,
    x: &[f32],
    factors: [&[f32]; N],
) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    if x.len() <= TASK {
        apply(activation, form, x, factors, &mut y);
        return y;
    }
    y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).enumerate().for_each(|(task, (y, x))| {
        let part = task * TASK..task * TASK + y.len();
        apply(activation, form, x, factors.map(|factor| &factor[part.clone()]), y);
    });
    y
}

fn same_shape(a: &Layout, b: &Layout) -> Result<()> {
    if a.shape() != b.shape() {
        bail!("expected one shape, found {:?} and {:?}", a.shape(), b.shape());
    }
    Ok(())
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = apply_parallel(self.0, Form::Value, values(x, layout)?, []);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.backward(x, &gradient.contiguous()?)?))
    }
}

/// `f(x) ⊙ factor` or `f′(x) ⊙ factor`, a part of gradients.
struct Times(Activation, Form);

impl CustomOp2 for Times {
    fn name(&self) -> &'static str {
        "activation-times"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        factor: &CpuStorage,
        factor_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        same_shape(x_layout, factor_layout)?;
        let (x, factor) = (values(x, x_layout)?, values(factor, factor_layout)?);
        let y = apply_parallel(self.0, self.1, x, [factor]);
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }
}

struct Gated(Activation);

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Times(self.0, Form::Value).cpu_fwd(gate, gate_layout, up, up_layout)
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let on_up = || gate.apply_op2_no_bwd(&gradient, &Times(self.0, Form::Value));
        let on_gate = || gate.apply_op3_no_bwd(up, &gradient, &OnGate(self.0));
        Ok((gate.track_op().then(on_gate).transpose()?, up.track_op().then(on_up).transpose()?))
    }
}

/// `f′(gate) ⊙ up ⊙ gradient`, of one shape.
struct OnGate(Activation);

impl CustomOp3 for OnGate {
    fn name(&self) -> &'static str {
        "gate-gradient"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        same_shape(gate_layout, up_layout)?;
        same_shape(gate_layout, gradient_layout)?;
        let factors = [values(up, up_layout)?, values(gradient, gradient_layout)?];
        let y = apply_parallel(self.0, Form::Slope, values(gate, gate_layout)?, factors);
        Ok((CpuStorage::F32(y), gate_layout.shape().clone()))
    }
}

struct Geglu;

/// Calls `row` on the rows of `y` and the halves of the rows of `x`.
fn halves(
    (x, layout): (&[f32], &Layout),
    y: &mut [f32],
    width: usize,
    row: impl Fn(usize, &mut [f32], &[f32], &[f32]) + Sync,
) {
    let both = layout.dims().last().copied().unwrap_or(0).max(2);
    let rows = (TASK / both).max(1);
    y.par_chunks_mut(rows * width.max(1)).zip(x.par_chunks(rows * both)).enumerate().for_each(
        |(task, (y, x))| {
            for (i, (y, x)) in y.chunks_mut(width).zip(x.chunks(both)).enumerate() {
                let (hidden, gate) = x.split_at(both / 2);
                row(task * rows + i, y, hidden, gate);
            }
        },
    );
}

impl CustomOp1 for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(x, layout)?;
        let mut shape = layout.dims().to_vec();
        if let Some(width) = shape.last_mut() {
            *width /= 2;
        }
        let mut y = vec![0.0; x.len() / 2];
        let width = shape.last().copied().unwrap_or(0);
        halves((x, layout), &mut y, width, |_, y, hidden, gate| {
            apply(Activation::Gelu, Form::Value, gate, [hidden], y);
        });
        Ok((CpuStorage::F32(y), shape.into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&gradient.contiguous()?, &GegluGradient)?))
    }
}

struct GegluGradient;

impl CustomOp2 for GegluGradient {
    fn name(&self) -> &'static str {
        "geglu-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gradient) = (values(x, layout)?, values(gradient, gradient_layout)?);
        if x.len() != 2 * gradient.len() {
            bail!("a gradient of {:?} for {:?}", gradient_layout.shape(), layout.shape());
        }
        let mut y = vec![0.0; x.len()];
        let width = layout.dims().last().copied().unwrap_or(0);
        halves((x, layout), &mut y, width, |row, y, hidden, gate| {
            let gradient = &gradient[row * width / 2..][..width / 2];
            let (on_hidden, on_gate) = y.split_at_mut(width / 2);
            apply(Activation::Gelu, Form::Value, gate, [gradient], on_hidden);
            apply(Activation::Gelu, Form::Slope, gate, [hidden, gradient], on_gate);
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}
