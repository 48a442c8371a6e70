//! The text that a picture carries, as the WebUI writes it.

use std::fmt::Write as _;

use crate::generate::image::Job;
use crate::grid::{Axis, PlannedCell};
use crate::picture::infotext::Settings;

/// How the base is called in a picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelName {
    /// The file's stem or the folder's name.
    pub name: String,
    /// The first ten digits of a single file's SHA-256.
    pub hash: Option<String>,
}

/// The `parameters` text of a cell: pasted into the WebUI, it restores the settings.
pub fn infotext(model: &ModelName, job: &Job<'_>, cell: &PlannedCell, adapters: &[Axis]) -> String {
    let mut prompt = job.prompt.text.trim().to_owned();
    let mut hashes = Vec::new();
    let strengths = cell.strengths.iter().zip(&cell.text_strengths);
    for (adapter, (unet, text)) in adapters.iter().zip(strengths) {
        if *unet == 0.0 && *text == 0.0 {
            continue;
        }
        let _ = if unet == text {
            write!(prompt, " <lora:{}:{unet}>", adapter.name)
        } else {
            write!(prompt, " <lora:{}:{text}:{unet}>", adapter.name)
        };
        if let Some(hash) = &adapter.short_hash {
            hashes.push((adapter.name.clone(), hash.clone()));
        }
    }
    let (sampler, schedule) = job.sampler.webui_names();
    let settings = Settings {
        steps: u32::try_from(job.steps).ok(),
        sampler: Some(sampler.to_owned()),
        schedule: schedule.to_owned(),
        guidance: Some(job.guidance),
        seed: Some(job.seed),
        size: u32::try_from(job.width).ok().zip(u32::try_from(job.height).ok()),
        model: Some(model.name.clone()).filter(|name| !name.is_empty()),
        model_hash: model.hash.clone(),
        clip_skip: u32::try_from(job.clip_skip).unwrap_or(1),
        rng: job.source.to_string(),
        guidance_rescale: job.guidance_rescale,
        lora_hashes: hashes,
        version: Some(concat!("lora-eval ", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Settings::default()
    };
    settings.infotext(&prompt, job.negative).to_string()
}
