//! Floor 1: adapters as data.
//!
//! Every format is read into one type, [`Adapter`]: module → change of its weight and bias. Nothing
//! here knows a base; floor 3 fits an adapter to one, floor 4 applies it.
//!
//! - [`Module`], [`Delta`]: what one module changes, in the file's own tensors
//! - [`RowDelta`]: the same made ready to be added to a weight, some rows at a time
//! - [`convert`]: other formats; [`resize`], [`combine`]: other ranks, several as one
//! - [`hashes`]: as kohya, the WebUI and Civitai compute them
//!
//! Invariant: an [`Adapter`] that exists is complete. Every product can be multiplied, every number
//! is finite where it must be; a tensor that could not be read is listed in [`Adapter::unread`].

mod cast;
pub mod combine;
pub mod convert;
mod delta;
mod error;
mod fingerprint;
pub mod hashes;
mod id;
pub mod kohya_names;
pub mod ldm;
pub mod metadata;
mod module;
mod norm;
mod peft_config;
mod rank;
mod read;
pub mod resize;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

pub use delta::{Misfit, RowDelta};
pub use error::AdapterError;
pub use fingerprint::made_for;
pub use id::{Component, ModuleId};
pub use module::{Axis, BiasDelta, Delta, Factor, Kind, Magnitude, Module, Product};
pub use peft_config::PeftConfig;
pub use rank::RankRule;

use crate::tensors::{Float, TensorFile};

/// The family of names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// sd-scripts and LyCORIS: `lora_unet_….lora_down.weight`.
    Kohya,
    /// diffusers: `unet.….lora_A.weight`, and its older forms.
    Diffusers,
    /// PEFT: `base_model.model.….lora_A.weight` with `adapter_config.json`.
    Peft,
}

impl Format {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kohya => "kohya",
            Self::Diffusers => "diffusers",
            Self::Peft => "peft",
        }
    }
}

/// An adapter as read from disk.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// File stem, or the folder's name.
    pub name: String,
    /// Where it was read.
    pub path: PathBuf,
    /// Which family of names it uses.
    pub format: Format,
    /// Its modules by name.
    pub modules: BTreeMap<ModuleId, Module>,
    /// The safetensors metadata: `ss_*`, `modelspec.*`, …
    pub metadata: BTreeMap<String, String>,
    /// `adapter_config.json`, of a PEFT folder.
    pub config: Option<PeftConfig>,
    /// The files it was read from: one, or one for each component of a PEFT folder.
    pub files: Vec<PathBuf>,
    /// Keys that make no module.
    pub unread: Vec<String>,
    /// What a user should know.
    pub warnings: Vec<String>,
}

impl Adapter {
    /// Reads a file or a folder of any supported format.
    pub fn open(path: &Path) -> Result<Self, AdapterError> {
        read::open(path)
    }

    /// Reads an open file that carries all it needs (kohya, LyCORIS, diffusers).
    pub fn from_file(file: &Arc<TensorFile>) -> Result<Self, AdapterError> {
        read::from_file(file)
    }

    /// How many modules of each kind there are.
    pub fn kinds(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for module in self.modules.values() {
            *kinds.entry(module.kind()).or_insert(0) += 1;
        }
        kinds
    }

    /// How many modules of each component there are.
    pub fn components(&self) -> BTreeMap<Component, usize> {
        let mut components = BTreeMap::new();
        for id in self.modules.keys() {
            *components.entry(id.component).or_insert(0) += 1;
        }
        components
    }

    /// Ranks that occur, and in how many modules.
    pub fn ranks(&self) -> BTreeMap<usize, usize> {
        let mut ranks = BTreeMap::new();
        for rank in self.modules.values().filter_map(Module::rank) {
            *ranks.entry(rank).or_insert(0) += 1;
        }
        ranks
    }

    /// The float types that occur, and in how many tensors.
    pub fn dtypes(&self) -> BTreeMap<Float, usize> {
        let mut dtypes = BTreeMap::new();
        for module in self.modules.values() {
            for float in module.tensors().iter().filter_map(|(_, t)| Float::of(t.dtype())) {
                *dtypes.entry(float).or_insert(0) += 1;
            }
        }
        dtypes
    }

    /// Modules with a NaN or infinite weight, and which tensor.
    pub fn not_finite(&self) -> Vec<String> {
        self.scan(|values| values.iter().any(|value| !value.is_finite()))
    }

    /// Modules that cannot change anything: an all-zero `up`, difference or scale.
    pub fn without_effect(&self) -> Vec<String> {
        let zero = |module: &&Module| {
            let Some(Delta::LowRank { up: tensor, .. } | Delta::Difference(tensor)) =
                &module.weight
            else {
                return false;
            };
            let all_zero = module.scale == 0.0 || tensor.bytes().iter().all(|byte| *byte == 0);
            all_zero && module.bias.is_none() && module.magnitude.is_none()
        };
        self.modules.values().filter(zero).map(|module| module.key.clone()).collect()
    }

    /// ‖ΔW‖ at strength 1 in the Frobenius norm, biases included; `None` where a change depends on the
    /// base (DoRA, (IA)³, GLoRA, replaced weights) or is not known in closed form.
    pub fn delta_norm(&self) -> Option<f64> {
        let modules: Vec<&Module> = self.modules.values().collect();
        let squares: Option<Vec<f64>> =
            modules.par_iter().map(|module| norm::square(module)).collect();
        Some(squares?.iter().sum::<f64>().sqrt())
    }

    fn scan(&self, wanted: impl Fn(&[f32]) -> bool + Sync) -> Vec<String> {
        let modules: Vec<&Module> = self.modules.values().collect();
        let found = modules.par_iter().flat_map_iter(|module| {
            let mut found = Vec::new();
            for (name, tensor) in module.tensors() {
                if tensor.to_f32(name).is_ok_and(|values| wanted(&values)) {
                    found.push(format!("{}.{name}", module.key));
                }
            }
            found
        });
        found.collect()
    }
}
