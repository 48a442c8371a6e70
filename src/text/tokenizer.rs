//! A model's tokenizer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizers::{DecoderWrapper, ModelWrapper, PostProcessorWrapper, Tokenizer};

use super::guard::guarded;
use super::{ChatError, ChatTemplate, Clock, Stream, TextError};

/// A model's tokenizer with its special tokens and, for a chat model, its chat template.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    parts: Parts,
    byte_fallback: bool,
}

/// Everything beside the tokenizer itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    /// The file, for errors.
    pub origin: PathBuf,
    /// Special tokens by their names: `bos_token`, `eos_token`, …
    pub special: BTreeMap<String, String>,
    /// Ids that end a text.
    pub eos_ids: Vec<u32>,
    /// Chat templates by name, each with the file that it stands in.
    pub templates: BTreeMap<String, (PathBuf, String)>,
    /// Whether decoding ends with the old clean-up of spaces.
    pub clean_up: bool,
}

impl TextTokenizer {
    /// Reads the tokenizer of a model folder as `transformers` writes it.
    ///
    /// | file | what is taken from it |
    /// |---|---|
    /// | `tokenizer.json` | the tokenizer (needed) |
    /// | `tokenizer_config.json` | special tokens, added tokens, chat templates, clean-up |
    /// | `special_tokens_map.json` | special tokens, where the former has no `added_tokens_decoder` |
    /// | `chat_template.jinja`, `additional_chat_templates/*.jinja` | chat templates, before all others |
    /// | `generation_config.json`, `config.json` | `eos_token_id`, the first that has it |
    pub fn from_folder(path: &Path) -> Result<Self, TextError> {
        super::folder::read(path)
    }

    /// Builds the tokenizer that a GGUF file describes (`tokenizer.ggml.model` `gpt2` or `llama`).
    pub fn from_gguf(gguf: &crate::tensors::gguf::Gguf) -> Result<Self, TextError> {
        super::from_gguf::build(gguf)
    }

    pub(super) fn new(mut inner: Tokenizer, mut parts: Parts) -> Self {
        if let Some(mut processor) = inner.get_post_processor().cloned() {
            keep_spaces(&mut processor);
            inner.with_post_processor(Some(processor));
        }
        // The clean-up was made for WordPiece; `transformers` does not apply it to BPE.
        parts.clean_up &= !matches!(inner.get_model(), ModelWrapper::BPE(_));
        let byte_fallback = inner.get_decoder().is_some_and(falls_back_to_bytes);
        Self { inner, parts, byte_fallback }
    }

    /// Token ids of `text`. With `add_special`, what the tokenizer puts around a text (usually a
    /// `bos` token) is added; a rendered chat template has it already. Special tokens that are
    /// spelt out in `text` become their ids either way.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        guarded(|| Ok(self.inner.encode_fast(text, add_special)?.get_ids().to_vec()))
            .map_err(|problem| self.failed(format!("cannot encode: {problem}")))
    }

    /// [`TextTokenizer::encode`] with the bytes of `text` that each id stands for, spaces included. What
    /// is put around the text stands for none: its range is empty.
    pub fn encode_with_offsets(
        &self,
        text: &str,
        add_special: bool,
    ) -> Result<Vec<(u32, Range<usize>)>, TextError> {
        let encoding = guarded(|| self.inner.encode(text, add_special))
            .map_err(|problem| self.failed(format!("cannot encode: {problem}")))?;
        let offsets = encoding.get_offsets().iter().map(|(start, end)| *start..*end);
        Ok(encoding.get_ids().iter().copied().zip(offsets).collect())
    }

    /// Text of `ids`; ids that no token has are left out, as `transformers` does. With
    /// `skip_special`, special tokens are left out too. Bytes that are not UTF-8 become `�`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        let text = self.decode_plain(ids, skip_special)?;
        Ok(if self.parts.clean_up { clean_up(&text) } else { text })
    }

    /// [`TextTokenizer::decode`] without the clean-up of spaces.
    pub(super) fn decode_plain(&self, ids: &[u32], skip: bool) -> Result<String, TextError> {
        guarded(|| self.inner.decode(ids, skip))
            .map_err(|problem| self.failed(format!("cannot decode: {problem}")))
    }

    /// A decoder for ids that come one by one.
    pub fn stream(&self, skip_special: bool) -> Stream<'_> {
        Stream::new(self, skip_special)
    }

    /// The chat template called `default`, which is the only one of most models.
    pub fn chat_template(&self, clock: Clock) -> Result<ChatTemplate, ChatError> {
        let templates = &self.parts.templates;
        let Some((path, source)) = templates.get("default") else {
            let names: Vec<&String> = templates.keys().collect();
            return Err(ChatError::no_template(&self.parts.origin, &names));
        };
        ChatTemplate::new(path, source, self.parts.special.clone(), clock)
    }

    /// The special token called `name` (`bos_token`, `eos_token`, `pad_token`, `unk_token`, …).
    pub fn special_token(&self, name: &str) -> Option<&str> {
        self.parts.special.get(name).map(String::as_str)
    }

    /// Ids that end a generated text, without repeats; empty if the model's files name none.
    pub fn eos_ids(&self) -> &[u32] {
        &self.parts.eos_ids
    }

    /// The id of `token`, spelt as in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token with this id, spelt as in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// How many tokens there are, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.parts.origin
    }

    /// Whether this token is one byte of a character that the vocabulary lacks, as in `<0xE2>`.
    pub(super) fn is_byte(&self, id: u32) -> bool {
        self.byte_fallback
            && self.inner.id_to_token(id).is_some_and(|token| {
                token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
            })
    }

    /// Whether decoding leaves this id out.
    pub(super) fn is_left_out(&self, id: u32, skip_special: bool) -> bool {
        let special = |token: &str| self.inner.get_added_vocabulary().is_special_token(token);
        self.inner.id_to_token(id).is_none_or(|token| skip_special && special(&token))
    }

    fn failed(&self, problem: String) -> TextError {
        TextError::Failed { path: self.parts.origin.clone(), problem }
    }
}

/// Switches off that spaces are left out of offsets; ids stay what they are.
fn keep_spaces(processor: &mut PostProcessorWrapper) {
    match processor {
        PostProcessorWrapper::ByteLevel(bytes) => bytes.trim_offsets = false,
        PostProcessorWrapper::Roberta(roberta) => roberta.trim_offsets = false,
        PostProcessorWrapper::Sequence(sequence) => {
            sequence.as_mut().iter_mut().for_each(keep_spaces);
        }
        PostProcessorWrapper::Bert(_) | PostProcessorWrapper::Template(_) => {}
    }
}

fn falls_back_to_bytes(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteFallback(_) => true,
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().any(falls_back_to_bytes)
        }
        _ => false,
    }
}

/// `PreTrainedTokenizerBase.clean_up_tokenization` of `transformers`.
fn clean_up(text: &str) -> String {
    const RULES: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    RULES.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_up_is_the_one_of_transformers() {
        // Checked by hand against the ten replacements, in their order.
        assert_eq!(clean_up("do n't stop , he 's here ."), "don't stop, he's here.");
        assert_eq!(clean_up("a ' b"), "a'b");
    }
}
