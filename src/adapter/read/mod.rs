//! Adapters from disk, whatever the format.
//!
//! A key is taken apart into module and part ([`keys`]); the parts of a module are put together and
//! checked ([`build`]). Which format a file is in follows from its keys, never from its name.

mod build;
mod keys;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::AdapterError;
use super::id::{Component, ModuleId};
use super::module::{Delta, Module};
use super::peft_config::PeftConfig;
use super::{Adapter, Format};
use crate::base::hint::first_few;
use crate::tensors::{Limits, TensorError, TensorFile};
use build::Parts;
use keys::Dialect;

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
const DIFFUSERS_WEIGHTS: &str = "pytorch_lora_weights.safetensors";

/// Configurations by component; one for all in a PEFT folder.
#[derive(Default)]
struct Configs {
    all: Option<PeftConfig>,
    each: BTreeMap<Component, PeftConfig>,
}

impl Configs {
    fn of(&self, component: Component) -> Option<&PeftConfig> {
        self.each.get(&component).or(self.all.as_ref())
    }
}

/// Opens a file or folder.
pub(super) fn open(path: &Path) -> Result<Adapter, AdapterError> {
    if path.is_dir() {
        return open_folder(path);
    }
    let config = path.with_file_name(CONFIG);
    let is_peft = path.file_name().is_some_and(|name| name == WEIGHTS) && config.is_file();
    let file = TensorFile::open(path, Limits::ADAPTER)?;
    if is_peft {
        let name = path.parent().and_then(Path::file_name);
        return peft(&file, &config, &name.unwrap_or_default().to_string_lossy());
    }
    from_file(&file)
}

fn open_folder(folder: &Path) -> Result<Adapter, AdapterError> {
    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (config, weights) = (folder.join(CONFIG), folder.join(WEIGHTS));
    let pickled = folder.join("adapter_model.bin");
    if !weights.exists() && pickled.exists() {
        return Err(TensorError::Pickle { path: pickled }.into());
    }
    if config.is_file() {
        return peft(&TensorFile::open(&weights, Limits::ADAPTER)?, &config, &name);
    }
    let parts: Vec<(Component, PathBuf)> =
        [Component::Unet, Component::TextEncoder, Component::TextEncoder2]
            .into_iter()
            .map(|component| (component, folder.join(component.name())))
            .filter(|(_, part)| part.join(CONFIG).is_file())
            .collect();
    if !parts.is_empty() {
        return peft_of_components(folder, &parts, &name);
    }
    let mut adapter = from_file(&TensorFile::open(&only_file(folder)?, Limits::ADAPTER)?)?;
    adapter.name = name;
    Ok(adapter)
}

/// The one adapter file of a folder that is not PEFT's.
fn only_file(folder: &Path) -> Result<PathBuf, AdapterError> {
    let diffusers = folder.join(DIFFUSERS_WEIGHTS);
    if diffusers.is_file() {
        return Ok(diffusers);
    }
    let entries = std::fs::read_dir(folder)
        .map_err(|e| TensorError::io(folder, e))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let mut files: Vec<PathBuf> = entries.collect();
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(file),
        (_, more) => Err(AdapterError::File {
            path: folder.to_owned(),
            problem: if more == 0 {
                format!("holds neither {CONFIG} nor a .safetensors file")
            } else {
                "holds several .safetensors files".to_owned()
            },
            hint: "name one adapter file, or a folder saved by PEFT or diffusers".to_owned(),
        }),
    }
}

fn peft(file: &Arc<TensorFile>, config: &Path, name: &str) -> Result<Adapter, AdapterError> {
    let configs = Configs { all: Some(PeftConfig::open(config)?), each: BTreeMap::new() };
    let mut adapter = collect(file, &configs)?;
    name.clone_into(&mut adapter.name);
    adapter.config = configs.all;
    Ok(adapter)
}

/// A folder with a PEFT folder for each component, as this program writes it.
fn peft_of_components(
    folder: &Path,
    parts: &[(Component, PathBuf)],
    name: &str,
) -> Result<Adapter, AdapterError> {
    let mut whole: Option<Adapter> = None;
    for (component, part) in parts {
        let file = TensorFile::open(&part.join(WEIGHTS), Limits::ADAPTER)?;
        let mut adapter = peft(&file, &part.join(CONFIG), name)?;
        let modules = std::mem::take(&mut adapter.modules).into_values().map(|mut module| {
            module.id = ModuleId::new(*component, &module.id.path);
            (module.id.clone(), module)
        });
        if let Some(whole) = &mut whole {
            whole.modules.extend(modules);
            whole.files.append(&mut adapter.files);
            whole.unread.append(&mut adapter.unread);
            whole.warnings.append(&mut adapter.warnings);
        } else {
            let modules = modules.collect();
            whole = Some(Adapter { modules, path: folder.to_owned(), ..adapter });
        }
    }
    whole.ok_or_else(|| AdapterError::File {
        path: folder.to_owned(),
        problem: "holds no adapter".to_owned(),
        hint: "name an adapter file, or a folder saved by PEFT or diffusers".to_owned(),
    })
}

/// A file that carries all it needs: kohya, LyCORIS, diffusers.
pub(super) fn from_file(file: &Arc<TensorFile>) -> Result<Adapter, AdapterError> {
    let mut configs = Configs::default();
    if let Some(text) = file.metadata().get("lora_adapter_metadata") {
        configs.each = diffusers_configs(text, file.path())?;
    }
    let mut adapter = collect(file, &configs)?;
    let no_scale = adapter.format == Format::Peft
        && adapter.modules.values().any(|m| m.rank().is_some() && m.alpha.is_none());
    if no_scale {
        adapter.warnings.push(format!(
            "no {CONFIG} beside the file, so alpha is unknown; it is taken to be the rank (scale 1)"
        ));
    }
    Ok(adapter)
}

/// diffusers keeps each component's `LoraConfig` under `component.field` in one JSON text.
fn diffusers_configs(
    text: &str,
    path: &Path,
) -> Result<BTreeMap<Component, PeftConfig>, AdapterError> {
    let refuse = |problem: String| AdapterError::File {
        path: path.to_owned(),
        problem: format!("metadata `lora_adapter_metadata` {problem}"),
        hint: "save the adapter again with diffusers".to_owned(),
    };
    let fields: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| refuse(format!("is not a JSON object: {e}")))?;
    let mut each: BTreeMap<Component, Map<String, Value>> = BTreeMap::new();
    for (key, value) in fields {
        let component = match key.split_once('.') {
            Some(("unet", _)) => Component::Unet,
            Some(("text_encoder", _)) => Component::TextEncoder,
            Some(("text_encoder_2", _)) => Component::TextEncoder2,
            _ => continue,
        };
        let field = key[component.name().len() + 1..].to_owned();
        each.entry(component).or_default().insert(field, value);
    }
    each.into_iter()
        .map(|(component, fields)| Ok((component, PeftConfig::from_fields(&fields, path)?)))
        .collect()
}

fn collect(file: &Arc<TensorFile>, configs: &Configs) -> Result<Adapter, AdapterError> {
    let mut parts: BTreeMap<ModuleId, Parts<'_>> = BTreeMap::new();
    let mut unread = Vec::new();
    let mut dialects = BTreeSet::new();
    for name in file.names() {
        let (Some(key), Some(tensor)) = (keys::parse(name), file.get(name)) else {
            unread.push(name.to_owned());
            continue;
        };
        dialects.insert(key.dialect);
        let part = key.part;
        let module = parts.entry(key.id.clone()).or_insert_with(|| Parts {
            key: key.clone(),
            path: file.path(),
            tensors: BTreeMap::new(),
        });
        if module.tensors.insert(part, tensor).is_some() {
            return Err(AdapterError::Module {
                path: file.path().to_owned(),
                module: key.stem,
                problem: format!("is also named `{}` in this file", module.key.stem),
                hint: "the file mixes two naming schemes; keep one of them",
            });
        }
    }
    let mut modules = BTreeMap::new();
    for (id, part) in parts {
        let stem = part.key.stem.clone();
        match part.build(configs.of(id.component))? {
            Some(module) => drop(modules.insert(id, module)),
            None => unread.push(stem),
        }
    }
    if modules.is_empty() {
        return Err(nothing_read(file.path(), &unread));
    }
    let format = match dialects.last() {
        Some(Dialect::Kohya) | None => Format::Kohya,
        Some(Dialect::Diffusers) => Format::Diffusers,
        Some(Dialect::Peft) => Format::Peft,
    };
    let mut adapter = Adapter {
        name: file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        path: file.path().to_owned(),
        format,
        warnings: Vec::new(),
        metadata: file.metadata().clone(),
        config: None,
        files: vec![file.path().to_owned()],
        modules,
        unread,
    };
    adapter.warnings = warnings(&adapter, configs);
    Ok(adapter)
}

fn nothing_read(path: &Path, unread: &[String]) -> AdapterError {
    let keys = if unread.is_empty() { "it is empty".to_owned() } else { first_few(unread) };
    AdapterError::File {
        path: path.to_owned(),
        problem: format!("no key of this file is an adapter's: {keys}"),
        hint: "expected keys of kohya, LyCORIS, diffusers or PEFT, such as `….lora_down.weight`; a whole model is not an adapter (see `lora-eval extract`)".to_owned(),
    }
}

fn warnings(adapter: &Adapter, configs: &Configs) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut say = |modules: Vec<String>, what: &str| {
        if !modules.is_empty() {
            warnings.push(format!("{} module(s) {what}: {}", modules.len(), first_few(&modules)));
        }
    };
    let keys = |wanted: &dyn Fn(&Module) -> bool| -> Vec<String> {
        adapter.modules.values().filter(|m| wanted(m)).map(|m| m.key.clone()).collect()
    };
    let zero_alpha = keys(&|m| m.alpha == Some(0.0));
    say(zero_alpha, "have alpha 0, which is taken literally: no effect");
    let too_wide = keys(&|m| {
        let (Some(rank), Some(Delta::LowRank { .. })) = (m.rank(), &m.weight) else {
            return false;
        };
        m.outputs().max(m.inputs()).is_some_and(|widest| rank > widest)
    });
    say(too_wide, "have a rank larger than both dimensions, which adds nothing but size");
    let other_rank = keys(&|m| {
        let config = configs.of(m.id.component);
        matches!((config, m.rank()), (Some(c), Some(r)) if c.rank(&m.id.long_path()) != r as f32)
    });
    say(other_rank, "have another rank than the configuration says; the tensors are believed");
    for config in configs.each.values().chain(&configs.all) {
        if !config.unknown.is_empty() {
            let names = first_few(&config.unknown);
            warnings.push(format!("settings of the adapter that are not known here: {names}"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::{Float, Tensor, serialize};

    fn file(tensors: &[(&str, &[usize])]) -> Result<Adapter, AdapterError> {
        let tensors: BTreeMap<String, Tensor> = tensors
            .iter()
            .map(|(name, shape)| {
                let values = vec![0.5; shape.iter().product()];
                ((*name).to_owned(), Tensor::from_f32(shape.to_vec(), &values, Float::F32))
            })
            .collect();
        let bytes = serialize(&tensors, &BTreeMap::new()).unwrap();
        from_file(&TensorFile::from_bytes(Path::new("x.safetensors"), bytes, Limits::ADAPTER)?)
    }

    fn problem(tensors: &[(&str, &[usize])]) -> String {
        file(tensors).unwrap_err().to_string()
    }

    const Q: &str = "lora_te_text_model_encoder_layers_0_self_attn_q_proj";

    #[test]
    fn alpha_over_rank() {
        let (down, up) = (format!("{Q}.lora_down.weight"), format!("{Q}.lora_up.weight"));
        let alpha = format!("{Q}.alpha");
        let without = file(&[(&down, &[4, 8]), (&up, &[8, 4])]).unwrap();
        assert_eq!(without.modules.values().next().unwrap().scale, 1.0);
        let with = file(&[(&down, &[4, 8]), (&up, &[8, 4]), (&alpha, &[])]).unwrap();
        assert_eq!(with.modules.values().next().unwrap().scale, 0.125);
    }

    #[test]
    fn incomplete_and_contradicting_modules_are_named() {
        let (down, up) = (format!("{Q}.lora_down.weight"), format!("{Q}.lora_up.weight"));
        assert!(problem(&[(&up, &[8, 4])]).contains("has `up` but no `down`"));
        assert!(problem(&[(&down, &[4, 8])]).contains("has `down` but no `up`"));
        assert!(problem(&[(&down, &[4, 8]), (&up, &[8, 5])]).contains("expected (out, rank)"));
        assert!(problem(&[(&down, &[0, 8]), (&up, &[8, 0])]).contains("rank 0"));
        let alpha = format!("{Q}.alpha");
        let three: &[(&str, &[usize])] = &[(&down, &[4, 8]), (&up, &[8, 4]), (&alpha, &[3])];
        assert!(problem(three).contains("expected one number"));
        assert!(problem(&[(&alpha, &[])]).contains("no key of this file"));
        assert!(problem(&[("model.weight", &[2])]).contains("`model.weight`"));
    }

    #[test]
    fn two_names_for_one_module_are_refused() {
        let names = [
            "lora_unet_input_blocks_4_1_proj_in.lora_down.weight",
            "lora_unet_input_blocks_4_1_proj_in.lora_up.weight",
            "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight",
        ];
        let error = problem(&[(names[0], &[4, 8]), (names[1], &[8, 4]), (names[2], &[4, 8])]);
        assert!(error.contains("is also named"), "{error}");
    }

    #[test]
    fn rank_beyond_both_dimensions_is_warned_about() {
        let (down, up) = (format!("{Q}.lora_down.weight"), format!("{Q}.lora_up.weight"));
        let adapter = file(&[(&down, &[16, 8]), (&up, &[8, 16])]).unwrap();
        assert!(adapter.warnings[0].contains("larger than both"), "{:?}", adapter.warnings);
    }
}
