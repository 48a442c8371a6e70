//! Samplers against diffusers, k-diffusion and the WebUI's formulas.
//!
//! Expected values and how they were made: `tests/parity/samplers.py`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(clippy::cast_possible_truncation, reason = "a model's outputs are f32")]

use lora_eval::model::diffusion::sampler::{
    Algorithm, Choice, Prediction, Sampler, SamplerConfig, SamplerError, Schedule, rescale_guidance,
};
use serde_json::{Value, json};

fn expected() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/samplers.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The configuration of Stable Diffusion 1.5.
fn diffusers() -> SamplerConfig {
    SamplerConfig::from_json(&expected()["configs"]["sd15"]).unwrap()
}

/// Whether a configuration cannot have an algorithm at all.
fn lacks(config: &SamplerConfig, algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::DpmPp3mSde => *config == diffusers(),
        Algorithm::Lcm => *config == SamplerConfig::webui(Prediction::Sample),
        _ => false,
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

/// The toy model of the script.
fn model(x: f32, t: f64) -> f32 {
    let x = f64::from(x);
    (0.8 * x * (t / 300.0).cos() + 0.1 * (3.0 * x).sin()) as f32
}

/// The largest difference, in units of the largest expected value or of 1.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(1.0_f64, |size, value| size.max(value.abs()));
    found.iter().zip(expected).fold(0.0, |most, (a, b)| f64::max(most, (a - b).abs() / size))
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// The final latents, and how many times noise was drawn.
fn run(sampler: &mut Sampler, start: &[f32], noises: &[Vec<f32>]) -> (Vec<f32>, usize) {
    let scale = sampler.init_scale();
    let mut latents: Vec<f32> = start.iter().map(|x| x * scale).collect();
    let mut draws = 0;
    while let Some(call) = sampler.next() {
        let output: Vec<f32> =
            latents.iter().map(|x| model(x * call.scale, call.timestep)).collect();
        let mut noise = || {
            draws += 1;
            noises[(draws - 1) % noises.len()].clone()
        };
        sampler.advance(&mut latents, &output, &mut noise).unwrap();
    }
    (latents, draws)
}

fn config(all: &Value, case: &Value) -> SamplerConfig {
    match case["webui"].as_str() {
        Some("epsilon") => SamplerConfig::webui(Prediction::Epsilon),
        Some(_) => SamplerConfig::webui(Prediction::Velocity),
        None => {
            SamplerConfig::from_json(&all["configs"][case["config"].as_str().unwrap()]).unwrap()
        }
    }
}

fn sampler(all: &Value, case: &Value) -> Sampler {
    let name = case["algorithm"].as_str().unwrap();
    let choice = Choice::parse(name, case["schedule"].as_str()).unwrap();
    let steps = usize::try_from(case["steps"].as_u64().unwrap()).unwrap();
    Sampler::new(&config(all, case), choice, steps).unwrap()
}

fn noises(all: &Value) -> Vec<Vec<f32>> {
    let row = usize::try_from(all["row"].as_u64().unwrap()).unwrap();
    floats(&all["noises"]).chunks(row).map(<[f32]>::to_vec).collect()
}

/// What differs from a case more than rounding explains.
fn differences(all: &Value, case: &Value) -> Vec<String> {
    let mut sampler = sampler(all, case);
    let calls = sampler.calls().to_vec();
    let times: Vec<f64> = calls.iter().map(|call| call.timestep).collect();
    let mut found = vec![
        ("timesteps", distance(&times, &numbers(&case["timesteps"])), 1e-6),
        ("init_scale", f64::from(sampler.init_scale()) / number(&case["init_scale"]) - 1.0, 1e-6),
    ];
    if case["sigmas"].is_array() {
        let levels: Vec<f64> = calls.iter().map(|call| call.sigma).collect();
        found.push(("sigmas", distance(&levels, &numbers(&case["sigmas"])), 1e-6));
    }
    let (latents, draws) = run(&mut sampler, &floats(&all["start"]), &noises(all));
    // the peer's own distance from exact arithmetic counts once for it and once for these samplers
    let rounding = case["rounding"].as_f64().unwrap_or_default();
    found.push((
        "final",
        distance(&wide(&latents), &numbers(&case["final"])),
        1e-6 + 2.0 * rounding,
    ));
    found.push(("draws", draws as f64 - number(&case["draws"]), 0.5));
    let told = found.into_iter().filter(|(_, difference, allowed)| difference.abs() > *allowed);
    told.map(|(what, difference, _)| format!("{what} {difference:.1e}")).collect()
}

#[test]
fn timesteps_levels_draws_and_latents_are_those_of_the_peers() {
    let all = expected();
    let cases = all["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 332);
    let rounding = cases.iter().filter_map(|case| case["rounding"].as_f64());
    assert!(rounding.fold(0.0, f64::max) < 2e-5);
    for case in cases {
        let differences = differences(&all, case);
        let name = ["webui", "config", "algorithm", "schedule", "steps"].map(|key| &case[key]);
        assert!(differences.is_empty(), "{name:?}: {differences:?}");
    }
}

#[test]
fn noise_velocity_and_snr_of_training_are_those_of_diffusers() {
    let all = expected();
    let (start, noise) = (floats(&all["start"]), noises(&all)[..2].concat());
    for case in all["training"].as_array().unwrap() {
        let schedule = config(&all, case).noise_schedule().unwrap();
        let timesteps: Vec<usize> = serde_json::from_value(case["timesteps"].clone()).unwrap();
        let close = |found: &[f32], key: &str| {
            let distance = distance(&wide(found), &numbers(&case[key]));
            assert!(distance < 1e-6, "{} {key}: {distance:.1e}", case["config"]);
        };
        let of_each =
            |f: &dyn Fn(usize) -> f32| timesteps.iter().map(|t| f(*t)).collect::<Vec<_>>();
        close(&of_each(&|t| schedule.alphas_cumprod()[t]), "alphas_cumprod");
        close(&of_each(&|t| schedule.snr(t).unwrap()), "snr");
        close(&schedule.add_noise(&start, &noise, &timesteps).unwrap(), "add_noise");
        close(&schedule.velocity(&start, &noise, &timesteps).unwrap(), "velocity");
    }
}

#[test]
fn rescaled_guidance_is_that_of_diffusers() {
    let all = expected();
    let mut guided: Vec<f32> = floats(&all["start"]).iter().map(|x| x * 3.0).collect();
    let factor = number(&all["guidance"]["factor"]) as f32;
    rescale_guidance(&mut guided, &noises(&all)[..2].concat(), 2, factor).unwrap();
    let distance = distance(&wide(&guided), &numbers(&all["guidance"]["rescaled"]));
    assert!(distance < 1e-6, "{distance:.1e}");
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let all = expected();
    let (start, noises) = (floats(&all["start"]), noises(&all));
    let row = noises[0].len();
    for config in [diffusers(), SamplerConfig::webui(Prediction::Epsilon)] {
        for algorithm in Algorithm::ALL {
            let choice = Choice { algorithm, schedule: Schedule::Automatic };
            if lacks(&config, algorithm) {
                continue;
            }
            let make = || Sampler::new(&config, choice, 6).unwrap();
            let (together, draws) = run(&mut make(), &start, &noises);
            for (i, alone) in start.chunks(row).enumerate() {
                let (latents, alone_draws) = run(&mut make(), alone, &noises);
                assert_eq!(latents, together[i * row..][..row], "{algorithm:?}");
                assert_eq!(alone_draws, draws);
            }
        }
    }
}

#[test]
fn every_step_is_taken_in_order_and_all_predictions_find_the_same_image() {
    let image = 0.75_f32;
    for config in [diffusers(), SamplerConfig::webui(Prediction::Sample)] {
        for algorithm in Algorithm::ALL {
            let choice = Choice { algorithm, schedule: Schedule::Automatic };
            if lacks(&config, algorithm) {
                continue;
            }
            let mut sampler = Sampler::new(&config, choice, 9).unwrap();
            let steps: Vec<usize> = sampler.calls().iter().map(|call| call.step).collect();
            assert!(steps[0] == 0 && steps.windows(2).all(|pair| pair[1] - pair[0] <= 1));
            let mut latents = vec![sampler.init_scale(); 4];
            while let Some(call) = sampler.next() {
                // latents x₀ + σ ε, or the same divided by √(σ²+1)
                let spread =
                    if call.scale == 1.0 { (call.sigma.powi(2) + 1.0).sqrt() } else { 1.0 };
                let output: Vec<f32> = latents
                    .iter()
                    .map(|x| match config.prediction() {
                        Prediction::Sample => image,
                        _ => ((f64::from(*x) * spread - f64::from(image)) / call.sigma) as f32,
                    })
                    .collect();
                sampler.advance(&mut latents, &output, &mut || vec![0.5; 4]).unwrap();
            }
            // the WebUI's DDIM, PLMS and UniPC stop at the first timesteps, where little noise is left
            assert!((latents[0] - image).abs() < 0.1, "{algorithm:?} {latents:?}");
            let error = sampler.advance(&mut latents, &[0.0; 4], &mut || vec![0.5; 4]);
            assert_eq!(error, Err(SamplerError::Finished { calls: steps.len() }));
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error_with_a_hint() {
    let config = diffusers();
    let new = |config: &SamplerConfig, name, schedule, steps| {
        Sampler::new(config, Choice::parse(name, schedule).unwrap(), steps)
    };
    let webui = SamplerConfig::webui(Prediction::Velocity);
    let terminal = SamplerConfig::from_json(&json!({
        "_class_name": "EulerDiscreteScheduler", "rescale_betas_zero_snr": true,
        "timestep_spacing": "trailing", "clip_sample": false,
    }));
    let errors = [
        (new(&config, "euler", None, 0), "`0` steps of `euler`: expected 1 to 1000"),
        (new(&config, "lcm", None, 51), "`51` steps of `lcm`: expected 1 to 50"),
        (new(&webui, "ddim", None, 1), "`1` steps of `ddim`: expected 2 to 1000"),
        (new(&webui, "unipc", None, 2), "`2` steps of `unipc`: expected 3 to 1000"),
        (new(&webui, "lcm", None, 4), "a model that does not predict noise"),
        (new(&config, "dpmpp_3m_sde", None, 9), "diffusers has no such sampler"),
        (new(&config, "euler_a", Some("karras"), 9), "the noise schedule `karras`"),
        (new(&config, "euler", Some("kl_optimal"), 9), "diffusers has no such schedule"),
        (new(&config, "ddim", None, 1000), "timestep `1000`: expected 0 to 999"),
        (new(&terminal.unwrap(), "ddim", None, 9), "pure noise"),
    ];
    for (result, expected) in errors {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("\nhint: "), "{error}");
    }
    let mut sampler = new(&config, "euler_a", None, 9).unwrap();
    let mut latents = [1.0; 4];
    let short = sampler.advance(&mut latents, &[0.0; 3], &mut || vec![0.0; 2]);
    assert!(matches!(short, Err(SamplerError::Length { found: 3, .. })));
    let uneven = sampler.advance(&mut latents, &[0.0; 4], &mut || vec![0.0; 3]);
    assert!(matches!(uneven, Err(SamplerError::Length { found: 3, .. })));
    assert!(sampler.advance(&mut latents, &[0.0; 4], &mut Vec::new).is_err());
}

#[test]
fn no_configuration_makes_a_sampler_panic() {
    let all = expected();
    let values = [
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(2),
        json!(1e-300),
        json!(0.999),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!([]),
        json!([0.5, 0.5]),
        json!({}),
    ];
    let (mut made, mut refused) = (0, 0);
    for base in ["sd15", "zero_snr", "third", "variants", "bh1", "betas"] {
        let base = all["configs"][base].as_object().unwrap();
        let extra = ["lambda_min_clipped", "clip_sample_range", "sigma_max", "timestep_scaling"];
        for key in base.keys().map(String::as_str).chain(extra).collect::<Vec<_>>() {
            for value in &values {
                let mut json = base.clone();
                json.insert(key.to_owned(), value.clone());
                let Ok(config) = SamplerConfig::from_json(&Value::Object(json)) else {
                    refused += 1;
                    continue;
                };
                for (algorithm, schedule) in
                    Algorithm::ALL.into_iter().zip(Schedule::ALL.into_iter().cycle())
                {
                    for (schedule, steps) in [(schedule, 3), (Schedule::Automatic, 61)] {
                        let choice = Choice { algorithm, schedule };
                        let Ok(mut sampler) = Sampler::new(&config, choice, steps) else {
                            refused += 1;
                            continue;
                        };
                        let (latents, _) = run(&mut sampler, &[0.5, -1.0], &[vec![0.1, 0.2]]);
                        assert_eq!(latents.len(), 2);
                        made += 1;
                    }
                }
            }
        }
    }
    assert!(made > 1000 && refused > 1000, "{made} {refused}");
}
