//! Scaled dot-product attention with causal, windowed and padded rows.

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};

use super::cpu::attention::{Shapes, attend};

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
}

impl Attention {
    /// Every query sees every key but those of padding.
    pub fn over_all(scale: f32, starts: Vec<usize>) -> Self {
        Self { scale, softcap: None, causal: false, window: None, starts }
    }

    /// The keys that query `t` of `queries` sees among `keys`, in row `row`. The last query stands
    /// at the last key.
    pub fn visible(
        &self,
        row: usize,
        t: usize,
        queries: usize,
        keys: usize,
    ) -> std::ops::Range<usize> {
        let start = self.starts.get(row).copied().unwrap_or(0);
        let end = if self.causal { keys - queries + t + 1 } else { keys };
        let from = self.window.map_or(0, |window| end.saturating_sub(window));
        start.max(from).min(end)..end
    }

    /// `softmax(scale·q·kᵀ)·v`. q is (rows, heads, queries, width), k and v (rows, groups, keys,
    /// width) with heads a multiple of groups; the result has the shape of q. Queries of padding
    /// give zeros.
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (queries, keys) = (q.dim(2)?, k.dim(2)?);
        if keys == 0 || (self.causal && keys < queries) {
            bail!("attention of {queries} queries over {keys} keys");
        }
        if q.device().is_cpu() && q.dtype() == DType::F32 {
            return q.contiguous()?.apply_op3(k, v, Fused(self.clone()));
        }
        let (p, _) = self.probabilities(q, k)?;
        let (rows, heads, queries, width) = q.dims4()?;
        let (_, groups, keys, _) = k.dims4()?;
        let p = p.to_dtype(q.dtype())?.reshape((rows, groups, heads / groups * queries, keys))?;
        p.matmul(&v.contiguous()?)?.reshape((rows, heads, queries, width))
    }

    /// The probabilities, (rows, heads, queries, keys) f32, and the slope of the softcap at each.
    fn probabilities(&self, q: &Tensor, k: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let (rows, heads, queries, width) = q.dims4()?;
        let (_, groups, keys, _) = k.dims4()?;
        let q = q.contiguous()?.reshape((rows, groups, heads / groups * queries, width))?;
        let scores = q.matmul(&k.transpose(2, 3)?.contiguous()?)?.to_dtype(DType::F32)?;
        let mut scores = (scores * f64::from(self.scale))?.reshape((rows, heads, queries, keys))?;
        let mut slope = None;
        if let Some(cap) = self.softcap {
            let cap = f64::from(cap);
            let t = (scores / cap)?.tanh()?;
            slope = Some((1.0 - t.sqr()?)?);
            scores = (t * cap)?;
        }
        let mut mask = vec![f32::NEG_INFINITY; rows * queries * keys];
        let mut seen = vec![0.0f32; rows * queries];
        for row in 0..rows {
            for t in 0..queries {
                let at = (row * queries + t) * keys;
                let visible = self.visible(row, t, queries, keys);
                if visible.is_empty() {
                    mask[at..at + keys].fill(0.0);
                } else {
                    mask[at + visible.start..at + visible.end].fill(0.0);
                    seen[row * queries + t] = 1.0;
                }
            }
        }
        let mask = Tensor::from_vec(mask, (rows, 1, queries, keys), q.device())?;
        let seen = Tensor::from_vec(seen, (rows, 1, queries, 1), q.device())?;
        let scores = scores.broadcast_add(&mask)?;
        let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let p = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?.broadcast_mul(&seen)?;
        Ok((p, slope))
    }
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
        let (q, k, v) = (q.as_slice()?, k.as_slice()?, v.as_slice()?);
        let q = &q[q_layout.start_offset()..];
        Ok((CpuStorage::F32(attend(&self.0, &shapes, (q, k, v))), q_layout.shape().clone()))
    }

    /// With P the probabilities: dV = Pᵀ·g, dP = g·Vᵀ, dS = P⊙(dP − Σ P⊙dP), dQ = c·dS·K,
    /// dK = c·dSᵀ·Q; heads of a group add up.
    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, heads, queries, width) = q.dims4()?;
        let (_, groups, keys, _) = k.dims4()?;
        let grouped = (rows, groups, heads / groups * queries, keys);
        let (p, slope) = self.0.probabilities(q, k)?;
        let g = gradient.contiguous()?.reshape((rows, groups, heads / groups * queries, width))?;
        let dv = p.reshape(grouped)?.transpose(2, 3)?.contiguous()?.matmul(&g)?;
        let dp = g.matmul(&v.transpose(2, 3)?.contiguous()?)?.reshape(p.shape())?;
        let inner = (&p * &dp)?.sum_keepdim(D::Minus1)?;
        let mut ds = (dp.broadcast_sub(&inner)? * &p)?;
        if let Some(slope) = slope {
            ds = (ds * slope)?;
        }
        let ds = (ds * f64::from(self.0.scale))?.reshape(grouped)?;
        let dq = ds.matmul(&k.contiguous()?)?.reshape(q.shape())?;
        let q = q.contiguous()?.reshape((rows, groups, heads / groups * queries, width))?;
        let dk = ds.transpose(2, 3)?.contiguous()?.matmul(&q)?;
        Ok((Some(dq), Some(dk), Some(dv)))
    }
}
