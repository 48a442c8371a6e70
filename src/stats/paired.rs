//! Paired significance tests, as sacreBLEU 2.6 does them.
//!
//! Bootstrap (Koehn, EMNLP 2004; Moses' script): segments are drawn with replacement, the same ones
//! for both systems; with dᵢ the absolute differences of the resampled scores and d the observed
//! one, p = (#{dᵢ − mean(d) > d} + 1) / (n + 1). Approximate randomization (Riezler and Maxwell,
//! 2005; `MultEval`): each segment's statistics are swapped between the systems with probability ½;
//! p = (#{dᵢ > d} + 1) / (n + 1).
//!
//! A system against an equal one gives p = 1/(n + 1) by these formulas, "significant". Here such
//! systems are `identical` and p is 1.

use rayon::prelude::*;
use serde::Serialize;

use super::error::StatsError;
use super::pcg64::Pcg64;
use super::segments::{Segments, Statistic, Width};

/// sacreBLEU's seed.
pub const SEED: u64 = 12345;

/// Which test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Paired bootstrap; `bs` in signatures.
    Bootstrap,
    /// Paired approximate randomization; `ar` in signatures.
    Randomization,
}

/// A test to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// Which one.
    pub kind: Kind,
    /// Resamples or shuffles.
    pub trials: usize,
    /// The generator's seed.
    pub seed: u64,
}

/// What resampling says about one system's score: the middle 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Mean of the resampled scores.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// (high − low) / 2, what sacreBLEU prints after ±.
    pub half_width: f64,
}

/// A test's outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Which test.
    pub kind: Kind,
    /// Resamples or shuffles.
    pub trials: usize,
    /// The seed.
    pub seed: u64,
    /// The base's score.
    pub base: f64,
    /// The system's score.
    pub system: f64,
    /// Whether every segment has the same statistics; then there is nothing to test.
    pub identical: bool,
    /// Probability of such a difference by chance; 1 where the systems are identical.
    pub p: f64,
    /// The base's interval (bootstrap only).
    pub base_interval: Option<Interval>,
    /// The system's interval (bootstrap only).
    pub system_interval: Option<Interval>,
    /// `bs:1000|seed:12345`, to stand in a signature after `nrefs`.
    pub signature: String,
}

impl Test {
    /// sacreBLEU's paired bootstrap: 1000 resamples.
    pub const BOOTSTRAP: Self = Self { kind: Kind::Bootstrap, trials: 1000, seed: SEED };
    /// sacreBLEU's approximate randomization: 10000 shuffles.
    pub const RANDOMIZATION: Self = Self { kind: Kind::Randomization, trials: 10_000, seed: SEED };

    /// Tests whether `system` differs from `base` by more than chance.
    pub fn run(
        self,
        statistic: &(impl Statistic + ?Sized),
        base: &Segments,
        system: &Segments,
    ) -> Result<Comparison, StatsError> {
        self.check(base, system)?;
        let [base_score, system_score] =
            [base, system].map(|side| statistic.score_of(&side.sums(), Width::Double));
        let difference = (base_score - system_score).abs();
        let name = if self.kind == Kind::Bootstrap { "bs" } else { "ar" };
        let mut outcome = Comparison {
            kind: self.kind,
            trials: self.trials,
            seed: self.seed,
            base: base_score,
            system: system_score,
            identical: base == system,
            p: 1.0,
            base_interval: None,
            system_interval: None,
            signature: format!("{name}:{}|seed:{}", self.trials, self.seed),
        };
        let more_extreme = match self.kind {
            Kind::Bootstrap => {
                let width =
                    if statistic.resamples_in_single() { Width::Single } else { Width::Double };
                let scores = self.resample(statistic, base, system);
                let (of_base, of_system): (Vec<f64>, Vec<f64>) = scores.into_iter().unzip();
                outcome.base_interval = interval(&of_base, width);
                outcome.system_interval = interval(&of_system, width);
                beyond_mean(&of_base, &of_system, difference, width)
            }
            Kind::Randomization if outcome.identical => 0,
            Kind::Randomization => {
                let differences = self.shuffle(statistic, base, system);
                differences.iter().filter(|other| **other > difference).count()
            }
        };
        if !outcome.identical {
            outcome.p = (more_extreme + 1) as f64 / (self.trials + 1) as f64;
        }
        Ok(outcome)
    }

    fn check(self, base: &Segments, system: &Segments) -> Result<(), StatsError> {
        if base.is_empty() || system.is_empty() {
            return Err(StatsError::NoSegments);
        }
        if base.len() != system.len() {
            return Err(StatsError::Unpaired { base: base.len(), system: system.len() });
        }
        if base.width() != system.width() {
            return Err(StatsError::Unlike { base: base.width(), system: system.width() });
        }
        if self.trials == 0 { Err(StatsError::NoTrials) } else { Ok(()) }
    }

    /// Both systems' scores on each resample. Draws are made in order, scores on all threads.
    fn resample(
        self,
        statistic: &(impl Statistic + ?Sized),
        base: &Segments,
        system: &Segments,
    ) -> Vec<(f64, f64)> {
        const BATCH: usize = 256;
        let bound = u32::try_from(base.len()).unwrap_or(u32::MAX);
        let singles = [base, system].map(in_single);
        let mut generator = Pcg64::seeded(self.seed);
        let mut scores = Vec::with_capacity(self.trials);
        while scores.len() < self.trials {
            let trials = BATCH.min(self.trials - scores.len());
            let draws: Vec<u32> =
                (0..trials * base.len()).map(|_| generator.index(bound)).collect();
            let batch = draws.par_chunks_exact(base.len()).map(|draw| {
                let [of_base, of_system] = singles.each_ref().map(|values| {
                    statistic.score_of(&sum_rows(values, base.width(), draw), Width::Single)
                });
                (of_base, of_system)
            });
            scores.par_extend(batch);
        }
        scores
    }

    /// Absolute differences of the scores of shuffled systems.
    fn shuffle(
        self,
        statistic: &(impl Statistic + ?Sized),
        base: &Segments,
        system: &Segments,
    ) -> Vec<f64> {
        const BATCH: usize = 1024;
        let [base_sums, system_sums] = [base, system].map(Segments::sums);
        let moves = Moves::new(base, system);
        let mut coins = Pcg64::seeded(self.seed).coins();
        let mut differences = Vec::with_capacity(self.trials);
        while differences.len() < self.trials {
            let trials = BATCH.min(self.trials - differences.len());
            let tosses: Vec<Vec<u8>> =
                (0..trials).map(|_| Moves::pack(&mut coins, base.len())).collect();
            let batch = tosses.par_iter().map(|tosses| {
                let moved = moves.sum(tosses);
                let first: Vec<f64> =
                    system_sums.iter().zip(&moved).map(|(sum, by)| sum + by).collect();
                let second: Vec<f64> =
                    base_sums.iter().zip(&moved).map(|(sum, by)| sum - by).collect();
                let scores = [first, second].map(|sums| statistic.score_of(&sums, Width::Double));
                (scores[0] - scores[1]).abs()
            });
            differences.par_extend(batch);
        }
        differences
    }
}

/// What moves from one system to the other when segments are swapped: base − system, for every
/// pattern of tosses of each four neighbouring segments.
struct Moves {
    width: usize,
    sums: Vec<f64>,
}

impl Moves {
    const GROUP: usize = 4;
    const PATTERNS: usize = 1 << Self::GROUP;

    fn new(base: &Segments, system: &Segments) -> Self {
        let width = base.width();
        let difference: Vec<f64> =
            base.values().iter().zip(system.values()).map(|(base, system)| base - system).collect();
        let mut sums = Vec::new();
        for group in difference.chunks(Self::GROUP * width) {
            for pattern in 0..Self::PATTERNS {
                let mut sum = vec![0.0; width];
                for (place, row) in group.chunks_exact(width).enumerate() {
                    if (pattern >> place) & 1 == 1 {
                        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                    }
                }
                sums.append(&mut sum);
            }
        }
        Self { width, sums }
    }

    /// Tosses for each segment, four in a byte.
    fn pack(coins: &mut impl Iterator<Item = bool>, segments: usize) -> Vec<u8> {
        (0..segments)
            .step_by(Self::GROUP)
            .map(|first| {
                let group = coins.by_ref().take(Self::GROUP.min(segments - first));
                group.enumerate().fold(0, |bits, (place, coin)| bits | u8::from(coin) << place)
            })
            .collect()
    }

    fn sum(&self, tosses: &[u8]) -> Vec<f64> {
        let mut total = vec![0.0; self.width];
        let groups = self.sums.chunks_exact(Self::PATTERNS * self.width);
        for (group, pattern) in groups.zip(tosses) {
            let row = group.chunks_exact(self.width).nth(usize::from(*pattern));
            for (total, value) in total.iter_mut().zip(row.unwrap_or_default()) {
                *total += value;
            }
        }
        total
    }
}

#[expect(clippy::cast_possible_truncation, reason = "sacreBLEU resamples in single precision")]
fn in_single(segments: &Segments) -> Vec<f32> {
    segments.values().iter().map(|value| *value as f32).collect()
}

/// Sums of the drawn rows, one after the other in single precision as numpy's `sum(0)`.
fn sum_rows(values: &[f32], width: usize, draw: &[u32]) -> Vec<f64> {
    let mut sums = vec![0.0_f32; width];
    for index in draw {
        let start = *index as usize * width;
        let row = values.get(start..start + width).unwrap_or_default();
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums.into_iter().map(f64::from).collect()
}

/// How many differences exceed their mean by more than the observed difference.
fn beyond_mean(base: &[f64], system: &[f64], observed: f64, width: Width) -> usize {
    let differences: Vec<f64> =
        base.iter().zip(system).map(|(base, system)| width.round(system - base).abs()).collect();
    let mean = mean(&differences, width);
    let observed = width.round(observed);
    differences.iter().filter(|other| width.round(**other - mean) > observed).count()
}

/// The mean and the middle 95 % of resampled scores; none of no scores.
pub(crate) fn percentile_interval(scores: &[f64]) -> Option<Interval> {
    interval(scores, Width::Double)
}

fn interval(scores: &[f64], width: Width) -> Option<Interval> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 40;
    let low = *sorted.get(cut)?;
    let high = *sorted.get(sorted.len().checked_sub(cut + 1)?)?;
    let half_width = width.round(0.5 * width.round(high - low));
    Some(Interval { mean: mean(&sorted, width), low, high, half_width })
}

fn mean(values: &[f64], width: Width) -> f64 {
    width.round(pairwise_sum(values, width) / values.len().max(1) as f64)
}

/// numpy's order of addition: eight running sums in blocks of 128, blocks in a tree.
fn pairwise_sum(values: &[f64], width: Width) -> f64 {
    let add = |a: f64, b: f64| width.round(a + b);
    let count = values.len();
    if count < 8 {
        return values.iter().copied().fold(-0.0, add);
    }
    if count <= 128 {
        let (whole, rest) = values.split_at(count - count % 8);
        let mut lanes = [-0.0; 8];
        for eight in whole.chunks_exact(8) {
            lanes.iter_mut().zip(eight).for_each(|(lane, value)| *lane = add(*lane, *value));
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let sum = add(add(add(a, b), add(c, d)), add(add(e, f), add(g, h)));
        return rest.iter().copied().fold(sum, add);
    }
    let half = count / 2 - count / 2 % 8;
    let (left, right) = values.split_at(half);
    add(pairwise_sum(left, width), pairwise_sum(right, width))
}
