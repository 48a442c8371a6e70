use serde::Serialize;
use thiserror::Error;

use super::draw::BAND;
use super::{Colour, Place, SIDE, Scene, Shape, Size};
use crate::picture::Picture;

/// What a picture shows, as far as it can be made out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Seen {
    /// The colour nearest to the border's median.
    pub background: Colour,
    /// What stands on it; none where fewer than `LEAST` pixels hang together.
    pub thing: Option<Thing>,
    /// How much lighter the background's odd bands are than its even ones, 0 to 255.
    pub bands: f32,
}

/// The largest connected region that is not background.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Thing {
    /// The colour nearest to the median of its inside.
    pub colour: Colour,
    /// The shape that covers it best.
    pub shape: Shape,
    /// How well: intersection over union of the region and the shape.
    pub overlap: f32,
    /// The size nearest to the best shape's.
    pub size: Size,
    /// The place nearest to the best shape's centre.
    pub place: Place,
}

/// A picture that cannot be one of this world.
#[derive(Debug, Error)]
pub enum CheckError {
    /// Of another size.
    #[error(
        "a picture of {width}×{height} pixels, expected {SIDE}×{SIDE}\nhint: draw it at the size that `demo:image` was trained on"
    )]
    Size {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Whose pixels are not as many as its size says.
    #[error("{found} bytes of pixels, expected {expected}\nhint: give three bytes a pixel")]
    Pixels {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
}

/// Fewest pixels of a shape.
pub const LEAST: usize = 40;
/// A pixel so far from the background's colour belongs to a shape.
const APART: f32 = 60.0;
/// A shape that covers less than this of what is there is not that shape.
const OVERLAP: f32 = 0.7;
/// Rows and columns of the border.
const BORDER: usize = 3;
/// Bands that differ by this much are seen.
const BANDED: f32 = 40.0;

const WIDE: usize = SIDE as usize;

impl Seen {
    /// Whether the background has the scene's colour.
    pub fn has_background(&self, scene: Scene) -> bool {
        self.background == scene.background
    }

    /// Whether the shape has the scene's colour.
    pub fn has_colour(&self, scene: Scene) -> bool {
        self.thing.is_some_and(|thing| thing.colour == scene.colour)
    }

    /// Whether it is the scene's shape.
    pub fn has_shape(&self, scene: Scene) -> bool {
        self.thing.is_some_and(|thing| thing.shape == scene.shape && thing.overlap >= OVERLAP)
    }

    /// Whether it has the scene's size.
    pub fn has_size(&self, scene: Scene) -> bool {
        self.thing.is_some_and(|thing| thing.size == scene.size)
    }

    /// Whether it is where the scene has it.
    pub fn has_place(&self, scene: Scene) -> bool {
        self.thing.is_some_and(|thing| thing.place == scene.place)
    }

    /// Whether the background has the bands of [`super::Look::Striped`].
    pub fn is_striped(&self) -> bool {
        self.bands >= BANDED
    }
}

/// Looks at a picture.
pub fn check(picture: &Picture) -> Result<Seen, CheckError> {
    let &Picture { width, height, ref rgb } = picture;
    if (width, height) != (SIDE, SIDE) {
        return Err(CheckError::Size { width, height });
    }
    let (pixels, rest) = rgb.as_chunks::<3>();
    if pixels.len() != WIDE * WIDE || !rest.is_empty() {
        return Err(CheckError::Pixels { found: rgb.len(), expected: 3 * WIDE * WIDE });
    }
    let pixels: Vec<[f32; 3]> = pixels.iter().map(|pixel| pixel.map(f32::from)).collect();
    let border = |at: usize| {
        [at / WIDE, at % WIDE].iter().any(|side| *side < BORDER || *side >= WIDE - BORDER)
    };
    let edge: Vec<[f32; 3]> =
        (0..pixels.len()).filter(|at| border(*at)).map(|at| pixels[at]).collect();
    let behind = median(&edge);
    let apart: Vec<bool> = pixels.iter().map(|pixel| distance(*pixel, behind) > APART).collect();
    let region = largest(&apart);
    let thing =
        (region.iter().filter(|there| **there).count() >= LEAST).then(|| look(&pixels, &region));
    Ok(Seen { background: Colour::nearest(behind), thing, bands: bands(&pixels) })
}

fn look(pixels: &[[f32; 3]], region: &[bool]) -> Thing {
    let at = |x: usize, y: usize| region[y * WIDE + x];
    let inside = |index: usize| {
        let (x, y) = (index % WIDE, index / WIDE);
        let (left, right) = (x.saturating_sub(1), (x + 1).min(WIDE - 1));
        let (above, below) = (y.saturating_sub(1), (y + 1).min(WIDE - 1));
        at(x, y) && at(left, y) && at(right, y) && at(x, above) && at(x, below)
    };
    let part = |within: &dyn Fn(usize) -> bool| -> Vec<[f32; 3]> {
        (0..pixels.len()).filter(|index| within(*index)).map(|index| pixels[index]).collect()
    };
    let mut core = part(&inside);
    if core.len() < LEAST / 4 {
        core = part(&|index| region[index]);
    }
    let found = best_fit(region);
    let sizes = Size::ALL.into_iter();
    let size = nearest(sizes, |size| (size.radius() - found.radius).abs()).unwrap_or(Size::Small);
    let away = |place: Place| {
        let (x, y) = place.centre(size);
        (x - found.x).hypot(y - found.y)
    };
    Thing {
        colour: Colour::nearest(median(&core)),
        shape: found.shape,
        overlap: found.overlap,
        size,
        place: nearest(Place::ALL.into_iter(), away).unwrap_or(Place::Middle),
    }
}

/// A shape laid over a region.
struct Fit {
    shape: Shape,
    x: f32,
    y: f32,
    radius: f32,
    overlap: f32,
}

/// The best of all shapes laid over a region, with centres and radii about those of its box.
fn best_fit(region: &[bool]) -> Fit {
    let there: Vec<(usize, usize)> = (0..region.len())
        .filter(|index| region[*index])
        .map(|index| (index % WIDE, index / WIDE))
        .collect();
    let span = |side: fn(&(usize, usize)) -> usize| {
        let low = there.iter().map(side).min().unwrap_or(0);
        let high = there.iter().map(side).max().unwrap_or(0) + 1;
        ((low + high) as f32 / 2.0, (high - low) as f32 / 2.0)
    };
    let ((x, half_width), (y, half_height)) = (span(|at| at.0), span(|at| at.1));
    let half = half_width.max(half_height);
    let mut best = Fit { shape: Shape::Circle, x, y, radius: half, overlap: 0.0 };
    for shape in Shape::ALL {
        for scale in [0.88, 0.94, 1.0, 1.07, 1.14] {
            for down in [-0.2, -0.1, 0.0, 0.1, 0.2f32] {
                for right in [-0.06, 0.0, 0.06f32] {
                    let (x, y, radius) = (x + right * half, y + down * half, half * scale);
                    let overlap = overlap(region, there.len(), |px, py| {
                        shape.distance(px - x, py - y, radius) < 0.0
                    });
                    if overlap > best.overlap {
                        best = Fit { shape, x, y, radius, overlap };
                    }
                }
            }
        }
    }
    best
}

/// Intersection over union of a region of `count` pixels and what is `covered`.
fn overlap(region: &[bool], count: usize, covered: impl Fn(f32, f32) -> bool) -> f32 {
    let (mut both, mut other) = (0usize, 0usize);
    for (index, there) in region.iter().enumerate() {
        let (x, y) = ((index % WIDE) as f32 + 0.5, (index / WIDE) as f32 + 0.5);
        if covered(x, y) {
            both += usize::from(*there);
            other += usize::from(!*there);
        }
    }
    both as f32 / (count + other) as f32
}

/// The largest set of marked pixels that hang together by their sides.
fn largest(marked: &[bool]) -> Vec<bool> {
    let mut left = marked.to_vec();
    let mut best = Vec::new();
    for start in 0..left.len() {
        let mut region = Vec::new();
        let mut open = vec![start];
        while let Some(index) = open.pop() {
            if !std::mem::take(&mut left[index]) {
                continue;
            }
            region.push(index);
            let (x, y) = (index % WIDE, index / WIDE);
            let beside = [
                (x > 0).then(|| index - 1),
                (x + 1 < WIDE).then_some(index + 1),
                (y > 0).then(|| index - WIDE),
                (y + 1 < WIDE).then_some(index + WIDE),
            ];
            open.extend(beside.into_iter().flatten());
        }
        if region.len() > best.len() {
            best = region;
        }
    }
    let mut region = vec![false; marked.len()];
    for index in best {
        region[index] = true;
    }
    region
}

/// Difference in lightness of odd and even bands, down the outermost columns.
fn bands(pixels: &[[f32; 3]]) -> f32 {
    let lightness = |odd: bool| {
        let in_band = |index: usize| {
            let (x, y) = (index % WIDE, index / WIDE);
            let odd_band = !(y / BAND as usize).is_multiple_of(2);
            odd_band == odd && !(BORDER..WIDE - BORDER).contains(&x)
        };
        let of: Vec<f32> = (0..pixels.len())
            .filter(|index| in_band(*index))
            .map(|index| pixels[index].iter().sum::<f32>() / 3.0)
            .collect();
        of.iter().sum::<f32>() / of.len() as f32
    };
    lightness(false) - lightness(true)
}

fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

/// The median of each channel.
fn median(pixels: &[[f32; 3]]) -> [f32; 3] {
    [0, 1, 2].map(|channel| {
        let mut values: Vec<f32> = pixels.iter().map(|pixel| pixel[channel]).collect();
        values.sort_by(f32::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    })
}

fn nearest<T: Copy>(all: impl Iterator<Item = T>, away: impl Fn(T) -> f32) -> Option<T> {
    all.min_by(|a, b| away(*a).total_cmp(&away(*b)))
}

#[cfg(test)]
mod tests {
    use super::super::draw::paint;
    use super::super::{Look, draw};
    use super::*;
    use crate::base::random::Random;

    fn drawn(scene: Scene, look: Look, seed: u64) -> Picture {
        draw(scene, look, &mut Random::new(seed, "check").at(0, 0, 0))
    }

    /// One scene in so many, of every shape and colour.
    fn some() -> impl Iterator<Item = Scene> {
        Scene::all().into_iter().step_by(41)
    }

    #[test]
    fn a_drawn_scene_is_seen_as_it_is() {
        for (seed, scene) in (0..).zip(some()) {
            let seen = check(&drawn(scene, Look::Plain, seed)).unwrap();
            assert!(
                seen.has_background(scene)
                    && seen.has_colour(scene)
                    && seen.has_shape(scene)
                    && seen.has_size(scene)
                    && seen.has_place(scene)
                    && !seen.is_striped(),
                "{scene:?}: {seen:?}"
            );
        }
    }

    #[test]
    fn a_picture_has_no_other_shape_and_no_other_colour() {
        for (seed, scene) in (0..).zip(some()) {
            let seen = check(&drawn(scene, Look::Plain, seed)).unwrap();
            for shape in Shape::ALL.into_iter().filter(|shape| *shape != scene.shape) {
                assert!(!seen.has_shape(Scene { shape, ..scene }));
            }
            for colour in Colour::ALL.into_iter().filter(|colour| *colour != scene.colour) {
                assert!(!seen.has_colour(Scene { colour, ..scene }));
            }
        }
    }

    #[test]
    fn the_striped_style_is_seen_on_every_background() {
        for scene in some() {
            assert!(check(&drawn(scene, Look::Striped, 1)).unwrap().is_striped(), "{scene:?}");
        }
    }

    #[test]
    fn an_empty_picture_shows_a_background_and_nothing_on_it() {
        let seen = check(&paint(|_, _| Colour::Blue.rgb())).unwrap();
        assert_eq!((seen.background, seen.thing), (Colour::Blue, None));
    }

    #[test]
    fn only_the_largest_region_counts() {
        let scene = some().nth(3).unwrap();
        let mut picture = drawn(scene, Look::Plain, 1);
        // a spot of the inverse of the background's colour in a corner
        for index in [5 * WIDE + 5, 5 * WIDE + 6, 6 * WIDE + 5, 6 * WIDE + 6] {
            for channel in 3 * index..3 * index + 3 {
                picture.rgb[channel] = 255 - picture.rgb[channel];
            }
        }
        let seen = check(&picture).unwrap();
        assert!(seen.has_shape(scene) && seen.has_colour(scene));
    }

    #[test]
    fn pictures_of_other_sizes_are_refused() {
        let wide = Picture { width: 128, height: 64, rgb: vec![0; 3 * 128 * 64] };
        assert!(check(&wide).unwrap_err().to_string().contains("128×64"));
        let short = Picture { width: SIDE, height: SIDE, rgb: vec![0; 100] };
        assert!(check(&short).unwrap_err().to_string().contains("100 bytes"));
    }
}
