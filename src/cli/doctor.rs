//! `lora-eval doctor`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lora_eval::advise::doctor::{examine, examine_with};
use lora_eval::base::atomic;
use lora_eval::report::quoted;
use serde_json::json;

use super::global::Global;
use super::output;

/// Say what a training's curves show, and write the next configuration, one value changed
///
/// Reads folders of trainings of this program, of sd-scripts and of transformers: logs, TensorBoard's
/// files, adapters and their metadata; and what `check` found in a run of the adapter. Findings are printed,
/// the most severe first; they are no error, the exit code stays 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval doctor runs/ink\n  \
    lora-eval doctor runs/ink --out next.yaml\n  \
    lora-eval doctor runs/ink --run runs/ink-grid --out next.yaml")]
pub struct Args {
    /// The training's folder
    pub dir: PathBuf,
    /// A run of its adapter that was checked [default: one in DIR or beside it, known by the adapter's hash]
    #[arg(long, value_name = "RUN")]
    pub run: Option<PathBuf>,
    /// Write the next configuration there: the one of DIR with one value changed
    #[arg(long, value_name = "FILE.yaml")]
    pub out: Option<PathBuf>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let diagnosis = match &args.run {
        Some(run) => examine_with(&args.dir, run)?,
        None => examine(&args.dir)?,
    };
    let mut written = None;
    if let Some(out) = &args.out {
        let config = args.dir.join("config.yaml");
        let text = std::fs::read_to_string(&config).with_context(|| {
            format!(
                "{}\nhint: only trainings of this program have it; change the value by hand",
                config.display()
            )
        })?;
        match diagnosis.patch() {
            Some(_) => {
                atomic::write(out, diagnosis.next_config(&text)?.as_bytes())?;
                written = Some(out);
                let mut next = args.dir.clone().into_os_string();
                next.push("-next");
                let word = |path: &Path| {
                    let shown = path.to_string_lossy().into_owned();
                    quoted(&shown).unwrap_or(shown)
                };
                output::note(&format!(
                    "{} is written: `lora-eval train {} --out {}`",
                    out.display(),
                    word(out),
                    word(Path::new(&next))
                ));
            }
            None => output::note("nothing to change, so nothing was written"),
        }
    }
    if global.json {
        return output::json(&json!({"diagnosis": diagnosis, "out": written}));
    }
    output::print(&diagnosis.to_string())
}
