//! What is to be made: every variant's configuration, decided before the first is trained.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lora_eval::base::terminal::printable;
use lora_eval::config::{Entry, Origin, Place, Resolved, Settings};
use lora_eval::run::Experiment;
use lora_eval::run::experiment::EXPERIMENT_FORMAT;
use lora_eval::run::experiment::Variant;
use lora_eval::suite::Suite;
use lora_eval::train::finished;

use super::super::global::Global;
use super::super::{Usage, check, train};
use super::{Args, vary};

/// The key that says where a training goes, the one thing besides the varied key that differs.
const DIR: &str = "output.dir";

/// The record of an experiment, in its folder.
pub const EXPERIMENT: &str = "experiment.json";

/// A variant before it is made.
pub struct Planned {
    /// The key as written.
    pub key: String,
    /// The value as given.
    pub value: String,
    /// Its folder below the experiment's.
    pub folder: String,
    /// Its configuration, or why it has none.
    pub resolved: Result<Resolved, anyhow::Error>,
    /// What an earlier command made of it, where it is not among those asked for now.
    pub before: Option<Variant>,
}

/// An experiment before its first step.
pub struct Plan {
    /// The experiment's folder.
    pub folder: PathBuf,
    /// The variants in the order of the command line.
    pub variants: Vec<Planned>,
    /// `experiment.json` without variants.
    pub record: Experiment,
    /// What configurations say of themselves.
    said: BTreeSet<String>,
}

impl Planned {
    /// `lora_rank=8`.
    pub fn name(&self) -> String {
        format!("{}={}", printable(&self.key), printable(&self.value))
    }
}

/// Resolves configurations of variants.
struct Resolver<'a> {
    config: &'a Path,
    /// Overrides that all have.
    shared: Vec<String>,
    /// The varied key as written.
    written: &'a str,
}

impl Resolver<'_> {
    fn resolve(&self, value: &str, out: Option<&Path>) -> anyhow::Result<Resolved> {
        let mut overrides = self.shared.clone();
        // a variant that is made smaller would differ in more than one value
        overrides.push("run.may_shrink=false".to_owned());
        overrides.push(format!("{}={value}", self.written));
        if let Some(out) = out {
            overrides.push(format!("{DIR}={}", serde_json::to_string(out)?));
        }
        train::resolve(self.config, &overrides)
    }

    /// The first value that the key can have, and its configuration; the first error where all have one.
    fn first<'v>(&self, values: &[&'v str]) -> anyhow::Result<(&'v str, Resolved)> {
        let mut errors = Vec::new();
        for value in values {
            match self.resolve(value, None) {
                Ok(resolved) => return Ok((*value, resolved)),
                Err(error) => errors.push(error),
            }
        }
        Err(errors.into_iter().next().unwrap_or_else(|| anyhow::anyhow!("--vary: no values")))
    }

    fn planned(&self, value: &str, folder: &Path) -> Planned {
        let name = vary::folder(self.written, value);
        let resolved = self.resolve(value, Some(&folder.join(&name).join("train")));
        let (key, value) = (self.written.to_owned(), value.to_owned());
        Planned { key, value, folder: name, resolved, before: None }
    }

    /// Refuses a key that is set for all variants and varied.
    fn is_not_set(&self, key: &str) -> anyhow::Result<()> {
        // where the configuration is nothing without the varied key, that key is not set
        let Ok(resolved) = train::resolve(self.config, &self.shared) else { return Ok(()) };
        let entry = resolved.entries.iter().find(|entry| entry.key == key);
        match entry.map(|entry| &entry.origin) {
            Some(Origin::Given { place: Place::Set(text), .. }) => Err(Usage(format!(
                "--set {}: `{key}` is what `--vary` varies\nhint: leave one of the two out",
                printable(text)
            ))
            .into()),
            _ => Ok(()),
        }
    }
}

impl Plan {
    /// Resolves every variant and looks at what lies in the folder. A value that the key cannot have is
    /// that variant's failure; it is an error where all have one.
    pub fn new(global: &Global, args: &Args, text: &str) -> anyhow::Result<Self> {
        let vary::Vary { key: written, values } = vary::parse(text).map_err(Usage)?;
        let suite = Suite::open(&args.suite)?;
        check::policy(args.policy.as_deref())?;
        let shared = args.set.iter().cloned().chain(train::of_flags(global)).collect();
        let resolver = Resolver { config: &args.config, shared, written };
        let (value, first) = resolver.first(&values)?;
        let key = varied(&first, &format!("{written}={value}"))?;
        resolver.is_not_set(key)?;
        let folder = args.out.clone().unwrap_or_else(|| beside(&first.settings, key));
        let mut variants: Vec<Planned> =
            values.iter().map(|value| resolver.planned(value, &folder)).collect();
        differ(&variants)?;
        variants.extend(before(&folder, &resolver, &variants));
        if let [only] = variants.as_slice() {
            let hint = format!(
                "for one value: `lora-eval train CONFIG --set {}={}`",
                only.key, only.value
            );
            return Err(Usage(format!(
                "--vary {}: one value, and the experiment's folder holds no other: expected at least two\nhint: {hint}",
                printable(text)
            ))
            .into());
        }
        let record = Experiment {
            format: EXPERIMENT_FORMAT,
            program: format!("lora-eval {}", env!("CARGO_PKG_VERSION")),
            key: key.to_owned(),
            written: written.to_owned(),
            config: args.config.display().to_string(),
            suite: args.suite.display().to_string(),
            suite_sha256: suite.sha256,
            notes: followers(key, &variants),
            variants: Vec::new(),
        };
        same_experiment(&folder, &record)?;
        variants.iter().try_for_each(same_configuration)?;
        let said = variants.iter().filter_map(|planned| planned.resolved.as_ref().ok());
        let said = said.flat_map(|resolved| resolved.notes.iter().cloned()).collect();
        Ok(Self { folder, variants, record, said })
    }

    /// What the user should know before it begins.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.said.iter().chain(&self.record.notes)
    }
}

/// The key that the override `text` set.
fn varied(resolved: &Resolved, text: &str) -> anyhow::Result<&'static str> {
    let sets = |entry: &&Entry| matches!(&entry.origin, Origin::Given { place: Place::Set(set), .. } if **set == *text);
    let key = resolved.entries.iter().find(sets).map(|entry| entry.key);
    match key {
        Some(key) if !key.starts_with("output.") => Ok(key),
        Some(key) => Err(Usage(format!(
            "--vary {}: `{key}` says where and how results are written, which the experiment decides\nhint: vary what is trained, for example `lora_rank` or `learning_rate`",
            printable(text)
        ))
        .into()),
        None => bail!(
            "--vary {}: it sets nothing\nhint: `lora-eval train CONFIG --explain` lists the keys",
            printable(text)
        ),
    }
}

/// The default folder: beside the training's own.
fn beside(settings: &Settings, key: &str) -> PathBuf {
    let mut name = settings.output.dir.clone().into_os_string();
    name.push("-");
    name.push(key.rsplit('.').next().unwrap_or(key));
    name.into()
}

/// Values by key, but for the training's folder.
fn values(resolved: &Resolved) -> impl Iterator<Item = (&'static str, &str)> {
    let all = resolved.entries.iter().map(|entry| (entry.key, entry.value.as_str()));
    all.filter(|(key, _)| *key != DIR)
}

/// Refuses two variants of one configuration, `4` and `4.0`.
fn differ(variants: &[Planned]) -> anyhow::Result<()> {
    let known: Vec<(&Planned, &Resolved)> =
        variants.iter().filter_map(|v| Some((v, v.resolved.as_ref().ok()?))).collect();
    for (at, (one, resolved)) in known.iter().enumerate() {
        let others = known.get(at + 1..).unwrap_or_default();
        let same = others.iter().find(|(_, other)| values(resolved).eq(values(other)));
        if let Some((other, _)) = same {
            return Err(Usage(format!(
                "--vary: `{}` and `{}` are the same configuration\nhint: leave one of the two out",
                one.name(),
                other.name()
            ))
            .into());
        }
    }
    Ok(())
}

/// Which other values follow the varied one, in sentences; of the rank, what alpha does.
fn followers(key: &str, variants: &[Planned]) -> Vec<String> {
    let known: Vec<&Resolved> = variants.iter().filter_map(|v| v.resolved.as_ref().ok()).collect();
    let Some((first, rest)) = known.split_first() else { return Vec::new() };
    let mut notes = Vec::new();
    if key == "adapter.rank" {
        notes.extend(alpha(&known));
    }
    for (name, value) in values(first).filter(|(name, _)| *name != key) {
        let of = |resolved: &&Resolved| {
            values(resolved).find(|(other, _)| *other == name).map_or("", |(_, v)| v).to_owned()
        };
        let told = key == "adapter.rank" && name == "adapter.alpha";
        if !told && !idle(name, &first.settings) && rest.iter().any(|other| of(other) != value) {
            let list: Vec<String> = known.iter().map(of).collect();
            notes.push(format!("`{name}` follows `{key}`: {}", list.join(", ")));
        }
    }
    notes
}

/// Whether a value that follows others does nothing here.
fn idle(key: &str, settings: &Settings) -> bool {
    match key {
        "adapter.conv_alpha" => settings.adapter.conv_rank.is_none(),
        "optimizer.text_encoder_lr" => !settings.adapter.text_encoder,
        _ => false,
    }
}

/// What alpha does where the rank varies.
fn alpha(known: &[&Resolved]) -> Option<String> {
    let adapters: Vec<_> = known.iter().map(|resolved| &resolved.settings.adapter).collect();
    let list = |of: &dyn Fn(f64, f64) -> f64| -> String {
        let values = adapters.iter().map(|adapter| of(adapter.alpha, adapter.rank as f64));
        let short = |value: f64| format!("{value:.3e}").parse().unwrap_or(value).to_string();
        values.map(short).collect::<Vec<_>>().join(", ")
    };
    let first = adapters.first()?;
    let (scales, name) = if first.rslora {
        (list(&|alpha, rank| alpha / rank.sqrt()), "alpha/√rank")
    } else {
        (list(&|alpha, rank| alpha / rank), "alpha/rank")
    };
    let fixed = adapters.iter().all(|adapter| adapter.alpha == first.alpha);
    Some(if fixed {
        let alpha = first.alpha;
        format!(
            "`adapter.alpha` is {alpha} in every variant, so {name} changes with the rank: {scales}"
        )
    } else {
        let alphas = list(&|alpha, _| alpha);
        format!(
            "`adapter.alpha` is not set, so it is the rank ({alphas}), and {name} is {scales}; `--set adapter.alpha=N` holds it"
        )
    })
}

/// What was judged in this folder before and is not asked for now: it stays in the ranking, but nothing is
/// trained for it.
fn before(folder: &Path, resolver: &Resolver<'_>, given: &[Planned]) -> Vec<Planned> {
    let text = std::fs::read(folder.join(EXPERIMENT)).unwrap_or_default();
    let Ok(there) = serde_json::from_slice::<Experiment>(&text) else { return Vec::new() };
    let of = |planned: &Planned| -> Option<Vec<(&'static str, String)>> {
        let resolved = planned.resolved.as_ref().ok()?;
        Some(values(resolved).map(|(key, value)| (key, value.to_owned())).collect())
    };
    let judged = there.variants.into_iter().filter(|variant| variant.judged.is_some());
    let planned = judged.map(|variant| {
        let planned = resolver.planned(&variant.value, folder);
        Planned { before: Some(variant), ..planned }
    });
    planned
        .filter(|one| given.iter().all(|other| other.folder != one.folder && of(other) != of(one)))
        .filter(|one| {
            let settings = one.resolved.as_ref().ok().map(|resolved| &resolved.settings);
            settings.is_some_and(|settings| finished(settings).is_ok_and(|end| end.is_some()))
        })
        .collect()
}

/// Refuses a folder of another experiment.
fn same_experiment(folder: &Path, record: &Experiment) -> anyhow::Result<()> {
    let path = folder.join(EXPERIMENT);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    // one that cannot be read is made again from what lies beside it
    let Ok(there) = serde_json::from_slice::<serde_json::Value>(&text) else { return Ok(()) };
    let of = |name: &str| there[name].as_str().unwrap_or_default();
    let format = there["format"].as_u64().unwrap_or_default();
    let other = if format > u64::from(EXPERIMENT_FORMAT) {
        Some(format!("is of format {format}, expected at most {EXPERIMENT_FORMAT}"))
    } else if of("key") != record.key || of("written") != record.written {
        let (key, ours) = (printable(of("written")), &record.written);
        Some(format!("varies `{key}`, and `{ours}` is varied here"))
    } else if of("suite_sha256") != record.suite_sha256 {
        Some(format!("was judged by another suite than {}", printable(&record.suite)))
    } else {
        None
    };
    match other {
        Some(other) => bail!(
            "{}: {other}\nhint: name another folder with `--out`; to go on, repeat the command that made it",
            path.display()
        ),
        None => Ok(()),
    }
}

/// Refuses a training that was begun with another configuration.
fn same_configuration(planned: &Planned) -> anyhow::Result<()> {
    let Ok(resolved) = &planned.resolved else { return Ok(()) };
    let path = resolved.settings.output.dir.join("config.yaml");
    if !path.is_file() {
        return Ok(());
    }
    let there = train::resolve(&path, &[])?;
    let differs = values(&there).zip(values(resolved)).find(|(old, new)| old != new);
    match differs {
        Some(((key, old), (_, new))) => bail!(
            "{}: this variant was trained with `{key}` {}, which is {} now\nhint: name another folder with `--out`, or give the configuration that it was made with",
            path.display(),
            printable(old),
            printable(new)
        ),
        None => Ok(()),
    }
}
