//! Sizes that pictures are brought to: buckets of about one area and several aspect ratios.
//!
//! The same as sd-scripts' (`make_bucket_resolutions` in `library/model_util.py`, `BucketManager` in
//! `library/train_util.py`), with two differences where it stops with an error: a smallest or largest
//! side that `resolution` lies outside of is moved to it, and a picture narrower than a step is enlarged.

use std::collections::BTreeSet;

use crate::config::ImageDataSettings;

/// The longest side, beyond any model's.
const MOST: usize = 1 << 16;

/// A picture's place: its bucket, and the size before it is cropped to that, as (width, height).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placed {
    /// The size that the model sees.
    pub bucket: (usize, usize),
    /// The size that the whole picture is resized to; no side is shorter than the bucket's.
    pub resized: (usize, usize),
}

/// All buckets as (width, height), by width and height. Not used with `no_upscale`, where buckets
/// follow from the pictures.
pub fn bucket_sizes(settings: &ImageDataSettings) -> Vec<(usize, usize)> {
    let (width, height) = settings.resolution;
    if !settings.buckets {
        return vec![settings.resolution];
    }
    let step = settings.bucket_step.clamp(1, MOST);
    let least = (settings.min_bucket.min(width).min(height) / step).max(1) * step;
    let most = settings.max_bucket.max(width).max(height).min(MOST).next_multiple_of(step);
    let area = width.saturating_mul(height);
    let square = area.isqrt() / step * step;
    let mut sizes = BTreeSet::from([(square, square)]);
    for side in (least..=most).step_by(step) {
        let other = most.min(area / side / step * step);
        if other >= least {
            sizes.extend([(side, other), (other, side)]);
        }
    }
    sizes.remove(&(0, 0));
    if sizes.is_empty() {
        sizes.insert(settings.resolution);
    }
    sizes.into_iter().collect()
}

/// The place of a picture of `size` (width, height), both at least 1.
pub fn place(size: (usize, usize), settings: &ImageDataSettings) -> Placed {
    let size = (size.0.max(1), size.1.max(1));
    if settings.buckets && settings.no_upscale {
        return only_smaller(size, settings);
    }
    let buckets = bucket_sizes(settings);
    let bucket = if buckets.contains(&size) {
        size
    } else {
        // the first of equals, as NumPy's `argmin`
        let error = |bucket: (usize, usize)| (ratio(bucket) - ratio(size)).abs();
        let nearer = |best, bucket| if error(bucket) < error(best) { bucket } else { best };
        buckets.into_iter().reduce(nearer).unwrap_or(settings.resolution)
    };
    covering(size, bucket)
}

/// Width over height.
fn ratio(size: (usize, usize)) -> f64 {
    size.0 as f64 / size.1 as f64
}

/// The smallest size of the picture's aspect ratio that covers a bucket.
fn covering(size: (usize, usize), bucket: (usize, usize)) -> Placed {
    let scale = if ratio(size) > ratio(bucket) {
        bucket.1 as f64 / size.1 as f64
    } else {
        bucket.0 as f64 / size.0 as f64
    };
    let resized = (rounded(size.0 as f64 * scale), rounded(size.1 as f64 * scale));
    Placed { bucket, resized: (resized.0.max(bucket.0), resized.1.max(bucket.1)) }
}

/// sd-scripts' `bucket_no_upscale`: a picture of a larger area is shrunk to the area of `resolution`,
/// one of its sides to a multiple of the step; then both are cropped to multiples.
fn only_smaller(size: (usize, usize), settings: &ImageDataSettings) -> Placed {
    let step = settings.bucket_step.clamp(1, MOST);
    let area = settings.resolution.0.saturating_mul(settings.resolution.1);
    let resized =
        if size.0.saturating_mul(size.1) > area { shrunk(size, area, step) } else { size };
    let bucket = (resized.0 / step * step, resized.1 / step * step);
    if bucket.0 == 0 || bucket.1 == 0 {
        return covering(size, (bucket.0.max(step), bucket.1.max(step)));
    }
    Placed { bucket, resized }
}

fn shrunk(size: (usize, usize), area: usize, step: usize) -> (usize, usize) {
    let ratio = ratio(size);
    let width = (area as f64 * ratio).sqrt();
    let height = area as f64 / width;
    let to_step = |side: f64| (rounded(side) / step * step) as f64;
    let by_width = to_step(width);
    let by_width_ratio = by_width / to_step(by_width / ratio);
    let by_height = to_step(height);
    let by_height_ratio = to_step(by_height * ratio) / by_height;
    if (by_width_ratio - ratio).abs() < (by_height_ratio - ratio).abs() {
        (rounded(by_width), rounded(by_width / ratio))
    } else {
        (rounded(by_height * ratio), rounded(by_height))
    }
}

/// Python's `int(x + 0.5)`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are not negative; the cast keeps what is too large within bounds"
)]
fn rounded(side: f64) -> usize {
    (side + 0.5) as usize
}

#[cfg(test)]
mod tests {
    use super::super::test_settings;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_of_the_pictures_own_size_is_taken_as_it_is() {
        let placed = place((448, 576), &test_settings().image);
        assert_eq!(placed, Placed { bucket: (448, 576), resized: (448, 576) });
    }

    #[test]
    fn without_buckets_all_pictures_have_one_size() {
        let settings = ImageDataSettings {
            buckets: false,
            no_upscale: true,
            resolution: (512, 256),
            ..test_settings().image
        };
        assert_eq!(bucket_sizes(&settings), [(512, 256)]);
        let placed = place((100, 100), &settings);
        assert_eq!(placed, Placed { bucket: (512, 256), resized: (512, 512) });
    }

    #[test]
    fn a_picture_narrower_than_a_step_is_enlarged_to_it() {
        let settings = ImageDataSettings { no_upscale: true, ..test_settings().image };
        let placed = place((32, 200), &settings);
        assert_eq!(placed, Placed { bucket: (64, 192), resized: (64, 400) });
    }

    #[test]
    fn limits_that_exclude_the_resolution_move_to_it() {
        let settings = ImageDataSettings { resolution: (128, 128), ..test_settings().image };
        assert!(bucket_sizes(&settings).contains(&(128, 128)));
        let settings = ImageDataSettings { resolution: (1536, 1536), ..test_settings().image };
        assert!(bucket_sizes(&settings).contains(&(1536, 1536)));
    }

    proptest! {
        #[test]
        fn whatever_the_settings_the_resized_picture_covers_its_bucket(
            size in (0_usize..20_000, 0_usize..20_000),
            resolution in (1_usize..2_000, 1_usize..2_000),
            limits in (0_usize..3_000, prop_oneof![0_usize..3_000, Just(usize::MAX)]),
            bucket_step in prop_oneof![Just(0_usize), 1_usize..200, Just(usize::MAX)],
            buckets: bool,
            no_upscale: bool,
        ) {
            let settings = ImageDataSettings {
                resolution,
                min_bucket: limits.0,
                max_bucket: limits.1,
                bucket_step,
                buckets,
                no_upscale,
                ..test_settings().image
            };
            let Placed { bucket, resized } = place(size, &settings);
            prop_assert!(bucket.0 > 0 && bucket.1 > 0);
            prop_assert!(resized.0 >= bucket.0 && resized.1 >= bucket.1);
        }
    }
}
