//! One cell of the grid: its text compared or its picture, its scores, how to make it again.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::diff::{self, Change, Piece};
use super::picture::Picture;
use super::{RunView, command, grid, lookup, number, summary, text};
use crate::run::{Cell, MetricScores, RunKind};

/// Most scores shown without opening the details.
const SHOWN: usize = 3;
/// Longest prompt in the words for a picture, in characters.
const SPOKEN: usize = 160;

/// What all cells of a grid share.
pub struct Context<'a> {
    run: &'a RunView,
    metrics: BTreeMap<&'a str, (usize, &'a MetricScores)>,
    mains: Vec<(&'a str, Option<&'a MetricScores>)>,
    likeness: Option<&'a MetricScores>,
    pictures: &'a BTreeMap<String, Picture>,
}

/// A cell as the template shows it.
#[derive(Debug, Serialize)]
pub struct CellBox {
    /// The text against the base's; empty for a picture.
    pieces: Vec<Piece>,
    /// The text against the reference; absent without one.
    against_reference: Option<Vec<Piece>>,
    picture: Option<Picture>,
    /// What is to be seen, for those who do not see it.
    spoken: String,
    /// Its strength, under a picture.
    at: String,
    /// How a picture came about, where that is to be known.
    notice: String,
    same: bool,
    long: bool,
    tone: &'static str,
    finish: String,
    cut_off: bool,
    tokens: String,
    truncated: usize,
    scores: Vec<Score>,
    facts: Vec<Fact>,
    command: String,
    without_flag: String,
}

#[derive(Debug, Serialize)]
struct Score {
    label: String,
    value: String,
    delta: String,
    tone: &'static str,
}

/// A name and its value.
#[derive(Debug, Serialize)]
pub struct Fact {
    /// `guidance`.
    pub name: String,
    /// `7.5`.
    pub value: String,
}

impl<'a> Context<'a> {
    /// Looks up the metrics and the main metric of each of `groups`. `pictures` are by cell.
    pub fn new(
        run: &'a RunView,
        groups: &[&'a str],
        pictures: &'a BTreeMap<String, Picture>,
    ) -> Self {
        let metrics = run.scores.metrics.iter().enumerate();
        Self {
            run,
            metrics: metrics.map(|(i, metric)| (metric.metric.as_str(), (i, metric))).collect(),
            mains: groups.iter().map(|group| (*group, grid::main_of_group(run, group))).collect(),
            likeness: grid::likeness_of(run),
            pictures,
        }
    }

    /// The metric that says how like the base a cell is.
    pub fn likeness(&self) -> Option<&'a MetricScores> {
        self.likeness
    }

    /// The main metric of a group and the group's name.
    pub fn main(&self, group: usize) -> Option<(&'a MetricScores, &'a str)> {
        let (name, metric) = self.mains.get(group)?;
        metric.map(|metric| (metric, *name))
    }

    /// `cell` beside `base`, the cell of its row at strength 0.
    pub fn cell_box(
        &self,
        cell: &Cell,
        base: Option<&Cell>,
        reference: Option<&str>,
        prompt: Option<&Value>,
    ) -> CellBox {
        let base = base.filter(|_| cell.strength != 0.0);
        let is_text = self.run.record.kind == RunKind::Text;
        let against = |old: &str| diff::words(old, &cell.output);
        let pieces = match base {
            _ if !is_text => Vec::new(),
            Some(base) => against(&base.output),
            None => vec![(Change::Keep, cell.output.clone())],
        };
        let mut scores = self.scores(cell, base);
        let tone = scores.first().map_or("", |score| score.tone);
        let changed = base.filter(|_| is_text).map(|_| diff::changed(&pieces));
        let mut facts: Vec<Fact> = scores
            .drain(SHOWN.min(scores.len())..)
            .map(|s| Fact { name: s.label, value: format!("{} {}", s.value, s.delta) })
            .collect();
        facts.extend(self.facts(cell, changed));
        let made = command::command(&self.run.record, cell, prompt);
        let at = number::axis(cell.strength);
        CellBox {
            same: base.is_some_and(|base| self.same(cell, base)),
            against_reference: reference.filter(|_| is_text).map(against),
            picture: self.pictures.get(&cell.cell).cloned(),
            spoken: format!("{}, strength {at}", text::cut(&cell.prompt, SPOKEN)),
            at,
            notice: if is_text { String::new() } else { notice(cell) },
            long: grid::lines(pieces.iter().map(|piece| piece.1.as_str())) > grid::FOLD,
            tone,
            cut_off: is_text && cell.finish.as_deref() == Some("length"),
            finish: cell.finish.clone().filter(|_| is_text).unwrap_or_default(),
            tokens: cell.tokens.map(|n| text::count(n, "token")).unwrap_or_default(),
            truncated: cell.truncated,
            scores,
            facts,
            command: made.line.unwrap_or_else(|| {
                "# the prompt has a NUL character, which no command line can carry".to_owned()
            }),
            without_flag: made.without_flag.join(", "),
            pieces,
        }
    }

    /// Whether a cell is what the base made.
    fn same(&self, cell: &Cell, base: &Cell) -> bool {
        match self.run.record.kind {
            RunKind::Text => base.output == cell.output,
            RunKind::Image => self
                .pictures
                .get(&cell.cell)
                .zip(self.pictures.get(&base.cell))
                .is_some_and(|(one, other)| one.same(other)),
        }
    }

    /// The scores of a cell: its group's main one first, the others in the order of the metrics.
    fn scores(&self, cell: &Cell, base: Option<&Cell>) -> Vec<Score> {
        let main = self.mains.iter().find(|(name, _)| *name == cell.group).and_then(|(_, m)| *m);
        let mut ordered: Vec<(usize, &String, f64)> = cell
            .scores
            .iter()
            .map(|(name, value)| {
                let place = self.metrics.get(name.as_str()).map_or(usize::MAX, |(i, _)| i + 1);
                let first = main.is_some_and(|main| main.metric == *name);
                (if first { 0 } else { place }, name, *value)
            })
            .collect();
        ordered.sort_by_key(|(place, name, _)| (*place, *name));
        ordered.into_iter().map(|(_, name, value)| self.score(name, value, cell, base)).collect()
    }

    fn score(&self, name: &str, value: f64, cell: &Cell, base: Option<&Cell>) -> Score {
        let metric = self.metrics.get(name).map(|(_, metric)| *metric);
        let from = base.and_then(|base| base.scores.get(name)).copied();
        let from = from.filter(|from| from.is_finite() && value.is_finite());
        let decimals = number::decimals(value.abs().max(from.unwrap_or_default().abs()));
        Score {
            label: metric.map_or_else(|| name.to_owned(), |metric| metric.label.clone()),
            value: number::plain(value),
            delta: from.map(|from| summary::arrow(value - from, decimals)).unwrap_or_default(),
            tone: metric.map_or("", |metric| {
                summary::tone(lookup::better(metric, &cell.group), value, from)
            }),
        }
    }

    fn facts(&self, cell: &Cell, changed: Option<f64>) -> Vec<Fact> {
        let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
        let mut facts = Vec::new();
        if let Some(share) = changed {
            facts.push(fact("changed from base", format!("{:.0} %", share * 100.0)));
        }
        if let Some(n) = cell.prompt_tokens {
            facts.push(fact("prompt", text::count(n, "token")));
        }
        // one adapter at the strength of the column needs no words
        if self.run.record.adapters.len() > 1 || cell.adapters.len() > 1 {
            let each: Vec<String> = cell
                .adapters
                .iter()
                .map(|a| format!("{} {}", a.name, number::axis(a.strength)))
                .collect();
            facts.push(fact("adapters", each.join(", ")));
        }
        facts.push(fact("time", format!("{} s", number::plain(cell.seconds))));
        facts.push(fact("cell", text::short_hash(&cell.cell)));
        facts
    }
}

impl CellBox {
    /// Whether its text needs folding.
    pub fn is_long(&self) -> bool {
        self.long
    }
}

/// What its cell says about how a picture came about.
fn notice(cell: &Cell) -> String {
    match cell.finish.as_deref() {
        None => String::new(),
        Some("nan-retried") => {
            "made again in f32: at first it had values that are no numbers".to_owned()
        }
        Some(other) => other.to_owned(),
    }
}
