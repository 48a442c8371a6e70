//! `experiment.json`: trainings that differ in one value, each judged, in the order of merit, as data.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::record::Better;
use super::verdict::{Answer, Measured, Verdict};

/// Version of the layout of `experiment.json`.
pub const EXPERIMENT_FORMAT: u32 = 1;

/// Trainings that differ in the value of one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// [`EXPERIMENT_FORMAT`].
    pub format: u32,
    /// Name and version of the program, `lora-eval 0.1.0`.
    pub program: String,
    /// The key that is varied, `adapter.rank`.
    pub key: String,
    /// By which of its names, `lora_rank`.
    pub written: String,
    /// The configuration's file as given.
    pub config: String,
    /// The suite's file as given.
    pub suite: String,
    /// SHA-256 of it.
    pub suite_sha256: String,
    /// What a reader should know: which other values follow the key.
    pub notes: Vec<String>,
    /// Those that were made, the best first; those that failed last.
    pub variants: Vec<Variant>,
}

/// One value of the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// The value as given.
    pub value: String,
    /// Its folder below the experiment's; `train` and `run` lie in it.
    pub folder: String,
    /// Its place, from 1; none where it failed.
    pub rank: Option<usize>,
    /// What was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<Trained>,
    /// How it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
    /// Why it came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

/// What a training gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The adapter that is judged, below the experiment's folder: the one with the lowest held-out loss.
    pub adapter: String,
    /// Steps taken.
    pub steps: usize,
    /// Whether the held-out loss ended it.
    pub stopped_early: bool,
    /// The lowest held-out loss, where it was measured.
    pub held_out: Option<f64>,
    /// The step at which it was.
    pub held_out_step: Option<usize>,
}

/// What is taken from a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The answer.
    pub verdict: Answer,
    /// The answer in a line.
    pub headline: String,
    /// The recommended strength, or the one that comes nearest to passing.
    pub strength: Option<f64>,
    /// The gain there.
    pub gain: Option<Measured>,
    /// The damage there.
    pub damage: Option<Measured>,
}

/// A variant that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// `configuration`, `train`, `grid` or `check`.
    pub step: String,
    /// Why.
    pub error: String,
}

impl Failed {
    /// The error and its hint on one line.
    pub fn in_a_line(&self) -> String {
        self.error.lines().collect::<Vec<_>>().join("; ")
    }
}

impl Judged {
    /// The part of a verdict that variants are compared by.
    pub fn of(verdict: &Verdict) -> Self {
        let nearest = verdict.nearest.as_ref().map(|nearest| nearest.strength);
        let strength = verdict.recommended.or(nearest);
        let at = verdict.strengths.iter().find(|at| Some(at.strength) == strength);
        Self {
            verdict: verdict.verdict,
            headline: verdict.headline.clone(),
            strength,
            gain: at.and_then(|at| at.gain.clone()),
            damage: at.and_then(|at| at.damage.clone()),
        }
    }

    /// Better first: by verdict, then by the gain's lower bound, then by less damage. What was not
    /// measured goes last; measures of different rules, which say nothing of each other, by their names.
    fn compare(&self, other: &Self) -> Ordering {
        let place = |answer| match answer {
            Answer::Pass => 0,
            Answer::Inconclusive => 1,
            Answer::Regression => 2,
        };
        let (gain, damage) = (Self::gain_from, Self::damage_to);
        place(self.verdict)
            .cmp(&place(other.verdict))
            .then_with(|| measures(self.gain.as_ref(), other.gain.as_ref(), gain).reverse())
            .then_with(|| measures(self.damage.as_ref(), other.damage.as_ref(), damage).reverse())
    }

    /// The least gain that there is evidence for.
    fn gain_from(gain: &Measured) -> f64 {
        match gain.better {
            Better::Lower => -gain.high.unwrap_or(f64::INFINITY),
            Better::Higher | Better::Neither => gain.low.unwrap_or(f64::NEG_INFINITY),
        }
    }

    /// The damage, larger where there is less of it.
    fn damage_to(damage: &Measured) -> f64 {
        if damage.better == Better::Higher { damage.value } else { -damage.value }
    }
}

/// A variant as a reader sees it, one cell a column of [`COLUMNS`].
pub type Row = [String; 7];

/// The columns of a ranking; the second is the varied key.
pub const COLUMNS: [&str; 7] =
    ["place", "value", "verdict", "strength", "gain", "damage", "held-out loss"];

impl Variant {
    /// What a reader sees of it.
    pub fn row(&self) -> Row {
        let judged = self.judged.as_ref();
        let verdict = match (judged.map(|judged| judged.verdict), &self.failed) {
            (Some(Answer::Pass), _) => "pass".to_owned(),
            (Some(Answer::Inconclusive), _) => "inconclusive".to_owned(),
            (Some(Answer::Regression), _) => "regression".to_owned(),
            (None, Some(failed)) => format!("failed: {}", failed.step),
            (None, None) => NONE.to_owned(),
        };
        let gain = judged.and_then(|judged| judged.gain.as_ref());
        let damage = judged.and_then(|judged| judged.damage.as_ref());
        let held_out = self.trained.as_ref().and_then(|trained| trained.held_out);
        let strength = judged.and_then(|judged| judged.strength);
        [
            self.rank.map_or(NONE.to_owned(), |rank| rank.to_string()),
            self.value.clone(),
            verdict,
            strength.map_or(NONE.to_owned(), |strength| strength.to_string()),
            gain.map_or(NONE.to_owned(), |gain| shown(gain, gain.better != Better::Lower)),
            damage.map_or(NONE.to_owned(), |damage| shown(damage, damage.better == Better::Higher)),
            held_out.map_or(NONE.to_owned(), short),
        ]
    }
}

/// What stands where there is nothing.
const NONE: &str = "–";

/// `chrF 4.21 (at least 2.1)`: a measure with the bound on its bad side.
fn shown(measured: &Measured, at_least: bool) -> String {
    let bound = if at_least { measured.low } else { measured.high };
    let side = if at_least { "at least" } else { "at most" };
    let bound = bound.map_or(String::new(), |bound| format!(" ({side} {})", short(bound)));
    format!("{} {}{bound}", measured.label, short(measured.value))
}

/// A number in four digits or fewer.
fn short(value: f64) -> String {
    format!("{value:.3e}").parse().map_or(NONE.to_owned(), |rounded: f64| rounded.to_string())
}

/// The order of two measures, the one that is there after the one that is not. It must be total.
fn measures(
    one: Option<&Measured>,
    other: Option<&Measured>,
    merit: fn(&Measured) -> f64,
) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) if one.rule == other.rule => merit(one).total_cmp(&merit(other)),
        (Some(one), Some(other)) => other.rule.cmp(&one.rule),
        (one, other) => one.is_some().cmp(&other.is_some()),
    }
}

impl Experiment {
    /// Puts the variants in the order of merit and numbers them; equals keep their order.
    pub fn rank(&mut self) {
        self.variants.sort_by(|one, other| match (&one.judged, &other.judged) {
            (Some(one), Some(other)) => one.compare(other),
            (one, other) => other.is_some().cmp(&one.is_some()),
        });
        for (place, variant) in self.variants.iter_mut().enumerate() {
            variant.rank = variant.judged.is_some().then_some(place + 1);
        }
    }

    /// Values of variants of the first one's verdict that the evidence does not tell from it: the bounds
    /// of their gains overlap.
    pub fn level_with_first(&self) -> Vec<&str> {
        let Some((first, rest)) = self.variants.split_first() else { return Vec::new() };
        let bounds = |variant: &Variant| {
            let judged = variant.judged.as_ref()?;
            let gain = judged.gain.as_ref()?;
            Some((judged.verdict, gain.rule.clone(), gain.low?, gain.high?))
        };
        let Some((verdict, rule, low, high)) = bounds(first) else { return Vec::new() };
        let level = |variant: &&Variant| {
            bounds(variant).is_some_and(|(other, of, from, to)| {
                other == verdict && of == rule && from <= high && low <= to
            })
        };
        rest.iter().filter(level).map(|variant| variant.value.as_str()).collect()
    }

    /// `lora_rank=8`.
    pub fn name(&self, variant: &Variant) -> String {
        format!("{}={}", self.written, variant.value)
    }

    /// What a reader should know of the ranking, in sentences.
    pub fn remarks(&self) -> Vec<String> {
        let mut all = self.notes.clone();
        let level = self.level_with_first();
        if let (Some(first), false) = (self.variants.first(), level.is_empty()) {
            all.push(format!(
                "{} is not told from {}: the bounds of their gains overlap",
                first.value,
                level.join(", ")
            ));
        }
        for variant in &self.variants {
            let failed = variant.failed.as_ref();
            let said = |failed: &Failed| {
                format!("{} failed ({}): {}", self.name(variant), failed.step, failed.in_a_line())
            };
            all.extend(failed.map(said));
        }
        all
    }

    /// The first variant, where it passes.
    pub fn best(&self) -> Option<&Variant> {
        self.variants.first().filter(|best| {
            best.judged.as_ref().is_some_and(|judged| judged.verdict == Answer::Pass)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rule: &str, value: f64, better: Better) -> Measured {
        Measured {
            rule: rule.to_owned(),
            metric: "chrf".to_owned(),
            label: "chrF".to_owned(),
            unit: "points".to_owned(),
            better,
            value,
            low: Some(value - 1.0),
            high: Some(value + 1.0),
        }
    }

    fn variant(value: &str, verdict: Answer, gain: Option<f64>, damage: f64) -> Variant {
        let judged = Judged {
            verdict,
            headline: String::new(),
            strength: Some(1.0),
            gain: gain.map(|gain| measured("gain", gain, Better::Higher)),
            damage: Some(measured("kl", damage, Better::Lower)),
        };
        Variant { judged: Some(judged), ..failed(value) }
    }

    fn failed(value: &str) -> Variant {
        let (value, folder) = (value.to_owned(), format!("lora_rank={value}"));
        Variant { value, folder, rank: None, trained: None, judged: None, failed: None }
    }

    fn ranked(variants: Vec<Variant>) -> Experiment {
        let text = String::new;
        let mut experiment = Experiment {
            format: EXPERIMENT_FORMAT,
            program: text(),
            key: "adapter.rank".to_owned(),
            written: "lora_rank".to_owned(),
            config: text(),
            suite: text(),
            suite_sha256: text(),
            notes: Vec::new(),
            variants,
        };
        experiment.rank();
        experiment
    }

    fn values(experiment: &Experiment) -> Vec<&str> {
        experiment.variants.iter().map(|variant| variant.value.as_str()).collect()
    }

    #[test]
    fn verdicts_come_before_gains_and_gains_before_damage() {
        let experiment = ranked(vec![
            failed("0"),
            variant("1", Answer::Regression, Some(90.0), 0.0),
            variant("2", Answer::Inconclusive, Some(50.0), 0.0),
            variant("3", Answer::Pass, None, 0.0),
            variant("4", Answer::Pass, Some(3.0), 0.2),
            variant("5", Answer::Pass, Some(3.0), 0.1),
            variant("6", Answer::Pass, Some(4.0), 0.9),
        ]);
        assert_eq!(values(&experiment), ["6", "5", "4", "3", "2", "1", "0"]);
        let ranks: Vec<_> = experiment.variants.iter().map(|variant| variant.rank).collect();
        assert_eq!(ranks, [Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), None]);
    }

    #[test]
    fn equals_keep_the_order_they_were_given_in() {
        let same = |value| variant(value, Answer::Pass, Some(3.0), 0.1);
        assert_eq!(values(&ranked(vec![same("16"), same("4"), same("8")])), ["16", "4", "8"]);
    }

    #[test]
    fn a_metric_of_which_less_is_better_is_compared_the_other_way_round() {
        let with = |value: &str, gain: Measured, damage: Measured| {
            let mut variant = variant(value, Answer::Pass, None, 0.0);
            let judged = variant.judged.as_mut().unwrap();
            (judged.gain, judged.damage) = (Some(gain), Some(damage));
            variant
        };
        let gain = |value| measured("likeness", value, Better::Lower);
        let damage = |value| measured("ssim", value, Better::Higher);
        let experiment = ranked(vec![
            with("a", gain(-2.0), damage(0.8)),
            with("b", gain(-3.0), damage(0.8)),
            with("c", gain(-3.0), damage(0.9)),
        ]);
        assert_eq!(values(&experiment), ["c", "b", "a"]);
    }

    #[test]
    fn only_overlapping_bounds_of_the_same_verdict_are_level_with_the_first() {
        let experiment = ranked(vec![
            variant("4", Answer::Pass, Some(5.0), 0.0),
            variant("8", Answer::Pass, Some(3.5), 0.0),
            variant("16", Answer::Pass, Some(2.5), 0.0),
            variant("32", Answer::Inconclusive, Some(5.0), 0.0),
        ]);
        assert_eq!(experiment.level_with_first(), ["8"]);
        assert_eq!(experiment.best().unwrap().value, "4");
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let experiment = ranked(vec![variant("4", Answer::Pass, Some(5.0), 0.0), failed("x")]);
        let text = serde_json::to_string(&experiment).unwrap();
        assert_eq!(serde_json::from_str::<Experiment>(&text).unwrap(), experiment);
    }
}
