//! What an adapter's module is called, whatever the file that names it.

use std::fmt;

use serde::{Serialize, Serializer};

/// A model of a pipeline that adapters apply to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The denoiser of Stable Diffusion (`UNet2DConditionModel`).
    Unet,
    /// The text encoder of SD1/SD2, the first one (CLIP-L) of SDXL.
    TextEncoder,
    /// The second text encoder of SDXL (OpenCLIP bigG).
    TextEncoder2,
    /// A language model.
    Language,
    /// The autoencoder of Stable Diffusion, which no adapter changes.
    Vae,
}

impl Component {
    /// Its folder in a diffusers pipeline, its prefix in diffusers' adapter keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
            Self::Language => "model",
            Self::Vae => "vae",
        }
    }

    /// Whether the `te` strength of `<lora:x:te:unet>` governs it; the `unet` one otherwise.
    pub fn is_text_encoder(self) -> bool {
        matches!(self, Self::TextEncoder | Self::TextEncoder2)
    }

    /// The component a bare module path must belong to, by the path's first segments.
    pub(super) fn of_path(path: &str) -> Self {
        Self::of_flat(&path.replace('.', "_"))
    }

    /// The same by the flat path.
    pub(super) fn of_flat(flat: &str) -> Self {
        const UNET: [&str; 7] = [
            "down_blocks_",
            "mid_block_",
            "up_blocks_",
            "conv_in",
            "conv_out",
            "time_embedding_",
            "add_embedding_",
        ];
        if UNET.iter().any(|start| flat.starts_with(start)) {
            Self::Unet
        } else if flat.starts_with("text_model_") {
            Self::TextEncoder
        } else {
            Self::Language
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Component {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A module: its component and its path there, in the names of diffusers and transformers.
///
/// The `text_model.` level of CLIP is left out (transformers dropped it in 5.6). A path that came
/// from a flat key whose words are not known stays flat, with `_` for every `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId {
    /// Which model of the pipeline.
    pub component: Component,
    /// Path in that model, e.g. `down_blocks.0.attentions.0.proj_in`.
    pub path: String,
}

impl ModuleId {
    /// A module by its dotted path; CLIP's `text_model.` level is removed.
    pub fn new(component: Component, path: &str) -> Self {
        let path = match path.strip_prefix("text_model.") {
            Some(rest) if component.is_text_encoder() => rest,
            _ => path,
        };
        Self { component, path: path.to_owned() }
    }

    /// The path as the formats with fixed names write it: with CLIP's `text_model.` level.
    pub fn long_path(&self) -> String {
        if self.component.is_text_encoder() && !self.path.starts_with("text_projection") {
            format!("text_model.{}", self.path)
        } else {
            self.path.clone()
        }
    }

    /// The path with `_` for every `.`, by which modules are looked up.
    pub fn flat(&self) -> String {
        self.path.replace('.', "_")
    }

    /// The part of the model it belongs to, for summaries: `up_blocks.1`, `layers.3`, …
    pub fn block(&self) -> String {
        let mut parts = self.path.split('.').peekable();
        let mut block = String::new();
        while let Some(part) = parts.next() {
            if !block.is_empty() {
                block.push('.');
            }
            block.push_str(part);
            if part.starts_with("mid_block") {
                break;
            }
            if let Some(number) = parts.next_if(|next| next.bytes().all(|b| b.is_ascii_digit())) {
                block.push('.');
                block.push_str(number);
                break;
            }
        }
        block
    }
}

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.component {
            Component::Language => f.write_str(&self.path),
            component => write!(f, "{component}.{}", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        let block = |component, path| ModuleId::new(component, path).block();
        assert_eq!(block(Component::Unet, "up_blocks.1.attentions.0.proj_in"), "up_blocks.1");
        assert_eq!(block(Component::Unet, "mid_block.attentions.0.proj_in"), "mid_block");
        assert_eq!(block(Component::Unet, "conv_in"), "conv_in");
        assert_eq!(
            block(Component::TextEncoder, "text_model.encoder.layers.3.mlp.fc1"),
            "encoder.layers.3"
        );
        assert_eq!(block(Component::Language, "model.layers.10.mlp.up_proj"), "model.layers.10");
    }
}
