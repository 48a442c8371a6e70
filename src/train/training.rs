//! A training from its configuration to its end.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device};
use serde_json::{Map, Value, json};

use super::checkpoint::Checkpoints;
use super::image::ImageTask;
use super::metadata::metadata;
use super::parameters::{Parameters, base_norm};
use super::prepare::{check, copy, image_task, reachable, without_f16};
use super::select::select;
use super::state::State;
use super::text::TextTask;
use super::trainer::{Ending, Parts, Trainer};
use super::watch::{Event, Start, Watch};
use super::{TrainError, data, samples::Samples, task::Task};
use crate::adapter::{Format, PeftConfig, convert};
use crate::base::digest::sha256;
use crate::config::{self, FileFormat, Precision, Settings};
use crate::model::Base;
use crate::model::decoder::Decoder;
use crate::tensors::Float;
use crate::text::TextTokenizer;

/// A training that is ready to begin.
#[derive(Debug)]
pub struct Training {
    /// Its settings.
    pub settings: Settings,
    /// What it starts from.
    pub base: Base,
    /// What is trained.
    pub parameters: Parameters,
    /// What a user should know.
    pub notes: Vec<String>,
    model: Model,
    samples: Samples,
    /// Of the data.
    hash: String,
    empty_captions: usize,
    tags: Value,
}

#[derive(Debug)]
enum Model {
    Text(Box<TextTask>, Box<TextTokenizer>),
    Image(Box<ImageTask>),
}

/// How a training ended, and what it left.
#[derive(Debug)]
pub struct Outcome {
    /// How.
    pub ending: Ending,
    /// Where it stands.
    pub state: State,
    /// The adapter as it was after the last step.
    pub adapter: PathBuf,
    /// The adapter with the lowest held-out loss, where that is another.
    pub best: Option<PathBuf>,
}

impl Training {
    /// Reads the data, chooses modules and loads the model. `said` hears what takes time.
    pub fn open(
        base: Base,
        settings: &Settings,
        device: &Device,
        said: &mut dyn FnMut(&str),
    ) -> Result<Self, TrainError> {
        let mut notes = Vec::new();
        if !base.draws() && settings.output.format != FileFormat::Peft {
            return Err(TrainError::Setting {
                key: "output.format",
                problem: format!(
                    "`{}` has no names for the modules of a language model",
                    settings.output.format.name()
                ),
                hint:
                    "write `output.format: peft`; leave `task` out where the base says what it is"
                        .to_owned(),
            });
        }
        let chosen = select(&base, &settings.adapter)?;
        let chosen = reachable(&base, chosen, settings.base.clip_skip, &mut notes);
        check(settings, &chosen)?;
        let parts = (&base, settings.run.seed, device);
        let parameters =
            Parameters::new(chosen, &settings.adapter, parts, settings.base.precision)?;
        let dtype = settings.base.precision.map(|precision| match precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        });
        let dtype = without_f16(&base, dtype, device, &mut notes);
        let samples = Samples::open(settings, base.draws())?;
        let (hash, empty, tags);
        let model = if base.draws() {
            let (set, pictures) = data::pictures(settings)?;
            notes.extend(set.notes);
            hash = data::hash_of_pictures(&pictures, &settings.data.image);
            empty = data::empty_captions(&pictures.0);
            tags = data::tag_frequency(&pictures.0);
            let task = image_task((&base, &parameters), settings, pictures, (dtype, device))?;
            task.prepare(&mut |done, all| said(&format!("pictures encoded: {done} of {all}")))?;
            Model::Image(Box::new(task))
        } else {
            let tokenizer = match &base.gguf {
                Some(model) => TextTokenizer::from_gguf(&model.file)?,
                None => TextTokenizer::from_folder(&base.path)?,
            };
            let (examples, more) = data::texts(settings, &tokenizer)?;
            notes.extend(more);
            (hash, empty, tags) = (data::hash_of_texts(&examples.0), 0, Value::Null);
            let decoder = Decoder::load(&base, dtype, device)?;
            let task = TextTask::new(decoder, &parameters, examples, settings, &base)?;
            Model::Text(Box::new(task), Box::new(tokenizer))
        };
        let settings = settings.clone();
        Ok(Self {
            settings,
            base,
            parameters,
            notes,
            model,
            samples,
            hash,
            empty_captions: empty,
            tags,
        })
    }

    /// The model and its examples.
    pub fn task(&self) -> &dyn Task {
        match &self.model {
            Model::Text(task, _) => task.as_ref(),
            Model::Image(task) => task.as_ref(),
        }
    }

    /// Trains; with `resume` from the newest checkpoint on. `stop` ends it after a step.
    pub fn run(
        &self,
        resume: bool,
        watch: &mut dyn Watch,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        let export = |folder: &Path, state: &State| self.write(folder, state);
        let sample = |step| self.sample(step);
        let mut trainer = Trainer::new(
            Parts {
                settings: &self.settings,
                task: self.task(),
                parameters: &self.parameters,
                base_norms: self.base_norms(),
                export: &export,
                sample: &sample,
                made_of: self.made_of(),
                stop,
            },
            watch,
        )?;
        if resume && let Some(saved) = trainer.saved()? {
            trainer.resume(&saved)?;
        }
        let (ending, state) = trainer.run(&self.start())?;
        self.write(&self.settings.output.dir, &state)?;
        let named = self.settings.output.dir.join(self.file_name("-best"));
        let best = state.best.filter(|(_, step)| *step != state.step).map(|(_, step)| {
            let kept = Trainer::adapter_of(&self.settings, step, &self.file_name(""));
            copy(&kept, &named).map(|()| named.clone())
        });
        if best.is_none() {
            // that of an earlier end is the best no more
            let _ = std::fs::remove_file(&named).or_else(|_| std::fs::remove_dir_all(&named));
        }
        Ok(Outcome {
            ending,
            state,
            adapter: self.settings.output.dir.join(self.file_name("")),
            best: best.transpose()?,
        })
    }

    /// The step from which [`Training::run`] will go on.
    pub fn saved_step(&self, resume: bool) -> Result<usize, TrainError> {
        let folder = &self.settings.output.dir;
        match Checkpoints::new(folder, 1).newest()? {
            Some(saved) if resume => {
                saved.check(&self.made_of())?;
                Ok(saved.state.step)
            }
            Some(saved) => Err(TrainError::Resume {
                path: saved.path,
                problem: "a training has been here".to_owned(),
                hint: "go on with it by `--resume`, or name another folder with `--out`".to_owned(),
            }),
            None if resume => Err(TrainError::Resume {
                path: folder.clone(),
                problem: "no checkpoint to go on from".to_owned(),
                hint: "leave `--resume` out to begin".to_owned(),
            }),
            None => Ok(0),
        }
    }

    /// What is known before the first step.
    fn start(&self) -> Start {
        let (settings, task) = (&self.settings, self.task());
        Start {
            step: 0,
            steps: 0,
            steps_per_epoch: 0,
            task: if matches!(self.model, Model::Image(_)) { "image" } else { "text" },
            examples: task.repeats().len(),
            empty_captions: self.empty_captions,
            held_out: task.held_out(),
            modules: self.parameters.parts.len(),
            trained: self.parameters.count(),
            rank: settings.adapter.rank,
            alpha: settings.adapter.alpha,
            scale: self.parameters.parts.first().map_or(0.0, |part| part.scale),
            batch_size: settings.run.batch_size,
            accumulation: settings.run.accumulation,
            checkpointing: settings.run.checkpointing,
        }
    }

    /// ‖W‖ of some modules, evenly spread.
    fn base_norms(&self) -> Vec<(usize, f64)> {
        const SOME: usize = 24;
        let parts = &self.parameters.parts;
        let every = parts.len().div_ceil(SOME).max(1);
        let some = (0..parts.len()).step_by(every);
        some.filter_map(|part| Some((part, base_norm(&self.base, &parts[part].chosen)?))).collect()
    }

    /// What must be the same for a training to go on.
    fn made_of(&self) -> Map<String, Value> {
        let Settings { base, adapter, run, optimizer, data, diffusion, .. } = &self.settings;
        let mut made_of = Map::new();
        let mut put = |key: &str, value: Value| made_of.insert(key.to_owned(), value);
        put("base", json!(format!("{}, {} bytes", self.base.describe(), self.base.size())));
        put("run.seed", json!(run.seed));
        put("adapter.rank", json!(adapter.rank));
        put("adapter.alpha", json!(adapter.alpha));
        put("adapter", json!(adapter));
        put("run.batch_size × run.accumulation", json!(run.batch_size * run.accumulation));
        put("optimizer.kind", json!(optimizer.kind));
        put("data.repeats", json!(data.repeats));
        put("data", json!(self.hash));
        put("diffusion", json!(diffusion));
        put("data.text", json!(data.text));
        put(
            "base settings",
            json!([
                base.clip_skip.to_string(),
                format!("{:?} {:?}", base.v_prediction, base.precision)
            ]),
        );
        made_of
    }

    fn file_name(&self, rest: &str) -> String {
        file_name(&self.settings, rest)
    }

    /// Writes the adapter as it stands into a folder.
    fn write(&self, folder: &Path, state: &State) -> Result<(), TrainError> {
        let output = &self.settings.output;
        let format = match output.format {
            FileFormat::Kohya => Format::Kohya,
            FileFormat::Diffusers => Format::Diffusers,
            FileFormat::Peft => Format::Peft,
        };
        let float = match output.precision {
            Precision::F32 => Float::F32,
            Precision::F16 => Float::F16,
            Precision::Bf16 => Float::BF16,
        };
        let images = matches!(self.model, Model::Image(_));
        let metadata = if images {
            metadata(&self.settings, state, (self.task().repeats().len(), &self.tags))
        } else {
            std::collections::BTreeMap::new()
        };
        let config = self.peft_config(folder)?;
        let adapter =
            self.parameters.adapter((&output.name, format, float), metadata, Some(config))?;
        Ok(convert::write(&adapter, format, &folder.join(self.file_name("")))?)
    }

    /// The parts of `adapter_config.json` that the tensors do not say.
    fn peft_config(&self, folder: &Path) -> Result<PeftConfig, TrainError> {
        let mut fields = Map::new();
        let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
        put("base_model_name_or_path", json!(self.settings.base.model));
        put("lora_dropout", json!(self.settings.adapter.dropout));
        if matches!(self.model, Model::Text(..)) {
            put("task_type", json!("CAUSAL_LM"));
        }
        Ok(PeftConfig::from_fields(&fields, folder)?)
    }

    fn sample(&self, step: usize) -> Result<Vec<Event>, TrainError> {
        let folder = self.settings.output.dir.join("samples");
        match &self.model {
            Model::Text(task, tokenizer) => self.samples.texts(step, &task.decoder, tokenizer),
            Model::Image(task) => self.samples.pictures(step, &task.model, &folder),
        }
    }
}

/// The name of the adapter's file or folder, `rest` behind its stem.
pub(super) fn file_name(settings: &Settings, rest: &str) -> String {
    let name = &settings.output.name;
    match settings.output.format {
        FileFormat::Peft => format!("{name}{rest}"),
        FileFormat::Kohya | FileFormat::Diffusers => format!("{name}{rest}.safetensors"),
    }
}

/// What kind of training a base is for.
pub fn task_of(base: &Base) -> config::Task {
    if base.draws() { config::Task::Image } else { config::Task::Text }
}

/// A short hash of several.
pub(super) fn hash_all<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    sha256(parts.collect::<Vec<_>>().join("\n").as_bytes())
}
