//! The normal distribution and Student's.

use std::f64::consts::{FRAC_2_PI, TAU};

/// Probability that a standard normal number is at most `x`, within 10⁻¹⁵.
///
/// Source: Marsaglia, "Evaluating the Normal Distribution" (2004): ½ + φ(x) (x + x³/3 + x⁵/15 + …).
pub fn normal(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 8.5 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while sum + term != sum {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    (0.5 + sum * (-0.5 * x * x).exp() / TAU.sqrt()).clamp(0.0, 1.0)
}

/// The x of which [`normal`] is `p`.
pub fn normal_quantile(p: f64) -> f64 {
    quantile(p, normal)
}

/// Probability that a number of Student's distribution with so many degrees of freedom is at most
/// `t`. Source: Abramowitz and Stegun, 26.7.3 and 26.7.4, exact for whole degrees of freedom.
pub fn student(t: f64, freedom: usize) -> f64 {
    if t.is_nan() || freedom == 0 {
        return 0.5;
    }
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    let mut power = usize::from(odd);
    while power + 2 <= freedom && sum + term != sum {
        sum += term;
        power += 2;
        term *= cosine * cosine * (power - 1) as f64 / power as f64;
    }
    let middle = if odd { FRAC_2_PI * (angle + sine * sum) } else { sine * sum };
    (0.5 + 0.5 * middle).clamp(0.0, 1.0)
}

/// The t of which [`student`] is `p`; infinite without degrees of freedom.
pub fn student_quantile(p: f64, freedom: usize) -> f64 {
    if freedom == 0 {
        return if p < 0.5 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    quantile(p, |t| student(t, freedom))
}

/// The inverse of a symmetric distribution, by halving: infinite at 0 and 1.
fn quantile(p: f64, distribution: impl Fn(f64) -> f64) -> f64 {
    if p.is_nan() || p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    if p == 0.5 {
        return 0.0;
    }
    if p < 0.5 {
        return -quantile(1.0 - p, distribution);
    }
    let (mut low, mut high) = (0.0, 1.0);
    while distribution(high) < p {
        (low, high) = (high, high * 2.0);
        if high > 1e300 {
            return f64::INFINITY;
        }
    }
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return high;
        }
        if distribution(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The two-sided interval of the mean that covers with probability `level` where values are normal;
/// `None` of fewer than two.
pub fn student_interval(values: &[f64], level: f64) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let freedom = values.len().checked_sub(1).filter(|freedom| *freedom > 0)?;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / freedom as f64 / n).sqrt();
    let half = student_quantile(0.5 + 0.5 * level, freedom) * error;
    Some((mean - half, mean + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Degrees of freedom (none: the normal distribution), levels, and `SciPy`'s quantiles at them.
    fn quantiles() -> Vec<(Option<usize>, f64, f64)> {
        let parity = super::super::parity();
        let distributions = &parity["distributions"];
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        let levels = numbers(&distributions["levels"]);
        let students = distributions["student"].as_object().unwrap();
        let mut lists = vec![(None, numbers(&distributions["normal"]))];
        lists
            .extend(students.iter().map(|(key, list)| (Some(key.parse().unwrap()), numbers(list))));
        lists
            .into_iter()
            .flat_map(|(freedom, list)| {
                levels.clone().into_iter().zip(list).map(move |(level, x)| (freedom, level, x))
            })
            .collect()
    }

    #[test]
    fn quantiles_and_probabilities_are_scipys() {
        let all = quantiles();
        assert_eq!(all.len(), 81);
        for (freedom, level, expected) in all {
            let (x, p) = match freedom {
                None => (normal_quantile(level), normal(expected)),
                Some(freedom) => (student_quantile(level, freedom), student(expected, freedom)),
            };
            assert!((x - expected).abs() <= 1e-10 * expected.abs().max(1.0), "{freedom:?} {level}");
            assert!((p - level).abs() < 1e-14, "{freedom:?} {level}: {p}");
        }
    }

    #[test]
    fn ends_are_infinite() {
        assert_eq!(
            [normal(f64::NEG_INFINITY), normal(f64::INFINITY), normal(9.0)],
            [0.0, 1.0, 1.0]
        );
        assert_eq!(student(f64::INFINITY, 3), 1.0);
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
        assert_eq!(student_quantile(0.95, 0), f64::INFINITY);
    }

    /// `stats.t.interval(0.95, 3, loc=mean, scale=sem)` of 1, 2, 4, 9: 4 ± 3.182446 · 1.779513.
    #[test]
    fn intervals_of_means_are_students() {
        let (low, high) = student_interval(&[1.0, 2.0, 4.0, 9.0], 0.95).unwrap();
        assert!((low + 1.663_204).abs() < 1e-5 && (high - 9.663_204).abs() < 1e-5, "{low} {high}");
        assert_eq!(student_interval(&[1.0], 0.95), None);
    }
}
