//! Trainings made up for tests: for every rule some that show it and some that merely resemble it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::curve::Curve;
use super::super::diagnosis::{Finding, Patch, Rule};
use super::super::history::{History, Origin, Task, Weights};
use super::apply;
use crate::base::random::Random;
use crate::run::Verdict;
use crate::run::verdict::Outcome;

/// `n` steps of a curve of the time from 0 to 1, each times a number of mean 1: 10 % of noise as of
/// texts, or the log-normal noise of a diffusion loss, whose deviation is two thirds of its mean.
pub(super) fn noisy(seed: u64, n: u64, diffusion: bool, curve: impl Fn(f64) -> f64) -> Curve {
    let mut draws = Random::new(seed, "doctor").at(0, 0, 0);
    Curve::new((0..n).map(|i| {
        let normal = draws.normal();
        let noise = if diffusion { (0.6 * normal - 0.18).exp() } else { 1.0 + 0.1 * normal };
        (i + 1, curve(i as f64 / n as f64) * noise)
    }))
}

/// Evaluations every ten steps.
pub(super) fn held_out(values: &[f64]) -> Curve {
    Curve::new((10..).step_by(10).zip(values.iter().copied()))
}

/// A loss as it should be.
pub(super) fn settles(t: f64) -> f64 {
    1.0 + (-8.0 * t).exp()
}

/// A schedule from 10⁻⁴ down to 0.
pub(super) fn cosine(steps: u64) -> Curve {
    Curve::new((1..=steps).map(|step| {
        let t = step as f64 / steps as f64;
        (step, 1e-4 * 0.5 * (1.0 + (std::f64::consts::PI * t).cos()))
    }))
}

pub(super) fn set(history: &mut History, values: &[(&str, Value)]) {
    for (key, value) in values {
        history.settings.insert((*key).to_owned(), value.clone());
    }
}

/// A text training of 200 steps in which all is well.
pub(super) fn healthy() -> History {
    let mut history = History {
        origin: Origin::LoraEval,
        task: Some(Task::Text),
        loss: noisy(1, 200, false, settles),
        held_out: held_out(&[2.0, 1.6, 1.4, 1.3, 1.25, 1.22, 1.2, 1.19, 1.185, 1.18]),
        grad_norm: noisy(2, 200, false, |_| 0.5),
        rate: cosine(200),
        delta: Curve::new([(100, 1e-3), (200, 2e-3)]),
        scale: Some(1.0),
        weights: vec![weights("style.safetensors")],
        ..History::default()
    };
    set(
        &mut history,
        &[
            ("optimizer.learning_rate", json!(1e-4)),
            ("optimizer.max_grad_norm", json!(1.0)),
            ("schedule.kind", json!("cosine")),
            ("adapter.rank", json!(16)),
            ("adapter.alpha", json!(16.0)),
            ("validation.patience", Value::Null),
        ],
    );
    history
}

/// An adapter of four modules with nothing wrong.
pub(super) fn weights(name: &str) -> Weights {
    Weights {
        path: PathBuf::from(name),
        not_finite: Vec::new(),
        dead: Vec::new(),
        dead_text_encoder: false,
        modules: 4,
        scale: None,
    }
}

/// The verdict on a run with these outcomes at these strengths: of a gain, of a guard.
pub(super) fn verdict(strengths: &[(f64, Outcome, Outcome)]) -> (PathBuf, Verdict) {
    let rule = |strength: f64, rule: &str, kind: &str, outcome: Outcome| {
        json!({
            "rule": rule, "kind": kind, "severity": "error", "outcome": outcome,
            "sentence": format!("{rule} at {strength}"), "against": "base", "pairs": 8, "prompts": 8,
        })
    };
    let at = |(strength, gain, guard): &(f64, Outcome, Outcome)| {
        let kept = |outcome| outcome == Outcome::Pass;
        let passes = if kept(*gain) && kept(*guard) { "pass" } else { "regression" };
        json!({
            "strength": strength, "verdict": passes, "safe": kept(*guard), "p": null,
            "adjusted_p": null, "wins": 0.0, "gain": null, "damage": null,
            "rules": [
                rule(*strength, "effect", "effect", Outcome::Pass),
                rule(*strength, "gain", "gain", *gain),
                rule(*strength, "guard", "guard", *guard),
            ],
        })
    };
    let verdict = json!({
        "format": 1, "program": "", "verdict": "inconclusive", "headline": "the headline",
        "reasons": [], "asked": null, "recommended": null, "safe": null, "nearest": null,
        "strengths": strengths.iter().map(at).collect::<Vec<_>>(),
        "evidence": {"cells": 0, "pairs": {}, "prompts": {}, "further_prompts": {}},
        "worst": [], "notes": [], "signatures": {},
        "policy": {
            "name": "built-in", "sha256": "", "confidence": 0.95, "method": "", "resamples": 0,
            "seed": 0,
        },
        "subject": {
            "run": "run", "base": "", "adapters": {}, "suite": "", "plan": "", "cells": "",
        },
    });
    (PathBuf::from("run/verdict.json"), serde_json::from_value(verdict).unwrap())
}

pub(super) fn rules(history: &History) -> Vec<Rule> {
    apply(history).iter().map(|finding| finding.rule).collect()
}

/// The one finding that there must be.
#[track_caller]
pub(super) fn only(history: &History, rule: Rule) -> Finding {
    let mut findings = apply(history);
    assert_eq!(rules(history), [rule], "{findings:?}");
    findings.remove(0)
}

/// Key and next value of the one finding that there must be.
#[track_caller]
pub(super) fn only_patch(history: &History, rule: Rule) -> (String, Value) {
    let Patch { key, to, .. } = only(history, rule).patch.unwrap();
    (key, to)
}

/// There must be no finding.
#[track_caller]
pub(super) fn well(history: &History) {
    assert_eq!(rules(history), [], "{:?}", apply(history));
}

/// What [`only_patch`] gives for a new learning rate.
pub(super) fn learning_rate(value: f64) -> (String, Value) {
    ("optimizer.learning_rate".to_owned(), json!(value))
}
