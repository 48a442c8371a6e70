//! Plans of diffusers' schedulers: timesteps, noise levels and the solver of each.
//!
//! - `exploding`: Euler, Heun and DPM++ SDE, on latents x₀ + σ ε
//! - `multistep`: DPM-Solver++ and `UniPC`, on latents α x₀ + σ ε with levels between timesteps
//! - `discrete`: DDIM, PNDM and LCM, on whole timesteps

mod discrete;
mod exploding;
mod multistep;

use serde_json::Value;

use super::config::{Keys, unsupported};
use super::error::SamplerError;
use super::float::narrow;
use super::name::{Algorithm, Choice};
use super::noise_schedule::level;
use super::run::Plan;
use super::settings::Settings;

/// The plan of `choice` with this configuration.
pub(super) fn plan(keys: &Keys, choice: Choice, steps: usize) -> Result<Plan, SamplerError> {
    let Choice { algorithm, schedule } = choice;
    let settings = Settings::read(keys, algorithm, schedule)?;
    let sampler = algorithm.name();
    let most = match algorithm {
        Algorithm::Lcm => discrete::lcm_steps(keys, &settings)?,
        _ => settings.noise.len(),
    };
    if !(1..=most).contains(&steps) {
        return Err(SamplerError::Steps { sampler, steps, least: 1, most });
    }
    match algorithm {
        Algorithm::Euler | Algorithm::EulerAncestral => {
            Ok(exploding::euler(&settings, algorithm, steps))
        }
        Algorithm::Heun => exploding::heun(keys, &settings, steps),
        Algorithm::DpmPpSde => Ok(exploding::dpm_sde(&settings, steps)),
        Algorithm::DpmPp2m | Algorithm::DpmPp2mSde => {
            multistep::dpm(keys, &settings, algorithm, steps)
        }
        Algorithm::DpmPp3mSde => Err(SamplerError::Combination {
            sampler,
            with: "a diffusers folder".to_owned(),
            problem: "diffusers has no such sampler",
            hint: "choose `dpmpp_2m_sde`, or a single-file checkpoint",
        }),
        Algorithm::UniPc => multistep::unipc(keys, &settings, steps),
        Algorithm::Ddim => discrete::ddim(keys, &settings, steps),
        Algorithm::Pndm => discrete::pndm(keys, &settings, steps),
        Algorithm::Lcm => discrete::lcm(keys, &settings, steps),
    }
}

/// Settings of the algorithm's class that are not implemented.
pub(super) fn check(keys: &Keys, algorithm: Algorithm) -> Result<(), SamplerError> {
    match algorithm {
        Algorithm::Pndm if !keys.flag("skip_prk_steps", false)? => {
            let found = keys.get("skip_prk_steps").cloned().unwrap_or(Value::Bool(false));
            Err(unsupported("skip_prk_steps", &found, "`true`"))
        }
        Algorithm::Euler => {
            keys.one_of("interpolation_type", (), &[("linear", ())])?;
            keys.one_of("timestep_type", (), &[("discrete", ())])
        }
        Algorithm::DpmPp2m | Algorithm::DpmPp2mSde => {
            keys.refuse("use_flow_sigmas")?;
            keys.refuse("use_dynamic_shifting")?;
            let known = [("dpmsolver++", ()), ("sde-dpmsolver++", ()), ("deis", ())];
            keys.one_of("algorithm_type", (), &known)?;
            match keys.get("variance_type") {
                Some(found) => Err(unsupported("variance_type", found, "none")),
                None => Ok(()),
            }
        }
        Algorithm::UniPc => {
            keys.refuse("use_flow_sigmas")?;
            keys.refuse("use_dynamic_shifting")?;
            for key in ["predict_x0", "lower_order_final"] {
                if !keys.flag(key, true)? {
                    return Err(unsupported(key, &Value::Bool(false), "`true`"));
                }
            }
            match keys.get("solver_p") {
                Some(found) => Err(unsupported("solver_p", found, "none")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// `clip_sample_range` where `clip_sample` is set.
fn clip(keys: &Keys, default: bool) -> Result<Option<f32>, SamplerError> {
    let range = keys.positive("clip_sample_range")?.unwrap_or(1.0);
    Ok(keys.flag("clip_sample", default)?.then_some(narrow(range)))
}

/// `sigmas` in f32, with the last level.
fn with_last(sigmas: Vec<f64>, last: f64) -> Vec<f32> {
    sigmas.into_iter().chain([last]).map(narrow).collect()
}

/// The level after the last call.
fn last_level(settings: &Settings) -> f64 {
    if settings.ends_at_zero {
        return 0.0;
    }
    settings.noise.alphas_cumprod().first().map_or(0.0, |alpha| f64::from(level(*alpha)))
}
