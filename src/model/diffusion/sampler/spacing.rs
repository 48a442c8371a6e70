//! Timesteps and noise levels of diffusers' schedulers (numpy in f64).

use super::beta;
use super::float::{linspace, ln, narrow};

/// `timestep_spacing` (Lin et al., 2024, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    Linspace,
    Leading,
    Trailing,
}

impl Spacing {
    pub(super) const NAMES: [(&'static str, Self); 3] =
        [("linspace", Self::Linspace), ("leading", Self::Leading), ("trailing", Self::Trailing)];
}

/// Where noise levels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Levels {
    /// Those of the timesteps.
    OfTimesteps,
    /// Karras et al. (2022), ρ = 7.
    Karras,
    /// Uniform in ln σ.
    Exponential,
    /// Lee et al. (2024), α = β = 0.6.
    Beta,
    /// Uniform in ln σ, too (Lu et al., 2022), computed in another way.
    Lambdas,
}

/// `steps` timesteps, falling. `fraction` rounds those of `Linspace`.
pub(super) fn timesteps(
    spacing: Spacing,
    offset: usize,
    (train, steps): (usize, usize),
    fraction: fn(f64) -> f64,
) -> Vec<f64> {
    match spacing {
        Spacing::Linspace => {
            let rising = linspace(0.0, (train - 1) as f64, steps);
            rising.into_iter().rev().map(fraction).collect()
        }
        Spacing::Leading => leading(train / steps, offset, 0..steps),
        Spacing::Trailing => trailing(train, train as f64 / steps as f64, steps),
    }
}

/// As [`timesteps`] with one more, the last of which is left out (DPM-Solver, `UniPC`). `last` is the
/// number of timesteps in use.
pub(super) fn solver_timesteps(
    spacing: Spacing,
    offset: usize,
    (train, last, steps): (usize, usize, usize),
) -> Vec<f64> {
    match spacing {
        Spacing::Linspace => {
            let rising = linspace(0.0, last.saturating_sub(1) as f64, steps + 1);
            rising.into_iter().skip(1).rev().map(f64::round_ties_even).collect()
        }
        Spacing::Leading => leading(last / (steps + 1), offset, 1..steps + 1),
        Spacing::Trailing => trailing(last, train as f64 / steps as f64, steps),
    }
}

fn leading(ratio: usize, offset: usize, range: std::ops::Range<usize>) -> Vec<f64> {
    range.rev().map(|i| (i * ratio + offset) as f64).collect()
}

/// `numpy.arange(last, 0, -ratio).round() - 1`, without the timestep −1 that rounding adds at some
/// numbers of steps, such as 61.
fn trailing(last: usize, ratio: f64, steps: usize) -> Vec<f64> {
    let last = last as f64;
    let delta = (last - ratio) - last;
    let falling = (0..steps).map(|i| last + i as f64 * delta).take_while(|t| *t > 0.0);
    falling.map(|t| t.round_ties_even() - 1.0).filter(|t| *t >= 0.0).collect()
}

/// The level at a timestep between others (`numpy.interp`).
pub(super) fn interpolate(table: &[f32], timestep: f64) -> f64 {
    let last = table.len() - 1;
    let low = super::float::index(timestep.floor()).min(last);
    let at = |i: usize| f64::from(table[i]);
    if low == last || timestep == low as f64 {
        return at(low);
    }
    (at(low + 1) - at(low)) * (timestep - low as f64) + at(low)
}

/// `steps` levels from `highest` to `lowest`.
pub(super) fn spread(levels: Levels, (lowest, highest): (f64, f64), steps: usize) -> Vec<f64> {
    match levels {
        Levels::Karras => {
            let root = |level: f64| level.powf(1.0 / 7.0);
            let ramp = linspace(0.0, 1.0, steps);
            let (low, high) = (root(lowest), root(highest));
            ramp.into_iter().map(|part| (high + part * (low - high)).powf(7.0)).collect()
        }
        Levels::Beta => {
            let ramp = linspace(0.0, 1.0, steps).into_iter().map(|part| 1.0 - part);
            ramp.map(|part| lowest + beta::quantile(part) * (highest - lowest)).collect()
        }
        Levels::OfTimesteps | Levels::Exponential | Levels::Lambdas => {
            linspace(highest.ln(), lowest.ln(), steps).into_iter().map(f64::exp).collect()
        }
    }
}

/// Between which timesteps a noise level lies: the lower one, and how far above it in ln σ
/// (`sigma_to_t`, in f32 as with numpy 1 and in k-diffusion).
pub(super) fn position(level: f64, logs: &[f32]) -> (usize, f32) {
    let log = narrow(level.max(1e-10).ln());
    let low = logs.iter().rposition(|other| log - other >= 0.0).unwrap_or(0);
    let low = low.min(logs.len() - 2);
    let (below, above) = (logs[low], logs[low + 1]);
    (low, ((below - log) / (below - above)).clamp(0.0, 1.0))
}

/// The timestep of a noise level, a fraction.
pub(super) fn timestep_of(level: f64, logs: &[f32]) -> f64 {
    let (low, part) = position(level, logs);
    f64::from(1.0 - part) * low as f64 + f64::from(part) * (low + 1) as f64
}

/// ln σ of every timestep.
pub(super) fn logs(levels: &[f32]) -> Vec<f32> {
    levels.iter().map(|level| ln(*level)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacings_are_those_of_the_paper() {
        // Lin et al. (2024), table 2, for 10 of 1000 timesteps, counted from 0
        let ten = |spacing| timesteps(spacing, 0, (1000, 10), f64::round_ties_even);
        assert_eq!(
            ten(Spacing::Linspace),
            [999.0, 888.0, 777.0, 666.0, 555.0, 444.0, 333.0, 222.0, 111.0, 0.0]
        );
        assert_eq!(
            ten(Spacing::Leading),
            [900.0, 800.0, 700.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0, 0.0]
        );
        assert_eq!(
            ten(Spacing::Trailing),
            [999.0, 899.0, 799.0, 699.0, 599.0, 499.0, 399.0, 299.0, 199.0, 99.0]
        );
    }

    #[test]
    fn no_number_of_steps_gives_a_timestep_below_zero() {
        for steps in 1..=1000 {
            let trailing = timesteps(Spacing::Trailing, 0, (1000, steps), f64::floor);
            assert_eq!(trailing.len(), steps);
            assert!(trailing.iter().all(|t| (0.0..1000.0).contains(t)), "{steps}");
        }
    }

    #[test]
    fn levels_run_from_the_highest_to_the_lowest() {
        for levels in [Levels::Karras, Levels::Exponential, Levels::Beta] {
            let spread = spread(levels, (0.03, 14.6), 20);
            assert!((spread[0] - 14.6).abs() < 1e-12 && (spread[19] - 0.03).abs() < 1e-12);
            assert!(spread.windows(2).all(|pair| pair[0] > pair[1]), "{levels:?}");
        }
    }

    #[test]
    fn the_timestep_of_a_level_inverts_the_level_of_a_timestep() {
        let table = super::super::noise_schedule::NoiseSchedule::compvis().levels();
        let logs = logs(&table);
        for t in [0, 1, 500, 998, 999] {
            assert!((timestep_of(f64::from(table[t]), &logs) - t as f64).abs() < 1e-4);
            assert_eq!(interpolate(&table, t as f64), f64::from(table[t]));
        }
        assert_eq!(timestep_of(0.0, &logs), 0.0);
        assert_eq!(timestep_of(1e9, &logs), 999.0);
        assert_eq!(interpolate(&table, 5000.0), f64::from(table[999]));
    }
}
