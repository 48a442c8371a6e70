//! The JSON files beside a `tokenizer.json`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::TextError;
use crate::base::terminal::printable;

/// Largest `tokenizer.json` that is read; the largest published ones are below 40 MB.
pub(super) const LARGEST_TOKENIZER: u64 = 256 << 20;
/// Largest of the other files.
const LARGEST_CONFIG: u64 = 32 << 20;

const DAMAGED: &str = "fetch the file again";

/// The bytes of a file that is not too large; `None` if it is not there.
pub(super) fn read_bytes(path: &Path, most: u64) -> Result<Option<Vec<u8>>, TextError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(TextError::io(path, e)),
    };
    let bytes = file.metadata().map_err(|e| TextError::io(path, e))?.len();
    if bytes > most {
        return Err(TextError::TooLarge { path: path.to_owned(), bytes, most });
    }
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content).map_err(|e| TextError::io(path, e))?;
    Ok(Some(content))
}

/// A text file; `None` if it is not there.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, TextError> {
    let Some(bytes) = read_bytes(path, LARGEST_CONFIG)? else { return Ok(None) };
    let text = String::from_utf8(bytes)
        .map_err(|e| TextError::malformed(path, format!("not UTF-8 ({e})"), DAMAGED))?;
    Ok(Some(text))
}

/// A JSON object; empty if the file is not there.
pub(super) fn read_object(path: &Path) -> Result<Map<String, Value>, TextError> {
    let Some(bytes) = read_bytes(path, LARGEST_CONFIG)? else { return Ok(Map::new()) };
    serde_json::from_slice(&bytes).map_err(|e| {
        TextError::malformed(path, printable(&format!("not a JSON object: {e}")), DAMAGED)
    })
}

/// A token written as text or as `{"content": text, …}`.
pub(super) fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// A special token as the `tokenizers` crate wants it, with the flags that the file gives it.
pub(super) fn special_token(value: &Value) -> Option<AddedToken> {
    let flag = |name: &str, default| value.get(name).and_then(Value::as_bool).unwrap_or(default);
    let special = flag("special", true);
    Some(AddedToken {
        content: token_text(value)?.to_owned(),
        single_word: flag("single_word", false),
        lstrip: flag("lstrip", false),
        rstrip: flag("rstrip", false),
        normalized: flag("normalized", !special),
        special,
    })
}

/// Named special tokens of a configuration: every `…_token` that is a token.
pub(super) fn named_tokens(config: &Map<String, Value>) -> BTreeMap<String, Value> {
    let named = config.iter().filter(|(key, value)| {
        key.ends_with("_token") && token_text(value).is_some_and(|text| !text.is_empty())
    });
    named.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// `added_tokens_decoder`, in the order of ids.
pub(super) fn added_tokens(
    path: &Path,
    config: &Map<String, Value>,
) -> Result<Vec<AddedToken>, TextError> {
    let Some(Value::Object(table)) = config.get("added_tokens_decoder") else {
        return Ok(Vec::new());
    };
    let mut tokens = Vec::new();
    for (id, value) in table {
        let token = value.is_object().then(|| special_token(value)).flatten();
        let (Ok(id), Some(mut token)) = (id.parse::<u32>(), token) else {
            let problem = format!("`added_tokens_decoder` holds `{}`: {value}", printable(id));
            return Err(TextError::malformed(path, printable(&problem), DAMAGED));
        };
        // Here the flag is false unless written, other than for the named tokens.
        token.special = value.get("special").and_then(Value::as_bool).unwrap_or(false);
        if value.get("normalized").is_none() {
            token.normalized = !token.special;
        }
        tokens.push((id, token));
    }
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}

/// `eos_token_id`: a number, several, or none.
pub(super) fn eos_ids(path: &Path, config: &Map<String, Value>) -> Result<Vec<u32>, TextError> {
    let id = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            let problem = format!("`eos_token_id` holds `{}`", printable(&value.to_string()));
            TextError::malformed(path, problem, "write a token id or a list of them")
        })
    };
    let mut ids = match config.get("eos_token_id") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values.iter().map(id).collect::<Result<_, _>>()?,
        Some(value) => vec![id(value)?],
    };
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}
