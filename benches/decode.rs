//! A language model at eight strengths: `cargo bench --bench decode`.
//!
//! Makes a random Llama of 110 million parameters (f32) with a rank-16 LoRA on all linear layers, and
//! one of 1.1 billion (f16, 2.2 GB), in a temporary folder, and prints:
//!
//! - eight strengths in one batch against eight runs one after another, decoding, and how near one
//!   step of the batch is to reading all weights once;
//! - with `LORA_EVAL_PEER_PYTHON=python` (torch, transformers, peft), tokens per second of the peer
//!   on the same files, type, batch and threads;
//! - the time from starting the program on the 2.2 GB base to the first token, against `cat` of the
//!   same file, page cache warm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use candle_core::Device;
use lora_eval::adapter::Adapter;
use lora_eval::generate::{Noise, Row, Sampling, Stopping, complete, prefill};
use lora_eval::model::Base;
use lora_eval::model::decoder::Decoder;
use lora_eval::tensors::{Float, Tensor, write_file};
use rayon::prelude::*;
use serde_json::json;

const NEW_TOKENS: usize = 48;
const PROMPT: usize = 16;
const ROUNDS: usize = 3;

/// Sizes of a Llama.
struct Size {
    hidden: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    vocabulary: usize,
    float: Float,
}

const SMALL: Size =
    Size { hidden: 768, inner: 2048, layers: 12, heads: 12, vocabulary: 32_000, float: Float::F32 };
const LARGE: Size = Size {
    hidden: 2048,
    inner: 5632,
    layers: 22,
    heads: 32,
    vocabulary: 32_000,
    float: Float::F16,
};

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return; // `cargo test --benches` only checks that it builds
    }
    let folder = tempfile::Builder::new().prefix("lora-eval-bench-").tempdir_in("target").unwrap();
    let (small, adapter) = (folder.path().join("small"), folder.path().join("adapter"));
    make_base(&small, &SMALL);
    make_adapter(&adapter, &SMALL);
    decoding(&small, &adapter);
    if let Some(python) = std::env::var_os("LORA_EVAL_PEER_PYTHON") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/decode_peer.py");
        let threads = rayon::current_num_threads().to_string();
        let status = Command::new(python)
            .arg(script)
            .args([&small, &adapter])
            .args([threads, PROMPT.to_string(), NEW_TOKENS.to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "the peer failed");
    }
    let large = folder.path().join("large");
    make_base(&large, &LARGE);
    first_token(&large);
}

fn decoding(base: &Path, adapter: &Path) {
    let base = Base::open(base).unwrap();
    let mut decoder = Decoder::load(&base, None, &Device::Cpu).unwrap();
    decoder.attach(0, &Adapter::open(adapter).unwrap(), &base).unwrap();
    let strengths = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0];
    let one = median((0..ROUNDS).map(|_| decode(&decoder, &[0.75])).collect());
    let eight = median((0..ROUNDS).map(|_| decode(&decoder, &strengths)).collect());
    let alone: f64 = strengths.iter().map(|strength| decode(&decoder, &[*strength])).sum();
    let read = median((0..ROUNDS).map(|_| read_all(&base)).collect());
    let step = eight / NEW_TOKENS as f64;
    println!(
        "{} threads, {:.0} MB of weights, rank 16 on all linear layers, {NEW_TOKENS} tokens",
        rayon::current_num_threads(),
        base.size() as f64 / 1e6
    );
    println!("one strength:    {one:.2} s, {:.1} tokens/s", NEW_TOKENS as f64 / one);
    println!("eight in a batch: {eight:.2} s, {:.1} tokens/s", 8.0 * NEW_TOKENS as f64 / eight);
    println!("eight in turn:   {alone:.2} s; the batch is faster by {:.2}", alone / eight);
    println!(
        "a step of the batch: {:.1} ms; reading all weights once: {:.1} ms, ratio {:.2}",
        1e3 * step,
        1e3 * read,
        step / read
    );
}

/// Seconds for decoding; the prompts' pass is not counted.
fn decode(decoder: &Decoder, strengths: &[f32]) -> f64 {
    let prompt: Vec<u32> = (7..).step_by(13).take(PROMPT).collect();
    let rows: Vec<Row> = strengths
        .iter()
        .map(|strength| Row {
            prompt: prompt.clone(),
            strengths: vec![*strength],
            ..Row::default()
        })
        .collect();
    let prefilled = prefill(decoder, &rows).unwrap();
    let noise = vec![Noise::new(1, &prompt); rows.len()];
    let stopping = Stopping { max_new_tokens: NEW_TOKENS, ..Stopping::default() };
    let start = Instant::now();
    let texts =
        complete(decoder, None, &prefilled, (&Sampling::default(), &noise), &stopping).unwrap();
    assert!(texts.iter().all(|text| text.tokens.len() == NEW_TOKENS));
    start.elapsed().as_secs_f64()
}

/// Seconds for reading every byte of the weights once, on all threads.
fn read_all(base: &Base) -> f64 {
    let start = Instant::now();
    for file in &base.files {
        let sum: u64 = file
            .file
            .data()
            .par_chunks(1 << 20)
            .map(|chunk| {
                let (words, _) = chunk.as_chunks::<8>();
                words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
            })
            .reduce(|| 0, u64::wrapping_add);
        black_box(sum);
    }
    start.elapsed().as_secs_f64()
}

/// Start to first token against reading the same file: into memory, as a loader without mapping would,
/// and by `cat` into nothing; with the file in the page cache and, where that may be dropped, without.
fn first_token(base: &Path) {
    let file = base.join("model.safetensors");
    let size = std::fs::metadata(&file).unwrap().len() as f64 / 1e9;
    println!("base of {size:.2} GB f16, start of the program to its first token:");
    for (name, warm) in [("in the page cache", true), ("from the disk", false)] {
        let (mut reads, mut cats, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            for (what, times) in [(0, &mut starts), (1, &mut reads), (2, &mut cats)] {
                if !warm && !drop_page_cache() {
                    return println!("{name}: not measured, the page cache cannot be dropped here");
                }
                let start = Instant::now();
                match what {
                    0 => generate_one(base),
                    1 => drop(black_box(std::fs::read(&file).unwrap())),
                    _ => {
                        let cat = Command::new("cat").arg(&file).stdout(Stdio::null()).status();
                        assert!(cat.unwrap().success());
                    }
                }
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let (read, cat, start) = (median(reads), median(cats), median(starts));
        println!(
            "{name}: {start:.2} s; read into memory {read:.2} s, ratio {:.2}; cat {cat:.2} s, ratio {:.2}",
            start / read,
            start / cat
        );
    }
}

fn generate_one(base: &Path) {
    let generated = Command::new(env!("CARGO_BIN_EXE_lora-eval"))
        .args(["generate", "the river", "--max-new-tokens", "1", "--base"])
        .arg(base)
        .stdout(Stdio::null())
        .status();
    assert!(generated.unwrap().success());
}

/// Needs Linux and root.
fn drop_page_cache() -> bool {
    let _ = Command::new("sync").status();
    std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Numbers that look random, small enough for a deep model.
fn random(n: usize, seed: u64, scale: f32) -> Vec<f32> {
    (0..n as u64)
        .into_par_iter()
        .map(|i| {
            let mut x = (i ^ seed.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((x >> 40) as f32 / 8_388_608.0 - 1.0) * scale
        })
        .collect()
}

/// Modules of a layer: name, outputs, inputs.
fn linears(size: &Size) -> [(&'static str, usize, usize); 7] {
    let (hidden, inner) = (size.hidden, size.inner);
    [
        ("self_attn.q_proj", hidden, hidden),
        ("self_attn.k_proj", hidden, hidden),
        ("self_attn.v_proj", hidden, hidden),
        ("self_attn.o_proj", hidden, hidden),
        ("mlp.gate_proj", inner, hidden),
        ("mlp.up_proj", inner, hidden),
        ("mlp.down_proj", hidden, inner),
    ]
}

fn make_base(folder: &Path, size: &Size) {
    std::fs::create_dir_all(folder).unwrap();
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    let mut seed = 0;
    let mut add = |name: String, shape: Vec<usize>, scale: f32, offset: f32| {
        seed += 1;
        let count = shape.iter().product();
        let values: Vec<f32> =
            random(count, seed, scale).into_iter().map(|value| value + offset).collect();
        tensors.push((name, Tensor::from_f32(shape, &values, size.float)));
    };
    add("model.embed_tokens.weight".into(), vec![size.vocabulary, size.hidden], 0.5, 0.0);
    for layer in 0..size.layers {
        for (name, out, inputs) in linears(size) {
            let scale = 1.7 / (inputs as f32).sqrt();
            add(format!("model.layers.{layer}.{name}.weight"), vec![out, inputs], scale, 0.0);
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(format!("model.layers.{layer}.{norm}.weight"), vec![size.hidden], 0.1, 1.0);
        }
    }
    add("model.norm.weight".into(), vec![size.hidden], 0.1, 1.0);
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    write_file(&folder.join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": size.hidden, "intermediate_size": size.inner,
        "num_hidden_layers": size.layers, "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads, "vocab_size": size.vocabulary,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tokenizer =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/decoders/chat/model");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tokenizer.join(name), folder.join(name)).unwrap();
    }
}

fn make_adapter(folder: &Path, size: &Size) {
    const RANK: usize = 16;
    std::fs::create_dir_all(folder).unwrap();
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for layer in 0..size.layers {
        for (name, out, inputs) in linears(size) {
            let key = format!("base_model.model.model.layers.{layer}.{name}");
            let seed = 1000 + tensors.len() as u64;
            let a = random(RANK * inputs, seed, 1.0 / (inputs as f32).sqrt());
            let b = random(out * RANK, seed + 1, 0.1);
            let a = Tensor::from_f32(vec![RANK, inputs], &a, Float::F32);
            tensors.push((format!("{key}.lora_A.weight"), a));
            let b = Tensor::from_f32(vec![out, RANK], &b, Float::F32);
            tensors.push((format!("{key}.lora_B.weight"), b));
        }
    }
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    write_file(&folder.join("adapter_model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 32,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "lora_dropout": 0.0, "bias": "none", "base_model_name_or_path": "small",
    });
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}
