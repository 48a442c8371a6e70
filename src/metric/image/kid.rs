//! KID, the kernel inception distance: are two sets of images of one distribution?
//!
//! Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs" (2018): the unbiased estimate of
//! the squared maximum mean discrepancy with the kernel (x·y/d + 1)³ of features of d numbers.
//! Unlike FID's its expectation does not depend on the number of images, so sets of tens can be
//! compared. It is negative where two sets are as alike as their own images.

use rayon::prelude::*;

use super::VERSION;
use super::error::ImageError;
use super::kernel::Kernels;
use crate::metric::score::{Direction, Part, Score, parts};
use crate::stats::{Pcg64, SEED, percentile_interval};

/// Features of a set of images: (images, width) numbers, row after row.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    width: usize,
    values: &'a [f64],
}

impl<'a> Features<'a> {
    /// Whole rows of finite numbers.
    pub fn new(width: usize, values: &'a [f64]) -> Result<Self, ImageError> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(ImageError::Ragged { width, found: values.len() });
        }
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let found = values[place].to_string();
            return Err(ImageError::NotFinite { row: place / width, found });
        }
        Ok(Self { width, values })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Features an image.
    pub fn width(&self) -> usize {
        self.width
    }

    /// An image's features.
    pub(super) fn row(&self, image: usize) -> &'a [f64] {
        &self.values[image * self.width..(image + 1) * self.width]
    }
}

/// KID and its options.
///
/// Sets of up to `subset` images are compared whole; the interval is the middle 95 % of `trials`
/// bootstrap estimates, each from images drawn with replacement out of either set. A pair of draws
/// of one and the same image is left out as the estimate leaves out an image against itself, so
/// resampling adds no bias. Larger sets are compared as clean-fid does: the mean over `subsets`
/// draws of `subset` images without replacement; the interval is the middle 95 % of these, which is
/// that of a set of `subset` images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kid {
    /// Bootstrap resamples.
    pub trials: usize,
    /// The most images that are compared at once.
    pub subset: usize,
    /// Number of subsets of a larger set.
    pub subsets: usize,
    /// The seed of all draws.
    pub seed: u64,
}

impl Default for Kid {
    fn default() -> Self {
        Self { trials: 1000, subset: 1000, subsets: 100, seed: SEED }
    }
}

impl Kid {
    /// The distance of two sets, with its interval as the parts `low` and `high`.
    pub fn distance(self, first: Features<'_>, second: Features<'_>) -> Result<Score, ImageError> {
        self.check(first, second)?;
        let whole = first.len().max(second.len()) <= self.subset;
        let kernels = whole.then(|| Kernels::new(&all(first), &all(second)));
        let (name, usual, estimates, draws) = if let Some(kernels) = &kernels {
            let draws = format!("ci:bootstrap95|trials:{}", self.trials);
            ("trials", 1000, self.bootstrap(kernels), draws)
        } else {
            let draws = format!("ci:subsets95|subsets:{}x{}", self.subsets, self.subset);
            ("subsets", 100, self.of_subsets(first, second), draws)
        };
        let none = ImageError::Option { name, least: 1, usual, found: 0 };
        let interval = percentile_interval(&estimates).ok_or(none)?;
        Ok(Score {
            metric: "KID".to_owned(),
            value: kernels.map_or(interval.mean, |kernels| kernels.discrepancy()),
            direction: Direction::LowerIsBetter,
            unit: "mmd²",
            signature: format!(
                "kernel:cubic|estimate:unbiased|{draws}|seed:{}|version:{VERSION}",
                self.seed
            ),
            parts: parts([
                ("low", Part::Number(interval.low)),
                ("high", Part::Number(interval.high)),
                ("images", Part::Numbers(vec![first.len() as f64, second.len() as f64])),
                ("width", Part::Number(first.width() as f64)),
            ]),
        })
    }

    fn check(self, first: Features<'_>, second: Features<'_>) -> Result<(), ImageError> {
        if first.width() != second.width() {
            return Err(ImageError::Widths { first: first.width(), second: second.width() });
        }
        if first.len().min(second.len()) < 2 {
            return Err(ImageError::FewImages { first: first.len(), second: second.len() });
        }
        if self.subset < 2 {
            let (name, least, usual) = ("subset", 2, 1000);
            return Err(ImageError::Option { name, least, usual, found: self.subset });
        }
        Ok(())
    }

    /// Estimates from resampled sets. Draws are made in order, estimates on all threads.
    fn bootstrap(self, kernels: &Kernels) -> Vec<f64> {
        const BATCH: usize = 256;
        let (first, second) = kernels.sizes();
        let mut generator = Pcg64::seeded(self.seed);
        let mut estimates = Vec::with_capacity(self.trials);
        while estimates.len() < self.trials {
            let draws: Vec<[Vec<f64>; 2]> = (0..BATCH.min(self.trials - estimates.len()))
                .map(|_| [first, second].map(|images| times_drawn(&mut generator, images)))
                .collect();
            estimates.par_extend(draws.par_iter().map(|[x, y]| kernels.resampled(x, y)));
        }
        estimates
    }

    /// Estimates from subsets of both sets, of equal size.
    fn of_subsets(self, first: Features<'_>, second: Features<'_>) -> Vec<f64> {
        let size = self.subset.min(first.len()).min(second.len());
        let mut generator = Pcg64::seeded(self.seed);
        let mut estimate = |_| {
            let [x, y] = [first, second].map(|set| {
                let chosen = without_replacement(&mut generator, set.len(), size);
                chosen.into_iter().map(|image| set.row(image)).collect::<Vec<_>>()
            });
            Kernels::new(&x, &y).discrepancy()
        };
        (0..self.subsets).map(&mut estimate).collect()
    }
}

fn all(set: Features<'_>) -> Vec<&[f64]> {
    (0..set.len()).map(|image| set.row(image)).collect()
}

/// How often each image is drawn, in as many draws as there are images. Draws of one image only,
/// which leave no pair to compare, are made again.
fn times_drawn(generator: &mut Pcg64, images: usize) -> Vec<f64> {
    let bound = u32::try_from(images).unwrap_or(u32::MAX);
    loop {
        let mut times = vec![0.0; images];
        for _ in 0..images {
            times[generator.index(bound) as usize] += 1.0;
        }
        if times.iter().filter(|times| **times > 0.0).count() > 1 {
            return times;
        }
    }
}

/// `size` of `images` places, each at most once: a shuffle stopped early.
fn without_replacement(generator: &mut Pcg64, images: usize, size: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..images).collect();
    for place in 0..size {
        let rest = u32::try_from(images - place).unwrap_or(u32::MAX);
        places.swap(place, place + generator.index(rest) as usize);
    }
    places.truncate(size);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look drawn from a normal distribution around `mean`.
    fn set(seed: u64, images: usize, width: usize, mean: f64) -> Vec<f64> {
        let mut generator = Pcg64::seeded(seed);
        let mut uniform = || f64::from(generator.next_u32()) / f64::from(u32::MAX);
        (0..images * width).map(|_| mean + (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
    }

    fn score(kid: Kid, first: &[f64], second: &[f64], width: usize) -> Score {
        let [first, second] = [first, second].map(|values| Features::new(width, values).unwrap());
        kid.distance(first, second).unwrap()
    }

    fn number(score: &Score, part: &str) -> f64 {
        let Some(Part::Number(number)) = score.parts.get(part) else { panic!("no `{part}`") };
        *number
    }

    #[test]
    fn an_interval_holds_zero_for_one_distribution_only() {
        let base = set(1, 60, 16, 0.0);
        let same = score(Kid::default(), &base, &set(2, 80, 16, 0.0), 16);
        assert!(number(&same, "low") < 0.0 && number(&same, "high") > 0.0, "{same:?}");
        let other = score(Kid::default(), &base, &set(3, 80, 16, 0.5), 16);
        assert!(number(&other, "low") > 0.0 && other.value < number(&other, "high"), "{other:?}");
    }

    #[test]
    fn resampling_adds_no_bias() {
        let (first, second) = (set(4, 30, 8, 0.0), set(5, 30, 8, 0.3));
        let kid = Kid { trials: 4000, ..Kid::default() };
        let [x, y] = [&first, &second].map(|values| all(Features::new(8, values).unwrap()));
        let kernels = Kernels::new(&x, &y);
        let interval = percentile_interval(&kid.bootstrap(&kernels)).unwrap();
        let error = (interval.mean - kernels.discrepancy()).abs();
        assert!(error < 0.05 * interval.half_width, "{interval:?} {}", kernels.discrepancy());
    }

    #[test]
    fn a_subset_of_all_images_is_the_whole_set() {
        let (first, second) = (set(6, 25, 8, 0.0), set(7, 25, 8, 0.2));
        let [x, y] = [&first, &second].map(|values| Features::new(8, values).unwrap());
        let whole = Kernels::new(&all(x), &all(y)).discrepancy();
        let kid = Kid { subset: 25, subsets: 3, ..Kid::default() };
        for value in kid.of_subsets(x, y) {
            assert!((value - whole).abs() < 1e-12, "{value} and {whole}");
        }
    }

    #[test]
    fn large_sets_are_compared_by_subsets() {
        let (first, second) = (set(8, 300, 8, 0.0), set(9, 200, 8, 0.3));
        let whole = score(Kid::default(), &first, &second, 8);
        let kid = Kid { subset: 100, subsets: 50, ..Kid::default() };
        let parts = score(kid, &first, &second, 8);
        assert!(parts.signature.contains("subsets:50x100"), "{}", parts.signature);
        assert!(number(&parts, "low") < whole.value && whole.value < number(&parts, "high"));
    }

    #[test]
    fn a_subset_holds_an_image_once() {
        let mut chosen = without_replacement(&mut Pcg64::seeded(3), 50, 20);
        chosen.sort_unstable();
        chosen.dedup();
        assert!(chosen.len() == 20 && chosen.iter().all(|place| *place < 50));
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (first, second) = (set(10, 40, 24, 0.0), set(11, 50, 24, 0.1));
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let of = |threads| pool(threads).install(|| score(Kid::default(), &first, &second, 24));
        assert_eq!(of(1), of(3));
    }

    #[test]
    fn features_that_cannot_be_compared_are_errors() {
        assert!(matches!(Features::new(0, &[]), Err(ImageError::Ragged { .. })));
        assert!(matches!(Features::new(2, &[1.0; 3]), Err(ImageError::Ragged { .. })));
        let expected = ImageError::NotFinite { row: 1, found: "NaN".to_owned() };
        assert_eq!(Features::new(2, &[1.0, 1.0, 1.0, f64::NAN]).unwrap_err(), expected);
        let [two, one] = [2, 1].map(|images| Features::new(2, &[0.5; 4][..2 * images]).unwrap());
        let kid = Kid::default();
        assert_eq!(kid.distance(two, one), Err(ImageError::FewImages { first: 2, second: 1 }));
        let wide = Features::new(4, &[0.5; 8]).unwrap();
        assert_eq!(kid.distance(two, wide), Err(ImageError::Widths { first: 2, second: 4 }));
        let expected = ImageError::Option { name: "trials", least: 1, usual: 1000, found: 0 };
        assert_eq!(Kid { trials: 0, ..kid }.distance(two, two), Err(expected));
        let expected = ImageError::Option { name: "subset", least: 2, usual: 1000, found: 1 };
        assert_eq!(Kid { subset: 1, ..kid }.distance(two, two), Err(expected));
        let many = Features::new(1, &[0.5, 0.1, 0.2]).unwrap();
        let expected = ImageError::Option { name: "subsets", least: 1, usual: 100, found: 0 };
        assert_eq!(Kid { subset: 2, subsets: 0, ..kid }.distance(many, many), Err(expected));
    }
}
