//! Keys and values of the tokens so far.

use candle_core::{DType, Device, Result, Tensor};

use super::config::Config;

/// Keys and values of a batch. Rows may differ in length: shorter ones have padding in front, which
/// no query sees.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<Option<(Tensor, Tensor)>>,
    starts: Vec<usize>,
    length: usize,
    /// Whether anything is kept.
    keeps: bool,
}

/// One layer's part of a [`Cache`] during a forward pass.
pub(super) struct LayerCache<'a> {
    layer: Option<&'a (Tensor, Tensor)>,
    /// Tokens before this pass.
    before: usize,
    /// Padding of each row.
    starts: &'a [usize],
}

impl Cache {
    pub(super) fn new(layers: usize, starts: Vec<usize>, keeps: bool) -> Self {
        Self { layers: vec![None; layers], starts, length: 0, keeps }
    }

    /// Tokens so far, padding included.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Positions of the next `length` tokens of each row. Padding stands at 0.
    pub(super) fn positions(&self, length: usize) -> Vec<Vec<usize>> {
        let places = self.length..self.length + length;
        self.starts
            .iter()
            .map(|start| places.clone().map(|place| place.saturating_sub(*start)).collect())
            .collect()
    }

    /// Makes room for `length` more tokens.
    pub(super) fn reserve(
        &mut self,
        length: usize,
        config: &Config,
        dtype: DType,
        device: &Device,
    ) -> Result<()> {
        if !self.keeps {
            return Ok(());
        }
        let needed = self.length + length;
        let room = self.layers.first().and_then(Option::as_ref).map_or(0, |(k, _)| k.dims()[2]);
        if needed <= room {
            return Ok(());
        }
        // half as much again: what may come (a million tokens?) is not taken at once
        let capacity = needed + needed / 2 + 32;
        let shape = (self.starts.len(), config.groups, capacity, config.head);
        for layer in &mut self.layers {
            let made = [Tensor::zeros(shape, dtype, device)?, Tensor::zeros(shape, dtype, device)?];
            if let Some((k, v)) = layer.take() {
                for (new, old) in made.iter().zip([k, v]) {
                    new.slice_set(&old.narrow(2, 0, self.length)?.contiguous()?, 2, 0)?;
                }
            }
            let [k, v] = made;
            *layer = Some((k, v));
        }
        Ok(())
    }

    pub(super) fn layer(&self, index: usize) -> LayerCache<'_> {
        LayerCache { layer: self.layers[index].as_ref(), before: self.length, starts: &self.starts }
    }

    pub(super) fn advance(&mut self, length: usize) {
        self.length += length;
    }

    /// A copy that grows on its own.
    pub fn duplicate(&self) -> Result<Self> {
        let copy = |layer: &Option<(Tensor, Tensor)>| {
            layer.as_ref().map(|(k, v)| Ok((self.filled(k)?, self.filled(v)?))).transpose()
        };
        Ok(Self {
            layers: self.layers.iter().map(copy).collect::<Result<_>>()?,
            starts: self.starts.clone(),
            ..*self
        })
    }

    /// What of a buffer is in use, copied.
    fn filled(&self, buffer: &Tensor) -> Result<Tensor> {
        let used = buffer.narrow(2, 0, self.length)?;
        if used.is_contiguous() { used.copy() } else { used.contiguous() }
    }

    /// Keeps these rows only, in this order.
    pub fn select(&mut self, rows: &[usize]) -> Result<()> {
        let indices: Vec<u32> = rows.iter().filter_map(|row| u32::try_from(*row).ok()).collect();
        for (k, v) in self.layers.iter_mut().flatten() {
            let indices = Tensor::new(indices.as_slice(), k.device())?;
            *k = k.index_select(&indices, 0)?;
            *v = v.index_select(&indices, 0)?;
        }
        self.starts = rows.iter().map(|row| self.starts[*row]).collect();
        Ok(())
    }
}

/// Which keys a pass sees.
pub(super) enum Keys<'a> {
    /// Those of a cache and its own.
    Kept(LayerCache<'a>),
    /// Its own; one row holds texts that begin at these places.
    Texts(&'a [usize]),
}

impl Keys<'_> {
    /// Keys and values (rows, groups, length, head) with those before them.
    pub fn append(&self, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Kept(cache) => cache.append(k, v),
            Self::Texts(_) => Ok((k, v)),
        }
    }

    /// Padding of each row.
    pub fn starts(&self) -> Vec<usize> {
        match self {
            Self::Kept(cache) => cache.starts.to_vec(),
            Self::Texts(_) => Vec::new(),
        }
    }

    /// Where the texts of a row begin, if there are several.
    pub fn texts(&self) -> Vec<usize> {
        match self {
            Self::Texts(starts) if starts.len() > 1 => starts.to_vec(),
            _ => Vec::new(),
        }
    }
}

impl LayerCache<'_> {
    /// Appends keys and values (rows, groups, length, head) and gives back all of them. The first
    /// ones are given back as they are, so a gradient passes.
    fn append(&self, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
        let Some((keys, values)) = self.layer else { return Ok((k, v)) };
        let length = k.dim(2)?;
        keys.slice_set(&k.contiguous()?, 2, self.before)?;
        values.slice_set(&v.contiguous()?, 2, self.before)?;
        if self.before == 0 {
            return Ok((k, v));
        }
        let end = self.before + length;
        Ok((keys.narrow(2, 0, end)?, values.narrow(2, 0, end)?))
    }
}
