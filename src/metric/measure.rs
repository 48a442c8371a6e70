//! A metric over the cells of a run, as sums that any selection of cells can be scored by.

use super::bleu::Bleu;
use super::chrf::Chrf;
use crate::run::Better;
use crate::stats::{Statistic, Width};

/// How summed statistics become a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Combine {
    /// Corpus BLEU.
    Bleu(Bleu),
    /// Corpus chrF.
    Chrf(Chrf),
    /// Σ value / Σ weight.
    Mean,
    /// exp(Σ value / Σ weight).
    Perplexity,
    /// 10·log₁₀(255² · Σ weight / Σ value) of mean squared errors.
    Decibels,
}

impl Statistic for Combine {
    fn score_of(&self, sums: &[f64], width: Width) -> f64 {
        let (value, weight) = match sums {
            [value, weight, ..] => (*value, *weight),
            _ => (f64::NAN, f64::NAN),
        };
        match self {
            Self::Bleu(bleu) => bleu.score_of(sums, width),
            Self::Chrf(chrf) => chrf.score_of(sums, width),
            Self::Mean => value / weight,
            Self::Perplexity => (value / weight).exp(),
            Self::Decibels => 10.0 * (255.0 * 255.0 * weight / value).log10(),
        }
    }

    fn resamples_in_single(&self) -> bool {
        match self {
            Self::Bleu(bleu) => bleu.resamples_in_single(),
            Self::Chrf(chrf) => chrf.resamples_in_single(),
            Self::Mean | Self::Perplexity | Self::Decibels => false,
        }
    }
}

/// A metric and what each cell of a run adds to its sums.
#[derive(Debug, Clone)]
pub struct Measure {
    /// `bleu`, `kl`, `ssim` …
    pub metric: String,
    /// What people read: `BLEU`.
    pub label: String,
    /// `points`, `nats`, …
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// How it is computed, reproducibly.
    pub signature: String,
    /// How sums become a score.
    pub combine: Combine,
    /// The statistics of each cell, in the order of the cells; `None` where the metric does not apply.
    pub rows: Vec<Option<Vec<f64>>>,
}
