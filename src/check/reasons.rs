//! Why a verdict is what it is, in sentences.

use std::collections::BTreeSet;

use super::assemble::Parts;
use super::decide::{Strength, grows};
use super::policy::IfMissing;
use super::rule::Judged;
use super::select::Need;
use super::words::{count, strength as at};
use crate::base::terminal::printable;
use crate::run::verdict::{Against, Answer, Outcome, RuleKind, Severity, Verdict};

/// The answer in a line.
pub(super) fn headline(parts: &Parts<'_, '_>, verdict: &Verdict) -> String {
    let Some(focus) = parts.focus() else { return "INCONCLUSIVE: nothing was judged".to_owned() };
    let own = at(focus.strength);
    match parts.answer {
        Answer::Pass => match verdict.safe.filter(|safe| safe.low < safe.high) {
            Some(safe) => format!("SHIP at {own} (safe {}–{})", at(safe.low), at(safe.high)),
            None => format!("SHIP at {own}"),
        },
        Answer::Regression if parts.strengths.iter().all(Strength::is_dead) => {
            let rule = focus.broken().find(|judged| judged.rule.kind == RuleKind::Effect);
            let reason =
                rule.map_or("", |judged| judged.result.sentence.trim_start_matches("broken: "));
            // one strength says nothing of the others
            if parts.strengths.len() == 1 && !reason.contains("ΔW") {
                format!("DO NOT SHIP: no effect at {own}; {reason}")
            } else {
                format!("DO NOT SHIP: the adapter has no effect; {reason}")
            }
        }
        Answer::Regression => {
            let broken = names(focus.broken());
            if verdict.asked.is_some() || parts.strengths.len() == 1 {
                format!("DO NOT SHIP: strength {own} breaks {broken}")
            } else {
                format!(
                    "DO NOT SHIP: no strength keeps every rule; {own} comes nearest and breaks {broken}"
                )
            }
        }
        Answer::Inconclusive => format!("INCONCLUSIVE: {}", undecided(parts, focus, verdict)),
    }
}

/// Where all deciding rules of something compare with a baseline that was not given: that.
fn compared(parts: &Parts<'_, '_>, need: Need) -> &'static str {
    let rules = parts.case.policy.rules.iter();
    let mut rules = rules.filter(|r| Need::of(r).contains(&need) && r.severity == Severity::Error);
    if parts.case.baseline.is_none() && rules.all(|rule| rule.against == Against::Baseline) {
        "; the policy compares with a baseline, `--baseline FILE`"
    } else {
        ""
    }
}

/// What keeps a run from an answer.
fn undecided(parts: &Parts<'_, '_>, focus: &Strength<'_>, verdict: &Verdict) -> String {
    // where it is so at all strengths there is no need to name one
    let place = |need: Need| {
        let everywhere = parts.strengths.iter().all(|strength| strength.lacks.contains(&need));
        if everywhere { String::new() } else { format!("at {}, ", at(focus.strength)) }
    };
    if let Some(need) = focus.lacks.first() {
        let what = match need {
            Need::Gain => "a gain",
            Need::Base => "the base's own work",
            Need::Guard => "what must stay",
        };
        let (place, why) = (place(*need), compared(parts, *need));
        return format!("{place}there is nothing that {what} could be judged by{why}");
    }
    let weak = |strength: &Strength<'_>| strength.broken().next().is_some();
    if parts.strengths.iter().all(weak) {
        return "no harm is shown, but the gain is too small at every strength; more prompts would not change that".to_owned();
    }
    let own = at(focus.strength);
    // not all strengths are broken here, or the gain had been too small or the run a regression
    if focus.broken().next().is_some() {
        let broken = names(focus.broken());
        return format!("{own} comes nearest and breaks {broken}; other strengths are open");
    }
    let mut open = focus.deciding().filter(|j| j.result.outcome == Outcome::Inconclusive);
    if let Some(judged) = open.find(|judged| judged.result.further_prompts.is_none()) {
        let id = printable(&judged.rule.id);
        return format!(
            "{own} comes nearest, and `{id}` lies too near its margin for more prompts to tell"
        );
    }
    if let Some(below) = stopped(parts, focus) {
        return format!("{own} keeps every rule, but {} does not", at(below.strength));
    }
    let further = &verdict.evidence.further_prompts;
    if further.is_empty() {
        return format!("{own} comes nearest, and the prompts do not tell");
    }
    let further: Vec<String> = further
        .iter()
        .map(|(group, more)| {
            format!("{} of the group `{}`", count(*more, "further prompt"), printable(group))
        })
        .collect();
    format!("too few prompts to tell; at {own}, {} would probably settle it", further.join(" and "))
}

/// The smaller strength whose guards are not kept, where that alone keeps this one from passing: guards
/// are tested from the smallest strength upwards.
fn stopped<'p, 'a>(parts: &Parts<'a, 'p>, focus: &Strength<'_>) -> Option<&'p Strength<'a>> {
    let alpha = parts.case.policy.alpha();
    if focus.p > alpha || focus.adjusted_p <= alpha {
        return None;
    }
    let mut below = parts.strengths.iter().take_while(|other| other.strength < focus.strength);
    let kept = |judged: &Judged<'_>| {
        !grows(&judged.result)
            || matches!(judged.result.outcome, Outcome::Pass | Outcome::NotApplicable)
    };
    below.find(|other| !other.deciding().all(kept))
}

fn names<'j, 'a: 'j>(rules: impl Iterator<Item = &'j Judged<'a>>) -> String {
    let names: Vec<String> =
        rules.map(|judged| format!("`{}`", printable(&judged.rule.id))).collect();
    names.join(", ")
}

/// Why, the most important first.
pub(super) fn reasons(parts: &Parts<'_, '_>) -> Vec<String> {
    let Some(focus) = parts.focus() else { return Vec::new() };
    let order = [Outcome::Fail, Outcome::Inconclusive, Outcome::Pass];
    let mut reasons = Vec::new();
    for outcome in order {
        // what is kept explains a pass, what is not kept everything else
        if (outcome == Outcome::Pass) != (parts.answer == Answer::Pass) {
            continue;
        }
        for judged in focus.deciding().filter(|judged| judged.result.outcome == outcome) {
            reasons.push(line(focus, judged));
        }
    }
    if parts.answer == Answer::Pass && parts.strengths.len() > 1 && focus.gain().is_some() {
        let share = (focus.wins * 100.0).round();
        reasons.push(format!(
            "{} is the best safe strength in {share} % of resampled runs",
            at(focus.strength)
        ));
    }
    let alpha = parts.case.policy.alpha();
    let own = at(focus.strength);
    if parts.answer == Answer::Inconclusive && focus.p <= alpha && focus.adjusted_p > alpha {
        reasons.push(match stopped(parts, focus) {
            Some(below) => {
                let below = at(below.strength);
                format!(
                    "at {own} every rule is kept, but guards are tested from the smallest strength upwards, and {below} does not keep its own; if {below} will not be used, judge one: `--strength {}`",
                    focus.strength
                )
            }
            None => format!(
                "at {own} every rule is kept by itself, but not after the correction for {} strengths (p = {:.3}); judge fewer strengths, or one: `--strength {}`",
                parts.strengths.len(),
                focus.adjusted_p,
                focus.strength
            ),
        });
    }
    let others = parts.strengths.iter().filter(|other| other.strength != focus.strength);
    for other in others.filter(|other| other.broken().next().is_some()) {
        reasons.push(format!("at {}: breaks {}", at(other.strength), names(other.broken())));
    }
    reasons
}

fn line(strength: &Strength<'_>, judged: &Judged<'_>) -> String {
    let (id, sentence) = (printable(&judged.rule.id), &judged.result.sentence);
    let hint = judged.result.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("at {}, `{id}` {sentence}{hint}", at(strength.strength))
}

/// What a reader should know besides.
pub(super) fn notes(parts: &Parts<'_, '_>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut told = BTreeSet::new();
    for judged in parts.strengths.iter().flat_map(|strength| &strength.rules) {
        let result = &judged.result;
        if result.outcome == Outcome::NotApplicable && told.insert(&judged.rule.id) {
            let hint = result.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
            notes.push(format!(
                "rule `{}` is {}{hint}",
                printable(&judged.rule.id),
                result.sentence
            ));
        }
    }
    for strength in parts.strengths {
        let warned =
            strength.rules.iter().filter(|judged| judged.result.severity == Severity::Warn);
        for judged in warned.filter(|judged| judged.result.outcome == Outcome::Fail) {
            notes.push(format!("warning: {}", line(strength, judged)));
        }
    }
    let record = parts.case.record;
    let first = parts.case.approving && parts.case.baseline.is_none();
    for rule in parts.case.policy.rules.iter().filter(|_| first) {
        let concerned = rule.runs.is_none_or(|kind| kind == record.kind);
        if rule.against == Against::Baseline && rule.if_missing == IfMissing::Error && concerned {
            notes.push(format!(
                "rule `{}` compares with a baseline: left out, as the first approval has none",
                printable(&rule.id)
            ));
        }
    }
    for (first, more) in parts.pairs.repeated() {
        notes.push(format!(
            "{} of the same words as prompt `{}`: they count as one",
            count(more, "prompt"),
            printable(first)
        ));
    }
    let negative = record.strengths.iter().filter(|strength| **strength < 0.0).count();
    if negative > 0 && parts.case.strength.is_none() {
        notes.push(format!(
            "{} below 0 not judged; `--strength` judges one",
            if negative == 1 {
                "1 strength is".to_owned()
            } else {
                format!("{negative} strengths are")
            }
        ));
    }
    let verified = parts.case.cells;
    if verified.unsealed > 0 {
        notes.push(format!("{} without a seal, written by an older version: whether they were edited cannot be told", count(verified.unsealed, "file")));
    }
    if !verified.cells.extra.is_empty() {
        notes.push(format!(
            "{} below `cells/` not in the plan, left out",
            count(verified.cells.extra.len(), "file")
        ));
    }
    notes
}
