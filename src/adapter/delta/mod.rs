//! ΔW, made ready to be added to a weight some rows at a time.
//!
//! Whatever the kind of module, a row of ΔW needs the same row of W at most, so a weight is changed
//! block by block in one pass and never held twice. The exception is DoRA along the inputs, whose
//! column norms need one pass more ([`RowDelta::needs_column_norms`]).
//!
//! Formulas (strength s, scale c; sources: sd-scripts, LyCORIS 4, PEFT 0.21, the WebUI 1.10):
//!
//! | kind | change of W |
//! |---|---|
//! | LoRA, LoCon | s·c·up·down; Tucker: `s·c·Σ mid[m,n]·up[:,m]·down[n,:]` |
//! | LoHa | s·c·(w1a·w1b) ⊙ (w2a·w2b) |
//! | LoKr | s·c·(w1 ⊗ w2); c = 1 when both factors are full |
//! | (IA)³ | s·W ⊙ w |
//! | GLoRA | s·c·(b1·b2 + (W·a1)·a2) |
//! | full, norm | s·diff |
//! | replacement | s·(M − W) |
//! | DoRA over any of them | s·(m ⊙ V/‖V‖ − W), V = W + c·product |

mod dora;
mod form;
mod matrices;

use std::ops::Range;

use super::module::{BiasDelta, Delta, Module};
use crate::tensors::TensorError;
use dora::{Dora, Over, scaled};
use form::Form;
use matrices::{Matrices, scale_all, side_by_side};

pub(super) use matrices::through_core;

/// The change of one weight at one strength, ready to be added to rows of it.
#[derive(Debug, Clone)]
pub struct RowDelta {
    columns: usize,
    kernel: usize,
    form: Form,
    strength: f32,
    dora: Option<Dora>,
}

/// Why a module does not fit a weight.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Misfit {
    /// Its product has another shape.
    #[error("changes a weight of {found}, the base's is {expected}")]
    Shape {
        /// The base's shape.
        expected: String,
        /// What the module is made for.
        found: String,
    },
    /// Its tensors cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl From<TensorError> for Misfit {
    fn from(error: TensorError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// `(320, 4, 3, 3)`
fn shape_text(shape: &[usize]) -> String {
    let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("({})", extents.join(", "))
}

impl RowDelta {
    /// Prepares the weight change of `module` for a weight that the base stores as `shape`.
    ///
    /// `transposed` says that the base stores it as (in, out) for reasons of its layout; the
    /// module's own flag is added to that. `None` if the module leaves the weight alone.
    pub fn new(
        module: &Module,
        shape: &[usize],
        transposed: bool,
        strength: f32,
    ) -> Result<Option<Self>, Misfit> {
        let Some(delta) = &module.weight else {
            return Ok(None);
        };
        let low_rank = matches!(delta, Delta::LowRank { .. });
        // PEFT's (in, out) flag is about the product; full tensors are in the base's own layout.
        let transposed = transposed != (module.transposed && low_rank);
        let rows = shape.first().copied().unwrap_or(1);
        let columns: usize = shape.get(1..).unwrap_or(&[]).iter().product();
        let kernel: usize = shape.get(2..).unwrap_or(&[]).iter().product();
        let natural = if transposed { (columns, rows) } else { (rows, columns) };
        let misfit = |found: String| Misfit::Shape { expected: shape_text(shape), found };
        if rows * columns == 0 {
            return Err(Misfit::Unreadable("the base's weight is empty".to_owned()));
        }
        let mut form = Form::new(delta, module.scale, natural, kernel, &misfit)?;
        if transposed {
            if matches!(form, Form::Glora { .. }) {
                let reason = "GLoRA on a weight that is stored transposed is not supported";
                return Err(Misfit::Unreadable(reason.to_owned()));
            }
            form = form.transposed(natural);
        }
        let dora = Dora::new(module, (rows, columns, kernel), transposed, &misfit)?;
        Ok(Some(Self { columns, kernel: kernel.max(1), form, strength, dora }))
    }

    /// Prepares the bias change of `module` for a bias of `length`.
    pub fn of_bias(module: &Module, length: usize, strength: f32) -> Result<Option<Self>, Misfit> {
        let (tensor, scale) = match &module.bias {
            None => return Ok(None),
            Some(BiasDelta::Add { delta, scaled: true }) => (delta, module.scale),
            Some(BiasDelta::Add { delta, .. } | BiasDelta::Replace(delta)) => (delta, 1.0),
        };
        if tensor.elements() != length {
            let found = shape_text(tensor.shape());
            return Err(Misfit::Shape { expected: shape_text(&[length]), found });
        }
        let mut values = tensor.to_f32("bias")?;
        scale_all(&mut values, scale);
        let replaces = matches!(module.bias, Some(BiasDelta::Replace(_)));
        let form = if replaces { Form::Replacement(values) } else { Form::Dense(values) };
        Ok(Some(Self { columns: 1, kernel: 1, form, strength, dora: None }))
    }

    /// Puts all plain low-rank changes of one weight side by side, so that they cost one product.
    pub fn stacked(deltas: Vec<Self>) -> Vec<Self> {
        let plain = |d: &Self| matches!(d.form, Form::LowRank(_)) && d.dora.is_none();
        let (plain, mut rest): (Vec<Self>, Vec<Self>) = deltas.into_iter().partition(plain);
        let Some(first) = plain.first() else {
            return rest;
        };
        let (columns, kernel) = (first.columns, first.kernel);
        let parts: Vec<(Matrices, f32)> = plain
            .into_iter()
            .filter_map(|d| match d.form {
                Form::LowRank(matrices) => Some((matrices, d.strength)),
                _ => None,
            })
            .collect();
        let stack = Form::LowRank(side_by_side(&parts));
        rest.push(Self { columns, kernel, form: stack, strength: 1.0, dora: None });
        rest
    }

    /// Whether [`RowDelta::see_rows`] must be shown all rows before anything is added.
    pub fn needs_column_norms(&self) -> bool {
        matches!(&self.dora, Some(Dora { over: Over::Columns { .. }, .. }))
    }

    /// Takes rows of the base into account for the column norms.
    pub fn see_rows(&mut self, rows: Range<usize>, base: &[f32]) {
        let mut v = base.to_vec();
        self.add_product(rows, base, &mut v, 1.0);
        let columns = self.columns;
        if let Some(Dora { over: Over::Columns { group, norms }, .. }) = &mut self.dora {
            for row in v.chunks_exact(columns) {
                for (norm, values) in norms.iter_mut().zip(row.chunks_exact(*group)) {
                    *norm += values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
                }
            }
        }
    }

    /// Adds the change of these rows to `sum`. `base` holds the same rows of W.
    pub fn add_rows(&self, rows: Range<usize>, base: &[f32], sum: &mut [f32]) {
        let Some(dora) = &self.dora else {
            return self.add_product(rows, base, sum, self.strength);
        };
        let mut v = base.to_vec();
        self.add_product(rows.clone(), base, &mut v, 1.0);
        match &dora.over {
            Over::Rows => {
                for (r, row) in rows.zip(v.chunks_exact_mut(self.columns)) {
                    let square: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
                    let factor = dora.factor(r, square);
                    for x in row.iter_mut() {
                        *x = scaled(*x, factor);
                    }
                }
            }
            Over::Columns { group, norms } => {
                let factors: Vec<f64> =
                    norms.iter().enumerate().map(|(i, n)| dora.factor(i, *n)).collect();
                for row in v.chunks_exact_mut(self.columns) {
                    for (factor, values) in factors.iter().zip(row.chunks_exact_mut(*group)) {
                        for x in values.iter_mut() {
                            *x = scaled(*x, *factor);
                        }
                    }
                }
            }
        }
        for ((sum, v), w) in sum.iter_mut().zip(&v).zip(base) {
            *sum += self.strength * (v - w);
        }
    }

    /// Adds `by` times the product (scale included, DoRA not) to `sum`.
    fn add_product(&self, rows: Range<usize>, base: &[f32], sum: &mut [f32], by: f32) {
        self.form.add(rows, (self.columns, self.kernel), base, (sum, by));
    }
}
