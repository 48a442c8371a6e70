//! Shapes of the networks that are trained: what memory and capacity follow from.

/// A base, as far as a training's memory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A decoder-only language model.
    Decoder(Decoder),
    /// Stable Diffusion.
    Diffusion(Diffusion),
}

/// A decoder-only language model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "families differ in independent switches")]
pub struct Decoder {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub inner: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub groups: usize,
    /// Width of a head.
    pub head: usize,
    /// Whether q, k and v have a bias (Qwen 2).
    pub bias: bool,
    /// Whether attention's output has one.
    pub output_bias: bool,
    /// Whether the feed-forward layers have one.
    pub inner_bias: bool,
    /// Whether each head is normed (Qwen 3, Gemma 3).
    pub head_norms: bool,
    /// Whether results are normed too (Gemma 2 and 3).
    pub sandwich: bool,
    /// Whether q, k, v and gate, up are one matrix each (Phi 3).
    pub fused: bool,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Longest sequence it was made for.
    pub context: usize,
}

/// Stable Diffusion's models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diffusion {
    /// The denoiser.
    pub unet: Unet,
    /// The text encoders.
    pub text: Vec<Text>,
    /// The autoencoder.
    pub vae: Vae,
    /// Side in pixels of the pictures it was trained on.
    pub side: usize,
}

/// The denoiser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unet {
    /// Channels of the latents.
    pub latents: usize,
    /// Channels at full size.
    pub channels: usize,
    /// Width of what cross-attention reads.
    pub context: usize,
    /// Width of the pooled text and sizes that it is told (SDXL).
    pub added: Option<usize>,
    /// Whether the transformers' projections are linear layers, not 1×1 convolutions.
    pub linear: bool,
    /// Blocks on the way down.
    pub down: Vec<Level>,
    /// Layers in the middle.
    pub mid: Vec<Layer>,
    /// Blocks on the way up.
    pub up: Vec<Level>,
}

/// A block of the denoiser.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Level {
    /// Resnets, each with a transformer or without.
    pub layers: Vec<Layer>,
    /// Whether the size changes after them.
    pub resamples: bool,
}

/// A resnet and the transformer after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Blocks of its transformer; 0: it has none.
    pub blocks: usize,
    /// Attention heads.
    pub heads: usize,
}

/// A CLIP text encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Width.
    pub width: usize,
    /// Width of the feed-forward layer.
    pub inner: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Tokens it knows.
    pub vocabulary: usize,
    /// Tokens of a text.
    pub places: usize,
    /// Width of the projected text.
    pub projection: Option<usize>,
}

/// The autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vae {
    /// Its parameters.
    pub parameters: u64,
    /// Channels at full size.
    pub channels: usize,
    /// Pixels along a side of a latent.
    pub factor: usize,
}

impl Network {
    /// Qwen2.5-1.5B.
    pub fn qwen2_5_1_5b() -> Self {
        Self::Decoder(Decoder {
            hidden: 1536,
            inner: 8960,
            vocabulary: 151_936,
            layers: 28,
            heads: 12,
            groups: 2,
            head: 128,
            bias: true,
            output_bias: false,
            inner_bias: false,
            head_norms: false,
            sandwich: false,
            fused: false,
            tied: true,
            context: 32_768,
        })
    }

    /// Stable Diffusion 1.x.
    pub fn sd1() -> Self {
        let heads = |_: usize| 8;
        let unet = Unet::new(&[320, 640, 1280, 1280], &[1, 1, 1, 0], 1, (768, &heads));
        let text = vec![Text::openai()];
        Self::Diffusion(Diffusion { unet, text, vae: Vae::standard(), side: 512 })
    }

    /// Stable Diffusion XL.
    pub fn sdxl() -> Self {
        let heads = |channels: usize| channels / 64;
        let mut unet = Unet::new(&[320, 640, 1280], &[0, 2, 10], 10, (2048, &heads));
        unet.linear = true;
        unet.added = Some(2816);
        let second = Text {
            width: 1280,
            inner: 5120,
            layers: 32,
            heads: 20,
            projection: Some(1280),
            ..Text::openai()
        };
        let text = vec![Text::openai(), second];
        Self::Diffusion(Diffusion { unet, text, vae: Vae::standard(), side: 1024 })
    }
}

impl Unet {
    /// The released layout: two resnets a block on the way down, three on the way up, transformers of
    /// `blocks` blocks in each level and of `mid` in the middle.
    pub fn new(
        channels: &[usize],
        blocks: &[usize],
        mid: usize,
        (context, heads): (usize, &dyn Fn(usize) -> usize),
    ) -> Self {
        let first = channels.first().copied().unwrap_or(0);
        let levels: Vec<(usize, usize)> =
            channels.iter().copied().zip(blocks.iter().copied()).collect();
        let layer = |inputs: usize, outputs: usize, blocks: usize| Layer {
            inputs,
            outputs,
            blocks,
            heads: heads(outputs),
        };
        let (mut now, mut skips, mut down) = (first, vec![first], Vec::new());
        for (index, (outputs, blocks)) in levels.iter().copied().enumerate() {
            let resamples = index + 1 < levels.len();
            let layers = vec![layer(now, outputs, blocks), layer(outputs, outputs, blocks)];
            skips.extend(vec![outputs; layers.len() + usize::from(resamples)]);
            now = outputs;
            down.push(Level { layers, resamples });
        }
        let mut up = Vec::new();
        for (index, (outputs, blocks)) in levels.iter().copied().enumerate().rev() {
            let mut level = Level { layers: Vec::new(), resamples: index > 0 };
            for _ in 0..3 {
                let skip = skips.pop().unwrap_or(0);
                level.layers.push(layer(now + skip, outputs, blocks));
                now = outputs;
            }
            up.push(level);
        }
        let deepest = channels.last().copied().unwrap_or(0);
        let mid = vec![layer(deepest, deepest, mid), layer(deepest, deepest, 0)];
        Self { latents: 4, channels: first, context, added: None, linear: false, down, mid, up }
    }
}

impl Text {
    /// `OpenAI`'s CLIP-L.
    fn openai() -> Self {
        Self {
            width: 768,
            inner: 3072,
            layers: 12,
            heads: 12,
            vocabulary: 49_408,
            places: 77,
            projection: None,
        }
    }
}

impl Vae {
    /// That of every released Stable Diffusion.
    pub fn standard() -> Self {
        Self { parameters: 83_653_863, channels: 128, factor: 8 }
    }
}
