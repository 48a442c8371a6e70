//! Words for error messages: the nearest known name, and long lists kept short.

/// The member of `known` most like `word`, if any is close enough to be a misspelling of it.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The first few of `names` in backticks, then how many more there are.
pub fn first_few<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", super::terminal::printable(name.as_ref())))
        .collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelling_finds_its_word_and_nonsense_finds_none() {
        let known = ["strengths", "seeds", "prompts"];
        assert_eq!(nearest("strenghts", known), Some("strengths"));
        assert_eq!(nearest("zzz", known), None);
    }

    #[test]
    fn lists_are_cut() {
        assert_eq!(first_few(&["a"]), "`a`");
        assert_eq!(first_few(&["a", "b", "c", "d", "e"]), "`a`, `b`, `c` and 2 more");
    }
}
