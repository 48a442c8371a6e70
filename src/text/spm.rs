//! Vocabularies of `SentencePiece` BPE models in GGUF files: tokens with scores, no merges.
//!
//! The pipelines and the merges are those that `transformers` builds (`LlamaTokenizer`,
//! `GemmaTokenizer`, `generate_merges`).

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

/// Longest token in characters whose halves are looked for; published ones have below 100.
pub(super) const LONGEST_TOKEN: usize = 512;

/// What stands for a space.
const SPACE: &str = "▁";

/// How the text around the vocabulary is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spm {
    /// Llama 2 and its kin; whether a space is put before the text.
    Llama { prefix: bool },
    /// Phi 3: as Llama, but the space is put even before one.
    Phi3,
    /// Gemma: no space is put before, runs of spaces are tokens.
    Gemma,
}

impl Spm {
    pub(super) fn new(architecture: &str, prefix: bool) -> Self {
        match architecture {
            "gemma" | "gemma2" | "gemma3" => Self::Gemma,
            "phi3" => Self::Phi3,
            _ => Self::Llama { prefix },
        }
    }

    /// A token as the tokenizer spells it: Gemma's files write runs of spaces as such.
    pub(super) fn respell(self, token: &str) -> String {
        let spaces = self == Self::Gemma && token.contains(' ') && token.trim().is_empty();
        if spaces { SPACE.repeat(token.chars().count()) } else { token.to_owned() }
    }

    /// What orders the merges: the scores, except that Gemma's do not and places do.
    pub(super) fn ranks(self, scores: &[f32]) -> Vec<f64> {
        match self {
            Self::Gemma => (0..scores.len()).map(|place| -(place as f64)).collect(),
            _ => scores.iter().map(|score| f64::from(*score)).collect(),
        }
    }

    /// `normalizer` and `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn before(self) -> (Value, Value) {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
        let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false});
        match self {
            Self::Llama { prefix: true } => (Value::Null, metaspace("first")),
            Self::Llama { prefix: false } => (Value::Null, metaspace("never")),
            Self::Phi3 => {
                let prepend = json!({"type": "Prepend", "prepend": SPACE});
                (json!({"type": "Sequence", "normalizers": [prepend, replace]}), Value::Null)
            }
            Self::Gemma => {
                let split = json!({
                    "type": "Split", "pattern": {"String": " "},
                    "behavior": "MergedWithPrevious", "invert": false
                });
                (replace, split)
            }
        }
    }

    /// `decoder` of a `tokenizer.json`.
    pub(super) fn decoder(self) -> Value {
        let mut steps = vec![
            json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if matches!(self, Self::Llama { prefix: true } | Self::Phi3) {
            steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": steps})
    }
}

/// The merges that a vocabulary implies: every way to cut a token into two others, best rank first,
/// longer halves first among equals. `ids` and `tokens` name each other; no rank may be NaN.
pub(super) fn merges<'a>(
    tokens: &'a [String],
    ids: &HashMap<&str, u32>,
    ranks: &[f64],
) -> Vec<(&'a str, &'a str)> {
    struct Merge<'a> {
        halves: (&'a str, &'a str),
        rank: f64,
        lengths: (usize, usize),
    }
    let mut merges = Vec::new();
    let mut seen = HashSet::new();
    for token in tokens {
        // Of equal tokens the last has the id and the rank, the first the place.
        let Some(id) = ids.get(token.as_str()).filter(|_| seen.insert(token)) else { continue };
        let rank = ranks.get(*id as usize).copied().unwrap_or(0.0);
        let length = token.chars().count();
        let mut cuts: Vec<_> = (token.char_indices().enumerate().skip(1))
            .filter_map(|(left, (at, _))| {
                let halves = token.split_at(at);
                let order = (*ids.get(halves.0)?, *ids.get(halves.1)?);
                Some((order, Merge { halves, rank, lengths: (left, length - left) }))
            })
            .collect();
        cuts.sort_by_key(|(order, _)| *order);
        merges.extend(cuts.into_iter().map(|(_, merge)| merge));
    }
    merges.sort_by(|a, b| {
        let ranks = b.rank.partial_cmp(&a.rank).unwrap_or(Ordering::Equal);
        ranks.then_with(|| b.lengths.cmp(&a.lengths))
    });
    merges.into_iter().map(|merge| merge.halves).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_follow_ranks_then_lengths() {
        // By hand, as transformers.tokenization_utils_base.generate_merges orders them.
        let tokens: Vec<String> = ["a", "b", "ab", "ba", "aba"].map(str::to_owned).to_vec();
        let ids = tokens.iter().zip(0..).map(|(token, id)| (token.as_str(), id)).collect();
        let found = merges(&tokens, &ids, &[0.0, 0.0, -1.0, -2.0, -1.0]);
        assert_eq!(found, [("ab", "a"), ("a", "ba"), ("a", "b"), ("b", "a")]);
    }

    #[test]
    fn gemma_spells_runs_of_spaces_its_own_way() {
        assert_eq!(Spm::Gemma.respell("   "), "▁▁▁");
        assert_eq!(Spm::Gemma.respell("a b"), "a b");
        assert_eq!(Spm::Phi3.respell("  "), "  ");
    }
}
