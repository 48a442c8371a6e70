//! Decoding in overlapping tiles, so that memory does not grow with the picture.

use candle_core::{Device, Result, Tensor};

/// Side of a tile in latents. diffusers takes its model's sample size, 64 or 128.
pub const SIDE: usize = 96;
/// Latents that neighbours share; they are blended there.
const OVERLAP: usize = 24;

/// Decodes `latents` tile by tile. Where tiles overlap, the nearer to the end of one a pixel is, the
/// less that one counts (linearly).
pub fn decode(
    latents: &Tensor,
    factor: usize,
    decode: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (rows, _, height, width) = latents.dims4()?;
    let (full_height, full_width) = (height * factor, width * factor);
    let plane = full_height * full_width;
    let (mut sums, mut weights) = (vec![0.0f32; rows * 3 * plane], vec![0.0f32; plane]);
    for (top, tall) in starts(height) {
        for (left, wide) in starts(width) {
            let tile = latents.narrow(2, top, tall)?.narrow(3, left, wide)?.contiguous()?;
            let picture = decode(&tile)?;
            let channels = picture.dim(1)?;
            if channels != 3 {
                candle_core::bail!("the decoder gives {channels} channels, expected 3");
            }
            let picture = picture.flatten_all()?.to_vec1::<f32>()?;
            let (tall, wide) = (tall * factor, wide * factor);
            let (top, left) = (top * factor, left * factor);
            let down = ramps(tall, (top > 0, top + tall < full_height), OVERLAP * factor);
            let across = ramps(wide, (left > 0, left + wide < full_width), OVERLAP * factor);
            for (y, down) in down.iter().enumerate() {
                for (x, across) in across.iter().enumerate() {
                    let weight = down * across;
                    let at = (top + y) * full_width + left + x;
                    weights[at] += weight;
                    for (channel, values) in picture.chunks_exact(tall * wide).enumerate() {
                        sums[channel * plane + at] += weight * values[y * wide + x];
                    }
                }
            }
        }
    }
    for values in sums.chunks_exact_mut(plane) {
        values.iter_mut().zip(&weights).for_each(|(value, weight)| *value /= weight);
    }
    Tensor::from_vec(sums, (rows, 3, full_height, full_width), &Device::Cpu)?
        .to_device(latents.device())
}

/// Starts and lengths of the tiles along a side.
fn starts(side: usize) -> Vec<(usize, usize)> {
    if side <= SIDE {
        return vec![(0, side)];
    }
    let steps = (side - SIDE).div_ceil(SIDE - OVERLAP);
    (0..=steps).map(|i| (i * (side - SIDE) / steps, SIDE)).collect()
}

/// Weights along a side of a tile that has neighbours before and after or not.
fn ramps(length: usize, (before, after): (bool, bool), overlap: usize) -> Vec<f32> {
    let ramp = |place: usize| ((place + 1) as f32 / (overlap + 1) as f32).min(1.0);
    (0..length)
        .map(|i| {
            let rising = if before { ramp(i) } else { 1.0 };
            let falling = if after { ramp(length - 1 - i) } else { 1.0 };
            rising * falling
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_a_side_and_overlap() {
        for side in [1, SIDE, SIDE + 1, 128, 500, 1024] {
            let tiles = starts(side);
            assert_eq!((tiles[0].0, tiles.last().map(|t| t.0 + t.1)), (0, Some(side)));
            for pair in tiles.windows(2) {
                assert!(pair[1].0 + OVERLAP <= pair[0].0 + pair[0].1, "{side}");
            }
        }
    }

    #[test]
    fn what_is_local_is_decoded_as_if_whole() {
        let latents = Tensor::rand(0f32, 1f32, (1, 3, 130, 100), &Device::Cpu).unwrap();
        let twice = |x: &Tensor| crate::model::diffusion::unet::double(x, None);
        let tiled = decode(&latents, 2, twice).unwrap();
        let whole = twice(&latents).unwrap();
        let off = (whole - tiled).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f32>().unwrap() < 1e-6);
    }
}
