//! TER (Snover et al., AMTA 2006) as sacreBLEU 2.6 computes it, after tercom.
//!
//! score = 100 · edits / mean reference length, edits being the least over the references of
//! insertions, deletions, substitutions and shifts of phrases (see [`super::ter_edits`]).
//!
//! Statistics of a segment: edits, mean reference length.

use rustc_hash::FxHashMap;

use super::SACREBLEU;
use super::error::MetricError;
use super::score::{Direction, Part, Score, parts};
use super::ter_edits::edits;
use super::tercom::Tercom;
use super::text::{Texts, is_space, words, yes};
use crate::stats::{Segments, Statistic, Width};

/// TER and its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "tercom's four switches, by their names")]
pub struct Ter {
    /// Set punctuation apart and undo XML's escapes.
    pub normalized: bool,
    /// Remove punctuation.
    pub no_punct: bool,
    /// Treat Chinese and Japanese characters as words (with `normalized`) and their punctuation as
    /// punctuation (with `no_punct`).
    pub asian_support: bool,
    /// Do not compare in lower case.
    pub case_sensitive: bool,
}

impl Ter {
    /// The score of all segments together.
    pub fn corpus(&self, texts: &Texts<'_>) -> Result<Score, MetricError> {
        Ok(self.score(&self.statistics(texts).sums(), texts.references()))
    }

    /// The score of one segment.
    pub fn sentence(&self, hypothesis: &str, references: &[&str]) -> Result<Score, MetricError> {
        self.corpus(&Texts::sentence(hypothesis, references)?)
    }

    /// Each segment's statistics.
    pub fn statistics(&self, texts: &Texts<'_>) -> Segments {
        texts
            .measure(|hypothesis, references| self.segment(hypothesis, references))
            .into_iter()
            .collect()
    }

    /// A line as it is compared, tokens separated by single spaces.
    pub fn tokenize(&self, line: &str) -> String {
        let tokenizer = Tercom {
            normalized: self.normalized,
            no_punctuation: self.no_punct,
            asian: self.asian_support,
            case_sensitive: self.case_sensitive,
        };
        tokenizer.tokenize(line)
    }

    fn segment(self, hypothesis: &str, references: &[&str]) -> Vec<f64> {
        let lines: Vec<String> = std::iter::once(&hypothesis)
            .chain(references)
            .map(|line| self.tokenize(line.trim_end_matches(is_space)))
            .collect();
        let mut known: FxHashMap<&str, u32> = FxHashMap::default();
        let texts: Vec<Vec<u32>> = lines
            .iter()
            .map(|line| {
                let number = |word| {
                    let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
                    *known.entry(word).or_insert(next)
                };
                words(line).map(number).collect()
            })
            .collect();
        let Some((hypothesis, references)) = texts.split_first() else { return Vec::new() };
        let least = references.iter().map(|reference| edits(hypothesis, reference)).min();
        let lengths: usize = references.iter().map(Vec::len).sum();
        vec![least.unwrap_or(0) as f64, lengths as f64 / references.len().max(1) as f64]
    }

    /// The score of summed statistics.
    pub fn score(&self, sums: &[f64], references: usize) -> Score {
        let at = |place: usize| Part::Number(sums.get(place).copied().unwrap_or(0.0));
        Score {
            metric: "TER".to_owned(),
            value: self.score_of(sums, Width::Double),
            direction: Direction::LowerIsBetter,
            unit: "percent",
            signature: self.signature(references),
            parts: parts([("num_edits", at(0)), ("ref_length", at(1))]),
        }
    }

    /// sacreBLEU's signature.
    pub fn signature(&self, references: usize) -> String {
        format!(
            "nrefs:{references}|case:{}|tok:tercom|norm:{}|punct:{}|asian:{}|version:{SACREBLEU}",
            if self.case_sensitive { "mixed" } else { "lc" },
            yes(self.normalized),
            yes(!self.no_punct),
            yes(self.asian_support),
        )
    }
}

impl Statistic for Ter {
    fn score_of(&self, sums: &[f64], width: Width) -> f64 {
        match sums {
            [edits, length, ..] if *length > 0.0 => {
                width.round(100.0 * width.round(edits / length))
            }
            // Something was said where nothing should be.
            [edits, ..] if *edits > 0.0 => 100.0,
            _ => 0.0,
        }
    }
}
