//! Pairs that lost most.

use super::assemble::Parts;
use super::pairs::{Scope, Unit};
use super::rule::Judged;
use crate::metric::Measure;
use crate::run::Better;
use crate::run::verdict::WorstPair;
use crate::stats::{Statistic as _, Width};

/// How many are told.
const MOST: usize = 5;

/// The pairs that lost most at the strength in question: held-out ones by the gain's metric, others by
/// the first guard's. Losses of two metrics are made comparable by the root mean square of each.
pub(super) fn worst(parts: &Parts<'_, '_>) -> Vec<WorstPair> {
    let Some(focus) = parts.focus() else { return Vec::new() };
    let mut all: Vec<(f64, WorstPair)> = Vec::new();
    for judged in [focus.gain(), focus.damage()].into_iter().flatten() {
        let lost = lost(parts, judged, focus.strength);
        let squares: f64 = lost.iter().map(|(loss, _)| loss * loss).sum();
        let scale = (squares / lost.len().max(1) as f64).sqrt();
        let lost = lost.into_iter().filter(|(loss, _)| *loss > 0.0 && scale > 0.0);
        all.extend(lost.map(|(loss, pair)| (loss / scale, pair)));
    }
    let name = |pair: &WorstPair| (pair.group.clone(), pair.prompt_id.clone(), pair.seed);
    all.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| name(x).cmp(&name(y))));
    all.into_iter().take(MOST).map(|(_, pair)| pair).collect()
}

/// Every pair of a rule with what it lost.
fn lost(parts: &Parts<'_, '_>, judged: &Judged<'_>, strength: f64) -> Vec<(f64, WorstPair)> {
    let Some(measure) = judged.measure else { return Vec::new() };
    let sign = match measure.better {
        Better::Higher => -1.0,
        Better::Lower => 1.0,
        Better::Neither => return Vec::new(),
    };
    let places = &parts.case.record.strengths;
    let Some(place) = places.iter().position(|other| *other == strength) else { return Vec::new() };
    let scope = Scope { group: judged.rule.group.as_deref(), axes: &judged.rule.axes };
    let pair = |unit: &Unit<'_>| {
        let score = |place: usize| score(measure, *unit.cells.get(place)?);
        let (base, own) = (score(parts.pairs.base()?)?, score(place)?);
        let (_, cell) = parts.pairs.pair(unit, place)?;
        let pair = WorstPair {
            prompt_id: unit.prompt.to_owned(),
            group: unit.group.to_owned(),
            seed: unit.seed,
            strength,
            axes: unit.axes.clone(),
            cell: cell.cell.clone(),
            metric: measure.metric.clone(),
            label: measure.label.clone(),
            base,
            score: own,
            change: own - base,
        };
        Some((sign * (own - base), pair))
    };
    parts.pairs.of(scope).filter_map(pair).collect()
}

/// A cell's score by itself.
fn score(measure: &Measure, cell: usize) -> Option<f64> {
    let row = measure.rows.get(cell)?.as_ref()?;
    let score = measure.combine.score_of(row, Width::Double);
    score.is_finite().then_some(score)
}
