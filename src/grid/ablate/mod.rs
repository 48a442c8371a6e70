//! Which blocks of an adapter do the damage, and which do the work.
//!
//! The prompts of a run that an adapter harms most are made again with one block of it off at a time,
//! all in one batch with the base and the whole adapter; so are the held-out prompts that gain most. A
//! block that takes damage away with it and little gain gets a lower weight, and what comes of these
//! weights is measured, too.

mod choose;
mod measure;
mod propose;

use std::collections::{BTreeMap, BTreeSet};

use super::{Backend, GridError, Made, Plan, PlannedCell, Unit};
use crate::base::terminal::printable;
use crate::metric::Combine;
use crate::model::Blocks;
use crate::prompt::block_argument;
use crate::run::{
    Ablation, BlockEffect, Cell, Change, FORMAT, Measure, PromptAt, Proposal, RunRecord,
};
use crate::stats::{Segments, Test, student_interval};
use crate::suite::Suite;
pub use choose::ablation_strength;
use choose::{Pick, choose};
use measure::Quantity;
use propose::{Shares, weight};

/// The adapter whose blocks are switched off.
#[derive(Debug, Clone)]
pub struct Ablated {
    /// Its number among the adapters of the plan.
    pub adapter: usize,
    /// Its name.
    pub name: String,
    /// The weights by block that it has in the run, as they were written; empty if all are 1.
    pub given: Vec<f64>,
    /// The model's blocks.
    pub blocks: Blocks,
    /// Those in which it changes something.
    pub acting: BTreeSet<usize>,
    /// The strength at which that is done, one of the run's, see [`ablation_strength`].
    pub strength: f64,
}

/// What to ablate on.
pub struct Ablating<'a> {
    /// The run.
    pub record: &'a RunRecord,
    /// All of its cells.
    pub cells: &'a [Cell],
    /// Its suite.
    pub suite: &'a Suite,
    /// Its plan.
    pub plan: &'a Plan,
    /// The adapter.
    pub ablated: &'a Ablated,
    /// Most prompts of either group.
    pub prompts: usize,
    /// Told of each batch that was made, of how many.
    pub progress: &'a dyn Fn(usize, usize),
}

/// The values of a quantity on some prompts: of the whole adapter, of each variant of its weights.
struct Measured {
    /// By prompt.
    full: Vec<f64>,
    /// By variant, then by prompt.
    variants: Vec<Vec<f64>>,
}

/// A group's prompts and what is measured on them.
struct Side<'a> {
    quantity: Quantity,
    picks: Vec<Pick<'a>>,
}

impl Ablating<'_> {
    /// Switches off one block at a time, and measures.
    pub fn run(&self, backend: &mut dyn Backend) -> Result<Ablation, GridError> {
        let strength = self.ablated.strength;
        let damage = self.side("base", strength, measure::damage(self.record.kind));
        let Some(damage) = damage else {
            return Err(refused(
                "no prompt of the group `base` has a score at this strength",
                "blame is laid on prompts that must not change: give some `group: base` in the suite",
            ));
        };
        let gain = self.side("heldout", strength, &measure::gain(self.record.kind));
        let off: Vec<Vec<f64>> =
            self.ablated.acting.iter().map(|block| self.weights(&[(*block, 0.0)])).collect();
        // then once more with the proposed weights
        let all = 2 * (damage.picks.len() + gain.as_ref().map_or(0, |gain| gain.picks.len()));
        let mut done = 0;
        let mut tell = || {
            done += 1;
            (self.progress)(done, all);
        };
        let harm = self.measure(backend, &damage, &off, &mut tell)?;
        let mut work = None;
        if let Some(gain) = &gain {
            work = Some(self.measure(backend, gain, &off, &mut tell)?);
        }
        let mut blocks = Vec::new();
        for (index, block) in self.ablated.acting.iter().enumerate() {
            blocks.push(self.effect((index, *block), &harm, work.as_ref())?);
        }
        let mut ablation = Ablation {
            format: FORMAT,
            program: format!("lora-eval {}", env!("CARGO_PKG_VERSION")),
            plan: self.record.plan.sha256.clone(),
            adapter: self.ablated.name.clone(),
            strength,
            damage: damage.measure(&harm),
            gain: gain.as_ref().zip(work.as_ref()).map(|(gain, work)| gain.measure(work)),
            blocks,
            proposal: None,
            notes: Vec::new(),
        };
        self.propose(&mut ablation, backend, (&damage, gain.as_ref()), &mut tell)?;
        Ok(ablation)
    }

    fn side(&self, group: &str, strength: f64, quantities: &[Quantity]) -> Option<Side<'_>> {
        let has_references = |id: &str| {
            let prompt = self.suite.prompts.iter().find(|prompt| prompt.id == id);
            prompt.is_some_and(|prompt| !prompt.references.is_empty())
        };
        let at = (group, strength);
        let (quantity, picks) = choose(self.cells, at, quantities, &has_references, self.prompts)?;
        Some(Side { quantity, picks })
    }

    /// 1 for every block but these.
    fn weights(&self, but: &[(usize, f64)]) -> Vec<f64> {
        let of = |block| but.iter().find(|(other, _)| *other == block).map_or(1.0, |(_, w)| *w);
        (0..self.ablated.blocks.names().len()).map(of).collect()
    }

    /// Each prompt of a side, with the base, the whole adapter, and each variant of its weights.
    fn measure(
        &self,
        backend: &mut dyn Backend,
        side: &Side<'_>,
        variants: &[Vec<f64>],
        tell: &mut dyn FnMut(),
    ) -> Result<Measured, GridError> {
        let mut measured =
            Measured { full: Vec::new(), variants: vec![Vec::new(); variants.len()] };
        for pick in &side.picks {
            let made = backend.make(&self.unit(pick.cell, variants)?)?;
            tell();
            let base = made.first().map(|base| &base.scores);
            let of = |row: &Made| base.and_then(|base| side.quantity.of(&row.scores, base));
            let values: Option<Vec<f64>> = made.iter().skip(1).map(of).collect();
            let mut values = values.unwrap_or_default().into_iter();
            let full = values.next().ok_or_else(|| {
                let (id, metric) = (printable(&pick.cell.prompt_id), side.quantity.metric);
                refused(
                    &format!("prompt `{id}`: an output has no score `{metric}`"),
                    "leave the prompt out, or ablate at a lower strength",
                )
            })?;
            measured.full.push(full);
            for (variant, value) in measured.variants.iter_mut().zip(values) {
                variant.push(value);
            }
        }
        Ok(measured)
    }

    /// The unit of a cell with other rows: the base, the adapter whole, and with each variant.
    fn unit(&self, cell: &Cell, variants: &[Vec<f64>]) -> Result<Unit, GridError> {
        let same = |unit: &&Unit| {
            let id = self.suite.prompts.get(unit.prompt).map(|prompt| &prompt.id);
            id == Some(&cell.prompt_id) && unit.seed == cell.seed && unit.axes == cell.axes
        };
        let gone = || refused("a cell is not of this plan", "run the same command again");
        let unit = self.plan.units.iter().find(same).ok_or_else(gone)?;
        let at = |strength: f64| {
            let found = unit.cells.iter().find(|planned| planned.strength == strength);
            found.cloned().ok_or_else(gone)
        };
        let full = at(cell.strength)?;
        let mut cells = vec![at(0.0)?, full.clone()];
        for weights in variants {
            let mut blocks: BTreeMap<usize, Vec<f64>> = full.blocks.clone();
            blocks.insert(
                self.ablated.adapter,
                self.over(full.blocks.get(&self.ablated.adapter), weights),
            );
            cells.push(PlannedCell { blocks, ..full.clone() });
        }
        Ok(Unit { cells, ..unit.clone() })
    }

    /// Weights over those that the adapter has in the run.
    fn over(&self, given: Option<&Vec<f64>>, weights: &[f64]) -> Vec<f64> {
        let given = given.and_then(|given| self.ablated.blocks.weights(given).ok());
        match given {
            Some(given) => given.iter().zip(weights).map(|(a, b)| a * b).collect(),
            None => weights.to_vec(),
        }
    }

    fn effect(
        &self,
        (index, block): (usize, usize),
        harm: &Measured,
        work: Option<&Measured>,
    ) -> Result<BlockEffect, GridError> {
        let damage = harm.change(index)?;
        let gain = work.map(|work| work.change(index)).transpose()?;
        let share =
            |change: &Change, full: f64| if full > 0.0 { -change.value / full } else { 0.0 };
        let proposed = match (work, &gain) {
            (Some(work), Some(gain)) if mean(&work.full) > 0.0 => weight(Shares {
                damage: share(&damage, mean(&harm.full)),
                gain: share(gain, mean(&work.full)),
                sure: damage.high.is_some_and(|high| high < 0.0),
            }),
            _ => 1.0,
        };
        let name = self.ablated.blocks.names().get(block).cloned().unwrap_or_default();
        Ok(BlockEffect { block: name, damage, gain, proposed })
    }

    /// Puts the blocks' weights together, and keeps them if they do what they are meant to.
    fn propose(
        &self,
        ablation: &mut Ablation,
        backend: &mut dyn Backend,
        (damage, gain): (&Side<'_>, Option<&Side<'_>>),
        tell: &mut dyn FnMut(),
    ) -> Result<(), GridError> {
        let (Some(gain), Some(full_gain)) = (gain, ablation.gain.as_ref().map(|gain| gain.full))
        else {
            ablation.notes.push("no held-out prompt has a score, so no block is known to do no work, and no weights are proposed".to_owned());
            return Ok(());
        };
        if ablation.damage.full <= 0.0 || full_gain <= 0.0 {
            let what = if full_gain <= 0.0 { "gains nothing" } else { "does no damage" };
            ablation.notes.push(format!("the adapter {what} here, so no weights are proposed"));
            return Ok(());
        }
        let but: Vec<(usize, f64)> = self
            .ablated
            .acting
            .iter()
            .zip(&ablation.blocks)
            .map(|(block, effect)| (*block, effect.proposed))
            .filter(|(_, weight)| *weight != 1.0)
            .collect();
        if but.is_empty() {
            ablation.notes.push("no block does damage with evidence and little work, so no weights are proposed; more prompts (`--ablate-prompts`), a lower strength or another training may help".to_owned());
            return Ok(());
        }
        let weights = [self.weights(&but)];
        let harm = mean(&self.measure(backend, damage, &weights, tell)?.variants[0]);
        let work = mean(&self.measure(backend, gain, &weights, tell)?.variants[0]);
        let (less_harm, less_work) = (1.0 - harm / ablation.damage.full, 1.0 - work / full_gain);
        if less_harm <= less_work.max(0.0) {
            ablation.notes.push(format!("blocks that do damage alone do less of it together: the weights they suggest would take away {:.0} % of the damage and {:.0} % of the gain, so they are not proposed", less_harm * 100.0, less_work * 100.0));
            return Ok(());
        }
        let given = Some(&self.ablated.given).filter(|given| !given.is_empty());
        let lbw = self.over(given, &weights[0]);
        let lbw = self.ablated.blocks.written(&lbw, &self.ablated.acting);
        let (name, strength) = (&ablation.adapter, ablation.strength);
        let tag = format!("<lora:{name}:{strength}{}>", block_argument(&lbw));
        ablation.proposal = Some(Proposal { lbw, tag, damage: harm, gain: work });
        Ok(())
    }
}

impl Side<'_> {
    fn measure(&self, measured: &Measured) -> Measure {
        let prompts = self.picks.iter().zip(&measured.full).map(|(pick, value)| PromptAt {
            id: pick.cell.prompt_id.clone(),
            seed: pick.cell.seed,
            value: *value,
        });
        Measure {
            metric: self.quantity.metric.to_owned(),
            about: self.quantity.about.to_owned(),
            unit: self.quantity.unit.to_owned(),
            full: mean(&measured.full),
            prompts: prompts.collect(),
        }
    }
}

impl Measured {
    /// How a variant differs from the whole adapter.
    fn change(&self, variant: usize) -> Result<Change, GridError> {
        let values = self.variants.get(variant).map_or(&[][..], Vec::as_slice);
        let changes: Vec<f64> =
            values.iter().zip(&self.full).map(|(off, full)| off - full).collect();
        let rows: Segments = changes.iter().map(|change| vec![*change, 1.0]).collect();
        let interval = Test::BOOTSTRAP.run(&Combine::Mean, &rows, &rows)?.system_interval;
        // the bootstrap of a handful of prompts says too much
        let wider = interval.zip(student_interval(&changes, 0.95));
        Ok(Change {
            value: mean(&changes),
            low: wider.map(|(interval, (low, _))| interval.low.min(low)),
            high: wider.map(|(interval, (_, high))| interval.high.max(high)),
            n: changes.len(),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn refused(problem: &str, hint: &str) -> GridError {
    GridError::Ablation { problem: problem.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::grid::{Axis, Request};
    use crate::run::{AdapterRecord, BaseRecord, RunKind};

    const SUITE: &str = "
strengths: [0, 0.5, 1, 2]
seeds: [1, 2]
prompts:
  - {id: b0, group: base, prompt: one}
  - {id: b1, group: base, prompt: two}
  - {id: b2, group: base, prompt: three}
  - {id: h0, group: heldout, prompt: four, references: [a]}
  - {id: h1, group: heldout, prompt: five, references: [b]}
";

    /// A model of four layers: the work is done in L00 and L03, the damage in L02, a little of both in
    /// L01.
    struct Planted {
        layers: Blocks,
        /// Rows of each unit that was asked for.
        asked: Vec<Vec<Vec<f64>>>,
    }

    impl Backend for Planted {
        fn make(&mut self, unit: &Unit) -> Result<Vec<Made>, GridError> {
            let size = 1.0 + 0.1 * unit.prompt as f64 + 0.01 * unit.seed as f64;
            let all: Vec<Vec<f64>> = unit
                .cells
                .iter()
                .map(|cell| {
                    let given = cell.blocks.get(&1).map(|given| self.layers.weights(given));
                    let weights = given.map_or(vec![1.0; 5], Result::unwrap);
                    weights.iter().map(|weight| weight * cell.strengths[1]).collect()
                })
                .collect();
            let scores = |w: &Vec<f64>| {
                let kl = size * (0.05 * w[2] + 0.6 * w[3] + 0.01 * w[4]).abs();
                let nll = 30.0 - size * (8.0 * w[1] + 0.5 * w[2] + 4.0 * w[4]);
                [("kl", kl), ("nll", nll), ("scored-tokens", 10.0)]
                    .map(|(name, value)| (name.to_owned(), value))
                    .into()
            };
            let made = all.iter().map(|w| Made { scores: scores(w), ..Made::default() }).collect();
            self.asked.push(all);
            Ok(made)
        }
    }

    fn adapter(name: &str, fixed: Option<f64>) -> Axis {
        Axis {
            name: name.to_owned(),
            sha256: String::new(),
            fixed,
            fixed_text: None,
            blocks: Vec::new(),
            on_demand: false,
            short_hash: None,
        }
    }

    /// The ablation of the planted model, and what the backend was asked for.
    fn ablation(
        yaml: &str,
        axis: Axis,
        strength: Option<f64>,
    ) -> (Result<Ablation, GridError>, Planted) {
        let suite = Suite::parse(Path::new("suite.yaml"), yaml).unwrap();
        let given = axis.blocks.clone();
        let plan = Plan::new(&Request {
            suite: &suite,
            base: "b",
            adapters: &[adapter("other", Some(0.3)), axis],
            kind: "text",
            dtype: "f32",
            device: "cpu",
            max_batch: None,
        })
        .unwrap();
        let mut backend = Planted { layers: Blocks::decoder(4), asked: Vec::new() };
        let mut cells = Vec::new();
        for unit in &plan.units {
            let prompt = &suite.prompts[unit.prompt];
            for (planned, made) in unit.cells.iter().zip(backend.make(unit).unwrap()) {
                cells.push(Cell {
                    cell: planned.id.clone(),
                    prompt_id: prompt.id.clone(),
                    group: prompt.group.clone(),
                    prompt: String::new(),
                    strength: planned.strength,
                    adapters: Vec::new(),
                    axes: unit.axes.clone(),
                    seed: unit.seed,
                    output: made.output,
                    finish: None,
                    prompt_tokens: None,
                    tokens: None,
                    truncated: 0,
                    batch: None,
                    features: BTreeMap::new(),
                    scores: made.scores,
                    seconds: 0.0,
                });
            }
        }
        backend.asked.clear();
        let record = RunRecord {
            format: FORMAT,
            program: String::new(),
            kind: RunKind::Text,
            created: String::new(),
            suite: suite.to_json(),
            suite_sha256: String::new(),
            base: BaseRecord {
                name: String::new(),
                description: String::new(),
                sha256: String::new(),
                vae: None,
            },
            adapters: Vec::<AdapterRecord>::new(),
            strengths: suite.strengths.values().to_vec(),
            seeds: suite.seeds.clone(),
            axes: BTreeMap::new(),
            settings: BTreeMap::new(),
            device: String::new(),
            dtype: String::new(),
            judges: BTreeMap::new(),
            max_batch: None,
            plan: plan.record(),
        };
        let ablated = Ablated {
            adapter: 1,
            name: "x".to_owned(),
            given,
            blocks: Blocks::decoder(4),
            acting: (1..5).collect(),
            strength: ablation_strength(suite.strengths.values(), strength).unwrap(),
        };
        let ablating = Ablating {
            record: &record,
            cells: &cells,
            suite: &suite,
            plan: &plan,
            ablated: &ablated,
            prompts: 2,
            progress: &|_, _| {},
        };
        (ablating.run(&mut backend), backend)
    }

    #[test]
    fn a_planted_block_is_found_and_switched_off() {
        let (ablation, backend) = ablation(SUITE, adapter("x", None), None);
        let ablation = ablation.unwrap();
        let ids = |measure: &Measure| -> Vec<(String, u64)> {
            measure.prompts.iter().map(|prompt| (prompt.id.clone(), prompt.seed)).collect()
        };
        // the worst ones at their worst seed, at the highest strength up to 1
        assert_eq!(ablation.strength, 1.0);
        assert_eq!(ids(&ablation.damage), [("b2".to_owned(), 2), ("b1".to_owned(), 2)]);
        assert_eq!(
            ids(ablation.gain.as_ref().unwrap()),
            [("h1".to_owned(), 2), ("h0".to_owned(), 2)]
        );
        let shares = |block: &BlockEffect| {
            let gain = ablation.gain.as_ref().unwrap().full;
            let damage = -block.damage.value / ablation.damage.full;
            (damage, -block.gain.unwrap().value / gain, block.proposed)
        };
        let near = |found: (f64, f64, f64), expected: (f64, f64, f64)| {
            (found.0 - expected.0).abs() < 1e-9
                && (found.1 - expected.1).abs() < 1e-9
                && found.2 == expected.2
        };
        let expected = [
            ("L00", (0.0, 8.0 / 12.5, 1.0)),
            ("L01", (0.05 / 0.66, 0.5 / 12.5, 1.0)),
            ("L02", (0.6 / 0.66, 0.0, 0.0)),
            ("L03", (0.01 / 0.66, 4.0 / 12.5, 1.0)),
        ];
        for (block, (name, expected)) in ablation.blocks.iter().zip(expected) {
            assert_eq!(block.block, name);
            assert_eq!(block.damage.n, 2);
            assert!(near(shares(block), expected), "{name}: {:?}", shares(block));
        }
        let proposal = ablation.proposal.as_ref().unwrap();
        assert_eq!(proposal.tag, "<lora:x:1:lbw=1,1,0,1>");
        assert!((proposal.damage / ablation.damage.full - 0.06 / 0.66).abs() < 1e-9);
        assert!((proposal.gain / ablation.gain.as_ref().unwrap().full - 1.0).abs() < 1e-9);
        // one batch a prompt: base, whole, each block off; then base, whole and the proposal
        assert_eq!(backend.asked.len(), 8);
        let rows = [
            vec![0.0; 5],
            vec![1.0; 5],
            vec![1.0, 0.0, 1.0, 1.0, 1.0],
            vec![1.0, 1.0, 0.0, 1.0, 1.0],
            vec![1.0, 1.0, 1.0, 0.0, 1.0],
            vec![1.0, 1.0, 1.0, 1.0, 0.0],
        ];
        assert_eq!(backend.asked[0], rows);
        assert_eq!(backend.asked[7][2], rows[4]);
    }

    #[test]
    fn weights_of_the_run_itself_stay_in_force() {
        let axis = Axis { blocks: vec![0.5, 1.0, 1.0, 0.0], ..adapter("x", None) };
        let (ablation, backend) = ablation(SUITE, axis, Some(0.5));
        let ablation = ablation.unwrap();
        assert_eq!(ablation.strength, 0.5);
        assert_eq!(ablation.proposal.unwrap().tag, "<lora:x:0.5:lbw=0.5,1,0,0>");
        assert_eq!(backend.asked[0][1], [0.5, 0.25, 0.5, 0.5, 0.0]);
        assert_eq!(backend.asked[0][3], [0.5, 0.25, 0.0, 0.5, 0.0]);
    }

    #[test]
    fn what_cannot_be_ablated_is_said() {
        let only_base = SUITE.replace("heldout", "base");
        let only_held_out = SUITE.replace("group: base", "group: heldout");
        let (ablation_of_base, _) = ablation(&only_base, adapter("x", None), None);
        let without = ablation_of_base.unwrap();
        assert!(without.gain.is_none() && without.proposal.is_none());
        assert!(without.notes[0].contains("no held-out prompt"), "{:?}", without.notes);
        let error = ablation(&only_held_out, adapter("x", None), None).0.unwrap_err().to_string();
        assert!(error.contains("no prompt of the group `base`"), "{error}");
        assert!(error.contains("\nhint: "), "{error}");
    }
}
