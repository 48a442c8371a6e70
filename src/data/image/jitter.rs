//! Small changes of colour.

use crate::base::random::Draws;

/// Factors of torchvision's `ColorJitter(0.1, 0.1, 0.1, 0.02)`, in its functions' terms.
///
/// They are applied in this order, where torchvision draws the order too. sd-scripts' `color_aug` does
/// less: on a third of the pictures hue up to ±8° of 180 or gamma up to ±0.05.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter {
    /// Values are multiplied by it.
    pub brightness: f32,
    /// Distances from the picture's mean grey are.
    pub contrast: f32,
    /// Distances from each pixel's grey are.
    pub saturation: f32,
    /// Added to hue, of which 1 is a whole turn.
    pub hue: f32,
}

impl Jitter {
    /// Factors in 0.9…1.1, hue in −0.02…0.02; takes four numbers.
    pub fn draw(draws: &mut Draws) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "rounded to a pixel's precision")]
        let mut around =
            |middle: f64, most: f64| (middle + most * (2.0 * draws.uniform() - 1.0)) as f32;
        let (brightness, contrast) = (around(1.0, 0.1), around(1.0, 0.1));
        Self { brightness, contrast, saturation: around(1.0, 0.1), hue: around(0.0, 0.02) }
    }

    /// Changes pixels of red, green and blue in 0…1.
    pub fn apply(&self, pixels: &mut [[f32; 3]]) {
        for pixel in pixels.iter_mut() {
            *pixel = pixel.map(|value| (value * self.brightness).clamp(0.0, 1.0));
        }
        #[expect(clippy::cast_possible_truncation, reason = "a mean of values in 0…1")]
        let mean = (pixels.iter().map(|pixel| f64::from(grey(*pixel))).sum::<f64>()
            / pixels.len().max(1) as f64) as f32;
        for pixel in pixels.iter_mut() {
            *pixel = blend(*pixel, mean, self.contrast);
            *pixel = blend(*pixel, grey(*pixel), self.saturation);
            let [hue, saturation, value] = hsv(*pixel);
            *pixel = rgb([(hue + self.hue).rem_euclid(1.0), saturation, value]);
        }
    }
}

/// Torchvision's `rgb_to_grayscale`.
fn grey([red, green, blue]: [f32; 3]) -> f32 {
    0.2989 * red + 0.587 * green + 0.114 * blue
}

fn blend(pixel: [f32; 3], other: f32, ratio: f32) -> [f32; 3] {
    pixel.map(|value| (ratio * value + (1.0 - ratio) * other).clamp(0.0, 1.0))
}

/// Hue in 0…1, saturation and value.
fn hsv([red, green, blue]: [f32; 3]) -> [f32; 3] {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let range = most - least;
    if range == 0.0 {
        return [0.0, 0.0, most];
    }
    let [r, g, b] = [red, green, blue].map(|value| (most - value) / range);
    let hue = if most == red {
        b - g
    } else if most == green {
        2.0 + r - b
    } else {
        4.0 + g - r
    };
    [(hue / 6.0 + 1.0) % 1.0, range / most, most]
}

fn rgb([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    let sixth = (hue * 6.0).floor();
    let part = hue * 6.0 - sixth;
    let low = value * (1.0 - saturation);
    let falling = value * (1.0 - saturation * part);
    let rising = value * (1.0 - saturation * (1.0 - part));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "hue lies in 0…1, so this is 0 to 6"
    )]
    let pixel = match sixth as usize % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    };
    pixel.map(|value| value.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn factors_of_one_change_nothing_that_can_be_seen() {
        let none = Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 };
        let mut draws = Random::new(1, "pixels").at(0, 0, 0);
        let level = |draws: &mut Draws| draws.below(256) as f32 / 255.0;
        let pixels: Vec<[f32; 3]> =
            (0..500).map(|_| [0, 1, 2].map(|_| level(&mut draws))).collect();
        let mut changed = pixels.clone();
        none.apply(&mut changed);
        let far =
            |(a, b): (&[f32; 3], &[f32; 3])| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-6);
        assert!(!pixels.iter().zip(&changed).any(far));
    }

    #[test]
    fn a_third_of_a_turn_makes_red_green() {
        let third = Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 1.0 / 3.0 };
        let mut pixels = [[1.0, 0.0, 0.0]];
        third.apply(&mut pixels);
        assert!(pixels[0][1] > 0.999_999 && pixels[0][0] < 1e-6 && pixels[0][2] < 1e-6);
    }

    #[test]
    fn factors_stay_within_their_bounds() {
        let random = Random::new(3, "jitter");
        for at in 0..200 {
            let jitter = Jitter::draw(&mut random.at(at, 0, 0));
            for factor in [jitter.brightness, jitter.contrast, jitter.saturation] {
                assert!((0.9..=1.1).contains(&factor));
            }
            assert!(jitter.hue.abs() <= 0.02);
        }
    }
}
