//! SSIM and MS-SSIM: is the structure of two images the same?
//!
//! Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
//! Similarity" (2004); Wang, Simoncelli, Bovik, "Multi-scale Structural Similarity" (2003). Programs
//! differ in the third digit by how they treat borders and covariances, so signatures say it.

use super::error::ImageError;
use super::pixels::Pixels;
use super::window::{RADIUS, TAPS, Term, means};
use super::{SCIKIT_IMAGE, TORCHMETRICS, VERSION};
use crate::metric::score::{Direction, Part, Score, parts};

/// Exponents of MS-SSIM's five scales, the finest first.
const EXPONENTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
/// torchmetrics' least side: more than ten pixels after division by sixteen.
const LEAST: usize = 16 * TAPS;

/// SSIM as Wang's program and scikit-image's `structural_similarity(gaussian_weights=True,
/// sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1)`: Gaussian window of
/// 11 × 11, population covariances, pixels whose window lies inside the image, mean over channels.
pub fn ssim(first: Pixels<'_>, second: Pixels<'_>) -> Result<Score, ImageError> {
    first.same_size(&second)?;
    let hint = "compare larger images, or use PSNR, which has no window";
    first.at_least("SSIM", TAPS, hint)?;
    let channels = means(Term::Whole, &first.planes(), &second.planes());
    Ok(Score {
        metric: "SSIM".to_owned(),
        value: mean(channels),
        direction: Direction::HigherIsBetter,
        unit: "fraction",
        signature: format!(
            "window:gaussian11|sigma:1.5|cov:population|border:valid|channels:rgb-mean|range:255|\
             compat:scikit-image-{SCIKIT_IMAGE}|version:{VERSION}"
        ),
        parts: parts([("channels", Part::Numbers(channels.to_vec()))]),
    })
}

/// MS-SSIM as torchmetrics' `multiscale_structural_similarity_index_measure(data_range=255)`: five
/// scales by means of 2 × 2; contrast over pixels whose window lies inside, and at the coarsest
/// scale SSIM over the whole image, mirrored at its border; negative terms count as 0.
pub fn ms_ssim(first: Pixels<'_>, second: Pixels<'_>) -> Result<Score, ImageError> {
    first.same_size(&second)?;
    let hint = "use SSIM, which has one scale, or compare larger images";
    first.at_least("MS-SSIM", LEAST, hint)?;
    let mut planes = [first, second].map(|image| image.planes());
    let mut terms = Vec::with_capacity(EXPONENTS.len());
    for _ in 1..EXPONENTS.len() {
        let [first, second] = &planes;
        terms.push(mean(means(Term::Contrast, first, second)));
        planes = planes.map(|channels| channels.map(|plane| plane.halved()));
    }
    let [first, second] = planes.map(|channels| channels.map(|plane| plane.mirrored(RADIUS)));
    terms.push(mean(means(Term::Whole, &first, &second)));
    let powers = terms.iter().zip(EXPONENTS).map(|(term, power)| term.max(0.0).powf(power));
    Ok(Score {
        metric: "MS-SSIM".to_owned(),
        value: powers.product(),
        direction: Direction::HigherIsBetter,
        unit: "fraction",
        signature: format!(
            "window:gaussian11|sigma:1.5|cov:population|scales:5|border:valid+mirror-last|\
             normalize:relu|channels:rgb-mean|range:255|compat:torchmetrics-{TORCHMETRICS}|\
             version:{VERSION}"
        ),
        parts: parts([("scales", Part::Numbers(terms))]),
    })
}

fn mean(channels: [f64; 3]) -> f64 {
    channels.iter().sum::<f64>() / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: usize, height: usize, seed: usize) -> Vec<u8> {
        let level = |i: usize| u8::try_from((i * i % 7919 + i * seed) % 256).unwrap();
        (0..3 * width * height).map(level).collect()
    }

    #[test]
    fn equal_images_score_exactly_one() {
        let rgb = image(177, 190, 5);
        let pixels = Pixels::new(177, 190, &rgb).unwrap();
        assert_eq!(ssim(pixels, pixels).unwrap().value, 1.0);
        assert_eq!(ms_ssim(pixels, pixels).unwrap().value, 1.0);
    }

    #[test]
    fn the_order_of_two_images_does_not_matter() {
        let [first, second] = [2, 9].map(|seed| image(180, 176, seed));
        let [first, second] = [&first, &second].map(|rgb| Pixels::new(180, 176, rgb).unwrap());
        assert_eq!(ssim(first, second).unwrap(), ssim(second, first).unwrap());
        assert_eq!(ms_ssim(first, second).unwrap(), ms_ssim(second, first).unwrap());
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let [first, second] = [2, 9].map(|seed| image(200, 300, seed));
        let [first, second] = [&first, &second].map(|rgb| Pixels::new(200, 300, rgb).unwrap());
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let score = |threads| pool(threads).install(|| ssim(first, second).unwrap());
        assert_eq!(score(1), score(3));
    }

    #[test]
    fn images_smaller_than_the_window_are_refused() {
        let rgb = image(176, 11, 1);
        let pixels = Pixels::new(11, 11, &rgb[..3 * 11 * 11]).unwrap();
        assert_eq!(ssim(pixels, pixels).unwrap().value, 1.0);
        let pixels = Pixels::new(10, 11, &rgb[..3 * 10 * 11]).unwrap();
        assert!(matches!(ssim(pixels, pixels), Err(ImageError::Small { least: 11, .. })));
        let pixels = Pixels::new(176, 11, &rgb).unwrap();
        assert!(matches!(ms_ssim(pixels, pixels), Err(ImageError::Small { least: 176, .. })));
    }

    #[test]
    fn two_sizes_are_refused() {
        let rgb = image(12, 20, 1);
        let first = Pixels::new(12, 20, &rgb).unwrap();
        let second = Pixels::new(20, 12, &rgb).unwrap();
        let expected = ImageError::Sizes { first: (12, 20), second: (20, 12) };
        assert_eq!(ssim(first, second), Err(expected));
    }
}
