//! Building a decoder over a base's weights.

use candle_core::{DType, Device, Tensor};

use super::block::{Block, FeedForward, Norms, Projections, SelfAttention};
use super::config::Config;
use super::{Decoder, DecoderError};
use crate::adapter::Component;
use crate::model::{Base, Blocks, Shape};
use crate::nn::{Embedding, Linear, RmsNorm, Weight};
use crate::tensors::{self, Float, TensorError};

impl Decoder {
    /// Builds the language model of a base.
    ///
    /// `dtype` `None`: weights are used as the file holds them (quantised blocks too). On the CPU
    /// they stay in the file and 16-bit ones are widened on the way: arithmetic is f32. On another
    /// device they become tensors, and arithmetic has their type. With a `dtype`, weights are rounded
    /// to it first (quantised ones decoded).
    pub fn load(base: &Base, dtype: Option<DType>, device: &Device) -> Result<Self, DecoderError> {
        let Some(config) = base.configs.get(&Component::Language) else {
            let (problem, hint) = match base.shape {
                Shape::File => (
                    "a single file has no config.json, so it cannot be run as a language model",
                    "give the folder that holds config.json and the weights, or a .gguf file",
                ),
                Shape::Model(_) | Shape::Pipeline => (
                    "is not a language model",
                    "give a transformers folder of a language model, or a .gguf file",
                ),
            };
            return Err(DecoderError::not_a_decoder(&base.path, problem.to_owned(), hint));
        };
        let config = Config::read(config).map_err(|source| {
            let file = if base.gguf.is_some() { None } else { Some("config.json") };
            let path = file.map_or_else(|| base.path.clone(), |file| base.path.join(file));
            DecoderError::Config { path, source }
        })?;
        base.files.iter().for_each(|file| file.file.will_need());
        if let Some(model) = &base.gguf {
            model.file.will_need();
        }
        let mut source =
            Source { base, prefix: prefix(base), stored: dtype, dtype: DType::F32, device };
        if !device.is_cpu() {
            source.dtype = dtype.unwrap_or_else(|| source.own_dtype());
        }
        let dtype = source.dtype;
        let blocks = (0..config.layers.len()).map(|index| source.block(&config, index));
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        let table = (config.vocabulary, config.hidden);
        let embedding = source.weight("embed_tokens", table)?;
        let head = if config.tied {
            embedding.clone()
        } else {
            source.weight_at("lm_head.weight", table)?
        };
        Ok(Self {
            embedding: Embedding::new(embedding, dtype),
            blocks,
            norm: source.norm("norm", config.hidden, &config)?,
            head: Linear::new(head, None),
            device: device.clone(),
            dtype,
            block_list: Blocks::of(base),
            config,
        })
    }
}

/// Where the tensors of a language model come from.
struct Source<'a> {
    base: &'a Base,
    /// What stands before `embed_tokens`.
    prefix: String,
    /// What weights are rounded to; `None` for what the file holds.
    stored: Option<DType>,
    /// What is computed in.
    dtype: DType,
    device: &'a Device,
}

/// Models are saved with and without their head's level.
fn prefix(base: &Base) -> String {
    const EMBEDDING: &str = "embed_tokens.weight";
    let names = base.files.iter().flat_map(|file| file.file.names());
    let prefixes = names.filter_map(|name| name.strip_suffix(EMBEDDING));
    prefixes.min_by_key(|prefix| prefix.len()).unwrap_or("model.").to_owned()
}

impl Source<'_> {
    fn find(&self, name: &str) -> Option<tensors::Tensor> {
        self.base.files.iter().find_map(|file| file.file.get(name))
    }

    fn has(&self, name: &str) -> bool {
        match &self.base.gguf {
            Some(model) => model.has(name),
            None => self.find(name).is_some(),
        }
    }

    /// The type of the base's embedding; f32 where its blocks are quantised.
    fn own_dtype(&self) -> DType {
        let embedding = self.find(&format!("{}embed_tokens.weight", self.prefix));
        match embedding.and_then(|tensor| Float::of(tensor.dtype())) {
            Some(Float::F16) => DType::F16,
            Some(Float::BF16) => DType::BF16,
            _ => DType::F32,
        }
    }

    fn missing(&self, name: &str) -> DecoderError {
        DecoderError::MissingTensor { path: self.base.path.clone(), name: name.to_owned() }
    }

    fn at(&self, source: TensorError) -> DecoderError {
        DecoderError::At { path: self.base.path.clone(), source }
    }

    fn check(&self, name: &str, found: &[usize], expected: &[usize]) -> Result<(), DecoderError> {
        if found == expected {
            return Ok(());
        }
        Err(DecoderError::Shape {
            path: self.base.path.clone(),
            name: name.to_owned(),
            found: found.to_vec(),
            expected: expected.to_vec(),
        })
    }

    fn weight_at(&self, name: &str, (out, inputs): (usize, usize)) -> Result<Weight, DecoderError> {
        if let Some(model) = &self.base.gguf {
            let shape = model.shape(name).ok_or_else(|| self.missing(name))?;
            self.check(name, shape, &[out, inputs])?;
            let weight = model.weight(name, (self.stored, self.dtype), self.device)?;
            return weight.ok_or_else(|| self.missing(name));
        }
        let tensor = self.find(name).ok_or_else(|| self.missing(name))?;
        tensor.float(name).map_err(|source| self.at(source))?;
        self.check(name, tensor.shape(), &[out, inputs])?;
        Ok(Weight::load(&tensor, (self.stored, self.dtype), self.device)?)
    }

    fn weight(&self, module: &str, shape: (usize, usize)) -> Result<Weight, DecoderError> {
        self.weight_at(&format!("{}{module}.weight", self.prefix), shape)
    }

    fn vector(&self, name: &str, length: usize) -> Result<Tensor, DecoderError> {
        let values = if let Some(model) = &self.base.gguf {
            self.check(name, model.shape(name).unwrap_or(&[]), &[length])?;
            model.vector(name)?.ok_or_else(|| self.missing(name))?
        } else {
            let tensor = self.find(name).ok_or_else(|| self.missing(name))?;
            self.check(name, tensor.shape(), &[length])?;
            tensor.to_f32(name).map_err(|source| self.at(source))?
        };
        Ok(Tensor::from_vec(values, length, self.device)?)
    }

    fn norm(&self, module: &str, width: usize, config: &Config) -> Result<RmsNorm, DecoderError> {
        let weight = self.vector(&format!("{}{module}.weight", self.prefix), width)?;
        let weight = if config.norm_offset { (weight + 1.0)? } else { weight };
        Ok(RmsNorm::new(weight, config.epsilon))
    }

    /// A linear layer with a bias where the file has one.
    fn linear(&self, module: &str, shape: (usize, usize)) -> Result<Linear, DecoderError> {
        let weight = self.weight(module, shape)?;
        let name = format!("{}{module}.bias", self.prefix);
        let bias = if self.has(&name) {
            Some(self.vector(&name, shape.0)?.to_dtype(self.dtype)?)
        } else {
            None
        };
        Ok(Linear::new(weight, bias))
    }

    /// Projections of one input, fused under one name or each under its own.
    fn projections(
        &self,
        fused: &str,
        parts: &[(&str, usize)],
        (at, inputs): (&str, usize),
    ) -> Result<Projections, DecoderError> {
        let name = format!("{at}.{fused}");
        if self.has(&format!("{}{name}.weight", self.prefix)) {
            let widths: Vec<usize> = parts.iter().map(|(_, width)| *width).collect();
            let layer = self.linear(&name, (widths.iter().sum(), inputs))?;
            return Ok(Projections::Fused(Box::new(layer), widths));
        }
        let part =
            |(name, width): &(&str, usize)| self.linear(&format!("{at}.{name}"), (*width, inputs));
        Ok(Projections::Apart(parts.iter().map(part).collect::<Result<_, _>>()?))
    }

    fn block(&self, config: &Config, index: usize) -> Result<Block, DecoderError> {
        let at = format!("layers.{index}");
        let (hidden, inner) = (config.hidden, config.intermediate);
        let (wide, narrow) = (config.heads * config.head, config.groups * config.head);
        let norm = |name: &str, width: usize| self.norm(&format!("{at}.{name}"), width, config);
        let (attention, mlp) = (format!("{at}.self_attn"), format!("{at}.mlp"));
        let qkv = [("q_proj", wide), ("k_proj", narrow), ("v_proj", narrow)];
        let gate_up = [("gate_proj", inner), ("up_proj", inner)];
        let has_head_norms = self.has(&format!("{}{attention}.q_norm.weight", self.prefix));
        let head_norms = if has_head_norms {
            Some((norm("self_attn.q_norm", config.head)?, norm("self_attn.k_norm", config.head)?))
        } else {
            None
        };
        let norms = if config.sandwich {
            let after = norm("post_attention_layernorm", hidden)?;
            Norms {
                before_attention: norm("input_layernorm", hidden)?,
                before_feed_forward: norm("pre_feedforward_layernorm", hidden)?,
                after: Some((after, norm("post_feedforward_layernorm", hidden)?)),
            }
        } else {
            Norms {
                before_attention: norm("input_layernorm", hidden)?,
                before_feed_forward: norm("post_attention_layernorm", hidden)?,
                after: None,
            }
        };
        Ok(Block {
            attention: SelfAttention {
                qkv: self.projections("qkv_proj", &qkv, (&attention, hidden))?,
                output: self.linear(&format!("{attention}.o_proj"), (hidden, wide))?,
                head_norms,
                heads: config.heads,
                groups: config.groups,
                head: config.head,
                scale: config.scale,
                cap: config.attention_cap,
            },
            feed_forward: FeedForward {
                gate_up: self.projections("gate_up_proj", &gate_up, (&mlp, hidden))?,
                down: self.linear(&format!("{mlp}.down_proj"), (hidden, inner))?,
                activation: config.activation,
            },
            norms,
            layer: config.layers[index],
        })
    }
}
