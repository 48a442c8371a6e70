//! Curves of a training, and what can be said of them despite their noise.

use std::collections::BTreeMap;

/// One number of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// The optimizer step.
    pub step: u64,
    /// The number, finite.
    pub value: f64,
}

/// A number at some steps, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Curve {
    points: Vec<Point>,
    bad: Vec<u64>,
}

impl Curve {
    /// Takes values in any order; of two at one step the later one counts.
    pub fn new(values: impl IntoIterator<Item = (u64, f64)>) -> Self {
        let values: BTreeMap<u64, f64> = values.into_iter().collect();
        let mut curve = Self::default();
        for (step, value) in values {
            if value.is_finite() {
                curve.points.push(Point { step, value });
            } else {
                curve.bad.push(step);
            }
        }
        curve
    }

    /// The finite points.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Steps whose number is NaN or infinite.
    pub fn bad(&self) -> &[u64] {
        &self.bad
    }

    pub fn len(&self) -> usize {
        self.points.len()
    }

    pub fn last(&self) -> Option<Point> {
        self.points.last().copied()
    }

    /// The lowest point, the first of equals.
    pub fn lowest(&self) -> Option<Point> {
        self.points.iter().copied().reduce(|low, p| if p.value < low.value { p } else { low })
    }

    /// The largest value.
    pub fn peak(&self) -> Option<f64> {
        self.points.iter().map(|p| p.value).reduce(f64::max)
    }

    /// The value at a step, or the last one before it.
    pub fn at(&self, step: u64) -> Option<f64> {
        let after = self.points.partition_point(|p| p.step <= step);
        after.checked_sub(1).and_then(|at| self.points.get(at)).map(|p| p.value)
    }

    /// The part from one step to another, both included.
    pub fn between(&self, first: u64, last: u64) -> &[Point] {
        let start = self.points.partition_point(|p| p.step < first);
        let end = self.points.partition_point(|p| p.step <= last);
        self.points.get(start..end).unwrap_or_default()
    }
}

/// The median value.
pub(super) fn median(points: &[Point]) -> Option<f64> {
    let mut values: Vec<f64> = points.iter().map(|p| p.value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A stretch of a curve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Its first step.
    pub first: u64,
    /// Its last step.
    pub last: u64,
    /// Mean of its values.
    pub mean: f64,
    /// The mean's standard error; infinite for a single point.
    pub error: f64,
}

impl Window {
    /// The noise is taken from differences of neighbours (von Neumann, 1941), which a slope hardly adds to.
    pub fn of(points: &[Point]) -> Option<Self> {
        let (first, last) = (points.first()?.step, points.last()?.step);
        let n = points.len() as f64;
        let mean = points.iter().map(|p| p.value).sum::<f64>() / n;
        let squares: f64 = points.windows(2).map(|p| (p[1].value - p[0].value).powi(2)).sum();
        let error =
            if points.len() < 2 { f64::INFINITY } else { (squares / (2.0 * (n - 1.0)) / n).sqrt() };
        Some(Self { first, last, mean, error })
    }

    /// How far the mean falls to that of `later`, and the standard error of this.
    pub fn fall_to(&self, later: &Self) -> (f64, f64) {
        (self.mean - later.mean, self.error.hypot(later.error))
    }
}

/// Points cut into so many windows of as equal length as can be. None is empty where there are at
/// least so many points.
pub(super) fn windows(points: &[Point], count: usize) -> Vec<Window> {
    let count = count.min(points.len()).max(1);
    (0..count)
        .filter_map(|i| {
            let (start, end) = (points.len() * i / count, points.len() * (i + 1) / count);
            Window::of(points.get(start..end)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn later_values_of_a_step_count_and_bad_ones_are_kept_apart() {
        let curve = Curve::new([(2, 1.0), (1, 3.0), (2, 2.0), (3, f64::NAN), (4, 5.0)]);
        let points: Vec<_> = curve.points().iter().map(|p| (p.step, p.value)).collect();
        assert_eq!(points, [(1, 3.0), (2, 2.0), (4, 5.0)]);
        assert_eq!((curve.bad(), curve.lowest().unwrap().step), (&[3][..], 2));
        assert_eq!((curve.at(0), curve.at(3), curve.at(9)), (None, Some(2.0), Some(5.0)));
        assert_eq!(curve.between(2, 4).len(), 2);
        assert_eq!((median(curve.points()), curve.peak()), (Some(3.0), Some(5.0)));
    }

    /// 1,000 windows of 50 normal numbers on a slope: the error is that of the mean, 1/√50, within 2 %.
    #[test]
    fn the_error_is_that_of_noise_and_not_of_a_slope() {
        let mut draws = Random::new(1, "curve").at(0, 0, 0);
        let mean_square = (0..1000)
            .map(|_| {
                let points: Vec<Point> = (0..50)
                    .map(|step| Point { step, value: draws.normal() + 0.05 * step as f64 })
                    .collect();
                Window::of(&points).unwrap().error.powi(2)
            })
            .sum::<f64>()
            / 1000.0;
        assert!((mean_square * 50.0 - 1.0).abs() < 0.02, "{mean_square}");
    }

    #[test]
    fn windows_cover_all_points_once() {
        let points: Vec<Point> = (0..23).map(|step| Point { step, value: 0.0 }).collect();
        let windows = windows(&points, 5);
        assert_eq!(windows.len(), 5);
        assert!(windows.windows(2).all(|w| w[0].last + 1 == w[1].first));
        assert_eq!((windows[0].first, windows[4].last), (0, 22));
        assert_eq!(super::windows(&points[..3], 5).len(), 3);
        assert!(super::windows(&[], 5).is_empty());
    }
}
