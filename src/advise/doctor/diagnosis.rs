use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::edit;
use super::error::DoctorError;
use super::history::Origin;
use crate::base::terminal::printable;

/// What is wrong with a training, most severe first. The order of the variants is that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// NaN or infinities in an adapter's weights.
    PoisonedCheckpoint,
    /// The loss is not finite, or stays above twice where it began.
    Diverged,
    /// The learning rate is 0 where there are still steps.
    RateZero,
    /// No example has a caption of its own.
    CaptionsNotRead,
    /// Modules that never changed.
    DeadModules,
    /// alpha/rank, or the change itself, is too small to show.
    ScaleTooSmall,
    /// The loss swings up and down by more than its noise.
    Oscillation,
    /// The held-out loss rises while the training loss does not.
    Overfitting,
    /// What is generated is what the base generates, at every strength.
    NoEffect,
    /// Wherever the adapter works, or may work, the base does its own work no more.
    BaseDamaged,
    /// Wherever the adapter works, it also shows where it is not asked for.
    Leaks,
    /// It works, but strength 1 is too much.
    TooStrong,
    /// It works only above strength 1.
    TooWeak,
    /// It changes something, but not what the held-out prompts ask for.
    NoGain,
    /// Whether it works is open, and the held-out loss was still falling when it ended.
    TooShort,
    /// The loss still falls in a line at the end, or never fell.
    RateTooLow,
    /// The loss stopped falling long before the end.
    Plateau,
}

impl Rule {
    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::PoisonedCheckpoint => "weights are not finite",
            Self::Diverged => "the training diverged",
            Self::RateZero => "the learning rate is 0",
            Self::CaptionsNotRead => "captions were not read",
            Self::DeadModules => "some modules learnt nothing",
            Self::ScaleTooSmall => "the adapter's scale is too small",
            Self::Oscillation => "the loss oscillates",
            Self::Overfitting => "overfitting",
            Self::NoEffect => "the adapter changes nothing",
            Self::BaseDamaged => "the base is damaged where the adapter works",
            Self::Leaks => "the adapter shows where it is not asked for",
            Self::TooStrong => "strength 1 is too strong",
            Self::TooWeak => "the adapter works only above strength 1",
            Self::NoGain => "the adapter does not do its job on unseen prompts",
            Self::TooShort => "the training ended while it was still learning",
            Self::RateTooLow => "the learning rate is too low",
            Self::Plateau => "the loss no longer falls",
        }
    }
}

/// A change of one key of a configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Patch {
    /// The key, as the program that trained calls it (`adapter.alpha`, `network_alpha`, `lora_alpha`).
    pub key: String,
    /// Its value, where that is known.
    pub from: Option<Value>,
    /// The next value.
    pub to: Value,
    /// Why.
    pub why: String,
}

/// Something that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What.
    pub rule: Rule,
    /// Steps and numbers that show it.
    pub evidence: Vec<String>,
    /// What it usually is.
    pub meaning: String,
    /// What to change, where one key can help.
    pub patch: Option<Patch>,
}

/// What a training's files say.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// The program that trained.
    pub origin: Origin,
    /// Files that were read.
    pub read: Vec<PathBuf>,
    /// What is wrong, most severe first; empty where nothing is.
    pub findings: Vec<Finding>,
    /// What could not be judged, and what else is worth knowing.
    pub notes: Vec<String>,
}

impl Diagnosis {
    /// The one change to make before the next training: that of the most severe finding that has one.
    pub fn patch(&self) -> Option<&Patch> {
        self.findings.iter().find_map(|finding| finding.patch.as_ref())
    }

    /// A configuration (YAML) with that one key changed and every other byte as it was; the same text
    /// where there is nothing to change.
    pub fn next_config(&self, yaml: &str) -> Result<String, DoctorError> {
        match self.patch() {
            Some(patch) => edit::set(yaml, &patch.key, &patch.to)
                .map_err(|problem| DoctorError::Edit { key: patch.key.clone(), problem }),
            None => Ok(yaml.to_owned()),
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{}", finding.rule.title())?;
            for line in &finding.evidence {
                writeln!(f, "  {}", printable(line))?;
            }
            writeln!(f, "  usually: {}", finding.meaning)?;
        }
        if self.findings.is_empty() {
            writeln!(f, "nothing wrong was found")?;
        }
        if let Some(patch) = self.patch() {
            write!(f, "next: {} ", patch.key)?;
            if let Some(from) = &patch.from {
                write!(f, "{} → ", printable(&shown(from)))?;
            }
            writeln!(f, "{}, and nothing else: {}", shown(&patch.to), patch.why)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {}", printable(note)))
    }
}

/// A value as a configuration would have it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
