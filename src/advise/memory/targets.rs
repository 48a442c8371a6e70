//! Which layers an adapter is laid on.

use regex::Regex;

use crate::config::{AdapterSettings, Targets};

/// A network of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A language model.
    Language,
    /// A denoiser.
    Denoiser,
    /// A text encoder: its linear layers, whatever names the settings list.
    Text,
}

/// The rank for a module path and the side of a kernel, `None` for a layer that stays. A pattern that
/// is no regular expression, which the configuration's reader refuses, matches nothing.
pub fn ranks(settings: &AdapterSettings, part: Part) -> impl Fn(&str, usize) -> Option<u64> + '_ {
    let whole = |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).ok();
    let ends = |pattern: &str| Regex::new(&format!(r"(?:^|.*\.)(?:{pattern})$")).ok();
    let target = match &settings.targets {
        Targets::Pattern(pattern) => whole(pattern),
        _ => None,
    };
    let of_path: Vec<(Regex, usize)> = settings
        .rank_pattern
        .iter()
        .filter_map(|(pattern, rank)| Some((ends(pattern)?, *rank)))
        .collect();
    let trained = match part {
        Part::Language => true,
        Part::Denoiser => settings.denoiser,
        Part::Text => settings.text_encoder,
    };
    move |path, kernel| {
        if !trained {
            return None;
        }
        let in_convolutions = Targets::CONVOLUTION_PARTS.iter().any(|at| path.contains(at));
        let of_convolutions = settings
            .conv_rank
            .filter(|_| part == Part::Denoiser && in_convolutions)
            .map(|rank| if kernel > 1 { rank } else { settings.rank });
        let ends = |name: &str| {
            path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let in_block = match part {
            Part::Denoiser => path.contains("attentions."),
            Part::Language => path.contains("layers."),
            Part::Text => path.contains("encoder.layers."),
        };
        let chosen = match &settings.targets {
            Targets::Attention => {
                in_block && Targets::ATTENTION_LAYERS.iter().any(|name| ends(name))
            }
            Targets::Names(names) if part != Part::Text => names.iter().any(|name| ends(name)),
            Targets::Pattern(_) if part != Part::Text => {
                target.as_ref().is_some_and(|pattern| pattern.is_match(path))
            }
            _ => in_block,
        };
        let rank = of_convolutions.or_else(|| chosen.then_some(settings.rank))?;
        let other = of_path.iter().find(|(pattern, _)| pattern.is_match(path));
        Some(other.map_or(rank, |(_, rank)| *rank) as u64)
    }
}
