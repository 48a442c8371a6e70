//! Models that judge pictures: CLIP, `DINOv2` and LPIPS.
//!
//! - [`Clip`]: how well a picture fits a text, or another picture
//! - [`Dino`]: how alike two pictures are in what they show
//! - [`Lpips`]: how far apart two pictures of one size look
//! - [`cosine`], [`clip_score`]: what is made of two features
//!
//! The references are transformers 5.24, torchmetrics 1.9 and lpips 0.1.4 (`tests/vision.rs`). Pictures
//! are prepared as transformers' PIL processors prepare them, to the bit.
//!
//! Invariant: what a model says of a picture or a text does not depend on what else is asked with it.

mod clip;
mod config;
mod dino;
mod error;
mod lpips;
mod patches;
mod preprocess;
mod trunk;
mod weights;

pub use clip::Clip;
pub use dino::Dino;
pub use error::VisionError;
pub use lpips::{Lpips, Net};
pub use preprocess::{Pixels, Preprocess};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// The cosine of the angle between two vectors of one length, −1 to 1; 0 if either is all zeros.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths == 0.0 { 0.0 } else { dot(a, b) / lengths }
}

/// `100·cos` of two features of one [`Clip`].
///
/// That is the score of one pair in torchmetrics' `_clip_score_update`; its `clip_score` averages over
/// pairs and then raises a mean below 0 to 0 (Hessel et al., 2021, scale by 250 and raise each).
pub fn clip_score(a: &[f32], b: &[f32]) -> f64 {
    100.0 * cosine(a, b)
}

/// Scales a vector to length 1; one of all zeros stays.
fn to_unit(mut values: Vec<f32>) -> Vec<f32> {
    let length = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        #[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
        for x in &mut values {
            *x = (f64::from(*x) / length) as f32;
        }
    }
    values
}

/// The feature of each item, unit length: on the CPU side by side, on another device one by one, since
/// its memory is smaller and it is busy with one. `embed` gives (1, width).
fn features<T: Sync>(
    items: &[T],
    device: &Device,
    embed: impl Fn(&T) -> Result<Tensor, VisionError> + Sync,
) -> Result<Vec<Vec<f32>>, VisionError> {
    let feature = |item: &T| Ok(to_unit(embed(item)?.flatten_all()?.to_vec1()?));
    if device.is_cpu() {
        items.par_iter().map(feature).collect()
    } else {
        items.iter().map(feature).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_knows_direction_and_not_length() {
        assert_eq!(cosine(&[1.0, 2.0], &[2.0, 4.0]), 1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 3.0]), 0.0);
        assert_eq!(clip_score(&[3.0, 4.0], &[-3.0, -4.0]), -100.0);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 1.0]), 0.0);
    }

    #[test]
    fn a_unit_vector_has_length_one_and_zeros_stay() {
        assert_eq!(to_unit(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(to_unit(vec![0.0, 0.0]), [0.0, 0.0]);
    }
}
