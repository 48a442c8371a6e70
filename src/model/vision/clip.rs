//! CLIP: features of pictures and of texts in one space (Radford et al., 2021).

use std::path::Path;

use candle_core::{Device, IndexOp as _, Tensor};

use super::config::Config;
use super::patches::Patches;
use super::preprocess::{Pixels, Preprocess};
use super::trunk::{self, Trunk, TrunkConfig};
use super::weights::Weights;
use super::{VisionError, features};
use crate::nn::gated::Activation;
use crate::nn::{Embedding, LayerNorm, Linear, Strengths};
use crate::picture::Picture;
use crate::text::ClipTokenizer;

/// A `CLIPModel` of transformers, with its tokenizer and its preprocessing.
#[derive(Debug)]
pub struct Clip {
    image: ImageEncoder,
    text: TextEncoder,
    preprocess: Preprocess,
    tokenizer: ClipTokenizer,
    device: Device,
}

#[derive(Debug)]
struct ImageEncoder {
    patches: Patches,
    /// (1, 1, width)
    class: Tensor,
    /// (1, 1 + patches, width)
    places: Tensor,
    pre_norm: LayerNorm,
    trunk: Trunk,
    post_norm: LayerNorm,
    projection: Linear,
    /// Pixels of a picture's side.
    side: usize,
}

#[derive(Debug)]
struct TextEncoder {
    tokens: Embedding,
    /// (places, width)
    places: Tensor,
    /// Most tokens of a text, start and end included.
    length: usize,
    trunk: Trunk,
    final_norm: LayerNorm,
    projection: Linear,
    pooled: Pooled,
}

/// The token whose output stands for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooled {
    /// The first of the highest id: where `eos_token_id` is 2, as in files made before transformers
    /// 4.31.
    Highest,
    /// The first of this id.
    First(u32),
}

impl Clip {
    /// Opens a transformers folder: `config.json`, weights, tokenizer and `preprocessor_config.json`.
    pub fn open(folder: &Path, device: &Device) -> Result<Self, VisionError> {
        let config = Config::of_model(folder, &["clip"], "`clip`")?;
        let weights = Weights::of_model(folder, device)?;
        let tokenizer = ClipTokenizer::from_folder(folder)?;
        let image = ImageEncoder::load(&weights, &half(&config, "vision"))?;
        let text = TextEncoder::load(&weights, &half(&config, "text"), &tokenizer)?;
        let (of_image, of_text) =
            (image.projection.weight().shape()?.0, text.projection.weight().shape()?.0);
        if of_image != of_text {
            let expected = format!("{of_image} outputs, as `visual_projection.weight` has");
            return Err(weights.misshapen("text_projection.weight", expected));
        }
        let preprocess = Preprocess::open(folder)?;
        Ok(Self { image, text, preprocess, tokenizer, device: device.clone() })
    }

    /// Features of pictures as of transformers' `get_image_features`, scaled to length 1.
    pub fn image_features(&self, pictures: &[&Picture]) -> Result<Vec<Vec<f32>>, VisionError> {
        features(pictures, &self.device, |picture| {
            let pixels = self.preprocess.apply(picture)?;
            let side = self.image.side;
            if (pixels.width, pixels.height) != (side, side) {
                let (width, height) = (pixels.width, pixels.height);
                let expected = format!("`{side}x{side}` after its preprocessing");
                let hint = "preprocessor_config.json and config.json belong to different models; fetch them again";
                return Err(VisionError::Picture { width, height, expected, hint });
            }
            Ok(self.image.encode(&pixels)?)
        })
    }

    /// Features of texts as of transformers' `get_text_features`, scaled to length 1.
    ///
    /// Of a text that is too long, the first tokens and the end are read, as `OpenAI`'s
    /// `tokenize(truncate=True)` and transformers' `truncation=True` do it; [`Clip::text_note`] says so.
    /// torchmetrics cuts off the end too and so takes the output at the start, the same for all texts.
    pub fn text_features(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, VisionError> {
        features(texts, &self.device, |text| {
            let mut ids = self.tokenizer.encode(text)?;
            ids.truncate(self.text.room());
            ids.insert(0, self.tokenizer.bos());
            ids.push(self.tokenizer.eos());
            Ok(self.text.encode(&ids, &self.device)?)
        })
    }

    /// What a user should know of a text: that the model does not read all of it.
    pub fn text_note(&self, text: &str) -> Result<Option<String>, VisionError> {
        let (tokens, room) = (self.tokenizer.encode(text)?.len(), self.text.room());
        Ok((tokens > room)
            .then(|| format!("the text has {tokens} tokens; CLIP reads the first {room} of them")))
    }
}

/// The configuration of one half. Where the older `…_config_dict` is there, transformers takes it
/// instead.
fn half(config: &Config, name: &str) -> Config {
    let older = config.part(&format!("{name}_config_dict"));
    if older.is_object() { older } else { config.part(&format!("{name}_config")) }
}

fn trunk_config(
    config: &Config,
    width: usize,
    heads: usize,
    causal: bool,
) -> Result<TrunkConfig, VisionError> {
    Ok(TrunkConfig {
        width,
        layers: config.count("num_hidden_layers", 12)?,
        heads: config.heads(width, heads)?,
        epsilon: config.positive("layer_norm_eps", 1e-5)?,
        causal,
        qkv_bias: true,
        activation: Some(config.activation(Activation::QuickGelu)?),
        names: &trunk::CLIP,
    })
}

impl ImageEncoder {
    fn load(weights: &Weights, config: &Config) -> Result<Self, VisionError> {
        let embeddings = "vision_model.embeddings";
        let patches = Patches::load(weights, &format!("{embeddings}.patch_embedding"), false)?;
        let width = patches.width();
        let side = config.count("image_size", 224)?;
        let places = format!("{embeddings}.position_embedding.weight");
        let count = (side / patches.side()).pow(2) + 1;
        let config = trunk_config(config, width, 12, false)?;
        let norm =
            |name: &str| weights.layer_norm(&format!("vision_model.{name}"), width, config.epsilon);
        Ok(Self {
            class: weights
                .tensor(&format!("{embeddings}.class_embedding"), &[width])?
                .reshape((1, 1, width))?,
            places: weights.tensor(&places, &[count, width])?.unsqueeze(0)?,
            pre_norm: norm("pre_layrnorm")?,
            trunk: Trunk::load(weights, "vision_model.", &config)?,
            post_norm: norm("post_layernorm")?,
            projection: weights.linear("visual_projection", (width, None), false)?,
            patches,
            side,
        })
    }

    /// (1, projection)
    fn encode(&self, pixels: &Pixels) -> candle_core::Result<Tensor> {
        let none = Strengths::none(1);
        let x = Tensor::cat(&[&self.class, &self.patches.forward(pixels)?], 1)?;
        let x = self.pre_norm.forward(&(x + &self.places)?)?;
        let x = self.trunk.forward(x, &none)?;
        let class = self.post_norm.forward(&x.i((.., 0..1))?)?;
        self.projection.forward(&class, &none)?.squeeze(1)
    }
}

impl TextEncoder {
    fn load(
        weights: &Weights,
        config: &Config,
        tokenizer: &ClipTokenizer,
    ) -> Result<Self, VisionError> {
        let embeddings = "text_model.embeddings";
        let (tokens, (vocabulary, width)) =
            weights.embedding(&format!("{embeddings}.token_embedding"))?;
        if vocabulary < tokenizer.vocabulary_size() {
            let expected =
                format!("a row for each of the tokenizer's {} tokens", tokenizer.vocabulary_size());
            return Err(
                weights.misshapen(&format!("{embeddings}.token_embedding.weight"), expected)
            );
        }
        let places = format!("{embeddings}.position_embedding.weight");
        let (places, length) = match weights.table(&places, width)? {
            (_, 1) => return Err(weights.misshapen(&places, "two places or more".to_owned())),
            table => table,
        };
        let pooled = match config.value("eos_token_id").as_u64() {
            Some(2) => Pooled::Highest,
            Some(id) if id != u64::from(tokenizer.eos()) => {
                let expected = "the id that the tokenizer gives to the end of a text, or 2";
                return Err(config.refuse("eos_token_id", expected));
            }
            _ => Pooled::First(tokenizer.eos()),
        };
        let config = trunk_config(config, width, 8, true)?;
        Ok(Self {
            tokens,
            places,
            length,
            trunk: Trunk::load(weights, "text_model.", &config)?,
            final_norm: weights.layer_norm("text_model.final_layer_norm", width, config.epsilon)?,
            projection: weights.linear("text_projection", (width, None), false)?,
            pooled,
        })
    }

    /// Most tokens of a text without its start and end.
    fn room(&self) -> usize {
        self.length - 2
    }

    /// (1, projection)
    fn encode(&self, ids: &[u32], device: &Device) -> candle_core::Result<Tensor> {
        let none = Strengths::none(1);
        let tokens = Tensor::from_slice(ids, (1, ids.len()), device)?;
        let places = self.places.narrow(0, 0, ids.len())?;
        let x = self.tokens.forward(&tokens, &none)?.broadcast_add(&places)?;
        let x = self.trunk.forward(x, &none)?;
        let at = self.pooled.place(ids);
        let pooled = self.final_norm.forward(&x.i((.., at..=at))?)?;
        self.projection.forward(&pooled, &none)?.squeeze(1)
    }
}

impl Pooled {
    /// Its place in a text, whose end is always there.
    fn place(self, ids: &[u32]) -> usize {
        let wanted = match self {
            Self::Highest => ids.iter().copied().max(),
            Self::First(id) => Some(id),
        };
        ids.iter().position(|id| Some(*id) == wanted).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_at_its_first_end() {
        assert_eq!(Pooled::First(7).place(&[6, 1, 7, 2, 7]), 2);
        assert_eq!(Pooled::Highest.place(&[6, 1, 7, 9, 7, 9]), 3);
    }
}
