//! `lora-eval demo`

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use lora_eval::demo::Materials;
use lora_eval::report::quoted;
use serde_json::{Value, json};

use super::global::Global;
use super::output;

/// The process of the step that is running; 0 where none is.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// Whether a step was told to stop.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Tells the step that is running to save and stop, the second time to stop at once. `false` where
/// nothing has to be waited for.
pub fn interrupt() -> bool {
    let step = RUNNING.load(Ordering::Relaxed);
    if step == 0 {
        return false;
    }
    let again = INTERRUPTED.swap(true, Ordering::Relaxed);
    #[cfg(target_os = "linux")]
    if let Some(step) = i32::try_from(step).ok().and_then(rustix::process::Pid::from_raw) {
        // one that has just ended cannot be told
        let _ = rustix::process::kill_process(step, rustix::process::Signal::INT);
    }
    !again
}

/// Train, grid, check and report on the two small models that come with the program
///
/// Draws pictures of which some are in a style, and writes lines in another; trains an adapter of each
/// on `demo:image` and `demo:text`; generates unseen prompts and plain ones at strengths from 0
/// to 1.5; judges and reports. Nothing is downloaded. Each step is a command of this program with a file
/// of `examples/demo/`, printed before it runs, so each can be run by hand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval demo\n  \
    lora-eval demo --quick --out /tmp/demo\n\
    Interrupted, the same command goes on.")]
pub struct Args {
    /// Where everything goes [default: runs/demo, with --quick runs/demo-quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take adapters that come with the program instead of training them, and fewer strengths
    #[arg(long)]
    quick: bool,
}

/// One command of this program.
struct Step {
    says: &'static str,
    words: Vec<String>,
    /// Whether exit codes 3 and 4 are an answer and no failure.
    judges: bool,
}

impl Step {
    fn new(says: &'static str, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { says, words, judges: false }
    }

    /// As it would be typed.
    fn line(&self) -> String {
        let words = self.words.iter().filter_map(|word| quoted(word));
        format!("lora-eval {}", words.collect::<Vec<_>>().join(" "))
    }
}

/// Runs every step; the exit code is that of the first which failed.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let usual = if args.quick { "runs/demo-quick" } else { "runs/demo" };
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from(usual));
    let out = folder.to_str().with_context(|| {
        format!("--out {}: not UTF-8\nhint: name a folder in UTF-8", folder.display())
    })?;
    let start = Instant::now();
    Materials { quick: args.quick }.write(&folder)?;
    let steps = steps(out, args.quick);
    let mut done = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        if !global.quiet {
            let (number, of) = (place + 1, steps.len());
            eprintln!("\n[{number}/{of}] {}\n      $ {}", step.says, step.line());
        }
        match step.run(global)? {
            Ok(result) => done.push(result),
            Err(code) => return Ok(ExitCode::from(code)),
        }
    }
    let report = folder.join("report.html");
    if global.json {
        output::json(&json!({
            "out": folder, "report": report, "steps": done,
            "seconds": start.elapsed().as_secs_f64(),
        }))?;
    } else {
        output::print(&end(&report, start.elapsed().as_secs_f64()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a training of this folder can be gone on with.
fn has_checkpoint(folder: &Path) -> bool {
    let found = std::fs::read_dir(folder.join("checkpoints"));
    let mut names = found.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with("step-"))
}

/// What is done, in order.
fn steps(out: &str, quick: bool) -> Vec<Step> {
    let at = |path: &str| format!("{out}/{path}");
    let (striped, house) = if quick {
        (at("adapters/striped.safetensors"), at("adapters/house-style"))
    } else {
        (at("striped/striped.safetensors"), at("house-style/house-style"))
    };
    let strengths = if quick { "0:1.5:0.5" } else { "0:1.5:0.25" };
    let mut steps = Vec::new();
    if !quick {
        let mut train = |says, config: &str, data: String, folder: String| {
            let data = format!("data.train={data}");
            let config = at(config);
            let mut words = vec!["train", &config, "--set", &data, "--out", &folder];
            if has_checkpoint(Path::new(&folder)) {
                words.push("--resume");
            }
            steps.push(Step::new(says, &words));
        };
        train("Train a picture style", "image.yaml", at("pictures"), at("striped"));
        train("Train a way of speaking", "text.yaml", at("text-train.jsonl"), at("house-style"));
    }
    let mut grid = |says, name: &str, lora: &str| {
        let (suite, run, base) =
            (at(&format!("{name}-suite.yaml")), at(name), format!("demo:{name}"));
        let words = ["grid", &suite, "--base", &base, "--lora", lora];
        steps.push(Step::new(
            says,
            &[&words[..], &["--strengths", strengths, "--out", &run]].concat(),
        ));
    };
    grid("Draw every prompt at every strength", "image", &format!("striped={striped}"));
    grid("Write every prompt at every strength", "text", &format!("house-style={house}"));
    let (image, text, policy) = (at("image"), at("text"), at("image-policy.yaml"));
    for (says, words) in [
        ("Judge the pictures", &["check", &image, "--policy", &policy][..]),
        ("Judge the texts", &["check", &text]),
    ] {
        steps.push(Step { judges: true, ..Step::new(says, words) });
    }
    let report = at("report.html");
    steps.push(Step::new("Report", &["report", &image, &text, "--out", &report]));
    steps
}

impl Step {
    /// Runs it as a program of its own, with the global flags of this one. Gives what it printed, or the
    /// exit code of one that failed and has said why.
    fn run(&self, global: &Global) -> anyhow::Result<Result<Value, u8>> {
        let program = env::current_exe().context("the path of this program is not known")?;
        let mut command = Command::new(program);
        command.args(&self.words).args(global.words()).stdin(Stdio::null());
        let start = Instant::now();
        // a group of its own: a terminal's Ctrl-C comes here alone, and is passed on
        #[cfg(target_os = "linux")]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if global.json {
            command.stdout(Stdio::piped());
        }
        let child = command.spawn()?;
        RUNNING.store(child.id(), Ordering::Relaxed);
        let output = child.wait_with_output();
        RUNNING.store(0, Ordering::Relaxed);
        let output = output?;
        let (status, result) =
            (output.status, serde_json::from_slice::<Value>(&output.stdout).ok());
        let code = status.code();
        if INTERRUPTED.load(Ordering::Relaxed) || code == Some(130) {
            output::note("run the same command again to go on");
            return Ok(Err(130));
        }
        match code {
            Some(0) => {}
            Some(3 | 4) if self.judges => {}
            Some(code) => return Ok(Err(u8::try_from(code).unwrap_or(1))),
            None => bail!("`{}` was ended by a signal ({status})", self.line()),
        }
        Ok(Ok(json!({
            "command": self.line(), "exit": code, "result": result,
            "seconds": start.elapsed().as_secs_f64(),
        })))
    }
}

/// What to look at, and what to do with a model of one's own.
fn end(report: &Path, seconds: f64) -> String {
    format!(
        "\n{seconds:.0} seconds. Open {}\n\n\
        Next, with a model of your own:\n  \
        lora-eval grid prompts/pictures.yaml --base v1-5-pruned.safetensors --lora mine.safetensors --out runs/mine\n  \
        lora-eval check runs/mine\n  \
        lora-eval advise --task style --images 40 --vram 8 --base v1-5-pruned.safetensors > next.yaml\n",
        report.display()
    )
}
