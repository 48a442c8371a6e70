use serde::{Deserialize, Serialize};

use super::Shape;

/// Colours of shapes and backgrounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "names of colours")]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    White,
    Black,
    Grey,
}

impl Colour {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Blue,
        Self::Purple,
        Self::White,
        Self::Black,
        Self::Grey,
    ];
    /// Those that shapes have.
    pub const OF_SHAPES: [Self; 6] =
        [Self::Red, Self::Orange, Self::Yellow, Self::Green, Self::Blue, Self::Purple];
    /// Those that backgrounds have.
    pub const OF_BACKGROUNDS: [Self; 6] =
        [Self::White, Self::Black, Self::Grey, Self::Green, Self::Blue, Self::Yellow];

    /// Its word in captions.
    pub fn word(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Purple => "purple",
            Self::White => "white",
            Self::Black => "black",
            Self::Grey => "grey",
        }
    }

    /// Red, green and blue, 0 to 255.
    pub fn rgb(self) -> [f32; 3] {
        match self {
            Self::Red => [222.0, 36.0, 40.0],
            Self::Orange => [255.0, 140.0, 10.0],
            Self::Yellow => [250.0, 225.0, 50.0],
            Self::Green => [40.0, 165.0, 60.0],
            Self::Blue => [40.0, 85.0, 220.0],
            Self::Purple => [150.0, 55.0, 190.0],
            Self::White => [245.0, 245.0, 245.0],
            Self::Black => [20.0, 20.0, 20.0],
            Self::Grey => [130.0, 130.0, 130.0],
        }
    }

    /// The colour nearest to an RGB value, by the sum of squared differences.
    pub fn nearest(rgb: [f32; 3]) -> Self {
        let distance = |colour: Self| -> f32 {
            colour.rgb().iter().zip(rgb).map(|(a, b)| (a - b) * (a - b)).sum()
        };
        let closer = |a: Self, b: Self| if distance(b) < distance(a) { b } else { a };
        Self::ALL.into_iter().fold(Self::Red, closer)
    }
}

/// Sizes of shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "names of sizes")]
pub enum Size {
    Small,
    Large,
}

impl Size {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// Its word in captions.
    pub fn word(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    /// Half the shape's width, in pixels.
    pub fn radius(self) -> f32 {
        match self {
            Self::Small => 13.0,
            Self::Large => 20.0,
        }
    }

    /// How far from the middle a shape of this size stands at a side, in pixels.
    fn away(self) -> f32 {
        match self {
            Self::Small => 15.0,
            Self::Large => 8.5,
        }
    }
}

/// Where the shape is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "names of places")]
pub enum Place {
    Middle,
    Left,
    Right,
    Top,
    Bottom,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Middle, Self::Left, Self::Right, Self::Top, Self::Bottom];

    /// Its words in captions.
    pub fn words(self) -> &'static str {
        match self {
            Self::Middle => "in the middle",
            Self::Left => "at the left",
            Self::Right => "at the right",
            Self::Top => "at the top",
            Self::Bottom => "at the bottom",
        }
    }

    /// Centre (x, y) of a shape of this size there, in pixels from the top left corner.
    pub fn centre(self, size: Size) -> (f32, f32) {
        let (middle, away) = (32.0, size.away());
        match self {
            Self::Middle => (middle, middle),
            Self::Left => (middle - away, middle),
            Self::Right => (middle + away, middle),
            Self::Top => (middle, middle - away),
            Self::Bottom => (middle, middle + away),
        }
    }
}

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// The shape.
    pub shape: Shape,
    /// Its colour, never that of the background.
    pub colour: Colour,
    /// Its size.
    pub size: Size,
    /// Where it is.
    pub place: Place,
    /// The background's colour.
    pub background: Colour,
}

impl Scene {
    /// Every scene, in a fixed order: ten (sizes and places) of each (shape, colour, background).
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for shape in Shape::ALL {
            for colour in Colour::OF_SHAPES {
                for background in Colour::OF_BACKGROUNDS.into_iter().filter(|b| *b != colour) {
                    for size in Size::ALL {
                        for place in Place::ALL {
                            all.push(Self { shape, colour, size, place, background });
                        }
                    }
                }
            }
        }
        all
    }

    /// Whether its (shape, colour, background) was kept from training: an eighth of them by a Latin
    /// square, four or five of each shape.
    pub fn held_out(self) -> bool {
        let shape = Shape::ALL.iter().position(|shape| *shape == self.shape);
        let colour = Colour::OF_SHAPES.iter().position(|colour| *colour == self.colour);
        let background = Colour::OF_BACKGROUNDS.iter().position(|back| *back == self.background);
        match (shape, colour, background) {
            (Some(s), Some(c), Some(b)) => (s + 5 * c + 3 * b).is_multiple_of(8),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_scene_is_there_once_and_no_shape_has_its_background_s_colour() {
        let all = Scene::all();
        assert_eq!(all.len(), 6 * (6 * 6 - 3) * 10);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|scene| scene.colour != scene.background));
    }

    #[test]
    fn about_an_eighth_is_held_out_of_every_shape_colour_and_background() {
        let all = Scene::all();
        for ten in all.chunks(10) {
            assert!(ten.iter().all(|scene| scene.held_out() == ten[0].held_out()));
        }
        let held_out = || all.iter().filter(|scene| scene.held_out());
        assert_eq!(held_out().count(), 260);
        for shape in Shape::ALL {
            assert!((40..=50).contains(&held_out().filter(|s| s.shape == shape).count()));
        }
        for colour in Colour::OF_SHAPES {
            assert!((40..=50).contains(&held_out().filter(|s| s.colour == colour).count()));
        }
        for background in Colour::OF_BACKGROUNDS {
            assert!((30..=50).contains(&held_out().filter(|s| s.background == background).count()));
        }
    }

    #[test]
    fn every_colour_of_shapes_and_every_background_is_trained_with_every_shape() {
        for shape in Shape::ALL {
            let seen: Vec<Scene> =
                Scene::all().into_iter().filter(|s| s.shape == shape && !s.held_out()).collect();
            let colours: BTreeSet<Colour> = seen.iter().map(|s| s.colour).collect();
            let backgrounds: BTreeSet<Colour> = seen.iter().map(|s| s.background).collect();
            assert_eq!((colours.len(), backgrounds.len()), (6, 6), "{shape:?}");
        }
    }

    #[test]
    fn a_colour_is_the_nearest_to_itself() {
        for colour in Colour::ALL {
            assert_eq!(Colour::nearest(colour.rgb()), colour);
        }
    }
}
