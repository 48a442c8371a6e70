//! Does a text repeat itself? Measures that need no reference.
//!
//! Words are cut at white space. With all n-grams of a text, distinct-n (Li et al., NAACL 2016) is
//! different n-grams / n-grams, and the repetition rate (seq-rep-n of Welleck et al., ICLR 2020) is
//! 1 − distinct-n. Over several texts the n-grams of all are pooled for distinct-n, and the
//! repetition rate is the mean of the texts' own: a loop within a text is degeneration, the same
//! phrase in two texts is not. A text shorter than n has no n-grams and is left out.

use rustc_hash::FxHashSet;

use super::error::MetricError;
use super::score::{Direction, Part, Score, parts};
use super::text::words;

/// Distinct n-grams and repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Degeneration {
    /// n: 1 or 2 is usual for distinct-n, 4 for repetition.
    pub order: usize,
}

impl Degeneration {
    /// distinct-n of all texts together; 0 where none has an n-gram.
    pub fn distinct<S: AsRef<str>>(self, texts: &[S]) -> Result<Score, MetricError> {
        self.check(texts.len())?;
        let mut seen = FxHashSet::default();
        let mut total = 0_usize;
        let all: Vec<Vec<&str>> = texts.iter().map(|text| words(text.as_ref()).collect()).collect();
        for text in &all {
            for gram in text.windows(self.order) {
                total += 1;
                seen.insert(gram);
            }
        }
        let value = seen.len() as f64 / total.max(1) as f64;
        let counts = [seen.len() as f64, total as f64];
        Ok(self.score("distinct", value, Direction::HigherIsBetter, counts))
    }

    /// The mean repetition rate; 0 where no text has an n-gram.
    pub fn repetition<S: AsRef<str>>(self, texts: &[S]) -> Result<Score, MetricError> {
        self.check(texts.len())?;
        let (mut rates, mut counts, mut measured) = (0.0, [0.0; 2], 0_usize);
        for text in texts {
            let text: Vec<&str> = words(text.as_ref()).collect();
            let total = text.windows(self.order).len();
            if total == 0 {
                continue;
            }
            let different = text.windows(self.order).collect::<FxHashSet<_>>().len();
            rates += 1.0 - different as f64 / total as f64;
            counts = [counts[0] + different as f64, counts[1] + total as f64];
            measured += 1;
        }
        let value = rates / measured.max(1) as f64;
        Ok(self.score("repetition", value, Direction::LowerIsBetter, counts))
    }

    fn check(self, texts: usize) -> Result<(), MetricError> {
        if texts == 0 {
            return Err(MetricError::NoSegments);
        }
        if !(1..=super::MAX_ORDER).contains(&self.order) {
            let (high, found) = (super::MAX_ORDER, self.order);
            return Err(MetricError::Order { name: "an order", low: 1, high, usual: 2, found });
        }
        Ok(())
    }

    fn score(self, name: &str, value: f64, direction: Direction, counts: [f64; 2]) -> Score {
        let [different, total] = counts;
        let version = env!("CARGO_PKG_VERSION");
        Score {
            metric: format!("{name}-{}", self.order),
            value,
            direction,
            unit: "fraction",
            signature: format!("case:mixed|tok:none|n:{}|version:lora-eval-{version}", self.order),
            parts: parts([("different", Part::Number(different)), ("total", Part::Number(total))]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_repeats_and_two_alike_texts_do_not() {
        let order = |order| Degeneration { order };
        let texts = ["a b a b", "a b"];
        // a b a b a b: 2 of 6 words differ.
        assert_eq!(order(1).distinct(&texts).unwrap().value, 2.0 / 6.0);
        // ab ba ab, ab: 2 of 4.
        assert_eq!(order(2).distinct(&texts).unwrap().value, 0.5);
        // 1 − 2/3 and 1 − 1/1.
        assert_eq!(order(2).repetition(&texts).unwrap().value, (1.0 - 2.0 / 3.0) / 2.0);
        assert_eq!(order(9).repetition(&texts).unwrap().value, 0.0);
        assert!(order(0).distinct(&texts).is_err());
    }
}
