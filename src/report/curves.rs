//! Which charts a report has, and which lines are in them.
//!
//! One run: a chart for each metric and point of the further axes, a line a group. Several runs:
//! a chart for each metric and group, a line a run (and point). Charts of one metric share their
//! vertical scale.

use serde::Serialize;

use super::chart::{self, Chart, Line, Look};
use super::lookup::{self, Slice};
use super::summary::direction;
use super::{RunView, text};
use crate::run::MetricScores;

/// The charts of one metric.
#[derive(Debug, Serialize)]
pub struct Curves {
    /// `chrF`.
    pub label: String,
    /// What it measures.
    pub about: String,
    /// `points`.
    pub unit: String,
    /// `↑ higher is better`.
    pub direction: &'static str,
    /// At least one.
    pub charts: Vec<Chart>,
}

/// A line and the chart it belongs to.
struct Placed<'a> {
    chart: String,
    line: Line<'a>,
}

/// The charts of all metrics of all `runs`, in the order of the runs' metrics.
pub fn curves(runs: &[RunView]) -> Vec<Curves> {
    let mut metrics: Vec<&MetricScores> = Vec::new();
    for metric in runs.iter().flat_map(|run| &run.scores.metrics) {
        if !metrics.iter().any(|known| known.metric == metric.metric) {
            metrics.push(metric);
        }
    }
    metrics.into_iter().filter_map(|metric| of_metric(runs, metric)).collect()
}

/// The looks of the lines when there are several runs: one for each run and point.
pub fn legend(runs: &[RunView]) -> Vec<Look> {
    let mut looks = Vec::new();
    for run in runs {
        let slices = lookup::slices(&run.scores);
        let points = distinct(slices.iter().map(|slice| text::axes(&slice.point)));
        if points.is_empty() {
            looks.push(chart::look(run.title.clone(), looks.len()));
        }
        for point in points {
            looks.push(chart::look(run_label(run, &point), looks.len()));
        }
    }
    looks
}

/// What a line of one of several runs is called.
fn run_label(run: &RunView, point: &str) -> String {
    if point.is_empty() { run.title.clone() } else { format!("{}, {point}", run.title) }
}

fn of_metric(runs: &[RunView], metric: &MetricScores) -> Option<Curves> {
    let mut placed = Vec::new();
    let mut style = 0;
    for run in runs {
        let slices = lookup::slices(&run.scores);
        let same = run.scores.metrics.iter().find(|other| other.metric == metric.metric);
        if runs.len() == 1 {
            placed.extend(by_group(same?, &slices));
        } else {
            let points = distinct(slices.iter().map(|slice| text::axes(&slice.point)));
            placed.extend(same.into_iter().flat_map(|same| by_run(run, same, &slices, style)));
            style += points.len().max(1);
        }
    }
    let values: Vec<f64> = placed
        .iter()
        .flat_map(|one| &one.line.rows)
        .flat_map(|row| {
            let value = lookup::value(row);
            let ends = value.and(lookup::interval(row));
            value.into_iter().chain(ends.into_iter().flat_map(|(low, high)| [low, high]))
        })
        .collect();
    if values.is_empty() {
        return None;
    }
    let names = distinct(placed.iter().map(|one| one.chart.clone()));
    let charts = names
        .into_iter()
        .map(|name| {
            let lines: Vec<Line<'_>> = placed
                .iter()
                .filter(|one| one.chart == name)
                .map(|one| Line {
                    label: one.line.label.clone(),
                    style: one.line.style,
                    rows: one.line.rows.clone(),
                })
                .collect();
            chart::chart(metric.label.clone(), name, &lines, &values)
        })
        .collect();
    Some(Curves {
        label: metric.label.clone(),
        about: metric.about.clone(),
        unit: metric.unit.clone(),
        direction: direction(metric.better),
        charts,
    })
}

/// Lines of a report on one run.
fn by_group<'a>(metric: &'a MetricScores, slices: &[Slice]) -> Vec<Placed<'a>> {
    let groups = distinct(slices.iter().map(|slice| slice.group.clone()));
    let line = |slice: &Slice| Placed {
        chart: text::axes(&slice.point),
        line: Line {
            label: text::short_group(&slice.group),
            style: groups.iter().position(|group| *group == slice.group).unwrap_or_default(),
            rows: lookup::rows(metric, slice),
        },
    };
    slices.iter().map(line).filter(|placed| !placed.line.rows.is_empty()).collect()
}

/// Lines of one of several runs.
fn by_run<'a>(
    run: &RunView,
    metric: &'a MetricScores,
    slices: &[Slice],
    first_style: usize,
) -> Vec<Placed<'a>> {
    let points = distinct(slices.iter().map(|slice| text::axes(&slice.point)));
    let line = |slice: &Slice| {
        let point = text::axes(&slice.point);
        let index = points.iter().position(|known| *known == point).unwrap_or_default();
        Placed {
            chart: text::group(&slice.group),
            line: Line {
                label: run_label(run, &point),
                style: first_style + index,
                rows: lookup::rows(metric, slice),
            },
        }
    };
    slices.iter().map(line).filter(|placed| !placed.line.rows.is_empty()).collect()
}

/// `names` without repetitions, in order of appearance.
fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
