use serde::Serialize;

use super::distribution::{normal_quantile, student_quantile};
use super::effect::Effect;

/// More clusters than anyone writes.
const MOST: usize = 1_000_000;

/// What is claimed of an effect: a gain above a margin, or a damage below one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The effect is greater (superiority, or non-inferiority with a negative margin).
    Above(f64),
    /// The effect is smaller.
    Below(f64),
}

/// The least number of clusters from which on the bounds were found to hold.
pub const LEAST_CLUSTERS: usize = 8;

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

    /// How many further clusters would show, with probability `power`, on which side of the margin
    /// the effect lies, if it is what it seems to be, and bounds shrink as they do: so many in all that
    /// (t + z) σ / √n, and what one unseen cluster may do besides, are within the distance to the margin.
    /// `None` where the effect lies on it, or nothing is known of its variance. At least 1.
    pub fn further_clusters(self, effect: &Effect, alpha: f64, power: f64) -> Option<usize> {
        let distance = effect.distance(self.margin());
        let deviation = effect.standard_error * (effect.clusters as f64).sqrt();
        let known = distance != 0.0 && distance.is_finite() && deviation.is_finite();
        let unseen = effect.unseen_reach(self.margin());
        let normal = normal_quantile(1.0 - alpha);
        let settles = |clusters: usize| {
            let n = clusters as f64;
            // of many the two are one
            let own =
                if clusters > 500 { normal } else { student_quantile(1.0 - alpha, clusters - 1) };
            let quantile = own + normal_quantile(power);
            let unseen = unseen.map_or(0.0, |reach| -(alpha.ln() / n).exp_m1() * reach);
            quantile * deviation / n.sqrt() + unseen <= distance.abs()
        };
        if !known || !settles(MOST) {
            return None;
        }
        let (mut few, mut enough) = (1, MOST);
        while enough - few > 1 {
            let middle = few.midpoint(enough);
            if settles(middle) {
                enough = middle;
            } else {
                few = middle;
            }
        }
        // the bound there is now may be wider than that
        let width = effect.width(distance > 0.0, alpha) / distance.abs();
        let now = (effect.clusters as f64 * width * width).ceil();
        if now.is_finite() && now > MOST as f64 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and a million"
        )]
        let all = if now.is_finite() { enough.max(now as usize) } else { enough };
        Some(all.saturating_sub(effect.clusters).max(1))
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

    const GAINS: [f64; 10] = [1.0, 2.0, 0.5, 1.5, 3.0, 0.8, 1.1, 2.2, 1.7, 0.4];

    #[test]
    fn a_claim_holds_fails_or_stays_open() {
        let gain = of(&GAINS, None);
        let shown = |claim: Claim| (claim.p_holds(&gain) <= 0.05, claim.p_fails(&gain) <= 0.05);
        assert_eq!(shown(Claim::Above(0.0)), (true, false));
        assert_eq!(shown(Claim::Below(0.0)), (false, true));
        assert_eq!(shown(Claim::Below(4.0)), (true, false));
        assert_eq!(shown(Claim::Above(4.0)), (false, true));
        assert_eq!(shown(Claim::Above(1.2)), (false, false));
        let more = Claim::Above(1.2).further_clusters(&gain, 0.05, 0.8).unwrap();
        assert!((10..200).contains(&more), "{more}");
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
