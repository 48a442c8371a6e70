use super::super::config::Keys;
use super::super::error::SamplerError;
use super::super::float::narrow;
use super::super::name::Algorithm;
use super::super::run::{Call, Plan, twice};
use super::super::settings::Settings;
use super::super::solver::{Euler, Heun, KDpmSde};
use super::super::spacing::{Levels, Spacing, interpolate, logs, spread, timestep_of, timesteps};
use super::{clip, last_level, with_last};

/// Timesteps and levels of the classes that follow k-diffusion, without the last level.
fn levels(settings: &Settings, steps: usize, round: fn(f64) -> f64) -> (Vec<f64>, Vec<f64>) {
    let Settings { noise, spacing, offset, levels, ends, .. } = settings;
    let table = noise.levels();
    let times = timesteps(*spacing, *offset, (noise.len(), steps), round);
    let of_times: Vec<f64> = times.iter().map(|time| interpolate(&table, *time)).collect();
    if *levels == Levels::OfTimesteps {
        return (times, of_times);
    }
    let lowest = ends.0.or(of_times.last().copied()).unwrap_or_default();
    let highest = ends.1.or(of_times.first().copied()).unwrap_or_default();
    let sigmas = spread(*levels, (lowest, highest), steps);
    let logs = logs(&table);
    (sigmas.iter().map(|sigma| round(timestep_of(*sigma, &logs))).collect(), sigmas)
}

fn to_f32(x: f64) -> f64 {
    f64::from(narrow(x))
}

/// The standard deviation of the first latents (`init_noise_sigma`).
fn init_scale(settings: &Settings, sigmas: &[f32]) -> f32 {
    let highest = sigmas.iter().copied().fold(0.0, f32::max);
    match settings.spacing {
        Spacing::Leading => (highest * highest + 1.0).sqrt(),
        Spacing::Linspace | Spacing::Trailing => highest,
    }
}

pub(super) fn euler(settings: &Settings, algorithm: Algorithm, steps: usize) -> Plan {
    let (times, sigmas) = levels(settings, steps, to_f32);
    let sigmas = with_last(sigmas, last_level(settings));
    let calls = times.iter().zip(&sigmas).enumerate();
    let calls = calls.map(|(step, (time, sigma))| Call::exploding(*time, *sigma, step)).collect();
    Plan {
        calls,
        init_scale: init_scale(settings, &sigmas),
        solver: Box::new(Euler {
            sigmas,
            prediction: settings.prediction,
            ancestral: algorithm == Algorithm::EulerAncestral,
            draws_at_zero: true,
        }),
    }
}

pub(super) fn heun(keys: &Keys, settings: &Settings, steps: usize) -> Result<Plan, SamplerError> {
    let (times, sigmas) = levels(settings, steps, to_f32);
    let sigmas = with_last(sigmas, 0.0);
    Ok(Plan {
        calls: twice(&times, &sigmas, |step| (times[step + 1], sigmas[step + 1])),
        init_scale: init_scale(settings, &sigmas),
        solver: Box::new(Heun {
            sigmas,
            prediction: settings.prediction,
            clip: clip(keys, false)?,
            begun: None,
        }),
    })
}

pub(super) fn dpm_sde(settings: &Settings, steps: usize) -> Plan {
    let (times, exact) = levels(settings, steps, |time| time);
    let logs = logs(&settings.noise.levels());
    let middles = exact.windows(2).map(|pair| {
        let (t, t_next) = (-pair[0].ln(), -pair[1].ln());
        timestep_of((-(t + (t_next - t) * 0.5)).exp(), &logs)
    });
    let middles: Vec<f64> = middles.collect();
    let sigmas = with_last(exact, 0.0);
    let middle = |step: usize| (middles[step], KDpmSde::middle(sigmas[step], sigmas[step + 1]));
    Plan {
        calls: twice(&times, &sigmas, middle),
        init_scale: init_scale(settings, &sigmas),
        solver: Box::new(KDpmSde { sigmas, prediction: settings.prediction, begun: None }),
    }
}
