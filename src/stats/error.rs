/// What can be wrong with a comparison.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum StatsError {
    /// The two systems were not measured on the same segments.
    #[error(
        "the base has {base} segments and the system {system}\n\
         hint: a paired test needs both outputs for the same segments, in the same order"
    )]
    Unpaired {
        /// Segments of the base.
        base: usize,
        /// Segments of the system.
        system: usize,
    },
    /// The two systems were not measured by the same metric.
    #[error(
        "the base has {base} statistics a segment and the system {system}\n\
         hint: score both with the same metric and the same options"
    )]
    Unlike {
        /// Statistics a segment of the base.
        base: usize,
        /// Statistics a segment of the system.
        system: usize,
    },
    /// Nothing to draw from.
    #[error("no segments to compare\nhint: give at least one segment; a test needs many more")]
    NoSegments,
    /// No trials.
    #[error(
        "expected at least one trial, found `0`\nhint: 1000 is usual for the bootstrap, 10000 for randomization"
    )]
    NoTrials,
    /// Resamples of another number of clusters.
    #[error(
        "expected resamples of {clusters} clusters, found some of {resampled}\n\
         hint: make the resampling for the clusters that are compared"
    )]
    Resampled {
        /// Clusters that are compared.
        clusters: usize,
        /// Clusters that were resampled.
        resampled: usize,
    },
    /// No score to judge.
    #[error(
        "expected a finite score {of}, found `{value}`\n\
         hint: leave out prompts that the metric has no score of, or judge by another metric"
    )]
    NotFinite {
        /// Of what.
        of: &'static str,
        /// What was found.
        value: f64,
    },
}
