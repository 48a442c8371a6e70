//! Stable Diffusion: the loss of a denoiser on noisy latents, with its text encoders where they are
//! trained.

mod batch;
mod latents;
mod noise;
mod texts;

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::backward::{Pass, backward, weighed};
use super::task::{Loss, Task};
use super::{Gradients, TrainError};
use crate::base::random::Random;
use crate::config::Settings;
use crate::data::cache::Cache;
use crate::data::image::{self, Augment, Example, Placed};
use crate::generate::image::ImageModel;
use crate::model::diffusion::sampler::Prediction;
use crate::model::diffusion::{Added, Context, Family, State};
use crate::nn::{Dropout, Strengths, Visit};
use batch::{Batch, Links};
use latents::{Latents, Moments};
use noise::Noising;
use texts::{Said, Texts, together};

/// A pipeline and its pictures.
#[derive(Debug)]
pub struct ImageTask {
    /// The models, adapter number 0 being trained.
    pub model: ImageModel,
    settings: Settings,
    examples: Vec<Picture>,
    held_out: Vec<Picture>,
    latents: Latents,
    of_held_out: Latents,
    texts: Texts,
    noising: Noising,
    fixed: Noising,
    caption: Random,
    dropout: Option<Random>,
}

/// A picture of the data.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The file and what is said of it.
    pub example: Example,
    /// Width and height of the file.
    pub size: (usize, usize),
    /// Its bucket.
    pub placed: Placed,
}

/// The examples of a training: those learnt from (regularization pictures last) and those held out.
pub type Pictures = (Vec<Picture>, Vec<Picture>);

/// Channels, height and width.
type Extents = (usize, usize, usize);

/// Timesteps at which each held-out picture is looked at.
const FIXED: usize = 4;

impl ImageTask {
    /// A task; `cache` holds latents and texts with the hashes of autoencoder and text encoders.
    pub fn new(
        model: ImageModel,
        (examples, held_out): Pictures,
        settings: &Settings,
        cache: Option<&(Cache, [String; 2])>,
    ) -> Result<Self, TrainError> {
        let data = &settings.data.image;
        let of_base = model.sampler.prediction();
        let prediction = match settings.base.v_prediction {
            None => of_base,
            Some(true) => Prediction::Velocity,
            Some(false) => Prediction::Epsilon,
        };
        let schedule = model.sampler.noise_schedule()?;
        let noising = |purpose| {
            let noise = (schedule.clone(), prediction);
            Noising::new(&settings.diffusion, noise, (settings.run.seed, purpose))
        };
        let part = |at: usize| cache.map(|(c, hashes)| (c.clone(), hashes[at].clone()));
        let plain = crate::config::ImageDataSettings {
            flip: false,
            random_crop: false,
            color_jitter: false,
            ..data.clone()
        };
        Ok(Self {
            latents: Latents::new(data, settings.run.seed, part(0)),
            of_held_out: Latents::new(&plain, settings.run.seed, part(0)),
            texts: Texts::new(settings, part(1).filter(|_| data.cache_texts)),
            noising: noising(""),
            fixed: noising("held-out "),
            caption: Random::new(settings.run.seed, "caption"),
            dropout: (settings.adapter.dropout > 0.0)
                .then(|| Random::new(settings.run.seed, "dropout")),
            settings: settings.clone(),
            model,
            examples,
            held_out,
        })
    }

    /// Encodes what is kept, so that the first epoch is as fast as the others; `said` hears how far it
    /// is.
    pub fn prepare(&self, said: &mut dyn FnMut(usize, usize)) -> Result<(), TrainError> {
        let all = self.examples.len() + self.held_out.len();
        let mut done = 0;
        for (latents, pictures) in
            [(&self.latents, &self.examples), (&self.of_held_out, &self.held_out)]
        {
            for (number, picture) in (0..).zip(pictures) {
                if latents.keeps() {
                    for augment in latents.variants(picture.placed) {
                        self.moments(latents, (number, picture), &augment)?;
                    }
                }
                done += 1;
                said(done, all);
            }
        }
        Ok(())
    }

    fn device(&self) -> &Device {
        &self.model.diffusion.device
    }

    fn moments(
        &self,
        latents: &Latents,
        (number, picture): (u32, &Picture),
        augment: &Augment,
    ) -> Result<Moments, TrainError> {
        let vae = &self.model.diffusion.vae;
        let what = (picture.placed, augment);
        latents.moments(vae, (number, &picture.example), what, self.device())
    }

    /// Latents of a picture as they are seen at a visit, before noise.
    fn latent(
        &self,
        (latents, noising): (&Latents, &Noising),
        (number, picture): (u32, &Picture),
        (visit, augment): (u32, &Augment),
    ) -> Result<(Vec<f32>, Extents), TrainError> {
        let moments = self.moments(latents, (number, picture), augment)?;
        let noise = noising.of_latent(number, visit, moments.len());
        let scale = self.model.diffusion.vae.scaling_factor();
        Ok((moments.sample(&noise, scale), moments.shape))
    }

    /// A micro-batch as it is trained on.
    fn batch(&self, visits: &[Visit]) -> Result<Batch, TrainError> {
        let mut batch = Batch::default();
        for visit in visits {
            let picture = &self.examples[visit.example as usize];
            let at = (visit.example, visit.visit);
            let augment = self.latents.augment(picture.placed, at);
            let sources = (&self.latents, &self.noising);
            let (latents, shape) =
                self.latent(sources, (visit.example, picture), (visit.visit, &augment))?;
            let mut noisy = self.noising.draw(&latents, shape.0, at)?;
            if picture.example.class {
                noisy.weight *= self.settings.diffusion.prior_weight;
            }
            let mut draws = self.caption.at(visit.example, visit.visit, 0);
            let caption = image::caption(&picture.example, &self.settings.data.image, &mut draws);
            batch.add(
                noisy,
                caption,
                shape,
                image::time_ids(picture.size, picture.placed, &augment),
            );
        }
        Ok(batch)
    }

    /// Some of the held-out pictures at some of their timesteps.
    fn fixed_batch(&self, range: Range<usize>) -> Result<Batch, TrainError> {
        let mut batch = Batch::default();
        let timesteps = self.fixed.fixed_timesteps();
        for place in range {
            let (number, part) = (place / FIXED, place % FIXED);
            let [example, visit] = [number, part].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            let picture = &self.held_out[number];
            let augment = Augment::none(picture.placed);
            let sources = (&self.of_held_out, &self.fixed);
            let (latents, shape) = self.latent(sources, (example, picture), (visit, &augment))?;
            let noisy = self.fixed.at(&latents, shape.0, (example, visit), timesteps[part])?;
            let caption = image::plain_caption(&picture.example, &self.settings.data.image);
            batch.add(
                noisy,
                caption,
                shape,
                image::time_ids(picture.size, picture.placed, &augment),
            );
        }
        Ok(batch)
    }

    fn said(
        &self,
        batch: &Batch,
        (strength, dropout): (f32, Option<&Dropout>),
    ) -> Result<(Context, Option<Added>), TrainError> {
        let said: Vec<Said> =
            self.texts.encode(&self.model, &batch.captions, (strength, dropout))?;
        let time_ids =
            (self.model.diffusion.family == Family::Sdxl).then(|| batch.time_ids.clone());
        Ok(together(&said, time_ids)?)
    }

    fn dropout(&self, visits: &[Visit]) -> Option<Dropout> {
        self.dropout.map(|random| Dropout { random, examples: visits.to_vec() })
    }

    fn strengths(rows: usize, strength: f32, dropout: Option<Dropout>) -> Strengths {
        let strengths = Strengths::new(vec![vec![strength]; rows]);
        match dropout {
            Some(dropout) => strengths.with_dropout(dropout),
            None => strengths,
        }
    }

    /// Losses without gradients.
    fn forward(
        &self,
        batch: &Batch,
        (strength, dropout): (f32, Option<Dropout>),
    ) -> Result<Vec<f64>, TrainError> {
        let (context, added) = self.said(batch, (strength, dropout.as_ref()))?;
        let strengths = Self::strengths(batch.noisy.len(), strength, dropout);
        let unet = &self.model.diffusion.unet;
        let latents = batch.latents(self.device())?;
        let context = Context { tokens: context.tokens.detach(), ..context };
        let mut state =
            unet.start(&latents, &batch.timesteps(), (&context, added.as_ref()), &strengths)?;
        for link in 0..unet.links() {
            let next = unet.link(link, state, (&context.starts, &strengths))?;
            let cut = next.into_tensors().iter().map(Tensor::detach).collect();
            state = State::from_tensors(cut)?;
        }
        Ok(batch.compare(&state.x, 0.0)?.0)
    }

    fn losses(
        &self,
        examples: impl Iterator<Item = u32>,
        batch: &Batch,
        sums: &[f64],
    ) -> Vec<Loss> {
        let all = examples.zip(&batch.noisy).zip(sums);
        all.map(|((example, noisy), sum)| Loss {
            example,
            sum: *sum,
            weight: 1.0,
            time: Some(self.noising.time(noisy.timestep)),
        })
        .collect()
    }
}

impl Task for ImageTask {
    fn repeats(&self) -> Vec<usize> {
        self.examples.iter().map(|picture| picture.example.repeats).collect()
    }

    fn beside(&self) -> Vec<u32> {
        let class = (0..).zip(&self.examples).filter(|(_, picture)| picture.example.class);
        class.map(|(number, _)| number).collect()
    }

    fn weight(&self, _: Visit) -> f64 {
        1.0
    }

    /// Pictures of one size go together, on a CPU as many as its caches hold.
    fn batches(&self, visits: &[Visit], size: usize) -> Vec<Vec<Visit>> {
        let mut sizes: Vec<(usize, usize)> = Vec::new();
        let mut groups: Vec<Vec<Visit>> = Vec::new();
        for visit in visits {
            let bucket = self.examples[visit.example as usize].placed.bucket;
            if let Some(place) = sizes.iter().position(|known| *known == bucket) {
                groups[place].push(*visit);
            } else {
                sizes.push(bucket);
                groups.push(vec![*visit]);
            }
        }
        let factor = self.model.diffusion.vae.factor();
        let split = |((width, height), group): (&(usize, usize), &Vec<Visit>)| {
            let unet = &self.model.diffusion.unet;
            let most = unet.most_rows(height / factor, width / factor, self.device()).unwrap_or(1);
            group.chunks(size.min(most).max(1)).map(<[Visit]>::to_vec).collect::<Vec<_>>()
        };
        sizes.iter().zip(&groups).flat_map(split).collect()
    }

    fn largest(&self, size: usize) -> Vec<Visit> {
        let area = |picture: &Picture| picture.placed.bucket.0 * picture.placed.bucket.1;
        let Some(largest) = self.examples.iter().max_by_key(|picture| area(picture)) else {
            return Vec::new();
        };
        let same = (0..).zip(&self.examples);
        let same = same.filter(|(_, picture)| picture.placed.bucket == largest.placed.bucket);
        let visit = |(example, _)| Visit { example, visit: 0, tokens: 0 };
        let visits: Vec<Visit> = same.map(visit).cycle().take(size).collect();
        self.batches(&visits, size).into_iter().next().unwrap_or_default()
    }

    fn backward(
        &self,
        visits: &[Visit],
        total: f64,
        pass: Pass<'_>,
        gradients: &mut Gradients,
    ) -> Result<Vec<Loss>, TrainError> {
        let batch = self.batch(visits)?;
        let dropout = self.dropout(visits);
        let (context, added) = self.said(&batch, (1.0, dropout.as_ref()))?;
        let strengths = Self::strengths(visits.len(), 1.0, dropout);
        let unet = &self.model.diffusion.unet;
        let latents = batch.latents(self.device())?;
        let prompts = (&context, added.as_ref());
        let start = unet.start(&latents, &batch.timesteps(), prompts, &strengths)?.into_tensors();
        let chain = Links { unet, starts: &context.starts, strengths: &strengths };
        let (sums, slopes) = backward(&chain, &start, pass, gradients, |prediction| {
            Ok(batch.compare(prediction, total.recip())?)
        })?;
        // the text encoders, where they are trained
        let mut scalar: Option<Tensor> = None;
        for (start, slope) in start.iter().zip(slopes) {
            let Some(slope) = slope else { continue };
            let part = weighed(start, &slope)?;
            scalar = Some(match scalar {
                Some(scalar) => (scalar + part)?,
                None => part,
            });
        }
        if let Some(scalar) = scalar {
            gradients.add(&mut scalar.backward()?)?;
        }
        Ok(self.losses(visits.iter().map(|visit| visit.example), &batch, &sums))
    }

    fn loss(&self, visits: &[Visit], strength: f32) -> Result<Vec<Loss>, TrainError> {
        let batch = self.batch(visits)?;
        let sums = self.forward(&batch, (strength, self.dropout(visits)))?;
        Ok(self.losses(visits.iter().map(|visit| visit.example), &batch, &sums))
    }

    fn held_out(&self) -> usize {
        self.held_out.len() * FIXED
    }

    fn held_out_loss(&self, range: Range<usize>) -> Result<Vec<Loss>, TrainError> {
        let mut losses = Vec::new();
        // one at a time: neighbours may differ in size
        for place in range {
            let batch = self.fixed_batch(place..place + 1)?;
            let sums = self.forward(&batch, (1.0, None))?;
            let number = u32::try_from(place / FIXED).unwrap_or(u32::MAX);
            losses.extend(self.losses(std::iter::once(number), &batch, &sums));
        }
        Ok(losses)
    }

    fn is_exact(&self) -> bool {
        self.model.diffusion.unet.dtype() == candle_core::DType::F32
    }

    fn name(&self, example: u32) -> String {
        self.examples.get(example as usize).map_or_else(
            || format!("example {example}"),
            |picture| picture.example.picture.display().to_string(),
        )
    }
}
