//! Decimal numbers as written, for arithmetic without binary rounding.

/// `digits · 10^-scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: i128,
    scale: u32,
}

/// Most digits, and most decimal places, of a number that is read.
const MAX_DIGITS: usize = 18;

impl Decimal {
    /// `digits · 10^-scale`.
    pub(super) fn new(digits: i128, scale: u32) -> Self {
        Self { digits, scale }
    }

    /// Reads `[+-]digits[.digits][e[+-]digits]` of at most 18 significant digits and 18 decimal
    /// places; anything else gives `None`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let places = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        let kept = all.trim_start_matches('0');
        let significant = kept.trim_end_matches('0');
        let places = places.checked_sub(i32::try_from(kept.len() - significant.len()).ok()?)?;
        if significant.len() > MAX_DIGITS {
            return None;
        }
        if significant.is_empty() {
            return Some(Self::new(0, 0));
        }
        let digits: i128 = significant.parse().ok()?;
        let digits = if negative { -digits } else { digits };
        if places >= 0 {
            let scale = u32::try_from(places).ok().filter(|&s| s as usize <= MAX_DIGITS)?;
            return Some(Self::new(digits, scale));
        }
        let up = u32::try_from(-places).ok().filter(|&s| s as usize <= MAX_DIGITS)?;
        Some(Self::new(digits.checked_mul(10i128.pow(up))?, 0))
    }

    /// Decimal places.
    pub(super) fn scale(&self) -> u32 {
        self.scale
    }

    /// The digits at a larger scale, if they fit.
    pub(super) fn at_scale(&self, scale: u32) -> Option<i128> {
        let up = 10i128.checked_pow(scale.checked_sub(self.scale)?)?;
        self.digits.checked_mul(up)
    }

    /// The nearest float: that of the decimal as text.
    pub(super) fn to_f64(self) -> f64 {
        // A number and its exponent always read as a float.
        format!("{}e-{}", self.digits, self.scale).parse().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_as_written() {
        // By hand: 0.25 = 25·10⁻², 1200 = 1200·10⁰, 0 has no scale.
        for (text, digits, scale) in [
            ("0.25", 25, 2),
            ("-0.250", -25, 2),
            ("+12e2", 1200, 0),
            ("1.5e-3", 15, 4),
            ("000", 0, 0),
            ("-0.0", 0, 0),
            ("5.", 5, 0),
            (".5", 5, 1),
        ] {
            assert_eq!(Decimal::parse(text), Some(Decimal::new(digits, scale)), "{text}");
        }
        assert_eq!(Decimal::new(3, 1).to_f64(), 0.3);
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        let long = "1".repeat(19);
        let texts =
            ["", "-", ".", "e5", "1e", "--1", "1e99", "1e-19", "1e2147483648", "٣", "0x1", &long];
        for text in texts {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
