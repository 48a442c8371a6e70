//! Which prompts tell most: the most damaged, and those with the most gain.

use std::collections::BTreeMap;

use super::measure::Quantity;
use super::refused;
use crate::grid::GridError;
use crate::run::Cell;

/// The strength to ablate at: the one given, which must be of the run's, or the highest up to 1.
pub fn ablation_strength(strengths: &[f64], given: Option<f64>) -> Result<f64, GridError> {
    let known = || strengths.iter().copied().filter(|strength| *strength != 0.0);
    let all = || known().map(|strength| strength.to_string()).collect::<Vec<_>>().join(", ");
    match given {
        Some(given) if known().any(|strength| strength == given) => Ok(given),
        Some(given) => {
            let problem = format!("the run has no strength {given} other than the base's");
            Err(refused(&problem, &format!("it has {}", all())))
        }
        None => {
            let usual = known().filter(|strength| (0.0..=1.0).contains(strength));
            usual.max_by(f64::total_cmp).ok_or_else(|| {
                let hint = format!("give one of {} with `--ablate-strength`", all());
                refused("the run has no strength above 0 and up to 1", &hint)
            })
        }
    }
}

/// A prompt at a seed and a point of the further axes, and how much of a quantity it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick<'a> {
    pub cell: &'a Cell,
    pub value: f64,
}

/// The `most` prompts of a group that show the most of the first quantity that can be measured, each at
/// the seed where it shows most.
pub fn choose<'a>(
    cells: &'a [Cell],
    (group, strength): (&str, f64),
    quantities: &[Quantity],
    has_references: &dyn Fn(&str) -> bool,
    most: usize,
) -> Option<(Quantity, Vec<Pick<'a>>)> {
    let of_group = || cells.iter().filter(|cell| cell.group == group);
    let mut bases = BTreeMap::new();
    for cell in of_group().filter(|cell| cell.strength == 0.0) {
        bases.insert(place(cell), &cell.scores);
    }
    quantities.iter().find_map(|quantity| {
        let mut best: BTreeMap<&str, Pick<'a>> = BTreeMap::new();
        for cell in of_group().filter(|cell| cell.strength == strength) {
            if quantity.of_references && !has_references(&cell.prompt_id) {
                continue;
            }
            let value = bases.get(&place(cell)).and_then(|base| quantity.of(&cell.scores, base));
            let Some(value) = value else { continue };
            let known = best.get(cell.prompt_id.as_str());
            if known.is_none_or(|known| value > known.value) {
                best.insert(&cell.prompt_id, Pick { cell, value });
            }
        }
        let mut picks: Vec<Pick<'a>> = best.into_values().collect();
        picks.sort_by(|a, b| b.value.total_cmp(&a.value));
        picks.truncate(most);
        (!picks.is_empty()).then_some((*quantity, picks))
    })
}

/// What a cell shares with the base's.
fn place(cell: &Cell) -> (&str, u64, String) {
    (&cell.prompt_id, cell.seed, serde_json::to_string(&cell.axes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::measure::{damage, gain};
    use super::*;
    use crate::run::RunKind;

    fn cell(prompt: &str, seed: u64, strength: f64, kl: f64) -> Cell {
        Cell {
            cell: String::new(),
            prompt_id: prompt.to_owned(),
            group: "base".to_owned(),
            prompt: String::new(),
            strength,
            adapters: Vec::new(),
            axes: BTreeMap::new(),
            seed,
            output: String::new(),
            finish: None,
            prompt_tokens: None,
            tokens: None,
            truncated: 0,
            batch: None,
            features: BTreeMap::new(),
            scores: [("kl", kl), ("nll", 10.0 - kl), ("scored-tokens", 5.0)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            seconds: 0.0,
        }
    }

    #[test]
    fn the_strength_is_one_of_the_run_s() {
        let of = |given| ablation_strength(&[0.0, 0.5, 1.0, 2.0], given);
        assert_eq!(of(None).unwrap(), 1.0);
        assert_eq!(of(Some(2.0)).unwrap(), 2.0);
        assert_eq!(ablation_strength(&[0.0, 0.25, 1.5], None).unwrap(), 0.25);
        for (wrong, expected) in [
            (of(Some(0.7)), "no strength 0.7"),
            (of(Some(0.0)), "no strength 0 other"),
            (ablation_strength(&[-1.0, 0.0, 2.0], None), "give one of -1, 2"),
        ] {
            let error = wrong.unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn the_worst_prompts_come_first_each_at_its_worst_seed() {
        let mut cells = Vec::new();
        for (prompt, values) in [("a", [0.1, 0.2]), ("b", [0.9, 0.3]), ("c", [0.0, 0.5])] {
            for (seed, value) in (1..).zip(values) {
                cells.push(cell(prompt, seed, 0.0, 0.0));
                cells.push(cell(prompt, seed, 0.5, 7.0));
                cells.push(cell(prompt, seed, 1.0, value));
            }
        }
        let chosen = |quantities: &[Quantity], references: bool| {
            let (quantity, picks) =
                choose(&cells, ("base", 1.0), quantities, &|_| references, 2).unwrap();
            let picks: Vec<_> =
                picks.iter().map(|p| (p.cell.prompt_id.as_str(), p.cell.seed)).collect();
            (quantity.metric, picks)
        };
        assert_eq!(chosen(damage(RunKind::Text), true), ("kl", vec![("b", 1), ("c", 2)]));
        assert_eq!(chosen(&gain(RunKind::Text), true).0, "nll");
        assert_eq!(chosen(&gain(RunKind::Text), false).0, "kl");
        assert_eq!(choose(&cells, ("heldout", 1.0), damage(RunKind::Text), &|_| true, 2), None);
    }
}
