//! The steps of `AdamW`, SGD and Lion for one variable.

use candle_core::{Result, Var};

use super::Job;
use super::elementwise::{MomentStep, ScaleAdd, ScaleAddSquare, SignStep, update, update2};
use crate::config::OptimizerSettings;

/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², p ← (1 − rλ)p − r/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε).
pub fn adamw(
    settings: &OptimizerSettings,
    step: u64,
    job: &Job<'_>,
    exp_avg: &Var,
    exp_avg_sq: &Var,
) -> Result<()> {
    let OptimizerSettings { beta1, beta2, epsilon, weight_decay, .. } = *settings;
    let step = step as f64;
    update(exp_avg, &job.gradient, ScaleAdd { keep: beta1, add: 1.0 - beta1 })?;
    update(exp_avg_sq, &job.gradient, ScaleAddSquare { keep: beta2, add: 1.0 - beta2 })?;
    let along = MomentStep {
        keep: 1.0 - job.rate * weight_decay,
        rate: job.rate / (1.0 - beta1.powf(step)),
        root: (1.0 - beta2.powf(step)).sqrt(),
        epsilon,
    };
    update2(job.var, exp_avg, exp_avg_sq, along)
}

/// b ← β₁b + g + λp, p ← p − r·b.
pub fn sgd(settings: &OptimizerSettings, job: &Job<'_>, momentum_buffer: &Var) -> Result<()> {
    update(momentum_buffer, &job.gradient, ScaleAdd { keep: settings.beta1, add: 1.0 })?;
    if settings.weight_decay != 0.0 {
        update(momentum_buffer, job.var, ScaleAdd { keep: 1.0, add: settings.weight_decay })?;
    }
    update(job.var, momentum_buffer, ScaleAdd { keep: 1.0, add: -job.rate })
}

/// p ← (1 − rλ)p − r·sign(β₁m + (1−β₁)g), m ← β₂m + (1−β₂)g.
pub fn lion(settings: &OptimizerSettings, job: &Job<'_>, exp_avg: &Var) -> Result<()> {
    let OptimizerSettings { beta1, beta2, weight_decay, .. } = *settings;
    let along = SignStep { keep: 1.0 - job.rate * weight_decay, rate: job.rate, beta: beta1 };
    update2(job.var, exp_avg, &job.gradient, along)?;
    update(exp_avg, &job.gradient, ScaleAdd { keep: beta2, add: 1.0 - beta2 })
}
