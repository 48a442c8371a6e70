//! The border to the `tokenizers` crate: what goes in is checked, what comes out may be a panic.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Deserialize;
use tokenizers::Tokenizer;

use super::TextError;
use crate::base::terminal::printable;

const DAMAGED: &str =
    "fetch `tokenizer.json` again; it must be one that the `tokenizers` library 0.23 can read";

/// Runs `work`; its error or panic becomes a text that is safe to print.
///
/// Nothing that `work` touched may be used after a panic other than for reading.
pub(super) fn guarded<T>(
    work: impl FnOnce() -> Result<T, Box<dyn Error + Send + Sync>>,
) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(printable(&error.to_string()).into_owned()),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown");
            Err(format!("the tokenizers library gave up: {}", printable(text)))
        }
    }
}

/// The parts of a `tokenizer.json` that are looked at before the library reads it.
#[derive(Deserialize)]
struct Peek {
    #[serde(default)]
    added_tokens: Vec<PeekToken>,
    model: PeekModel,
}

#[derive(Deserialize)]
struct PeekModel {
    #[serde(default)]
    dropout: Option<f64>,
}

#[derive(Deserialize)]
struct PeekToken {
    id: u64,
    content: String,
}

/// Reads a `tokenizer.json`; `path` only names it in errors.
///
/// Padding and truncation that it asks for are switched off, as `transformers` does when it
/// encodes one text. Random dropout of merges is refused: ids would differ from run to run.
pub(super) fn load(path: &Path, json: &[u8]) -> Result<Tokenizer, TextError> {
    let peek: Peek = serde_json::from_slice(json).map_err(|e| {
        TextError::malformed(path, printable(&format!("not a tokenizer: {e}")), DAMAGED)
    })?;
    if peek.model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(TextError::malformed(
            path,
            "`dropout` makes the ids random",
            "set `model.dropout` to null",
        ));
    }
    if let Some(token) = peek.added_tokens.iter().find(|t| t.id >= u64::from(u32::MAX)) {
        let problem = format!("token `{}` has the id `{}`", printable(&token.content), token.id);
        return Err(TextError::malformed(path, problem, DAMAGED));
    }
    let loaded = guarded(|| {
        let mut tokenizer = Tokenizer::from_bytes(json)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        Ok(tokenizer)
    });
    let tokenizer = loaded.map_err(|problem| TextError::malformed(path, problem, DAMAGED))?;
    for token in peek.added_tokens {
        if tokenizer.token_to_id(&token.content).map(u64::from) != Some(token.id) {
            let (name, id) = (printable(&token.content), token.id);
            let problem = format!("added token `{name}` cannot have the id `{id}`");
            return Err(TextError::malformed(path, problem, DAMAGED));
        }
    }
    if tokenizer.get_vocab_size(true) == 0 {
        return Err(TextError::malformed(path, "the vocabulary is empty", DAMAGED));
    }
    Ok(tokenizer)
}
