//! What the verbs that run a model have in common, and opening one of texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lora_eval::adapter::Adapter;
use lora_eval::base::hint::nearest;
use lora_eval::base::terminal::printable;
use lora_eval::grid::{Axis, Loaded};
use lora_eval::model::{Base, Unmatched};
use lora_eval::run::AdapterRecord;
use lora_eval::tensors::{Limits, TensorFile};

use super::adapters::{self, Reference};
use super::global::Global;
use super::output;

/// Adapters, as every such verb takes them.
#[derive(Debug, clap::Args)]
pub struct LoraArgs {
    /// An adapter; repeatable. Without `:STRENGTH`, `grid` puts it on the strength axis, and `generate`
    /// applies it where the prompt has `<lora:NAME:STRENGTH>`. `:lbw=1,0,…` at the end weighs its blocks
    #[arg(long = "lora", value_name = "[NAME=]PATH[:STRENGTH]", value_parser = adapters::parse)]
    pub loras: Vec<Reference>,
    /// Folder whose adapters prompts may name as `<lora:NAME:STRENGTH>`
    #[arg(long, value_name = "DIR")]
    pub lora_dir: Option<PathBuf>,
}

/// An adapter of a run, before it is opened.
#[derive(Debug, Clone)]
pub struct Named {
    /// The name that prompts call it by.
    pub name: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// The strength given on the command line.
    pub fixed: Option<f64>,
    /// That of the text encoders, where it is another.
    pub fixed_text: Option<f64>,
    /// Its weights by block, as given on the command line; empty if all are 1.
    pub blocks: Vec<f64>,
    /// From `--lora-dir`.
    pub on_demand: bool,
}

impl LoraArgs {
    /// The adapters given, and those of the folder that prompts name.
    pub fn named(&self, in_prompts: &[String]) -> anyhow::Result<Vec<Named>> {
        let mut all: Vec<Named> = Vec::new();
        for reference in &self.loras {
            let name = reference.name.clone().unwrap_or_else(|| name_of(&reference.path));
            if all.iter().any(|other| other.name == name) {
                bail!(
                    "two adapters are called `{}`\nhint: give one another name: `--lora NAME=PATH`",
                    printable(&name)
                );
            }
            let fixed = reference.given.then(|| adapters::decimal(reference.unet));
            let apart = reference.given && reference.text_encoder != reference.unet;
            let fixed_text = apart.then(|| adapters::decimal(reference.text_encoder));
            let (path, blocks) = (reference.path.clone(), reference.blocks.clone());
            all.push(Named { name, path, fixed, fixed_text, blocks, on_demand: false });
        }
        let Some(folder) = &self.lora_dir else { return Ok(all) };
        if !folder.is_dir() {
            bail!("--lora-dir {}: not a folder\nhint: name an existing folder", folder.display());
        }
        let missing: Vec<&String> =
            in_prompts.iter().filter(|name| all.iter().all(|one| one.name != **name)).collect();
        if missing.is_empty() {
            return Ok(all);
        }
        let known = adapters_in(folder)?;
        for name in missing {
            let Some(path) = known.get(name) else {
                let near = nearest(name, known.keys().map(String::as_str));
                let near = near.map(|near| format!("; did you mean `{}`?", printable(near)));
                bail!(
                    "a prompt names the adapter `{}`, which is neither given nor in {}{}\nhint: give it with `--lora {}=PATH` or put it into that folder",
                    printable(name),
                    folder.display(),
                    near.unwrap_or_default(),
                    printable(name)
                );
            };
            let (name, path) = (name.clone(), path.clone());
            let (fixed, fixed_text, blocks) = (None, None, Vec::new());
            all.push(Named { name, path, fixed, fixed_text, blocks, on_demand: true });
        }
        Ok(all)
    }
}

/// A file's stem, a folder's name.
fn name_of(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// Adapters below a folder by file stem and, where that is free, by the name they were trained under.
fn adapters_in(folder: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let root = folder.canonicalize().with_context(|| {
        format!("--lora-dir {}\nhint: name an existing folder", folder.display())
    })?;
    let (mut found, mut folders, mut seen) = (BTreeMap::new(), vec![root.clone()], 0);
    let mut trained = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(&folder)?.filter_map(|e| Some(e.ok()?.path())).collect();
        entries.sort();
        for path in entries {
            seen += 1;
            if seen > 100_000 {
                bail!("--lora-dir {}: holds more than 100000 entries", root.display());
            }
            // a link may lead out of the folder
            let inside = path.canonicalize().is_ok_and(|real| real.starts_with(&root));
            if !inside {
                continue;
            }
            let stem = name_of(&path);
            if path.is_dir() && path.join("adapter_config.json").is_file() {
                found.entry(stem).or_insert(path);
            } else if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "safetensors") {
                if let Ok(file) = TensorFile::open(&path, Limits::ADAPTER)
                    && let Some(name) = file.metadata().get("ss_output_name")
                {
                    trained.push((name.clone(), path.clone()));
                }
                found.entry(stem).or_insert(path);
            }
        }
    }
    for (name, path) in trained {
        found.entry(name).or_insert(path);
    }
    Ok(found)
}

/// A model with its adapters, ready to run.
pub struct Model {
    /// The base.
    pub base: Base,
    /// The model.
    pub loaded: Loaded,
    /// Its adapters, for a run's record.
    pub adapters: Vec<AdapterRecord>,
    /// The same for the plan.
    pub axes: Vec<Axis>,
}

/// Opens a base of texts and attaches adapters to it.
pub fn open(global: &Global, base: Base, named: &[Named], strict: bool) -> anyhow::Result<Model> {
    let mut loaded = Loaded::open(&base, global.weights(), &global.device()?)?;
    let (mut records, mut axes) = (Vec::new(), Vec::new());
    for (number, named) in named.iter().enumerate() {
        let adapter = adapters::open(&named.path)?;
        let attached = loaded.decoder.attach(number, &adapter, &base)?;
        let (matched, unmatched) = (attached.matched, attached.unmatched);
        let (record, axis) =
            record(named, &adapter, strict, (matched, unmatched, &attached.notes))?;
        records.push(record);
        axes.push(axis);
    }
    Ok(Model { base, loaded, adapters: records, axes })
}

/// Says what does not fit, and records an adapter that was attached: modules that act, those that
/// find no place, notes.
pub fn record(
    named: &Named,
    adapter: &Adapter,
    strict: bool,
    (matched, unmatched, notes): (usize, Vec<Unmatched>, &[String]),
) -> anyhow::Result<(AdapterRecord, Axis)> {
    for note in notes {
        output::warn(&format!("{}: {note}", named.path.display()));
    }
    if strict && !unmatched.is_empty() {
        bail!(
            "{}: {} module(s) do not fit the base\nhint: without `--strict` the others are used",
            named.path.display(),
            unmatched.len()
        );
    }
    adapters::report_unmatched(&unmatched, matched);
    let sha256 = adapter.sha256()?;
    let record = AdapterRecord {
        name: named.name.clone(),
        path: named.path.display().to_string(),
        sha256: sha256.clone(),
        kinds: adapter.kinds().into_iter().map(|(kind, n)| (format!("{kind:?}"), n)).collect(),
        ranks: adapter.ranks(),
        matched,
        unmatched: unmatched.into_iter().map(|unmatched| unmatched.module).collect(),
        delta_norm: adapter.delta_norm(),
    };
    Ok((record, axis(named, sha256)))
}

/// An adapter's place in a plan.
pub fn axis(named: &Named, sha256: String) -> Axis {
    let Named { name, fixed, fixed_text, blocks, on_demand, .. } = named.clone();
    Axis { name, sha256, fixed, fixed_text, blocks, on_demand, short_hash: None }
}
