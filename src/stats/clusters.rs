use super::pairing::{Change, Paired};
use super::segments::Width;

/// Below so many clusters that differ, a normal approximation is not to be trusted.
const FEW: usize = 5;

/// What each cluster says by itself.
pub struct Clusters {
    /// The jackknife's pseudo-values nθ − (n − 1)θ₍ᵢ₎; of a mean these are the clusters' own values.
    pub values: Vec<f64>,
    /// Clusters that differ from the base and from what most clusters have.
    differing: usize,
    /// The value about which an unseen cluster may lie on either side.
    centre: f64,
    median: f64,
    /// The least and the greatest value.
    span: (f64, f64),
    /// What rounding may do to a value.
    noise: f64,
}

impl Clusters {
    /// From the effect and those with each cluster left out.
    pub fn new(value: f64, without: &[f64], paired: &Paired<'_>, changed: usize) -> Self {
        let n = without.len() as f64;
        let values: Vec<f64> = without.iter().map(|other| n * value - (n - 1.0) * other).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = |at: usize| sorted.get(at).copied().unwrap_or(value);
        let median = middle(sorted.len() / 2).midpoint(middle((sorted.len().max(1) - 1) / 2));
        let level = paired.statistic.score_of(&paired.candidate.sums(), Width::Double);
        let noise = 1e-13 * n * level.abs().max(value.abs()).max(f64::MIN_POSITIVE);
        let runs = sorted.chunk_by(|one, next| next - one <= noise);
        let most = runs.map(<[f64]>::len).max().unwrap_or(0);
        let end = |end: Option<&f64>| end.copied().unwrap_or(value);
        let span = (end(sorted.first()), end(sorted.last()));
        let centre = if paired.change == Change::Level { median } else { 0.0 };
        Self { differing: changed.min(values.len() - most), values, centre, median, span, noise }
    }

    /// Whether all clusters say the same, up to rounding.
    pub fn all_equal(&self) -> bool {
        self.span.1 - self.span.0 <= self.noise * 2.0
    }

    /// Whether a normal approximation is not to be trusted.
    pub fn few(&self) -> bool {
        self.all_equal() || self.differing < FEW
    }

    /// Of a level, between which values an unseen cluster lies: such scores are skewed, so on either side
    /// of the median twice as far as the farthest seen, as far as the metric goes; where few differ,
    /// at the metric's ends, or as [`Clusters::ends`] where that is farther.
    pub fn ends_of_level(&self, paired: &Paired<'_>) -> Option<(f64, f64)> {
        let few = if self.few() { self.ends(paired) } else { None };
        if self.all_equal() || (few.is_some() && paired.range.is_some()) {
            return few;
        }
        let (low, high) = self.span;
        let (least, most) = paired.range.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let twice = ((2.0 * low - self.median).max(least), (2.0 * high - self.median).min(most));
        Some(few.map_or(twice, |few| (few.0.min(twice.0), few.1.max(twice.1))))
    }

    /// Between which values an unseen cluster lies. Without a range: as far off as the farthest
    /// seen, in both directions; where all are equal, as far on the other side of zero, so that the
    /// p-value against "no effect" is the sign test's 2⁻ⁿ.
    pub fn ends(&self, paired: &Paired<'_>) -> Option<(f64, f64)> {
        match (paired.change, paired.range) {
            (Change::Level, Some(range)) => return Some(range),
            (Change::Difference, Some((low, high))) => return Some((low - high, high - low)),
            (Change::Ratio, _) | (_, None) => {}
        }
        let value = self.values.first().copied()?;
        let (centre, reach) = if self.all_equal() {
            (value, 2.0 * value.abs())
        } else {
            let far = self.values.iter().map(|value| (value - self.centre).abs());
            (self.centre, far.fold(0.0, f64::max))
        };
        (reach > self.noise).then_some((centre - reach, centre + reach))
    }
}
