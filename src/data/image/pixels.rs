//! From a picture to what a model sees.

use super::{Augment, Placed};
use crate::data::cache::Key;
use crate::picture::{Filter, Picture, ResizeError, resize_rgb};

/// The pixels of a picture at one visit: (3, height, width) in −1…1, as torchvision's `ToTensor` and
/// `Normalize(0.5, 0.5)` give them.
///
/// Resized with Pillow's Lanczos filter, which is antialiased, for both directions; sd-scripts takes
/// `OpenCV`'s area filter to shrink and Lanczos to enlarge, diffusers' scripts Pillow's. Then mirrored,
/// cropped to the bucket and coloured. A side of more than 65,536 pixels, which only a picture of an
/// extreme aspect ratio gets, is an error.
pub fn pixels(
    picture: &Picture,
    placed: Placed,
    augment: &Augment,
) -> Result<Vec<f32>, ResizeError> {
    let from = (picture.width as usize, picture.height as usize);
    let resized = resize_rgb(&picture.rgb, from, placed.resized, Filter::Lanczos)?;
    let mut pixels = crop(&resized, placed, augment);
    if let Some(jitter) = &augment.jitter {
        jitter.apply(&mut pixels);
    }
    let plane = |channel: usize| pixels.iter().map(move |pixel| (pixel[channel] - 0.5) / 0.5);
    Ok([0, 1, 2].into_iter().flat_map(plane).collect())
}

/// The bucket's part of a resized picture, its values in 0…1.
fn crop(resized: &[u8], placed: Placed, augment: &Augment) -> Vec<[f32; 3]> {
    let Placed { bucket, resized: (width, _) } = placed;
    let (rows, _) = resized.as_chunks::<3>();
    let value = |pixel: &[u8; 3]| pixel.map(|level| f32::from(level) / 255.0);
    let mut pixels = Vec::with_capacity(bucket.0 * bucket.1);
    for row in rows.chunks_exact(width).skip(augment.top).take(bucket.1) {
        if augment.flip {
            pixels.extend(row.iter().rev().skip(augment.left).take(bucket.0).map(value));
        } else {
            pixels.extend(row.iter().skip(augment.left).take(bucket.0).map(value));
        }
    }
    pixels
}

/// What SDXL is told of a picture's size and crop, each as (height, width) or (top, left).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeIds {
    /// The size of the picture's file.
    pub original: (usize, usize),
    /// What is cropped away of the resized picture.
    pub crop: (usize, usize),
    /// The size that the model sees.
    pub target: (usize, usize),
}

impl TimeIds {
    /// The six numbers in the model's order.
    pub fn values(self) -> [f32; 6] {
        let Self { original, crop, target } = self;
        [original.0, original.1, crop.0, crop.1, target.0, target.1].map(|side| side as f32)
    }
}

/// SDXL's conditions of a picture of `size` (width, height), as the paper (Podell et al., 2023) and
/// diffusers' `train_text_to_image_lora_sdxl.py` have them: what was cropped in truth. sd-scripts gives a
/// number computed from the aspect ratios.
pub fn time_ids(size: (usize, usize), placed: Placed, augment: &Augment) -> TimeIds {
    TimeIds {
        original: (size.1, size.0),
        crop: (augment.top, augment.left),
        target: (placed.bucket.1, placed.bucket.0),
    }
}

/// The cache's key of what an encoder makes of a picture: `picture` and `encoder` are hashes of the
/// file's bytes and of the encoder's weights, `dtype` is the type it computes in.
pub fn latent_key(
    picture: &str,
    placed: Placed,
    augment: &Augment,
    encoder: &str,
    dtype: &str,
) -> Key {
    Key::new("latent", &[picture, &format!("{placed:?}"), &format!("{augment:?}"), encoder, dtype])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red counts columns, green rows.
    fn counting(width: u32, height: u32) -> Picture {
        let pixel = |at: u32| {
            let (row, column) = (at / width, at % width);
            [u8::try_from(column).unwrap(), u8::try_from(row).unwrap(), 255]
        };
        Picture { width, height, rgb: (0..width * height).flat_map(pixel).collect() }
    }

    fn levels(pixels: &[f32]) -> Vec<u8> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a level")]
        pixels.iter().map(|value| ((value * 0.5 + 0.5) * 255.0).round() as u8).collect()
    }

    const PLACED: Placed = Placed { bucket: (4, 3), resized: (8, 5) };

    #[test]
    fn a_crop_is_planes_of_rows() {
        let augment = Augment { left: 2, top: 1, flip: false, jitter: None };
        let seen = pixels(&counting(8, 5), PLACED, &augment).unwrap();
        let (red, rest) = seen.split_at(12);
        let (green, blue) = rest.split_at(12);
        assert_eq!(levels(red), [2, 3, 4, 5].repeat(3));
        assert_eq!(levels(green), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
        assert_eq!(blue, [1.0; 12]);
    }

    #[test]
    fn mirroring_comes_before_cropping() {
        let augment = Augment { left: 1, top: 0, flip: true, jitter: None };
        let seen = pixels(&counting(8, 5), PLACED, &augment).unwrap();
        assert_eq!(levels(&seen[..4]), [6, 5, 4, 3]);
    }

    #[test]
    fn the_ends_of_the_range_are_one() {
        let picture = Picture { width: 1, height: 2, rgb: vec![0, 0, 0, 255, 255, 255] };
        let placed = Placed { bucket: (1, 2), resized: (1, 2) };
        let seen = pixels(&picture, placed, &Augment::none(placed)).unwrap();
        assert_eq!(seen, [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]);
    }

    #[test]
    fn a_picture_is_resized_before_it_is_cropped() {
        let picture = Picture { width: 16, height: 10, rgb: vec![200; 480] };
        let seen = pixels(&picture, PLACED, &Augment::none(PLACED)).unwrap();
        assert_eq!(levels(&seen), [200; 36]);
        let too_wide = Placed { bucket: (4, 3), resized: (1 << 17, 3) };
        assert!(pixels(&picture, too_wide, &Augment::none(too_wide)).is_err());
    }

    #[test]
    fn time_ids_are_height_before_width() {
        let augment = Augment { left: 2, top: 1, flip: false, jitter: None };
        let ids = time_ids((16, 10), PLACED, &augment);
        assert_eq!(ids.values(), [10.0, 16.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn keys_tell_apart_all_that_changes_a_latent() {
        let plain = Augment::none(PLACED);
        let key = |picture, placed, augment: &Augment, encoder, dtype| {
            latent_key(picture, placed, augment, encoder, dtype)
        };
        let first = key("p", PLACED, &plain, "e", "f32");
        assert_eq!(first, key("p", PLACED, &plain, "e", "f32"));
        let flipped = Augment { flip: true, ..plain };
        let smaller = Placed { resized: (7, 5), ..PLACED };
        let others = [
            key("q", PLACED, &plain, "e", "f32"),
            key("p", smaller, &plain, "e", "f32"),
            key("p", PLACED, &flipped, "e", "f32"),
            key("p", PLACED, &plain, "g", "f32"),
            key("p", PLACED, &plain, "e", "f16"),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
