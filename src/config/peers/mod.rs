//! Keys of peers that set nothing here: those without a meaning, which are ignored aloud, and those that
//! would change the result, which are errors unless they say what is done anyway.

mod ignored;
mod refused;

use super::keys::Peer;
use super::kind::{flag, number};
use super::tree::{Node, Value};
pub use ignored::IGNORED;
pub use refused::REFUSED;

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Why a key is ignored, if it is.
pub(super) fn ignored(name: &str) -> Option<&'static str> {
    IGNORED.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, why)| *why)
}

/// The values that a refused key may have, and what to do, if it is one.
pub(super) fn refused(name: &str) -> Option<(&'static [&'static str], &'static str)> {
    REFUSED
        .iter()
        .find(|(pattern, ..)| matches(pattern, name))
        .map(|(_, neutral, hint)| (*neutral, *hint))
}

/// Whether a value says what is done anyway.
pub(super) fn is_neutral(node: &Node, neutral: &[&str]) -> bool {
    let same = |text: &str, other: &str| {
        text.eq_ignore_ascii_case(other)
            || number(text).is_some_and(|value| number(other) == Some(value))
            || flag(text).is_some_and(|value| flag(other) == Some(value))
    };
    match &node.value {
        Value::Empty => true,
        Value::Scalar(text) => neutral.iter().any(|other| same(text, other)),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    }
}

/// Where one key of a pair counts and the other does not, in the peers' own reading: winner, loser.
pub(super) const WINS: &[(&str, &str)] = &[
    ("unet_lr", "learning_rate"),
    ("max_train_epochs", "max_train_steps"),
    ("max_train_steps", "num_train_epochs"),
    ("max_steps", "num_train_epochs"),
    ("max_steps", "num_epochs"),
    ("sample_every_n_epochs", "sample_every_n_steps"),
    ("save_strategy", "save_steps"),
    ("eval_strategy", "eval_steps"),
    ("evaluation_strategy", "eval_steps"),
];

/// Defaults of peers that differ from ours and matter: whose, of which key, and which.
pub const OTHER_DEFAULTS: &[(Peer, &str, &str)] = &[
    (Peer::SdScripts, "adapter.alpha", "1"),
    (Peer::SdScripts, "adapter.conv_alpha", "1"),
    (Peer::SdScripts, "adapter.text_encoder", "true"),
    (Peer::SdScripts, "optimizer.text_encoder_lr", "the learning rate"),
    (Peer::SdScripts, "data.image.buckets", "false"),
    (Peer::SdScripts, "data.held_out_split", "0"),
    (Peer::SdScripts, "schedule.kind", "constant"),
    (Peer::SdScripts, "schedule.warmup", "0"),
    (Peer::SdScripts, "run.length", "1600 steps"),
    (Peer::Peft, "adapter.alpha", "8"),
    (Peer::LlamaFactory, "adapter.alpha", "twice the rank"),
    (Peer::LlamaFactory, "run.length", "3 epochs"),
    (Peer::LlamaFactory, "run.batch_size", "8"),
    (Peer::LlamaFactory, "schedule.kind", "linear"),
    (Peer::LlamaFactory, "schedule.warmup", "0"),
    (Peer::LlamaFactory, "data.held_out_split", "0"),
    (Peer::Axolotl, "data.held_out_split", "0"),
];
