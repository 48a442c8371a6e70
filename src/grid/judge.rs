//! Scores of one cell alone.

use std::collections::BTreeMap;

use super::GridError;
use crate::generate::Forced;
use crate::metric::{Bleu, Chrf, Degeneration, ExactMatch, Rouge, RougeKind, Texts};

/// n-gram orders of diversity and repetition.
pub(super) const DISTINCT: Degeneration = Degeneration { order: 2 };
pub(super) const REPETITION: Degeneration = Degeneration { order: 4 };

/// Scores the cells of one unit, the base's first.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    references: Vec<&'a str>,
    base: Option<String>,
}

/// A cell's text, and how a given text fares under its model.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub text: &'a str,
    pub forced: Option<Forced>,
}

impl<'a> Judge<'a> {
    pub fn new(references: &'a [String]) -> Self {
        Self { references: references.iter().map(String::as_str).collect(), base: None }
    }

    /// Scores by metric; one that does not apply is left out.
    pub fn score(&mut self, judged: &Judged<'_>) -> Result<BTreeMap<String, f64>, GridError> {
        let mut scores = BTreeMap::new();
        let mut put = |name: &str, value: f64| {
            if value.is_finite() {
                scores.insert(name.to_owned(), value);
            }
        };
        let text = judged.text;
        let sentence = Bleu { effective_order: true, ..Bleu::default() };
        if !self.references.is_empty() {
            let texts = Texts::sentence(text, &self.references)?;
            put("bleu", sentence.sentence(text, &self.references)?.value);
            put("chrf", Chrf::default().sentence(text, &self.references)?.value);
            put("rouge-l", Rouge::new(RougeKind::Longest).corpus(&texts)?.value);
            put("exact-match", ExactMatch::default().corpus(&texts)?.value);
        }
        if !text.trim().is_empty() {
            put("distinct-2", DISTINCT.distinct(&[text])?.value);
        }
        // 0 where there is no n-gram: nothing is said twice
        put("repetition", REPETITION.repetition(&[text])?.value);
        match &self.base {
            None => {
                self.base = Some(text.to_owned());
                put("base-bleu", 100.0);
            }
            Some(base) if base == text => put("base-bleu", 100.0),
            Some(base) => put("base-bleu", sentence.sentence(text, &[base.as_str()])?.value),
        }
        if let Some(forced) = judged.forced.filter(|forced| forced.tokens > 0) {
            let n = forced.tokens as f64;
            put("nll", forced.nll);
            put("scored-tokens", n);
            put("perplexity", (forced.nll / n).exp());
            put("kl", forced.kl / n);
            put("top1", forced.agree as f64 / n * 100.0);
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_n_grams_repeats_nothing() {
        for text in ["", " ", "yes"] {
            let judged = Judged { text, forced: None };
            let scores = Judge::new(&[]).score(&judged).unwrap();
            assert_eq!(scores.get("repetition"), Some(&0.0), "`{text}`");
        }
    }
}
