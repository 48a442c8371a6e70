//! Names of the original Stable Diffusion layout (LDM, SGM) and of diffusers, both ways.
//!
//! | LDM | diffusers |
//! |---|---|
//! | `time_embed.{0,2}` | `time_embedding.linear_{1,2}` |
//! | `label_emb.0.{0,2}` | `add_embedding.linear_{1,2}` |
//! | `input_blocks.0.0` | `conv_in` |
//! | `input_blocks.i.{0,1}` | `down_blocks.b.{resnets,attentions}.l`, i = 1 + b·(n+1) + l |
//! | `input_blocks.i.0.op` | `down_blocks.b.downsamplers.0.conv`, l = n |
//! | `middle_block.{0,1,2}` | `mid_block.{resnets.0,attentions.0,resnets.1}` |
//! | `output_blocks.i.{0,1}` | `up_blocks.b.{resnets,attentions}.l`, i = b·(n+1) + l |
//! | `output_blocks.i.{1,2}.conv` | `up_blocks.b.upsamplers.0.conv`, l = n |
//! | `out.{0,2}` | `conv_norm_out`, `conv_out` |
//!
//! n is the number of layers per block, 2 in every released model. Inside a resnet:
//! [`RESNET`]; attention blocks have the same names on both sides.

/// Sub-modules of a resnet: LDM name, diffusers name.
pub const RESNET: [(&str, &str); 6] = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("emb_layers.1", "time_emb_proj"),
    ("skip_connection", "conv_shortcut"),
];

/// Modules outside the blocks: LDM name, diffusers name.
pub const OUTSIDE: [(&str, &str); 7] = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

/// Layers per block of every released Stable Diffusion UNet.
pub const LAYERS_PER_BLOCK: usize = 2;

/// The diffusers path of a UNet module given its LDM path (no `model.diffusion_model.` prefix),
/// for a UNet of `n` layers per block. `None` if it is not such a path.
pub fn unet_to_diffusers(path: &str, n: usize) -> Option<String> {
    if let Some((_, diffusers)) = OUTSIDE.iter().find(|(ldm, _)| *ldm == path) {
        return Some((*diffusers).to_owned());
    }
    let (block, rest) = path.split_once('.')?;
    if block == "middle_block" {
        let (part, rest) = rest.split_once('.')?;
        return match part {
            "0" => Some(format!("mid_block.resnets.0.{}", resnet_to_diffusers(rest)?)),
            "1" => Some(format!("mid_block.attentions.0.{rest}")),
            "2" => Some(format!("mid_block.resnets.1.{}", resnet_to_diffusers(rest)?)),
            _ => None,
        };
    }
    let (index, rest) = rest.split_once('.')?;
    let (part, rest) = rest.split_once('.')?;
    let index: usize = index.parse().ok()?;
    let (side, index) = match block {
        "input_blocks" => ("down_blocks", index.checked_sub(1)?),
        "output_blocks" => ("up_blocks", index),
        _ => return None,
    };
    let (b, l) = (index / (n + 1), index % (n + 1));
    match (part, rest) {
        ("0", "op") if side == "down_blocks" && l == n => {
            Some(format!("{side}.{b}.downsamplers.0.conv"))
        }
        ("1" | "2", "conv") if side == "up_blocks" && l == n => {
            Some(format!("{side}.{b}.upsamplers.0.conv"))
        }
        ("0", rest) => Some(format!("{side}.{b}.resnets.{l}.{}", resnet_to_diffusers(rest)?)),
        ("1", rest) => Some(format!("{side}.{b}.attentions.{l}.{rest}")),
        _ => None,
    }
}

/// The LDM path of a UNet module given its diffusers path. `attention_above` tells whether an up
/// block has attention, since its upsampler then comes third, not second.
pub fn unet_to_ldm(
    path: &str,
    n: usize,
    attention_above: impl Fn(usize) -> bool,
) -> Option<String> {
    if let Some((ldm, _)) = OUTSIDE.iter().find(|(_, diffusers)| *diffusers == path) {
        return Some((*ldm).to_owned());
    }
    let (side, rest) = path.split_once('.')?;
    if side == "mid_block" {
        if let Some(rest) = rest.strip_prefix("attentions.0.") {
            return Some(format!("middle_block.1.{rest}"));
        }
        let (l, rest) = rest.strip_prefix("resnets.")?.split_once('.')?;
        let part = match l {
            "0" => 0,
            "1" => 2,
            _ => return None,
        };
        return Some(format!("middle_block.{part}.{}", resnet_to_ldm(rest)?));
    }
    let (b, rest) = rest.split_once('.')?;
    let (kind, rest) = rest.split_once('.')?;
    let (l, rest) = rest.split_once('.')?;
    let (b, l): (usize, usize) = (b.parse().ok()?, l.parse().ok()?);
    let start = b.checked_mul(n + 1)?.checked_add(l)?;
    match (side, kind, rest) {
        ("down_blocks", "downsamplers", "conv") => {
            Some(format!("input_blocks.{}.0.op", start.checked_add(n + 1)?))
        }
        ("up_blocks", "upsamplers", "conv") => {
            let part = if attention_above(b) { 2 } else { 1 };
            Some(format!("output_blocks.{}.{part}.conv", start.checked_add(n)?))
        }
        ("down_blocks", "resnets", _) => {
            Some(format!("input_blocks.{}.0.{}", start.checked_add(1)?, resnet_to_ldm(rest)?))
        }
        ("down_blocks", "attentions", _) => {
            Some(format!("input_blocks.{}.1.{rest}", start.checked_add(1)?))
        }
        ("up_blocks", "resnets", _) => {
            Some(format!("output_blocks.{start}.0.{}", resnet_to_ldm(rest)?))
        }
        ("up_blocks", "attentions", _) => Some(format!("output_blocks.{start}.1.{rest}")),
        _ => None,
    }
}

fn resnet_to_diffusers(path: &str) -> Option<&'static str> {
    RESNET.iter().find(|(ldm, _)| *ldm == path).map(|(_, diffusers)| *diffusers)
}

fn resnet_to_ldm(path: &str) -> Option<&'static str> {
    RESNET.iter().find(|(_, diffusers)| *diffusers == path).map(|(ldm, _)| *ldm)
}

/// Sub-modules of a text encoder layer: OpenCLIP name, transformers name.
pub const OPEN_CLIP_LAYER: [(&str, &str); 5] = [
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
];

/// The transformers path (without `text_model.`) of an OpenCLIP module other than the stacked
/// `attn.in_proj`. `None` if it is not one.
pub fn open_clip_to_transformers(path: &str) -> Option<String> {
    match path {
        "token_embedding" => return Some("embeddings.token_embedding".to_owned()),
        "ln_final" => return Some("final_layer_norm".to_owned()),
        _ => {}
    }
    let (layer, rest) = path.strip_prefix("transformer.resblocks.")?.split_once('.')?;
    let (_, name) = OPEN_CLIP_LAYER.iter().find(|(open_clip, _)| *open_clip == rest)?;
    Some(format!("encoder.layers.{layer}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_in_both_directions() {
        // SDXL: three levels, attention in up blocks 0 and 1. SD1: four levels, none in up block 0.
        let sdxl: fn(usize) -> bool = |b| b < 2;
        let sd1: fn(usize) -> bool = |b| b > 0;
        for (ldm, diffusers, attention) in [
            ("input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv", sdxl),
            (
                "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
                "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
                sdxl,
            ),
            ("input_blocks.10.0.in_layers.2", "down_blocks.3.resnets.0.conv1", sd1),
            ("middle_block.2.skip_connection", "mid_block.resnets.1.conv_shortcut", sd1),
            ("output_blocks.2.2.conv", "up_blocks.0.upsamplers.0.conv", sdxl),
            ("output_blocks.2.1.conv", "up_blocks.0.upsamplers.0.conv", sd1),
            ("output_blocks.8.1.proj_out", "up_blocks.2.attentions.2.proj_out", sd1),
            ("label_emb.0.2", "add_embedding.linear_2", sdxl),
        ] {
            assert_eq!(unet_to_diffusers(ldm, 2).as_deref(), Some(diffusers));
            assert_eq!(unet_to_ldm(diffusers, 2, attention).as_deref(), Some(ldm));
        }
        assert_eq!(unet_to_diffusers("input_blocks.0.1.x", 2), None);
        assert_eq!(unet_to_diffusers("nonsense", 2), None);
    }
}
