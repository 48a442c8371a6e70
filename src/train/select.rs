//! Which modules of a base are trained.

use regex::Regex;

use super::TrainError;
use crate::adapter::{Component, ModuleId};
use crate::base::hint::nearest;
use crate::config::{AdapterSettings, Targets};
use crate::model::{Base, Target};

/// A module that is trained, and with what.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Which one.
    pub id: ModuleId,
    /// Its weight's shape: (out, in) or (out, in, kh, kw).
    pub shape: Vec<usize>,
    /// Rank of the change.
    pub rank: usize,
    /// Its alpha.
    pub alpha: f64,
}

/// The modules that the settings name, denoiser first, then the text encoders, each by path.
pub fn select(base: &Base, settings: &AdapterSettings) -> Result<Vec<Chosen>, TrainError> {
    let rules = Rules::new(settings)?;
    let order = |component| match component {
        Component::Language | Component::Unet => 0,
        Component::TextEncoder => 1,
        Component::TextEncoder2 => 2,
        Component::Vae => 3,
    };
    let mut chosen: Vec<Chosen> =
        base.table.targets().filter_map(|target| rules.choose(target)).collect();
    chosen.sort_by(|a, b| {
        (order(a.id.component), &a.id.path).cmp(&(order(b.id.component), &b.id.path))
    });
    rules.check(base, &chosen)?;
    Ok(chosen)
}

struct Rules<'a> {
    settings: &'a AdapterSettings,
    pattern: Option<Regex>,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
}

fn regex(key: &'static str, pattern: &str) -> Result<Regex, TrainError> {
    Regex::new(pattern).map_err(|e| TrainError::Pattern {
        key,
        pattern: pattern.to_owned(),
        problem: e.to_string(),
    })
}

impl<'a> Rules<'a> {
    fn new(settings: &'a AdapterSettings) -> Result<Self, TrainError> {
        // as PEFT: the pattern of targets is matched in full, those of ranks at a path's end
        let pattern = match &settings.targets {
            Targets::Pattern(pattern) => {
                Some(regex("adapter.targets", &format!("^(?:{pattern})$"))?)
            }
            _ => None,
        };
        let ends = |pattern: &str| format!(r"(?:^|.*\.)(?:{pattern})$");
        let ranks = settings.rank_pattern.iter();
        let alphas = settings.alpha_pattern.iter();
        Ok(Self {
            settings,
            pattern,
            ranks: ranks
                .map(|(p, rank)| Ok((regex("adapter.rank_pattern", &ends(p))?, *rank)))
                .collect::<Result<_, TrainError>>()?,
            alphas: alphas
                .map(|(p, alpha)| Ok((regex("adapter.alpha_pattern", &ends(p))?, *alpha)))
                .collect::<Result<_, TrainError>>()?,
        })
    }

    fn choose(&self, target: &Target) -> Option<Chosen> {
        let (id, shape) = (&target.id, &target.weight.shape);
        let trained = match id.component {
            Component::Vae => false,
            Component::Unet => self.settings.denoiser,
            Component::TextEncoder | Component::TextEncoder2 => self.settings.text_encoder,
            Component::Language => true,
        };
        if !trained || target.transposed || target.tied || !matches!(shape.len(), 2 | 4) {
            return None;
        }
        let spatial = shape.len() == 4 && shape[2..] != [1, 1];
        let of_convolutions = id.component == Component::Unet && !id.path.contains("attentions.");
        let (rank, alpha) = if of_convolutions && self.in_convolutions(&id.path) {
            match (spatial, self.settings.conv_rank) {
                (true, Some(rank)) => (rank, self.settings.conv_alpha),
                _ => (self.settings.rank, self.settings.alpha),
            }
        } else if self.is_target(id) {
            (self.settings.rank, self.settings.alpha)
        } else {
            return None;
        };
        let rank = self.ranks.iter().find(|(p, _)| p.is_match(&id.path)).map_or(rank, |(_, r)| *r);
        let alpha =
            self.alphas.iter().find(|(p, _)| p.is_match(&id.path)).map_or(alpha, |(_, a)| *a);
        Some(Chosen { id: id.clone(), shape: shape.clone(), rank, alpha })
    }

    /// What sd-scripts adds with `conv_dim`: all layers of residual blocks and changes of size.
    fn in_convolutions(&self, path: &str) -> bool {
        self.settings.conv_rank.is_some()
            && Targets::CONVOLUTION_PARTS.iter().any(|part| path.contains(part))
    }

    fn is_target(&self, id: &ModuleId) -> bool {
        let path = id.path.as_str();
        let in_block = match id.component {
            Component::Language => path.contains("layers."),
            Component::Unet => path.contains("attentions."),
            _ => path.contains("encoder.layers."),
        };
        let ends = |name: &str| {
            path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
        };
        match &self.settings.targets {
            Targets::AllLinear => in_block,
            Targets::Attention => {
                in_block && Targets::ATTENTION_LAYERS.iter().any(|name| ends(name))
            }
            // a list names parts of the denoiser or of the language model; CLIP's come with it
            Targets::Names(_) | Targets::Pattern(_) if id.component.is_text_encoder() => in_block,
            Targets::Names(names) => names.iter().any(|name| ends(name)),
            Targets::Pattern(_) => self.pattern.as_ref().is_some_and(|p| p.is_match(path)),
        }
    }

    fn check(&self, base: &Base, chosen: &[Chosen]) -> Result<(), TrainError> {
        let missing = match &self.settings.targets {
            Targets::Names(names) => names.iter().find(|name| {
                !chosen
                    .iter()
                    .any(|c| c.id.path == **name || c.id.path.ends_with(&format!(".{name}")))
            }),
            _ => None,
        };
        if missing.is_none() && !chosen.is_empty() {
            return Ok(());
        }
        let known: std::collections::BTreeSet<&str> = base
            .table
            .targets()
            .filter(|target| matches!(target.weight.shape.len(), 2 | 4))
            .filter_map(|target| {
                target.id.path.rsplit('.').find(|part| part.parse::<u8>().is_err())
            })
            .collect();
        let known: Vec<&str> = known.into_iter().collect();
        let hint = match missing.and_then(|name| nearest(name, known.iter().copied())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("modules end in {}", crate::base::hint::first_few(&known)),
        };
        Err(TrainError::NoTarget {
            target: missing.cloned().unwrap_or_else(|| "adapter.targets".to_owned()),
            base: base.path.clone(),
            hint,
        })
    }
}
