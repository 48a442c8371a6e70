//! Which rules of a policy can be judged on a run, and by what.

use std::collections::{BTreeMap, BTreeSet};

use super::approval::Approval;
use super::error::CheckError;
use super::pairs::{Pairs, Scope};
use super::policy::{Bound, IfMissing, Policy, Rule};
use super::rule::blank;
use super::words::needs;
use crate::base::hint::{first_few, nearest};
use crate::base::terminal::printable;
use crate::metric::Measure;
use crate::run::verdict::{Against, RuleKind, Severity};
use crate::run::{Better, RunKind};

/// A rule of the policy that concerns a run.
#[derive(Debug)]
pub(super) struct Selected<'a> {
    pub rule: &'a Rule,
    pub by: By<'a>,
}

/// What a rule is judged by.
#[derive(Debug)]
pub(super) enum By<'a> {
    /// A metric.
    Measure(&'a Measure),
    /// The outputs.
    Outputs,
    /// The training's pictures.
    Training,
    /// Nothing: why, and what to do.
    Nothing(String, String),
}

impl Selected<'_> {
    /// Whether it counts at a strength.
    pub fn concerns(&self, strength: f64) -> bool {
        // what cannot be judged at all is told wherever rules are
        matches!(self.by, By::Nothing(..))
            || self.rule.strengths.is_none_or(|(low, high)| (low..=high).contains(&strength))
    }
}

/// What a policy asks for, and a strength must have a rule of that could be judged there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// That the adapter does its job.
    Gain,
    /// That the base does its own.
    Base,
    /// That anything at all stays.
    Guard,
}

impl Need {
    /// What a rule is for.
    pub fn of(rule: &Rule) -> BTreeSet<Self> {
        match rule.kind {
            RuleKind::Gain => BTreeSet::from([Self::Gain]),
            RuleKind::Guard if blank(rule).guards_the_base() => {
                BTreeSet::from([Self::Base, Self::Guard])
            }
            RuleKind::Guard => BTreeSet::from([Self::Guard]),
            RuleKind::Effect | RuleKind::Memorisation => BTreeSet::new(),
        }
    }
}

/// What each strength needs a rule of. A rule of some strengths vouches for no others.
pub(super) fn required(policy: &Policy, run: RunKind, given: Given<'_>) -> BTreeSet<Need> {
    let asked = policy.rules.iter().filter(|rule| {
        rule.severity == Severity::Error
            && rule.runs.is_none_or(|kind| kind == run)
            && !(given.is_first() && rule.against == Against::Baseline)
    });
    asked.flat_map(Need::of).collect()
}

/// A baseline or pictures that no rule looks at were given in vain, and whoever gave them would take the
/// verdict for more than it is.
pub(super) fn unused(
    policy: &Policy,
    selected: &[Selected<'_>],
    given: Given<'_>,
    (kind, strengths): (RunKind, &[f64]),
) -> Result<(), CheckError> {
    let used = |one: &&Selected<'_>| strengths.iter().any(|strength| one.concerns(*strength));
    let fault = |flag, hint: &str| {
        let (path, hint) = (policy.path.clone(), hint.to_owned());
        Err(CheckError::Unused { path, flag, hint })
    };
    let compared = |one: &Selected<'_>| {
        matches!(one.by, By::Measure(_)) && one.rule.against == Against::Baseline
    };
    if given.baseline.is_some() && !selected.iter().filter(used).any(compared) {
        return fault(
            "--baseline",
            "add a rule with `against: baseline` on a metric that the approved run has, at a strength that is judged, or leave the flag out",
        );
    }
    let copies = |one: &Selected<'_>| matches!(one.by, By::Training);
    if given.training && !selected.iter().filter(used).any(copies) {
        return fault(
            "--training",
            match kind {
                RunKind::Image => {
                    "add a rule `kind: memorisation` at a strength that is judged, or leave the flag out"
                }
                RunKind::Text => "leave the flag out: a text run has no pictures",
            },
        );
    }
    Ok(())
}

/// What else a check was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub baseline: Option<&'a Approval>,
    pub approving: bool,
    pub training: bool,
    /// The strength that was asked about.
    pub strength: Option<f64>,
}

impl Given<'_> {
    /// Whether this is the first run to be approved, which has nothing to compare with.
    pub fn is_first(self) -> bool {
        self.approving && self.baseline.is_none()
    }
}

/// The rules that concern the run, in the order of the policy.
pub(super) fn select<'a>(
    policy: &'a Policy,
    pairs: &Pairs<'a>,
    given: Given<'_>,
) -> Result<Vec<Selected<'a>>, CheckError> {
    let mut selected = Vec::new();
    let mut settled = BTreeSet::new();
    for rule in &policy.rules {
        let settles = rule.one_of.as_deref();
        if rule.runs.is_some_and(|kind| kind != pairs.record.kind)
            || settles.is_some_and(|name| settled.contains(name))
            || is_silent(rule, given)
        {
            continue;
        }
        let by = by(rule, pairs, given);
        if let By::Measure(measure) = by
            && rule.kind == RuleKind::Gain
            && measure.better == Better::Neither
        {
            return Err(no_direction(policy, rule));
        }
        if let By::Measure(measure) = by
            && rule.kind == RuleKind::Gain
            && rule.against == Against::Nothing
            && matches!(rule.bound, Bound::AtLeast(_)) != (measure.better == Better::Higher)
        {
            return Err(wrong_way(policy, rule, measure));
        }
        if let By::Nothing(problem, hint) = &by {
            let alternative = settles.is_some();
            if rule.if_missing == IfMissing::Error && !alternative {
                return Err(missing(policy, rule, problem, hint));
            }
        } else if rule.strengths.is_none() && rule.severity == Severity::Error {
            // a rule of some strengths leaves the others to its alternatives, and one that does not decide
            // leaves the decision to them
            settled.extend(settles);
        }
        selected.push(Selected { rule, by });
    }
    settle(policy, &selected, &settled)?;
    Ok(selected)
}

/// Alternatives of which none can be judged are missing as one rule would be.
fn settle(
    policy: &Policy,
    selected: &[Selected<'_>],
    settled: &BTreeSet<&str>,
) -> Result<(), CheckError> {
    for Selected { rule, by } in selected {
        let unsettled = rule.one_of.as_deref().is_some_and(|name| !settled.contains(name));
        if let By::Nothing(problem, hint) = by
            && unsettled
            && rule.if_missing == IfMissing::Error
        {
            return Err(missing(policy, rule, problem, hint));
        }
    }
    Ok(())
}

fn no_direction(policy: &Policy, rule: &Rule) -> CheckError {
    CheckError::Policy {
        path: policy.path.clone(),
        line: rule.line,
        problem: format!(
            "rule `{}` is a gain, and of `{}` neither more nor less is better",
            printable(&rule.id),
            printable(&rule.metric)
        ),
        hint: "write `kind: guard`, or judge the gain by another metric".to_owned(),
    }
}

fn wrong_way(policy: &Policy, rule: &Rule, measure: &Measure) -> CheckError {
    let (more, key) = match measure.better {
        Better::Higher => ("more", "at_least"),
        Better::Lower | Better::Neither => ("less", "at_most"),
    };
    CheckError::Policy {
        path: policy.path.clone(),
        line: rule.line,
        problem: format!(
            "rule `{}` is a gain, of `{}` {more} is better, and its margin is on the other side",
            printable(&rule.id),
            printable(&rule.metric)
        ),
        hint: format!("write `{key}: …`, or `kind: guard`"),
    }
}

/// A rule that this run has nothing for.
pub(super) fn missing(policy: &Policy, rule: &Rule, problem: &str, hint: &str) -> CheckError {
    CheckError::Missing {
        path: policy.path.clone(),
        line: rule.line,
        rule: rule.id.clone(),
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    }
}

/// Rules about what was not asked for need no mention.
fn is_silent(rule: &Rule, given: Given<'_>) -> bool {
    let compares = rule.against == Against::Baseline && given.baseline.is_none();
    let copies = rule.kind == RuleKind::Memorisation && !given.training;
    (compares && (given.approving || rule.if_missing == IfMissing::Skip))
        || (copies && rule.if_missing == IfMissing::Skip)
}

fn by<'a>(rule: &'a Rule, pairs: &Pairs<'a>, given: Given<'_>) -> By<'a> {
    let scope = Scope { group: rule.group.as_deref(), axes: &rule.axes };
    let group = rule.group.as_deref().unwrap_or_default();
    let anywhere = BTreeMap::new();
    if pairs.of(Scope { axes: &anywhere, ..scope }).next().is_none() {
        return By::Nothing(
            format!("the run has no prompts of the group `{}`", printable(group)),
            format!("add prompts of the group `{}` to the suite", printable(group)),
        );
    }
    if pairs.of(scope).next().is_none() {
        let axes: Vec<&str> = pairs.record.axes.keys().map(String::as_str).collect();
        let hint = if axes.is_empty() {
            "the run has no further axes: leave `axes` out, or add them to the grid".to_owned()
        } else {
            format!("the run's axes are {}: write values that it has", first_few(&axes))
        };
        return By::Nothing("the run has no cells at that point of the axes".to_owned(), hint);
    }
    if let Some((low, high)) = rule.strengths
        && !pairs
            .record
            .strengths
            .iter()
            .any(|s| (*s > 0.0 || given.strength == Some(*s)) && (low..=high).contains(s))
    {
        return By::Nothing(
            if low == high {
                format!("the run has no strength {low} that is judged")
            } else {
                format!("the run has no strength in {low}:{high} that is judged")
            },
            "add one to the strengths of the grid, or change the rule's `strength`; strengths below 0 are judged by `--strength`".to_owned(),
        );
    }
    match rule.kind {
        RuleKind::Effect => By::Outputs,
        RuleKind::Memorisation if pairs.record.kind == RunKind::Text => By::Nothing(
            "a text run has no pictures".to_owned(),
            "leave the rule out, or write `runs: image` into it".to_owned(),
        ),
        RuleKind::Memorisation if given.training => By::Training,
        RuleKind::Memorisation => By::Nothing(
            "the pictures of the training were not given".to_owned(),
            "give their folder: `--training DIR`".to_owned(),
        ),
        RuleKind::Gain | RuleKind::Guard => measured(rule, pairs, scope, given),
    }
}

fn measured<'a>(rule: &Rule, pairs: &Pairs<'a>, scope: Scope<'_>, given: Given<'_>) -> By<'a> {
    let metric = rule.metric.as_str();
    let group = rule.group.as_deref().unwrap_or_default();
    let Some(measure) = pairs.measure(metric) else {
        let known: Vec<&str> = pairs.measures.iter().map(|m| m.metric.as_str()).collect();
        let problem =
            format!("the run has no scores `{}`; it has {}", printable(metric), first_few(&known));
        let near = nearest(metric, known).filter(|near| *near != metric);
        let needs = needs(metric, group);
        let hint =
            near.map_or(needs.clone(), |near| format!("did you mean `{near}`? If not, {needs}"));
        return By::Nothing(problem, hint);
    };
    let base = pairs.base();
    let has = |index: Option<&usize>| {
        index.and_then(|index| measure.rows.get(*index)).is_some_and(Option::is_some)
    };
    if !pairs.of(scope).any(|unit| has(base.and_then(|base| unit.cells.get(base)))) {
        let problem =
            format!("no prompt of the group `{}` has a score `{metric}`", printable(group));
        return By::Nothing(problem, needs(metric, group));
    }
    if rule.against == Against::Baseline {
        return match given.baseline {
            None => By::Nothing(
                "no baseline was given".to_owned(),
                "give the approved one: `--baseline FILE`, or make the first with `--approve`"
                    .to_owned(),
            ),
            Some(approval) if !approval.has(metric, group) => By::Nothing(
                format!(
                    "the baseline has no scores `{metric}` of the group `{}`",
                    printable(group)
                ),
                "approve the baseline's run anew with this policy".to_owned(),
            ),
            Some(_) => By::Measure(measure),
        };
    }
    By::Measure(measure)
}
