//! An open safetensors file.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::header::{self, Limits};
use super::mapping::Bytes;
use super::{Tensor, TensorError};
use crate::base::digest;

/// An open safetensors file whose header was checked in full.
///
/// Files over 64 MiB are memory-mapped: no other program may shorten such a file meanwhile
/// (replacing it by a rename is fine).
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: Option<File>,
    bytes: Arc<Bytes>,
    data_start: usize,
    tensors: Vec<(String, TensorInfo)>,
    index: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Opens `path` and checks its header against `limits` and against the file's size.
    pub fn open(path: &Path, limits: Limits) -> Result<Arc<Self>, TensorError> {
        let mut file = File::open(path).map_err(|e| TensorError::io(path, e))?;
        let about = file.metadata().map_err(|e| TensorError::io(path, e))?;
        if about.is_dir() {
            return Err(TensorError::io(path, io::ErrorKind::IsADirectory.into()));
        }
        let bytes = Bytes::open(&mut file, about.len()).map_err(|e| TensorError::io(path, e))?;
        Self::from_parts(path, Some(file), bytes, limits)
    }

    /// Takes the bytes of a whole file; `path` only names it in errors.
    pub fn from_bytes(
        path: &Path,
        bytes: Vec<u8>,
        limits: Limits,
    ) -> Result<Arc<Self>, TensorError> {
        Self::from_parts(path, None, Bytes::Read(bytes), limits)
    }

    fn from_parts(
        path: &Path,
        file: Option<File>,
        bytes: Bytes,
        limits: Limits,
    ) -> Result<Arc<Self>, TensorError> {
        if is_pickle(&bytes) {
            return Err(TensorError::Pickle { path: path.to_owned() });
        }
        let header = header::parse(&bytes, limits).map_err(|(problem, hint)| {
            TensorError::Malformed { path: path.to_owned(), problem, hint }
        })?;
        let index = header.tensors.iter().enumerate().map(|(i, (n, _))| (n.clone(), i)).collect();
        Ok(Arc::new(Self {
            path: path.to_owned(),
            file,
            bytes: Arc::new(bytes),
            data_start: header.data_start,
            tensors: header.tensors,
            index,
            metadata: header.metadata,
        }))
    }

    /// The path it was opened under.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Names in the order of their data.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// The tensor called `name`; the data stays in the file.
    pub fn get(self: &Arc<Self>, name: &str) -> Option<Tensor> {
        let (_, info) = &self.tensors[*self.index.get(name)?];
        let (start, end) = info.data_offsets;
        let range = self.data_start + start..self.data_start + end;
        Some(Tensor::in_file(Arc::clone(&self.bytes), range, info.dtype, info.shape.clone()))
    }

    /// Name, type and shape of every tensor, in the order of the data.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Dtype, &[usize])> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info.dtype, info.shape.as_slice()))
    }

    /// Shape of the tensor called `name`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.index.get(name).map(|i| self.tensors[*i].1.shape.as_slice())
    }

    /// The open file behind it, unless it came from memory.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Has the disk read ahead: all of the file will be used soon.
    pub fn will_need(&self) {
        self.bytes.will_need();
    }

    /// SHA-256 of the whole file, computed in pieces on all threads (see [`digest::sha256_tree`]).
    pub fn sha256_tree(&self) -> String {
        digest::sha256_tree(&self.bytes)
    }

    /// The data area: everything after the header.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.data_start..]
    }

    /// Where the data of `name` lies, counted from the start of the file.
    pub fn range(&self, name: &str) -> Option<Range<usize>> {
        let (start, end) = self.tensors[*self.index.get(name)?].1.data_offsets;
        Some(self.data_start + start..self.data_start + end)
    }
}

/// Zip archives (torch ≥ 1.6) and bare pickles are told by their first bytes, whatever the name.
fn is_pickle(bytes: &[u8]) -> bool {
    let has_json_header = bytes.get(8) == Some(&b'{');
    let bare = matches!(bytes, [0x80, 2..=5, ..]);
    !has_json_header && (bare || bytes.starts_with(b"PK\x03\x04"))
}
