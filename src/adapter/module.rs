//! One module of an adapter: what it does to a weight of the base.

use serde::Serialize;

use super::id::ModuleId;
use crate::tensors::Tensor;

/// What an adapter changes in one module, tensors as the file holds them.
#[derive(Debug, Clone)]
pub struct Module {
    /// Which module of which model.
    pub id: ModuleId,
    /// The module's name in the file, for messages and for exact lookup.
    pub key: String,
    /// The change of the weight, if the weight changes.
    pub weight: Option<Delta>,
    /// The change of the bias, if the bias changes.
    pub bias: Option<BiasDelta>,
    /// `alpha` as stored or configured; absent means the rank, a scale of 1.
    pub alpha: Option<f32>,
    /// What the low-rank product is multiplied by: alpha/rank (rsLoRA: alpha/√rank).
    pub scale: f32,
    /// The magnitude of DoRA: `m` in `W' = m ⊙ V / ‖V‖` with `V = W + ΔW`.
    pub magnitude: Option<Magnitude>,
    /// The base keeps this weight as (in, out), so ΔW is transposed: GPT-2's `Conv1D`, embeddings.
    pub transposed: bool,
    /// It changes an embedding table, which PEFT writes under names of their own.
    pub embedding: bool,
    /// The base's own weight, where the file holds it beside the low-rank change. It changes nothing,
    /// so the base must hold the same; a resized vocabulary is no change that can be applied.
    pub saved_base: Option<Tensor>,
}

/// The change of a weight W of shape (out, in) or (out, in, kh, kw), before `scale` and strength.
#[derive(Debug, Clone)]
pub enum Delta {
    /// LoRA, LoCon: `up · down`, through `mid` where the convolution is in Tucker form.
    LowRank {
        /// (rank, in), (rank, in, kh, kw), or (rank, in, 1, 1) with `mid`.
        down: Tensor,
        /// (out, rank) or (out, rank, 1, 1).
        up: Tensor,
        /// (rank, rank, kh, kw): first index pairs with `up`, second with `down`.
        mid: Option<Tensor>,
    },
    /// LoHa: `(w1_a · w1_b) ⊙ (w2_a · w2_b)`, Tucker form with `t1`, `t2`.
    Hadamard {
        /// First product.
        w1: Product,
        /// Second product.
        w2: Product,
    },
    /// LoKr: the Kronecker product of two factors.
    Kronecker {
        /// The outer factor.
        w1: Factor,
        /// The inner factor.
        w2: Factor,
    },
    /// (IA)³: `W ⊙ weight`, along the inputs or the outputs.
    Scaling {
        /// One number an input or an output.
        weight: Tensor,
        /// Along the inputs.
        on_input: bool,
    },
    /// GLoRA: `b1·b2 + (W·a1)·a2`.
    Glora {
        /// (in, rank)
        a1: Tensor,
        /// (rank, in)
        a2: Tensor,
        /// (out, rank)
        b1: Tensor,
        /// (rank, in·kh·kw)
        b2: Tensor,
    },
    /// A full difference, W's shape: `diff`, and `w_norm` of a norm.
    Difference(Tensor),
    /// The weight itself, W's shape: `modules_to_save`, `set_weight`. ΔW is its distance from W.
    Replacement(Tensor),
}

/// A product of two matrices, or with `t` the Tucker form `Σ t[i,j,:,:]·a[i,p]·b[j,q]`.
#[derive(Debug, Clone)]
pub struct Product {
    /// (out, rank); (rank, out) with `t`.
    pub a: Tensor,
    /// (rank, in·kh·kw); (rank, in) with `t`.
    pub b: Tensor,
    /// (rank, rank, kh, kw).
    pub t: Option<Tensor>,
}

/// One side of a Kronecker product.
#[derive(Debug, Clone)]
pub enum Factor {
    /// The matrix itself.
    Full(Tensor),
    /// A low-rank product.
    Product(Product),
}

/// The change of a bias.
#[derive(Debug, Clone)]
pub enum BiasDelta {
    /// Added: `diff_b`, `b_norm`; PEFT's `lora_B.bias`, which `scale` multiplies.
    Add {
        /// (out)
        delta: Tensor,
        /// Whether the module's scale applies.
        scaled: bool,
    },
    /// The bias itself: PEFT's `bias="all"`, `modules_to_save`.
    Replace(Tensor),
}

/// DoRA's magnitude vector.
#[derive(Debug, Clone)]
pub struct Magnitude {
    /// One number an output (or an input).
    pub vector: Tensor,
    /// Which norm it replaces.
    pub axis: Axis,
    /// Added to the norm before dividing: LyCORIS adds the epsilon of the vector's type, PEFT none.
    pub epsilon: f64,
}

/// The axis that a norm leaves standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// One norm an output row: PEFT, LyCORIS' `wd_on_out=True`.
    Output,
    /// One norm an input column: historic LyCORIS.
    Input,
}

/// The kinds of modules, by the names that users know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// Low-rank, on a linear layer or 1×1 convolution.
    LoRA,
    /// Low-rank on a larger convolution, Tucker form included.
    LoCon,
    /// LoRA with a magnitude, whatever the product.
    DoRA,
    /// Hadamard product.
    LoHa,
    /// Kronecker product.
    LoKr,
    /// (IA)³.
    IA3,
    /// GLoRA.
    GLoRA,
    /// A full difference of a weight.
    Full,
    /// A full difference of a norm.
    Norm,
    /// A weight that takes the place of the base's.
    Replacement,
    /// Only a bias.
    Bias,
}

impl Module {
    /// What kind of module it is.
    pub fn kind(&self) -> Kind {
        if self.magnitude.is_some() {
            return Kind::DoRA;
        }
        match &self.weight {
            None => Kind::Bias,
            Some(Delta::LowRank { down, mid, .. }) => {
                let large = down.shape().len() == 4 && down.shape()[2..] != [1, 1];
                if large || mid.is_some() { Kind::LoCon } else { Kind::LoRA }
            }
            Some(Delta::Hadamard { .. }) => Kind::LoHa,
            Some(Delta::Kronecker { .. }) => Kind::LoKr,
            Some(Delta::Scaling { .. }) => Kind::IA3,
            Some(Delta::Glora { .. }) => Kind::GLoRA,
            Some(Delta::Difference(tensor)) if tensor.shape().len() < 2 => Kind::Norm,
            Some(Delta::Difference(_)) => Kind::Full,
            Some(Delta::Replacement(_)) => Kind::Replacement,
        }
    }

    /// The rank, where there is one.
    pub fn rank(&self) -> Option<usize> {
        let factor = |factor: &Factor| match factor {
            Factor::Full(_) => None,
            Factor::Product(product) => product.b.shape().first().copied(),
        };
        match self.weight.as_ref()? {
            Delta::LowRank { down, .. } => down.shape().first().copied(),
            Delta::Hadamard { w1, .. } => w1.b.shape().first().copied(),
            Delta::Kronecker { w1, w2 } => factor(w2).or_else(|| factor(w1)),
            Delta::Glora { a2, .. } => a2.shape().first().copied(),
            _ => None,
        }
    }

    /// All tensors with a short name each, for checks and summaries.
    pub fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        let mut all = Vec::new();
        match &self.weight {
            None => {}
            Some(Delta::LowRank { down, up, mid }) => {
                all.extend([("down", down), ("up", up)]);
                all.extend(mid.iter().map(|mid| ("mid", mid)));
            }
            Some(Delta::Hadamard { w1, w2 }) => {
                all.extend(w1.tensors(["w1_a", "w1_b", "t1"]));
                all.extend(w2.tensors(["w2_a", "w2_b", "t2"]));
            }
            Some(Delta::Kronecker { w1, w2 }) => {
                all.extend(w1.tensors("w1", ["w1_a", "w1_b", "t1"]));
                all.extend(w2.tensors("w2", ["w2_a", "w2_b", "t2"]));
            }
            Some(Delta::Scaling { weight, .. }) => all.push(("weight", weight)),
            Some(Delta::Glora { a1, a2, b1, b2 }) => {
                all.extend([("a1", a1), ("a2", a2), ("b1", b1), ("b2", b2)]);
            }
            Some(Delta::Difference(tensor)) => all.push(("diff", tensor)),
            Some(Delta::Replacement(tensor)) => all.push(("weight", tensor)),
        }
        match &self.bias {
            None => {}
            Some(BiasDelta::Add { delta, .. }) => all.push(("bias difference", delta)),
            Some(BiasDelta::Replace(tensor)) => all.push(("bias", tensor)),
        }
        all.extend(self.magnitude.iter().map(|m| ("magnitude", &m.vector)));
        all
    }

    /// Rows and columns (kernel positions included) of the weight it is made for, in its own
    /// orientation; `None` where the change does not tell.
    pub fn extent(&self) -> Option<(usize, usize)> {
        let sides = |a: &Tensor, b: &Tensor| {
            let rank = b.shape().first().copied().filter(|rank| *rank > 0)?;
            Some((a.elements() / rank, b.elements() / rank))
        };
        let kernel =
            |t: &Option<Tensor>| t.as_ref().map_or(1, |t| t.shape()[2..].iter().product::<usize>());
        match self.weight.as_ref()? {
            Delta::LowRank { down, up, mid } => {
                let (rows, columns) = sides(up, down)?;
                Some((rows, columns * kernel(mid)))
            }
            Delta::Hadamard { w1, .. } => {
                let (rows, columns) = sides(&w1.a, &w1.b)?;
                Some((rows, columns * kernel(&w1.t)))
            }
            Delta::Kronecker { w1, w2 } => {
                let ((o1, i1), (o2, i2)) = (w1.extent()?, w2.extent()?);
                Some((o1 * o2, i1 * i2))
            }
            Delta::Glora { b1, b2, .. } => sides(b1, b2),
            Delta::Difference(t) | Delta::Replacement(t) => {
                let rows = t.shape().first().copied().unwrap_or(1);
                Some((rows, t.elements().checked_div(rows)?))
            }
            Delta::Scaling { .. } => None,
        }
    }

    /// Width of the input that the module expects, where the change tells it.
    pub fn inputs(&self) -> Option<usize> {
        match self.weight.as_ref()? {
            Delta::LowRank { down, .. } => down.shape().get(1).copied(),
            Delta::Hadamard { w1, .. } => w1.b.shape().get(1).copied(),
            Delta::Kronecker { w1, w2 } => Some(w1.columns()? * w2.columns()?),
            Delta::Glora { a2, .. } => a2.shape().get(1).copied(),
            Delta::Difference(t) | Delta::Replacement(t) => t.shape().get(1).copied(),
            Delta::Scaling { .. } => None,
        }
    }

    /// Width of the output that the module makes, where the change tells it.
    pub fn outputs(&self) -> Option<usize> {
        match self.weight.as_ref()? {
            Delta::LowRank { up, .. } => up.shape().first().copied(),
            Delta::Hadamard { w1, .. } => w1.a.shape().get(usize::from(w1.t.is_some())).copied(),
            Delta::Kronecker { w1, w2 } => Some(w1.rows()? * w2.rows()?),
            Delta::Glora { b1, .. } => b1.shape().first().copied(),
            Delta::Difference(t) | Delta::Replacement(t) => t.shape().first().copied(),
            Delta::Scaling { .. } => None,
        }
    }
}

impl Product {
    fn tensors<'a>(&'a self, names: [&'static str; 3]) -> Vec<(&'static str, &'a Tensor)> {
        let mut all = vec![(names[0], &self.a), (names[1], &self.b)];
        all.extend(self.t.iter().map(|t| (names[2], t)));
        all
    }
}

impl Factor {
    fn tensors<'a>(
        &'a self,
        full: &'static str,
        names: [&'static str; 3],
    ) -> Vec<(&'static str, &'a Tensor)> {
        match self {
            Self::Full(tensor) => vec![(full, tensor)],
            Self::Product(product) => product.tensors(names),
        }
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> Option<usize> {
        Some(self.extent()?.0)
    }

    /// Columns of the matrix, kernel positions not counted.
    pub fn columns(&self) -> Option<usize> {
        match self {
            Self::Full(tensor) => tensor.shape().get(1).copied(),
            Self::Product(p) => p.b.shape().get(1).copied(),
        }
    }

    /// Rows and columns, kernel positions included.
    fn extent(&self) -> Option<(usize, usize)> {
        match self {
            Self::Full(tensor) => {
                let rows = tensor.shape().first().copied()?;
                Some((rows, tensor.elements().checked_div(rows)?))
            }
            Self::Product(p) => {
                let rank = p.b.shape().first().copied().filter(|rank| *rank > 0)?;
                let kernel: usize = p.t.as_ref().map_or(1, |t| t.shape()[2..].iter().product());
                Some((p.a.elements() / rank, p.b.elements() / rank * kernel))
            }
        }
    }
}
