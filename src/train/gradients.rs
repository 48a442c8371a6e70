//! The gradients of a step, one for each variable.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

/// Sums of gradients in the order of the variables.
#[derive(Debug)]
pub struct Gradients {
    variables: Vec<Var>,
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// None yet.
    pub fn new(variables: &[Var]) -> Self {
        Self { variables: variables.to_vec(), sums: vec![None; variables.len()] }
    }

    /// None yet, of the same variables.
    pub fn like(other: &Self) -> Self {
        Self::new(&other.variables)
    }

    /// Adds others of the same variables.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            if let Some(more) = more {
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + more)?,
                    None => more,
                });
            }
        }
        Ok(())
    }

    /// Adds what a backward pass left.
    ///
    /// candle computes gradients with tracked operations: one that is `g·A` would, in a second pass,
    /// lead back to A. They are cut from their graph wherever they are taken.
    pub fn add(&mut self, found: &mut GradStore) -> Result<()> {
        for (variable, sum) in self.variables.iter().zip(&mut self.sums) {
            if let Some(gradient) = found.remove(variable) {
                let gradient = gradient.detach();
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                });
            }
        }
        Ok(())
    }

    /// Whether a gradient reached each variable.
    pub fn reached(&self) -> impl Iterator<Item = bool> + '_ {
        self.sums.iter().map(Option::is_some)
    }

    /// All of them, zeros where none came; this is left without any.
    pub fn take(&mut self) -> Result<Vec<Tensor>> {
        let all = self.variables.iter().zip(&mut self.sums);
        all.map(|(var, sum)| sum.take().map_or_else(|| var.zeros_like(), Ok)).collect()
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.sums.fill(None);
    }
}
