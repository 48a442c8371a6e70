//! Steps that are not taken, and the way back.

use super::{Settings, Trainer, Verified};
use crate::train::TrainError;
use crate::train::guard::RETURNS;
use crate::train::state::State;
use crate::train::task::Loss;

/// Steps of the warm-up after a return, at most.
const WARMUP: usize = 100;

impl Trainer<'_> {
    /// Leaves the step out.
    pub(super) fn skip(
        &mut self,
        seen: &str,
        examples: &[u32],
        losses: &[Loss],
    ) -> Result<(), TrainError> {
        let all: Vec<u32> = losses.iter().map(|loss| loss.example).collect();
        let gone = |example: &u32| self.state.guard.left_out.contains(example);
        let left_out = !examples.is_empty() && examples.iter().all(gone);
        let named = if left_out { examples } else { &all };
        let samples = named.iter().map(|example| self.parts.task.name(*example)).collect();
        let rest = if left_out { "; these examples are left out from here on" } else { "" };
        self.guard("non-finite", format!("{seen}: step skipped{rest}"), samples)?;
        self.state.step += 1;
        Ok(())
    }

    /// Goes back to the last verified state, at half the rate.
    pub(super) fn go_back(&mut self, kind: &'static str, seen: &str) -> Result<(), TrainError> {
        let step = self.state.step;
        let returns = self.state.guard.returns;
        let Some(verified) = self.verified.take().filter(|_| returns < RETURNS) else {
            return Err(TrainError::Diverged {
                step,
                problem: format!("{seen}, after {returns} returns at half the rate each time"),
                hint: format!(
                    "usually the rate is far too high: try `optimizer.learning_rate: {:.1e}`; else a bad example (see `samples` in train.jsonl), or 16-bit overflow: try `base.precision: f32`",
                    self.rates.main(step, self.state.rate_factor) / 10.0
                ),
            });
        };
        for (variable, value) in self.variables.iter().zip(&verified.variables) {
            variable.set(value)?;
        }
        self.optimizer.load_state(&verified.optimizer).map_err(candle_core::Error::wrap)?;
        self.state.guard.went_back(&verified.state.guard);
        let guard = std::mem::take(&mut self.state.guard);
        let mut restarts = std::mem::take(&mut self.state.restarts);
        let rate_factor = self.state.rate_factor / 2.0;
        let warmup = WARMUP.min((self.steps - verified.state.step).div_ceil(20));
        restarts.push((verified.state.step, warmup));
        self.rates.restart_at(verified.state.step, warmup);
        self.state = State { guard, rate_factor, restarts, ..verified.state.clone() };
        self.verified = Some(verified);
        self.unproven = None;
        self.checkpoints.forget_after(self.state.step);
        let action = format!(
            "{seen} at step {step}: back to step {}, rate × {rate_factor}, {warmup} steps of warm-up",
            self.state.step
        );
        self.guard(kind, action, Vec::new())
    }

    /// Keeps a copy of where the training stands, to go back to once the next loss is sound.
    pub(super) fn verify(&mut self) -> Result<(), TrainError> {
        if !self.state.guard.is_in_doubt() {
            self.unproven = self.snapshot()?;
        }
        Ok(())
    }

    /// Where the training stands, if all of it is finite.
    pub(super) fn snapshot(&self) -> Result<Option<Verified>, TrainError> {
        if self.parts.parameters.not_finite()?.is_some() {
            return Ok(None);
        }
        Ok(Some(Verified {
            state: self.state.clone(),
            variables: self.variables.iter().map(|var| var.copy()).collect::<Result<_, _>>()?,
            optimizer: self.optimizer.state()?,
        }))
    }

    /// ‖ΔW‖/‖W‖, the median over the modules whose ‖W‖ is known.
    pub(super) fn delta(&self) -> Result<Option<f64>, TrainError> {
        let norms = self.parts.parameters.norms()?;
        let known = self.parts.base_norms.iter();
        let mut ratios: Vec<f64> = known.map(|(part, base)| norms[*part] / base).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        Ok(ratios.get(ratios.len() / 2).copied())
    }

    /// A training whose changes would still be nothing at its end is not worth its time.
    pub(super) fn still_learning(&mut self, delta: f64) -> Result<(), TrainError> {
        /// ‖ΔW‖/‖W‖ that nobody sees.
        const FLOOR: f64 = 1e-5;
        /// Steps with the full rate before it is judged.
        const SEEN: usize = 50;
        let taken = self.state.step;
        let (whole, so_far) = self.sums;
        if taken < SEEN || so_far <= 0.0 || delta * whole / so_far >= FLOOR {
            return Ok(());
        }
        let Settings { optimizer, adapter, .. } = self.parts.settings;
        let problem = format!(
            "nothing is learnt: ‖ΔW‖/‖W‖ is {delta:.1e}, and would be {:.1e} at the end",
            delta * whole / so_far
        );
        self.guard("nothing-learnt", problem.clone(), Vec::new())?;
        Err(TrainError::Diverged {
            step: taken,
            problem,
            hint: format!(
                "usually the learning rate ({:e}) or alpha/rank ({}/{}) is far too small; try `optimizer.learning_rate: 1e-4` and `adapter.alpha: {}`",
                optimizer.learning_rate, adapter.alpha, adapter.rank, adapter.rank
            ),
        })
    }
}
