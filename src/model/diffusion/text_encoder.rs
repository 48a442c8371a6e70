//! CLIP's text encoder: CLIP-L, OpenCLIP-H and -G (Radford et al., 2021).

use std::path::Path;

use candle_core::{DType, IndexOp as _, Result, Tensor};
use serde_json::Value;

use super::{DiffusionError, Parts};
use crate::base::terminal::printable;
use crate::nn::attention::Attention;
use crate::nn::gated::{Activation, activate};
use crate::nn::{Embedding, LayerNorm, Linear, Strengths};

/// A text encoder.
#[derive(Debug)]
pub struct TextEncoder {
    tokens: Embedding,
    /// (places, width)
    places: Embedding,
    layers: Vec<EncoderLayer>,
    final_norm: LayerNorm,
    projection: Option<Linear>,
    width: usize,
    vocabulary: usize,
    length: usize,
}

#[derive(Debug)]
struct EncoderLayer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: Activation,
}

/// Which of its outputs is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skip {
    /// How many of the last layers are left out.
    pub layers: usize,
    /// Whether the final norm is applied to what remains.
    pub norm: bool,
}

/// What a text encoder says of texts.
#[derive(Debug)]
pub struct Encoded {
    /// (rows, length, width)
    pub hidden: Tensor,
    /// The last layer at each text's end, normed and, where there is a projection, projected:
    /// (rows, width)
    pub pooled: Tensor,
}

/// What the weights do not say.
struct Config {
    heads: usize,
    activation: Activation,
    epsilon: f64,
    /// Layers to build, fewer than there are in a single file of Stable Diffusion 2.x.
    layers: usize,
}

impl TextEncoder {
    /// Builds it from a base's weights. `without_last`: the last layer is never used (2.x).
    pub fn load(
        parts: &Parts<'_>,
        without_last: bool,
    ) -> std::result::Result<Self, DiffusionError> {
        let (tokens, (vocabulary, width)) = parts.embedding("embeddings.token_embedding")?;
        let (places, (length, found)) = parts.embedding("embeddings.position_embedding")?;
        if found != width {
            let name = "embeddings.position_embedding";
            return Err(parts.misshapen(name, &[length, found], format!("width {width}")));
        }
        let config = Config::of(parts, width, without_last)?;
        let mut layers = Vec::new();
        while layers.len() < config.layers {
            let at = format!("encoder.layers.{}", layers.len());
            layers.push(EncoderLayer::load(parts, &at, width, &config)?);
        }
        let projection = if parts.has("text_projection") {
            Some(parts.linear("text_projection", width)?)
        } else {
            None
        };
        let final_norm = parts.layer_norm("final_layer_norm", width, config.epsilon)?;
        if layers.is_empty() {
            return Err(parts.misshapen("encoder.layers", &[0], "at least one".to_owned()));
        }
        Ok(Self { tokens, places, layers, final_norm, projection, width, vocabulary, length })
    }

    /// Width of its output.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of tokens that it knows.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Encodes texts of one length, (rows, length) u32; each text ends at its first `end`.
    pub fn encode(
        &self,
        ids: &[Vec<u32>],
        end: u32,
        skip: Skip,
        strengths: &Strengths,
        device: &candle_core::Device,
    ) -> Result<Encoded> {
        rayon::scope(|_| self.run(ids, end, skip, strengths, device))
    }

    fn run(
        &self,
        ids: &[Vec<u32>],
        end: u32,
        skip: Skip,
        strengths: &Strengths,
        device: &candle_core::Device,
    ) -> Result<Encoded> {
        let length = ids.first().map_or(0, Vec::len);
        if length == 0 || length > self.length || ids.iter().any(|row| row.len() != length) {
            candle_core::bail!("texts of {length} tokens for an encoder of {}", self.length);
        }
        if let Some(id) = ids.iter().flatten().find(|id| **id as usize >= self.vocabulary) {
            candle_core::bail!("token {id} is outside the vocabulary of {}", self.vocabulary);
        }
        let flat: Vec<u32> = ids.iter().flatten().copied().collect();
        let tokens = Tensor::from_vec(flat, (ids.len(), length), device)?;
        let places: Vec<u32> = (0..ids.len())
            .flat_map(|_| (0..length).filter_map(|i| u32::try_from(i).ok()))
            .collect();
        let places = Tensor::from_vec(places, (ids.len(), length), device)?;
        let mut x = (self.tokens.forward(&tokens, strengths)?
            + self.places.forward(&places, strengths)?)?;
        let kept = self.layers.len().saturating_sub(skip.layers);
        let mut hidden = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, strengths)?;
            if index < kept {
                hidden = x.clone();
            }
        }
        let last = self.final_norm.forward(&x)?;
        if skip.norm {
            hidden = self.final_norm.forward(&hidden)?;
        }
        Ok(Encoded { hidden, pooled: self.pool(&last, ids, end, strengths)? })
    }

    fn pool(
        &self,
        last: &Tensor,
        ids: &[Vec<u32>],
        end: u32,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let ends = ids.iter().enumerate().map(|(row, ids)| {
            let place = ids.iter().position(|id| *id == end).unwrap_or(ids.len() - 1);
            last.i((row, place..=place))
        });
        let pooled = Tensor::stack(&ends.collect::<Result<Vec<_>>>()?, 0)?;
        let pooled = match &self.projection {
            Some(projection) => projection.forward(&pooled, strengths)?,
            None => pooled,
        };
        pooled.squeeze(1)?.to_dtype(DType::F32)
    }
}

impl EncoderLayer {
    fn load(
        parts: &Parts<'_>,
        at: &str,
        width: usize,
        config: &Config,
    ) -> std::result::Result<Self, DiffusionError> {
        let of = |name: &str| format!("{at}.{name}");
        let linear = |name: &str, inputs: usize| parts.linear(&of(name), inputs);
        let fc1 = linear("mlp.fc1", width)?;
        let inner = fc1.weight().shape()?.0;
        Ok(Self {
            norm1: parts.layer_norm(&of("layer_norm1"), width, config.epsilon)?,
            q: linear("self_attn.q_proj", width)?,
            k: linear("self_attn.k_proj", width)?,
            v: linear("self_attn.v_proj", width)?,
            out: linear("self_attn.out_proj", width)?,
            norm2: parts.layer_norm(&of("layer_norm2"), width, config.epsilon)?,
            fc1,
            fc2: linear("mlp.fc2", inner)?,
            heads: config.heads,
            activation: config.activation,
        })
    }

    fn forward(&self, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let h = self.norm1.forward(x)?;
        let (rows, length, width) = h.dims3()?;
        let heads = |x: Tensor| -> Result<Tensor> {
            x.reshape((rows, length, self.heads, width / self.heads))?.transpose(1, 2)
        };
        let q = heads(self.q.forward(&h, strengths)?)?;
        let k = heads(self.k.forward(&h, strengths)?)?;
        let v = heads(self.v.forward(&h, strengths)?)?;
        let scale = ((width / self.heads) as f32).sqrt().recip();
        let causal = Attention { causal: true, ..Attention::over_all(scale, Vec::new()) };
        let y = causal.forward_joined(&q, &k, &v)?;
        let x = (x + self.out.forward(&y, strengths)?)?;
        let h = self.fc1.forward(&self.norm2.forward(&x)?, strengths)?;
        x + self.fc2.forward(&activate(&h, self.activation)?, strengths)?
    }
}

/// Channels of a head in every released CLIP text encoder.
const HEAD: usize = 64;

impl Config {
    /// From `config.json`; for a single file, by whose names it uses: OpenCLIP's have the exact GELU,
    /// OpenAI's the quick one.
    fn of(
        parts: &Parts<'_>,
        width: usize,
        without_last: bool,
    ) -> std::result::Result<Self, DiffusionError> {
        let mut layers = 0;
        while parts.has(&format!("encoder.layers.{layers}.mlp.fc1")) {
            layers += 1;
        }
        let Some((path, config)) = parts.config() else {
            let activation =
                if parts.is_open_clip() { Activation::Gelu } else { Activation::QuickGelu };
            let layers = layers - usize::from(without_last && layers > 1);
            if !width.is_multiple_of((width / HEAD).max(1)) {
                let expected = format!("a width that heads of {HEAD} can share");
                return Err(parts.misshapen("embeddings.token_embedding", &[width], expected));
            }
            return Ok(Self { heads: (width / HEAD).max(1), activation, epsilon: 1e-5, layers });
        };
        let heads = config["num_attention_heads"].as_u64().and_then(|n| usize::try_from(n).ok());
        let heads = heads.filter(|heads| *heads > 0 && width.is_multiple_of(*heads));
        let Some(heads) = heads else {
            return Err(refuse(&path, config, "num_attention_heads", "a divisor of the width"));
        };
        let activation = match config["hidden_act"].as_str() {
            None | Some("quick_gelu") => Activation::QuickGelu,
            Some("gelu") => Activation::Gelu,
            Some(_) => return Err(refuse(&path, config, "hidden_act", "quick_gelu or gelu")),
        };
        if let Some(expected) = config["num_hidden_layers"].as_u64()
            && expected != layers as u64
        {
            return Err(parts.misshapen("encoder.layers", &[layers], expected.to_string()));
        }
        let epsilon = config["layer_norm_eps"].as_f64().unwrap_or(1e-5);
        Ok(Self { heads, activation, epsilon, layers })
    }
}

fn refuse(path: &Path, config: &Value, key: &str, expected: &'static str) -> DiffusionError {
    DiffusionError::Config {
        path: path.to_owned(),
        key: key.to_owned(),
        found: format!("`{}`", printable(&config[key].to_string())),
        expected,
        hint: "fetch the file again; it belongs to the weights",
    }
}
