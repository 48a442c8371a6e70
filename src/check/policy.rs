//! What a run is judged by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::CheckError;
use super::policy_read;
use crate::run::RunKind;
use crate::run::verdict::{Against, RuleKind, Severity};
use crate::stats::{Change, Claim};

/// The policy that is used where none is given: `examples/policy.yaml`, word for word.
pub const BUILT_IN: &str = include_str!("../../examples/policy.yaml");

/// Rules, and how sure one must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The file, or `built-in`.
    pub path: PathBuf,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Confidence of each one-sided bound.
    pub confidence: f64,
    /// The power that numbers of further prompts are for.
    pub power: f64,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// The policy of this program.
    pub fn built_in() -> Result<Self, CheckError> {
        policy_read::parse(Path::new("built-in"), BUILT_IN)
    }

    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, CheckError> {
        let text = std::fs::read_to_string(path).map_err(|e| CheckError::read(path, e))?;
        policy_read::parse(path, &text)
    }

    /// Reads a text; `path` names it in messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, CheckError> {
        policy_read::parse(path, text)
    }

    /// 1 − confidence.
    pub fn alpha(&self) -> f64 {
        1.0 - self.confidence
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// The line that it starts in.
    pub line: u32,
    /// What it is about.
    pub kind: RuleKind,
    /// What it means where it is broken.
    pub severity: Severity,
    /// The kind of runs that it is for; `None`: any.
    pub runs: Option<RunKind>,
    /// The group of prompts; `None`: all.
    pub group: Option<String>,
    /// Values on further axes that it is restricted to.
    pub axes: BTreeMap<String, Value>,
    /// Strengths that it is for, both ends included; `None`: all.
    pub strengths: Option<(f64, f64)>,
    /// The metric; empty of rules that have none.
    pub metric: String,
    /// What is compared with.
    pub against: Against,
    /// How it is compared.
    pub change: Change,
    /// What must hold; of a memorisation the most copies.
    pub bound: Bound,
    /// Fewest pairs that it is decided from.
    pub min_pairs: usize,
    /// Fewest prompts that it is decided from.
    pub min_prompts: usize,
    /// Whether a run without the metric is an error or leaves the rule out.
    pub if_missing: IfMissing,
    /// Of the rules with this in common, the first that can be judged is judged.
    pub one_of: Option<String>,
    /// Of a memorisation: bits in which the hashes of copies differ at most.
    pub bits: u32,
}

/// What must hold of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Nothing that could be compared: rules of the kind `effect`.
    None,
    /// It must be above.
    AtLeast(f64),
    /// It must be below.
    AtMost(f64),
}

impl Bound {
    /// As a claim about an effect.
    pub(super) fn claim(self) -> Option<Claim> {
        match self {
            Self::None => None,
            Self::AtLeast(margin) => Some(Claim::Above(margin)),
            Self::AtMost(margin) => Some(Claim::Below(margin)),
        }
    }

    /// Whether a value keeps it.
    pub(super) fn holds(self, value: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtLeast(margin) => value > margin,
            Self::AtMost(margin) => value < margin,
        }
    }

    /// The least value.
    pub(super) fn at_least(self) -> Option<f64> {
        if let Self::AtLeast(margin) = self { Some(margin) } else { None }
    }

    /// The largest value.
    pub(super) fn at_most(self) -> Option<f64> {
        if let Self::AtMost(margin) = self { Some(margin) } else { None }
    }
}

/// What becomes of a rule that the run has nothing for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// The check fails.
    Error,
    /// The rule is told as not applicable.
    Skip,
}
