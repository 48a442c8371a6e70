//! What is looked for, under the names that findings carry.

/// A fault that data can have.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as findings carry it.
    pub name: &'static str,
    /// What it finds.
    pub finds: &'static str,
}

/// Declares rules as constants, and [`ALL`] of them.
macro_rules! rules {
    ($($constant:ident = $name:literal: $finds:literal;)+) => {
        $(
            #[doc = $finds]
            pub const $constant: Rule = Rule { name: $name, finds: $finds };
        )+

        /// Every rule: of files, of pictures, of texts, of both.
        pub const ALL: &[Rule] = &[$($constant),+];
    };
}

rules! {
    ENCODING = "encoding": "text that is not plain UTF-8, or begins with a byte order mark";
    CSV_QUOTING = "csv-quoting": "a CSV without header, with commas outside quotes, or with quotes that do not fit";
    BAD_ROW = "bad-row": "a row of a list that cannot be used";

    MISSING_PICTURE = "missing-picture": "a caption whose picture is not there";
    UNREADABLE_PICTURE = "unreadable-picture": "a file that cannot be decoded as a picture";
    IGNORED_PICTURE = "ignored-picture": "a picture that is not trained on: in no list, in the wrong place, of another format";
    IGNORED_FOLDER = "ignored-folder": "a folder that is not read";
    UNREADABLE_CAPTION = "unreadable-caption": "a caption's file that cannot be read";
    CAPTION_NOT_READ = "caption-not-read": "a caption's file with an ending that is not read";
    EMPTY_CAPTION = "empty-caption": "a picture without caption";
    LONG_CAPTION = "long-caption": "a caption of more tokens than the text encoder is given";
    SAME_CAPTIONS = "same-captions": "captions that hardly differ";
    CONTRADICTING_CAPTIONS = "contradicting-captions": "pictures that look the same, with different captions";
    TRIGGER_COVERAGE = "trigger-coverage": "captions without the word that is to call the adapter";
    RESOLUTION_OUTLIER = "resolution-outlier": "a picture of far fewer pixels than the others";
    ASPECT_OUTLIER = "aspect-outlier": "a picture of which more than a quarter is cropped away";
    UPSCALED = "upscaled": "a picture that has to be enlarged";

    BAD_JSON = "bad-json": "a row that is not JSON";
    UNKNOWN_LAYOUT = "unknown-layout": "a row of another layout than the first, or of none that is known";
    EMPTY_ROW = "empty-row": "a row without text";
    ZERO_LOSS = "zero-loss": "a row of which no token is learnt";
    NOT_ENCODABLE = "not-encodable": "a row that the model's chat template or tokenizer refuses";
    TRUNCATED = "truncated": "a row whose end is cut off";
    ROLE_ORDER = "role-order": "a conversation whose roles do not take turns";
    CONTRADICTING_ROWS = "contradicting-rows": "one prompt with different answers";
    SAME_COMPLETIONS = "same-completions": "answers that are nearly all the same";

    DUPLICATE = "duplicate": "an example that is there twice";
    NEAR_DUPLICATE = "near-duplicate": "an example that hardly differs from another";
    LEAKAGE = "leakage": "a held-out example that is trained on";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own() {
        for (at, rule) in ALL.iter().enumerate() {
            assert!(rule.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", rule.name);
            assert!(ALL[..at].iter().all(|other| other.name != rule.name), "{}", rule.name);
        }
    }
}
