//! Frozen weights, as the file holds them.

use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::{QStorage, QTensor};
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail,
};

use super::cpu::product::{Matrix, product, product_backward};
use super::cpu::values;
use crate::tensors::{self, Float};

/// The weight of a layer, (out, in).
#[derive(Debug, Clone)]
pub enum Weight {
    /// On the CPU: the bytes of the file, mapped or read, never copied.
    Stored(Stored),
    /// On a device, or computed.
    Dense(Tensor),
    /// Quantised blocks.
    Quantized(Arc<QTensor>),
}

/// A two-dimensional tensor of a file in f32, f16 or bf16.
#[derive(Debug, Clone)]
pub struct Stored {
    tensor: tensors::Tensor,
    float: Float,
    rows: usize,
    columns: usize,
}

impl Stored {
    /// Takes a tensor of shape (out, in); f64 and what is no float is not taken.
    pub fn new(tensor: tensors::Tensor) -> Option<Self> {
        let float = Float::of(tensor.dtype()).filter(|float| *float != Float::F64)?;
        let [rows, columns] = *tensor.shape() else { return None };
        Some(Self { tensor, float, rows, columns })
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix { bytes: self.tensor.bytes(), float: self.float, columns: self.columns }
    }
}

impl Weight {
    /// Reads a weight of a file for `device`. On the CPU it stays in the file, unless `stored` asks
    /// for another type; on another device it becomes a tensor of type `computed`.
    pub fn load(
        tensor: &tensors::Tensor,
        (stored, computed): (Option<DType>, DType),
        device: &Device,
    ) -> Result<Self> {
        if !device.is_cpu() {
            return Ok(Self::Dense(to_candle(tensor, computed, device)?));
        }
        let float = match stored {
            Some(DType::F16) => Some(Float::F16),
            Some(DType::BF16) => Some(Float::BF16),
            // 16 bits are widened exactly where they are used
            _ => None,
        };
        let other = float.filter(|float| Float::of(tensor.dtype()) != Some(*float));
        let kept = match other {
            None => Stored::new(tensor.clone()),
            Some(float) => {
                let values = tensor.to_f32("weight").map_err(candle_core::Error::wrap)?;
                Stored::new(tensors::Tensor::from_f32(tensor.shape().to_vec(), &values, float))
            }
        };
        match kept {
            Some(stored) => Ok(Self::Stored(stored)),
            None => Ok(Self::Dense(to_candle(tensor, computed, device)?)),
        }
    }

    /// (out, in)
    pub fn shape(&self) -> Result<(usize, usize)> {
        match self {
            Self::Stored(stored) => Ok((stored.rows, stored.columns)),
            Self::Dense(tensor) => tensor.dims2(),
            Self::Quantized(quantized) => quantized.shape().dims2(),
        }
    }

    /// `x·Wᵀ`: (…, in) → (…, out), in the type of `x`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Stored(stored) => {
                let wide = x.to_dtype(DType::F32)?.contiguous()?;
                wide.apply_op1(StoredProduct(stored.clone()))?.to_dtype(x.dtype())
            }
            Self::Dense(w) => super::graft::linear(x, w),
            Self::Quantized(w) => {
                let product = x.to_dtype(DType::F32)?.contiguous()?;
                product.apply_op1(QuantizedProduct(Arc::clone(w)))?.to_dtype(x.dtype())
            }
        }
    }

    /// Some rows as f32 on the CPU, row-major.
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        match self {
            Self::Stored(stored) => {
                let mut scratch = Vec::new();
                Ok(stored.matrix().widen(rows.start, rows.len(), &mut scratch).to_vec())
            }
            Self::Dense(tensor) => to_f32(&tensor.narrow(0, rows.start, rows.len())?),
            Self::Quantized(quantized) => {
                let all = quantized.dequantize(&Device::Cpu)?;
                to_f32(&all.narrow(0, rows.start, rows.len())?)
            }
        }
    }

    /// The rows with these indices, (…) u32 → (…, in) in `dtype`.
    pub fn gather(&self, ids: &Tensor, dtype: DType) -> Result<Tensor> {
        let mut shape = ids.dims().to_vec();
        let flat = ids.flatten_all()?;
        let picked = match self {
            Self::Stored(stored) => {
                let matrix = stored.matrix();
                let mut scratch = Vec::new();
                let mut picked = Vec::with_capacity(flat.elem_count() * stored.columns);
                for id in flat.to_vec1::<u32>()? {
                    let id = id as usize;
                    if id >= stored.rows {
                        bail!("token {id} is outside the embedding of {} tokens", stored.rows);
                    }
                    picked.extend_from_slice(matrix.widen(id, 1, &mut scratch));
                }
                Tensor::from_vec(picked, (flat.elem_count(), stored.columns), ids.device())?
            }
            Self::Dense(tensor) => tensor.index_select(&flat, 0)?,
            Self::Quantized(quantized) => quantized_rows(quantized, &flat)?,
        };
        shape.push(picked.dim(1)?);
        picked.reshape(shape)?.to_dtype(dtype)
    }
}

/// Some rows of a quantised table, decoded; the others are not touched.
fn quantized_rows(table: &QTensor, ids: &Tensor) -> Result<Tensor> {
    let (rows, columns) = table.shape().dims2()?;
    let data = table.data()?;
    let width = data.len() / rows.max(1);
    let mut picked = Vec::with_capacity(ids.elem_count() * width);
    for id in ids.to_vec1::<u32>()? {
        let id = id as usize;
        if id >= rows {
            bail!("token {id} is outside the embedding of {rows} tokens");
        }
        picked.extend_from_slice(&data[id * width..(id + 1) * width]);
    }
    let storage = QStorage::from_data(picked.into(), ids.device(), table.dtype())?;
    QTensor::new(storage, (ids.elem_count(), columns))?.dequantize(ids.device())
}

/// All values as f32.
fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// A tensor of a file as candle's, rounded once to `dtype`.
pub(super) fn to_candle(tensor: &tensors::Tensor, dtype: DType, device: &Device) -> Result<Tensor> {
    let raw = match Float::of(tensor.dtype()) {
        Some(Float::F16) => Some(DType::F16),
        Some(Float::BF16) => Some(DType::BF16),
        _ => None,
    };
    if raw == Some(dtype) {
        return Tensor::from_raw_buffer(tensor.bytes(), dtype, tensor.shape(), device);
    }
    let values = tensor.to_f32("weight").map_err(candle_core::Error::wrap)?;
    Tensor::from_vec(values, tensor.shape(), device)?.to_dtype(dtype)
}

/// `x·Wᵀ` with gradients for both: (…, in), (out, in) → (…, out).
pub(super) fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && x.dtype() == DType::F32 && w.dtype() == DType::F32 {
        return x.contiguous()?.apply_op2(&w.contiguous()?, DenseProduct);
    }
    let mut shape = x.dims().to_vec();
    let columns = shape.pop().unwrap_or(1);
    shape.push(w.dim(0)?);
    x.reshape(((), columns))?.matmul(&w.t()?)?.reshape(shape)
}

fn product_shape(x: &Layout, (rows, columns): (usize, usize)) -> Result<Shape> {
    let mut shape = x.dims().to_vec();
    match shape.pop() {
        Some(last) if last == columns => {}
        last => bail!("the layer takes {columns} inputs, found {last:?}"),
    }
    shape.push(rows);
    Ok(shape.into())
}

struct StoredProduct(Stored);

impl CustomOp1 for StoredProduct {
    fn name(&self) -> &'static str {
        "stored-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = product_shape(layout, (self.0.rows, self.0.columns))?;
        Ok((CpuStorage::F32(product(values(x, layout)?, self.0.matrix())), shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let g = gradient.flatten_all()?.to_vec1::<f32>()?;
        let dx = product_backward(&g, self.0.matrix());
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

struct DenseProduct;

impl CustomOp2 for DenseProduct {
    fn name(&self) -> &'static str {
        "dense-product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = w_layout.shape().dims2()?;
        let shape = product_shape(x_layout, (rows, columns))?;
        let bytes = bytemuck::cast_slice(values(w, w_layout)?);
        let w = Matrix { bytes, float: Float::F32, columns };
        Ok((CpuStorage::F32(product(values(x, x_layout)?, w)), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, columns) = w.dims2()?;
        let g = gradient.contiguous()?.reshape(((), rows))?;
        // cut from the graph: a tracked gradient would keep all of it
        let (x, w) = (x.detach(), w.detach());
        let dx = g.matmul(&w)?.reshape(x.shape())?;
        let dw = g.t()?.matmul(&x.contiguous()?.reshape(((), columns))?)?;
        Ok((Some(dx), Some(dw)))
    }
}

struct QuantizedProduct(Arc<QTensor>);

impl CustomOp1 for QuantizedProduct {
    fn name(&self) -> &'static str {
        "quantized-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.cpu_fwd(x, layout)
    }

    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.0.cuda_fwd(x, layout)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let w = self.0.dequantize(x.device())?;
        let g = gradient.contiguous()?.reshape(((), w.dim(0)?))?;
        Ok(Some(g.matmul(&w)?.reshape(x.shape())?))
    }
}
