use std::f32::consts::TAU;

use serde::{Deserialize, Serialize};

/// Shapes, upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "names of shapes")]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Heart,
    Ring,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Circle, Self::Square, Self::Triangle, Self::Star, Self::Heart, Self::Ring];

    /// Its word in captions.
    pub fn word(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Heart => "heart",
            Self::Ring => "ring",
        }
    }

    /// Signed distance of (x, y), in pixels from the shape's centre, y downwards, to its edge:
    /// negative inside. `radius` is about half its width. Corners' distances are those of the lines
    /// that meet there, so outlines have sharp corners.
    pub fn distance(self, x: f32, y: f32, radius: f32) -> f32 {
        match self {
            Self::Circle => x.hypot(y) - radius,
            Self::Square => x.abs().max(y.abs()) - 0.88 * radius,
            Self::Triangle => triangle(x, y, 1.08 * radius),
            Self::Star => star(x, y, 1.16 * radius),
            Self::Heart => heart(x, y, 1.05 * radius),
            Self::Ring => (x.hypot(y) - 0.74 * radius).abs() - 0.26 * radius,
        }
    }
}

/// Isosceles, its apex up.
fn triangle(x: f32, y: f32, radius: f32) -> f32 {
    let (base, apex) = (0.8 * radius, -0.95 * radius);
    // the right side's outward normal, from the apex to the corner (radius, base)
    let (run, rise) = (radius, base - apex);
    let side = (x.abs() * rise - (y - apex) * run) / run.hypot(rise);
    side.max(y - base)
}

/// Five points, one up; inner corners at 0.45 of the points' radius.
fn star(x: f32, y: f32, radius: f32) -> f32 {
    let half = TAU / 10.0;
    let angle = x.atan2(-y); // from the upper point
    // folded to the half point between 0 and `half`
    let folded = ((angle + half).rem_euclid(2.0 * half) - half).abs();
    let from = x.hypot(y);
    let (along, across) = (from * folded.cos(), from * folded.sin());
    let inner = 0.45 * radius;
    let (run, rise) = (inner * half.cos() - radius, inner * half.sin());
    ((along - radius) * rise - across * run) / run.hypot(rise)
}

/// Quilez's heart, <https://iquilezles.org/articles/distfunctions2d/>.
fn heart(x: f32, y: f32, radius: f32) -> f32 {
    let scale = radius / 0.6;
    let (x, y) = (x.abs() / scale, 0.53 - y / scale);
    let distance = if x + y > 1.0 {
        (x - 0.25).hypot(y - 0.75) - std::f32::consts::SQRT_2 / 4.0
    } else {
        let on = 0.5 * (x + y).max(0.0);
        let near = x.hypot(y - 1.0).min((x - on).hypot(y - on));
        if x > y { near } else { -near }
    };
    distance * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_as_wide_as_their_radius_says_and_hold_their_centre() {
        for shape in Shape::ALL {
            let inside =
                |x: f32| (-400i16..400).any(|y| shape.distance(x, f32::from(y) * 0.1, 20.0) < 0.0);
            assert!(inside(16.0) && inside(-16.0) && !inside(23.0) && !inside(-23.0), "{shape:?}");
            assert_eq!(shape.distance(0.0, 0.0, 20.0) < 0.0, shape != Shape::Ring, "{shape:?}");
        }
    }

    #[test]
    fn a_distance_changes_by_at_most_the_way_walked() {
        for shape in Shape::ALL {
            for step in 0..2000u16 {
                let (x, y) = (f32::from(step % 50) - 25.0, f32::from(step / 50) - 20.0);
                let change = shape.distance(x + 0.3, y, 15.0) - shape.distance(x, y, 15.0);
                assert!(change.abs() <= 0.3 + 1e-4, "{shape:?} at {x}, {y}: {change}");
            }
        }
    }
}
