//! Colour histograms: are the colours of two images the same, wherever they are?

use super::VERSION;
use super::pixels::Pixels;
use crate::metric::score::{Direction, Score, parts};

/// Bins a channel.
const BINS: usize = 8;

/// How many pixels fall into each of 8 × 8 × 8 bins of red, green and blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u32>,
}

impl Histogram {
    /// An image's histogram.
    pub fn of(image: Pixels<'_>) -> Self {
        let mut counts = vec![0_u32; BINS.pow(3)];
        let bin = |level: u8| usize::from(level) * BINS / 256;
        for (r, g, b) in image.colours() {
            let count = &mut counts[(bin(r) * BINS + bin(g)) * BINS + bin(b)];
            *count = count.saturating_add(1);
        }
        Self { counts }
    }

    /// Hellinger distance √(1 − Σ √(pᵢ·qᵢ)), `OpenCV`'s `HISTCMP_BHATTACHARYYA`: 0 for equal shares,
    /// 1 where no bin is shared. Images may differ in size.
    pub fn distance(&self, other: &Self) -> Score {
        let sum = |counts: &[u32]| counts.iter().map(|count| f64::from(*count)).sum::<f64>();
        let shared: f64 = self
            .counts
            .iter()
            .zip(&other.counts)
            .map(|(a, b)| (f64::from(*a) * f64::from(*b)).sqrt())
            .sum();
        // One root of the product of both sums: equal histograms are at distance 0 exactly.
        let coefficient = shared / (sum(&self.counts) * sum(&other.counts)).sqrt();
        Score {
            metric: "histogram".to_owned(),
            value: (1.0 - coefficient).max(0.0).sqrt(),
            direction: Direction::LowerIsBetter,
            unit: "fraction",
            signature: format!("bins:rgb-8x8x8|distance:hellinger|version:{VERSION}"),
            parts: parts([]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(colours: &[[u8; 3]]) -> Histogram {
        Histogram::of(Pixels::new(colours.len(), 1, colours.as_flattened()).unwrap())
    }

    #[test]
    fn where_colours_are_does_not_matter() {
        let first = of(&[[0, 0, 0], [255, 0, 0], [255, 0, 0]]);
        let second = of(&[[255, 0, 0], [0, 0, 0], [250, 31, 8]]);
        assert_eq!(first.distance(&second).value, 0.0);
    }

    #[test]
    fn no_shared_colour_is_the_greatest_distance() {
        assert_eq!(of(&[[0, 0, 0]]).distance(&of(&[[0, 0, 32]])).value, 1.0);
    }

    #[test]
    fn size_does_not_matter() {
        let small = of(&[[9, 9, 9], [200, 0, 0]]);
        let large = of(&[[9, 9, 9], [200, 0, 0]].repeat(3));
        assert_eq!(small.distance(&large).value, 0.0);
    }

    /// Shares (½, ½) and (¼, ¾): √(1 − √⅛ − √⅜).
    #[test]
    fn the_distance_is_hellingers() {
        let [black, white] = [[0; 3], [255; 3]];
        let found = of(&[black, white]).distance(&of(&[black, white, white, white])).value;
        let expected = (1.0 - 0.125_f64.sqrt() - 0.375_f64.sqrt()).sqrt();
        assert!((found - expected).abs() < 1e-12);
    }
}
