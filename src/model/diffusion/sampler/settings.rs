//! The settings of one diffusers class, read from a configuration of any.

use serde_json::Value;

use super::config::{Keys, wrong};
use super::error::SamplerError;
use super::float::{linspace_f32, narrow};
use super::name::{Algorithm, Schedule};
use super::noise_schedule::NoiseSchedule;
use super::prediction::Prediction;
use super::spacing::{Levels, Spacing};

/// What an algorithm needs besides its own keys.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub prediction: Prediction,
    pub noise: NoiseSchedule,
    pub spacing: Spacing,
    /// `steps_offset`.
    pub offset: usize,
    pub levels: Levels,
    /// `sigma_min` and `sigma_max`, which replace the ends of Karras', exponential and beta levels.
    pub ends: (Option<f64>, Option<f64>),
    /// Whether the last noise level is 0 (`final_sigmas_type`), else that of the first timestep.
    pub ends_at_zero: bool,
}

/// Defaults of a class for keys that are missing, and which keys it reads.
struct Class {
    betas: (f64, f64, BetaSchedule),
    spacing: Spacing,
    /// Those of [`LEVELS`], [`LAST_LEVEL`], [`ZERO_SNR`] and [`THRESHOLDING`] that it reads.
    reads: &'static [&'static str],
}

/// Stands for all keys that choose noise levels.
const LEVELS: &str = "use_karras_sigmas";
const LAST_LEVEL: &str = "final_sigmas_type";
const ZERO_SNR: &str = "rescale_betas_zero_snr";
const THRESHOLDING: &str = "thresholding";

#[derive(Debug, Clone, Copy, PartialEq)]
enum BetaSchedule {
    Linear,
    ScaledLinear,
    SquaredCosine,
}

/// Most timesteps that a configuration may have.
const MOST_TIMESTEPS: usize = 100_000;

const DDPM_BETAS: (f64, f64, BetaSchedule) = (0.0001, 0.02, BetaSchedule::Linear);

impl Class {
    /// The signature of the class's `__init__` (diffusers 0.42).
    const fn of(algorithm: Algorithm) -> Self {
        let k_betas = (0.00085, 0.012, BetaSchedule::Linear);
        let lcm_betas = (0.00085, 0.012, BetaSchedule::ScaledLinear);
        let (betas, spacing, reads): (_, _, &[&str]) = match algorithm {
            Algorithm::Ddim => (DDPM_BETAS, Spacing::Leading, &[ZERO_SNR, THRESHOLDING]),
            Algorithm::Pndm => (DDPM_BETAS, Spacing::Leading, &[]),
            Algorithm::Euler => (DDPM_BETAS, Spacing::Linspace, &[LEVELS, LAST_LEVEL, ZERO_SNR]),
            Algorithm::EulerAncestral => (DDPM_BETAS, Spacing::Linspace, &[ZERO_SNR]),
            Algorithm::Heun | Algorithm::DpmPpSde => (k_betas, Spacing::Linspace, &[LEVELS]),
            Algorithm::DpmPp2m
            | Algorithm::DpmPp2mSde
            | Algorithm::DpmPp3mSde
            | Algorithm::UniPc => {
                (DDPM_BETAS, Spacing::Linspace, &[LEVELS, LAST_LEVEL, ZERO_SNR, THRESHOLDING])
            }
            Algorithm::Lcm => (lcm_betas, Spacing::Leading, &[ZERO_SNR, THRESHOLDING]),
        };
        Self { betas, spacing, reads }
    }

    fn reads(&self, key: &str) -> bool {
        self.reads.contains(&key)
    }
}

impl Settings {
    /// The settings of `algorithm`'s class; a `schedule` other than automatic replaces the
    /// configuration's, as the keyword arguments of `from_config` do.
    pub(super) fn read(
        keys: &Keys,
        algorithm: Algorithm,
        schedule: Schedule,
    ) -> Result<Self, SamplerError> {
        let class = Class::of(algorithm);
        if class.reads(THRESHOLDING) {
            keys.refuse(THRESHOLDING)?;
        }
        super::diffusers::check(keys, algorithm)?;
        let zero_snr = class.reads(ZERO_SNR) && keys.flag(ZERO_SNR, false)?;
        let mut noise = noise_schedule(keys, class.betas, zero_snr)?;
        // DDIM and LCM divide by no noise level, and keep a last ᾱ of 0
        if zero_snr && !matches!(algorithm, Algorithm::Ddim | Algorithm::Lcm) {
            noise.make_last_level_finite();
        }
        let own = (
            keys.one_of("timestep_spacing", class.spacing, &Spacing::NAMES)?,
            if class.reads(LEVELS) { levels(keys, algorithm)? } else { Levels::OfTimesteps },
        );
        let (spacing, levels) = scheduled(own, &class, algorithm, schedule)?;
        let ends_at_zero = !class.reads(LAST_LEVEL)
            || keys.one_of(LAST_LEVEL, true, &[("zero", true), ("sigma_min", false)])?;
        let ends = match (algorithm, levels) {
            // the one place where a class of diffusers does not look at them
            (Algorithm::DpmPpSde, Levels::Karras) => (None, None),
            _ => (keys.positive("sigma_min")?, keys.positive("sigma_max")?),
        };
        if let (Some(low), Some(high)) = ends
            && low >= high
        {
            return Err(wrong("sigma_min", &Value::from(low), "a number below `sigma_max`"));
        }
        Ok(Self {
            prediction: prediction(keys)?,
            offset: keys.count("steps_offset", 0, (0, noise.len() - 1))?,
            ends,
            noise,
            spacing,
            levels,
            ends_at_zero,
        })
    }
}

/// Spacing and levels after `schedule` has replaced its part of the configuration's `own`.
fn scheduled(
    own: (Spacing, Levels),
    class: &Class,
    algorithm: Algorithm,
    schedule: Schedule,
) -> Result<(Spacing, Levels), SamplerError> {
    let none = |problem| {
        Err(SamplerError::Combination {
            sampler: algorithm.name(),
            with: format!("the noise schedule `{}`", schedule.name()),
            problem,
            hint: "leave `scheduler` out, or choose another sampler",
        })
    };
    let has_spacing = algorithm != Algorithm::Lcm;
    match schedule {
        Schedule::Automatic => Ok(own),
        Schedule::Uniform if has_spacing => Ok((Spacing::Linspace, Levels::OfTimesteps)),
        Schedule::SgmUniform if has_spacing => Ok((Spacing::Trailing, Levels::OfTimesteps)),
        Schedule::Karras if class.reads(LEVELS) => Ok((own.0, Levels::Karras)),
        Schedule::Exponential if class.reads(LEVELS) => Ok((own.0, Levels::Exponential)),
        Schedule::Beta if class.reads(LEVELS) => Ok((own.0, Levels::Beta)),
        Schedule::Uniform
        | Schedule::SgmUniform
        | Schedule::Karras
        | Schedule::Exponential
        | Schedule::Beta => none("its class in diffusers has no such setting"),
        _ => none("diffusers has no such schedule"),
    }
}

/// `prediction_type`.
pub(super) fn prediction(keys: &Keys) -> Result<Prediction, SamplerError> {
    keys.one_of(
        "prediction_type",
        Prediction::Epsilon,
        &[
            ("epsilon", Prediction::Epsilon),
            ("v_prediction", Prediction::Velocity),
            ("sample", Prediction::Sample),
        ],
    )
}

/// The noise of training: that of diffusers' `DDPMScheduler`.
pub(super) fn training(keys: &Keys) -> Result<NoiseSchedule, SamplerError> {
    noise_schedule(keys, DDPM_BETAS, keys.flag(ZERO_SNR, false)?)
}

fn levels(keys: &Keys, algorithm: Algorithm) -> Result<Levels, SamplerError> {
    let mut chosen = Vec::new();
    for (key, levels) in [
        ("use_karras_sigmas", Levels::Karras),
        ("use_exponential_sigmas", Levels::Exponential),
        ("use_beta_sigmas", Levels::Beta),
    ] {
        if keys.flag(key, false)? {
            chosen.push((key, levels));
        }
    }
    let uses_lambdas = matches!(algorithm, Algorithm::DpmPp2m | Algorithm::DpmPp2mSde)
        && keys.flag("use_lu_lambdas", false)?;
    match chosen.as_slice() {
        [] if uses_lambdas => Ok(Levels::Lambdas),
        [] => Ok(Levels::OfTimesteps),
        [(_, levels)] => Ok(*levels),
        [(key, _), (other, _), ..] => {
            Err(wrong(key, &Value::Bool(true), &format!("`false`, since `{other}` is `true`")))
        }
    }
}

fn noise_schedule(
    keys: &Keys,
    defaults: (f64, f64, BetaSchedule),
    zero_snr: bool,
) -> Result<NoiseSchedule, SamplerError> {
    let count = keys.count("num_train_timesteps", 1000, (2, MOST_TIMESTEPS))?;
    let noise = NoiseSchedule::from_betas(&read_betas(keys, defaults, count)?, zero_snr);
    let levels = noise.levels();
    if levels.iter().any(|level| !(level.is_finite() || zero_snr)) {
        let expected = "fewer, since these betas leave nothing of the image";
        return Err(wrong("num_train_timesteps", &Value::from(count), expected));
    }
    if levels.first().is_none_or(|level| *level <= 0.0) {
        let found = keys.get("beta_start").cloned().unwrap_or_default();
        return Err(wrong("beta_start", &found, "larger, since the first timestep has no noise"));
    }
    Ok(noise)
}

fn read_betas(
    keys: &Keys,
    (start, end, schedule): (f64, f64, BetaSchedule),
    count: usize,
) -> Result<Vec<f32>, SamplerError> {
    const EXPECTED: &str = "a number from 0 to below 1";
    let key = "trained_betas";
    match keys.get(key) {
        Some(Value::Array(values)) if values.len() == count => {
            let read = |value: &Value| {
                let beta = value.as_f64().filter(|beta| (0.0..1.0).contains(beta));
                beta.map(narrow).ok_or_else(|| wrong(key, value, EXPECTED))
            };
            values.iter().map(read).collect()
        }
        Some(other) => {
            let found = match other {
                Value::Array(values) => Value::from(format!("{} numbers", values.len())),
                other => other.clone(),
            };
            let expected = format!("a list of `num_train_timesteps` = {count} numbers");
            Err(wrong(key, &found, &expected))
        }
        None => {
            let beta = |key, default| match keys.number(key)?.unwrap_or(default) {
                beta if (0.0..1.0).contains(&beta) => Ok(beta),
                beta => Err(wrong(key, &Value::from(beta), EXPECTED)),
            };
            let known = [
                ("linear", BetaSchedule::Linear),
                ("scaled_linear", BetaSchedule::ScaledLinear),
                ("squaredcos_cap_v2", BetaSchedule::SquaredCosine),
            ];
            let schedule = keys.one_of("beta_schedule", schedule, &known)?;
            Ok(betas(schedule, beta("beta_start", start)?, beta("beta_end", end)?, count))
        }
    }
}

fn betas(schedule: BetaSchedule, start: f64, end: f64, count: usize) -> Vec<f32> {
    match schedule {
        BetaSchedule::Linear => linspace_f32(narrow(start), narrow(end), count),
        BetaSchedule::ScaledLinear => {
            let roots = linspace_f32(narrow(start.sqrt()), narrow(end.sqrt()), count);
            roots.into_iter().map(|root| root * root).collect()
        }
        // Nichol and Dhariwal (2021), with β at most 0.999
        BetaSchedule::SquaredCosine => {
            let bar = |i: usize| {
                let t = i as f64 / count as f64;
                ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powi(2)
            };
            (0..count).map(|i| narrow((1.0 - bar(i + 1) / bar(i)).min(0.999))).collect()
        }
    }
}
