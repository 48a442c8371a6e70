//! Where a sampler's settings come from.

use serde_json::{Map, Value};

use super::error::SamplerError;
use super::name::{Algorithm, Choice, Schedule};
use super::noise_schedule::NoiseSchedule;
use super::prediction::Prediction;
use super::settings::{prediction, training};
use crate::base::hint::nearest;
use crate::base::terminal::printable;

/// How a model wants to be sampled.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerConfig {
    pub(super) source: Source,
    prediction: Prediction,
}

/// Whose behaviour is followed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    /// diffusers, with its configuration.
    Diffusers(Keys, Option<Algorithm>),
    /// The WebUI, which has no configuration.
    WebUi,
}

/// diffusers' classes that share a configuration with those implemented here.
const COMPATIBLE: [&str; 6] = [
    "DDPMScheduler",
    "LMSDiscreteScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DEISMultistepScheduler",
];

impl SamplerConfig {
    /// Reads a diffusers `scheduler/scheduler_config.json`.
    ///
    /// Keys that no class reads are ignored, as diffusers does; each algorithm reads the keys of its
    /// class and has that class's defaults for missing ones (`Scheduler.from_config`). The values of
    /// the configuration's own class are checked here, those of others in [`super::Sampler::new`].
    pub fn from_json(json: &Value) -> Result<Self, SamplerError> {
        let value = |key, found: String, expected: String| SamplerError::Value {
            key,
            found,
            expected,
            hint: "pass the `scheduler_config.json` of a Stable Diffusion pipeline",
        };
        let map = json.as_object().ok_or_else(|| {
            value("_class_name", "missing".to_owned(), "an object with that key".to_owned())
        })?;
        let keys = Keys::new(map);
        let class = match map.get("_class_name") {
            Some(Value::String(class)) => class.as_str(),
            other => {
                let found = other.map_or("missing".to_owned(), shown);
                return Err(value("_class_name", found, "the name of a class".to_owned()));
            }
        };
        let algorithm = match Algorithm::of_class(class) {
            Some(Algorithm::DpmPp2m) if keys.is("algorithm_type", "sde-dpmsolver++") => {
                Some(Algorithm::DpmPp2mSde)
            }
            Some(algorithm) => Some(algorithm),
            None if COMPATIBLE.contains(&class) => None,
            None => {
                let known = Algorithm::ALL.map(Algorithm::class);
                let near = nearest(class, known.into_iter().filter(|class| !class.is_empty()));
                let expected = near.map_or_else(
                    || "a scheduler of Stable Diffusion".to_owned(),
                    |near| format!("one such as `{near}`"),
                );
                return Err(value("_class_name", shown(&Value::from(class)), expected));
            }
        };
        if let Some(algorithm) = algorithm {
            super::diffusers::plan(&keys, Choice { algorithm, schedule: Schedule::Automatic }, 1)?;
        }
        let prediction = prediction(&keys)?;
        Ok(Self { source: Source::Diffusers(keys, algorithm), prediction })
    }

    /// What the WebUI does with a single-file checkpoint: k-diffusion's samplers on the noise levels
    /// of Stable Diffusion (β from 0.00085 to 0.012, linear in √β, 1000 timesteps).
    pub const fn webui(prediction: Prediction) -> Self {
        Self { source: Source::WebUi, prediction }
    }

    /// The same for a model that predicts something else than it says.
    #[must_use]
    pub fn with_prediction(self, prediction: Prediction) -> Self {
        Self { prediction, ..self }
    }

    /// What the model predicts.
    pub const fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The sampler to use where none is asked for: the configuration's class, if it is implemented;
    /// DPM++ 2M in the WebUI.
    pub fn default_choice(&self) -> Option<Choice> {
        let algorithm = match self.source {
            Source::Diffusers(_, algorithm) => algorithm?,
            Source::WebUi => Algorithm::DpmPp2m,
        };
        Some(Choice { algorithm, schedule: Schedule::Automatic })
    }

    /// The noise that the model was trained with (diffusers: `DDPMScheduler` of this configuration).
    pub fn noise_schedule(&self) -> Result<NoiseSchedule, SamplerError> {
        match &self.source {
            Source::Diffusers(keys, _) => training(keys),
            Source::WebUi => Ok(NoiseSchedule::compvis()),
        }
    }
}

/// The keys of a diffusers configuration that were not defaults of another class.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Keys(Map<String, Value>);

impl Keys {
    fn new(map: &Map<String, Value>) -> Self {
        let defaulted: Vec<&str> = map
            .get("_use_default_values")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let kept = map.iter().filter(|(key, value)| {
            !key.starts_with('_') && !value.is_null() && !defaulted.contains(&key.as_str())
        });
        Self(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Whether `key` is the text `value`.
    pub(super) fn is(&self, key: &str, value: &str) -> bool {
        self.get(key).and_then(Value::as_str) == Some(value)
    }

    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, SamplerError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(wrong(key, other, "`true` or `false`")),
        }
    }

    /// A key that must not be true: what it asks for is not implemented.
    pub(super) fn refuse(&self, key: &'static str) -> Result<(), SamplerError> {
        if self.flag(key, false)? {
            return Err(unsupported(key, &Value::Bool(true), "`false`"));
        }
        Ok(())
    }

    pub(super) fn number(&self, key: &'static str) -> Result<Option<f64>, SamplerError> {
        self.get(key)
            .map(|value| {
                let number = value.as_f64().filter(|number| number.is_finite());
                number.ok_or_else(|| wrong(key, value, "a number"))
            })
            .transpose()
    }

    /// A number above 0.
    pub(super) fn positive(&self, key: &'static str) -> Result<Option<f64>, SamplerError> {
        match self.number(key)? {
            Some(number) if number <= 0.0 => {
                Err(wrong(key, &Value::from(number), "a number above 0"))
            }
            number => Ok(number),
        }
    }

    pub(super) fn count(
        &self,
        key: &'static str,
        default: usize,
        (least, most): (usize, usize),
    ) -> Result<usize, SamplerError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count
            .filter(|count| (least..=most).contains(count))
            .ok_or_else(|| wrong(key, value, &format!("a whole number from {least} to {most}")))
    }

    /// The member of `known` that `key` names.
    pub(super) fn one_of<T: Copy>(
        &self,
        key: &'static str,
        default: T,
        known: &[(&str, T)],
    ) -> Result<T, SamplerError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let found = known.iter().find(|(name, _)| value.as_str() == Some(name));
        found.map(|(_, member)| *member).ok_or_else(|| {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
            unsupported(key, value, &names.join(", "))
        })
    }
}

fn shown(value: &Value) -> String {
    format!("`{}`", printable(&value.to_string()))
}

/// A value of the wrong type or outside its bounds.
pub(super) fn wrong(key: &'static str, found: &Value, expected: &str) -> SamplerError {
    let hint = "correct the value in `scheduler_config.json`";
    SamplerError::Value { key, found: shown(found), expected: expected.to_owned(), hint }
}

/// A value that diffusers may know, but this program does not.
pub(super) fn unsupported(key: &'static str, found: &Value, expected: &str) -> SamplerError {
    let hint = "that setting is not implemented; choose another sampler, or change the setting";
    SamplerError::Value { key, found: shown(found), expected: expected.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_class_decides_the_default_and_other_classes_only_lend_their_settings() {
        let default = |json: Value| {
            SamplerConfig::from_json(&json).unwrap().default_choice().map(|choice| choice.algorithm)
        };
        let dpm = "DPMSolverMultistepScheduler";
        assert_eq!(default(json!({"_class_name": "DDIMScheduler"})), Some(Algorithm::Ddim));
        assert_eq!(default(json!({"_class_name": dpm})), Some(Algorithm::DpmPp2m));
        assert_eq!(
            default(json!({"_class_name": dpm, "algorithm_type": "sde-dpmsolver++"})),
            Some(Algorithm::DpmPp2mSde)
        );
        assert_eq!(default(json!({"_class_name": "DEISMultistepScheduler"})), None);
    }

    #[test]
    fn values_that_cannot_be_used_are_errors_that_name_the_key() {
        let cases = [
            (json!([]), "_class_name"),
            (json!({}), "_class_name"),
            (json!({"_class_name": 3}), "_class_name"),
            (json!({"_class_name": "FlowMatchEulerDiscreteScheduler"}), "_class_name"),
            (json!({"_class_name": "DDIMScheduler", "thresholding": true}), "thresholding"),
            (json!({"_class_name": "DDIMScheduler", "clip_sample": 1}), "clip_sample"),
            (json!({"_class_name": "DDIMScheduler", "beta_schedule": "exp"}), "beta_schedule"),
            (json!({"_class_name": "DDIMScheduler", "beta_start": "0"}), "beta_start"),
            (json!({"_class_name": "DDIMScheduler", "beta_end": 1.5}), "beta_end"),
            (json!({"_class_name": "DDIMScheduler", "beta_start": -1e-3}), "beta_start"),
            (json!({"_class_name": "DDIMScheduler", "trained_betas": [0.1]}), "trained_betas"),
            (json!({"_class_name": "DDIMScheduler", "steps_offset": -1}), "steps_offset"),
            (
                json!({"_class_name": "DDIMScheduler", "num_train_timesteps": 1}),
                "num_train_timesteps",
            ),
            (
                json!({"_class_name": "DDIMScheduler", "timestep_spacing": "log"}),
                "timestep_spacing",
            ),
            (json!({"_class_name": "DDIMScheduler", "prediction_type": "flow"}), "prediction_type"),
            (json!({"_class_name": "DDIMScheduler", "beta_start": 1e-12}), "beta_start"),
            (
                json!({"_class_name": "DDIMScheduler", "beta_end": 0.9, "beta_start": 0.9}),
                "num_train_timesteps",
            ),
            (
                json!({"_class_name": "EulerDiscreteScheduler", "sigma_min": 2, "sigma_max": 1}),
                "sigma_min",
            ),
            (json!({"_class_name": "PNDMScheduler"}), "skip_prk_steps"),
            (
                json!({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true,
                       "use_beta_sigmas": true}),
                "use_karras_sigmas",
            ),
            (
                json!({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}),
                "timestep_type",
            ),
            (
                json!({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true}),
                "use_flow_sigmas",
            ),
            (
                json!({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}),
                "algorithm_type",
            ),
        ];
        for (json, key) in cases {
            let error = SamplerConfig::from_json(&json).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{key}`")) && error.contains("\nhint: "),
                "{error}"
            );
        }
    }

    #[test]
    fn nulls_and_values_marked_as_defaults_of_another_class_do_not_count() {
        let keys = Keys::new(
            json!({"_use_default_values": ["a"], "a": 1, "b": null, "c": 2}).as_object().unwrap(),
        );
        assert_eq!((keys.get("a"), keys.get("b")), (None, None));
        assert_eq!(keys.number("c").unwrap(), Some(2.0));
    }
}
