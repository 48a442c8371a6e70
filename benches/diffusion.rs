//! Stable Diffusion of full size against diffusers: `cargo bench --bench diffusion`.
//!
//! Wants the files of `python benches/diffusion_bases.py` (random weights, 9 GB) and prints:
//!
//! - the time to load the single file until the denoiser can be called, against `cat` of the file;
//! - the time of a step at batch 2 (guidance) and of the autoencoder's decoder, f32 on the CPU;
//! - a step of five strengths in one batch of ten rows against five steps of two rows;
//! - the peak of memory of one step of the f16 files, at one and at two times the side;
//! - with `LORA_EVAL_PEER_PYTHON=python` (torch, diffusers, peft), the same of diffusers, rounds
//!   alternating on the same threads, and how far the results are from one another.
//!
//! `LORA_EVAL_BENCH_SIDE` (default 512) is the pictures' side, `LORA_EVAL_BENCH_ROUNDS` (default 3)
//! the number of rounds, `LORA_EVAL_BENCH_BASES` (default `target/bench-bases`) the files' folder.
//! Times are the best of the rounds.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use candle_core::{Device, Tensor};
use lora_eval::adapter::Adapter;
use lora_eval::generate::image::ImageModel;
use lora_eval::model::Base;
use lora_eval::model::diffusion::noise::{NoiseSource, NoiseStream};
use lora_eval::model::diffusion::{Added, Context};
use lora_eval::nn::Strengths;
use lora_eval::tensors::{Float, Limits, TensorFile, write_file};
use serde_json::Value;

const STRENGTHS: [f32; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
/// How far a result may be from diffusers', as a share of its largest value.
const AGREEMENT: f32 = 1e-3;
/// Rows of a step: the prompt and what it is guided away from.
const ROWS: usize = 2;

struct Setting {
    side: usize,
    rounds: usize,
    bases: PathBuf,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return; // `cargo test --benches` only checks that it builds
    }
    if let [_, flag, file, side] = arguments.as_slice()
        && flag == "--memory"
    {
        return one_step(Path::new(file), side.parse().unwrap());
    }
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    let bases = std::env::var_os("LORA_EVAL_BENCH_BASES");
    let setting = Setting {
        side: number("LORA_EVAL_BENCH_SIDE", 512),
        rounds: number("LORA_EVAL_BENCH_ROUNDS", 3).max(1),
        bases: bases.map_or_else(|| PathBuf::from("target/bench-bases"), PathBuf::from),
    };
    println!("{} threads, best of {}", rayon::current_num_threads(), setting.rounds);
    for (name, measure) in [("sd15", sd15 as fn(&Setting)), ("sdxl", sdxl)] {
        let file = setting.file(name);
        match std::fs::metadata(&file) {
            Ok(found) => println!("{name}: {:.2} GB", found.len() as f64 / 1e9),
            Err(e) => {
                let file = file.display();
                println!("{name}: not measured, {file}: {e}; see benches/diffusion_bases.py");
                continue;
            }
        }
        measure(&setting);
        for side in [setting.side, 2 * setting.side] {
            memory(&file, side);
        }
    }
}

fn sd15(setting: &Setting) {
    let step = Step::new(setting.side, 768, None);
    let mut peer = Peer::start(setting, "sd15", &step);
    loading(setting, peer.as_mut());
    let base = Base::open_to_run(&setting.file("sd15")).unwrap();
    let [plain, adapted] = [vec![], vec![setting.bases.join("sd15-lora.safetensors")]]
        .map(|adapters| open(&base, &adapters));

    let output = steps(setting, &step, &plain, peer.as_mut());

    let latents = step.latents.narrow(0, 0, 1).unwrap();
    let decode = || timed(|| plain.diffusion.vae.decode(&latents, false).unwrap());
    let what = format!("decoding, {0} × {0}", setting.side);
    alternate(setting, &what, || decode().1, peer.as_mut().map(|p| (p, "decode")));

    if let Some(peer) = &mut peer {
        println!("the LoRA, PEFT: {:.2} s to attach", peer.ask("adapter"));
    }
    let rows = |strengths: &[f32]| {
        Strengths::new(strengths.iter().flat_map(|s| vec![vec![*s]; ROWS]).collect())
    };
    let (mut batch, mut turn) = (f64::INFINITY, f64::INFINITY);
    let all = rows(&STRENGTHS);
    let mut swept = None;
    alternate(
        setting,
        "five strengths, a step of one batch; diffusers one by one",
        || {
            let (output, seconds) = step.run(&adapted, STRENGTHS.len(), &all);
            swept = Some(output);
            batch = batch.min(seconds);
            let alone = STRENGTHS.iter().map(|s| step.run(&adapted, 1, &rows(&[*s])).1);
            turn = turn.min(alone.sum());
            seconds
        },
        peer.as_mut().map(|peer| (peer, "sweep")),
    );
    println!("five strengths in turn: {turn:.2} s; the batch is faster by {:.2}", turn / batch);

    if let Some(peer) = peer {
        let results = peer.finish();
        results.compare("step", &output);
        results.compare("decode", &decode().0);
        for (index, rows) in swept.unwrap().chunk(STRENGTHS.len(), 0).unwrap().iter().enumerate() {
            results.compare(&format!("sweep.{index}"), rows);
        }
    }
}

fn sdxl(setting: &Setting) {
    let step = Step::new(setting.side, 2048, Some(1280));
    let mut peer = Peer::start(setting, "sdxl", &step);
    let base = Base::open_to_run(&setting.file("sdxl")).unwrap();
    let (model, opened) = timed(|| open(&base, &[]));
    println!("loading: {opened:.2} s");
    if let Some(peer) = &mut peer {
        println!("loading the denoiser in f32, diffusers: {:.2} s", peer.ask("load unet"));
    }
    let output = steps(setting, &step, &model, peer.as_mut());
    if let Some(peer) = peer {
        peer.finish().compare("step", &output);
    }
}

/// The first step, which finds nothing in the processor's caches and no page mapped, then the others.
fn steps(
    setting: &Setting,
    step: &Step,
    model: &ImageModel,
    mut peer: Option<&mut Peer>,
) -> Tensor {
    let none = Strengths::none(ROWS);
    let (output, first) = step.run(model, 1, &none);
    println!("step, the first one: {first:.2} s");
    if let Some(peer) = &mut peer {
        println!("step, the first one, diffusers: {:.2} s", peer.ask("step"));
    }
    let what = format!("step, {0} × {0}, {ROWS} rows", setting.side);
    let peer = peer.map(|peer| (peer, "step"));
    alternate(setting, &what, || step.run(model, 1, &none).1, peer);
    output
}

/// The single file until the denoiser can be called, file in the page cache.
fn loading(setting: &Setting, mut peer: Option<&mut Peer>) {
    let file = setting.file("sd15");
    let cat = || {
        let cat = Command::new("cat").arg(&file).stdout(Stdio::null()).status();
        assert!(cat.unwrap().success());
    };
    cat();
    let mut cats = f64::INFINITY;
    let ours = || {
        cats = cats.min(timed(cat).1);
        timed(|| open(&Base::open_to_run(&file).unwrap(), &[])).1
    };
    if let Some(peer) = &mut peer {
        println!("loading in f16, diffusers: {:.2} s", peer.ask("load float16"));
    }
    let peer = peer.map(|peer| (peer, "load float32"));
    let ours = alternate(setting, "loading, diffusers to f32", ours, peer);
    println!("`cat` of the file: {cats:.2} s, ratio {:.3}", ours / cats);
}

fn open(base: &Base, adapters: &[PathBuf]) -> ImageModel {
    let adapters: Vec<Adapter> = adapters.iter().map(|path| Adapter::open(path).unwrap()).collect();
    let (model, attached) = ImageModel::open(base, &adapters, None, &Device::Cpu).unwrap();
    assert!(attached.iter().all(|adapter| adapter.matched > 0 && adapter.unmatched.is_empty()));
    model
}

/// The least times of ours and, after each of them, of the peer's command; gives ours.
fn alternate(
    setting: &Setting,
    what: &str,
    mut ours: impl FnMut() -> f64,
    mut peer: Option<(&mut Peer, &str)>,
) -> f64 {
    let (mut our, mut their) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..setting.rounds {
        our = our.min(ours());
        if let Some((peer, command)) = &mut peer {
            their = their.min(peer.ask(command));
        }
    }
    match peer {
        Some(_) => println!("{what}: {our:.3} s, diffusers {their:.3} s: {:.2} ×", their / our),
        None => println!("{what}: {our:.3} s"),
    }
    our
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed().as_secs_f64())
}

/// Runs this program for one step of a file and prints its largest resident set.
fn memory(file: &Path, side: usize) {
    let child = Command::new(std::env::current_exe().unwrap())
        .arg("--memory")
        .args([file.as_os_str(), side.to_string().as_ref()])
        .status();
    assert!(child.unwrap().success());
}

fn one_step(file: &Path, side: usize) {
    let base = Base::open_to_run(file).unwrap();
    let model = open(&base, &[]);
    let step =
        Step::new(side, model.diffusion.unet.context_width(), model.diffusion.unet.pooled_width());
    let (_, seconds) = step.run(&model, 1, &Strengths::none(ROWS));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let gigabytes = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        let kb = line.and_then(|line| line.split_whitespace().nth(1));
        kb.map_or(f64::NAN, |kb| kb.parse::<f64>().unwrap() * 1024.0 / 1e9)
    };
    println!(
        "memory, one step at {side} × {side}, {ROWS} rows ({seconds:.2} s): peak {:.2} GB, of which {:.2} GB mapped from the file",
        gigabytes("VmHWM"),
        gigabytes("RssFile")
    );
}

/// What a step of the denoiser reads.
struct Step {
    latents: Tensor,
    timestep: f64,
    tokens: Tensor,
    pooled: Option<Tensor>,
    time_ids: [f32; 6],
}

impl Step {
    /// For pictures of a side, texts of a width and, with SDXL, a pooled text of another.
    fn new(side: usize, width: usize, pooled: Option<usize>) -> Self {
        assert!(side > 0 && side.is_multiple_of(64), "{side} is not a multiple of 64");
        let mut noise = NoiseStream::new(NoiseSource::Cpu, 7);
        let mut normal = |shape: &[usize]| {
            Tensor::from_vec(noise.normal(shape.iter().product()), shape, &Device::Cpu).unwrap()
        };
        let full = side as f32;
        Self {
            latents: normal(&[ROWS, 4, side / 8, side / 8]),
            timestep: 501.0,
            tokens: normal(&[ROWS, 77, width]),
            pooled: pooled.map(|width| normal(&[ROWS, width])),
            time_ids: [full, full, 0.0, 0.0, full, full],
        }
    }

    /// What the denoiser makes of so many copies, and the seconds.
    fn run(&self, model: &ImageModel, copies: usize, strengths: &Strengths) -> (Tensor, f64) {
        let repeat = |tensor: &Tensor| Tensor::cat(&vec![tensor; copies], 0).unwrap();
        let latents = repeat(&self.latents);
        let context = Context { tokens: repeat(&self.tokens), starts: Vec::new() };
        let added = self.pooled.as_ref().map(|pooled| Added {
            pooled: repeat(pooled),
            time_ids: vec![self.time_ids; copies * ROWS],
        });
        let timesteps = vec![self.timestep; copies * ROWS];
        let unet = &model.diffusion.unet;
        timed(|| unet.forward(&latents, &timesteps, &context, added.as_ref(), strengths).unwrap())
    }

    /// The same as a file for the peer.
    #[expect(clippy::cast_possible_truncation, reason = "a timestep is a small whole number")]
    fn write(&self, path: &Path) {
        let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let mut tensors = vec![
            ("latents", self.latents.clone()),
            ("timesteps", vector(&[self.timestep as f32; ROWS])),
            ("tokens", self.tokens.clone()),
            ("strengths", vector(&STRENGTHS)),
        ];
        if let Some(pooled) = &self.pooled {
            tensors.push(("text_embeds", pooled.clone()));
            tensors.push(("time_ids", Tensor::new(&[self.time_ids; ROWS], &Device::Cpu).unwrap()));
        }
        let tensors = tensors.into_iter().map(|(name, tensor)| {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let shape = tensor.dims().to_vec();
            (name.to_owned(), lora_eval::tensors::Tensor::from_f32(shape, &values, Float::F32))
        });
        write_file(path, &tensors.collect(), &BTreeMap::new()).unwrap();
    }
}

/// `benches/diffusion_peer.py`, which answers a command a line.
struct Peer {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Peer {
    fn start(setting: &Setting, name: &str, step: &Step) -> Option<Self> {
        let python = std::env::var_os("LORA_EVAL_PEER_PYTHON")?;
        let folder = tempfile::tempdir().unwrap();
        step.write(&folder.path().join("inputs"));
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/diffusion_peer.py"))
            .args([setting.file(name), setting.bases.join(name)])
            .arg(setting.bases.join("sd15-lora.safetensors"))
            .arg(rayon::current_num_threads().to_string())
            .args(["inputs", "outputs"].map(|name| folder.path().join(name)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, commands, answers, folder })
    }

    /// The number that a command gives: seconds, or bytes.
    fn ask(&mut self, command: &str) -> f64 {
        writeln!(self.commands, "{command}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        let number = answer.as_object().and_then(|answer| answer.values().next()?.as_f64());
        number.unwrap()
    }

    fn finish(mut self) -> Results {
        println!("memory, diffusers in all: peak {:.2} GB", self.ask("save") / 1e9);
        drop(self.commands);
        assert!(self.child.wait().unwrap().success(), "the peer failed");
        Results(TensorFile::open(&self.folder.path().join("outputs"), Limits::BASE).unwrap())
    }
}

/// The peer's results.
struct Results(std::sync::Arc<TensorFile>);

impl Results {
    /// Prints the largest difference as a share of the largest value; a large one is an error.
    fn compare(&self, name: &str, ours: &Tensor) {
        let theirs = self.0.get(name).unwrap();
        assert_eq!(ours.dims(), theirs.shape(), "{name}");
        let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let theirs = theirs.to_f32(name).unwrap();
        let largest = theirs.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let differences = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        // a value that is not a number makes the sum one too
        let sum: f32 = differences.clone().sum();
        let share = differences.fold(0.0f32, f32::max) / largest;
        println!("{name}: off by {share:.1e} of the largest value, {largest:.2}");
        assert!(sum.is_finite() && share < AGREEMENT, "{name} differs from diffusers'");
    }
}

impl Setting {
    fn file(&self, name: &str) -> PathBuf {
        self.bases.join(format!("{name}.safetensors"))
    }
}
