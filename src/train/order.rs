//! Which examples a step sees.
//!
//! A step takes the next `batch_size × accumulation` visits of its epoch's order, whatever the
//! micro-batches are; the last step of an epoch may be short. All of it is a function of the seed and
//! of the step.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::base::random::Random;
use crate::nn::Visit;

/// The order of visits.
#[derive(Debug)]
pub struct Order {
    random: Random,
    /// Examples, as often as an epoch visits each: (example, repeat, repeats).
    visits: Vec<(u32, u32, u32)>,
    /// Examples that come beside them, in turn: regularization pictures.
    beside: Vec<u32>,
    per_step: usize,
    kept: Mutex<Option<(usize, Vec<Visit>)>>,
}

impl Order {
    /// Of examples that an epoch visits so often; `beside` are visited as often as all others
    /// together. `per_step` visits make a step.
    pub fn new(seed: u64, repeats: &[usize], beside: &[u32], per_step: usize) -> Self {
        let apart: BTreeSet<u32> = beside.iter().copied().collect();
        let visits = repeats.iter().enumerate().flat_map(|(example, repeats)| {
            let [example, repeats] = [example, *repeats].map(|n| u32::try_from(n).unwrap_or(0));
            (0..repeats).map(move |repeat| (example, repeat, repeats))
        });
        Self {
            random: Random::new(seed, "order"),
            visits: visits.filter(|(example, ..)| !apart.contains(example)).collect(),
            beside: beside.to_vec(),
            per_step: per_step.max(1),
            kept: Mutex::default(),
        }
    }

    /// Visits in an epoch.
    pub fn visits(&self) -> usize {
        self.visits.len() * if self.beside.is_empty() { 1 } else { 2 }
    }

    /// Steps in an epoch.
    pub fn steps(&self) -> usize {
        self.visits().div_ceil(self.per_step)
    }

    /// The visits of a step, counted from 0 over all epochs.
    pub fn step(&self, step: usize) -> Vec<Visit> {
        let (epoch, within) = (step / self.steps().max(1), step % self.steps().max(1));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let order = match kept.take() {
            Some((of, order)) if of == epoch => order,
            _ => self.epoch(epoch),
        };
        let part = order.chunks(self.per_step).nth(within).unwrap_or_default().to_vec();
        *kept = Some((epoch, order));
        part
    }

    fn epoch(&self, epoch: usize) -> Vec<Visit> {
        let number = u32::try_from(epoch).unwrap_or(u32::MAX);
        let mut all: Vec<Visit> = self
            .visits
            .iter()
            .map(|(example, repeat, repeats)| Visit {
                example: *example,
                visit: number.wrapping_mul(*repeats).wrapping_add(*repeat),
                tokens: 0,
            })
            .collect();
        if !self.beside.is_empty() {
            let first = epoch * self.visits.len();
            all.extend((first..first + self.visits.len()).map(|turn| Visit {
                example: self.beside[turn % self.beside.len()],
                visit: u32::try_from(turn / self.beside.len()).unwrap_or(u32::MAX),
                tokens: 0,
            }));
        }
        let order = self.random.permutation(all.len(), number);
        order.into_iter().map(|place| all[place]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(order: &Order, step: usize) -> Vec<(u32, u32)> {
        order.step(step).iter().map(|visit| (visit.example, visit.visit)).collect()
    }

    #[test]
    fn an_epoch_visits_each_example_as_often_as_it_is_repeated() {
        let order = Order::new(1, &[1, 3, 2], &[], 4);
        assert_eq!((order.visits(), order.steps()), (6, 2));
        for epoch in 0..3 {
            let mut seen: Vec<(u32, u32)> =
                (0..2).flat_map(|step| examples(&order, 2 * epoch + step)).collect();
            seen.sort_unstable();
            let e = u32::try_from(epoch).unwrap_or(0);
            let expected =
                [(0, e), (1, 3 * e), (1, 3 * e + 1), (1, 3 * e + 2), (2, 2 * e), (2, 2 * e + 1)];
            assert_eq!(seen, expected);
        }
        assert_eq!(order.step(1).len(), 2, "the last step of an epoch is short");
    }

    #[test]
    fn steps_may_be_asked_for_in_any_order() {
        let (order, other) = (Order::new(1, &[1; 9], &[], 2), Order::new(1, &[1; 9], &[], 2));
        let forward: Vec<_> = (0..15).map(|step| examples(&order, step)).collect();
        for step in (0..15).rev() {
            assert_eq!(examples(&other, step), forward[step]);
        }
        assert_ne!(forward[..5], forward[5..10], "every epoch has an order of its own");
    }

    #[test]
    fn regularization_examples_are_half_of_all_and_come_in_turn() {
        let order = Order::new(1, &[1, 1, 1, 1, 1, 1], &[4, 5], 8);
        let mut counts = [0; 6];
        for step in 0..4 {
            for (example, _) in examples(&order, step) {
                counts[example as usize] += 1;
            }
        }
        assert_eq!(counts, [4, 4, 4, 4, 8, 8]);
    }
}
