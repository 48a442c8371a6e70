//! Kernels for the CPU on plain slices.

pub mod activation;
pub mod attention;
mod blocks;
pub mod blocks_backward;
pub mod conv;
mod multiply;
pub mod norm;
pub mod norm_backward;
pub mod product;
mod tile;
pub mod turn;
pub mod vector;

use candle_core::{CpuStorage, Layout, Result, Storage, bail};

/// The values of a contiguous f32 tensor.
pub fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("expected a contiguous tensor, found {layout:?}"),
    }
}

/// The values of a contiguous f32 tensor on the CPU whose storage is held.
pub fn slice<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => values(storage, layout),
        _ => bail!("expected a tensor on the CPU, found one on another device"),
    }
}
