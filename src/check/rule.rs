//! One rule at one strength.

use std::collections::BTreeMap;
use std::path::Path;

use super::approval::Approval;
use super::error::CheckError;
use super::pairs::{Clusters, Pairs, Scope};
use super::policy::{IfMissing, Policy, Rule};
use super::select::missing;
use crate::base::terminal::printable;
use crate::metric::Measure;
use crate::run::Better;
use crate::run::verdict::{Against, Outcome, RuleKind, RuleResult};
use crate::stats::{
    Change, Effect, Paired, Resampling, SEED, Segments, Statistic as _, Width, effect,
};

/// A rule's result and what decisions over several rules need.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub result: RuleResult,
    pub rule: &'a Rule,
    pub measure: Option<&'a Measure>,
    pub effect: Option<Effect>,
    /// Of a gain: p-value against "it did not get worse than the base".
    pub p_worse: f64,
    /// Pairs or prompts are fewer than the rule asks for.
    pub lacking: bool,
}

impl<'a> Judged<'a> {
    /// Of what needs no statistics.
    pub fn exact(rule: &'a Rule, outcome: Outcome, sentence: String) -> Self {
        let result = RuleResult { outcome, sentence, ..blank(rule) };
        Self { result, rule, measure: None, effect: None, p_worse: 1.0, lacking: false }
    }
}

/// A result that says nothing yet.
pub(super) fn blank(rule: &Rule) -> RuleResult {
    RuleResult {
        rule: rule.id.clone(),
        kind: rule.kind,
        severity: rule.severity,
        outcome: Outcome::NotApplicable,
        sentence: String::new(),
        hint: None,
        metric: (!rule.metric.is_empty()).then(|| rule.metric.clone()),
        group: rule.group.clone(),
        axes: rule.axes.clone(),
        against: rule.against,
        at_least: rule.bound.at_least(),
        at_most: rule.bound.at_most(),
        value: None,
        low: None,
        high: None,
        score: None,
        base_score: None,
        pairs: 0,
        prompts: 0,
        p_kept: None,
        p_broken: None,
        adjusted_p_broken: None,
        further_prompts: None,
    }
}

/// Between which values one prompt's score lies, of metrics that jump, and of likenesses to the base: there
/// all prompts may be perfectly alike, and the bound is what the next one may do.
fn range(rule: &Rule) -> Option<(f64, f64)> {
    match (rule.metric.as_str(), rule.change) {
        ("exact-match", _)
        | ("ssim" | "ms-ssim" | "histogram" | "repetition" | "distinct-2", Change::Level) => {
            Some((0.0, 1.0))
        }
        ("base-bleu" | "top1", Change::Level) => Some((0.0, 100.0)),
        _ => None,
    }
}

/// What all rules at all strengths share.
pub(super) struct Measuring<'a, 'p> {
    pub path: &'a Path,
    pub pairs: &'p Pairs<'a>,
    pub policy: &'a Policy,
    pub baseline: Option<&'a Approval>,
    /// How many resamples.
    pub trials: usize,
    /// Resamples by number of prompts: all metrics and strengths of a group meet the same ones.
    pub resamplings: BTreeMap<usize, Resampling>,
}

impl<'a> Measuring<'a, '_> {
    /// A rule by its metric at one strength of the run.
    pub fn judge(
        &mut self,
        rule: &'a Rule,
        measure: &'a Measure,
        place: usize,
    ) -> Result<Judged<'a>, CheckError> {
        let strength = self.pairs.record.strengths.get(place).copied().unwrap_or_default();
        let scope = Scope { group: rule.group.as_deref(), axes: &rule.axes };
        let mut clusters = self.pairs.clusters(measure, scope, place);
        if clusters.prompts.is_empty() {
            return self.without(rule, strength);
        }
        if rule.against == Against::Baseline {
            clusters.base = self.approved(rule, &clusters);
        }
        let failed = |source| CheckError::Score {
            path: self.path.to_owned(),
            rule: rule.id.clone(),
            strength,
            source,
        };
        let n = clusters.prompts.len();
        let resampling = match self.resamplings.entry(n) {
            std::collections::btree_map::Entry::Occupied(made) => made.into_mut(),
            std::collections::btree_map::Entry::Vacant(empty) => {
                empty.insert(Resampling::new(n, self.trials, SEED).map_err(failed)?)
            }
        };
        let (base, candidate) = (&clusters.base, &clusters.candidate);
        // a gain is positive where the metric got better
        let turned = rule.kind == RuleKind::Gain
            && rule.change != Change::Level
            && measure.better == Better::Lower;
        let (from, to) = if turned { (candidate, base) } else { (base, candidate) };
        let effect = effect(
            &Paired {
                base: from,
                candidate: to,
                statistic: &measure.combine,
                change: rule.change,
                range: range(rule),
            },
            resampling,
        )
        .map_err(failed)?;
        Ok(self.result(rule, measure, &clusters, effect))
    }

    /// A rule whose metric no pair has at a strength: texts may be too short for it.
    fn without(&self, rule: &'a Rule, strength: f64) -> Result<Judged<'a>, CheckError> {
        let metric = printable(&rule.metric);
        let problem = format!("no output at strength {strength} has a score `{metric}`");
        if rule.if_missing == IfMissing::Error {
            let hint = "look at the outputs, or judge by another metric";
            return Err(missing(self.policy, rule, &problem, hint));
        }
        let sentence = format!("not applicable: {problem}");
        Ok(Judged::exact(rule, Outcome::NotApplicable, sentence))
    }

    fn result(
        &self,
        rule: &'a Rule,
        measure: &'a Measure,
        clusters: &Clusters<'a>,
        effect: Effect,
    ) -> Judged<'a> {
        let alpha = self.policy.alpha();
        let finite = |value: f64| value.is_finite().then_some(value);
        let score = |sums: &Segments| finite(measure.combine.score_of(&sums.sums(), Width::Double));
        let neutral = if rule.change == Change::Ratio { 1.0 } else { 0.0 };
        let claim = rule.bound.claim();
        // Student's t knows no end of a scale
        let ends = range(rule).filter(|_| rule.change == Change::Level);
        let (least, largest) = ends.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let result = RuleResult {
            outcome: Outcome::Inconclusive,
            value: finite(effect.value),
            low: finite(effect.low(alpha)).map(|low| low.max(least)),
            high: finite(effect.high(alpha)).map(|high| high.min(largest)),
            score: score(&clusters.candidate),
            base_score: score(&clusters.base).filter(|_| rule.against != Against::Nothing),
            pairs: clusters.pairs,
            prompts: clusters.prompts.len(),
            p_kept: claim.map(|claim| claim.p_holds(&effect)),
            p_broken: claim.map(|claim| claim.p_fails(&effect)),
            ..blank(rule)
        };
        Judged {
            lacking: result.pairs < rule.min_pairs || result.prompts < rule.min_prompts,
            p_worse: match rule.kind {
                RuleKind::Gain if rule.against == Against::Base => effect.p_below(neutral),
                _ => 1.0,
            },
            result,
            rule,
            measure: Some(measure),
            effect: Some(effect),
        }
    }

    /// The approved sums of the same prompts.
    fn approved(&self, rule: &Rule, clusters: &Clusters<'_>) -> Segments {
        let group = rule.group.as_deref().unwrap_or_default();
        let row = |prompt: &&str| self.baseline?.row(&rule.metric, group, prompt);
        clusters.prompts.iter().filter_map(row).cloned().collect()
    }
}
