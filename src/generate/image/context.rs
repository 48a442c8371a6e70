//! What the denoiser is told: texts encoded at every row's strengths.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::draw::{Job, RowStrengths};
use super::{ImageError, ImageModel};
use crate::generate::conditioning::{Chunks, PromptPlan, ROW, emphasise};
use crate::model::diffusion::{Added, Context, Family};
use crate::nn::{BlockWeights, Strengths};
use crate::prompt::Fragment;

/// A text as the denoiser reads it, at each of the distinct strengths.
struct Read {
    /// (strengths, tokens, width)
    tokens: Tensor,
    /// (strengths, width)
    pooled: Tensor,
}

/// The texts of a job.
pub(super) struct Texts<'a> {
    model: &'a ImageModel,
    prompt: &'a PromptPlan,
    negative: &'a PromptPlan,
    /// Texts of the prompt, then those of the negative prompt.
    read: Vec<Read>,
    /// Which of the distinct strengths each row has, (rows) u32.
    which: Tensor,
    size: (usize, usize),
    /// The last batch that was put together.
    kept: Option<(Vec<usize>, Context, Option<Added>)>,
}

impl<'a> Texts<'a> {
    /// Encodes every text of a job.
    pub fn new(
        model: &'a ImageModel,
        (prompt, negative): (&'a PromptPlan, &'a PromptPlan),
        job: &Job<'_>,
        rows: &[RowStrengths],
    ) -> Result<Self, ImageError> {
        // rows that differ in the denoiser only share their texts
        let mut distinct: Vec<Vec<f32>> = Vec::new();
        let mut which = Vec::new();
        for row in rows {
            let strengths = row.in_texts();
            let place = distinct.iter().position(|known| *known == strengths);
            which.push(u32::try_from(place.unwrap_or(distinct.len())).unwrap_or(u32::MAX));
            if place.is_none() {
                distinct.push(strengths);
            }
        }
        let which = Tensor::new(which, &model.diffusion.device)?;
        let all = prompt.texts().iter().chain(negative.texts()).enumerate();
        let mut read = Vec::new();
        for (index, text) in all {
            let mut one = encode(model, &text.fragments, &distinct, job.clip_skip)?;
            // nothing said against is told to SDXL as zeros
            if index >= prompt.texts().len() && model.negative_is_zeros(job.negative) {
                one.tokens = one.tokens.zeros_like()?;
                one.pooled = one.pooled.zeros_like()?;
            }
            read.push(one);
        }
        let size = (job.width, job.height);
        Ok(Self { model, prompt, negative, read, which, size, kept: None })
    }

    /// Weights of the prompts at a step, from 0.
    pub fn weights(&self, step: usize) -> Vec<f64> {
        self.prompt.at(step).iter().map(|(_, weight)| *weight).collect()
    }

    /// The batch at a step, from 0: the negative prompt's rows, if wanted, then those of each part.
    pub fn at(
        &mut self,
        step: usize,
        guided: bool,
    ) -> Result<(&Context, Option<&Added>), ImageError> {
        let negative = self.negative.at(step).iter().take(usize::from(guided));
        let first = self.prompt.texts().len();
        let mut wanted: Vec<usize> = negative.map(|(index, _)| first + index).collect();
        wanted.extend(self.prompt.at(step).iter().map(|(index, _)| *index));
        if self.kept.as_ref().is_none_or(|(kept, _, _)| *kept != wanted) {
            let (context, added) = self.together(&wanted)?;
            self.kept = Some((wanted, context, added));
        }
        match &self.kept {
            Some((_, context, added)) => Ok((context, added.as_ref())),
            None => Err(candle_core::Error::Msg("no text".to_owned()).into()),
        }
    }

    fn together(&self, wanted: &[usize]) -> Result<(Context, Option<Added>), ImageError> {
        let texts: Vec<&Read> = wanted.iter().filter_map(|index| self.read.get(*index)).collect();
        let of_rows = |x: &Tensor| x.index_select(&self.which, 0);
        let longest = texts.iter().map(|text| text.tokens.dims()[1]).max().unwrap_or(0);
        let (mut tokens, mut starts) = (Vec::new(), Vec::new());
        for text in &texts {
            let tokens_of_rows = of_rows(&text.tokens)?;
            let (rows, length, _) = tokens_of_rows.dims3()?;
            // the denoiser does not see this padding: a longer text beside it changes nothing
            tokens.push(tokens_of_rows.pad_with_zeros(1, longest - length, 0)?);
            starts.extend(vec![longest - length; rows]);
        }
        if starts.iter().all(|start| *start == 0) {
            starts.clear();
        }
        let context = Context { tokens: Tensor::cat(&tokens, 0)?.contiguous()?, starts };
        if self.model.diffusion.family != Family::Sdxl {
            return Ok((context, None));
        }
        let pooled = texts.iter().map(|text| of_rows(&text.pooled));
        let pooled = Tensor::cat(&pooled.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        let ids = [height, width, 0.0, 0.0, height, width];
        let time_ids = vec![ids; pooled.dim(0)?];
        Ok((context, Some(Added { pooled, time_ids })))
    }
}

/// One text at each vector of strengths.
fn encode(
    model: &ImageModel,
    fragments: &[Fragment],
    strengths: &[Vec<f32>],
    clip_skip: usize,
) -> Result<Read, ImageError> {
    let chunks = model.tokenizers.iter().map(|tokenizer| Chunks::new(tokenizer, fragments));
    let mut chunks = chunks.collect::<Result<Vec<_>, _>>()?;
    let count = chunks.iter().map(|chunks| chunks.ids.len()).max().unwrap_or(0);
    for chunks in &mut chunks {
        chunks.pad_to(count);
    }
    let diffusion = &model.diffusion;
    let skip = diffusion.skip(clip_skip);
    let rows = strengths.len();
    let repeated: Vec<Vec<f32>> =
        strengths.iter().flat_map(|row| vec![row.clone(); count]).collect();
    let repeated = Strengths::new(repeated);
    let (mut hidden, mut pooled) = (Vec::new(), None);
    for ((encoder, tokenizer), chunks) in diffusion.text.iter().zip(&model.tokenizers).zip(&chunks)
    {
        let ids: Vec<Vec<u32>> =
            (0..rows).flat_map(|_| chunks.ids.iter().map(|ids| ids.to_vec())).collect();
        let encoded = encoder.encode(&ids, tokenizer.eos(), skip, &repeated, &diffusion.device)?;
        let emphasised = weighted(&encoded.hidden, chunks)?;
        hidden.push(emphasised.reshape((rows, count * ROW, encoder.width()))?);
        // of the first chunk
        let firsts: Vec<u32> =
            (0..rows).filter_map(|row| u32::try_from(row * count).ok()).collect();
        let firsts = Tensor::new(firsts, &diffusion.device)?;
        pooled = Some(encoded.pooled.index_select(&firsts, 0)?);
    }
    let Some(pooled) = pooled else {
        return Err(candle_core::Error::Msg("no text encoder".to_owned()).into());
    };
    Ok(Read { tokens: Tensor::cat(&hidden, 2)?, pooled })
}

/// Emphasis on what an encoder made of the chunks.
fn weighted(hidden: &Tensor, chunks: &Chunks) -> Result<Tensor, ImageError> {
    if chunks.weights.iter().flatten().all(|weight| *weight == 1.0) {
        return Ok(hidden.clone());
    }
    let (rows, _, width) = hidden.dims3()?;
    let mut values = hidden.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    for (row, weights) in
        values.chunks_exact_mut(ROW * width).zip(chunks.weights.iter().cycle().take(rows))
    {
        emphasise(row, weights)?;
    }
    let shape = hidden.shape().clone();
    Ok(Tensor::from_vec(values, shape, hidden.device())?.to_dtype(hidden.dtype())?)
}

/// Strengths of a batch of so many groups of the same rows.
pub(super) struct Batches {
    rows: Vec<(Vec<f32>, BlockWeights)>,
    kept: BTreeMap<usize, Strengths>,
}

impl Batches {
    pub fn new(rows: &[RowStrengths]) -> Self {
        let rows = rows.iter().map(|row| (row.unet.clone(), row.blocks.clone())).collect();
        Self { rows, kept: BTreeMap::new() }
    }

    pub fn of(&mut self, groups: usize) -> &Strengths {
        let rows = &self.rows;
        self.kept.entry(groups).or_insert_with(|| {
            let (all, blocks) = (0..groups).flat_map(|_| rows.iter().cloned()).unzip();
            Strengths::new(all).with_blocks(blocks)
        })
    }
}
