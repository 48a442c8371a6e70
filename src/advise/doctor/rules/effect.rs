//! Changes too small to show.

use super::super::curve::windows;
use super::super::diagnosis::{Finding, Patch, Rule};
use super::super::history::History;
use super::patch::{patch, plain};
use super::{FEW, short};

/// Below this median ‖ΔW‖/‖W‖ an adapter does not show.
pub(super) const FLOOR: f64 = 1e-4;
/// Below this alpha/rank the learning rate has to make up for the scale.
pub(super) const SMALL: f64 = 0.25;

/// alpha/rank below ¼, as by sd-scripts' default alpha of 1, or a change below the floor at a scale
/// below 1; unless the change or a fall of the loss shows that the learning rate made up for it.
pub(super) fn scale_too_small(history: &History) -> Option<Finding> {
    let scale = history.effective_scale()?;
    let delta = history.delta.last();
    let shows = delta.is_some_and(|p| p.value >= 10.0 * FLOOR) || fell(history);
    let unlearnt = history.nothing_learnt();
    let below_floor =
        unlearnt.is_some() || delta.is_some_and(|p| p.value < FLOOR) && history.loss.len() >= FEW;
    let small = scale < SMALL && !shows;
    if !(small || below_floor && scale < 1.0) {
        return None;
    }
    let rank = history.number("adapter.rank");
    let mut evidence = vec![match (history.number("adapter.alpha"), rank) {
        (Some(alpha), Some(rank)) => {
            format!("alpha {alpha} at rank {rank}: the change is multiplied by {}", short(scale))
        }
        _ => format!("the change is multiplied by {}", short(scale)),
    }];
    evidence.extend(
        delta.map(|p| format!("at step {} the median ‖ΔW‖/‖W‖ is {}", p.step, short(p.value))),
    );
    evidence.extend(unlearnt.map(|guard| format!("step {}: {}", guard.step, guard.action)));
    Some(Finding {
        rule: Rule::ScaleTooSmall,
        evidence,
        meaning:
            "alpha was left at a small default (sd-scripts: 1), so what is learnt hardly shows"
                .to_owned(),
        patch: full_scale(history),
    })
}

/// The alpha at which the change is multiplied by 1.
pub(super) fn full_scale(history: &History) -> Option<Patch> {
    let rank = history.number("adapter.rank")?;
    let alpha = if history.is_on("adapter.rslora") { rank.sqrt() } else { rank };
    let why = "alpha/rank of 1 lets the learning rate mean what it says";
    Some(patch(history, "adapter.alpha", plain(alpha), why.to_owned()))
}

/// Whether the training loss or the held-out loss fell by a tenth, beyond its noise.
pub(super) fn fell(history: &History) -> bool {
    let held_out = history.held_out.points();
    let held_out_fell = held_out
        .first()
        .zip(history.held_out.lowest())
        .is_some_and(|(first, low)| low.value < 0.9 * first.value);
    let points = history.loss.points();
    let thirds = windows(points, 3);
    let loss_fell = match (thirds.first(), thirds.last()) {
        (Some(first), Some(last)) if points.len() >= FEW => {
            let (fall, error) = first.fall_to(last);
            fall > 3.0 * error && fall > 0.1 * first.mean
        }
        _ => false,
    };
    held_out_fell || loss_fell
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::curve::Curve;
    use super::super::made_up::{healthy, held_out, noisy, only, set, well};
    use super::*;

    #[test]
    fn an_alpha_of_one_at_rank_16_is_a_small_scale() {
        let mut history = healthy();
        history.loss = noisy(5, 200, true, |_| 0.1);
        history.held_out = held_out(&[0.1, 0.0999, 0.0998, 0.0997]);
        history.delta = Curve::new([(100, 1e-5), (200, 3e-5)]);
        history.scale = Some(1.0 / 16.0);
        set(&mut history, &[("adapter.alpha", json!(1.0))]);
        let finding = only(&history, Rule::ScaleTooSmall);
        assert_eq!(finding.evidence[0], "alpha 1 at rank 16: the change is multiplied by 0.0625");
        let patch = finding.patch.unwrap();
        assert_eq!((patch.from, patch.to), (Some(json!(1.0)), json!(16)));
        // Half the rank, and a change that does not show all the same.
        history.scale = Some(0.5);
        only(&history, Rule::ScaleTooSmall);
    }

    #[test]
    fn a_small_alpha_that_the_rate_or_rslora_makes_up_for_is_no_finding() {
        let mut history = healthy();
        history.scale = Some(1.0 / 16.0);
        set(&mut history, &[("adapter.alpha", json!(1.0))]);
        well(&history); // ‖ΔW‖/‖W‖ is 0.002
        history.delta = Curve::default();
        well(&history); // the loss fell
        history.loss = noisy(5, 200, true, |_| 0.1);
        history.held_out = Curve::default();
        history.scale = None;
        only(&history, Rule::ScaleTooSmall);
        let rslora = [
            ("adapter.rslora", json!(true)),
            ("adapter.alpha", json!(16.0)),
            ("adapter.rank", json!(256)),
        ];
        set(&mut history, &rslora);
        well(&history); // 16/√256
    }
}
