//! Settings of a generation: what a suite may set, and within which bounds.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::base::hint::nearest;
use crate::base::terminal::printable;

/// Settings by name, each of which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Settings {
    /// Denoising steps, 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Classifier-free guidance, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// Name of the sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// Width in pixels, a multiple of 8 from 64 to 8192.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u64>,
    /// Height in pixels, a multiple of 8 from 64 to 8192.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// The negative prompt; may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// Layers of the text encoder counted from the last, 1 to 12; 1 skips none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<u64>,
    /// Name of the noise schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// How far guidance is kept from raising the contrast, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_rescale: Option<f64>,
    /// Whose random numbers the noise is made of: `cpu`, `gpu` or `nv`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rng: Option<String>,
    /// Most tokens to generate, 1 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u64>,
    /// Sampling temperature, 0 (greedy) to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Candidates kept at each token; 0 keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u64>,
    /// Probability mass kept at each token, above 0 up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Least probability kept, relative to the likeliest token: 0 to below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Divides the logits of tokens that occurred, 0.01 to 100; 1 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Texts that end a completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
    /// Whether the prompt goes through the base's chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<bool>,
    /// The system message of a chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What to do with a prompt that does not fit the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_prompts: Option<LongPrompts>,
}

/// What to do with a prompt that does not fit the context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LongPrompts {
    /// It is an error.
    #[default]
    Refuse,
    /// Tokens are cut off and counted.
    Truncate,
}

/// Names of all settings.
pub const SETTINGS: [&str; 20] = [
    "steps",
    "guidance",
    "sampler",
    "width",
    "height",
    "negative",
    "clip_skip",
    "scheduler",
    "guidance_rescale",
    "rng",
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "stop",
    "chat",
    "system",
    "long_prompts",
];

/// Names of all axes: settings that may vary within a suite, and `adapter`.
pub const AXES: [&str; 13] = [
    "sampler",
    "steps",
    "guidance",
    "clip_skip",
    "scheduler",
    "guidance_rescale",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "max_new_tokens",
    "adapter",
];

/// Longest name of a sampler, a scheduler or an adapter, in bytes.
const MAX_NAME: usize = 255;

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No such setting.
    #[error("unknown setting `{}`\nhint: {hint}", printable(name))]
    Unknown {
        /// The name given.
        name: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// A value that it cannot have.
    #[error("`{name}` is {found}: expected {expected}\nhint: {hint}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value, in backticks.
        found: String,
        /// What it may be.
        expected: String,
        /// What to do.
        hint: String,
    },
}

impl Settings {
    /// These settings, and for those left out the ones of `base`.
    #[must_use]
    pub fn merged_over(&self, base: &Self) -> Self {
        let (own, base) = (self.clone(), base.clone());
        Self {
            steps: own.steps.or(base.steps),
            guidance: own.guidance.or(base.guidance),
            sampler: own.sampler.or(base.sampler),
            width: own.width.or(base.width),
            height: own.height.or(base.height),
            negative: own.negative.or(base.negative),
            clip_skip: own.clip_skip.or(base.clip_skip),
            scheduler: own.scheduler.or(base.scheduler),
            guidance_rescale: own.guidance_rescale.or(base.guidance_rescale),
            rng: own.rng.or(base.rng),
            max_new_tokens: own.max_new_tokens.or(base.max_new_tokens),
            temperature: own.temperature.or(base.temperature),
            top_k: own.top_k.or(base.top_k),
            top_p: own.top_p.or(base.top_p),
            min_p: own.min_p.or(base.min_p),
            repetition_penalty: own.repetition_penalty.or(base.repetition_penalty),
            stop: own.stop.or(base.stop),
            chat: own.chat.or(base.chat),
            system: own.system.or(base.system),
            long_prompts: own.long_prompts.or(base.long_prompts),
        }
    }

    /// The settings that are set, by name. Integers stay integers, all other numbers are floats.
    pub fn to_json(&self) -> BTreeMap<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map.into_iter().collect(),
            _ => BTreeMap::new(), // a struct of plain values is always an object
        }
    }

    /// Sets `name`, as an axis or a configuration does.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), SettingError> {
        let Some(&name) = SETTINGS.iter().find(|known| **known == name) else {
            return Err(SettingError::Unknown { name: name.to_owned(), hint: hint(name) });
        };
        let given = Given { name, value };
        match name {
            "steps" => self.steps = Some(given.whole(1, 1000)?),
            "guidance" => self.guidance = Some(given.number(0.0, 100.0)?),
            "sampler" => self.sampler = Some(given.name()?),
            "width" => self.width = Some(given.pixels()?),
            "height" => self.height = Some(given.pixels()?),
            "negative" => self.negative = Some(given.text()?),
            "clip_skip" => self.clip_skip = Some(given.whole(1, 12)?),
            "scheduler" => self.scheduler = Some(given.name()?),
            "guidance_rescale" => self.guidance_rescale = Some(given.number(0.0, 1.0)?),
            "rng" => self.rng = Some(given.rng()?),
            "max_new_tokens" => self.max_new_tokens = Some(given.whole(1, 1_000_000)?),
            "temperature" => self.temperature = Some(given.number(0.0, 100.0)?),
            "top_k" => self.top_k = Some(given.whole(0, 1_000_000_000)?),
            "top_p" => self.top_p = Some(given.share("above 0 up to 1", |p| p > 0.0 && p <= 1.0)?),
            "min_p" => {
                self.min_p = Some(given.share("from 0 to below 1", |p| (0.0..1.0).contains(&p))?);
            }
            "repetition_penalty" => self.repetition_penalty = Some(given.number(0.01, 100.0)?),
            "stop" => self.stop = Some(given.stop()?),
            "chat" => self.chat = Some(given.flag()?),
            "system" => self.system = Some(given.text()?),
            _ => self.long_prompts = Some(given.long_prompts()?),
        }
        Ok(())
    }
}

/// The value of an axis as it is kept, checked like the setting of that name.
pub(super) fn axis_value(axis: &'static str, value: &Value) -> Result<Value, SettingError> {
    if axis == "adapter" {
        return Given { name: axis, value }.name().map(Value::from);
    }
    let mut settings = Settings::default();
    settings.set(axis, value)?;
    Ok(settings.to_json().remove(axis).unwrap_or(Value::Null))
}

/// Whether a setting is text, so that `001` or `true` without quotes means its letters.
pub(super) fn is_text(name: &str) -> bool {
    matches!(
        name,
        "sampler"
            | "negative"
            | "scheduler"
            | "rng"
            | "stop"
            | "system"
            | "long_prompts"
            | "adapter"
    )
}

fn hint(name: &str) -> String {
    match nearest(name, SETTINGS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known settings: {}", SETTINGS.join(", ")),
    }
}

/// A value on its way to a setting.
struct Given<'a> {
    name: &'static str,
    value: &'a Value,
}

impl Given<'_> {
    fn refuse<T>(&self, expected: impl Into<String>) -> Result<T, SettingError> {
        let found = match self.value {
            Value::Null => "empty".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
            Value::String(text) => format!("`{}`", printable(text)),
            other => format!("`{other}`"),
        };
        let hint = match self.value.as_str() {
            Some(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                "write numbers without quotes".to_owned()
            }
            _ => format!("change the value, or leave `{}` out", self.name),
        };
        Err(SettingError::Value { name: self.name, found, expected: expected.into(), hint })
    }

    fn whole(&self, low: u64, high: u64) -> Result<u64, SettingError> {
        match self.value.as_u64() {
            Some(n) if (low..=high).contains(&n) => Ok(n),
            _ => self.refuse(format!("a whole number from {low} to {high}")),
        }
    }

    fn pixels(&self) -> Result<u64, SettingError> {
        match self.value.as_u64() {
            Some(n) if (64..=8192).contains(&n) && n % 8 == 0 => Ok(n),
            _ => self.refuse("a multiple of 8 from 64 to 8192"),
        }
    }

    fn number(&self, low: f64, high: f64) -> Result<f64, SettingError> {
        match self.value.as_f64() {
            Some(x) if (low..=high).contains(&x) => Ok(x + 0.0), // -0 becomes 0
            _ => self.refuse(format!("a number from {low} to {high}")),
        }
    }

    fn share(&self, range: &str, within: fn(f64) -> bool) -> Result<f64, SettingError> {
        match self.value.as_f64() {
            Some(x) if within(x) => Ok(x + 0.0),
            _ => self.refuse(format!("a number {range}")),
        }
    }

    fn flag(&self) -> Result<bool, SettingError> {
        self.value.as_bool().map_or_else(|| self.refuse("`true` or `false`"), Ok)
    }

    fn text(&self) -> Result<String, SettingError> {
        self.value.as_str().map_or_else(|| self.refuse("text"), |text| Ok(text.to_owned()))
    }

    fn name(&self) -> Result<String, SettingError> {
        match self.value.as_str() {
            Some(text)
                if !text.trim().is_empty()
                    && text.len() <= MAX_NAME
                    && !text.chars().any(char::is_control) =>
            {
                Ok(text.trim().to_owned())
            }
            _ => self.refuse("a name"),
        }
    }

    fn rng(&self) -> Result<String, SettingError> {
        match self.value.as_str().map(str::to_ascii_lowercase) {
            Some(source) if ["cpu", "gpu", "nv"].contains(&source.as_str()) => Ok(source),
            _ => self.refuse("`cpu`, `gpu` or `nv`"),
        }
    }

    fn stop(&self) -> Result<Vec<String>, SettingError> {
        let expected = "text, or a list of texts, none of them empty";
        let texts: Option<Vec<String>> = match self.value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(list) => {
                list.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        match texts {
            Some(texts) if texts.iter().all(|text| !text.is_empty()) => Ok(texts),
            _ => self.refuse(expected),
        }
    }

    fn long_prompts(&self) -> Result<LongPrompts, SettingError> {
        match self.value.as_str() {
            Some("refuse") => Ok(LongPrompts::Refuse),
            Some("truncate") => Ok(LongPrompts::Truncate),
            _ => self.refuse("`refuse` or `truncate`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_are_part_of_the_range_and_what_lies_beyond_is_refused() {
        // Name, values that are allowed, values that are not: from the documentation of the fields.
        let cases = [
            ("steps", json!([1, 1000]), json!([0, 1001, -1, 2.5, "3", true, null, [1], {}])),
            ("guidance", json!([0, 7.5, 100]), json!([-0.1, 100.1, "7", false])),
            ("width", json!([64, 8192, 520]), json!([63, 8200, 100, 512.5, "512"])),
            ("height", json!([64, 8192]), json!([0, 8193])),
            ("clip_skip", json!([1, 12]), json!([0, 13])),
            ("max_new_tokens", json!([1, 1_000_000]), json!([0, 1_000_001])),
            ("temperature", json!([0, 0.7, 100]), json!([-1, 101])),
            ("top_k", json!([0, 50]), json!([-1, 0.5])),
            ("top_p", json!([0.001, 1]), json!([0, 1.001])),
            ("min_p", json!([0, 0.999]), json!([1, -0.001])),
            ("repetition_penalty", json!([0.01, 100]), json!([0, 0.009, 101])),
            ("sampler", json!(["euler_a"]), json!(["", " ", 3, "a\nb"])),
            ("scheduler", json!(["karras"]), json!([""])),
            ("guidance_rescale", json!([0, 0.7, 1]), json!([-0.1, 1.1, "a"])),
            ("rng", json!(["cpu", "NV", "gpu"]), json!(["cuda", 1])),
            ("negative", json!(["", "blurry"]), json!([1, null])),
            ("system", json!(["", "Be brief."]), json!([["x"]])),
            ("stop", json!(["\n", ["a", "b"], []]), json!(["", ["a", ""], [1], 1])),
            ("chat", json!([true, false]), json!(["yes", 1])),
            ("long_prompts", json!(["refuse", "truncate"]), json!(["Refuse", "", 1])),
        ];
        assert_eq!(cases.len(), SETTINGS.len());
        for (name, good, bad) in cases {
            for value in good.as_array().unwrap() {
                let mut settings = Settings::default();
                settings.set(name, value).unwrap();
                assert!(settings.to_json().contains_key(name), "{name} {value}");
            }
            for value in bad.as_array().unwrap() {
                let problem = Settings::default().set(name, value).unwrap_err();
                assert!(matches!(problem, SettingError::Value { .. }), "{name} {value}");
            }
        }
    }

    #[test]
    fn a_refusal_names_value_and_range() {
        let problem = |name, value| Settings::default().set(name, &value).unwrap_err().to_string();
        let all = [
            problem("steps", json!(0)),
            problem("guidance", json!(-1.5)),
            problem("width", json!(100)),
            problem("top_p", json!(0)),
            problem("min_p", json!(1)),
            problem("sampler", json!("\u{1b}[31m")),
            problem("stop", json!([""])),
            problem("chat", json!("yes")),
            problem("negative", json!(null)),
            problem("long_prompts", json!("cut")),
            problem("sampelr", json!("euler")),
            problem("zzz", json!(1)),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn own_settings_win_over_the_base() {
        let base = Settings { steps: Some(25), chat: Some(true), ..Settings::default() };
        let own = Settings { steps: Some(5), top_k: Some(0), ..Settings::default() };
        let merged = serde_json::to_string(&own.merged_over(&base).to_json()).unwrap();
        assert_eq!(merged, r#"{"chat":true,"steps":5,"top_k":0}"#);
    }

    #[test]
    fn merging_covers_every_setting() {
        let values = json!([
            1, 1, "a", 64, 64, "", 1, "a", 1, "cpu", 1, 1, 1, 1, 0, 1, "a", true, "", "refuse"
        ]);
        let mut base = Settings::default();
        for (name, value) in SETTINGS.iter().zip(values.as_array().unwrap()) {
            base.set(name, value).unwrap();
        }
        assert_eq!(base.to_json().len(), SETTINGS.len());
        assert_eq!(Settings::default().merged_over(&base), base);
        assert_eq!(base.merged_over(&Settings::default()), base);
    }

    #[test]
    fn an_axis_keeps_the_type_of_its_setting() {
        assert_eq!(axis_value("guidance", &json!(7)).unwrap(), json!(7.0));
        assert_eq!(axis_value("steps", &json!(7)).unwrap(), json!(7));
        assert_eq!(axis_value("adapter", &json!("house")).unwrap(), json!("house"));
        for axis in AXES {
            assert!(axis == "adapter" || SETTINGS.contains(&axis), "{axis}");
        }
    }
}
