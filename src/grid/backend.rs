//! Who makes the cells.

use std::collections::BTreeMap;

use super::{GridError, Unit};

/// What became of one cell of a unit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Made {
    /// The text; nothing for a picture.
    pub output: String,
    /// The picture as a PNG file.
    pub picture: Option<Vec<u8>>,
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// The prompt as the model got it, where a chat template made it.
    pub rendered: Option<String>,
    /// Why a text ended; what is to be said about a picture.
    pub finish: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<usize>,
    /// Tokens generated.
    pub tokens: Option<usize>,
    /// Tokens cut off the prompt.
    pub truncated: usize,
    /// Features of a picture by the model that gave them, as the record keeps them.
    pub features: BTreeMap<String, String>,
    /// Scores of this cell by metric.
    pub scores: BTreeMap<String, f64>,
    /// Rows of the batch it was made in, where its unit did not fit into one.
    pub batch: Option<usize>,
    /// Time it took.
    pub seconds: f64,
}

/// Makes the cells of a unit.
pub trait Backend {
    /// One [`Made`] for each cell of the unit, in their order.
    fn make(&mut self, unit: &Unit) -> Result<Vec<Made>, GridError>;
}
