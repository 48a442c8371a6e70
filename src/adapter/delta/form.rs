//! The product of each kind of module, in the orientation of the stored weight.

use std::ops::Range;

use super::matrices::{Matrices, scale_all, through_core};
use super::{Misfit, shape_text};
use crate::adapter::module::{Delta, Factor};
use crate::linalg::{multiply, multiply_add, transpose};
use crate::tensors::TensorError;

#[derive(Debug, Clone)]
/// A product, its tensors decoded to f32.
pub(super) enum Form {
    /// left (rows, k) · right (k, columns)
    LowRank(Matrices),
    /// Elementwise product of two such.
    Hadamard {
        w1: Matrices,
        w2: Matrices,
        scale: f32,
    },
    /// w1 (o1, i1) ⊗ w2 (o2, i2·kernel)
    Kronecker {
        w1: Vec<f32>,
        i1: usize,
        w2: Vec<f32>,
        o2: usize,
        scale: f32,
    },
    Scaling {
        weight: Vec<f32>,
        on_input: bool,
    },
    Glora {
        product: Matrices,
        a1: Vec<f32>,
        a2: Vec<f32>,
        rank: usize,
        scale: f32,
    },
    Dense(Vec<f32>),
    Replacement(Vec<f32>),
}

impl Form {
    /// The form of `delta` for a weight of (rows, columns), in the module's own orientation.
    pub(super) fn new(
        delta: &Delta,
        scale: f32,
        (rows, columns): (usize, usize),
        kernel: usize,
        misfit: &dyn Fn(String) -> Misfit,
    ) -> Result<Self, Misfit> {
        let fits = |m: &Matrices| -> Result<(), Misfit> {
            let found = (m.rows(), m.columns());
            if found == (rows, columns) {
                Ok(())
            } else {
                Err(misfit(shape_text(&[found.0, found.1])))
            }
        };
        match delta {
            Delta::LowRank { down, up, mid } => {
                let left = up.to_f32("up")?;
                let right = down.to_f32("down")?;
                let right = match mid {
                    Some(mid) => through_core(mid, &right, down)?,
                    None => right,
                };
                let mut matrices = Matrices { left, right, k: down.shape()[0] };
                fits(&matrices)?;
                scale_all(&mut matrices.left, scale);
                Ok(Self::LowRank(matrices))
            }
            Delta::Hadamard { w1, w2 } => {
                let (w1, w2) = (Matrices::new(w1)?, Matrices::new(w2)?);
                fits(&w1)?;
                fits(&w2)?;
                Ok(Self::Hadamard { w1, w2, scale })
            }
            Delta::Kronecker { w1, w2 } => kronecker(w1, w2, scale, (rows, columns), misfit),
            Delta::Scaling { weight, on_input } => {
                let expected = if *on_input { columns / kernel.max(1) } else { rows };
                if weight.elements() != expected {
                    return Err(misfit(format!("{} scaled lines", weight.elements())));
                }
                Ok(Self::Scaling { weight: weight.to_f32("weight")?, on_input: *on_input })
            }
            Delta::Glora { a1, a2, b1, b2 } => {
                let k = b1.shape()[1];
                let product = Matrices { left: b1.to_f32("b1")?, right: b2.to_f32("b2")?, k };
                fits(&product)?;
                let rank = a2.shape()[0];
                let inputs = columns / kernel.max(1);
                if a1.elements() != inputs * rank || a2.elements() != rank * inputs {
                    return Err(misfit(format!("{} inputs", a1.shape()[0])));
                }
                let (a1, a2) = (a1.to_f32("a1")?, a2.to_f32("a2")?);
                Ok(Self::Glora { product, a1, a2, rank, scale })
            }
            Delta::Difference(tensor) | Delta::Replacement(tensor) => {
                let found = tensor.shape();
                let same = tensor.elements() == rows * columns
                    && (found.first() == Some(&rows) || found.is_empty());
                if !same {
                    return Err(misfit(shape_text(found)));
                }
                let values = tensor.to_f32("weight")?;
                let added = matches!(delta, Delta::Difference(_));
                Ok(if added { Self::Dense(values) } else { Self::Replacement(values) })
            }
        }
    }

    /// The form of the transposed change; `(rows, columns)` are those before.
    pub(super) fn transposed(self, (rows, columns): (usize, usize)) -> Self {
        match self {
            Self::LowRank(matrices) => Self::LowRank(matrices.transposed()),
            Self::Hadamard { w1, w2, scale } => {
                Self::Hadamard { w1: w1.transposed(), w2: w2.transposed(), scale }
            }
            Self::Kronecker { w1, i1, w2, o2, scale } => {
                let (o1, i2) = (w1.len() / i1, w2.len() / o2);
                let w1 = transpose(&w1, o1, i1);
                Self::Kronecker { w1, i1: o1, w2: transpose(&w2, o2, i2), o2: i2, scale }
            }
            Self::Scaling { weight, on_input } => Self::Scaling { weight, on_input: !on_input },
            Self::Glora { .. } => self, // refused before
            Self::Dense(values) => Self::Dense(transpose(&values, rows, columns)),
            Self::Replacement(values) => Self::Replacement(transpose(&values, rows, columns)),
        }
    }

    /// Adds `by` times these rows of the product (scale included) to `sum`. `base` holds the same
    /// rows of W, which are (inputs, kernel) wide.
    pub(super) fn add(
        &self,
        rows: Range<usize>,
        (columns, kernel): (usize, usize),
        base: &[f32],
        (sum, by): (&mut [f32], f32),
    ) {
        let m = rows.len();
        match self {
            Self::LowRank(matrices) => matrices.add(rows, columns, by, sum),
            Self::Hadamard { w1, w2, scale } => {
                let mut first = vec![0.0; m * columns];
                let mut second = vec![0.0; m * columns];
                w1.add(rows.clone(), columns, 1.0, &mut first);
                w2.add(rows, columns, 1.0, &mut second);
                for ((sum, a), b) in sum.iter_mut().zip(&first).zip(&second) {
                    *sum += by * scale * (a * b);
                }
            }
            Self::Kronecker { w1, i1, w2, o2, scale } => {
                let width = columns / i1;
                for (r, row) in rows.zip(sum.chunks_exact_mut(columns)) {
                    let outer = &w1[(r / o2) * i1..][..*i1];
                    let inner = &w2[(r % o2) * width..][..width];
                    for (a, part) in outer.iter().zip(row.chunks_exact_mut(width)) {
                        let a = by * scale * a;
                        for (sum, b) in part.iter_mut().zip(inner) {
                            *sum += a * b;
                        }
                    }
                }
            }
            Self::Scaling { weight, on_input } => {
                let rows = rows.zip(sum.chunks_exact_mut(columns).zip(base.chunks_exact(columns)));
                for (r, (sum, base)) in rows {
                    for (c, (sum, w)) in sum.iter_mut().zip(base).enumerate() {
                        let factor = weight[if *on_input { c / kernel } else { r }];
                        *sum += by * factor * w;
                    }
                }
            }
            Self::Glora { product, a1, a2, rank, scale } => {
                product.add(rows, columns, by * scale, sum);
                let inputs = columns / kernel;
                if kernel == 1 {
                    let mut narrow = multiply(base, a1, (m, inputs, *rank));
                    scale_all(&mut narrow, by * scale);
                    return multiply_add(sum, &narrow, a2, (m, *rank, inputs));
                }
                // A row is (in, kernel): (a1·a2)ᵀ acts on its inputs, the same at every tap.
                let (a1t, a2t) = (transpose(a1, inputs, *rank), transpose(a2, *rank, inputs));
                for (row, w) in sum.chunks_exact_mut(columns).zip(base.chunks_exact(columns)) {
                    let mut narrow = multiply(&a1t, w, (*rank, inputs, kernel));
                    scale_all(&mut narrow, by * scale);
                    multiply_add(row, &a2t, &narrow, (inputs, *rank, kernel));
                }
            }
            Self::Dense(values) => {
                let values = &values[rows.start * columns..rows.end * columns];
                for (sum, x) in sum.iter_mut().zip(values) {
                    *sum += by * x;
                }
            }
            Self::Replacement(values) => {
                let values = &values[rows.start * columns..rows.end * columns];
                for ((sum, x), w) in sum.iter_mut().zip(values).zip(base) {
                    *sum += by * (x - w);
                }
            }
        }
    }
}

fn kronecker(
    w1: &Factor,
    w2: &Factor,
    scale: f32,
    (rows, columns): (usize, usize),
    misfit: &dyn Fn(String) -> Misfit,
) -> Result<Form, Misfit> {
    let matrix = |factor: &Factor| -> Result<(Vec<f32>, usize), TensorError> {
        Ok(match factor {
            Factor::Full(tensor) => (tensor.to_f32("factor")?, tensor.shape()[0]),
            Factor::Product(product) => {
                let m = Matrices::new(product)?;
                (multiply(&m.left, &m.right, (m.rows(), m.k, m.columns())), m.rows())
            }
        })
    };
    let ((w1, o1), (w2, o2)) = (matrix(w1)?, matrix(w2)?);
    if o1 == 0 || o2 == 0 || w1.is_empty() || w2.is_empty() {
        return Err(misfit("(0, 0)".to_owned()));
    }
    let (i1, i2) = (w1.len() / o1, w2.len() / o2);
    if o1 * o2 != rows || i1 * i2 != columns {
        return Err(misfit(shape_text(&[o1 * o2, i1 * i2])));
    }
    Ok(Form::Kronecker { w1, i1, w2, o2, scale })
}
