//! How large a module's change is.

use super::module::{BiasDelta, Delta, Module};
use crate::linalg::{multiply, transpose};
use crate::tensors::Tensor;

/// ‖ΔW‖² of a module at strength 1, its bias included; `None` where it depends on the base or has no
/// short form.
pub(super) fn square(module: &Module) -> Option<f64> {
    if module.magnitude.is_some() {
        return None;
    }
    let scale = f64::from(module.scale).powi(2);
    let weight = match &module.weight {
        None => 0.0,
        Some(Delta::LowRank { down, up, mid: None }) => scale * of_product(up, down)?,
        Some(Delta::Difference(tensor)) => squares(tensor)?,
        Some(_) => return None,
    };
    let bias = match &module.bias {
        None => 0.0,
        Some(BiasDelta::Add { delta, scaled }) => {
            squares(delta)? * if *scaled { scale } else { 1.0 }
        }
        Some(BiasDelta::Replace(_)) => return None,
    };
    Some(weight + bias)
}

/// ‖U·D‖² = Σ (Uᵀ·U) ⊙ (D·Dᵀ), so that the product itself is never made.
fn of_product(up: &Tensor, down: &Tensor) -> Option<f64> {
    let rank = *down.shape().first()?;
    let (u, d) = (up.to_f32("up").ok()?, down.to_f32("down").ok()?);
    if rank == 0 || u.len() % rank != 0 || d.len() % rank != 0 {
        return None;
    }
    let (out, inside) = (u.len() / rank, d.len() / rank);
    let ups = multiply(&transpose(&u, out, rank), &u, (rank, out, rank));
    let downs = multiply(&d, &transpose(&d, rank, inside), (rank, inside, rank));
    Some(ups.iter().zip(&downs).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
}

fn squares(tensor: &Tensor) -> Option<f64> {
    let values = tensor.to_f32("difference").ok()?;
    Some(values.iter().map(|value| f64::from(*value).powi(2)).sum())
}

#[cfg(test)]
mod tests {
    use crate::tensors::{Float, Tensor};

    #[test]
    fn the_norm_of_a_product_is_that_of_the_matrix() {
        let up = Tensor::from_f32(vec![3, 2], &[1.0, 2.0, 0.0, -1.0, 0.5, 0.0], Float::F32);
        let down = Tensor::from_f32(vec![2, 2], &[1.0, 3.0, -2.0, 0.0], Float::F32);
        // U·D = [[-3, 3], [2, 0], [0.5, 1.5]]
        let square = super::of_product(&up, &down).unwrap();
        assert!((square - (9.0 + 9.0 + 4.0 + 0.25 + 2.25)).abs() < 1e-6, "{square}");
        let zero = Tensor::from_f32(vec![3, 2], &[0.0; 6], Float::F32);
        assert_eq!(super::of_product(&zero, &down), Some(0.0));
    }
}
