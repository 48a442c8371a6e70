use crate::base::terminal::printable;
use crate::prompt::PromptError;
use crate::text::TextError;

/// Why nothing could be made of a prompt for the text encoders.
#[derive(Debug, thiserror::Error)]
pub enum ConditioningError {
    /// The tokenizer refused.
    #[error(transparent)]
    Text(#[from] TextError),
    /// What a schedule leaves of the prompt cannot be read.
    #[error("step {step}, where the prompt is `{}`: {source}", printable(text))]
    Prompt {
        /// The last step at which it does, counted from 1.
        step: usize,
        /// What the prompt is there.
        text: String,
        /// What is wrong, and where in that text.
        source: PromptError,
    },
    /// A weight that single precision cannot hold.
    #[error(
        "the weight of `{}` is {weight}, expected at most {}\nhint: weights between 0 and 2 are usual",
        printable(text),
        f32::MAX
    )]
    Weight {
        /// The text that has it.
        text: String,
        /// The weight.
        weight: f64,
    },
    /// Values that are not rows of one width.
    #[error(
        "{values} values for {weights} weights, expected a multiple of their number\nhint: give the encoder's whole output for the row"
    )]
    Shape {
        /// Number of values.
        values: usize,
        /// Number of weights.
        weights: usize,
    },
    /// Emphasis that cannot restore the mean.
    #[error(
        "emphasis moves the mean of the text's embedding from {before} to {after}, expected numbers that a factor can bring together\nhint: use weights nearer to 1"
    )]
    Mean {
        /// The mean before.
        before: f32,
        /// The mean after.
        after: f32,
    },
}
