//! What the weights of a UNet do not say.

use serde_json::Value;

use super::{DiffusionError, Parts};
use crate::base::terminal::printable;

/// Numbers of heads and groups, and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct UnetConfig {
    /// Heads of each level, or width of a head.
    heads: Heads,
    /// Whether attention needs more than 16 bits (2.x).
    pub upcast: bool,
    /// Groups of the group norms.
    pub groups: usize,
    /// ε of the group norms.
    pub epsilon: f64,
    /// Whether cosines come before sines in the time embedding.
    pub cos_first: bool,
    /// Shift of the time embedding's frequencies.
    pub freq_shift: f32,
}

#[derive(Debug, Clone, PartialEq)]
enum Heads {
    /// Number of heads in each level; the last one holds for all deeper ones.
    Count(Vec<usize>),
    /// Channels of a head.
    Width(usize),
}

/// Sinusoids of each number that SDXL is told.
const ADDITION_CHANNELS: usize = 256;

/// Keys whose other values ask for what is not built, and the values that do not.
const PLAIN: [(&str, &[&str]); 19] = [
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("addition_embed_type", &["null", "\"text_time\""]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &["null"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &["null"]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim_type", &["null"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("time_embedding_act_fn", &["null"]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &["null"]),
];

impl UnetConfig {
    /// From `config.json`; for a single file, which has none, as the WebUI takes it: eight heads
    /// where pixels are projected by a convolution (1.x), heads of 64 channels elsewhere.
    pub fn of(parts: &Parts<'_>) -> Result<Self, DiffusionError> {
        let Some((_, config)) = parts.config() else {
            let projection = parts.shape("mid_block.attentions.0.proj_in")?;
            let first = projection.len() == 4;
            let heads = if first { Heads::Count(vec![8]) } else { Heads::Width(64) };
            let upcast = !first && !parts.has("add_embedding.linear_1");
            return Ok(Self { heads, upcast, ..Self::default() });
        };
        for (key, plain) in PLAIN {
            let found = config[key].to_string();
            if found != "null" && !plain.contains(&found.as_str()) {
                return Err(refuse(parts, key, "a plain Stable Diffusion UNet's value"));
            }
        }
        let counts = ["num_attention_heads", "attention_head_dim"]
            .into_iter()
            .find(|key| !config[*key].is_null());
        let heads =
            match counts {
                // diffusers' name is a mistake that its files keep: it is a number of heads
                Some(key) => Heads::Count(whole_numbers(&config[key]).ok_or_else(|| {
                    refuse(parts, key, "a number from 1, or a list of such numbers")
                })?),
                None => Heads::Count(vec![8]),
            };
        let number = |key: &'static str, default: f64| match &config[key] {
            Value::Null => Ok(default),
            value => value.as_f64().ok_or_else(|| refuse(parts, key, "a number")),
        };
        let groups = number("norm_num_groups", 32.0)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let groups = groups.clamp(0.0, 65_536.0) as usize;
        #[expect(clippy::cast_possible_truncation, reason = "0 or 1")]
        let freq_shift = number("freq_shift", 0.0)? as f32;
        Ok(Self {
            heads,
            upcast: config["upcast_attention"].as_bool().unwrap_or(false),
            groups,
            epsilon: number("norm_eps", 1e-5)?,
            cos_first: config["flip_sin_to_cos"].as_bool().unwrap_or(true),
            freq_shift,
        })
    }

    /// Heads of a level's attention over so many channels.
    pub fn heads(&self, level: usize, channels: usize) -> usize {
        match &self.heads {
            Heads::Count(counts) => counts.get(level).or(counts.last()).copied().unwrap_or(0),
            Heads::Width(width) => (channels / width).max(1),
        }
    }

    pub(super) fn addition_channels(parts: &Parts<'_>) -> Result<usize, DiffusionError> {
        const KEY: &str = "addition_time_embed_dim";
        let Some((_, config)) = parts.config() else { return Ok(ADDITION_CHANNELS) };
        match &config[KEY] {
            Value::Null => Ok(ADDITION_CHANNELS),
            value => whole_numbers(value)
                .and_then(|all| all.first().copied())
                .ok_or_else(|| refuse(parts, KEY, "a number from 1")),
        }
    }
}

impl Default for UnetConfig {
    /// That of every released Stable Diffusion but for the heads.
    fn default() -> Self {
        Self {
            heads: Heads::Count(vec![8]),
            upcast: false,
            groups: 32,
            epsilon: 1e-5,
            cos_first: true,
            freq_shift: 0.0,
        }
    }
}

/// A number from 1, or a list of such.
fn whole_numbers(value: &Value) -> Option<Vec<usize>> {
    let number = |value: &Value| {
        value.as_u64().filter(|n| (1..=1 << 20).contains(n)).and_then(|n| usize::try_from(n).ok())
    };
    match value {
        Value::Array(list) if !list.is_empty() => list.iter().map(number).collect(),
        value => Some(vec![number(value)?]),
    }
}

fn refuse(parts: &Parts<'_>, key: &str, expected: &'static str) -> DiffusionError {
    let (path, config) = parts.config().unwrap_or((std::path::PathBuf::new(), &Value::Null));
    DiffusionError::Config {
        path,
        key: key.to_owned(),
        found: format!("`{}`", printable(&config[key].to_string())),
        expected,
        hint: "only plain Stable Diffusion 1.x, 2.x and XL are built; fetch the file again if it should be one",
    }
}
