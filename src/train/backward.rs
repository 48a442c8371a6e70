//! Gradients of a chain of links, one link after the other.
//!
//! The graph of a link is kept until the backward pass has gone through it and let go then, so memory
//! falls while the pass goes back. With recomputation ("gradient checkpointing", Chen et al., 2016) no
//! graph is kept, but the states between links are, and each link is computed again when its turn
//! comes: memory grows with a state for each link, not with all that happens in it.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, Var};

use super::memory::Memory;
use super::{Gradients, TrainError};

/// A model as links, each of which takes the tensors that the one before it left.
pub trait Chain {
    /// Number of links.
    fn links(&self) -> usize;
    /// Runs one.
    fn run(&self, link: usize, state: Vec<Tensor>) -> candle_core::Result<Vec<Tensor>>;
}

/// What the end of a chain says: a result, and the gradient of the last state's first tensor.
pub type End<T> = (T, Tensor);

/// How a backward pass is made.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Whether links are computed again.
    pub checkpointing: bool,
    /// What may be taken.
    pub memory: &'a Memory,
}

/// One link of a pass. Tensors of a state that need a gradient are variables; one that a link hands
/// on stays the same variable.
struct Kept {
    link: usize,
    state: Vec<Tensor>,
    /// What came of it, with its graph, unless that is to be computed again.
    outputs: Option<Vec<Tensor>>,
}

/// Runs `chain` from `start` and back. `end` is given the first tensor of the last state, cut from
/// the graph. Gradients of variables are added to `gradients`; those of the tensors of `start` that
/// depend on variables are the second result.
pub fn backward<T>(
    chain: &dyn Chain,
    start: &[Tensor],
    pass: Pass<'_>,
    gradients: &mut Gradients,
    end: impl FnOnce(&Tensor) -> Result<End<T>, TrainError>,
) -> Result<(T, Vec<Option<Tensor>>), TrainError> {
    let (last, kept) = forward(chain, start, pass)?;
    let first = last.first().ok_or_else(|| candle_core::Error::Msg("an empty state".to_owned()))?;
    let (result, gradient) = end(&first.detach())?;
    let mut slopes = vec![None; last.len()];
    slopes[0] = Some(gradient);
    drop(last);
    for part in kept.into_iter().rev() {
        let outputs = match part.outputs {
            Some(outputs) => outputs,
            None => chain.run(part.link, part.state.clone())?,
        };
        slopes = back(&part.state, &outputs, &slopes, gradients)?;
        pass.memory.check()?;
    }
    Ok((result, slopes))
}

/// The last state, and what is kept of each link.
fn forward(
    chain: &dyn Chain,
    start: &[Tensor],
    pass: Pass<'_>,
) -> Result<(Vec<Tensor>, Vec<Kept>), TrainError> {
    let cut = |tensor: &Tensor, wanted: bool| -> candle_core::Result<Tensor> {
        let tensor = tensor.detach();
        if wanted { Ok(Var::from_tensor(&tensor)?.into_inner()) } else { Ok(tensor) }
    };
    let state = start.iter().map(|tensor| cut(tensor, tensor.track_op()));
    let mut state = state.collect::<candle_core::Result<Vec<Tensor>>>()?;
    let mut all = Vec::with_capacity(chain.links());
    for link in 0..chain.links() {
        let outputs = chain.run(link, state.clone())?;
        pass.memory.check()?;
        let mut next: Vec<Tensor> = Vec::with_capacity(outputs.len());
        for (place, output) in outputs.iter().enumerate() {
            let same = |other: &Tensor| other.id() == output.id();
            let known = state.iter().find(|input| same(input)).cloned();
            let twice = || outputs[..place].iter().position(same).map(|at| next[at].clone());
            next.push(match known.or_else(twice) {
                Some(known) => known,
                None => cut(output, output.track_op())?,
            });
        }
        let outputs = (!pass.checkpointing).then_some(outputs);
        all.push(Kept { link, state, outputs });
        state = next;
    }
    Ok((state, all))
}

/// The gradients of the inputs from those of the outputs.
fn back(
    inputs: &[Tensor],
    outputs: &[Tensor],
    slopes: &[Option<Tensor>],
    gradients: &mut Gradients,
) -> Result<Vec<Option<Tensor>>, TrainError> {
    let mut through: Vec<Option<Tensor>> = vec![None; inputs.len()];
    let mut scalar: Option<Tensor> = None;
    for (output, slope) in outputs.iter().zip(slopes) {
        let Some(slope) = slope else { continue };
        if let Some(place) = inputs.iter().position(|input| input.id() == output.id()) {
            through[place] = sum(through[place].take(), slope.clone())?;
        } else if output.track_op() {
            scalar = sum(scalar, weighed(output, slope)?)?;
        }
    }
    if let Some(scalar) = scalar {
        let mut found = scalar.backward()?;
        drop(scalar);
        gradients.add(&mut found)?;
        for (input, through) in inputs.iter().zip(&mut through) {
            if let Some(slope) = found.remove(input).filter(|_| input.is_variable()) {
                *through = sum(through.take(), slope.detach())?;
            }
        }
    }
    Ok(through)
}

/// A scalar whose gradient with respect to `output` is `slope`.
pub fn weighed(output: &Tensor, slope: &Tensor) -> candle_core::Result<Tensor> {
    let slope = slope.to_dtype(output.dtype())?;
    if output.device().is_cpu() {
        output.apply_op1(Start(slope))
    } else {
        (output * slope)?.sum_all()
    }
}

/// Where a backward pass begins: the value is of no interest.
struct Start(Tensor);

impl CustomOp1 for Start {
    fn name(&self) -> &'static str {
        "start"
    }

    fn cpu_fwd(&self, _: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        if layout.shape() != self.0.shape() {
            candle_core::bail!("a gradient of {:?} for {:?}", self.0.shape(), layout.shape());
        }
        let zero = match self.0.dtype() {
            DType::F64 => CpuStorage::F64(vec![0.0]),
            _ => CpuStorage::F32(vec![0.0]),
        };
        Ok((zero, Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

fn sum(sum: Option<Tensor>, more: Tensor) -> candle_core::Result<Option<Tensor>> {
    Ok(Some(match sum {
        Some(sum) => (sum + more)?,
        None => more,
    }))
}
