//! What a decoder is built like, read from `config.json`.
//!
//! One description covers Llama, Mistral, Qwen, Phi, Gemma and `SmolLM`: they differ in a few switches.
//! Defaults of keys that a configuration leaves out are those of transformers' classes.

use serde_json::Value;

use super::error::ConfigError;
use super::rope::Rope;
use crate::nn::gated::Activation;

/// The switches of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `llama`, `qwen2`, …
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Longest sequence that the model was made for, in tokens.
    pub context: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub groups: usize,
    /// Width of a head.
    pub head: usize,
    /// Factor of attention scores.
    pub scale: f32,
    /// Soft cap of attention scores.
    pub attention_cap: Option<f32>,
    /// Soft cap of the logits.
    pub logit_cap: Option<f32>,
    /// ε of the norms.
    pub epsilon: f64,
    /// Norms are stored less 1 (Gemma).
    pub norm_offset: bool,
    /// Norms after attention and feed-forward too (Gemma 2 and 3).
    pub sandwich: bool,
    /// Factor of the embeddings.
    pub embedding_scale: Option<f32>,
    /// The gate's function.
    pub activation: Activation,
    /// The head is the embedding.
    pub tied: bool,
    /// Each layer.
    pub layers: Vec<Layer>,
    /// The rotary embeddings that layers name.
    pub ropes: Vec<Rope>,
}

/// What one layer does differently from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// How many keys a query sees, its own included.
    pub window: Option<usize>,
    /// Index into [`Config::ropes`]; `None` for a layer without positions (`SmolLM` 3).
    pub rope: Option<usize>,
}

/// Model types that are built as a decoder.
pub const KNOWN: [&str; 9] =
    ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text", "smollm3"];

/// Most layers, heads, and so on, that a configuration may ask for.
const MOST: usize = 1 << 24;
const MOST_LAYERS: usize = 4096;

/// Length of the context where a configuration leaves it out.
fn context(family: &str) -> usize {
    match family {
        "mistral" | "gemma3_text" => 131_072,
        "qwen2" | "qwen3" | "smollm3" => 32_768,
        "gemma" | "gemma2" => 8192,
        "phi3" => 4096,
        _ => 2048,
    }
}

/// `config.json` with words for what is wrong in it.
struct Reader<'a> {
    config: &'a Value,
}

impl Reader<'_> {
    fn count(&self, key: &'static str) -> Result<Option<usize>, ConfigError> {
        let value = &self.config[key];
        if value.is_null() {
            return Ok(None);
        }
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
        let count = count.filter(|n| (1..=MOST).contains(n));
        count
            .map(Some)
            .ok_or_else(|| ConfigError::key(key, value, "a whole number from 1 to 16777216"))
    }

    fn needed(&self, key: &'static str) -> Result<usize, ConfigError> {
        self.count(key)?.ok_or(ConfigError::MissingKey { key })
    }

    fn number(&self, key: &'static str) -> Result<Option<f64>, ConfigError> {
        let value = &self.config[key];
        if value.is_null() {
            return Ok(None);
        }
        value
            .as_f64()
            .filter(|number| number.is_finite() && *number > 0.0)
            .map(Some)
            .ok_or_else(|| ConfigError::key(key, value, "a number above 0"))
    }

    /// A soft cap; `null` switches it off, and left out it is the class's own.
    fn cap(&self, key: &'static str, default: Option<f64>) -> Result<Option<f32>, ConfigError> {
        let absent = self.config.get(key).is_none();
        Ok(if absent { default } else { self.number(key)? }.map(as_f32))
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match &self.config[key] {
            Value::Null => Ok(default),
            value => {
                value.as_bool().ok_or_else(|| ConfigError::key(key, value, "`true` or `false`"))
            }
        }
    }
}

impl Config {
    /// Reads a configuration of transformers, of version 4 or 5.
    pub fn read(config: &Value) -> Result<Self, ConfigError> {
        let model_type = config["model_type"].as_str().unwrap_or_default().to_owned();
        if !KNOWN.contains(&model_type.as_str()) {
            return Err(ConfigError::unknown(&config["model_type"]));
        }
        let family = model_type.as_str();
        let gemma = family.starts_with("gemma");
        let gemma23 = matches!(family, "gemma2" | "gemma3_text");
        let read = Reader { config };
        let (hidden, heads) = (read.needed("hidden_size")?, read.needed("num_attention_heads")?);
        let groups = read.count("num_key_value_heads")?.unwrap_or(match family {
            "qwen2" | "qwen3" => 32,
            "mistral" => 8,
            "gemma2" | "gemma3_text" | "smollm3" => 4,
            "gemma" => 16,
            _ => heads,
        });
        let head = read.count("head_dim")?.unwrap_or(match family {
            _ if gemma => 256,
            "qwen3" => 128,
            _ => hidden / heads.max(1),
        });
        if groups == 0 || heads % groups != 0 || head == 0 {
            return Err(ConfigError::Heads { heads, groups, head });
        }
        let scalar = match read.number("query_pre_attn_scalar")? {
            Some(scalar) if gemma23 => scalar,
            _ if gemma23 => 256.0,
            _ => head as f64,
        };
        let layers = read.needed("num_hidden_layers")?;
        if layers > MOST_LAYERS {
            let value = &config["num_hidden_layers"];
            return Err(ConfigError::key("num_hidden_layers", value, "a number up to 4096"));
        }
        let ropes = Rope::read(config, family, head)?;
        Ok(Self {
            hidden,
            heads,
            groups,
            head,
            intermediate: read.needed("intermediate_size")?,
            vocabulary: read.needed("vocab_size")?,
            context: match ropes.iter().filter_map(Rope::reach).max() {
                Some(reach) => reach,
                None => read.count("max_position_embeddings")?.unwrap_or(context(family)),
            },
            scale: as_f32(1.0 / scalar.sqrt()),
            attention_cap: match family {
                "gemma2" => read.cap("attn_logit_softcapping", Some(50.0))?,
                _ => None,
            },
            logit_cap: match family {
                "gemma2" => read.cap("final_logit_softcapping", Some(30.0))?,
                "gemma3_text" => read.cap("final_logit_softcapping", None)?,
                _ => None,
            },
            epsilon: read.number("rms_norm_eps")?.unwrap_or(match family {
                "phi3" => 1e-5,
                _ => 1e-6,
            }),
            norm_offset: gemma,
            sandwich: gemma23,
            embedding_scale: gemma.then(|| as_f32((hidden as f64).sqrt())),
            activation: activation(config, gemma)?,
            tied: read.flag("tie_word_embeddings", gemma || family == "smollm3")?,
            layers: (0..layers)
                .map(|index| layer(&read, family, index, ropes.len()))
                .collect::<Result<_, _>>()?,
            ropes,
            model_type,
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
fn as_f32(value: f64) -> f32 {
    value as f32
}

fn activation(config: &Value, gemma: bool) -> Result<Activation, ConfigError> {
    let key = if gemma { "hidden_activation" } else { "hidden_act" };
    let value = &config[key];
    // Gemma 1 was published with `hidden_act: gelu` and is computed with the tanh form
    let default = if gemma { "gelu_pytorch_tanh" } else { "silu" };
    let name = if value.is_null() { Some(default) } else { value.as_str() };
    match name.unwrap_or_default() {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
        _ => Err(ConfigError::key(key, value, "`silu`, `gelu` or `gelu_pytorch_tanh`")),
    }
}

/// Window and rotary embedding of layer `index`.
fn layer(
    read: &Reader<'_>,
    family: &str,
    index: usize,
    ropes: usize,
) -> Result<Layer, ConfigError> {
    let window = match read.config.get("sliding_window") {
        None if family == "mistral" => Some(4096),
        _ => read.count("sliding_window")?,
    };
    let named = read.config["layer_types"][index].as_str();
    let slides = match (named, family) {
        (Some("sliding_attention"), _) => true,
        (Some("full_attention"), _) => false,
        (Some(_), _) => {
            let value = &read.config["layer_types"][index];
            let expected = "`full_attention` or `sliding_attention`";
            return Err(ConfigError::key("layer_types", value, expected));
        }
        (None, "mistral" | "phi3") => window.is_some(),
        (None, "qwen2" | "qwen3" | "smollm3") => {
            let first = match &read.config["max_window_layers"] {
                Value::Null => 28,
                zero if zero.as_u64() == Some(0) => 0,
                _ => read.needed("max_window_layers")?,
            };
            read.flag("use_sliding_window", false)? && index >= first
        }
        (None, "gemma2") => index.is_multiple_of(2),
        (None, "gemma3_text") => {
            let pattern = read.count("sliding_window_pattern")?.unwrap_or(6);
            !(index + 1).is_multiple_of(pattern)
        }
        (None, _) => false,
    };
    let default = family.starts_with("gemma").then_some(4096);
    let positions = match (family, read.config["no_rope_layers"][index].as_u64()) {
        ("smollm3", Some(0)) => false,
        ("smollm3", None) => {
            let interval = read.count("no_rope_layer_interval")?.unwrap_or(4);
            !(index + 1).is_multiple_of(interval)
        }
        _ => true,
    };
    let rope = usize::from(ropes > 1 && slides);
    Ok(Layer {
        window: if slides { window.or(default) } else { None },
        rope: positions.then_some(rope),
    })
}
