//! DoRA's magnitudes: `W' = m ⊙ V / ‖V‖`.

use super::Misfit;
use crate::adapter::module::{Axis, Module};

#[derive(Debug, Clone)]
pub(super) struct Dora {
    magnitude: Vec<f32>,
    epsilon: f64,
    pub over: Over,
}

/// Where DoRA's norms are taken in the stored weight.
#[derive(Debug, Clone)]
pub(super) enum Over {
    Rows,
    /// One norm for each group of `group` neighbouring columns; the norms once they are known.
    Columns {
        group: usize,
        norms: Vec<f64>,
    },
}

impl Dora {
    pub(super) fn new(
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
            (Over::Columns { group, norms: vec![0.0; groups] }, groups)
        };
        let values = magnitude.vector.to_f32("magnitude")?;
        if values.len() != expected {
            return Err(misfit(format!("{} magnitudes", values.len())));
        }
        Ok(Some(Self { magnitude: values, epsilon: magnitude.epsilon, over }))
    }

    /// m / (‖V‖ + ε) of line `i`, from the sum of its squares.
    pub(super) fn factor(&self, i: usize, square: f64) -> f64 {
        f64::from(self.magnitude[i]) / (square.sqrt() + self.epsilon)
    }
}

/// `x · factor`, rounded once.
#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
pub(super) fn scaled(x: f32, factor: f64) -> f32 {
    (f64::from(x) * factor) as f32
}
