//! `verdict.json`: what `check` found, as data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::directory::{Run, read};
use super::error::RunError;
use super::record::Better;

const NAME: &str = "verdict.json";
const MAX_BYTES: u64 = 64 << 20;
/// What to do about a file that cannot be used.
const AGAIN: &str = "run `lora-eval check` on the run again; it writes the file anew";

/// Version of the layout of `verdict.json`.
pub const VERDICT_FORMAT: u32 = 1;

/// Ship or do not ship, at which strength, how sure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// [`VERDICT_FORMAT`].
    pub format: u32,
    /// Name and version of the program, `lora-eval 0.1.0`.
    pub program: String,
    /// The answer.
    pub verdict: Answer,
    /// The answer in a line: `SHIP at 0.75 (safe 0.5–1)`.
    pub headline: String,
    /// Why, in sentences, the most important first.
    pub reasons: Vec<String>,
    /// The one strength that was asked about (`--strength`).
    pub asked: Option<f64>,
    /// The strength to use: of those that pass, the one with the largest lower bound of the gain.
    pub recommended: Option<f64>,
    /// The neighbouring strengths of the recommended one that break no rule, it included.
    pub safe: Option<Interval>,
    /// Where no strength passes: the one that comes nearest, and what it breaks or leaves open.
    pub nearest: Option<Nearest>,
    /// Every strength that was judged, ascending.
    pub strengths: Vec<AtStrength>,
    /// What the verdict rests on.
    pub evidence: Evidence,
    /// Up to five pairs that lose most at the recommended strength (or the nearest), worst first.
    pub worst: Vec<WorstPair>,
    /// What a reader should know: rules left out and why, what is not judged.
    pub notes: Vec<String>,
    /// How it was decided.
    pub policy: PolicyUsed,
    /// The approval that was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineUsed>,
    /// What was judged.
    pub subject: Subject,
    /// How each metric was computed, by metric.
    pub signatures: BTreeMap<String, String>,
}

/// The answer of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// At least one strength keeps every rule, with evidence.
    Pass,
    /// Every strength breaks a rule, with evidence.
    Regression,
    /// Neither can be said.
    Inconclusive,
}

/// Ends of an interval, both belonging to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The strength that comes nearest to passing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// The strength.
    pub strength: f64,
    /// Ids of the rules that it breaks.
    pub broken: Vec<String>,
    /// Ids of the rules that are open there.
    pub open: Vec<String>,
}

/// One strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AtStrength {
    /// The value on the strength axis.
    pub strength: f64,
    /// Whether it alone may be used.
    pub verdict: Answer,
    /// Whether every guard is kept, those of the adapter's own job and the baseline's too; gains are left
    /// aside.
    pub safe: bool,
    /// p-value against "some rule is broken": the largest of its rules'.
    pub p: Option<f64>,
    /// The same after the corrections over the strengths; it passes where this is at most 1 − confidence.
    pub adjusted_p: Option<f64>,
    /// In which share of the resampled runs it is the best safe strength.
    pub wins: f64,
    /// The gain: that of the first rule of the kind [`RuleKind::Gain`] which could be judged.
    pub gain: Option<Measured>,
    /// The damage: the first guard that could be judged.
    pub damage: Option<Measured>,
    /// Every rule of the policy, in its order.
    pub rules: Vec<RuleResult>,
}

impl AtStrength {
    /// Ids of the rules (of severity `error`) that are broken with evidence.
    pub fn broken(&self) -> Vec<&str> {
        self.with(Outcome::Fail)
    }

    /// Ids of the rules (of severity `error`) that are open.
    pub fn open(&self) -> Vec<&str> {
        self.with(Outcome::Inconclusive)
    }

    fn with(&self, outcome: Outcome) -> Vec<&str> {
        let errors = self.rules.iter().filter(|rule| rule.severity == Severity::Error);
        errors.filter(|rule| rule.outcome == outcome).map(|rule| rule.rule.as_str()).collect()
    }
}

/// A metric's effect at one strength, for a curve of gain against damage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Id of the rule it comes from.
    pub rule: String,
    /// The metric.
    pub metric: String,
    /// What people read.
    pub label: String,
    /// Its unit.
    pub unit: String,
    /// Which way it is better, as the value stands here: a gain is positive where the metric improved.
    pub better: Better,
    /// The effect.
    pub value: f64,
    /// Lower one-sided bound.
    pub low: Option<f64>,
    /// Upper one-sided bound.
    pub high: Option<f64>,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// The adapter changes something.
    Effect,
    /// It does its job on prompts that it has not seen.
    Gain,
    /// What must stay as it was.
    Guard,
    /// Outputs are no copies of training pictures.
    Memorisation,
}

/// What a broken rule means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It decides.
    #[default]
    Error,
    /// It is told.
    Warn,
}

/// What became of a rule at one strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Kept, with evidence.
    Pass,
    /// Broken, with evidence.
    Fail,
    /// Neither can be said.
    Inconclusive,
    /// There is nothing that it could be judged by.
    NotApplicable,
}

/// What the value of a rule is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// The base: the same prompts and seeds at strength 0.
    #[default]
    Base,
    /// The approved run.
    Baseline,
    /// Nothing: the score itself.
    Nothing,
}

/// A rule at one strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleResult {
    /// Its id in the policy.
    pub rule: String,
    /// What it is about.
    pub kind: RuleKind,
    /// What it means where it is broken.
    pub severity: Severity,
    /// What became of it.
    pub outcome: Outcome,
    /// The whole in a sentence, with numbers.
    pub sentence: String,
    /// What to do, where it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The metric, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// The group of prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Values on the further axes that it is restricted to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub axes: BTreeMap<String, Value>,
    /// What is compared with.
    pub against: Against,
    /// Least value that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Largest value that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The value that is judged: a difference, a ratio or a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its lower one-sided confidence bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Its upper one-sided confidence bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// The metric's score at this strength.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The metric's score of the base (or of the baseline) on the same prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_score: Option<f64>,
    /// Pairs (prompt × seed) behind it.
    pub pairs: usize,
    /// Prompts behind it.
    pub prompts: usize,
    /// p-value against "it is broken": small where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_kept: Option<f64>,
    /// p-value against "it is kept": small where it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_broken: Option<f64>,
    /// `p_broken` after Holm's correction over the rules of this strength; it fails where this is at most
    /// 1 − confidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjusted_p_broken: Option<f64>,
    /// Further prompts that would probably settle it, where it is open and they would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub further_prompts: Option<usize>,
}

impl RuleResult {
    /// Whether it guards what the adapter has no business with: neither prompts of the group `heldout`,
    /// which are its own job, nor what an approved run did.
    pub fn guards_the_base(&self) -> bool {
        self.kind == RuleKind::Guard
            && self.group.as_deref() != Some("heldout")
            && self.against != Against::Baseline
    }
}

/// What a verdict rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Cells read.
    pub cells: usize,
    /// Pairs (prompt × seed × further axes) at each strength, by group.
    pub pairs: BTreeMap<String, usize>,
    /// Prompts by group.
    pub prompts: BTreeMap<String, usize>,
    /// Where the verdict is inconclusive: further prompts that would probably settle it, by group.
    pub further_prompts: BTreeMap<String, usize>,
}

/// A pair that lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstPair {
    /// The prompt's id in the suite.
    pub prompt_id: String,
    /// Its group.
    pub group: String,
    /// The seed.
    pub seed: u64,
    /// The strength.
    pub strength: f64,
    /// Values on the further axes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub axes: BTreeMap<String, Value>,
    /// Id of the cell.
    pub cell: String,
    /// The metric that changed.
    pub metric: String,
    /// What people read.
    pub label: String,
    /// The base's score.
    pub base: f64,
    /// The cell's score.
    pub score: f64,
    /// `score − base`.
    pub change: f64,
}

/// How a verdict was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyUsed {
    /// `built-in`, or the path as given.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Confidence of every one-sided bound, `0.95`.
    pub confidence: f64,
    /// How intervals and p-values were made.
    pub method: String,
    /// Resampled runs.
    pub resamples: usize,
    /// Seed of the resampling.
    pub seed: u64,
}

/// The approval that a run was compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineUsed {
    /// The file as given.
    pub path: String,
    /// Hash of what was approved.
    pub sha256: String,
    /// Who approved it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The strength that was approved.
    pub strength: f64,
}

/// What was judged, by hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The run's directory as given.
    pub run: String,
    /// Hash of the base.
    pub base: String,
    /// Hash of each adapter, by name.
    pub adapters: BTreeMap<String, String>,
    /// SHA-256 of the suite's file.
    pub suite: String,
    /// Hash of the run's plan.
    pub plan: String,
    /// SHA-256 over the contents of all cells, in the order of the plan.
    pub cells: String,
}

/// The `verdict.json` at `path`; nothing where there is no such file.
pub fn open(path: &Path) -> Result<Option<Verdict>, RunError> {
    let Some(bytes) = read(path, MAX_BYTES, AGAIN)? else { return Ok(None) };
    let damaged = |problem| RunError::Damaged { path: path.to_owned(), problem, hint: AGAIN };
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if let Some(found) = value["format"].as_u64().filter(|f| *f > u64::from(VERDICT_FORMAT)) {
        return Err(RunError::Newer { path: path.to_owned(), found });
    }
    serde_json::from_value(value).map(Some).map_err(|e| damaged(e.to_string()))
}

impl Run {
    /// The run's `verdict.json`, if it was judged.
    pub fn verdict(&self) -> Result<Option<Verdict>, RunError> {
        open(&self.path().join(NAME))
    }
}
