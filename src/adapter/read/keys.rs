//! Tensor keys of every dialect, taken apart into module and part.

use crate::adapter::id::{Component, ModuleId};
use crate::adapter::{kohya_names, ldm};

/// What a tensor is for its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Down,
    Up,
    Mid,
    EmbeddingDown,
    EmbeddingUp,
    UpBias,
    Alpha,
    Scale,
    DoraScale,
    MagnitudeVector,
    HadaW1A,
    HadaW1B,
    HadaW2A,
    HadaW2B,
    HadaT1,
    HadaT2,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrT1,
    LokrW2,
    LokrW2A,
    LokrW2B,
    LokrT2,
    A1,
    A2,
    B1,
    B2,
    Ia3Weight,
    OnInput,
    Diff,
    DiffBias,
    NormWeight,
    NormBias,
    SetWeight,
    FullWeight,
    FullBias,
}

/// Endings of keys, longest first where one ends another.
const ENDINGS: [(&str, Part); 48] = [
    // kohya, LyCORIS
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora_mid.weight", Part::Mid),
    (".alpha", Part::Alpha),
    (".scale", Part::Scale),
    (".dora_scale", Part::DoraScale),
    (".hada_w1_a", Part::HadaW1A),
    (".hada_w1_b", Part::HadaW1B),
    (".hada_w2_a", Part::HadaW2A),
    (".hada_w2_b", Part::HadaW2B),
    (".hada_t1", Part::HadaT1),
    (".hada_t2", Part::HadaT2),
    (".lokr_w1_a", Part::LokrW1A),
    (".lokr_w1_b", Part::LokrW1B),
    (".lokr_w1", Part::LokrW1),
    (".lokr_t1", Part::LokrT1),
    (".lokr_w2_a", Part::LokrW2A),
    (".lokr_w2_b", Part::LokrW2B),
    (".lokr_w2", Part::LokrW2),
    (".lokr_t2", Part::LokrT2),
    (".a1.weight", Part::A1),
    (".a2.weight", Part::A2),
    (".b1.weight", Part::B1),
    (".b2.weight", Part::B2),
    (".a1", Part::A1),
    (".a2", Part::A2),
    (".b1", Part::B1),
    (".b2", Part::B2),
    (".on_input", Part::OnInput),
    (".diff_b", Part::DiffBias),
    (".diff", Part::Diff),
    (".w_norm", Part::NormWeight),
    (".b_norm", Part::NormBias),
    (".set_weight", Part::SetWeight),
    // PEFT, diffusers
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_B.bias", Part::UpBias),
    (".lora_embedding_A", Part::EmbeddingDown),
    (".lora_embedding_B", Part::EmbeddingUp),
    (".lora_magnitude_vector.weight", Part::MagnitudeVector),
    (".lora_magnitude_vector", Part::MagnitudeVector),
    // older diffusers
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    ("_lora.down.weight", Part::Down),
    ("_lora.up.weight", Part::Up),
    ("_lora.alpha", Part::Alpha),
];

/// The family of names a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dialect {
    Kohya,
    Diffusers,
    Peft,
}

/// A key taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub dialect: Dialect,
    pub id: ModuleId,
    /// The module's name in the file.
    pub stem: String,
    /// The path that PEFT's patterns are matched against.
    pub config_path: String,
    pub part: Part,
}

/// Takes a key apart, or `None` if it is not an adapter's.
pub(super) fn parse(key: &str) -> Option<Key> {
    let key = without_adapter_name(key);
    if let Some((stem, rest)) = key.split_once('.')
        && let Some(id) = kohya_names::parse(stem)
    {
        let part = match rest {
            "weight" => Part::Ia3Weight,
            _ => ending(&key[stem.len()..]).filter(|(before, _)| before.is_empty())?.1,
        };
        let config_path = id.path.clone();
        return Some(Key { dialect: Dialect::Kohya, id, stem: stem.to_owned(), config_path, part });
    }
    let inner = key.strip_prefix("base_model.model.");
    let (stem, part) = match ending(&key) {
        Some(found) => found,
        None => full_tensor(inner?)?,
    };
    let dialect = if inner.is_some() { Dialect::Peft } else { Dialect::Diffusers };
    let old_style = key.contains("_lora.");
    let (id, config_path) =
        dotted(stem.strip_prefix("base_model.model.").unwrap_or(stem), old_style);
    Some(Key { dialect, id, stem: stem.to_owned(), config_path, part })
}

fn ending(key: &str) -> Option<(&str, Part)> {
    ENDINGS.iter().find_map(|(end, part)| Some((key.strip_suffix(end)?, *part)))
}

/// `x.lora_A.default.weight` → `x.lora_A.weight`, and likewise for PEFT's other parts.
fn without_adapter_name(key: &str) -> String {
    for marker in [
        ".lora_A.",
        ".lora_B.",
        ".lora_embedding_A.",
        ".lora_embedding_B.",
        ".lora_magnitude_vector.",
    ] {
        if let Some(at) = key.rfind(marker) {
            let (before, after) = key.split_at(at + marker.len());
            let bare = before.trim_end_matches('.');
            return match after.rsplit_once('.') {
                Some((_, last @ ("weight" | "bias"))) => format!("{bare}.{last}"),
                _ if matches!(after, "weight" | "bias") => key.to_owned(),
                _ => bare.to_owned(),
            };
        }
    }
    key.to_owned()
}

/// The module of a full tensor in a PEFT file, its wrappers' segments removed.
fn full_tensor(inner: &str) -> Option<(&str, Part)> {
    let (stem, last) = inner.rsplit_once('.')?;
    let part = match last {
        "weight" => Part::FullWeight,
        "bias" => Part::FullBias,
        _ => return None,
    };
    if stem.contains(".lora_") {
        return None; // a part of an adapter under a name that is not known
    }
    let stem = stem.strip_suffix(".base_layer").unwrap_or(stem);
    Some((stem.rfind(".modules_to_save").map_or(stem, |at| &stem[..at]), part))
}

/// Component and canonical path of a dotted module name; also the path as PEFT knows it.
fn dotted(stem: &str, old_style: bool) -> (ModuleId, String) {
    const ROLES: [(&str, Component); 3] = [
        ("unet.", Component::Unet),
        ("text_encoder.", Component::TextEncoder),
        ("text_encoder_2.", Component::TextEncoder2),
    ];
    if let Some(path) = stem.strip_prefix("diffusion_model.") {
        let known = ldm::unet_to_diffusers(path, ldm::LAYERS_PER_BLOCK);
        let id = ModuleId::new(Component::Unet, known.as_deref().unwrap_or(path));
        return (id, path.to_owned());
    }
    let role = ROLES.iter().find_map(|(prefix, c)| Some((*c, stem.strip_prefix(prefix)?)));
    let (component, path) = role.unwrap_or_else(|| (Component::of_path(stem), stem));
    let mut path = path.replace(".processor.", ".");
    if old_style {
        modernise(&mut path, component);
    }
    (ModuleId::new(component, &path), path)
}

/// The names that attention layers had before diffusers kept LoRA beside them.
fn modernise(path: &mut String, component: Component) {
    for (old, unet, clip) in [
        ("to_q", "to_q", "q_proj"),
        ("to_k", "to_k", "k_proj"),
        ("to_v", "to_v", "v_proj"),
        ("to_out", "to_out.0", "out_proj"),
    ] {
        let Some(before) = path.strip_suffix(old) else {
            continue;
        };
        let new = if component.is_text_encoder() { clip } else { unet };
        *path = format!("{before}{new}");
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str) -> (String, Part) {
        let key = parse(key).unwrap_or_else(|| panic!("{key}"));
        (key.id.to_string(), key.part)
    }

    #[test]
    fn one_module_in_every_dialect() {
        let to_q = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
        for key in [
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.default.weight",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
            "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
            "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_down.weight",
        ] {
            assert_eq!(read(key), (to_q.to_owned(), Part::Down), "{key}");
        }
    }

    #[test]
    fn text_encoders() {
        let q = "text_encoder.encoder.layers.0.self_attn.q_proj";
        for key in [
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
            "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight",
            "text_encoder.encoder.layers.0.self_attn.q_proj.lora_B.weight",
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight",
            "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.up.weight",
        ] {
            assert_eq!(read(key), (q.to_owned(), Part::Up), "{key}");
        }
    }

    #[test]
    fn attention_output_of_old_files() {
        let key = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight";
        assert_eq!(read(key).0, "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0");
    }

    #[test]
    fn peft_parts() {
        for (key, path, part) in [
            ("lm_head.weight", "lm_head", Part::FullWeight),
            ("lm_head.modules_to_save.default.weight", "lm_head", Part::FullWeight),
            ("lm_head.base_layer.weight", "lm_head", Part::FullWeight),
            ("model.layers.0.mlp.up_proj.bias", "model.layers.0.mlp.up_proj", Part::FullBias),
            ("model.x.lora_B.bias", "model.x", Part::UpBias),
            ("model.x.lora_A.v1.0.weight", "model.x", Part::Down),
            ("model.embed_tokens.lora_embedding_A", "model.embed_tokens", Part::EmbeddingDown),
            (
                "model.embed_tokens.lora_embedding_A.default",
                "model.embed_tokens",
                Part::EmbeddingDown,
            ),
            ("model.x.lora_magnitude_vector", "model.x", Part::MagnitudeVector),
            ("model.x.lora_magnitude_vector.default.weight", "model.x", Part::MagnitudeVector),
        ] {
            assert_eq!(read(&format!("base_model.model.{key}")), (path.to_owned(), part), "{key}");
        }
    }

    #[test]
    fn foreign_keys_are_not_adapters() {
        for key in ["", ".", "weight", "model.layers.0.weight", "bundle_emb.x.string_to_param.*"] {
            assert_eq!(parse(key), None, "{key}");
        }
    }
}
