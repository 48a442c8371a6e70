//! Perceptual hashes: 64 bits of what an image looks like, at any size.
//!
//! Two images of the same picture differ in few bits; up to ten are usual for near-duplicates, as
//! when an adapter has memorised an image of its training set. Bits are those of Python's
//! `ImageHash`, which shrinks with Pillow and transforms with `SciPy`.

use std::fmt;

use super::dct::{Dct, N};
use super::error::ImageError;
use super::pixels::Pixels;
use super::{IMAGE_HASH, VERSION};
use crate::metric::score::{Direction, Score, parts};
use crate::picture::{Filter, resize_gray};

/// Bits along each side of a hash.
const SIDE: usize = 8;

/// Which hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKind {
    /// pHash: is each of the lowest 8 × 8 frequencies of 32 × 32 pixels above their median?
    Perceptual,
    /// dHash: is each of 8 × 8 pixels brighter than the one left of it?
    Difference,
}

/// A hash. The first bit, of the top left, is the highest; it is printed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageHash(pub u64);

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl ImageHash {
    /// In how many bits two hashes of one kind differ.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }

    fn from_bits(bits: impl IntoIterator<Item = bool>) -> Self {
        Self(bits.into_iter().fold(0, |hash, bit| hash << 1 | u64::from(bit)))
    }
}

impl HashKind {
    /// The name in scores and signatures.
    fn name(self) -> &'static str {
        match self {
            Self::Perceptual => "pHash",
            Self::Difference => "dHash",
        }
    }

    /// An image's hash.
    pub fn of(self, image: Pixels<'_>) -> Result<ImageHash, ImageError> {
        let shrunk = |to| resize_gray(&image.luma(), image.size(), to, Filter::Lanczos);
        match self {
            Self::Perceptual => Ok(perceptual(&shrunk((N, N))?)),
            Self::Difference => {
                let pixels = shrunk((SIDE + 1, SIDE))?;
                let rows = pixels.chunks_exact(SIDE + 1);
                Ok(ImageHash::from_bits(
                    rows.flat_map(|row| row.windows(2).map(|pair| pair[1] > pair[0])),
                ))
            }
        }
    }

    /// In how many of 64 bits two images' hashes differ. Images may differ in size.
    pub fn distance(self, first: Pixels<'_>, second: Pixels<'_>) -> Result<Score, ImageError> {
        let bits = self.of(first)?.distance(self.of(second)?);
        Ok(Score {
            metric: self.name().to_owned(),
            value: f64::from(bits),
            direction: Direction::LowerIsBetter,
            unit: "bits",
            signature: format!(
                "hash:{}|bits:64|distance:hamming|compat:imagehash-{IMAGE_HASH}|version:{VERSION}",
                self.name()
            ),
            parts: parts([]),
        })
    }
}

/// The hash of 32 × 32 pixels.
fn perceptual(pixels: &[u8]) -> ImageHash {
    let dct = Dct::new();
    // Columns first, as ImageHash does; of their coefficients only the lowest are wanted.
    let mut rows = [[0.0; N]; SIDE];
    for column in 0..N {
        let line = std::array::from_fn(|row| f64::from(pixels[row * N + column]));
        for (row, value) in rows.iter_mut().zip(dct.transform(&line)) {
            row[column] = value;
        }
    }
    let lowest = |row: &[f64; N]| dct.transform(row).into_iter().take(SIDE);
    let frequencies: Vec<f64> = rows.iter().flat_map(lowest).collect();
    let mut sorted = frequencies.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = f64::midpoint(sorted[middle - 1], sorted[middle]);
    ImageHash::from_bits(frequencies.into_iter().map(|value| value > median))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_image_has_no_differences() {
        let pixels = Pixels::new(5, 4, &[77; 60]).unwrap();
        assert_eq!(HashKind::Difference.of(pixels).unwrap(), ImageHash(0));
        assert_eq!(HashKind::Perceptual.of(pixels).unwrap(), ImageHash(1 << 63));
    }

    #[test]
    fn an_image_that_grows_brighter_has_all_bits() {
        let rgb: Vec<u8> = (0..90).flat_map(|i| [i % 9 * 20; 3]).collect();
        let pixels = Pixels::new(9, 10, &rgb).unwrap();
        assert_eq!(HashKind::Difference.of(pixels).unwrap(), ImageHash(u64::MAX));
    }

    #[test]
    fn a_scaled_image_keeps_most_bits() {
        let at = |x: usize, y: usize| {
            let wave =
                (x as f64 / 17.0).sin() * 60.0 + (y as f64 / 23.0 + x as f64 / 90.0).cos() * 50.0;
            [128.0 + wave, 120.0 - wave, 100.0 + wave / 2.0]
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 0 to 255"
        )]
        let rgb: Vec<u8> =
            (0..256 * 256).flat_map(|i| at(i % 256, i / 256).map(|level| level as u8)).collect();
        let small =
            crate::picture::resize_rgb(&rgb, (256, 256), (100, 120), Filter::Bicubic).unwrap();
        let first = Pixels::new(256, 256, &rgb).unwrap();
        let second = Pixels::new(100, 120, &small).unwrap();
        for kind in [HashKind::Perceptual, HashKind::Difference] {
            assert!(kind.distance(first, second).unwrap().value <= 8.0);
        }
    }

    #[test]
    fn a_hash_is_printed_whole() {
        assert_eq!(ImageHash(0xff).to_string(), "00000000000000ff");
    }
}
