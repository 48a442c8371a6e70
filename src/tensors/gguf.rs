//! GGUF files (versions 2 and 3, little-endian), read without trust.
//!
//! - [`Gguf`]: an open file; its header was checked in full, its data is mapped or in memory
//! - [`GgufValue`], [`GgufArray`]: what a metadata key holds; the getters of [`Gguf`] check the type
//! - [`GgufTensor`], [`GgmlType`]: shape, storage type and place of a tensor
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Every length is checked
//! against the bytes that are left before anything is allocated; names that stand twice, data that
//! overlaps, leaves the file or is not aligned, and storage types that cannot be decoded are refused.

mod error;
mod kind;
mod read;
mod value;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{GgufError, optional};
pub use kind::GgmlType;
pub use value::{GgufArray, GgufValue};

use safetensors::Dtype;

use super::mapping::Bytes;
use super::{Tensor, TensorError};
use crate::base::digest;

/// An open GGUF file whose header was checked in full.
///
/// Files over 64 MiB are memory-mapped: no other program may shorten such a file meanwhile
/// (replacing it by a rename is fine).
#[derive(Debug)]
pub struct Gguf {
    /// The path it was opened under.
    pub path: PathBuf,
    /// Metadata by key.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, GgufTensor>,
    bytes: Arc<Bytes>,
}

/// Where one tensor lies, and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Extents, slowest first (the file's own order reversed): `[rows, columns]` for a matrix.
    pub shape: Vec<usize>,
    /// How the values are stored.
    pub kind: GgmlType,
    /// The bytes, counted from the start of the file.
    pub range: Range<usize>,
}

impl Gguf {
    /// Opens `path` and checks its header against the file's size.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let mut file = File::open(path).map_err(|e| TensorError::io(path, e))?;
        let about = file.metadata().map_err(|e| TensorError::io(path, e))?;
        if about.is_dir() {
            return Err(TensorError::io(path, io::ErrorKind::IsADirectory.into()).into());
        }
        let bytes = Bytes::open(&mut file, about.len()).map_err(|e| TensorError::io(path, e))?;
        Self::from_parts(path, bytes)
    }

    /// Takes the bytes of a whole file; `path` only names it in errors.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, GgufError> {
        Self::from_parts(path, Bytes::Read(bytes))
    }

    fn from_parts(path: &Path, bytes: Bytes) -> Result<Self, GgufError> {
        let (metadata, tensors) = read::parse(&bytes).map_err(|(problem, hint)| {
            GgufError::Malformed { path: path.to_owned(), problem, hint }
        })?;
        Ok(Self { path: path.to_owned(), metadata, tensors, bytes: Arc::new(bytes) })
    }

    /// The bytes of a tensor of this file. Empty for one that belongs to another, longer file.
    pub fn bytes(&self, tensor: &GgufTensor) -> &[u8] {
        self.bytes.get(tensor.range.clone()).unwrap_or_default()
    }

    /// Has the disk read ahead: all of the file will be used soon.
    pub fn will_need(&self) {
        self.bytes.will_need();
    }

    /// SHA-256 of the whole file, computed in pieces on all threads (see [`digest::sha256_tree`]).
    pub fn sha256_tree(&self) -> String {
        digest::sha256_tree(&self.bytes)
    }

    /// A tensor of plain floats; the data stays in the file. `None` for quantised blocks.
    pub fn floats(&self, tensor: &GgufTensor) -> Option<Tensor> {
        let dtype = match tensor.kind {
            GgmlType::F32 => Dtype::F32,
            GgmlType::F16 => Dtype::F16,
            GgmlType::BF16 => Dtype::BF16,
            _ => return None,
        };
        let shape = tensor.shape.clone();
        Some(Tensor::in_file(Arc::clone(&self.bytes), tensor.range.clone(), dtype, shape))
    }

    /// The text under `key`.
    pub fn string(&self, key: &str) -> Result<&str, GgufError> {
        self.typed(key, "a string", |value| match value {
            GgufValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The whole number under `key`: any integer type, not negative.
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        self.typed(key, "an integer of at least 0", GgufValue::to_u64)
    }

    /// The number under `key`: a float of either size.
    pub fn f64(&self, key: &str) -> Result<f64, GgufError> {
        self.typed(key, "a float", |value| match value {
            GgufValue::F32(x) => Some(f64::from(*x)),
            GgufValue::F64(x) => Some(*x),
            _ => None,
        })
    }

    /// The truth value under `key`.
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.typed(key, "a bool", |value| match value {
            GgufValue::Bool(x) => Some(*x),
            _ => None,
        })
    }

    /// The array of text under `key`.
    pub fn strings(&self, key: &str) -> Result<&[String], GgufError> {
        self.typed(key, "an array of strings", |value| match value {
            GgufValue::Array(GgufArray::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// The array of 32-bit floats under `key`.
    pub fn f32s(&self, key: &str) -> Result<&[f32], GgufError> {
        self.typed(key, "an array of f32", |value| match value {
            GgufValue::Array(GgufArray::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// The array of integers under `key`: any integer type whose values all fit `i32`.
    pub fn i32s(&self, key: &str) -> Result<Vec<i32>, GgufError> {
        self.typed(key, "an array of integers that fit i32", |value| match value {
            GgufValue::Array(array) => array.integers(),
            _ => None,
        })
    }

    /// The array of integers under `key`: any integer type whose values all fit `u32`.
    pub fn u32s(&self, key: &str) -> Result<Vec<u32>, GgufError> {
        self.typed(key, "an array of integers that fit u32", |value| match value {
            GgufValue::Array(array) => array.integers(),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        take: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<T, GgufError> {
        let Some(value) = self.metadata.get(key) else {
            return Err(GgufError::MissingKey { path: self.path.clone(), key: key.to_owned() });
        };
        take(value).ok_or_else(|| GgufError::WrongType {
            path: self.path.clone(),
            key: key.to_owned(),
            expected,
            found: value.describe(),
        })
    }
}
