//! Where a training stands.

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::task::Loss;

/// All that a step changes beside variables and optimizer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps taken.
    pub step: usize,
    /// The guard's memory.
    pub guard: Guard,
    /// What rates are multiplied by after returns.
    pub rate_factor: f64,
    /// Where warm-ups began again, and how long they are.
    pub restarts: Vec<(usize, usize)>,
    /// Exponential means of the loss: of all, and of the quarters of the timesteps.
    pub means: [Mean; 5],
    /// The lowest held-out loss and when it was.
    pub best: Option<(f64, usize)>,
    /// Held-out losses in a row that were no improvement.
    pub without_improvement: usize,
    /// Whether a step moved the variables.
    pub moved: bool,
    /// Whether A's gradients were seen to be alive.
    pub proved: bool,
}

/// An exponential mean, corrected for its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    sum: f64,
    weight: f64,
}

/// What stays of a mean from one value to the next.
const STAYS: f64 = 0.95;

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum = STAYS * self.sum + (1.0 - STAYS) * value;
        self.weight = STAYS * self.weight + (1.0 - STAYS);
    }

    /// It, if there was a value.
    pub fn get(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

impl State {
    /// The state before the first step.
    pub fn new() -> Self {
        Self { rate_factor: 1.0, ..Self::default() }
    }

    /// Takes in a step's losses, finite ones only; gives the smoothed loss.
    pub fn smooth(&mut self, loss: f64, losses: &[Loss]) -> f64 {
        if loss.is_finite() {
            self.means[0].add(loss);
        }
        for loss in losses.iter().filter(|loss| loss.sum.is_finite() && loss.weight > 0.0) {
            if let Some(time) = loss.time {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "times lie in 0…1"
                )]
                let quarter = ((time * 4.0) as usize).min(3);
                self.means[1 + quarter].add(loss.sum / loss.weight);
            }
        }
        self.means[0].get().unwrap_or(loss)
    }

    /// Smoothed losses of the quarters of the timesteps, if there are any.
    pub fn quartiles(&self) -> Option<[Option<f64>; 4]> {
        let quarters = [1, 2, 3, 4].map(|quarter: usize| self.means[quarter].get());
        quarters.iter().any(Option::is_some).then_some(quarters)
    }
}
