//! What adapters on disk show.

use super::super::diagnosis::{Finding, Rule};
use super::super::history::{History, Weights};
use super::patch::{patch, rate_times};
use crate::base::hint::first_few;

/// NaN or an infinity in a checkpoint's weights; such a file draws noise or nothing, and going on
/// from it keeps the NaN (sd-scripts #201, `kohya_ss` #1112).
pub(super) fn poisoned(history: &History) -> Option<Finding> {
    let is_poisoned = |w: &&Weights| !w.not_finite.is_empty();
    let first = history.weights.iter().find(is_poisoned)?;
    let mut evidence = vec![format!(
        "{}: {} tensors are not finite, {}",
        first.path.display(),
        first.not_finite.len(),
        first_few(&first.not_finite)
    )];
    let more = history.weights.iter().filter(is_poisoned).count() - 1;
    if more > 0 {
        evidence.push(format!("{more} later files are not finite either"));
    }
    let good = history.weights.iter().take_while(|w| w.not_finite.is_empty()).last();
    evidence.push(good.map_or("no checkpoint before it is there".to_owned(), |good| {
        format!("the last finite checkpoint is {}", good.path.display())
    }));
    let why =
        "start again from the last finite checkpoint, or from the beginning, at half the rate";
    Some(Finding {
        rule: Rule::PoisonedCheckpoint,
        evidence,
        meaning: "a step with a loss that was not finite reached the weights; this file is lost"
            .to_owned(),
        patch: rate_times(history, 0.5, why.to_owned()),
    })
}

/// Modules whose change is exactly 0 in the newest adapter, though they are in the file.
pub(super) fn dead(history: &History) -> Option<Finding> {
    let newest = history.weights.last().filter(|w| !w.dead.is_empty())?;
    let mut evidence = vec![format!(
        "{}: {} of {} modules change nothing, {}",
        newest.path.display(),
        newest.dead.len(),
        newest.modules,
        first_few(&newest.dead)
    )];
    let unproved = history.guards.iter().find(|guard| guard.kind == "proof");
    evidence.extend(unproved.map(|guard| format!("step {}: {}", guard.step, guard.action)));
    let key = "optimizer.text_encoder_lr";
    let text_encoder_stands = newest.dead_text_encoder && history.number(key) == Some(0.0);
    let (meaning, patch) = if text_encoder_stands {
        let why = "the text encoder has an adapter but a rate of 0; 5·10⁻⁵ is a usual rate";
        let meaning = "the text encoder's modules are in the file, but their learning rate is 0";
        (meaning, Some(patch(history, key, 5e-5.into(), why.to_owned())))
    } else {
        let meaning = "no gradient reaches them: the graph is cut, their rate is 0, or they are \
                       never used (an expert that no token is sent to)";
        (meaning, None)
    };
    Some(Finding { rule: Rule::DeadModules, evidence, meaning: meaning.to_owned(), patch })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::made_up::{healthy, only, only_patch, set, weights, well};
    use super::*;

    #[test]
    fn nan_in_weights_is_a_poisoned_checkpoint() {
        let mut history = healthy();
        history.weights = ["a-000001", "a-000002", "a-000003"].map(weights).into();
        well(&history);
        history.weights[1].not_finite = vec!["q.up".into()];
        history.weights[2].not_finite = vec!["q.up".into(), "q.down".into()];
        let finding = only(&history, Rule::PoisonedCheckpoint);
        assert!(finding.evidence[0].starts_with("a-000002: 1 tensors"), "{finding:?}");
        assert_eq!(finding.evidence[2], "the last finite checkpoint is a-000001");
        assert_eq!(finding.patch.unwrap().to, json!(5e-5));
    }

    #[test]
    fn modules_that_change_nothing_are_dead() {
        let mut history = healthy();
        history.weights[0].dead = vec!["te.q".into(), "te.k".into()];
        history.weights[0].dead_text_encoder = true;
        let finding = only(&history, Rule::DeadModules);
        let expected = "style.safetensors: 2 of 4 modules change nothing, `te.q`, `te.k`";
        assert_eq!(finding.evidence, [expected]);
        assert!(finding.patch.is_none());
        set(&mut history, &[("optimizer.text_encoder_lr", json!(0.0))]);
        let expected = ("optimizer.text_encoder_lr".to_owned(), json!(5e-5));
        assert_eq!(only_patch(&history, Rule::DeadModules), expected);
    }

    #[test]
    fn a_first_checkpoint_that_changes_nothing_yet_is_not_dead() {
        let mut history = healthy();
        history.weights = vec![weights("checkpoint-0"), weights("style")];
        history.weights[0].dead = vec!["q".into()];
        well(&history);
    }
}
