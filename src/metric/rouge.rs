//! ROUGE (Lin, 2004) as google's rouge-score 0.1.2 computes it.
//!
//! Tokens are runs of ASCII letters and digits in lower case, so text in other scripts has none and
//! scores 0. Precision P = shared / of the hypothesis, recall R = shared / of the reference,
//! F = 2PR / (P + R). Shared are: n-grams (ROUGE-1, ROUGE-2), the longest common subsequence of the
//! whole texts (ROUGE-L), or the union of those of each reference line with all hypothesis lines
//! (ROUGE-Lsum). Of several references a segment takes the one with the best F; a corpus has the
//! mean over segments.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::error::MetricError;
use super::porter::stem;
use super::score::{Direction, Part, Score, parts};
use super::text::{Texts, yes};
use super::{ROUGE_SCORE, grams};

/// Which ROUGE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RougeKind {
    /// Shared words.
    One,
    /// Shared pairs of words.
    Two,
    /// Longest common subsequence.
    Longest,
    /// The same by lines.
    LongestByLine,
}

impl RougeKind {
    /// rouge-score's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "rouge1",
            Self::Two => "rouge2",
            Self::Longest => "rougeL",
            Self::LongestByLine => "rougeLsum",
        }
    }
}

/// ROUGE and its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rouge {
    /// Which.
    pub kind: RougeKind,
    /// Compare stems of words longer than three letters.
    pub stemmer: bool,
}

/// How much of a hypothesis and a reference is shared, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Overlap {
    /// Share of the hypothesis.
    pub precision: f64,
    /// Share of the reference.
    pub recall: f64,
    /// Their harmonic mean.
    pub f: f64,
}

impl Overlap {
    fn new(shared: usize, of_hypothesis: usize, of_reference: usize) -> Self {
        let precision = shared as f64 / of_hypothesis.max(1) as f64;
        let recall = shared as f64 / of_reference.max(1) as f64;
        let sum = precision + recall;
        let f = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Self { precision, recall, f }
    }
}

impl Rouge {
    /// Without stemming, as rouge-score's default.
    pub fn new(kind: RougeKind) -> Self {
        Self { kind, stemmer: false }
    }

    /// The mean over segments.
    pub fn corpus(&self, texts: &Texts<'_>) -> Result<Score, MetricError> {
        let scores = self.segments(texts);
        let mean = |part: fn(&Overlap) -> f64| {
            scores.iter().map(part).sum::<f64>() / scores.len().max(1) as f64
        };
        Ok(Score {
            metric: self.kind.name().to_owned(),
            value: mean(|score| score.f),
            direction: Direction::HigherIsBetter,
            unit: "fraction",
            signature: format!(
                "nrefs:{}|case:lc|stem:{}|agg:mean|version:rouge-score-{ROUGE_SCORE}",
                texts.references(),
                yes(self.stemmer)
            ),
            parts: parts([
                ("precision", Part::Number(mean(|score| score.precision))),
                ("recall", Part::Number(mean(|score| score.recall))),
            ]),
        })
    }

    /// Each segment against its best reference.
    pub fn segments(&self, texts: &Texts<'_>) -> Vec<Overlap> {
        texts.measure(|hypothesis, references| {
            let scores = references.iter().map(|reference| self.pair(hypothesis, reference));
            scores
                .reduce(|best, other| if other.f > best.f { other } else { best })
                .unwrap_or_default()
        })
    }

    /// One hypothesis against one reference.
    pub fn pair(&self, hypothesis: &str, reference: &str) -> Overlap {
        let mut numbers = Numbers { stemmer: self.stemmer, known: FxHashMap::default() };
        if self.kind == RougeKind::LongestByLine {
            let [hypothesis, reference] = [hypothesis, reference].map(|text| {
                let lines = text.split('\n').filter(|line| !line.is_empty());
                lines.map(|line| numbers.read(line)).collect::<Vec<_>>()
            });
            return by_line(&hypothesis, &reference);
        }
        let [hypothesis, reference] = [hypothesis, reference].map(|text| numbers.read(text));
        let (c, r) = (hypothesis.len(), reference.len());
        match self.kind {
            RougeKind::One | RougeKind::Two => {
                let order = if self.kind == RougeKind::One { 1 } else { 2 };
                let shared = grams::matches(&[&hypothesis, &reference], numbers.known.len(), order);
                let shared = shared.last().map_or(0, |n| usize::try_from(*n).unwrap_or(usize::MAX));
                Overlap::new(shared, (c + 1).saturating_sub(order), (r + 1).saturating_sub(order))
            }
            _ => Overlap::new(longest(&hypothesis, &reference), c, r),
        }
    }
}

/// Tokens as numbers.
struct Numbers {
    stemmer: bool,
    known: FxHashMap<String, u32>,
}

impl Numbers {
    fn read(&mut self, text: &str) -> Vec<u32> {
        let text = text.to_lowercase();
        let tokens = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()));
        let mut numbers = Vec::new();
        for token in tokens.filter(|token| !token.is_empty()) {
            let stemmed = self.stemmer && token.len() > 3;
            let token = if stemmed { stem(token) } else { token.to_owned() };
            let next = u32::try_from(self.known.len() + 1).unwrap_or(u32::MAX);
            numbers.push(*self.known.entry(token).or_insert(next));
        }
        numbers
    }
}

/// Length of the longest common subsequence.
fn longest(hypothesis: &[u32], reference: &[u32]) -> usize {
    let mut row = vec![0_usize; hypothesis.len()];
    for wanted in reference {
        let (mut diagonal, mut left) = (0, 0);
        for (cell, word) in row.iter_mut().zip(hypothesis) {
            let above = *cell;
            *cell = if word == wanted { diagonal + 1 } else { above.max(left) };
            (diagonal, left) = (above, *cell);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// ROUGE-Lsum: no token counts more often than it stands in both texts.
fn by_line(hypothesis: &[Vec<u32>], reference: &[Vec<u32>]) -> Overlap {
    let count = |lines: &[Vec<u32>]| {
        let mut counts = BTreeMap::new();
        for token in lines.iter().flatten() {
            *counts.entry(*token).or_insert(0_usize) += 1;
        }
        counts
    };
    let [mut of_hypothesis, mut of_reference] = [hypothesis, reference].map(count);
    let mut hits = 0;
    for line in reference {
        let mut shared = vec![false; line.len()];
        for other in hypothesis {
            mark_longest(line, other, &mut shared);
        }
        for (token, _) in line.iter().zip(shared).filter(|(_, shared)| *shared) {
            let (Some(a), Some(b)) = (of_hypothesis.get_mut(token), of_reference.get_mut(token))
            else {
                continue;
            };
            if *a > 0 && *b > 0 {
                hits += 1;
                *a -= 1;
                *b -= 1;
            }
        }
    }
    let total = |lines: &[Vec<u32>]| lines.iter().map(Vec::len).sum();
    Overlap::new(hits, total(hypothesis), total(reference))
}

/// Marks the places of `line` that are in its longest common subsequence with `other`, the one that
/// rouge-score reads out.
fn mark_longest(line: &[u32], other: &[u32], marks: &mut [bool]) {
    let width = other.len() + 1;
    let mut table = vec![0_usize; (line.len() + 1) * width];
    for (i, wanted) in line.iter().enumerate() {
        for (j, word) in other.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if wanted == word {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j) = (line.len(), other.len());
    while i > 0 && j > 0 {
        if line[i - 1] == other[j - 1] {
            marks[i - 1] = true;
            (i, j) = (i - 1, j - 1);
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
}
