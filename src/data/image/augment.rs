//! What is done to a picture at one visit.

use super::{Jitter, Placed};
use crate::base::random::Draws;
use crate::config::ImageDataSettings;

/// How a resized picture is cropped, mirrored and coloured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augment {
    /// Columns cropped away on the left, after mirroring.
    pub left: usize,
    /// Rows cropped away at the top.
    pub top: usize,
    /// Whether the picture is mirrored.
    pub flip: bool,
    /// Changes of colour.
    pub jitter: Option<Jitter>,
}

impl Augment {
    /// The middle of the picture as it is.
    pub fn none(placed: Placed) -> Self {
        let (right, bottom) = spare(placed);
        Self { left: right / 2, top: bottom / 2, flip: false, jitter: None }
    }

    /// Drawn as the settings say. Always takes the same seven numbers (mirror, left, top, four of
    /// colour), so that one setting does not change what another one draws.
    pub fn draw(settings: &ImageDataSettings, placed: Placed, draws: &mut Draws) -> Self {
        let (right, bottom) = spare(placed);
        let middle = Self::none(placed);
        let is_mirrored = draws.uniform() < 0.5;
        let (left, top) = (draws.below(right + 1), draws.below(bottom + 1));
        let jitter = Jitter::draw(draws);
        Self {
            left: if settings.random_crop { left } else { middle.left },
            top: if settings.random_crop { top } else { middle.top },
            flip: settings.flip && is_mirrored,
            jitter: settings.color_jitter.then_some(jitter),
        }
    }

    /// Whether pictures come in too many variants to keep what an encoder makes of them: mirroring
    /// alone gives two.
    pub fn is_random(settings: &ImageDataSettings) -> bool {
        settings.random_crop || settings.color_jitter
    }
}

/// Columns and rows that are cropped away.
fn spare(placed: Placed) -> (usize, usize) {
    let Placed { bucket, resized } = placed;
    (resized.0.saturating_sub(bucket.0), resized.1.saturating_sub(bucket.1))
}

#[cfg(test)]
mod tests {
    use super::super::test_settings;
    use super::*;
    use crate::base::random::Random;

    const PLACED: Placed = Placed { bucket: (64, 32), resized: (75, 37) };

    fn all(settings: &ImageDataSettings) -> Vec<Augment> {
        let random = Random::new(7, "augment");
        (0..200).map(|at| Augment::draw(settings, PLACED, &mut random.at(at, 0, 0))).collect()
    }

    #[test]
    fn nothing_asked_for_is_the_middle() {
        let middle = Augment { left: 5, top: 2, flip: false, jitter: None };
        assert_eq!(Augment::none(PLACED), middle);
        assert!(all(&test_settings().image).iter().all(|drawn| *drawn == middle));
    }

    #[test]
    fn crops_reach_both_ends_and_never_leave_the_picture() {
        let settings = ImageDataSettings { random_crop: true, ..test_settings().image };
        let drawn = all(&settings);
        let lefts = || drawn.iter().map(|augment| augment.left);
        let tops = || drawn.iter().map(|augment| augment.top);
        assert_eq!((lefts().min(), lefts().max()), (Some(0), Some(11)));
        assert_eq!((tops().min(), tops().max()), (Some(0), Some(5)));
    }

    #[test]
    fn one_setting_does_not_change_what_another_draws() {
        let flip = ImageDataSettings { flip: true, ..test_settings().image };
        let both = ImageDataSettings { random_crop: true, color_jitter: true, ..flip.clone() };
        let flips = |settings| all(settings).iter().map(|augment| augment.flip).collect::<Vec<_>>();
        assert_eq!(flips(&flip), flips(&both));
        let count = flips(&flip).iter().filter(|flip| **flip).count();
        assert!((70..130).contains(&count), "{count} of 200");
    }
}
