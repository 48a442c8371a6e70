use serde::Serialize;

use super::bca::{Bca, Side};
use super::clusters::Clusters;
use super::distribution::{student, student_quantile};
use super::error::StatsError;
use super::pairing::{Change, Paired};
use super::resampling::Resampling;
use super::unseen::Unseen;

/// Where an effect's bounds come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The wider of the stretched `BCa` bootstrap and Student's t; of a level also what one unseen
    /// cluster could do that lies twice as far off as the farthest seen.
    Bca,
    /// As there, and one unseen cluster at the worst end: fewer than five clusters differ, or all
    /// differ by the same.
    Sparse,
    /// No cluster shows anything, and nothing says how large a change could be: the sign test.
    Identical,
    /// A single cluster: no bounds.
    Single,
}

/// An effect and how sure it is.
///
/// Of a ratio, `value`, bounds, margins and samples are ratios.
#[derive(Debug, Clone)]
pub struct Effect {
    /// The effect over all clusters.
    pub value: f64,
    /// The jackknife's, over clusters; of a ratio that of its logarithm.
    pub standard_error: f64,
    /// How many clusters.
    pub clusters: usize,
    /// Clusters whose statistics are not the base's; all of them for [`Change::Level`].
    pub changed: usize,
    /// Where the bounds come from.
    pub method: Method,
    change: Change,
    samples: Vec<f64>,
    pub(super) bca: Option<Bca>,
    unseen: Option<Unseen>,
}

/// The effect of `paired`, with what its bounds need.
pub fn effect(paired: &Paired<'_>, resampling: &Resampling) -> Result<Effect, StatsError> {
    paired.check(resampling)?;
    let clusters = paired.candidate.len();
    let value = finite(paired.score(&paired.sums()), "over all clusters")?;
    let effect = Effect {
        value: paired.change.shown(value),
        standard_error: if clusters > 1 { 0.0 } else { f64::INFINITY },
        clusters,
        changed: paired.changed(),
        method: Method::Single,
        change: paired.change,
        samples: vec![value; resampling.trials()],
        bca: None,
        unseen: None,
    };
    if clusters > 1 { effect.bounded(value, paired, resampling) } else { Ok(effect) }
}

fn finite(value: f64, of: &'static str) -> Result<f64, StatsError> {
    if value.is_finite() { Ok(value) } else { Err(StatsError::NotFinite { of, value }) }
}

/// √((n − 1)/n Σ (θ₍ᵢ₎ − mean)²) of the effects with each cluster left out.
fn standard_error(without: &[f64]) -> f64 {
    let n = without.len() as f64;
    let mean = without.iter().sum::<f64>() / n;
    ((n - 1.0) / n * without.iter().map(|other| (other - mean).powi(2)).sum::<f64>()).sqrt()
}

impl Effect {
    /// With what the bounds of several clusters need; `value` in their scale.
    fn bounded(
        mut self,
        value: f64,
        paired: &Paired<'_>,
        resampling: &Resampling,
    ) -> Result<Self, StatsError> {
        let without = paired.without_each();
        for other in &without {
            finite(*other, "with a cluster left out")?;
        }
        let clusters = Clusters::new(value, &without, paired, self.changed);
        self.method = Method::Bca;
        if !clusters.all_equal() {
            self.standard_error = standard_error(&without);
            self.samples = resampling.scores(&paired.sides(), |sums| paired.score(sums));
            for sample in &self.samples {
                finite(*sample, "of a resample")?;
            }
            self.bca = Some(Bca::new(value, &self.samples, &without));
        }
        let few = clusters.few();
        let ends = match self.change {
            Change::Level => clusters.ends_of_level(paired),
            Change::Difference | Change::Ratio if few => clusters.ends(paired),
            Change::Difference | Change::Ratio => None,
        };
        let (trials, seed) = (resampling.trials(), resampling.seed());
        self.unseen = ends.map(|ends| Unseen::new(&clusters.values, ends, trials, seed));
        if few {
            let known = self.unseen.is_some() || self.bca.is_some();
            self.method = if known { Method::Sparse } else { Method::Identical };
        }
        Ok(self)
    }

    /// Whether no cluster differs from the base.
    pub fn identical(&self) -> bool {
        self.changed == 0
    }

    /// The lower bound at level `alpha`, one-sided; −∞ (of a ratio 0) where the data cannot tell.
    pub fn low(&self, alpha: f64) -> f64 {
        self.change.shown(self.bound(Side::Lower, alpha))
    }

    /// The upper bound at level `alpha`, one-sided; ∞ where the data cannot tell.
    pub fn high(&self, alpha: f64) -> f64 {
        self.change.shown(self.bound(Side::Upper, alpha))
    }

    /// The two-sided interval that covers with probability `level`.
    pub fn interval(&self, level: f64) -> (f64, f64) {
        let alpha = 0.5 * (1.0 - level);
        (self.low(alpha), self.high(alpha))
    }

    /// The p-value against "the effect is at most `margin`": `low(alpha) > margin` where it is at
    /// most `alpha`.
    pub fn p_above(&self, margin: f64) -> f64 {
        self.p(Side::Lower, self.change.inside(margin))
    }

    /// The p-value against "the effect is at least `margin`": `high(alpha) < margin` where it is at
    /// most `alpha`.
    pub fn p_below(&self, margin: f64) -> f64 {
        self.p(Side::Upper, self.change.inside(margin))
    }

    /// The effects of the resamples, in their order.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = f64> {
        self.samples.iter().map(|sample| self.change.shown(*sample))
    }

    /// Effect − margin, of a ratio in logarithms.
    pub(super) fn distance(&self, margin: f64) -> f64 {
        self.change.inside(self.value) - self.change.inside(margin)
    }

    /// How far one unseen cluster may lie from the effect, towards the margin; `None` where none is
    /// reckoned with.
    pub(super) fn unseen_reach(&self, margin: f64) -> Option<f64> {
        let value = self.change.inside(self.value);
        match self.method {
            Method::Single => None,
            // as far as the margin on the other side: half of all would have to lie there
            Method::Identical => Some(2.0 * self.distance(margin).abs()),
            Method::Bca | Method::Sparse => {
                let (low, high) = self.unseen.as_ref()?.ends;
                Some(if self.distance(margin) > 0.0 { value - low } else { high - value })
            }
        }
    }

    /// How far the bound at level `alpha` lies from the effect, but for an unseen cluster's part in it.
    pub(super) fn width(&self, lower: bool, alpha: f64) -> f64 {
        let side = if lower { Side::Lower } else { Side::Upper };
        let value = self.change.inside(self.value);
        self.resampled(side, alpha).map_or(0.0, |bound| (value - bound).abs())
    }

    /// The wider of Student's t and `BCa`; `None` where no cluster differs.
    fn resampled(&self, side: Side, alpha: f64) -> Option<f64> {
        let bca = self.bca.as_ref()?.at(side, alpha);
        let t = student_quantile(1.0 - alpha, self.clusters.saturating_sub(1));
        let student = self.change.inside(self.value) - side.sign() * t * self.standard_error;
        Some(side.sign() * (side.sign() * student).min(side.sign() * bca))
    }

    /// The widest of the bounds that apply.
    fn bound(&self, side: Side, alpha: f64) -> f64 {
        let value = self.change.inside(self.value);
        let sign = side.sign();
        let none = sign * f64::NEG_INFINITY;
        match self.method {
            Method::Single => return none,
            Method::Identical => return if self.sign_test() <= alpha { value } else { none },
            Method::Bca | Method::Sparse => {}
        }
        let unseen = self.unseen.as_ref().map(|unseen| unseen.at(side, alpha));
        let bounds = [self.resampled(side, alpha), unseen].into_iter().flatten();
        sign * bounds.map(|bound| sign * bound).fold(f64::INFINITY, f64::min)
    }

    /// The largest of the p-values that apply.
    fn p(&self, side: Side, margin: f64) -> f64 {
        if margin.is_nan() || self.method == Method::Single {
            return 1.0;
        }
        let beyond = side.sign() * (self.change.inside(self.value) - margin);
        if self.method == Method::Identical {
            return if beyond > 0.0 { self.sign_test() } else { 1.0 };
        }
        let student = self
            .bca
            .as_ref()
            .map(|_| student(-beyond / self.standard_error, self.clusters.saturating_sub(1)));
        let bca = self.bca.as_ref().map(|bca| bca.p(side, margin));
        let unseen = self.unseen.as_ref().map(|unseen| unseen.p(side, margin));
        [student, bca, unseen].into_iter().flatten().fold(0.0, f64::max)
    }

    /// That all clusters lie on one side where half of them should not.
    fn sign_test(&self) -> f64 {
        0.5_f64.powf(self.clusters as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Pcg64, SEED, Segments, Statistic, Width};
    use super::*;

    struct Mean;

    impl Statistic for Mean {
        fn score_of(&self, sums: &[f64], _: Width) -> f64 {
            sums[0] / sums[1]
        }
    }

    fn rows(values: &[f64]) -> Segments {
        values.iter().map(|value| vec![*value, 1.0]).collect()
    }

    fn judged(
        change: Change,
        base: &[f64],
        candidate: &[f64],
        range: Option<(f64, f64)>,
    ) -> Result<Effect, StatsError> {
        let (base, candidate) = (rows(base), rows(candidate));
        let resampling = Resampling::new(candidate.len(), 999, SEED).unwrap();
        let paired = Paired { base: &base, candidate: &candidate, statistic: &Mean, change, range };
        effect(&paired, &resampling)
    }

    fn uniform(generator: &mut Pcg64) -> f64 {
        ((generator.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    const BASE: [f64; 9] = [3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0, 6.0, 5.5];
    const BETTER: [f64; 9] = [4.0, 1.2, 6.0, 1.9, 5.7, 9.1, 3.0, 9.0, 5.9];

    #[test]
    fn a_p_value_is_the_level_at_which_the_bound_passes_the_margin() {
        for change in [Change::Difference, Change::Ratio, Change::Level] {
            let effect = judged(change, &BASE, &BETTER, None).unwrap();
            for step in 0..120_u32 {
                let margin = f64::from(step) / 15.0;
                for alpha in [0.001, 0.01, 0.05, 0.2, 0.4] {
                    let above = effect.p_above(margin) <= alpha;
                    assert_eq!(above, effect.low(alpha) > margin, "{change:?} {margin} {alpha}");
                    let below = effect.p_below(margin) <= alpha;
                    assert_eq!(below, effect.high(alpha) < margin, "{change:?} {margin} {alpha}");
                }
            }
            let (low, high) = effect.interval(0.9);
            assert!(low < effect.value && effect.value < high);
            assert_eq!((low, high), (effect.low(0.05), effect.high(0.05)));
        }
    }

    #[test]
    fn changing_sides_turns_an_effect_round() {
        let forth = judged(Change::Difference, &BASE, &BETTER, None).unwrap();
        let back = judged(Change::Difference, &BETTER, &BASE, None).unwrap();
        assert_eq!(forth.value, -back.value);
        assert!((forth.low(0.05) + back.high(0.05)).abs() < 1e-12);
        assert!((forth.p_above(0.1) - back.p_below(-0.1)).abs() < 1e-12);
    }

    #[test]
    fn a_ratio_is_the_difference_of_logarithms() {
        let ratio = judged(Change::Ratio, &BASE, &BETTER, None).unwrap();
        let expected = BETTER.iter().sum::<f64>() / BASE.iter().sum::<f64>();
        assert!((ratio.value - expected).abs() < 1e-12);
        assert!(ratio.samples().all(|sample| sample > 1.0));
        assert!(ratio.low(0.05) > 1.0 && ratio.p_above(1.0) < 0.05);
        assert!(ratio.p_above(0.0) < 0.05 && ratio.p_above(f64::NAN) == 1.0);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let effect = pool.install(|| judged(Change::Difference, &BASE, &BETTER, None)).unwrap();
            (effect.samples().collect::<Vec<_>>(), effect.interval(0.95), effect.p_above(0.3))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn an_identical_candidate_is_never_significant() {
        for change in [Change::Difference, Change::Ratio] {
            let none = if change == Change::Ratio { 1.0 } else { 0.0 };
            for range in [None, Some((0.0, 1.0))] {
                let effect = judged(change, &BASE, &BASE, range).unwrap();
                assert!(effect.identical() && effect.changed == 0);
                assert_eq!(effect.value, none);
                assert_eq!((effect.p_above(none), effect.p_below(none)), (1.0, 1.0));
            }
        }
        let effect = judged(Change::Difference, &BASE, &BASE, None).unwrap();
        assert_eq!(effect.method, Method::Identical);
        assert_eq!(effect.p_above(-0.1), 0.5_f64.powi(9));
        assert_eq!(effect.interval(0.9), (0.0, 0.0));
        assert_eq!(effect.low(1e-4), f64::NEG_INFINITY);
    }

    /// The sign test: 2⁻⁴ of four, 2⁻⁹ of nine.
    #[test]
    fn an_equal_gain_of_few_clusters_is_not_certain() {
        let gain = |count: usize| {
            let (base, better) = (&BASE[..count], BASE.map(|value| value + 2.0));
            judged(Change::Difference, base, &better[..count], None).unwrap()
        };
        let (four, nine) = (gain(4), gain(9));
        assert_eq!((four.method, nine.method), (Method::Sparse, Method::Sparse));
        assert!((four.p_above(0.0) - 0.0625).abs() < 0.02, "{}", four.p_above(0.0));
        assert!(nine.p_above(0.0) < 0.01);
        assert!(nine.low(0.05) > 0.0 && nine.low(0.05) < 1.5, "{}", nine.low(0.05));
        assert!(nine.high(0.05) > 2.5);
    }

    /// One-sided at 5 %: 1 − 0.05^(1/20) = 0.139.
    #[test]
    fn twenty_answers_without_a_loss_may_hide_one_in_seven() {
        let answers = [1.0; 20];
        let effect = judged(Change::Difference, &answers, &answers, Some((0.0, 1.0))).unwrap();
        assert!(effect.identical());
        assert!((effect.low(0.05) + 0.139).abs() < 0.02, "{}", effect.low(0.05));
        assert!(effect.p_above(-0.05) > 0.3 && effect.p_above(-0.2) < 0.05);
    }

    #[test]
    fn a_single_cluster_says_nothing() {
        let effect = judged(Change::Difference, &[1.0], &[2.0], None).unwrap();
        assert_eq!((effect.method, effect.p_above(-10.0)), (Method::Single, 1.0));
        assert_eq!(effect.interval(0.9), (f64::NEG_INFINITY, f64::INFINITY));
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let lost = judged(Change::Difference, &BASE, &[f64::NAN; 9], None).unwrap_err();
        assert!(lost.to_string().starts_with("expected a finite score over all clusters"));
        let zero = judged(Change::Ratio, &[0.0; 9], &BASE, None).unwrap_err();
        assert!(matches!(zero, StatsError::NotFinite { .. }));
        let unpaired = judged(Change::Difference, &BASE[..3], &BASE, None).unwrap_err();
        assert_eq!(unpaired, StatsError::Unpaired { base: 3, system: 9 });
        let (base, candidate) = (rows(&BASE), rows(&BETTER));
        let paired = Paired {
            base: &base,
            candidate: &candidate,
            statistic: &Mean,
            change: Change::Difference,
            range: None,
        };
        let other = effect(&paired, &Resampling::new(8, 10, 1).unwrap()).unwrap_err();
        assert_eq!(other, StatsError::Resampled { clusters: 9, resampled: 8 });
        assert_eq!(Resampling::new(8, 0, 1), Err(StatsError::NoTrials));
        assert_eq!(Resampling::new(0, 8, 1), Err(StatsError::NoSegments));
    }

    /// Skewed scores of a base and of a candidate of the same distribution: of 400 runs each, at 5 %
    /// no more than 5 % and two and a half standard errors (1.1 %) are called a gain or a loss.
    /// The whole table: `cargo bench --bench verdict`.
    #[test]
    fn noise_is_called_a_gain_or_a_loss_in_one_run_of_twenty() {
        for clusters in [8, 20] {
            let resampling = Resampling::new(clusters, 499, SEED).unwrap();
            let mut generator = Pcg64::seeded(clusters as u64);
            let (mut gains, mut losses) = (0, 0);
            for _ in 0..400 {
                let [base, candidate] = [(); 2].map(|()| {
                    let values = (0..clusters).map(|_| -uniform(&mut generator).ln());
                    rows(&values.collect::<Vec<_>>())
                });
                let (statistic, change) = (&Mean, Change::Difference);
                let paired =
                    Paired { base: &base, candidate: &candidate, statistic, change, range: None };
                let effect = effect(&paired, &resampling).unwrap();
                gains += i32::from(effect.p_above(0.0) <= 0.05);
                losses += i32::from(effect.p_below(0.0) <= 0.05);
            }
            assert!((4..=31).contains(&gains), "{clusters}: {gains}");
            assert!((4..=31).contains(&losses), "{clusters}: {losses}");
        }
    }

    /// One answer in ten is lost; "less than 9 % are lost" is false, and rarely said, though often
    /// no loss is seen at all.
    #[test]
    fn a_rare_loss_that_was_not_seen_is_not_ruled_out() {
        let resampling = Resampling::new(12, 499, SEED).unwrap();
        let mut generator = Pcg64::seeded(5);
        let (mut unseen, mut missed) = (0, 0);
        for _ in 0..300 {
            let base: Vec<f64> =
                (0..12).map(|_| f64::from(uniform(&mut generator) < 0.9)).collect();
            let kept = |right: &f64| if uniform(&mut generator) < 0.9 { *right } else { 0.0 };
            let candidate: Vec<f64> = base.iter().map(kept).collect();
            let (base, candidate) = (rows(&base), rows(&candidate));
            let paired = Paired {
                base: &base,
                candidate: &candidate,
                statistic: &Mean,
                change: Change::Difference,
                range: Some((0.0, 1.0)),
            };
            let effect = effect(&paired, &resampling).unwrap();
            unseen += i32::from(effect.identical());
            missed += i32::from(effect.p_above(-0.09) <= 0.05);
        }
        assert!(unseen > 60, "{unseen}");
        assert!(missed <= 24, "{missed}");
    }
}
