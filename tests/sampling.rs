//! Sampling against transformers' logits processors.
//!
//! Expected values and how they were made: `tests/parity/sampling/`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;

use lora_eval::generate::{Noise, Sampling};
use serde_json::Value;

fn cases() -> (BTreeMap<u64, Vec<f32>>, Vec<Value>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/sampling/sampling.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = all["cases"].as_array().unwrap().clone();
    let values = cases.iter().filter(|case| case["values"].is_array());
    let logits = values.map(|case| {
        let values = serde_json::from_value(case["values"].clone()).unwrap();
        (case["logits"].as_u64().unwrap(), values)
    });
    (logits.collect(), cases.clone())
}

#[test]
fn the_tokens_that_can_be_drawn_and_their_probabilities_are_those_of_transformers() {
    let (logits, cases) = cases();
    assert_eq!(cases.len(), 90);
    for case in &cases {
        let number = |key: &str, default: f64| case["settings"][key].as_f64().unwrap_or(default);
        let sampling = Sampling {
            temperature: number("temperature", 1.0),
            top_k: usize::try_from(case["settings"]["top_k"].as_u64().unwrap_or(0)).unwrap(),
            top_p: number("top_p", 1.0),
            min_p: number("min_p", 0.0),
            repetition_penalty: number("repetition_penalty", 1.0),
        };
        let context: Vec<u32> = serde_json::from_value(case["context"].clone()).unwrap();
        let mut values = logits[&case["logits"].as_u64().unwrap()].clone();
        sampling.penalise(&mut values, &context);
        let kept = sampling.kept(&values);
        let top = kept.iter().map(|(_, log_p)| *log_p).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = kept.iter().map(|(_, log_p)| (log_p - top).exp()).sum();
        let found: BTreeMap<u32, f64> =
            kept.iter().map(|(token, log_p)| (*token, (log_p - top).exp() / total)).collect();
        let expected: Vec<(u32, f64)> = serde_json::from_value(case["kept"].clone()).unwrap();
        let tokens: Vec<u32> = expected.iter().map(|(token, _)| *token).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), tokens, "{}", case["settings"]);
        for (token, p) in expected {
            // the peer divides and penalises in f32
            assert!(
                (found[&token] - p).abs() < 2e-6,
                "{} {token}: {}",
                case["settings"],
                found[&token]
            );
        }
        // whatever is drawn is one of them
        for step in 0..20 {
            let mut values = logits[&case["logits"].as_u64().unwrap()].clone();
            let drawn = sampling.choose(&mut values, &context, (Noise::new(3, &context), step));
            assert!(tokens.contains(&drawn.unwrap()));
        }
    }
}
