//! `lora-eval inspect`: what is in an adapter file, and what it fits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lora_eval::adapter::combine::Weighted;
use lora_eval::adapter::hashes::Hashes;
use lora_eval::adapter::{Adapter, Component, Format, Kind, Module, made_for};
use lora_eval::base::hint::first_few;
use lora_eval::merge::{BlockChange, Coverage, measure};
use lora_eval::model::{Base, Unmatched};
use lora_eval::tensors::{Float, Limits, TensorFile};
use serde::Serialize;

use super::global::Global;
use super::{adapters, output};

/// Show what an adapter is: format, modules, ranks, alphas, the base it fits, metadata, hashes
///
/// With `--base`, every module that does not fit that base is listed, and a wrong base is an error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval inspect style.safetensors\n  \
    lora-eval inspect my-adapter/ --base Llama-3.2-1B/ --json")]
pub struct Args {
    /// Adapters: files or PEFT folders
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A base to hold them against
    #[arg(long, value_name = "BASE")]
    base: Option<String>,
}

/// One adapter, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Inspection {
    path: PathBuf,
    name: String,
    format: Format,
    modules: usize,
    kinds: BTreeMap<Kind, usize>,
    components: BTreeMap<Component, usize>,
    ranks: BTreeMap<usize, usize>,
    alphas: BTreeMap<String, usize>,
    scales: BTreeMap<String, usize>,
    dtypes: BTreeMap<Float, usize>,
    made_for: String,
    #[serde(flatten)]
    hashes: Option<Hashes>,
    /// Whether the hash in the metadata is that of the tensors.
    hash_in_metadata: Option<&'static str>,
    metadata: BTreeMap<String, String>,
    unread: Vec<String>,
    not_finite: Vec<String>,
    no_effect: Vec<String>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<Fitting>,
}

/// How it fits the base, and what it would do to its weights at strength 1.
#[derive(Debug, Serialize)]
struct Fitting {
    base: String,
    matched: usize,
    unmatched: Vec<Unmatched>,
    coverage: Vec<Coverage>,
    blocks: Vec<BlockChange>,
    relative_change: f64,
    lost: f64,
    notes: Vec<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let base = args.base.as_deref().map(adapters::open_base).transpose()?;
    let mut all = Vec::new();
    for path in &args.files {
        all.push(inspect(global, path, base.as_ref())?);
    }
    if global.json {
        return match all.as_slice() {
            [one] => output::json(one),
            several => output::json(&several),
        };
    }
    let texts: Vec<String> = all.iter().map(|one| describe(global, one)).collect();
    output::print(&texts.join("\n"))
}

fn inspect(global: &Global, path: &Path, base: Option<&Base>) -> anyhow::Result<Inspection> {
    let adapter = adapters::open(path)?;
    let fitting = base.map(|base| fitting(global, &adapter, base)).transpose()?;
    // A folder of several files has no hash by which anyone knows it.
    let hashes = match adapter.files.as_slice() {
        [one] => Some(Hashes::of(&*TensorFile::open(one, Limits::ADAPTER)?)),
        _ => None,
    };
    let stored = adapter.metadata.get("sshs_model_hash").zip(hashes.as_ref());
    let hash_in_metadata =
        stored.map(
            |(stored, hashes)| {
                if *stored == hashes.sshs_model_hash { "matches" } else { "differs" }
            },
        );
    Ok(Inspection {
        path: path.to_owned(),
        name: adapter.name.clone(),
        format: adapter.format,
        modules: adapter.modules.len(),
        kinds: adapter.kinds(),
        components: adapter.components(),
        ranks: adapter.ranks(),
        alphas: count(&adapter, |module| module.alpha),
        scales: count(&adapter, |module| module.rank().map(|_| module.scale)),
        dtypes: adapter.dtypes(),
        made_for: made_for(&adapter),
        hashes,
        hash_in_metadata,
        unread: adapter.unread.clone(),
        not_finite: adapter.not_finite(),
        no_effect: adapter.without_effect(),
        warnings: adapter.warnings.clone(),
        metadata: adapter.metadata,
        base: fitting,
    })
}

fn fitting(global: &Global, adapter: &Adapter, base: &Base) -> anyhow::Result<Fitting> {
    let one =
        [Weighted { adapter: adapter.clone(), text_encoder: 1.0, unet: 1.0, blocks: Vec::new() }];
    let report = measure(base, &one, global.dtype.float())?;
    Ok(Fitting {
        base: report.base,
        matched: report.modules,
        unmatched: report.unmatched,
        coverage: report.coverage,
        blocks: report.blocks,
        relative_change: report.relative_change,
        lost: report.lost,
        notes: report.notes,
    })
}

/// How often each value occurs, as text since JSON has no other keys.
fn count(adapter: &Adapter, value: impl Fn(&Module) -> Option<f32>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for value in adapter.modules.values().filter_map(value) {
        *counts.entry(value.to_string()).or_insert(0) += 1;
    }
    counts
}

fn describe(global: &Global, one: &Inspection) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what:<14} {value}");
    };
    line("adapter", format!("{} ({})", output::name(&one.name), one.path.display()));
    line("format", one.format.name().to_owned());
    line(
        "modules",
        format!("{}: {}", one.modules, list(one.kinds.iter().map(|(k, n)| format!("{n} {k:?}")))),
    );
    line("components", list(one.components.iter().map(|(c, n)| format!("{n} in {c}"))));
    line("rank", list(one.ranks.iter().map(|(rank, n)| several(rank, *n, one.modules))));
    line("alpha", list(one.alphas.iter().map(|(alpha, n)| several(alpha, *n, one.modules))));
    line("scale", list(one.scales.iter().map(|(scale, n)| several(scale, *n, one.modules))));
    line("dtype", list(one.dtypes.keys().map(|float| format!("{float:?}").to_lowercase())));
    line("made for", one.made_for.clone());
    if let Some(hashes) = &one.hashes {
        line("sha256", hashes.sha256.clone());
        line("autov2", hashes.autov2.clone());
        line("autov3", format!("{} (the WebUI's Lora hash)", hashes.autov3));
    }
    if let Some(stored) = one.hash_in_metadata {
        line("stored hash", stored.to_owned());
    }
    if let Some(base) = &one.base {
        line("base", format!("{}: {} of {} modules fit", base.base, base.matched, one.modules));
        for c in &base.coverage {
            line("", format!("{} {:?}: {} of {}", c.component, c.kind, c.matched, c.of));
        }
        for unmatched in &base.unmatched {
            let name = output::name(&unmatched.module);
            line("  no place", format!("{name} ({})", unmatched.reason));
        }
        for note in &base.notes {
            line("  note", note.clone());
        }
        let lost = output::percent(base.lost);
        line(
            "at strength 1",
            format!("‖ΔW‖/‖W‖ {:.4}, {lost} lost to rounding", base.relative_change),
        );
        for block in &base.blocks {
            line("", output::block(block));
        }
    }
    if !one.unread.is_empty() {
        line("not read", format!("{} keys: {}", one.unread.len(), first_few(&one.unread)));
    }
    for (key, value) in &one.metadata {
        let value = if global.verbose > 0 { value.clone() } else { short(value) };
        line("metadata", format!("{} = {}", output::name(key), output::name(&value)));
    }
    text
}

fn several(value: impl std::fmt::Display, n: usize, of: usize) -> String {
    if n == of { value.to_string() } else { format!("{value} ({n} modules)") }
}

fn list(items: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let items: Vec<String> = items.collect();
    match items.len() {
        0 => "–".to_owned(),
        n if n <= SHOWN => items.join(", "),
        n => format!("{}, … ({n} in all)", items[..SHOWN].join(", ")),
    }
}

fn short(value: &str) -> String {
    const LONG: usize = 60;
    match value.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}… ({} bytes)", &value[..end], value.len()),
        None => value.to_owned(),
    }
}
