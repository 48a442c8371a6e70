//! The sliding Gaussian window of SSIM.
//!
//! Variances are differences of large numbers, so all is done in f64. The window is separable and
//! symmetric; products are rounded before they are added (no fused operations), so that every
//! processor gives the same bits.
#![expect(
    clippy::inline_always,
    reason = "only what is inlined into a dispatched function uses the processor's wide registers"
)]

use pulp::Arch;
use rayon::prelude::*;

use super::pixels::Plane;

/// Pixels on each side of the window's centre.
pub(super) const RADIUS: usize = 5;
/// The window's side.
pub(super) const TAPS: usize = 2 * RADIUS + 1;
/// Standard deviation of the Gaussian.
const SIGMA: f64 = 1.5;
/// (0.01 · 255)², which steadies luminance.
const C1: f64 = 6.5025;
/// (0.03 · 255)², which steadies contrast and structure.
const C2: f64 = 58.5225;
/// Windowed means that a pixel needs: x, y, x² + y², x·y.
const MAPS: usize = 4;
/// Rows of results that one task makes; the ten rows above them are filtered twice.
const BAND: usize = 64;

/// Which factors of SSIM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Term {
    /// Luminance × contrast × structure.
    Whole,
    /// Contrast × structure.
    Contrast,
}

/// Each channel's mean of a term over the pixels whose window lies inside the image. Sides are at
/// least [`TAPS`].
pub(super) fn means(term: Term, first: &[Plane; 3], second: &[Plane; 3]) -> [f64; 3] {
    let weights = weights();
    let arch = Arch::new();
    let (width, height) = (first[0].width - 2 * RADIUS, first[0].height - 2 * RADIUS);
    let bands = height.div_ceil(BAND);
    let sums: Vec<f64> = (0..3 * bands)
        .into_par_iter()
        .map(|task| {
            let (channel, band) = (task / bands, task % bands);
            let rows = band * BAND..height.min((band + 1) * BAND);
            let planes = [&first[channel], &second[channel]];
            arch.dispatch(|| sum_of_rows(term, planes, rows, &weights))
        })
        .collect();
    let pixels = (width * height) as f64;
    std::array::from_fn(|channel| {
        sums[channel * bands..(channel + 1) * bands].iter().sum::<f64>() / pixels
    })
}

/// Half of the window, the outermost weight first, the centre last.
fn weights() -> [f64; RADIUS + 1] {
    let bell = |distance: usize| (-0.5 / (SIGMA * SIGMA) * (distance * distance) as f64).exp();
    let sum = bell(0) + 2.0 * (1..=RADIUS).map(bell).sum::<f64>();
    std::array::from_fn(|place| bell(RADIUS - place) / sum)
}

/// The term's sum over some rows of results.
#[inline(always)]
fn sum_of_rows(
    term: Term,
    [first, second]: [&Plane; 2],
    rows: std::ops::Range<usize>,
    weights: &[f64; RADIUS + 1],
) -> f64 {
    let inner = first.width - 2 * RADIUS;
    let mut line = vec![0.0; MAPS * first.width];
    // The last eleven rows, filtered along themselves; each holds its four maps one after another.
    let mut recent: [Vec<f64>; TAPS] = std::array::from_fn(|_| vec![0.0; MAPS * inner]);
    let mut maps = vec![0.0; MAPS * inner];
    let mut values = vec![0.0; inner];
    let mut sum = 0.0;
    for row in rows.start..rows.end + 2 * RADIUS {
        products(first.row(row), second.row(row), &mut line);
        recent.rotate_left(1);
        let filtered = recent[TAPS - 1].chunks_exact_mut(inner);
        for (map, filtered) in line.chunks_exact(first.width).zip(filtered) {
            blur(std::array::from_fn(|tap| &map[tap..]), weights, filtered);
        }
        if row >= rows.start + 2 * RADIUS {
            blur(recent.each_ref().map(Vec::as_slice), weights, &mut maps);
            similarity(term, &maps, &mut values);
            sum += total(&values);
        }
    }
    sum
}

/// x, y, x² + y² and x·y of a row.
#[inline(always)]
fn products(first: &[f32], second: &[f32], line: &mut [f64]) {
    let width = first.len();
    let (means, squares) = line.split_at_mut(2 * width);
    let (x_line, y_line) = means.split_at_mut(width);
    let (square_line, product_line) = squares.split_at_mut(width);
    let pairs = first.iter().zip(second);
    let results = x_line.iter_mut().zip(y_line).zip(square_line).zip(product_line);
    for ((x, y), (((to_x, to_y), to_square), to_product)) in pairs.zip(results) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        (*to_x, *to_y, *to_square, *to_product) = (x, y, x * x + y * y, x * y);
    }
}

/// Weighted sums of eleven values each.
#[inline(always)]
fn blur(taps: [&[f64]; TAPS], weights: &[f64; RADIUS + 1], out: &mut [f64]) {
    let [a, b, c, d, e, f, g, h, i, j, k] = taps.map(|tap| &tap[..out.len()]);
    let [w0, w1, w2, w3, w4, w5] = *weights;
    for (x, out) in out.iter_mut().enumerate() {
        let outer = w0 * (a[x] + k[x]) + w1 * (b[x] + j[x]);
        let middle = w2 * (c[x] + i[x]) + w3 * (d[x] + h[x]);
        *out = (outer + middle) + (w4 * (e[x] + g[x]) + w5 * f[x]);
    }
}

/// The term at each pixel of a row.
#[inline(always)]
fn similarity(term: Term, maps: &[f64], values: &mut [f64]) {
    let width = values.len();
    let [mean_x, mean_y, squares, products] =
        std::array::from_fn(|map| &maps[map * width..(map + 1) * width]);
    for (x, value) in values.iter_mut().enumerate() {
        let both = mean_x[x] * mean_y[x];
        let each = mean_x[x] * mean_x[x] + mean_y[x] * mean_y[x];
        let covariance = 2.0 * (products[x] - both) + C2;
        let variance = (squares[x] - each) + C2;
        *value = match term {
            Term::Whole => ((2.0 * both + C1) * covariance) / ((each + C1) * variance),
            Term::Contrast => covariance / variance,
        };
    }
}

/// The sum, in eight running ones.
#[inline(always)]
fn total(values: &[f64]) -> f64 {
    let (whole, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for eight in whole {
        lanes.iter_mut().zip(eight).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_sums_to_one() {
        let [w0, w1, w2, w3, w4, w5] = weights();
        assert!((2.0 * (w0 + w1 + w2 + w3 + w4) + w5 - 1.0).abs() < 1e-15);
    }

    /// The definition, with one window of 11 × 11 weights a pixel.
    #[test]
    fn two_passes_are_the_window() {
        let level = |seed: usize| {
            let values = (0..13 * 12).map(|i| ((i * i * 7 + i * seed) % 251) as f32).collect();
            Plane { width: 13, height: 12, values }
        };
        let [first, second] = [3, 11].map(|seed| [level(seed), level(seed + 1), level(seed + 2)]);
        let half = weights();
        let weight = |at: usize| half[RADIUS - at.abs_diff(RADIUS)];
        let mut sum = 0.0;
        for (top, left) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let mut means = [0.0; 5];
            for (row, column) in (0..TAPS * TAPS).map(|at| (at / TAPS, at % TAPS)) {
                let w = weight(row) * weight(column);
                let at = (top + row) * 13 + left + column;
                let [x, y] = [&first, &second].map(|planes| f64::from(planes[0].values[at]));
                let terms = [x, y, x * x, y * y, x * y];
                means.iter_mut().zip(terms).for_each(|(mean, term)| *mean += w * term);
            }
            let [x, y, xx, yy, xy] = means;
            let contrast = (2.0 * (xy - x * y) + C2) / (xx - x * x + yy - y * y + C2);
            sum += contrast * (2.0 * x * y + C1) / (x * x + y * y + C1);
        }
        let found = means(Term::Whole, &first, &second)[0];
        assert!((found - sum / 6.0).abs() < 1e-12, "{found} and {}", sum / 6.0);
    }
}
