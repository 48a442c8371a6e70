//! Weights by block, from what was written to what the layers take.

use super::PlannedCell;
use super::error::PromptProblem;
use crate::base::terminal::printable;
use crate::model::Blocks;
use crate::nn::BlockWeights;

/// The weights of a cell's adapters for every block of the model.
pub(super) fn weights<'n>(
    list: &Blocks,
    cell: &PlannedCell,
    name: impl Fn(usize) -> &'n str,
) -> Result<BlockWeights, PromptProblem> {
    let of = |(adapter, given): (&usize, &Vec<f64>)| {
        let weights = list.weights(given).map_err(|source| PromptProblem::Blocks {
            name: printable(name(*adapter)).to_string(),
            source,
        })?;
        Ok((*adapter, single(&weights)))
    };
    cell.blocks.iter().map(of).collect()
}

/// Strengths and weights are f32 in the layers.
#[expect(clippy::cast_possible_truncation, reason = "rounded to the layers' precision")]
pub(super) fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|number| *number as f32).collect()
}
