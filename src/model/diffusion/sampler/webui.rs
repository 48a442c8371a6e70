//! Plans of the WebUI's samplers for a single-file checkpoint.

use super::error::SamplerError;
use super::float::{count, exp, index, linspace_f32, ln, narrow};
use super::name::{Algorithm, Choice, Schedule};
use super::noise_schedule::{NoiseSchedule, level, scales};
use super::prediction::Prediction;
use super::run::{Call, Plan, twice};
use super::solver::{
    Ddim, Euler, Heun, KDpm2m, KDpm2mSde, KDpm3mSde, KDpmSde, KLcm, Pndm, Solver, Transfer, UniPc,
    UniPcPoint, Variant,
};
use super::webui_sigmas::{LcmTable, Table};

/// `UniPC order` in the WebUI's settings, where nothing is changed.
const UNIPC_ORDER: usize = 3;

/// The plan of `choice`.
pub(super) fn plan(
    prediction: Prediction,
    choice: Choice,
    steps: usize,
) -> Result<Plan, SamplerError> {
    let Choice { algorithm, schedule } = choice;
    let noise = NoiseSchedule::compvis();
    let least = match algorithm {
        Algorithm::Ddim | Algorithm::Pndm => 2,
        Algorithm::UniPc => UNIPC_ORDER,
        _ => 1,
    };
    if !(least..=noise.len()).contains(&steps) {
        let sampler = algorithm.name();
        return Err(SamplerError::Steps { sampler, steps, least, most: noise.len() });
    }
    match algorithm {
        Algorithm::Ddim => ddim(&noise, prediction, steps),
        Algorithm::Pndm => plms(&noise, prediction, steps),
        Algorithm::UniPc => unipc(&noise, prediction, steps),
        Algorithm::Lcm => lcm(&noise, prediction, choice, steps),
        _ => {
            let schedule = match schedule {
                Schedule::Automatic => algorithm.automatic_schedule(),
                given => given,
            };
            let table = Table::new(noise.levels());
            let discarded = usize::from(algorithm.discards_penultimate());
            let mut sigmas = table.levels(schedule, steps + discarded);
            if discarded == 1 && sigmas.len() > 2 {
                sigmas.remove(sigmas.len() - 2);
            }
            Ok(k_diffusion(&table, prediction, algorithm, sigmas))
        }
    }
}

/// A sampler of k-diffusion on latents x₀ + σ ε.
fn k_diffusion(
    table: &Table,
    prediction: Prediction,
    algorithm: Algorithm,
    sigmas: Vec<f32>,
) -> Plan {
    let time = |sigma: f32| f64::from(table.timestep(sigma));
    let times: Vec<f64> = sigmas.iter().take(sigmas.len() - 1).map(|sigma| time(*sigma)).collect();
    let once = || {
        let calls = times.iter().zip(&sigmas).enumerate();
        calls.map(|(step, (time, sigma))| Call::exploding(*time, *sigma, step)).collect()
    };
    let second = |step: usize| match algorithm {
        Algorithm::Heun => sigmas[step + 1],
        _ => KDpmSde::middle(sigmas[step], sigmas[step + 1]),
    };
    let calls: Vec<Call> = match algorithm {
        Algorithm::Heun | Algorithm::DpmPpSde => {
            twice(&times, &sigmas, |step| (time(second(step)), second(step)))
        }
        _ => once(),
    };
    let init_scale = sigmas.first().copied().unwrap_or(1.0);
    let solver: Box<dyn Solver> = match algorithm {
        Algorithm::Heun => Box::new(Heun { sigmas, prediction, clip: None, begun: None }),
        Algorithm::DpmPp2m => Box::new(KDpm2m { sigmas, prediction, previous: None }),
        Algorithm::DpmPp2mSde => Box::new(KDpm2mSde { sigmas, prediction, previous: None }),
        Algorithm::DpmPp3mSde => Box::new(KDpm3mSde { sigmas, prediction, previous: Vec::new() }),
        Algorithm::DpmPpSde => Box::new(KDpmSde { sigmas, prediction, begun: None }),
        _ => Box::new(Euler {
            sigmas,
            prediction,
            ancestral: algorithm == Algorithm::EulerAncestral,
            draws_at_zero: false,
        }),
    };
    Plan { calls, init_scale, solver }
}

/// The timesteps of the WebUI's DDIM, PLMS and `UniPC`, rising.
fn timesteps(noise: &NoiseSchedule, steps: usize) -> Vec<usize> {
    let last = noise.len() - 1;
    (0..noise.len()).step_by(noise.len() / steps).map(|t| (t + 1).min(last)).collect()
}

/// Timesteps of the calls, falling, and their transfers, each to the next lower timestep; the lowest
/// timestep is where sampling ends.
fn transfers(
    noise: &NoiseSchedule,
    steps: usize,
) -> Result<(Vec<usize>, Vec<Transfer>), SamplerError> {
    let rising = timesteps(noise, steps);
    let pairs = rising.windows(2).rev();
    let transfers = pairs.map(|pair| {
        Ok(Transfer { from: noise.alpha_cumprod(pair[1])?, to: noise.alpha_cumprod(pair[0])? })
    });
    let transfers = transfers.collect::<Result<_, SamplerError>>()?;
    Ok((rising.into_iter().rev().collect(), transfers))
}

fn ddim(noise: &NoiseSchedule, prediction: Prediction, steps: usize) -> Result<Plan, SamplerError> {
    let (times, transfers) = transfers(noise, steps)?;
    let calls = times.iter().zip(&transfers).enumerate();
    Ok(Plan {
        calls: calls
            .map(|(step, (time, t))| Call::preserving(*time as f64, level(t.from), step))
            .collect(),
        init_scale: 1.0,
        solver: Box::new(Ddim { transfers, prediction, clip: None, by_noise: true }),
    })
}

fn plms(noise: &NoiseSchedule, prediction: Prediction, steps: usize) -> Result<Plan, SamplerError> {
    let (mut times, mut transfers) = transfers(noise, steps)?;
    times.truncate(transfers.len() + 1);
    let call = |time: usize, step| {
        Ok(Call::preserving(time as f64, level(noise.alpha_cumprod(time)?), step))
    };
    let last = times.pop();
    let mut calls = Vec::with_capacity(times.len() + 1);
    for (step, time) in times.iter().enumerate() {
        calls.push(call(*time, step)?);
    }
    // the second call sees where the first step arrives, and that step is taken again
    if let (Some(second), Some(first)) = (times.get(1).copied().or(last), transfers.first()) {
        calls.insert(1, call(second, 0)?);
        transfers.insert(1, *first);
    }
    let noise_at = calls.iter().map(|call| noise.alpha_cumprod(index(call.timestep)));
    let noise_at = noise_at.collect::<Result<_, SamplerError>>()?;
    Ok(Plan {
        calls,
        init_scale: 1.0,
        solver: Box::new(Pndm {
            transfers,
            prediction,
            noise_at,
            outputs: Vec::new(),
            start: Vec::new(),
        }),
    })
}

/// α, σ and λ at a time from 1/1000 to 1, with ln α linear between timesteps (Lu et al., 2022).
fn point(noise: &NoiseSchedule, time: f32) -> UniPcPoint {
    let alphas = noise.alphas_cumprod();
    let knots = linspace_f32(0.0, 1.0, alphas.len() + 1);
    let knot = |i: usize| (knots[i + 1], 0.5 * ln(alphas[i]));
    let low = (0..alphas.len()).rposition(|i| knot(i).0 <= time).unwrap_or(0);
    let low = low.min(alphas.len() - 2);
    let ((x0, y0), (x1, y1)) = (knot(low), knot(low + 1));
    let log_alpha = y0 + (time - x0) * (y1 - y0) / (x1 - x0);
    let variance = 1.0 - exp(2.0 * log_alpha);
    UniPcPoint {
        alpha: exp(log_alpha),
        sigma: variance.sqrt(),
        lambda: log_alpha - 0.5 * ln(variance),
    }
}

/// `UniPC` with the WebUI's settings where nothing is changed: order 3, `bh1`, uniform in time.
fn unipc(
    noise: &NoiseSchedule,
    prediction: Prediction,
    steps: usize,
) -> Result<Plan, SamplerError> {
    let n = timesteps(noise, steps).len();
    let first = narrow(1.0 / noise.len() as f64);
    let times = linspace_f32(1.0, first, n + 1);
    let points: Vec<UniPcPoint> = times.iter().map(|time| point(noise, *time)).collect();
    let (mut calls, mut noise_scales) = (Vec::new(), Vec::new());
    for (step, (time, point)) in times.iter().zip(&points).take(n).enumerate() {
        let timestep = f64::from((time - first) * count(1000));
        // outputs are converted with the timestep cut to a whole one
        noise_scales.push(scales(noise.alpha_cumprod(index(timestep))?));
        let sigma = f64::from(point.sigma / point.alpha);
        calls.push(Call { timestep, scale: 1.0, step, sigma });
    }
    Ok(Plan {
        calls,
        init_scale: 1.0,
        solver: Box::new(UniPc {
            points,
            prediction,
            noise_scales,
            order: UNIPC_ORDER,
            variant: Variant::Bh1,
            uncorrected: Vec::new(),
            images: Vec::new(),
            start: Vec::new(),
        }),
    })
}

fn lcm(
    noise: &NoiseSchedule,
    prediction: Prediction,
    choice: Choice,
    steps: usize,
) -> Result<Plan, SamplerError> {
    if prediction != Prediction::Epsilon {
        return Err(SamplerError::Combination {
            sampler: choice.algorithm.name(),
            with: "a model that does not predict noise".to_owned(),
            problem: "the WebUI takes every output for noise",
            hint: "choose another sampler",
        });
    }
    let table = LcmTable::new(&noise.levels());
    let mut sigmas = table.levels(choice.schedule, steps);
    let last = sigmas.pop().unwrap_or_default();
    let (mut calls, mut points) = (Vec::new(), Vec::new());
    for (step, sigma) in sigmas.iter().enumerate() {
        let time = table.timestep(*sigma);
        calls.push(Call::exploding(time as f64, *sigma, step));
        points.push((*sigma, count(time) * 10.0));
    }
    let init_scale = sigmas.first().copied().unwrap_or(1.0);
    Ok(Plan { calls, init_scale, solver: Box::new(KLcm { points, last }) })
}
