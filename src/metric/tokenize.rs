//! BLEU's tokenizers, sacreBLEU 2.6's to the letter: `13a`, `intl`, `zh`, `char`, `none`.
//!
//! The originals are chains of regular expressions whose matches consume what they match, so runs
//! of punctuation come out unevenly ("..." gives ". .."). Each expression is one pass here.

use std::borrow::Cow;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

use super::text::{is_space, words};

/// How BLEU cuts a line into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tokenizer {
    /// `mteval-v13a`: for languages with spaces; BLEU's default.
    #[default]
    V13a,
    /// `mteval-v14 --international-tokenization`: all Unicode punctuation and symbols.
    Intl,
    /// Chinese: every character of Chinese by itself, the rest like `13a`.
    Zh,
    /// Every character by itself.
    Char,
    /// At white space only.
    None,
}

impl Tokenizer {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::V13a, Self::Intl, Self::Zh, Self::Char, Self::None];

    /// The name in signatures.
    pub fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::Intl => "intl",
            Self::Zh => "zh",
            Self::Char => "char",
            Self::None => "none",
        }
    }

    /// The line with its tokens separated by white space.
    pub fn tokenize(self, line: &str) -> Cow<'_, str> {
        match self {
            Self::V13a => joined(&spaced_13a(line)).into(),
            Self::Intl => joined(&spaced_intl(line)).into(),
            Self::Zh => joined(&spaced_zh(line)).into(),
            Self::Char => chars_apart(line).into(),
            Self::None => line.into(),
        }
    }

    /// The same tokens with any amount of white space between them.
    pub(super) fn spaced(self, line: &str) -> Cow<'_, str> {
        match self {
            Self::V13a => spaced_13a(line).into(),
            Self::Intl => spaced_intl(line).into(),
            Self::Zh => spaced_zh(line).into(),
            Self::Char => chars_apart(line).into(),
            Self::None => line.into(),
        }
    }
}

/// Python's `' '.join(text.split())`.
pub(super) fn joined(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in words(text) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// The four entities that the tokenizers know, in their order.
pub(super) fn unescape(mut line: String) -> String {
    if line.contains('&') {
        for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")]
        {
            if line.contains(entity) {
                line = line.replace(entity, character);
            }
        }
    }
    line
}

fn spaced_13a(line: &str) -> String {
    let mut line = Cow::Borrowed(line);
    for (from, to) in [("<skipped>", ""), ("-\n", ""), ("\n", " ")] {
        if line.contains(from) {
            line = line.replace(from, to).into();
        }
    }
    let mut padded = String::with_capacity(line.len() + 2);
    padded.push(' ');
    padded.push_str(&line);
    padded.push(' ');
    split_points(&split_symbols(&unescape(padded)))
}

/// mteval's first class: ASCII's punctuation but apostrophe, comma, hyphen and point; and the space.
fn is_symbol(byte: u8) -> bool {
    matches!(byte, b'{'..=b'~' | b'['..=b'`' | b' '..=b'&' | b'('..=b'+' | b':'..=b'@' | b'/')
}

/// Symbols of ASCII set apart.
pub(super) fn split_symbols(line: &str) -> String {
    let mut spaced = String::with_capacity(line.len() * 2);
    let mut rest = line;
    while let Some(place) = rest.bytes().position(is_symbol) {
        let (before, symbol) = rest.split_at(place);
        let (symbol, after) = symbol.split_at(1);
        spaced.push_str(before);
        spaced.push(' ');
        // A space between spaces is three spaces to what follows; one tells it the same.
        if symbol != " " {
            spaced.push_str(symbol);
            spaced.push(' ');
        }
        rest = after;
    }
    spaced.push_str(rest);
    spaced
}

/// Points and commas set apart unless between digits, and a hyphen after a digit.
pub(super) fn split_points(line: &str) -> String {
    let is_point = |byte: u8| matches!(byte, b'.' | b',');
    let is_digit = |byte: u8| byte.is_ascii_digit();
    // `([^0-9])([\.,])` → `\1 \2 `
    let line = pairs(
        line.as_bytes(),
        |a, b| !is_digit(a) && is_point(b),
        |a, b, out| {
            out.extend_from_slice(&[a, b' ', b, b' ']);
        },
    );
    // `([\.,])([^0-9])` → ` \1 \2`
    let line = pairs(
        &line,
        |a, b| is_point(a) && !is_digit(b),
        |a, b, out| {
            out.extend_from_slice(&[b' ', a, b' ', b]);
        },
    );
    // `([0-9])(-)` → `\1 \2 `
    let line = pairs(
        &line,
        |a, b| is_digit(a) && b == b'-',
        |a, b, out| {
            out.extend_from_slice(&[a, b' ', b, b' ']);
        },
    );
    // Only ASCII was put in, beside ASCII or between whole characters.
    String::from_utf8(line)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Replaces pairs of neighbours from the left, none twice. On bytes this is what it is on
/// characters: of a longer character only the last byte can precede a point, and only the first
/// follow one.
fn pairs(
    line: &[u8],
    matches: impl Fn(u8, u8) -> bool,
    replace: impl Fn(u8, u8, &mut Vec<u8>),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len() + line.len() / 4);
    let mut rest = line;
    loop {
        match rest {
            [a, b, after @ ..] if matches(*a, *b) => {
                replace(*a, *b, &mut out);
                rest = after;
            }
            [a, after @ ..] => {
                out.push(*a);
                rest = after;
            }
            [] => return out,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Number,
    Punctuation,
    Symbol,
    Other,
}

fn class(c: char) -> Class {
    if c.is_ascii_alphabetic() || c == ' ' {
        return Class::Other;
    }
    match c.general_category_group() {
        GeneralCategoryGroup::Number => Class::Number,
        GeneralCategoryGroup::Punctuation => Class::Punctuation,
        GeneralCategoryGroup::Symbol => Class::Symbol,
        _ => Class::Other,
    }
}

fn spaced_intl(line: &str) -> String {
    let line: Vec<(char, Class)> = line.chars().map(|c| (c, class(c))).collect();
    let space = (' ', Class::Other);
    // `(\P{N})(\p{P})` → `\1 \2 `
    let mut first = Vec::with_capacity(line.len() * 2);
    let mut rest = line.as_slice();
    while let [a, after @ ..] = rest {
        match after {
            [b, after @ ..] if a.1 != Class::Number && b.1 == Class::Punctuation => {
                first.extend_from_slice(&[*a, space, *b, space]);
                rest = after;
            }
            _ => {
                first.push(*a);
                rest = after;
            }
        }
    }
    // `(\p{P})(\P{N})` → ` \1 \2`, and `(\p{S})` → ` \1 `
    let mut spaced = String::with_capacity(first.len() * 2);
    let mut put = |item: (char, Class)| {
        let apart = item.1 == Class::Symbol;
        spaced.extend(apart.then_some(' '));
        spaced.push(item.0);
        spaced.extend(apart.then_some(' '));
    };
    let mut rest = first.as_slice();
    while let [a, after @ ..] = rest {
        match after {
            [b, after @ ..] if a.1 == Class::Punctuation && b.1 != Class::Number => {
                [space, *a, space, *b].into_iter().for_each(&mut put);
                rest = after;
            }
            _ => {
                put(*a);
                rest = after;
            }
        }
    }
    spaced
}

fn spaced_zh(line: &str) -> String {
    let mut apart = String::with_capacity(line.len() * 2);
    for c in line.trim_matches(is_space).chars() {
        let chinese = is_chinese(c);
        apart.extend(chinese.then_some(' '));
        apart.push(c);
        apart.extend(chinese.then_some(' '));
    }
    split_points(&split_symbols(&apart))
}

/// sacreBLEU's ranges. Two, meant for U+20000 to U+2A6D6 and U+2F800 to U+2FA1D, are written with
/// four digits, so they are U+2001 to U+2A6D and U+2F81 to U+2FA1 (which the radicals' range has);
/// its scores depend on it.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}' | '\u{f900}'..='\u{fa2d}'
        | '\u{fa30}'..='\u{fa6a}' | '\u{fa70}'..='\u{fad9}' | '\u{ff00}'..='\u{ffef}'
        | '\u{2e80}'..='\u{2eff}' | '\u{3000}'..='\u{303f}' | '\u{31c0}'..='\u{31ef}'
        | '\u{2f00}'..='\u{2fdf}' | '\u{2ff0}'..='\u{2fff}' | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}' | '\u{fe10}'..='\u{fe1f}' | '\u{fe30}'..='\u{fe4f}'
        | '\u{2600}'..='\u{26ff}' | '\u{2700}'..='\u{27bf}' | '\u{3200}'..='\u{32ff}'
        | '\u{3300}'..='\u{33ff}'
        | '\u{2001}'..='\u{2a6d}')
}

fn chars_apart(line: &str) -> String {
    let mut apart = String::with_capacity(line.len() * 2);
    for c in line.chars() {
        if !apart.is_empty() {
            apart.push(' ');
        }
        apart.push(c);
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_consumed_in_pairs() {
        // sacreBLEU 2.6: BLEU(tokenize="13a").tokenizer(…)
        assert_eq!(Tokenizer::V13a.tokenize("wait..."), "wait . . .");
        assert_eq!(Tokenizer::V13a.tokenize("3.5%, 2024."), "3.5 % , 2024 .");
    }
}
