//! Captions and prompts as lists of words.

/// The words of a text in lower case: what stands between characters that are neither letters nor
/// digits.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Whether `text` has the words of `phrase` in a row. Scripts without spaces have no words to go by:
/// there, and for a phrase of signs alone, it is enough that the phrase occurs.
pub fn has_phrase(text: &str, phrase: &str) -> bool {
    let wanted = words(phrase);
    if wanted.is_empty() || !phrase.is_ascii() {
        return text.to_lowercase().contains(&phrase.to_lowercase());
    }
    words(text).windows(wanted.len()).any(|part| part == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole_and_in_any_case() {
        assert_eq!(words("A <sks> dog, long_hair"), ["a", "sks", "dog", "long", "hair"]);
        assert!(has_phrase("photo of SKS, outside", "sks"));
        assert!(!has_phrase("photo of sksy", "sks"));
        assert!(has_phrase("in my_style, a cat", "my style"));
        assert!(!has_phrase("style of my cat", "my style"));
    }

    #[test]
    fn a_script_without_spaces_is_searched_as_it_is() {
        assert!(has_phrase("水墨画风格的山", "水墨画"));
        assert!(has_phrase("a cat, ^_^", "^_^"));
    }
}
