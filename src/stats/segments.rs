//! Sufficient statistics: what has to be known of each segment to score any selection of them.

/// How many bits a computation keeps. sacreBLEU resamples in single precision; to agree with its
/// p-values to the last digit, the same must be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 32 bits: every sum, product and quotient is rounded.
    Single,
    /// 64 bits.
    Double,
}

impl Width {
    /// `value` as a number of this width.
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
    pub fn round(self, value: f64) -> f64 {
        match self {
            Self::Single => f64::from(value as f32),
            Self::Double => value,
        }
    }
}

/// How summed statistics become a score.
pub trait Statistic: Sync {
    /// The score of the sums, computed at `width`.
    fn score_of(&self, sums: &[f64], width: Width) -> f64;

    /// Whether sacreBLEU's resampled scores of this metric stay in single precision.
    fn resamples_in_single(&self) -> bool {
        true
    }
}

/// Statistics of a text's segments, one row a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Segments {
    width: usize,
    values: Vec<f64>,
}

impl Segments {
    /// No segments yet, each to have `width` statistics.
    pub fn new(width: usize) -> Self {
        Self { width: width.max(1), values: Vec::new() }
    }

    /// Adds a segment. Missing statistics are 0, surplus ones are dropped.
    pub fn push(&mut self, row: &[f64]) {
        let given = row.get(..self.width).unwrap_or(row);
        self.values.extend_from_slice(given);
        self.values.resize(self.values.len() + self.width - given.len(), 0.0);
    }

    /// Number of statistics a segment.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The segments' rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.width)
    }

    /// All statistics, row after row.
    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    /// The sums over all segments.
    pub fn sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        for row in self.rows() {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
        sums
    }
}

impl FromIterator<Vec<f64>> for Segments {
    fn from_iter<I: IntoIterator<Item = Vec<f64>>>(rows: I) -> Self {
        let mut rows = rows.into_iter().peekable();
        let mut segments = Self::new(rows.peek().map_or(1, Vec::len));
        for row in rows {
            segments.push(&row);
        }
        segments
    }
}
