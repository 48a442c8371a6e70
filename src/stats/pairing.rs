use serde::Serialize;

use super::error::StatsError;
use super::resampling::Resampling;
use super::segments::{Segments, Statistic, Width};

/// What is measured of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Candidate − base.
    Difference,
    /// Candidate / base; inside, the difference of logarithms.
    Ratio,
    /// The candidate's score alone.
    Level,
}

/// Base and candidate over the same clusters: a row is the sum over one cluster's (prompt's) cells.
#[derive(Clone, Copy)]
pub struct Paired<'a> {
    /// The base; not looked at for [`Change::Level`].
    pub base: &'a Segments,
    /// The candidate.
    pub candidate: &'a Segments,
    /// How sums become a score.
    pub statistic: &'a dyn Statistic,
    /// What is measured.
    pub change: Change,
    /// The least and the greatest score that one cluster can have, of metrics that jump (exact match:
    /// 0 and 1); a change that was not seen may be as large.
    pub range: Option<(f64, f64)>,
}

impl Change {
    /// A number inside as it is shown.
    pub(super) fn shown(self, inside: f64) -> f64 {
        if self == Self::Ratio { inside.exp() } else { inside }
    }

    /// A number as shown in the scale of the bounds inside.
    pub(super) fn inside(self, shown: f64) -> f64 {
        if self == Self::Ratio { shown.clamp(0.0, f64::INFINITY).ln() } else { shown }
    }
}

impl Paired<'_> {
    /// Whether base, candidate and resamples belong together.
    pub(super) fn check(&self, resampling: &Resampling) -> Result<(), StatsError> {
        let (base, candidate) = (self.base, self.candidate);
        if candidate.is_empty() {
            return Err(StatsError::NoSegments);
        }
        if self.change != Change::Level && base.len() != candidate.len() {
            return Err(StatsError::Unpaired { base: base.len(), system: candidate.len() });
        }
        if self.change != Change::Level && base.width() != candidate.width() {
            return Err(StatsError::Unlike { base: base.width(), system: candidate.width() });
        }
        if resampling.clusters() != candidate.len() {
            let (clusters, resampled) = (candidate.len(), resampling.clusters());
            return Err(StatsError::Resampled { clusters, resampled });
        }
        Ok(())
    }

    /// How many clusters' statistics are not the base's.
    pub(super) fn changed(&self) -> usize {
        if self.change == Change::Level {
            return self.candidate.len();
        }
        let rows = self.base.rows().zip(self.candidate.rows());
        rows.filter(|(base, candidate)| base != candidate).count()
    }

    /// The candidate and, where it matters, the base.
    pub(super) fn sides(&self) -> Vec<&Segments> {
        match self.change {
            Change::Level => vec![self.candidate],
            Change::Difference | Change::Ratio => vec![self.candidate, self.base],
        }
    }

    /// The sums of all sides, one after the other.
    pub(super) fn sums(&self) -> Vec<f64> {
        self.sides().iter().flat_map(|side| side.sums()).collect()
    }

    /// The effect, in the scale of the bounds, of the sums of all sides.
    pub(super) fn score(&self, sums: &[f64]) -> f64 {
        let (candidate, base) = sums.split_at(self.candidate.width().min(sums.len()));
        let score = |sums: &[f64]| self.statistic.score_of(sums, Width::Double);
        match self.change {
            Change::Level => score(candidate),
            Change::Difference => score(candidate) - score(base),
            Change::Ratio => score(candidate).ln() - score(base).ln(),
        }
    }

    /// The effects with each cluster left out.
    pub(super) fn without_each(&self) -> Vec<f64> {
        let (sums, sides) = (self.sums(), self.sides());
        let mut rows: Vec<_> = sides.iter().map(|side| side.rows()).collect();
        let mut left = Vec::with_capacity(sums.len());
        (0..self.candidate.len())
            .map(|_| {
                left.clear();
                let row = rows.iter_mut().filter_map(Iterator::next).flatten();
                left.extend(sums.iter().zip(row).map(|(sum, value)| sum - value));
                self.score(&left)
            })
            .collect()
    }
}
