//! What is done between steps: held-out losses, samples, checkpoints.

use std::path::Path;

use super::{Trainer, VERIFY};
use crate::config::Every;
use crate::train::TrainError;
use crate::train::task::mean;
use crate::train::watch::Event;

impl Trainer<'_> {
    /// What is due after a step.
    pub(super) fn after(&mut self) -> Result<(), TrainError> {
        let settings = self.parts.settings;
        if self.state.guard.is_in_doubt() {
            return Ok(()); // the next step tells whether the model is to blame
        }
        if self.due(settings.validation.every) && self.parts.task.held_out() > 0 {
            self.validate()?;
        }
        if self.due(settings.output.save_every) && !self.checkpoints.has(self.state.step) {
            self.save()?;
        } else if self.state.step.is_multiple_of(VERIFY) {
            self.verify()?;
        }
        if self.due(settings.samples.every) {
            self.sample()?;
        }
        Ok(())
    }

    fn due(&self, every: Every) -> bool {
        let steps = match every {
            Every::Never => return false,
            Every::Steps(steps) => steps,
            Every::Epochs(epochs) => epochs.saturating_mul(self.order.steps()),
        };
        self.state.step > 0 && self.state.step.is_multiple_of(steps.max(1))
    }

    pub(super) fn sample(&mut self) -> Result<(), TrainError> {
        for event in (self.parts.sample)(self.state.step)? {
            self.say(&event)?;
        }
        Ok(())
    }

    /// Measures the held-out loss.
    fn validate(&mut self) -> Result<(), TrainError> {
        let settings = &self.parts.settings.validation;
        let all = self.parts.task.held_out().min(settings.max_examples.unwrap_or(usize::MAX));
        let mut losses = Vec::new();
        for first in (0..all).step_by(self.rung.micro) {
            let some = first..(first + self.rung.micro).min(all);
            losses.extend(self.parts.task.held_out_loss(some)?);
        }
        let loss = mean(&losses);
        let best = self.state.best.map(|(best, _)| best);
        let better = loss.is_finite()
            && best.is_none_or(|best| loss < best - settings.min_improvement * best.abs());
        self.state.without_improvement =
            if better { 0 } else { self.state.without_improvement + 1 };
        self.say(&Event::HeldOut { step: self.state.step, loss, best: better })?;
        if better {
            self.state.best = Some((loss, self.state.step));
            self.save()?;
        }
        Ok(())
    }

    /// Makes a checkpoint of a state that is finite.
    pub(super) fn save(&mut self) -> Result<(), TrainError> {
        if let Some(name) = self.parts.parameters.not_finite()? {
            return self.guard(
                "non-finite",
                format!("no checkpoint: {name} is not finite"),
                Vec::new(),
            );
        }
        self.verify()?;
        let state = self.state.clone();
        let contents = (self.parts.parameters, &self.optimizer, &state);
        let write = |folder: &Path| (self.parts.export)(folder, &state);
        let path = self.checkpoints.save(contents, &self.parts.made_of, write)?;
        self.say(&Event::Checkpoint { step: self.state.step, path })
    }
}
