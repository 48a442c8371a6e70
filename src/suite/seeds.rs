//! The seeds of a suite.

use std::collections::BTreeSet;

use crate::base::terminal::printable;

/// Why seeds cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Not an integer from 0 to 2^64 - 1.
    #[error(
        "seed `{}`: expected a whole number from 0 to 18446744073709551615\nhint: a random seed cannot be repeated; choose one, as in `1,2,3`",
        printable(.0)
    )]
    Number(String),
    /// A seed that occurs twice.
    #[error(
        "seed `{0}` occurs twice\nhint: each seed gives one generation a prompt; remove one of the two"
    )]
    Repeated(u64),
    /// None at all.
    #[error("seeds: the list is empty\nhint: write `1,2,3`, or leave it out")]
    Empty,
}

/// Reads `1,2,3`.
pub fn parse_seeds(text: &str) -> Result<Vec<u64>, SeedError> {
    if text.trim().is_empty() {
        return Err(SeedError::Empty);
    }
    let mut seen = BTreeSet::new();
    text.split(',')
        .map(|part| {
            let part = part.trim();
            let seed = part.parse().map_err(|_| SeedError::Number(part.to_owned()))?;
            if seen.insert(seed) { Ok(seed) } else { Err(SeedError::Repeated(seed)) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_its_order() {
        assert_eq!(parse_seeds("2, 1,18446744073709551615").unwrap(), [2, 1, u64::MAX]);
        assert_eq!(parse_seeds("7").unwrap(), [7]);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let problem = |text| parse_seeds(text).unwrap_err().to_string();
        let texts = ["", "-1", "1,,2", "1.5", "18446744073709551616", "1,2,1", "\u{1b}[0m"];
        let all: Vec<String> = texts.iter().map(|text| problem(text)).collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
