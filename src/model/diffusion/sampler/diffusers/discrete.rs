use super::super::config::Keys;
use super::super::error::SamplerError;
use super::super::float::{index, narrow};
use super::super::name::Algorithm;
use super::super::noise_schedule::level;
use super::super::prediction::Prediction;
use super::super::run::{Call, Plan};
use super::super::settings::Settings;
use super::super::solver::{Ddim, Lcm, Pndm, Transfer};
use super::super::spacing::timesteps;
use super::clip;

/// A model that predicts noise cannot say what the image is where there is nothing but noise.
fn check_zero(settings: &Settings, alpha: f32, algorithm: Algorithm) -> Result<(), SamplerError> {
    if alpha > 0.0 || settings.prediction != Prediction::Epsilon {
        return Ok(());
    }
    Err(SamplerError::Combination {
        sampler: algorithm.name(),
        with: "`rescale_betas_zero_snr` and `prediction_type` `epsilon`".to_owned(),
        problem: "the first timestep is pure noise",
        hint: "set `prediction_type` to what the model predicts, or choose another sampler",
    })
}

/// ᾱ of the timesteps `times` and of those that lie `ratio` before.
fn transfers(
    keys: &Keys,
    settings: &Settings,
    (times, ratio): (&[f64], usize),
    ends_at_one: bool,
) -> Result<Vec<Transfer>, SamplerError> {
    let last = if keys.flag("set_alpha_to_one", ends_at_one)? {
        1.0
    } else {
        settings.noise.alpha_cumprod(0)?
    };
    let transfer = |time: &f64| {
        let time = index(*time);
        let to = match time.checked_sub(ratio) {
            Some(before) => settings.noise.alpha_cumprod(before)?,
            None => last,
        };
        Ok(Transfer { from: settings.noise.alpha_cumprod(time)?, to })
    };
    times.iter().map(transfer).collect()
}

pub(super) fn ddim(keys: &Keys, settings: &Settings, steps: usize) -> Result<Plan, SamplerError> {
    let Settings { noise, spacing, offset, .. } = settings;
    let times = timesteps(*spacing, *offset, (noise.len(), steps), f64::round_ties_even);
    let transfers = transfers(keys, settings, (&times, noise.len() / steps), true)?;
    for transfer in &transfers {
        check_zero(settings, transfer.from, Algorithm::Ddim)?;
    }
    let calls = times.iter().zip(&transfers).enumerate();
    Ok(Plan {
        calls: calls
            .map(|(step, (time, t))| Call::preserving(*time, level(t.from), step))
            .collect(),
        init_scale: 1.0,
        solver: Box::new(Ddim {
            transfers,
            prediction: settings.prediction,
            clip: clip(keys, true)?,
            by_noise: false,
        }),
    })
}

pub(super) fn pndm(keys: &Keys, settings: &Settings, steps: usize) -> Result<Plan, SamplerError> {
    let Settings { noise, spacing, offset, .. } = settings;
    let times = timesteps(*spacing, *offset, (noise.len(), steps), f64::round_ties_even);
    let ratio = noise.len() / steps;
    let mut transfers = transfers(keys, settings, (&times, ratio), false)?;
    let mut calls: Vec<Call> = times
        .iter()
        .zip(&transfers)
        .enumerate()
        .map(|(step, (time, t))| Call::preserving(*time, level(t.from), step))
        .collect();
    // the second call sees where the first step arrived, and takes that step again
    if let [_, second, ..] = calls[..] {
        let time = index(second.timestep);
        let from = noise.alpha_cumprod(time + ratio)?;
        calls.insert(1, Call { step: 0, ..second });
        transfers.insert(1, Transfer { from, to: noise.alpha_cumprod(time)? });
    }
    Ok(Plan {
        calls,
        init_scale: 1.0,
        solver: Box::new(Pndm {
            transfers,
            prediction: settings.prediction,
            noise_at: Vec::new(),
            outputs: Vec::new(),
            start: Vec::new(),
        }),
    })
}

/// `original_inference_steps`: how many timesteps the model was distilled for.
pub(super) fn lcm_steps(keys: &Keys, settings: &Settings) -> Result<usize, SamplerError> {
    let train = settings.noise.len();
    keys.count("original_inference_steps", train.min(50), (1, train))
}

pub(super) fn lcm(keys: &Keys, settings: &Settings, steps: usize) -> Result<Plan, SamplerError> {
    let original = lcm_steps(keys, settings)?;
    let apart = settings.noise.len() / original;
    let part = original as f64 / steps as f64;
    let scaling = narrow(keys.positive("timestep_scaling")?.unwrap_or(10.0));
    let (mut calls, mut points) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let time = (original - index((step as f64 * part).floor())) * apart - 1;
        let alpha = settings.noise.alpha_cumprod(time)?;
        check_zero(settings, alpha, Algorithm::Lcm)?;
        calls.push(Call::preserving(time as f64, level(alpha), step));
        points.push((alpha, narrow(time as f64) * scaling));
    }
    let prediction = settings.prediction;
    let solver = Box::new(Lcm { points, prediction, clip: clip(keys, false)? });
    Ok(Plan { calls, init_scale: 1.0, solver })
}
