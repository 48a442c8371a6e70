//! Values that were not given.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::choices::Task;
use super::error::{ConfigError, shown};
use super::keys::{Fallback, Key, Peer, key, keys};
use super::peers::OTHER_DEFAULTS;
use super::values::{Origin, Values, default_json};

/// Keys that act on denoisers only.
const IMAGE: [&str; 10] = [
    "data.image.",
    "data.regularization",
    "diffusion.",
    "base.vae",
    "base.v_prediction",
    "base.clip_skip",
    "adapter.conv_",
    "adapter.denoiser",
    "adapter.text_encoder",
    "optimizer.text_encoder_lr",
];

/// What is trained: as the configuration says, as the base is, or as the other keys suggest.
pub(super) fn task(
    path: &Path,
    values: &mut Values,
    task_of: &dyn Fn(&str) -> Option<Task>,
) -> Result<Task, ConfigError> {
    if let Some(task) = values.text("task").and_then(Task::from_name) {
        return Ok(task);
    }
    let of_base =
        values.text("base.model").and_then(|base| task_of(base).or_else(|| by_name(base)));
    let task = of_base.or_else(|| by_keys(values)).ok_or_else(|| ConfigError::Missing {
        path: path.to_owned(),
        key: "task",
        meaning: "neither the base nor a key says what is trained",
        hint: "write `task: image` or `task: text`",
    })?;
    if let Some(key) = key("task") {
        let origin =
            Origin::Derived(if of_base.is_some() { "as the base is" } else { "as the keys say" });
        values.insert(key, task.name().into(), origin);
    }
    Ok(task)
}

fn by_name(base: &str) -> Option<Task> {
    match base {
        "demo:image" => Some(Task::Image),
        "demo:text" => Some(Task::Text),
        file => match Path::new(file).extension()?.to_str()?.to_ascii_lowercase().as_str() {
            // Denoisers in GGUF are not trained.
            "gguf" => Some(Task::Text),
            // Language models are folders; a single file is a checkpoint of Stable Diffusion.
            "safetensors" => Some(Task::Image),
            _ => None,
        },
    }
}

fn by_keys(values: &Values) -> Option<Task> {
    let given =
        |start: &str| keys().any(|k| k.name.starts_with(start) && values.get(k.name).is_some());
    let peer = |peer: Peer| values.peers.contains(&peer);
    let image = IMAGE.iter().any(|start| given(start)) || peer(Peer::SdScripts);
    let text = given("data.text.") || peer(Peer::LlamaFactory) || peer(Peer::Axolotl);
    match (image, text) {
        (true, false) => Some(Task::Image),
        (false, true) => Some(Task::Text),
        _ => None,
    }
}

/// Says which given keys set nothing for such a task.
pub(super) fn idle(path: &Path, values: &mut Values, task: Task) {
    let (elsewhere, what): (&[&str], _) = match task {
        Task::Text => (&IMAGE, "a language model"),
        Task::Image => (&["data.text."], "a denoiser"),
    };
    let of = |key: &&Key| elsewhere.iter().any(|start| key.name.starts_with(start));
    let mut notes = Vec::new();
    for key in keys().filter(of) {
        let usual = fallback(key, path, values, task).map(|(json, _)| json);
        let is_usual = values.get(key.name).map(|value| &value.json) == usual.as_ref();
        if let Some(place) = values.given(key.name).filter(|_| !is_usual) {
            notes.push(format!("{place}: `{}` sets nothing where {what} is trained", key.name));
        }
    }
    values.notes.extend(notes);
}

/// Gives every key a value.
pub(super) fn fill(path: &Path, values: &mut Values, task: Task) -> Result<(), ConfigError> {
    for key in keys() {
        if values.get(key.name).is_some() {
            continue;
        }
        let (json, origin) =
            fallback(key, path, values, task).ok_or_else(|| ConfigError::Missing {
                path: path.to_owned(),
                key: key.name,
                meaning: key.meaning,
                hint: match key.default {
                    Fallback::Required(hint) => hint,
                    _ => "give it a value",
                },
            })?;
        let ours = key.kind.write(&json);
        values.insert(key, json, origin);
        say_other_defaults(path, values, task, key.name, &ours);
    }
    Ok(())
}

/// What holds where a key is not given, and why; none where it must be given.
fn fallback(key: &Key, path: &Path, values: &Values, task: Task) -> Option<(Json, Origin)> {
    match key.default {
        Fallback::Required(_) => None,
        Fallback::None(what) => Some((Json::Null, Origin::Default(what))),
        Fallback::Is(text, source) => Some((default_json(key, text)?, Origin::Default(source))),
        Fallback::Derived(rule) => {
            Some((derived(key.name, path, values, task), Origin::Derived(rule)))
        }
    }
}

fn say_other_defaults(path: &Path, values: &mut Values, task: Task, key: &str, ours: &str) {
    for (peer, name, theirs) in OTHER_DEFAULTS {
        if *name == key && values.peers.contains(peer) && matters(values, name, task) {
            values.notes.push(format!(
                "{}: `{name}` is not given: it is {ours}; {} would take {theirs}",
                shown(path),
                peer.name(),
            ));
        }
    }
}

/// Whether a peer's other default would lead elsewhere.
fn matters(values: &Values, name: &str, task: Task) -> bool {
    match name {
        "adapter.conv_alpha" => values.number("adapter.conv_rank").is_some(),
        "adapter.text_encoder" => task == Task::Image && !values.flag(name),
        "optimizer.text_encoder_lr" => values.flag("adapter.text_encoder"),
        "schedule.warmup" => values.get(name).is_some_and(|v| v.json != json!({ "Steps": 0 })),
        "data.held_out_split" => {
            values.get("data.held_out").is_none_or(|held_out| held_out.json.is_null())
        }
        _ => true,
    }
}

/// The rules that the table of keys tells in words.
fn derived(name: &str, path: &Path, values: &Values, task: Task) -> Json {
    let image = task == Task::Image;
    let optimizer = values.text("optimizer.kind").unwrap_or_default();
    let rank = values.number("adapter.rank").unwrap_or(1.0);
    let [width, height] = resolution(values);
    match name {
        "adapter.alpha" => rank.into(),
        "adapter.conv_alpha" => values.number("adapter.conv_rank").unwrap_or(rank).into(),
        "adapter.text_encoder" => {
            let rate = values.given("optimizer.text_encoder_lr").is_some();
            (image && (rate || !values.flag("adapter.denoiser"))).into()
        }
        "optimizer.learning_rate" => match (optimizer, image) {
            ("prodigy", _) => 1.0.into(),
            ("lion", true) => (1e-4 / 3.0).into(),
            ("lion", false) => (2e-4 / 3.0).into(),
            (_, true) => 1e-4.into(),
            (_, false) => 2e-4.into(),
        },
        "optimizer.text_encoder_lr" if optimizer == "prodigy" => 1.0.into(),
        "optimizer.text_encoder_lr" => {
            (values.number("optimizer.learning_rate").unwrap_or(1e-4) / 10.0).into()
        }
        "optimizer.weight_decay" => (if optimizer == "adamw" { 0.01 } else { 0.0 }).into(),
        "optimizer.beta2" => (if optimizer == "lion" { 0.99 } else { 0.999 }).into(),
        "schedule.warmup" => match values.letters("schedule.kind").as_deref() {
            Some("constant") => json!({ "Steps": 0 }),
            _ => json!({ "Fraction": 0.05 }),
        },
        "data.image.min_bucket" => (width.min(height) / 2 / 8 * 8).clamp(8, 256).into(),
        "data.image.max_bucket" => (2 * width.max(height)).clamp(1024, 8192).into(),
        "data.image.bucket_step" => (if width.min(height) < 256 { 8 } else { 64 }).into(),
        "data.image.cache_latents" => (!values.flag("data.image.random_crop")
            && !values.flag("data.image.color_jitter"))
        .into(),
        "data.image.cache_texts" => {
            let dropped = values.number("data.image.tag_dropout").is_some_and(|p| p > 0.0);
            let varies = dropped || values.flag("data.image.shuffle_tags");
            (!varies && !values.flag("adapter.text_encoder")).into()
        }
        "output.name" => name_of(path).into(),
        "output.format" => (if image { "kohya" } else { "peft" }).into(),
        "output.precision" => (if image { "f16" } else { "f32" }).into(),
        _ => Json::Null,
    }
}

/// Width and height.
pub(super) fn resolution(values: &Values) -> [u64; 2] {
    let side = |i: usize| values.get("data.image.resolution").and_then(|v| v.json.get(i)?.as_u64());
    [0, 1].map(|i| side(i).unwrap_or(512))
}

/// The configuration's file name as the name of an adapter.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem
        .chars()
        .take(100)
        .map(|c| if c.is_alphanumeric() || "_-. ".contains(c) { c } else { '_' })
        .collect();
    let name = name.trim_start_matches('.').trim();
    if name.is_empty() { "adapter".to_owned() } else { name.to_owned() }
}
