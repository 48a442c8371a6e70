//! The summary: a table metrics × strengths for each group, and one sentence about it.

use serde::Serialize;

use super::lookup::{self, Slice};
use super::sentence;
use super::{number, text};
use crate::run::{Better, MetricScores, ScoreRow, Scores};

/// The summary of one group at one point of the further axes.
#[derive(Debug, Serialize)]
pub struct Table {
    /// `Held-out prompts`.
    pub title: String,
    /// The group in plain words, with intervals and p-values.
    pub sentence: String,
    /// Column heads.
    pub strengths: Vec<String>,
    /// One row a metric.
    pub rows: Vec<Row>,
}

/// A metric over the strengths.
#[derive(Debug, Serialize)]
pub struct Row {
    /// `chrF`.
    pub label: String,
    /// What it measures.
    pub about: String,
    /// Its unit.
    pub unit: String,
    /// `↑ higher is better`.
    pub direction: &'static str,
    /// `n = 24`, where all strengths rest on as many cells.
    pub n: String,
    /// One a strength.
    pub values: Vec<Entry>,
}

/// A metric at one strength.
#[derive(Debug, Default, Serialize)]
pub struct Entry {
    /// `35.1`.
    pub value: String,
    /// `▲ 13.8`, empty at strength 0.
    pub delta: String,
    /// `good`, `bad` or nothing.
    pub tone: &'static str,
    /// `30.2–39.8`.
    pub interval: String,
    /// `**`.
    pub stars: &'static str,
    /// The same in words.
    pub title: String,
    /// The best value of the row.
    pub best: bool,
    /// Strength 0.
    pub base: bool,
}

/// One table for each group and point of the further axes that has a score.
pub fn tables(scores: &Scores) -> Vec<Table> {
    lookup::slices(scores).iter().map(|slice| table(scores, slice)).collect()
}

fn table(scores: &Scores, slice: &Slice) -> Table {
    let metrics: Vec<(&MetricScores, Vec<&ScoreRow>)> = scores
        .metrics
        .iter()
        .map(|metric| (metric, lookup::rows(metric, slice)))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let mut strengths: Vec<f64> =
        metrics.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.strength)).collect();
    strengths.sort_by(f64::total_cmp);
    strengths.dedup_by(|a, b| a == b);
    Table {
        title: slice.label(),
        sentence: sentence::about(scores, slice),
        rows: metrics
            .iter()
            .map(|(metric, found)| row(metric, &slice.group, found, &strengths))
            .collect(),
        strengths: strengths.into_iter().map(number::axis).collect(),
    }
}

fn row(metric: &MetricScores, group: &str, rows: &[&ScoreRow], strengths: &[f64]) -> Row {
    let largest =
        rows.iter().filter_map(|r| lookup::value(r)).fold(0.0, |m: f64, v| m.max(v.abs()));
    let decimals = number::decimals(largest);
    let better = lookup::better(metric, group);
    let best = best(better, rows);
    let base = lookup::at(rows, 0.0).and_then(lookup::value);
    let counts: Vec<usize> = rows.iter().map(|row| row.n).collect();
    Row {
        label: metric.label.clone(),
        about: metric.about.clone(),
        unit: metric.unit.clone(),
        direction: direction(better),
        n: match counts.split_first() {
            Some((first, rest)) if rest.iter().all(|n| n == first) => format!("n = {first}"),
            _ => {
                let least = counts.iter().min().copied().unwrap_or_default();
                format!("n ≥ {least}")
            }
        },
        values: strengths
            .iter()
            .map(|&strength| match lookup::at(rows, strength) {
                Some(row) => entry(better, row, base, best, decimals),
                None => Entry { value: number::NONE.to_owned(), ..Entry::default() },
            })
            .collect(),
    }
}

fn entry(
    better: Better,
    row: &ScoreRow,
    base: Option<f64>,
    best: Option<f64>,
    decimals: usize,
) -> Entry {
    let Some(value) = lookup::value(row) else {
        let title = format!("no finite value, {}", text::count(row.n, "cell"));
        return Entry { value: number::NONE.to_owned(), title, ..Entry::default() };
    };
    let at_base = row.strength == 0.0;
    let difference = base.filter(|_| !at_base).map(|base| value - base);
    let p = lookup::p(row);
    let interval = lookup::interval(row);
    let range =
        |d| interval.map(|(l, h)| format!("{}–{}", number::fixed(l, d), number::fixed(h, d)));
    let mut title =
        vec![format!("{} at strength {}", number::plain(value), number::axis(row.strength))];
    title.extend(range(decimals + 1).map(|range| format!("95 % interval {range}")));
    if let Some(difference) = difference {
        title.push(format!("{} from strength 0", number::signed(difference, decimals + 1)));
    }
    title.extend(p.map(number::p_value));
    title.extend(row.identical.then(|| "every output equals the base's".to_owned()));
    title.push(format!("n = {}", row.n));
    Entry {
        value: number::fixed(value, decimals),
        delta: match difference {
            Some(difference) if row.identical && difference == 0.0 => "= same output".to_owned(),
            Some(difference) => arrow(difference, decimals),
            None => String::new(),
        },
        tone: tone(better, value, base.filter(|_| !at_base)),
        interval: range(decimals).unwrap_or_default(),
        stars: number::stars(p),
        title: title.join(" · "),
        best: best == Some(value),
        base: at_base,
    }
}

/// `▲ 13.8`, `▼ 0.2`, `=`.
pub fn arrow(difference: f64, decimals: usize) -> String {
    match difference {
        0.0 => "=".to_owned(),
        d if d > 0.0 => format!("▲ {}", number::size(d, decimals)),
        d => format!("▼ {}", number::size(d, decimals)),
    }
}

/// `good` or `bad` by the metric's direction, nothing where there is nothing to say.
pub fn tone(better: Better, value: f64, base: Option<f64>) -> &'static str {
    match base.and_then(|base| lookup::improves(better, value, base)) {
        Some(true) => "good",
        Some(false) => "bad",
        None => "",
    }
}

/// The direction of a metric in words.
pub fn direction(better: Better) -> &'static str {
    match better {
        Better::Higher => "↑ higher is better",
        Better::Lower => "↓ lower is better",
        Better::Neither => "describes only",
    }
}

/// The best value of a row; none where all are equal or the metric only describes.
fn best(better: Better, rows: &[&ScoreRow]) -> Option<f64> {
    let values: Vec<f64> = rows.iter().filter_map(|row| lookup::value(row)).collect();
    let first = *values.first()?;
    if better == Better::Neither || values.iter().all(|v| *v == first) {
        return None;
    }
    values
        .into_iter()
        .reduce(|a, b| if lookup::improves(better, b, a) == Some(true) { b } else { a })
}
