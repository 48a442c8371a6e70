//! Opening a base.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::autoencoder;
use super::error::BaseError;
use super::gguf::GgufModel;
use super::layout::{self, Slot, Table};
use crate::adapter::Component;
use crate::base::digest::{sha256, sha256_file};
use crate::tensors::{Limits, Tensor, TensorError, TensorFile};

/// How a base lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One `.safetensors` file.
    File,
    /// A folder of one model: `config.json` and its weights.
    Model(Component),
    /// A diffusers pipeline: `model_index.json` and a folder for each component.
    Pipeline,
}

/// One file of weights of a base.
#[derive(Debug, Clone)]
pub struct BaseFile {
    /// Where it lies below the base's folder; empty for a single file.
    pub relative: PathBuf,
    /// Which model it belongs to; `None` for a single file, which holds several.
    pub component: Option<Component>,
    /// The open file.
    pub file: Arc<TensorFile>,
}

/// A base on disk, its weights mapped.
#[derive(Debug, Clone)]
pub struct Base {
    /// The file or folder.
    pub path: PathBuf,
    /// How it lies on disk.
    pub shape: Shape,
    /// Its files of weights that adapters can apply to.
    pub files: Vec<BaseFile>,
    /// `config.json` of each component of a folder.
    pub configs: BTreeMap<Component, Value>,
    /// Its modules.
    pub table: Table,
    /// The file, where the weights are those of a GGUF file.
    pub gguf: Option<Arc<GgufModel>>,
}

/// Files of a folder, besides the weights and the configuration, that change what is generated.
const TOKENIZER_FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// Files of a pipeline's tokenizers that change what is generated.
const CLIP_FILES: [&str; 5] = [
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

const COMPONENTS: [Component; 3] =
    [Component::Unet, Component::TextEncoder, Component::TextEncoder2];

impl Base {
    /// Opens a folder or a single file.
    pub fn open(path: &Path) -> Result<Self, BaseError> {
        let mut base = if path.is_dir() { open_folder(path)? } else { open_file(path)? };
        base.table = layout::table(&base);
        if base.table.is_empty() {
            return Err(not_a_base(
                path,
                "holds no weights that an adapter could apply to".to_owned(),
            ));
        }
        Ok(base)
    }

    /// Opens a base to run it: as [`Base::open`], with the autoencoder of Stable Diffusion, and `.gguf`
    /// files too.
    pub fn open_to_run(path: &Path) -> Result<Self, BaseError> {
        if !is_gguf(path) {
            let mut base = Self::open(path)?;
            autoencoder::add_own(&mut base)?;
            return Ok(base);
        }
        let model = GgufModel::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            shape: Shape::Model(Component::Language),
            files: Vec::new(),
            configs: BTreeMap::from([(Component::Language, model.config.clone())]),
            table: model.table(),
            gguf: Some(Arc::new(model)),
        })
    }

    /// The same with the autoencoder of another file or folder.
    pub fn with_autoencoder(mut self, path: &Path) -> Result<Self, BaseError> {
        autoencoder::replace(&mut self, path)?;
        Ok(self)
    }

    /// A tensor of its files, or some rows of one.
    pub fn tensor(&self, slot: &Slot) -> Option<Tensor> {
        let whole = self.files.get(slot.file)?.file.get(&slot.key)?;
        let all = whole.shape().first().copied().unwrap_or(1);
        Some(if slot.rows == (0..all) { whole } else { whole.rows(slot.rows.clone()) })
    }

    /// Whether it is a model of pictures, or a pipeline that lacks its denoiser.
    pub fn draws(&self) -> bool {
        self.shape == Shape::Pipeline || self.table.components().contains(&Component::Unet)
    }

    /// What it is, for messages: `Stable Diffusion 1.x (…)`, `LlamaForCausalLM (…)`.
    pub fn describe(&self) -> String {
        let Some(config) = self.configs.get(&Component::Language) else {
            return self.table.describe_stable_diffusion();
        };
        let name = config["architectures"][0].as_str().or(config["model_type"].as_str());
        let facts: Vec<String> = [
            ("hidden size", &config["hidden_size"]),
            ("hidden size", &config["n_embd"]),
            ("layers", &config["num_hidden_layers"]),
            ("layers", &config["n_layer"]),
        ]
        .iter()
        .filter_map(|(what, value)| Some(format!("{what} {}", value.as_u64()?)))
        .collect();
        format!("{} ({})", name.unwrap_or("a language model"), facts.join(", "))
    }

    /// A fingerprint of everything that determines what it generates: weights, configuration and, of a
    /// folder, the tokenizer's files.
    pub fn sha256(&self) -> Result<String, TensorError> {
        let mut parts = vec![self.gguf.as_ref().map_or(String::new(), |m| m.file.sha256_tree())];
        for file in &self.files {
            parts.push(format!("{} {}", file.relative.display(), file.file.sha256_tree()));
        }
        for config in self.configs.values() {
            parts.push(sha256(config.to_string().as_bytes()));
        }
        let of_pipeline = ["tokenizer", "tokenizer_2"]
            .iter()
            .flat_map(|folder| CLIP_FILES.iter().map(move |name| format!("{folder}/{name}")))
            .chain(["scheduler/scheduler_config.json", "model_index.json"].map(str::to_owned));
        for name in TOKENIZER_FILES.iter().map(|name| (*name).to_owned()).chain(of_pipeline) {
            let path = self.path.join(&name);
            if self.path.is_dir() && path.is_file() {
                let digest = sha256_file(&path).map_err(|e| TensorError::io(&path, e))?;
                parts.push(format!("{name} {digest}"));
            }
        }
        let more = self.path.join("additional_chat_templates");
        let mut templates: Vec<PathBuf> = std::fs::read_dir(&more)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        templates.sort();
        for path in templates.into_iter().filter(|path| path.is_file()) {
            let digest = sha256_file(&path).map_err(|e| TensorError::io(&path, e))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            parts.push(format!("{name} {digest}"));
        }
        Ok(sha256(parts.join("\n").as_bytes()))
    }

    /// Total size of its weights in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.file.bytes().len() as u64).sum::<u64>()
            + self.gguf.as_ref().map_or(0, |model| model.size())
    }
}

fn not_a_base(path: &Path, problem: String) -> BaseError {
    BaseError::NotABase {
        path: path.to_owned(),
        problem,
        hint: "a base is a transformers or diffusers folder with .safetensors weights, or one .safetensors file in the original Stable Diffusion layout",
    }
}

/// Told by its first bytes, never by its name.
fn is_gguf(path: &Path) -> bool {
    path.is_file()
        && std::fs::File::open(path).is_ok_and(|mut file| {
            let mut magic = [0; 4];
            std::io::Read::read_exact(&mut file, &mut magic).is_ok() && magic == *b"GGUF"
        })
}

fn open_file(path: &Path) -> Result<Base, BaseError> {
    if is_gguf(path) {
        return Err(not_a_base(
            path,
            "GGUF files hold quantised weights, which are not merged into".to_owned(),
        ));
    }
    let file = TensorFile::open(path, Limits::BASE)?;
    Ok(Base {
        path: path.to_owned(),
        shape: Shape::File,
        files: vec![BaseFile { relative: PathBuf::new(), component: None, file }],
        configs: BTreeMap::new(),
        table: Table::default(),
        gguf: None,
    })
}

fn open_folder(folder: &Path) -> Result<Base, BaseError> {
    let mut base = Base {
        path: folder.to_owned(),
        shape: Shape::Pipeline,
        files: Vec::new(),
        configs: BTreeMap::new(),
        table: Table::default(),
        gguf: None,
    };
    if folder.join("model_index.json").is_file() {
        for component in COMPONENTS {
            let part = folder.join(component.name());
            if part.is_dir() {
                open_model(&mut base, Path::new(component.name()), Some(component))?;
            }
        }
    } else if folder.join("config.json").is_file() {
        let component = open_model(&mut base, Path::new(""), None)?;
        base.shape = Shape::Model(component);
    } else {
        let problem = "has neither config.json nor model_index.json".to_owned();
        return Err(not_a_base(folder, problem));
    }
    Ok(base)
}

/// Opens the model in `relative` below the base's folder and tells which component it is.
pub(super) fn open_model(
    base: &mut Base,
    relative: &Path,
    component: Option<Component>,
) -> Result<Component, BaseError> {
    let folder = base.path.join(relative);
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| TensorError::io(&path, e))?;
    let config: Value = serde_json::from_str(&text)
        .map_err(|e| not_a_base(&path, format!("is not valid JSON: {e}")))?;
    let component = component.unwrap_or_else(|| component_of(&config));
    base.configs.insert(component, config);
    let mut seen = BTreeSet::new();
    for name in weight_files(&folder)? {
        let file = TensorFile::open(&folder.join(&name), Limits::BASE)?;
        if let Some(twice) = file.names().find(|name| !seen.insert((*name).to_owned())) {
            let problem = format!("tensor `{twice}` stands in two files of this model");
            return Err(not_a_base(&folder, problem));
        }
        base.files.push(BaseFile {
            relative: relative.join(name),
            component: Some(component),
            file,
        });
    }
    Ok(component)
}

/// Opens a file of one model's weights.
pub(super) fn open_weights(
    base: &mut Base,
    path: &Path,
    component: Component,
) -> Result<(), BaseError> {
    let file = TensorFile::open(path, Limits::BASE)?;
    base.files.push(BaseFile { relative: path.to_owned(), component: Some(component), file });
    Ok(())
}

fn component_of(config: &Value) -> Component {
    let class = config["_class_name"].as_str().or(config["architectures"][0].as_str());
    match class.unwrap_or_default() {
        "UNet2DConditionModel" => Component::Unet,
        name if name.starts_with("CLIPText") => Component::TextEncoder,
        _ => Component::Language,
    }
}

/// Names under which a model's weights are saved, best first; `None` where an index lists shards.
const STEMS: [&str; 2] = ["model", "diffusion_pytorch_model"];

pub(super) fn weight_files(folder: &Path) -> Result<Vec<String>, BaseError> {
    for variant in ["", ".fp16"] {
        for stem in STEMS {
            let single = format!("{stem}{variant}.safetensors");
            if folder.join(&single).is_file() {
                return Ok(vec![single]);
            }
            let dotted = format!("{stem}.safetensors.index{variant}.json");
            let plain = format!("{stem}{variant}.safetensors.index.json");
            if let Some(index) = [plain, dotted].iter().find(|i| folder.join(i).is_file()) {
                return shards(folder, index);
            }
        }
    }
    let pickled = ["pytorch_model.bin", "diffusion_pytorch_model.bin"]
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file());
    match pickled {
        Some(path) => Err(TensorError::Pickle { path }.into()),
        None => Err(not_a_base(folder, "holds no model.safetensors, no diffusion_pytorch_model.safetensors and no index of shards".to_owned())),
    }
}

/// The shards that an index lists. A name leads only to files inside the folder.
fn shards(folder: &Path, index: &str) -> Result<Vec<String>, BaseError> {
    let path = folder.join(index);
    let text = std::fs::read_to_string(&path).map_err(|e| TensorError::io(&path, e))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| not_a_base(&path, format!("is not valid JSON: {e}")))?;
    let map = value["weight_map"]
        .as_object()
        .ok_or_else(|| not_a_base(&path, "has no `weight_map`".to_owned()))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let name = file.as_str().filter(|name| !name.contains(['/', '\\']) && *name != "..");
        let Some(name) = name else {
            let problem =
                format!("`weight_map` sends `{tensor}` to {file}, which is not a file name");
            return Err(not_a_base(&path, problem));
        };
        names.insert(name.to_owned());
    }
    Ok(names.into_iter().collect())
}
