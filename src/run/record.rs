//! What a run directory holds, as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the on-disk format of a run.
pub const FORMAT: u32 = 1;

/// `run.json`: all that is needed to make the run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Name and version of the program, `lora-eval 0.1.0`.
    pub program: String,
    /// `text` or `image`.
    pub kind: RunKind,
    /// When it was started, RFC 3339 in UTC.
    pub created: String,
    /// The suite as resolved: defaults filled in, references' texts included.
    pub suite: Value,
    /// SHA-256 of the suite's file.
    pub suite_sha256: String,
    /// The base.
    pub base: BaseRecord,
    /// The adapters, in the order of the command line.
    pub adapters: Vec<AdapterRecord>,
    /// The strength axis; 0 is always there.
    pub strengths: Vec<f64>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Further axes by name.
    pub axes: BTreeMap<String, Vec<Value>>,
    /// Resolved settings that every cell shares unless its prompt or an axis says otherwise.
    pub settings: BTreeMap<String, Value>,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// `--dtype` that makes the same weights: `f32`, `f16`, `bf16`; `auto` for quantised blocks.
    pub dtype: String,
    /// The models that judge pictures, by name: SHA-256 of their files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<String, String>,
    /// Most rows of a batch, where that was limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_batch: Option<usize>,
    /// The plan: hash over the sorted cell ids, and how many there are.
    pub plan: PlanRecord,
}

/// What a run generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// Completions of a language model.
    Text,
    /// Pictures of a diffusion model.
    Image,
}

/// The base of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// As given on the command line.
    pub name: String,
    /// `LlamaForCausalLM (hidden size 64, layers 2)`.
    pub description: String,
    /// SHA-256 over its weights and configuration.
    pub sha256: String,
    /// Another autoencoder than its own, as given on the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<String>,
}

/// An adapter of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterRecord {
    /// The name that cells and prompts call it by.
    pub name: String,
    /// As given on the command line.
    pub path: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// `LoRA`, `DoRA` …: how many modules of each kind.
    pub kinds: BTreeMap<String, usize>,
    /// Ranks that occur, and in how many modules.
    pub ranks: BTreeMap<usize, usize>,
    /// Modules that fit the base.
    pub matched: usize,
    /// Modules that do not, by name.
    pub unmatched: Vec<String>,
    /// ‖ΔW‖, over all modules whose change does not depend on the base; absent where one's does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_norm: Option<f64>,
}

/// The plan of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// SHA-256 over the sorted ids of all cells.
    pub sha256: String,
    /// All cells, in the order of the plan.
    pub cells: Vec<String>,
}

/// One finished cell: a file of one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Hash of everything that determines it, 64 hex digits.
    pub cell: String,
    /// The prompt's id in the suite.
    pub prompt_id: String,
    /// `heldout` or `base`, or another group of the suite.
    pub group: String,
    /// The prompt as written in the suite (for `messages`: as the chat template rendered it).
    pub prompt: String,
    /// The value on the strength axis.
    pub strength: f64,
    /// Every adapter that had a strength, those at 0 included.
    pub adapters: Vec<AdapterAt>,
    /// Values on the further axes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub axes: BTreeMap<String, Value>,
    /// The seed.
    pub seed: u64,
    /// The text, or the path of the picture below the run.
    pub output: String,
    /// Why a text ended: `eos`, `stop` or `length`; what is to be known of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// Tokens of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<usize>,
    /// Tokens generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// Prompt tokens cut off because the context is too short (0 is left out).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub truncated: usize,
    /// Rows of the batch it was made in, where all strengths did not fit into one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Features of a picture by the model that gave them: little-endian f32 in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, String>,
    /// Scores of this cell alone by metric; one that does not apply is left out.
    pub scores: BTreeMap<String, f64>,
    /// Time it took, its share of its batch.
    pub seconds: f64,
}

impl Cell {
    /// Whether its output is that of the base's cell: the same text, or a picture that differs in no
    /// pixel.
    pub fn is_as(&self, base: &Self) -> bool {
        self.output == base.output || self.scores.get("mse") == Some(&0.0)
    }
}

/// An adapter at a strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterAt {
    /// Its name in the run.
    pub name: String,
    /// The strength; in an image model, that in the denoiser.
    pub strength: f64,
    /// The strength in the text encoders of an image model, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<f64>,
    /// What the strengths are multiplied by in each block of the model, as written; empty if all are 1.
    #[serde(rename = "lbw", default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<f64>,
}

/// `scores.json`: every metric by strength and group, with confidence intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// [`FORMAT`].
    pub format: u32,
    /// Cells planned.
    pub planned: usize,
    /// Cells that are there.
    pub present: usize,
    /// The metrics, those that matter most first.
    pub metrics: Vec<MetricScores>,
    /// What a reader should know: metrics left out and why, missing cells.
    pub notes: Vec<String>,
}

/// One metric over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricScores {
    /// `bleu`, `chrf`, `rouge-l`, `exact-match`, `perplexity`, `kl`, `top1`, `distinct-2`, `repetition`, `base-bleu`.
    pub metric: String,
    /// What people read: `BLEU`.
    pub label: String,
    /// One sentence: what it measures and against what.
    pub about: String,
    /// `points`, `nats`, `%`, …
    pub unit: String,
    /// `higher`, `lower` or `neither` is better.
    pub better: Better,
    /// How it was computed, reproducibly.
    pub signature: String,
    /// One row a group × strength × further axes.
    pub rows: Vec<ScoreRow>,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Higher values.
    Higher,
    /// Lower values.
    Lower,
    /// It only describes.
    Neither,
}

/// A metric at one group, strength and point of the further axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// The group.
    pub group: String,
    /// The value on the strength axis.
    pub strength: f64,
    /// Values on the further axes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub axes: BTreeMap<String, Value>,
    /// The score; `null` where it is not finite.
    pub value: Option<f64>,
    /// Lower end of the 95 % confidence interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Cells behind it.
    pub n: usize,
    /// p-value of the difference from strength 0, paired on prompts (the seeds of one together); `null` at 0.
    #[serde(default)]
    pub p: Option<f64>,
    /// Every output equals the base's.
    #[serde(default)]
    pub identical: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}
