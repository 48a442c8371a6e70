//! Several texts in one row, for training: no padding, each attends to itself alone.

use candle_core::{Result, Tensor, bail};

use super::Decoder;
use super::cache::Keys;
use crate::nn::Strengths;
use crate::nn::rotary::Angles;

/// Texts side by side.
#[derive(Debug)]
pub struct Texts {
    /// (1, tokens) u32
    ids: Tensor,
    /// Where each begins.
    starts: Vec<usize>,
    angles: Vec<Angles>,
}

impl Decoder {
    /// Puts texts side by side.
    pub fn texts(&self, texts: &[&[u32]]) -> Result<Texts> {
        let flat = texts.concat();
        if let Some(id) = flat.iter().find(|id| **id as usize >= self.config.vocabulary) {
            bail!("token {id} is outside the vocabulary of {}", self.config.vocabulary);
        }
        let mut starts = Vec::with_capacity(texts.len());
        let mut positions = Vec::with_capacity(flat.len());
        for text in texts {
            starts.push(positions.len());
            positions.extend(0..text.len());
        }
        let positions = [positions];
        let ropes = self.config.ropes.iter();
        let angles = ropes.map(|rope| rope.angles(&positions, &self.device));
        let length = flat.len();
        Ok(Texts {
            angles: angles.collect::<Result<_>>()?,
            ids: Tensor::from_vec(flat, (1, length), &self.device)?,
            starts,
        })
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// The residual stream before the first block, (1, tokens, hidden).
    pub fn embed(&self, texts: &Texts, strengths: &Strengths) -> Result<Tensor> {
        self.embedded(&texts.ids, strengths)
    }

    /// The residual stream after block `index`.
    pub fn block(
        &self,
        index: usize,
        x: &Tensor,
        texts: &Texts,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let block = &self.blocks[index];
        let angles = block.rope().map(|rope| &texts.angles[rope]);
        let keys = Keys::Texts(&texts.starts);
        rayon::scope(|_| block.forward(x, angles, &keys, strengths))
    }

    /// The residual stream after the last norm.
    pub fn finish(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x)
    }
}
