//! CLIP's vocabulary and merges, built in or of a folder, as a `tokenizer.json`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::{BOS, EOS};
use crate::base::terminal::printable;
use crate::text::TextError;
use crate::text::config::{self, LARGEST_TOKENIZER};
use crate::text::pre_tokenizer::{byte_characters, byte_level};

/// `OpenAI`'s merges, see `assets/clip/README.md`.
const MERGES: &[u8] = include_bytes!("../../../assets/clip/merges.txt.gz");
/// What stands at the end of a word's last token.
const END: &str = "</w>";
/// How CLIP cuts text into words.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

const DAMAGED: &str = "fetch the model's `tokenizer` folder again";

/// Where the built-in tokenizer comes from, for errors.
pub(super) fn built_in() -> PathBuf {
    PathBuf::from("the built-in tokenizer of CLIP")
}

/// `OpenAI`'s tokenizer. Ids are given in this order: the 256 symbols of bytes, the same at the end
/// of a word, what each merge makes, the start and the end of a text.
pub(super) fn openai() -> Result<Vec<u8>, TextError> {
    let path = built_in();
    let mut text = String::new();
    GzDecoder::new(MERGES).read_to_string(&mut text).map_err(|e| TextError::io(&path, e))?;
    let merges = merges(&path, &text)?;
    // CLIP lists the bytes that stand for themselves before the others, which is the order of their
    // characters.
    let mut symbols = byte_characters().map(String::from);
    symbols.sort_unstable();
    let tokens = symbols.iter().cloned();
    let tokens = tokens.chain(symbols.iter().map(|symbol| format!("{symbol}{END}")));
    let tokens = tokens.chain(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let tokens = tokens.chain([BOS, EOS].map(String::from));
    tokenizer(&path, &tokens.zip(0..).collect(), &merges)
}

/// The tokenizer of `vocab.json` and `merges.txt`, and the path of the former; none without it.
pub(super) fn of_folder(folder: &Path) -> Result<Option<(PathBuf, Vec<u8>)>, TextError> {
    let path = folder.join("vocab.json");
    let Some(bytes) = config::read_bytes(&path, LARGEST_TOKENIZER)? else { return Ok(None) };
    let vocabulary = serde_json::from_slice(&bytes).map_err(|e| {
        let problem = format!("not a table of tokens and their ids: {e}");
        TextError::malformed(&path, printable(&problem), DAMAGED)
    })?;
    let merges_path = folder.join("merges.txt");
    let Some(text) = config::read_text(&merges_path)? else {
        let problem = "the file is missing, but its `vocab.json` is there";
        return Err(TextError::malformed(&merges_path, problem, DAMAGED));
    };
    let json = tokenizer(&path, &vocabulary, &merges(&merges_path, &text)?)?;
    Ok(Some((path, json)))
}

/// Reads `merges.txt`: a head line or none, then two tokens a line, the most frequent pair first.
/// Lines that begin with `#` are merges like all others.
fn merges<'t>(path: &Path, text: &'t str) -> Result<Vec<(&'t str, &'t str)>, TextError> {
    let lines = text.lines().zip(1..).skip_while(|(line, _)| line.starts_with("#version"));
    let lines = lines.filter(|(line, _)| !line.is_empty());
    let merge = |(line, number): (&'t str, usize)| match line.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok((left, right))
        }
        _ => {
            let problem =
                format!("line {number} is `{}`, expected two tokens and a space", printable(line));
            Err(TextError::malformed(path, problem, DAMAGED))
        }
    };
    lines.map(merge).collect()
}

/// The `tokenizer.json` that `transformers` (`CLIPTokenizer`) makes of a vocabulary and merges.
fn tokenizer(
    path: &Path,
    vocabulary: &BTreeMap<String, u32>,
    merges: &[(&str, &str)],
) -> Result<Vec<u8>, TextError> {
    let tokenizer = json!({
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            byte_level(true),
        ]},
        "added_tokens": added_tokens(vocabulary),
        "model": {
            "type": "BPE",
            "unk_token": vocabulary.contains_key(EOS).then_some(EOS),
            "continuing_subword_prefix": "",
            "end_of_word_suffix": END,
            "fuse_unk": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    serde_json::to_vec(&tokenizer)
        .map_err(|e| TextError::malformed(path, printable(&e.to_string()), DAMAGED))
}

/// The start and the end of a text, as far as the vocabulary has them. They are found only as they
/// are written here, whatever a folder says of their letters' case: `transformers` does so for the
/// end.
fn added_tokens(vocabulary: &BTreeMap<String, u32>) -> Vec<Value> {
    let token = |content| {
        let id = vocabulary.get(content)?;
        Some(json!({
            "id": id, "content": content, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false,
        }))
    };
    [BOS, EOS].into_iter().filter_map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_that_begin_with_a_number_sign_are_merges() {
        let text = "#version: 0.2\n# #\n\ni n</w>\r\n";
        assert_eq!(merges(Path::new("m"), text).unwrap(), [("#", "#"), ("i", "n</w>")]);
        assert_eq!(merges(Path::new("m"), "a b").unwrap(), [("a", "b")]);
    }

    #[test]
    fn a_line_that_is_no_merge_is_named() {
        for line in ["ab", "a ", " b", "a b c", "a  b"] {
            let error = merges(Path::new("m"), &format!("#version: 0.2\n{line}\n")).unwrap_err();
            assert!(error.to_string().contains(&format!("line 2 is `{line}`")), "{error}");
        }
    }
}
