//! Whether a step may be taken.
//!
//! Losses and gradients are looked at before the optimizer moves anything. A batch without a finite
//! loss is skipped and the examples that caused it are left out from then on; when that repeats, or
//! the loss explodes, the training goes back to the last state that was verified, at half the rate.

use serde::{Deserialize, Serialize};

use super::task::{Loss, mean};

/// What is to be done with a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Taken.
    Sound,
    /// Left out: no finite loss or gradient.
    Skip {
        /// What was seen.
        seen: String,
        /// Examples whose own loss is not finite, while others' is.
        examples: Vec<u32>,
    },
    /// Back to the last verified state.
    Back {
        /// `non-finite` or `explosion`.
        kind: &'static str,
        /// What was seen.
        seen: String,
    },
}

/// What the guard remembers; a part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Losses of the first steps.
    first: Vec<f64>,
    /// Exponential mean of the loss.
    mean: Option<f64>,
    /// Steps in a row whose mean is far above the first losses.
    high: usize,
    /// Steps in a row that were skipped for no example's fault.
    skipped: usize,
    /// Times that the training went back.
    pub returns: usize,
    /// Examples that are left out.
    pub left_out: Vec<u32>,
}

/// Steps whose largest loss is what later ones are compared with.
const FIRST: usize = 20;
/// Weight of a step in the mean.
const SHARE: f64 = 0.1;
/// A mean this many times the largest of the first losses is too high …
const HIGH: f64 = 2.0;
/// … and this many times where each loss has a timestep of its own.
const HIGH_OF_NOISY: f64 = 3.0;
/// … when it stays so for as many steps.
const PATIENCE: usize = 5;
/// One loss this many times the largest of the first is an explosion by itself.
const EXPLOSION: f64 = 20.0;
/// First losses below this are those of examples that the base masters already, and say nothing of how
/// large others' may be: nats a token, …
const LITTLE: f64 = 1.0;
/// … or squared error where each loss has a timestep of its own.
const LITTLE_OF_NOISY: f64 = 0.1;
/// Times that a training goes back before it gives up.
pub const RETURNS: usize = 4;

impl Guard {
    /// Judges a step by its examples' losses and its gradients' norm.
    pub fn judge(&mut self, losses: &[Loss], norm: f64) -> Verdict {
        let bad: Vec<u32> =
            losses.iter().filter(|loss| !loss.sum.is_finite()).map(|loss| loss.example).collect();
        let loss = mean(losses);
        if bad.is_empty() && loss.is_finite() && norm.is_finite() {
            self.skipped = 0;
            return self.watch(loss, losses.iter().any(|loss| loss.time.is_some()));
        }
        if !bad.is_empty() && bad.len() < losses.len() {
            return self.leave_out(bad, losses.len());
        }
        self.skipped += 1;
        let seen = format!("loss {loss}, gradient norm {norm}");
        if self.skipped > 1 {
            self.skipped = 0;
            return Verdict::Back { kind: "non-finite", seen };
        }
        Verdict::Skip { seen, examples: bad }
    }

    /// Leaves examples out for good.
    pub fn leave_out(&mut self, examples: Vec<u32>, of: usize) -> Verdict {
        self.left_out.extend(&examples);
        let seen = format!("no finite loss in {} of {of} examples", examples.len());
        Verdict::Skip { seen, examples }
    }

    fn watch(&mut self, loss: f64, noisy: bool) -> Verdict {
        let mean = self.mean.map_or(loss, |mean| mean + SHARE * (loss - mean));
        self.mean = Some(mean);
        // diffusion's losses differ by factors of ten from timestep to timestep
        let largest = self.first.iter().copied().reduce(f64::max);
        let start = largest.unwrap_or(loss).max(if noisy { LITTLE_OF_NOISY } else { LITTLE });
        if self.first.len() < FIRST && loss <= EXPLOSION * start {
            self.first.push(loss);
        }
        let limit = if noisy { HIGH_OF_NOISY } else { HIGH };
        self.high = if mean > limit * start { self.high + 1 } else { 0 };
        if self.high >= PATIENCE || loss > EXPLOSION * start {
            let seen = format!("loss {loss:.4}, mean {mean:.4}, at most {start:.4} at the start");
            return Verdict::Back { kind: "explosion", seen };
        }
        Verdict::Sound
    }

    /// Whether the last step had no finite loss, for no example's fault, or losses are rising.
    pub fn is_in_doubt(&self) -> bool {
        self.skipped > 0 || self.high > 0
    }

    /// After the training went back: the mean starts anew, what was learnt about examples stays.
    pub fn went_back(&mut self, before: &Self) {
        let (returns, left_out) = (self.returns + 1, std::mem::take(&mut self.left_out));
        *self = Self { returns, left_out, skipped: 0, high: 0, ..before.clone() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(values: &[f64]) -> Vec<Loss> {
        let loss =
            |(example, sum): (u32, &f64)| Loss { example, sum: *sum, weight: 1.0, time: None };
        (0..).zip(values).map(loss).collect()
    }

    #[test]
    fn one_bad_example_is_left_out_and_named() {
        let mut guard = Guard::default();
        assert_eq!(guard.judge(&losses(&[1.0, 1.0]), 1.0), Verdict::Sound);
        for _ in 0..3 {
            let verdict = guard.judge(&losses(&[1.0, f64::NAN]), f64::NAN);
            assert!(matches!(verdict, Verdict::Skip { examples, .. } if examples == [1]));
        }
        assert_eq!(guard.left_out, [1, 1, 1]);
    }

    #[test]
    fn a_whole_batch_without_value_is_skipped_once_then_the_training_goes_back() {
        let mut guard = Guard::default();
        assert!(matches!(guard.judge(&losses(&[f64::NAN]), 1.0), Verdict::Skip { .. }));
        assert!(matches!(guard.judge(&losses(&[f64::NAN]), 1.0), Verdict::Back { .. }));
    }

    #[test]
    fn a_gradient_without_value_counts_even_if_the_loss_is_finite() {
        let mut guard = Guard::default();
        assert!(matches!(guard.judge(&losses(&[1.0]), f64::INFINITY), Verdict::Skip { .. }));
    }

    #[test]
    fn noise_is_no_explosion_but_a_lasting_rise_is() {
        let mut guard = Guard::default();
        // diffusion's losses jump by factors of ten
        for step in 0..200 {
            let loss = [0.02, 0.3, 0.1, 0.6, 0.05][step % 5];
            assert_eq!(guard.judge(&losses(&[loss]), 1.0), Verdict::Sound, "{step}");
        }
        let back = (0..40).find(|_| guard.judge(&losses(&[2.9]), 1.0) != Verdict::Sound);
        assert!(back.is_some_and(|steps| steps > 5));
    }

    #[test]
    fn an_example_that_is_new_to_the_base_among_those_that_it_masters_is_no_explosion() {
        let mut guard = Guard::default();
        for step in 0..60 {
            let loss = if step % 3 == 1 { 4.8 } else { 0.0025 };
            assert_eq!(guard.judge(&losses(&[loss]), 1.0), Verdict::Sound, "{step}");
        }
    }

    #[test]
    fn a_single_enormous_loss_is_an_explosion() {
        let mut guard = Guard::default();
        guard.judge(&losses(&[2.0]), 1.0);
        assert!(matches!(
            guard.judge(&losses(&[90.0]), 1.0),
            Verdict::Back { kind: "explosion", .. }
        ));
    }
}
