//! What a run of the adapter shows: whether it works, and what it costs the base.

use super::super::diagnosis::{Finding, Patch, Rule};
use super::super::history::History;
use super::patch::{length, patch, plain, rank_times, rate_times, usual_rate};
use super::{effect, short};
use crate::run::verdict::{AtStrength, Outcome, RuleKind, RuleResult, Severity};

/// At most so many broken rules of a strength are told.
const TOLD: usize = 3;

/// Strengths above 0, ascending.
fn strengths(history: &History) -> Vec<&AtStrength> {
    let verdict = history.verdict.iter().flat_map(|(_, verdict)| &verdict.strengths);
    let mut all: Vec<&AtStrength> = verdict.filter(|at| at.strength > 0.0).collect();
    all.sort_by(|a, b| a.strength.total_cmp(&b.strength));
    all
}

/// Rules that decide, of one kind, with one outcome.
fn with(at: &AtStrength, kind: RuleKind, outcome: Outcome) -> impl Iterator<Item = &RuleResult> {
    at.rules.iter().filter(move |rule| {
        rule.severity == Severity::Error && rule.kind == kind && rule.outcome == outcome
    })
}

fn is_dead(at: &AtStrength) -> bool {
    with(at, RuleKind::Effect, Outcome::Fail).next().is_some()
}

fn works(at: &AtStrength) -> bool {
    with(at, RuleKind::Gain, Outcome::Pass).next().is_some() && !is_useless(at)
}

/// With evidence: an open rule says nothing.
fn is_useless(at: &AtStrength) -> bool {
    with(at, RuleKind::Gain, Outcome::Fail).next().is_some()
}

fn is_damaged(at: &AtStrength) -> bool {
    damage(at).next().is_some()
}

/// Broken guards of the base. Those of the adapter's own job, and comparisons with an approved run, say
/// that it does less than it should, and not that it does harm.
fn damage(at: &AtStrength) -> impl Iterator<Item = &RuleResult> {
    with(at, RuleKind::Guard, Outcome::Fail).filter(|rule| rule.guards_the_base())
}

/// A rule that looks for the adapter's style where nobody asked for it.
fn is_of_leakage(rule: &RuleResult) -> bool {
    rule.rule.starts_with("leak")
}

/// `strength 0.75: the sentence of a rule`.
fn told<'a>(at: &AtStrength, rules: impl Iterator<Item = &'a RuleResult>) -> Vec<String> {
    let line = |rule: &RuleResult| format!("strength {}: {}", at.strength, rule.sentence);
    rules.take(TOLD).map(line).collect()
}

/// The lowest of the strengths that work, where all of these are damaged. Where none works, those that
/// may work are meant; where none may, all.
fn damaged_where_it_works(history: &History) -> Option<&AtStrength> {
    let all = strengths(history);
    let that = |may: fn(&AtStrength) -> bool| -> Vec<&AtStrength> {
        all.iter().copied().filter(|at| may(at)).collect()
    };
    let kinds = [that(works), that(|at| !is_useless(at)), that(|_| true)];
    let meant = kinds.into_iter().find(|meant| !meant.is_empty())?;
    let first = meant.first().copied()?;
    meant.iter().all(|at| is_damaged(at)).then_some(first)
}

/// Texts or pictures are the base's own at every strength, or at all up to 1 where none above works.
pub(super) fn no_effect(history: &History) -> Option<Finding> {
    let all = strengths(history);
    let usual: Vec<&AtStrength> = all.iter().copied().filter(|at| at.strength <= 1.0).collect();
    let meant = if usual.is_empty() || !usable(&all).is_empty() { all } else { usual };
    let strongest = meant.last().filter(|_| meant.iter().all(|at| is_dead(at)))?;
    let mut evidence = told(strongest, with(strongest, RuleKind::Effect, Outcome::Fail));
    evidence.extend(
        history.effective_scale().map(|s| format!("the change is multiplied by {}", short(s))),
    );
    let no_gradient = history.weights.last().is_some_and(|w| w.dead.len() == w.modules);
    let patch = if no_gradient { None } else { stronger(history, 3.0) };
    Some(Finding {
        rule: Rule::NoEffect,
        evidence,
        meaning: "alpha or the learning rate is so small that nothing shows, or the adapter's \
                  modules were never trained"
            .to_owned(),
        patch,
    })
}

/// alpha where that is too small, else the learning rate: to the usual one, or times a factor.
fn stronger(history: &History, factor: f64) -> Option<Patch> {
    if history.effective_scale().is_some_and(|scale| scale < effect::SMALL) {
        return effect::full_scale(history);
    }
    let far = history.learning_rate().map_or(1.0, |rate| usual_rate(history) / rate);
    rate_times(history, far.max(factor), "what was learnt does not show".to_owned())
}

/// Guards of the base are broken at every strength at which the adapter works.
pub(super) fn base_damaged(history: &History) -> Option<Finding> {
    let at = damaged_where_it_works(history)?;
    if damage(at).all(is_of_leakage) {
        return None;
    }
    let judged = [Outcome::Pass, Outcome::Inconclusive, Outcome::Fail];
    let gains = judged.into_iter().flat_map(|outcome| with(at, RuleKind::Gain, outcome));
    let mut evidence = told(at, gains.take(1));
    evidence.extend(told(at, damage(at)));
    if strengths(history).iter().all(|at| is_useless(at)) {
        let why = "what is learnt at this rate goes elsewhere than the examples ask";
        return Some(Finding {
            rule: Rule::BaseDamaged,
            evidence,
            meaning: "the rate is too high, or the examples are not what the prompts ask for: the \
                      base is damaged and the job is not done"
                .to_owned(),
            patch: rate_times(history, 0.5, why.to_owned()),
        });
    }
    Some(Finding {
        rule: Rule::BaseDamaged,
        evidence,
        meaning:
            "too much was learnt: more steps than the examples are worth, or more modules and \
                  rank than they need"
                .to_owned(),
        patch: less(history),
    })
}

/// No strength works and none damages the base, with evidence, it is open whether one works, and the
/// held-out loss was lowest at the end.
pub(super) fn too_short(history: &History) -> Option<Finding> {
    let all = strengths(history);
    let open =
        all.iter().all(|at| !works(at) && !is_damaged(at)) && all.iter().any(|at| !is_useless(at));
    let (best, last) = history.held_out.lowest().zip(history.held_out.last())?;
    let first = history.held_out.points().first()?;
    if !open || no_effect(history).is_some() || best.step != last.step || first.step == last.step {
        return None;
    }
    let strongest = all.last()?;
    let gains = [Outcome::Inconclusive, Outcome::Fail];
    let gains = gains.into_iter().flat_map(|outcome| with(strongest, RuleKind::Gain, outcome));
    let mut evidence = told(strongest, gains.take(1));
    evidence.push(format!(
        "the held-out loss fell from {} to {}, its lowest, at the last step",
        short(first.value),
        short(last.value)
    ));
    let why = "the held-out loss was still falling";
    let longer = length(history, |length| length.checked_mul(2));
    Some(Finding {
        rule: Rule::TooShort,
        evidence,
        meaning: "more of the same would be learnt: the adapter was not done".to_owned(),
        patch: longer.map(|(key, to)| patch(history, key, to, why.to_owned())),
    })
}

/// Fewer steps (forgetting grows with them: Biderman et al., 2024), fewer modules, regularization, less
/// rank: the first of these that there is room for.
fn less(history: &History) -> Option<Patch> {
    let best = history.held_out.lowest().zip(history.held_out.last());
    if let Some((best, _)) = best.filter(|(best, last)| 4 * best.step <= 3 * last.step) {
        let why = "the held-out loss was lowest there; the steps after it only cost the base";
        let (key, _) = length(history, Some)?;
        let to = if key == "run.length" {
            format!("{} steps", best.step).into()
        } else {
            best.step.into()
        };
        return Some(patch(history, key, to, why.to_owned()));
    }
    if history.is_on("adapter.text_encoder") {
        let why = "a changed text encoder changes what every prompt means; the denoiser alone can \
                   learn a look";
        return Some(patch(history, "adapter.text_encoder", false.into(), why.to_owned()));
    }
    let half = |length: u64| Some(length / 2).filter(|half| *half > 0);
    if let Some((key, shorter)) = length(history, half) {
        let why = "what the base forgets grows with the steps (Biderman et al., 2024)";
        return Some(patch(history, key, shorter, why.to_owned()));
    }
    if history.number("adapter.dropout") == Some(0.0) {
        let why = "dropout keeps the change from leaning on few directions";
        return Some(patch(history, "adapter.dropout", 0.1.into(), why.to_owned()));
    }
    rank_times(history, 0.5, "half the rank can do half the damage")
}

/// As [`base_damaged`], and what is broken are rules of leakage only.
pub(super) fn leaks(history: &History) -> Option<Finding> {
    let at = damaged_where_it_works(history)?;
    if !damage(at).all(is_of_leakage) {
        return None;
    }
    let key = "data.image.caption_dropout";
    let patch = if history.number(key).is_some_and(|dropout| dropout > 0.0) {
        let why = "a picture that is learnt without its caption shows in every prompt";
        Some(patch(history, key, 0.into(), why.to_owned()))
    } else {
        less(history)
    };
    Some(Finding {
        rule: Rule::Leaks,
        evidence: told(at, damage(at)),
        meaning: "nothing ties what is learnt to words: captions without a trigger word, or no \
                  examples of how it is without (`data.regularization`)"
            .to_owned(),
        patch,
    })
}

/// The strengths that work and damage nothing.
fn usable(all: &[&AtStrength]) -> Vec<f64> {
    let usable = all.iter().filter(|at| works(at) && !is_damaged(at));
    usable.map(|at| at.strength).collect()
}

/// A strength below 1 works, and from some strength up to 1 on every one is damaged.
pub(super) fn too_strong(history: &History) -> Option<Finding> {
    let all = strengths(history);
    let usable = usable(&all);
    let recommended = history.verdict.as_ref().and_then(|(_, verdict)| verdict.recommended);
    let good = recommended.filter(|r| usable.contains(r)).or(usable.last().copied())?;
    let broken = all.iter().find(|at| at.strength > good && is_damaged(at))?;
    let stays = all.iter().filter(|at| at.strength >= broken.strength).all(|at| is_damaged(at));
    if good >= 1.0 || broken.strength > 1.0 || !stays {
        return None;
    }
    let mut evidence = vec![format!("it works at strength {good} and damages nothing there")];
    evidence.extend(told(broken, damage(broken)));
    let why = format!("strength 1 is then what strength {good} is in this adapter");
    Some(Finding {
        rule: Rule::TooStrong,
        evidence,
        meaning:
            "alpha or the learning rate is too high: who uses the adapter without a strength gets \
                  the damage"
                .to_owned(),
        patch: rescale(history, good, why),
    })
}

/// No strength up to 1 works, with evidence, and one above does without damage.
pub(super) fn too_weak(history: &History) -> Option<Finding> {
    let all = strengths(history);
    let good = usable(&all).into_iter().next().filter(|good| *good > 1.0)?;
    let (low, _) = all.split_at(all.partition_point(|at| at.strength <= 1.0));
    let strongest = low.last().filter(|_| low.iter().all(|at| is_useless(at)))?;
    let mut evidence = told(strongest, with(strongest, RuleKind::Gain, Outcome::Fail));
    let at_good = all.iter().find(|at| at.strength == good);
    evidence.extend(
        at_good.into_iter().flat_map(|at| told(at, with(at, RuleKind::Gain, Outcome::Pass))),
    );
    let why = format!("strength 1 is then what strength {good} is in this adapter");
    Some(Finding {
        rule: Rule::TooWeak,
        evidence,
        meaning:
            "alpha or the learning rate is too low: what was learnt has the right direction and \
                  too little size"
                .to_owned(),
        patch: rescale(history, good, why),
    })
}

/// alpha times a factor, which does what a strength does; the rate where alpha is not known, and with
/// `DoRA`, whose change is not proportional to alpha.
fn rescale(history: &History, factor: f64, why: String) -> Option<Patch> {
    match history.number("adapter.alpha").filter(|_| !history.is_on("adapter.dora")) {
        Some(alpha) => Some(patch(history, "adapter.alpha", plain(alpha * factor), why)),
        None => rate_times(history, factor, why),
    }
}

/// The adapter changes something without damage at some strength, and at none, with evidence, what the
/// held-out prompts ask for.
pub(super) fn no_gain(history: &History) -> Option<Finding> {
    let all = strengths(history);
    let seen = all.iter().all(|at| is_useless(at)) && !all.iter().all(|at| is_dead(at));
    let strongest = all.iter().rev().find(|at| seen && !is_damaged(at))?;
    let mut evidence = told(strongest, with(strongest, RuleKind::Gain, Outcome::Fail));
    let broken = all.iter().find(|at| is_damaged(at));
    evidence
        .extend(broken.map(|at| format!("from strength {} on the base is damaged", at.strength)));
    let small = history.effective_scale().is_some_and(|scale| scale < effect::SMALL);
    let learnt = history.loss.len() == 0 || effect::fell(history);
    let why = "the loss fell and nothing of it shows on held-out prompts: if the examples and their \
               captions are what the prompts ask for, twice the rank holds more of them";
    Some(Finding {
        rule: Rule::NoGain,
        evidence,
        meaning:
            "the examples do not teach what the prompts ask for (captions, trigger word, format of \
                  the answers), or too little of them was learnt"
                .to_owned(),
        patch: if small || !learnt {
            stronger(history, 2.0)
        } else {
            rank_times(history, 2.0, why)
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::history::Origin;
    use super::super::apply;
    use super::super::made_up::{
        healthy, held_out, learning_rate, noisy, only, only_patch, rules, set, verdict, well,
    };
    use super::*;
    use crate::run::verdict::Against;
    use Outcome::{Fail, Inconclusive, Pass};

    /// A healthy training whose run has these outcomes at these strengths: of gain, of a guard.
    fn judged(strengths: &[(f64, Outcome, Outcome)]) -> History {
        let mut history = healthy();
        history.verdict = Some(verdict(strengths));
        set(&mut history, &[("run.length", json!("5 epochs")), ("adapter.dropout", json!(0))]);
        history
    }

    fn rule_of<'a>(history: &'a mut History, at: usize, name: &str) -> &'a mut RuleResult {
        let (_, verdict) = history.verdict.as_mut().unwrap();
        verdict.strengths[at].rules.iter_mut().find(|rule| rule.rule == name).unwrap()
    }

    fn key(key: &str, value: Value) -> (String, Value) {
        (key.to_owned(), value)
    }

    #[test]
    fn a_run_in_which_all_is_well_or_open_is_no_finding() {
        well(&judged(&[(0.5, Inconclusive, Pass), (1.0, Pass, Pass), (1.5, Pass, Fail)]));
        let mut open = judged(&[(0.5, Inconclusive, Pass), (1.0, Inconclusive, Inconclusive)]);
        open.held_out = held_out(&[2.0, 1.5, 1.4, 1.41, 1.405]);
        well(&open);
        well(&judged(&[]));
        let notes = super::super::not_judged(&judged(&[(1.0, Pass, Pass)]));
        assert_eq!(notes, ["run/verdict.json: the headline"]);
    }

    #[test]
    fn outputs_that_are_the_base_s_at_every_strength_are_no_effect() {
        let dead = |scale: f64| {
            let mut history = judged(&[(0.5, Fail, Pass), (1.0, Fail, Pass)]);
            for at in [0, 1] {
                rule_of(&mut history, at, "effect").outcome = Fail;
            }
            history.scale = Some(scale);
            history
        };
        let history = dead(1.0);
        let finding = only(&history, Rule::NoEffect);
        assert_eq!(finding.evidence[0], "strength 1: effect at 1");
        assert_eq!(only_patch(&history, Rule::NoEffect), learning_rate(3e-4));
        // the change of ‖ΔW‖/‖W‖ in the log shows, so the scale's own rule is silent
        assert_eq!(only_patch(&dead(0.1), Rule::NoEffect), key("adapter.alpha", json!(16)));
        let mut history = dead(1.0);
        history.weights[0].dead = vec![String::new(); 4];
        assert_eq!(rules(&history), [Rule::DeadModules, Rule::NoEffect]);
        assert!(apply(&history).iter().all(|finding| finding.patch.is_none()));
        let mut history = dead(1.0);
        rule_of(&mut history, 1, "effect").outcome = Pass;
        only(&history, Rule::NoGain);
    }

    #[test]
    fn a_base_damaged_at_every_working_strength_wants_less() {
        let damaging = [(0.5, Fail, Pass), (1.0, Pass, Fail), (1.5, Pass, Fail)];
        let mut history = judged(&damaging);
        let finding = only(&history, Rule::BaseDamaged);
        assert_eq!(finding.evidence, ["strength 1: gain at 1", "strength 1: guard at 1"]);
        let patched = |history: &History| only_patch(history, Rule::BaseDamaged);
        assert_eq!(patched(&history), key("run.length", json!("2 epochs")));
        set(&mut history, &[("adapter.text_encoder", json!(true))]);
        assert_eq!(patched(&history), key("adapter.text_encoder", json!(false)));
        history.held_out = held_out(&[2.0, 1.5, 1.4, 1.5, 1.45, 1.5, 1.45]);
        set(&mut history, &[("validation.patience", json!(9))]);
        assert_eq!(patched(&history), key("run.length", json!("30 steps")));
        let mut history = judged(&damaging);
        set(&mut history, &[("run.length", json!("1 epochs"))]);
        assert_eq!(patched(&history), key("adapter.dropout", json!(0.1)));
        set(&mut history, &[("adapter.dropout", json!(0.1))]);
        assert_eq!(patched(&history), key("adapter.rank", json!(8)));
        let why = only(&history, Rule::BaseDamaged).patch.unwrap().why;
        assert!(why.contains("alpha stays 16, so alpha/rank becomes 2,"), "{why}");
        set(&mut history, &[("adapter.rank", json!(1))]);
        assert!(only(&history, Rule::BaseDamaged).patch.is_none());
    }

    #[test]
    fn damage_at_some_strengths_or_without_evidence_is_no_damaged_base() {
        well(&judged(&[(0.5, Inconclusive, Pass), (1.0, Pass, Inconclusive)]));
        well(&judged(&[(0.5, Inconclusive, Fail), (1.0, Pass, Pass)]));
        let mut history = judged(&[(1.0, Pass, Fail)]);
        rule_of(&mut history, 0, "guard").severity = Severity::Warn;
        well(&history);
        // the adapter does nothing but damage
        only(&judged(&[(0.5, Fail, Fail), (1.0, Fail, Fail)]), Rule::BaseDamaged);
        only(&judged(&[(0.5, Fail, Pass), (1.0, Inconclusive, Fail)]), Rule::BaseDamaged);
        well(&judged(&[(0.5, Inconclusive, Inconclusive), (1.0, Inconclusive, Fail)]));
    }

    #[test]
    fn broken_guards_of_the_adapter_s_own_job_are_no_damage() {
        let damaging = || judged(&[(1.0, Pass, Fail)]);
        only(&damaging(), Rule::BaseDamaged);
        let mut history = damaging();
        rule_of(&mut history, 0, "guard").group = Some("heldout".to_owned());
        well(&history);
        let mut history = damaging();
        rule_of(&mut history, 0, "guard").against = Against::Baseline;
        well(&history);
    }

    #[test]
    fn only_broken_rules_of_leakage_are_a_leak() {
        let leaking = || {
            let mut history = judged(&[(1.0, Pass, Fail)]);
            rule_of(&mut history, 0, "guard").rule = "leakage".to_owned();
            history
        };
        let mut history = leaking();
        assert_eq!(only_patch(&history, Rule::Leaks), key("run.length", json!("2 epochs")));
        set(&mut history, &[("data.image.caption_dropout", json!(0.1))]);
        assert_eq!(only_patch(&history, Rule::Leaks), key("data.image.caption_dropout", json!(0)));
        let (_, verdict) = history.verdict.as_mut().unwrap();
        let mut other = verdict.strengths[0].rules[2].clone();
        other.rule = "ssim".to_owned();
        verdict.strengths[0].rules.push(other);
        only(&history, Rule::BaseDamaged);
    }

    #[test]
    fn an_adapter_that_is_good_below_one_and_broken_at_one_is_too_strong() {
        let strengths = [(0.5, Pass, Pass), (0.75, Inconclusive, Pass), (1.0, Pass, Fail)];
        let history = judged(&strengths);
        let finding = only(&history, Rule::TooStrong);
        assert_eq!(finding.evidence[0], "it works at strength 0.5 and damages nothing there");
        assert_eq!(only_patch(&history, Rule::TooStrong), key("adapter.alpha", json!(8)));
        let mut dora = judged(&strengths);
        set(&mut dora, &[("adapter.dora", json!(true))]);
        assert_eq!(only_patch(&dora, Rule::TooStrong), learning_rate(5e-5));
        // the rate is not raised beside it
        let mut history = judged(&strengths);
        history.loss = noisy(1, 2000, false, |t| 2.0 - 0.3 * t);
        only(&history, Rule::TooStrong);
        well(&judged(&[(0.5, Pass, Pass), (1.0, Pass, Pass), (1.5, Pass, Fail)]));
        well(&judged(&[(0.5, Pass, Pass), (0.75, Pass, Fail), (1.0, Pass, Pass)]));
        well(&judged(&[(0.5, Pass, Pass), (1.0, Pass, Inconclusive)]));
    }

    #[test]
    fn an_adapter_that_works_above_one_only_is_too_weak() {
        let history = judged(&[(0.5, Fail, Pass), (1.0, Fail, Pass), (1.5, Pass, Pass)]);
        let finding = only(&history, Rule::TooWeak);
        assert_eq!(finding.evidence, ["strength 1: gain at 1", "strength 1.5: gain at 1.5"]);
        let mut history = history;
        assert_eq!(only_patch(&history, Rule::TooWeak), key("adapter.alpha", json!(24)));
        history.settings.remove("adapter.alpha");
        assert_eq!(only_patch(&history, Rule::TooWeak), learning_rate(1.5e-4));
        history.origin = Origin::SdScripts;
        set(&mut history, &[("adapter.alpha", json!(16.0))]);
        assert_eq!(only_patch(&history, Rule::TooWeak), key("network_alpha", json!(24)));
        well(&judged(&[(1.0, Inconclusive, Pass), (1.5, Pass, Pass)]));
        well(&judged(&[(1.5, Pass, Pass)]));
    }

    #[test]
    fn an_adapter_that_changes_much_and_gains_nothing_has_no_gain() {
        let strengths = [(0.5, Fail, Pass), (1.0, Fail, Pass), (1.5, Fail, Fail)];
        let mut history = judged(&strengths);
        let finding = only(&history, Rule::NoGain);
        let evidence = ["strength 1: gain at 1", "from strength 1.5 on the base is damaged"];
        assert_eq!(finding.evidence, evidence);
        assert_eq!(only_patch(&history, Rule::NoGain), key("adapter.rank", json!(32)));
        history.loss = noisy(5, 200, true, |_| 0.1);
        history.held_out = held_out(&[0.1, 0.0999, 0.0998, 0.0997]);
        assert_eq!(only_patch(&history, Rule::NoGain), learning_rate(2e-4));
        history = judged(&[(0.5, Fail, Pass), (1.0, Inconclusive, Pass)]);
        history.held_out = held_out(&[0.1, 0.0999, 0.0998, 0.0999]);
        well(&history);
    }

    #[test]
    fn an_open_verdict_of_a_training_that_was_still_learning_is_too_short() {
        let mut history = judged(&[(0.5, Inconclusive, Pass), (1.0, Inconclusive, Inconclusive)]);
        history.held_out = held_out(&[2.0, 1.5, 1.4, 1.3]);
        let finding = only(&history, Rule::TooShort);
        assert_eq!(finding.evidence[0], "strength 1: gain at 1");
        assert_eq!(only_patch(&history, Rule::TooShort), key("run.length", json!("10 epochs")));
    }

    #[test]
    fn damage_without_a_gain_at_any_strength_wants_a_lower_rate() {
        let history = judged(&[(0.5, Fail, Fail), (1.0, Fail, Fail)]);
        assert_eq!(only_patch(&history, Rule::BaseDamaged), learning_rate(5e-5));
    }
}
