//! Cells of a language model.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{DType, Device};

use super::blocks::{single, weights};
use super::error::PromptProblem;
use super::judge::{Judge, Judged};
use super::prepare::{Prepared, known_tokens, prepare, refuse_image_settings, text_settings};
use super::{Axis, Backend, GridError, Made, Plan, PlannedCell, Unit};
use crate::base::clock;
use crate::base::terminal::printable;
use crate::generate::{
    Completion, Forced, GenerateError, Noise, Prefilled, Row, complete, prefill, teacher_forced,
};
use crate::model::Base;
use crate::model::decoder::{Decoder, DecoderError};
use crate::suite::Suite;
use crate::text::{ChatError, ChatTemplate, Clock, TextTokenizer};

/// A language model with its tokenizer.
#[derive(Debug)]
pub struct Loaded {
    /// The model, adapters attached.
    pub decoder: Decoder,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
}

impl Loaded {
    /// Loads the model and the tokenizer of a base. `dtype` as for [`Decoder::load`].
    pub fn open(base: &Base, dtype: Option<DType>, device: &Device) -> Result<Self, GridError> {
        let decoder = Decoder::load(base, dtype, device)?;
        let tokenizer = match &base.gguf {
            Some(model) => TextTokenizer::from_gguf(&model.file)?,
            None => TextTokenizer::from_folder(&base.path)?,
        };
        Ok(Self { decoder, tokenizer })
    }

    /// The chat template; `clock` is what it takes for now.
    pub fn chat(&self, clock: Clock) -> Result<ChatTemplate, ChatError> {
        self.tokenizer.chat_template(clock)
    }
}

/// What determines the outputs of a base, for cell ids: its weights, configuration and tokenizer.
pub fn fingerprint(base: &Base) -> Result<String, GridError> {
    Ok(base.sha256().map_err(DecoderError::Tensor)?)
}

/// A row's text, and how the target fares under its model.
type Finished = (Completion, Forced);

/// Makes cells with a language model: one prefill and one decoding batch for all strengths.
#[derive(Debug)]
pub struct TextBackend<'a> {
    loaded: &'a Loaded,
    suite: &'a Suite,
    /// Names of the adapters, as the rows' strengths count them.
    adapters: Vec<String>,
    /// What chat templates take for now.
    clock: Clock,
    /// Most rows of a batch.
    rows: Option<usize>,
    /// Whether texts are scored.
    scored: bool,
    last: Option<Last>,
}

/// The prefill of the unit before, which the next seed of the same prompt uses again.
#[derive(Debug)]
struct Last {
    rows: Vec<Row>,
    prefilled: Prefilled,
    forced: Option<(Vec<u32>, Vec<Forced>)>,
}

impl<'a> TextBackend<'a> {
    /// A backend for the units of a suite. `rows` bounds a batch; `None` for all strengths at once.
    pub fn new(
        loaded: &'a Loaded,
        suite: &'a Suite,
        adapters: &[Axis],
        rows: Option<usize>,
    ) -> Self {
        let adapters = adapters.iter().map(|adapter| adapter.name.clone()).collect();
        Self {
            loaded,
            suite,
            adapters,
            clock: Clock::default(),
            rows: rows.map(|rows| rows.max(2)),
            scored: true,
            last: None,
        }
    }

    /// The same at a time as `run.json` writes it, which all prompts take for now.
    #[must_use]
    pub fn at(self, created: &str) -> Self {
        Self { clock: clock::unix(created).map_or(self.clock, Clock::At), ..self }
    }

    /// The same without scores, which take a pass of their own.
    #[must_use]
    pub fn unscored(self) -> Self {
        Self { scored: false, ..self }
    }

    /// Reads every prompt of a plan, so that one that cannot be run is found before hours of work.
    /// Gives notes about prompts that are cut.
    pub fn check(&self, plan: &Plan) -> Result<Vec<String>, GridError> {
        let mut notes = Vec::new();
        let mut seen = None;
        for unit in &plan.units {
            let prepared = self.prepare(unit)?;
            self.target(unit, &prepared)?;
            self.rows_of(unit, &prepared).map_err(|e| self.about(unit, &e))?;
            if prepared.truncated > 0 && seen != Some(unit.prompt) {
                seen = Some(unit.prompt);
                let id = printable(&self.suite.prompts[unit.prompt].id);
                notes.push(format!(
                    "prompt `{id}`: its first {} tokens are cut off to fit the context of {}",
                    prepared.truncated, self.loaded.decoder.config.context
                ));
            }
        }
        Ok(notes)
    }

    fn prepare(&self, unit: &Unit) -> Result<Prepared, GridError> {
        refuse_image_settings(&unit.settings)
            .and_then(|()| {
                prepare((self.loaded, self.clock), &unit.input, &text_settings(&unit.settings))
            })
            .map_err(|problem| self.about(unit, &problem))
    }

    /// A row for each cell.
    fn rows_of(&self, unit: &Unit, prepared: &Prepared) -> Result<Vec<Row>, PromptProblem> {
        let name = |adapter: usize| self.adapters.get(adapter).map_or("", String::as_str);
        let row = |cell: &PlannedCell| {
            Ok(Row {
                prompt: prepared.tokens.clone(),
                strengths: single(&cell.strengths),
                blocks: weights(&self.loaded.decoder.block_list, cell, name)?,
            })
        };
        unit.cells.iter().map(row).collect()
    }

    /// Tokens of the first reference, as many as fit the context.
    fn target(&self, unit: &Unit, prepared: &Prepared) -> Result<Option<Vec<u32>>, GridError> {
        let references = &self.suite.prompts[unit.prompt].references;
        let Some(reference) = references.first() else { return Ok(None) };
        let mut tokens = self
            .loaded
            .tokenizer
            .encode(reference, false)
            .map_err(PromptProblem::from)
            .and_then(|tokens| known_tokens(self.loaded, tokens))
            .map_err(|problem| self.about(unit, &problem))?;
        tokens.truncate(self.loaded.decoder.config.context - prepared.tokens.len());
        Ok(Some(tokens))
    }

    fn about(&self, unit: &Unit, problem: &PromptProblem) -> GridError {
        GridError::about(self.suite, unit.prompt, problem)
    }

    /// Texts and forced scores of some rows; the first is the base's.
    fn batch(
        &mut self,
        unit: &Unit,
        prepared: &Prepared,
        rows: &[Row],
        target: Option<&[u32]>,
    ) -> Result<(Vec<Completion>, Vec<Forced>), PromptProblem> {
        self.try_batch(unit, prepared, rows, target).map_err(|error| match error {
            GenerateError::NotFinite { row, tokens } => {
                PromptProblem::NotFinite { who: self.who(&rows[row]), tokens }
            }
            other => other.into(),
        })
    }

    /// `style at strength 1`
    fn who(&self, row: &Row) -> String {
        let acting = self.adapters.iter().zip(&row.strengths).filter(|(_, s)| **s != 0.0);
        let acting: Vec<String> = acting
            .map(|(name, strength)| format!("`{}` at strength {strength}", printable(name)))
            .collect();
        if acting.is_empty() { "the base itself".to_owned() } else { acting.join(" with ") }
    }

    fn try_batch(
        &mut self,
        unit: &Unit,
        prepared: &Prepared,
        rows: &[Row],
        target: Option<&[u32]>,
    ) -> Result<(Vec<Completion>, Vec<Forced>), GenerateError> {
        let Loaded { decoder, tokenizer } = self.loaded;
        let same = self.last.as_ref().is_some_and(|last| last.rows == rows);
        if !same {
            self.last = None; // its memory is needed
            let prefilled = prefill(decoder, rows)?;
            self.last = Some(Last { rows: rows.to_vec(), prefilled, forced: None });
        }
        let Some(last) = &mut self.last else { return Ok((Vec::new(), Vec::new())) };
        let noise = vec![Noise::new(unit.seed, &prepared.tokens); rows.len()];
        let sampling = text_settings(&unit.settings).sampling;
        let texts = complete(
            decoder,
            Some(tokenizer),
            &last.prefilled,
            (&sampling, &noise),
            &prepared.stopping,
        )?;
        if !self.scored {
            return Ok((texts, vec![Forced::default(); rows.len()]));
        }
        let target = target.unwrap_or(&texts[0].tokens).to_vec();
        let forced = match &last.forced {
            Some((scored, forced)) if *scored == target => forced.clone(),
            _ => teacher_forced(decoder, &last.prefilled, &target)?,
        };
        last.forced = Some((target, forced.clone()));
        Ok((texts, forced))
    }

    /// All rows, in as few batches as fit. Gives the rows of a batch where there were several.
    fn batches(
        &mut self,
        unit: &Unit,
        prepared: &Prepared,
        rows: &[Row],
        target: Option<&[u32]>,
    ) -> Result<(Vec<Finished>, Option<usize>), PromptProblem> {
        loop {
            let limit = self.rows.unwrap_or(rows.len()).min(rows.len()).max(2);
            match self.parts(unit, prepared, rows, target, limit) {
                Err(error) if out_of_memory(&error) && limit > 2 => {
                    let fewer = limit.div_ceil(2).max(2);
                    tracing::warn!(
                        "a batch of {limit} rows does not fit into memory; going on with {fewer}"
                    );
                    (self.rows, self.last) = (Some(fewer), None);
                }
                Err(error) => return Err(error),
                Ok(all) => return Ok((all, (limit < rows.len()).then_some(limit))),
            }
        }
    }

    fn parts(
        &mut self,
        unit: &Unit,
        prepared: &Prepared,
        rows: &[Row],
        target: Option<&[u32]>,
        limit: usize,
    ) -> Result<Vec<Finished>, PromptProblem> {
        if rows.len() <= limit {
            let (texts, forced) = self.batch(unit, prepared, rows, target)?;
            return Ok(texts.into_iter().zip(forced).collect());
        }
        let (mut all, mut first) = (Vec::new(), None::<Vec<u32>>);
        for part in rows[1..].chunks(limit - 1) {
            // the base runs along in each, to compare with
            let with_base = [&rows[..1], part].concat();
            let target = target.or(first.as_deref());
            let (texts, forced) = self.batch(unit, prepared, &with_base, target)?;
            // without a reference, all parts are scored along one text of the base
            first = first.or_else(|| texts.first().map(|text| text.tokens.clone()));
            let skip = usize::from(!all.is_empty());
            all.extend(texts.into_iter().zip(forced).skip(skip));
        }
        Ok(all)
    }
}

/// CUDA says so in words only.
pub(super) fn out_of_memory(error: &impl std::fmt::Display) -> bool {
    let text = error.to_string().to_lowercase();
    text.contains("out of memory") || text.contains("out_of_memory")
}

impl Backend for TextBackend<'_> {
    fn make(&mut self, unit: &Unit) -> Result<Vec<Made>, GridError> {
        let start = Instant::now();
        let prepared = self.prepare(unit)?;
        let rows = self.rows_of(unit, &prepared).map_err(|e| self.about(unit, &e))?;
        let references = &self.suite.prompts[unit.prompt].references;
        let target = self.target(unit, &prepared)?;
        let made = self.batches(unit, &prepared, &rows, target.as_deref());
        let (made, batch) = made.map_err(|e| self.about(unit, &e))?;
        let mut judge = Judge::new(references);
        let mut cells = Vec::new();
        for (completion, forced) in made {
            let judged = Judged { text: &completion.text, forced: Some(forced) };
            let scores = if self.scored { judge.score(&judged)? } else { BTreeMap::new() };
            cells.push(Made {
                scores,
                output: completion.text,
                rendered: prepared.rendered.clone(),
                finish: Some(completion.finish.name().to_owned()),
                prompt_tokens: Some(prepared.tokens.len()),
                tokens: Some(completion.tokens.len()),
                token_ids: completion.tokens,
                truncated: prepared.truncated,
                batch,
                ..Made::default()
            });
        }
        let seconds = start.elapsed().as_secs_f64() / cells.len().max(1) as f64;
        for cell in &mut cells {
            cell.seconds = seconds;
        }
        Ok(cells)
    }
}
