//! How byte-level vocabularies of GGUF files cut text before they merge: `tokenizer.ggml.pre`.
//!
//! The patterns are those of the models' own `tokenizer.json`. The names are llama.cpp's.

use serde_json::{Value, json};

/// A way to cut text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pre {
    /// GPT-2's pattern.
    Gpt2,
    /// GPT-2's pattern after every digit was cut off.
    Digits,
    /// Llama 3's pattern; words that stand in the vocabulary whole are not merged.
    Llama3,
    /// Llama 3's pattern alone.
    Llama3Plain,
    /// Qwen 2's pattern, text in NFC.
    Qwen2,
    /// Qwen 3.5's pattern, text in NFC.
    Qwen35,
    /// Mistral's Tekken pattern.
    Tekken,
    /// GPT-4o's pattern.
    Gpt4o,
    /// The chain of patterns of `deepseek-llm`.
    DeepseekLlm,
    /// The chain of patterns of `deepseek-coder`.
    DeepseekCoder,
}

/// Names and what they mean. `transformers` reads an absent name and `default` as GPT-2.
const NAMES: [(&str, Pre); 34] = [
    ("default", Pre::Gpt2),
    ("gpt-2", Pre::Gpt2),
    ("phi-2", Pre::Gpt2),
    ("olmo", Pre::Gpt2),
    ("mpt", Pre::Gpt2),
    ("smollm", Pre::Digits),
    ("starcoder", Pre::Digits),
    ("refact", Pre::Digits),
    ("command-r", Pre::Digits),
    ("llama-bpe", Pre::Llama3),
    ("llama3", Pre::Llama3),
    ("llama-v3", Pre::Llama3),
    ("falcon3", Pre::Llama3),
    ("falcon-h1", Pre::Llama3),
    ("pixtral", Pre::Llama3),
    ("midm-2.0", Pre::Llama3),
    ("lfm2", Pre::Llama3),
    ("jina-v5-nano", Pre::Llama3),
    ("dbrx", Pre::Llama3Plain),
    ("smaug-bpe", Pre::Llama3Plain),
    ("tekken", Pre::Tekken),
    ("qwen2", Pre::Qwen2),
    ("deepseek-r1-qwen", Pre::Qwen2),
    ("kormo", Pre::Qwen2),
    ("f2llmv2", Pre::Qwen2),
    ("megrez", Pre::Qwen2),
    ("qwen35", Pre::Qwen35),
    ("gpt-4o", Pre::Gpt4o),
    ("llama4", Pre::Gpt4o),
    ("kanana2", Pre::Gpt4o),
    ("talkie", Pre::Gpt4o),
    ("minimax-m2", Pre::Gpt4o),
    ("deepseek-llm", Pre::DeepseekLlm),
    ("deepseek-coder", Pre::DeepseekCoder),
];

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The letters of `deepseek-llm`: those with case, without the scripts and blocks that its list leaves out.
const DEEPSEEK_LETTERS: &str = r"\s?(?:(?![\u{560}-\u{588}\u{10c7}-\u{10ff}\u{1c80}-\u{1c8f}\u{2d00}-\u{2d2f}\u{a790}-\u{a7ff}\u{ab30}-\u{ab6f}\u{10570}-\u{105bf}\u{10d50}-\u{10d8f}\u{16e40}-\u{16edf}\u{1d400}-\u{1d7cb}\u{1df00}-\u{1df2f}])[\p{Lu}\p{Ll}\p{Lt}])+";
const DEEPSEEK_CJK: &str = r"[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+";

impl Pre {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, pre)| *pre)
    }

    /// All names, for an error.
    pub(super) fn names() -> String {
        let names: Vec<String> = NAMES.iter().map(|(name, _)| format!("`{name}`")).collect();
        names.join(", ")
    }

    /// Whether words of the vocabulary are taken whole; the same models begin texts with `bos`.
    pub(super) fn takes_whole_words(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// The `normalizer` of a `tokenizer.json`.
    pub(super) fn normalizer(self) -> Value {
        match self {
            Self::Qwen2 | Self::Qwen35 => json!({"type": "NFC"}),
            _ => Value::Null,
        }
    }

    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn json(self) -> Value {
        let steps = match self {
            Self::Gpt2 => vec![byte_level(true)],
            Self::Digits => vec![digits(), byte_level(true)],
            Self::Llama3 | Self::Llama3Plain => vec![split(LLAMA3), byte_level(false)],
            Self::Qwen2 => vec![split(QWEN2), byte_level(false)],
            Self::Qwen35 => vec![split(QWEN35), byte_level(false)],
            Self::Tekken => vec![split(TEKKEN), byte_level(false)],
            Self::Gpt4o => vec![split(GPT4O), byte_level(false)],
            Self::DeepseekLlm => vec![
                split(r"[\r\n]"),
                split(DEEPSEEK_LETTERS),
                split(r"\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+"),
                split(r"\s+$"),
                split(DEEPSEEK_CJK),
                digits(),
                byte_level(false),
            ],
            Self::DeepseekCoder => vec![
                split(r"[\r\n]"),
                split(r"\s?\p{L}+"),
                split(r"\s?\p{P}+"),
                split(DEEPSEEK_CJK),
                digits(),
                byte_level(false),
            ],
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn digits() -> Value {
    json!({"type": "Digits", "individual_digits": true})
}

/// Bytes to the characters that stand for them, with or without GPT-2's pattern before.
pub(super) fn byte_level(cuts: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": cuts})
}

/// The characters that stand for the 256 bytes (`bytes_to_unicode` of GPT-2).
pub(super) fn byte_characters() -> [char; 256] {
    let (mut bytes, mut next) = (0u8..=255, 256u32);
    std::array::from_fn(|_| {
        let byte = u32::from(bytes.next().unwrap_or(u8::MAX));
        let code = match byte {
            33..=126 | 161..=172 | 174..=255 => byte,
            _ => {
                next += 1;
                next - 1
            }
        };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_their_characters() {
        // OpenAI's gpt-2 vocabulary: a space is Ġ, a newline Ċ, and `!` itself.
        let characters = byte_characters();
        assert_eq!(characters[usize::from(b' ')], 'Ġ');
        assert_eq!(characters[usize::from(b'\n')], 'Ċ');
        assert_eq!(characters[usize::from(b'!')], '!');
        assert_eq!(characters.iter().collect::<std::collections::BTreeSet<_>>().len(), 256);
    }

    #[test]
    fn names_are_known_once() {
        for (name, pre) in NAMES {
            assert_eq!(NAMES.iter().filter(|(other, _)| *other == name).count(), 1, "{name}");
            assert_eq!(Pre::from_name(name), Some(pre));
        }
        assert_eq!(Pre::from_name("qwen-2"), None);
    }
}
