//! Numbers as a reader wants them: few digits, a true minus sign, never `-0.0` or `NaN`.

/// What stands where there is no finite number.
pub const NONE: &str = "–";

/// Decimals at which numbers as large as `largest` have about three significant digits.
pub fn decimals(largest: f64) -> usize {
    match largest.abs() {
        x if x >= 10_000.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        x if x >= 0.1 => 3,
        _ => 4,
    }
}

/// `value` with `decimals` decimals; beyond what they can show, in scientific notation.
pub fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let text = if value.abs() >= 1e6 {
        format!("{value:.2e}")
    } else if value != 0.0 && value.abs() < 0.5 * 10f64.powi(-4) {
        format!("{value:.1e}")
    } else {
        format!("{value:.decimals$}")
    };
    minus(&unsigned_zero(text))
}

/// `value` with as many decimals as its own size asks for; whole numbers have none.
pub fn plain(value: f64) -> String {
    match value.abs() {
        size if size < 1e6 && value.fract() == 0.0 => fixed(value, 0),
        size if size < 1e-4 => minus(&format!("{value:.1e}")),
        size if size < 1e-3 => fixed(value, 5),
        _ => fixed(value, decimals(value)),
    }
}

/// A difference with its sign, `+1.5`, `−0.2`, `0`; one that rounds to nothing is `+<0.1`.
pub fn signed(difference: f64, decimals: usize) -> String {
    if !difference.is_finite() {
        return NONE.to_owned();
    }
    if difference == 0.0 {
        return "0".to_owned();
    }
    let sign = if difference > 0.0 { "+" } else { "−" };
    format!("{sign}{}", size(difference, decimals))
}

/// The size of a difference without its sign; `<0.1` where it rounds to nothing.
pub fn size(difference: f64, decimals: usize) -> String {
    let step = 10f64.powi(-i32::try_from(decimals).unwrap_or(4));
    if difference != 0.0 && difference.abs() < 0.5 * step {
        format!("<{step:.decimals$}")
    } else {
        fixed(difference.abs(), decimals)
    }
}

/// A value on an axis: the shortest decimal that tells it from its neighbours, `0.75`.
pub fn axis(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let rounded = (value * 1e6).round() / 1e6;
    let shortest =
        if rounded == 0.0 && value != 0.0 { format!("{value:e}") } else { rounded.to_string() };
    minus(&unsigned_zero(shortest))
}

/// `p = 0.004`, `p < 0.001`.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".to_owned(),
        p if p < 0.1 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}

/// A p-value in asterisks: `*` below 0.05, `**` below 0.01, `***` below 0.001.
pub fn stars(p: Option<f64>) -> &'static str {
    match p {
        Some(p) if p < 0.001 => "***",
        Some(p) if p < 0.01 => "**",
        Some(p) if p < 0.05 => "*",
        _ => "",
    }
}

fn unsigned_zero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        _ => text,
    }
}

fn minus(text: &str) -> String {
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_never_show_a_negative_zero() {
        assert_eq!(plain(100.0), "100");
        assert_eq!(plain(21.345), "21.3");
        assert_eq!(plain(-0.0421), "−0.0421");
        assert_eq!(plain(12_345_678.0), "1.23e7");
        assert_eq!(plain(f64::NAN), NONE);
        assert_eq!(fixed(-0.01, 1), "0.0");
        assert_eq!(plain(3e-7), "3.0e−7");
        assert_eq!([8e-5, -0.000_36, 0.003_6].map(plain), ["8.0e−5", "−0.00036", "0.0036"]);
    }

    #[test]
    fn a_difference_that_rounds_away_is_not_shown_as_none() {
        assert_eq!(signed(0.02, 1), "+<0.1");
        assert_eq!(signed(-1.26, 1), "−1.3");
        assert_eq!(signed(0.0, 1), "0");
    }

    #[test]
    fn axis_values_lose_the_noise_of_binary_fractions() {
        assert_eq!(axis(0.1 + 0.2), "0.3");
        assert_eq!(axis(-0.0), "0");
        assert_eq!(axis(1.0), "1");
        assert_eq!(axis(-1.25), "−1.25");
    }

    #[test]
    fn p_values_have_marks_at_the_usual_bounds() {
        assert_eq!(p_value(0.0004), "p < 0.001");
        assert_eq!(p_value(0.0042), "p = 0.004");
        assert_eq!(p_value(0.214), "p = 0.21");
        assert_eq!(stars(Some(0.05)), "");
        assert_eq!(stars(Some(0.049)), "*");
        assert_eq!(stars(None), "");
    }
}
