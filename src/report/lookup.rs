//! Rows of scores found by group, point of the further axes and strength.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text;
use crate::run::{Better, MetricScores, ScoreRow, Scores};

/// A point on the further axes.
pub type Point = BTreeMap<String, Value>;

/// What a summary table or a line of a chart is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The group.
    pub group: String,
    /// The point of the further axes.
    pub point: Point,
}

impl Slice {
    /// `Held-out prompts`, `Held-out prompts, sampler = euler_a`.
    pub fn label(&self) -> String {
        match text::axes(&self.point) {
            axes if axes.is_empty() => text::group(&self.group),
            axes => format!("{}, {axes}", text::group(&self.group)),
        }
    }
}

/// Every group and point that has a score: held-out prompts first, points in order.
pub fn slices(scores: &Scores) -> Vec<Slice> {
    let mut found: BTreeMap<((u8, &str), String), Slice> = BTreeMap::new();
    for row in scores.metrics.iter().flat_map(|metric| &metric.rows) {
        let key = (text::group_order(&row.group), text::axes(&row.axes));
        found
            .entry(key)
            .or_insert_with(|| Slice { group: row.group.clone(), point: row.axes.clone() });
    }
    found.into_values().collect()
}

/// The rows of `metric` in `slice`, by ascending strength; one row a strength.
pub fn rows<'a>(metric: &'a MetricScores, slice: &Slice) -> Vec<&'a ScoreRow> {
    let mut rows: Vec<&ScoreRow> = metric
        .rows
        .iter()
        .filter(|row| row.group == slice.group && row.axes == slice.point)
        .collect();
    rows.sort_by(|a, b| a.strength.total_cmp(&b.strength));
    rows.dedup_by(|a, b| a.strength == b.strength);
    rows
}

/// The row at `strength`.
pub fn at<'a>(rows: &[&'a ScoreRow], strength: f64) -> Option<&'a ScoreRow> {
    rows.iter().copied().find(|row| row.strength == strength)
}

/// The value of a row where it is a finite number.
pub fn value(row: &ScoreRow) -> Option<f64> {
    row.value.filter(|v| v.is_finite())
}

/// The confidence interval of a row: both ends finite, in order, and more than one cell.
pub fn interval(row: &ScoreRow) -> Option<(f64, f64)> {
    let (low, high) = (row.low?, row.high?);
    (row.n > 1 && low.is_finite() && high.is_finite() && low <= high).then_some((low, high))
}

/// The p-value of a row where it is a probability.
pub fn p(row: &ScoreRow) -> Option<f64> {
    row.p.filter(|p| (0.0..=1.0).contains(p))
}

/// Ids of the metrics that say how far an output is from the base's, of texts and of pictures.
pub const DRIFT: [&str; 10] =
    ["base-bleu", "kl", "top1", "ssim", "ms-ssim", "psnr", "lpips", "phash", "dhash", "histogram"];

/// Which way is better for a group. Distance from the base is good or bad for base prompts only:
/// on all others the adapter is meant to change the output.
pub fn better(metric: &MetricScores, group: &str) -> Better {
    if group != "base" && drift(metric) { Better::Neither } else { metric.better }
}

/// The metric that speaks for a group: the first with a direction; for base prompts, which must
/// not change, the first that measures distance from the base, if there is one.
pub fn main_metric<'a>(
    scores: &'a Scores,
    group: &str,
    applies: impl Fn(&MetricScores) -> bool,
) -> Option<&'a MetricScores> {
    let usable = |metric: &&MetricScores| metric.better != Better::Neither && applies(metric);
    let distance = likeness(scores, &applies);
    if group == "base" && distance.is_some() {
        return distance;
    }
    scores.metrics.iter().filter(usable).find(|metric| !drift(metric)).or(distance)
}

/// The first metric that says how like the base's an output is.
pub fn likeness(scores: &Scores, applies: impl Fn(&MetricScores) -> bool) -> Option<&MetricScores> {
    let usable = |metric: &&MetricScores| metric.better != Better::Neither && applies(metric);
    scores.metrics.iter().filter(usable).find(|metric| drift(metric))
}

fn drift(metric: &MetricScores) -> bool {
    DRIFT.contains(&metric.metric.as_str())
}

/// Whether `a` is better than `b`; `None` where the metric only describes or they are equal.
pub fn improves(better: Better, a: f64, b: f64) -> Option<bool> {
    match better {
        Better::Neither => None,
        _ if a == b => None,
        Better::Higher => Some(a > b),
        Better::Lower => Some(a < b),
    }
}
