//! From a unit's settings to what is drawn.

use crate::generate::image::ImageModel;
use crate::grid::error::PromptProblem;
use crate::model::diffusion::Family;
use crate::model::diffusion::noise::NoiseSource;
use crate::model::diffusion::sampler::{Algorithm, Choice, Schedule};
use crate::suite;

/// Settings of a picture, all of them decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ImageSettings {
    /// Steps of the sampler.
    pub steps: usize,
    /// Classifier-free guidance.
    pub guidance: f64,
    /// Its rescale.
    pub guidance_rescale: f64,
    /// Sampler and schedule.
    pub sampler: Choice,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// The negative prompt, if one is given.
    pub negative: Option<String>,
    /// Layers from the last.
    pub clip_skip: usize,
    /// Whose random numbers.
    pub source: NoiseSource,
}

/// Decides the settings of a picture: where nothing is said, 20 steps, guidance 7, the size that the
/// base was trained at, its own sampler (DPM++ 2M for a single file, as in the WebUI), and torch's
/// random numbers.
pub(super) fn image_settings(
    given: &suite::Settings,
    model: &ImageModel,
) -> Result<ImageSettings, PromptProblem> {
    if let Some(name) = text_setting(given) {
        return Err(PromptProblem::ForTexts { name });
    }
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let side = model.side();
    let own = Choice { algorithm: Algorithm::DpmPp2m, schedule: Schedule::Automatic };
    let own = model.sampler.default_choice().unwrap_or(own);
    let sampler = match (&given.sampler, &given.scheduler) {
        (Some(sampler), schedule) => Choice::parse(sampler, schedule.as_deref())?,
        (None, Some(schedule)) => Choice { schedule: Schedule::parse(schedule)?, ..own },
        (None, None) => own,
    };
    let source = match given.rng.as_deref() {
        Some("gpu" | "nv") => NoiseSource::Nv,
        _ => NoiseSource::Cpu,
    };
    Ok(ImageSettings {
        steps: given.steps.map_or(20, count),
        guidance: given.guidance.unwrap_or(7.0),
        guidance_rescale: given.guidance_rescale.unwrap_or(0.0),
        sampler,
        width: given.width.map_or(side, count),
        height: given.height.map_or(side, count),
        negative: given.negative.clone(),
        clip_skip: given.clip_skip.map_or(default_skip(model), count),
        source,
    })
}

/// SDXL has always used the layer before the last one.
fn default_skip(model: &ImageModel) -> usize {
    if model.diffusion.family == Family::Sdxl { 2 } else { 1 }
}

/// A setting that says nothing about a picture.
fn text_setting(given: &suite::Settings) -> Option<&'static str> {
    let set = [
        ("max_new_tokens", given.max_new_tokens.is_some()),
        ("temperature", given.temperature.is_some()),
        ("top_k", given.top_k.is_some()),
        ("top_p", given.top_p.is_some()),
        ("min_p", given.min_p.is_some()),
        ("repetition_penalty", given.repetition_penalty.is_some()),
        ("stop", given.stop.is_some()),
        ("chat", given.chat.is_some()),
        ("system", given.system.is_some()),
        ("long_prompts", given.long_prompts.is_some()),
    ];
    set.iter().find(|(_, set)| *set).map(|(name, _)| *name)
}
