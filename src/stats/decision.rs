use serde::Serialize;

use super::distribution::{normal_quantile, student_quantile};
use super::effect::Effect;

/// More clusters than anyone writes.
const MOST: f64 = 1e6;

/// What is claimed of an effect: a gain above a margin, or a damage below one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The effect is greater (superiority, or non-inferiority with a negative margin).
    Above(f64),
    /// The effect is smaller.
    Below(f64),
}

/// How much evidence is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Demand {
    /// Probability of a false claim that is put up with.
    pub alpha: f64,
    /// Probability with which a true claim should be seen, for the number of further clusters.
    pub power: f64,
    /// The least number of clusters.
    pub clusters: usize,
}

impl Default for Demand {
    /// 5 %, 80 %, and the eight clusters from which on the bounds were found to hold.
    fn default() -> Self {
        Self { alpha: 0.05, power: 0.8, clusters: 8 }
    }
}

/// What the evidence says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It fails.
    Regression,
    /// Neither is shown.
    Inconclusive {
        /// So many further clusters like these would settle it; `None` where the effect lies on
        /// the margin, or nothing is known of its variance.
        more: Option<usize>,
    },
}

impl Claim {
    fn margin(self) -> f64 {
        match self {
            Self::Above(margin) | Self::Below(margin) => margin,
        }
    }

    /// Small where the effect shows that the claim holds.
    pub fn p_holds(self, effect: &Effect) -> f64 {
        match self {
            Self::Above(margin) => effect.p_above(margin),
            Self::Below(margin) => effect.p_below(margin),
        }
    }

    /// Small where the effect shows that the claim fails.
    pub fn p_fails(self, effect: &Effect) -> f64 {
        match self {
            Self::Above(margin) => effect.p_below(margin),
            Self::Below(margin) => effect.p_above(margin),
        }
    }

    /// What p-values say (corrected, where several claims are judged together).
    pub fn decide(self, effect: &Effect, p_holds: f64, p_fails: f64, demand: &Demand) -> Outcome {
        let lacking = demand.clusters.saturating_sub(effect.clusters);
        if lacking == 0 && p_holds <= demand.alpha {
            return Outcome::Pass;
        }
        if lacking == 0 && p_fails <= demand.alpha {
            return Outcome::Regression;
        }
        let more = self.further_clusters(effect, demand.alpha, demand.power);
        Outcome::Inconclusive {
            more: if lacking > 0 { Some(more.unwrap_or(0).max(lacking)) } else { more },
        }
    }

    /// How many further clusters would show, with probability `power`, on which side of the margin
    /// the effect lies, if it is what it seems to be: n = ((t + z) σ / distance)² in all, and with few
    /// differing clusters what the rule of three asks for. At least 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a million"
    )]
    pub fn further_clusters(self, effect: &Effect, alpha: f64, power: f64) -> Option<usize> {
        let distance = effect.distance(self.margin()).abs();
        let deviation = effect.standard_error * (effect.clusters as f64).sqrt();
        if !(distance > 0.0 && distance.is_finite() && deviation.is_finite()) {
            return None;
        }
        let needed = |quantile: f64| {
            ((quantile + normal_quantile(power)) * deviation / distance).powi(2).ceil()
        };
        let by_normal = needed(normal_quantile(1.0 - alpha));
        let unseen = effect.clusters_against_unseen(self.margin(), alpha).unwrap_or(0.0);
        if by_normal.max(unseen) > MOST {
            return None;
        }
        // Student's t is wider than the normal distribution where clusters are few
        let freedom = (by_normal.max(2.0) - 1.0) as usize;
        let all = needed(student_quantile(1.0 - alpha, freedom)).max(by_normal).max(unseen.ceil());
        Some((all - effect.clusters as f64).max(1.0) as usize)
    }
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

    fn of(differences: &[f64], range: Option<(f64, f64)>) -> Effect {
        let side = |scale: f64| -> Segments {
            differences.iter().map(|difference| vec![scale * difference, 1.0]).collect()
        };
        let (base, candidate) = (side(0.0), side(1.0));
        let resampling = Resampling::new(differences.len(), 999, SEED).unwrap();
        let paired = Paired {
            base: &base,
            candidate: &candidate,
            statistic: &Mean,
            change: Change::Difference,
            range,
        };
        effect(&paired, &resampling).unwrap()
    }

    fn decided(claim: Claim, effect: &Effect) -> Outcome {
        claim.decide(effect, claim.p_holds(effect), claim.p_fails(effect), &Demand::default())
    }

    const GAINS: [f64; 10] = [1.0, 2.0, 0.5, 1.5, 3.0, 0.8, 1.1, 2.2, 1.7, 0.4];

    #[test]
    fn a_claim_passes_fails_or_stays_open() {
        let gain = of(&GAINS, None);
        assert_eq!(decided(Claim::Above(0.0), &gain), Outcome::Pass);
        assert_eq!(decided(Claim::Below(0.0), &gain), Outcome::Regression);
        assert_eq!(decided(Claim::Below(4.0), &gain), Outcome::Pass);
        assert_eq!(decided(Claim::Above(4.0), &gain), Outcome::Regression);
        let Outcome::Inconclusive { more: Some(more) } = decided(Claim::Above(1.2), &gain) else {
            panic!("{:?}", decided(Claim::Above(1.2), &gain));
        };
        assert!((10..200).contains(&more), "{more}");
    }

    #[test]
    fn below_the_least_number_nothing_is_decided() {
        let few = of(&GAINS[..6], None);
        assert!(few.p_above(-5.0) < 0.05);
        let outcome = decided(Claim::Above(-5.0), &few);
        assert_eq!(outcome, Outcome::Inconclusive { more: Some(2) });
    }

    /// ((1.645 + 0.842) · 1 / 0.5)² = 24.7 by the normal distribution, 26 or 27 by Student's.
    #[test]
    fn the_number_needed_is_the_textbooks() {
        let half = 0.5 * (19.0_f64 / 20.0).sqrt();
        let twenty: Vec<f64> =
            (0..20).map(|at| 0.5 + if at % 2 == 0 { 2.0 * half } else { -2.0 * half }).collect();
        let effect = of(&twenty, None);
        let deviation = effect.standard_error * 20.0_f64.sqrt();
        assert!((deviation - 1.0).abs() < 1e-12, "{deviation}");
        let more = Claim::Above(0.0).further_clusters(&effect, 0.05, 0.8);
        assert!(more == Some(6) || more == Some(7), "{more:?}");
        assert_eq!(Claim::Above(effect.value).further_clusters(&effect, 0.05, 0.8), None);
    }

    /// The rule of three: log 0.05 / log 0.95 = 58.4 clusters in which nothing happens.
    #[test]
    fn where_nothing_happened_the_rule_of_three_says_how_many_more() {
        let nothing = of(&[0.0; 20], Some((0.0, 1.0)));
        let claim = Claim::Above(-0.05);
        assert_eq!(claim.further_clusters(&nothing, 0.05, 0.8), Some(39));
        assert!(claim.p_holds(&nothing) > 0.3);
        assert!(claim.p_holds(&of(&[0.0; 62], Some((0.0, 1.0)))) < 0.05);
    }
}
