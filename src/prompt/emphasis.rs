//! Emphasis: `(more)`, `((much more))`, `[less]`, `(exactly:1.3)`, and `BREAK`.
//!
//! `(x)` multiplies the weight of everything inside by 1.1, `[x]` divides it by 1.1, `(x:1.3)` multiplies
//! it by 1.3. A bracket that is never closed reaches to the end of the text; one that closes nothing is a
//! literal. `\(`, `\)`, `\[`, `\]` and `\\` are literals; any other backslash disappears. Neighbours of
//! equal weight are one fragment.
//!
//! Weights are products taken in the order in which the brackets close, innermost first (those that never
//! close come last: round ones from the outermost, then square ones), so that they equal the `WebUI`'s to
//! the last bit. That matters: fragments merge only where weights are exactly equal.

use serde::Serialize;

use super::error::PromptError;
use super::place::{Locator, Span, quoted};
use super::scan::{is_space, is_whole_word, leading, leading_sign, leading_spaces};

/// The weight that marks a fragment `BREAK` as the end of a chunk.
pub const BREAK_WEIGHT: f64 = -1.0;
/// How many brackets may be open around a text. 1.1 to this power is a weight of 2·10¹⁰.
pub const MAX_BRACKETS: usize = 250;

const BREAK: &str = "BREAK";
const ROUND: f64 = 1.1;
const SQUARE: f64 = 1.0 / 1.1;

/// A run of text with one weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fragment {
    /// The text, escapes resolved. It may be empty.
    pub text: String,
    /// What the text's embedding is multiplied by; 1 is neutral.
    pub weight: f64,
}

impl Fragment {
    /// Whether this is no text but the end of a chunk of 75 tokens.
    #[must_use]
    pub fn is_break(&self) -> bool {
        self.text == BREAK && self.weight == BREAK_WEIGHT
    }
}

/// Reads the emphasis of a text. There is always at least one fragment, and the weights are finite.
///
/// # Errors
/// [`PromptError::BadWeight`] for `(a:1.2.3)`, [`PromptError::WeightOverflow`] and
/// [`PromptError::TooManyBrackets`]; their places are in `text`.
pub fn parse_emphasis(text: &str) -> Result<Vec<Fragment>, PromptError> {
    let mut reader = Reader { text, pieces: Vec::new(), rounds: Vec::new(), squares: Vec::new() };
    let mut at = 0;
    while at < text.len() {
        let token = next_token(text, at);
        reader.take(token, at)?;
        at += token.len();
    }
    reader.close_all();
    reader.merge()
}

#[derive(Debug, Clone, Copy)]
enum Token<'t> {
    /// A backslash and the bracket or backslash after it, if it is one.
    Escape(&'t str),
    /// `: number )`, all of it and the number.
    Weight(&'t str, &'t str),
    /// A bracket.
    Bracket(&'t str),
    /// Anything else.
    Text(&'t str),
}

impl Token<'_> {
    fn len(&self) -> usize {
        match self {
            Token::Escape(all) | Token::Weight(all, _) | Token::Bracket(all) | Token::Text(all) => {
                all.len()
            }
        }
    }
}

fn next_token(text: &str, at: usize) -> Token<'_> {
    const BRACKETS: [char; 4] = ['(', ')', '[', ']'];
    let rest = &text[at..];
    if let Some(after) = rest.strip_prefix('\\') {
        let escaped = after.starts_with(BRACKETS) || after.starts_with('\\');
        Token::Escape(&rest[..=usize::from(escaped)])
    } else if rest.starts_with(BRACKETS) {
        Token::Bracket(&rest[..1])
    } else if rest.starts_with(':') {
        weight_token(rest).unwrap_or(Token::Text(&rest[..1]))
    } else {
        let end = rest.find(|c| BRACKETS.contains(&c) || c == '\\' || c == ':');
        Token::Text(&rest[..end.unwrap_or(rest.len())])
    }
}

/// Reads `: number )`, where the number is any sequence of digits and points.
fn weight_token(rest: &str) -> Option<Token<'_>> {
    let start = 1 + leading_spaces(&rest[1..]);
    let sign = leading_sign(&rest[start..]);
    let digits = leading(&rest[start + sign..], |byte| byte.is_ascii_digit() || byte == b'.');
    let end = start + sign + digits;
    let close = end + leading_spaces(&rest[end..]);
    (digits > 0 && rest[close..].starts_with(')'))
        .then(|| Token::Weight(&rest[..=close], &rest[start..end]))
}

#[derive(Debug)]
struct Piece<'t> {
    text: &'t str,
    weight: f64,
    /// Where in the whole text it is.
    start: usize,
}

#[derive(Debug)]
struct Reader<'t> {
    text: &'t str,
    pieces: Vec<Piece<'t>>,
    /// For each open bracket the number of pieces before it.
    rounds: Vec<usize>,
    squares: Vec<usize>,
}

impl<'t> Reader<'t> {
    fn take(&mut self, token: Token<'t>, at: usize) -> Result<(), PromptError> {
        match token {
            Token::Escape(all) => self.push(&all[1..], 1.0, at)?,
            Token::Bracket("(") => self.rounds.push(self.pieces.len()),
            Token::Bracket("[") => self.squares.push(self.pieces.len()),
            Token::Bracket(")") if !self.rounds.is_empty() => {
                close(&mut self.pieces, &mut self.rounds, ROUND);
            }
            Token::Bracket("]") if !self.squares.is_empty() => {
                close(&mut self.pieces, &mut self.squares, SQUARE);
            }
            Token::Weight(all, number) if !self.rounds.is_empty() => {
                let factor = number.parse().map_err(|_| self.bad_weight(all, number, at))?;
                close(&mut self.pieces, &mut self.rounds, factor);
            }
            Token::Bracket(all) | Token::Weight(all, _) | Token::Text(all) => {
                self.push_text(all, at)?;
            }
        }
        Ok(())
    }

    /// Pushes a text, cut at each `BREAK` that is a word of its own in it.
    fn push_text(&mut self, token: &'t str, at: usize) -> Result<(), PromptError> {
        let mut from = 0;
        for (start, _) in token.match_indices(BREAK) {
            let end = start + BREAK.len();
            if start < from || !is_whole_word(token, start, end) {
                continue;
            }
            self.push(token[from..start].trim_end_matches(is_space), 1.0, at + from)?;
            self.push(&token[start..end], BREAK_WEIGHT, at + start)?;
            from = end + leading_spaces(&token[end..]);
        }
        self.push(&token[from..], 1.0, at + from)
    }

    fn push(&mut self, text: &'t str, weight: f64, start: usize) -> Result<(), PromptError> {
        if self.rounds.len() + self.squares.len() > MAX_BRACKETS {
            return Err(PromptError::TooManyBrackets { at: self.place(start..start + text.len()) });
        }
        self.pieces.push(Piece { text, weight, start });
        Ok(())
    }

    fn close_all(&mut self) {
        for start in std::mem::take(&mut self.rounds) {
            multiply(&mut self.pieces, start, ROUND);
        }
        for start in std::mem::take(&mut self.squares) {
            multiply(&mut self.pieces, start, SQUARE);
        }
    }

    #[expect(clippy::float_cmp, reason = "only exactly equal weights merge, as in the WebUI")]
    fn merge(self) -> Result<Vec<Fragment>, PromptError> {
        let mut fragments: Vec<Fragment> = Vec::new();
        for piece in &self.pieces {
            if !piece.weight.is_finite() {
                return Err(PromptError::WeightOverflow {
                    at: self.place(piece.start..piece.start + piece.text.len()),
                });
            }
            match fragments.last_mut() {
                Some(last) if last.weight == piece.weight => last.text.push_str(piece.text),
                _ => fragments.push(Fragment { text: piece.text.to_owned(), weight: piece.weight }),
            }
        }
        if fragments.is_empty() {
            fragments.push(Fragment { text: String::new(), weight: 1.0 });
        }
        Ok(fragments)
    }

    fn bad_weight(&self, all: &str, number: &str, at: usize) -> PromptError {
        let start = at + 1 + leading_spaces(&all[1..]);
        PromptError::BadWeight {
            value: quoted(number),
            at: self.place(start..start + number.len()),
        }
    }

    fn place(&self, span: Span) -> super::place::Place {
        Locator::new(self.text).place(span)
    }
}

fn close(pieces: &mut [Piece<'_>], open: &mut Vec<usize>, factor: f64) {
    if let Some(start) = open.pop() {
        multiply(pieces, start, factor);
    }
}

fn multiply(pieces: &mut [Piece<'_>], start: usize, factor: f64) {
    for piece in pieces.iter_mut().skip(start) {
        piece.weight *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, f64)> {
        let fragments = parse_emphasis(text).expect(text);
        fragments.into_iter().map(|fragment| (fragment.text, fragment.weight)).collect()
    }

    fn pairs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
        expected.iter().map(|(text, weight)| ((*text).to_owned(), *weight)).collect()
    }

    #[test]
    fn brackets_multiply() {
        assert_eq!(
            read("a (b) [c]"),
            pairs(&[("a ", 1.0), ("b", 1.1), (" ", 1.0), ("c", 1.0 / 1.1)])
        );
        assert_eq!(read("((a))"), pairs(&[("a", 1.1 * 1.1)]));
        assert_eq!(read("((a:1.2):1.3)"), pairs(&[("a", 1.2 * 1.3)]));
    }

    #[test]
    fn what_does_not_close_reaches_to_the_end() {
        assert_eq!(read("(a b"), pairs(&[("a b", 1.1)]));
        assert_eq!(read("(a:1.2"), pairs(&[("a:1.2", 1.1)]));
        assert_eq!(read("a) b] c:1.2)"), pairs(&[("a) b] c:1.2)", 1.0)]));
    }

    #[test]
    fn backslashes_escape_brackets_and_vanish_elsewhere() {
        assert_eq!(read(r"\(a\) \\ b\c"), pairs(&[(r"(a) \ bc", 1.0)]));
    }

    #[test]
    fn break_ends_a_chunk_except_inside_brackets() {
        let fragments = parse_emphasis("a BREAK b").expect("valid");
        assert_eq!(
            fragments.iter().map(Fragment::is_break).collect::<Vec<_>>(),
            [false, true, false]
        );
        // the WebUI multiplies the marker, too, and then takes it for a word
        assert_eq!(read("(a BREAK b)"), pairs(&[("a", 1.1), ("BREAK", -1.1), ("b", 1.1)]));
        assert!(!parse_emphasis("(a BREAK b)").expect("valid")[1].is_break());
    }

    #[test]
    fn numbers_that_are_none_are_refused_where_they_stand() {
        let error = parse_emphasis("a (b: 1.2.3)").expect_err("not a number");
        assert_eq!(error.place().span(), 6..11);
        assert!(error.to_string().starts_with("column 7: emphasis weight `1.2.3`"), "{error}");
    }

    #[test]
    fn weights_stay_finite() {
        let huge = format!("(a:{})", "9".repeat(400));
        assert!(matches!(parse_emphasis(&huge), Err(PromptError::WeightOverflow { .. })));
    }

    #[test]
    fn depth_is_bounded_only_around_text() {
        assert_eq!(read(&"(".repeat(1_000_000)), pairs(&[("", 1.0)]));
        let deep = format!("{}a", "(".repeat(MAX_BRACKETS + 1));
        assert!(matches!(parse_emphasis(&deep), Err(PromptError::TooManyBrackets { .. })));
        assert_eq!(read(&deep[1..]).len(), 1);
    }
}
