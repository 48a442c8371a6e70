//! Floor 1: is a difference more than chance? Paired tests on sums of per-segment statistics.
//!
//! - [`Segments`]: the sufficient statistics of a text's segments, one row a segment
//! - [`Statistic`]: how summed statistics become a score
//! - [`Test`]: paired bootstrap or paired approximate randomization, as sacreBLEU 2.6 does them
//! - [`Comparison`]: scores, p-value, intervals; equal systems are `identical`, never "significant"
//! - [`Pcg64`]: numpy's default generator, so a seed means here what it means there
//!
//! Invariant: the same segments, seed and number of trials give the same result on any number of
//! threads.

mod error;
mod paired;
mod pcg64;
mod segments;

pub use error::StatsError;
pub(crate) use paired::percentile_interval;
pub use paired::{Comparison, Interval, Kind, SEED, Test};
pub use pcg64::Pcg64;
pub use segments::{Segments, Statistic, Width};
