//! Frequencies of rotary embeddings and how they are stretched to longer contexts.
//!
//! Source: transformers 5, `modeling_rope_utils.py`; linear (kaiokendev), dynamic NTK (bloc97,
//! emozilla), `YaRN` (Peng et al., 2023), `LongRoPE` (Ding et al., 2024), Llama 3. Computed in f32, as
//! there.

use candle_core::Device;
use serde_json::Value;

use super::error::ConfigError;
use crate::nn::rotary::Angles;

/// One rotary embedding of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Features of a head that are turned.
    width: usize,
    theta: f64,
    scaling: Scaling,
    /// Frequencies at the length the model was trained for.
    frequencies: Vec<f32>,
    /// Factor of cosines and sines.
    attention: f32,
}

#[derive(Debug, Clone, PartialEq)]
enum Scaling {
    /// The frequencies hold at any length.
    Fixed,
    /// Beyond `trained` tokens the base grows with the length.
    Dynamic { factor: f64, trained: usize },
    /// Beyond `trained` tokens other frequencies hold.
    Long { trained: usize, long: Vec<f32> },
}

/// The keys of one rope, wherever they stand.
struct Keys<'a> {
    config: &'a Value,
    rope: &'a Value,
    theta: f64,
}

impl Keys<'_> {
    fn number(&self, key: &'static str) -> Result<Option<f64>, ConfigError> {
        match &self.rope[key] {
            Value::Null => Ok(None),
            value => match value.as_f64().filter(|number| number.is_finite()) {
                Some(number) => Ok(Some(number)),
                None => Err(ConfigError::key(key, value, "a number")),
            },
        }
    }

    fn needed(&self, key: &'static str) -> Result<f64, ConfigError> {
        above_zero(self.rope, key)?.ok_or(ConfigError::MissingKey { key })
    }

    fn context(&self) -> f64 {
        self.config["max_position_embeddings"].as_f64().unwrap_or(2048.0)
    }

    /// The length the model was trained for: Phi-3's place for it wins.
    fn original(&self) -> Result<f64, ConfigError> {
        const KEY: &str = "original_max_position_embeddings";
        let outer = self.config[KEY].as_f64();
        Ok(outer.or(self.number(KEY)?).filter(|n| *n >= 1.0).unwrap_or_else(|| self.context()))
    }
}

/// A number above 0, if the key is there.
fn above_zero(of: &Value, key: &'static str) -> Result<Option<f64>, ConfigError> {
    let value = &of[key];
    if value.is_null() {
        return Ok(None);
    }
    value
        .as_f64()
        .filter(|number| number.is_finite() && *number > 0.0)
        .map(Some)
        .ok_or_else(|| ConfigError::key(key, value, "a number above 0"))
}

impl Rope {
    /// The ropes of a configuration: one, or for Gemma 3 that of full layers and that of sliding
    /// ones.
    pub(super) fn read(
        config: &Value,
        family: &str,
        head: usize,
    ) -> Result<Vec<Self>, ConfigError> {
        let parameters = &config["rope_parameters"];
        let scaling = if parameters.is_object() { parameters } else { &config["rope_scaling"] };
        if !scaling.is_object() && !scaling.is_null() {
            return Err(ConfigError::key("rope_scaling", scaling, "a mapping"));
        }
        let default = match family {
            "gemma3_text" => 1_000_000.0,
            "smollm3" => 2_000_000.0,
            _ => 10_000.0,
        };
        let theta = above_zero(config, "rope_theta")?.unwrap_or(default);
        if family == "gemma3_text" {
            let nested = scaling["full_attention"].is_object();
            let full = if nested { &scaling["full_attention"] } else { scaling };
            let local = above_zero(config, "rope_local_base_freq")?.unwrap_or(10_000.0);
            let sliding = if nested { &scaling["sliding_attention"] } else { &Value::Null };
            return Ok(vec![
                Self::one(config, full, theta, head)?,
                Self::one(config, sliding, local, head)?,
            ]);
        }
        let nested =
            ["full_attention", "sliding_attention"].iter().find(|k| scaling[**k].is_object());
        let rope = nested.map_or(scaling, |key| &scaling[*key]);
        Ok(vec![Self::one(config, rope, theta, head)?])
    }

    fn one(config: &Value, rope: &Value, theta: f64, head: usize) -> Result<Self, ConfigError> {
        const PARTIAL: &str = "partial_rotary_factor";
        let theta = above_zero(rope, "rope_theta")?.unwrap_or(theta);
        let keys = Keys { config, rope, theta };
        let partial = above_zero(rope, PARTIAL)?.or(above_zero(config, PARTIAL)?).unwrap_or(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "as int() does"
        )]
        let width = (head as f64 * partial.clamp(0.0, 1.0)) as usize / 2 * 2;
        let plain = frequencies(theta, width);
        let kind = rope["rope_type"].as_str().or(rope["type"].as_str()).unwrap_or("default");
        let mut made = Self {
            width,
            theta,
            scaling: Scaling::Fixed,
            frequencies: plain.clone(),
            attention: 1.0,
        };
        match kind {
            "default" | "mrope" => {}
            "linear" => {
                let factor = as_f32(keys.needed("factor")?);
                made.frequencies.iter_mut().for_each(|f| *f /= factor);
            }
            "dynamic" => {
                let trained = to_count(keys.context());
                made.scaling = Scaling::Dynamic { factor: keys.needed("factor")?, trained };
            }
            "llama3" => made.frequencies = llama3(&keys, &plain)?,
            "yarn" => (made.frequencies, made.attention) = yarn(&keys, width)?,
            "longrope" | "su" => made = long(&keys, made)?,
            _ => {
                let value =
                    if rope["rope_type"].is_null() { &rope["type"] } else { &rope["rope_type"] };
                let expected = "default, linear, dynamic, llama3, yarn or longrope";
                return Err(ConfigError::key("rope_type", value, expected));
            }
        }
        Ok(made)
    }

    /// How long a context the base of a dynamic rope can be stretched to.
    pub(super) fn reach(&self) -> Option<usize> {
        match &self.scaling {
            Scaling::Dynamic { factor, trained } => Some(to_count(*trained as f64 * factor)),
            _ => None,
        }
    }

    /// The length beyond which cached keys were turned by other frequencies and must be made again.
    pub(super) fn switches_at(&self) -> Option<usize> {
        match &self.scaling {
            Scaling::Long { trained, .. } => Some(*trained),
            _ => None,
        }
    }

    /// Angles for the tokens of a batch: row b has the positions `positions[b]`, all rows as many.
    pub fn angles(&self, positions: &[Vec<usize>], device: &Device) -> candle_core::Result<Angles> {
        let length = positions.first().map_or(0, Vec::len);
        let half = self.width / 2;
        let mut cos = Vec::with_capacity(positions.len() * length * half);
        let mut sin = Vec::with_capacity(cos.capacity());
        for row in positions {
            let end = row.iter().max().map_or(0, |last| last + 1);
            let frequencies = self.at_length(end);
            for position in row {
                for frequency in frequencies.iter() {
                    let angle = *position as f32 * frequency;
                    cos.push(angle.cos() * self.attention);
                    sin.push(angle.sin() * self.attention);
                }
            }
        }
        Angles::new(cos, sin, (positions.len(), length, half), device)
    }

    /// The frequencies for a sequence of `length` tokens.
    fn at_length(&self, length: usize) -> std::borrow::Cow<'_, [f32]> {
        match &self.scaling {
            Scaling::Dynamic { factor, trained } if length > *trained => {
                let width = self.width as f64;
                let stretch = factor * length as f64 / *trained as f64 - (factor - 1.0);
                frequencies(self.theta * stretch.powf(width / (width - 2.0)), self.width).into()
            }
            Scaling::Long { trained, long } if length > *trained => long.into(),
            _ => (&self.frequencies).into(),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
fn as_f32(value: f64) -> f32 {
    value as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, as int() does"
)]
fn to_count(value: f64) -> usize {
    value as usize
}

/// `θ^(-2i/width)`
fn frequencies(theta: f64, width: usize) -> Vec<f32> {
    (0..width / 2).map(|i| 1.0 / as_f32(theta).powf((2 * i) as f32 / width as f32)).collect()
}

fn llama3(keys: &Keys<'_>, plain: &[f32]) -> Result<Vec<f32>, ConfigError> {
    let factor = keys.needed("factor")?;
    let (low, high) = (keys.needed("low_freq_factor")?, keys.needed("high_freq_factor")?);
    let original = keys.original()?;
    let (low_wave, high_wave) = (original / low, original / high);
    let stretch = |frequency: &f32| {
        let f = f64::from(*frequency);
        let wave = 2.0 * std::f64::consts::PI / f;
        if wave > low_wave {
            as_f32(f / factor)
        } else if wave < high_wave {
            *frequency
        } else {
            let smooth = (original / wave - low) / (high - low);
            as_f32((1.0 - smooth) * f / factor + smooth * f)
        }
    };
    Ok(plain.iter().map(stretch).collect())
}

fn yarn(keys: &Keys<'_>, width: usize) -> Result<(Vec<f32>, f32), ConfigError> {
    let factor = keys.needed("factor")?;
    let fast = keys.number("beta_fast")?.unwrap_or(32.0);
    let slow = keys.number("beta_slow")?.unwrap_or(1.0);
    let original = keys.original()?;
    let truncate = keys.rope["truncate"].as_bool().unwrap_or(true);
    let attention = if let Some(given) = keys.number("attention_factor")? {
        given
    } else {
        let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        match (keys.number("mscale")?, keys.number("mscale_all_dim")?) {
            (Some(one), Some(all)) if one != 0.0 && all != 0.0 => scale(one) / scale(all),
            _ => scale(1.0),
        }
    };
    let d = width as f64;
    let dimension = |rotations: f64| {
        d * (original / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * keys.theta.ln())
    };
    let (mut low, mut high) = (dimension(fast), dimension(slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(d - 1.0));
    if low == high {
        high += 0.001;
    }
    let made = frequencies(keys.theta, width).into_iter().enumerate().map(|(i, f)| {
        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        let f = f64::from(f);
        as_f32(f / factor * ramp + f * (1.0 - ramp))
    });
    Ok((made.collect(), as_f32(attention)))
}

fn long(keys: &Keys<'_>, mut made: Rope) -> Result<Rope, ConfigError> {
    let original = keys.original()?;
    let factors = |key: &'static str| -> Result<Vec<f32>, ConfigError> {
        let value = &keys.rope[key];
        let numbers: Option<Vec<f32>> =
            value.as_array().map(|all| all.iter().filter_map(Value::as_f64).map(as_f32).collect());
        numbers
            .filter(|numbers| numbers.len() == made.width / 2)
            .ok_or_else(|| ConfigError::key(key, value, "one number for each pair of features"))
    };
    let stretched = |factors: Vec<f32>| -> Vec<f32> {
        let pairs = made.width as f32;
        let theta = as_f32(made.theta);
        factors
            .iter()
            .enumerate()
            .map(|(i, factor)| 1.0 / (factor * theta.powf((2 * i) as f32 / pairs)))
            .collect()
    };
    let (short, long) = (stretched(factors("short_factor")?), stretched(factors("long_factor")?));
    let factor = keys.number("factor")?.unwrap_or_else(|| keys.context() / original);
    made.attention = match keys.number("attention_factor")? {
        Some(given) => as_f32(given),
        None if factor <= 1.0 => 1.0,
        None => as_f32((1.0 + factor.ln() / original.ln()).sqrt()),
    };
    made.frequencies = short;
    made.scaling = Scaling::Long { trained: to_count(original), long };
    Ok(made)
}
