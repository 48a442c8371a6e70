/// What can be wrong with a metric's input.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetricError {
    /// No hypotheses.
    #[error("no segments to score\nhint: give at least one hypothesis")]
    NoSegments,
    /// No references.
    #[error(
        "no references to score against\nhint: give at least one reference for each hypothesis"
    )]
    NoReferences,
    /// A list of references of another length.
    #[error(
        "expected {expected} segments in reference {reference}, as many as hypotheses, found \
         {found}\nhint: give one reference a hypothesis, in the same order; empty ones count"
    )]
    Lengths {
        /// Which list of references, from 1.
        reference: usize,
        /// Number of hypotheses.
        expected: usize,
        /// Number of references in it.
        found: usize,
    },
    /// An order of n-grams that cannot be counted.
    #[error(
        "expected {name} of {low} to {high}, found `{found}`\nhint: the usual value is {usual}"
    )]
    Order {
        /// The option.
        name: &'static str,
        /// The least value.
        low: usize,
        /// The greatest value.
        high: usize,
        /// The usual value.
        usual: usize,
        /// The value given.
        found: usize,
    },
    /// A value of smoothing that gives no score.
    #[error(
        "expected a smoothing value of 0 or more, found `{found}`\n\
         hint: the usual value is 0.1 for `floor` and 1 for `add-k`"
    )]
    Smoothing {
        /// The value given.
        found: String,
    },
}
