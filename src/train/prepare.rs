//! What stands between settings and a training: modules that can learn, types, the model of pictures.

use std::path::Path;

use candle_core::{DType, Device};

use super::image::{ImageTask, Picture, Pictures};
use super::parameters::Parameters;
use super::select::Chosen;
use super::{TrainError, data};
use crate::config::Settings;
use crate::data::cache::Cache;
use crate::generate::image::ImageModel;
use crate::model::Base;
use crate::model::diffusion::Adapters;
use crate::model::diffusion::sampler::Prediction;
use crate::tensors::Float;

pub fn image_task(
    (base, parameters): (&Base, &Parameters),
    settings: &Settings,
    pictures: Pictures,
    (dtype, device): (Option<DType>, &Device),
) -> Result<ImageTask, TrainError> {
    let adapters = Adapters::trained(parameters.trained());
    let mut model = ImageModel::build(base, &adapters, dtype, device)?;
    if let Some(velocity) = settings.base.v_prediction {
        let prediction = if velocity { Prediction::Velocity } else { Prediction::Epsilon };
        model.sampler = model.sampler.with_prediction(prediction);
    }
    let factor = model.diffusion.vae.factor();
    let wrong = |picture: &&Picture| {
        let (width, height) = picture.placed.bucket;
        !width.is_multiple_of(factor) || !height.is_multiple_of(factor)
    };
    if let Some(picture) = pictures.0.iter().chain(&pictures.1).find(wrong) {
        let (width, height) = picture.placed.bucket;
        return Err(TrainError::Setting {
            key: "data.image.bucket_step",
            problem: format!(
                "a bucket of {width}×{height}, and the autoencoder makes {factor}×{factor} pixels of one latent"
            ),
            hint: "take 64, and a resolution that is a multiple of it".to_owned(),
        });
    }
    let data = &settings.data.image;
    let cache = if data.cache_latents || data.cache_texts {
        let hashes = data::hashes_of_encoders(base);
        let rounded = format!("{dtype:?} {:?}", model.diffusion.unet.dtype());
        let hashes = hashes.map(|hash| format!("{hash} {rounded}"));
        Some((Cache::open(data.cache_dir.as_deref())?, hashes))
    } else {
        None
    };
    ImageTask::new(model, pictures, settings, cache.as_ref())
}

/// What can be said before anything is read.
pub fn check(settings: &Settings, chosen: &[Chosen]) -> Result<(), TrainError> {
    let refused = |key, problem: &str, hint: &str| {
        Err(TrainError::Setting { key, problem: problem.to_owned(), hint: hint.to_owned() })
    };
    if chosen.is_empty() {
        let problem = "no module is left that could learn";
        return refused("base.clip_skip", problem, "read a later layer, or train the denoiser too");
    }
    if matches!(settings.output.name.as_str(), "checkpoints" | "samples") {
        let problem = "this folder of the training has that name";
        return refused("output.name", problem, "choose another name for the adapter");
    }
    Ok(())
}

/// In f16 the gradients of a denoiser or a language model vanish without loss scaling; bf16 has the
/// same size and f32's exponents.
pub fn without_f16(
    base: &Base,
    dtype: Option<DType>,
    device: &Device,
    notes: &mut Vec<String>,
) -> Option<DType> {
    let own = || {
        let mut files = base.files.iter().flat_map(|file| file.file.entries());
        files.any(|(_, dtype, _)| Float::of(dtype) == Some(Float::F16))
    };
    let half = dtype == Some(DType::F16) || (dtype.is_none() && own());
    if device.is_cpu() || !half {
        return dtype;
    }
    notes.push("the base is computed in bf16: in f16 gradients would vanish".to_owned());
    Some(DType::BF16)
}

/// Modules of text encoders behind the layer that is read would learn nothing, and are left out.
pub fn reachable(
    base: &Base,
    chosen: Vec<Chosen>,
    clip_skip: usize,
    notes: &mut Vec<String>,
) -> Vec<Chosen> {
    use crate::adapter::Component::{TextEncoder, TextEncoder2};
    let layer = |path: &str| -> Option<usize> {
        path.strip_prefix("encoder.layers.")?.split('.').next()?.parse().ok()
    };
    let of_first = base.table.targets().filter(|target| target.id.component == TextEncoder);
    let depth =
        of_first.filter_map(|target| layer(&target.id.path)).max().map_or(0, |last| last + 1);
    let xl = base.table.components().contains(&TextEncoder2);
    // SDXL reads the layer before the last at least; the second encoder's last one gives the pooled text
    let mut skipped = clip_skip.max(1) - 1;
    if xl {
        skipped = skipped.max(1);
    } else if base.shape == crate::model::Shape::File && base.describe().contains(" 2.x") {
        skipped += 1;
    }
    let all = chosen.len();
    let kept: Vec<Chosen> = chosen
        .into_iter()
        .filter(|chosen| {
            chosen.id.component != TextEncoder
                || layer(&chosen.id.path).is_none_or(|layer| layer + skipped < depth)
        })
        .collect();
    if kept.len() < all {
        notes.push(format!(
            "{} modules of the text encoder lie behind the layer that is read, and are not trained",
            all - kept.len()
        ));
    }
    kept
}

pub fn copy(from: &Path, to: &Path) -> Result<(), TrainError> {
    let failed = |source| TrainError::Write { path: to.to_owned(), source };
    if !from.is_dir() {
        let bytes = std::fs::read(from).map_err(failed)?;
        return crate::base::atomic::write(to, &bytes).map_err(failed);
    }
    let folder = crate::base::atomic::AtomicFolder::create(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).map_err(failed)?;
    }
    folder.commit().map_err(failed)
}
