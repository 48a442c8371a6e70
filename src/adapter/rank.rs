//! How a rank is chosen from singular values, as sd-scripts' `resize_lora.py` does.

/// A rule that chooses a rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RankRule {
    /// The rank asked for.
    Fixed,
    /// Values above the largest divided by this.
    SvRatio(f64),
    /// The share of the Frobenius norm to keep.
    SvFro(f64),
    /// The share of the sum of the values to keep.
    SvCumulative(f64),
}

/// Below this largest value a module does nothing and gets rank 1 (sd-scripts' `MIN_SV`).
const NOTHING: f64 = 1e-6;

impl RankRule {
    /// Whether the sum of all singular values must be known.
    pub fn needs_sum(self) -> bool {
        matches!(self, Self::SvCumulative(_))
    }

    /// The rank for singular values `s` (descending; at least the first `most`), out of `count`
    /// values in all with the given sum and sum of squares.
    ///
    /// The dynamic rules keep one value more than they count, as sd-scripts does, so that ranks
    /// agree with it.
    pub fn choose(self, s: &[f64], most: usize, count: usize, sum: f64, squares: f64) -> usize {
        let largest = s.first().copied().unwrap_or(0.0);
        if largest <= NOTHING {
            return 1;
        }
        let first_reaching = |target: f64, terms: &dyn Fn(f64) -> f64, total: f64| {
            let mut running = 0.0;
            let reached = s.iter().position(|value| {
                running += terms(*value);
                running / total >= target
            });
            reached.unwrap_or(s.len()) + 1
        };
        let counted = match self {
            Self::Fixed => return most.clamp(1, count.max(1)),
            Self::SvRatio(ratio) => s.iter().filter(|value| **value > largest / ratio).count(),
            Self::SvFro(share) => first_reaching(share * share, &|v| v * v, squares),
            Self::SvCumulative(share) => first_reaching(share, &|v| v, sum),
        };
        let within = counted.clamp(1, count.saturating_sub(1).max(1));
        (within + 1).min(most).min(count).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected ranks from `rank_resize` of sd-scripts, run on S = [8, 4, 2, 1, 0.5, 0.25] with
    /// rank 6 (`tests/parity/rank_reference.py`).
    #[test]
    fn ranks_of_sd_scripts() {
        let s = [8.0, 4.0, 2.0, 1.0, 0.5, 0.25];
        let (sum, squares) = (s.iter().sum(), s.iter().map(|v| v * v).sum());
        let choose = |rule: RankRule| rule.choose(&s, 6, 6, sum, squares);
        assert_eq!(choose(RankRule::Fixed), 6);
        assert_eq!(choose(RankRule::SvRatio(2.0)), 2);
        assert_eq!(choose(RankRule::SvRatio(5.0)), 4);
        assert_eq!(choose(RankRule::SvRatio(1000.0)), 6);
        assert_eq!(choose(RankRule::SvFro(0.9)), 3);
        assert_eq!(choose(RankRule::SvFro(0.99)), 4);
        assert_eq!(choose(RankRule::SvCumulative(0.5)), 2);
        assert_eq!(choose(RankRule::SvCumulative(0.9)), 5);
        assert_eq!(RankRule::SvFro(0.9).choose(&[1e-9, 0.0], 2, 2, 1e-9, 1e-18), 1);
    }
}
