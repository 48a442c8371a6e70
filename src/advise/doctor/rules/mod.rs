//! The rules, each a pure function of what a training left.

mod divergence;
mod effect;
mod fit;
mod oscillation;
mod patch;
mod rate;
mod verdict;
mod weights;

use super::diagnosis::{Finding, Patch, Rule};
use super::history::{Captions, History, Origin};
use patch::patch;

/// Fewest points from which a trend is read.
const FEW: usize = 16;

/// At most so many doings of the guard are told.
const GUARDS: usize = 5;

/// Every rule, most severe first.
const RULES: [fn(&History) -> Option<Finding>; 17] = [
    weights::poisoned,
    divergence::diverged,
    rate::zero,
    captions_not_read,
    weights::dead,
    effect::scale_too_small,
    oscillation::oscillation,
    fit::overfitting,
    verdict::no_effect,
    verdict::base_damaged,
    verdict::leaks,
    verdict::too_strong,
    verdict::too_weak,
    verdict::no_gain,
    verdict::too_short,
    rate::too_low,
    fit::plateau,
];

/// All findings, most severe first. A training that was thrown about says nothing of too low a rate
/// or of a plateau, and where the base is damaged or strength 1 too much, more of it is no help.
pub(super) fn apply(history: &History) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().filter_map(|rule| rule(history)).collect();
    let too_much = |finding: &Finding| {
        matches!(
            finding.rule,
            Rule::Diverged | Rule::Oscillation | Rule::BaseDamaged | Rule::Leaks | Rule::TooStrong
        )
    };
    if findings.iter().any(too_much) {
        findings.retain(|f| !matches!(f.rule, Rule::RateTooLow | Rule::Plateau));
    }
    findings
}

/// What the rules could not look at, and what the guard did.
pub(super) fn not_judged(history: &History) -> Vec<String> {
    let mut notes = Vec::new();
    let points = history.loss.len() + history.loss.bad().len();
    if (1..FEW).contains(&points) {
        notes.push(format!("{points} losses are too few to judge their trend; log more often"));
    }
    if points > 0 && history.held_out.len() + history.held_out.bad().len() == 0 {
        notes.push(
            "no held-out loss was logged, so overfitting cannot be seen; hold examples out"
                .to_owned(),
        );
    }
    if points > 0 && history.rate.len() == 0 {
        notes.push("no learning rate was logged".to_owned());
    }
    if let Some((path, verdict)) = &history.verdict {
        notes.push(format!("{}: {}", path.display(), verdict.headline));
    }
    for guard in history.guards.iter().take(GUARDS) {
        notes.push(format!("step {}: {}: {}", guard.step, guard.kind, guard.action));
    }
    if let more @ 1.. = history.guards.len().saturating_sub(GUARDS) {
        notes.push(format!("the guard did {more} more things, see `train.jsonl`"));
    }
    if let Some(reason) = history.ended.as_ref().filter(|reason| !reason.is_empty()) {
        notes.push(format!("the training ended: {reason}"));
    }
    notes
}

/// All captions empty, or all the name of their folder, which is what sd-scripts falls back to.
fn captions_not_read(history: &History) -> Option<Finding> {
    let evidence = match history.captions.as_ref()? {
        Captions::Read => return None,
        Captions::Empty(examples) => format!("all {examples} captions are empty"),
        Captions::FolderName(examples, name) => {
            format!("all {examples} captions are the folder's name, `{name}`")
        }
    };
    Some(Finding {
        rule: Rule::CaptionsNotRead,
        evidence: vec![evidence],
        meaning: "caption files have another ending than the one that was looked for, or another \
                  name than their picture; nothing ties what is learnt to words"
            .to_owned(),
        patch: caption_ending(history),
    })
}

/// The ending that texts beside the pictures have; sd-scripts' usual mistake where they are unknown.
fn caption_ending(history: &History) -> Option<Patch> {
    let key = "data.image.caption_extension";
    let (ending, why) = match (&history.sidecar, history.origin) {
        (Some(ending), _) => (ending.as_str(), "texts beside the pictures have this ending"),
        (None, Origin::SdScripts) => (".txt", "sd-scripts looks for `.caption` unless it is told"),
        _ => return None,
    };
    Some(patch(history, key, ending.into(), why.to_owned()))
}

/// A number in four digits or fewer.
fn short(value: f64) -> String {
    let size = value.abs();
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        format!("{rounded:e}")
    } else {
        rounded.to_string()
    }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

#[cfg(test)]
mod made_up;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::curve::Curve;
    use super::super::diagnosis::Diagnosis;
    use super::super::history::Task;
    use super::made_up::{
        cosine, healthy, held_out, learning_rate, noisy, only, only_patch, rules, settles, well,
    };
    use super::*;

    #[test]
    fn a_healthy_training_has_nothing_wrong() {
        well(&healthy());
        assert_eq!(not_judged(&healthy()), [] as [&str; 0]);
    }

    /// No rule speaks on 600 healthy trainings of both noises and several lengths.
    #[test]
    fn noise_alone_is_never_a_finding() {
        for seed in 0..200 {
            for (steps, diffusion) in [(60, false), (400, true), (1500, true)] {
                let mut history = healthy();
                history.loss = if diffusion {
                    noisy(seed, steps, true, |t| 0.1 + 0.01 * (-4.0 * t).exp())
                } else {
                    noisy(seed, steps, false, settles)
                };
                history.grad_norm = noisy(seed + 1000, steps, true, |_| 0.5);
                history.rate = cosine(steps);
                assert_eq!(
                    rules(&history),
                    [],
                    "{seed} {steps} {diffusion}: {:?}",
                    apply(&history)
                );
            }
        }
    }

    #[test]
    fn captions_that_are_all_empty_or_the_folder_s_name_were_not_read() {
        let mut history = healthy();
        history.task = Some(Task::Image);
        history.captions = Some(Captions::Empty(20));
        assert!(only(&history, Rule::CaptionsNotRead).patch.is_none());
        history.sidecar = Some(".text".into());
        let key = "data.image.caption_extension".to_owned();
        assert_eq!(only_patch(&history, Rule::CaptionsNotRead), (key, json!(".text")));
        history.origin = Origin::SdScripts;
        history.sidecar = None;
        history.captions = Some(Captions::FolderName(20, "cat".into()));
        let expected = ("caption_extension".to_owned(), json!(".txt"));
        assert_eq!(only_patch(&history, Rule::CaptionsNotRead), expected);
        history.captions = Some(Captions::Read);
        well(&history);
    }

    #[test]
    fn the_most_severe_finding_comes_first_and_only_its_patch_is_applied() {
        let mut history = healthy();
        history.weights[0].not_finite = vec!["q.up".into()];
        history.scale = Some(0.05);
        history.delta = Curve::new([(200, 1e-5)]);
        history.held_out = held_out(&[2.0, 1.99, 1.98, 2.1, 2.2, 2.3]);
        history.loss = noisy(12, 200, false, |_| 2.0);
        let findings = apply(&history);
        assert!(findings.len() >= 3 && findings.is_sorted_by_key(|f| f.rule), "{findings:?}");
        let diagnosis =
            Diagnosis { origin: history.origin, read: Vec::new(), findings, notes: Vec::new() };
        let yaml =
            "adapter: {alpha: 1, rank: 16}\noptimizer:\n  learning_rate: 0.0001 # the rate\n";
        let next = diagnosis.next_config(yaml).unwrap();
        assert_eq!(next, yaml.replace("0.0001", "0.00005"));
        let well = Diagnosis { findings: Vec::new(), ..diagnosis };
        assert_eq!(well.next_config(yaml).unwrap(), yaml);
        assert!(well.to_string().starts_with("nothing wrong was found"));
    }

    #[test]
    fn a_training_that_is_thrown_about_has_no_low_rate() {
        let mut history = healthy();
        history.loss = noisy(1, 2000, false, |t| 2.0 - 0.3 * t);
        only(&history, Rule::RateTooLow);
        let spike = |step: u64| if step % 500 == 400 { 9.0 } else { 0.5 };
        history.grad_norm = Curve::new((1..=2000).map(|step| (step, spike(step))));
        assert_eq!(only_patch(&history, Rule::Oscillation), learning_rate(5e-5));
    }

    #[test]
    fn keys_are_those_of_the_program_that_trained() {
        let mut history = healthy();
        history.scale = Some(0.05);
        history.delta = Curve::new([(200, 1e-5)]);
        history.held_out = Curve::default();
        history.loss = noisy(5, 200, true, |_| 0.1);
        for (origin, key) in [
            (Origin::LoraEval, "adapter.alpha"),
            (Origin::SdScripts, "network_alpha"),
            (Origin::Transformers, "lora_alpha"),
        ] {
            history.origin = origin;
            assert_eq!(only_patch(&history, Rule::ScaleTooSmall).0, key);
        }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 30.0, 1.1, 4.69537, 12_345.6, 1e-5, 0.000_123_456, 2.5e7, -0.5];
        let expected = ["0", "30", "1.1", "4.695", "12350", "1e-5", "1.235e-4", "2.5e7", "-0.5"];
        assert_eq!(numbers.map(short), expected);
    }

    #[test]
    fn too_few_points_are_a_note() {
        let history = History { loss: noisy(1, 5, false, settles), ..History::default() };
        well(&history);
        let notes = not_judged(&history);
        assert!(notes[0].starts_with("5 losses are too few"), "{notes:?}");
        assert_eq!(notes.len(), 3);
    }
}
