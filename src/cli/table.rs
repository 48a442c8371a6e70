//! Scores as a table of text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lora_eval::run::Scores;

use super::output;

/// A table a group: metrics by strength. Strengths of further axes stand in the report.
pub fn scores(scores: &Scores) -> String {
    let mut text = String::new();
    let rows = || scores.metrics.iter().flat_map(|metric| &metric.rows);
    let groups: BTreeSet<&str> = rows().map(|row| row.group.as_str()).collect();
    for group in groups.into_iter().rev() {
        let mut strengths: Vec<f64> = rows()
            .filter(|row| row.group == group && row.axes.is_empty())
            .map(|row| row.strength)
            .collect();
        strengths.sort_by(f64::total_cmp);
        strengths.dedup();
        if strengths.is_empty() {
            continue; // further axes: the report has a picture for each point
        }
        let _ = write!(text, "\n{:<20}", output::name(group));
        for strength in &strengths {
            let _ = write!(text, "{strength:>9}");
        }
        text.push('\n');
        for metric in &scores.metrics {
            let of = |strength: f64| {
                metric.rows.iter().find(|row| {
                    row.group == group && row.strength == strength && row.axes.is_empty()
                })
            };
            if strengths.iter().all(|strength| of(*strength).is_none()) {
                continue;
            }
            let _ = write!(text, "{:<20}", metric.label);
            for strength in &strengths {
                match of(*strength).and_then(|row| row.value) {
                    Some(value) => {
                        let _ = write!(text, "{:>9}", short(value));
                    }
                    None => text.push_str("        –"),
                }
            }
            text.push('\n');
        }
    }
    for note in &scores.notes {
        let _ = writeln!(text, "note      {}", output::name(note));
    }
    text.push('\n');
    text
}

/// Four significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 || (v > 0.0 && v < 1e-4) => format!("{value:.2e}"),
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
