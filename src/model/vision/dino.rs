//! `DINOv2`: features of what a picture shows (Oquab et al., 2023; with registers, Darcet et al., 2023).

use std::path::Path;

use candle_core::{Device, IndexOp as _, Tensor};

use super::config::Config;
use super::patches::{Bicubic, Patches, resample};
use super::preprocess::{Pixels, Preprocess};
use super::trunk::{self, Trunk, TrunkConfig};
use super::weights::Weights;
use super::{VisionError, features};
use crate::nn::gated::Activation;
use crate::nn::{LayerNorm, Strengths};
use crate::picture::Picture;

/// A `Dinov2Model` or `Dinov2WithRegistersModel` of transformers, with its preprocessing.
#[derive(Debug)]
pub struct Dino {
    patches: Patches,
    /// (1, 1, width), its place added.
    class: Tensor,
    /// (1, registers, width); these have no place.
    registers: Option<Tensor>,
    /// (side·side, width)
    places: Tensor,
    /// Patches of the side of the pictures that it was trained with.
    side: usize,
    filter: Bicubic,
    trunk: Trunk,
    norm: LayerNorm,
    preprocess: Preprocess,
    device: Device,
}

const KNOWN: [&str; 2] = ["dinov2", "dinov2_with_registers"];

impl Dino {
    /// Opens a transformers folder: `config.json`, weights and `preprocessor_config.json`.
    pub fn open(folder: &Path, device: &Device) -> Result<Self, VisionError> {
        let config = Config::of_model(folder, &KNOWN, "`dinov2` or `dinov2_with_registers`")?;
        let weights = Weights::of_model(folder, device)?;
        // a classifier's file has the model under this name
        let prefix = if weights.has("dinov2.embeddings.cls_token") {
            "dinov2."
        } else if weights.has("dinov2_with_registers.embeddings.cls_token") {
            "dinov2_with_registers."
        } else {
            ""
        };
        let registers = config.text("model_type") == Some(KNOWN[1]);
        Self::load(&weights, prefix, (&config, registers), Preprocess::open(folder)?)
    }

    fn load(
        weights: &Weights,
        prefix: &str,
        (config, registers): (&Config, bool),
        preprocess: Preprocess,
    ) -> Result<Self, VisionError> {
        let of = |name: &str| format!("{prefix}embeddings.{name}");
        let patches = Patches::load(weights, &of("patch_embeddings.projection"), true)?;
        let width = patches.width();
        let (places, count) = weights.table(&of("position_embeddings"), width)?;
        let side = (count - 1).isqrt();
        if side == 0 || side * side + 1 != count {
            let expected = format!("(1, 1 + side², {width})");
            return Err(weights.misshapen(&of("position_embeddings"), expected));
        }
        let class = weights.tensor(&of("cls_token"), &[1, 1, width])?;
        let epsilon = config.positive("layer_norm_eps", 1e-6)?;
        let swiglu = config.flag("use_swiglu_ffn", false)?;
        let activation = config.activation(Activation::Gelu)?;
        let trunk = TrunkConfig {
            width,
            layers: config.count("num_hidden_layers", 12)?,
            heads: config.heads(width, 12)?,
            epsilon,
            causal: false,
            qkv_bias: config.flag("qkv_bias", true)?,
            activation: (!swiglu).then_some(activation),
            names: &trunk::DINO,
        };
        let registers = if registers {
            Some(weights.table(&of("register_tokens"), width)?.0.unsqueeze(0)?)
        } else {
            None
        };
        Ok(Self {
            class: class.broadcast_add(&places.narrow(0, 0, 1)?)?,
            // transformers smooths the places of the variant with registers only
            filter: if registers.is_some() { Bicubic::Antialiased } else { Bicubic::Plain },
            registers,
            places: places.narrow(0, 1, count - 1)?.contiguous()?,
            side,
            trunk: Trunk::load(weights, prefix, &trunk)?,
            norm: weights.layer_norm(&format!("{prefix}layernorm"), width, epsilon)?,
            patches,
            preprocess,
            device: weights.device().clone(),
        })
    }

    /// Features of pictures, the `pooler_output` of transformers (the class token after the last norm),
    /// scaled to length 1.
    pub fn image_features(&self, pictures: &[&Picture]) -> Result<Vec<Vec<f32>>, VisionError> {
        features(pictures, &self.device, |picture| {
            let pixels = self.preprocess.apply(picture)?;
            let side = self.patches.side();
            if pixels.width < side || pixels.height < side {
                let expected = format!("`{side}x{side}` or more after its preprocessing");
                let hint = "leave this picture out, or have preprocessor_config.json resize it";
                return Err(VisionError::picture(picture, expected, hint));
            }
            Ok(self.encode(&pixels)?)
        })
    }

    /// (1, width)
    fn encode(&self, pixels: &Pixels) -> candle_core::Result<Tensor> {
        let side = self.patches.side();
        let grid = (pixels.height / side, pixels.width / side);
        let places = resample(&self.places, self.side, grid, self.filter)?;
        let x = self.patches.forward(pixels)?.broadcast_add(&places)?;
        let mut parts = vec![&self.class];
        parts.extend(&self.registers);
        parts.push(&x);
        let x = self.trunk.forward(Tensor::cat(&parts, 1)?, &Strengths::none(1))?;
        self.norm.forward(&x.i((.., 0))?)
    }
}
