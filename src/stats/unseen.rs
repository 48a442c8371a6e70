//! Bounds where too few clusters differ for a normal approximation: one more cluster, unseen, lies
//! at the worst end.
//!
//! Gaffke's bound (2005; Learned-Miller and Thomas, arXiv 1905.06208): with weights D₁ … Dₙ₊₁ from the flat
//! Dirichlet distribution, the lower bound at level α is the α-quantile of Σ Dᵢvᵢ + Dₙ₊₁·low. For
//! values of 0 and 1 it is Clopper and Pearson's, and for no event in n the rule of three,
//! 1 − α^(1/n).

use super::bca::Side;
use super::pcg64::Pcg64;

#[derive(Debug, Clone)]
pub struct Unseen {
    /// Between which the unseen cluster lies.
    pub ends: (f64, f64),
    /// Sorted means with the unseen cluster at the low end, and at the high end.
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Unseen {
    /// `values` of the clusters, of which an unseen one lies between `ends`.
    pub fn new(values: &[f64], ends: (f64, f64), trials: usize, seed: u64) -> Self {
        let mut generator = Pcg64::seeded(seed);
        let (mut low, mut high) = (Vec::with_capacity(trials), Vec::with_capacity(trials));
        for _ in 0..trials {
            let unseen = exponential(&mut generator);
            let (mut total, mut sum) = (unseen, 0.0);
            for value in values {
                let weight = exponential(&mut generator);
                total += weight;
                sum += weight * value;
            }
            low.push((sum + unseen * ends.0) / total);
            high.push((sum + unseen * ends.1) / total);
        }
        low.sort_by(f64::total_cmp);
        high.sort_by(f64::total_cmp);
        Self { ends, low, high }
    }

    /// The one-sided bound at level `alpha`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a level times a number of trials, not negative"
    )]
    pub fn at(&self, side: Side, alpha: f64) -> f64 {
        let ranks = (alpha.clamp(0.0, 1.0) * (self.low.len() + 1) as f64 + 1e-9) as usize;
        let bound = ranks.checked_sub(1).and_then(|rank| match side {
            Side::Lower => self.low.get(rank.min(self.low.len().saturating_sub(1))),
            Side::Upper => self.high.get(self.high.len().saturating_sub(rank + 1)),
        });
        bound.copied().unwrap_or(side.sign() * f64::NEG_INFINITY)
    }

    /// The smallest level at which the bound is beyond `margin`.
    pub fn p(&self, side: Side, margin: f64) -> f64 {
        let count = match side {
            Side::Lower => self.low.partition_point(|mean| *mean <= margin),
            Side::Upper => self.high.len() - self.high.partition_point(|mean| *mean < margin),
        };
        ((count + 1) as f64 / (self.low.len() + 1) as f64).min(1.0)
    }
}

/// A number of the exponential distribution of mean 1.
fn exponential(generator: &mut Pcg64) -> f64 {
    let uniform = ((generator.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `binomtest(…).proportion_ci(0.95, "exact")`, one-sided; 20,000 trials leave some thousandths.
    #[test]
    fn of_zeros_and_ones_the_bound_is_clopper_and_pearsons() {
        let parity = super::super::parity();
        for case in parity["clopper_pearson"].as_array().unwrap() {
            let [clusters, events]: [usize; 2] = ["clusters", "events"]
                .map(|key| serde_json::from_value(case[key].clone()).unwrap());
            let mut values = vec![0.0; clusters];
            values[..events].fill(1.0);
            let bound = Unseen::new(&values, (0.0, 1.0), 20_000, 1).at(Side::Upper, 0.05);
            assert!((bound - case["high"].as_f64().unwrap()).abs() < 0.01, "{case}: {bound}");
        }
    }

    #[test]
    fn a_p_value_is_the_level_at_which_the_bound_passes_the_margin() {
        let unseen = Unseen::new(&[0.0, 0.2, 1.0, 0.4], (-1.0, 1.0), 399, 3);
        for step in 0..60_u32 {
            let margin = f64::from(step) / 20.0 - 1.5;
            for alpha in [0.01, 0.05, 0.25, 0.5] {
                assert_eq!(
                    unseen.p(Side::Lower, margin) <= alpha,
                    unseen.at(Side::Lower, alpha) > margin
                );
                assert_eq!(
                    unseen.p(Side::Upper, margin) <= alpha,
                    unseen.at(Side::Upper, alpha) < margin
                );
            }
        }
    }
}
