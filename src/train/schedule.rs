//! The learning rate over time: a factor that is a pure function of the step.
//!
//! The factors are those of `get_scheduler` in diffusers 0.42.1 and transformers 5.24.0 for every
//! step of a training. The first step of a warm-up has rate 0, as there.

use std::f64::consts::PI;

use crate::config::{LrScaling, ScheduleKind, ScheduleSettings, Warmup};

/// Where `polynomial` ends, an absolute rate (`lr_end` of the peers).
const POLYNOMIAL_END: f64 = 1e-7;

/// Why a schedule cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// `polynomial` falls to a rate that is above the one it starts at.
    #[error(
        "learning rate `{rate}` is not above the end of schedule `polynomial`, `{POLYNOMIAL_END}`\n\
         hint: raise the learning rate, or choose `linear` or `cosine`, which end at 0"
    )]
    BelowItsEnd {
        /// The learning rate.
        rate: f64,
    },
}

/// A course from progress 0 to 1 with a warm-up before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    cycles: usize,
    power: f64,
    /// The end of `polynomial` as a part of the learning rate.
    end: f64,
    total: usize,
    anchor: Anchor,
}

/// From `start` on the rate rises for `warmup` steps, then the course goes from `progress` to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Anchor {
    start: usize,
    warmup: usize,
    progress: f64,
}

impl Schedule {
    /// The schedule of a training of `total` optimizer steps with that learning rate. A part of all
    /// steps as warm-up is rounded up, as in transformers.
    pub fn new(
        settings: &ScheduleSettings,
        total: usize,
        learning_rate: f64,
    ) -> Result<Self, ScheduleError> {
        let polynomial = settings.kind == ScheduleKind::Polynomial;
        if polynomial && (learning_rate.is_nan() || learning_rate <= POLYNOMIAL_END) {
            return Err(ScheduleError::BelowItsEnd { rate: learning_rate });
        }
        Ok(Self {
            kind: settings.kind,
            cycles: settings.cycles,
            power: settings.power,
            end: POLYNOMIAL_END / learning_rate,
            total,
            anchor: Anchor { start: 0, warmup: steps(settings.warmup, total), progress: 0.0 },
        })
    }

    /// What the learning rate is multiplied by at a step, the first being 0. After
    /// [`Self::restart_at`] it holds for the steps from there on.
    pub fn factor(&self, step: usize) -> f64 {
        let Anchor { start, warmup, progress } = self.anchor;
        let since = step.saturating_sub(start);
        if since < warmup {
            return since as f64 / warmup as f64 * self.course(progress);
        }
        self.course(self.progress(step))
    }

    /// Warms up again from `step` on; what was left of the course then fills the steps that remain
    /// after the warm-up. Within a warm-up the new one ends no earlier than the old one.
    pub fn restart_at(&mut self, step: usize, warmup: usize) {
        let left = self.anchor.warmup.saturating_sub(step.saturating_sub(self.anchor.start));
        self.anchor =
            Anchor { start: step, warmup: warmup.max(left), progress: self.progress(step) };
    }

    /// How much of the course lies behind a step, 0…1.
    fn progress(&self, step: usize) -> f64 {
        let Anchor { start, warmup, progress } = self.anchor;
        let begin = start.saturating_add(warmup);
        let length = self.total.saturating_sub(begin).max(1);
        let part = step.saturating_sub(begin) as f64 / length as f64;
        progress + (1.0 - progress) * part.min(1.0)
    }

    fn course(&self, progress: f64) -> f64 {
        let half_cosine = |x: f64| f64::midpoint(1.0, (PI * x).cos()).max(0.0);
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Cosine => half_cosine(progress),
            ScheduleKind::CosineWithRestarts if progress >= 1.0 => 0.0,
            ScheduleKind::CosineWithRestarts => half_cosine((self.cycles as f64 * progress) % 1.0),
            ScheduleKind::Polynomial => {
                (1.0 - self.end) * (1.0 - progress).powf(self.power) + self.end
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a count; the cast saturates"
)]
fn steps(warmup: Warmup, total: usize) -> usize {
    match warmup {
        Warmup::Steps(steps) => steps,
        Warmup::Fraction(part) => (total as f64 * part).ceil() as usize,
    }
}

/// What learning rates are multiplied by for batches of `batch × accumulation` examples.
pub fn batch_factor(scaling: LrScaling, batch: usize, accumulation: usize) -> f64 {
    let examples = batch as f64 * accumulation as f64;
    match scaling {
        LrScaling::None => 1.0,
        LrScaling::Sqrt => examples.sqrt(),
        LrScaling::Linear => examples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup: Warmup, total: usize) -> Schedule {
        let settings = ScheduleSettings { kind, warmup, cycles: 2, power: 2.0 };
        Schedule::new(&settings, total, 1e-3).unwrap()
    }

    const KINDS: [ScheduleKind; 5] = [
        ScheduleKind::Constant,
        ScheduleKind::Linear,
        ScheduleKind::Cosine,
        ScheduleKind::CosineWithRestarts,
        ScheduleKind::Polynomial,
    ];

    #[test]
    fn a_fraction_of_the_steps_is_rounded_up() {
        let of = |part, total| steps(Warmup::Fraction(part), total);
        assert_eq!([of(0.05, 100), of(0.05, 101), of(0.0, 100), of(1.0, 7)], [5, 6, 0, 7]);
        assert_eq!([of(f64::NAN, 100), of(-1.0, 100)], [0, 0]);
    }

    #[test]
    fn at_the_end_and_after_it_the_course_is_at_its_end() {
        for (kind, end) in KINDS.into_iter().zip([1.0, 0.0, 0.0, 0.0, 1e-4]) {
            let schedule = schedule(kind, Warmup::Steps(3), 20);
            for step in [20, 21, 1000, usize::MAX] {
                assert!((schedule.factor(step) - end).abs() < 1e-15, "{kind:?} at {step}");
            }
        }
    }

    #[test]
    fn polynomial_needs_a_rate_above_its_end() {
        let settings = ScheduleSettings {
            kind: ScheduleKind::Polynomial,
            warmup: Warmup::Steps(0),
            cycles: 1,
            power: 1.0,
        };
        for rate in [1e-7, 0.0, -1.0, f64::NAN] {
            let error = Schedule::new(&settings, 10, rate).unwrap_err().to_string();
            assert!(error.contains("`polynomial`") && error.contains("\nhint: "), "{error}");
        }
        assert!(Schedule::new(&settings, 10, 1.1e-7).is_ok());
    }

    #[test]
    fn a_restart_warms_up_to_where_the_course_was_and_still_reaches_its_end() {
        for kind in KINDS {
            let before = schedule(kind, Warmup::Steps(10), 100);
            let mut after = before.clone();
            after.restart_at(40, 5);
            assert_eq!(after.factor(40), 0.0, "{kind:?}");
            assert!((after.factor(42) - 0.4 * before.factor(40)).abs() < 1e-15, "{kind:?}");
            assert!((after.factor(45) - before.factor(40)).abs() < 1e-15, "{kind:?}");
            // 55 steps of a course that had 60: step 45 + 11 is a fifth of what was left
            assert!((after.factor(56) - before.factor(52)).abs() < 1e-12, "{kind:?}");
            assert_eq!(after.factor(100), before.factor(100), "{kind:?}");
        }
    }

    #[test]
    fn a_restart_without_warm_up_changes_nothing() {
        for kind in KINDS {
            let before = schedule(kind, Warmup::Steps(10), 100);
            let mut after = before.clone();
            after.restart_at(40, 0);
            for step in 40..=100 {
                let apart = (after.factor(step) - before.factor(step)).abs();
                assert!(apart < 1e-12, "{kind:?} at {step}");
            }
        }
    }

    #[test]
    fn a_restart_within_the_warm_up_is_no_steeper_than_it() {
        let mut schedule = schedule(ScheduleKind::Cosine, Warmup::Steps(50), 100);
        schedule.restart_at(20, 5);
        assert_eq!(schedule.factor(35), 0.5);
        assert_eq!(schedule.factor(50), 1.0);
        assert_eq!(schedule.factor(100), 0.0);
    }

    #[test]
    fn restarts_follow_each_other() {
        let mut schedule = schedule(ScheduleKind::Linear, Warmup::Steps(0), 100);
        schedule.restart_at(20, 10);
        schedule.restart_at(65, 5);
        // 0.8 was left at 20; half of it at 65, of which half again at 85
        assert!((schedule.factor(70) - 0.4).abs() < 1e-12);
        assert!((schedule.factor(85) - 0.2).abs() < 1e-12);
        schedule.restart_at(98, 10);
        assert!((schedule.factor(99) - 0.1 * 0.4 * 2.0 / 30.0).abs() < 1e-12);
    }

    #[test]
    fn rates_follow_the_effective_batch() {
        assert_eq!(batch_factor(LrScaling::None, 4, 9), 1.0);
        assert_eq!(batch_factor(LrScaling::Sqrt, 4, 9), 6.0);
        assert_eq!(batch_factor(LrScaling::Linear, 4, 9), 36.0);
    }
}
