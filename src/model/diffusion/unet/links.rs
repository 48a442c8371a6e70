//! The denoiser as a chain of links, each of which takes the state that the one before it left.
//!
//! A pass runs them one after another. A training may keep the states between them and compute a
//! link again in the backward pass.

use candle_core::{DType, Result, Tensor};

use super::{Added, Context, Pass, Unet};
use crate::nn::Strengths;

/// What goes from link to link.
#[derive(Debug, Clone)]
pub struct State {
    /// (rows, channels, height, width)
    pub x: Tensor,
    /// silu(time embedding), (rows, 1, width)
    pub time: Tensor,
    /// What prompts say, (rows, tokens, width)
    pub context: Tensor,
    /// Skip connections that are still to be read.
    pub skips: Vec<Tensor>,
}

impl State {
    /// Its tensors: x, time, context and the skips.
    pub fn into_tensors(self) -> Vec<Tensor> {
        let mut all = vec![self.x, self.time, self.context];
        all.extend(self.skips);
        all
    }

    /// The way back.
    pub fn from_tensors(tensors: Vec<Tensor>) -> Result<Self> {
        let mut all = tensors.into_iter();
        match (all.next(), all.next(), all.next()) {
            (Some(x), Some(time), Some(context)) => {
                Ok(Self { x, time, context, skips: all.collect() })
            }
            _ => candle_core::bail!("a state has at least x, time and context"),
        }
    }
}

/// One link.
#[derive(Debug, Clone, Copy)]
enum Link {
    First,
    Down { block: usize, layer: usize },
    Half { block: usize },
    Middle,
    Up { block: usize, layer: usize },
    Double { block: usize },
    Last,
}

impl Unet {
    /// Number of links.
    pub fn links(&self) -> usize {
        self.chain().count()
    }

    fn chain(&self) -> impl Iterator<Item = Link> + '_ {
        let down = self.down.iter().enumerate().flat_map(|(block, of)| {
            let layers = (0..of.layers.len()).map(move |layer| Link::Down { block, layer });
            layers.chain(of.resample.as_ref().map(|_| Link::Half { block }))
        });
        let up = self.up.iter().enumerate().flat_map(|(block, of)| {
            let layers = (0..of.layers.len()).map(move |layer| Link::Up { block, layer });
            layers.chain(of.resample.as_ref().map(|_| Link::Double { block }))
        });
        let first = std::iter::once(Link::First).chain(down);
        first.chain([Link::Middle]).chain(up).chain([Link::Last])
    }

    /// The state before the first link.
    pub fn start(
        &self,
        latents: &Tensor,
        timesteps: &[f64],
        (context, added): (&Context, Option<&Added>),
        strengths: &Strengths,
    ) -> Result<State> {
        let device = latents.device();
        let mut time = self.time.forward(timesteps, &self.config, self.dtype, device, strengths)?;
        if let Some(add) = &self.add {
            let Some(added) = added else {
                candle_core::bail!("this model takes a pooled text embedding, and got none")
            };
            time = (time + add.forward(added, &self.config, self.dtype, strengths)?)?;
        }
        Ok(State {
            x: latents.to_dtype(self.dtype)?,
            time: time.silu()?,
            context: context.tokens.clone(),
            skips: Vec::new(),
        })
    }

    /// Runs link `index`; `starts` is where each row's context begins.
    pub fn link(
        &self,
        index: usize,
        state: State,
        (starts, strengths): (&[usize], &Strengths),
    ) -> Result<State> {
        match self.chain().nth(index) {
            Some(link) => rayon::scope(|_| self.run(link, state, (starts, strengths))),
            None => candle_core::bail!("the denoiser has no link {index}"),
        }
    }

    fn run(
        &self,
        link: Link,
        state: State,
        (starts, strengths): (&[usize], &Strengths),
    ) -> Result<State> {
        let State { x, time, context, mut skips } = state;
        let context = Context { tokens: context, starts: starts.to_vec() };
        let pass = Pass { time, context, strengths };
        let x = match link {
            Link::First => self.conv_in.forward(&x, strengths)?,
            Link::Down { block, layer } => self.down[block].layers[layer].forward(&x, &pass)?,
            Link::Half { block } => self.down[block].resample(&x, None, strengths)?,
            Link::Middle => self.mid.forward(&x, &pass)?,
            Link::Up { block, layer } => {
                let Some(skip) = skips.pop() else { candle_core::bail!("no skip connection left") };
                self.up[block].layers[layer].forward(&Tensor::cat(&[&x, &skip], 1)?, &pass)?
            }
            Link::Double { block } => {
                // sides that were odd below are cut to what they were there
                let size = skips.last().map(Tensor::dims4).transpose()?;
                self.up[block].resample(&x, size.map(|(_, _, h, w)| (h, w)), strengths)?
            }
            Link::Last => {
                let x = self.norm_out.forward_silu(&x)?;
                self.conv_out.forward(&x, strengths)?.to_dtype(DType::F32)?
            }
        };
        if matches!(link, Link::First | Link::Down { .. } | Link::Half { .. }) {
            skips.push(x.clone());
        }
        Ok(State { x, time: pass.time, context: pass.context.tokens, skips })
    }

    /// All links.
    pub(super) fn predict(
        &self,
        latents: &Tensor,
        timesteps: &[f64],
        prompts: (&Context, Option<&Added>),
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let mut state = self.start(latents, timesteps, prompts, strengths)?;
        for link in self.chain() {
            state = self.run(link, state, (&prompts.0.starts, strengths))?;
        }
        Ok(state.x)
    }
}
