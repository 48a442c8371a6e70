//! `lora-eval resize`: an adapter at a lower rank.

use std::path::PathBuf;
use std::time::Instant;

use lora_eval::adapter::Adapter;
use lora_eval::adapter::resize::{Resized, resize};
use serde_json::json;

use super::global::Global;
use super::rank::RankArgs;
use super::{adapters, output};

/// Write an adapter at a lower rank, module by module through the SVD of its product
///
/// The scale alpha/rank of each module is kept. The rules agree with sd-scripts' `resize_lora.py`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval resize style.safetensors --rank 8 --out style-r8.safetensors\n  \
    lora-eval resize style.safetensors --sv-fro 0.95 --rank 32 --out style-small.safetensors")]
pub struct Args {
    /// The adapter
    input: PathBuf,
    #[command(flatten)]
    rank: RankArgs,
    /// Where to write, in the format of the input
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let (rule, most) = args.rank.rule();
    let adapter = adapters::open(&args.input)?;
    adapters::report_unread(&adapter, false)?;
    let (resized, report) = resize(&adapter, rule, most)?;
    anyhow::ensure!(
        !report.is_empty(),
        "{}: has no low-rank module that could be resized\nhint: LoHa, LoKr and full differences have no rank to lower",
        args.input.display()
    );
    adapters::write(global, &resized, adapter.format, &args.out)?;
    let kept = report.iter().map(|r| r.kept).sum::<f64>() / report.len() as f64;
    let copied = adapter.modules.len() - report.len();
    if global.json {
        return output::json(&json!({
            "out": args.out,
            "modules": adapter.modules.len(),
            "resized": report.len(),
            "copied": copied,
            "ranks": resized.ranks(),
            "kept": kept,
            "unmatched": adapters::unread(&adapter),
            "by_module": report,
            "seconds": start.elapsed().as_secs_f64(),
        }));
    }
    output::print(&summary(args, &report, &resized, kept))?;
    if copied > 0 {
        output::print(&format!("{copied} modules of other kinds are as they were\n"))?;
    }
    Ok(())
}

fn summary(args: &Args, report: &[Resized], resized: &Adapter, kept: f64) -> String {
    let ranks: Vec<usize> = resized.ranks().into_keys().collect();
    let ranks = match ranks.as_slice() {
        [one] => format!("rank {one}"),
        [first, .., last] => format!("ranks {first} to {last}"),
        [] => String::new(),
    };
    format!(
        "{}: {} modules resized to {ranks}; {} of the Frobenius norm kept on average\n",
        args.out.display(),
        report.len(),
        output::percent(kept)
    )
}
