//! The cells of a run as pairs: the same prompt, seed and point of the axes at every strength.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::error::CheckError;
use crate::metric::Measure;
use crate::run::{Cell, RunRecord};
use crate::stats::Segments;

/// Metrics that a text which is too short does not have, whatever its pair has.
const MAY_LACK: [&str; 2] = ["distinct-2", "repetition"];

/// What to do about a cell that does not belong to its run.
const ANEW: &str = "remove the file and run the same `lora-eval grid` again";

/// All pairs of a run.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    pub record: &'a RunRecord,
    pub cells: &'a [Cell],
    pub measures: &'a [Measure],
    /// Sorted by group, cluster, prompt, axes and seed.
    pub units: Vec<Unit<'a>>,
}

/// One prompt × seed × point of the axes.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub group: &'a str,
    pub prompt: &'a str,
    /// The first prompt of the group with the same words: what is asked twice is one prompt.
    pub cluster: &'a str,
    pub axes: &'a BTreeMap<String, Value>,
    pub seed: u64,
    /// Index of the cell of each strength of the run.
    pub cells: Vec<usize>,
}

/// A metric's sums by prompt, of the base and of one strength.
#[derive(Debug)]
pub(super) struct Clusters<'a> {
    pub prompts: Vec<&'a str>,
    pub base: Segments,
    pub candidate: Segments,
    pub pairs: usize,
}

/// Which pairs a rule is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'r> {
    pub group: Option<&'r str>,
    pub axes: &'r BTreeMap<String, Value>,
}

impl Scope<'_> {
    fn holds(self, unit: &Unit<'_>) -> bool {
        self.group.is_none_or(|group| group == unit.group)
            && self.axes.iter().all(|(axis, value)| {
                unit.axes.get(axis).is_some_and(|found| same_value(found, value))
            })
    }
}

/// Whether two values of an axis are one: `1` and `1.0` are.
fn same_value(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a))
}

impl<'a> Pairs<'a> {
    /// Orders the cells, all of which must be there, and checks that each belongs where it says.
    pub fn new(
        path: &Path,
        record: &'a RunRecord,
        cells: &'a [Cell],
        measures: &'a [Measure],
    ) -> Result<Self, CheckError> {
        let groups = groups(record);
        let clusters = clusters(record);
        let mut units: BTreeMap<_, Unit<'a>> = BTreeMap::new();
        for (index, cell) in cells.iter().enumerate() {
            let wrong = |problem: String| Err(inconsistent(path, cell, &problem));
            match groups.get(cell.prompt_id.as_str()) {
                None => {
                    return wrong(format!("its prompt `{}` is not in the suite", cell.prompt_id));
                }
                Some(group) if *group != cell.group => {
                    return wrong(format!("its group is `{}`: expected `{group}`", cell.group));
                }
                Some(_) => {}
            }
            let Some(place) = record.strengths.iter().position(|s| *s == cell.strength) else {
                return wrong(format!("its strength {} is none of the run's", cell.strength));
            };
            if !record.seeds.contains(&cell.seed) {
                return wrong(format!("its seed {} is none of the run's", cell.seed));
            }
            if let Some((name, score)) = cell.scores.iter().find(|(_, score)| !score.is_finite()) {
                return wrong(format!("its score `{name}` is `{score}`: expected a finite number"));
            }
            let axes = serde_json::to_string(&cell.axes).unwrap_or_default();
            let prompt = cell.prompt_id.as_str();
            let cluster = clusters.get(prompt).copied().unwrap_or(prompt);
            let key = (cell.group.as_str(), cluster, prompt, axes, cell.seed);
            let unit = units.entry(key).or_insert_with(|| Unit {
                group: &cell.group,
                prompt,
                cluster,
                axes: &cell.axes,
                seed: cell.seed,
                cells: vec![usize::MAX; record.strengths.len()],
            });
            if let Some(slot) = unit.cells.get_mut(place) {
                if *slot != usize::MAX {
                    return wrong(
                        "another cell has the same prompt, seed, strength and axes".to_owned(),
                    );
                }
                *slot = index;
            }
        }
        let pairs = Self { record, cells, measures, units: units.into_values().collect() };
        pairs.complete(path)?;
        Ok(pairs)
    }

    /// Every pair must be whole, and have a score at all strengths or at none.
    fn complete(&self, path: &Path) -> Result<(), CheckError> {
        for unit in &self.units {
            let first = unit.cells.iter().find_map(|index| self.cells.get(*index));
            if let Some(place) = unit.cells.iter().position(|index| *index == usize::MAX) {
                let strength = self.record.strengths.get(place).copied().unwrap_or_default();
                let problem = format!(
                    "prompt `{}`, seed {} has no cell of strength {strength}",
                    unit.prompt, unit.seed
                );
                return Err(CheckError::Inconsistent {
                    path: first.map_or_else(|| path.to_owned(), |cell| file(path, cell)),
                    problem,
                    hint: ANEW,
                });
            }
            for measure in self.measures.iter().filter(|m| !MAY_LACK.contains(&m.metric.as_str())) {
                let has = |index: &&usize| row(measure, **index).is_some();
                let without = unit.cells.iter().find(|index| !has(index));
                if let Some(cell) = without.and_then(|index| self.cells.get(*index))
                    && unit.cells.iter().any(|index| has(&index))
                {
                    let problem =
                        format!("it has no `{}`, which others of its pair have", measure.metric);
                    return Err(inconsistent(path, cell, &problem));
                }
            }
        }
        Ok(())
    }

    /// The metric of a name.
    pub fn measure(&self, metric: &str) -> Option<&'a Measure> {
        self.measures.iter().find(|measure| measure.metric == metric)
    }

    /// The place of strength 0.
    pub fn base(&self) -> Option<usize> {
        self.record.strengths.iter().position(|strength| *strength == 0.0)
    }

    /// The pairs of a scope.
    pub fn of(&self, scope: Scope<'_>) -> impl Iterator<Item = &Unit<'a>> {
        self.units.iter().filter(move |unit| scope.holds(unit))
    }

    /// The base's cell and the one at a strength.
    pub fn pair(&self, unit: &Unit<'a>, place: usize) -> Option<(&'a Cell, &'a Cell)> {
        let cell = |place: usize| self.cells.get(*unit.cells.get(place)?);
        Some((cell(self.base()?)?, cell(place)?))
    }

    /// A metric's sums over the pairs of a scope that have it at strength 0 and at this one.
    pub fn clusters(&self, measure: &'a Measure, scope: Scope<'_>, place: usize) -> Clusters<'a> {
        let mut prompts: Vec<(&'a str, [Vec<f64>; 2])> = Vec::new();
        let mut pairs = 0;
        for unit in self.of(scope) {
            let sums = |place: usize| row(measure, *unit.cells.get(place)?);
            let Some((base, own)) = self.base().and_then(sums).zip(sums(place)) else { continue };
            pairs += 1;
            match prompts.last_mut() {
                Some((prompt, [base_sums, own_sums])) if *prompt == unit.cluster => {
                    add(base_sums, base);
                    add(own_sums, own);
                }
                _ => prompts.push((unit.cluster, [base.clone(), own.clone()])),
            }
        }
        let (names, sums): (Vec<_>, Vec<_>) = prompts.into_iter().unzip();
        let (base, own): (Vec<_>, Vec<_>) = sums.into_iter().map(|[base, own]| (base, own)).unzip();
        Clusters {
            prompts: names,
            base: base.into_iter().collect(),
            candidate: own.into_iter().collect(),
            pairs,
        }
    }

    /// Prompts that others of their group repeat, and by how many.
    pub fn repeated(&self) -> impl Iterator<Item = (&'a str, usize)> {
        let mut all = BTreeMap::<_, BTreeSet<_>>::new();
        for unit in &self.units {
            all.entry(unit.cluster).or_default().insert(unit.prompt);
        }
        let all = all.into_iter().map(|(first, prompts)| (first, prompts.len() - 1));
        all.filter(|(_, more)| *more > 0)
    }

    /// Pairs and prompts of each group.
    pub fn counts(&self) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
        let (mut pairs, mut prompts) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for unit in &self.units {
            *pairs.entry(unit.group.to_owned()).or_insert(0) += 1;
            prompts.entry(unit.group.to_owned()).or_default().insert(unit.cluster);
        }
        (pairs, prompts.into_iter().map(|(group, all)| (group, all.len())).collect())
    }
}

/// The group of each prompt, from the suite as the run recorded it.
fn groups(record: &RunRecord) -> BTreeMap<&str, &str> {
    let prompts = record.suite.get("prompts").and_then(Value::as_array);
    prompts
        .into_iter()
        .flatten()
        .filter_map(|prompt| Some((prompt.get("id")?.as_str()?, prompt.get("group")?.as_str()?)))
        .collect()
}

/// Of each prompt the first of its group that says the same.
fn clusters(record: &RunRecord) -> BTreeMap<&str, &str> {
    let mut first = BTreeMap::new();
    let prompts = record.suite.get("prompts").and_then(Value::as_array);
    prompts
        .into_iter()
        .flatten()
        .filter_map(|prompt| {
            let id = prompt.get("id")?.as_str()?;
            let said = [prompt.get("group")?, prompt.get("prompt").or(prompt.get("messages"))?];
            let said = said.map(ToString::to_string);
            Some((id, *first.entry(said).or_insert(id)))
        })
        .collect()
}

/// What a cell adds to a metric's sums.
fn row(measure: &Measure, index: usize) -> Option<&Vec<f64>> {
    measure.rows.get(index)?.as_ref()
}

fn add(sums: &mut [f64], row: &[f64]) {
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
}

fn file(path: &Path, cell: &Cell) -> std::path::PathBuf {
    let folder = cell.cell.get(..2).unwrap_or_default();
    path.join("cells").join(folder).join(format!("{}.json", cell.cell))
}

fn inconsistent(path: &Path, cell: &Cell, problem: &str) -> CheckError {
    let problem = crate::base::terminal::printable(problem).into_owned();
    CheckError::Inconsistent { path: file(path, cell), problem, hint: ANEW }
}
