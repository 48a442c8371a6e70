//! Names of the autoencoder in the original layout and in older diffusers folders.

/// Of an attention block: original, diffusers before 0.18, today.
const ATTENTION: [(&str, &str, &str); 5] = [
    ("norm", "group_norm", "group_norm"),
    ("q", "query", "to_q"),
    ("k", "key", "to_k"),
    ("v", "value", "to_v"),
    ("proj_out", "proj_attn", "to_out.0"),
];

/// The diffusers path of a module of the original autoencoder (no `first_stage_model.`), or of one in
/// diffusers' older names. `levels`: how many the decoder has. `None` if it is neither.
pub fn autoencoder_to_diffusers(path: &str, levels: usize) -> Option<String> {
    let Some((side, rest)) = path.split_once('.') else {
        return matches!(path, "quant_conv" | "post_quant_conv").then(|| path.to_owned());
    };
    if !matches!(side, "encoder" | "decoder") {
        return None;
    }
    if let Some((_, _, new)) = rest
        .strip_prefix("mid_block.attentions.0.")
        .and_then(|name| ATTENTION.iter().find(|(_, old, _)| *old == name))
    {
        return Some(format!("{side}.mid_block.attentions.0.{new}"));
    }
    let name = match rest {
        "conv_in" | "conv_out" => rest.to_owned(),
        "norm_out" => "conv_norm_out".to_owned(),
        _ => inner(side, rest, levels)?,
    };
    Some(format!("{side}.{name}"))
}

fn inner(side: &str, rest: &str, levels: usize) -> Option<String> {
    if let Some(rest) = rest.strip_prefix("mid.") {
        let (block, name) = rest.split_once('.')?;
        return match block {
            "block_1" => Some(format!("mid_block.resnets.0.{}", resnet(name))),
            "block_2" => Some(format!("mid_block.resnets.1.{}", resnet(name))),
            "attn_1" => {
                let (_, _, new) = ATTENTION.iter().find(|(original, _, _)| *original == name)?;
                Some(format!("mid_block.attentions.0.{new}"))
            }
            _ => None,
        };
    }
    let (kind, rest) = rest.split_once('.')?;
    let (level, rest) = rest.split_once('.')?;
    let level: usize = level.parse().ok()?;
    let (blocks, level) = match (side, kind) {
        ("encoder", "down") => ("down_blocks", level),
        ("decoder", "up") => ("up_blocks", levels.checked_sub(1)?.checked_sub(level)?),
        _ => return None,
    };
    match rest {
        "downsample.conv" => Some(format!("{blocks}.{level}.downsamplers.0.conv")),
        "upsample.conv" => Some(format!("{blocks}.{level}.upsamplers.0.conv")),
        _ => {
            let (index, name) = rest.strip_prefix("block.")?.split_once('.')?;
            Some(format!("{blocks}.{level}.resnets.{index}.{}", resnet(name)))
        }
    }
}

fn resnet(name: &str) -> &str {
    if name == "nin_shortcut" { "conv_shortcut" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn original_and_older_names() {
        for (path, expected) in [
            (
                "encoder.down.1.block.0.nin_shortcut",
                "encoder.down_blocks.1.resnets.0.conv_shortcut",
            ),
            ("encoder.down.2.downsample.conv", "encoder.down_blocks.2.downsamplers.0.conv"),
            ("decoder.up.3.block.2.conv1", "decoder.up_blocks.0.resnets.2.conv1"),
            ("decoder.up.1.upsample.conv", "decoder.up_blocks.2.upsamplers.0.conv"),
            ("decoder.mid.attn_1.proj_out", "decoder.mid_block.attentions.0.to_out.0"),
            ("decoder.mid_block.attentions.0.query", "decoder.mid_block.attentions.0.to_q"),
            ("encoder.norm_out", "encoder.conv_norm_out"),
            ("post_quant_conv", "post_quant_conv"),
        ] {
            assert_eq!(autoencoder_to_diffusers(path, 4).as_deref(), Some(expected));
        }
        for path in ["loss.logvar", "decoder.up.9.block.0.conv1", "encoder.up.0.block.0.conv1"] {
            assert_eq!(autoencoder_to_diffusers(path, 4), None, "{path}");
        }
    }
}
