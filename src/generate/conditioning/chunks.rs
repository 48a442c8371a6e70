//! Rows of 77 token ids: `tokenize_line` of the `WebUI`.

use super::ConditioningError;
use crate::prompt::Fragment;
use crate::text::ClipTokenizer;

/// Tokens of text in one row.
pub const CHUNK_TOKENS: usize = 75;
/// Positions of one row: the start, 75 tokens of text, the end.
pub const ROW: usize = CHUNK_TOKENS + 2;
/// How far back a comma may be for the text after it to move into the next row as a whole. It is
/// the `WebUI`'s `comma_padding_backtrack` as it comes.
const BACKTRACK: usize = 20;

/// A text as rows of token ids, at least one.
///
/// Each row is the start, up to 75 tokens, the end until the 75 are full, and the end once more;
/// from the first end on, the tokenizer's padding takes the place of all that follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunks {
    /// Token ids.
    pub ids: Vec<[u32; ROW]>,
    /// What the output at each position is multiplied by, see [`super::emphasise`]. Start, end and
    /// padding have 1.
    pub weights: Vec<[f32; ROW]>,
    /// Tokens that the text takes up: 75 for each row but the last.
    pub tokens: usize,
    /// The row of no text.
    empty: [u32; ROW],
}

impl Chunks {
    /// The rows of a text. Fragments are tokenised one by one, a `BREAK` ends a row, and a row that
    /// is full may hand the text after its last comma on to the next.
    pub fn new(
        tokenizer: &ClipTokenizer,
        fragments: &[Fragment],
    ) -> Result<Self, ConditioningError> {
        let mut filler = Filler::new(tokenizer);
        for fragment in fragments {
            if fragment.is_break() {
                filler.end_full_row();
                continue;
            }
            let weight = single(fragment)?;
            for id in tokenizer.encode(&fragment.text)? {
                filler.push(id, weight);
            }
        }
        Ok(filler.finish())
    }

    /// Adds rows of no text until there are at least `rows`, so that two texts are of equal length.
    pub fn pad_to(&mut self, rows: usize) {
        let rows = rows.max(self.ids.len());
        self.ids.resize(rows, self.empty);
        self.weights.resize(rows, [1.0; ROW]);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "outputs and their weights are of single precision"
)]
fn single(fragment: &Fragment) -> Result<f32, ConditioningError> {
    let weight = fragment.weight as f32;
    if weight.is_finite() {
        return Ok(weight);
    }
    Err(ConditioningError::Weight { text: fragment.text.clone(), weight: fragment.weight })
}

/// The row that is being filled, and those that are full.
struct Filler<'t> {
    tokenizer: &'t ClipTokenizer,
    ids: Vec<u32>,
    weights: Vec<f32>,
    /// Where in the row the last comma is.
    comma: Option<usize>,
    done: Chunks,
}

impl<'t> Filler<'t> {
    fn new(tokenizer: &'t ClipTokenizer) -> Self {
        let empty = row(tokenizer, &[]);
        let done = Chunks { ids: Vec::new(), weights: Vec::new(), tokens: 0, empty };
        Self { tokenizer, ids: Vec::new(), weights: Vec::new(), comma: None, done }
    }

    fn push(&mut self, id: u32, weight: f32) {
        let full = self.ids.len() == CHUNK_TOKENS;
        let near = self.comma.filter(|comma| full && CHUNK_TOKENS - comma <= BACKTRACK);
        // A comma that no longer fits begins the next row, which cannot be cut there.
        if self.tokenizer.comma() != Some(id)
            && let Some(comma) = near
        {
            let (ids, weights) = (self.ids.split_off(comma + 1), self.weights.split_off(comma + 1));
            self.end_full_row();
            (self.ids, self.weights) = (ids, weights);
        } else if full {
            self.end_full_row();
        } else if self.tokenizer.comma() == Some(id) {
            self.comma = Some(self.ids.len());
        }
        self.ids.push(id);
        self.weights.push(weight);
    }

    /// Ends a row that is not the last.
    fn end_full_row(&mut self) {
        self.done.tokens += CHUNK_TOKENS;
        self.end_row();
    }

    fn end_row(&mut self) {
        self.done.ids.push(row(self.tokenizer, &self.ids));
        let mut weights = [1.0; ROW];
        for (slot, weight) in weights.iter_mut().skip(1).zip(&self.weights) {
            *slot = *weight;
        }
        self.done.weights.push(weights);
        self.ids.clear();
        self.weights.clear();
        self.comma = None;
    }

    fn finish(mut self) -> Chunks {
        if !self.ids.is_empty() || self.done.ids.is_empty() {
            self.done.tokens += self.ids.len();
            self.end_row();
        }
        self.done
    }
}

/// The start, at most 75 ids, and the end.
fn row(tokenizer: &ClipTokenizer, ids: &[u32]) -> [u32; ROW] {
    let mut row = [tokenizer.eos(); ROW];
    let text = std::iter::once(tokenizer.bos()).chain(ids.iter().copied().take(CHUNK_TOKENS));
    for (slot, id) in row.iter_mut().zip(text) {
        *slot = id;
    }
    // A text that spells the end out ends there for encoders that are padded with another token.
    for slot in row.iter_mut().skip_while(|id| **id != tokenizer.eos()).skip(1) {
        if tokenizer.pad() != tokenizer.eos() {
            *slot = tokenizer.pad();
        }
    }
    row
}
