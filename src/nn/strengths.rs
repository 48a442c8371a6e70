//! Strengths of a batch.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};

/// How strong each adapter is in each row of a batch: rows × adapters.
///
/// Tensors made from it are kept, as every layer of a model asks for the same ones.
#[derive(Debug)]
pub struct Strengths {
    rows: Vec<Vec<f32>>,
    kept: Mutex<BTreeMap<Vec<(usize, u32)>, Active>>,
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
}

impl Strengths {
    /// One vector of strengths, one number an adapter, for each row.
    pub fn new(rows: Vec<Vec<f32>>) -> Self {
        Self { rows, kept: Mutex::default() }
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
        Self::new(rows.iter().map(|row| self.rows[*row].clone()).collect())
    }

    fn at(&self, row: usize, adapter: usize) -> f32 {
        self.rows[row].get(adapter).copied().unwrap_or(0.0)
    }

    /// Where and how strongly `columns` (adapter, scale) act; `None` if no row has any of them.
    pub(super) fn active(
        &self,
        columns: &[(usize, f32)],
        device: &Device,
    ) -> Result<Option<Active>> {
        let acts = |row: &usize| columns.iter().any(|(adapter, _)| self.at(*row, *adapter) != 0.0);
        if !(0..self.len()).any(|row| acts(&row)) {
            return Ok(None);
        }
        let key: Vec<(usize, u32)> =
            columns.iter().map(|(a, scale)| (*a, scale.to_bits())).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(active) = kept.get(&key) {
            return Ok(Some(active.clone()));
        }
        let rows: Vec<usize> = (0..self.len()).filter(acts).collect();
        let factors: Vec<f32> = rows
            .iter()
            .flat_map(|row| columns.iter().map(|(adapter, scale)| self.at(*row, *adapter) * scale))
            .collect();
        let factors = Tensor::from_vec(factors, (rows.len(), 1, columns.len()), device)?;
        let indices = if rows.len() == self.len() {
            None
        } else {
            let indices: Vec<u32> =
                rows.iter().filter_map(|row| u32::try_from(*row).ok()).collect();
            Some(Tensor::new(indices, device)?)
        };
        let active = Active { rows: indices, factors };
        kept.insert(key, active.clone());
        Ok(Some(active))
    }
}
