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
        let references = References::of(&self.references)?;
        for (picture, (scores, _)) in pictures.iter().zip(&mut judged) {
            references.score(Pixels::of(picture)?, scores)?;
        }
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

/// Pictures that show what a good one looks like, compared with no model.
struct References<'a> {
    pixels: Vec<Pixels<'a>>,
    histograms: Vec<Histogram>,
}

impl<'a> References<'a> {
    fn of(pictures: &'a [Picture]) -> Result<Self, ImageError> {
        let pixels = pictures.iter().map(Pixels::of).collect::<Result<Vec<_>, _>>()?;
        let histograms = pixels.iter().map(|pixels| Histogram::of(*pixels)).collect();
        Ok(Self { pixels, histograms })
    }

    /// Means over the references; structure only over those of the picture's size.
    fn score(&self, own: Pixels<'_>, scores: &mut BTreeMap<String, f64>) -> Result<(), ImageError> {
        let histogram = Histogram::of(own);
        let colours = self.histograms.iter().map(|other| histogram.distance(other).value);
        put(scores, "histogram-reference", mean(&colours.collect::<Vec<_>>()));
        let same_size = self.pixels.iter().filter(|other| other.size() == own.size());
        let likeness = same_size.map(|other| Ok(ssim(*other, own)?.value));
        put(scores, "ssim-reference", mean(&likeness.collect::<Result<Vec<_>, ImageError>>()?));
        Ok(())
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
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
        let likeness = references.iter().map(|reference| 100.0 * cosine(own, reference));
        put(scores, &format!("{model}-reference"), mean(&likeness.collect::<Vec<_>>()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(side: usize, level: u8) -> Picture {
        let side = u32::try_from(side).unwrap();
        Picture { width: side, height: side, rgb: vec![level; (side * side * 3) as usize] }
    }

    #[test]
    fn likeness_to_references_is_their_mean_and_structure_needs_one_size() {
        let references = [flat(16, 40), flat(16, 200), flat(32, 40)];
        let mut scores = BTreeMap::new();
        let own = flat(16, 40);
        let all = References::of(&references).unwrap();
        all.score(Pixels::of(&own).unwrap(), &mut scores).unwrap();
        // two references have its colours, one has none of them
        assert!((scores["histogram-reference"] - 1.0 / 3.0).abs() < 1e-12);
        // (2·40·200 + c) / (40² + 200² + c), and 1; the one of 32 pixels is not compared
        let c = 0.01_f64.powi(2) * 255.0 * 255.0;
        let other = (2.0 * 40.0 * 200.0 + c) / (40.0_f64.powi(2) + 200.0_f64.powi(2) + c);
        assert!((scores["ssim-reference"] - f64::midpoint(1.0, other)).abs() < 1e-9, "{scores:?}");
    }

    #[test]
    fn without_references_nothing_is_said_of_them() {
        let mut scores = BTreeMap::new();
        let own = flat(16, 40);
        References::of(&[]).unwrap().score(Pixels::of(&own).unwrap(), &mut scores).unwrap();
        assert!(scores.is_empty());
    }
}
