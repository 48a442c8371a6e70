//! The ranking as a table of text.

use std::fmt::Write as _;
use std::path::Path;

use lora_eval::base::terminal::printable;
use lora_eval::run::Experiment;
use lora_eval::run::experiment::{COLUMNS, Variant};

/// The ranking, the best first, and where everything is.
pub fn table(folder: &Path, experiment: &Experiment, report: Option<&Path>) -> String {
    let mut head = COLUMNS.map(str::to_owned);
    head[1].clone_from(&experiment.written);
    let rows: Vec<[String; 7]> = std::iter::once(head)
        .chain(experiment.variants.iter().map(Variant::row))
        .map(|row| row.map(|cell| printable(&cell).into_owned()))
        .collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text.push('\n');
    for remark in experiment.remarks() {
        let _ = writeln!(text, "note      {remark}");
    }
    if let Some(best) = experiment.best()
        && let (Some(trained), Some(judged)) = (&best.trained, &best.judged)
    {
        let adapter = folder.join(&trained.adapter);
        let strength = judged.strength.map_or(String::new(), |s| format!(" at strength {s}"));
        let _ = writeln!(text, "best      {}{strength}", adapter.display());
    }
    if let Some(report) = report {
        let _ = writeln!(text, "report    {}", report.display());
    }
    text
}
