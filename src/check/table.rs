//! A verdict for a terminal.

use std::fmt::Write as _;

use super::words::{factor, number, signed, strength as at};
use crate::base::terminal::printable;
use crate::run::verdict::{Answer, AtStrength, Measured, RuleKind, Verdict, WorstPair};

/// The headline, strengths × gain and damage, the reasons, the pairs that lost most, the notes.
pub fn table(verdict: &Verdict) -> String {
    let mut text = format!("{}\n\n", printable_line(&verdict.headline));
    let rows: Vec<[String; 5]> = verdict.strengths.iter().map(|s| row(s, verdict)).collect();
    let heads = heads(verdict);
    let width = |column: usize| {
        let cells = rows.iter().chain([&heads]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    for row in [&heads].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    if !verdict.reasons.is_empty() {
        text.push('\n');
    }
    for reason in &verdict.reasons {
        let _ = writeln!(text, "{}", printable_line(reason));
    }
    if !verdict.worst.is_empty() {
        text.push_str("\nlost most:\n");
    }
    for pair in &verdict.worst {
        let _ = writeln!(text, "  {}", worst(pair));
    }
    if !verdict.notes.is_empty() {
        text.push('\n');
    }
    for note in &verdict.notes {
        let _ = writeln!(text, "note: {}", printable_line(note));
    }
    text
}

/// A sentence without control characters, whole however long it is.
fn printable_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Column heads: the metrics of gain and damage by name.
pub(super) fn heads(verdict: &Verdict) -> [String; 5] {
    let label = |find: fn(&AtStrength) -> Option<&Measured>, usual: &str| {
        let found = verdict.strengths.iter().find_map(find);
        found.map_or(usual.to_owned(), |one| format!("{usual}: {}", one.label))
    };
    [
        "strength".to_owned(),
        label(|s| s.gain.as_ref(), "gain"),
        label(|s| s.damage.as_ref(), "base"),
        "best".to_owned(),
        "verdict".to_owned(),
    ]
}

/// A strength's cells.
pub(super) fn row(strength: &AtStrength, verdict: &Verdict) -> [String; 5] {
    let mark = if verdict.recommended == Some(strength.strength) { " ◀" } else { "" };
    let (broken, open) = (strength.broken(), strength.open());
    let list = |ids: &[&str]| ids.iter().map(|id| printable(id)).collect::<Vec<_>>().join(", ");
    let answer = match strength.verdict {
        Answer::Pass => format!("pass{mark}"),
        _ if !broken.is_empty() => format!("breaks {}", list(&broken)),
        _ if !open.is_empty() => format!("open: {}", list(&open)),
        _ => "open".to_owned(),
    };
    [
        at(strength.strength),
        cell(strength.gain.as_ref(), first(verdict, |s| s.gain.as_ref()), is_change(strength)),
        cell(strength.damage.as_ref(), first(verdict, |s| s.damage.as_ref()), false),
        format!("{:.0} %", strength.wins * 100.0),
        answer,
    ]
}

/// The measure that a column's head names.
fn first(verdict: &Verdict, of: impl Fn(&AtStrength) -> Option<&Measured>) -> Option<&Measured> {
    verdict.strengths.iter().find_map(of)
}

/// A value, and its metric where the head names another.
fn cell(own: Option<&Measured>, head: Option<&Measured>, change: bool) -> String {
    let Some(own) = own else { return "–".to_owned() };
    let shown = measured(own, change);
    match head {
        Some(head) if head.label != own.label => format!("{}: {shown}", own.label),
        _ => shown,
    }
}

/// Whether the gain is a difference, which has a sign.
fn is_change(strength: &AtStrength) -> bool {
    let gain =
        strength.rules.iter().find(|rule| rule.kind == RuleKind::Gain && rule.value.is_some());
    gain.is_some_and(|rule| rule.base_score.is_some())
}

/// `+12.3 (9.1 to 15.2)`; a ratio has no sign.
fn measured(one: &Measured, change: bool) -> String {
    let shown = |value: f64| match one.unit.as_str() {
        "×" => factor(value),
        _ if change => signed(value),
        _ => number(value),
    };
    let end = |value: Option<f64>| value.map_or("unbounded".to_owned(), shown);
    format!("{} ({} to {})", shown(one.value), end(one.low), end(one.high))
}

/// A pair in a line.
pub(super) fn worst(pair: &WorstPair) -> String {
    let axes: Vec<String> =
        pair.axes.iter().map(|(axis, value)| format!("{axis} {value}")).collect();
    let axes = if axes.is_empty() { String::new() } else { format!(", {}", axes.join(", ")) };
    format!(
        "{} ({}), seed {}, strength {}{}: {} {} → {} ({})",
        printable(&pair.prompt_id),
        printable(&pair.group),
        pair.seed,
        at(pair.strength),
        printable(&axes),
        pair.label,
        number(pair.base),
        number(pair.score),
        signed(pair.change)
    )
}
