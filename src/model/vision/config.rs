//! JSON files of a model folder, with words for what is wrong in them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::VisionError;
use crate::nn::gated::Activation;
use crate::tensors::TensorError;

/// A configuration, or a part of one. Keys that are left out have the defaults of its class in
/// transformers.
#[derive(Debug, Clone)]
pub(super) struct Config {
    path: PathBuf,
    value: Value,
}

/// Largest count: widths, heads, layers, pixels of a side.
const MOST: usize = 1 << 16;

impl Config {
    pub fn read(path: &Path) -> Result<Self, VisionError> {
        let text = std::fs::read_to_string(path).map_err(|e| TensorError::io(path, e))?;
        let json = |problem: String| VisionError::Json { path: path.to_owned(), problem };
        let value: Value = serde_json::from_str(&text).map_err(|e| json(e.to_string()))?;
        if !value.is_object() {
            return Err(json("it is no object".to_owned()));
        }
        Ok(Self { path: path.to_owned(), value })
    }

    /// The configuration of a model folder, whose `model_type` has to be one of `known`; `expected`
    /// spells them out.
    pub fn of_model(
        folder: &Path,
        known: &[&str],
        expected: &'static str,
    ) -> Result<Self, VisionError> {
        let config = Self::read(&folder.join("config.json"))?;
        match config.text("model_type") {
            Some(model_type) if known.contains(&model_type) => Ok(config),
            _ => Err(config.refuse("model_type", expected)),
        }
    }

    /// The object under `key`; without one, all its keys are left out.
    pub fn part(&self, key: &str) -> Self {
        Self { path: self.path.clone(), value: self.value[key].clone() }
    }

    pub fn is_object(&self) -> bool {
        self.value.is_object()
    }

    pub fn value(&self, key: &str) -> &Value {
        &self.value[key]
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.value[key].as_str()
    }

    pub fn refuse(&self, key: &'static str, expected: &'static str) -> VisionError {
        VisionError::config(&self.path, key, &self.value[key], expected)
    }

    pub fn count(&self, key: &'static str, default: usize) -> Result<usize, VisionError> {
        match &self.value[key] {
            Value::Null => Ok(default),
            value => {
                as_count(value).ok_or_else(|| self.refuse(key, "a whole number from 1 to 65536"))
            }
        }
    }

    pub fn positive(&self, key: &'static str, default: f64) -> Result<f64, VisionError> {
        match &self.value[key] {
            Value::Null => Ok(default),
            value => value
                .as_f64()
                .filter(|number| number.is_finite() && *number > 0.0)
                .ok_or_else(|| self.refuse(key, "a number above 0")),
        }
    }

    pub fn flag(&self, key: &'static str, default: bool) -> Result<bool, VisionError> {
        match &self.value[key] {
            Value::Null => Ok(default),
            value => value.as_bool().ok_or_else(|| self.refuse(key, "`true` or `false`")),
        }
    }

    /// `hidden_act`.
    pub fn activation(&self, default: Activation) -> Result<Activation, VisionError> {
        match &self.value["hidden_act"] {
            Value::Null => Ok(default),
            value => match value.as_str().unwrap_or_default() {
                "quick_gelu" => Ok(Activation::QuickGelu),
                "gelu" => Ok(Activation::Gelu),
                "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
                "silu" | "swish" => Ok(Activation::Silu),
                _ => Err(self.refuse("hidden_act", "`quick_gelu`, `gelu`, `gelu_new` or `silu`")),
            },
        }
    }

    /// `num_attention_heads`, which divides `width`.
    pub fn heads(&self, width: usize, default: usize) -> Result<usize, VisionError> {
        let heads = self.count("num_attention_heads", default)?;
        if width.is_multiple_of(heads) {
            Ok(heads)
        } else {
            Err(self.refuse("num_attention_heads", "a divisor of the width of the weights"))
        }
    }
}

pub(super) fn as_count(value: &Value) -> Option<usize> {
    let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
    count.filter(|n| (1..=MOST).contains(n))
}
