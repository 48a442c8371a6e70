//! `ablation.json`: what each block of an adapter does.

use serde::{Deserialize, Serialize};

use super::cells::write;
use super::directory::{Run, read};
use super::error::RunError;
use super::record::FORMAT;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;
const NAME: &str = "ablation.json";
/// What to do about a file that cannot be used.
const AGAIN: &str =
    "remove it, or run `lora-eval grid … --ablate blocks` again, which writes it anew";

/// What comes of an adapter with one of its blocks off at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ablation {
    /// [`FORMAT`].
    pub format: u32,
    /// Name and version of the program.
    pub program: String,
    /// Hash of the run's plan, of which it took its prompts.
    pub plan: String,
    /// The adapter.
    pub adapter: String,
    /// Its strength.
    pub strength: f64,
    /// Harm on prompts that must not change, the most harmed ones.
    pub damage: Measure,
    /// Effect on the prompts that it is for, the ones with the most of it.
    pub gain: Option<Measure>,
    /// The blocks in which the adapter changes something, in the model's order.
    pub blocks: Vec<BlockEffect>,
    /// Weights that take away damage and keep gain, if there are such.
    pub proposal: Option<Proposal>,
    /// What a reader should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A quantity of which more is more damage or more gain, as the mean over some prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// `kl`, `perplexity`, `lpips`, …
    pub metric: String,
    /// What it is, in words.
    pub about: String,
    /// `nats`, `points`, …
    pub unit: String,
    /// With the whole adapter; 0 without it.
    pub full: f64,
    /// Where it was measured.
    pub prompts: Vec<PromptAt>,
}

/// A prompt at one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptAt {
    /// Its id.
    pub id: String,
    /// The seed.
    pub seed: u64,
    /// The quantity there, with the whole adapter.
    pub value: f64,
}

/// What changes when one block is off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockEffect {
    /// Its name: `BASE`, `IN04`, `L11`.
    pub block: String,
    /// Change of the damage: negative where the block does damage.
    pub damage: Change,
    /// Change of the gain: negative where the block does work.
    pub gain: Option<Change>,
    /// Its weight in the proposal.
    pub proposed: f64,
}

/// The mean of a change over prompts, with the 95 % interval of the bootstrap over them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The mean.
    pub value: f64,
    /// Lower end; none for a single prompt.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Prompts.
    pub n: usize,
}

/// Weights by block, and what was measured with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The weights as a tag takes them.
    pub lbw: Vec<f64>,
    /// The whole tag.
    pub tag: String,
    /// The damage with them.
    pub damage: f64,
    /// The gain with them.
    pub gain: f64,
}

impl Run {
    /// Writes `ablation.json` so that it lasts, replacing the old one whole.
    pub fn write_ablation(&self, ablation: &Ablation) -> Result<(), RunError> {
        let path = self.path().join(NAME);
        let text = serde_json::to_vec_pretty(ablation);
        let mut text = text.map_err(|e| RunError::write(&path, e.into()))?;
        text.push(b'\n');
        write(&path, &text)
    }

    /// The run's `ablation.json`, if there is one. One of another plan is an error.
    pub fn ablation(&self) -> Result<Option<Ablation>, RunError> {
        let path = self.path().join(NAME);
        let Some(bytes) = read(&path, MAX_BYTES, AGAIN)? else { return Ok(None) };
        let damaged = |problem| RunError::Damaged { path: path.clone(), problem, hint: AGAIN };
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        match value["format"].as_u64() {
            Some(found) if found > u64::from(FORMAT) => {
                return Err(RunError::Newer { path, found });
            }
            _ => {}
        }
        let ablation: Ablation =
            serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
        if ablation.plan != self.record().plan.sha256 {
            return Err(damaged("it is of another plan than `run.json`".to_owned()));
        }
        Ok(Some(ablation))
    }
}
