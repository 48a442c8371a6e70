//! Changes of one key, in the words of the program that trained.

use serde_json::{Number, Value};

use super::super::diagnosis::Patch;
use super::super::history::{History, Origin, Task};
use super::short;

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

/// The key of the training's length, and its value changed: our `10 epochs`, or others' steps.
pub(super) fn length(
    history: &History,
    change: impl Fn(u64) -> Option<u64>,
) -> Option<(&'static str, Value)> {
    if let Some((count, unit)) = history.word("run.length").and_then(|text| text.split_once(' ')) {
        let changed = change(count.parse().ok()?)?;
        return Some(("run.length", format!("{changed} {unit}").into()));
    }
    let steps = history.number("run.steps").filter(|steps| (1.0..1e15).contains(steps))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a small positive number"
    )]
    Some(("run.steps", change(steps as u64)?.into()))
}

/// The rank times a power of 2, and what becomes of alpha/rank where alpha stays.
pub(super) fn rank_times(history: &History, factor: f64, why: &str) -> Option<Patch> {
    let before = history.number("adapter.rank").filter(|rank| rank * factor >= 1.0)?;
    let rank = (before * factor).floor();
    let scale = history.number("adapter.alpha").map(|alpha| {
        let change = rank / before;
        let change = if history.is_on("adapter.rslora") { change.sqrt() } else { change };
        format!(
            "; alpha stays {alpha}, so alpha/rank becomes {}, as if the change were multiplied by {}",
            short(alpha / rank),
            short(1.0 / change)
        )
    });
    let why = format!("{why}{}", scale.unwrap_or_default());
    Some(patch(history, "adapter.rank", plain(rank), why))
}

/// Where a learning rate starts: 10⁻⁴ for pictures (diffusers, sd-scripts), 2·10⁻⁴ for texts
/// (LLaMA-Factory, unsloth).
pub(super) fn usual_rate(history: &History) -> f64 {
    if history.task == Some(Task::Text) { 2e-4 } else { 1e-4 }
}
