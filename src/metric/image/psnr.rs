//! MSE and PSNR: how far are two images' pixels from each other?

use rayon::prelude::*;

use super::error::ImageError;
use super::pixels::Pixels;
use super::{SCIKIT_IMAGE, VERSION};
use crate::metric::score::{Direction, Part, Score, parts};

/// Values that one task compares.
const TASK: usize = 1 << 18;

/// Mean squared difference of all values, in levels² (0 to 65025).
pub fn mse(first: Pixels<'_>, second: Pixels<'_>) -> Result<Score, ImageError> {
    let value = mean_square(first, second)?;
    Ok(Score {
        metric: "MSE".to_owned(),
        value,
        direction: Direction::LowerIsBetter,
        unit: "levels²",
        signature: format!("range:255|version:{VERSION}"),
        parts: parts([]),
    })
}

/// Peak signal-to-noise ratio, 10·log₁₀(255² / MSE), in decibels; infinite for equal images. The
/// same as scikit-image's `peak_signal_noise_ratio(data_range=255)`.
pub fn psnr(first: Pixels<'_>, second: Pixels<'_>) -> Result<Score, ImageError> {
    let error = mean_square(first, second)?;
    Ok(Score {
        metric: "PSNR".to_owned(),
        value: if error == 0.0 { f64::INFINITY } else { 10.0 * (255.0 * 255.0 / error).log10() },
        direction: Direction::HigherIsBetter,
        unit: "dB",
        signature: format!("range:255|compat:scikit-image-{SCIKIT_IMAGE}|version:{VERSION}"),
        parts: parts([("mse", Part::Number(error))]),
    })
}

/// The sum is exact: it is one of whole numbers.
fn mean_square(first: Pixels<'_>, second: Pixels<'_>) -> Result<f64, ImageError> {
    first.same_size(&second)?;
    let (first, second) = (first.rgb(), second.rgb());
    let square = |(x, y): (&u8, &u8)| u64::from(u32::from(x.abs_diff(*y)).pow(2));
    let tasks = first.par_chunks(TASK).zip(second.par_chunks(TASK));
    let sum: u64 = tasks.map(|(x, y)| x.iter().zip(y).map(square).sum::<u64>()).sum();
    Ok(sum as f64 / first.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_images_have_an_infinite_ratio() {
        let pixels = Pixels::new(2, 1, &[0, 1, 2, 3, 4, 255]).unwrap();
        assert_eq!(psnr(pixels, pixels).unwrap().value, f64::INFINITY);
        assert_eq!(mse(pixels, pixels).unwrap().value, 0.0);
    }

    #[test]
    fn black_against_white_is_zero_decibels() {
        let black = Pixels::new(1, 1, &[0; 3]).unwrap();
        let white = Pixels::new(1, 1, &[255; 3]).unwrap();
        assert_eq!(psnr(black, white).unwrap().value, 0.0);
        assert_eq!(mse(black, white).unwrap().value, 65025.0);
    }

    /// torchmetrics' own example with range 3, brought to 255: the ratio stays.
    #[test]
    fn torchmetrics_example() {
        let first = [0, 85, 170, 255].map(|level| [level; 3]).concat();
        let second = [255, 170, 85, 0].map(|level| [level; 3]).concat();
        let [first, second] = [&first, &second].map(|rgb| Pixels::new(2, 2, rgb).unwrap());
        assert!((psnr(first, second).unwrap().value - 2.552_725_051_033_06).abs() < 1e-12);
    }
}
