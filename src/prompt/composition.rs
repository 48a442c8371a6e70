//! Composition: `a cat :1.2 AND a dog`, several prompts whose predictions are added.

use serde::Serialize;

use super::emphasis::Fragment;
use super::error::PromptError;
use super::place::Span;
use super::scan::{is_space, is_whole_word};
use super::schedule::schedule;

const AND: &str = "AND";

/// One of the prompts that `AND` separates.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Part {
    /// Its text, without the weight at its end.
    pub text: String,
    /// What its guidance is multiplied by.
    pub weight: f64,
    /// Its emphasis, read as if it had no schedules.
    pub fragments: Vec<Fragment>,
    /// Where its text is in the prompt's text.
    #[serde(skip)]
    pub span: Span,
    /// Where `:1.2` is in the prompt's text, if it has been written.
    #[serde(skip)]
    pub weight_span: Option<Span>,
    /// Where the `AND` before it is in the prompt's text.
    #[serde(skip)]
    pub and_span: Option<Span>,
}

impl Part {
    /// The part's text for each range of steps.
    ///
    /// # Errors
    /// [`PromptError::ScheduleTooDeep`], with its place in the part's text.
    pub fn schedule(&self, steps: usize) -> Result<Vec<(usize, String)>, PromptError> {
        schedule(&self.text, steps)
    }
}

/// Splits a text at each upper-case `AND` that is a word of its own, inside brackets as well.
/// The parts' fragments are left empty.
#[must_use]
pub fn split_parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut from = 0;
    let mut and_span = None;
    for (start, _) in text.match_indices(AND) {
        let end = start + AND.len();
        if is_whole_word(text, start, end) {
            parts.push(part(text, from..start, and_span.replace(start..end)));
            from = end;
        }
    }
    parts.push(part(text, from..text.len(), and_span));
    parts
}

fn part(text: &str, span: Span, and_span: Option<Span>) -> Part {
    let whole = text[span.clone()].trim_end_matches(is_space);
    let (words, weight) = trailing_weight(whole).unwrap_or((whole, None));
    let start = span.start + words.len();
    Part {
        text: words.to_owned(),
        weight: weight.unwrap_or(1.0),
        fragments: Vec::new(),
        span: span.start..start,
        weight_span: weight.map(|_| start + colon(whole, words)..span.start + whole.len()),
        and_span,
    }
}

/// How many bytes of spaces are between the words and the colon.
fn colon(whole: &str, words: &str) -> usize {
    whole[words.len()..].find(':').unwrap_or(0)
}

/// Reads `words : number` from its end. There is no exponent in these numbers.
fn trailing_weight(whole: &str) -> Option<(&str, Option<f64>)> {
    let number_start = whole.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let digits = &whole[number_start..];
    let signed = whole[..number_start].strip_suffix(['+', '-']).map_or(number_start, str::len);
    let words = whole[..signed].trim_end_matches(is_space).strip_suffix(':')?;
    // the number of points decides whether it is a number: `1`, `1.` and `.5` are, `.` and `1.2.3` are not
    if digits.is_empty() || digits == "." {
        return None;
    }
    let weight = whole[signed..].parse().ok()?;
    Some((words.trim_end_matches(is_space), Some(weight)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, f64)> {
        split_parts(text).into_iter().map(|part| (part.text, part.weight)).collect()
    }

    #[test]
    fn and_separates_only_as_a_word() {
        assert_eq!(read("a AND b"), [("a".to_owned(), 1.0), (" b".to_owned(), 1.0)]);
        for text in ["a and b", "aAND b", "a ANDb", "a_AND", "éAND"] {
            assert_eq!(read(text), [(text.to_owned(), 1.0)]);
        }
    }

    #[test]
    fn a_number_at_the_end_is_a_weight() {
        for (text, words, weight) in [
            ("a:1.2", "a", 1.2),
            ("a : -.5 ", "a", -0.5),
            ("a:1.", "a", 1.0),
            ("a::+2", "a:", 2.0),
            (":3", "", 3.0),
            ("a:1:2", "a:1", 2.0),
            ("a:1.2.3", "a:1.2.3", 1.0),
            ("a:1e3", "a:1e3", 1.0),
            ("a:.", "a:.", 1.0),
            ("a:- 1", "a:- 1", 1.0),
            ("(a:2)", "(a:2)", 1.0),
        ] {
            assert_eq!(read(text), [(words.to_owned(), weight)], "{text}");
        }
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "a cat AND a dog : 2 ";
        let parts = split_parts(text);
        assert_eq!(parts[1].and_span.clone().map(|span| &text[span]), Some("AND"));
        assert_eq!(&text[parts[1].span.clone()], " a dog");
        assert_eq!(parts[1].weight_span.clone().map(|span| &text[span]), Some(": 2"));
        assert_eq!(parts[0].weight_span, None);
    }
}
