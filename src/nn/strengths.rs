//! Strengths of a batch.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use crate::base::random::Random;

/// How strong each adapter is in each row of a batch: rows × adapters, and where a row has weights by
/// block, × blocks.
///
/// Tensors made from it are kept, as every layer of a model (of a block) asks for the same ones.
#[derive(Debug)]
pub struct Strengths {
    rows: Vec<Vec<f32>>,
    /// One a row; empty if no row has any.
    blocks: Vec<BlockWeights>,
    dropout: Option<Dropout>,
    kept: Mutex<BTreeMap<Vec<(Slot, u32)>, Active>>,
}

/// What the strength is multiplied by in each block, for those adapters that have such weights.
pub type BlockWeights = BTreeMap<usize, Vec<f32>>;

/// Whose change a layer holds, and in which block the layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The adapter, as the rows of [`Strengths`] count them.
    pub adapter: usize,
    /// The block, as [`BlockWeights`] count them; the strength alone counts in a layer outside of all.
    pub block: Option<usize>,
}

impl From<usize> for Slot {
    fn from(adapter: usize) -> Self {
        Self { adapter, block: None }
    }
}

/// What is dropped from the inputs of adapters that are trained: a function of the examples alone, so
/// that neither the batch around them nor a second computation changes it.
#[derive(Debug, Clone)]
pub struct Dropout {
    /// The numbers it is drawn from.
    pub random: Random,
    /// The examples along the batch: each is a row, or, if there is but one row, so many tokens of it.
    pub examples: Vec<Visit>,
}

/// An example of a batch, and how often it was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// Its number in the data.
    pub example: u32,
    /// Visits before this one.
    pub visit: u32,
    /// Its tokens, where examples share a row.
    pub tokens: usize,
}

impl Dropout {
    /// 0 with this probability, else 1 / (1 − probability), for each value of `x`. `lane` is the
    /// layer's number.
    fn mask(&self, x: &Tensor, probability: f64, lane: u32) -> Result<Tensor> {
        let total = x.elem_count();
        let sizes: Vec<usize> = if x.dim(0)? == self.examples.len() {
            vec![total / self.examples.len(); self.examples.len()]
        } else {
            let tokens: usize = self.examples.iter().map(|visit| visit.tokens).sum();
            self.examples.iter().map(|visit| visit.tokens * (total / tokens.max(1))).collect()
        };
        if sizes.iter().sum::<usize>() != total {
            candle_core::bail!("dropout over {:?} for {} examples", x.shape(), sizes.len());
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
        let kept = (1.0 - probability).recip() as f32;
        let parts = self.examples.par_iter().zip(sizes).map(|(visit, size)| {
            let mut draws = self.random.at(visit.example, visit.visit, lane);
            let draw = |_| if draws.uniform() < probability { 0.0 } else { kept };
            (0..size).map(draw).collect::<Vec<f32>>()
        });
        let mask = parts.collect::<Vec<_>>().concat();
        Tensor::from_vec(mask, x.shape(), x.device())
    }
}

impl Active {
    /// These rows of a tensor.
    pub fn of(&self, x: &Tensor) -> Result<Tensor> {
        self.rows.as_ref().map_or_else(|| Ok(x.clone()), |rows| x.index_select(rows, 0))
    }
}

/// The rows in which some adapters act, and by how much.
#[derive(Debug, Clone)]
pub struct Active {
    /// Their indices, (active) u32; `None` if all rows act.
    pub rows: Option<Tensor>,
    /// Strength × scale of each column of the stack, (active, 1, columns) f32.
    pub factors: Tensor,
    /// Whether all of them are 1.
    pub ones: bool,
}

impl Strengths {
    /// One vector of strengths, one number an adapter, for each row.
    pub fn new(rows: Vec<Vec<f32>>) -> Self {
        Self { rows, blocks: Vec::new(), dropout: None, kept: Mutex::default() }
    }

    /// The same with weights by block, one set a row.
    #[must_use]
    pub fn with_blocks(mut self, blocks: Vec<BlockWeights>) -> Self {
        // without any, all blocks share their tensors
        self.blocks = if blocks.iter().all(BTreeMap::is_empty) { Vec::new() } else { blocks };
        self
    }

    /// The same, with dropout in adapters that have one.
    #[must_use]
    pub fn with_dropout(mut self, dropout: Dropout) -> Self {
        self.dropout = Some(dropout);
        self
    }

    /// Whether a training drops values.
    pub(super) fn drops(&self) -> bool {
        self.dropout.is_some()
    }

    /// `x` (f32) with values dropped, if a training asks for it.
    pub(super) fn dropped(&self, x: Tensor, probability: f64, lane: u32) -> Result<Tensor> {
        match &self.dropout {
            Some(dropout) if probability > 0.0 => {
                let x = x.to_dtype(DType::F32)?;
                &x * dropout.mask(&x, probability, lane)?
            }
            _ => Ok(x),
        }
    }

    /// A batch of `rows` rows without adapters.
    pub fn none(rows: usize) -> Self {
        Self::new(vec![Vec::new(); rows])
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, as given.
    pub fn rows(&self) -> &[Vec<f32>] {
        &self.rows
    }

    /// The same for some of the rows only.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let dropout = self.dropout.as_ref().map(|all| Dropout {
            random: all.random,
            examples: rows.iter().filter_map(|row| all.examples.get(*row).copied()).collect(),
        });
        let blocks = rows.iter().filter_map(|row| self.blocks.get(*row).cloned()).collect();
        let rows = rows.iter().map(|row| self.rows[*row].clone()).collect();
        Self { dropout, ..Self::new(rows).with_blocks(blocks) }
    }

    fn at(&self, row: usize, slot: Slot) -> f32 {
        let strength = self.rows[row].get(slot.adapter).copied().unwrap_or(0.0);
        let weights = self.blocks.get(row).and_then(|weights| weights.get(&slot.adapter));
        let weight = weights.zip(slot.block).and_then(|(weights, block)| weights.get(block));
        weight.map_or(strength, |weight| strength * weight)
    }

    /// What layers that share a tensor have in common.
    fn key(&self, slot: Slot) -> Slot {
        if self.blocks.is_empty() { slot.adapter.into() } else { slot }
    }

    /// Where and how strongly `columns` (slot, scale) act; `None` if no row has any of them.
    pub(super) fn active(
        &self,
        columns: &[(Slot, f32)],
        device: &Device,
    ) -> Result<Option<Active>> {
        let acts = |row: &usize| columns.iter().any(|(slot, _)| self.at(*row, *slot) != 0.0);
        if !(0..self.len()).any(|row| acts(&row)) {
            return Ok(None);
        }
        let key: Vec<(Slot, u32)> =
            columns.iter().map(|(slot, scale)| (self.key(*slot), scale.to_bits())).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(active) = kept.get(&key) {
            return Ok(Some(active.clone()));
        }
        let rows: Vec<usize> = (0..self.len()).filter(acts).collect();
        let factors: Vec<f32> = rows
            .iter()
            .flat_map(|row| columns.iter().map(|(slot, scale)| self.at(*row, *slot) * scale))
            .collect();
        let ones = factors.iter().all(|factor| *factor == 1.0);
        let factors = Tensor::from_vec(factors, (rows.len(), 1, columns.len()), device)?;
        let indices = if rows.len() == self.len() {
            None
        } else {
            let indices: Vec<u32> =
                rows.iter().filter_map(|row| u32::try_from(*row).ok()).collect();
            Some(Tensor::new(indices, device)?)
        };
        let active = Active { rows: indices, factors, ones };
        kept.insert(key, active.clone());
        Ok(Some(active))
    }
}
