//! Rows as token ids.

use std::fmt::Write as _;

use super::row::Layout;

/// A row as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextExample {
    /// The line where the row begins.
    pub line: usize,
    /// Its ids.
    pub tokens: Vec<u32>,
    /// Of each id whether it is learnt, that is predicted from those before it.
    pub trained: Vec<bool>,
}

impl TextExample {
    /// How many of its tokens are learnt.
    pub fn trained_count(&self) -> usize {
        self.trained.iter().filter(|trained| **trained).count()
    }
}

/// The rows of a file as token ids.
#[derive(Debug, Clone)]
pub struct TextSet {
    /// How the file is written.
    pub layout: Layout,
    /// Examples in the order of the file.
    pub examples: Vec<TextExample>,
    /// How many examples were cut.
    pub truncated: usize,
    /// How many tokens were cut off.
    pub truncated_tokens: usize,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl TextSet {
    /// Tokens of each example.
    pub fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(|example| example.tokens.len()).collect()
    }

    /// Tokens of all examples.
    pub fn tokens(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// Tokens that are learnt.
    pub fn trained_tokens(&self) -> usize {
        self.examples.iter().map(TextExample::trained_count).sum()
    }

    /// A line on how many tokens there are, how many are learnt, and how long examples are.
    pub fn summary(&self) -> String {
        let mut lengths = self.lengths();
        lengths.sort_unstable();
        let (tokens, trained) = (self.tokens(), self.trained_tokens());
        let share = 100.0 * trained as f64 / tokens.max(1) as f64;
        let mut line = format!(
            "{} examples ({}): {tokens} tokens, {trained} of them learnt ({share:.1} %); length median {}, 90th percentile {}, longest {}",
            lengths.len(),
            self.layout,
            quantile(&lengths, 50),
            quantile(&lengths, 90),
            quantile(&lengths, 100),
        );
        if self.truncated > 0 {
            let _ = write!(line, "; {} cut ({} tokens)", self.truncated, self.truncated_tokens);
        }
        line
    }
}

/// The smallest of `sorted` that `percent` of them do not exceed; 0 of none.
fn quantile(sorted: &[usize], percent: usize) -> usize {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_is_learnt_and_what_was_cut() {
        let example = |line, length: u32, trained: usize| TextExample {
            line,
            tokens: (0..length).collect(),
            trained: (0..length as usize).map(|i| i > 0 && i <= trained).collect(),
        };
        let examples = vec![example(1, 10, 9), example(2, 30, 1), example(3, 20, 5)];
        let (truncated, truncated_tokens) = (1, 7);
        let set = TextSet {
            layout: Layout::PromptCompletion,
            examples,
            truncated,
            truncated_tokens,
            notes: Vec::new(),
        };
        assert_eq!(
            set.summary(),
            "3 examples (`prompt`+`completion`): 60 tokens, 15 of them learnt (25.0 %); length median 20, 90th percentile 30, longest 30; 1 cut (7 tokens)"
        );
    }

    #[test]
    fn quantiles_are_lengths_that_occur() {
        let lengths: Vec<usize> = (1..=10).collect();
        assert_eq!([50, 90, 95, 100].map(|p| quantile(&lengths, p)), [5, 9, 10, 10]);
        assert_eq!(quantile(&[], 50), 0);
    }
}
