//! Learning rates that are 0 or too low.

use super::super::curve::{Point, windows};
use super::super::diagnosis::{Finding, Rule};
use super::super::history::History;
use super::patch::{length, patch, rate_times, usual_rate};
use super::{FEW, percent, short};

/// Fewest logged rates in a row that are 0 where nothing ends or begins.
const ZEROS: usize = 3;

/// The rate is 0 for 5 % of the logged steps and at least three of them in a row: a schedule that
/// was over before the training (sd-scripts #141: after a resume), or a rate that was set to 0. A
/// schedule that ends at 0 with the training, and a warm-up that begins there, have fewer.
pub(super) fn zero(history: &History) -> Option<Finding> {
    let points = history.rate.points();
    let peak = history.rate.peak()?;
    let is_zero = |p: &Point| p.value <= peak * 1e-9;
    if peak <= 0.0 {
        let why = "nothing can be learnt at a rate of 0";
        let key = "optimizer.learning_rate";
        return (points.len() >= ZEROS).then(|| Finding {
            rule: Rule::RateZero,
            evidence: vec![format!("the learning rate is 0 at all {} logged steps", points.len())],
            meaning: "the configuration says 0, or another key overrides it".to_owned(),
            patch: Some(patch(history, key, usual_rate(history).into(), why.to_owned())),
        });
    }
    let run =
        points.chunk_by(|a, b| is_zero(a) == is_zero(b)).filter(|run| run.iter().all(is_zero));
    let longest = run.max_by_key(|run| run.len())?;
    let (first, last) = (longest.first()?.step, longest.last()?.step);
    if longest.len() < ZEROS.max(points.len().div_ceil(20)) {
        return None;
    }
    let resumed = history.restarts.iter().rfind(|step| **step <= first);
    let before = history.rate.between(0, first.saturating_sub(1)).last();
    let mut evidence = vec![format!(
        "the learning rate is 0 from step {first} to {last}, {} logged steps",
        longest.len()
    )];
    evidence.extend(before.map(|p| format!("at step {} it was {}", p.step, short(p.value))));
    evidence.extend(resumed.map(|step| format!("the training went on from step {step}")));
    let why = "a constant rate cannot run out; the steps at 0 were wasted";
    let constant = history.word("schedule.kind").is_some_and(|kind| kind.starts_with("constant"));
    Some(Finding {
        rule: Rule::RateZero,
        evidence,
        meaning: "the schedule was planned for fewer steps than were made, which happens when a \
                  training is resumed or lengthened"
            .to_owned(),
        patch: (!constant)
            .then(|| patch(history, "schedule.kind", "constant".into(), why.to_owned())),
    })
}

/// The loss falls in a straight line to the end (a curve that settles bends), or the change that was
/// learnt is too small to show although the scale is not.
pub(super) fn too_low(history: &History) -> Option<Finding> {
    let rate = history.learning_rate();
    let far = to_the_usual_rate(history);
    let (evidence, factor, why) = if let Some(small) = small_change(history) {
        (small, far.unwrap_or(3.0), "what was learnt does not show at this rate")
    } else if let Some((tiny, far)) = tiny(history).zip(far) {
        (tiny, far, "that is where such trainings usually start")
    } else {
        (straight(history)?, 2.0, "the loss had not settled when the training ended")
    };
    let fast = rate.is_some_and(|rate| rate >= 5.0 * usual_rate(history));
    let patch = match length(history, |length| length.checked_mul(2)) {
        Some((key, length)) if fast => {
            let why = "the rate is high already, so the training needs more steps";
            Some(patch(history, key, length, why.to_owned()))
        }
        _ => rate_times(history, factor, why.to_owned()),
    };
    Some(Finding {
        rule: Rule::RateTooLow,
        evidence: vec![evidence],
        meaning: "the learning rate is too low for so many steps, or the steps are too few"
            .to_owned(),
        patch,
    })
}

/// ‖ΔW‖/‖W‖ below 10⁻⁴ at a scale that is not to blame.
fn small_change(history: &History) -> Option<String> {
    if history.effective_scale().is_some_and(|scale| scale < 1.0) {
        return None;
    }
    if let Some(guard) = history.nothing_learnt() {
        return Some(format!("step {}: {}", guard.step, guard.action));
    }
    let last = history.delta.last().filter(|p| p.value < super::effect::FLOOR)?;
    let line = format!("at step {} the median ‖ΔW‖/‖W‖ is {}", last.step, short(last.value));
    (history.loss.len() >= FEW).then_some(line)
}

/// The factor from a rate of a tenth of the usual one or less to the usual one. Other optimizers than
/// `AdamW` have other usual rates.
fn to_the_usual_rate(history: &History) -> Option<f64> {
    let kind = history.word("optimizer.kind");
    let far = usual_rate(history) / history.learning_rate()?;
    (far >= 10.0 && kind.is_none_or(|kind| kind == "adamw")).then_some(far)
}

/// A loss that did not fall beyond its noise, which a rate far below the usual explains.
fn tiny(history: &History) -> Option<String> {
    let points = history.loss.points();
    let [first, _, last] = windows(points, 3).try_into().ok()?;
    let (fall, error) = first.fall_to(&last);
    let still = fall < 3.0 * error || fall < 0.02 * first.mean;
    (still && points.len() >= FEW).then(|| {
        format!(
            "the learning rate is {}, and the mean loss of the last third, {}, is that of the first, {}",
            short(history.learning_rate().unwrap_or_default()),
            short(last.mean),
            short(first.mean)
        )
    })
}

/// Thirds of the curve, of which the second step down is at least seven tenths of the first: a
/// settling curve e^(−t/τ) does that only where τ is about as long as the training, or longer. Each
/// step is three standard errors at least, and all in all less than 30 %: a loss that has fallen by
/// more is no sign of too low a rate.
fn straight(history: &History) -> Option<String> {
    let points = history.loss.points();
    let [a, b, c] = windows(points, 3).try_into().ok()?;
    if points.len() < FEW {
        return None;
    }
    let ((first, first_error), (second, second_error)) = (a.fall_to(&b), b.fall_to(&c));
    let all = (first + second) / a.mean;
    let falls = first > 3.0 * first_error && second > 3.0 * second_error;
    let settles = second < 0.7 * first;
    if !falls || settles || all > 0.3 || !still_best(history) {
        return None;
    }
    let third = |part: f64| percent(part / a.mean);
    Some(format!(
        "the mean loss fell by {} from the first third to the second and by {} to the last (step {})",
        third(first),
        third(second),
        c.last
    ))
}

/// Whether the held-out loss, where there is one, is lowest at its end.
fn still_best(history: &History) -> bool {
    let points = history.held_out.points();
    let last_two = points.get(points.len().saturating_sub(2)..).unwrap_or_default();
    history.held_out.lowest().is_none_or(|low| last_two.contains(&low))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::curve::Curve;
    use super::super::super::history::Guard;
    use super::super::apply;
    use super::super::made_up::{
        cosine, healthy, held_out, learning_rate, noisy, only, only_patch, rules, set, settles,
        well,
    };
    use super::*;

    #[test]
    fn a_rate_of_zero_after_a_resume_is_found() {
        let mut history = healthy();
        let rate: Vec<_> = cosine(100).points().iter().map(|p| (p.step, p.value)).collect();
        history.rate = Curve::new(rate.into_iter().chain((101..=200).map(|step| (step, 0.0))));
        history.restarts = vec![100];
        let finding = only(&history, Rule::RateZero);
        let expected = "the learning rate is 0 from step 100 to 200, 101 logged steps";
        assert_eq!(finding.evidence[0], expected);
        assert_eq!(finding.evidence[2], "the training went on from step 100");
        assert_eq!(finding.patch.unwrap().to, json!("constant"));
    }

    #[test]
    fn a_rate_of_zero_throughout_is_found() {
        let mut history = healthy();
        history.rate = Curve::new((1..=200).map(|step| (step, 0.0)));
        set(&mut history, &[("optimizer.learning_rate", json!(0.0))]);
        let findings = apply(&history);
        assert_eq!(findings[0].rule, Rule::RateZero);
        assert_eq!(findings[0].patch.as_ref().unwrap().to, json!(2e-4));
    }

    #[test]
    fn a_warm_up_from_zero_and_a_decay_to_zero_are_as_they_should_be() {
        let mut history = healthy();
        history.rate = Curve::new((0..=200).map(|step| {
            let part = if step < 10 { step as f64 / 10.0 } else { (200 - step) as f64 / 190.0 };
            (step, 1e-4 * part)
        }));
        well(&history);
        // Logged rarely, two of four rates are 0.
        history.rate = Curve::new([(0, 0.0), (50, 1e-4), (100, 5e-5), (200, 0.0)]);
        well(&history);
    }

    #[test]
    fn a_loss_that_falls_in_a_line_has_too_low_a_rate() {
        let mut found = 0;
        for seed in 0..50 {
            let mut history = healthy();
            history.loss = noisy(seed, 2000, false, |t| 2.0 - 0.3 * t);
            if !rules(&history).is_empty() {
                assert_eq!(only_patch(&history, Rule::RateTooLow), learning_rate(2e-4));
                found += 1;
            }
        }
        // A line that noise bends by chance is left alone.
        assert!(found >= 45, "{found}");
    }

    #[test]
    fn a_fall_that_bends_or_that_the_held_out_loss_does_not_follow_is_no_low_rate() {
        let mut history = healthy();
        history.loss = noisy(9, 1000, false, |t| 1.5 + 0.5 * (-3.0 * t).exp());
        well(&history);
        history.loss = noisy(1, 2000, false, |t| 2.0 - 0.3 * t);
        only(&history, Rule::RateTooLow);
        history.held_out = held_out(&[2.0, 1.5, 1.3, 1.31, 1.3, 1.32]);
        well(&history);
    }

    #[test]
    fn a_high_rate_and_a_straight_fall_need_more_steps() {
        let mut history = healthy();
        history.loss = noisy(1, 2000, false, |t| 2.0 - 0.3 * t);
        let fast = ("optimizer.learning_rate", json!(2e-3));
        set(&mut history, &[fast, ("run.length", json!("4 epochs"))]);
        let expected = ("run.length".to_owned(), json!("8 epochs"));
        assert_eq!(only_patch(&history, Rule::RateTooLow), expected);
    }

    #[test]
    fn a_rate_far_below_the_usual_without_a_fall_is_too_low() {
        let mut history = healthy();
        history.loss = noisy(8, 200, false, |_| 2.0);
        history.held_out = Curve::default();
        history.delta = Curve::default();
        set(&mut history, &[("optimizer.learning_rate", json!(1e-6))]);
        assert_eq!(only_patch(&history, Rule::RateTooLow), learning_rate(2e-4));
        set(&mut history, &[("optimizer.kind", json!("prodigy"))]);
        well(&history);
        set(&mut history, &[("optimizer.kind", json!("adamw"))]);
        history.loss = noisy(8, 200, false, settles);
        well(&history); // it learns all the same
    }

    #[test]
    fn a_change_below_the_floor_at_full_scale_has_too_low_a_rate() {
        let mut history = healthy();
        history.delta = Curve::new([(100, 1e-5), (200, 2e-5)]);
        assert_eq!(only_patch(&history, Rule::RateTooLow), learning_rate(3e-4));
        history.delta = Curve::new([(10, 1e-5), (100, 5e-4), (200, 8e-4)]);
        well(&history); // small only at first
        let guard = Guard {
            step: 50,
            kind: "nothing-learnt".into(),
            action: "nothing is learnt".into(),
            samples: 0,
        };
        history.guards.push(guard);
        let finding = only(&history, Rule::RateTooLow);
        assert_eq!(finding.evidence, ["step 50: nothing is learnt"]);
        history.scale = Some(0.5);
        only(&history, Rule::ScaleTooSmall);
    }
}
