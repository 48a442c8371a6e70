//! Floor 6: one file a verb. Arguments become the library's options, its result is printed.
//!
//! Standard output carries the result (with `--json` one JSON document and nothing else); progress,
//! notes and errors go to standard error. Exit codes: 0 success, 1 failed, 2 wrong usage, 3 `check`
//! found a regression, 4 `check` is inconclusive, 130 interrupted.

mod adapters;
mod advise;
mod check;
mod combine;
mod convert;
mod demo;
mod doctor;
mod experiment;
mod extract;
mod generate;
mod global;
mod grid;
mod images;
mod inspect;
mod language;
mod manual;
mod merge;
mod metric;
mod metric_image;
mod output;
mod progress;
mod prompt;
mod rank;
mod report;
mod resize;
mod table;
mod train;
mod train_lint;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};

use global::Global;

/// Train, evaluate, merge, convert and shrink LoRA adapters of language models and Stable Diffusion.
///
/// `grid` generates texts or pictures over held-out prompts at every strength in one batch, scores
/// and reports; `check` says whether to ship, and at which strength. `train` trains, `advise` writes a
/// configuration to start from, `doctor` says what came of it. `demo` shows all of it on two small
/// models that come with the program. Adapters are read in every common format (kohya, LyCORIS, diffusers, PEFT), bases as
/// transformers or diffusers folders, .gguf files or single Stable Diffusion files. Nothing is
/// downloaded; bases and adapters are never changed in place.
#[derive(Debug, Parser)]
#[command(name = "lora-eval", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 success, 1 failed, 2 wrong usage, 3 check found a regression, 4 check is inconclusive, 130 interrupted.\n\
    Examples:\n  \
    lora-eval demo\n  \
    lora-eval advise --task style --images 40 --vram 8 --base sd15.safetensors > ink.yaml\n  \
    lora-eval train ink.yaml --set data.train=pictures/ --out runs/ink-1\n  \
    lora-eval grid prompts/assistant.yaml --base Llama-3.2-1B/ --lora style=my-adapter/ --strengths 0:1.5:0.25 --out runs/style\n  \
    lora-eval grid prompts/pictures.yaml --base sd15.safetensors --lora ink.safetensors --out runs/p\n  \
    lora-eval check runs/style\n  \
    lora-eval generate 'a fox <lora:ink:0.8>' --base sd15/ --lora ink.safetensors --out fox.png\n  \
    lora-eval inspect style.safetensors --base sd15.safetensors\n  \
    lora-eval merge --base sd15.safetensors --lora style.safetensors:0.8 --out merged.safetensors\n  \
    lora-eval prompt 'a fox, <lora:style:0.8>'"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Verb {
    Grid(grid::Args),
    Report(report::Args),
    Check(check::Args),
    Generate(generate::Args),
    Inspect(inspect::Args),
    Merge(merge::Args),
    Convert(convert::Args),
    Extract(extract::Args),
    Resize(resize::Args),
    Combine(combine::Args),
    Train(train::Args),
    Experiment(experiment::Args),
    Advise(advise::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Prompt(prompt::Args),
    Metric(metric::Args),
    #[command(hide = true)]
    Manual(manual::Args),
}

/// A command line that clap accepted and that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Whether a command is running that goes on where it stopped.
static RESUMABLE: AtomicBool = AtomicBool::new(false);

/// Ctrl-C and termination leave no unfinished files behind.
fn stop_cleanly() {
    // A second handler is refused; the program installs one.
    let _ = ctrlc::set_handler(|| {
        // a training saves first; who cannot wait asks twice
        if train::TRAINING.load(Ordering::Relaxed) && !train::STOP.swap(true, Ordering::Relaxed) {
            eprintln!("\ninterrupted; saving after this step (again to stop at once)");
            return;
        }
        if demo::interrupt() {
            return;
        }
        lora_eval::base::atomic::remove_unfinished();
        if RESUMABLE.load(Ordering::Relaxed) {
            eprintln!(
                "\ninterrupted; what is finished is kept: run the same command again to go on"
            );
        }
        std::process::exit(130);
    });
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    cli.global.start_logging();
    stop_cleanly();
    let result = cli.global.prepare().and_then(|()| {
        let done = match cli.verb {
            // verbs whose answer is an exit code
            Verb::Check(args) => return check::run(&cli.global, &args),
            Verb::Demo(args) => return demo::run(&cli.global, &args),
            Verb::Experiment(args) => return experiment::run(&cli.global, &args),
            Verb::Inspect(args) => inspect::run(&cli.global, &args),
            Verb::Merge(args) => merge::run(&cli.global, &args),
            Verb::Convert(args) => convert::run(&cli.global, &args),
            Verb::Extract(args) => extract::run(&cli.global, &args),
            Verb::Resize(args) => resize::run(&cli.global, &args),
            Verb::Combine(args) => combine::run(&cli.global, &args),
            Verb::Train(args) => train::run(&cli.global, &args),
            Verb::Advise(args) => advise::run(&cli.global, &args),
            Verb::Doctor(args) => doctor::run(&cli.global, &args),
            Verb::Prompt(args) => prompt::run(&cli.global, &args),
            Verb::Metric(args) => metric::run(&cli.global, &args),
            Verb::Generate(args) => generate::run(&cli.global, &args),
            Verb::Grid(args) => grid::run(&cli.global, &args),
            Verb::Report(args) => report::run(&cli.global, &args),
            Verb::Manual(args) => manual::run(&args),
        };
        done.map(|()| ExitCode::SUCCESS)
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}
