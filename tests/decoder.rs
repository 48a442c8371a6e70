//! The decoder against transformers and PEFT.
//!
//! Expected values and how they were made: `tests/parity/decoders/`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lora_eval::adapter::Adapter;
use lora_eval::generate::{Noise, Row, Sampling, Stopping, complete, prefill, teacher_forced};
use lora_eval::model::Base;
use lora_eval::model::decoder::{Decoder, Want};
use lora_eval::nn::Strengths;
use serde_json::Value;

/// One folder of `tests/parity/decoders`.
struct Case {
    folder: PathBuf,
    about: Value,
    expected: BTreeMap<String, Tensor>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/decoders")
}

impl Case {
    fn open(name: &str) -> Self {
        let folder = folder().join(name);
        let about = std::fs::read(folder.join("expected.json")).unwrap();
        let tensors =
            candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu);
        Self {
            about: serde_json::from_slice(&about).unwrap(),
            expected: tensors.unwrap().into_iter().collect(),
            folder,
        }
    }

    fn all() -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("expected.json").is_file())
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn decoder(&self) -> Decoder {
        self.decoder_with(Some(DType::F32))
    }

    fn decoder_with(&self, dtype: Option<DType>) -> Decoder {
        let model = self.folder.join(self.about["model"].as_str().unwrap());
        let base = Base::open_to_run(&model).unwrap();
        let mut decoder = Decoder::load(&base, dtype, &Device::Cpu).unwrap();
        for (number, name) in self.about["adapters"].as_array().unwrap().iter().enumerate() {
            let adapter = Adapter::open(&self.folder.join(name.as_str().unwrap())).unwrap();
            let attached = decoder.attach(number, &adapter, &base).unwrap();
            assert!(attached.unmatched.is_empty(), "{:?}", attached.unmatched);
        }
        decoder
    }

    fn prompts(&self) -> Vec<Vec<u32>> {
        serde_json::from_value(self.about["prompts"].clone()).unwrap()
    }

    /// A strength for each adapter, as often as there are strengths.
    fn strengths(&self) -> Vec<Vec<f32>> {
        let one = |value: &Value| {
            let all = if value.is_array() { value.clone() } else { serde_json::json!([value]) };
            serde_json::from_value(all).unwrap()
        };
        self.about["strengths"].as_array().unwrap().iter().map(one).collect()
    }

    /// The largest difference of logits from the peer's, all strengths of a prompt in one batch.
    fn largest_difference(&self, decoder: &Decoder) -> f64 {
        let mut largest = 0.0f64;
        for (p, prompt) in self.prompts().iter().enumerate() {
            let strengths = self.strengths();
            let mut cache = decoder.cache(vec![0; strengths.len()], false);
            let tokens = vec![prompt.clone(); strengths.len()];
            let count = strengths.len();
            let logits = decoder
                .forward(&tokens, &mut cache, &Strengths::new(strengths), Want::All)
                .unwrap();
            for s in 0..count {
                let expected = &self.expected[&format!("logits.p{p}.s{s}")];
                let found = logits.get(s).unwrap();
                let difference = (found - expected).unwrap().abs().unwrap().max_all().unwrap();
                largest = largest.max(f64::from(difference.to_scalar::<f32>().unwrap()));
            }
        }
        largest
    }

    /// Every prompt at every strength, all in one batch, greedily.
    fn greedy(&self, decoder: &Decoder) -> Vec<(String, Vec<u32>)> {
        let (mut rows, mut names) = (Vec::new(), Vec::new());
        for (p, prompt) in self.prompts().iter().enumerate() {
            for (s, strengths) in self.strengths().into_iter().enumerate() {
                rows.push(Row { prompt: prompt.clone(), strengths, ..Row::default() });
                names.push(format!("greedy.p{p}.s{s}"));
            }
        }
        let count = usize::try_from(self.about["new_tokens"].as_u64().unwrap()).unwrap();
        let prefilled = prefill(decoder, &rows).unwrap();
        let noise = vec![Noise::new(0, &[]); rows.len()];
        let stopping = Stopping { max_new_tokens: count, ..Stopping::default() };
        let done =
            complete(decoder, None, &prefilled, (&Sampling::default(), &noise), &stopping).unwrap();
        names.into_iter().zip(done.into_iter().map(|done| done.tokens)).collect()
    }
}

#[test]
fn logits_and_greedy_tokens_are_the_peers() {
    let mut problems = Vec::new();
    let names = Case::all();
    assert!(names.len() >= 25, "{names:?}");
    for name in names {
        let case = Case::open(&name);
        let decoder = case.decoder();
        let difference = case.largest_difference(&decoder);
        if difference.is_nan() || difference > 1e-4 {
            problems.push(format!("{name}: logits differ by {difference:e}"));
        }
        for (key, tokens) in case.greedy(&decoder) {
            let expected: Vec<u32> = case.expected[&key]
                .to_vec1::<i64>()
                .unwrap()
                .into_iter()
                .map(|token| u32::try_from(token).unwrap())
                .collect();
            if tokens != expected {
                let at = tokens.iter().zip(&expected).position(|(a, b)| a != b);
                problems.push(format!("{name}: {key} differs from token {at:?} on"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Without a type asked for, quantised blocks are multiplied as they are, with the inputs rounded to
/// eight bits as llama.cpp does: near the decoded weights, not equal to them.
#[test]
fn quantised_products_stay_near_the_decoded_weights() {
    for name in Case::all().into_iter().filter(|name| name.contains("-q")) {
        let case = Case::open(&name);
        let (exact, quantised) = (case.decoder(), case.decoder_with(None));
        let prompt = case.prompts().remove(2);
        let logits = |decoder: &Decoder| {
            let strengths = Strengths::new(vec![vec![0.0], vec![1.0]]);
            let mut cache = decoder.cache(vec![0; 2], false);
            let tokens = vec![prompt.clone(); 2];
            let logits = decoder.forward(&tokens, &mut cache, &strengths, Want::All).unwrap();
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (a, b) = (logits(&exact), logits(&quantised));
        let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
            values.map(|value| f64::from(value).powi(2)).sum()
        };
        let error =
            square(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / square(&mut a.iter().copied());
        assert!(error > 0.0 && error.sqrt() < 0.05, "{name}: {}", error.sqrt());
    }
}

/// An adapter changes keys and values: rows that share a prompt share nothing else. A row's tokens
/// are those of the row alone, whatever stands beside it, and a prefill serves several seeds.
#[test]
fn rows_share_nothing_and_a_prefill_serves_every_seed() {
    let case = Case::open("llama");
    let decoder = case.decoder();
    let prompt = case.prompts().remove(1);
    let row =
        |strength: f32| Row { prompt: prompt.clone(), strengths: vec![strength], ..Row::default() };
    let stopping = Stopping { max_new_tokens: 24, ..Stopping::default() };
    let sampling = Sampling { temperature: 0.8, top_p: 0.95, ..Sampling::default() };
    let texts = |rows: &[Row], seeds: &[u64]| -> Vec<Vec<Vec<u32>>> {
        let prefilled = prefill(&decoder, rows).unwrap();
        seeds
            .iter()
            .map(|seed| {
                let noise = vec![Noise::new(*seed, &prompt); rows.len()];
                complete(&decoder, None, &prefilled, (&sampling, &noise), &stopping)
                    .unwrap()
                    .into_iter()
                    .map(|done| done.tokens)
                    .collect()
            })
            .collect()
    };
    let together = texts(&[row(0.0), row(0.5), row(1.0)], &[1, 2]);
    for (place, strength) in [0.0, 0.5, 1.0].into_iter().enumerate() {
        let alone = texts(&[row(strength)], &[2, 1]);
        assert_eq!(alone[1][0], together[0][place]);
        assert_eq!(alone[0][0], together[1][place]);
    }
    assert_ne!(together[0][0], together[0][2]);
    assert_ne!(together[0][0], together[1][0]);
}

/// Negative log-likelihood, divergence from row 0 and agreement with it, from the peer's logits by
/// the definitions in f64.
#[test]
fn forced_scores_are_those_of_the_peers_logits() {
    for name in ["llama", "gemma2", "qwen3", "adapter-two"] {
        let case = Case::open(name);
        let decoder = case.decoder();
        let p = 2;
        let prompt = case.prompts().remove(p);
        let (start, target) = prompt.split_at(4);
        let strengths = case.strengths();
        let rows: Vec<Row> = strengths
            .iter()
            .map(|strengths| Row {
                prompt: start.to_vec(),
                strengths: strengths.clone(),
                ..Row::default()
            })
            .collect();
        let prefilled = prefill(&decoder, &rows).unwrap();
        let forced = teacher_forced(&decoder, &prefilled, target).unwrap();
        // log-probabilities of the peer before each token of the target
        let log_p: Vec<Vec<Vec<f64>>> = (0..rows.len())
            .map(|s| {
                let logits = &case.expected[&format!("logits.p{p}.s{s}")];
                let logits = logits.to_vec2::<f32>().unwrap();
                (start.len() - 1..prompt.len() - 1)
                    .map(|place| {
                        let row = &logits[place];
                        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                        row.iter().map(|x| f64::from(*x) - sum.ln()).collect()
                    })
                    .collect()
            })
            .collect();
        let best = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        for (s, found) in forced.iter().enumerate() {
            let nll: f64 =
                log_p[s].iter().zip(target).map(|(row, token)| -row[*token as usize]).sum();
            let kl: f64 = log_p[0]
                .iter()
                .zip(&log_p[s])
                .map(|(p, q)| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>())
                .sum();
            let agree = log_p[0].iter().zip(&log_p[s]).filter(|(p, q)| best(p) == best(q)).count();
            assert_eq!((found.tokens, found.agree), (target.len(), agree), "{name} {s}");
            assert!((found.nll - nll).abs() < 1e-3, "{name} {s}: {} {nll}", found.nll);
            assert!((found.kl - kl).abs() < 1e-3, "{name} {s}: {} {kl}", found.kl);
        }
        assert_eq!(forced[0].kl, 0.0);
    }
}

/// An adapter for q, k, v, gate and up apart is folded into a base that fuses them: the merged model
/// gives the peer's logits at that strength.
#[test]
fn an_adapter_of_parts_is_merged_into_a_fused_base() {
    let case = Case::open("phi3-apart");
    let out = tempfile::tempdir().unwrap();
    let merged = out.path().join("merged");
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_lora-eval"))
        .args(["merge", "-q", "--base"])
        .arg(case.folder.join(case.about["model"].as_str().unwrap()))
        .arg("--lora")
        .arg(case.folder.join("adapter"))
        .arg("--out")
        .arg(&merged)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let base = Base::open(&merged).unwrap();
    let decoder = Decoder::load(&base, None, &Device::Cpu).unwrap();
    for (p, prompt) in case.prompts().into_iter().enumerate() {
        let mut cache = decoder.cache(vec![0], false);
        let logits = decoder.forward(&[prompt], &mut cache, &Strengths::none(1), Want::All);
        let expected = &case.expected[&format!("logits.p{p}.s2")]; // strength 1
        let difference = (logits.unwrap().get(0).unwrap() - expected).unwrap().abs().unwrap();
        let difference = difference.max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference < 2e-4, "{difference}");
    }
}

/// What a configuration says of heads is not believed: no count of them divides by 0 or overflows.
#[test]
fn heads_of_nonsense_part_no_weight() {
    let source = folder().join("phi3/model");
    for (heads, groups) in [(0u64, 0u64), (u64::MAX, u64::MAX), (1 << 63, 1), (3, 7)] {
        let place = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(source.join(name), place.path().join(name)).unwrap();
        }
        let config = std::fs::read(source.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config["num_attention_heads"] = heads.into();
        config["num_key_value_heads"] = groups.into();
        std::fs::write(place.path().join("config.json"), config.to_string()).unwrap();
        let base = Base::open(place.path()).unwrap();
        assert!(Decoder::load(&base, None, &Device::Cpu).is_err(), "{heads} {groups}");
    }
}
