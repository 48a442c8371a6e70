//! Fitting a step into memory without changing it.
//!
//! Each rung takes less memory and leaves the effective batch, the rate, the order of data and the
//! noise as they are: micro-batches of half the size, twice as many; then blocks computed again in the
//! backward pass. Attention and cross-entropy always go in parts. What is tried is the largest
//! micro-batch of the data, before the first step.

use super::backward::Pass;
use super::memory::{self, Memory};
use super::task::Task;
use super::{Gradients, TrainError};
use crate::config::{RunSettings, Settings};

/// How a step is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Examples in a micro-batch.
    pub micro: usize,
    /// Whether blocks are computed again.
    pub checkpointing: bool,
}

impl Rung {
    /// What the settings ask for.
    pub fn new(settings: &RunSettings) -> Self {
        Self { micro: settings.batch_size, checkpointing: settings.checkpointing }
    }

    /// The next one, if there is one.
    pub fn next(self) -> Option<Self> {
        if self.micro > 1 {
            return Some(Self { micro: self.micro.div_ceil(2), ..self });
        }
        (!self.checkpointing).then_some(Self { checkpointing: true, ..self })
    }

    /// In words.
    pub fn describe(self) -> String {
        let blocks = if self.checkpointing { ", blocks computed again" } else { "" };
        format!("micro-batches of {}{blocks}", self.micro)
    }

    /// The pass of this rung.
    pub fn pass(self, memory: &Memory) -> Pass<'_> {
        Pass { checkpointing: self.checkpointing, memory }
    }
}

/// The first rung from `rung` on that the largest micro-batch fits on; `said` hears of each step down.
pub fn fit(
    task: &dyn Task,
    rung: Rung,
    memory: &Memory,
    gradients: &mut Gradients,
    mut said: impl FnMut(String) -> Result<(), TrainError>,
) -> Result<Rung, TrainError> {
    let mut rung = rung;
    loop {
        let batch = task.largest(rung.micro);
        memory::forget_peak();
        let tried = task.backward(&batch, 1.0, rung.pass(memory), gradients);
        gradients.clear();
        let tried = tried.and_then(|_| memory.check_peak());
        match tried {
            Ok(()) => return Ok(rung),
            Err(error) if error.is_out_of_memory() => rung = lower(rung, &error, &mut said)?,
            Err(error) => return Err(error),
        }
    }
}

/// The rung below, or the word that there is none.
pub fn lower(
    rung: Rung,
    error: &TrainError,
    said: &mut impl FnMut(String) -> Result<(), TrainError>,
) -> Result<Rung, TrainError> {
    let Some(next) = rung.next() else {
        return Err(TrainError::DoesNotFit {
            tried: rung.describe(),
            hint: "shorten the longest example (`data.text.max_length`), lower `data.image.resolution` or `adapter.rank`, or let it be done with `run.may_shrink: true`".to_owned(),
        });
    };
    said(format!("{error}; going on with {}", next.describe()))?;
    Ok(next)
}

/// Values (`key=value`) that take less at the price of another result: for those who said that it may be (`run.may_shrink`). First shorter texts or smaller pictures, then a lower rank.
pub fn shrink(settings: &Settings, images: bool) -> Option<(Vec<String>, String)> {
    /// Less than this teaches nothing.
    const TOKENS: usize = 128;
    const SIDE: usize = 256;
    let Settings { data, adapter, .. } = settings;
    let (width, height) = data.image.resolution;
    let smaller = if !images && data.text.max_length / 2 >= TOKENS {
        vec![format!("data.text.max_length={}", data.text.max_length / 2)]
    } else if images && width.min(height) * 3 / 4 >= SIDE {
        let less = |side: usize| (side * 3 / 4 / 64).max(1) * 64;
        vec![format!("data.image.resolution=[{}, {}]", less(width), less(height))]
    } else if adapter.rank > 1 {
        let rank = adapter.rank / 2;
        let alpha = adapter.alpha * rank as f64 / adapter.rank as f64;
        vec![format!("adapter.rank={rank}"), format!("adapter.alpha={alpha}")]
    } else {
        return None;
    };
    let said = smaller.join(", ");
    Some((smaller, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_halve_the_micro_batch_then_compute_again_then_end() {
        let mut rung = Rung { micro: 5, checkpointing: false };
        let mut seen = vec![];
        while let Some(next) = rung.next() {
            seen.push((next.micro, next.checkpointing));
            rung = next;
        }
        assert_eq!(seen, [(3, false), (2, false), (1, false), (1, true)]);
    }
}
