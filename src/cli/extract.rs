//! `lora-eval extract`: an adapter from the difference of two models.

use std::fmt::Write as _;
use std::path::PathBuf;

use lora_eval::base::hint::first_few;
use lora_eval::extract::{Report, Request, extract};
use lora_eval::tensors::Float;

use super::global::Global;
use super::rank::RankArgs;
use super::{adapters, output};

/// Extract an adapter from the difference of two models
///
/// Every linear layer and convolution that differs becomes a low-rank module (truncated SVD, exact
/// at the asked rank). Stable Diffusion gives a kohya file, a language model a PEFT folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    lora-eval extract --base sd15.safetensors --tuned mine.safetensors --rank 32 --out mine-lora.safetensors")]
pub struct Args {
    /// The base
    #[arg(long, value_name = "BASE")]
    base: String,
    /// The model that was trained from it
    #[arg(long, value_name = "MODEL")]
    tuned: String,
    #[command(flatten)]
    rank: RankArgs,
    /// Where to write
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let (rule, rank) = args.rank.rule();
    let (base, tuned) = (adapters::open_base(&args.base)?, adapters::open_base(&args.tuned)?);
    let dtype = global.dtype.float().unwrap_or(Float::F32);
    let request = Request { base: &base, tuned: &tuned, out: &args.out, rank, rule, dtype };
    let report = extract(&request)?;
    if !report.unmatched.is_empty() {
        let lost: Vec<String> =
            report.unmatched.iter().map(|u| format!("{} ({})", u.module, u.reason)).collect();
        output::warn(&format!(
            "{} differing module(s) are not in the adapter: {}",
            lost.len(),
            first_few(&lost)
        ));
    }
    if global.json { output::json(&report) } else { output::print(&summary(&report)) }
}

fn summary(report: &Report) -> String {
    let mut ranks = String::new();
    for (rank, modules) in &report.ranks {
        let _ = write!(ranks, " {rank} ({modules})");
    }
    format!(
        "{}: {} modules, {} of the difference kept, ranks (modules):{ranks}, {:.1} s\n",
        report.out.display(),
        report.modules,
        output::percent(report.kept),
        report.seconds
    )
}
