//! Noise against torch's generator on the CPU and the WebUI's Philox.
//!
//! Expected values and how they were made: `tests/parity/noise.py`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use lora_eval::base::digest;
use lora_eval::model::diffusion::noise::{NoiseSource, NoiseStream};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/noise.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

#[test]
fn streams_are_bit_for_bit_those_of_the_peers() {
    let cases = cases();
    assert_eq!(cases.len(), 84);
    let float = |value: &Value| {
        #[expect(clippy::cast_possible_truncation, reason = "it was written from an f32")]
        let value = value.as_f64().unwrap() as f32;
        value
    };
    for case in &cases {
        let source: NoiseSource = case["source"].as_str().unwrap().parse().unwrap();
        let seed = case["seed"].as_str().unwrap().parse().unwrap();
        let mut stream = NoiseStream::new(source, seed);
        let mut bytes = Vec::new();
        for (call, count) in case["counts"].as_array().unwrap().iter().enumerate() {
            let count = usize::try_from(count.as_u64().unwrap()).unwrap();
            let values = stream.normal(count);
            assert_eq!(values.len(), count);
            let place = format!("{source}, seed {seed}, call {call} for {count}");
            assert_eq!(values[0], float(&case["first"][call]), "{place}: first");
            assert_eq!(values[count - 1], float(&case["last"][call]), "{place}: last");
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        let expected = case["sha256"].as_str().unwrap();
        assert_eq!(digest::sha256(&bytes), expected, "{source}, seed {seed}: {}", case["counts"]);
    }
}
