//! Exact match: the share of segments that equal one of their references.

use super::error::MetricError;
use super::score::{Direction, Part, Score, parts};
use super::text::{Texts, is_space, lowercase};

/// Exact match and its options. White space around a text does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExactMatch {
    /// Compare in lower case.
    pub lowercase: bool,
}

impl ExactMatch {
    /// The share of segments that match.
    pub fn corpus(&self, texts: &Texts<'_>) -> Result<Score, MetricError> {
        let matched = self.segments(texts).into_iter().filter(|matched| *matched).count();
        let case = if self.lowercase { "lc" } else { "mixed" };
        let version = env!("CARGO_PKG_VERSION");
        Ok(Score {
            metric: "exact_match".to_owned(),
            value: matched as f64 / texts.len().max(1) as f64,
            direction: Direction::HigherIsBetter,
            unit: "fraction",
            signature: format!(
                "nrefs:{}|case:{case}|strip:yes|version:lora-eval-{version}",
                texts.references()
            ),
            parts: parts([
                ("matched", Part::Number(matched as f64)),
                ("segments", Part::Number(texts.len() as f64)),
            ]),
        })
    }

    /// Whether each segment matches.
    pub fn segments(&self, texts: &Texts<'_>) -> Vec<bool> {
        let plain =
            |text: &str| lowercase(text.trim_matches(is_space), self.lowercase).into_owned();
        texts.measure(|hypothesis, references| {
            let hypothesis = plain(hypothesis);
            references.iter().any(|reference| plain(reference) == hypothesis)
        })
    }
}
