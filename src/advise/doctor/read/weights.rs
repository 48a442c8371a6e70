//! Adapters of a training: what their tensors and their `ss_*` metadata say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::history::{Captions, History, Origin, Task, Weights};
use super::number_in;
use crate::adapter::{Adapter, AdapterError, Component};

/// At most so many adapters are read, the newest ones.
const MOST: usize = 64;

/// sd-scripts' metadata by our canonical keys.
const SETTINGS: [(&str, &str); 9] = [
    ("ss_learning_rate", "optimizer.learning_rate"),
    ("ss_text_encoder_lr", "optimizer.text_encoder_lr"),
    ("ss_max_grad_norm", "optimizer.max_grad_norm"),
    ("ss_lr_scheduler", "schedule.kind"),
    ("ss_network_dim", "adapter.rank"),
    ("ss_network_alpha", "adapter.alpha"),
    ("ss_network_dropout", "adapter.dropout"),
    ("ss_mixed_precision", "base.precision"),
    ("ss_max_train_steps", "run.steps"),
];

/// Reads the adapters among the files. One that cannot be read is noted; a file of other tensors (an
/// optimizer's state, a base) is none.
pub(super) fn read(dir: &Path, files: &[PathBuf], history: &mut History) {
    // Our checkpoints keep variables and optimizer in `state.safetensors`.
    let is_state =
        |path: &Path| path.ends_with("state.safetensors") && path.with_extension("json").is_file();
    let mut adapters: Vec<(Option<u64>, &PathBuf)> = files
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"))
        .filter(|path| !is_state(path))
        .map(|path| (number(path.strip_prefix(dir).unwrap_or(path)), path))
        .collect();
    // Checkpoints by their number; the finished adapter, which has none, last.
    adapters.sort_by_key(|(number, _)| number.unwrap_or(u64::MAX));
    let older = adapters.len().saturating_sub(MOST);
    if older > 0 {
        history.notes.push(format!("{older} older checkpoints were not read"));
    }
    let mut newest = None;
    for (_, path) in adapters.into_iter().skip(older) {
        match Adapter::open(path) {
            Ok(adapter) => {
                history.weights.push(weights(&adapter, path));
                newest = Some(adapter);
                history.read.push(path.clone());
            }
            Err(AdapterError::File { .. }) => {}
            Err(error) => history.notes.push(first_line(&error)),
        }
    }
    if let Some(adapter) = newest {
        about(&adapter, history);
    }
}

/// The step or epoch in the name of a checkpoint's file or folder: `checkpoints/step-00000100/…`,
/// transformers' `checkpoint-500/…`, sd-scripts' `style-000010` and `style-step00000100`.
fn number(path: &Path) -> Option<u64> {
    const PADDED: usize = 6;
    let of = |name: &str| {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let before = name.get(..name.len() - digits)?;
        let named = ["step", "step-", "checkpoint-"].iter().any(|word| before.ends_with(word));
        (digits > 0 && (named || digits >= PADDED && before.ends_with('-')))
            .then(|| number_in(name))
    };
    let stem = path.with_extension("");
    let names = stem.iter().rev().map(|name| name.to_string_lossy().into_owned());
    names.into_iter().find_map(|name| of(&name)).flatten()
}

fn first_line(error: &AdapterError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn weights(adapter: &Adapter, path: &Path) -> Weights {
    let dead = adapter.without_effect();
    let dead_text_encoder = !dead.is_empty()
        && adapter
            .modules
            .values()
            .filter(|module| dead.contains(&module.key))
            .all(|module| module.id.component.is_text_encoder());
    let mut scales: Vec<f32> = adapter
        .modules
        .values()
        .filter(|module| module.rank().is_some())
        .map(|module| module.scale)
        .collect();
    scales.sort_by(f32::total_cmp);
    Weights {
        path: path.to_owned(),
        not_finite: adapter.not_finite(),
        dead,
        dead_text_encoder,
        modules: adapter.modules.len(),
        scale: scales.get(scales.len() / 2).map(|scale| f64::from(*scale)),
    }
}

/// What the newest adapter's metadata and configuration tell of the training; a log tells it better.
fn about(adapter: &Adapter, history: &mut History) {
    let metadata = &adapter.metadata;
    let pictures = adapter.modules.keys().any(|id| id.component != Component::Language);
    history.task.get_or_insert(if pictures { Task::Image } else { Task::Text });
    let by_kohya = metadata.keys().any(|key| key.starts_with("ss_"));
    if by_kohya && history.origin != Origin::LoraEval {
        history.origin = Origin::SdScripts;
    }
    for (theirs, ours) in SETTINGS {
        if let Some(value) = metadata.get(theirs).filter(|value| *value != "None") {
            history.settings.entry(ours.to_owned()).or_insert_with(|| scalar(value));
        }
    }
    // sd-scripts trains the denoiser at `unet_lr` where that is given.
    if let Some(rate) = metadata.get("ss_unet_lr").filter(|rate| *rate != "None")
        && history.origin == Origin::SdScripts
    {
        history.settings.insert("optimizer.learning_rate".to_owned(), scalar(rate));
        history.renamed.insert("optimizer.learning_rate", "unet_lr");
    }
    if let Some(config) = &adapter.config {
        for (theirs, ours) in [
            ("r", "adapter.rank"),
            ("lora_alpha", "adapter.alpha"),
            ("lora_dropout", "adapter.dropout"),
            ("use_rslora", "adapter.rslora"),
        ] {
            if let Some(value) = config.fields.get(theirs) {
                history.settings.entry(ours.to_owned()).or_insert_with(|| value.clone());
            }
        }
        if history.origin == Origin::Other {
            history.origin = Origin::Transformers;
        }
    }
    if history.captions.is_none() {
        history.captions = captions(metadata);
    }
}

/// A number where the text is one.
fn scalar(text: &str) -> Value {
    serde_json::from_str(text).ok().filter(Value::is_number).unwrap_or_else(|| Value::from(text))
}

/// `ss_tag_frequency`: folder → tag → how often; `ss_dataset_dirs`: folder → how many pictures. Where a
/// picture has no caption, sd-scripts takes its folder's name (`10_name` → `name`), or nothing.
fn captions(metadata: &BTreeMap<String, String>) -> Option<Captions> {
    let json = |key: &str| -> Option<Value> { serde_json::from_str(metadata.get(key)?).ok() };
    let (frequency, folders) = (json("ss_tag_frequency")?, json("ss_dataset_dirs")?);
    let (mut pictures, mut tags, mut name) = (0, 0, "");
    for (folder, about) in folders.as_object()? {
        let count = about.get("img_count").and_then(Value::as_u64).unwrap_or(0);
        let class = folder.split_once('_').map_or("", |(_, name)| name);
        pictures += count;
        let of_folder = frequency.get(folder).and_then(Value::as_object);
        for (tag, times) in of_folder.into_iter().flatten() {
            // The name may hold commas, which part tags; then it is taken for captions.
            if !tag.trim().eq_ignore_ascii_case(class.trim()) || times.as_u64() != Some(count) {
                return Some(Captions::Read);
            }
            (tags, name) = (tags + 1, class);
        }
    }
    match (pictures, tags) {
        (0, _) => None,
        (_, 0) => Some(Captions::Empty(pictures)),
        _ => Some(Captions::FolderName(pictures, name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_tell_their_step_or_epoch() {
        for (path, expected) in [
            ("checkpoints/step-00000100/style/unet/adapter_model.safetensors", Some(100)),
            ("checkpoint-500/adapter_model.safetensors", Some(500)),
            ("style-000010.safetensors", Some(10)),
            ("style-step00001200.safetensors", Some(1200)),
            ("style.safetensors", None),
            ("style-v2.safetensors", None),
            ("style-2.safetensors", None),
            ("style-best/adapter_model.safetensors", None),
        ] {
            assert_eq!(number(Path::new(path)), expected, "{path}");
        }
    }
}
