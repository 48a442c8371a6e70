//! A picture as a row of patches, and where each stands in it.

use candle_core::{Device, Result, Tensor};

use super::VisionError;
use super::preprocess::Pixels;
use super::weights::Weights;
use crate::nn::{Linear, Strengths};

/// Squares of a picture, each through one linear layer (Dosovitskiy et al., 2021): a convolution whose
/// stride is its kernel.
#[derive(Debug)]
pub(super) struct Patches {
    layer: Linear,
    side: usize,
    width: usize,
    device: Device,
}

impl Patches {
    /// Loads the convolution called `path`.
    pub fn load(
        weights: &Weights,
        path: &str,
        bias: bool,
    ) -> std::result::Result<Self, VisionError> {
        let (layer, (width, side)) = weights.patches(path, bias)?;
        Ok(Self { layer, side, width, device: weights.device().clone() })
    }

    /// Width of a patch's embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels of a patch's side.
    pub fn side(&self) -> usize {
        self.side
    }

    /// (1, down·across, width), row by row; what remains at the right and below is left out. There
    /// has to be a whole patch.
    pub fn forward(&self, pixels: &Pixels) -> Result<Tensor> {
        let side = self.side;
        let (down, across) = (pixels.height / side, pixels.width / side);
        let x = Tensor::from_slice(&pixels.values, (3, pixels.height, pixels.width), &self.device)?;
        let x = x.narrow(1, 0, down * side)?.narrow(2, 0, across * side)?;
        let x = x.reshape((3, down, side, across, side))?.permute((1, 3, 0, 2, 4))?;
        let x = x.reshape((1, down * across, 3 * side * side))?;
        self.layer.forward(&x, &Strengths::none(1))
    }
}

/// How a table of places is brought to another grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bicubic {
    /// torch's `interpolate(mode="bicubic")`: four points with a = −¾, the edge repeated.
    Plain,
    /// The same with `antialias=True`: a = −½, widened where the grid shrinks.
    Antialiased,
}

/// Resamples a square grid of vectors (side·side, width) to (down·across, width).
pub(super) fn resample(
    grid: &Tensor,
    side: usize,
    (down, across): (usize, usize),
    filter: Bicubic,
) -> Result<Tensor> {
    let width = grid.dim(1)?;
    let factors = |to: usize| Tensor::from_vec(filter.factors(side, to), (to, side), grid.device());
    let rows = factors(down)?.matmul(&grid.reshape((side, side * width))?)?;
    let columns = rows.reshape((down, side, width))?.transpose(0, 1)?.contiguous()?;
    let all = factors(across)?.matmul(&columns.reshape((side, down * width))?)?;
    all.reshape((across, down, width))?.transpose(0, 1)?.reshape((down * across, width))
}

impl Bicubic {
    /// What each of `from` points gives to each of `to` points that lie evenly over the same length:
    /// (to, from).
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounds to the nearest f32; places are cut off to those of the grid"
    )]
    fn factors(self, from: usize, to: usize) -> Vec<f32> {
        let scale = from as f64 / to as f64;
        let last = from.saturating_sub(1) as f64;
        let mut factors = vec![0.0; from * to];
        for (place, row) in factors.chunks_exact_mut(from.max(1)).enumerate() {
            let centre = (place as f64 + 0.5) * scale;
            match self {
                Self::Plain => {
                    let first = (centre - 0.5).floor() - 1.0;
                    for point in (0..4).map(|n| first + f64::from(n)) {
                        let at = point.clamp(0.0, last) as usize;
                        if let Some(factor) = row.get_mut(at) {
                            *factor += cubic(point + 0.5 - centre, -0.75) as f32;
                        }
                    }
                }
                Self::Antialiased => {
                    let stretch = scale.max(1.0);
                    let reach = 2.0 * stretch;
                    let first = (centre - reach + 0.5).max(0.0) as usize;
                    let end = ((centre + reach + 0.5) as usize).min(from);
                    let weight = |at| cubic((at as f64 - centre + 0.5) / stretch, -0.5);
                    let sum: f64 = (first..end).map(weight).sum();
                    for (at, factor) in row.iter_mut().enumerate().take(end).skip(first) {
                        *factor = (weight(at) / sum) as f32;
                    }
                }
            }
        }
        factors
    }
}

/// Cubic convolution (Keys, 1981).
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_gets_one_in_all() {
        for filter in [Bicubic::Plain, Bicubic::Antialiased] {
            for (from, to) in [(37, 16), (4, 9), (5, 5), (1, 3), (3, 1)] {
                for row in filter.factors(from, to).chunks(from) {
                    let sum: f32 = row.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-6, "{filter:?} {from} {to}: {sum}");
                }
            }
        }
    }

    #[test]
    fn a_grid_of_the_same_size_stays() {
        let grid = Tensor::rand(-1.0f32, 1.0, (9, 2), &Device::Cpu).unwrap();
        for filter in [Bicubic::Plain, Bicubic::Antialiased] {
            let same = resample(&grid, 3, (3, 3), filter).unwrap();
            assert_eq!(same.to_vec2::<f32>().unwrap(), grid.to_vec2::<f32>().unwrap());
        }
    }
}
