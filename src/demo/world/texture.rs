use super::draw::{cover, lie, mix, paint, small};
use super::{Colour, Scene};
use crate::base::random::Draws;
use crate::picture::Picture;

/// A scene in any colours, with textures on shape and background and with an outline, by chance.
/// Only the autoencoder saw these: it must be able to hold what an adapter will want to draw.
pub fn textured(scene: Scene, draws: &mut Draws) -> Picture {
    let lies = lie(scene, draws);
    let front = Texture::drawn(scene.colour, 0.7, draws);
    let back = Texture::drawn(scene.background, 0.5, draws);
    let outline = chance(0.5, draws).then(|| (1.0 + small(draws.uniform()), colour(draws)));
    paint(|x, y| {
        let distance = scene.shape.distance(x - lies.x, y - lies.y, lies.radius);
        let filled = mix(back.at(x, y), front.at(x, y), cover(distance));
        match outline {
            Some((half, ink)) => mix(filled, ink, cover(distance.abs() - half)),
            None => filled,
        }
    })
}

/// Two colours and how they take turns.
struct Texture {
    colours: [[f32; 3]; 2],
    pattern: Pattern,
    /// Pixels from one repetition to the next.
    period: f32,
    phase: f32,
    /// Cosine and sine of its direction.
    turn: (f32, f32),
}

enum Pattern {
    None,
    Bands,
    Checks,
    Dots,
    Gradient,
}

impl Texture {
    fn drawn(own: Colour, textured: f64, draws: &mut Draws) -> Self {
        let first = if chance(0.5, draws) { own.rgb() } else { colour(draws) };
        let pattern = if chance(textured, draws) {
            match draws.below(6) {
                0..=2 => Pattern::Bands,
                3 => Pattern::Checks,
                4 => Pattern::Dots,
                _ => Pattern::Gradient,
            }
        } else {
            Pattern::None
        };
        // half of them along the picture's sides
        let angle =
            if chance(0.5, draws) { draws.below(2) as f32 / 4.0 } else { small(draws.uniform()) };
        let (sine, cosine) = (std::f32::consts::TAU * angle).sin_cos();
        Self {
            colours: [first, colour(draws)],
            pattern,
            period: 8.0 + 10.0 * small(draws.uniform()),
            phase: 16.0 * small(draws.uniform()),
            turn: (cosine, sine),
        }
    }

    fn at(&self, x: f32, y: f32) -> [f32; 3] {
        let (cosine, sine) = self.turn;
        let (u, v) = (x * cosine + y * sine + self.phase, y * cosine - x * sine + self.phase);
        // distance to the nearest border of a band half a period wide
        let band =
            |w: f32| (w.rem_euclid(self.period) - self.period / 2.0).abs() - self.period / 4.0;
        let part = match self.pattern {
            Pattern::None => 0.0,
            Pattern::Bands => cover(band(u)),
            Pattern::Checks => f32::from((band(u) < 0.0) != (band(v) < 0.0)),
            Pattern::Dots => {
                let off = |w: f32| w.rem_euclid(self.period) - self.period / 2.0;
                cover(off(u).hypot(off(v)) - 0.3 * self.period)
            }
            Pattern::Gradient => ((u - self.phase) / 90.0 + 0.3).clamp(0.0, 1.0),
        };
        mix(self.colours[0], self.colours[1], part)
    }
}

fn chance(of: f64, draws: &mut Draws) -> bool {
    draws.uniform() < of
}

/// Half of the time a named colour, else any.
fn colour(draws: &mut Draws) -> [f32; 3] {
    if chance(0.5, draws) {
        Colour::ALL[draws.below(Colour::ALL.len())].rgb()
    } else {
        [0, 1, 2].map(|_| 10.0 + 240.0 * small(draws.uniform()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::random::Random;

    #[test]
    fn textured_pictures_are_as_different_as_their_numbers() {
        let scene = Scene::all()[0];
        let of = |index| textured(scene, &mut Random::new(1, "texture").at(index, 0, 0)).rgb;
        assert_eq!(of(3), of(3));
        let all: BTreeSet<Vec<u8>> = (0..50).map(of).collect();
        assert_eq!(all.len(), 50);
    }
}
