//! `lora-eval metric` of two images.

use std::path::PathBuf;

use anyhow::Context as _;
use lora_eval::metric::Score;
use lora_eval::metric::image::{HashKind, Histogram, ImageError, Pixels, ms_ssim, psnr, ssim};
use lora_eval::picture;
use serde_json::json;

use super::global::Global;
use super::output;

/// Metrics of two images, as `metric`'s further subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum ImageMetric {
    /// SSIM: shared structure of two images of one size; 1 is equal
    Ssim(Files),
    /// MS-SSIM: SSIM over five scales, for sides of 176 pixels and more
    MsSsim(Files),
    /// PSNR: pixel by pixel, in decibels
    Psnr(Files),
    /// Perceptual hash: differing bits of 64, for finding near-duplicates
    Phash(Files),
    /// Difference hash: differing bits of 64
    Dhash(Files),
    /// Distance of colour histograms: 0 for the same colours, 1 for none in common
    Histogram(Files),
}

/// The two images.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// An image: PNG, JPEG or WebP
    #[arg(value_name = "A.png")]
    first: PathBuf,
    /// The image to compare it with
    #[arg(value_name = "B.png")]
    second: PathBuf,
}

impl ImageMetric {
    /// The subcommand's name, and its files.
    fn parts(&self) -> (&'static str, &Files) {
        match self {
            Self::Ssim(files) => ("ssim", files),
            Self::MsSsim(files) => ("ms-ssim", files),
            Self::Psnr(files) => ("psnr", files),
            Self::Phash(files) => ("phash", files),
            Self::Dhash(files) => ("dhash", files),
            Self::Histogram(files) => ("histogram", files),
        }
    }

    fn score(&self, first: Pixels<'_>, second: Pixels<'_>) -> Result<Score, ImageError> {
        match self {
            Self::Ssim(_) => ssim(first, second),
            Self::MsSsim(_) => ms_ssim(first, second),
            Self::Psnr(_) => psnr(first, second),
            Self::Phash(_) => HashKind::Perceptual.distance(first, second),
            Self::Dhash(_) => HashKind::Difference.distance(first, second),
            Self::Histogram(_) => Ok(Histogram::of(first).distance(&Histogram::of(second))),
        }
    }
}

pub fn run(global: &Global, metric: &ImageMetric) -> anyhow::Result<()> {
    let (name, files) = metric.parts();
    let (first, second) = (picture::read(&files.first)?, picture::read(&files.second)?);
    let (first, second) = (Pixels::of(&first)?, Pixels::of(&second)?);
    let score = metric
        .score(first, second)
        .with_context(|| format!("{} and {}", files.first.display(), files.second.display()))?;
    if global.json {
        let mut line = json!({
            "metric": name,
            "name": score.metric,
            "score": score.value,
            "signature": score.signature,
            "direction": score.direction,
            "unit": score.unit,
            "identical": first == second,
            "parts": score.parts,
        });
        // JSON has no infinity; that of equal images is `null`, and `identical` says why.
        if !score.value.is_finite() {
            line["score"] = serde_json::Value::Null;
        }
        return output::json(&line);
    }
    let value = match score.unit {
        "bits" => format!("{} of 64 bits", score.value),
        "dB" if score.value.is_infinite() => "∞ dB: the images are identical".to_owned(),
        "dB" => format!("{:.2} dB", score.value),
        _ => format!("{:.4}", score.value),
    };
    output::print(&format!("{} {value}\n{}\n", score.metric, score.signature))
}
