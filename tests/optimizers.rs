//! Optimizers, learning rates and clipping against torch, lion-pytorch, prodigyopt, diffusers and
//! transformers.
//!
//! Expected values and how they were made: `tests/parity/optimizers.py`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use candle_core::{Device, Tensor, Var};
use lora_eval::config::{
    LrScaling, OptimizerKind, OptimizerSettings, ScheduleKind, ScheduleSettings, Warmup,
};
use lora_eval::train::optimizer::{Optimizer, clip_norm};
use lora_eval::train::schedule::Schedule;
use serde::Deserialize;

#[derive(Deserialize)]
struct Peers {
    shapes: Vec<Vec<usize>>,
    /// Steps, tensors, values.
    gradients: Vec<Vec<Vec<f64>>>,
    optimizers: Vec<OptimizerCase>,
    schedules: Vec<ScheduleCase>,
    clips: Vec<ClipCase>,
}

#[derive(Deserialize)]
struct OptimizerCase {
    name: String,
    settings: OptimizerValues,
    start: Vec<Vec<f64>>,
    rates: Vec<Vec<f64>>,
    f32: Vec<Vec<f64>>,
    f64: Vec<Vec<f64>>,
    estimates: Vec<f64>,
}

#[derive(Deserialize)]
struct OptimizerValues {
    kind: OptimizerKind,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
}

#[derive(Deserialize)]
struct ScheduleCase {
    kind: ScheduleKind,
    cycles: usize,
    power: f64,
    learning_rate: f64,
    total: usize,
    warmup: usize,
    factors: Vec<f64>,
}

#[derive(Deserialize)]
struct ClipCase {
    limit: f64,
    norm: f64,
    f64: Vec<Vec<f64>>,
}

fn peers() -> Peers {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/optimizers.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn settings(values: &OptimizerValues) -> OptimizerSettings {
    OptimizerSettings {
        kind: values.kind,
        learning_rate: 1.0,
        text_encoder_lr: 1.0,
        weight_decay: values.weight_decay,
        beta1: values.beta1,
        beta2: values.beta2,
        epsilon: values.epsilon,
        loraplus_ratio: 1.0,
        lr_scaling: LrScaling::None,
        max_grad_norm: 0.0,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "they were written from f32")]
fn tensors(values: &[Vec<f64>], shapes: &[Vec<usize>]) -> Vec<Tensor> {
    let of = |(values, shape): (&Vec<f64>, &Vec<usize>)| {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap()
    };
    values.iter().zip(shapes).map(of).collect()
}

fn numbers(tensors: impl IntoIterator<Item = Tensor>) -> Vec<f64> {
    let of = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors.into_iter().flat_map(of).map(f64::from).collect()
}

/// The largest difference over the largest expected value.
fn apart(found: &[f64], expected: &[Vec<f64>]) -> f64 {
    let expected: Vec<f64> = expected.iter().flatten().copied().collect();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
    let difference = found.iter().zip(&expected).fold(0f64, |a, (f, e)| a.max((f - e).abs()));
    assert!(found.iter().all(|value| value.is_finite()));
    difference / largest
}

#[test]
fn thirty_steps_of_every_optimizer_are_those_of_its_reference() {
    let peers = peers();
    assert_eq!(peers.optimizers.len(), 6);
    for case in &peers.optimizers {
        let start = tensors(&case.start, &peers.shapes);
        let vars: Vec<Var> = start.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let mut optimizer = Optimizer::new(&settings(&case.settings), &vars).unwrap();
        for (step, (gradients, rates)) in peers.gradients.iter().zip(&case.rates).enumerate() {
            let gradients = tensors(gradients, &peers.shapes);
            optimizer.step(&vars, &gradients, rates).unwrap();
            let expected = case.estimates.get(step).copied().unwrap_or(1.0);
            let d = optimizer.rate_factor();
            assert!((d / expected - 1.0).abs() < 1e-6, "{}, step {step}: {d}", case.name);
        }
        let found = numbers(vars.iter().map(|var| var.as_tensor().clone()));
        for (precision, expected) in [("f32", &case.f32), ("f64", &case.f64)] {
            let apart = apart(&found, expected);
            assert!(apart < 1e-6, "{}: {apart:e} from {precision}", case.name);
        }
    }
}

#[test]
fn every_schedule_has_the_factors_of_diffusers_and_transformers() {
    let cases = peers().schedules;
    assert_eq!(cases.len(), 77);
    for case in cases {
        let ScheduleCase { kind, cycles, power, learning_rate, total, warmup, factors } = case;
        let settings = ScheduleSettings { kind, warmup: Warmup::Steps(warmup), cycles, power };
        let schedule = Schedule::new(&settings, total, learning_rate).unwrap();
        assert_eq!(factors.len(), total);
        for (step, expected) in factors.into_iter().enumerate() {
            let found = schedule.factor(step);
            assert!(
                (found - expected).abs() < 1e-12,
                "{kind:?}, {cycles} cycles, power {power}, {warmup} of {total}, step {step}: {found}"
            );
        }
    }
}

#[test]
fn clipped_gradients_are_those_of_torch() {
    let peers = peers();
    assert_eq!(peers.clips.len(), 3);
    for case in &peers.clips {
        let mut gradients = tensors(&peers.gradients[0], &peers.shapes);
        let norm = clip_norm(&mut gradients, case.limit).unwrap();
        assert!((norm / case.norm - 1.0).abs() < 1e-12, "{norm}");
        assert!(apart(&numbers(gradients), &case.f64) < 1e-7, "limit {}", case.limit);
    }
}
