//! What a training left behind, whichever program it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::curve::Curve;
use crate::run::Verdict;

/// The program that trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// This one.
    LoraEval,
    /// sd-scripts, and what is built on it (kohya's GUI, lora-scripts).
    SdScripts,
    /// The `Trainer` of transformers, and what is built on it (TRL, LLaMA-Factory, axolotl).
    Transformers,
    /// Another one.
    #[default]
    Other,
}

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Text,
    Image,
}

/// What the guard of our trainer did.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub step: u64,
    /// `non-finite`, `explosion`, `memory`, `nothing-learnt`, `proof`.
    pub kind: String,
    pub action: String,
    /// Examples that a skipped step is put down to; none where the training went back.
    pub samples: usize,
}

/// How pictures were captioned.
#[derive(Debug, Clone)]
pub(super) enum Captions {
    /// So many examples, all with an empty caption.
    Empty(u64),
    /// So many examples, whose caption is the folder's name.
    FolderName(u64, String),
    /// At least one has a caption of its own.
    Read,
}

/// An adapter file.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub path: PathBuf,
    /// Tensors with NaN or an infinity.
    pub not_finite: Vec<String>,
    /// Modules that change nothing.
    pub dead: Vec<String>,
    /// Whether all of those are a text encoder's.
    pub dead_text_encoder: bool,
    pub modules: usize,
    /// The median module's alpha/rank.
    pub scale: Option<f64>,
}

/// A training.
#[derive(Debug, Default)]
pub(super) struct History {
    pub origin: Origin,
    /// Files that were read.
    pub read: Vec<PathBuf>,
    pub task: Option<Task>,
    pub loss: Curve,
    pub held_out: Curve,
    pub grad_norm: Curve,
    /// The learning rate of the denoiser or language model.
    pub rate: Curve,
    /// The median of ‖ΔW‖/‖W‖.
    pub delta: Curve,
    /// Steps from which it went on after a stop.
    pub restarts: Vec<u64>,
    pub guards: Vec<Guard>,
    /// Why it ended.
    pub ended: Option<String>,
    pub scale: Option<f64>,
    pub captions: Option<Captions>,
    /// The ending of texts that lie beside the pictures, where those can be found.
    pub sidecar: Option<String>,
    /// Checkpoints by age, the finished adapter last.
    pub weights: Vec<Weights>,
    /// What was found in a run of the adapter, and in which file that lies.
    pub verdict: Option<(PathBuf, Verdict)>,
    /// Settings by our canonical keys.
    pub settings: BTreeMap<String, Value>,
    /// Settings that this program calls otherwise than its relatives: canonical key, its key.
    pub renamed: BTreeMap<&'static str, &'static str>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl History {
    /// A setting that is a number, also where it is written as text.
    pub fn number(&self, key: &str) -> Option<f64> {
        as_number(self.settings.get(key)?)
    }

    /// A setting that is a word.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.settings.get(key)?.as_str()
    }

    /// A setting that is on.
    pub fn is_on(&self, key: &str) -> bool {
        self.settings.get(key).and_then(Value::as_bool) == Some(true)
    }

    /// The learning rate that was asked for, or the largest that there was.
    pub fn learning_rate(&self) -> Option<f64> {
        self.number("optimizer.learning_rate").or_else(|| self.rate.peak()).filter(|r| *r > 0.0)
    }

    /// Whether the guard ended the training because nothing was learnt.
    pub fn nothing_learnt(&self) -> Option<&Guard> {
        self.guards.iter().find(|guard| guard.kind == "nothing-learnt")
    }

    /// What the change is multiplied by: as logged, as in the adapter, or as configured.
    pub fn effective_scale(&self) -> Option<f64> {
        let configured = || {
            let rank = self.number("adapter.rank").filter(|rank| *rank > 0.0)?;
            let root = self.is_on("adapter.rslora");
            Some(self.number("adapter.alpha")? / if root { rank.sqrt() } else { rank })
        };
        self.scale.or_else(|| self.weights.last().and_then(|w| w.scale)).or_else(configured)
    }
}

/// A number, also one written as text (`2e-4` in YAML, everything in `ss_*` metadata).
pub(super) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    }
}
