//! Kernels for the CPU on plain slices.

pub mod activation;
pub mod attention;
mod blocks;
pub mod blocks_backward;
pub mod conv;
mod multiply;
pub mod norm;
pub mod product;
mod tile;
pub mod vector;

use candle_core::{CpuStorage, Layout, Result, bail};

/// The values of a contiguous f32 tensor.
pub fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("expected a contiguous tensor, found {layout:?}"),
    }
}
