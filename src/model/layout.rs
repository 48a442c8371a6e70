//! The table from modules to the tensors of a base.
//!
//! It is built from the base's own tensor names, so it is exact for whatever sizes the base has.
//! The names of the original Stable Diffusion layout are those of [`crate::adapter::ldm`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::language;
use super::source::{Base, BaseFile, Shape};
use crate::adapter::{Component, ModuleId, ldm};
use crate::base::terminal::printable;

/// A tensor of the base, or some rows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Index into [`Base::files`].
    pub file: usize,
    /// The tensor's name there.
    pub key: String,
    /// The rows that belong to the module, where it shares the tensor with others.
    pub rows: Range<usize>,
    /// The shape that the module sees: the tensor's, with these rows only.
    pub shape: Vec<usize>,
}

/// Where a module's parameters lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The module, its path with dots.
    pub id: ModuleId,
    /// Its weight.
    pub weight: Slot,
    /// Its bias, if it has one.
    pub bias: Option<Slot>,
    /// The base stores the weight as (in, out).
    pub transposed: bool,
    /// The weight is another module's: a tied head, of which only the embedding is stored.
    pub tied: bool,
}

/// All modules of a base.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub(super) targets: BTreeMap<(Component, String), Target>,
    /// Parts of fused projections under the names of modules that other models keep apart.
    pub(super) parts: BTreeMap<(Component, String), Target>,
    /// Flat names of the original UNet → flat names of diffusers.
    original: BTreeMap<String, String>,
    /// File and name of an embedding and of a head that are both stored, in a model whose
    /// configuration ties them.
    pub stored_tie: Option<[(usize, String); 2]>,
}

impl Table {
    /// Whether there is no module at all.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The module's target, by its flat name.
    pub fn get(&self, id: &ModuleId) -> Option<&Target> {
        let name = (id.component, id.flat());
        self.targets.get(&name).or_else(|| self.parts.get(&name))
    }

    /// The target of a UNet module by its flat name in the original layout.
    pub fn original(&self, flat: &str) -> Option<&Target> {
        let flat = self.original.get(flat)?;
        self.targets.get(&(Component::Unet, flat.clone()))
    }

    /// All targets, sorted by component and name.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.values()
    }

    /// The components that have modules.
    pub fn components(&self) -> BTreeSet<Component> {
        self.targets.keys().map(|(component, _)| *component).collect()
    }

    pub(super) fn describe_stable_diffusion(&self) -> String {
        let width = |component: Component, end: &str| {
            let of = |t: &&Target| t.id.component == component && t.id.path.ends_with(end);
            self.targets.values().find(of).and_then(|t| t.weight.shape.get(1).copied())
        };
        let context = width(Component::Unet, "attn2.to_k");
        let text = width(Component::TextEncoder, "self_attn.q_proj");
        let second = width(Component::TextEncoder2, "self_attn.q_proj");
        let stacked = self
            .targets
            .values()
            .any(|t| t.id.component == Component::TextEncoder && t.weight.key.contains("in_proj"));
        let family = match (context, second) {
            (None, _) if text.is_none() => {
                let first = self.targets.values().next().map(|target| target.id.path.as_str());
                let first = printable(first.unwrap_or_default());
                return format!("a model of modules such as `{first}`");
            }
            (_, Some(_)) => "Stable Diffusion XL",
            (Some(1024), None) => "Stable Diffusion 2.x",
            (Some(768), None) => "Stable Diffusion 1.x",
            _ if stacked => "Stable Diffusion 2.x",
            _ => "Stable Diffusion",
        };
        let widths = [
            context.map(|w| format!("cross-attention width {w}")),
            text.map(|w| format!("text encoder width {w}")),
            second.map(|w| format!("second text encoder width {w}")),
        ];
        let widths: Vec<String> = widths.into_iter().flatten().collect();
        format!("{family} ({})", widths.join(", "))
    }

    /// Forgets a component's modules.
    pub(super) fn remove(&mut self, component: Component) {
        self.targets.retain(|(of, _), _| *of != component);
    }

    pub(super) fn insert(&mut self, target: Target) {
        self.targets.insert((target.id.component, target.id.flat()), target);
    }
}

/// Builds the table of a base whose files are open.
pub(super) fn table(base: &Base) -> Table {
    let mut table = Table::default();
    for (index, file) in base.files.iter().enumerate() {
        match file.component {
            Some(component) => add_plain(&mut table, index, file, component),
            None => add_single_file(&mut table, index, file),
        }
    }
    attach_biases_of_other_shards(base, &mut table);
    if base.shape == Shape::Model(Component::Language) {
        language::find_tie(base, &mut table);
        language::name_parts(base, &mut table);
    }
    let unet = base.configs.get(&Component::Unet);
    let layers = unet.and_then(|config| config["layers_per_block"].as_u64());
    let layers = layers.map_or(ldm::LAYERS_PER_BLOCK, |n| usize::try_from(n).unwrap_or(1).min(99));
    if table.original.is_empty() {
        name_original(&mut table, layers);
    }
    table
}

/// Modules of a model in its library's own names.
fn add_plain(table: &mut Table, index: usize, file: &BaseFile, component: Component) {
    for key in file.file.names() {
        let Some(path) = key.strip_suffix(".weight") else {
            continue;
        };
        add(table, index, file, ModuleId::new(component, path), key);
    }
}

pub(super) fn add(table: &mut Table, index: usize, file: &BaseFile, id: ModuleId, key: &str) {
    let bias = key.strip_suffix(".weight").map(|path| format!("{path}.bias"));
    let Some(weight) = slot(index, file, key, None) else {
        return;
    };
    let bias = bias.and_then(|key| slot(index, file, &key, None));
    table.insert(Target { id, weight, bias, transposed: false, tied: false });
}

fn slot(index: usize, file: &BaseFile, key: &str, third: Option<usize>) -> Option<Slot> {
    let shape = file.file.shape(key)?;
    let all = shape.first().copied().unwrap_or(1);
    let rows = match third {
        None => 0..all,
        Some(_) if all % 3 != 0 => return None,
        Some(i) => i * (all / 3)..(i + 1) * (all / 3),
    };
    let mut shape = shape.to_vec();
    if let Some(first) = shape.first_mut() {
        *first = rows.len();
    }
    Some(Slot { file: index, key: key.to_owned(), rows, shape })
}

/// A sharded model may keep a weight and its bias in two files.
fn attach_biases_of_other_shards(base: &Base, table: &mut Table) {
    let bare: Vec<(Component, String)> = table
        .targets
        .iter()
        .filter(|(_, target)| target.bias.is_none())
        .map(|(name, _)| name.clone())
        .collect();
    for name in bare {
        let Some(target) = table.targets.get_mut(&name) else {
            continue;
        };
        let Some(path) = target.weight.key.strip_suffix(".weight") else {
            continue;
        };
        let key = format!("{path}.bias");
        let component = base.files[target.weight.file].component;
        target.bias = base.files.iter().enumerate().find_map(|(index, file)| {
            (file.component == component).then(|| slot(index, file, &key, None)).flatten()
        });
    }
}

/// Prefixes of the original layout, the longest first where one starts another.
const SINGLE_FILE: [(&str, Component, Names); 6] = [
    ("model.diffusion_model.", Component::Unet, Names::OriginalUnet),
    ("cond_stage_model.transformer.", Component::TextEncoder, Names::Transformers),
    ("cond_stage_model.model.", Component::TextEncoder, Names::OpenClip),
    ("conditioner.embedders.0.transformer.", Component::TextEncoder, Names::Transformers),
    ("conditioner.embedders.0.model.", Component::TextEncoder, Names::OpenClip),
    ("conditioner.embedders.1.model.", Component::TextEncoder2, Names::OpenClip),
];

#[derive(Debug, Clone, Copy)]
enum Names {
    OriginalUnet,
    Transformers,
    OpenClip,
}

/// Modules of a file that holds a whole Stable Diffusion pipeline, or one bare model.
fn add_single_file(table: &mut Table, index: usize, file: &BaseFile) {
    let layers = layers_per_block(file);
    let mut any = false;
    for key in file.file.names() {
        let Some((inner, component, names)) =
            SINGLE_FILE.iter().find_map(|(prefix, component, names)| {
                Some((key.strip_prefix(prefix)?, *component, names))
            })
        else {
            continue;
        };
        any = true;
        match names {
            Names::OriginalUnet => {
                let Some(path) = inner.strip_suffix(".weight") else {
                    continue;
                };
                let Some(diffusers) = ldm::unet_to_diffusers(path, layers) else {
                    continue;
                };
                let id = ModuleId::new(Component::Unet, &diffusers);
                table.original.insert(path.replace('.', "_"), id.flat());
                add(table, index, file, id, key);
            }
            Names::Transformers => {
                if let Some(path) = inner.strip_suffix(".weight") {
                    add(table, index, file, ModuleId::new(component, path), key);
                }
            }
            Names::OpenClip => add_open_clip(table, index, file, (component, inner), key),
        }
    }
    if !any {
        add_bare_file(table, index, file);
    }
}

/// How many layers a block of the original UNet has: one less than its first downsampler's place.
fn layers_per_block(file: &BaseFile) -> usize {
    let down = |key: &str| -> Option<usize> {
        let rest = key.strip_prefix("model.diffusion_model.input_blocks.")?;
        rest.strip_suffix(".0.op.weight")?.parse().ok()
    };
    file.file
        .names()
        .filter_map(down)
        .min()
        .and_then(|place| place.checked_sub(1))
        .filter(|n| *n > 0)
        .unwrap_or(ldm::LAYERS_PER_BLOCK)
}

fn add_open_clip(
    table: &mut Table,
    index: usize,
    file: &BaseFile,
    (component, inner): (Component, &str),
    key: &str,
) {
    if let Some(layer) = inner
        .strip_prefix("transformer.resblocks.")
        .and_then(|rest| rest.strip_suffix(".attn.in_proj_weight"))
    {
        let bias_key = key.replace("in_proj_weight", "in_proj_bias");
        for (third, name) in ["q_proj", "k_proj", "v_proj"].into_iter().enumerate() {
            let id = ModuleId::new(component, &format!("encoder.layers.{layer}.self_attn.{name}"));
            let Some(weight) = slot(index, file, key, Some(third)) else {
                continue;
            };
            let bias = slot(index, file, &bias_key, Some(third));
            table.insert(Target { id, weight, bias, transposed: false, tied: false });
        }
        return;
    }
    if inner == "text_projection" {
        // Stored for `x @ P`, so it is the transpose of a linear layer's weight.
        if let Some(weight) = slot(index, file, key, None).filter(|slot| slot.shape.len() == 2) {
            let id = ModuleId::new(component, "text_projection");
            table.insert(Target { id, weight, bias: None, transposed: true, tied: false });
        }
        return;
    }
    let path = match inner {
        "positional_embedding" => Some("embeddings.position_embedding".to_owned()),
        _ => inner.strip_suffix(".weight").and_then(ldm::open_clip_to_transformers),
    };
    if let Some(path) = path {
        add(table, index, file, ModuleId::new(component, &path), key);
    }
}

/// A file with one model in its library's own names, without a configuration beside it.
fn add_bare_file(table: &mut Table, index: usize, file: &BaseFile) {
    let starts = |start: &str| file.file.names().any(|name| name.starts_with(start));
    let component = if starts("down_blocks.") {
        Component::Unet
    } else if starts("text_model.") {
        Component::TextEncoder
    } else {
        Component::Language
    };
    add_plain(table, index, file, component);
}

/// Gives UNet modules that have diffusers' names their original names too.
fn name_original(table: &mut Table, layers: usize) {
    let paths: Vec<String> = table
        .targets
        .values()
        .filter(|target| target.id.component == Component::Unet)
        .map(|target| target.id.path.clone())
        .collect();
    let attention: BTreeSet<usize> = paths
        .iter()
        .filter_map(|path| path.strip_prefix("up_blocks."))
        .filter(|rest| rest.contains(".attentions."))
        .filter_map(|rest| rest.split('.').next()?.parse().ok())
        .collect();
    for path in paths {
        if let Some(original) = ldm::unet_to_ldm(&path, layers, |b| attention.contains(&b)) {
            table.original.insert(original.replace('.', "_"), path.replace('.', "_"));
        }
    }
}
