//! The learning rate of each variable at a step.

use super::parameters::{Parameters, Role};
use super::schedule::{Schedule, batch_factor};
use super::{ScheduleError, TrainError};
use crate::config::Settings;

/// Learning rates as functions of the step.
#[derive(Debug)]
pub struct Rates {
    /// Of the denoiser or language model, and of text encoders.
    groups: [(f64, Schedule); 2],
    /// Of each variable its group and factor.
    variables: Vec<(usize, f64)>,
}

impl Rates {
    /// Those of a training of `total` steps.
    pub fn new(
        settings: &Settings,
        parameters: &Parameters,
        total: usize,
    ) -> Result<Self, TrainError> {
        let optimizer = &settings.optimizer;
        let (batch, accumulation) = (settings.run.batch_size, settings.run.accumulation);
        let factor = batch_factor(optimizer.lr_scaling, batch, accumulation);
        let group = |rate: f64| -> Result<(f64, Schedule), TrainError> {
            let rate = rate * factor;
            let schedule = Schedule::new(&settings.schedule, total, rate);
            Ok((rate, schedule.map_err(|error| refused(&error))?))
        };
        let variables = parameters.named().map(|(part, role, _)| {
            let group = usize::from(part.chosen.id.component.is_text_encoder());
            (group, if role == Role::B { optimizer.loraplus_ratio } else { 1.0 })
        });
        Ok(Self {
            groups: [
                group(optimizer.learning_rate)?,
                group(if settings.adapter.text_encoder {
                    optimizer.text_encoder_lr
                } else {
                    optimizer.learning_rate
                })?,
            ],
            variables: variables.collect(),
        })
    }

    /// The rates of all variables at a step, from 0.
    pub fn at(&self, step: usize, factor: f64) -> Vec<f64> {
        let rates = [self.main(step, factor), self.text_encoder(step, factor)];
        self.variables.iter().map(|(group, ratio)| rates[*group] * ratio).collect()
    }

    /// That of the denoiser or language model.
    pub fn main(&self, step: usize, factor: f64) -> f64 {
        self.groups[0].0 * self.groups[0].1.factor(step) * factor
    }

    /// That of text encoders.
    pub fn text_encoder(&self, step: usize, factor: f64) -> f64 {
        self.groups[1].0 * self.groups[1].1.factor(step) * factor
    }

    /// Warms up again from a step on.
    pub fn restart_at(&mut self, step: usize, warmup: usize) {
        for (_, schedule) in &mut self.groups {
            schedule.restart_at(step, warmup);
        }
    }

    /// Whether anything can still be learnt from a step on.
    pub fn any_left(&self, step: usize, total: usize) -> bool {
        (step..total).any(|step| self.at(step, 1.0).iter().any(|rate| *rate > 0.0))
    }
}

fn refused(error: &ScheduleError) -> TrainError {
    let text = error.to_string();
    let (problem, hint) = text.split_once("\nhint: ").unwrap_or((&text, "choose another"));
    TrainError::Setting { key: "schedule.kind", problem: problem.to_owned(), hint: hint.to_owned() }
}
