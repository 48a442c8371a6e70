//! `lora-eval train`

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use lora_eval::base::atomic;
use lora_eval::config::{self, Resolved, Task};
use lora_eval::model::Base;
use lora_eval::train::{
    Board, Ending, Event, Log, Outcome, TrainError, Training, Watch, shrink, task_of,
};
use serde_json::json;

use super::global::Global;
use super::{RESUMABLE, output, progress, train_lint};

/// Set by the first Ctrl-C: the training ends after its step and saves.
pub static STOP: AtomicBool = AtomicBool::new(false);
/// Whether there is a training that will look at [`STOP`].
pub static TRAINING: AtomicBool = AtomicBool::new(false);

/// Train a LoRA adapter
///
/// Of Stable Diffusion from pictures with captions, or of a language model from texts. The
/// configuration is YAML (this program's keys, or those of articles, PEFT, LLaMA-Factory or axolotl) or
/// sd-scripts' TOML; `base`, `data.train` and `output.dir` are enough to begin with.
///
/// The folder `output.dir` then holds the adapter, as `NAME-best` the one with the lowest held-out loss
/// where that is another, checkpoints, `config.yaml` with every value, `train.jsonl` and TensorBoard's
/// files. The first Ctrl-C saves after the step and ends with exit code 130, a second one stops at once.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(after_help = "A configuration:\n  \
    base: sd15.safetensors\n  \
    data: {train: pictures/}     # with captions: a .txt file beside each, or metadata.csv\n  \
    output: {dir: runs/ink}\n\
    Every key: docs/configuration.md. Commented ones: examples/. A start made for you: `lora-eval advise`.\n\
    Examples:\n  \
    lora-eval train ink.yaml --lint\n  \
    lora-eval train ink.yaml --set optimizer.learning_rate=5e-5 --set adapter.rank=16 --out runs/ink-2\n  \
    lora-eval train ink.yaml --resume --set run.epochs=20")]
pub struct Args {
    /// The configuration: YAML or JSON, or TOML where the name ends in .toml
    pub config: PathBuf,
    /// A value in place of the configuration's, under any of the key's names; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The training's folder, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on from the newest checkpoint
    #[arg(long)]
    pub resume: bool,
    /// Say what is wrong with the examples, and train nothing; exit code 1 if any of it is an error
    #[arg(long, conflicts_with_all = ["resume", "explain"])]
    pub lint: bool,
    /// Mend in place what needs no judgement; originals and what is taken out go to `NAME-removed`
    #[arg(long, requires = "lint")]
    pub fix: bool,
    /// Print every value and where it comes from, and train nothing
    #[arg(long)]
    pub explain: bool,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let mut overrides = args.set.clone();
    if let Some(out) = &args.out {
        overrides.push(format!("output.dir={}", serde_json::to_string(out)?));
    }
    overrides.extend(of_flags(global));
    let mut resolved = resolve(&args.config, &overrides)?;
    for note in &resolved.notes {
        output::note(note);
    }
    if args.explain {
        return explain(global, &resolved);
    }
    if args.lint {
        return train_lint::run(global, &resolved, args.fix);
    }
    let images = resolved.task == Task::Image;
    loop {
        let settings = &resolved.settings;
        match train(global, args.resume, &resolved) {
            Err(error) if settings.run.may_shrink && !args.resume && does_not_fit(&error) => {
                let Some((smaller, said)) = shrink(settings, images) else { return Err(error) };
                output::note(&format!("{error}; going on with {said}, as `run.may_shrink` allows"));
                overrides.extend(smaller);
                resolved = resolve(&args.config, &overrides)?;
            }
            outcome => return finish(global, &resolved.settings.output.dir, &outcome?),
        }
    }
}

/// Overrides that the global flags stand for.
pub fn of_flags(global: &Global) -> Option<String> {
    global.weights().map(|dtype| format!("base.precision={}", dtype.as_str()))
}

/// The configuration with overrides, every value decided.
pub fn resolve(config: &Path, overrides: &[String]) -> anyhow::Result<Resolved> {
    let unopened = std::cell::RefCell::new(None);
    let task = |base: &str| match open_base(base, None) {
        Ok(base) => Some(task_of(&base)),
        Err(error) => {
            *unopened.borrow_mut() = Some(error);
            None
        }
    };
    let resolved = config::load(config, overrides, &task);
    // a base that cannot be opened is why its task is not known
    if let (Err(_), Some(error)) = (&resolved, unopened.take()) {
        return Err(error);
    }
    Ok(resolved?)
}

fn does_not_fit(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(TrainError::DoesNotFit { .. }))
}

/// Trains, to the end or until it is asked to stop; with `resume` from the newest checkpoint on.
pub fn train(global: &Global, resume: bool, resolved: &Resolved) -> anyhow::Result<Outcome> {
    let settings = &resolved.settings;
    let base = open_base(&settings.base.model, settings.base.vae.as_deref())?;
    let device = global.device()?;
    let training = Training::open(base, settings, &device, &mut |text| tracing::info!("{text}"))?;
    for note in &training.notes {
        output::note(note);
    }
    let before = training.saved_step(resume)?;
    let mut watch = Watchers::new(global, resolved, before)?;
    TRAINING.store(true, Ordering::Relaxed);
    RESUMABLE.store(true, Ordering::Relaxed);
    let outcome = training.run(resume, &mut watch, &STOP);
    TRAINING.store(false, Ordering::Relaxed);
    watch.bar.finish_and_clear();
    let outcome = outcome?;
    if before > 0 && outcome.state.step == before {
        output::note(&format!(
            "nothing is left to do after step {before}; `--set run.epochs=` a larger number goes on"
        ));
    }
    Ok(outcome)
}

fn explain(global: &Global, resolved: &Resolved) -> anyhow::Result<()> {
    if global.json {
        let entries = resolved.entries.iter().map(|entry| {
            json!({"key": entry.key, "value": entry.value, "origin": entry.origin.to_string()})
        });
        let entries: Vec<_> = entries.collect();
        return output::json(&json!({"settings": entries, "notes": resolved.notes}));
    }
    output::print(&resolved.explain())
}

fn open_base(name: &str, vae: Option<&Path>) -> anyhow::Result<Base> {
    let path = lora_eval::hub::resolve(name)?;
    let base = Base::open_to_run(&path)?;
    Ok(match vae {
        Some(vae) => base.with_autoencoder(vae)?,
        None => base,
    })
}

fn finish(global: &Global, folder: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    if outcome.ending == Ending::Stopped {
        output::note(&format!("stopped after step {}; `--resume` goes on", outcome.state.step));
        std::process::exit(130);
    }
    let best = outcome.state.best;
    if global.json {
        return output::json(&json!({
            "out": outcome.adapter,
            "best": outcome.best,
            "folder": folder,
            "steps": outcome.state.step,
            "stopped_early": outcome.ending == Ending::EarlyStop,
            "held_out": best.map(|(loss, _)| loss),
            "held_out_step": best.map(|(_, step)| step),
        }));
    }
    let paths = std::iter::once(&outcome.adapter).chain(&outcome.best);
    let lines: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    output::text(&lines.join("\n"))
}

/// What a training writes down.
struct Files {
    log: Log,
    board: Option<Board>,
}

/// All who watch a training.
struct Watchers {
    bar: ProgressBar,
    /// Opened by the first event: a training that is refused leaves the folder as it was.
    files: Option<Files>,
    folder: PathBuf,
    config: String,
    tensorboard: bool,
    step: usize,
    quiet: bool,
}

impl Watchers {
    fn new(global: &Global, resolved: &Resolved, step: usize) -> anyhow::Result<Self> {
        let folder = &resolved.settings.output.dir;
        std::fs::create_dir_all(folder).map_err(|e| {
            anyhow::anyhow!(
                "{}: {}\nhint: choose another folder with `--out`",
                folder.display(),
                if folder.exists() { "not a folder".to_owned() } else { e.to_string() }
            )
        })?;
        Ok(Self {
            bar: progress::training(global),
            files: None,
            folder: folder.clone(),
            config: resolved.to_yaml(),
            tensorboard: resolved.settings.output.tensorboard,
            step,
            quiet: global.quiet,
        })
    }

    /// Writes an event to the files, which are opened by the first.
    fn write(&mut self, event: &Event) -> io::Result<()> {
        if self.files.is_none() {
            let log = Log::open(&self.folder, self.step)?;
            atomic::write(&self.folder.join("config.yaml"), self.config.as_bytes())?;
            let board = self.tensorboard.then(|| Board::open(&self.folder, self.step));
            self.files = Some(Files { log, board: board.transpose().map_err(io::Error::other)? });
        }
        let Some(files) = &mut self.files else { return Ok(()) };
        files.log.event(event)?;
        files.board.as_mut().map_or(Ok(()), |board| board.event(event))
    }
}

impl Watch for Watchers {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.write(event)?;
        match event {
            Event::Start(start) => {
                self.bar.set_length(start.steps as u64);
                self.bar.set_position(start.step as u64);
                if !self.quiet {
                    self.bar.suspend(|| {
                        output::note(&format!(
                            "{} examples, {} steps; {} modules, {} numbers are trained; rank {}, alpha {}: scale {}",
                            start.examples, start.steps, start.modules, start.trained, start.rank,
                            start.alpha, start.scale
                        ));
                    });
                }
            }
            Event::Step(step) => {
                self.bar.set_position(step.step as u64);
                let memory =
                    step.memory.map_or(String::new(), |bytes| format!(", {} MB", bytes >> 20));
                self.bar.set_message(format!("loss {:.4}{memory}", step.smoothed));
            }
            Event::Guard { step, kind, action, samples } => {
                let samples = if samples.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", lora_eval::base::hint::first_few(samples))
                };
                self.bar
                    .suspend(|| output::note(&format!("step {step}: {kind}: {action}{samples}")));
            }
            Event::HeldOut { step, loss, best } => {
                let best = if *best { ", the best so far" } else { "" };
                tracing::info!("step {step}: held-out loss {loss:.5}{best}");
            }
            Event::Checkpoint { .. } | Event::Sample { .. } | Event::End { .. } => {}
        }
        Ok(())
    }
}
