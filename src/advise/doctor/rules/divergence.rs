//! Losses that are not finite, or explode.

use super::super::curve::{Window, windows};
use super::super::diagnosis::{Finding, Rule};
use super::super::history::History;
use super::patch::{patch, plain, rate_times};
use super::{FEW, short};

/// So many windows in a row above twice the beginning are a divergence.
const WINDOWS: usize = 3;
/// So many losses that are not finite are no accident of one batch.
const NOT_FINITE: usize = 3;

/// The loss is not finite at the end or several times, the guard had to go back as often, or the
/// loss stays above twice where it began for three windows of twenty (axolotl's loss watchdog
/// suggests about twice the start).
pub(super) fn diverged(history: &History) -> Option<Finding> {
    let mut evidence = not_finite(history);
    evidence.extend(guarded(history));
    evidence.extend(exploded(history));
    if evidence.is_empty() {
        return None;
    }
    let clip = "optimizer.max_grad_norm";
    let why_half = "the usual cause is too high a rate; half of it is the smallest useful change";
    let patch = if history.number(clip) == Some(0.0) {
        let why = "gradients are not clipped: one bad batch can throw the weights off";
        Some(patch(history, clip, plain(1.0), why.to_owned()))
    } else {
        rate_times(history, 0.5, why_half.to_owned())
    };
    Some(Finding {
        rule: Rule::Diverged,
        evidence,
        meaning: "the learning rate is too high; where the first steps are hit already, 16-bit \
                  numbers overflow or an example is broken (no tokens to learn, an empty picture)"
            .to_owned(),
        patch,
    })
}

fn not_finite(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    for (curve, name) in [(&history.loss, "loss"), (&history.held_out, "held-out loss")] {
        let Some(first) = curve.bad().first() else { continue };
        let last = curve.last().map_or(0, |p| p.step);
        let to_the_end = curve.bad().last().is_some_and(|bad| *bad > last);
        if curve.bad().len() < NOT_FINITE && !to_the_end {
            continue;
        }
        let count = curve.bad().len();
        found.push(format!("the {name} is not finite from step {first} on, {count} times"));
        let rate = history.rate.at(*first);
        found.extend(
            rate.map(|rate| format!("at step {first} the learning rate was {}", short(rate))),
        );
    }
    found
}

fn guarded(history: &History) -> Option<String> {
    let hits: Vec<u64> = history
        .guards
        .iter()
        .filter(|guard| ["non-finite", "explosion"].contains(&guard.kind.as_str()))
        .filter(|guard| guard.samples == 0)
        .map(|guard| guard.step)
        .collect();
    let (first, last) = (hits.first()?, hits.last()?);
    (hits.len() >= NOT_FINITE)
        .then(|| format!("the guard went back {} times, to steps {first} to {last}", hits.len()))
}

fn exploded(history: &History) -> Option<String> {
    let points = history.loss.points();
    if points.len() < FEW {
        return None;
    }
    let windows = windows(points, 20);
    let start = windows.first()?;
    let limit = 2.0 * (start.mean + start.error);
    let high: Vec<&[Window]> =
        windows.windows(WINDOWS).filter(|run| run.iter().all(|w| w.mean > limit)).collect();
    let worst = high.iter().flat_map(|run| run.iter()).map(|w| w.mean).reduce(f64::max)?;
    let first = high.first()?.first()?.first;
    Some(format!(
        "the mean loss was {} at first; from step {first} on it stays above twice that, up to {}",
        short(start.mean),
        short(worst)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::curve::Curve;
    use super::super::super::history::Guard;
    use super::super::made_up::{
        healthy, learning_rate, noisy, only, only_patch, set, settles, well,
    };
    use super::super::not_judged;
    use super::*;

    #[test]
    fn a_loss_that_stays_above_twice_its_start_diverged() {
        for seed in 0..50 {
            let mut history = healthy();
            history.loss = noisy(seed, 200, false, |t| if t < 0.6 { settles(t) } else { 6.0 });
            assert_eq!(only_patch(&history, Rule::Diverged), learning_rate(5e-5));
        }
        let mut history = healthy();
        history.loss = noisy(3, 200, true, |t| if t < 0.6 { 0.1 } else { 0.5 });
        set(&mut history, &[("optimizer.max_grad_norm", json!(0.0))]);
        let expected = ("optimizer.max_grad_norm".to_owned(), json!(1));
        assert_eq!(only_patch(&history, Rule::Diverged), expected);
    }

    #[test]
    fn a_loss_that_ends_in_nan_diverged() {
        let mut history = healthy();
        let values = history.loss.points().iter().map(|p| (p.step, p.value));
        let nan = values.map(|(step, loss)| (step, if step < 150 { loss } else { f64::NAN }));
        history.loss = Curve::new(nan.collect::<Vec<_>>());
        let finding = only(&history, Rule::Diverged);
        assert_eq!(finding.evidence[0], "the loss is not finite from step 150 on, 51 times");
        assert!(
            finding.evidence[1].starts_with("at step 150 the learning rate was "),
            "{finding:?}"
        );
    }

    #[test]
    fn a_skipped_nan_loss_is_no_divergence() {
        let mut history = healthy();
        let values = history.loss.points().iter().map(|p| (p.step, p.value));
        history.loss =
            Curve::new(values.chain([(57, f64::NAN), (90, f64::NAN)]).collect::<Vec<_>>());
        history.guards.push(guard(57, "non-finite", 1));
        well(&history);
        assert_eq!(not_judged(&history), ["step 57: non-finite: seen"]);
    }

    fn guard(step: u64, kind: &str, samples: usize) -> Guard {
        Guard { step, kind: kind.into(), action: "seen".into(), samples }
    }

    /// Examples without a finite loss are left out one by one; that is the data, not the rate.
    #[test]
    fn broken_examples_are_no_divergence() {
        let mut history = healthy();
        history.guards = (1..=9).map(|step| guard(step, "non-finite", 1)).collect();
        well(&history);
        assert_eq!(not_judged(&history).len(), 6);
    }

    #[test]
    fn a_guard_that_goes_back_again_and_again_saw_a_divergence() {
        let mut history = healthy();
        let hit = |step| guard(step, "explosion", 0);
        history.guards = vec![hit(20), hit(40)];
        well(&history);
        history.guards.push(hit(60));
        let finding = only(&history, Rule::Diverged);
        assert_eq!(finding.evidence, ["the guard went back 3 times, to steps 20 to 60"]);
    }

    #[test]
    fn a_spike_that_is_over_soon_is_no_divergence() {
        let mut history = healthy();
        let spike = |t: f64| if (0.5..0.53).contains(&t) { 9.0 } else { settles(t) };
        history.loss = noisy(4, 200, false, spike);
        well(&history);
    }
}
