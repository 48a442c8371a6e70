//! The character classes of the language, and the numbers that it knows.
//!
//! The classes are those of Python's regular expressions, since the language is defined by them.

/// What `\s` matches.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// What `\w` matches.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether the word that fills `start..end` of `text` touches no other word character.
pub(super) fn is_whole_word(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].chars().next_back();
    let after = text[end..].chars().next();
    !before.is_some_and(is_word) && !after.is_some_and(is_word)
}

/// How many bytes of spaces `text` begins with.
pub(super) fn leading_spaces(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_space).len()
}

/// How many bytes of `text`, from its beginning, are ASCII bytes that `accept` takes.
pub(super) fn leading(text: &str, accept: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| accept(*byte)).count()
}

/// How many bytes a sign at the beginning of `text` takes.
pub(super) fn leading_sign(text: &str) -> usize {
    usize::from(text.starts_with(['+', '-']))
}

/// How many bytes the longest number at the beginning of `text` takes, if there is one:
/// an optional sign, digits with an optional point, an optional exponent.
pub(super) fn leading_number(text: &str) -> Option<usize> {
    let sign = leading_sign(text);
    let whole = leading(&text[sign..], |byte| byte.is_ascii_digit());
    let mut end = sign + whole;
    if text[end..].starts_with('.') {
        let decimals = leading(&text[end + 1..], |byte| byte.is_ascii_digit());
        if whole + decimals == 0 {
            return None;
        }
        end += 1 + decimals;
    } else if whole == 0 {
        return None;
    }
    Some(end + leading_exponent(&text[end..]))
}

fn leading_exponent(text: &str) -> usize {
    if !text.starts_with(['e', 'E']) {
        return 0;
    }
    let sign = leading_sign(&text[1..]);
    match leading(&text[1 + sign..], |byte| byte.is_ascii_digit()) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_they_end() {
        for (text, length) in [
            ("3", Some(1)),
            ("-.5]", Some(3)),
            ("5.", Some(2)),
            ("1e3x", Some(3)),
            ("1.5e-2", Some(6)),
            ("1e", Some(1)),
            ("+1e+", Some(2)),
            (".", None),
            ("-", None),
            ("", None),
            ("x1", None),
        ] {
            assert_eq!(leading_number(text), length, "{text}");
        }
    }

    #[test]
    fn word_boundaries_are_those_of_unicode_words() {
        assert!(is_whole_word("a BREAK", 2, 7));
        assert!(is_whole_word("-BREAK-", 1, 6));
        assert!(!is_whole_word("éBREAK", 2, 7));
        assert!(!is_whole_word("BREAK_", 0, 5));
    }
}
