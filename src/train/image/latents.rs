//! What the autoencoder makes of pictures: a mean and a deviation for each number of the latents, kept
//! where pictures come in few variants, made at each visit elsewhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::base::digest::sha256_file;
use crate::base::random::Random;
use crate::config::ImageDataSettings;
use crate::data::cache::{Cache, CacheError};
use crate::data::image::{Augment, Example, Placed, latent_key, pixels};
use crate::model::diffusion::Vae;
use crate::picture;
use crate::tensors::{self, Float};
use crate::train::TrainError;

/// Mean and deviation of the latents of one picture, (channels, height, width).
#[derive(Debug, Clone)]
pub struct Moments {
    /// Extents.
    pub shape: (usize, usize, usize),
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Moments {
    /// Latents as the denoiser sees them: `scale·(mean + deviation·noise)`.
    pub fn sample(&self, noise: &[f32], scale: f64) -> Vec<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "as torch multiplies an f32 tensor")]
        let scale = scale as f32;
        let all = self.mean.iter().zip(&self.deviation).zip(noise);
        all.map(|((mean, deviation), noise)| (mean + deviation * noise) * scale).collect()
    }

    /// Numbers in the latents.
    pub fn len(&self) -> usize {
        self.mean.len()
    }
}

/// Where latents come from.
#[derive(Debug)]
pub struct Latents {
    settings: ImageDataSettings,
    random: Random,
    /// The cache and the encoder's hash.
    cache: Option<(Cache, String)>,
    /// By example and whether it is mirrored.
    kept: Option<Mutex<BTreeMap<(u32, bool), Moments>>>,
}

impl Latents {
    /// Kept in memory where the settings allow it, and in `cache` too.
    pub fn new(settings: &ImageDataSettings, seed: u64, cache: Option<(Cache, String)>) -> Self {
        let keeps = settings.cache_latents && !Augment::is_random(settings);
        Self {
            settings: settings.clone(),
            random: Random::new(seed, "augment"),
            cache: cache.filter(|_| keeps),
            kept: keeps.then(Mutex::default),
        }
    }

    /// Whether they are made once only.
    pub fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// What is done to a picture at a visit.
    pub fn augment(&self, placed: Placed, (example, visit): (u32, u32)) -> Augment {
        Augment::draw(&self.settings, placed, &mut self.random.at(example, visit, 0))
    }

    /// The variants that a picture comes in, if they are few.
    pub fn variants(&self, placed: Placed) -> Vec<Augment> {
        let plain = Augment::none(placed);
        let flipped = Augment { flip: true, ..plain };
        if self.settings.flip { vec![plain, flipped] } else { vec![plain] }
    }

    /// The moments of an example's picture after `augment`.
    pub fn moments(
        &self,
        vae: &Vae,
        (number, example): (u32, &Example),
        (placed, augment): (Placed, &Augment),
        device: &candle_core::Device,
    ) -> Result<Moments, TrainError> {
        let key = (number, augment.flip);
        if let Some(kept) = &self.kept
            && let Some(known) = kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
        {
            return Ok(known.clone());
        }
        let moments = self.cached(vae, example, (placed, augment), device)?;
        if let Some(kept) = &self.kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).insert(key, moments.clone());
        }
        Ok(moments)
    }

    fn cached(
        &self,
        vae: &Vae,
        example: &Example,
        (placed, augment): (Placed, &Augment),
        device: &candle_core::Device,
    ) -> Result<Moments, TrainError> {
        let Some((cache, encoder)) = &self.cache else {
            return encode(vae, example, (placed, augment), device);
        };
        let bytes = sha256_file(&example.picture)
            .map_err(|source| TrainError::Read { path: example.picture.clone(), source })?;
        let key = latent_key(&bytes, placed, augment, encoder, vae.dtype().as_str());
        if let Some(moments) = cache.get(&key).and_then(|entry| from_entry(&entry)) {
            return Ok(moments);
        }
        let moments = encode(vae, example, (placed, augment), device)?;
        let (channels, height, width) = moments.shape;
        let tensor = |values: &[f32]| {
            tensors::Tensor::from_f32(vec![channels, height, width], values, Float::F32)
        };
        let entry = BTreeMap::from([
            ("mean".to_owned(), tensor(&moments.mean)),
            ("deviation".to_owned(), tensor(&moments.deviation)),
        ]);
        cache.put(&key, &entry, &example.picture.display().to_string())?;
        Ok(moments)
    }
}

fn from_entry(entry: &BTreeMap<String, tensors::Tensor>) -> Option<Moments> {
    let (mean, deviation) = (entry.get("mean")?, entry.get("deviation")?);
    let [channels, height, width] = *mean.shape() else { return None };
    let (mean, deviation) = (mean.to_f32("mean").ok()?, deviation.to_f32("deviation").ok()?);
    (mean.len() == deviation.len()).then_some(Moments {
        shape: (channels, height, width),
        mean,
        deviation,
    })
}

fn encode(
    vae: &Vae,
    example: &Example,
    (placed, augment): (Placed, &Augment),
    device: &candle_core::Device,
) -> Result<Moments, TrainError> {
    let picture = picture::read(&example.picture)?;
    let values = pixels(&picture, placed, augment).map_err(|source| TrainError::Picture {
        path: example.picture.clone(),
        problem: source.to_string(),
    })?;
    let (width, height) = placed.bucket;
    let pixels = Tensor::from_vec(values, (1, 3, height, width), device)?;
    let (mean, variance) = rayon::scope(|_| vae.encode(&pixels))?;
    let (_, channels, height, width) = mean.dims4()?;
    let mean = super::super::parameters::host(&mean)?;
    let deviation: Vec<f32> = super::super::parameters::host(&variance)?
        .iter()
        .map(|logarithm| (0.5 * logarithm).exp())
        .collect();
    if let Some(at) = mean.iter().chain(&deviation).position(|value| !value.is_finite()) {
        return Err(CacheError::NotFinite {
            of: example.picture.display().to_string(),
            tensor: "latents".to_owned(),
            at,
        }
        .into());
    }
    Ok(Moments { shape: (channels, height, width), mean, deviation })
}
