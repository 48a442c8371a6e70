//! Language models: next-token loss over packed texts.
//!
//! The texts of a micro-batch lie side by side in one row without padding; each attends to itself
//! alone. Logits are made for learnt tokens only, some at a time, so their memory does not grow with
//! the batch.

use std::ops::Range;

use candle_core::{Tensor, Var};

use super::backward::{Chain, Pass, backward};
use super::task::{Loss, Task};
use super::{Gradients, Parameters, TrainError};
use crate::base::random::Random;
use crate::config::Settings;
use crate::data::text::{TextExample, pack};
use crate::model::Base;
use crate::model::decoder::{Decoder, Texts};
use crate::nn::{Dropout, Strengths, Visit, cross_entropy};

/// Learnt tokens whose logits are held at once.
const CHUNK: usize = 256;

/// A language model and its texts.
#[derive(Debug)]
pub struct TextTask {
    /// The model, adapter number 0 being trained.
    pub decoder: Decoder,
    /// What is visited as one: an example, or those that share a row.
    rows: Vec<Vec<TextExample>>,
    held_out: Vec<Vec<TextExample>>,
    repeats: usize,
    dropout: Option<Random>,
    exact: bool,
}

impl TextTask {
    /// Attaches `parameters` to the model.
    pub fn new(
        mut decoder: Decoder,
        parameters: &Parameters,
        (examples, held_out): (Vec<TextExample>, Vec<TextExample>),
        settings: &Settings,
        base: &Base,
    ) -> Result<Self, TrainError> {
        for (id, trained) in parameters.trained() {
            if !decoder.train(&id.path, trained) {
                return Err(TrainError::NoTarget {
                    target: id.path,
                    base: base.path.clone(),
                    hint: "this layer is a part of a fused one, or not a linear layer; name others in `adapter.targets`".to_owned(),
                });
            }
        }
        let text = &settings.data.text;
        // products with quantised blocks round their inputs
        let exact = decoder.dtype() == candle_core::DType::F32 && base.gguf.is_none();
        Ok(Self {
            exact,
            decoder,
            rows: rows(examples, text.packing.then_some(text.max_length)),
            held_out: rows(held_out, None),
            repeats: settings.data.repeats,
            dropout: (settings.adapter.dropout > 0.0)
                .then(|| Random::new(settings.run.seed, "dropout")),
        })
    }

    fn row(&self, visit: Visit) -> &[TextExample] {
        &self.rows[visit.example as usize]
    }

    fn prepare(&self, rows: &[&[TextExample]]) -> Result<Batch, TrainError> {
        let examples =
            rows.iter().enumerate().flat_map(|(row, of)| of.iter().map(move |e| (row, e)));
        let tokens: Vec<&[u32]> =
            examples.clone().map(|(_, example)| &example.tokens[..]).collect();
        let mut batch = Batch {
            texts: self.decoder.texts(&tokens)?,
            places: Vec::new(),
            targets: Vec::new(),
            owners: Vec::new(),
        };
        let mut start = 0;
        for (owner, example) in examples {
            for (place, pair) in example.tokens.windows(2).enumerate() {
                if example.trained[place + 1] {
                    batch.places.push(u32::try_from(start + place).unwrap_or(u32::MAX));
                    batch.targets.push(pair[1]);
                    batch.owners.push(owner);
                }
            }
            start += example.tokens.len();
        }
        Ok(batch)
    }

    /// Losses of a batch whose last residual stream is `hidden`; with `gradient`, that of
    /// Σ loss / total too, where `gradients` takes those of the head's variables.
    fn end(
        &self,
        batch: &Batch,
        (hidden, strengths): (&Tensor, &Strengths),
        mut gradient: Option<(f64, &mut Gradients)>,
    ) -> Result<(Vec<f64>, Option<Tensor>), TrainError> {
        let places = Tensor::new(batch.places.as_slice(), hidden.device())?;
        let learnt = hidden.index_select(&places, 1)?.detach();
        let (mut sums, mut slopes) = (vec![0.0; batch.owner_count()], Vec::new());
        for (chunk, targets) in batch.targets.chunks(CHUNK).enumerate() {
            let first = chunk * CHUNK;
            let part = learnt.narrow(1, first, targets.len())?.contiguous()?;
            let part =
                if gradient.is_some() { Var::from_tensor(&part)?.into_inner() } else { part };
            let logits = self.decoder.logits(&part, strengths)?.squeeze(0)?;
            let losses = cross_entropy(&logits, targets)?;
            for (loss, owner) in losses.to_vec1::<f32>()?.iter().zip(&batch.owners[first..]) {
                sums[*owner] += f64::from(*loss);
            }
            if let Some((total, gradients)) = &mut gradient {
                let mut found = (losses.sum_all()? * total.recip())?.backward()?;
                gradients.add(&mut found)?;
                slopes.push(found.remove(&part).map_or_else(|| part.zeros_like(), Ok)?.detach());
            }
        }
        if gradient.is_none() {
            return Ok((sums, None));
        }
        let zeros = hidden.zeros_like()?;
        if slopes.is_empty() {
            return Ok((sums, Some(zeros)));
        }
        let slopes = Tensor::cat(&slopes, 1)?;
        Ok((sums, Some(zeros.index_add(&places, &slopes.contiguous()?, 1)?)))
    }

    fn strengths(&self, batch: &[Visit], strength: f32) -> Strengths {
        let strengths = Strengths::new(vec![vec![strength]]);
        match self.dropout {
            None => strengths,
            Some(random) => {
                let with_tokens =
                    |visit: &Visit| Visit { tokens: tokens(self.row(*visit)), ..*visit };
                let examples = batch.iter().map(with_tokens).collect();
                strengths.with_dropout(Dropout { random, examples })
            }
        }
    }

    fn forward(&self, batch: &Batch, strengths: &Strengths) -> Result<Vec<f64>, TrainError> {
        let chain = Blocks { decoder: &self.decoder, texts: &batch.texts, strengths };
        let mut state = vec![self.decoder.embed(&batch.texts, strengths)?];
        for link in 0..chain.links() {
            state = chain.run(link, state)?.iter().map(Tensor::detach).collect();
        }
        Ok(self.end(batch, (&state[0], strengths), None)?.0)
    }
}

/// Texts side by side, and what is learnt of them.
struct Batch {
    texts: Texts,
    /// Where the token before a learnt one stands.
    places: Vec<u32>,
    targets: Vec<u32>,
    /// Whose they are.
    owners: Vec<usize>,
}

impl Batch {
    fn owner_count(&self) -> usize {
        self.owners.last().map_or(0, |last| last + 1)
    }
}

/// The blocks of a decoder and its last norm.
struct Blocks<'a> {
    decoder: &'a Decoder,
    texts: &'a Texts,
    strengths: &'a Strengths,
}

impl Chain for Blocks<'_> {
    fn links(&self) -> usize {
        self.decoder.depth() + 1
    }

    fn run(&self, link: usize, state: Vec<Tensor>) -> candle_core::Result<Vec<Tensor>> {
        let [x] = state.as_slice() else { candle_core::bail!("a residual stream is one tensor") };
        Ok(vec![if link == self.decoder.depth() {
            self.decoder.finish(x)?
        } else {
            self.decoder.block(link, x, self.texts, self.strengths)?
        }])
    }
}

impl Task for TextTask {
    fn repeats(&self) -> Vec<usize> {
        vec![self.repeats; self.rows.len()]
    }

    fn weight(&self, visit: Visit) -> f64 {
        learnt(self.row(visit))
    }

    fn batches(&self, visits: &[Visit], size: usize) -> Vec<Vec<Visit>> {
        visits.chunks(size.max(1)).map(<[Visit]>::to_vec).collect()
    }

    fn largest(&self, size: usize) -> Vec<Visit> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|row| std::cmp::Reverse(tokens(&self.rows[*row])));
        let visit = |example: &usize| Visit {
            example: u32::try_from(*example).unwrap_or(u32::MAX),
            visit: 0,
            tokens: 0,
        };
        order.iter().take(size).map(visit).collect()
    }

    fn backward(
        &self,
        batch: &[Visit],
        total: f64,
        pass: Pass<'_>,
        gradients: &mut Gradients,
    ) -> Result<Vec<Loss>, TrainError> {
        let rows: Vec<&[TextExample]> = batch.iter().map(|visit| self.row(*visit)).collect();
        let (prepared, strengths) = (self.prepare(&rows)?, self.strengths(batch, 1.0));
        let chain =
            Blocks { decoder: &self.decoder, texts: &prepared.texts, strengths: &strengths };
        let start = [self.decoder.embed(&prepared.texts, &strengths)?];
        let mut of_head = Gradients::like(gradients);
        let (sums, _) = backward(&chain, &start, pass, gradients, |hidden| {
            let gradient = Some((total, &mut of_head));
            let (sums, slope) = self.end(&prepared, (hidden, &strengths), gradient)?;
            Ok((sums, slope.map_or_else(|| hidden.zeros_like(), Ok)?))
        })?;
        gradients.merge(of_head)?;
        Ok(losses(batch, &rows, &sums))
    }

    fn loss(&self, batch: &[Visit], strength: f32) -> Result<Vec<Loss>, TrainError> {
        let rows: Vec<&[TextExample]> = batch.iter().map(|visit| self.row(*visit)).collect();
        let sums = self.forward(&self.prepare(&rows)?, &self.strengths(batch, strength))?;
        Ok(losses(batch, &rows, &sums))
    }

    fn held_out(&self) -> usize {
        self.held_out.len()
    }

    fn held_out_loss(&self, range: Range<usize>) -> Result<Vec<Loss>, TrainError> {
        let rows: Vec<&[TextExample]> = self
            .held_out
            .get(range.clone())
            .unwrap_or_default()
            .iter()
            .map(Vec::as_slice)
            .collect();
        let sums = self.forward(&self.prepare(&rows)?, &Strengths::new(vec![vec![1.0]]))?;
        let visit = |example| Visit {
            example: u32::try_from(example).unwrap_or(u32::MAX),
            visit: 0,
            tokens: 0,
        };
        let visits: Vec<Visit> = range.map(visit).collect();
        Ok(losses(&visits, &rows, &sums))
    }

    fn is_exact(&self) -> bool {
        self.exact
    }

    fn name(&self, example: u32) -> String {
        let row = self.rows.get(example as usize).map_or(&[][..], Vec::as_slice);
        let lines: Vec<String> = row.iter().map(|of| of.line.to_string()).collect();
        format!("line {}", crate::base::hint::first_few(&lines))
    }
}

/// Examples in rows of at most so many tokens, or each by itself.
fn rows(examples: Vec<TextExample>, row: Option<usize>) -> Vec<Vec<TextExample>> {
    let Some(row) = row else { return examples.into_iter().map(|one| vec![one]).collect() };
    let lengths: Vec<usize> = examples.iter().map(|example| example.tokens.len()).collect();
    let packed = pack(&lengths, row).into_iter();
    packed.map(|row| row.into_iter().map(|place| examples[place].clone()).collect()).collect()
}

fn tokens(row: &[TextExample]) -> usize {
    row.iter().map(|example| example.tokens.len()).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a row has fewer tokens than 2^53")]
fn learnt(row: &[TextExample]) -> f64 {
    row.iter().map(TextExample::trained_count).sum::<usize>() as f64
}

fn losses(batch: &[Visit], rows: &[&[TextExample]], sums: &[f64]) -> Vec<Loss> {
    let all = batch.iter().zip(rows).enumerate();
    all.map(|(place, (visit, row))| Loss {
        example: visit.example,
        sum: sums.get(place).copied().unwrap_or(0.0),
        weight: learnt(row),
        time: None,
    })
    .collect()
}
