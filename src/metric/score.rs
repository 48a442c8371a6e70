//! What a metric gives.

use std::collections::BTreeMap;

use serde::Serialize;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// More is better.
    HigherIsBetter,
    /// Less is better.
    LowerIsBetter,
}

/// A number, or several, from which a score was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Part {
    /// One number.
    Number(f64),
    /// A number for each order of n-grams.
    Numbers(Vec<f64>),
}

/// A score that says what it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The metric's name, as its source writes it: `BLEU`, `chrF2++`, `TER`, `rougeL`, `SSIM`.
    pub metric: String,
    /// The score.
    #[serde(rename = "score")]
    pub value: f64,
    /// Which way is better.
    pub direction: Direction,
    /// `percent` (0 to 100, TER also above), `fraction` (0 to 1, SSIM also below), `dB`, `bits`,
    /// `levels²` or `mmd²`.
    pub unit: &'static str,
    /// All that must be equal for two scores to be comparable.
    pub signature: String,
    /// What the score was made from.
    pub parts: BTreeMap<&'static str, Part>,
}

pub(super) fn parts<const N: usize>(
    parts: [(&'static str, Part); N],
) -> BTreeMap<&'static str, Part> {
    BTreeMap::from(parts)
}
