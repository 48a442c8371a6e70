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
//! | LoRA, LoCon | s·c·up·down; Tucker: s·c·Σ mid[m,n]·up[:,m]·down[n,:] |
//! | LoHa | s·c·(w1a·w1b) ⊙ (w2a·w2b) |
//! | LoKr | s·c·(w1 ⊗ w2); c = 1 when both factors are full |
//! | (IA)³ | s·W ⊙ w |
//! | GLoRA | s·c·(b1·b2 + (W·a1)·a2) |
//! | full, norm | s·diff |
//! | replacement | s·(M − W) |
//! | DoRA over any of them | s·(m ⊙ V/‖V‖ − W), V = W + c·product |

use std::ops::Range;

use super::module::{Axis, BiasDelta, Delta, Factor, Module, Product};
use crate::linalg::{multiply, multiply_add, transpose};
use crate::tensors::{Tensor, TensorError};

/// The change of one weight at one strength, ready to be added to rows of it.
#[derive(Debug, Clone)]
pub struct RowDelta {
    columns: usize,
    kernel: usize,
    form: Form,
    strength: f32,
    dora: Option<Dora>,
}

#[derive(Debug, Clone)]
enum Form {
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

#[derive(Debug, Clone)]
struct Matrices {
    left: Vec<f32>,
    right: Vec<f32>,
    k: usize,
}

#[derive(Debug, Clone)]
struct Dora {
    magnitude: Vec<f32>,
    epsilon: f64,
    over: Over,
}

/// Where DoRA's norms are taken in the stored weight.
#[derive(Debug, Clone)]
enum Over {
    Rows,
    /// One norm for each group of `group` neighbouring columns; the norms once they are known.
    Columns {
        group: usize,
        norms: Vec<f64>,
    },
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
pub(super) fn shape_text(shape: &[usize]) -> String {
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
        let natural = if transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        let misfit = |found: String| Misfit::Shape {
            expected: shape_text(shape),
            found,
        };
        let mut form = Form::new(delta, module.scale, natural, kernel, &misfit)?;
        if transposed {
            if matches!(form, Form::Glora { .. }) {
                let reason = "GLoRA on a weight that is stored transposed is not supported";
                return Err(Misfit::Unreadable(reason.to_owned()));
            }
            form = form.transposed(natural);
        }
        let dora = Dora::new(module, (rows, columns, kernel), transposed, &misfit)?;
        Ok(Some(Self {
            columns,
            kernel: kernel.max(1),
            form,
            strength,
            dora,
        }))
    }

    /// Prepares the bias change of `module` for a bias of `length`.
    pub fn of_bias(module: &Module, length: usize, strength: f32) -> Result<Option<Self>, Misfit> {
        let (tensor, scale) = match &module.bias {
            None => return Ok(None),
            Some(BiasDelta::Add {
                delta,
                scaled: true,
            }) => (delta, module.scale),
            Some(BiasDelta::Add { delta, .. } | BiasDelta::Replace(delta)) => (delta, 1.0),
        };
        if tensor.elements() != length {
            let found = shape_text(tensor.shape());
            return Err(Misfit::Shape {
                expected: shape_text(&[length]),
                found,
            });
        }
        let mut values = tensor.to_f32("bias")?;
        values.iter_mut().for_each(|x| *x *= scale);
        let replaces = matches!(module.bias, Some(BiasDelta::Replace(_)));
        let form = if replaces {
            Form::Replacement(values)
        } else {
            Form::Dense(values)
        };
        Ok(Some(Self {
            columns: 1,
            kernel: 1,
            form,
            strength,
            dora: None,
        }))
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
        rest.push(Self {
            columns,
            kernel,
            form: stack,
            strength: 1.0,
            dora: None,
        });
        rest
    }

    /// Whether [`RowDelta::see_rows`] must be shown all rows before anything is added.
    pub fn needs_column_norms(&self) -> bool {
        matches!(
            &self.dora,
            Some(Dora {
                over: Over::Columns { .. },
                ..
            })
        )
    }

    /// Whether rows of the base are looked at; if not, `base` may be anything of the right size.
    pub fn needs_base(&self) -> bool {
        self.dora.is_some()
            || matches!(
                self.form,
                Form::Scaling { .. } | Form::Glora { .. } | Form::Replacement(_)
            )
    }

    /// Takes rows of the base into account for the column norms.
    pub fn see_rows(&mut self, rows: Range<usize>, base: &[f32]) {
        let mut v = base.to_vec();
        self.add_product(rows, base, &mut v, 1.0);
        let columns = self.columns;
        if let Some(Dora {
            over: Over::Columns { group, norms },
            ..
        }) = &mut self.dora
        {
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
                    row.iter_mut().for_each(|x| *x = scaled(*x, factor));
                }
            }
            Over::Columns { group, norms } => {
                let factors: Vec<f64> = norms
                    .iter()
                    .enumerate()
                    .map(|(i, n)| dora.factor(i, *n))
                    .collect();
                for row in v.chunks_exact_mut(self.columns) {
                    for (factor, values) in factors.iter().zip(row.chunks_exact_mut(*group)) {
                        values.iter_mut().for_each(|x| *x = scaled(*x, *factor));
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
        let (m, columns) = (rows.len(), self.columns);
        match &self.form {
            Form::LowRank(matrices) => matrices.add(rows, columns, by, sum),
            Form::Hadamard { w1, w2, scale } => {
                let mut first = vec![0.0; m * columns];
                let mut second = vec![0.0; m * columns];
                w1.add(rows.clone(), columns, 1.0, &mut first);
                w2.add(rows, columns, 1.0, &mut second);
                for ((sum, a), b) in sum.iter_mut().zip(&first).zip(&second) {
                    *sum += by * scale * (a * b);
                }
            }
            Form::Kronecker {
                w1,
                i1,
                w2,
                o2,
                scale,
            } => {
                let width = columns / i1;
                for (r, row) in rows.zip(sum.chunks_exact_mut(columns)) {
                    let outer = &w1[(r / o2) * i1..][..*i1];
                    let inner = &w2[(r % o2) * width..][..width];
                    for (a, part) in outer.iter().zip(row.chunks_exact_mut(width)) {
                        let a = by * scale * a;
                        part.iter_mut()
                            .zip(inner)
                            .for_each(|(sum, b)| *sum += a * b);
                    }
                }
            }
            Form::Scaling { weight, on_input } => {
                let rows = rows.zip(
                    sum.chunks_exact_mut(columns)
                        .zip(base.chunks_exact(columns)),
                );
                for (r, (sum, base)) in rows {
                    for (c, (sum, w)) in sum.iter_mut().zip(base).enumerate() {
                        let factor = weight[if *on_input { c / self.kernel } else { r }];
                        *sum += by * factor * w;
                    }
                }
            }
            Form::Glora {
                product,
                a1,
                a2,
                rank,
                scale,
            } => {
                product.add(rows, columns, by * scale, sum);
                let (kernel, inputs) = (self.kernel, columns / self.kernel);
                if kernel == 1 {
                    let mut narrow = multiply(base, a1, (m, inputs, *rank));
                    narrow.iter_mut().for_each(|x| *x *= by * scale);
                    return multiply_add(sum, &narrow, a2, (m, *rank, inputs));
                }
                // A row is (in, kernel): (a1·a2)ᵀ acts on its inputs, the same at every tap.
                let (a1t, a2t) = (transpose(a1, inputs, *rank), transpose(a2, *rank, inputs));
                for (row, w) in sum
                    .chunks_exact_mut(columns)
                    .zip(base.chunks_exact(columns))
                {
                    let mut narrow = multiply(&a1t, w, (*rank, inputs, kernel));
                    narrow.iter_mut().for_each(|x| *x *= by * scale);
                    multiply_add(row, &a2t, &narrow, (inputs, *rank, kernel));
                }
            }
            Form::Dense(values) => {
                let values = &values[rows.start * columns..rows.end * columns];
                sum.iter_mut()
                    .zip(values)
                    .for_each(|(sum, x)| *sum += by * x);
            }
            Form::Replacement(values) => {
                let values = &values[rows.start * columns..rows.end * columns];
                for ((sum, x), w) in sum.iter_mut().zip(values).zip(base) {
                    *sum += by * (x - w);
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
fn scaled(x: f32, factor: f64) -> f32 {
    (f64::from(x) * factor) as f32
}

fn side_by_side(parts: &[(Matrices, f32)]) -> Matrices {
    let k: usize = parts.iter().map(|(matrices, _)| matrices.k).sum();
    let rows = parts.first().map_or(0, |(m, _)| m.left.len() / m.k);
    let mut left = Vec::with_capacity(rows * k);
    for r in 0..rows {
        for (part, strength) in parts {
            left.extend(
                part.left[r * part.k..][..part.k]
                    .iter()
                    .map(|x| x * strength),
            );
        }
    }
    let right = parts
        .iter()
        .flat_map(|(part, _)| part.right.iter().copied())
        .collect();
    Matrices { left, right, k }
}

impl Matrices {
    fn add(&self, rows: Range<usize>, columns: usize, by: f32, sum: &mut [f32]) {
        let m = rows.len();
        let left = &self.left[rows.start * self.k..rows.end * self.k];
        if (by - 1.0).abs() < f32::EPSILON / 4.0 {
            return multiply_add(sum, left, &self.right, (m, self.k, columns));
        }
        let left: Vec<f32> = left.iter().map(|x| x * by).collect();
        multiply_add(sum, &left, &self.right, (m, self.k, columns));
    }

    /// `left` of shape (rows, k) and `right` (k, columns), or in Tucker form.
    fn new(product: &Product) -> Result<Self, TensorError> {
        let (a, b) = (product.a.to_f32("a")?, product.b.to_f32("b")?);
        let Some(t) = &product.t else {
            return Ok(Self {
                left: a,
                right: b,
                k: product.a.shape()[1],
            });
        };
        let (r, rows) = (product.a.shape()[0], product.a.shape()[1]);
        Ok(Self {
            left: transpose(&a, r, rows),
            right: through_core(t, &b, &product.b)?,
            k: r,
        })
    }

    fn columns(&self) -> usize {
        self.right.len() / self.k
    }

    fn rows(&self) -> usize {
        self.left.len() / self.k
    }

    fn transposed(&self) -> Self {
        Self {
            left: transpose(&self.right, self.k, self.columns()),
            right: transpose(&self.left, self.rows(), self.k),
            k: self.k,
        }
    }
}

/// `T[m, i, x] = Σ_n core[m, n, x] · down[n, i]`, row-major over (m, i, x).
pub(super) fn through_core(
    core: &Tensor,
    down: &[f32],
    shape: &Tensor,
) -> Result<Vec<f32>, TensorError> {
    let core_values = core.to_f32("core")?;
    let (r, n) = (core.shape()[0], core.shape()[1]);
    let kernel: usize = core.shape()[2..].iter().product();
    let inputs = shape.shape()[1];
    let mut through = vec![0.0; r * inputs * kernel];
    for m in 0..r {
        for j in 0..n {
            let taps = &core_values[(m * n + j) * kernel..][..kernel];
            for (i, x) in down[j * inputs..][..inputs].iter().enumerate() {
                let cell = &mut through[(m * inputs + i) * kernel..][..kernel];
                cell.iter_mut()
                    .zip(taps)
                    .for_each(|(sum, tap)| *sum += tap * x);
            }
        }
    }
    Ok(through)
}

impl Form {
    /// The form of `delta` for a weight of (rows, columns), in the module's own orientation.
    fn new(
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
                let mut matrices = Matrices {
                    left,
                    right,
                    k: down.shape()[0],
                };
                fits(&matrices)?;
                matrices.left.iter_mut().for_each(|x| *x *= scale);
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
                let expected = if *on_input {
                    columns / kernel.max(1)
                } else {
                    rows
                };
                if weight.elements() != expected {
                    return Err(misfit(format!("{} scaled lines", weight.elements())));
                }
                Ok(Self::Scaling {
                    weight: weight.to_f32("weight")?,
                    on_input: *on_input,
                })
            }
            Delta::Glora { a1, a2, b1, b2 } => {
                let k = b1.shape()[1];
                let product = Matrices {
                    left: b1.to_f32("b1")?,
                    right: b2.to_f32("b2")?,
                    k,
                };
                fits(&product)?;
                let rank = a2.shape()[0];
                let inputs = columns / kernel.max(1);
                if a1.elements() != inputs * rank || a2.elements() != rank * inputs {
                    return Err(misfit(format!("{} inputs", a1.shape()[0])));
                }
                let (a1, a2) = (a1.to_f32("a1")?, a2.to_f32("a2")?);
                Ok(Self::Glora {
                    product,
                    a1,
                    a2,
                    rank,
                    scale,
                })
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
                Ok(if added {
                    Self::Dense(values)
                } else {
                    Self::Replacement(values)
                })
            }
        }
    }

    /// The form of the transposed change; `(rows, columns)` are those before.
    fn transposed(self, (rows, columns): (usize, usize)) -> Self {
        match self {
            Self::LowRank(matrices) => Self::LowRank(matrices.transposed()),
            Self::Hadamard { w1, w2, scale } => Self::Hadamard {
                w1: w1.transposed(),
                w2: w2.transposed(),
                scale,
            },
            Self::Kronecker {
                w1,
                i1,
                w2,
                o2,
                scale,
            } => {
                let (o1, i2) = (w1.len() / i1, w2.len() / o2);
                let w1 = transpose(&w1, o1, i1);
                Self::Kronecker {
                    w1,
                    i1: o1,
                    w2: transpose(&w2, o2, i2),
                    o2: i2,
                    scale,
                }
            }
            Self::Scaling { weight, on_input } => Self::Scaling {
                weight,
                on_input: !on_input,
            },
            Self::Glora { .. } => self, // refused before
            Self::Dense(values) => Self::Dense(transpose(&values, rows, columns)),
            Self::Replacement(values) => Self::Replacement(transpose(&values, rows, columns)),
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
                (
                    multiply(&m.left, &m.right, (m.rows(), m.k, m.columns())),
                    m.rows(),
                )
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
    Ok(Form::Kronecker {
        w1,
        i1,
        w2,
        o2,
        scale,
    })
}

impl Dora {
    fn new(
        module: &Module,
        (rows, columns, kernel): (usize, usize, usize),
        transposed: bool,
        misfit: &dyn Fn(String) -> Misfit,
    ) -> Result<Option<Self>, Misfit> {
        let Some(magnitude) = &module.magnitude else {
            return Ok(None);
        };
        let over_rows = (magnitude.axis == Axis::Output) != transposed;
        let (over, expected) = if over_rows {
            (Over::Rows, rows)
        } else {
            let group = kernel.max(1);
            let groups = columns / group;
            (
                Over::Columns {
                    group,
                    norms: vec![0.0; groups],
                },
                groups,
            )
        };
        let values = magnitude.vector.to_f32("magnitude")?;
        if values.len() != expected {
            return Err(misfit(format!("{} magnitudes", values.len())));
        }
        Ok(Some(Self {
            magnitude: values,
            epsilon: magnitude.epsilon,
            over,
        }))
    }

    /// m / (‖V‖ + ε) of line `i`, from the sum of its squares.
    fn factor(&self, i: usize, square: f64) -> f64 {
        f64::from(self.magnitude[i]) / (square.sqrt() + self.epsilon)
    }
}
