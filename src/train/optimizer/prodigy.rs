//! Prodigy (Mishchenko and Defazio, 2023): Adam whose rate is an estimate d of how far the solution
//! lies, times the learning rate, which is best left at 1.
//!
//! As in `prodigyopt` with its defaults: no bias correction, no safeguard for warm-ups, unlimited
//! growth. A variable of rate 0 stays and does not count. `prodigyopt` refuses two rates other than
//! 0; here each variable's own rate stands in its terms.

use candle_core::{Result, Tensor, Var};

use super::elementwise::{
    MomentStep, ScaleAdd, ScaleAddSquare, dot, fetch, for_all, update, update2,
};
use super::{Job, zeros};
use crate::config::OptimizerSettings;

/// The first estimate.
const D0: f64 = 1e-6;

/// What Prodigy remembers.
#[derive(Debug)]
pub struct Prodigy {
    exp_avg: Vec<Var>,
    exp_avg_sq: Vec<Var>,
    /// Weighted sums of gradients, whose 1-norm is the estimate's denominator.
    s: Vec<Var>,
    /// The variables' first values.
    p0: Vec<Var>,
    /// The estimate.
    pub d: f64,
    /// Its numerator.
    pub d_numerator: f64,
}

/// A variable that moves in this step.
#[derive(Debug, Clone, Copy)]
struct Moving<'a> {
    job: &'a Job<'a>,
    exp_avg: &'a Var,
    exp_avg_sq: &'a Var,
    s: &'a Var,
    p0: &'a Var,
}

impl Prodigy {
    /// For variables at their first values.
    pub fn new(vars: &[Var]) -> Result<Self> {
        let copies = vars.iter().map(|var| Var::from_tensor(&var.as_detached_tensor()));
        Ok(Self {
            exp_avg: zeros(vars)?,
            exp_avg_sq: zeros(vars)?,
            s: zeros(vars)?,
            p0: copies.collect::<Result<_>>()?,
            d: D0,
            d_numerator: 0.0,
        })
    }

    /// The tensors by name.
    pub fn tensors(&self) -> Vec<(&'static str, &[Var])> {
        vec![
            ("exp_avg", &self.exp_avg),
            ("exp_avg_sq", &self.exp_avg_sq),
            ("s", &self.s),
            ("p0", &self.p0),
        ]
    }

    /// A step: averages first, the estimate from all variables, then the variables.
    pub fn step(
        &mut self,
        settings: &OptimizerSettings,
        jobs: &[Job<'_>],
        parallel: bool,
    ) -> Result<()> {
        let moving = self.moving(jobs);
        let d = self.d;
        let sums = for_all(parallel, moving.clone(), |moving| moving.average(settings, d))?;
        let (towards, norms): (Vec<_>, Vec<_>) = sums.into_iter().unzip();
        let towards = fetch(&towards)?.into_iter().zip(&moving);
        let gained: f64 = towards.map(|(dot, m)| d / D0 * (d * m.job.rate) * dot).sum();
        let d_numerator = settings.beta2.sqrt() * self.d_numerator + gained;
        let denominator: f64 = fetch(&norms)?.iter().sum();
        if denominator == 0.0 {
            return Ok(()); // no gradient yet, or all rates are 0
        }
        let next = d.max(d_numerator / denominator);
        for_all(parallel, moving, |moving| moving.advance(settings, d, next))?;
        (self.d, self.d_numerator) = (next, d_numerator);
        Ok(())
    }

    fn moving<'a>(&'a self, jobs: &'a [Job<'_>]) -> Vec<Moving<'a>> {
        let averages = self.exp_avg.iter().zip(&self.exp_avg_sq);
        let all = jobs.iter().zip(averages.zip(self.s.iter().zip(&self.p0)));
        all.filter(|(job, _)| job.rate > 0.0)
            .map(|(job, ((exp_avg, exp_avg_sq), (s, p0)))| Moving {
                job,
                exp_avg,
                exp_avg_sq,
                s,
                p0,
            })
            .collect()
    }
}

impl Moving<'_> {
    /// Takes the gradient into the averages; ⟨g, p₀ − p⟩ and ‖s‖₁.
    fn average(self, settings: &OptimizerSettings, d: f64) -> Result<(Tensor, Tensor)> {
        let OptimizerSettings { beta1, beta2, .. } = *settings;
        let g = &self.job.gradient;
        update(self.exp_avg, g, ScaleAdd { keep: beta1, add: d * (1.0 - beta1) })?;
        let square = ScaleAddSquare { keep: beta2, add: d * d * (1.0 - beta2) };
        update(self.exp_avg_sq, g, square)?;
        let weight = d / D0 * (d * self.job.rate);
        update(self.s, g, ScaleAdd { keep: beta2.sqrt(), add: weight })?;
        let (s, p0) = (self.s.as_detached_tensor(), self.p0.as_detached_tensor());
        let back = (p0 - self.job.var.as_detached_tensor())?;
        Ok((dot(g, &back)?, dot(&s, &s.sign()?)?))
    }

    fn advance(self, settings: &OptimizerSettings, d: f64, next: f64) -> Result<()> {
        let rate = d * self.job.rate;
        let along = MomentStep {
            keep: 1.0 - settings.weight_decay * rate,
            rate,
            root: 1.0,
            epsilon: next * settings.epsilon,
        };
        update2(self.job.var, self.exp_avg, self.exp_avg_sq, along)
    }
}
