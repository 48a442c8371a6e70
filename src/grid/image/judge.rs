//! Scores of pictures against the base's of the same noise, against the prompt and its references.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::grid::GridError;
use crate::metric::image::{HashKind, Histogram, ImageError, Pixels, ms_ssim, mse, ssim};
use crate::picture::Picture;
use crate::prompt::Prompt;

/// Models that judge pictures; what is not given is left out.
#[derive(Debug, Default)]
pub struct Learned {}

/// Scores the pictures of one unit, the base's first.
pub(super) struct Judge<'a> {
    pub learned: Option<&'a Learned>,
    pub references: Vec<Picture>,
}

/// Scores by metric, and features by model.
pub(super) type Judged = (BTreeMap<String, f64>, BTreeMap<String, String>);

/// Shortest side that MS-SSIM's five scales have room in.
const FIVE_SCALES: u32 = 176;

impl Judge<'_> {
    /// All pairs in parallel.
    pub fn score(&self, _prompt: &Prompt, pictures: &[&Picture]) -> Result<Vec<Judged>, GridError> {
        let Some(base) = pictures.first() else { return Ok(Vec::new()) };
        let pairs = pictures.par_iter().map(|picture| pair(base, picture));
        let scores = pairs.collect::<Result<Vec<_>, ImageError>>()?;
        Ok(scores.into_iter().map(|scores| (scores, BTreeMap::new())).collect())
    }
}

/// What needs no model. The two share their noise.
fn pair(base: &Picture, picture: &Picture) -> Result<BTreeMap<String, f64>, ImageError> {
    let (a, b) = (Pixels::of(base)?, Pixels::of(picture)?);
    let mut scores = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        if value.is_finite() {
            scores.insert(name.to_owned(), value);
        }
    };
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
