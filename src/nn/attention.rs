//! Scaled dot-product attention with causal, windowed and padded rows.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Storage, Tensor, bail};

use super::cpu::attention::{Shapes, attend};
use super::cpu::blocks_backward::{Given, attend_backward};
use super::cpu::values;

/// Which keys a query sees and how scores are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Factor of the scores, usually 1/√width.
    pub scale: f32,
    /// `c·tanh(score / c)` (Gemma 2).
    pub softcap: Option<f32>,
    /// Whether a query sees only keys up to its own place.
    pub causal: bool,
    /// A query sees its own key and this many less one before it.
    pub window: Option<usize>,
    /// The first key of each row; those before it are padding. Empty: no padding.
    pub starts: Vec<usize>,
    /// Where the texts that share a row begin, in order; a query sees keys of its own text only.
    /// Empty: a row is one text.
    pub texts: Vec<usize>,
}

impl Attention {
    /// Every query sees every key but those of padding.
    pub fn over_all(scale: f32, starts: Vec<usize>) -> Self {
        Self { scale, softcap: None, causal: false, window: None, starts, texts: Vec::new() }
    }

    /// The first key of a row that is no padding.
    pub fn start(&self, row: usize) -> usize {
        self.starts.get(row).copied().unwrap_or(0)
    }

    /// The keys that query `t` of `queries` sees among `keys`, in row `row`. The last query stands
    /// at the last key.
    pub fn visible(&self, row: usize, t: usize, queries: usize, keys: usize) -> Range<usize> {
        let end = if self.causal { keys - queries + t + 1 } else { keys };
        let from = self.window.map_or(0, |window| end.saturating_sub(window));
        let from = self.start(row).max(from);
        if self.texts.is_empty() {
            return from.min(end)..end;
        }
        let place = keys - queries + t;
        let next = self.texts.partition_point(|start| *start <= place);
        let own = next.checked_sub(1).map_or(0, |text| self.texts[text]);
        let end = self.texts.get(next).map_or(end, |start| end.min(*start));
        from.max(own).min(end)..end
    }

    /// `softmax(scale·q·kᵀ)·v`. q is (rows, heads, queries, width), k and v (rows, groups, keys,
    /// width) with heads a multiple of groups; the result has the shape of q. Queries of padding
    /// give zeros.
    ///
    /// On the CPU none of the three is copied if its features lie side by side, and the result is a
    /// view of (rows, queries, heads, width).
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        self.tokens_first(q, k, v)?.transpose(1, 2)
    }

    /// As [`Self::forward`], with the heads of a token side by side: (rows, queries, heads·width),
    /// what the next linear layer wants.
    pub fn forward_joined(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        self.tokens_first(q, k, v)?.flatten_from(2)
    }

    /// (rows, queries, heads, width)
    fn tokens_first(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (queries, keys) = (q.dim(2)?, k.dim(2)?);
        if keys == 0 || (self.causal && keys < queries) {
            bail!("attention of {queries} queries over {keys} keys");
        }
        if q.device().is_cpu() && q.dtype() == DType::F32 {
            let [q, k, v] = [side_by_side(q)?, side_by_side(k)?, side_by_side(v)?];
            return q.apply_op3(&k, &v, Fused(self.clone()));
        }
        self.composed(q, k, v, HELD)
    }

    /// [`Self::tokens_first`] of differentiable operations, with up to `held` probabilities at once.
    fn composed(&self, q: &Tensor, k: &Tensor, v: &Tensor, held: usize) -> Result<Tensor> {
        let (rows, heads, queries, width) = q.dims4()?;
        let (_, groups, keys, _) = k.dims4()?;
        let (kt, v) = (k.transpose(2, 3)?.contiguous()?, v.contiguous()?);
        let part = |part: Range<usize>| {
            let n = part.len();
            let q = q.narrow(2, part.start, n)?;
            let p = self.probabilities(&q, &kt, (part.start, queries))?;
            let p = p.to_dtype(q.dtype())?.reshape((rows, groups, heads / groups * n, keys))?;
            p.matmul(&v)?.reshape((rows, heads, n, width))?.transpose(1, 2)
        };
        let length = (held / (rows * heads * keys).max(1)).max(1);
        let parts = (0..queries).step_by(length);
        let parts = parts.map(|first| part(first..(first + length).min(queries)));
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?.contiguous()
    }

    /// The probabilities of some queries, (rows, heads, part, keys) f32. `kt` is (rows, groups,
    /// width, keys); q begins at query `first` of `queries`.
    fn probabilities(
        &self,
        q: &Tensor,
        kt: &Tensor,
        (first, queries): (usize, usize),
    ) -> Result<Tensor> {
        let (rows, heads, part, width) = q.dims4()?;
        let (_, groups, _, keys) = kt.dims4()?;
        let q = q.contiguous()?.reshape((rows, groups, heads / groups * part, width))?;
        // scaled first: a product of 16 bits overflows later
        let scores = (&q * f64::from(self.scale))?.matmul(kt)?.to_dtype(DType::F32)?;
        let mut scores = scores.reshape((rows, heads, part, keys))?;
        if let Some(cap) = self.softcap {
            let cap = f64::from(cap);
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        let softmax = |scores: Tensor| -> Result<Tensor> {
            let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
            e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
        };
        let ordered = self.causal || self.window.is_some() || !self.texts.is_empty();
        if !ordered && self.starts.iter().all(|start| *start == 0) {
            return softmax(scores);
        }
        // padding hides the same keys from all queries
        let part = if ordered { part } else { 1 };
        let seen = (0..rows).flat_map(|row| {
            (first..first + part).map(move |t| self.visible(row, t, queries, keys))
        });
        let (mask, seen) = mask(seen, keys);
        let mask = Tensor::from_vec(mask, (rows, 1, part, keys), q.device())?;
        let seen = Tensor::from_vec(seen, (rows, 1, part, 1), q.device())?;
        softmax(scores.broadcast_add(&mask)?)?.broadcast_mul(&seen)
    }
}

/// 0 where a query sees a key, -∞ elsewhere, and 1 where it sees any, 0 elsewhere. A query that sees
/// none has zeros, since a softmax of -∞ alone has no value.
fn mask(visible: impl Iterator<Item = Range<usize>>, keys: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut mask, mut seen) = (Vec::new(), Vec::new());
    for visible in visible {
        let hidden = if visible.is_empty() { 0.0 } else { f32::NEG_INFINITY };
        seen.push(if visible.is_empty() { 0.0 } else { 1.0 });
        mask.extend((0..keys).map(|key| if visible.contains(&key) { 0.0 } else { hidden }));
    }
    (mask, seen)
}

/// The most probabilities of all heads that are held at once.
const HELD: usize = 1 << 24;

/// The tensor, copied only if the features of a head do not lie side by side.
fn side_by_side(x: &Tensor) -> Result<Tensor> {
    if x.stride().last() == Some(&1) { Ok(x.clone()) } else { x.contiguous() }
}

struct Fused(Attention);

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shapes = Shapes::new(q_layout, k_layout, v_layout)?;
        let (rows, heads, queries, width) = q_layout.shape().dims4()?;
        let y = attend(&self.0, &shapes, (q.as_slice()?, k.as_slice()?, v.as_slice()?));
        Ok((CpuStorage::F32(y), (rows, queries, heads, width).into()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let shapes = Shapes::new(q.layout(), k.layout(), v.layout())?;
        let gradient = gradient.contiguous()?;
        let held = [q, k, v, y, &gradient].map(|tensor| tensor.storage_and_layout().0);
        let [in_q, in_k, in_v, in_y, in_g] = held.each_ref().map(|storage| on_cpu(storage));
        let [dq, dk, dv] = attend_backward(Given {
            attention: &self.0,
            shapes: &shapes,
            q: in_q?.as_slice()?,
            k: in_k?.as_slice()?,
            v: in_v?.as_slice()?,
            y: values(in_y?, y.layout())?,
            g: values(in_g?, gradient.layout())?,
        });
        let like = |x: Vec<f32>, of: &Tensor| Tensor::from_vec(x, of.shape(), of.device());
        Ok((Some(like(dq, q)?), Some(like(dk, k)?), Some(like(dv, v)?)))
    }
}

fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("the gradient of attention on the CPU was asked for on another device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_may_be_composed_in_parts() -> Result<()> {
        let attention = Attention {
            scale: 0.6,
            softcap: None,
            causal: true,
            window: Some(9),
            starts: vec![2],
            texts: vec![0, 11, 12],
        };
        let values = |heads: usize, tokens: usize| {
            let n = heads * tokens * 4;
            let values: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
            Tensor::from_vec(values, (1, heads, tokens, 4), &candle_core::Device::Cpu)
        };
        let (q, k, v) = (values(4, 23)?, values(2, 30)?, values(2, 30)?);
        let whole = attention.composed(&q, &k, &v, HELD)?;
        let fused = attention.tokens_first(&q, &k, &v)?;
        for held in [1, 4 * 30 * 5, 4 * 30 * 23] {
            let parts = attention.composed(&q, &k, &v, held)?;
            for other in [&whole, &fused] {
                let error = (&parts - other)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(error < 1e-6, "{held}: {error}");
            }
        }
        Ok(())
    }
}
