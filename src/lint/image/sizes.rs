//! Pictures that lose or lack pixels at the size that they are trained at.

use super::item::Item;
use crate::config::ImageDataSettings;
use crate::data::image::place;
use crate::lint::rules;
use crate::lint::{Finding, Place};

/// More than this part of a picture cropped away may be what its caption speaks of.
const CROPPED: f64 = 0.25;
/// A picture with less than this part of the bucket's pixels looks blurred when enlarged.
const FILLED: f64 = 0.9;
/// A picture with at most this part of the usual pixels stands out.
const FAR_FEWER: f64 = 0.25;

const CROP: &str = "crop it by hand to what its caption says, or turn on `data.image.buckets` with a wider range of shapes";
const ENLARGE: &str = "replace it by a larger copy, lower `data.image.resolution`, or set `data.image.no_upscale`; enlarged pictures teach their blur";
const REPLACE: &str = "replace it by a larger copy, or remove it: the adapter learns its blur";

/// A picture at its place.
struct Sized<'a> {
    item: &'a Item,
    size: (usize, usize),
    bucket: (usize, usize),
    resized: (usize, usize),
}

impl Sized<'_> {
    /// Pixels that are trained on and were not made up.
    fn real_pixels(&self) -> usize {
        area(self.size).min(area(self.bucket))
    }
}

/// Findings about sizes, at most one about the pixels and one about the shape of a picture.
pub fn sizes(items: &[Item], settings: &ImageDataSettings) -> Vec<Finding> {
    let sized: Vec<Sized> = items
        .iter()
        .filter_map(|item| {
            let size = item.look.as_ref()?.size;
            let placed = place(size, settings);
            Some(Sized { item, size, bucket: placed.bucket, resized: placed.resized })
        })
        .collect();
    let usual = median(sized.iter().map(Sized::real_pixels).collect());
    sized.iter().flat_map(|sized| [few_pixels(sized, usual), cropped(sized)]).flatten().collect()
}

fn few_pixels(sized: &Sized, usual: usize) -> Option<Finding> {
    let place = Place::file(&sized.item.picture);
    let (own, bucket) = (show(sized.size), show(sized.bucket));
    if sized.real_pixels() as f64 <= FAR_FEWER * usual as f64 {
        let side = (usual as f64).sqrt();
        let message = format!("{own} pixels, where others have those of {side:.0}x{side:.0}");
        return Some(Finding::warning(&rules::RESOLUTION_OUTLIER, place, message).advice(REPLACE));
    }
    let part = area(sized.size) as f64 / area(sized.bucket).max(1) as f64;
    let message = format!("{own} pixels, enlarged to fill {bucket}");
    (part < FILLED).then(|| Finding::warning(&rules::UPSCALED, place, message).advice(ENLARGE))
}

fn cropped(sized: &Sized) -> Option<Finding> {
    let lost = 1.0 - area(sized.bucket) as f64 / area(sized.resized).max(1) as f64;
    let (own, bucket) = (show(sized.size), show(sized.bucket));
    let message = format!("{own}, trained at {bucket}: {:.0} % is cropped away", 100.0 * lost);
    let place = Place::file(&sized.item.picture);
    (lost > CROPPED).then(|| Finding::warning(&rules::ASPECT_OUTLIER, place, message).advice(CROP))
}

fn area((width, height): (usize, usize)) -> usize {
    width.saturating_mul(height)
}

fn show((width, height): (usize, usize)) -> String {
    format!("{width}x{height}")
}

fn median(mut values: Vec<usize>) -> usize {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::{item, look, settings};
    use super::*;

    fn found(
        pictures: &[(usize, usize)],
        settings: &ImageDataSettings,
    ) -> Vec<(String, &'static str)> {
        let items: Vec<Item> = pictures
            .iter()
            .map(|size| Item { look: Some(look(*size, 5.0, 0)), ..item(&show(*size), "") })
            .collect();
        let findings = sizes(&items, settings).into_iter();
        findings.map(|f| (f.place.file.to_string_lossy().into_owned(), f.rule)).collect()
    }

    fn one(size: &str, rule: &'static str) -> Vec<(String, &'static str)> {
        vec![(size.to_owned(), rule)]
    }

    #[test]
    fn pictures_that_fill_their_bucket_are_fine() {
        assert_eq!(found(&[(512, 512), (640, 400), (700, 1000), (512, 490)], &settings()), []);
    }

    #[test]
    fn a_small_picture_is_enlarged_and_a_tiny_one_stands_out() {
        let (small, tiny) = ((400, 400), (200, 200));
        let usual = [(512, 512), (512, 512), (512, 512)];
        let with = |size| [usual.as_slice(), &[size]].concat();
        assert_eq!(found(&with(small), &settings()), one("400x400", "upscaled"));
        assert_eq!(found(&with(tiny), &settings()), one("200x200", "resolution-outlier"));
        let stay = ImageDataSettings { no_upscale: true, ..settings() };
        assert_eq!(found(&with(small), &stay), []);
        assert_eq!(found(&with((256, 256)), &stay), one("256x256", "resolution-outlier"));
    }

    #[test]
    fn a_shape_beyond_the_buckets_loses_its_ends() {
        assert_eq!(
            found(&[(512, 512), (2000, 300)], &settings()),
            one("2000x300", "aspect-outlier")
        );
        let square = ImageDataSettings { buckets: false, ..settings() };
        assert_eq!(found(&[(512, 512), (900, 600)], &square), one("900x600", "aspect-outlier"));
    }
}
