use super::{SIDE, Scene};
use crate::base::random::Draws;
use crate::picture::Picture;

/// How a scene is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Flat colours.
    Plain,
    /// Horizontal bands of 8 pixels, lighter and darker by turns, and a thick dark outline.
    Striped,
}

/// Height of a band, in pixels.
pub(super) const BAND: u32 = 8;

/// Where a shape lies: centre and radius in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lies {
    pub x: f32,
    pub y: f32,
    pub radius: f32,
}

/// Draws a scene, antialiased. The shape is moved by up to 1.5 pixels and resized by up to 5 % by the
/// first three of `draws`.
pub fn draw(scene: Scene, look: Look, draws: &mut Draws) -> Picture {
    let lies = lie(scene, draws);
    let (front, back) = (scene.colour.rgb(), scene.background.rgb());
    paint(|x, y| {
        let distance = scene.shape.distance(x - lies.x, y - lies.y, lies.radius);
        let plain = mix(back, front, cover(distance));
        match look {
            Look::Plain => plain,
            Look::Striped => mix(banded(plain, y), OUTLINE, cover((distance + 0.5).abs() - 2.0)),
        }
    })
}

/// The colour of the outline.
const OUTLINE: [f32; 3] = [25.0, 20.0, 40.0];

/// The place of a scene's shape in one picture.
pub(super) fn lie(scene: Scene, draws: &mut Draws) -> Lies {
    let (x, y) = scene.place.centre(scene.size);
    let mut moved = |by: f32| by * (2.0 * small(draws.uniform()) - 1.0);
    Lies { x: x + moved(1.5), y: y + moved(1.5), radius: scene.size.radius() * (1.0 + moved(0.05)) }
}

/// A picture by the colour at each pixel's middle.
pub(super) fn paint(colour: impl Fn(f32, f32) -> [f32; 3]) -> Picture {
    let middles = || (0..SIDE).map(|at| at as f32 + 0.5);
    let pixels = middles().flat_map(|y| middles().map(move |x| (x, y)));
    let rgb = pixels.flat_map(|(x, y)| colour(x, y).map(byte)).collect();
    Picture { width: SIDE, height: SIDE, rgb }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// A number from 0 to 1 in f32.
#[expect(clippy::cast_possible_truncation, reason = "rounded")]
pub(super) fn small(uniform: f64) -> f32 {
    uniform as f32
}

/// How much of a pixel lies inside an edge at this distance of its middle.
pub(super) fn cover(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

/// `a` where `part` is 0, `b` where it is 1.
pub(super) fn mix(a: [f32; 3], b: [f32; 3], part: f32) -> [f32; 3] {
    [0, 1, 2].map(|i| a[i] + part * (b[i] - a[i]))
}

/// Lighter in the first band, darker in the second, and so on.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rows of a picture")]
fn banded(colour: [f32; 3], y: f32) -> [f32; 3] {
    let light = (y as u32 / BAND).is_multiple_of(2);
    mix(colour, if light { [255.0; 3] } else { [0.0; 3] }, 0.35)
}

#[cfg(test)]
mod tests {
    use super::super::{Colour, Place, Shape, Size};
    use super::*;
    use crate::base::random::Random;

    const SCENE: Scene = Scene {
        shape: Shape::Square,
        colour: Colour::Red,
        size: Size::Large,
        place: Place::Middle,
        background: Colour::Green,
    };

    fn pixel(picture: &Picture, x: usize, y: usize) -> [f32; 3] {
        let at = 3 * (y * SIDE as usize + x);
        [0, 1, 2].map(|i| f32::from(picture.rgb[at + i]))
    }

    fn drawn(look: Look, index: u32) -> Picture {
        draw(SCENE, look, &mut Random::new(1, "draw").at(index, 0, 0))
    }

    #[test]
    fn a_plain_picture_has_its_colours_inside_and_outside() {
        let picture = drawn(Look::Plain, 0);
        assert_eq!((picture.width, picture.height), (SIDE, SIDE));
        assert_eq!(picture.rgb.len(), 3 * 64 * 64);
        assert_eq!(pixel(&picture, 32, 32), Colour::Red.rgb());
        assert_eq!(pixel(&picture, 1, 1), Colour::Green.rgb());
    }

    #[test]
    fn pictures_of_one_scene_differ_by_their_numbers_alone() {
        assert_eq!(drawn(Look::Plain, 0), drawn(Look::Plain, 0));
        assert_ne!(drawn(Look::Plain, 0), drawn(Look::Plain, 1));
    }

    #[test]
    fn bands_are_lighter_and_darker_by_turns_and_the_edge_is_dark() {
        let picture = drawn(Look::Striped, 0);
        let light = |x: usize, y: usize| pixel(&picture, x, y).iter().sum::<f32>();
        for (x, plain) in [(1, Colour::Green), (32, Colour::Red)] {
            let plain: f32 = plain.rgb().iter().sum();
            assert!(light(x, 34) > plain + 60.0 && light(x, 28) < plain - 60.0);
        }
        let darkest = (0..SIDE as usize).map(|x| light(x, 34)).fold(f32::MAX, f32::min);
        assert_eq!(darkest, OUTLINE.iter().sum::<f32>());
    }
}
