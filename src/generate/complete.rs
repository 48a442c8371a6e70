//! The loop that makes a text.

use candle_core::Tensor;

use super::{GenerateError, Noise, Sampling};
use crate::model::decoder::{Cache, Decoder, Want};
use crate::nn::{BlockWeights, Strengths};
use crate::text::{Stream, TextTokenizer};

/// One row of a batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// A strength for each adapter.
    pub strengths: Vec<f32>,
    /// What they are multiplied by in each block of the model, see [`crate::model::Blocks`].
    pub blocks: BlockWeights,
}

/// When a text ends.
#[derive(Debug, Clone, Default)]
pub struct Stopping {
    /// Most tokens.
    pub max_new_tokens: usize,
    /// Tokens that end it; they are not part of the text.
    pub end_tokens: Vec<u32>,
    /// Texts that end it; they and what follows are not part of the text.
    pub stop: Vec<String>,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Eos,
    /// A stop text occurred.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

impl Finish {
    /// `eos`, `stop` or `length`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// A finished text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<u32>,
    /// The text; empty where no tokenizer was given.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}

/// Prompts that were run: the keys and values of every row, and the logits after its last token.
///
/// Each row has its own: an adapter changes keys and values, so rows of one prompt at several
/// strengths share nothing.
#[derive(Debug)]
pub struct Prefilled {
    pub(super) rows: Vec<Row>,
    pub(super) cache: Cache,
    /// (rows, vocabulary)
    pub(super) logits: Tensor,
}

/// The strengths of rows.
pub(super) fn strengths_of(rows: &[Row]) -> Strengths {
    let strengths = Strengths::new(rows.iter().map(|row| row.strengths.clone()).collect());
    strengths.with_blocks(rows.iter().map(|row| row.blocks.clone()).collect())
}

/// Runs the prompts of a batch. Shorter ones are padded in front; no row sees its padding.
pub fn prefill(decoder: &Decoder, rows: &[Row]) -> Result<Prefilled, GenerateError> {
    let longest = rows.iter().map(|row| row.prompt.len()).max().unwrap_or(0);
    if rows.iter().any(|row| row.prompt.is_empty()) {
        return Err(GenerateError::EmptyPrompt);
    }
    let starts: Vec<usize> = rows.iter().map(|row| longest - row.prompt.len()).collect();
    let tokens: Vec<Vec<u32>> = rows
        .iter()
        .zip(&starts)
        .map(|(row, start)| [vec![0; *start], row.prompt.clone()].concat())
        .collect();
    let mut cache = decoder.cache(starts, true);
    let logits = decoder.forward(&tokens, &mut cache, &strengths_of(rows), Want::Last)?;
    Ok(Prefilled { rows: rows.to_vec(), cache, logits: logits.squeeze(1)? })
}

/// A row that is still growing.
struct Growing<'a> {
    /// Its index in the batch that was asked for.
    index: usize,
    context: Vec<u32>,
    text: Option<Stream<'a>>,
    written: String,
}

/// Continues every prompt. `noise` has one source a row.
pub fn complete(
    decoder: &Decoder,
    tokenizer: Option<&TextTokenizer>,
    prefilled: &Prefilled,
    (sampling, noise): (&Sampling, &[Noise]),
    stopping: &Stopping,
) -> Result<Vec<Completion>, GenerateError> {
    let rows = &prefilled.rows;
    let mut done: Vec<Option<Completion>> = vec![None; rows.len()];
    let mut growing: Vec<Growing<'_>> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| Growing {
            index,
            context: row.prompt.clone(),
            text: tokenizer.map(|tokenizer| tokenizer.stream(true)),
            written: String::new(),
        })
        .collect();
    let mut cache = prefilled.cache.duplicate()?;
    let mut strengths = strengths_of(rows);
    let mut logits = prefilled.logits.to_vec2::<f32>()?;
    for step in 0..stopping.max_new_tokens {
        let mut staying = Vec::new();
        for (place, (row, logits)) in growing.iter_mut().zip(&mut logits).enumerate() {
            let prompt = rows[row.index].prompt.len();
            let chosen = sampling.choose(logits, &row.context, (noise[row.index], step));
            let token = chosen.ok_or(GenerateError::NotFinite { row: row.index, tokens: step })?;
            let finish = row.take(token, stopping)?;
            let full = step + 1 == stopping.max_new_tokens;
            match finish.or(full.then_some(Finish::Length)) {
                Some(finish) => done[row.index] = Some(row.finish(prompt, finish, stopping)?),
                None => staying.push(place),
            }
        }
        if staying.is_empty() {
            break;
        }
        if staying.len() < growing.len() {
            cache.select(&staying)?;
            strengths = strengths.select(&staying);
            let mut place = 0..;
            growing.retain(|_| place.next().is_some_and(|place| staying.contains(&place)));
        }
        if crosses(decoder, &growing) {
            (cache, logits) = again(decoder, rows, &growing)?;
            continue;
        }
        let last: Vec<Vec<u32>> =
            growing.iter().map(|row| row.context[row.context.len() - 1..].to_vec()).collect();
        let next = decoder.forward(&last, &mut cache, &strengths, Want::Last)?;
        logits = next.squeeze(1)?.to_vec2::<f32>()?;
    }
    // with no token asked for, every row is an empty text
    let empty = || Completion { tokens: Vec::new(), text: String::new(), finish: Finish::Length };
    Ok(done.into_iter().map(|done| done.unwrap_or_else(empty)).collect())
}

impl Growing<'_> {
    /// Takes a token; tells whether the text has ended.
    fn take(&mut self, token: u32, stopping: &Stopping) -> Result<Option<Finish>, GenerateError> {
        if stopping.end_tokens.contains(&token) {
            return Ok(Some(Finish::Eos));
        }
        self.context.push(token);
        let Some(stream) = self.text.as_mut() else { return Ok(None) };
        self.written.push_str(&stream.push(token)?);
        let stopped = stopping.stop.iter().any(|stop| self.written.contains(stop.as_str()));
        Ok(stopped.then_some(Finish::Stop))
    }

    fn finish(
        &mut self,
        prompt: usize,
        finish: Finish,
        stopping: &Stopping,
    ) -> Result<Completion, GenerateError> {
        if let Some(stream) = self.text.take()
            && finish != Finish::Stop
        {
            self.written.push_str(&stream.finish()?);
        }
        let mut text = std::mem::take(&mut self.written);
        if let Some(end) = stopping.stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            text.truncate(end);
        }
        Ok(Completion { tokens: self.context.split_off(prompt), text, finish })
    }
}

/// Whether the token just taken carries a row over the length at which cached keys go stale.
fn crosses(decoder: &Decoder, growing: &[Growing<'_>]) -> bool {
    decoder
        .switches_at()
        .is_some_and(|length| growing.iter().any(|row| row.context.len() == length + 1))
}

/// Runs all rows from their first token.
fn again(
    decoder: &Decoder,
    rows: &[Row],
    growing: &[Growing<'_>],
) -> Result<(Cache, Vec<Vec<f32>>), GenerateError> {
    let rows: Vec<Row> = growing
        .iter()
        .map(|row| Row { prompt: row.context.clone(), ..rows[row.index].clone() })
        .collect();
    let prefilled = prefill(decoder, &rows)?;
    Ok((prefilled.cache, prefilled.logits.to_vec2()?))
}
