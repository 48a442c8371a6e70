//! `lora-eval combine`: several adapters as one.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use lora_eval::adapter::combine::{Method, combine};
use lora_eval::model::Unmatched;
use serde_json::json;

use super::adapters::{self, Reference};
use super::global::Global;
use super::{Usage, output};

/// Write several adapters, each at its strength, as one
///
/// `concat` puts their ranks side by side and is exact; `svd` cuts the exact sum to a rank.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    lora-eval combine style.safetensors:0.8 pose.safetensors:0.5 --out both.safetensors")]
pub struct Args {
    /// The adapters, each with its strength: PATH[:STRENGTH]
    #[arg(required = true, value_name = "IN[:STRENGTH]", value_parser = adapters::parse)]
    inputs: Vec<Reference>,
    /// How they become one
    #[arg(long, value_enum, default_value = "concat")]
    method: How,
    /// The rank of the result, with `--method svd`
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u16).range(1..), required_if_eq("method", "svd"))]
    rank: Option<u16>,
    /// Where to write, in the format of the first adapter
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// Ranks side by side, exact
    Concat,
    /// The sum cut to --rank
    Svd,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let inputs = adapters::open_all(&args.inputs)?;
    if inputs.iter().any(|input| !input.blocks.is_empty()) {
        return Err(Usage(
            "`lbw=` needs a base, whose blocks the weights are about\nhint: `lora-eval merge` applies them"
                .to_owned(),
        )
        .into());
    }
    for input in &inputs {
        adapters::report_unread(&input.adapter, false)?;
    }
    let method = match (args.method, args.rank) {
        (How::Concat, None) => Method::Concat,
        (How::Svd, Some(rank)) => Method::Svd(usize::from(rank)),
        _ => {
            return Err(Usage(
                "--rank goes with --method svd; concat keeps all ranks\nhint: see `--help`"
                    .to_owned(),
            )
            .into());
        }
    };
    let combined = combine(&inputs, method)?;
    adapters::write(global, &combined, combined.format, &args.out)?;
    let unread: Vec<Unmatched> =
        inputs.iter().flat_map(|input| adapters::unread(&input.adapter)).collect();
    if global.json {
        return output::json(&json!({
            "out": args.out,
            "modules": combined.modules.len(),
            "adapters": inputs.len(),
            "ranks": combined.ranks(),
            "unmatched": unread,
            "seconds": start.elapsed().as_secs_f64(),
        }));
    }
    let ranks: Vec<String> = combined.ranks().keys().map(ToString::to_string).collect();
    output::print(&format!(
        "{}: {} adapters as one, {} modules, rank {}\n",
        args.out.display(),
        inputs.len(),
        combined.modules.len(),
        ranks.join(", ")
    ))
}
