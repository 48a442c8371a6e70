//! Changes of one key, in the words of the program that trained.

use serde_json::{Number, Value};

use super::super::diagnosis::Patch;
use super::super::history::{History, Origin, Task};

/// Our keys, sd-scripts', and those of transformers and PEFT; empty where there is none.
const NAMES: [(&str, &str, &str); 9] = [
    ("optimizer.learning_rate", "learning_rate", "learning_rate"),
    ("optimizer.text_encoder_lr", "text_encoder_lr", ""),
    ("optimizer.max_grad_norm", "max_grad_norm", "max_grad_norm"),
    ("schedule.kind", "lr_scheduler", "lr_scheduler_type"),
    ("adapter.rank", "network_dim", "r"),
    ("adapter.alpha", "network_alpha", "lora_alpha"),
    ("adapter.dropout", "network_dropout", "lora_dropout"),
    ("data.image.caption_extension", "caption_extension", ""),
    ("run.steps", "max_train_steps", "max_steps"),
];

/// A patch of one of our keys.
pub(super) fn patch(history: &History, key: &'static str, to: Value, why: String) -> Patch {
    let names = NAMES.iter().find(|(ours, ..)| *ours == key);
    let theirs = match history.origin {
        Origin::LoraEval | Origin::Other => None,
        Origin::SdScripts => names.map(|names| names.1),
        Origin::Transformers => names.map(|names| names.2),
    };
    let name = history.renamed.get(key).copied().or(theirs).filter(|name| !name.is_empty());
    let from = history.settings.get(key).cloned();
    Patch { key: name.unwrap_or(key).to_owned(), from, to, why }
}

/// The learning rate times a factor, to two digits.
pub(super) fn rate_times(history: &History, factor: f64, why: String) -> Option<Patch> {
    let next = history.learning_rate()? * factor;
    let mut patch = patch(history, "optimizer.learning_rate", two_digits(next)?, why);
    // Where no configuration tells, the largest rate that was logged does.
    patch.from = patch.from.or_else(|| history.learning_rate().and_then(two_digits));
    Some(patch)
}

fn two_digits(value: f64) -> Option<Value> {
    let rounded: f64 = format!("{value:.1e}").parse().ok()?;
    Number::from_f64(rounded).map(Value::Number)
}

/// A number, whole where it is one.
pub(super) fn plain(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be a small whole number")]
    let whole = (value.fract() == 0.0 && value.abs() < 1e9).then_some(value as i64);
    whole.map_or_else(|| Number::from_f64(value).map_or(Value::Null, Value::Number), Value::from)
}

/// Where a learning rate starts: 10⁻⁴ for pictures (diffusers, sd-scripts), 2·10⁻⁴ for texts
/// (LLaMA-Factory, unsloth).
pub(super) fn usual_rate(history: &History) -> f64 {
    if history.task == Some(Task::Text) { 2e-4 } else { 1e-4 }
}
