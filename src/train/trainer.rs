//! The loop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::{Tensor, Var};
use serde_json::{Map, Value};

use super::checkpoint::{Checkpoints, Saved};
use super::guard::{RETURNS, Verdict};
use super::ladder::{self, Rung};
use super::memory::{self, Memory};
use super::optimizer::{self, Optimizer};
use super::parameters::{Parameters, Role};
use super::rates::Rates;
use super::state::State;
use super::task::{Loss, Task, mean};
use super::watch::{Event, Start, Step, Watch};
use super::{Gradients, Order, TrainError, proof};
use crate::config::{Every, Length, Settings};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    verified: Option<Verified>,
}

/// A state in which everything was finite.
struct Verified {
    state: State,
    variables: Vec<Tensor>,
    optimizer: std::collections::BTreeMap<String, Tensor>,
}

/// Steps from one verified state to the next.
const VERIFY: usize = 25;
/// Steps of the warm-up after a return, at most.
const WARMUP: usize = 100;

impl<'a> Trainer<'a> {
    /// A training from its start.
    pub fn new(parts: Parts<'a>, watch: &'a mut dyn Watch) -> Result<Self, TrainError> {
        let Parts { settings, task, parameters, .. } = &parts;
        let per_step = settings.run.batch_size * settings.run.accumulation;
        let order = Order::new(settings.run.seed, &task.repeats(), &task.beside(), per_step);
        let steps = match settings.run.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => epochs * order.steps(),
        };
        let variables = parameters.variables();
        Ok(Self {
            gradients: Gradients::new(&variables),
            optimizer: Optimizer::new(&settings.optimizer, &variables)?,
            rates: Rates::new(settings, parameters, steps)?,
            checkpoints: Checkpoints::new(&settings.output.dir, settings.output.keep_last),
            memory: Memory::new(settings.run.memory_limit),
            rung: Rung::new(&settings.run),
            state: State::new(),
            verified: None,
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
                hint: "raise `run.epochs` or `run.steps`: the schedule had come to its end".to_owned(),
            });
        }
        Ok(())
    }

    /// The newest checkpoint of this training's folder.
    pub fn saved(&self) -> Result<Option<Saved>, TrainError> {
        self.checkpoints.newest()
    }

    /// Trains.
    pub fn run(mut self, start: Start) -> Result<(Ending, State), TrainError> {
        self.fit()?;
        self.say(Event::Start(Start {
            step: self.state.step,
            steps: self.steps,
            steps_per_epoch: self.order.steps(),
            batch_size: self.rung.micro,
            accumulation: self.per_step().div_ceil(self.rung.micro),
            checkpointing: self.rung.checkpointing,
            ..start
        }))?;
        if self.state.step == 0 {
            self.prove()?;
            if self.parts.settings.samples.at_first {
                self.sample()?;
            }
        }
        self.verify()?;
        let mut ending = Ending::Complete;
        while self.state.step < self.steps {
            self.step()?;
            if self.after()? {
                ending = Ending::EarlyStop;
                break;
            }
            if self.parts.stop.load(Ordering::Relaxed) && self.state.step < self.steps {
                ending = Ending::Stopped;
                break;
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
        let losses = self.accumulate(&self.visits(step))?;
        let loss = mean(&losses);
        let mut gradients = self.gradients.take()?;
        let norm = optimizer::norm(&gradients)?;
        if losses.is_empty() {
            self.state.step += 1;
            return Ok(());
        }
        match self.state.guard.judge(&losses, norm) {
            Verdict::Sound => {}
            Verdict::Skip { seen, examples } => return self.skip(&seen, &examples, &losses),
            Verdict::Back { kind, seen } => return self.go_back(kind, &seen),
        }
        self.see_a_move(&gradients)?;
        let most = self.parts.settings.optimizer.max_grad_norm;
        if most > 0.0 {
            optimizer::clip_norm(&mut gradients, most)?;
        }
        self.optimizer.step(&self.variables, &gradients, &rates)?;
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

    fn say(&mut self, event: Event) -> Result<(), TrainError> {
        let path = self.parts.settings.output.dir.clone();
        self.watch.event(&event).map_err(|source| TrainError::Write { path, source })
    }

    fn guard(&mut self, kind: &'static str, action: String, samples: Vec<String>) -> Result<(), TrainError> {
        self.say(Event::Guard { step: self.state.step, kind, action, samples })
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

    /// Tries the largest micro-batch before an hour is lost.
    fn fit(&mut self) -> Result<(), TrainError> {
        let mut said = Vec::new();
        let (task, memory) = (self.parts.task, &self.memory);
        let fitted = ladder::fit(task, self.rung, memory, &mut self.gradients, |text| {
            said.push(text);
            Ok(())
        });
        for text in said {
            self.guard("memory", text, Vec::new())?;
        }
        self.rung = fitted?;
        Ok(())
    }

    fn prove(&mut self) -> Result<(), TrainError> {
        if !self.parts.settings.run.prove {
            return Ok(());
        }
        let visits = self.visits(0);
        let Some(batch) = self.parts.task.batches(&visits, self.rung.micro).into_iter().next() else {
            return Ok(());
        };
        let pass = self.rung.pass(&self.memory);
        let Parts { task, parameters, .. } = self.parts;
        proof::prove(task, parameters, &batch, pass, &mut self.gradients)
    }

    /// The first gradients after B has moved are those that A's life is seen by.
    fn see_a_move(&mut self, gradients: &[Tensor]) -> Result<(), TrainError> {
        let moved = (0..self.state.step).any(|step| self.rates.main(step, 1.0) > 0.0);
        if self.state.proved || !self.parts.settings.run.prove || !moved {
            return Ok(());
        }
        proof::moves(self.parts.parameters, gradients, Role::A)?;
        self.state.proved = true;
        Ok(())
    }

    /// Leaves the step out.
    fn skip(&mut self, seen: &str, examples: &[u32], losses: &[Loss]) -> Result<(), TrainError> {
        let all: Vec<u32> = losses.iter().map(|loss| loss.example).collect();
        let left_out = !examples.is_empty() && examples.len() < losses.len();
        let named = if left_out { examples } else { &all };
        let samples = named.iter().map(|example| self.parts.task.name(*example)).collect();
        let rest = if left_out { "; these examples are left out from here on" } else { "" };
        self.guard("non-finite", format!("{seen}: step skipped{rest}"), samples)?;
        self.state.step += 1;
        Ok(())
    }

    /// Goes back to the last verified state, at half the rate.
    fn go_back(&mut self, kind: &'static str, seen: &str) -> Result<(), TrainError> {
        let step = self.state.step;
        let Some(verified) = self.verified.take() else { return Ok(()) };
        if self.state.guard.returns >= RETURNS {
            return Err(TrainError::Diverged {
                step,
                problem: format!("{seen}, after {RETURNS} returns at half the rate each time"),
                hint: format!(
                    "usually the rate is far too high: try `optimizer.learning_rate: {:.1e}`; else a bad example (see `samples` in train.jsonl), or 16-bit overflow: try `base.precision: f32`",
                    self.rates.main(step, self.state.rate_factor) / 10.0
                ),
            });
        }
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
        self.state = State { guard, restarts, rate_factor, ..verified.state.clone() };
        self.verified = Some(verified);
        let action = format!(
            "{seen} at step {step}: back to step {}, rate × {rate_factor}, {warmup} steps of warm-up",
            self.state.step
        );
        self.guard(kind, action, Vec::new())
    }

    /// Keeps a copy of where the training stands.
    fn verify(&mut self) -> Result<(), TrainError> {
        if self.parts.parameters.not_finite()?.is_some() {
            return Ok(());
        }
        self.verified = Some(Verified {
            state: self.state.clone(),
            variables: self.variables.iter().map(|var| var.copy()).collect::<Result<_, _>>()?,
            optimizer: self.optimizer.state()?,
        });
        Ok(())
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
        self.say(Event::Step(Step {
            step: taken,
            epoch: taken as f64 / self.order.steps().max(1) as f64,
            loss,
            smoothed,
            grad_norm,
            lr: self.rates.main(step, factor) * self.optimizer.rate_factor(),
            lr_text_encoder: adapter.text_encoder.then(|| self.rates.text_encoder(step, factor)),
            quartiles: self.state.quartiles(),
            delta,
            weight: losses.iter().map(|loss| loss.weight).sum(),
            seconds: begun.elapsed().as_secs_f64(),
            memory: memory::peak(),
        }))
    }

    /// ‖ΔW‖/‖W‖, the median over the modules whose ‖W‖ is known.
    fn delta(&self) -> Result<Option<f64>, TrainError> {
        let norms = self.parts.parameters.norms()?;
        let known = self.parts.base_norms.iter();
        let mut ratios: Vec<f64> = known.map(|(part, base)| norms[*part] / base).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        Ok(ratios.get(ratios.len() / 2).copied())
    }

    /// A training whose changes would still be nothing at its end is not worth its time.
    fn still_learning(&mut self, delta: f64) -> Result<(), TrainError> {
        /// ‖ΔW‖/‖W‖ that nobody sees.
        const FLOOR: f64 = 1e-5;
        /// Steps with the full rate before it is judged.
        const SEEN: usize = 50;
        let taken = self.state.step;
        let whole: f64 = (0..self.steps).map(|step| self.rates.main(step, 1.0)).sum();
        let so_far: f64 = (0..taken).map(|step| self.rates.main(step, 1.0)).sum();
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

    /// What is due after a step; whether the training is to end.
    fn after(&mut self) -> Result<bool, TrainError> {
        let settings = self.parts.settings;
        let mut ends = false;
        if self.due(settings.validation.every) && self.parts.task.held_out() > 0 {
            ends = self.validate()?;
        }
        if self.due(settings.samples.every) {
            self.sample()?;
        }
        if self.due(settings.output.save_every) {
            self.save()?;
        } else if self.state.step.is_multiple_of(VERIFY) {
            self.verify()?;
        }
        Ok(ends)
    }

    fn due(&self, every: Every) -> bool {
        let steps = match every {
            Every::Never => return false,
            Every::Steps(steps) => steps,
            Every::Epochs(epochs) => epochs * self.order.steps(),
        };
        self.state.step > 0 && self.state.step.is_multiple_of(steps.max(1))
    }

    fn sample(&mut self) -> Result<(), TrainError> {
        for event in (self.parts.sample)(self.state.step)? {
            self.say(event)?;
        }
        Ok(())
    }

    /// Measures the held-out loss; whether it has not fallen for too long.
    fn validate(&mut self) -> Result<bool, TrainError> {
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
        let patience = settings.patience;
        self.say(Event::HeldOut { step: self.state.step, loss, best: better })?;
        if better {
            self.state.best = Some((loss, self.state.step));
            self.save()?;
        }
        Ok(patience.is_some_and(|patience| self.state.without_improvement >= patience))
    }

    /// Makes a checkpoint of a state that is finite.
    fn save(&mut self) -> Result<(), TrainError> {
        if let Some(name) = self.parts.parameters.not_finite()? {
            return self.guard("non-finite", format!("no checkpoint: {name} is not finite"), Vec::new());
        }
        self.verify()?;
        let state = self.state.clone();
        let contents = (self.parts.parameters, &self.optimizer, &state);
        let write = |folder: &Path| (self.parts.export)(folder, &state);
        let path = self.checkpoints.save(contents, &self.parts.made_of, write)?;
        self.say(Event::Checkpoint { step: self.state.step, path })
    }

    fn end(&mut self, ending: Ending) -> Result<(), TrainError> {
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
        self.say(Event::End { step: self.state.step, reason })
    }

    /// Where the checkpoint of a step has the adapter of that name.
    pub fn adapter_of(settings: &Settings, step: usize, name: &str) -> PathBuf {
        Checkpoints::new(&settings.output.dir, 1).adapter(step, name)
    }
}
