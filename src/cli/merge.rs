//! `lora-eval merge`: adapters folded into a base.

use std::fmt::Write as _;
use std::path::PathBuf;

use lora_eval::base::terminal::bytes;
use lora_eval::merge::{Report, Request, merge};

use super::adapters::{self, Reference};
use super::global::Global;
use super::{output, progress};

/// Fold adapters into a base: a file into a file, a folder into a folder
///
/// W' = round(W + Σ strength · ΔW), computed in f32 and rounded once; tensors that no adapter
/// touches are copied as they are. The base is never changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval merge --base sd15.safetensors --lora style.safetensors:0.8 --out merged.safetensors\n  \
    lora-eval merge --base Llama-3.2-1B/ --lora my-adapter/ --out merged/ --dtype bf16")]
pub struct Args {
    /// The base: a transformers or diffusers folder, a single .safetensors file, or hf:OWNER/NAME in
    /// the local cache
    #[arg(long, value_name = "BASE")]
    base: String,
    /// An adapter, its name and strength (default 1); repeatable. PATH:TE:UNET sets the text
    /// encoder's and the UNet's strength apart; `:lbw=1,0,…` at the end weighs its blocks
    #[arg(long, value_name = "[NAME=]PATH[:STRENGTH]", required = true, value_parser = adapters::parse)]
    lora: Vec<Reference>,
    /// Where to write: a file for a file, a folder for a folder
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Fail when any module does not fit, instead of leaving it out with a warning
    #[arg(long)]
    strict: bool,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let base = adapters::open_base(&args.base)?;
    let inputs = adapters::open_all(&args.lora)?;
    let request = Request {
        base: &base,
        adapters: &inputs,
        out: &args.out,
        dtype: global.dtype.float(),
        strict: args.strict,
    };
    let bar = progress::bytes(global, base.size());
    let result = merge(&request, &|written| bar.inc(written));
    bar.finish_and_clear();
    let report = result?;
    adapters::report_unmatched(&report.unmatched, report.modules);
    for note in &report.notes {
        output::warn(note);
    }
    if global.json { output::json(&report) } else { output::print(&summary(global, &report)) }
}

fn summary(global: &Global, report: &Report) -> String {
    let mut text = format!(
        "{}: {} modules merged into {}\n{} tensors changed, {} copied; {} in {:.2} s\n",
        report.out.display(),
        report.modules,
        report.base,
        report.merged,
        report.copied,
        bytes(report.bytes),
        report.seconds
    );
    for c in &report.coverage {
        let _ = writeln!(
            text,
            "  {:<16} {:?}: {} of {} modules fit",
            c.component.name(),
            c.kind,
            c.matched,
            c.of
        );
    }
    let _ = writeln!(
        text,
        "‖ΔW‖/‖W‖ {:.4}; {} of the updated elements lost to rounding",
        report.relative_change,
        output::percent(report.lost)
    );
    if global.verbose > 0 {
        for block in &report.blocks {
            let _ = writeln!(text, "  {}", output::block(block));
        }
    } else if report.lost > 0.2 {
        text.push_str("much of the update is smaller than the output's type can hold; `--dtype f32` keeps it\n");
    }
    text
}
