//! Training steps: `LORA_EVAL_PEER_PYTHON=python cargo bench --bench train`.
//!
//! The peer's Python (torch, transformers, diffusers, peft) also makes the bases, two models with
//! random weights (f32): a Llama of 34 million parameters, and the denoiser of Stable Diffusion 1.5 at
//! two fifths of its width. Prints, each from a process of its own, in turn on the same threads:
//!
//! - tokens and pictures per second of ours and of PEFT, without and with gradient checkpointing, and
//!   the largest resident sets;
//! - how the time of a step grows with tokens and with rank.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a path with quotes and escapes is a value of YAML"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use candle_core::Device;
use lora_eval::config::{self, Settings};
use lora_eval::data::image::{self, Example};
use lora_eval::data::text::TextExample;
use lora_eval::generate::image::ImageModel;
use lora_eval::model::Base;
use lora_eval::model::decoder::Decoder;
use lora_eval::model::diffusion::Adapters;
use lora_eval::nn::Visit;
use lora_eval::picture::{Picture as Pixels, encode_png};
use lora_eval::train::memory::Memory;
use lora_eval::train::optimizer::{Optimizer, clip_norm, norm};
use lora_eval::train::{
    Gradients, ImageTask, Parameters, Pass, Picture, Task, TextTask, mean, select,
};
use serde_json::{Value, json};

const STEPS: usize = 6;
const ROWS: usize = 8;
const TOKENS: usize = 256;

/// What one process measures.
#[derive(Clone)]
struct Case {
    kind: &'static str,
    checkpointing: bool,
    rank: usize,
    tokens: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return; // `cargo test --benches` only checks that it builds
    }
    if let Some(place) = arguments.iter().position(|argument| argument == "--case") {
        let [kind, checkpointing, rank, tokens, folder] = &arguments[place + 1..place + 6] else {
            return;
        };
        let case = Case {
            kind: if kind == "text" { "text" } else { "image" },
            checkpointing: checkpointing == "true",
            rank: rank.parse().unwrap(),
            tokens: tokens.parse().unwrap(),
        };
        println!("{}", measure(&case, Path::new(folder)));
        return;
    }
    let Some(python) = std::env::var_os("LORA_EVAL_PEER_PYTHON") else {
        println!("set LORA_EVAL_PEER_PYTHON to a Python with torch, transformers, diffusers, peft");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/train_peer.py");
    let folder = tempfile::Builder::new().prefix("lora-eval-bench-").tempdir_in("target").unwrap();
    let made = Command::new(&python).arg(&script).arg("bases").arg(folder.path()).status();
    assert!(made.unwrap().success(), "the peer made no bases");
    against_peer(&python, &script, folder.path());
    growth(folder.path());
}

fn against_peer(python: &std::ffi::OsStr, script: &Path, folder: &Path) {
    let threads = rayon::current_num_threads();
    println!("{threads} threads; per second (MB)");
    for (kind, base) in [("text", "llama"), ("image", "sd15-small")] {
        for checkpointing in [false, true] {
            let case = Case { kind, checkpointing, rank: 8, tokens: TOKENS };
            let (ours, mut peer) = (run(&case, folder), Command::new(python));
            peer.arg(script).arg(kind).arg(folder.join(base));
            peer.args([threads.to_string(), STEPS.to_string()]);
            if checkpointing {
                peer.arg("checkpointing");
            }
            let theirs = last_line(&mut peer);
            let (a, b) = (ours["rate"].as_f64().unwrap(), theirs["rate"].as_f64().unwrap());
            let megabytes = |of: &Value, key: &str| of[key].as_f64().unwrap_or(0.0) / 1e6;
            println!(
                "{kind:5} checkpointing {checkpointing:5}: ours {a:9.2} ({:5.0}), PEFT {b:9.2} ({:5.0}, {:5.0} of them before the model): {:.2} × as fast, memory {:.2}; first loss {:.5} and {:.5}",
                megabytes(&ours, "peak"),
                megabytes(&theirs, "peak"),
                megabytes(&theirs, "imported"),
                a / b,
                ours["peak"].as_f64().unwrap() / theirs["peak"].as_f64().unwrap(),
                ours["loss"].as_f64().unwrap(),
                theirs["loss"].as_f64().unwrap(),
            );
        }
    }
}

/// Steps of more tokens and of higher ranks.
fn growth(folder: &Path) {
    let seconds = |rank, tokens| {
        let case = Case { kind: "text", checkpointing: false, rank, tokens };
        run(&case, folder)["seconds"].as_f64().unwrap()
    };
    let (base, twice, fourth) = (seconds(8, 256), seconds(8, 512), seconds(8, 64));
    println!("a step of {} tokens: {base:.3} s", 8 * 256);
    println!(
        "  a quarter of the tokens: × {:.2}, twice as many: × {:.2}",
        fourth / base,
        twice / base
    );
    for rank in [1, 16, 64] {
        println!("  rank {rank} in place of 8: × {:.2}", seconds(rank, 256) / base);
    }
}

fn run(case: &Case, folder: &Path) -> Value {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--case").arg(case.kind).arg(case.checkpointing.to_string());
    command.arg(case.rank.to_string()).arg(case.tokens.to_string()).arg(folder);
    last_line(&mut command)
}

fn last_line(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap()
}

fn settings(case: &Case, base: &Path, folder: &Path) -> Settings {
    let yaml = format!(
        "task: {}\nbase: {{model: {base:?}}}\ndata: {{train: {folder:?}, image: {{resolution: 256, cache_latents: true}}}}\n\
         adapter: {{rank: {}, alpha: {}}}\noptimizer: {{learning_rate: 1e-4}}\n",
        case.kind, case.rank, case.rank
    );
    config::parse(Path::new("bench.yaml"), &yaml, &[], &|_| None).unwrap().settings
}

/// Median seconds of a step, forward to optimizer, and the process's largest resident set.
fn measure(case: &Case, folder: &Path) -> Value {
    let base = folder.join(if case.kind == "text" { "llama" } else { "sd15-small" });
    let settings = settings(case, &base, folder);
    let base = Base::open_to_run(&base).unwrap();
    let chosen = select(&base, &settings.adapter).unwrap();
    let parameters =
        Parameters::new(chosen, &settings.adapter, (&base, 1, &Device::Cpu), None).unwrap();
    let (task, size) = task(case, folder, (&settings, &base, &parameters));
    let visits: Vec<Visit> =
        (0..size).map(|example| Visit { example, visit: 0, tokens: 0 }).collect();
    let variables = parameters.variables();
    let mut optimizer = Optimizer::new(&settings.optimizer, &variables).unwrap();
    let mut gradients = Gradients::new(&variables);
    let memory = Memory::unlimited();
    let (mut seconds, mut first) = (Vec::new(), 0.0);
    for step in 0..=STEPS {
        let begun = Instant::now();
        let total: f64 = visits.iter().map(|visit| task.weight(*visit)).sum();
        let mut losses = Vec::new();
        for batch in task.batches(&visits, visits.len()) {
            let pass = Pass { checkpointing: case.checkpointing, memory: &memory };
            losses.extend(task.backward(&batch, total, pass, &mut gradients).unwrap());
        }
        let mut slopes = gradients.take().unwrap();
        assert!(norm(&slopes).unwrap().is_finite());
        clip_norm(&mut slopes, 1.0).unwrap();
        optimizer.step(&variables, &slopes, &vec![1e-4; variables.len()]).unwrap();
        if step == 0 {
            first = mean(&losses);
        } else {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    seconds.sort_unstable_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let units = if case.kind == "text" { ROWS * case.tokens } else { visits.len() };
    json!({"seconds": median, "rate": units as f64 / median, "loss": first, "peak": peak()})
}

fn task(
    case: &Case,
    folder: &Path,
    (settings, base, parameters): (&Settings, &Base, &Parameters),
) -> (Box<dyn Task>, u32) {
    if case.kind == "text" {
        let example = |row: usize| TextExample {
            line: row + 1,
            tokens: (0..case.tokens)
                .map(|i| u32::try_from((7 + 13 * i + 101 * row) % 8000).unwrap())
                .collect(),
            trained: (0..case.tokens).map(|i| i > 0).collect(),
        };
        let examples = ((0..ROWS).map(example).collect(), Vec::new());
        let decoder = Decoder::load(base, None, &Device::Cpu).unwrap();
        let task = TextTask::new(decoder, parameters, examples, settings, base).unwrap();
        return (Box::new(task), u32::try_from(ROWS).unwrap());
    }
    let adapters = Adapters::trained(parameters.trained());
    let model = ImageModel::build(base, &adapters, None, &Device::Cpu).unwrap();
    let side = 32 * model.diffusion.vae.factor();
    let pictures = (0..2).map(|number| picture(folder, number, side)).collect();
    let task = ImageTask::new(model, (pictures, Vec::new()), settings, None).unwrap();
    task.prepare(&mut |_, _| ()).unwrap();
    (Box::new(task), 2)
}

fn picture(folder: &Path, number: usize, side: usize) -> Picture {
    let path: PathBuf = folder.join(format!("{number}.png"));
    let rgb = (0..side * side * 3).map(|i| u8::try_from((i * 37 + number * 11) % 256).unwrap());
    let side_ = u32::try_from(side).unwrap();
    let pixels = Pixels { width: side_, height: side_, rgb: rgb.collect() };
    std::fs::write(&path, encode_png(&pixels, &[]).unwrap()).unwrap();
    let example = Example {
        picture: path,
        captions: vec![format!("picture {number}")],
        repeats: 1,
        source: None,
        class: false,
    };
    let placed = image::Placed { bucket: (side, side), resized: (side, side) };
    Picture { example, size: (side, side), placed }
}

/// The largest resident set of the process in bytes (Linux).
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
