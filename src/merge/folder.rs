//! A folder written anew: weights with their changes, the rest copied.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Request;
use super::error::MergeError;
use super::plan::{HEAD, Plan};
use super::report;
use super::write::{Job, TensorEffect};
use crate::adapter::Component;
use crate::model::{BaseFile, Shape};
use crate::tensors::{Float, Limits, TensorError, TensorFile};

/// Writes the whole model below `out`, an empty folder.
pub(super) fn write(
    request: &Request<'_>,
    plan: &Plan<'_>,
    out: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<TensorEffect>, MergeError> {
    let mut effects = Vec::new();
    let mut sizes: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for (index, file) in request.base.files.iter().enumerate() {
        let path = out.join(&file.relative);
        let io = |e| MergeError::from(TensorError::io(&path, e));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        let metadata = report::provenance(request, &file.file);
        let job = Job::new(request, plan, index, &path, &metadata)?;
        effects.extend(job.run(&fs::File::create(&path).map_err(io)?, progress)?);
        *sizes.entry(folder_of(file)).or_default() += job.data_size();
    }
    copy_rest(request, plan, Path::new(""), out, &sizes)?;
    Ok(effects)
}

/// Whether `out` may be replaced: it does not exist, is empty, or was written by a merge and holds
/// nothing that the base has not.
pub(super) fn can_replace(out: &Path, base: &Path) -> bool {
    !out.exists() || entries(out).is_empty() || (is_within(out, base) && holds_a_merge(out))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|e| e.path()).collect()
}

/// Whether every file of `out` has its like in `base`.
fn is_within(out: &Path, base: &Path) -> bool {
    entries(out).iter().all(|path| {
        let Some(name) = path.file_name() else { return false };
        let like = base.join(name);
        if path.is_dir() { like.is_dir() && is_within(path, &like) } else { like.is_file() }
    })
}

fn holds_a_merge(folder: &Path) -> bool {
    entries(folder).iter().any(|path| {
        if path.is_dir() {
            return holds_a_merge(path);
        }
        path.extension().is_some_and(|ending| ending == "safetensors")
            && TensorFile::open(path, Limits::BASE)
                .is_ok_and(|file| file.metadata().contains_key(report::MERGED))
    })
}

fn folder_of(file: &BaseFile) -> PathBuf {
    file.relative.parent().map(Path::to_owned).unwrap_or_default()
}

/// Endings of files that hold weights in one form or another.
const WEIGHTS: [&str; 9] =
    ["safetensors", "bin", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "gguf"];

/// Copies what is not weights; weights in other forms would be those of the base, and are left out
/// beside weights that were written.
fn copy_rest(
    request: &Request<'_>,
    plan: &Plan<'_>,
    relative: &Path,
    out: &Path,
    sizes: &BTreeMap<PathBuf, u64>,
) -> Result<(), MergeError> {
    let from = request.base.path.join(relative);
    let io = |e| MergeError::from(TensorError::io(&from, e));
    // A pipeline's other components keep their weights; whatever else is weights would be the base's.
    let written = sizes.contains_key(relative)
        || relative.as_os_str().is_empty()
        || request.base.shape != Shape::Pipeline;
    for entry in fs::read_dir(&from).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let inside = relative.join(&name);
        let path = entry.path();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let about = fs::metadata(&path).map_err(|e| TensorError::io(&path, e))?;
        if about.is_dir() {
            let inside_out = from.canonicalize().map_err(io)?;
            if inside_out.starts_with(path.canonicalize().map_err(io)?) {
                continue; // a link to a folder that is being copied
            }
            fs::create_dir_all(out.join(&inside)).map_err(io)?;
            copy_rest(request, plan, &inside, out, sizes)?;
            continue;
        }
        let target = out.join(&inside);
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if written && WEIGHTS.contains(&ending.as_str()) {
            continue;
        }
        let text = name.to_string_lossy();
        let component = request.base.files.iter().find(|f| folder_of(f) == relative);
        let component = component.and_then(|file| file.component);
        match component {
            Some(_) if text.ends_with(".index.json") && !lists(&path, request) => {}
            Some(_) if text.ends_with(".index.json") => {
                write_index(&path, &target, request, plan, sizes[relative])?;
            }
            Some(component) if text == "config.json" => {
                write_config(&path, &target, request, plan, component)?;
            }
            _ => drop(fs::copy(&path, &target).map_err(|e| TensorError::io(&target, e))?),
        }
    }
    Ok(())
}

fn read_json(path: &Path) -> Result<Value, MergeError> {
    let text = fs::read_to_string(path).map_err(|e| TensorError::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| TensorError::io(path, e.into()).into())
}

fn write_json(path: &Path, value: &Value) -> Result<(), MergeError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| TensorError::io(path, e.into()))?;
    fs::write(path, text + "\n").map_err(|e| TensorError::io(path, e).into())
}

/// Whether an index lists the shards that were read, and not those of another form of the weights.
fn lists(index: &Path, request: &Request<'_>) -> bool {
    let Ok(index) = read_json(index) else { return false };
    let known = |name: &str| {
        let files = request.base.files.iter().filter_map(|file| file.relative.file_name());
        files.into_iter().any(|file| file == name)
    };
    let map = index["weight_map"].as_object();
    map.is_some_and(|map| map.values().all(|file| file.as_str().is_some_and(known)))
}

/// The index of shards: sizes change with the type, and a tied head is a new tensor.
fn write_index(
    from: &Path,
    to: &Path,
    request: &Request<'_>,
    plan: &Plan<'_>,
    size: u64,
) -> Result<(), MergeError> {
    let mut index = read_json(from)?;
    if let Some(total) = index.get_mut("metadata").and_then(|m| m.get_mut("total_size")) {
        *total = Value::from(size);
    }
    if let (Some(untied), Some(map)) =
        (&plan.untied, index.get_mut("weight_map").and_then(Value::as_object_mut))
    {
        let file = request.base.files[untied.file].relative.to_string_lossy().into_owned();
        map.insert(HEAD.to_owned(), Value::from(file));
    }
    write_json(to, &index)
}

/// `config.json`, changed only where the weights made it untrue.
fn write_config(
    from: &Path,
    to: &Path,
    request: &Request<'_>,
    plan: &Plan<'_>,
    component: Component,
) -> Result<(), MergeError> {
    let mut config = read_json(from)?;
    let mut changed = false;
    if plan.untie_config && component == Component::Language {
        config["tie_word_embeddings"] = Value::from(false);
        changed = true;
    }
    if let Some(float) = request.dtype {
        let name = match float {
            Float::F16 => "float16",
            Float::BF16 => "bfloat16",
            Float::F32 => "float32",
            Float::F64 => "float64",
        };
        for key in ["torch_dtype", "dtype"] {
            if config.get(key).is_some() {
                config[key] = Value::from(name);
                changed = true;
            }
        }
    }
    if changed {
        return write_json(to, &config);
    }
    fs::copy(from, to).map(drop).map_err(|e| TensorError::io(from, e).into())
}
