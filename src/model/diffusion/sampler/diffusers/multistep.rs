use serde_json::Value;

use super::super::config::{Keys, wrong};
use super::super::error::SamplerError;
use super::super::float::ln;
use super::super::name::Algorithm;
use super::super::run::{Call, Plan};
use super::super::settings::Settings;
use super::super::solver::{Dpm, Midpoint, UniPc, UniPcPoint, Variant};
use super::super::spacing::{Levels, interpolate, logs, solver_timesteps, spread, timestep_of};
use super::{last_level, with_last};

/// Timesteps and levels of DPM-Solver and `UniPC`; `cut` makes a level's timestep whole.
fn solver_levels(
    settings: &Settings,
    (last, steps): (usize, usize),
    cut: fn(f64) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let Settings { noise, spacing, offset, levels, ends, .. } = settings;
    let table = noise.levels();
    if *levels == Levels::OfTimesteps {
        let times = solver_timesteps(*spacing, *offset, (noise.len(), last, steps));
        let sigmas = times.iter().map(|time| interpolate(&table, *time)).collect();
        return (times, sigmas);
    }
    let end = |level: Option<&f32>| level.map_or(0.0, |level| f64::from(*level));
    let ends = match levels {
        Levels::Lambdas => (None, None),
        _ => *ends,
    };
    let lowest = ends.0.unwrap_or_else(|| end(table.first()));
    let highest = ends.1.unwrap_or_else(|| end(table.last()));
    let sigmas = spread(*levels, (lowest, highest), steps);
    let logs = logs(&table);
    (sigmas.iter().map(|sigma| cut(timestep_of(*sigma, &logs))).collect(), sigmas)
}

/// Timesteps in use: those whose λ is at least `lambda_min_clipped`.
fn unclipped(keys: &Keys, settings: &Settings) -> Result<usize, SamplerError> {
    let Some(least) = keys.number("lambda_min_clipped")? else { return Ok(settings.noise.len()) };
    let lambda = |alpha: &f32| f64::from(ln(alpha.sqrt()) - ln((1.0 - alpha).sqrt()));
    let used = settings.noise.alphas_cumprod().iter().filter(|alpha| lambda(alpha) >= least);
    match used.count() {
        0 => Err(wrong("lambda_min_clipped", &Value::from(least), "a smaller number")),
        count => Ok(count),
    }
}

/// Refuses steps that do not change the level: a multistep solver divides by the change.
fn all_differ(sampler: &'static str, sigmas: &[f32], steps: usize) -> Result<(), SamplerError> {
    let levels = &sigmas[..steps.min(sigmas.len())];
    if levels.windows(2).all(|pair| pair[0] != pair[1]) {
        return Ok(());
    }
    Err(SamplerError::Combination {
        sampler,
        with: format!("{steps} steps"),
        problem: "two of them would have the same noise level",
        hint: "take fewer steps",
    })
}

fn solver_calls(times: &[f64], sigmas: &[f32]) -> Vec<Call> {
    let calls = times.iter().zip(sigmas).enumerate();
    calls.map(|(step, (time, sigma))| Call::preserving(*time, *sigma, step)).collect()
}

pub(super) fn dpm(
    keys: &Keys,
    settings: &Settings,
    algorithm: Algorithm,
    steps: usize,
) -> Result<Plan, SamplerError> {
    let rounds = matches!(settings.levels, Levels::Karras | Levels::Lambdas)
        && !keys.is("beta_schedule", "squaredcos_cap_v2");
    let cut = if rounds { f64::round_ties_even } else { f64::trunc };
    let (times, sigmas) = solver_levels(settings, (unclipped(keys, settings)?, steps), cut);
    let sigmas = with_last(sigmas, last_level(settings));
    all_differ(algorithm.name(), &sigmas, steps)?;
    let lower_order_final = keys.flag("lower_order_final", true)? && times.len() < 15;
    let types = [
        ("midpoint", Midpoint::Midpoint),
        ("heun", Midpoint::Heun),
        ("logrho", Midpoint::Midpoint),
        ("bh1", Midpoint::Midpoint),
        ("bh2", Midpoint::Midpoint),
    ];
    Ok(Plan {
        calls: solver_calls(&times, &sigmas),
        init_scale: 1.0,
        solver: Box::new(Dpm {
            sigmas,
            prediction: settings.prediction,
            stochastic: algorithm == Algorithm::DpmPp2mSde,
            order: keys.count("solver_order", 2, (1, 3))?,
            solver_type: keys.one_of("solver_type", Midpoint::Midpoint, &types)?,
            first_order_last: keys.flag("euler_at_final", false)?
                || lower_order_final
                || settings.ends_at_zero,
            second_order_before: lower_order_final,
            images: Vec::new(),
        }),
    })
}

pub(super) fn unipc(keys: &Keys, settings: &Settings, steps: usize) -> Result<Plan, SamplerError> {
    let cut = match settings.levels {
        Levels::Karras => f64::round_ties_even,
        _ => f64::trunc,
    };
    let (times, sigmas) = solver_levels(settings, (settings.noise.len(), steps), cut);
    let last = match (settings.levels, sigmas.last()) {
        (Levels::OfTimesteps, _) | (_, None) => last_level(settings),
        (_, Some(_)) if settings.ends_at_zero => 0.0,
        (_, Some(last)) => *last,
    };
    let sigmas = with_last(sigmas, last);
    all_differ(Algorithm::UniPc.name(), &sigmas, steps)?;
    let types = [
        ("bh2", Variant::Bh2),
        ("bh1", Variant::Bh1),
        ("midpoint", Variant::Bh2),
        ("heun", Variant::Bh2),
        ("logrho", Variant::Bh2),
    ];
    let uncorrected = match keys.get("disable_corrector") {
        None => Vec::new(),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|_| wrong("disable_corrector", value, "a list of steps"))?,
    };
    Ok(Plan {
        calls: solver_calls(&times, &sigmas),
        init_scale: 1.0,
        solver: Box::new(UniPc {
            points: sigmas.into_iter().map(UniPcPoint::of_level).collect(),
            prediction: settings.prediction,
            noise_scales: Vec::new(),
            order: keys.count("solver_order", 2, (1, 8))?,
            variant: keys.one_of("solver_type", Variant::Bh2, &types)?,
            uncorrected,
            images: Vec::new(),
            start: Vec::new(),
        }),
    })
}
