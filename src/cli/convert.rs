//! `lora-eval convert`: the same adapter in another format.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use lora_eval::adapter::Format;
use serde_json::json;

use super::global::Global;
use super::{adapters, output};

/// Write an adapter in another format, the same change of every weight to the bit
///
/// Reads any format. What the new format cannot express is refused by name, never dropped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval convert style.safetensors --to diffusers --out pytorch_lora_weights.safetensors\n  \
    lora-eval convert style.safetensors --to peft --out style-peft/")]
pub struct Args {
    /// The adapter: a file, or a PEFT folder
    input: PathBuf,
    /// The format to write
    #[arg(long, value_enum)]
    to: To,
    /// Where to write: a file; for peft a folder
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Fail when the file holds keys that are not understood
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// sd-scripts, the WebUI, `ComfyUI`
    Kohya,
    /// diffusers' `load_lora_weights`
    Diffusers,
    /// PEFT: `adapter_config.json` and `adapter_model.safetensors`
    Peft,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let adapter = adapters::open(&args.input)?;
    adapters::report_unread(&adapter, args.strict)?;
    let format = match args.to {
        To::Kohya => Format::Kohya,
        To::Diffusers => Format::Diffusers,
        To::Peft => Format::Peft,
    };
    adapters::write(global, &adapter, format, &args.out)?;
    let modules = adapter.modules.len();
    if global.json {
        return output::json(&json!({
            "out": args.out,
            "from": adapter.format,
            "to": format,
            "modules": modules,
            "unmatched": adapters::unread(&adapter),
            "seconds": start.elapsed().as_secs_f64(),
        }));
    }
    let (from, to) = (adapter.format.name(), format.name());
    output::print(&format!("{}: {modules} modules, {from} → {to}\n", args.out.display()))
}
