//! What image metrics are given.

use super::error::ImageError;
use crate::picture::Picture;

/// An image: (height, width, 3) values of 8 bits, red, green, blue, row after row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pixels<'a> {
    width: usize,
    height: usize,
    rgb: &'a [u8],
}

/// One channel of an image. Means of 2 × 2 pixels over up to eight scales are exact in f32.
#[derive(Debug, Clone)]
pub(super) struct Plane {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

impl<'a> Pixels<'a> {
    /// An image of at least one pixel.
    pub fn new(width: usize, height: usize, rgb: &'a [u8]) -> Result<Self, ImageError> {
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if rgb.is_empty() || bytes != Some(rgb.len()) {
            return Err(ImageError::Bytes { width, height, found: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    /// A picture's pixels.
    pub fn of(picture: &'a Picture) -> Result<Self, ImageError> {
        Self::new(picture.width as usize, picture.height as usize, &picture.rgb)
    }

    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The values.
    pub fn rgb(&self) -> &'a [u8] {
        self.rgb
    }

    /// (height, width) values of ITU-R 601-2 luma, as Pillow's `convert("L")` rounds them.
    #[expect(clippy::cast_possible_truncation, reason = "the weights sum to 2¹⁶")]
    pub fn luma(&self) -> Vec<u8> {
        let luma = |(r, g, b): (u8, u8, u8)| {
            let sum = u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7471;
            ((sum + 0x8000) >> 16) as u8
        };
        self.colours().map(luma).collect()
    }

    /// The pixels, in order.
    pub(super) fn colours(&self) -> impl Iterator<Item = (u8, u8, u8)> + use<'a> {
        let (pixels, _) = self.rgb.as_chunks::<3>();
        pixels.iter().map(|&[r, g, b]| (r, g, b))
    }

    /// Red, green and blue by themselves.
    pub(super) fn planes(&self) -> [Plane; 3] {
        let (pixels, _) = self.rgb.as_chunks::<3>();
        std::array::from_fn(|channel| Plane {
            width: self.width,
            height: self.height,
            values: pixels.iter().map(|pixel| f32::from(pixel[channel])).collect(),
        })
    }

    /// Refuses another image of another size.
    pub(super) fn same_size(&self, other: &Self) -> Result<(), ImageError> {
        if self.size() == other.size() {
            return Ok(());
        }
        Err(ImageError::Sizes { first: self.size(), second: other.size() })
    }

    /// Refuses an image with a side shorter than `least`.
    pub(super) fn at_least(
        &self,
        metric: &'static str,
        least: usize,
        hint: &'static str,
    ) -> Result<(), ImageError> {
        let (width, height) = self.size();
        if width.min(height) >= least {
            return Ok(());
        }
        Err(ImageError::Small { metric, least, width, height, hint })
    }
}

impl Plane {
    /// The values of a row.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// Means of 2 × 2 pixels; a last odd row or column is left out, as by torch's `avg_pool2d`.
    pub(super) fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut values = Vec::with_capacity(width * height);
        for row in 0..height {
            let (above, _) = self.row(2 * row).as_chunks::<2>();
            let (below, _) = self.row(2 * row + 1).as_chunks::<2>();
            values.extend(above.iter().zip(below).map(|([a, b], [c, d])| (a + b + c + d) * 0.25));
        }
        Self { width, height, values }
    }

    /// A border of mirrored pixels on each side; the outermost row is the mirror and does not
    /// repeat. Sides must be longer than the border.
    pub(super) fn mirrored(&self, border: usize) -> Self {
        let place = |at: usize, side: usize| {
            let inner = at.abs_diff(border);
            if inner < side { inner } else { 2 * (side - 1) - inner }
        };
        let (width, height) = (self.width + 2 * border, self.height + 2 * border);
        let row = |row: usize| {
            let source = self.row(place(row, self.height));
            (0..width).map(move |column| source[place(column, self.width)])
        };
        Self { width, height, values: (0..height).flat_map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_must_fit_the_size() {
        assert!(Pixels::new(2, 2, &[0; 12]).is_ok());
        for (width, height, bytes) in [(2, 2, 11), (0, 0, 0), (0, 5, 0), (usize::MAX, 2, 3)] {
            let expected = ImageError::Bytes { width, height, found: bytes };
            assert_eq!(Pixels::new(width, height, &vec![0; bytes]), Err(expected));
        }
    }

    #[test]
    fn gray_pixels_keep_their_level() {
        let rgb: Vec<u8> = (0..=255).flat_map(|level| [level; 3]).collect();
        let luma = Pixels::new(256, 1, &rgb).unwrap().luma();
        assert_eq!(luma, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn a_mirror_does_not_repeat_the_edge() {
        let plane = Plane { width: 4, height: 3, values: (0..12_u8).map(f32::from).collect() };
        let mirrored = plane.mirrored(2);
        assert_eq!((mirrored.width, mirrored.height), (8, 7));
        assert_eq!(mirrored.row(0), [10.0, 9.0, 8.0, 9.0, 10.0, 11.0, 10.0, 9.0]);
        assert_eq!(mirrored.row(6), [2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
    }

    #[test]
    fn an_odd_row_and_column_are_left_out() {
        let plane = Plane { width: 3, height: 3, values: (0..9_u8).map(f32::from).collect() };
        assert_eq!(plane.halved().values, [2.0]);
    }
}
