//! The gate of a gated feed-forward layer.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::cpu::values;

/// The function on the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x·σ(x)`
    Silu,
    /// `x·Φ(x)`, exactly.
    Gelu,
    /// `x·σ(1.702·x)`
    QuickGelu,
    /// `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`
    GeluTanh,
}

const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

impl Activation {
    fn value(self, x: f32) -> f32 {
        match self {
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => 0.5 * x * (1.0 + (ROOT * (x + CUBIC * x * x * x)).tanh()),
        }
    }

    fn slope(self, x: f32) -> f32 {
        match self {
            Self::Silu => {
                let s = 1.0 / (1.0 + (-x).exp());
                s * (1.0 + x * (1.0 - s))
            }
            Self::QuickGelu => {
                let s = 1.0 / (1.0 + (-1.702 * x).exp());
                s * (1.0 + 1.702 * x * (1.0 - s))
            }
            Self::Gelu => {
                let density = (-0.5 * x * x).exp() * 0.398_942_3;
                0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
            }
            Self::GeluTanh => {
                let t = (ROOT * (x + CUBIC * x * x * x)).tanh();
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * ROOT * (1.0 + 3.0 * CUBIC * x * x)
            }
        }
    }
}

/// The error function in f32, through candle's in f64.
#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
fn erf(x: f32) -> f32 {
    candle_core::cpu::erf::erf_f64(f64::from(x)) as f32
}

/// `activation(gate) ⊙ up`, of one shape.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    if gate.device().is_cpu() && gate.dtype() == DType::F32 {
        return gate.contiguous()?.apply_op2(&up.contiguous()?, Gated(activation));
    }
    let gate = match activation {
        Activation::Silu => gate.silu()?,
        Activation::Gelu => gate.gelu_erf()?,
        Activation::QuickGelu => activate(gate, activation)?,
        Activation::GeluTanh => gate.gelu()?,
    };
    gate * up
}

/// `activation(x)`
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu_erf(),
        Activation::QuickGelu => x / ((x * -1.702)?.exp()? + 1.0)?,
        Activation::GeluTanh => x.gelu(),
    }
}

/// `x₁ ⊙ gelu(x₂)` with x₁ and x₂ the halves of the last axis (GEGLU, Shazeer 2020).
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let halves = x.chunk(2, candle_core::D::Minus1)?;
    gated(&halves[1].contiguous()?, &halves[0].contiguous()?, Activation::Gelu)
}

struct Gated(Activation);

const TASK: usize = 4096;

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
        let (gate, up) = (values(gate, gate_layout)?, values(up, up_layout)?);
        let mut y = vec![0.0; gate.len()];
        y.par_chunks_mut(TASK).zip(gate.par_chunks(TASK)).zip(up.par_chunks(TASK)).for_each(
            |((y, gate), up)| {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = self.0.value(*gate) * up;
                }
            },
        );
        Ok((CpuStorage::F32(y), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let on_gate = |function: &(dyn Fn(f32) -> f32 + Sync)| -> Result<Tensor> {
            let values = gate.flatten_all()?.to_vec1::<f32>()?;
            let mapped: Vec<f32> = values.par_iter().map(|x| function(*x)).collect();
            Tensor::from_vec(mapped, gate.shape(), gate.device())
        };
        let slope = on_gate(&|x| self.0.slope(x))?;
        let value = on_gate(&|x| self.0.value(x))?;
        Ok((Some((gradient * up)?.mul(&slope)?), Some((gradient * value)?)))
    }
}
