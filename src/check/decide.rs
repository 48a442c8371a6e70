//! From rules to a verdict.
//!
//! With α = 1 − confidence:
//! - a strength *passes* where each of its rules is kept: an intersection–union test (Berger, 1982),
//!   each rule at α, its p-value the largest of theirs. That some strength passes is a union. The gains'
//!   p-values (and those of other rules about the adapter's own job) are corrected over the strengths
//!   (Holm, 1979). The guards of other groups are tested from the smallest
//!   strength upwards, none after the first that is not kept: a fixed sequence, which needs no correction
//!   (Maurer et al., 1995) and costs nothing where damage grows with the strength. So a strength without
//!   a gain, and likewise one that does harm, is let pass with a probability of at most α.
//! - a rule *fails* where its p-value, corrected over the rules of the strength, is at most α. A
//!   regression asks that every strength fails: where one strength is good, that one fails with a
//!   probability of at most α, and so does the run. No correction over the strengths is needed.
//! - failing by a gain below its margin alone is too weak an adapter and no harm. A run is a regression
//!   where every strength fails and at least one does harm, or where the adapter changes nothing at all.

use std::collections::BTreeSet;

use super::policy::{Bound, Policy, Rule};
use super::rule::Judged;
use super::select::Need;
use super::words::sentence;
use crate::run::verdict::{Answer, Outcome, RuleKind, RuleResult, Severity};
use crate::stats::{Effect, holm, wins};

/// All rules at one strength.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "a strength is called strength everywhere")]
pub(super) struct Strength<'a> {
    pub strength: f64,
    pub rules: Vec<Judged<'a>>,
    pub verdict: Answer,
    pub safe: bool,
    /// The largest p-value of its rules, and after the correction over the strengths.
    pub p: f64,
    pub adjusted_p: f64,
    pub wins: f64,
    /// What the policy asks for and of which nothing could be judged here.
    pub lacks: BTreeSet<Need>,
}

impl<'a> Strength<'a> {
    /// Nothing decided yet; of what is `required` a rule must be judged.
    pub fn new(strength: f64, rules: Vec<Judged<'a>>, required: &BTreeSet<Need>) -> Self {
        let verdict = Answer::Inconclusive;
        let lacks = required.clone();
        let (p, adjusted_p, wins) = (1.0, 1.0, 0.0);
        let mut new = Self { strength, rules, verdict, safe: false, p, adjusted_p, wins, lacks };
        let judged = new.deciding().filter(|j| j.result.outcome != Outcome::NotApplicable);
        let judged: BTreeSet<Need> = judged.flat_map(|judged| Need::of(judged.rule)).collect();
        new.lacks.retain(|need| !judged.contains(need));
        new
    }

    /// Rules that decide.
    pub fn deciding(&self) -> impl Iterator<Item = &Judged<'a>> {
        self.rules.iter().filter(|judged| judged.result.severity == Severity::Error)
    }

    /// Rules that decide and are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Judged<'a>> {
        self.deciding().filter(|judged| judged.result.outcome == Outcome::Fail)
    }

    /// The gain that strengths are chosen by: the first that decides.
    pub fn gain(&self) -> Option<&Judged<'a>> {
        self.deciding().find(|j| j.rule.kind == RuleKind::Gain && j.effect.is_some())
    }

    /// The first guard with a value, of those of the base's own work if there are any.
    pub fn damage(&self) -> Option<&Judged<'a>> {
        let guards =
            || self.deciding().filter(|j| j.rule.kind == RuleKind::Guard && j.effect.is_some());
        guards().find(|judged| judged.result.guards_the_base()).or_else(|| guards().next())
    }

    /// The lower bound of the gain, the larger the better.
    pub fn objective(&self, alpha: f64) -> Option<f64> {
        let gain = self.gain()?;
        let effect = gain.effect.as_ref()?;
        Some(match gain.rule.bound {
            Bound::AtMost(_) => -effect.high(alpha),
            Bound::AtLeast(_) | Bound::None => effect.low(alpha),
        })
    }

    /// Whether the adapter does nothing at this strength.
    pub fn is_dead(&self) -> bool {
        self.broken().any(|judged| judged.rule.kind == RuleKind::Effect)
    }

    /// Whether something got worse, with evidence.
    fn does_harm(&self, alpha: f64) -> bool {
        let measured = self.deciding().filter(|judged| judged.effect.is_some()).count() as f64;
        self.broken().any(|judged| match judged.rule.kind {
            RuleKind::Guard | RuleKind::Memorisation => true,
            RuleKind::Gain => judged.p_worse * measured <= alpha,
            RuleKind::Effect => false,
        })
    }

    /// The largest p-value of the rules of some kinds; 1 where one cannot be kept, `None` where there
    /// are none.
    fn p_of(&self, wanted: impl Fn(&Judged<'a>) -> bool) -> Option<f64> {
        let of = |judged: &Judged<'a>| match judged.result.outcome {
            _ if judged.lacking => 1.0,
            Outcome::Fail => 1.0,
            Outcome::Inconclusive if judged.effect.is_none() => 1.0,
            _ => judged.result.p_kept.unwrap_or(0.0),
        };
        let judged = self.deciding().filter(|judged| wanted(judged));
        let judged = judged.filter(|judged| judged.result.outcome != Outcome::NotApplicable);
        judged.map(of).reduce(f64::max)
    }

    /// Whether every guard and every look for copies that could be judged is kept.
    fn keeps_guards(&self) -> bool {
        let guards = self
            .deciding()
            .filter(|judged| matches!(judged.rule.kind, RuleKind::Guard | RuleKind::Memorisation));
        guards
            .map(|judged| judged.result.outcome)
            .all(|outcome| matches!(outcome, Outcome::Pass | Outcome::NotApplicable))
    }
}

/// Decides each rule, each strength, and gives the run's answer.
pub(super) fn decide(strengths: &mut [Strength<'_>], policy: &Policy) -> Answer {
    let alpha = policy.alpha();
    let number = strengths.len();
    for strength in strengths.iter_mut() {
        decide_rules(strength, policy, number);
    }
    let gains: Vec<_> = strengths.iter().map(|s| s.p_of(|judged| !grows(&judged.result))).collect();
    let guards: Vec<_> = strengths.iter().map(|s| s.p_of(|judged| grows(&judged.result))).collect();
    // where there is no rule of a kind, none stands against the strength
    let corrected = holm(&gains.iter().map(|p| p.unwrap_or(0.0)).collect::<Vec<_>>());
    let mut so_far = 0.0_f64;
    for (((strength, gain), guard), corrected) in
        strengths.iter_mut().zip(gains).zip(guards).zip(corrected)
    {
        so_far = so_far.max(guard.unwrap_or(0.0));
        strength.p = gain.into_iter().chain(guard).reduce(f64::max).unwrap_or(1.0);
        strength.adjusted_p = strength.p.max(corrected).max(so_far);
        strength.safe = guard.is_some() && so_far <= alpha && strength.keeps_guards();
        let adjusted_p = strength.adjusted_p;
        strength.verdict = if adjusted_p <= alpha && strength.lacks.is_empty() {
            Answer::Pass
        } else if strength.does_harm(alpha) || strength.is_dead() {
            Answer::Regression
        } else {
            Answer::Inconclusive
        };
    }
    count_wins(strengths);
    let fail = strengths.iter().all(|strength| strength.broken().next().is_some());
    let harm = strengths.iter().any(|strength| strength.does_harm(alpha));
    let dead = strengths.iter().all(Strength::is_dead);
    if strengths.iter().any(|strength| strength.verdict == Answer::Pass) {
        Answer::Pass
    } else if fail && (harm || dead) {
        Answer::Regression
    } else {
        Answer::Inconclusive
    }
}

/// Whether what a rule guards against is expected to grow with the strength: damage to what the adapter
/// has no business with, and copies. How it does its own job may rise and fall.
pub(super) fn grows(rule: &RuleResult) -> bool {
    rule.kind == RuleKind::Memorisation || rule.guards_the_base()
}

/// Outcomes and sentences of the rules of a strength.
fn decide_rules(strength: &mut Strength<'_>, policy: &Policy, strengths: usize) {
    let alpha = policy.alpha();
    let p = |judged: &Judged<'_>, severity| {
        let decides = judged.result.severity == severity && !judged.lacking;
        judged.result.p_broken.filter(|_| decides)
    };
    let family: Vec<f64> =
        strength.rules.iter().filter_map(|judged| p(judged, Severity::Error)).collect();
    let mut adjusted = holm(&family).into_iter();
    let rules = family.len().max(1);
    for judged in &mut strength.rules {
        let adjusted_p = match judged.result.severity {
            Severity::Error => p(judged, Severity::Error).and_then(|_| adjusted.next()),
            Severity::Warn => p(judged, Severity::Warn),
        };
        if judged.result.outcome == Outcome::Inconclusive {
            let lacking = lacking(judged.rule, &judged.result);
            judged.result.further_prompts = (lacking > 0).then_some(lacking);
        }
        let Some(measure) = judged.measure else { continue };
        let result = &mut judged.result;
        result.adjusted_p_broken = adjusted_p;
        result.outcome = match (result.p_kept, adjusted_p) {
            _ if judged.lacking => Outcome::Inconclusive,
            (Some(p), _) if p <= alpha => Outcome::Pass,
            (_, Some(p)) if p <= alpha => Outcome::Fail,
            _ => Outcome::Inconclusive,
        };
        if result.outcome == Outcome::Inconclusive {
            let lacking = lacking(judged.rule, result);
            let claim = judged.rule.bound.claim().zip(judged.effect.as_ref());
            let more = claim.and_then(|(claim, effect)| {
                // what the corrections will ask for, on the side where the effect seems to lie
                let share = if !judged.rule.bound.holds(effect.value) {
                    rules
                } else if grows(result) {
                    1
                } else {
                    strengths
                };
                claim.further_clusters(effect, alpha / share.max(1) as f64, policy.power)
            });
            result.further_prompts = match more {
                Some(more) => Some(more.max(lacking)),
                None => (lacking > 0).then_some(lacking),
            };
        }
        result.sentence = sentence(judged.rule, measure, result);
    }
}

/// How many prompts a rule asks for that are not there; each brings as many pairs as those that are.
fn lacking(rule: &Rule, result: &RuleResult) -> usize {
    let prompts = rule.min_prompts.saturating_sub(result.prompts);
    let pairs = rule.min_pairs.saturating_sub(result.pairs);
    prompts.max(pairs.saturating_mul(result.prompts).div_ceil(result.pairs.max(1)))
}

/// How often each strength is the best of the safe ones.
fn count_wins(strengths: &mut [Strength<'_>]) {
    let objective: Vec<Vec<f64>> = strengths
        .iter()
        .map(|strength| {
            let Some(gain) = strength.gain() else { return Vec::new() };
            let sign = if matches!(gain.rule.bound, Bound::AtMost(_)) { -1.0 } else { 1.0 };
            gain.effect.iter().flat_map(Effect::samples).map(|v| sign * v).collect()
        })
        .collect();
    let allowed: Vec<Vec<bool>> = strengths
        .iter()
        .zip(&objective)
        .map(|(strength, samples)| {
            let exact = strength.broken().all(|judged| judged.effect.is_some());
            let mut allowed = vec![exact; samples.len()];
            for judged in strength.deciding() {
                let Some(effect) = &judged.effect else { continue };
                for (allowed, value) in allowed.iter_mut().zip(effect.samples()) {
                    *allowed &= judged.rule.bound.holds(value);
                }
            }
            allowed
        })
        .collect();
    for (strength, share) in strengths.iter_mut().zip(wins(&objective, &allowed)) {
        strength.wins = share;
    }
}

/// Of the strengths that pass, the one with the largest lower bound of the gain (without a gain, the
/// largest strength).
pub(super) fn recommend(strengths: &[Strength<'_>], policy: &Policy) -> Option<usize> {
    let passing = strengths.iter().enumerate().filter(|(_, s)| s.verdict == Answer::Pass);
    let key = |strength: &Strength<'_>| {
        let gain = strength.objective(policy.alpha());
        gain.map_or((strength.strength, 0.0), |gain| (gain, -strength.strength.abs()))
    };
    passing
        .max_by(|(_, a), (_, b)| {
            let ((a, a_tie), (b, b_tie)) = (key(a), key(b));
            a.total_cmp(&b).then(a_tie.total_cmp(&b_tie))
        })
        .map(|(index, _)| index)
}

/// The strength that comes nearest to passing: one that does its job, as far as that could be judged,
/// before one that does not, then
/// fewest broken rules, then the smallest p-value, then the smallest strength.
pub(super) fn nearest(strengths: &[Strength<'_>]) -> Option<usize> {
    let raw = |strength: &Strength<'_>| {
        let p = strength.deciding().filter_map(|judged| judged.result.p_kept);
        p.fold(0.0, f64::max)
    };
    let idle = |strength: &Strength<'_>| {
        strength.is_dead()
            || !strength.lacks.is_empty()
            || strength.gain().is_some_and(|j| j.result.outcome != Outcome::Pass)
    };
    let order = |(_, a): &(usize, &Strength<'_>), (_, b): &(usize, &Strength<'_>)| {
        let broken = idle(a).cmp(&idle(b)).then(a.broken().count().cmp(&b.broken().count()));
        let by_p = raw(a).total_cmp(&raw(b));
        broken.then(by_p).then(a.strength.abs().total_cmp(&b.strength.abs()))
    };
    strengths.iter().enumerate().min_by(order).map(|(index, _)| index)
}

/// The neighbours of a strength that are safe without a gap; `strengths` ascend.
pub(super) fn safe_around(strengths: &[Strength<'_>], index: usize) -> Option<(f64, f64)> {
    strengths.get(index).filter(|strength| strength.safe)?;
    let below = strengths.iter().take(index).rev().take_while(|strength| strength.safe);
    let above = strengths.iter().skip(index + 1).take_while(|strength| strength.safe);
    let own = strengths.get(index)?.strength;
    Some((below.last().map_or(own, |s| s.strength), above.last().map_or(own, |s| s.strength)))
}
