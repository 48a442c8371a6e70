//! The tokenizer of a model folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::config::{self, LARGEST_TOKENIZER};
use super::guard::{self, guarded};
use super::tokenizer::Parts;
use super::{TextError, TextTokenizer};

/// Most chat templates of one model.
const MOST_TEMPLATES: usize = 64;

pub(super) fn read(folder: &Path) -> Result<TextTokenizer, TextError> {
    let origin = folder.join("tokenizer.json");
    let Some(json) = config::read_bytes(&origin, LARGEST_TOKENIZER)? else {
        return Err(missing(folder));
    };
    read_beside(folder, origin, &json, &[])
}

/// The tokenizer that `json` describes with what the other files of the folder say about it.
/// `defaults` are special tokens by their names, for those that the files leave out and the
/// vocabulary has.
pub(super) fn read_beside(
    folder: &Path,
    origin: PathBuf,
    json: &[u8],
    defaults: &[(&str, &str)],
) -> Result<TextTokenizer, TextError> {
    let mut tokenizer = guard::load(&origin, json)?;
    let config_path = folder.join("tokenizer_config.json");
    let mut config = config::read_object(&config_path)?;
    if !config.contains_key("added_tokens_decoder") {
        config.extend(config::read_object(&folder.join("special_tokens_map.json"))?);
    }
    let mut named = config::named_tokens(&config);
    for (name, token) in defaults {
        if tokenizer.token_to_id(token).is_some() {
            named.entry((*name).to_owned()).or_insert_with(|| Value::from(*token));
        }
    }
    let mut tokens = config::added_tokens(&config_path, &config)?;
    tokens.extend(special_tokens(&tokenizer, &tokens, &named, &config));
    if !tokens.is_empty() {
        guarded(|| tokenizer.add_tokens(tokens)).map_err(|problem| {
            TextError::malformed(&config_path, problem, "fetch the tokenizer's files again")
        })?;
    }
    let flag = |name: &str| config.get(name).and_then(Value::as_bool).unwrap_or(false);
    tokenizer.set_encode_special_tokens(flag("split_special_tokens"));
    let special: BTreeMap<String, String> = named
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), config::token_text(value)?.to_owned())))
        .collect();
    let eos_ids = eos_ids(folder, &tokenizer, &special)?;
    let templates = templates(folder, &config_path, &config)?;
    let clean_up = flag("clean_up_tokenization_spaces");
    Ok(TextTokenizer::new(tokenizer, Parts { origin, special, eos_ids, templates, clean_up }))
}

/// Special tokens that the tokenizer does not have yet, or does not know to be special.
fn special_tokens(
    tokenizer: &Tokenizer,
    added: &[AddedToken],
    named: &BTreeMap<String, Value>,
    config: &Map<String, Value>,
) -> Vec<AddedToken> {
    let mut present: BTreeMap<String, AddedToken> = tokenizer
        .get_added_tokens_decoder()
        .into_values()
        .chain(added.iter().cloned())
        .map(|token| (token.content.clone(), token))
        .collect();
    let more = ["extra_special_tokens", "additional_special_tokens"].iter();
    let more = more.filter_map(|key| config.get(*key)?.as_array()).flatten();
    let mut tokens = Vec::new();
    for mut token in named.values().chain(more).filter_map(config::special_token) {
        if token.content.is_empty() {
            continue;
        }
        if let Some(known) = present.get(&token.content) {
            if known.special {
                continue;
            }
            token = AddedToken { special: true, ..known.clone() };
        }
        token.special = true;
        present.insert(token.content.clone(), token.clone());
        tokens.push(token);
    }
    tokens
}

pub(super) fn missing(folder: &Path) -> TextError {
    let has = |name: &str| folder.join(name).exists();
    let convert = "convert it once: python -c \"from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('FOLDER').save_pretrained('FOLDER')\"";
    let convert = convert.replace("FOLDER", &folder.to_string_lossy());
    let (found, hint) = if has("tokenizer.model") {
        ("; there is only a SentencePiece model, `tokenizer.model`", convert)
    } else if has("vocab.json") || has("vocab.txt") {
        ("; there is only a vocabulary", convert)
    } else if folder.is_dir() {
        let hint = "fetch `tokenizer.json`, `tokenizer_config.json` and, for a chat model, `chat_template.jinja` of the model into this folder";
        ("", hint.to_owned())
    } else {
        ("; there is no such folder", "check the path".to_owned())
    };
    TextError::Missing { path: folder.to_owned(), found, hint }
}

/// The first of `generation_config.json`, `config.json` and the tokenizer that names some.
fn eos_ids(
    folder: &Path,
    tokenizer: &Tokenizer,
    special: &BTreeMap<String, String>,
) -> Result<Vec<u32>, TextError> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let ids = config::eos_ids(&path, &config::read_object(&path)?)?;
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    let eos = special.get("eos_token").and_then(|token| tokenizer.token_to_id(token));
    Ok(eos.into_iter().collect())
}

/// Files of templates replace all that the configuration has.
fn templates(
    folder: &Path,
    config_path: &Path,
    config: &Map<String, Value>,
) -> Result<BTreeMap<String, (PathBuf, String)>, TextError> {
    let mut found = BTreeMap::new();
    let path = folder.join("chat_template.jinja");
    if let Some(source) = config::read_text(&path)? {
        found.insert("default".to_owned(), (path, source));
    }
    if let Ok(entries) = std::fs::read_dir(folder.join("additional_chat_templates")) {
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())).take(MOST_TEMPLATES) {
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let (Some(name), true) = (name, path.extension().is_some_and(|e| e == "jinja")) else {
                continue;
            };
            if let Some(source) = config::read_text(&path)? {
                found.insert(name, (path, source));
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    match config.get("chat_template") {
        None | Some(Value::Null) => {}
        Some(Value::String(source)) => {
            found.insert("default".to_owned(), (config_path.to_owned(), source.clone()));
        }
        Some(Value::Array(named)) => {
            for entry in named.iter().take(MOST_TEMPLATES) {
                let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
                let (Some(name), Some(source)) = (text("name"), text("template")) else {
                    return Err(not_a_template(config_path));
                };
                found.insert(name, (config_path.to_owned(), source));
            }
        }
        Some(_) => return Err(not_a_template(config_path)),
    }
    Ok(found)
}

fn not_a_template(path: &Path) -> TextError {
    TextError::malformed(
        path,
        "`chat_template` is neither text nor a list of `name` and `template`",
        "fetch the file again",
    )
}
