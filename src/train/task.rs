//! What a training asks of the model that it trains.

use super::backward::Pass;
use super::{Gradients, TrainError};
use crate::nn::Visit;

/// A model with examples to learn from. Weights are what a step's loss is the mean over: trained
/// tokens of texts, one for each picture.
pub trait Task {
    /// How often an epoch visits each example.
    fn repeats(&self) -> Vec<usize>;

    /// Regularization examples, visited as often as all others together.
    fn beside(&self) -> Vec<u32> {
        Vec::new()
    }

    /// What an example counts in its step's loss.
    fn weight(&self, visit: Visit) -> f64;

    /// The visits of a step in micro-batches of at most `size` examples.
    fn batches(&self, visits: &[Visit], size: usize) -> Vec<Vec<Visit>>;

    /// The micro-batch of `size` examples that takes the most memory.
    fn largest(&self, size: usize) -> Vec<Visit>;

    /// Adds the gradients of (Σ weight·loss)/`total` over a micro-batch.
    fn backward(
        &self,
        batch: &[Visit],
        total: f64,
        pass: Pass<'_>,
        gradients: &mut Gradients,
    ) -> Result<Vec<Loss>, TrainError>;

    /// The loss of a micro-batch as training sees it, without gradients, the adapter at this strength.
    fn loss(&self, batch: &[Visit], strength: f32) -> Result<Vec<Loss>, TrainError>;

    /// Number of held-out examples.
    fn held_out(&self) -> usize;

    /// The loss of held-out examples: without dropout or chance, noise and timesteps always the same.
    fn held_out_loss(&self, examples: std::ops::Range<usize>) -> Result<Vec<Loss>, TrainError>;

    /// Whether it computes in f32 throughout, so that differences of its losses mean something.
    fn is_exact(&self) -> bool;

    /// Where an example comes from, for messages.
    fn name(&self, example: u32) -> String;
}

/// What one example of a micro-batch lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// The example.
    pub example: u32,
    /// Σ weight·loss.
    pub sum: f64,
    /// Its weight.
    pub weight: f64,
    /// Where in the noise schedule it was, 0…1; `None` of texts.
    pub time: Option<f64>,
}

/// Σ weight·loss / Σ weight.
pub fn mean(losses: &[Loss]) -> f64 {
    let weight: f64 = losses.iter().map(|loss| loss.weight).sum();
    losses.iter().map(|loss| loss.sum).sum::<f64>() / weight
}
