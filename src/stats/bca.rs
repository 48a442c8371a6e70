//! One-sided bounds by the bias-corrected and accelerated bootstrap, stretched for few clusters.
//!
//! Efron, "Better Bootstrap Confidence Intervals" (1987): the bound at level α is the resampled
//! effect at Φ(z₀ + (z₀ + z)/(1 − a(z₀ + z))) with z = Φ⁻¹(α), the median's bias z₀ and the
//! jackknife's acceleration a. Resampling n clusters gives a spread √((n − 1)/n) too small and
//! normal tails where Student's belong (Hesterberg, "What Teachers Should Know about the
//! Bootstrap", 2015): the bound's distance from the effect is multiplied by √(n/(n − 1)) · t/z.

use super::distribution::{normal, normal_quantile, student_quantile};

/// Towards which end a bound lies. The upper side is the lower side of the negated effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Lower,
    Upper,
}

impl Side {
    /// 1, or −1 for the upper side.
    pub fn sign(self) -> f64 {
        match self {
            Self::Lower => 1.0,
            Self::Upper => -1.0,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Bca {
    value: f64,
    sorted: Vec<f64>,
    /// z₀.
    pub bias: f64,
    /// a.
    pub acceleration: f64,
    clusters: usize,
}

impl Bca {
    /// From the effect, its resamples, and its values with each cluster left out.
    pub fn new(value: f64, samples: &[f64], without: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let below = sorted.partition_point(|sample| *sample < value);
        let upto = sorted.partition_point(|sample| *sample <= value);
        let step = 1.0 / (sorted.len() + 1) as f64;
        let share = 0.5 * (below + upto) as f64 / sorted.len().max(1) as f64;
        let mean = without.iter().sum::<f64>() / without.len().max(1) as f64;
        let power = |n| without.iter().map(|other| (mean - other).powi(n)).sum::<f64>();
        let spread = power(2);
        let acceleration = if spread > 0.0 { power(3) / (6.0 * spread.powf(1.5)) } else { 0.0 };
        Self {
            value,
            sorted,
            bias: normal_quantile(share.clamp(step, 1.0 - step)),
            acceleration,
            clusters: without.len(),
        }
    }

    /// The smallest level that so many resamples can tell.
    fn finest(&self) -> f64 {
        1.0 / (self.sorted.len() + 1) as f64
    }

    /// The level of which the `rank`-th resample from this side's end is the bound, before it is
    /// stretched.
    fn level(&self, side: Side, rank: usize) -> f64 {
        let (bias, acceleration) = (self.bias * side.sign(), self.acceleration * side.sign());
        let moved = normal_quantile((rank + 1) as f64 * self.finest()) - bias;
        let scale = 1.0 + acceleration * moved;
        if scale <= 0.0 {
            return if moved > 0.0 { 1.0 } else { 0.0 };
        }
        normal(moved / scale - bias)
    }

    /// The bound at that level, of the effect times the side's sign.
    fn bound(&self, side: Side, rank: usize) -> f64 {
        let place = match side {
            Side::Lower => Some(rank),
            Side::Upper => self.sorted.len().checked_sub(rank + 1),
        };
        let Some(sample) = place.and_then(|place| self.sorted.get(place)) else {
            return f64::INFINITY;
        };
        let stretch = self.stretch(self.level(side, rank));
        side.sign() * self.value + stretch * side.sign() * (sample - self.value)
    }

    fn stretch(&self, level: f64) -> f64 {
        let z = normal_quantile(level);
        if !z.is_finite() {
            return f64::INFINITY;
        }
        // the quotient is smooth at 0, where it cannot be computed
        let z = if z.abs() < 1e-3 { 1e-3 } else { z };
        let n = self.clusters as f64;
        let freedom = self.clusters.saturating_sub(1);
        (n / (n - 1.0)).sqrt() * student_quantile(normal(z), freedom) / z
    }

    /// The one-sided bound at level `alpha`; infinite where so few resamples cannot tell.
    pub fn at(&self, side: Side, alpha: f64) -> f64 {
        let ranks = if alpha < self.finest() {
            0
        } else {
            first(self.sorted.len(), |rank| self.level(side, rank) > alpha)
        };
        match ranks.checked_sub(1) {
            Some(rank) => side.sign() * self.bound(side, rank),
            None => side.sign() * f64::NEG_INFINITY,
        }
    }

    /// The smallest level at which the bound is beyond `margin`.
    pub fn p(&self, side: Side, margin: f64) -> f64 {
        let count = self.sorted.len();
        let rank = first(count, |rank| self.bound(side, rank) > side.sign() * margin);
        if rank == count { 1.0 } else { self.level(side, rank).max(self.finest()) }
    }
}

/// The first number below `count` that has a property that all after it have; `count` if none.
fn first(count: usize, has: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if has(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Paired, Resampling, SEED, Segments, Statistic, Width, effect};
    use super::*;

    struct Mean;

    impl Statistic for Mean {
        fn score_of(&self, sums: &[f64], _: Width) -> f64 {
            sums[0] / sums[1]
        }
    }

    fn near(ours: f64, theirs: &serde_json::Value) -> bool {
        let theirs = theirs.as_f64().unwrap();
        (ours - theirs).abs() <= 1e-10 * theirs.abs().max(1.0)
    }

    /// The same resamples: all that the bound is made of agrees to 1e-10, and `SciPy`'s end, which lies
    /// between two resamples, is within two of ours before it is stretched.
    #[test]
    fn bias_acceleration_and_ends_are_scipys() {
        let parity = super::super::parity();
        let cases = parity["effects"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let [base, candidate] = ["base", "candidate"].map(|side| {
                let rows: Vec<Vec<f64>> = serde_json::from_value(case[side].clone()).unwrap();
                Segments::from_iter(rows)
            });
            let change = match case["change"].as_str().unwrap() {
                "difference" => Change::Difference,
                "ratio" => Change::Ratio,
                _ => Change::Level,
            };
            let trials: usize = serde_json::from_value(parity["trials"].clone()).unwrap();
            let resampling = Resampling::new(base.len(), trials, SEED).unwrap();
            let paired = Paired {
                base: &base,
                candidate: &candidate,
                statistic: &Mean,
                change,
                range: None,
            };
            let effect = effect(&paired, &resampling).unwrap();
            let inside = |shown: f64| if change == Change::Ratio { shown.ln() } else { shown };
            assert!(near(inside(effect.value), &case["value"]), "{case}");
            assert!(near(effect.standard_error, &case["standard_error"]), "{case}");
            for (ours, theirs) in effect.samples().zip(case["first_samples"].as_array().unwrap()) {
                assert!(near(inside(ours), theirs), "{ours} {theirs}");
            }
            let bca = effect.bca.as_ref().unwrap();
            assert!(near(bca.bias, &case["bias"]), "{} {case}", bca.bias);
            assert!(near(bca.acceleration, &case["acceleration"]), "{case}");
            for (alpha, ends) in case["bca"].as_object().unwrap() {
                let alpha: f64 = alpha.parse().unwrap();
                for (side, end) in [(Side::Lower, 0), (Side::Upper, 1)] {
                    let ranks = first(trials, |rank| bca.level(side, rank) > alpha);
                    let around = [ranks.saturating_sub(3), ranks + 2].map(|rank| match side {
                        Side::Lower => bca.sorted[rank],
                        Side::Upper => bca.sorted[trials - 1 - rank],
                    });
                    let end = ends[end].as_f64().unwrap();
                    let (low, high) = (around[0].min(around[1]), around[0].max(around[1]));
                    assert!(low <= end && end <= high, "{end} not in {low}..{high}");
                }
            }
        }
    }

    /// Of symmetric resamples the bound is the normal one, times √(n/(n − 1)) · t/z.
    #[test]
    fn bounds_are_stretched_to_students() {
        let count = 1999_u32;
        let samples: Vec<f64> =
            (1..=count).map(|rank| normal_quantile(f64::from(rank) / 2000.0)).collect();
        let without: Vec<f64> = (0..8_i32).map(|at| f64::from(2 * at - 7)).collect();
        let bca = Bca::new(0.0, &samples, &without);
        let expected = (8.0_f64 / 7.0).sqrt() * student_quantile(0.05, 7);
        // the hundredth resample stands for 5 %, which rounding must not make the 99th
        let alpha = 0.05 + 1e-9;
        assert!((bca.at(Side::Lower, alpha) - expected).abs() < 1e-9);
        assert!((bca.at(Side::Upper, alpha) + expected).abs() < 1e-9);
        assert_eq!(bca.at(Side::Lower, 1e-4), f64::NEG_INFINITY);
    }
}
