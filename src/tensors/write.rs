//! Writing: the header is planned first, so that the data can come in any order.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Tensor, TensorError};
use crate::base::atomic::AtomicFile;

/// The plan of a safetensors file: the encoded header and where each tensor's data goes.
#[derive(Debug)]
pub struct Layout {
    header: Vec<u8>,
    ranges: Vec<Range<u64>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    data_offsets: [u64; 2],
}

impl Layout {
    /// Plans a file holding `tensors` (name, type, shape) in this order, and `metadata`.
    pub fn new<'a>(
        tensors: impl IntoIterator<Item = (&'a str, Dtype, &'a [usize])>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, serde_json::Error> {
        let mut json = Map::new();
        if !metadata.is_empty() {
            json.insert("__metadata__".to_owned(), serde_json::to_value(metadata)?);
        }
        let mut ranges = Vec::new();
        let mut end = 0u64;
        for (name, dtype, shape) in tensors {
            let start = end;
            end += (shape.iter().product::<usize>() * dtype.bitsize() / 8) as u64;
            let entry = Entry { dtype, shape, data_offsets: [start, end] };
            json.insert(name.to_owned(), serde_json::to_value(entry)?);
            ranges.push(start..end);
        }
        let mut text = serde_json::to_vec(&Value::Object(json))?;
        text.resize(text.len().next_multiple_of(8), b' '); // data starts aligned
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.append(&mut text);
        let start = header.len() as u64;
        let ranges = ranges.into_iter().map(|r| start + r.start..start + r.end).collect();
        Ok(Self { header, ranges })
    }

    /// The bytes before the data: length field and JSON.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Where the data of the `i`-th tensor goes, counted from the start of the file.
    pub fn range(&self, i: usize) -> Range<u64> {
        self.ranges[i].clone()
    }

    /// Size of the whole file.
    pub fn file_size(&self) -> u64 {
        self.ranges.last().map_or(self.header.len() as u64, |range| range.end)
    }
}

/// Plans and writes a small file of tensors, whole or not at all.
pub fn write_file(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), TensorError> {
    write_to(path, tensors, metadata).map_err(|e| TensorError::io(path, e))
}

fn write_to(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let layout = layout_of(tensors, metadata)?;
    let file = AtomicFile::create(path)?;
    let mut out = io::BufWriter::with_capacity(1 << 20, file.file());
    out.write_all(layout.header())?;
    for tensor in tensors.values() {
        out.write_all(tensor.bytes())?;
    }
    out.flush()?;
    drop(out);
    file.commit()
}

/// The bytes of a file of tensors.
pub fn serialize(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = layout_of(tensors, metadata)?.header;
    for tensor in tensors.values() {
        bytes.extend_from_slice(tensor.bytes());
    }
    Ok(bytes)
}

fn layout_of(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Layout, serde_json::Error> {
    Layout::new(tensors.iter().map(|(name, t)| (name.as_str(), t.dtype(), t.shape())), metadata)
}
