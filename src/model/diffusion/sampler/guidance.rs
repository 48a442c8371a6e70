//! Guidance that keeps the contrast of the conditional prediction.

use super::error::SamplerError;
use super::float::narrow;

/// Gives each row of `guided` the standard deviation of the same row of `conditional`, mixed with
/// the unchanged row by `factor` in 0..=1 (Lin et al., 2024, section 3.4; diffusers'
/// `rescale_noise_cfg`). Both are rows × n values.
pub fn rescale_guidance(
    guided: &mut [f32],
    conditional: &[f32],
    rows: usize,
    factor: f32,
) -> Result<(), SamplerError> {
    let wrong = |what, expected: String, found| {
        Err(SamplerError::Length { what, expected, found, hint: "pass rows of equal size" })
    };
    if guided.len() != conditional.len() {
        let expected = guided.len().to_string();
        return wrong("the conditional prediction", expected, conditional.len());
    }
    if rows == 0 || !guided.len().is_multiple_of(rows) {
        return wrong("the guided prediction", format!("a multiple of {rows}"), guided.len());
    }
    let n = guided.len() / rows;
    for (row, text) in guided.chunks_mut(n.max(1)).zip(conditional.chunks(n.max(1))) {
        let ratio = deviation(text) / deviation(row);
        for value in row {
            *value = factor * (*value * ratio) + (1.0 - factor) * *value;
        }
    }
    Ok(())
}

/// The standard deviation with n − 1 in the denominator (`torch.std`).
fn deviation(values: &[f32]) -> f32 {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let square = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
    narrow((square / (n - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_gets_the_deviation_of_its_own_text() {
        let text = [1.0, 2.0, 4.0, -3.0, 0.5, 8.0];
        let mut guided = [3.0, -9.0, 2.0, 0.1, 0.2, 0.4];
        rescale_guidance(&mut guided, &text, 2, 1.0).unwrap();
        for (row, text) in guided.chunks(3).zip(text.chunks(3)) {
            assert!((deviation(row) - deviation(text)).abs() < 1e-5);
        }
        let before = guided;
        rescale_guidance(&mut guided, &text, 2, 0.0).unwrap();
        assert_eq!(guided, before);
    }

    #[test]
    fn rows_of_unequal_size_are_errors() {
        assert!(rescale_guidance(&mut [1.0; 4], &[1.0; 3], 1, 0.5).is_err());
        assert!(rescale_guidance(&mut [1.0; 4], &[1.0; 4], 3, 0.5).is_err());
        assert!(rescale_guidance(&mut [1.0; 4], &[1.0; 4], 0, 0.5).is_err());
        assert!(rescale_guidance(&mut [], &[], 1, 0.5).is_ok());
    }
}
