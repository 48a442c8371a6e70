//! One chart: lines over the strengths with their bands, as places and SVG paths.

use std::fmt::Write as _;

use serde::Serialize;

use super::scale::Scale;
use super::{lookup, number, text};
use crate::run::ScoreRow;

/// Size of a chart and its margins, in SVG units.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 112.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 36.0;
/// Least distance of two labels at line ends, and of two labels below the axis.
const LINE_GAP: f64 = 14.0;
const TICK_GAP: f64 = 26.0;
/// Longest label at a line's end, in characters.
const LABEL: usize = 13;

/// Markers, drawn around the origin: circle, square, triangle, diamond, star, down, plus, cross.
const MARKERS: [&str; 8] = [
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",
    "M-3.7-3.7h7.4v7.4h-7.4Z",
    "M0-4.8L4.6 3.6H-4.6Z",
    "M0-5.2L5.2 0L0 5.2L-5.2 0Z",
    "M0-5.4L1.5-1.7L5.4-1.5L2.4 1L3.3 4.8L0 2.7L-3.3 4.8L-2.4 1L-5.4-1.5L-1.5-1.7Z",
    "M0 4.8L4.6-3.6H-4.6Z",
    "M-1.6-5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4Z",
    "M-5-2.8L-2.8-5L0-2.2L2.8-5L5-2.8L2.2 0L5 2.8L2.8 5L0 2.2L-2.8 5L-5 2.8L-2.2 0Z",
];
/// Dashes of the lines, as many as markers.
const DASHES: [&str; 8] = ["none", "7 4", "2 3", "10 3 2 3", "12 4", "4 2", "2 5", "8 2 2 2 2 2"];

/// A line to be drawn.
pub struct Line<'a> {
    /// What it shows: a group, or a run.
    pub label: String,
    /// Which colour, dash and marker; lines of one subject have one number in all charts.
    pub style: usize,
    /// By ascending strength.
    pub rows: Vec<&'a ScoreRow>,
}

/// A chart ready for the template.
#[derive(Debug, Serialize)]
pub struct Chart {
    title: String,
    subtitle: String,
    log: bool,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    width: f64,
    height: f64,
    zero: Option<String>,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    series: Vec<Series>,
    strengths: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: String,
    label: String,
}

#[derive(Debug, Serialize)]
struct Series {
    label: String,
    short: String,
    class: String,
    marker: &'static str,
    dash: &'static str,
    line: String,
    band: String,
    points: Vec<Dot>,
    label_at: String,
    legend_at: f64,
    cells: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Dot {
    x: String,
    y: String,
    title: String,
}

/// How the lines of one subject look, for a legend.
#[derive(Debug, Serialize)]
pub struct Look {
    label: String,
    class: String,
    marker: &'static str,
    dash: &'static str,
}

/// The look of lines of `style`.
pub fn look(label: String, style: usize) -> Look {
    let i = style % MARKERS.len();
    Look { label, class: class(style), marker: MARKERS[i], dash: DASHES[i] }
}

/// The class that gives lines of `style` their colour.
fn class(style: usize) -> String {
    format!("s{}", style % 6)
}

/// A chart of `lines`; `values` sets its vertical scale, so that neighbours can share one.
pub fn chart(title: String, subtitle: String, lines: &[Line<'_>], values: &[f64]) -> Chart {
    let mut strengths: Vec<f64> =
        lines.iter().flat_map(|line| line.rows.iter().map(|row| row.strength)).collect();
    strengths.retain(|s| s.is_finite());
    strengths.sort_by(f64::total_cmp);
    strengths.dedup_by(|a, b| a == b);
    let x = Scale::tight(&strengths, LEFT + 8.0, WIDTH - RIGHT - 8.0);
    let y = Scale::new(values, HEIGHT - BOTTOM, TOP);
    let mut series: Vec<Series> = lines.iter().map(|line| draw(line, &x, &y, &strengths)).collect();
    spread(&mut series);
    Chart {
        title,
        subtitle,
        log: y.log,
        left: LEFT,
        right: WIDTH - RIGHT,
        top: TOP,
        bottom: HEIGHT - BOTTOM,
        width: WIDTH,
        height: HEIGHT,
        zero: strengths.contains(&0.0).then(|| place(x.place(0.0))),
        x_ticks: x_ticks(&x, &strengths),
        y_ticks: y
            .ticks()
            .into_iter()
            .map(|tick| Tick { at: place(y.place(tick)), label: number::axis(tick) })
            .collect(),
        series,
        strengths: strengths.into_iter().map(number::axis).collect(),
    }
}

/// Labels of the strengths that have room; that of 0 always has.
fn x_ticks(x: &Scale, strengths: &[f64]) -> Vec<Tick> {
    let zero = strengths.iter().position(|s| *s == 0.0).map(|i| x.place(strengths[i]));
    let mut last = f64::NEG_INFINITY;
    let mut ticks = Vec::new();
    for &strength in strengths {
        let at = x.place(strength);
        let near_zero = strength != 0.0 && zero.is_some_and(|zero| (at - zero).abs() < TICK_GAP);
        if near_zero || (at - last < TICK_GAP && strength != 0.0) {
            continue;
        }
        ticks.push(Tick { at: place(at), label: number::axis(strength) });
        last = at;
    }
    ticks
}

fn draw(line: &Line<'_>, x: &Scale, y: &Scale, strengths: &[f64]) -> Series {
    let marker = line.style % MARKERS.len();
    let mut path = String::new();
    let mut points = Vec::new();
    let mut end = None;
    let mut pen_down = false;
    for row in &line.rows {
        let Some(value) = lookup::value(row) else {
            pen_down = false;
            continue;
        };
        let (px, py) = (x.place(row.strength), y.place(value));
        let _ = write!(path, "{}{} {}", if pen_down { 'L' } else { 'M' }, place(px), place(py));
        pen_down = true;
        end = Some(py);
        points.push(Dot { x: place(px), y: place(py), title: describe(&line.label, row, value) });
    }
    Series {
        label: line.label.clone(),
        short: text::cut(&line.label, LABEL),
        class: class(line.style),
        marker: MARKERS[marker],
        dash: DASHES[marker],
        line: path,
        band: band(&line.rows, x, y),
        points,
        label_at: String::new(),
        legend_at: end.unwrap_or(f64::NAN),
        cells: strengths.iter().map(|s| cell(&line.rows, *s)).collect(),
    }
}

/// The confidence band: one closed path for each stretch of strengths that have an interval.
fn band(rows: &[&ScoreRow], x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    let stretches = rows.split(|row| lookup::value(row).and(lookup::interval(row)).is_none());
    for stretch in stretches {
        let ends: Vec<(f64, (f64, f64))> = stretch
            .iter()
            .filter_map(|row| Some((x.place(row.strength), lookup::interval(row)?)))
            .collect();
        // a lone interval is a bar as wide as a marker
        let (first, last) = if ends.len() == 1 { (-4.0, 4.0) } else { (0.0, 0.0) };
        let upper = ends.iter().map(|(at, (_, high))| (at + first, y.place(*high)));
        let lower = ends.iter().rev().map(|(at, (low, _))| (at + last, y.place(*low)));
        let extra = (ends.len() == 1).then(|| {
            let (at, (low, high)) = ends[0];
            [(at + last, y.place(high)), (at + last, y.place(low)), (at + first, y.place(low))]
        });
        let corners: Vec<(f64, f64)> = match extra {
            Some(extra) => upper.chain(extra).collect(),
            None => upper.chain(lower).collect(),
        };
        for (i, (px, py)) in corners.iter().enumerate() {
            let _ = write!(path, "{}{} {}", if i == 0 { 'M' } else { 'L' }, place(*px), place(*py));
        }
        if !corners.is_empty() {
            path.push('Z');
        }
    }
    path
}

/// A point in words.
fn describe(label: &str, row: &ScoreRow, value: f64) -> String {
    let mut said =
        format!("{label}, strength {}: {}", number::axis(row.strength), number::plain(value));
    if let Some((low, high)) = lookup::interval(row) {
        let _ = write!(said, " (95 % interval {}–{})", number::plain(low), number::plain(high));
    }
    if let Some(p) = lookup::p(row) {
        let _ = write!(said, ", {} against 0", number::p_value(p));
    }
    let _ = write!(said, ", n = {}", row.n);
    said
}

/// A place in the data table.
fn cell(rows: &[&ScoreRow], strength: f64) -> String {
    let Some(row) = lookup::at(rows, strength) else { return number::NONE.to_owned() };
    let Some(value) = lookup::value(row) else { return number::NONE.to_owned() };
    match lookup::interval(row) {
        Some((low, high)) => {
            format!("{} [{}, {}]", number::plain(value), number::plain(low), number::plain(high))
        }
        None => number::plain(value),
    }
}

/// Moves the labels at line ends apart; lines without a point have none.
fn spread(series: &mut [Series]) {
    let mut order: Vec<usize> =
        (0..series.len()).filter(|&i| !series[i].points.is_empty()).collect();
    order.sort_by(|&a, &b| series[a].legend_at.total_cmp(&series[b].legend_at));
    let room = HEIGHT - BOTTOM - TOP;
    let gap = LINE_GAP.min(room / (order.len().max(1) as f64));
    let mut last = TOP - gap;
    for &i in &order {
        last = series[i].legend_at.max(last + gap);
        series[i].legend_at = last;
    }
    let mut last = HEIGHT - BOTTOM + gap;
    for &i in order.iter().rev() {
        last = series[i].legend_at.min(last - gap);
        series[i].legend_at = last;
    }
    for one in series {
        one.legend_at = if one.legend_at.is_finite() { one.legend_at } else { TOP };
        one.label_at = place(one.legend_at);
    }
}

/// A place with one decimal.
fn place(at: f64) -> String {
    format!("{at:.1}")
}
