//! Text that came from a file, made safe to print on a terminal.

use std::borrow::Cow;

/// Longest text shown of one untrusted value, in characters.
const LONGEST: usize = 200;

/// `text` without control characters (each becomes `�`), cut to 200 characters.
///
/// Tensor names, metadata and prompts are untrusted and could carry escape sequences.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut safe: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        safe.push('…');
    }
    Cow::Owned(safe)
}

/// A number of bytes in the unit that reads best, e.g. `2.13 GB`.
pub fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        n if n < 1e3 => format!("{n} B"),
        n if n < 1e6 => format!("{:.1} kB", n / 1e3),
        n if n < 1e9 => format!("{:.1} MB", n / 1e6),
        n => format!("{:.2} GB", n / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb"), "a\u{fffd}[31mb");
        assert_eq!(printable("plain"), "plain");
        assert_eq!(printable(&"x".repeat(300)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn units() {
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(2_132_625_432), "2.13 GB");
    }
}
