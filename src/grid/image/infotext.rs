//! The text that a picture carries, as the WebUI writes it.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use crate::base::digest::sha256_file;
use crate::generate::image::Job;
use crate::grid::{Axis, PlannedCell};
use crate::model::diffusion::sampler::Schedule;
use crate::model::diffusion::{Diffusion, Family};
use crate::model::{Base, Shape};
use crate::picture::infotext::Settings;
use crate::prompt::block_argument;

/// How the base is called in a picture.
#[derive(Debug, Clone)]
pub struct ModelName {
    name: String,
    /// Empty where the file could not be read again.
    hash: Option<Arc<OnceLock<String>>>,
}

impl ModelName {
    /// A single file is hashed while the model is at work: reading it again takes seconds.
    pub fn of(base: &Base) -> Self {
        let path = base.path.clone();
        let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let name = stem.unwrap_or_default().to_string_lossy().into_owned();
        if base.shape != Shape::File {
            return Self { name, hash: None };
        }
        let hash = Arc::new(OnceLock::new());
        let given = Arc::clone(&hash);
        std::thread::spawn(move || given.set(sha256_file(&path).unwrap_or_default()));
        Self { name, hash: Some(hash) }
    }

    /// The file's stem or the folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first ten digits of a single file's SHA-256, once they are known.
    pub fn hash(&self) -> Option<String> {
        let hash: String = self.hash.as_ref()?.wait().chars().take(10).collect();
        Some(hash).filter(|hash| !hash.is_empty())
    }
}

/// The `parameters` text of a cell: pasted into the WebUI, it restores the settings.
pub fn infotext(
    (model, name): (&Diffusion, &ModelName),
    job: &Job<'_>,
    cell: &PlannedCell,
    adapters: &[Axis],
) -> String {
    let mut prompt = job.prompt.text.trim().to_owned();
    let mut hashes = Vec::new();
    let strengths = cell.strengths.iter().zip(&cell.text_strengths);
    for (number, (adapter, (unet, text))) in adapters.iter().zip(strengths).enumerate() {
        if *unet == 0.0 && *text == 0.0 {
            continue;
        }
        let blocks = cell.blocks.get(&number).map_or(String::new(), |all| block_argument(all));
        let _ = if unet == text {
            write!(prompt, " <lora:{}:{unet}{blocks}>", adapter.name)
        } else {
            write!(prompt, " <lora:{}:{text}:{unet}{blocks}>", adapter.name)
        };
        if let Some(hash) = &adapter.short_hash {
            hashes.push((adapter.name.clone(), hash.clone()));
        }
    }
    let (sampler, mut schedule) = job.sampler.webui_names();
    if model.scheduler.is_some() && job.sampler.schedule == Schedule::Automatic {
        schedule = Schedule::Automatic.webui_name(); // the folder's own, which has no name there
    }
    // SDXL's own layer is the last but one, which the WebUI does not count as a skip
    let own = if model.family == Family::Sdxl { 2 } else { 1 };
    let clip_skip = if job.clip_skip <= own { 1 } else { job.clip_skip };
    let settings = Settings {
        steps: u32::try_from(job.steps).ok(),
        sampler: Some(sampler.to_owned()),
        schedule: schedule.to_owned(),
        guidance: Some(job.guidance),
        seed: Some(job.seed),
        size: u32::try_from(job.width).ok().zip(u32::try_from(job.height).ok()),
        model: Some(name.name.clone()).filter(|name| !name.is_empty()),
        model_hash: name.hash(),
        clip_skip: u32::try_from(clip_skip).unwrap_or(1),
        rng: job.source.to_string(),
        guidance_rescale: job.guidance_rescale,
        lora_hashes: hashes,
        version: Some(concat!("lora-eval ", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Settings::default()
    };
    settings.infotext(&prompt, job.negative.unwrap_or_default()).to_string()
}
