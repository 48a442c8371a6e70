//! What each algorithm does with the model's outputs.
//!
//! A [`Solver`] is told the index of the call in its sampler's plan; it holds the coefficients of
//! its steps and the outputs that it still needs. Formulas are written in the peers' order of
//! operations, in f32.

mod ddim;
mod dpm;
mod euler;
mod heun;
mod k_dpm;
mod lcm;
mod pndm;
mod unipc;

use std::fmt::Debug;

pub(super) use ddim::{Ddim, Transfer};
pub(super) use dpm::{Dpm, Midpoint};
pub(super) use euler::Euler;
pub(super) use heun::Heun;
pub(super) use k_dpm::{KDpm2m, KDpm2mSde, KDpm3mSde, KDpmSde};
pub(super) use lcm::{KLcm, Lcm};
pub(super) use pndm::Pndm;
pub(super) use unipc::{UniPc, UniPcPoint, Variant};

use super::error::SamplerError;

/// An algorithm under way.
pub(super) trait Solver: Debug + Send {
    /// Moves the latents past call `call`.
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError>;
}

/// Draws one row's noise and checks that it fits.
fn draw(len: usize, noise: &mut dyn FnMut() -> Vec<f32>) -> Result<Vec<f32>, SamplerError> {
    let row = noise();
    if row.is_empty() || !len.is_multiple_of(row.len()) {
        return Err(SamplerError::Length {
            what: "the noise of a row",
            expected: format!("a divisor of {len}"),
            found: row.len(),
            hint: "give the values of one row of latents",
        });
    }
    Ok(row)
}

/// Adds `scale` of `row` to every row of `x`.
fn add(x: &mut [f32], row: &[f32], scale: impl Fn(f32) -> f32) {
    for x in x.chunks_mut(row.len()) {
        for (x, noise) in x.iter_mut().zip(row) {
            *x += scale(*noise);
        }
    }
}

/// `f` of each value and the one beside it.
fn update(x: &mut [f32], other: &[f32], f: impl Fn(f32, f32) -> f32) {
    for (x, other) in x.iter_mut().zip(other) {
        *x = f(*x, *other);
    }
}

/// The level to step down to and the noise to add so that the level is `to` (k-diffusion's
/// `get_ancestral_step`, η = 1).
fn ancestral(from: f32, to: f32) -> (f32, f32) {
    let up = (to * to * (from * from - to * to) / (from * from)).sqrt().min(to);
    ((to * to - up * up).sqrt(), up)
}
