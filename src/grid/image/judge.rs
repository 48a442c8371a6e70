//! Scores of pictures against the base's of the same noise, against the prompt and its references.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::grid::GridError;
use crate::grid::scores::kid;
use crate::metric::image::{HashKind, Histogram, ImageError, Pixels, ms_ssim, mse, ssim};
use crate::model::vision::{Clip, Dino, Lpips, clip_score, cosine};
use crate::picture::Picture;
use crate::prompt::Prompt;

/// Models that judge pictures; what is not given is left out.
#[derive(Debug, Default)]
pub struct Learned {
    /// CLIP, for likeness to base, prompt and references.
    pub clip: Option<Clip>,
    /// DINOv2, for likeness to base and references.
    pub dino: Option<Dino>,
    /// LPIPS, for the distance from the base.
    pub lpips: Option<Lpips>,
}

/// Scores the pictures of one unit, the base's first.
pub(in crate::grid) struct Judge<'a> {
    pub learned: Option<&'a Learned>,
    pub references: Vec<Picture>,
}

/// Scores by metric, and features by model.
pub(in crate::grid) type Judged = (BTreeMap<String, f64>, BTreeMap<String, String>);

/// Shortest side that MS-SSIM's five scales have room in.
const FIVE_SCALES: u32 = 176;

impl Judge<'_> {
    /// All pairs in parallel.
    pub fn score(&self, prompt: &Prompt, pictures: &[&Picture]) -> Result<Vec<Judged>, GridError> {
        let Some(base) = pictures.first() else { return Ok(Vec::new()) };
        let pairs = pictures.par_iter().map(|picture| pair(base, picture));
        let scores = pairs.collect::<Result<Vec<_>, ImageError>>()?;
        let mut judged: Vec<Judged> =
            scores.into_iter().map(|scores| (scores, BTreeMap::new())).collect();
        let Some(learned) = self.learned else { return Ok(judged) };
        let references: Vec<&Picture> = self.references.iter().collect();
        if let Some(clip) = &learned.clip {
            let features = clip.image_features(pictures)?;
            let text = clip.text_features(&[words(prompt).as_str()])?;
            let references = clip.image_features(&references)?;
            for (features, (scores, _)) in features.iter().zip(&mut judged) {
                put(scores, "clip-text", text.first().map(|text| clip_score(features, text)));
            }
            of_features("clip", &features, &references, &mut judged);
        }
        if let Some(dino) = &learned.dino {
            let features = dino.image_features(pictures)?;
            of_features("dino", &features, &dino.image_features(&references)?, &mut judged);
        }
        if let Some(lpips) = &learned.lpips {
            // one by one: the features of a large picture take hundreds of megabytes
            for (place, (picture, (scores, _))) in pictures.iter().zip(&mut judged).enumerate() {
                let distance = if place == 0 { 0.0 } else { lpips.distance(base, picture)? };
                put(scores, "lpips", Some(distance));
            }
        }
        Ok(judged)
    }
}

/// The text without emphasis.
pub(super) fn words(prompt: &Prompt) -> String {
    prompt
        .fragments
        .iter()
        .map(|fragment| fragment.text.as_str())
        .collect::<String>()
        .trim()
        .to_owned()
}

fn put(scores: &mut BTreeMap<String, f64>, name: &str, value: Option<f64>) {
    if let Some(value) = value.filter(|value| value.is_finite()) {
        scores.insert(name.to_owned(), value);
    }
}

/// Likeness to the first picture's features and to the references', and the features themselves.
fn of_features(model: &str, features: &[Vec<f32>], references: &[Vec<f32>], judged: &mut [Judged]) {
    let to_base = if model == "clip" { "clip-image" } else { model };
    for (own, (scores, kept)) in features.iter().zip(judged) {
        put(scores, to_base, features.first().map(|base| 100.0 * cosine(own, base)));
        let sum: f64 = references.iter().map(|reference| 100.0 * cosine(own, reference)).sum();
        let mean = (!references.is_empty()).then(|| sum / references.len() as f64);
        put(scores, &format!("{model}-reference"), mean);
        kept.insert(model.to_owned(), kid::encode(own));
    }
}

/// What needs no model. The two share their noise.
fn pair(base: &Picture, picture: &Picture) -> Result<BTreeMap<String, f64>, ImageError> {
    let (a, b) = (Pixels::of(base)?, Pixels::of(picture)?);
    let mut scores = BTreeMap::new();
    let mut put = |name: &str, value: f64| put(&mut scores, name, Some(value));
    put("ssim", ssim(a, b)?.value);
    put("mse", mse(a, b)?.value);
    if base.width.min(base.height) >= FIVE_SCALES {
        put("ms-ssim", ms_ssim(a, b)?.value);
    }
    put("phash", HashKind::Perceptual.distance(a, b)?.value);
    put("dhash", HashKind::Difference.distance(a, b)?.value);
    put("histogram", Histogram::of(a).distance(&Histogram::of(b)).value);
    Ok(scores)
}
