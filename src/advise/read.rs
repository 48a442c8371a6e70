//! A base's facts, read off its configuration and its table of modules.

use candle_core::Device;

use super::AdviseError;
use super::facts::{BaseFacts, Held};
use super::network::{Decoder, Diffusion, Layer, Level, Network, Text, Unet, Vae};
use crate::adapter::{Component, ModuleId};
use crate::config::Precision;
use crate::model::decoder::Config;
use crate::model::diffusion::{Adapters, Parts, Placement, UnetConfig};
use crate::model::{Base, Target};
use crate::tensors::Float;

impl BaseFacts {
    /// Those of an open base, from [`Base::open_to_run`], which `name` names.
    pub fn of(name: &str, base: &Base) -> Result<Self, AdviseError> {
        let table = Table(base);
        let network = match base.configs.get(&Component::Language) {
            Some(config) => {
                let config = Config::read(config)
                    .map_err(|source| AdviseError::Config { path: base.path.clone(), source })?;
                Network::Decoder(table.decoder(&config))
            }
            None => Network::Diffusion(table.diffusion()?),
        };
        Ok(Self { name: name.to_owned(), network, held: table.held() })
    }
}

/// No picture is trained on that is larger.
const LARGEST_SIDE: usize = 8192;

/// How many numbers from 0 on name something.
fn count(names: impl Fn(usize) -> bool) -> usize {
    let mut number = 0;
    while names(number) {
        number += 1;
    }
    number
}

/// A base's modules by component and path.
#[derive(Clone, Copy)]
struct Table<'a>(&'a Base);

impl<'a> Table<'a> {
    fn target(self, component: Component, path: &str) -> Option<&'a Target> {
        self.0.table.get(&ModuleId::new(component, path))
    }

    /// The shape of a module's weight, as far as `axis`.
    fn size(self, component: Component, path: &str, axis: usize) -> Option<usize> {
        self.target(component, path)?.weight.shape.get(axis).copied()
    }

    /// The type of most weights.
    fn held(self) -> Held {
        if let Some(model) = &self.0.gguf {
            return Held::Blocks(model.size());
        }
        let mut bytes = [(Precision::F32, 0), (Precision::F16, 0), (Precision::Bf16, 0)];
        for target in self.0.table.targets() {
            let slot = &target.weight;
            let tensor = self.0.files.get(slot.file).and_then(|file| file.file.get(&slot.key));
            let place = match tensor.and_then(|tensor| Float::of(tensor.dtype())) {
                Some(Float::F16) => 1,
                Some(Float::BF16) => 2,
                _ => 0,
            };
            bytes[place].1 += slot.shape.iter().product::<usize>();
        }
        let most = bytes.into_iter().max_by_key(|(_, count)| *count);
        Held::Floats(most.map_or(Precision::F32, |(precision, _)| precision))
    }

    fn decoder(self, config: &Config) -> Decoder {
        let first = |name: &str| {
            let of = |target: &&Target| {
                target.id.component == Component::Language
                    && target.id.path.ends_with(&format!("layers.0.{name}"))
            };
            self.0.table.targets().find(of)
        };
        let bias = |name: &str| first(name).is_some_and(|target| target.bias.is_some());
        Decoder {
            hidden: config.hidden,
            inner: config.intermediate,
            vocabulary: config.vocabulary,
            layers: config.layers.len(),
            heads: config.heads,
            groups: config.groups,
            head: config.head,
            bias: bias("self_attn.q_proj") || bias("self_attn.qkv_proj"),
            output_bias: bias("self_attn.o_proj"),
            inner_bias: bias("mlp.down_proj"),
            head_norms: first("self_attn.q_norm").is_some(),
            sandwich: config.sandwich,
            fused: first("self_attn.qkv_proj").is_some(),
            tied: config.tied,
            context: config.context,
        }
    }

    fn diffusion(self) -> Result<Diffusion, AdviseError> {
        if self.target(Component::Unet, "conv_in").is_none() {
            return Err(AdviseError::NotTrainable {
                path: self.0.path.clone(),
                problem: format!("{} has no denoiser", self.0.describe()),
            });
        }
        let unet = self.unet()?;
        let vae = self.vae();
        let texts = [Component::TextEncoder, Component::TextEncoder2];
        let text = texts.into_iter().filter_map(|component| self.text(component)).collect();
        let config = self.0.configs.get(&Component::Unet);
        let sample = config.and_then(|config| config["sample_size"].as_u64());
        let sample = sample.and_then(|side| usize::try_from(side).ok()).filter(|side| *side > 0);
        // a single file does not say: 1.x was made for 512 pixels, 2.x for 768, XL for 1024
        let usual = match (unet.added, unet.context) {
            (Some(_), _) => 1024,
            (None, 1024) => 768,
            _ => 512,
        };
        let side = sample.map_or(usual, |side| side.saturating_mul(vae.factor).min(LARGEST_SIDE));
        Ok(Diffusion { unet, text, vae, side })
    }

    fn unet(self) -> Result<Unet, AdviseError> {
        let placement = Placement::new(self.0, &Device::Cpu, None);
        let none = Adapters::default();
        let config = UnetConfig::of(&Parts::new(self.0, Component::Unet, &placement, &none))?;
        let size = |path: &str, axis: usize| self.size(Component::Unet, path, axis);
        let down = self.levels("down_blocks", |index| index, &config);
        let levels = down.len();
        let deepest = levels.saturating_sub(1);
        Ok(Unet {
            latents: size("conv_in", 1).unwrap_or(0),
            channels: size("conv_in", 0).unwrap_or(0),
            context: size("mid_block.attentions.0.transformer_blocks.0.attn2.to_k", 1).unwrap_or(0),
            added: size("add_embedding.linear_1", 1),
            linear: self
                .target(Component::Unet, "mid_block.attentions.0.proj_in")
                .is_some_and(|target| target.weight.shape.len() == 2),
            mid: self.layers("mid_block", deepest, &config),
            up: self.levels("up_blocks", |index| deepest.saturating_sub(index), &config),
            down,
        })
    }

    fn levels(self, side: &str, level: impl Fn(usize) -> usize, config: &UnetConfig) -> Vec<Level> {
        let mut levels = Vec::new();
        loop {
            let at = format!("{side}.{}", levels.len());
            let layers = self.layers(&at, level(levels.len()), config);
            if layers.is_empty() {
                return levels;
            }
            let resamples = ["downsamplers", "upsamplers"]
                .iter()
                .any(|name| self.target(Component::Unet, &format!("{at}.{name}.0.conv")).is_some());
            levels.push(Level { layers, resamples });
        }
    }

    fn layers(self, at: &str, level: usize, config: &UnetConfig) -> Vec<Layer> {
        let layer = |index: usize| {
            let size = |axis: usize| {
                self.size(Component::Unet, &format!("{at}.resnets.{index}.conv1"), axis)
            };
            let (outputs, inputs) = (size(0)?, size(1)?);
            let blocks = format!("{at}.attentions.{index}.transformer_blocks");
            let blocks = count(|block| {
                self.target(Component::Unet, &format!("{blocks}.{block}.attn1.to_q")).is_some()
            });
            Some(Layer { inputs, outputs, blocks, heads: config.heads(level, outputs) })
        };
        (0..).map_while(layer).collect()
    }

    fn text(self, component: Component) -> Option<Text> {
        let size = |path: &str, axis: usize| self.size(component, path, axis);
        let width = size("embeddings.token_embedding", 1)?;
        let layers = count(|layer| size(&format!("encoder.layers.{layer}.mlp.fc1"), 0).is_some());
        let config = self.0.configs.get(&component);
        let heads = config.and_then(|config| config["num_attention_heads"].as_u64());
        // in every released one a head has 64 channels
        let heads = heads.and_then(|n| usize::try_from(n).ok()).unwrap_or(width / 64);
        Some(Text {
            width,
            inner: size("encoder.layers.0.mlp.fc1", 0).unwrap_or(0),
            layers,
            heads,
            vocabulary: size("embeddings.token_embedding", 0).unwrap_or(0),
            places: size("embeddings.position_embedding", 0).unwrap_or(0),
            projection: size("text_projection", 0),
        })
    }

    /// The autoencoder; the usual one, where the base has none of its own.
    fn vae(self) -> Vae {
        let of = self.0.table.targets().filter(|target| target.id.component == Component::Vae);
        let numbers = |target: &Target| {
            let bias = target.bias.as_ref().map_or(0, |bias| bias.shape.iter().product::<usize>());
            (target.weight.shape.iter().product::<usize>() + bias) as u64
        };
        let parameters: u64 = of.map(numbers).sum();
        let (Some(channels), true) =
            (self.size(Component::Vae, "encoder.conv_in", 0), parameters > 0)
        else {
            return Vae::standard();
        };
        let halvings = count(|level| {
            let path = format!("encoder.down_blocks.{level}.downsamplers.0.conv");
            self.target(Component::Vae, &path).is_some()
        });
        // more than eight halvings are no autoencoder of pictures
        let factor = 1 << halvings.min(8);
        Vae { parameters, channels, factor }
    }
}
