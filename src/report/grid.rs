//! The grid prompts × strengths: a row for each prompt, seed and point of the further axes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::cell::{CellBox, Context, Fact};
use super::order::{self, Extremes};
use super::picture::Picture;
use super::{RunView, command, lookup, number, text};
use crate::run::{Cell, MetricScores, RunKind};

/// The grid of one run.
#[derive(Debug, Serialize)]
pub struct Grid {
    strengths: Vec<String>,
    groups: Vec<Choice>,
    seeds: Vec<String>,
    points: Vec<Choice>,
    references: bool,
    /// Its cells are pictures.
    pictures: bool,
    /// The label of the metric for likeness to the base, if there is one.
    likeness: Option<String>,
    rows: Vec<Row>,
}

/// Something that rows can be filtered by: its number and its name.
#[derive(Debug, Serialize)]
struct Choice {
    index: usize,
    label: String,
}

/// A prompt at one seed and point of the further axes.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    prompt_id: String,
    prompt: String,
    group: usize,
    group_label: String,
    seed: usize,
    seed_label: String,
    point: usize,
    point_label: String,
    references: Vec<String>,
    /// What a picture is made with.
    settings: Vec<Fact>,
    suite: usize,
    worst: usize,
    best: usize,
    /// Its place when the rows least like the base come first.
    unlike: usize,
    chip: order::Chip,
    /// The prompt needs folding.
    long: bool,
    /// Something of the row needs folding.
    fold: bool,
    base: Option<CellBox>,
    cells: Vec<Option<CellBox>>,
}

/// Where a row stands in the suite's order: place of the prompt, its id, axes, seed.
type Key<'a> = (usize, &'a str, String, u64);

/// The grid of `run`; `run_index` keeps ids of several grids apart, `pictures` are by cell.
pub fn grid(run: &RunView, run_index: usize, pictures: &BTreeMap<String, Picture>) -> Grid {
    let prompts = prompts(&run.record.suite);
    let strengths = strengths(run);
    let mut by_row: BTreeMap<Key<'_>, Vec<&Cell>> = BTreeMap::new();
    for cell in &run.cells {
        let place = prompts.get(cell.prompt_id.as_str()).map_or(usize::MAX, |(place, _)| *place);
        let key = (place, cell.prompt_id.as_str(), text::axes(&cell.axes), cell.seed);
        by_row.entry(key).or_default().push(cell);
    }
    let groups: BTreeSet<(u8, &str)> =
        run.cells.iter().map(|cell| text::group_order(&cell.group)).collect();
    let groups: Vec<&str> = groups.into_iter().map(|(_, name)| name).collect();
    let seeds: Vec<u64> =
        run.cells.iter().map(|cell| cell.seed).collect::<BTreeSet<_>>().into_iter().collect();
    let points: Vec<String> = run
        .cells
        .iter()
        .map(|cell| text::axes(&cell.axes))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let context = Context::new(run, &groups, pictures);
    let mut extremes = Vec::with_capacity(by_row.len());
    let mut rows = Vec::with_capacity(by_row.len());
    for (suite, (key, mut cells)) in by_row.into_iter().enumerate() {
        cells.sort_by(|a, b| a.strength.total_cmp(&b.strength).then(a.cell.cmp(&b.cell)));
        let Some(first) = cells.first().copied() else { continue };
        let at = |strength: f64| cells.iter().copied().find(|cell| cell.strength == strength);
        let entry = prompts.get(key.1).map(|(_, entry)| *entry);
        let references = references(entry);
        let base = at(0.0);
        let boxed = |strength: f64| {
            at(strength).map(|cell| {
                context.cell_box(cell, base, references.first().map(String::as_str), entry)
            })
        };
        let at_base = boxed(0.0);
        let others: Vec<Option<CellBox>> = strengths.iter().map(|s| boxed(*s)).collect();
        let long = lines(std::iter::once(first.prompt.as_str())) > FOLD;
        let group = groups.iter().position(|name| *name == first.group).unwrap_or_default();
        let range = Extremes::of(&context, group, &cells, base);
        rows.push(Row {
            id: format!("r{run_index}-{suite}"),
            prompt_id: key.1.to_owned(),
            prompt: first.prompt.clone(),
            group,
            group_label: text::group(&first.group),
            seed: seeds.binary_search(&key.3).unwrap_or_default(),
            seed_label: key.3.to_string(),
            point: points.binary_search(&key.2).unwrap_or_default(),
            point_label: key.2,
            suite,
            worst: 0,
            best: 0,
            unlike: 0,
            settings: settings(run, first, entry),
            chip: range.chip(),
            long,
            fold: long || at_base.iter().chain(others.iter().flatten()).any(CellBox::is_long),
            base: at_base,
            cells: others,
            references,
        });
        extremes.push(range);
    }
    rank(&mut rows, &extremes);
    Grid {
        strengths: strengths.into_iter().map(number::axis).collect(),
        groups: choices(groups.into_iter().map(text::group)),
        seeds: seeds.iter().map(u64::to_string).collect(),
        points: choices(points.into_iter()),
        references: rows.iter().any(|row| !row.references.is_empty()),
        pictures: run.record.kind == RunKind::Image,
        likeness: context.likeness().map(|metric| metric.label.clone()),
        rows,
    }
}

/// Gives every row its places in the orders "worst first", "best first" and "least like the base",
/// and puts them in the first.
fn rank(rows: &mut [Row], extremes: &[Extremes]) {
    let groups: Vec<usize> = rows.iter().map(|row| row.group).collect();
    for (place, row) in order::ranks(&groups, extremes, Extremes::badness).into_iter().enumerate() {
        rows[row].worst = place;
    }
    for (place, row) in order::ranks(&groups, extremes, Extremes::goodness).into_iter().enumerate()
    {
        rows[row].best = place;
    }
    for (place, row) in order::ranks(&groups, extremes, Extremes::distance).into_iter().enumerate()
    {
        rows[row].unlike = place;
    }
    rows.sort_by_key(|row| row.worst);
}

/// Strengths other than 0, ascending: those of the axis and any that a cell has.
fn strengths(run: &RunView) -> Vec<f64> {
    let of_cells = run.cells.iter().map(|cell| cell.strength);
    let mut all: Vec<f64> = run.record.strengths.iter().copied().chain(of_cells).collect();
    all.retain(|strength| *strength != 0.0 && strength.is_finite());
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The suite's prompts by id, with their place.
fn prompts(suite: &Value) -> BTreeMap<&str, (usize, &Value)> {
    let list = suite.get("prompts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named = |(place, entry)| {
        let entry: &Value = entry;
        Some((entry.get("id")?.as_str()?, (place, entry)))
    };
    list.iter().enumerate().filter_map(named).collect()
}

/// The references of a prompt.
fn references(prompt: Option<&Value>) -> Vec<String> {
    let list = prompt.and_then(|prompt| prompt.get("references")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the pictures of a row are made with: the negative prompt first, then the other settings that
/// are no axis.
fn settings(run: &RunView, cell: &Cell, prompt: Option<&Value>) -> Vec<Fact> {
    if run.record.kind == RunKind::Text {
        return Vec::new();
    }
    let mut all: Vec<(&str, &Value)> = command::settings(&run.record, cell, prompt)
        .into_iter()
        .filter(|(name, value)| !value.is_null() && !cell.axes.contains_key(*name))
        .collect();
    all.sort_by_key(|(name, _)| *name != "negative");
    all.into_iter()
        .map(|(name, value)| Fact { name: name.to_owned(), value: text::value(value) })
        .collect()
}

/// Most lines of a text that is not folded.
pub const FOLD: usize = 9;

/// About how many lines texts take one after the other in a column of the grid.
pub fn lines<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    const COLUMN: usize = 36;
    let (breaks, characters) = texts.fold((0, 0), |(breaks, characters), text| {
        (breaks + text.matches('\n').count(), characters + text.chars().count())
    });
    breaks + characters.div_ceil(COLUMN)
}

fn choices(labels: impl Iterator<Item = String>) -> Vec<Choice> {
    labels.enumerate().map(|(index, label)| Choice { index, label }).collect()
}

/// The metric that speaks for the cells of a group, if any cell has it.
pub fn main_of_group<'a>(run: &'a RunView, group: &str) -> Option<&'a MetricScores> {
    lookup::main_metric(&run.scores, group, |metric| {
        run.cells.iter().any(|cell| cell.group == group && cell.scores.contains_key(&metric.metric))
    })
}

/// The metric for likeness to the base, if any cell has it.
pub fn likeness_of(run: &RunView) -> Option<&MetricScores> {
    lookup::likeness(&run.scores, |metric| {
        run.cells.iter().any(|cell| cell.scores.contains_key(&metric.metric))
    })
}
