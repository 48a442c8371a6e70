//! BLEU (Papineni et al., ACL 2002) as sacreBLEU 2.6 computes it.
//!
//! score = 100 · BP · exp(1/N Σₙ ln pₙ), pₙ = clipped matches / n-grams of the hypothesis, summed
//! over segments; BP = 1, or exp(1 − r/c) where the hypotheses' length c is below r, the sum of each
//! segment's closest reference length (of two equally close the shorter).
//!
//! Statistics of a segment: c, r, matches of orders 1 to N, n-grams of orders 1 to N.

use rustc_hash::FxHashMap;

use super::SACREBLEU;
use super::error::MetricError;
use super::grams;
use super::score::{Direction, Part, Score, parts};
use super::text::{Texts, is_space, lowercase, words, yes};
use super::tokenize::Tokenizer;
use crate::stats::{Segments, Statistic, Width};

/// The longest n-grams that can be asked for.
pub const MAX_ORDER: usize = 64;

/// What is done where no n-gram of an order matches (Chen and Cherry, WMT 2014).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Smooth {
    /// The k-th order without a match counts as 1/2ᵏ match.
    #[default]
    Exp,
    /// Counts as so many matches; usually 0.1.
    Floor(f64),
    /// So much is added to matches and n-grams of orders 2 and up; usually 1.
    AddK(f64),
    /// Nothing: the score is 0.
    None,
}

/// BLEU and its options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bleu {
    /// Compare in lower case.
    pub lowercase: bool,
    /// How tokens are cut.
    pub tokenize: Tokenizer,
    /// What is done where nothing matches.
    pub smooth: Smooth,
    /// The longest n-grams; 4.
    pub max_order: usize,
    /// Leave out orders for which the hypothesis is too short. For sentences.
    pub effective_order: bool,
}

impl Default for Bleu {
    fn default() -> Self {
        Self {
            lowercase: false,
            tokenize: Tokenizer::default(),
            smooth: Smooth::default(),
            max_order: 4,
            effective_order: false,
        }
    }
}

/// A BLEU score and what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct BleuParts {
    /// 0 to 100.
    pub score: f64,
    /// Matches by order, smoothed where `add-k` did.
    pub counts: Vec<f64>,
    /// n-grams of the hypotheses by order, smoothed where `add-k` did.
    pub totals: Vec<f64>,
    /// In percent, by order.
    pub precisions: Vec<f64>,
    /// The brevity penalty.
    pub bp: f64,
    /// Tokens of the hypotheses.
    pub sys_len: f64,
    /// Tokens of the closest references.
    pub ref_len: f64,
}

impl Bleu {
    /// The score of all segments together.
    pub fn corpus(&self, texts: &Texts<'_>) -> Result<Score, MetricError> {
        Ok(self.score(&self.statistics(texts)?.sums(), texts.references()))
    }

    /// The score of one segment. Set `effective_order`, or short ones score 0.
    pub fn sentence(&self, hypothesis: &str, references: &[&str]) -> Result<Score, MetricError> {
        self.corpus(&Texts::sentence(hypothesis, references)?)
    }

    /// Each segment's statistics.
    pub fn statistics(&self, texts: &Texts<'_>) -> Result<Segments, MetricError> {
        if !(1..=MAX_ORDER).contains(&self.max_order) {
            let (name, found) = ("an order", self.max_order);
            return Err(MetricError::Order { name, low: 1, high: MAX_ORDER, usual: 4, found });
        }
        if let Smooth::Floor(value) | Smooth::AddK(value) = self.smooth
            && !(value.is_finite() && value >= 0.0)
        {
            return Err(MetricError::Smoothing { found: value.to_string() });
        }
        Ok(texts
            .measure(|hypothesis, references| self.segment(hypothesis, references))
            .into_iter()
            .collect())
    }

    fn segment(&self, hypothesis: &str, references: &[&str]) -> Vec<f64> {
        let lines: Vec<String> = std::iter::once(&hypothesis)
            .chain(references)
            .map(|line| {
                let line = lowercase(line, self.lowercase);
                self.tokenize.spaced(line.trim_end_matches(is_space)).into_owned()
            })
            .collect();
        let mut known: FxHashMap<&str, u32> = FxHashMap::default();
        let texts: Vec<Vec<u32>> = lines
            .iter()
            .map(|line| {
                let number = |word| {
                    let next = u32::try_from(known.len() + 1).unwrap_or(u32::MAX);
                    *known.entry(word).or_insert(next)
                };
                words(line).map(number).collect()
            })
            .collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let (length, others) =
            texts.split_first().map_or((0, &[][..]), |(h, rest)| (h.len(), rest));
        let closest = others.iter().map(|text| text.len()).min_by_key(|r| (r.abs_diff(length), *r));
        let matches = grams::matches(&texts, known.len(), self.max_order);
        let totals = (0..self.max_order).map(|n| length.saturating_sub(n) as f64);
        [length as f64, closest.unwrap_or(0) as f64]
            .into_iter()
            .chain(matches.into_iter().map(|count| count as f64))
            .chain(totals)
            .collect()
    }

    /// The score of summed statistics.
    pub fn score(&self, sums: &[f64], references: usize) -> Score {
        let made = self.parts(sums, Width::Double);
        Score {
            metric: "BLEU".to_owned(),
            value: made.score,
            direction: Direction::HigherIsBetter,
            unit: "percent",
            signature: self.signature(references),
            parts: parts([
                ("counts", Part::Numbers(made.counts)),
                ("totals", Part::Numbers(made.totals)),
                ("precisions", Part::Numbers(made.precisions)),
                ("bp", Part::Number(made.bp)),
                ("sys_len", Part::Number(made.sys_len)),
                ("ref_len", Part::Number(made.ref_len)),
            ]),
        }
    }

    /// sacreBLEU's signature.
    pub fn signature(&self, references: usize) -> String {
        let case = if self.lowercase { "lc" } else { "mixed" };
        let smooth = match self.smooth {
            Smooth::Exp => "exp".to_owned(),
            Smooth::Floor(value) => format!("floor[{value:.2}]"),
            Smooth::AddK(value) => format!("add-k[{value:.2}]"),
            Smooth::None => "none".to_owned(),
        };
        let (eff, tok) = (yes(self.effective_order), self.tokenize.name());
        format!(
            "nrefs:{references}|case:{case}|eff:{eff}|tok:{tok}|smooth:{smooth}|version:{SACREBLEU}"
        )
    }

    /// The score of summed statistics, computed at `width`, with what it is made from.
    pub fn parts(&self, sums: &[f64], width: Width) -> BleuParts {
        let order = self.max_order;
        let at = |place: usize| sums.get(place).copied().unwrap_or(0.0);
        let (sys_len, ref_len) = (at(0).trunc(), at(1).trunc());
        let mut made = BleuParts {
            score: 0.0,
            counts: (2..2 + order).map(at).collect(),
            totals: (2 + order..2 + 2 * order).map(at).collect(),
            precisions: vec![0.0; order],
            bp: match sys_len {
                0.0 if ref_len > 0.0 => 0.0,
                _ if sys_len < ref_len => (1.0 - ref_len / sys_len).exp(),
                _ => 1.0,
            },
            sys_len,
            ref_len,
        };
        if made.counts.iter().all(|count| *count == 0.0) {
            return made;
        }
        let effective = self.precisions(&mut made, width);
        let logs = made.precisions.iter().take(effective).map(|p| log(*p));
        made.score = made.bp * (logs.sum::<f64>() / effective as f64).exp();
        made
    }

    /// Fills in the precisions, up to the first order without n-grams; how many to average.
    fn precisions(&self, made: &mut BleuParts, width: Width) -> usize {
        let mut effective = self.max_order;
        let mut halving = 1.0;
        let orders = made.precisions.iter_mut().zip(made.counts.iter_mut().zip(&mut made.totals));
        for (place, (precision, (count, total))) in orders.enumerate() {
            if let Smooth::AddK(k) = self.smooth
                && place > 0
            {
                *count = width.round(*count + width.round(k));
                *total = width.round(*total + width.round(k));
            }
            if *total == 0.0 {
                break;
            }
            if self.effective_order {
                effective = place + 1;
            }
            if *count != 0.0 {
                *precision = width.round(width.round(100.0 * *count) / *total);
                continue;
            }
            match self.smooth {
                Smooth::Exp => {
                    halving *= 2.0;
                    *precision = width.round(100.0 / width.round(halving * *total));
                }
                Smooth::Floor(value) => {
                    *precision = width.round(width.round(100.0 * value) / *total);
                }
                Smooth::AddK(_) | Smooth::None => {}
            }
        }
        effective
    }
}

/// The logarithm, with a number for 0's that makes any mean's exponential 0.
fn log(value: f64) -> f64 {
    if value == 0.0 { -9_999_999_999.0 } else { value.ln() }
}

impl Statistic for Bleu {
    fn score_of(&self, sums: &[f64], width: Width) -> f64 {
        self.parts(sums, width).score
    }

    /// Logarithms are taken in double precision.
    fn resamples_in_single(&self) -> bool {
        false
    }
}
