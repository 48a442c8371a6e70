//! Which rows come first: how much the main score of each moves against strength 0.

use serde::Serialize;

use super::cell::Context;
use super::{lookup, number};
use crate::run::{Better, Cell, MetricScores};

/// The largest moves of a row's main score against strength 0, gains positive.
#[derive(Debug, Clone, Default)]
pub struct Extremes {
    /// Base prompts: any change counts, whichever way.
    any_change: bool,
    /// Neither way is good or bad.
    neutral: bool,
    label: String,
    /// How unlike the base the row's most unlike cell is.
    distance: Option<f64>,
    /// The worst move, its difference as shown, its strength.
    worst: Option<Move>,
    /// The best move.
    best: Option<Move>,
}

/// A move of the main score.
#[derive(Debug, Clone, Copy)]
struct Move {
    gain: f64,
    difference: f64,
    strength: f64,
    decimals: usize,
}

/// The largest move in a few words.
#[derive(Debug, Serialize)]
pub struct Chip {
    /// `▼ 23.1 chrF at 1.5`.
    text: String,
    /// `good`, `bad` or nothing.
    tone: &'static str,
}

impl Extremes {
    /// The extremes of a row's `cells`.
    pub fn of(context: &Context<'_>, group: usize, cells: &[&Cell], base: Option<&Cell>) -> Self {
        let score = |cell: &Cell, metric: &MetricScores| {
            cell.scores.get(&metric.metric).copied().filter(|s| s.is_finite())
        };
        let distance = context.likeness().and_then(|metric| {
            let sign = if metric.better == Better::Higher { -1.0 } else { 1.0 };
            let others = cells.iter().filter(|cell| cell.strength != 0.0);
            others.filter_map(|cell| Some(sign * score(cell, metric)?)).reduce(f64::max)
        });
        let Some((metric, name)) = context.main(group) else {
            return Self { distance, ..Self::default() };
        };
        let mut found = Self {
            any_change: name == "base",
            neutral: lookup::better(metric, name) == Better::Neither,
            label: metric.label.clone(),
            distance,
            ..Self::default()
        };
        let score = |cell: &Cell| score(cell, metric);
        let Some(from) = base.and_then(score) else { return found };
        for cell in cells.iter().filter(|cell| cell.strength != 0.0) {
            let Some(value) = score(cell) else { continue };
            let difference = value - from;
            let gain = if metric.better == Better::Lower { -difference } else { difference };
            let decimals = number::decimals(value.abs().max(from.abs()));
            let step = Move { gain, difference, strength: cell.strength, decimals };
            if found.worst.is_none_or(|worst| gain < worst.gain) {
                found.worst = Some(step);
            }
            if found.best.is_none_or(|best| gain > best.gain) {
                found.best = Some(step);
            }
        }
        found
    }

    /// How far down the row goes (where it never does, how little it goes up), or for base prompts how far it moves at all.
    pub fn badness(&self) -> Option<f64> {
        let (worst, best) = (self.worst?.gain, self.best?.gain);
        Some(if self.any_change {
            worst.abs().max(best.abs())
        } else if worst < 0.0 {
            -worst
        } else {
            -best
        })
    }

    /// How far up the row goes, or for base prompts how little it moves.
    pub fn goodness(&self) -> Option<f64> {
        if self.any_change { self.badness().map(|moved| -moved) } else { Some(self.best?.gain) }
    }

    /// How unlike the base the row's most unlike cell is, on the scale of the run's metric for it.
    pub fn distance(&self) -> Option<f64> {
        self.distance
    }

    /// The move that the default order goes by.
    pub fn chip(&self) -> Chip {
        let (Some(worst), Some(best)) = (self.worst, self.best) else {
            return Chip { text: String::new(), tone: "" };
        };
        let shown = if worst.gain < 0.0 && (!self.any_change || worst.gain.abs() >= best.gain) {
            worst
        } else {
            best
        };
        let (sign, tone) = match shown.difference {
            0.0 => return Chip { text: format!("= {}", self.label), tone: "" },
            d => (if d > 0.0 { "▲" } else { "▼" }, if shown.gain > 0.0 { "good" } else { "bad" }),
        };
        let tone = if self.neutral { "" } else { tone };
        let size = number::size(shown.difference, shown.decimals);
        let at = number::axis(shown.strength);
        Chip { text: format!("{sign} {size} {} at {at}", self.label), tone }
    }
}

/// Rows by group, in each by descending `key`; rows without one last, else in their order.
pub fn ranks(
    groups: &[usize],
    extremes: &[Extremes],
    key: impl Fn(&Extremes) -> Option<f64>,
) -> Vec<usize> {
    let keys: Vec<f64> = extremes.iter().map(|one| key(one).unwrap_or(f64::NEG_INFINITY)).collect();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|&a, &b| groups[a].cmp(&groups[b]).then(keys[b].total_cmp(&keys[a])));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(any_change: bool, gains: &[f64]) -> Extremes {
        let step = |gain: f64| Move { gain, difference: gain, strength: 1.0, decimals: 1 };
        Extremes {
            any_change,
            neutral: false,
            label: "chrF".to_owned(),
            distance: gains.iter().copied().reduce(f64::max),
            worst: gains.iter().copied().reduce(f64::min).map(step),
            best: gains.iter().copied().reduce(f64::max).map(step),
        }
    }

    #[test]
    fn largest_drop_first_and_rows_without_scores_last() {
        let rows = [row(false, &[5.0, -1.0]), row(false, &[]), row(false, &[9.0, -8.0])];
        assert_eq!(ranks(&[0, 0, 0], &rows, Extremes::badness), [2, 0, 1]);
        assert_eq!(ranks(&[0, 0, 0], &rows, Extremes::goodness), [2, 0, 1]);
        assert_eq!(ranks(&[1, 0, 0], &rows, Extremes::badness), [2, 1, 0]);
    }

    #[test]
    fn base_prompts_go_by_the_size_of_the_change() {
        let rows = [row(true, &[-2.0]), row(true, &[3.0]), row(true, &[0.0])];
        assert_eq!(ranks(&[0, 0, 0], &rows, Extremes::badness), [1, 0, 2]);
        assert_eq!(ranks(&[0, 0, 0], &rows, Extremes::goodness), [2, 0, 1]);
    }

    #[test]
    fn what_is_meant_to_change_is_neither_good_nor_bad() {
        let chip = Extremes { neutral: true, ..row(false, &[4.0, -1.5]) }.chip();
        assert_eq!((chip.text.as_str(), chip.tone), ("▼ 1.5 chrF at 1", ""));
        assert_eq!(row(false, &[4.0, -1.5]).chip().tone, "bad");
    }

    #[test]
    fn the_chip_tells_the_worst_or_else_the_best() {
        assert_eq!(row(false, &[4.0, -1.5]).chip().text, "▼ 1.5 chrF at 1");
        assert_eq!(row(false, &[4.0, 2.0]).chip().text, "▲ 4.0 chrF at 1");
        assert_eq!(row(false, &[0.0]).chip().text, "= chrF");
        assert_eq!(row(false, &[]).chip().text, "");
    }
}
