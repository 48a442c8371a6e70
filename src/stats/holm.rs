/// p-values corrected for their number, in the order given (Holm, 1979): those at most α may be
/// called significant together, with probability α of one false among them.
///
/// The i-th smallest of m is multiplied by m − i + 1, and none is smaller than one before it. A
/// p-value that is not a number counts as 1.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let p: Vec<f64> = p.iter().map(|p| if p.is_nan() { 1.0 } else { *p }).collect();
    let mut order: Vec<(usize, f64)> = p.iter().copied().enumerate().collect();
    order.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let mut adjusted = p;
    let mut largest: f64 = 0.0;
    let factors = (1..=order.len()).rev();
    for ((place, p), factor) in order.into_iter().zip(factors) {
        largest = largest.max(p * factor as f64).min(1.0);
        if let Some(slot) = adjusted.get_mut(place) {
            *slot = largest;
        }
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrected_p_values_are_those_of_statsmodels() {
        let parity = super::super::parity();
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        let cases = parity["holm"].as_array().unwrap();
        assert_eq!(cases.len(), 8);
        for case in cases {
            let adjusted = holm(&numbers(&case["p"]));
            for (ours, theirs) in adjusted.iter().zip(numbers(&case["adjusted"])) {
                assert!((ours - theirs).abs() < 1e-15, "{case}: {adjusted:?}");
            }
        }
    }

    #[test]
    fn what_is_no_number_shows_nothing() {
        assert_eq!(holm(&[f64::NAN, 0.01]), [1.0, 0.02]);
        assert!(holm(&[]).is_empty());
    }
}
