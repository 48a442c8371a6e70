//! Gradients clipped by their norm, as `torch.nn.utils.clip_grad_norm_` does it.

use candle_core::{Result, Tensor};

use super::elementwise::{dot, fetch, for_all};

/// The 2-norm of all gradients together, summed in f64 and in their order.
pub fn norm(gradients: &[Tensor]) -> Result<f64> {
    let all = gradients.iter().collect();
    let squares = for_all(on_cpu(gradients), all, |gradient| dot(gradient, gradient))?;
    Ok(fetch(&squares)?.iter().sum::<f64>().sqrt())
}

/// Multiplies the gradients by `max_norm / (norm + 1e-6)` where that is below 1; 0 clips nothing.
/// Gives their norm before. Where that is not finite they stay as they are, and no step should be
/// taken with them.
pub fn clip_norm(gradients: &mut [Tensor], max_norm: f64) -> Result<f64> {
    let norm = norm(gradients)?;
    let factor = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && norm.is_finite() && factor < 1.0 {
        for_all(on_cpu(gradients), gradients.iter_mut().collect(), |gradient| {
            *gradient = gradient.detach().affine(factor, 0.0)?;
            Ok(())
        })?;
    }
    Ok(norm)
}

fn on_cpu(tensors: &[Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn gradients() -> Vec<Tensor> {
        let of = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        vec![of(&[3.0, 0.0]), of(&[]), of(&[-4.0]), of(&[12.0, 0.0])]
    }

    fn numbers(gradients: &[Tensor]) -> Vec<f32> {
        gradients.iter().flat_map(|g| g.to_vec1::<f32>().unwrap()).collect()
    }

    #[test]
    fn gradients_of_a_larger_norm_are_scaled_to_the_limit() {
        let mut clipped = gradients();
        assert_eq!(clip_norm(&mut clipped, 6.5).unwrap(), 13.0);
        let factor = 6.5 / 13.000_001;
        for (clipped, before) in numbers(&clipped).into_iter().zip(numbers(&gradients())) {
            assert!((f64::from(clipped) - factor * f64::from(before)).abs() < 1e-6);
        }
        assert!((norm(&clipped).unwrap() - 6.5).abs() < 1e-5);
    }

    #[test]
    fn a_smaller_norm_no_limit_and_a_norm_that_is_not_finite_change_nothing() {
        for limit in [13.1, 0.0] {
            let mut same = gradients();
            assert_eq!(clip_norm(&mut same, limit).unwrap(), 13.0);
            assert_eq!(numbers(&same), numbers(&gradients()));
        }
        let mut infinite = gradients();
        infinite.push(Tensor::new(&[f32::INFINITY], &Device::Cpu).unwrap());
        assert!(clip_norm(&mut infinite, 1.0).unwrap().is_infinite());
        assert_eq!(numbers(&infinite)[..5], numbers(&gradients()));
    }

    #[test]
    fn no_gradients_have_norm_zero() {
        assert_eq!(clip_norm(&mut [], 1.0).unwrap(), 0.0);
    }
}
