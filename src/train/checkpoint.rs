//! Checkpoints: a folder for each, made whole by a rename.
//!
//! `checkpoints/step-00000100/` holds the adapter as others read it, and what a training goes on
//! from: `state.safetensors` (variables and optimizer in f32) and `state.json` (step, guard, means,
//! and what the training was made of).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::TrainError;
use super::optimizer::Optimizer;
use super::parameters::Parameters;
use super::state::State;
use crate::base::atomic::{AtomicFolder, sync_folder};
use crate::base::terminal::printable;

const TENSORS: &str = "state.safetensors";
const JSON: &str = "state.json";
const FORMAT: u32 = 1;

/// The checkpoints of a training.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// `state.json`
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// What must be the same for a training to go on.
    made_of: Map<String, Value>,
    state: State,
}

/// A checkpoint as read.
#[derive(Debug)]
pub struct Saved {
    /// Its folder.
    pub path: PathBuf,
    /// Where the training stood.
    pub state: State,
    made_of: Map<String, Value>,
    tensors: HashMap<String, Tensor>,
}

impl Checkpoints {
    /// Those in a training's folder; so many are kept.
    pub fn new(training: &Path, keep: usize) -> Self {
        Self { folder: training.join("checkpoints"), keep: keep.max(1) }
    }

    /// Removes what a killed training was writing.
    pub fn clear_unfinished(&self) {
        for folder in self.folder.ancestors().take(2) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(".lora-eval-") {
                    let path = entry.path();
                    let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
                }
            }
        }
    }

    fn at(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// Steps of the checkpoints there are, in order.
    fn steps(&self) -> Vec<usize> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let step = |entry: fs::DirEntry| {
            entry.file_name().to_str()?.strip_prefix("step-")?.parse::<usize>().ok()
        };
        let mut steps: Vec<usize> = entries.filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// Whether there is one.
    pub fn any(&self) -> bool {
        !self.steps().is_empty()
    }

    /// Whether there is one of this step.
    pub fn has(&self, step: usize) -> bool {
        self.at(step).is_dir()
    }

    /// Makes one; `write` puts the adapter into its folder. Older ones but `best` are removed.
    pub fn save(
        &self,
        (parameters, optimizer, state): (&Parameters, &Optimizer, &State),
        made_of: &Map<String, Value>,
        write: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let path = self.at(state.step);
        let failed = |source| TrainError::Write { path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let folder = AtomicFolder::create(&path).map_err(failed)?;
        let tensors = tensors(parameters, optimizer)?;
        let bytes = safetensors::serialize(&tensors, None)
            .map_err(|e| failed(std::io::Error::other(e.to_string())))?;
        fs::write(folder.path().join(TENSORS), bytes).map_err(failed)?;
        let record = Record { format: FORMAT, made_of: made_of.clone(), state: state.clone() };
        let text = serde_json::to_vec_pretty(&record).map_err(|e| failed(e.into()))?;
        fs::write(folder.path().join(JSON), text).map_err(failed)?;
        write(folder.path())?;
        sync(folder.path()).map_err(failed)?;
        folder.commit().map_err(failed)?;
        sync_folder(&self.folder).map_err(failed)?;
        self.prune(state.best.map(|(_, step)| step));
        Ok(path)
    }

    /// Removes those of steps that the training has gone back over.
    pub fn forget_after(&self, step: usize) {
        for later in self.steps().into_iter().filter(|later| *later > step) {
            self.remove(later);
        }
    }

    /// Removes all but the newest and the best. One that cannot be removed stays.
    fn prune(&self, best: Option<usize>) {
        let steps = self.steps();
        for step in &steps[..steps.len().saturating_sub(self.keep)] {
            if Some(*step) != best {
                self.remove(*step);
            }
        }
    }

    /// Removes one; out of sight first, so that it is never seen in part.
    fn remove(&self, step: usize) {
        let aside = self.folder.join(format!(".lora-eval-old-{step:08}"));
        if fs::rename(self.at(step), &aside).is_ok() {
            let _ = fs::remove_dir_all(aside);
        }
    }

    /// The adapter file or folder of a checkpoint.
    pub fn adapter(&self, step: usize, name: &str) -> PathBuf {
        self.at(step).join(name)
    }

    /// The newest, if there is one.
    pub fn newest(&self) -> Result<Option<Saved>, TrainError> {
        self.steps().last().map(|step| Saved::open(&self.at(*step))).transpose()
    }
}

fn sync(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            fs::File::open(&path)?.sync_all()?;
        }
    }
    sync_folder(folder)
}

fn tensors(
    parameters: &Parameters,
    optimizer: &Optimizer,
) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let mut all = BTreeMap::new();
    for (part, role, var) in parameters.named() {
        let name = variable(part.chosen.id.component.name(), &part.chosen.id.path, role.name());
        all.insert(name, var.as_detached_tensor().to_device(&Device::Cpu)?.copy()?);
    }
    let state = optimizer.state()?.into_iter();
    all.extend(state.map(|(name, tensor)| (format!("optimizer/{name}"), tensor)));
    Ok(all)
}

fn variable(component: &str, path: &str, role: &str) -> String {
    format!("{component}/{path}.{role}")
}

impl Saved {
    fn open(path: &Path) -> Result<Self, TrainError> {
        let broken = |problem: String| TrainError::Resume {
            path: path.to_owned(),
            problem,
            hint: "remove this folder to go on from the checkpoint before it".to_owned(),
        };
        let text = fs::read_to_string(path.join(JSON)).map_err(|e| broken(e.to_string()))?;
        let record: Record = serde_json::from_str(&text)
            .map_err(|e| broken(format!("{JSON}: {}", printable(&e.to_string()))))?;
        if record.format != FORMAT {
            return Err(broken(format!("{JSON} has format {}, expected {FORMAT}", record.format)));
        }
        let tensors = candle_core::safetensors::load(path.join(TENSORS), &Device::Cpu)
            .map_err(|e| broken(format!("{TENSORS}: {}", printable(&e.to_string()))))?;
        let Record { made_of, state, .. } = record;
        Ok(Self { path: path.to_owned(), state, made_of, tensors })
    }

    fn refused(&self, problem: String, hint: &str) -> TrainError {
        TrainError::Resume { path: self.path.clone(), problem, hint: hint.to_owned() }
    }

    /// An error that names the first thing in which the training was made of something else.
    pub fn check(&self, made_of: &Map<String, Value>) -> Result<(), TrainError> {
        let differs = made_of.iter().find(|(key, value)| self.made_of.get(*key) != Some(value));
        match differs {
            None => Ok(()),
            Some((key, value)) => {
                let before = self.made_of.get(key).unwrap_or(&Value::Null);
                Err(self.refused(
                    format!("`{key}` was {before}, and is {value}"),
                    "go on with the configuration and the data that it was made with, or start anew with another `--out`",
                ))
            }
        }
    }

    /// Puts variables and optimizer back.
    pub fn restore(
        &self,
        parameters: &Parameters,
        optimizer: &mut Optimizer,
    ) -> Result<(), TrainError> {
        for (part, role, var) in parameters.named() {
            let name = variable(part.chosen.id.component.name(), &part.chosen.id.path, role.name());
            match self.tensors.get(&name) {
                Some(saved) if saved.shape() == var.shape() && saved.dtype() == var.dtype() => {
                    var.set(&saved.to_device(var.device())?)?;
                }
                _ => {
                    let problem = format!("{TENSORS} has no `{name}` of shape {:?}", var.shape());
                    return Err(self.refused(problem, "remove this folder; it is not whole"));
                }
            }
        }
        let of_optimizer = self.tensors.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix("optimizer/")?.to_owned(), tensor.clone()))
        });
        optimizer.load_state(&of_optimizer.collect()).map_err(|e| {
            let text = e.to_string(); // with a hint of its own, about configurations
            let problem = text.lines().next().unwrap_or_default();
            self.refused(format!("{TENSORS}: {problem}"), "remove this folder; it is not whole")
        })
    }
}
