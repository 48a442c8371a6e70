//! A two-dimensional convolution.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Tensor};

use super::changes::{Attachment, added, row_delta, rows_of, scaled};
use super::cpu::conv::{self, convolve, input_gradient, weight_gradient};
use super::cpu::product::Matrix;
use super::cpu::values;
use super::low_rank::Frozen;
use super::trained::{Product, Trained, norms};
use super::weight::to_candle;
use super::{Slot, Stored, Strengths, Weight};
use crate::adapter::{Delta, Module, RowDelta};
use crate::tensors;

/// Stride, padding, dilation and groups, the same along both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvConfig {
    /// Step.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Distance of the kernel's positions.
    pub dilation: usize,
    /// Groups of channels.
    pub groups: usize,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

/// `y = x ∗ W + b` with adapters: x (rows, in, h, w), W (out, in / groups, kh, kw).
///
/// A LoRA of a convolution is a convolution by A (rank, in, kh, kw) of the same stride and padding
/// and one by B (out, rank, 1, 1), as in LoCon and PEFT.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// (out, in / groups · kh · kw)
    weight: Weight,
    kernel: Kernel,
    bias: Option<Tensor>,
    low_rank: Vec<LowRank>,
    dense: Vec<(Slot, Tensor)>,
    biases: Vec<(Slot, Tensor)>,
    trained: Option<(usize, Trained)>,
}

/// All of a convolution but its number of outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// Input channels of a group.
    inputs: usize,
    height: usize,
    width: usize,
    config: ConvConfig,
}

#[derive(Debug, Clone)]
struct LowRank {
    slot: Slot,
    scale: f32,
    /// (rank, in, kh, kw)
    a: Tensor,
    /// (out, rank, 1, 1)
    b: Tensor,
}

impl Conv2d {
    /// A convolution with a frozen weight (out, in / groups, kh, kw) and bias (out).
    pub fn new(weight: &Tensor, bias: Option<Tensor>, config: ConvConfig) -> Result<Self> {
        let (out, inputs, height, width) = weight.dims4()?;
        let kernel = Kernel { inputs, height, width, config };
        let weight = Weight::Dense(weight.reshape((out, kernel.depth()))?);
        Ok(Self::of(weight, kernel, bias))
    }

    /// A convolution with the weight of a file, see [`Weight::load`].
    pub fn load(
        weight: &tensors::Tensor,
        bias: Option<Tensor>,
        config: ConvConfig,
        types: (Option<DType>, DType),
        device: &Device,
    ) -> Result<Self> {
        let [out, inputs, height, width] = *weight.shape() else {
            candle_core::bail!("a convolution's weight of shape {:?}", weight.shape())
        };
        let kernel = Kernel { inputs, height, width, config };
        let matrix = weight.reshape(vec![out, kernel.depth()]);
        Ok(Self::of(Weight::load(&matrix, types, device)?, kernel, bias))
    }

    fn of(weight: Weight, kernel: Kernel, bias: Option<Tensor>) -> Self {
        let (low_rank, dense, biases) = (Vec::new(), Vec::new(), Vec::new());
        Self { weight, kernel, bias, low_rank, dense, biases, trained: None }
    }

    /// Number of output channels.
    pub fn outputs(&self) -> Result<usize> {
        Ok(self.weight.shape()?.0)
    }

    /// Attaches a module; `slot` may be the number of its adapter alone, see [`Slot`].
    pub fn attach(
        &mut self,
        slot: impl Into<Slot>,
        module: &Module,
        device: &Device,
    ) -> std::result::Result<(), Attachment> {
        let slot = slot.into();
        let out = self.outputs()?;
        let Kernel { inputs, height, width, config } = self.kernel;
        let shape = vec![out, inputs, height, width];
        if let Some(delta) = RowDelta::of_bias(module, out, 1.0)? {
            if self.bias.is_none() {
                let reason = "it changes a bias, and the base's module has none";
                return Err(Attachment::Unsupported(reason));
            }
            let (mut values, zeros) = (vec![0.0; out], vec![0.0; out]);
            delta.add_rows(0..out, &zeros, &mut values);
            self.biases.push((slot, Tensor::from_vec(values, out, device)?));
        }
        let Some(delta) = &module.weight else { return Ok(()) };
        if let Delta::LowRank { down, up, mid: None } = delta
            && module.magnitude.is_none()
            && config.groups == 1
        {
            RowDelta::new(module, &shape, false, 1.0)?;
            let rank = down.shape().first().copied().unwrap_or(0);
            let a =
                to_candle(&down.reshape(vec![rank, inputs, height, width]), DType::F32, device)?;
            let b = to_candle(&up.reshape(vec![out, rank, 1, 1]), DType::F32, device)?;
            self.attach_low_rank(slot, module.scale, a, b);
            return Ok(());
        }
        let delta = row_delta(module, &shape, &self.weight.rows(0..out)?)?;
        let delta = Tensor::from_vec(delta, (out, self.kernel.depth()), device)?;
        self.dense.push((slot, delta));
        Ok(())
    }

    /// Attaches `scale·B∘A` with `a` (rank, in, kh, kw) and `b` (out, rank, 1, 1), which may be
    /// variables.
    pub fn attach_low_rank(&mut self, slot: impl Into<Slot>, scale: f32, a: Tensor, b: Tensor) {
        self.low_rank.push(LowRank { slot: slot.into(), scale, a, b });
    }

    /// The frozen convolution and what is trained on it, if anything is.
    fn with_change(&self, x: &Tensor, strengths: &Strengths) -> Result<Option<Tensor>> {
        let Some((adapter, trained)) = &self.trained else { return Ok(None) };
        let frozen = || {
            let Weight::Stored(weight) = &self.weight else { return Ok(None) };
            let bias = self.bias.as_ref().map(|b| b.to_dtype(DType::F32)?.to_vec1()).transpose()?;
            Ok(Some(Frozen { weight: weight.clone(), bias, kernel: Some(self.kernel) }))
        };
        if let Some(y) = trained.fused(x, frozen, (*adapter, strengths))? {
            return Ok(Some(y));
        }
        let y = self.base(x, self.bias.as_ref())?;
        Ok(Some(trained.apply(&y, x, self, (*adapter, strengths))?))
    }

    /// Attaches a change that is trained, as adapter number `adapter` of [`Strengths`].
    pub fn train(&mut self, adapter: usize, trained: Trained) {
        self.trained = Some((adapter, trained));
    }

    /// The frozen weight and this bias.
    fn base(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match (&self.weight, bias) {
            (Weight::Stored(weight), bias) => {
                let bias = bias.map(|b| b.to_dtype(DType::F32)?.to_vec1()).transpose()?;
                let op = StoredConvolution { weight: weight.clone(), kernel: self.kernel, bias };
                let y = x.to_dtype(DType::F32)?.contiguous()?.apply_op1(op)?;
                y.to_dtype(x.dtype())
            }
            (weight, None) => self.kernel.convolve_frozen(x, &dense(weight)?),
            (weight, Some(bias)) => {
                let y = self.kernel.convolve_frozen(x, &dense(weight)?)?;
                y.broadcast_add(&bias.reshape((1, (), 1, 1))?)
            }
        }
    }

    /// Applies the convolution.
    pub fn forward(&self, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let mut y = match self.with_change(x, strengths)? {
            Some(y) => y,
            None => self.base(x, self.bias.as_ref())?,
        };
        y = self.add_low_rank(y, x, strengths)?;
        for (slot, delta) in &self.dense {
            let Some(active) = strengths.active(&[(*slot, 1.0)], x.device())? else { continue };
            let x = rows_of(x, &active)?;
            let change = scaled(&self.kernel.convolve(&x, delta)?, &active.factors)?;
            y = added(&y, &change, &active)?;
        }
        for (slot, bias) in &self.biases {
            let Some(active) = strengths.active(&[(*slot, 1.0)], x.device())? else { continue };
            let mut shape = y.dims().to_vec();
            shape[0] = active.factors.dim(0)?;
            let change = bias.reshape((1, (), 1, 1))?.broadcast_as(shape)?.contiguous()?;
            y = added(&y, &scaled(&change, &active.factors)?, &active)?;
        }
        Ok(y)
    }

    /// All A's in one convolution, all B's in another.
    fn add_low_rank(&self, y: Tensor, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        if self.low_rank.is_empty() {
            return Ok(y);
        }
        let mut columns = Vec::new();
        for part in &self.low_rank {
            columns.extend(vec![(part.slot, part.scale); part.a.dim(0)?]);
        }
        let Some(active) = strengths.active(&columns, x.device())? else { return Ok(y) };
        let stacked = |of: fn(&LowRank) -> &Tensor, axis: usize| -> Result<Tensor> {
            let all: Vec<&Tensor> = self.low_rank.iter().map(of).collect();
            let all =
                if let [one] = all.as_slice() { (*one).clone() } else { Tensor::cat(&all, axis)? };
            all.flatten_from(1)?.contiguous()
        };
        let x = rows_of(x, &active)?;
        let inner = self.kernel.convolve(&x, &stacked(|part| &part.a, 0)?)?;
        let (rows, _, ranks) = active.factors.dims3()?;
        let inner = inner.broadcast_mul(&active.factors.reshape((rows, ranks, 1, 1))?)?;
        let change = Kernel::point(ranks).convolve(&inner, &stacked(|part| &part.b, 1)?)?;
        added(&y, &change, &active)
    }
}

impl Product for Conv2d {
    fn down(&self, x: &Tensor, a: &Tensor) -> Result<Tensor> {
        self.kernel.convolve(x, &a.flatten_from(1)?)
    }

    fn up(&self, x: &Tensor, b: &Tensor) -> Result<Tensor> {
        Kernel::point(x.dim(1)?).convolve(x, &b.flatten_from(1)?)
    }

    fn frozen(&self, x: &Tensor) -> Result<Tensor> {
        self.base(x, None)
    }

    fn norms(&self, delta: &Tensor) -> Result<Tensor> {
        norms(&self.weight, delta)
    }
}

/// A weight that is a tensor.
fn dense(weight: &Weight) -> Result<Tensor> {
    match weight {
        Weight::Dense(tensor) => Ok(tensor.clone()),
        _ => candle_core::bail!("a convolution with a quantised weight"),
    }
}

impl Kernel {
    /// A 1×1 convolution of so many channels.
    fn point(inputs: usize) -> Self {
        Self { inputs, height: 1, width: 1, config: ConvConfig::default() }
    }

    /// Values of one output channel's weight.
    fn depth(&self) -> usize {
        self.inputs * self.height * self.width
    }

    pub(super) fn shape(&self, x: &Layout, outputs: usize) -> Result<conv::Shape> {
        let (rows, inputs, height, width) = x.shape().dims4()?;
        let ConvConfig { stride, padding, dilation, groups } = self.config;
        let kernel = (self.height, self.width);
        Ok(conv::Shape {
            rows,
            inputs,
            height,
            width,
            outputs,
            kernel,
            stride,
            padding,
            dilation,
            groups,
        })
    }

    /// `x ∗ w` with a gradient for x alone; w is (out, depth).
    fn convolve_frozen(self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() && x.dtype() == DType::F32 && w.dtype() == DType::F32 {
            return self.convolve(x, w);
        }
        let w = w.reshape(((), self.inputs, self.height, self.width))?;
        super::graft::conv2d(x, &w, self.config)
    }

    /// `x ∗ w` with gradients for both; w is (out, depth).
    fn convolve(self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() && x.dtype() == DType::F32 && w.dtype() == DType::F32 {
            return x.contiguous()?.apply_op2(&w.contiguous()?, DenseConvolution(self));
        }
        let ConvConfig { stride, padding, dilation, groups } = self.config;
        let w = w.reshape(((), self.inputs, self.height, self.width))?;
        x.to_dtype(w.dtype())?.contiguous()?.conv2d(&w, padding, stride, dilation, groups)
    }
}

fn result(y: Vec<f32>, shape: &conv::Shape) -> Result<(CpuStorage, Shape)> {
    let (height, width) = shape.output().map_err(candle_core::Error::wrap)?;
    Ok((CpuStorage::F32(y), (shape.rows, shape.outputs, height, width).into()))
}

struct StoredConvolution {
    weight: Stored,
    kernel: Kernel,
    bias: Option<Vec<f32>>,
}

impl CustomOp1 for StoredConvolution {
    fn name(&self) -> &'static str {
        "stored-convolution"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.kernel.shape(layout, self.weight.rows())?;
        let (weight, bias) = (self.weight.matrix(), self.bias.as_deref());
        let y = convolve(values(x, layout)?, weight, bias, &shape);
        result(y.map_err(candle_core::Error::wrap)?, &shape)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let shape = self.kernel.shape(x.layout(), self.weight.rows())?;
        let g = gradient.flatten_all()?.to_vec1::<f32>()?;
        let dx = input_gradient(&g, self.weight.matrix(), &shape);
        let dx = dx.map_err(candle_core::Error::wrap)?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

struct DenseConvolution(Kernel);

impl CustomOp2 for DenseConvolution {
    fn name(&self) -> &'static str {
        "dense-convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (outputs, depth) = w_layout.shape().dims2()?;
        let shape = self.0.shape(x_layout, outputs)?;
        let weight = Matrix::dense(values(w, w_layout)?, depth);
        let y = convolve(values(x, x_layout)?, weight, None, &shape);
        result(y.map_err(candle_core::Error::wrap)?, &shape)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (outputs, depth) = w.dims2()?;
        let shape = self.0.shape(x.layout(), outputs)?;
        let g = gradient.flatten_all()?.to_vec1::<f32>()?;
        let (x_values, w_values) =
            (x.flatten_all()?.to_vec1::<f32>()?, w.flatten_all()?.to_vec1::<f32>()?);
        let wrap = candle_core::Error::wrap;
        let dx = input_gradient(&g, Matrix::dense(&w_values, depth), &shape).map_err(wrap)?;
        let dw = weight_gradient(&g, &x_values, &shape).map_err(candle_core::Error::wrap)?;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dw, w.shape(), w.device())?),
        ))
    }
}
