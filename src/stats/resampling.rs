use rayon::prelude::*;

use super::error::StatsError;
use super::pcg64::Pcg64;
use super::segments::Segments;

/// Which clusters each resample of the bootstrap has, and how often: made once, shared by every
/// metric and strength over the same clusters. Draws are those of [`super::Test`] with the same seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resampling {
    clusters: usize,
    seed: u64,
    /// trials × clusters.
    counts: Vec<u16>,
}

impl Resampling {
    /// Enough for bounds at 5 % after Holm's correction over a dozen rules.
    pub const TRIALS: usize = 2000;

    /// So many resamples of so many clusters.
    pub fn new(clusters: usize, trials: usize, seed: u64) -> Result<Self, StatsError> {
        if clusters == 0 {
            return Err(StatsError::NoSegments);
        }
        if trials == 0 {
            return Err(StatsError::NoTrials);
        }
        let bound = u32::try_from(clusters).unwrap_or(u32::MAX);
        let mut generator = Pcg64::seeded(seed);
        let mut counts = vec![0_u16; trials * clusters];
        for trial in counts.chunks_exact_mut(clusters) {
            for _ in 0..clusters {
                if let Some(count) = trial.get_mut(generator.index(bound) as usize) {
                    *count = count.saturating_add(1);
                }
            }
        }
        Ok(Self { clusters, seed, counts })
    }

    /// Clusters that are drawn from.
    pub fn clusters(&self) -> usize {
        self.clusters
    }

    /// Resamples.
    pub fn trials(&self) -> usize {
        self.counts.len() / self.clusters
    }

    /// The generator's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// `score` of each resample's sums, those of all `sides` one after the other.
    pub(super) fn scores(
        &self,
        sides: &[&Segments],
        score: impl Fn(&[f64]) -> f64 + Sync,
    ) -> Vec<f64> {
        let columns: Vec<Vec<f64>> = sides.iter().flat_map(|side| columns(side)).collect();
        let fresh = || (vec![0.0; self.clusters], vec![0.0; columns.len()]);
        let trials = self.counts.par_chunks_exact(self.clusters).with_min_len(64);
        let scores = trials.map_init(fresh, |(weights, sums), counts| {
            weights.iter_mut().zip(counts).for_each(|(to, count)| *to = f64::from(*count));
            sums.iter_mut().zip(&columns).for_each(|(sum, column)| *sum = dot(weights, column));
            score(sums)
        });
        scores.collect()
    }
}

/// A statistic's values of all clusters, for each statistic.
fn columns(segments: &Segments) -> Vec<Vec<f64>> {
    let column = |at: usize| segments.rows().filter_map(|row| row.get(at).copied()).collect();
    (0..segments.width()).map(column).collect()
}

/// Σ aᵢbᵢ in eight running sums, the same on every machine.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a_lanes, b_lanes) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_lanes.zip(b_lanes) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f64>() + rest
}
