//! What captions say to the denoiser.
//!
//! A caption's tokens go to the text encoders in rows of 77, as when pictures are drawn: 75 of them
//! between the tokens of start and end, and up to `max_caption_tokens` in all. Captions of fewer rows
//! than others in the batch begin with padding that the denoiser does not see.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::base::digest::sha256;
use crate::config::Settings;
use crate::data::cache::{Cache, Key};
use crate::data::image::is_random;
use crate::generate::conditioning::{CHUNK_TOKENS, ROW};
use crate::generate::image::{ImageError, ImageModel};
use crate::model::diffusion::{Added, Context};
use crate::nn::{Dropout, Strengths, Visit};
use crate::tensors::{self, Float};
use crate::text::ClipTokenizer;
use crate::train::TrainError;

/// A caption as the denoiser reads it.
#[derive(Debug, Clone)]
pub struct Said {
    /// (tokens, width)
    tokens: Tensor,
    /// (width)
    pooled: Tensor,
}

/// The captions of a training.
#[derive(Debug)]
pub struct Texts {
    clip_skip: usize,
    most_tokens: usize,
    /// Whether encoders are trained, so that nothing can be kept.
    trained: bool,
    cache: Option<(Cache, String)>,
    /// Where captions are few.
    kept: Option<Mutex<BTreeMap<String, Said>>>,
}

impl Texts {
    /// `encoder` is the hash of the text encoders' weights, for the cache.
    pub fn new(settings: &Settings, cache: Option<(Cache, String)>) -> Self {
        Self {
            clip_skip: settings.base.clip_skip,
            most_tokens: settings.data.image.max_caption_tokens,
            trained: settings.adapter.text_encoder,
            cache,
            kept: (!is_random(&settings.data.image)).then(Mutex::default),
        }
    }

    /// What captions say, each at its own visit's dropout and at this strength of the adapter.
    pub fn encode(
        &self,
        model: &ImageModel,
        captions: &[String],
        (strength, dropout): (f32, Option<&Dropout>),
    ) -> Result<Vec<Said>, TrainError> {
        if self.trained {
            return Ok(self.run(model, captions, (strength, dropout))?);
        }
        let known = |caption: &String| {
            let kept = self.kept.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get(caption).cloned()
        };
        let mut said = Vec::with_capacity(captions.len());
        for caption in captions {
            said.push(match known(caption) {
                Some(known) => known,
                None => self.once(model, caption)?,
            });
        }
        Ok(said)
    }

    /// Encodes a caption whose encoding will be wanted again.
    fn once(&self, model: &ImageModel, caption: &str) -> Result<Said, TrainError> {
        let said = if let Some(said) = self.read(model, caption) {
            said
        } else {
            let all = self.run(model, &[caption.to_owned()], (0.0, None))?;
            let Some(said) = all.into_iter().next() else {
                return Err(candle_core::Error::Msg("no text".to_owned()).into());
            };
            self.keep(&said, caption)?;
            said
        };
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.insert(caption.to_owned(), said.clone());
        }
        Ok(said)
    }

    fn key(&self, encoder: &str, caption: &str) -> Key {
        let settings = format!("skip {} tokens {}", self.clip_skip, self.most_tokens);
        Key::new("text", &[&sha256(caption.as_bytes()), encoder, &settings])
    }

    /// What the cache holds of a caption.
    fn read(&self, model: &ImageModel, caption: &str) -> Option<Said> {
        let (cache, encoder) = self.cache.as_ref()?;
        let entry = cache.get(&self.key(encoder, caption))?;
        let tensor = |name: &str| -> Option<Tensor> {
            let of = entry.get(name)?;
            let values = of.to_f32(name).ok()?;
            let dtype = model.diffusion.unet.dtype();
            Tensor::from_vec(values, of.shape(), &model.diffusion.device).ok()?.to_dtype(dtype).ok()
        };
        Some(Said { tokens: tensor("tokens")?, pooled: tensor("pooled")? })
    }

    /// Puts it there.
    fn keep(&self, said: &Said, caption: &str) -> Result<(), TrainError> {
        let Some((cache, encoder)) = &self.cache else { return Ok(()) };
        let tensor = |of: &Tensor| -> Result<tensors::Tensor, TrainError> {
            let values = super::super::parameters::host(of)?;
            Ok(tensors::Tensor::from_f32(of.dims().to_vec(), &values, Float::F32))
        };
        let entry = BTreeMap::from([
            ("tokens".to_owned(), tensor(&said.tokens)?),
            ("pooled".to_owned(), tensor(&said.pooled)?),
        ]);
        cache.put(&self.key(encoder, caption), &entry, &format!("caption `{caption}`"))?;
        Ok(())
    }

    fn run(
        &self,
        model: &ImageModel,
        captions: &[String],
        (strength, dropout): (f32, Option<&Dropout>),
    ) -> Result<Vec<Said>, ImageError> {
        let diffusion = &model.diffusion;
        let skip = diffusion.skip(self.clip_skip);
        // both of SDXL's encoders are given as many rows
        let mut rows = vec![1; captions.len()];
        let mut ids: Vec<Vec<Vec<u32>>> = Vec::new();
        for tokenizer in &model.tokenizers {
            let of = captions.iter().map(|caption| self.ids(tokenizer, caption));
            let of = of.collect::<Result<Vec<_>, _>>()?;
            for (most, ids) in rows.iter_mut().zip(&of) {
                *most = (*most).max(ids.len().div_ceil(CHUNK_TOKENS));
            }
            ids.push(of);
        }
        let (mut hidden, mut pooled) = (Vec::new(), None);
        for ((encoder, tokenizer), ids) in diffusion.text.iter().zip(&model.tokenizers).zip(&ids) {
            let all = ids.iter().zip(&rows).flat_map(|(ids, rows)| chunks(tokenizer, ids, *rows));
            let strengths = chunk_strengths(&rows, strength, dropout);
            let all: Vec<Vec<u32>> = all.collect();
            let encoded =
                encoder.encode(&all, tokenizer.eos(), skip, &strengths, &diffusion.device)?;
            hidden.push(encoded.hidden);
            // the last encoder's
            pooled = Some(encoded.pooled);
        }
        let (hidden, Some(pooled)) = (Tensor::cat(&hidden, 2)?, pooled) else {
            return Err(candle_core::Error::Msg("no text encoder".to_owned()).into());
        };
        let mut first = 0;
        let said = rows.iter().map(|rows| {
            let own = hidden.narrow(0, first, *rows)?;
            let width = own.dim(2)?;
            let said =
                Said { tokens: own.reshape((rows * ROW, width))?, pooled: pooled.get(first)? };
            first += rows;
            Ok(said)
        });
        said.collect()
    }

    /// The ids of a caption, as many as are read.
    fn ids(&self, tokenizer: &ClipTokenizer, caption: &str) -> Result<Vec<u32>, ImageError> {
        let mut ids = tokenizer.encode(caption)?;
        ids.truncate(self.most_tokens);
        Ok(ids)
    }
}

/// Rows of 77.
fn chunks(tokenizer: &ClipTokenizer, ids: &[u32], rows: usize) -> Vec<Vec<u32>> {
    let chunk = |part: &[u32]| {
        let mut row = vec![tokenizer.bos()];
        row.extend(part);
        row.push(tokenizer.eos());
        row.resize(ROW, tokenizer.pad());
        row
    };
    let mut all: Vec<Vec<u32>> = ids.chunks(CHUNK_TOKENS).map(chunk).collect();
    all.resize_with(rows, || chunk(&[]));
    all
}

/// One strength for every row of 77.
fn chunk_strengths(rows: &[usize], strength: f32, dropout: Option<&Dropout>) -> Strengths {
    let strengths = Strengths::new(vec![vec![strength]; rows.iter().sum()]);
    let Some(dropout) = dropout else { return strengths };
    let examples = dropout.examples.iter().zip(rows).flat_map(|(visit, rows)| {
        // further rows of a caption have numbers of their own, far from those of other visits
        (0..*rows).map(|row| Visit {
            visit: visit.visit.wrapping_add(u32::try_from(row).unwrap_or(0) << 24),
            ..*visit
        })
    });
    strengths.with_dropout(Dropout { random: dropout.random, examples: examples.collect() })
}

/// A batch of what captions say; `time_ids` are SDXL's.
pub fn together(
    said: &[Said],
    time_ids: Option<Vec<[f32; 6]>>,
) -> candle_core::Result<(Context, Option<Added>)> {
    let longest = said.iter().map(|said| said.tokens.dims()[0]).max().unwrap_or(0);
    let (mut tokens, mut starts) = (Vec::new(), Vec::new());
    for said in said {
        let missing = longest - said.tokens.dim(0)?;
        starts.push(missing);
        let padded = if missing == 0 {
            said.tokens.clone()
        } else {
            said.tokens.pad_with_zeros(0, missing, 0)?
        };
        tokens.push(padded);
    }
    if starts.iter().all(|start| *start == 0) {
        starts.clear();
    }
    let context = Context { tokens: Tensor::stack(&tokens, 0)?, starts };
    let added = match time_ids {
        None => None,
        Some(time_ids) => {
            let pooled: Vec<&Tensor> = said.iter().map(|said| &said.pooled).collect();
            Some(Added { pooled: Tensor::stack(&pooled, 0)?, time_ids })
        }
    };
    Ok((context, added))
}
