//! What base an adapter was made for, told from its shapes and its metadata.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::id::{Component, ModuleId};
use super::module::Module;
use super::{Adapter, Delta};
use crate::base::terminal::printable;

/// A sentence part such as ``Stable Diffusion XL (cross-attention width 2048, …)``.
pub fn made_for(adapter: &Adapter) -> String {
    let components = adapter.components();
    let mut text = if components.contains_key(&Component::Language) {
        language_model(adapter)
    } else {
        stable_diffusion(adapter)
    };
    if let Some(name) = declared(adapter) {
        let _ = write!(text, "; its own metadata says `{}`", printable(&name));
    }
    text
}

/// The base that the adapter's metadata or configuration names.
fn declared(adapter: &Adapter) -> Option<String> {
    let configured = adapter.config.as_ref().and_then(|config| config.base_model.clone());
    let keys = ["modelspec.architecture", "ss_base_model_version", "ss_sd_model_name"];
    let stored = keys.iter().find_map(|key| adapter.metadata.get(*key).cloned());
    configured.or(stored).filter(|name| !name.is_empty())
}

/// The families of Stable Diffusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Sd1,
    Sd2,
    Sdxl,
}

/// Which family an adapter belongs to, where its modules or its metadata tell.
pub(super) fn family(adapter: &Adapter) -> Option<Family> {
    let version = adapter.metadata.get("ss_base_model_version").map_or("", String::as_str);
    let deep = |id: &ModuleId| {
        id.component == Component::Unet && id.path.contains("transformer_blocks.1.")
    };
    let context = width(adapter, Component::Unet, "attn2.to_k");
    let text = width(adapter, Component::TextEncoder, "self_attn.q_proj");
    let second = adapter.modules.keys().any(|id| id.component == Component::TextEncoder2);
    match (context, text) {
        // Only SDXL has a second text encoder and transformers of more than one block.
        _ if second || adapter.modules.keys().any(deep) => Some(Family::Sdxl),
        (Some(2048), _) => Some(Family::Sdxl),
        (Some(1024), _) | (None, Some(1024)) => Some(Family::Sd2),
        (Some(768), _) | (None, Some(768)) => Some(Family::Sd1),
        _ if version.starts_with("sdxl") => Some(Family::Sdxl),
        _ if version.starts_with("sd_v2") => Some(Family::Sd2),
        _ if version.starts_with("sd_v1") => Some(Family::Sd1),
        _ => None,
    }
}

fn stable_diffusion(adapter: &Adapter) -> String {
    let name = match family(adapter) {
        Some(Family::Sd1) => "Stable Diffusion 1.x",
        Some(Family::Sd2) => "Stable Diffusion 2.x",
        Some(Family::Sdxl) => "Stable Diffusion XL",
        None => "a Stable Diffusion model",
    };
    let widths: Vec<String> = [
        ("cross-attention width", Component::Unet, "attn2.to_k"),
        ("text encoder width", Component::TextEncoder, "self_attn.q_proj"),
        ("second text encoder width", Component::TextEncoder2, "self_attn.q_proj"),
    ]
    .into_iter()
    .filter_map(|(what, component, end)| {
        Some(format!("{what} {}", width(adapter, component, end)?))
    })
    .collect();
    if widths.is_empty() { name.to_owned() } else { format!("{name} ({})", widths.join(", ")) }
}

/// The input width of the first module whose path ends with `end`.
fn width(adapter: &Adapter, component: Component, end: &str) -> Option<usize> {
    let flat = end.replace('.', "_");
    let fits = |m: &&Module| {
        m.id.component == component && (m.id.path.ends_with(end) || m.id.path.ends_with(&flat))
    };
    adapter.modules.values().filter(fits).find_map(Module::inputs)
}

fn language_model(adapter: &Adapter) -> String {
    let layers: BTreeSet<usize> = adapter
        .modules
        .keys()
        .flat_map(|id| {
            let parts: Vec<&str> = id.path.split(['.', '_']).collect();
            parts
                .windows(2)
                .filter(|pair| matches!(pair[0], "layers" | "h" | "blocks" | "block"))
                .filter_map(|pair| pair[1].parse().ok())
                .collect::<Vec<usize>>()
        })
        .collect();
    let hidden = ["q_proj", "qkv_proj", "c_attn", "gate_proj", "up_proj", "query_key_value"]
        .iter()
        .find_map(|end| width(adapter, Component::Language, end));
    let leaves: BTreeSet<&str> = adapter
        .modules
        .iter()
        .filter(|(_, m)| !matches!(m.weight, None | Some(Delta::Replacement(_))))
        .filter_map(|(id, _)| id.path.rsplit('.').next())
        .collect();
    let mut facts = Vec::new();
    if let Some(hidden) = hidden {
        facts.push(format!("hidden size {hidden}"));
    }
    if let Some(last) = layers.last() {
        facts.push(format!("at least {} layers", last.saturating_add(1)));
    }
    if !leaves.is_empty() {
        facts.push(format!(
            "modules {}",
            printable(&leaves.into_iter().collect::<Vec<_>>().join(", "))
        ));
    }
    if facts.is_empty() {
        "a language model".to_owned()
    } else {
        format!("a language model ({})", facts.join("; "))
    }
}
