//! The tokenizer of CLIP text encoders.

mod vocabulary;

use std::path::Path;

use super::config::{self, LARGEST_TOKENIZER};
use super::tokenizer::Parts;
use super::{TextError, TextTokenizer, folder, guard};

const BOS: &str = "<|startoftext|>";
const EOS: &str = "<|endoftext|>";
/// What OpenCLIP fills up a text with: the token of `!`.
const OPEN_CLIP_PAD: u32 = 0;

/// The tokenizer of a CLIP text encoder, which reads texts of lower case, word by word.
///
/// The reference is `CLIPTokenizer` of `transformers` (v5). `OpenAI`'s and OpenCLIP's own code, and
/// so the `WebUI`, first turns curly quotes, ligatures and full-width forms into plain ones and
/// resolves HTML entities; such texts differ there.
#[derive(Debug, Clone)]
pub struct ClipTokenizer {
    inner: TextTokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    comma: Option<u32>,
}

impl ClipTokenizer {
    /// `OpenAI`'s tokenizer, as for SD 1 and the first encoder of SDXL. It is built in, since a
    /// checkpoint in one file carries none.
    pub fn openai() -> Result<Self, TextError> {
        let origin = vocabulary::built_in();
        let inner = guard::load(&origin, &vocabulary::openai()?)?;
        let special = [("bos_token", BOS), ("eos_token", EOS), ("pad_token", EOS)];
        let special = special.map(|(name, token)| (name.to_owned(), token.to_owned())).into();
        Self::new(TextTokenizer::new(inner, Parts { origin, special, ..Parts::default() }))
    }

    /// The same with the padding of OpenCLIP, as for SD 2 and the second encoder of SDXL.
    ///
    /// A `!` of a text is the word `!</w>` here, as in the `WebUI`. The folders of these models
    /// call `!` a special token instead, which makes it the padding itself wherever it stands;
    /// [`ClipTokenizer::from_folder`] follows them.
    pub fn open_clip() -> Result<Self, TextError> {
        Ok(Self { pad: OPEN_CLIP_PAD, ..Self::openai()? })
    }

    /// The tokenizer of a `tokenizer` folder of diffusers: `tokenizer.json`, or else `vocab.json`
    /// and `merges.txt`. Special tokens are those of `tokenizer_config.json` and
    /// `special_tokens_map.json`, or else CLIP's.
    pub fn from_folder(path: &Path) -> Result<Self, TextError> {
        let whole = path.join("tokenizer.json");
        let (origin, json) = match config::read_bytes(&whole, LARGEST_TOKENIZER)? {
            Some(json) => (whole, json),
            None => vocabulary::of_folder(path)?.ok_or_else(|| {
                if !path.is_dir() {
                    return folder::missing(path);
                }
                let problem = "holds neither `tokenizer.json` nor `vocab.json` and `merges.txt`";
                TextError::malformed(path, problem, "fetch this folder of the pipeline again")
            })?,
        };
        let defaults = [("bos_token", BOS), ("eos_token", EOS), ("pad_token", EOS)];
        Self::new(folder::read_beside(path, origin, &json, &defaults)?)
    }

    fn new(inner: TextTokenizer) -> Result<Self, TextError> {
        let id = |name: &str| inner.special_token(name).and_then(|token| inner.id(token));
        let needed = |name: &str, usual: &str| {
            id(name).ok_or_else(|| {
                TextError::malformed(
                    inner.path(),
                    format!("there is no `{name}`, expected one such as `{usual}`"),
                    "fetch the model's `tokenizer` folder again, `tokenizer_config.json` included",
                )
            })
        };
        let (bos, eos) = (needed("bos_token", BOS)?, needed("eos_token", EOS)?);
        let (pad, comma) = (id("pad_token").unwrap_or(eos), inner.id(",</w>"));
        Ok(Self { inner, bos, eos, pad, comma })
    }

    /// Token ids of `text`, without the tokens of its start and its end. Their names are read as
    /// these tokens where `text` spells them out.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.inner.encode(text, false)
    }

    /// The token that every text begins with.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The token that every text ends with; a text encoder's pooled output is taken at the first.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The token that follows after the end.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The token of a comma at the end of a word, if the vocabulary has it.
    pub fn comma(&self) -> Option<u32> {
        self.comma
    }

    /// How many tokens there are, special ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.vocabulary_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_has_the_ids_that_its_models_were_trained_with() {
        // `vocab.json` of openai/clip-vit-large-patch14
        let clip = ClipTokenizer::openai().unwrap();
        assert_eq!((clip.bos(), clip.eos(), clip.pad()), (49406, 49407, 49407));
        assert_eq!((clip.comma(), clip.vocabulary_size()), (Some(267), 49408));
        assert_eq!(clip.encode("a photo of a cat").unwrap(), [320, 1125, 539, 320, 2368]);
        assert_eq!(ClipTokenizer::open_clip().unwrap().pad(), 0);
    }

    #[test]
    fn special_tokens_may_be_spelt_out() {
        let clip = ClipTokenizer::openai().unwrap();
        assert_eq!(clip.encode("a<|endoftext|>a").unwrap(), [320, 49407, 320]);
    }
}
