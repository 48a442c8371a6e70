//! What the verbs that draw have in common, and `generate` of a picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use candle_core::Device;
use lora_eval::adapter::Adapter;
use lora_eval::adapter::hashes::Hashes;
use lora_eval::base::atomic;
use lora_eval::base::digest::{sha256, sha256_file};
use lora_eval::base::terminal::printable;
use lora_eval::generate::image::ImageModel;
use lora_eval::grid::{Axis, Backend as _, ImageBackend, Learned, ModelName, Plan, Request};
use lora_eval::hub;
use lora_eval::model::Base;
use lora_eval::model::vision::{Clip, Dino, Lpips};
use lora_eval::picture::infotext::{self, Infotext};
use lora_eval::picture::{PARAMETERS, read_text};
use lora_eval::prompt::Prompt;
use lora_eval::run::AdapterRecord;
use lora_eval::suite::{Settings, Suite};
use lora_eval::tensors::{Limits, TensorError, TensorFile};
use serde_json::{Value, json};

use super::generate::{self, Args};
use super::global::Global;
use super::language::{self, Named};
use super::{Usage, adapters, output, progress};

/// Models that judge pictures.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Judges of pictures")]
pub struct JudgeArgs {
    /// Judge by CLIP: a transformers folder of a `CLIPModel`, or hf:OWNER/NAME
    #[arg(long, value_name = "CLIP")]
    clip: Option<String>,
    /// Judge by DINOv2: a transformers folder of a `Dinov2Model`, or hf:OWNER/NAME
    #[arg(long, value_name = "DINO")]
    dino: Option<String>,
    /// Judge by LPIPS: the state of lpips' LPIPS(net='alex'), 'vgg' or 'squeeze' as .safetensors
    #[arg(long, value_name = "LPIPS")]
    lpips: Option<String>,
}

impl JudgeArgs {
    /// Whether one is given.
    pub fn any(&self) -> bool {
        self.clip.is_some() || self.dino.is_some() || self.lpips.is_some()
    }

    /// SHA-256 of the files of each that is given, by name.
    pub fn digests(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let given = [("clip", &self.clip), ("dino", &self.dino), ("lpips", &self.lpips)];
        let mut all = BTreeMap::new();
        for (name, given) in given {
            let Some(given) = given else { continue };
            all.insert(name.to_owned(), digest(&hub::resolve(given)?)?);
        }
        Ok(all)
    }

    /// Opens what is given.
    pub fn open(&self, device: &Device) -> anyhow::Result<Option<Learned>> {
        if !self.any() {
            return Ok(None);
        }
        let path = |name: &Option<String>| name.as_deref().map(hub::resolve).transpose();
        let (clip, dino, lpips) = (path(&self.clip)?, path(&self.dino)?, path(&self.lpips)?);
        Ok(Some(Learned {
            clip: clip.map(|path| Clip::open(&path, device)).transpose()?,
            dino: dino.map(|path| Dino::open(&path, device)).transpose()?,
            lpips: lpips.map(|path| Lpips::open(&path, device)).transpose()?,
        }))
    }
}

/// SHA-256 of a file, or of all weights and configurations of a folder.
fn digest(path: &Path) -> anyhow::Result<String> {
    let of = |path: &Path| sha256_file(path).with_context(|| path.display().to_string());
    if !path.is_dir() {
        return of(path);
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        file.is_file() && matches!(ending, "safetensors" | "json" | "txt")
    });
    files.sort();
    let digests: Vec<String> = files.iter().map(|file| of(file)).collect::<anyhow::Result<_>>()?;
    Ok(sha256(digests.join("\n").as_bytes()))
}

/// A model of pictures with its adapters, ready to run.
pub struct Images {
    /// The base.
    pub base: Base,
    /// The model.
    pub model: ImageModel,
    /// Its adapters, for a run's record.
    pub adapters: Vec<AdapterRecord>,
    /// The same for the plan.
    pub axes: Vec<Axis>,
    /// How pictures call the base.
    pub name: ModelName,
}

/// Opens a base of pictures with adapters.
pub fn open(global: &Global, base: Base, named: &[Named], strict: bool) -> anyhow::Result<Images> {
    let opened: Vec<Adapter> =
        named.iter().map(|named| adapters::open(&named.path)).collect::<anyhow::Result<_>>()?;
    let device = global.device()?;
    let (model, attached) = ImageModel::open(&base, &opened, global.weights(), &device)?;
    let (mut records, mut axes) = (Vec::new(), Vec::new());
    for ((named, adapter), attached) in named.iter().zip(&opened).zip(attached) {
        let about = (attached.matched, attached.unmatched, attached.notes.as_slice());
        let (record, axis) = language::record(named, adapter, strict, about)?;
        records.push(record);
        axes.push(Axis { short_hash: short_hash(adapter), ..axis });
    }
    let name = ModelName::of(&base);
    Ok(Images { base, model, adapters: records, axes, name })
}

/// The first twelve digits of AutoV3, by which the WebUI knows an adapter's file.
fn short_hash(adapter: &Adapter) -> Option<String> {
    let [file] = adapter.files.as_slice() else { return None };
    let file = TensorFile::open(file, Limits::ADAPTER).ok()?;
    Some(Hashes::of(&file).sshs_model_hash.chars().take(12).collect())
}

/// Where the picture goes, checked before anything is loaded.
fn destination(args: &Args) -> anyhow::Result<&Path> {
    let Some(out) = &args.image.out else {
        return Err(Usage("a picture needs a place\nhint: add `--out FILE.png`".to_owned()).into());
    };
    if out.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        return Err(Usage(format!(
            "--out {}: pictures are written as PNG\nhint: give a name that ends in .png",
            out.display()
        ))
        .into());
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    anyhow::ensure!(
        folder.is_none_or(Path::is_dir),
        "--out {}: there is no such folder\nhint: make it first, or give another place",
        out.display()
    );
    anyhow::ensure!(
        !out.is_dir(),
        "--out {}: is a folder\nhint: give the name of a file that ends in .png",
        out.display()
    );
    Ok(out)
}

/// Draws one picture.
pub fn generate(global: &Global, args: &Args, base: Base) -> anyhow::Result<()> {
    let start = Instant::now();
    let out = destination(args)?;
    let like = args.image.like.as_deref().map(Like::read).transpose()?;
    let given = generate::settings(args)?;
    let settings = match &like {
        // a sampler that is given brings its own schedule
        Some(like) if given.sampler.is_some() => {
            given.merged_over(&Settings { scheduler: None, ..like.settings.clone() })
        }
        Some(like) => given.merged_over(&like.settings),
        None => given,
    };
    let prompt = match (&args.prompt, &like) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(like)) => like.info.prompt.clone(),
        (None, None) => String::new(),
    };
    let seed = args.seed.or(like.as_ref().and_then(|like| like.about.seed)).unwrap_or(1);
    let parsed = Prompt::parse(&prompt)
        .map_err(|error| anyhow::anyhow!("{error}\n{}", error.caret(&prompt)))?;
    for warning in &parsed.warnings {
        output::warn(&format!("prompt, column {}: {}", warning.at.column, warning.message));
    }
    let named = generate::adapters(&args.lora, &parsed)?;
    let images = open(global, base, &named, args.strict)?;
    if let Some(like) = &like {
        like.compare(&images);
    }
    let load_seconds = start.elapsed().as_secs_f64();
    let suite = Suite::single(&prompt, seed, settings);
    let plan = Plan::new(&Request {
        suite: &suite,
        base: &sha256(images.name.name().as_bytes()),
        adapters: &images.axes,
        kind: "image",
        dtype: "",
        device: "",
        max_batch: None,
    })?;
    let bar = progress::steps(global);
    let tell = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let Images { model, axes, name, .. } = &images;
    let mut backend =
        ImageBackend::new(model, &suite, axes, name.clone(), None).unscored().telling(&tell);
    backend.check(&plan)?;
    let unit = &plan.units[0];
    let made = backend.make(unit);
    bar.finish_and_clear();
    let made = made?.swap_remove(0);
    let picture = made.picture.unwrap_or_default();
    atomic::write(out, &picture).map_err(|e| TensorError::io(out, e))?;
    if let Some(note) = &made.finish {
        output::warn(note);
    }
    if !global.json {
        return output::print(&format!("{}\n", out.display()));
    }
    output::json(&json!({
        "output": out,
        "parameters": read_text(out, PARAMETERS)?,
        "seed": seed,
        "adapters": unit.adapters_at(&unit.cells[0], axes),
        "settings": suite.defaults.to_json(),
        "note": made.finish,
        "device": generate::location(&model.diffusion.device),
        "load_seconds": load_seconds,
        "seconds": start.elapsed().as_secs_f64(),
    }))
}

/// What a picture says about how it was made.
struct Like {
    info: Infotext,
    about: infotext::Settings,
    settings: Settings,
}

impl Like {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = read_text(path, PARAMETERS)?.with_context(|| {
            format!(
                "--like {}: the picture carries no settings\nhint: give a PNG that the WebUI or this program wrote; many sites remove them",
                path.display()
            )
        })?;
        let at = || format!("--like {}", path.display());
        let info = Infotext::parse(&text);
        let about = infotext::Settings::of(&info).with_context(at)?;
        let size = about.size;
        let given: [(&str, Option<Value>); 10] = [
            ("steps", about.steps.map(|n| json!(n))),
            ("sampler", about.sampler.as_ref().map(|name| json!(name))),
            ("scheduler", about.sampler.as_ref().map(|_| json!(about.schedule))),
            ("guidance", about.guidance.map(|g| json!(g))),
            ("guidance_rescale", Some(json!(about.guidance_rescale)).filter(|r| *r != json!(0.0))),
            ("width", size.map(|(width, _)| json!(width))),
            ("height", size.map(|(_, height)| json!(height))),
            ("negative", Some(json!(info.negative)).filter(|_| !info.negative.is_empty())),
            ("clip_skip", Some(json!(about.clip_skip))),
            ("rng", Some(json!(about.rng.to_lowercase()))),
        ];
        let mut settings = Settings::default();
        for (name, value) in given {
            if let Some(value) = value {
                settings.set(name, &value).with_context(at)?;
            }
        }
        Ok(Self { info, about, settings })
    }

    /// Says what the picture was made with that is not at hand here.
    fn compare(&self, images: &Images) {
        let differs = |there: &Option<String>, here: &Option<String>| {
            there.is_some() && here.is_some() && there != here
        };
        let hash = self.about.model_hash.as_ref().and_then(|_| images.name.hash());
        if differs(&self.about.model_hash, &hash) {
            output::warn(&format!(
                "the picture was made with another base: {} [{}]",
                printable(self.about.model.as_deref().unwrap_or("unnamed")),
                printable(self.about.model_hash.as_deref().unwrap_or_default())
            ));
        }
        for (name, hash) in &self.about.lora_hashes {
            let here = images.axes.iter().find(|axis| axis.name == *name);
            if here.is_some_and(|axis| differs(&Some(hash.clone()), &axis.short_hash)) {
                output::warn(&format!(
                    "the picture was made with another file of the adapter `{}` [{}]",
                    printable(name),
                    printable(hash)
                ));
            }
        }
        for (name, _) in &self.about.others {
            output::warn(&format!("the picture's `{}` has no meaning here", printable(name)));
        }
        let unused =
            [("Eta", self.about.eta.is_some()), ("Eta DDIM", self.about.eta_ddim.is_some())];
        for (name, _) in unused.iter().filter(|(_, given)| *given) {
            output::warn(&format!(
                "the picture's {name} is not used here, so noise added later differs"
            ));
        }
        if let Some(vae) = self.about.vae.as_deref().or(self.about.vae_hash.as_deref()) {
            output::warn(&format!(
                "the picture was made with the autoencoder `{}`; give it with `--vae` unless it is the base's own",
                printable(vae)
            ));
        }
        if self.about.ensd != 0 {
            output::warn("the picture's ENSD is not used here, so noise added later differs");
        }
    }
}
