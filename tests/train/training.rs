//! Configurations, trainings and what they leave.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lora_eval::adapter::{Adapter, Delta};
use serde_json::{Value, json};

use super::program::{self, Place, files, fixture, good, text};

/// A configuration that is changed key by key.
#[derive(Clone)]
pub struct Config(Value);

impl Config {
    /// Twelve steps of a tiny language model, all of what a step can draw being drawn.
    pub fn text() -> Self {
        Self(json!({
            "base": {"model": fixture("decoders/chat/model")},
            "data": {"train": fixture("train/text.jsonl"), "held_out_split": 0.1},
            "adapter": {"rank": 4, "dropout": 0.1},
            "optimizer": {"learning_rate": 1e-3},
            "run": {"steps": 12, "batch_size": 2, "seed": 3},
            "output": {"name": "x", "save_every": "1 step"},
        }))
    }

    /// Six steps of a tiny pipeline and its text encoder.
    pub fn image(family: &str) -> Self {
        let image = json!({
            "resolution": [96, 64], "min_bucket": 64, "max_bucket": 96, "bucket_step": 32,
            "flip": true, "caption_dropout": 0.2,
        });
        Self(json!({
            "base": {"model": fixture("diffusion").join(family)},
            "data": {"train": fixture("train/pictures"), "held_out_split": 0, "image": image},
            "adapter": {"rank": 4, "text_encoder": true},
            "optimizer": {"learning_rate": 1e-3},
            "run": {"steps": 6, "batch_size": 2, "seed": 3},
            "output": {"name": "x", "save_every": "1 step"},
        }))
    }

    /// With a value at `a.b.c`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.0;
        for part in key.split('.') {
            at = &mut at[part];
        }
        *at = value.into();
        self
    }

    /// Writes it, pictures to be encoded once for a place.
    pub fn write(&self, place: &Place, name: &str) -> String {
        let draws = self.0["data"]["image"].is_object();
        let cached = || self.clone().set("data.image.cache_dir", place.text("cache"));
        let config = if draws { cached() } else { self.clone() };
        place.file(name, serde_json::to_string_pretty(&config.0).unwrap())
    }

    /// Trains in a folder of that name.
    pub fn train(&self, place: &Place, name: &str) -> PathBuf {
        let out = place.path(name);
        good(&train(&self.write(place, &format!("{name}.yaml")), &out));
        out
    }
}

/// The command line of a training.
pub fn train(config: &str, out: &Path) -> Vec<String> {
    ["train", config, "--out", &text(out)].map(str::to_owned).to_vec()
}

/// The command line that goes on with it.
pub fn resume(config: &str, out: &Path) -> Vec<String> {
    program::with(&train(config, out), &["--resume"])
}

/// The lines of `train.jsonl`.
pub fn events(out: &Path) -> Vec<Value> {
    let lines = fs::read_to_string(out.join("train.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Its lines of one kind.
pub fn of_kind(out: &Path, kind: &str) -> Vec<Value> {
    events(out).into_iter().filter(|event| event["event"] == kind).collect()
}

/// A number of every line of a kind.
pub fn numbers(out: &Path, kind: &str, key: &str) -> Vec<f64> {
    of_kind(out, kind).iter().map(|event| event[key].as_f64().unwrap()).collect()
}

/// What was seen and done by a guard.
pub fn guarded(out: &Path, kind: &str) -> Vec<Value> {
    of_kind(out, "guard").into_iter().filter(|event| event["kind"] == kind).collect()
}

/// The finished adapter: a file or the files of a folder.
pub fn adapter(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = out.join("x.safetensors");
    if let Ok(bytes) = fs::read(&file) {
        return BTreeMap::from([("x.safetensors".to_owned(), bytes)]);
    }
    let all = files(&out.join("x"));
    assert!(all.len() == 2, "{}: {:?}", out.display(), all.keys());
    all
}

/// Where the finished adapter is.
pub fn adapter_path(out: &Path) -> PathBuf {
    let file = out.join("x.safetensors");
    if file.is_file() { file } else { out.join("x") }
}

/// Steps of the checkpoints, each of which is whole.
pub fn checkpoints(out: &Path) -> Vec<usize> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(out.join("checkpoints")).into_iter().flatten().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if let Some(step) = name.strip_prefix("step-") {
            let step: usize = step.parse().unwrap();
            let state = fs::read_to_string(entry.path().join("state.json")).unwrap();
            let state: Value = serde_json::from_str(&state).unwrap();
            assert_eq!(state["state"]["step"], step);
            let tensors = fs::read(entry.path().join("state.safetensors")).unwrap();
            safetensors::SafeTensors::deserialize(&tensors).unwrap();
            let adapter = adapter_path(&entry.path());
            assert!(!changes(&adapter).is_empty(), "{}", adapter.display());
            steps.push(step);
        }
    }
    steps.sort_unstable();
    steps
}

/// scale·B·A of each module by name.
pub fn changes(adapter: &Path) -> BTreeMap<String, Vec<f64>> {
    let adapter = Adapter::open(adapter).unwrap();
    let change = |module: &lora_eval::adapter::Module| {
        let Some(Delta::LowRank { down, up, .. }) = &module.weight else { panic!("no product") };
        let (a, b) = (down.to_f32("a").unwrap(), up.to_f32("b").unwrap());
        let (rank, out) = (down.shape()[0], up.shape()[0]);
        let inputs = a.len() / rank;
        let mut product = vec![0.0; out * inputs];
        for (o, row) in product.chunks_mut(inputs).enumerate() {
            for r in 0..rank {
                let factor = f64::from(b[o * rank + r]) * f64::from(module.scale);
                for (value, a) in row.iter_mut().zip(&a[r * inputs..]) {
                    *value += factor * f64::from(*a);
                }
            }
        }
        (format!("{}.{}", module.id.component.name(), module.id.path), product)
    };
    adapter.modules.values().map(change).collect()
}

/// The largest distance of values as a share of the largest value.
pub fn distance(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let worst = ours.iter().zip(theirs).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
    worst / largest
}

/// The distance of two adapters' changes, the worst module's.
pub fn apart(ours: &Path, theirs: &Path) -> f64 {
    let (ours, theirs) = (changes(ours), changes(theirs));
    assert!(ours.keys().eq(theirs.keys()));
    ours.iter().fold(0.0f64, |worst, (name, ours)| worst.max(distance(ours, &theirs[name])))
}

/// Each value's own relative distance, the largest.
pub fn relative(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs() / b.abs()))
}
