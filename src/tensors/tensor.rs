//! A tensor: type, shape and bytes, in a file or owned.

use std::ops::Range;
use std::sync::Arc;

use safetensors::Dtype;

use super::mapping::Bytes;
use super::{Float, TensorError};

/// A tensor in row-major order. Cloning it copies no data.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    File { bytes: Arc<Bytes>, range: Range<usize> },
    Owned(Arc<[u8]>),
}

impl Tensor {
    pub(super) fn in_file(
        bytes: Arc<Bytes>,
        range: Range<usize>,
        dtype: Dtype,
        shape: Vec<usize>,
    ) -> Self {
        Self { dtype, shape, data: Data::File { bytes, range } }
    }

    /// A tensor of `values`, rounded once to `float`. `values` has as many elements as `shape`.
    pub fn from_f32(shape: Vec<usize>, values: &[f32], float: Float) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let mut bytes = vec![0; values.len() * float.size()];
        float.encode(values, &mut bytes);
        Self { dtype: float.dtype(), shape, data: Data::Owned(bytes.into()) }
    }

    /// A tensor from raw little-endian bytes.
    pub fn from_bytes(dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>() * dtype.bitsize() / 8, bytes.len());
        Self { dtype, shape, data: Data::Owned(bytes.into()) }
    }

    /// A single number, shape `[]`.
    pub fn scalar(value: f32, float: Float) -> Self {
        Self::from_f32(Vec::new(), &[value], float)
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The raw little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::File { bytes, range } => &bytes[range.clone()],
            Data::Owned(bytes) => bytes,
        }
    }

    /// The same data under another shape of as many elements.
    #[must_use]
    pub fn reshape(&self, shape: Vec<usize>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), self.elements());
        Self { dtype: self.dtype, shape, data: self.data.clone() }
    }

    /// Some rows along the first axis, of a tensor that has one and whose elements are whole bytes.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let mut shape = self.shape.clone();
        let all = shape.first().copied().unwrap_or(1).max(1);
        let row = self.bytes().len() / all;
        debug_assert!(rows.end <= all);
        if let Some(first) = shape.first_mut() {
            *first = rows.len();
        }
        let data = match &self.data {
            Data::File { bytes, range } => Data::File {
                bytes: Arc::clone(bytes),
                range: range.start + rows.start * row..range.start + rows.end * row,
            },
            Data::Owned(bytes) => Data::Owned(bytes[rows.start * row..rows.end * row].into()),
        };
        Self { dtype: self.dtype, shape, data }
    }

    /// The floating-point type, or an error that names the tensor.
    pub fn float(&self, name: &str) -> Result<Float, TensorError> {
        Float::of(self.dtype)
            .ok_or_else(|| TensorError::NotFloat { name: name.to_owned(), dtype: self.dtype })
    }

    /// All values as f32. Anything that is not floating point gives an error that names the tensor.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, TensorError> {
        let float = self.float(name)?;
        let mut values = vec![0.0; self.elements()];
        float.decode(self.bytes(), &mut values);
        Ok(values)
    }
}
