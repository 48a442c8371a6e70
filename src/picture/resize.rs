//! Antialiased resizing with Pillow's bits.
//!
//! Pillow 13's `Image.resize` (`Resample.c`) filters rows and columns with weights in fixed point and
//! 8 bits between the two passes. CLIP's and DINO's preprocessing and perceptual hashes are defined by it,
//! and an error of one level in a pixel changes their results.

use std::f64::consts::PI;

use rayon::prelude::*;

/// Fraction bits of a weight: 32 less 8 of a pixel and 2 for negative weights.
const PRECISION: u32 = 32 - 8 - 2;

/// How pixels are weighted. Shrinking widens the filter, so that every source pixel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Triangle, Pillow's `BILINEAR`.
    Bilinear,
    /// Cubic convolution with a = −½, Pillow's `BICUBIC`.
    Bicubic,
    /// Sinc windowed by a sinc, three lobes, Pillow's `LANCZOS`.
    Lanczos,
}

/// What can be wrong with an image to be resized.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ResizeError {
    /// A side of no pixels, or of too many.
    #[error(
        "expected sides of 1 to {} pixels, found `{width}x{height}`\nhint: give a smaller size",
        ResizeError::MOST
    )]
    Size {
        /// The width.
        width: usize,
        /// The height.
        height: usize,
    },
    /// Another number of bytes than the size asks for.
    #[error(
        "expected {expected} bytes for an image of {width}x{height}, found {found}\n\
         hint: give the width and height of the whole image, row after row without padding"
    )]
    Bytes {
        /// The width.
        width: usize,
        /// The height.
        height: usize,
        /// Bytes of such an image.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}

impl ResizeError {
    /// The longest side.
    const MOST: usize = 1 << 16;
}

impl Filter {
    /// Source pixels on each side that count where nothing is shrunk.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at a distance.
    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Self::Lanczos if (-3.0..3.0).contains(&distance) => {
                sinc(distance) * sinc(distance / 3.0)
            }
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Resizes an image of (height, width, 3) values.
pub fn resize_rgb(
    rgb: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    filter: Filter,
) -> Result<Vec<u8>, ResizeError> {
    resize::<3>(rgb, from, to, filter)
}

/// Resizes an image of (height, width) values.
pub fn resize_gray(
    gray: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    filter: Filter,
) -> Result<Vec<u8>, ResizeError> {
    resize::<1>(gray, from, to, filter)
}

fn resize<const CHANNELS: usize>(
    pixels: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    filter: Filter,
) -> Result<Vec<u8>, ResizeError> {
    for (width, height) in [from, to] {
        let sides = 1..=ResizeError::MOST;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(ResizeError::Size { width, height });
        }
    }
    let (width, height) = from;
    let expected = width * height * CHANNELS;
    if pixels.len() != expected {
        return Err(ResizeError::Bytes { width, height, expected, found: pixels.len() });
    }
    let across = |pixels: &[u8]| {
        (to.0 != width)
            .then(|| horizontal::<CHANNELS>(pixels, width, &windows(width, to.0, filter)))
    };
    let down = |pixels: &[u8], width: usize| {
        (to.1 != height).then(|| vertical(pixels, width * CHANNELS, &windows(height, to.1, filter)))
    };
    let resized = if columns_first(from, to) {
        let columns = down(pixels, width);
        across(columns.as_deref().unwrap_or(pixels)).or(columns)
    } else {
        let rows = across(pixels);
        down(rows.as_deref().unwrap_or(pixels), to.0).or(rows)
    };
    Ok(resized.unwrap_or_else(|| pixels.to_vec()))
}

/// Whether the height loses more than twice as many pixels as the width. Pillow since 13 filters
/// columns before rows then, and the order shows in the rounding between the two.
fn columns_first(from: (usize, usize), to: (usize, usize)) -> bool {
    from.1 > to.1 && from.1 - to.1 + 2 * to.0 > 2 * from.0
}

/// The source pixels of one result: the first one's place, and a weight for each.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The windows of a side that is resized from `from` to `to` pixels.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Pillow cuts fractions off: places lie within the side, weights below 2²³"
)]
fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |place: usize| {
        let center = (place as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weight = |at: usize| filter.weight((at as f64 - center + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| {
            let weight = if sum == 0.0 { *weight } else { weight / sum };
            (f64::from(1 << PRECISION) * weight + 0.5_f64.copysign(weight)) as i32
        };
        Window { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

/// Half a level, so that cutting off the fraction rounds.
const HALF: i32 = 1 << (PRECISION - 1);

#[expect(clippy::cast_sign_loss, reason = "clamped to a byte")]
fn level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal<const CHANNELS: usize>(pixels: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let resized = |row: &[u8]| -> Vec<u8> {
        let pixel = |window: &Window| {
            let mut sums = [HALF; CHANNELS];
            let source = row[window.first * CHANNELS..].chunks_exact(CHANNELS);
            for (weight, pixel) in window.weights.iter().zip(source) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            sums.map(level)
        };
        windows.iter().flat_map(pixel).collect()
    };
    pixels.par_chunks_exact(width * CHANNELS).flat_map_iter(resized).collect()
}

fn vertical(pixels: &[u8], row: usize, windows: &[Window]) -> Vec<u8> {
    let resized = |window: &Window| -> Vec<u8> {
        let mut sums = vec![HALF; row];
        let source = pixels[window.first * row..].chunks_exact(row);
        for (weight, pixels) in window.weights.iter().zip(source) {
            for (sum, value) in sums.iter_mut().zip(pixels) {
                *sum += i32::from(*value) * weight;
            }
        }
        sums.into_iter().map(level).collect()
    };
    windows.par_iter().flat_map_iter(resized).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_image_stays_even() {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            let pixels = [7, 130, 255].repeat(13 * 9);
            let resized = resize_rgb(&pixels, (13, 9), (5, 31), filter).unwrap();
            assert_eq!(resized, [7, 130, 255].repeat(5 * 31));
        }
    }

    #[test]
    fn an_image_of_the_size_asked_for_is_a_copy() {
        let pixels: Vec<u8> = (0..60).map(|i| i * 4).collect();
        assert_eq!(resize_gray(&pixels, (10, 6), (10, 6), Filter::Lanczos).unwrap(), pixels);
    }

    #[test]
    fn sizes_and_bytes_that_do_not_fit_are_errors() {
        let none = ResizeError::Size { width: 0, height: 4 };
        assert_eq!(resize_gray(&[0; 16], (4, 4), (0, 4), Filter::Bicubic), Err(none));
        let size = ResizeError::Size { width: 1, height: usize::MAX };
        assert_eq!(resize_gray(&[0], (1, usize::MAX), (1, 1), Filter::Bicubic), Err(size));
        let bytes = ResizeError::Bytes { width: 4, height: 4, expected: 48, found: 16 };
        assert_eq!(resize_rgb(&[0; 16], (4, 4), (2, 2), Filter::Bicubic), Err(bytes));
    }
}
