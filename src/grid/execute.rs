//! Making what is missing.

use std::collections::BTreeSet;

use super::{Axis, Backend, GridError, Made, Plan, PlannedCell, Unit};
use crate::run::{Cell, Run, Shard};
use crate::suite::{Input, Suite};

/// What to make, and who wants to know.
pub struct Options<'a> {
    /// The suite.
    pub suite: &'a Suite,
    /// The adapters of the plan.
    pub adapters: &'a [Axis],
    /// Which units are this process's. A unit belongs to the shard of its first cell's id: a batch is
    /// never cut in two.
    pub shard: Shard,
    /// Cells that are already whole.
    pub present: &'a BTreeSet<String>,
    /// Told how many cells were written.
    pub progress: &'a dyn Fn(u64),
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Cells written.
    pub written: usize,
    /// Batches made.
    pub batches: usize,
}

impl Plan {
    /// The units of a shard that have cells missing, and how many.
    pub fn missing(&self, shard: Shard, present: &BTreeSet<String>) -> Vec<(&Unit, usize)> {
        self.units
            .iter()
            .filter(|unit| unit.cells.first().is_some_and(|cell| shard.owns(&cell.id)))
            .map(|unit| (unit, unit.cells.iter().filter(|c| !present.contains(&c.id)).count()))
            .filter(|(_, missing)| *missing > 0)
            .collect()
    }
}

/// Makes the missing cells of a shard, unit by unit. Each cell is on disk before the next one is
/// written, so whatever ends the process loses at most the unit in work.
pub fn execute(
    run: &Run,
    plan: &Plan,
    backend: &mut dyn Backend,
    options: &Options<'_>,
) -> Result<Outcome, GridError> {
    let mut outcome = Outcome::default();
    for (unit, _) in plan.missing(options.shard, options.present) {
        let made = backend.make(unit)?;
        outcome.batches += 1;
        for (planned, mut made) in unit.cells.iter().zip(made) {
            if options.present.contains(&planned.id) {
                continue;
            }
            let picture = made.picture.take();
            let cell = cell(unit, planned, made, options);
            outcome.written += usize::from(match picture {
                Some(png) => run.write_picture(cell, &png)?,
                None => run.write_cell(&cell)?,
            });
            (options.progress)(1);
        }
    }
    Ok(outcome)
}

fn cell(unit: &Unit, planned: &PlannedCell, made: Made, options: &Options<'_>) -> Cell {
    let prompt = &options.suite.prompts[unit.prompt];
    let text = match &prompt.input {
        Input::Prompt(text) => text.clone(),
        Input::Messages(_) => made.rendered.unwrap_or_default(),
    };
    Cell {
        cell: planned.id.clone(),
        prompt_id: prompt.id.clone(),
        group: prompt.group.clone(),
        prompt: text,
        strength: planned.strength,
        adapters: unit.adapters_at(planned, options.adapters),
        axes: unit.axes.clone(),
        seed: unit.seed,
        output: made.output,
        finish: made.finish,
        prompt_tokens: made.prompt_tokens,
        tokens: made.tokens,
        truncated: made.truncated,
        batch: made.batch,
        features: made.features,
        scores: made.scores,
        seconds: made.seconds,
    }
}
