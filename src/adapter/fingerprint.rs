//! What base an adapter was made for, told from its shapes and its metadata.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::id::Component;
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

fn stable_diffusion(adapter: &Adapter) -> String {
    let context = width(adapter, Component::Unet, "attn2.to_k");
    let text = width(adapter, Component::TextEncoder, "self_attn.q_proj");
    let second = width(adapter, Component::TextEncoder2, "self_attn.q_proj");
    let family = match (context, text, second) {
        (_, _, Some(_)) | (Some(2048), ..) => "Stable Diffusion XL",
        (Some(768), ..) | (None, Some(768), None) => "Stable Diffusion 1.x",
        (Some(1024), ..) | (None, Some(1024), None) => "Stable Diffusion 2.x",
        _ => "a Stable Diffusion model",
    };
    let widths: Vec<String> = [
        context.map(|w| format!("cross-attention width {w}")),
        text.map(|w| format!("text encoder width {w}")),
        second.map(|w| format!("second text encoder width {w}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if widths.is_empty() { family.to_owned() } else { format!("{family} ({})", widths.join(", ")) }
}

/// The most common input width among modules whose path ends with `end`.
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
        facts.push(format!("modules {}", leaves.into_iter().collect::<Vec<_>>().join(", ")));
    }
    if facts.is_empty() {
        "a language model".to_owned()
    } else {
        format!("a language model ({})", facts.join("; "))
    }
}
