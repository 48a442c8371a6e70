//! Overfitting, and losses that stand still.

use serde_json::Value;

use super::super::curve::{Point, Window, windows};
use super::super::diagnosis::{Finding, Patch, Rule};
use super::super::history::{History, Origin};
use super::patch::{patch, rank_times};
use super::{FEW, percent, short};

/// So many evaluations in a row that are worse than the one before show that a model overfits.
const RISES: usize = 3;

/// After its lowest point the held-out loss rises over three evaluations while the training loss does
/// not. A training that is set to stop by itself then did.
pub(super) fn overfitting(history: &History) -> Option<Finding> {
    let best = history.held_out.lowest()?;
    let last = history.held_out.last()?;
    let after = history.held_out.between(best.step, last.step);
    let stops_by_itself = history.number("validation.patience").is_some();
    if stops_by_itself || !rises(after) || loss_rises(history, best.step, last.step) {
        return None;
    }
    let evidence = vec![
        format!("the held-out loss was lowest at step {}, {}", best.step, short(best.value)),
        format!(
            "it then rose to {} at step {} ({} evaluations), while the training loss did not",
            short(last.value),
            last.step,
            after.len() - 1
        ),
    ];
    Some(Finding {
        rule: Rule::Overfitting,
        evidence,
        meaning: format!(
            "the examples are learnt by heart from step {} on; the checkpoint nearest to it is the best",
            best.step
        ),
        patch: Some(stop_in_time(history, best)),
    })
}

/// Whether evaluations from the best on rise: three in a row at the end, or three at the end that are
/// all worse than the best and do not fall again; by more than 1 % and three times their noise.
fn rises(after: &[Point]) -> bool {
    let tail = after.len().checked_sub(RISES + 1).and_then(|start| after.get(start..));
    let (Some(best), Some(tail)) = (after.first(), tail) else { return false };
    let noise = Window::of(after).map_or(0.0, |w| w.error * (after.len() as f64).sqrt());
    let worse = |p: &Point| p.value - best.value > (0.01 * best.value.abs()).max(3.0 * noise);
    let rising = tail.windows(2).all(|pair| pair[1].value > pair[0].value);
    let falling = tail.windows(2).all(|pair| pair[1].value < pair[0].value);
    let late = tail.get(1..).unwrap_or_default();
    (rising && late.last().is_some_and(worse)) || (!falling && late.iter().all(worse))
}

fn stop_in_time(history: &History, best: Point) -> Patch {
    if history.origin == Origin::LoraEval {
        let why = "stop when the held-out loss has not improved three times";
        return patch(history, "validation.patience", Value::from(RISES), why.to_owned());
    }
    let why = "the held-out loss was lowest there";
    patch(history, "run.steps", Value::from(best.step), why.to_owned())
}

/// Whether the training loss from `best` to `last` is above that of as long a stretch before, beyond
/// its noise.
fn loss_rises(history: &History, best: u64, last: u64) -> bool {
    let before = best.saturating_sub(last - best);
    let early = Window::of(history.loss.between(before, best));
    let late = Window::of(history.loss.between(best.saturating_add(1), last));
    match (early, late) {
        (Some(early), Some(late)) => {
            let (fall, error) = early.fall_to(&late);
            fall < -2.0 * error
        }
        _ => false,
    }
}

/// The loss fell, then stood still for the last half of the steps at which the rate was still a tenth
/// of its peak; the held-out loss did not improve in that time either.
pub(super) fn plateau(history: &History) -> Option<Finding> {
    let points = learning(history);
    if points.len() < 2 * FEW {
        return None;
    }
    let tenths = windows(points, 10);
    let start = tenths.first()?;
    let end = Window::of(points.get(points.len() * 3 / 4..)?)?;
    let (fall, error) = start.fall_to(&end);
    // The first tenth from which on the loss falls by no more than a little part of the whole fall.
    let flat = tenths.iter().skip(1).find(|tenth| {
        let after = points.partition_point(|p| p.step < tenth.first);
        let halves = windows(points.get(after..).unwrap_or_default(), 2);
        let [early, late] = halves.as_slice() else { return false };
        let (still, noise) = early.fall_to(late);
        still < 0.02 * fall && noise < 0.05 * fall
    })?;
    let long = end.last.saturating_sub(flat.first) >= end.last.saturating_sub(start.first) / 2;
    let fell = fall > 3.0 * error && fall > 0.05 * start.mean;
    if !long || !fell || held_out_improves(history, flat.first) {
        return None;
    }
    Some(Finding {
        rule: Rule::Plateau,
        evidence: vec![format!(
            "the mean loss fell from {} by {} until step {}, and no further until step {}",
            short(start.mean),
            percent(fall / start.mean),
            flat.first,
            end.last
        )],
        meaning: "the steps after that were wasted, or the adapter can hold no more".to_owned(),
        patch: next_after_plateau(history),
    })
}

/// Points at which the learning rate was at least a tenth of its peak: at the end of a schedule every
/// loss stands still.
fn learning(history: &History) -> &[Point] {
    let Some(peak) = history.rate.peak() else { return history.loss.points() };
    let high = history.rate.points().iter().rfind(|p| p.value >= 0.1 * peak);
    history.loss.between(0, high.map_or(u64::MAX, |p| p.step))
}

fn held_out_improves(history: &History, since: u64) -> bool {
    let points = history.held_out.points();
    let (before, after) = points.split_at(points.partition_point(|p| p.step < since));
    let low = |points: &[Point]| points.iter().map(|p| p.value).reduce(f64::min);
    match (low(before).or(after.first().map(|p| p.value)), low(after)) {
        (Some(before), Some(after)) => after < 0.995 * before,
        _ => false,
    }
}

/// A rate that stays high lets the weights wander about their best place; otherwise more rank.
fn next_after_plateau(history: &History) -> Option<Patch> {
    if history.word("schedule.kind").is_some_and(|kind| kind.starts_with("constant")) {
        let why = "a rate that falls lets the loss settle below where a constant one holds it";
        return Some(patch(history, "schedule.kind", "cosine".into(), why.to_owned()));
    }
    let why = "twice the rank holds twice as much; keep it only if the held-out loss gets better";
    rank_times(history, 2.0, why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::curve::Curve;
    use super::super::made_up::{healthy, held_out, noisy, only, only_patch, rules, set, well};
    use super::*;

    #[test]
    fn a_held_out_loss_that_rises_while_the_training_loss_falls_is_overfitting() {
        let mut history = healthy();
        history.held_out = held_out(&[2.0, 1.5, 1.2, 1.1, 1.15, 1.22, 1.3]);
        let finding = only(&history, Rule::Overfitting);
        assert_eq!(finding.evidence[0], "the held-out loss was lowest at step 40, 1.1");
        let patch = finding.patch.unwrap();
        assert_eq!(patch.key, "validation.patience");
        assert_eq!((patch.from, patch.to), (Some(Value::Null), json!(3)));
        // A rise may have a dip, and come to a stand.
        history.held_out =
            held_out(&[4.695, 4.708, 4.831, 4.892, 4.852, 4.885, 4.877, 4.872, 4.878]);
        only(&history, Rule::Overfitting);
        let long = [2.0, 1.2, 1.0, 1.03, 1.06, 1.09, 1.12, 1.15, 1.18, 1.21, 1.24, 1.27, 1.26];
        history.held_out = held_out(&long);
        only(&history, Rule::Overfitting);
        history.origin = Origin::Transformers;
        assert_eq!(only_patch(&history, Rule::Overfitting), ("max_steps".to_owned(), json!(30)));
    }

    #[test]
    fn a_held_out_loss_that_rises_once_and_falls_again_is_no_overfitting() {
        let mut history = healthy();
        for curve in [
            &[2.0, 1.5, 1.3, 1.4, 1.45, 1.2, 1.1][..],
            &[2.0, 1.5, 1.2, 1.1, 1.15, 1.22, 1.18],
            &[2.0, 1.2, 1.1, 1.15, 1.2],
            &[2.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.5, 1.48, 1.46, 1.44, 1.42],
            &[2.0, 1.2, 1.1, 1.101, 1.102, 1.103],
        ] {
            history.held_out = held_out(curve);
            well(&history);
        }
    }

    #[test]
    fn a_held_out_loss_that_rises_with_the_training_loss_is_no_overfitting() {
        let mut history = healthy();
        history.held_out = held_out(&[2.0, 1.5, 1.2, 1.1, 1.15, 1.22, 1.3, 1.4]);
        history.loss = noisy(7, 80, false, |t| if t < 0.5 { 1.5 } else { 1.4 });
        assert_eq!(rules(&history), [Rule::Overfitting]);
        history.loss = noisy(7, 80, false, |t| if t < 0.5 { 1.5 } else { 2.2 });
        assert!(!rules(&history).contains(&Rule::Overfitting));
    }

    #[test]
    fn a_training_that_stops_by_itself_has_no_overfitting() {
        let mut history = healthy();
        history.held_out = held_out(&[2.0, 1.5, 1.2, 1.1, 1.15, 1.22, 1.3]);
        set(&mut history, &[("validation.patience", json!(3))]);
        well(&history);
    }

    #[test]
    fn a_loss_that_stands_still_at_a_high_rate_is_a_plateau() {
        let mut history = healthy();
        history.loss = noisy(10, 1000, false, |t| 1.0 + 2.0 * (-30.0 * t).exp());
        history.held_out = held_out(&[2.0, 1.2, 1.19, 1.19, 1.2, 1.19]);
        history.rate = Curve::new((1..=1000).map(|step| (step, 1e-4)));
        assert_eq!(only_patch(&history, Rule::Plateau), ("adapter.rank".to_owned(), json!(32)));
        set(&mut history, &[("adapter.rank", json!(16)), ("adapter.alpha", json!(16.0))]);
        let why = only(&history, Rule::Plateau).patch.unwrap().why;
        let says = "alpha stays 16, so alpha/rank becomes 0.5,";
        assert!(why.contains(says), "{why}");
        set(&mut history, &[("schedule.kind", json!("constant"))]);
        let expected = ("schedule.kind".to_owned(), json!("cosine"));
        assert_eq!(only_patch(&history, Rule::Plateau), expected);
    }

    #[test]
    fn a_plateau_whose_held_out_loss_falls_or_whose_rate_is_spent_is_none() {
        let mut history = healthy();
        history.loss = noisy(10, 1000, false, |t| 1.0 + 2.0 * (-30.0 * t).exp());
        history.rate = Curve::new((1..=1000).map(|step| (step, 1e-4)));
        history.held_out = Curve::new((1..=10).map(|i| (100 * i, 1.5 - 0.03 * i as f64)));
        well(&history);
        // The rate is below a tenth of its peak from step 600 on; until then the loss falls.
        history.held_out = Curve::default();
        history.loss = noisy(11, 1000, false, |t| 1.0 + (-6.0 * t.min(0.5)).exp());
        let spent = |step: u64| if step < 600 { 1e-4 } else { 1e-6 };
        history.rate = Curve::new((1..=1000).map(|step| (step, spent(step))));
        well(&history);
    }
}
