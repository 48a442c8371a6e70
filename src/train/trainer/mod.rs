//! The loop: rate, micro-batches, loss, judgement, clipping, step, log.

mod after;
mod checks;
mod returns;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::checkpoint::{Checkpoints, Saved};
use super::guard::Verdict;
use super::ladder::{self, Rung};
use super::memory::{self, Memory};
use super::optimizer::{self, Optimizer};
use super::parameters::Parameters;
use super::rates::Rates;
use super::state::State;
use super::task::{Loss, Task, mean};
use super::watch::{Event, Start, Step, Watch};
use super::{Gradients, Order, TrainError};
use crate::config::{Length, Settings};
use crate::nn::Visit;

/// What a training is made of.
pub struct Parts<'a> {
    /// All settings.
    pub settings: &'a Settings,
    /// The model and its examples.
    pub task: &'a dyn Task,
    /// What is trained.
    pub parameters: &'a Parameters,
    /// ‖W‖ of some modules by number, for ‖ΔW‖/‖W‖.
    pub base_norms: Vec<(usize, f64)>,
    /// Writes the adapter into a folder, under the name that it will have.
    pub export: &'a dyn Fn(&Path, &State) -> Result<(), TrainError>,
    /// Generates samples after so many steps.
    pub sample: &'a dyn Fn(usize) -> Result<Vec<Event>, TrainError>,
    /// What must be the same for a training to go on.
    pub made_of: Map<String, Value>,
    /// Set from outside to end the training after the step.
    pub stop: &'a AtomicBool,
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All steps were taken.
    Complete,
    /// The held-out loss no longer fell.
    EarlyStop,
    /// It was asked to stop, and can go on.
    Stopped,
}

/// A training.
pub struct Trainer<'a> {
    parts: Parts<'a>,
    watch: &'a mut dyn Watch,
    variables: Vec<Var>,
    gradients: Gradients,
    optimizer: Optimizer,
    rates: Rates,
    order: Order,
    checkpoints: Checkpoints,
    memory: Memory,
    rung: Rung,
    steps: usize,
    state: State,
    /// Sums of the learning rate: of all steps, and of those so far.
    sums: (f64, f64),
    verified: Option<Verified>,
    /// A finite state whose next loss is not known yet.
    unproven: Option<Verified>,
}

/// A state in which everything was finite, and the next step's loss sound.
struct Verified {
    state: State,
    variables: Vec<Tensor>,
    optimizer: std::collections::BTreeMap<String, Tensor>,
}

/// Visits of an epoch, at most.
const MOST_VISITS: usize = 1 << 26;
/// Steps of a training, at most.
const MOST_STEPS: usize = 100_000_000;
/// Steps from one verified state to the next.
const VERIFY: usize = 25;

impl<'a> Trainer<'a> {
    /// A training from its start.
    pub fn new(parts: Parts<'a>, watch: &'a mut dyn Watch) -> Result<Self, TrainError> {
        let Parts { settings, task, parameters, .. } = &parts;
        let per_step = settings.run.batch_size * settings.run.accumulation;
        let visits = task.repeats().iter().try_fold(0usize, |sum, often| sum.checked_add(*often));
        if visits.is_none_or(|visits| visits > MOST_VISITS) {
            return Err(TrainError::Setting {
                key: "data.repeats",
                problem: format!("an epoch of more than {MOST_VISITS} visits"),
                hint: "lower it, or the number in front of the folder's name".to_owned(),
            });
        }
        let order = Order::new(settings.run.seed, &task.repeats(), &task.beside(), per_step);
        let steps = match settings.run.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => epochs.saturating_mul(order.steps()),
        };
        if steps == 0 || steps > MOST_STEPS {
            return Err(TrainError::Setting {
                key: "run.length",
                problem: format!("{steps} steps, expected 1 to {MOST_STEPS}"),
                hint: "give another `run.epochs` or `run.steps`".to_owned(),
            });
        }
        let variables = parameters.variables();
        Ok(Self {
            gradients: Gradients::new(&variables),
            optimizer: Optimizer::new(&settings.optimizer, &variables)?,
            rates: Rates::new(settings, parameters, steps)?,
            checkpoints: Checkpoints::new(&settings.output.dir, settings.output.keep_last),
            memory: Memory::new(settings.run.memory_limit),
            rung: Rung::new(&settings.run),
            state: State::new(),
            sums: (0.0, 0.0),
            verified: None,
            unproven: None,
            variables,
            order,
            steps,
            parts,
            watch,
        })
    }

    /// Goes on from a checkpoint.
    pub fn resume(&mut self, saved: &Saved) -> Result<(), TrainError> {
        saved.check(&self.parts.made_of)?;
        saved.restore(self.parts.parameters, &mut self.optimizer)?;
        self.state = saved.state.clone();
        for (step, warmup) in &self.state.restarts {
            self.rates.restart_at(*step, *warmup);
        }
        let step = self.state.step;
        if step < self.steps && !self.rates.any_left(step, self.steps) {
            return Err(TrainError::Resume {
                path: saved.path.clone(),
                problem: format!("the learning rate is 0 from step {step} to {}", self.steps),
                hint: "raise `run.epochs` or `run.steps`: the schedule had come to its end"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// The newest checkpoint of this training's folder.
    pub fn saved(&self) -> Result<Option<Saved>, TrainError> {
        self.checkpoints.newest()
    }

    /// Trains.
    pub fn run(mut self, start: &Start) -> Result<(Ending, State), TrainError> {
        self.checkpoints.clear_unfinished();
        if self.state.step > 0 && (self.state.step >= self.steps || self.is_at_its_end()) {
            return Ok((Ending::Complete, self.state)); // nothing is left to do
        }
        self.fit()?;
        self.say(&Event::Start(Start {
            step: self.state.step,
            steps: self.steps,
            steps_per_epoch: self.order.steps(),
            batch_size: self.rung.micro,
            accumulation: self.per_step().div_ceil(self.rung.micro),
            checkpointing: self.rung.checkpointing,
            ..start.clone()
        }))?;
        if self.state.step == 0 {
            self.prove()?;
            if self.parts.settings.samples.at_first {
                self.sample()?;
            }
        }
        self.verified = self.snapshot()?;
        let sum =
            |steps: std::ops::Range<usize>| steps.map(|step| self.rates.main(step, 1.0)).sum();
        self.sums = (sum(0..self.steps), sum(0..self.state.step));
        let mut ending = if self.is_at_its_end() { Ending::EarlyStop } else { Ending::Complete };
        while ending == Ending::Complete && self.state.step < self.steps {
            self.step()?;
            self.after()?;
            if self.is_at_its_end() {
                ending = Ending::EarlyStop;
            } else if self.parts.stop.load(Ordering::Relaxed) && self.state.step < self.steps {
                ending = Ending::Stopped;
            }
        }
        self.end(ending)?;
        Ok((ending, self.state))
    }

    /// One optimizer step.
    fn step(&mut self) -> Result<(), TrainError> {
        let begun = Instant::now();
        memory::forget_peak();
        let (step, factor) = (self.state.step, self.state.rate_factor);
        let rates = self.rates.at(step, factor);
        let visits = self.visits(step);
        let losses = self.accumulate(&visits)?;
        let loss = mean(&losses);
        let mut gradients = self.gradients.take()?;
        let norm = optimizer::norm(&gradients)?;
        if losses.is_empty() {
            self.state.step += 1;
            return Ok(());
        }
        match self.judge(&visits, &losses, norm)? {
            Verdict::Sound => {
                if let Some(state) = self.unproven.take() {
                    self.verified = Some(state);
                }
            }
            Verdict::Skip { seen, examples } => return self.skip(&seen, &examples, &losses),
            Verdict::Back { kind, seen } => return self.go_back(kind, &seen),
        }
        self.see_a_move(&gradients)?;
        let most = self.parts.settings.optimizer.max_grad_norm;
        if most > 0.0 {
            optimizer::clip_norm(&mut gradients, most)?;
        }
        self.optimizer.step(&self.variables, &gradients, &rates)?;
        self.sums.1 += self.rates.main(step, 1.0);
        self.state.moved |= rates.iter().all(|rate| *rate > 0.0);
        self.state.step += 1;
        self.log(&losses, (loss, norm), (step, factor), begun)
    }

    /// Gradients of the step's loss, micro-batch by micro-batch; when memory runs out, on a lower rung.
    fn accumulate(&mut self, visits: &[Visit]) -> Result<Vec<Loss>, TrainError> {
        let total: f64 = visits.iter().map(|visit| self.parts.task.weight(*visit)).sum();
        loop {
            let mut losses = Vec::new();
            let batches = self.parts.task.batches(visits, self.rung.micro);
            let all = batches.iter().try_for_each(|batch| {
                let pass = self.rung.pass(&self.memory);
                losses.extend(self.parts.task.backward(batch, total, pass, &mut self.gradients)?);
                Ok(())
            });
            match all {
                Ok(()) => return Ok(losses),
                Err(error) if TrainError::is_out_of_memory(&error) => {
                    self.gradients.clear();
                    self.rung = self.lower(&error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What a step sees, without the examples that were left out.
    fn visits(&self, step: usize) -> Vec<Visit> {
        let mut visits = self.order.step(step);
        visits.retain(|visit| !self.state.guard.left_out.contains(&visit.example));
        visits
    }

    fn per_step(&self) -> usize {
        self.parts.settings.run.batch_size * self.parts.settings.run.accumulation
    }

    fn say(&mut self, event: &Event) -> Result<(), TrainError> {
        let path = self.parts.settings.output.dir.clone();
        self.watch.event(event).map_err(|source| TrainError::Write { path, source })
    }

    fn guard(
        &mut self,
        kind: &'static str,
        action: String,
        samples: Vec<String>,
    ) -> Result<(), TrainError> {
        self.say(&Event::Guard { step: self.state.step, kind, action, samples })
    }

    fn lower(&mut self, error: &TrainError) -> Result<Rung, TrainError> {
        let mut said = Vec::new();
        let rung = ladder::lower(self.rung, error, &mut |text| {
            said.push(text);
            Ok(())
        })?;
        for text in said {
            self.guard("memory", text, Vec::new())?;
        }
        Ok(rung)
    }

    fn log(
        &mut self,
        losses: &[Loss],
        (loss, grad_norm): (f64, f64),
        (step, factor): (usize, f64),
        begun: Instant,
    ) -> Result<(), TrainError> {
        let smoothed = self.state.smooth(loss, losses);
        let taken = self.state.step;
        let output = &self.parts.settings.output;
        let delta = if taken.is_multiple_of(VERIFY) { self.delta()? } else { None };
        if let Some(delta) = delta {
            self.still_learning(delta)?;
        }
        if !taken.is_multiple_of(output.log_every.max(1)) && taken != self.steps {
            return Ok(());
        }
        let adapter = &self.parts.settings.adapter;
        self.say(&Event::Step(Step {
            step: taken,
            epoch: taken as f64 / self.order.steps().max(1) as f64,
            loss,
            smoothed,
            grad_norm,
            lr: self.rates.main(step, factor) * self.optimizer.rate_factor(),
            lr_text_encoder: adapter
                .text_encoder
                .then(|| self.rates.text_encoder(step, factor) * self.optimizer.rate_factor()),
            quartiles: self.state.quartiles(),
            delta,
            weight: losses.iter().map(|loss| loss.weight).sum(),
            seconds: begun.elapsed().as_secs_f64(),
            memory: memory::peak(),
        }))
    }

    /// Whether the held-out loss has not fallen for too long.
    fn is_at_its_end(&self) -> bool {
        let patience = self.parts.settings.validation.patience;
        patience.is_some_and(|patience| self.state.without_improvement >= patience)
    }

    fn end(&mut self, ending: Ending) -> Result<(), TrainError> {
        if let Some(name) = self.parts.parameters.not_finite()? {
            return Err(TrainError::Diverged {
                step: self.state.step,
                problem: format!("{name} is not finite; no adapter is written"),
                hint: format!(
                    "usually the rate or the weight decay is far too high: try `optimizer.learning_rate: {:.1e}`",
                    self.rates.main(self.state.step, self.state.rate_factor).max(1e-3) / 10.0
                ),
            });
        }
        let saved = self.checkpoints.has(self.state.step);
        if !saved {
            self.save()?;
        }
        let reason = match ending {
            Ending::Complete => "all steps were taken".to_owned(),
            Ending::EarlyStop => {
                let times = self.state.without_improvement;
                format!("the held-out loss did not fall {times} times in a row")
            }
            Ending::Stopped => "stopped from outside; `--resume` goes on".to_owned(),
        };
        self.say(&Event::End { step: self.state.step, ending, reason })
    }

    /// Where the checkpoint of a step has the adapter of that name.
    pub fn adapter_of(settings: &Settings, step: usize, name: &str) -> PathBuf {
        Checkpoints::new(&settings.output.dir, 1).adapter(step, name)
    }
}
