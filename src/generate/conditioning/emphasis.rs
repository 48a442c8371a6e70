//! Weights of tokens, applied to the output of a text encoder: `EmphasisOriginal` of the `WebUI`.

use super::ConditioningError;

/// Multiplies the vector at each position by its weight, then all by what brings the mean back to
/// where it was.
///
/// `z` is the encoder's output for one row, `[weights.len(), width]`, after the final norm where
/// the encoder applies it. Weights of 1 leave it as it is, bit by bit.
///
/// The mean is that of this row. The `WebUI` takes it over the rows of all texts of a schedule, so
/// that a text is rendered a little differently for what replaces it later. The sums are of double
/// precision and the means rounded to single, which is torch's own mean within its rounding.
pub fn emphasise(z: &mut [f32], weights: &[f32]) -> Result<(), ConditioningError> {
    let width = z.len().checked_div(weights.len()).unwrap_or(0);
    if width * weights.len() != z.len() {
        return Err(ConditioningError::Shape { values: z.len(), weights: weights.len() });
    }
    if width == 0 || weights.iter().all(|weight| *weight == 1.0) {
        return Ok(());
    }
    let before = mean(z);
    for (vector, weight) in z.chunks_exact_mut(width).zip(weights) {
        for value in vector {
            *value *= weight;
        }
    }
    let after = mean(z);
    let factor = before / after;
    if !factor.is_finite() || !after.is_finite() {
        return Err(ConditioningError::Mean { before, after });
    }
    for value in z {
        *value *= factor;
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the mean of singles is a single")]
fn mean(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
    (sum / values.len() as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_one_change_no_bit() {
        let before = [0.1, -0.3, f32::MIN_POSITIVE, 7.0];
        let mut z = before;
        emphasise(&mut z, &[1.0, 1.0]).unwrap();
        assert_eq!(z, before);
    }

    #[test]
    fn the_mean_stays_where_it_was() {
        let mut z = [1.0, 2.0, 3.0, 6.0];
        emphasise(&mut z, &[1.0, 2.0]).unwrap();
        // [1, 2, 6, 12] has a mean of 21/4, and had one of 3
        let expected = [4.0 / 7.0, 8.0 / 7.0, 24.0 / 7.0, 48.0 / 7.0];
        assert!(z.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{z:?}");
    }

    #[test]
    fn a_mean_that_is_lost_is_an_error() {
        let weights = [1.0, 0.0];
        let mut z = [1.0, -1.0, 3.0, 6.0];
        let error = emphasise(&mut z, &weights).unwrap_err();
        assert!(matches!(error, ConditioningError::Mean { after: 0.0, .. }), "{error}");
        let mut z = [f32::MAX; 4];
        let error = emphasise(&mut z, &[2.0, 1.0]).unwrap_err();
        assert!(matches!(error, ConditioningError::Mean { .. }), "{error}");
    }

    #[test]
    fn values_are_whole_vectors() {
        for (values, weights) in [(3, 2), (1, 2), (1, 0)] {
            let mut z = vec![1.0; values];
            let error = emphasise(&mut z, &vec![1.5; weights]).unwrap_err();
            assert!(matches!(error, ConditioningError::Shape { .. }), "{error}");
        }
    }
}
