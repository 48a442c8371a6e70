//! chrF (Popović, WMT 2015) and chrF++ (Popović, WMT 2017) as sacreBLEU 2.6 computes them.
//!
//! Precision and recall of character n-grams of orders 1 to 6 (white space removed) and, for chrF++,
//! of word n-grams of orders 1 to 2, each averaged over the orders that both sides have; score =
//! 100 · (1 + β²)PR / (β²P + R). Of several references a segment takes the one with the best score.
//!
//! Statistics of a segment: for each order the n-grams of hypothesis, reference, and both.

use rustc_hash::FxHashMap;

use super::SACREBLEU;
use super::error::MetricError;
use super::grams;
use super::score::{Direction, Score, parts};
use super::text::{Texts, is_space, lowercase, words, yes};
use crate::stats::{Segments, Statistic, Width};

const MAX_ORDER: usize = 64;
/// Stands for a precision or recall of no n-grams under `eps_smoothing`.
const EPSILON: f64 = 1e-16;

/// chrF and its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chrf {
    /// The longest character n-grams; 6.
    pub char_order: usize,
    /// The longest word n-grams; 0 for chrF, 2 for chrF++.
    pub word_order: usize,
    /// How much more recall counts than precision; 2.
    pub beta: u32,
    /// Compare in lower case.
    pub lowercase: bool,
    /// Keep white space in character n-grams.
    pub whitespace: bool,
    /// Average F over all orders, as chrF++.py, NLTK and Moses do.
    pub eps_smoothing: bool,
}

impl Default for Chrf {
    fn default() -> Self {
        Self {
            char_order: 6,
            word_order: 0,
            beta: 2,
            lowercase: false,
            whitespace: false,
            eps_smoothing: false,
        }
    }
}

/// A text as numbers: characters and words.
struct Symbols {
    chars: Vec<u32>,
    words: Vec<u32>,
}

/// Numbers for the characters and words of a segment.
struct Alphabet<'a> {
    ascii: [u32; 128],
    others: FxHashMap<char, u32>,
    chars: u32,
    words: FxHashMap<&'a str, u32>,
}

impl<'a> Alphabet<'a> {
    fn new() -> Self {
        Self {
            ascii: [0; 128],
            others: FxHashMap::default(),
            chars: 0,
            words: FxHashMap::default(),
        }
    }

    fn char(&mut self, c: char) -> u32 {
        let number = match self.ascii.get_mut(c as usize) {
            Some(number) => number,
            None => self.others.entry(c).or_insert(0),
        };
        if *number == 0 {
            self.chars += 1;
            *number = self.chars;
        }
        *number
    }

    fn word(&mut self, word: &'a str) -> u32 {
        let next = u32::try_from(self.words.len() + 1).unwrap_or(u32::MAX);
        *self.words.entry(word).or_insert(next)
    }

    fn read(&mut self, line: &'a str, options: &Chrf) -> Symbols {
        let kept = line.chars().filter(|c| options.whitespace || !is_space(*c));
        let chars = kept.map(|c| self.char(c)).collect();
        let mut numbers = Vec::new();
        if options.word_order > 0 {
            for word in words(line) {
                let (first, second) = without_punctuation(word);
                numbers.push(self.word(first));
                numbers.extend(second.map(|word| self.word(word)));
            }
        }
        Symbols { chars, words: numbers }
    }
}

/// A word and the one mark of punctuation at its end or else at its start, in order.
fn without_punctuation(word: &str) -> (&str, Option<&str>) {
    let mut chars = word.chars();
    let (Some(first), Some(last)) = (chars.next(), chars.next_back()) else {
        return (word, None);
    };
    let (head, tail) = if last.is_ascii_punctuation() {
        word.split_at(word.len() - 1)
    } else if first.is_ascii_punctuation() {
        word.split_at(1)
    } else {
        return (word, None);
    };
    (head, Some(tail))
}

impl Chrf {
    /// chrF++: words as well, up to pairs.
    pub fn plus_plus() -> Self {
        Self { word_order: 2, ..Self::default() }
    }

    /// The score of all segments together.
    pub fn corpus(&self, texts: &Texts<'_>) -> Result<Score, MetricError> {
        Ok(self.score(&self.statistics(texts)?.sums(), texts.references()))
    }

    /// The score of one segment.
    pub fn sentence(&self, hypothesis: &str, references: &[&str]) -> Result<Score, MetricError> {
        self.corpus(&Texts::sentence(hypothesis, references)?)
    }

    /// Each segment's statistics.
    pub fn statistics(&self, texts: &Texts<'_>) -> Result<Segments, MetricError> {
        let check = |name, found, low, usual| {
            if (low..=MAX_ORDER).contains(&found) {
                return Ok(());
            }
            Err(MetricError::Order { name, low, high: MAX_ORDER, usual, found })
        };
        check("a character order", self.char_order, 1, 6)?;
        check("a word order", self.word_order, 0, 2)?;
        Ok(texts
            .measure(|hypothesis, references| self.segment(hypothesis, references))
            .into_iter()
            .collect())
    }

    fn segment(&self, hypothesis: &str, references: &[&str]) -> Vec<f64> {
        let lines: Vec<_> = std::iter::once(&hypothesis)
            .chain(references)
            .map(|line| lowercase(line, self.lowercase))
            .collect();
        let mut alphabet = Alphabet::new();
        let texts: Vec<Symbols> = lines.iter().map(|line| alphabet.read(line, self)).collect();
        let Some((hypothesis, references)) = texts.split_first() else { return Vec::new() };
        let mut best = Vec::new();
        let mut best_score = -1.0;
        for reference in references {
            let mut statistics = Vec::with_capacity(3 * (self.char_order + self.word_order));
            let pair = [hypothesis.chars.as_slice(), &reference.chars];
            count(pair, alphabet.chars as usize, self.char_order, &mut statistics);
            let pair = [hypothesis.words.as_slice(), &reference.words];
            count(pair, alphabet.words.len(), self.word_order, &mut statistics);
            let score = self.score_of(&statistics, Width::Double);
            if score > best_score {
                best_score = score;
                best = statistics;
            }
        }
        best
    }

    /// The score of summed statistics.
    pub fn score(&self, sums: &[f64], references: usize) -> Score {
        Score {
            metric: self.name(),
            value: self.score_of(sums, Width::Double),
            direction: Direction::HigherIsBetter,
            unit: "percent",
            signature: self.signature(references),
            parts: parts([]),
        }
    }

    /// `chrF2`, `chrF2++`.
    pub fn name(&self) -> String {
        format!("chrF{}{}", self.beta, "+".repeat(self.word_order))
    }

    /// sacreBLEU's signature.
    pub fn signature(&self, references: usize) -> String {
        format!(
            "nrefs:{references}|case:{}|eff:{}|nc:{}|nw:{}|space:{}|version:{SACREBLEU}",
            if self.lowercase { "lc" } else { "mixed" },
            yes(!self.eps_smoothing),
            self.char_order,
            self.word_order,
            yes(self.whitespace),
        )
    }
}

/// Appends hypothesis, reference and shared n-grams of each order.
fn count(pair: [&[u32]; 2], alphabet: usize, order: usize, statistics: &mut Vec<f64>) {
    if order == 0 {
        return;
    }
    for (place, matched) in grams::matches(&pair, alphabet, order).into_iter().enumerate() {
        let [of_hypothesis, of_reference] = pair.map(|text| text.len().saturating_sub(place));
        // Where the reference has none, the hypothesis' are not held against it.
        let counted = if of_reference == 0 { 0 } else { of_hypothesis };
        statistics.extend([counted as f64, of_reference as f64, matched as f64]);
    }
}

impl Statistic for Chrf {
    fn score_of(&self, sums: &[f64], width: Width) -> f64 {
        let round = |value| width.round(value);
        let factor = f64::from(self.beta) * f64::from(self.beta);
        let (mut sum, mut precisions, mut recalls) = (0.0, 0.0, 0.0);
        let mut effective = 0.0;
        for counts in sums.chunks_exact(3) {
            let &[of_hypothesis, of_reference, matched] = counts else { continue };
            let share = |of: f64| if of > 0.0 { round(matched / of) } else { EPSILON };
            let (precision, recall) = (share(of_hypothesis), share(of_reference));
            let below = round(round(factor * precision) + recall);
            let f = if below > 0.0 {
                round(round(round((1.0 + factor) * precision) * recall) / below)
            } else {
                EPSILON
            };
            sum = round(sum + f);
            if of_hypothesis > 0.0 && of_reference > 0.0 {
                precisions = round(precisions + precision);
                recalls = round(recalls + recall);
                effective += 1.0;
            }
        }
        if self.eps_smoothing {
            return round(round(100.0 * sum) / (self.char_order + self.word_order) as f64);
        }
        if effective == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (round(precisions / effective), round(recalls / effective));
        if precision + recall == 0.0 {
            return 0.0;
        }
        let above = round(round((1.0 + factor) * precision) * recall);
        round(100.0 * round(above / round(round(factor * precision) + recall)))
    }
}
