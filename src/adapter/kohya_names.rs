//! kohya's flat module names: `lora_unet_` + the module path with `_` for every `.`.
//!
//! A `_` may be a dot or part of a word, so a name is taken apart by the words that the models'
//! module paths are made of (`WORDS`), longest first. That is exact for every module of Stable
//! Diffusion; a name with other words stays flat and is matched against a base by its flat form.

use super::id::{Component, ModuleId};
use super::ldm;

/// The words of module paths in diffusers' UNet, the original UNet and CLIP. Numbers stand for
/// themselves.
const WORDS: [&str; 66] = [
    // diffusers' UNet
    "down_blocks",
    "mid_block",
    "up_blocks",
    "resnets",
    "attentions",
    "downsamplers",
    "upsamplers",
    "conv_in",
    "conv_out",
    "conv_norm_out",
    "conv1",
    "conv2",
    "conv_shortcut",
    "conv",
    "time_emb_proj",
    "time_embedding",
    "add_embedding",
    "linear_1",
    "linear_2",
    // transformer blocks, both UNets
    "transformer_blocks",
    "proj_in",
    "proj_out",
    "attn1",
    "attn2",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
    "ff",
    "net",
    "proj",
    "norm",
    "norm1",
    "norm2",
    "norm3",
    // the original UNet
    "input_blocks",
    "middle_block",
    "output_blocks",
    "in_layers",
    "out_layers",
    "emb_layers",
    "skip_connection",
    "op",
    "time_embed",
    "label_emb",
    "out",
    // CLIP
    "text_model",
    "encoder",
    "layers",
    "self_attn",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "mlp",
    "fc1",
    "fc2",
    "layer_norm1",
    "layer_norm2",
    "final_layer_norm",
    "embeddings",
    "token_embedding",
    "position_embedding",
    "text_projection",
    "class_embedding",
    "bias",
];

/// Prefixes of kohya's and LyCORIS' keys and the component they stand for.
const PREFIXES: [(&str, Component); 5] = [
    ("lora_unet_", Component::Unet),
    ("lora_te1_", Component::TextEncoder),
    ("lora_te2_", Component::TextEncoder2),
    ("lora_te_", Component::TextEncoder),
    ("lycoris_", Component::Unet),
];

/// Reads a flat module name with its prefix. `None` if it has none of kohya's prefixes.
pub fn parse(name: &str) -> Option<ModuleId> {
    let (prefix, component) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let flat = &name[prefix.len()..];
    // LyCORIS wraps any model under one prefix; how the name starts tells which.
    let component = match *prefix {
        "lycoris_" if is_original_unet(flat) => Component::Unet,
        "lycoris_" => Component::of_flat(flat),
        _ => *component,
    };
    let Some(path) = unflatten(flat).filter(|_| component != Component::Language) else {
        return Some(ModuleId { component, path: flat.to_owned() });
    };
    let path = match component {
        Component::Unet => ldm::unet_to_diffusers(&path, ldm::LAYERS_PER_BLOCK).unwrap_or(path),
        _ => path,
    };
    Some(ModuleId::new(component, &path))
}

/// Whether a flat UNet name (no prefix) is in the original UNet's words.
pub fn is_original_unet(flat: &str) -> bool {
    ["input_blocks_", "middle_block_", "output_blocks_"].iter().any(|s| flat.starts_with(s))
}

/// The dots of a flat path put back, if all its words are known.
fn unflatten(flat: &str) -> Option<String> {
    let mut path = String::with_capacity(flat.len());
    let mut rest = flat;
    while !rest.is_empty() {
        let length = next_word(rest)?;
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&rest[..length]);
        rest = &rest[length..];
        rest = rest.strip_prefix('_').unwrap_or(rest);
    }
    Some(path)
}

/// Length of the longest known word or number that `rest` starts with, up to a `_` or the end.
fn next_word(rest: &str) -> Option<usize> {
    let ends = |length: usize| matches!(rest.as_bytes().get(length), None | Some(b'_'));
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 {
        return ends(digits).then_some(digits);
    }
    WORDS
        .iter()
        .filter(|word| rest.starts_with(**word) && ends(word.len()))
        .map(|word| word.len())
        .max()
}

/// Which names the UNet's modules are written under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnetNames {
    /// diffusers' names, what sd-scripts writes for SD1 and SD2.
    Diffusers,
    /// The original names, what sd-scripts writes for SDXL.
    Original,
}

/// The flat name with its prefix, as sd-scripts writes it. `two_encoders` chooses `lora_te1_` over
/// `lora_te_`. `None` for what kohya's format has no name for.
pub fn write(id: &ModuleId, unet: UnetNames, two_encoders: bool) -> Option<String> {
    let prefix = match id.component {
        Component::Unet => "lora_unet_",
        Component::TextEncoder if two_encoders => "lora_te1_",
        Component::TextEncoder => "lora_te_",
        Component::TextEncoder2 => "lora_te2_",
        Component::Language | Component::Vae => return None,
    };
    // Every up block of SDXL that has an upsampler has attention. A module that the original UNet
    // has not keeps its diffusers name.
    let original = (id.component == Component::Unet && unet == UnetNames::Original)
        .then(|| ldm::unet_to_ldm(&id.path, ldm::LAYERS_PER_BLOCK, |_| true))
        .flatten();
    let path = original.unwrap_or_else(|| id.long_path());
    Some(format!("{prefix}{}", path.replace('.', "_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> String {
        parse(name).unwrap().to_string()
    }

    #[test]
    fn both_unet_dialects_name_the_same_module() {
        let same = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
        assert_eq!(path("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"), same);
        let diffusers = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q";
        assert_eq!(path(diffusers), same);
    }

    #[test]
    fn words_with_underscores_stay_whole() {
        assert_eq!(
            path("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_ff_net_0_proj"),
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.ff.net.0.proj"
        );
        assert_eq!(
            path("lora_unet_up_blocks_0_resnets_1_time_emb_proj"),
            "unet.up_blocks.0.resnets.1.time_emb_proj"
        );
        assert_eq!(
            path("lora_te2_text_model_encoder_layers_31_self_attn_out_proj"),
            "text_encoder_2.encoder.layers.31.self_attn.out_proj"
        );
    }

    #[test]
    fn unknown_words_stay_flat_and_other_keys_are_not_ours() {
        assert_eq!(path("lora_unet_something_new_3"), "unet.something_new_3");
        assert_eq!(path("lycoris_model_layers_0_mlp_up_proj"), "model_layers_0_mlp_up_proj");
        assert_eq!(path("lycoris_layers_0_self_attn_q_proj"), "layers_0_self_attn_q_proj");
        assert_eq!(
            path("lycoris_text_model_encoder_layers_0_mlp_fc1"),
            "text_encoder.encoder.layers.0.mlp.fc1"
        );
        assert_eq!(
            path("lycoris_mid_block_attentions_0_proj_in"),
            "unet.mid_block.attentions.0.proj_in"
        );
        assert_eq!(parse("model.layers.0.self_attn.q_proj"), None);
    }

    /// All modules of SDXL that sd-scripts adapts, in diffusers' names: 722 linear ones and those
    /// of the resnets.
    fn sdxl_modules() -> Vec<String> {
        let mut modules = Vec::new();
        let mut transformer = |prefix: &str, depth: usize| {
            modules.extend(["proj_in", "proj_out"].map(|p| format!("{prefix}.{p}")));
            for k in 0..depth {
                for attn in ["attn1", "attn2"] {
                    for to in ["to_q", "to_k", "to_v", "to_out.0"] {
                        modules.push(format!("{prefix}.transformer_blocks.{k}.{attn}.{to}"));
                    }
                }
                for ff in ["ff.net.0.proj", "ff.net.2"] {
                    modules.push(format!("{prefix}.transformer_blocks.{k}.{ff}"));
                }
            }
        };
        for (b, depth) in [(1, 2), (2, 10)] {
            (0..2).for_each(|l| transformer(&format!("down_blocks.{b}.attentions.{l}"), depth));
        }
        transformer("mid_block.attentions.0", 10);
        for (b, depth) in [(0, 10), (1, 2)] {
            (0..3).for_each(|l| transformer(&format!("up_blocks.{b}.attentions.{l}"), depth));
        }
        assert_eq!(modules.len(), 722);
        for b in 0..3 {
            for (side, layers) in [("down", 2), ("up", 3)] {
                for l in 0..layers {
                    for part in ["conv1", "conv2", "time_emb_proj", "conv_shortcut"] {
                        modules.push(format!("{side}_blocks.{b}.resnets.{l}.{part}"));
                    }
                }
            }
        }
        modules.extend((0..2).map(|b| format!("down_blocks.{b}.downsamplers.0.conv")));
        modules.extend((0..2).map(|b| format!("up_blocks.{b}.upsamplers.0.conv")));
        modules
    }

    #[test]
    fn every_sdxl_module_survives_both_spellings() {
        let modules = sdxl_modules();
        let mut names = std::collections::BTreeSet::new();
        for path in &modules {
            let id = ModuleId::new(Component::Unet, path);
            for dialect in [UnetNames::Diffusers, UnetNames::Original] {
                let name = write(&id, dialect, true).unwrap();
                assert_eq!(parse(&name).unwrap(), id, "{name}");
                assert!(names.insert(name));
            }
        }
        assert_eq!(names.len(), 2 * modules.len());
    }
}
