//! f32 functions rounded once, from f64.
//!
//! `PyTorch`'s vectorised functions are within one unit in the last place of the exact value, and the
//! platform's own differ from them and from each other; the exact value is the nearest to all.

/// The nearest f32.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
pub(super) fn narrow(x: f64) -> f32 {
    x as f32
}

/// eˣ.
pub(super) fn exp(x: f32) -> f32 {
    narrow(f64::from(x).exp())
}

/// eˣ − 1.
pub(super) fn expm1(x: f32) -> f32 {
    narrow(f64::from(x).exp_m1())
}

/// The natural logarithm.
pub(super) fn ln(x: f32) -> f32 {
    narrow(f64::from(x).ln())
}

/// x to the power of p.
pub(super) fn pow(x: f32, p: f64) -> f32 {
    narrow(f64::from(x).powf(p))
}

/// A count as f32; exact below 2²⁴.
pub(super) fn count(n: usize) -> f32 {
    narrow(n as f64)
}

/// The integer part of a number that is known to be small and not negative, as an index.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and the fraction is to be cut off"
)]
pub(super) fn index(x: f64) -> usize {
    x as usize
}

/// `count` numbers from `start` to `stop` inclusive (`numpy.linspace`).
pub(super) fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    let step = (stop - start) / count.saturating_sub(1).max(1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    if count > 1
        && let Some(last) = values.last_mut()
    {
        *last = stop;
    }
    values
}

/// `count` numbers from `start` to `stop` inclusive (`torch.linspace` in f32: the second half is
/// counted from the end).
pub(super) fn linspace_f32(start: f32, stop: f32, count: usize) -> Vec<f32> {
    let step = (stop - start) / self::count(count.saturating_sub(1).max(1));
    (0..count)
        .map(|i| {
            if i < count / 2 || count == 1 {
                start + step * self::count(i)
            } else {
                stop - step * self::count(count - i - 1)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_linspace_are_exact() {
        assert_eq!(linspace(0.0, 999.0, 4), [0.0, 333.0, 666.0, 999.0]);
        assert_eq!(linspace(7.0, 9.0, 1), [7.0]);
        let ramp = linspace_f32(0.1, 0.7, 10);
        assert_eq!((ramp.first(), ramp.last(), ramp.len()), (Some(&0.1), Some(&0.7), 10));
        assert_eq!(linspace_f32(3.0, 0.0, 1), [3.0]);
    }
}
