//! Gradients of a chain of links, whole or link by link.
//!
//! Whole, every tensor of the pass is kept. Link by link ("gradient checkpointing", Chen et al.,
//! 2016), only the states between links are: the backward pass computes each link again, so memory
//! grows with a state for each link, not with all that happens in it.

use candle_core::{Tensor, Var};

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

/// The state at the start of some links.
struct Kept {
    links: std::ops::Range<usize>,
    state: Vec<Tensor>,
    /// Which of its tensors need a gradient.
    wanted: Vec<bool>,
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
    let wanted: Vec<bool> = start.iter().map(Tensor::track_op).collect();
    let start: Vec<Tensor> = start.iter().map(Tensor::detach).collect();
    if !pass.checkpointing {
        let part = Kept { links: 0..chain.links(), state: start, wanted };
        return whole(chain, &part, pass, gradients, end);
    }
    let (last, kept) = forward(chain, start, wanted, pass)?;
    let first = last.first().ok_or_else(|| candle_core::Error::Msg("an empty state".to_owned()))?;
    let (result, gradient) = end(first)?;
    let mut slopes = vec![None; last.len()];
    slopes[0] = Some(gradient);
    drop(last);
    for part in kept.into_iter().rev() {
        let inputs = part.inputs()?;
        let outputs = run(chain, part.links.clone(), inputs.clone(), pass.memory)?;
        slopes = part.back(&inputs, &outputs, &slopes, gradients)?;
    }
    Ok((result, slopes))
}

/// All links in one graph.
fn whole<T>(
    chain: &dyn Chain,
    part: &Kept,
    pass: Pass<'_>,
    gradients: &mut Gradients,
    end: impl FnOnce(&Tensor) -> Result<End<T>, TrainError>,
) -> Result<(T, Vec<Option<Tensor>>), TrainError> {
    let inputs = part.inputs()?;
    let outputs = run(chain, part.links.clone(), inputs.clone(), pass.memory)?;
    let first =
        outputs.first().ok_or_else(|| candle_core::Error::Msg("an empty state".to_owned()))?;
    let (result, gradient) = end(&first.detach())?;
    let mut slopes = vec![None; outputs.len()];
    slopes[0] = Some(gradient);
    let slopes = part.back(&inputs, &outputs, &slopes, gradients)?;
    Ok((result, slopes))
}

/// The last state, and the state before each link.
fn forward(
    chain: &dyn Chain,
    start: Vec<Tensor>,
    wanted: Vec<bool>,
    pass: Pass<'_>,
) -> Result<(Vec<Tensor>, Vec<Kept>), TrainError> {
    let (mut state, mut wanted, mut kept) = (start, wanted, Vec::new());
    for link in 0..chain.links() {
        let outputs = run(chain, link..link + 1, state.clone(), pass.memory)?;
        let any = wanted.contains(&true);
        let needs = outputs.iter().map(|output| {
            match state.iter().position(|input| input.id() == output.id()) {
                Some(place) => wanted[place],
                None => any || output.track_op(),
            }
        });
        let needs = needs.collect();
        kept.push(Kept { links: link..link + 1, state: state.clone(), wanted });
        // a tensor that was handed on stays the same tensor
        let cut =
            |output: &Tensor| if output.track_op() { output.detach() } else { output.clone() };
        (state, wanted) = (outputs.iter().map(cut).collect(), needs);
    }
    Ok((state, kept))
}

fn run(
    chain: &dyn Chain,
    links: std::ops::Range<usize>,
    mut state: Vec<Tensor>,
    memory: &Memory,
) -> Result<Vec<Tensor>, TrainError> {
    for link in links {
        state = chain.run(link, state)?;
        memory.check()?;
    }
    Ok(state)
}

impl Kept {
    /// The state as variables where a gradient is wanted.
    fn inputs(&self) -> candle_core::Result<Vec<Tensor>> {
        let input = |(tensor, wanted): (&Tensor, &bool)| match wanted {
            true => Ok(Var::from_tensor(tensor)?.into_inner()),
            false => Ok(tensor.clone()),
        };
        self.state.iter().zip(&self.wanted).map(input).collect()
    }

    /// The gradients of the inputs from those of the outputs.
    fn back(
        &self,
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
                let part = (output * slope.to_dtype(output.dtype())?)?.sum_all()?;
                scalar = sum(scalar, part)?;
            }
        }
        if let Some(scalar) = scalar {
            let mut found = scalar.backward()?;
            drop(scalar);
            gradients.add(&mut found)?;
            for (input, through) in inputs.iter().zip(&mut through) {
                if let Some(slope) = found.remove(input) {
                    *through = sum(through.take(), slope.detach())?;
                }
            }
        }
        for (slope, wanted) in through.iter_mut().zip(&self.wanted) {
            if !wanted {
                *slope = None;
            }
        }
        Ok(through)
    }
}

fn sum(sum: Option<Tensor>, more: Tensor) -> candle_core::Result<Option<Tensor>> {
    Ok(Some(match sum {
        Some(sum) => (sum + more)?,
        None => more,
    }))
}
