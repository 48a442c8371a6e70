//! What a training tells those who watch it.

use std::path::PathBuf;

use serde::Serialize;

use super::trainer::Ending;

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first step is about to be taken.
    Start(Start),
    /// A step was taken.
    Step(Step),
    /// The held-out loss was measured.
    HeldOut {
        /// Steps taken.
        step: usize,
        /// It.
        loss: f64,
        /// Whether it is the lowest so far.
        best: bool,
    },
    /// A guard did something.
    Guard {
        /// Steps taken.
        step: usize,
        /// `non-finite`, `explosion`, `memory`, `nothing-learnt`, `proof`.
        kind: &'static str,
        /// What was seen and what was done.
        action: String,
        /// Where the examples that caused it come from.
        samples: Vec<String>,
    },
    /// A checkpoint was made.
    Checkpoint {
        /// Steps taken.
        step: usize,
        /// Its folder.
        path: PathBuf,
    },
    /// A sample was generated.
    Sample {
        /// Steps taken.
        step: usize,
        /// Its prompt's name.
        name: String,
        /// The text; empty for a picture.
        text: String,
        /// The picture; `None` for a text.
        path: Option<PathBuf>,
    },
    /// The training is over.
    End {
        /// Steps taken.
        step: usize,
        /// How.
        ending: Ending,
        /// Why.
        reason: String,
    },
}

/// What is known before the first step.
#[derive(Debug, Clone, Serialize)]
pub struct Start {
    /// Steps taken before: 0, or those of the checkpoint.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Steps in an epoch.
    pub steps_per_epoch: usize,
    /// `text` or `image`.
    pub task: &'static str,
    /// Examples.
    pub examples: usize,
    /// Of which without caption.
    pub empty_captions: usize,
    /// Held-out examples.
    pub held_out: usize,
    /// Modules that are trained.
    pub modules: usize,
    /// Numbers that are trained.
    pub trained: usize,
    /// Rank.
    pub rank: usize,
    /// Alpha.
    pub alpha: f64,
    /// alpha/rank or alpha/√rank.
    pub scale: f64,
    /// Micro-batches, as they are after the memory was tried.
    pub batch_size: usize,
    /// How many make a step.
    pub accumulation: usize,
    /// Whether blocks are computed again.
    pub checkpointing: bool,
}

/// A step.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Steps taken, this one included.
    pub step: usize,
    /// Epochs, in part.
    pub epoch: f64,
    /// The step's loss.
    pub loss: f64,
    /// Its exponential mean.
    pub smoothed: f64,
    /// The gradients' norm before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub lr: f64,
    /// That of text encoders, where they are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_text_encoder: Option<f64>,
    /// Smoothed losses of the four quarters of the timesteps, little noise first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quartiles: Option<[Option<f64>; 4]>,
    /// ‖ΔW‖/‖W‖, the median over modules, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// What was learnt: tokens or pictures.
    pub weight: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// The most memory taken in it, in bytes, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// Someone who watches.
pub trait Watch {
    /// Called after each event. An error ends the training.
    fn event(&mut self, event: &Event) -> std::io::Result<()>;
}
