//! Floor 5: ship or do not ship, at which strength, how sure. A run is read and judged; nothing is
//! generated.
//!
//! - [`Policy`]: rules with margins; [`Policy::built_in`] is `examples/policy.yaml`
//! - [`judge`]: a [`Case`] becomes a [`Verdict`]
//! - [`Approval`]: what was approved, to compare later runs with; [`approve`] writes one
//! - [`junit`], [`summary`], [`table`]: a verdict for CI, for a pull request, for a terminal
//!
//! Invariant: never open. What is missing, torn, edited or not finite is an error; what cannot be
//! judged never counts as kept. Equal runs and policies give equal verdicts, on any number of threads.

mod approval;
mod assemble;
mod decide;
mod error;
mod exact;
mod junit;
mod pairs;
mod policy;
mod policy_read;
mod reasons;
mod rule;
mod select;
mod source;
mod summary;
mod table;
mod words;
mod worst;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use approval::{Approval, Approving};
pub use error::CheckError;
pub use junit::junit;
pub use policy::{BUILT_IN, Bound, IfMissing, Policy, Rule};
pub use summary::{MAX_SUMMARY, summary};
pub use table::table;

use crate::metric::Measure;
use crate::run::verdict::{Outcome, Severity, Verdict};
use crate::run::{RunRecord, Verified};
use crate::stats::Resampling;
use assemble::Parts;
use decide::Strength;
use pairs::Pairs;
use rule::{Judged, Measuring};
use select::{By, Given, Selected};

/// A run and what it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The run's directory.
    pub path: &'a Path,
    /// Its record.
    pub record: &'a RunRecord,
    /// Its cells.
    pub cells: &'a Verified,
    /// What its cells add to each metric, in their order.
    pub measures: &'a [Measure],
    /// The rules.
    pub policy: &'a Policy,
    /// The one strength to judge; `None`: all above 0.
    pub strength: Option<f64>,
    /// An approved run to compare with.
    pub baseline: Option<&'a Approval>,
    /// Whether an approval is going to be made of the verdict.
    pub approving: bool,
    /// The folder of the pictures that the adapter was trained on.
    pub training: Option<&'a Path>,
}

impl<'a> Case<'a> {
    /// The cells as pairs, all of them there.
    fn pairs(&self) -> Result<Pairs<'a>, CheckError> {
        let missing = self.cells.cells.missing.len();
        if missing > 0 {
            return Err(CheckError::Unfinished {
                path: self.path.to_owned(),
                missing,
                planned: self.record.plan.cells.len(),
                hint: format!(
                    "run the same command again: `lora-eval grid SUITE --base {} --out {} …`; it makes the missing cells only",
                    self.record.base.name,
                    self.path.display()
                ),
            });
        }
        Pairs::new(self.path, self.record, &self.cells.cells.found, self.measures)
    }

    /// Places on the strength axis that are judged, ascending by strength.
    fn places(&self) -> Result<Vec<usize>, CheckError> {
        let strengths = &self.record.strengths;
        let wanted = |strength: f64| match self.strength {
            Some(asked) => strength == asked && strength != 0.0,
            None => strength > 0.0,
        };
        let mut places: Vec<usize> =
            (0..strengths.len()).filter(|place| wanted(strengths[*place])).collect();
        places.sort_by(|a, b| strengths[*a].total_cmp(&strengths[*b]));
        if places.is_empty() {
            let known = strengths.iter().filter(|s| **s != 0.0).map(|s| words::strength(*s));
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(CheckError::Strength {
                path: self.path.to_owned(),
                strength: self.strength.unwrap_or(1.0),
                known: if known.is_empty() {
                    "none: only the base was run".to_owned()
                } else {
                    known
                },
            });
        }
        Ok(places)
    }

    /// An adapter of which nothing fits the base was never at work.
    fn fits(&self) -> Result<(), CheckError> {
        if self.record.adapters.is_empty() {
            return Err(CheckError::NoAdapter { path: self.path.to_owned() });
        }
        let misfit = |a: &&crate::run::AdapterRecord| a.matched == 0 && !a.unmatched.is_empty();
        match self.record.adapters.iter().find(misfit) {
            None => Ok(()),
            Some(adapter) => Err(CheckError::Mismatched {
                path: self.path.to_owned(),
                name: adapter.name.clone(),
                file: adapter.path.clone(),
                modules: adapter.unmatched.len(),
            }),
        }
    }
}

/// Resamples that can tell p-values from α after Holm's correction over so many tests.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and beyond what is allowed it is an error"
)]
fn trials(policy: &Policy, tests: usize) -> Result<usize, CheckError> {
    const MOST: usize = 200_000;
    let trials = Resampling::TRIALS.max((10.0 * tests as f64 / policy.alpha()).ceil() as usize);
    if trials <= MOST {
        return Ok(trials);
    }
    Err(CheckError::Policy {
        path: policy.path.clone(),
        line: 1,
        problem: format!(
            "a confidence of {} over {tests} rules or strengths would take {trials} resamples, expected at most {MOST}",
            policy.confidence
        ),
        hint: "lower `confidence`, or ask about one strength with `--strength`".to_owned(),
    })
}

/// Judges a run.
pub fn judge(case: &Case<'_>) -> Result<Verdict, CheckError> {
    case.fits()?;
    let pairs = case.pairs()?;
    if let Some(baseline) = case.baseline {
        baseline.fits(case.record, case.measures)?;
    }
    let given = Given {
        baseline: case.baseline,
        approving: case.approving,
        training: case.training.is_some(),
        strength: case.strength,
    };
    let places = case.places()?;
    let strength_of =
        |place: &usize| case.record.strengths.get(*place).copied().unwrap_or_default();
    let judged: Vec<f64> = places.iter().map(strength_of).collect();
    let selected = select::select(case.policy, &pairs, given)?;
    select::unused(case.policy, &selected, given, (case.record.kind, &judged))?;
    let required = select::required(case.policy, case.record.kind, given);
    let hashes = match case.training {
        Some(folder) if selected.iter().any(|one| matches!(one.by, By::Training)) => {
            Some(exact::Hashes::new(case.path, &pairs, folder)?)
        }
        _ => None,
    };
    let rules = selected.iter().filter(|one| matches!(one.by, By::Measure(_))).count();
    let trials = trials(case.policy, places.len().max(rules))?;
    let mut measuring = Measuring {
        path: case.path,
        pairs: &pairs,
        policy: case.policy,
        baseline: case.baseline,
        trials,
        resamplings: BTreeMap::new(),
    };
    let mut strengths = Vec::new();
    for place in places {
        let strength = case.record.strengths.get(place).copied().unwrap_or_default();
        let mut settled = BTreeSet::new();
        let concerned = selected.iter().filter(|selected| selected.concerns(strength));
        // the first alternative that can be judged here and decides leaves no work to the others
        let concerned = concerned.filter(|Selected { rule, by }| {
            let Some(name) = rule.one_of.as_deref() else { return true };
            let wanted = !settled.contains(name);
            if rule.severity == Severity::Error && !matches!(by, By::Nothing(..)) {
                settled.insert(name);
            }
            wanted
        });
        let rules = concerned.map(|selected| {
            let Selected { rule, by } = selected;
            match (by, &hashes) {
                (By::Measure(measure), _) => measuring.judge(rule, measure, place),
                (By::Outputs, _) => Ok(exact::effect(&pairs, rule, place)),
                (By::Training, Some(hashes)) => {
                    Ok(exact::memorisation(&pairs, rule, place, hashes))
                }
                (By::Training, None) => {
                    Ok(Judged::exact(rule, Outcome::NotApplicable, String::new()))
                }
                (By::Nothing(problem, hint), _) => {
                    let mut judged = Judged::exact(
                        rule,
                        Outcome::NotApplicable,
                        format!("not applicable: {problem}"),
                    );
                    judged.result.hint = Some(hint.clone());
                    Ok(judged)
                }
            }
        });
        strengths.push(Strength::new(strength, rules.collect::<Result<Vec<_>, _>>()?, &required));
    }
    let answer = decide::decide(&mut strengths, case.policy);
    Ok(assemble::verdict(&Parts { case, pairs: &pairs, strengths: &strengths, answer, trials }))
}

/// The text of an approval of a judged run.
pub fn approve(
    case: &Case<'_>,
    verdict: &Verdict,
    approving: &Approving<'_>,
) -> Result<String, CheckError> {
    approval::write(&case.pairs()?, case.policy, verdict, approving)
}
