//! `lora-eval report`

use std::path::PathBuf;

use lora_eval::base::atomic;
use lora_eval::report::{RunView, render_in};
use lora_eval::run::Run;
use lora_eval::tensors::TensorError;
use serde_json::json;

use super::global::Global;
use super::{Usage, output};

/// Write the HTML report of a run, or of several side by side
///
/// One file that opens offline. Runs that are not finished are reported with what is there.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run directories
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Where to write [default: RUN/report.html for one run]
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let runs = args.runs.iter().map(|path| Run::open(path)).collect::<Result<Vec<_>, _>>()?;
    let out = match (&args.out, runs.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [one]) => one.path().join("report.html"),
        (None, _) => {
            return Err(Usage(
                "several runs need `--out FILE.html`\nhint: see `--help`".to_owned(),
            )
            .into());
        }
    };
    let views = runs.iter().map(view).collect::<anyhow::Result<Vec<_>>>()?;
    let missing: usize = views.iter().map(|view| view.missing.len()).sum();
    let cells: usize = views.iter().map(|view| view.cells.len()).sum();
    for (run, view) in runs.iter().zip(&views) {
        if !view.missing.is_empty() {
            output::warn(&format!(
                "{}: {} of {} cells are missing",
                run.path().display(),
                view.missing.len(),
                view.missing.len() + view.cells.len()
            ));
        }
    }
    let html = render_in(atomic::folder_of(&out), &views)?;
    atomic::write(&out, html.as_bytes()).map_err(|e| TensorError::io(&out, e))?;
    if let ([run], [view], None) = (runs.as_slice(), views.as_slice(), &args.out) {
        run.write_scores(&view.scores)?;
    }
    if global.json {
        return output::json(&json!({ "out": out, "cells": cells, "missing": missing }));
    }
    output::print(&format!("{}\n", out.display()))
}

/// A run as it lies on disk, scored.
pub fn view(run: &Run) -> anyhow::Result<RunView> {
    let cells = run.cells()?;
    for extra in &cells.extra {
        output::warn(&format!("{}: not a cell of this run, left out", extra.display()));
    }
    let scores = lora_eval::grid::scores(run.record(), &cells.found)?;
    let title = run.path().file_name().map_or_else(
        || run.path().display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    Ok(RunView {
        title,
        path: run.path().to_owned(),
        record: run.record().clone(),
        cells: cells.found,
        missing: cells.missing,
        scores,
        ablation: run.ablation()?,
        verdict: run.verdict()?,
    })
}
