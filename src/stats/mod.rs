//! Floor 1: is a difference more than chance? Paired tests on sums of per-segment statistics.
//!
//! - [`Segments`]: the sufficient statistics of a text's segments, one row a segment
//! - [`Statistic`]: how summed statistics become a score
//! - [`Test`]: paired bootstrap or paired approximate randomization, as sacreBLEU 2.6 does them
//! - [`Comparison`]: scores, p-value, intervals; equal systems are `identical`, never "significant"
//! - [`effect`]: an [`Effect`] of a candidate with one-sided bounds and p-values against margins,
//!   clustered by prompt; a [`Resampling`] is shared by all metrics and strengths
//! - [`Claim`]: what an effect is evidence for or against; [`holm`] corrects for several claims
//! - [`wins`]: how often each strength is the best under resampling
//! - [`Pcg64`]: numpy's default generator, so a seed means here what it means there
//!
//! Invariant: the same segments, seed and number of trials give the same result on any number of
//! threads.

mod bca;
mod clusters;
mod decision;
mod distribution;
mod effect;
mod error;
mod holm;
mod paired;
mod pairing;
mod pcg64;
mod resampling;
mod segments;
mod unseen;
mod wins;

pub use decision::{Claim, LEAST_CLUSTERS};
pub use distribution::student_interval;
pub use effect::{Effect, Method, effect};
pub use error::StatsError;
pub use holm::holm;
pub(crate) use paired::percentile_interval;
pub use paired::{Comparison, Interval, Kind, SEED, Test};
pub use pairing::{Change, Paired};
pub use pcg64::Pcg64;
pub use resampling::Resampling;
pub use segments::{Segments, Statistic, Width};
pub use wins::wins;

/// What `SciPy` and statsmodels say: `tests/parity/stats_effect.py`.
#[cfg(test)]
fn parity() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/stats_effect.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
