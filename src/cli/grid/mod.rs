//! `lora-eval grid`

mod ablate;
mod job;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use lora_eval::base::clock;
use lora_eval::base::digest::sha256;
use lora_eval::grid::{FakeBackend, ImageBackend, TextBackend, fingerprint};
use lora_eval::hub;
use lora_eval::model::Base;
use lora_eval::model::diffusion::Placement;
use lora_eval::prompt::Prompt;
use lora_eval::run::{AdapterRecord, BaseRecord, Run, RunKind, Shard};
use lora_eval::suite::{Input, Strengths, Suite, parse_seeds};

use super::adapters::Reference;
use super::global::Global;
use super::images::{self, Images};
use super::language::{self, Model};
use super::{generate, output};
use job::Job;
pub use job::Made;

/// Generate over a suite of prompts at every strength, score, and report
///
/// All strengths of a prompt and seed are one batch, the base (strength 0) among them. Cells are
/// written as they are finished: run the same command again to make only what is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval grid prompts/assistant.yaml --base Llama-3.2-1B/ --lora style=my-adapter/ --strengths 0:1.5:0.25 --out runs/style\n  \
    lora-eval grid prompts/pictures.yaml --base v1-5-pruned.safetensors --lora ink.safetensors --strengths 0:1.2:0.2 --out runs/ink\n  \
    lora-eval grid suite.yaml --base model.gguf --lora a=a/ --lora b=b/:0.5 --out runs/ab --dry-run\n  \
    lora-eval grid prompts/assistant.yaml --base Llama-3.2-1B/ --lora style=my-adapter/ --out runs/style --ablate blocks")]
pub struct Args {
    /// The suite
    #[arg(value_name = "SUITE.yaml")]
    suite: PathBuf,
    /// The base: a diffusers or transformers folder, a .safetensors file of Stable Diffusion, a .gguf
    /// file, or hf:OWNER/NAME
    #[arg(long, value_name = "BASE")]
    base: String,
    #[command(flatten)]
    lora: language::LoraArgs,
    /// The run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Strengths, `0,0.4,0.8` or `START:END:STEP`, instead of the suite's; 0 is always generated
    #[arg(long, value_name = "STRENGTHS", allow_hyphen_values = true)]
    strengths: Option<Strengths>,
    /// Seeds, `1,2`, instead of the suite's
    #[arg(long, value_name = "SEEDS", value_parser = seeds)]
    seeds: Option<Seeds>,
    /// Make one part of the run: `I/N`, or `auto` for a Slurm array or an indexed Kubernetes job
    #[arg(long, value_name = "I/N|auto", value_parser = shard)]
    shard: Option<Shard>,
    /// Most rows of a batch [default: all strengths of a prompt]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u16).range(2..))]
    max_batch: Option<u16>,
    /// Another autoencoder of a base of pictures: a .safetensors file or a folder
    #[arg(long, value_name = "VAE")]
    vae: Option<PathBuf>,
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(skip)]
    only_fits: bool,
    /// Modules that do not fit the base are an error
    #[arg(long)]
    strict: bool,
    /// What makes the cells: `model`, or `fake[:MILLISECONDS]` to try everything else without one
    #[arg(long, hide = true, default_value = "model", value_parser = backend)]
    backend: Which,
    #[command(flatten)]
    judges: images::JudgeArgs,
    #[command(flatten)]
    ablate: ablate::AblateArgs,
}

/// What the grid of one adapter at the suite's strengths may be told besides.
#[derive(Debug, Clone)]
pub struct Rest {
    /// Strengths instead of the suite's.
    pub strengths: Option<Strengths>,
    /// Another autoencoder.
    pub vae: Option<PathBuf>,
    /// Models that judge pictures.
    pub judges: images::JudgeArgs,
}

impl Args {
    /// The grid of one adapter, as `lora-eval grid SUITE --base BASE --lora NAME=PATH --out RUN`.
    pub fn of(suite: &Path, base: &str, loras: Vec<Reference>, out: PathBuf, rest: Rest) -> Self {
        let Rest { strengths, vae, judges } = rest;
        Self {
            suite: suite.to_owned(),
            base: base.to_owned(),
            lora: language::LoraArgs { loras, lora_dir: None },
            out,
            strengths,
            seeds: None,
            shard: None,
            max_batch: None,
            vae,
            dry_run: false,
            only_fits: false,
            strict: false,
            backend: Which::Model,
            judges,
            ablate: ablate::AblateArgs::none(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Model,
    Fake(u64),
}

/// clap would take a plain list for many values.
#[derive(Debug, Clone)]
struct Seeds(Vec<u64>);

fn seeds(text: &str) -> Result<Seeds, String> {
    parse_seeds(text).map(Seeds).map_err(|error| error.to_string())
}

fn shard(text: &str) -> Result<Shard, String> {
    let shard = match text {
        "auto" => Shard::auto(|name| std::env::var(name).ok()),
        _ => text.parse(),
    };
    shard.map_err(|error| error.to_string())
}

fn backend(text: &str) -> Result<Which, String> {
    match text.split_once(':') {
        None if text == "model" => Ok(Which::Model),
        None if text == "fake" => Ok(Which::Fake(0)),
        Some(("fake", pause)) => pause.parse().map(Which::Fake).map_err(|e| e.to_string()),
        _ => Err("expected `model` or `fake[:MILLISECONDS]`".to_owned()),
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    match make(global, args)? {
        Some(made) => made.show(global),
        None => Ok(()),
    }
}

/// Whether the suite can be run on the base, as far as that is known without an adapter: an error if
/// not. Nothing is written.
pub fn fits(global: &Global, suite: &Path, base: &str, rest: Rest) -> anyhow::Result<()> {
    let args = Args::of(suite, base, Vec::new(), PathBuf::new(), rest);
    // whether prompts name the right adapters cannot be told without them
    let named = !tags(&Suite::open(suite)?)?.is_empty();
    if named { Ok(()) } else { make(global, &Args { only_fits: true, ..args }).map(|_| ()) }
}

/// Makes the cells that are missing; nothing where it is a dry run.
pub fn make(global: &Global, args: &Args) -> anyhow::Result<Option<Made>> {
    let suite = suite(args)?;
    let named = args.lora.named(&tags(&suite)?)?;
    let created = created(args);
    match args.backend {
        Which::Fake(pause) => {
            anyhow::ensure!(
                !args.ablate.wanted(),
                "--ablate switches off blocks of a model, and this run has none\nhint: leave it out"
            );
            let adapters: Vec<AdapterRecord> = named.iter().map(fake_record).collect();
            let axes: Vec<_> =
                named.iter().map(|n| language::axis(n, fake_record(n).sha256)).collect();
            let base = BaseRecord {
                name: args.base.clone(),
                description: "no model: what it makes is made up".to_owned(),
                sha256: sha256(args.base.as_bytes()),
                vae: None,
            };
            let kind = FakeBackend::kind(&suite);
            let judges = BTreeMap::new();
            let (suite, ablated) = (&suite, None);
            let mut job =
                Job { global, args, suite, kind, base, adapters, axes, judges, created, ablated };
            let plan = job.plan(("none", "none"))?;
            let pause = Duration::from_millis(pause);
            let mut backend = FakeBackend { suite, pause };
            job.make(&plan, ("none", "none"), &mut backend)
        }
        Which::Model => {
            let base = Base::open_to_run(&hub::resolve(&args.base)?)?;
            if base.draws() {
                let base = match &args.vae {
                    Some(vae) => base.with_autoencoder(vae)?,
                    None => base,
                };
                return draw(global, args, &suite, (base, &named), created);
            }
            anyhow::ensure!(
                args.vae.is_none() && !args.judges.any(),
                "--vae, --clip, --dino and --lpips are for pictures, and {} is a language model\nhint: leave it out",
                args.base
            );
            write(global, args, &suite, (base, &named), created)
        }
    }
}

/// A grid of texts.
fn write(
    global: &Global,
    args: &Args,
    suite: &Suite,
    (base, named): (Base, &[language::Named]),
    created: String,
) -> anyhow::Result<Option<Made>> {
    let ablated = args.ablate.target(suite, &base, named)?;
    let Model { base, loaded, adapters, axes } = language::open(global, base, named, args.strict)?;
    // quantised weights used as they are, or decoded to a type
    let dtype = match global.weights() {
        Some(weights) => weights.as_str(),
        None if base.gguf.is_some() => "auto",
        None => loaded.decoder.dtype().as_str(),
    };
    let base = record(args, &base)?;
    let device = generate::device_name(&loaded);
    let (kind, judges) = (RunKind::Text, BTreeMap::new());
    let mut job = Job { global, args, suite, kind, base, adapters, axes, judges, created, ablated };
    let plan = job.plan((&device, dtype))?;
    let rows = args.max_batch.map(usize::from);
    let axes = job.axes.clone();
    let mut backend = TextBackend::new(&loaded, suite, &axes, rows).at(&job.created);
    for note in backend.check(&plan)? {
        output::warn(&note);
    }
    job.make(&plan, (&device, dtype), &mut backend)
}

/// A grid of pictures.
fn draw(
    global: &Global,
    args: &Args,
    suite: &Suite,
    (base, named): (Base, &[language::Named]),
    created: String,
) -> anyhow::Result<Option<Made>> {
    let ablated = args.ablate.target(suite, &base, named)?;
    let Images { base, model, adapters, axes, name } =
        images::open(global, base, named, args.strict)?;
    let device = generate::location(&model.diffusion.device);
    let dtype = Placement::new(&base, &model.diffusion.device, global.weights()).name(&base);
    let base = record(args, &base)?;
    let (kind, judges) = (RunKind::Image, args.judges.digests()?);
    let mut job = Job { global, args, suite, kind, base, adapters, axes, judges, created, ablated };
    let plan = job.plan((&device, dtype))?;
    let rows = args.max_batch.map(usize::from);
    let axes = job.axes.clone();
    let learned = args.judges.open(&model.diffusion.device)?;
    let mut backend =
        ImageBackend::new(&model, suite, &axes, name, rows).judged_by(learned.as_ref());
    for note in backend.check(&plan)? {
        output::warn(&note);
    }
    job.make(&plan, (&device, dtype), &mut backend)
}

fn record(args: &Args, base: &Base) -> anyhow::Result<BaseRecord> {
    let (name, description) = (args.base.clone(), base.describe());
    let vae = args.vae.as_ref().map(|vae| vae.display().to_string());
    Ok(BaseRecord { name, description, sha256: fingerprint(base)?, vae })
}

/// When the run was started: a run that goes on keeps its time, which chat templates may ask for.
fn created(args: &Args) -> String {
    Run::open(&args.out)
        .map_or_else(|_| clock::rfc3339(SystemTime::now()), |run| run.record().created.clone())
}

fn fake_record(named: &language::Named) -> AdapterRecord {
    AdapterRecord {
        name: named.name.clone(),
        path: named.path.display().to_string(),
        sha256: sha256(named.path.to_string_lossy().as_bytes()),
        kinds: BTreeMap::new(),
        ranks: BTreeMap::new(),
        matched: 0,
        unmatched: Vec::new(),
        delta_norm: None,
    }
}

/// The suite with what the command line says instead.
fn suite(args: &Args) -> anyhow::Result<Suite> {
    let mut suite = Suite::open(&args.suite)?;
    for warning in &suite.warnings {
        output::warn(warning);
    }
    if let Some(strengths) = &args.strengths {
        suite.strengths = strengths.clone();
    }
    if let Some(Seeds(seeds)) = &args.seeds {
        suite.seeds.clone_from(seeds);
    }
    Ok(suite)
}

/// The adapters that prompts name. What cannot be read is reported when the plan is made.
fn tags(suite: &Suite) -> anyhow::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for prompt in &suite.prompts {
        let texts: Vec<&str> = match &prompt.input {
            Input::Prompt(text) => vec![text],
            Input::Messages(messages) => messages.iter().map(|m| m.content.as_str()).collect(),
        };
        for text in texts {
            let parsed = Prompt::parse_text(text)
                .with_context(|| format!("{}: line {}", suite.path.display(), prompt.line))?;
            names.extend(parsed.adapters.into_iter().map(|tag| tag.name));
        }
    }
    Ok(names.into_iter().collect())
}
