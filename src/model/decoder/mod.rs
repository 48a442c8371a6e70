//! Decoder-only language models: one description, one forward pass.
//!
//! - [`Config`]: what `config.json` (or a GGUF header) says, as switches
//! - [`Decoder`]: the layers, built over the base's own bytes, with adapters attached
//! - [`Cache`]: keys and values of a batch whose rows may differ in length
//!
//! Invariant: a row's result depends on its own tokens and strengths; rows of a batch share nothing
//! but the weights.

mod attach;
mod block;
mod cache;
mod config;
mod error;
mod load;
mod rope;
mod texts;

pub use attach::Attached;
pub use cache::Cache;
pub use config::{Config, KNOWN, Layer};
pub use error::{ConfigError, DecoderError};
pub use texts::Texts;

use candle_core::{DType, Device, IndexOp as _, Result, Tensor};

use crate::model::Blocks;
use crate::nn::{Embedding, Linear, RmsNorm, Strengths};
use block::Block;
use cache::Keys;

/// A language model on a device.
#[derive(Debug)]
pub struct Decoder {
    /// What it is built like.
    pub config: Config,
    /// Its blocks, as weights by block count them.
    pub block_list: Blocks,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    device: Device,
    dtype: DType,
}

/// Which positions' logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Of the last position only.
    Last,
    /// Of all positions.
    All,
}

impl Decoder {
    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type it computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// An empty cache. `starts` is the padding before each row's first token. One that does not keep
    /// anything serves a single pass.
    pub fn cache(&self, starts: Vec<usize>, keeps: bool) -> Cache {
        Cache::new(self.blocks.len(), starts, keeps)
    }

    /// Runs `tokens`, as many for each row (padding in front counted), after what `cache` holds, and
    /// appends their keys and values to it. The result is (rows, wanted, vocabulary) in f32.
    pub fn forward(
        &self,
        tokens: &[Vec<u32>],
        cache: &mut Cache,
        strengths: &Strengths,
        want: Want,
    ) -> Result<Tensor> {
        let hidden = self.hidden(tokens, cache, strengths)?;
        let hidden = match want {
            Want::All => hidden,
            Want::Last => hidden.i((.., hidden.dim(1)? - 1.., ..))?.contiguous()?,
        };
        self.logits(&hidden, strengths)
    }

    /// The residual stream after the last norm, (rows, length, hidden).
    pub fn hidden(
        &self,
        tokens: &[Vec<u32>],
        cache: &mut Cache,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        // on a thread of the pool, so that its many small products need not be handed over one by one
        rayon::scope(|_| self.residual(tokens, cache, strengths))
    }

    fn residual(
        &self,
        tokens: &[Vec<u32>],
        cache: &mut Cache,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let (rows, length) = (tokens.len(), tokens.first().map_or(0, Vec::len));
        let flat: Vec<u32> = tokens.iter().flatten().copied().collect();
        let ids = Tensor::from_vec(flat, (rows, length), &self.device)?;
        let positions = cache.positions(length);
        let angles = self
            .config
            .ropes
            .iter()
            .map(|rope| rope.angles(&positions, &self.device))
            .collect::<Result<Vec<_>>>()?;
        let mut x = self.embedded(&ids, strengths)?;
        cache.reserve(length, &self.config, self.dtype, &self.device)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let angles = block.rope().map(|rope| &angles[rope]);
            x = block.forward(&x, angles, &Keys::Kept(cache.layer(index)), strengths)?;
        }
        cache.advance(length);
        self.norm.forward(&x)
    }

    /// The embeddings of `ids`, scaled where the model does so.
    fn embedded(&self, ids: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let x = self.embedding.forward(ids, strengths)?;
        match self.config.embedding_scale {
            None => Ok(x),
            Some(scale) => {
                // as the peers do: the factor is rounded to the type of the embeddings
                let scale = Tensor::new(scale, &self.device)?.to_dtype(self.dtype)?;
                x.broadcast_mul(&scale)
            }
        }
    }

    /// Logits of a residual stream from [`Decoder::hidden`], f32.
    pub fn logits(&self, hidden: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let logits = rayon::scope(|_| self.head.forward(hidden, strengths))?;
        let logits = logits.to_dtype(DType::F32)?;
        match self.config.logit_cap {
            None => Ok(logits),
            Some(cap) => (logits / f64::from(cap))?.tanh()? * f64::from(cap),
        }
    }

    /// The length (in tokens of a row) beyond which cached keys must be made again, if there is one.
    pub fn switches_at(&self) -> Option<usize> {
        self.config.ropes.iter().filter_map(rope::Rope::switches_at).min()
    }
}
