//! Which modules of an adapter find their place in a base.

use std::collections::BTreeMap;

use serde::Serialize;

use super::layout::{Table, Target};
use super::source::Base;
use crate::adapter::{Adapter, Component, Delta, Kind, Module, ModuleId, kohya_names, made_for};
use crate::base::hint::first_few;
use crate::base::terminal::printable;

/// A module without a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmatched {
    /// Its name in the adapter's file.
    pub module: String,
    /// Why.
    pub reason: String,
}

/// An adapter laid over a base.
#[derive(Debug)]
pub struct Fit<'a> {
    /// Modules and their targets.
    pub matched: Vec<(&'a Module, &'a Target)>,
    /// The rest, keys that were not understood included.
    pub unmatched: Vec<Unmatched>,
    /// What a user should know.
    pub notes: Vec<String>,
    /// Matched and all modules of each component and kind.
    pub coverage: BTreeMap<(Component, Kind), (usize, usize)>,
}

/// An adapter that was made for another base.
#[derive(Debug, thiserror::Error)]
#[error(
    "{adapter}: does not fit this base: {problem}\nthe adapter was made for {made_for}\nthe base is {base}\nhint: give the base that the adapter was trained on; `lora-eval inspect` shows what an adapter says about itself"
)]
pub struct WrongBase {
    adapter: String,
    problem: String,
    made_for: String,
    base: String,
}

const NO_BIAS: &str = "it changes a bias, and the base's module has none";

const OTHER_SAVED_BASE: &str = "the adapter holds a whole weight beside its change, and the base's is another (a resized or trained embedding); merge it in PEFT";

/// Whether the base's weight that a module brings along is the one that this base has.
fn saved_base_agrees(module: &Module, target: &Target, base: &Base) -> bool {
    let Some(saved) = &module.saved_base else { return true };
    let Some(file) = base.files.get(target.weight.file) else {
        return saved.shape() == target.weight.shape; // quantised blocks cannot be compared
    };
    let Some(own) = file.file.get(&target.weight.key) else { return false };
    let same_type = own.dtype() == saved.dtype();
    own.shape() == saved.shape()
        && if same_type {
            own.bytes() == saved.bytes()
        } else {
            matches!((own.to_f32(""), saved.to_f32("")), (Ok(a), Ok(b)) if a == b)
        }
}

/// A module's place, or why it has none.
enum Place<'a> {
    Found(&'a Target),
    Missing(&'static str),
    OtherShape(String),
}

/// Finds each module's place.
///
/// An adapter was made for another base if nothing fits, if more modules have another shape there
/// than fit, or if that is so for the modules whose width tells Stable Diffusion's families apart.
pub fn fit<'a>(adapter: &'a Adapter, base: &'a Base) -> Result<Fit<'a>, WrongBase> {
    let rename = Rename::best(adapter, &base.table);
    let mut fit = Fit {
        matched: Vec::new(),
        unmatched: Vec::new(),
        notes: rename.note(),
        coverage: BTreeMap::new(),
    };
    let mut conflicts = Vec::new();
    for module in adapter.modules.values() {
        let (found, all) = fit.coverage.entry((module.id.component, module.kind())).or_default();
        *all += 1;
        let reason = match place(module, &base.table, &rename) {
            Place::Found(target) if !saved_base_agrees(module, target, base) => {
                OTHER_SAVED_BASE.to_owned()
            }
            Place::Found(target) => {
                *found += 1;
                if module.bias.is_some() && target.bias.is_none() {
                    let (module, reason) = (format!("{}.bias", module.key), NO_BIAS.to_owned());
                    fit.unmatched.push(Unmatched { module, reason });
                }
                fit.matched.push((module, target));
                continue;
            }
            Place::Missing(what) => what.to_owned(),
            Place::OtherShape(problem) => {
                conflicts.push((module, problem.clone()));
                problem
            }
        };
        fit.unmatched.push(Unmatched { module: module.key.clone(), reason });
    }
    let unread = adapter
        .unread
        .iter()
        .map(|key| Unmatched { module: key.clone(), reason: "not a key of an adapter".to_owned() });
    fit.unmatched.extend(unread);
    let telling = |module: &Module| {
        let ends = ["attn2.to_k", "attn2.to_v", "self_attn.q_proj"];
        module.id.component != Component::Language
            && ends.iter().any(|end| module.id.path.ends_with(end))
    };
    let telling_fit = fit.matched.iter().filter(|(module, _)| telling(module)).count();
    let telling_conflicts = conflicts.iter().filter(|(module, _)| telling(module)).count();
    let foreign = conflicts.len() > fit.matched.len() || telling_conflicts > telling_fit;
    if fit.matched.is_empty() || foreign {
        return Err(wrong_base(adapter, base, problem_of(adapter, &fit, &conflicts)));
    }
    if let Some(problem) = other_family(adapter, base) {
        return Err(wrong_base(adapter, base, problem));
    }
    if let Some(note) = class_note(adapter, base) {
        fit.notes.push(note);
    }
    Ok(fit)
}

fn problem_of(adapter: &Adapter, fit: &Fit<'_>, conflicts: &[(&Module, String)]) -> String {
    let total = adapter.modules.len();
    let matched = fit.matched.len();
    if conflicts.is_empty() {
        let names: Vec<&str> = fit.unmatched.iter().map(|u| u.module.as_str()).collect();
        return format!("none of its {total} modules is there ({})", first_few(&names));
    }
    let shown: Vec<String> =
        conflicts.iter().map(|(module, p)| format!("{}: {p}", module.key)).collect();
    let (n, shown) = (conflicts.len(), first_few(&shown));
    format!("{n} of its {total} modules have another shape there, {matched} fit ({shown})")
}

fn wrong_base(adapter: &Adapter, base: &Base, problem: String) -> WrongBase {
    WrongBase {
        adapter: adapter.path.display().to_string(),
        problem,
        made_for: made_for(adapter),
        base: base.describe(),
    }
}

/// Models of two families can have modules of the same names and widths; then only the base that the
/// adapter's configuration names tells them apart.
fn other_family(adapter: &Adapter, base: &Base) -> Option<String> {
    let named = adapter.config.as_ref()?.base_model.as_ref()?;
    let name = named.trim_end_matches('/').rsplit('/').next()?;
    let config = base.configs.get(&Component::Language)?;
    let kind = config["model_type"].as_str()?;
    let (trained, here) = (family_of(name)?, family_of(kind)?);
    (trained != here).then(|| {
        let named = printable(named);
        format!("its adapter_config.json names `{named}`, a {trained} model, and the base is a {here} model (if that name misleads, remove it there)")
    })
}

/// The family that a model's name or type speaks of, if it speaks of exactly one. Mistral is built
/// as Llama is.
fn family_of(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let any = |test: &dyn Fn(&str) -> bool| words.iter().any(|word| test(word));
    let phi = |word: &str| {
        word.strip_prefix("phi")
            .is_some_and(|r| r.is_empty() || r.starts_with(|c: char| c.is_ascii_digit()))
    };
    let found = [
        (
            "llama",
            any(&|w| w.starts_with("llama") || w.ends_with("llama") || w.starts_with("mistral")),
        ),
        ("qwen", any(&|w| w.starts_with("qwen"))),
        ("gemma", any(&|w| w.starts_with("gemma"))),
        ("phi", any(&phi)),
        ("gpt2", any(&|w| w.starts_with("gpt2"))),
    ];
    let mut families = found.iter().filter(|(_, is)| *is).map(|(family, _)| *family);
    families.next().filter(|_| families.next().is_none())
}

/// PEFT records the class it was trained on when no task type was given.
fn class_note(adapter: &Adapter, base: &Base) -> Option<String> {
    let fields = &adapter.config.as_ref()?.fields;
    let trained = fields.get("auto_mapping")?.get("base_model_class")?.as_str()?;
    let config = base.configs.get(&Component::Language)?;
    let class = config["architectures"][0].as_str()?;
    (trained != class)
        .then(|| format!("the adapter was trained on a {trained}, the base is a {class}"))
}

fn place<'a>(module: &Module, table: &'a Table, rename: &Rename) -> Place<'a> {
    let flat = module.key.split_once("unet_").map_or("", |(_, flat)| flat);
    let target = if kohya_names::is_original_unet(flat) {
        table.original(flat)
    } else {
        rename.find(&module.id, table)
    };
    let Some(target) = target else {
        return Place::Missing("the base has no such module");
    };
    if let Some((rows, columns)) = module.extent() {
        let shape = &target.weight.shape;
        let stored = (shape.first().copied().unwrap_or(1), shape.iter().skip(1).product::<usize>());
        let low_rank = matches!(module.weight, Some(Delta::LowRank { .. }));
        let flipped = target.transposed != (module.transposed && low_rank);
        let expected = if flipped { (stored.1, stored.0) } else { stored };
        if expected != (rows, columns) {
            return Place::OtherShape(format!(
                "made for {rows} × {columns}, the base's weight is {} × {}",
                expected.0, expected.1
            ));
        }
    }
    if module.weight.is_none() && target.bias.is_none() {
        return Place::Missing(NO_BIAS);
    }
    Place::Found(target)
}

/// Language models are saved with and without the levels that wrap them.
#[derive(Debug, Default)]
struct Rename {
    strip: &'static str,
    add: &'static str,
}

const LEVELS: [&str; 6] = [
    "",
    "model.",
    "transformer.",
    "language_model.",
    "model.language_model.",
    "language_model.model.",
];

impl Rename {
    /// The change of prefix under which most modules are found; none if that does as well.
    fn best(adapter: &Adapter, table: &Table) -> Self {
        let ids: Vec<&ModuleId> =
            adapter.modules.keys().filter(|id| id.component == Component::Language).collect();
        let count =
            |rename: &Self| ids.iter().filter(|id| table.get(&rename.apply(id)).is_some()).count();
        let mut best = Self::default();
        let mut most = count(&best);
        for strip in LEVELS {
            for add in LEVELS {
                let rename = Self { strip, add };
                let found = if most == ids.len() { 0 } else { count(&rename) };
                if found > most {
                    (most, best) = (found, rename);
                }
            }
        }
        best
    }

    /// The module under the adapter's usual change of prefix, or under any other: models with several
    /// branches wrap each differently.
    fn find<'a>(&self, id: &ModuleId, table: &'a Table) -> Option<&'a Target> {
        let all = LEVELS.iter().flat_map(|strip| LEVELS.iter().map(move |add| Self { strip, add }));
        table.get(&self.apply(id)).or_else(|| all.into_iter().find_map(|r| table.get(&r.apply(id))))
    }

    fn apply(&self, id: &ModuleId) -> ModuleId {
        if id.component != Component::Language || (self.strip.is_empty() && self.add.is_empty()) {
            return id.clone();
        }
        match id.path.strip_prefix(self.strip) {
            Some(rest) => ModuleId::new(id.component, &format!("{}{rest}", self.add)),
            None => id.clone(),
        }
    }

    fn note(&self) -> Vec<String> {
        if self.strip.is_empty() && self.add.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "the adapter's modules were found under `{}…` instead of `{}…`",
            self.add, self.strip
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_by_whole_words() {
        for (name, family) in [
            ("Llama-3.2-1B", Some("llama")),
            ("TinyLlama-1.1B-Chat", Some("llama")),
            ("Mistral-7B-v0.3", Some("llama")),
            ("Qwen2.5-7B", Some("qwen")),
            ("qwen2", Some("qwen")),
            ("phi3", Some("phi")),
            ("Phi-3-mini", Some("phi")),
            ("dolphin-7b", None),
            ("Llama-meets-Qwen", None),
        ] {
            assert_eq!(family_of(name), family, "{name}");
        }
    }
}
