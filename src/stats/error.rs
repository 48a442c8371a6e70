/// What can be wrong with a comparison.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
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
}
