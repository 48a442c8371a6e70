//! `scores.json`: every metric by group and strength.
//!
//! Sums of statistics, not means of scores: BLEU and chrF of a group are the corpus scores of its
//! texts, perplexity is that of all its tokens. Intervals come from the bootstrap over prompts (the
//! seeds of a prompt stay together), p-values from the paired bootstrap against strength 0 as
//! sacreBLEU does it.

pub(super) mod kid;
mod metrics;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde_json::Value;

use super::GridError;
use crate::metric::{Bleu, Chrf, Measure, MetricError, Texts};
use crate::run::{Cell, FORMAT, MetricScores, RunKind, RunRecord, ScoreRow, Scores};
use crate::stats::{Segments, Test};
use metrics::{Against, From, IMAGE, Metric, TEXT};

/// Cells by group, point of the axes, strength, prompt and seed.
type Groups<'a> = BTreeMap<(String, String), BTreeMap<Key, BTreeMap<(&'a str, u64), &'a Cell>>>;

/// A strength that can be sorted.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Key(f64);

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Scores what is there of a run; what is missing is said in the notes.
pub fn scores(record: &RunRecord, cells: &[Cell]) -> Result<Scores, GridError> {
    let references = references(record);
    let mut groups = Groups::new();
    for cell in cells {
        let group = groups.entry((cell.group.clone(), axes_of(cell))).or_default();
        group.entry(Key(cell.strength)).or_default().insert((&cell.prompt_id, cell.seed), cell);
    }
    let (planned, present) = (record.plan.cells.len(), cells.len());
    let mut notes = Vec::new();
    if present < planned {
        notes.push(format!(
            "{} of {planned} cells are missing; scores are of what is there",
            planned - present
        ));
    }
    let images = record.kind == RunKind::Image;
    let without = references.values().filter(|all| all.is_empty()).count();
    if images {
        notes.extend(left_out(cells));
    } else if without == references.len() {
        notes.push("no prompt has references: BLEU, chrF, ROUGE-L and exact match are left out, and perplexity is of the base's own texts".to_owned());
    } else if without > 0 {
        notes.push(format!("{without} of {} prompts have no references: BLEU, chrF, ROUGE-L and exact match are of the others", references.len()));
    }
    let mut metrics = Vec::new();
    let all: &[Metric] = if images { &IMAGE } else { &TEXT };
    for metric in all {
        let mut rows = Vec::new();
        for ((group, axes), strengths) in &groups {
            let axes: BTreeMap<String, Value> = serde_json::from_str(axes).unwrap_or_default();
            for strength in strengths.keys() {
                let row = metric.row(strengths, *strength, &references)?;
                rows.extend(row.map(|row| ScoreRow {
                    group: group.clone(),
                    axes: axes.clone(),
                    ..row
                }));
            }
        }
        if !rows.is_empty() {
            metrics.push(metric.scores(rows, &references, &record.judges));
        }
    }
    Ok(Scores { format: FORMAT, planned, present, metrics, notes })
}

/// Every metric that is a score of sums, with what each cell adds to them: what [`scores`] resamples,
/// for who asks other questions of the same cells. Metrics that no cell has are left out.
pub fn measures(record: &RunRecord, cells: &[Cell]) -> Result<Vec<Measure>, GridError> {
    let references = references(record);
    let pair = |cell: &Cell| (cell.prompt_id.clone(), cell.seed, axes_of(cell));
    let bases: BTreeMap<_, &Cell> =
        cells.iter().filter(|cell| cell.strength == 0.0).map(|cell| (pair(cell), cell)).collect();
    let bases: Vec<Option<&Cell>> =
        cells.iter().map(|cell| bases.get(&pair(cell)).copied()).collect();
    let all: &[Metric] = if record.kind == RunKind::Image { &IMAGE } else { &TEXT };
    let mut measures = Vec::new();
    for metric in all {
        let Some(combine) = metric.from.combine() else { continue };
        let rows = cells.par_iter().zip(&bases);
        let rows = rows.map(|(cell, base)| metric.statistics(cell, *base, &references));
        let rows = rows.collect::<Result<Vec<_>, MetricError>>()?;
        if rows.iter().any(Option::is_some) {
            measures.push(Measure {
                metric: metric.name.to_owned(),
                label: metric.label.to_owned(),
                unit: metric.unit.to_owned(),
                better: metric.better,
                signature: metric.signature(&references, &record.judges),
                combine,
                rows,
            });
        }
    }
    Ok(measures)
}

/// A cell's point on the further axes, as a text.
fn axes_of(cell: &Cell) -> String {
    serde_json::to_string(&cell.axes).unwrap_or_default()
}

/// Metrics of pictures that no model was given for.
fn left_out(cells: &[Cell]) -> Vec<String> {
    let has = |name: &str| cells.iter().any(|cell| cell.scores.contains_key(name));
    let mut notes = Vec::new();
    let models = [("clip-image", "CLIP (`--clip`)"), ("dino", "DINOv2 (`--dino`)")];
    let without: Vec<&str> = models
        .into_iter()
        .chain([("lpips", "LPIPS (`--lpips`)")])
        .filter_map(|(metric, model)| (!has(metric)).then_some(model))
        .collect();
    if !cells.is_empty() && !without.is_empty() {
        let without = without.join(", ");
        notes.push(format!("left out, as no model was given: scores by {without}"));
    }
    if has("ssim") && !has("ms-ssim") {
        notes.push("MS-SSIM is left out: its five scales need 176 pixels a side".to_owned());
    }
    notes
}

/// The references of each prompt, from the suite as the run recorded it.
fn references(record: &RunRecord) -> BTreeMap<String, Vec<String>> {
    let prompts = record.suite["prompts"].as_array();
    prompts
        .into_iter()
        .flatten()
        .filter_map(|prompt| {
            let texts = prompt["references"].as_array().into_iter().flatten();
            let texts = texts.filter_map(|text| Some(text.as_str()?.to_owned())).collect();
            Some((prompt["id"].as_str()?.to_owned(), texts))
        })
        .collect()
}

impl Metric {
    fn scores(
        &self,
        rows: Vec<ScoreRow>,
        references: &BTreeMap<String, Vec<String>>,
        judges: &BTreeMap<String, String>,
    ) -> MetricScores {
        if let From::Kid(model) = self.from {
            return self.of_sets(rows, (model, judges));
        }
        let signature = self.signature(references, judges);
        let test = Test::BOOTSTRAP;
        MetricScores {
            metric: self.name.to_owned(),
            label: self.label.to_owned(),
            about: self.about.to_owned(),
            unit: self.unit.to_owned(),
            better: self.better,
            signature: format!("{signature} (bs:{}|seed:{}|by prompt)", test.trials, test.seed),
            rows,
        }
    }

    /// How the score itself is computed.
    fn signature(
        &self,
        references: &BTreeMap<String, Vec<String>>,
        judges: &BTreeMap<String, String>,
    ) -> String {
        let counts: BTreeSet<usize> =
            references.values().map(Vec::len).filter(|count| *count > 0).collect();
        let many = |signature: String, count: usize| match counts.len() {
            0 | 1 => signature,
            _ => signature.replace(&format!("nrefs:{count}|"), "nrefs:var|"),
        };
        let count = counts.first().copied().unwrap_or(1);
        let version = env!("CARGO_PKG_VERSION");
        match self.from {
            From::Bleu(Against::References) => many(Bleu::default().signature(count), count),
            From::Bleu(Against::Base) => Against::Base.bleu().signature(1),
            From::Chrf => many(Chrf::default().signature(count), count),
            From::Mean => {
                let judge =
                    self.name.split('-').next().and_then(|judge| judges.get_key_value(judge));
                let judge = judge.map_or(String::new(), |(judge, digest)| {
                    format!("{judge}:{}|", digest.chars().take(10).collect::<String>())
                });
                format!("mean|{judge}version:lora-eval-{version}")
            }
            From::Decibels => format!("range:255|of the mean error|version:lora-eval-{version}"),
            From::Tokens | From::Perplexity | From::Kid(_) => {
                format!("teacher-forced|f32 logits|f64 sums|version:lora-eval-{version}")
            }
        }
    }

    /// The row of one strength: its own score, and its difference from strength 0 over the pairs that
    /// both have.
    fn row(
        &self,
        strengths: &BTreeMap<Key, BTreeMap<(&str, u64), &Cell>>,
        strength: Key,
        references: &BTreeMap<String, Vec<String>>,
    ) -> Result<Option<ScoreRow>, GridError> {
        let Some(cells) = strengths.get(&strength) else { return Ok(None) };
        let base = strengths.get(&Key(0.0));
        if let From::Kid(model) = self.from {
            return kid::row(model, cells, base, strength.0);
        }
        let mut pairs: BTreeMap<&str, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        let (mut n, mut identical) = (0, true);
        for (key, cell) in cells {
            let base_cell = base.and_then(|base| base.get(key)).copied();
            let Some(mine) = self.statistics(cell, base_cell, references)? else { continue };
            let theirs = match base_cell {
                Some(base_cell) => self.statistics(base_cell, Some(base_cell), references)?,
                None => None,
            };
            let Some(theirs) = theirs.or_else(|| base.is_none().then(|| mine.clone())) else {
                continue;
            };
            n += 1;
            identical &= base_cell.is_some_and(|base| cell.is_as(base));
            let (own, other) = pairs.entry(key.0).or_default();
            add(own, &mine);
            add(other, &theirs);
        }
        if n == 0 {
            return Ok(None);
        }
        let (own, other): (Vec<Vec<f64>>, Vec<Vec<f64>>) = pairs.into_values().unzip();
        let (own, other) = (Segments::from_iter(own), Segments::from_iter(other));
        let test = Test::BOOTSTRAP;
        let Some(combine) = self.from.combine() else { return Ok(None) };
        let compared = test.run(&combine, &other, &own)?;
        let finite = |value: f64| value.is_finite().then_some(value);
        let interval = compared.system_interval.filter(|_| own.len() > 1);
        let is_base = strength.0 == 0.0 || base.is_none();
        // the score of equal texts may miss 100 by a rounding
        let alike = identical && matches!(self.from, From::Bleu(Against::Base));
        Ok(Some(ScoreRow {
            group: String::new(),
            strength: strength.0,
            axes: BTreeMap::new(),
            value: if alike { Some(100.0) } else { finite(compared.system) },
            low: interval.and_then(|interval| finite(interval.low)),
            high: interval.and_then(|interval| finite(interval.high)),
            n,
            p: (!is_base && own.len() > 1).then_some(compared.p),
            identical: !is_base && identical,
        }))
    }

    /// What a cell adds to the sums; `None` where the metric does not apply.
    fn statistics(
        &self,
        cell: &Cell,
        base: Option<&Cell>,
        references: &BTreeMap<String, Vec<String>>,
    ) -> Result<Option<Vec<f64>>, MetricError> {
        let references: Vec<&str> = match self.from {
            From::Bleu(Against::Base) => base.iter().map(|base| base.output.as_str()).collect(),
            _ => references
                .get(&cell.prompt_id)
                .map(|all| all.iter().map(String::as_str).collect())
                .unwrap_or_default(),
        };
        let of = |segments: Segments| Some(segments.sums());
        let score = |name: &str| cell.scores.get(name).copied();
        let tokens = score("scored-tokens");
        Ok(match self.from {
            From::Bleu(_) | From::Chrf if references.is_empty() => None,
            From::Bleu(against) => {
                let bleu = against.bleu();
                let sums = bleu.statistics(&Texts::sentence(&cell.output, &references)?)?.sums();
                let equal = base.is_some_and(|base| base.output == cell.output);
                if matches!(against, Against::Base) && equal && sums.iter().all(|n| *n == 0.0) {
                    // equal texts are wholly alike, those without a word too: they count as one word
                    of(bleu.statistics(&Texts::sentence("a", &["a"])?)?)
                } else {
                    Some(sums)
                }
            }
            From::Chrf => {
                of(Chrf::default().statistics(&Texts::sentence(&cell.output, &references)?)?)
            }
            From::Mean => score(self.name).map(|value| vec![value, 1.0]),
            From::Decibels => score("mse").map(|value| vec![value, 1.0]),
            From::Kid(_) => None,
            From::Tokens => score(self.name).zip(tokens).map(|(value, n)| vec![value * n, n]),
            From::Perplexity => score("nll").zip(tokens).map(|(nll, n)| vec![nll, n]),
        })
    }
}

fn add(sums: &mut Vec<f64>, row: &[f64]) {
    sums.resize(row.len(), 0.0);
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
}
