//! The tokenizer that the metadata of a GGUF file describes.
//!
//! A `tokenizer.json` is written from the metadata and read like any other. Keys are those of
//! llama.cpp; where it and `transformers` disagree, `transformers` (and the model's own
//! `tokenizer.json`) is followed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::pre_tokenizer::{Pre, byte_characters, byte_level};
use super::spm::{self, LONGEST_TOKEN, Spm};
use super::tokenizer::Parts;
use super::{TextError, TextTokenizer, guard};
use crate::base::terminal::printable;
use crate::tensors::gguf::{Gguf, optional};

/// `tokenizer.ggml.token_type`: a token that text can name and decoding can leave out.
const CONTROL: i32 = 3;
/// `tokenizer.ggml.token_type`: a token that is found in text whole.
const USER_DEFINED: i32 = 4;

const DAMAGED: &str = "convert the model again";

pub(super) fn build(gguf: &Gguf) -> Result<TextTokenizer, TextError> {
    let source = Source::read(gguf)?;
    let model = gguf.string("tokenizer.ggml.model")?;
    let (mut json, adds_bos) = match model {
        "gpt2" => byte_level_json(&source)?,
        "llama" => (spm_json(&source)?, true),
        other => {
            let problem = format!(
                "tokenizer `{}` (`tokenizer.ggml.model`), expected `gpt2` or `llama`",
                printable(other)
            );
            return Err(TextError::malformed(
                &gguf.path,
                problem,
                "use the folder of the model with its `tokenizer.json` instead",
            ));
        }
    };
    let flag = |key: &str| optional(gguf.bool(key));
    let bos = flag("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
    let eos = flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    json.insert("added_tokens".to_owned(), source.added_tokens());
    let around = [bos.then_some(source.bos).flatten(), eos.then_some(source.eos).flatten()];
    json.insert("post_processor".to_owned(), source.post_processor(around));
    let json = Value::Object(json).to_string();
    let tokenizer = guard::load(&gguf.path, json.as_bytes())?;
    Ok(TextTokenizer::new(tokenizer, source.parts()?))
}

/// What the metadata says, checked.
struct Source<'a> {
    gguf: &'a Gguf,
    tokens: &'a [String],
    types: Vec<i32>,
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    padding: Option<u32>,
    /// Further tokens that end a text: of a turn, of a message.
    ends: Vec<u32>,
}

impl<'a> Source<'a> {
    fn read(gguf: &'a Gguf) -> Result<Self, TextError> {
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        if tokens.is_empty() {
            return Err(TextError::malformed(
                &gguf.path,
                "`tokenizer.ggml.tokens` is empty",
                DAMAGED,
            ));
        }
        let types = optional(gguf.i32s("tokenizer.ggml.token_type"))?.unwrap_or_default();
        if !types.is_empty() && types.len() != tokens.len() {
            let problem = format!("{} tokens, but {} types of tokens", tokens.len(), types.len());
            return Err(TextError::malformed(&gguf.path, problem, DAMAGED));
        }
        let id = |name: &str| -> Result<Option<u32>, TextError> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let Some(id) = optional(gguf.u64(&key))? else { return Ok(None) };
            let small = u32::try_from(id).ok().filter(|id| (*id as usize) < tokens.len());
            let Some(id) = small else {
                let problem = format!("`{key}` is `{id}`, expected below {}", tokens.len());
                return Err(TextError::malformed(&gguf.path, problem, DAMAGED));
            };
            Ok(Some(id))
        };
        let mut ends = Vec::new();
        for name in ["eos", "eot", "eom"] {
            ends.extend(id(name)?.filter(|id| !ends.contains(id)));
        }
        let (bos, eos, unknown, padding) = (id("bos")?, id("eos")?, id("unknown")?, id("padding")?);
        Ok(Self { gguf, tokens, types, bos, eos, unknown, padding, ends })
    }

    fn kind(&self, id: usize) -> i32 {
        self.types.get(id).copied().unwrap_or(1)
    }

    fn token(&self, id: u32) -> &'a str {
        self.tokens.get(id as usize).map_or("", String::as_str)
    }

    fn added_tokens(&self) -> Value {
        let named: HashSet<u32> =
            [self.bos, self.eos, self.unknown, self.padding].into_iter().flatten().collect();
        // Of equal tokens the last has the id; the others cannot be reached.
        let last: HashMap<&str, u32> = self.tokens.iter().map(String::as_str).zip(0..).collect();
        let mut added = Vec::new();
        for (id, token) in (0..).zip(self.tokens) {
            let kind = self.kind(id as usize);
            let special = kind == CONTROL || named.contains(&id);
            let reachable = last.get(token.as_str()) == Some(&id) && !token.is_empty();
            if (special || kind == USER_DEFINED) && reachable {
                added.push(json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": special
                }));
            }
        }
        Value::Array(added)
    }

    fn post_processor(&self, [bos, eos]: [Option<u32>; 2]) -> Value {
        let special = |id: Option<u32>, sequence: u32| {
            id.map(|id| json!({"SpecialToken": {"id": self.token(id), "type_id": sequence}}))
        };
        let sequence = |name: &str, sequence: u32| {
            let text = json!({"Sequence": {"id": name, "type_id": sequence}});
            [special(bos, sequence), Some(text), special(eos, sequence)].into_iter().flatten()
        };
        let table: Map<String, Value> = [bos, eos]
            .into_iter()
            .flatten()
            .map(|id| {
                let token = self.token(id);
                (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}))
            })
            .collect();
        json!({
            "type": "TemplateProcessing",
            "single": sequence("A", 0).collect::<Vec<_>>(),
            "pair": sequence("A", 0).chain(sequence("B", 1)).collect::<Vec<_>>(),
            "special_tokens": table,
        })
    }

    fn parts(&self) -> Result<Parts, TextError> {
        let mut special = BTreeMap::new();
        let named = [
            ("bos_token", self.bos),
            ("eos_token", self.eos),
            ("unk_token", self.unknown),
            ("pad_token", self.padding),
        ];
        for (name, id) in named {
            special.extend(id.map(|id| (name.to_owned(), self.token(id).to_owned())));
        }
        let origin: PathBuf = self.gguf.path.clone();
        let template = optional(self.gguf.string("tokenizer.chat_template"))?;
        let templates = template
            .map(|source| ("default".to_owned(), (origin.clone(), source.to_owned())))
            .into_iter()
            .collect();
        Ok(Parts { origin, special, eos_ids: self.ends.clone(), templates, clean_up: false })
    }

    /// `tokenizer.ggml.merges`, cut in two.
    fn merges(&self) -> Result<Vec<(&'a str, &'a str)>, TextError> {
        let lines = self.gguf.strings("tokenizer.ggml.merges")?.iter();
        lines
            .map(|line| {
                line.split_once(' ').ok_or_else(|| {
                    let problem = format!("the merge `{}` has no space", printable(line));
                    TextError::malformed(&self.gguf.path, problem, DAMAGED)
                })
            })
            .collect()
    }
}

/// A `tokenizer.json` for a byte-level vocabulary, and whether its models begin texts with `bos`.
fn byte_level_json(source: &Source<'_>) -> Result<(Map<String, Value>, bool), TextError> {
    let name = optional(source.gguf.string("tokenizer.ggml.pre"))?.unwrap_or("default");
    let pre = Pre::from_name(name).ok_or_else(|| TextError::UnknownPreTokenizer {
        path: source.gguf.path.clone(),
        name: printable(name).into_owned(),
        known: Pre::names(),
    })?;
    let characters = byte_characters();
    let alphabet: HashSet<char> = characters.into_iter().collect();
    let mut vocabulary = Map::new();
    for (id, token) in (0u32..).zip(source.tokens) {
        let own = matches!(source.kind(id as usize), CONTROL | USER_DEFINED);
        let key = if own || token.chars().all(|c| alphabet.contains(&c)) {
            token.clone()
        } else {
            token.bytes().map(|byte| characters[usize::from(byte)]).collect()
        };
        vocabulary.insert(key, id.into());
    }
    let mut json = Map::new();
    json.insert("normalizer".to_owned(), pre.normalizer());
    json.insert("pre_tokenizer".to_owned(), pre.json());
    json.insert("decoder".to_owned(), byte_level(true));
    let whole = pre.takes_whole_words();
    json.insert(
        "model".to_owned(),
        json!({
            "type": "BPE", "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole,
            "vocab": vocabulary, "merges": source.merges()?
        }),
    );
    Ok((json, whole))
}

/// A `tokenizer.json` for a `SentencePiece` vocabulary.
fn spm_json(source: &Source<'_>) -> Result<Map<String, Value>, TextError> {
    let gguf = source.gguf;
    let prefix = optional(gguf.bool("tokenizer.ggml.add_space_prefix"))?.unwrap_or(true);
    let spm = Spm::new(optional(gguf.string("general.architecture"))?.unwrap_or(""), prefix);
    let tokens: Vec<String> = source.tokens.iter().map(|token| spm.respell(token)).collect();
    let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    let merges = if gguf.metadata.contains_key("tokenizer.ggml.merges") {
        source.merges()?
    } else {
        let scores = gguf.f32s("tokenizer.ggml.scores")?;
        check_spm(source, &tokens, scores)?;
        spm::merges(&tokens, &ids, &spm.ranks(scores))
    };
    let vocabulary: Map<String, Value> =
        tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), id.into())).collect();
    let unknown = source.unknown.filter(|_| spm == Spm::Gemma).map(|id| source.token(id));
    let (normalizer, pre_tokenizer) = spm.before();
    let mut json = Map::new();
    json.insert("normalizer".to_owned(), normalizer);
    json.insert("pre_tokenizer".to_owned(), pre_tokenizer);
    json.insert("decoder".to_owned(), spm.decoder());
    json.insert(
        "model".to_owned(),
        json!({
            "type": "BPE", "unk_token": unknown, "fuse_unk": true, "byte_fallback": true,
            "vocab": vocabulary, "merges": merges
        }),
    );
    Ok(json)
}

fn check_spm(source: &Source<'_>, tokens: &[String], scores: &[f32]) -> Result<(), TextError> {
    let path = &source.gguf.path;
    if scores.len() != tokens.len() {
        let problem = format!("{} tokens, but {} scores", tokens.len(), scores.len());
        return Err(TextError::malformed(path, problem, DAMAGED));
    }
    if scores.iter().any(|score| score.is_nan()) {
        return Err(TextError::malformed(path, "a score is not a number", DAMAGED));
    }
    if let Some(token) = tokens.iter().find(|token| token.chars().count() > LONGEST_TOKEN) {
        let problem = format!("token `{}` has over {LONGEST_TOKEN} characters", printable(token));
        return Err(TextError::malformed(path, problem, DAMAGED));
    }
    Ok(())
}
