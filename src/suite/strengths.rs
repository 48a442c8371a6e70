//! The strength axis: `0,0.4,0.8` or `0:1.5:0.25`.

use std::fmt;
use std::str::FromStr;

use super::decimal::Decimal;
use crate::base::terminal::printable;

/// Most strengths of one axis.
pub const MAX_STRENGTHS: usize = 1000;
/// Largest strength, of either sign.
pub const MAX_STRENGTH: f64 = 100.0;

/// Strengths to generate at, in the order given and without repetition. 0, the base, is always one.
#[derive(Debug, Clone, PartialEq)]
pub struct Strengths(Vec<f64>);

/// Why strengths cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrengthError {
    /// Not a number.
    #[error(
        "strength `{}`: expected a number\nhint: write `0,0.4,0.8`, or `0:1.5:0.25` for start, end and step",
        printable(.0)
    )]
    Number(String),
    /// Beyond [`MAX_STRENGTH`], or not finite.
    #[error("strength `{}`: expected -100 to 100\nhint: 1 is the adapter at full strength", printable(.0))]
    Range(String),
    /// More digits than a range can be counted in.
    #[error("strength `{}`: expected at most 18 digits in a range\nhint: write `0:1.5:0.25`", printable(.0))]
    Digits(String),
    /// A range with fewer or more than three parts.
    #[error(
        "strengths `{}`: expected start, end and step\nhint: write `0:1.5:0.25`",
        printable(.0)
    )]
    Parts(String),
    /// A range that never arrives.
    #[error(
        "strengths `{}`: a step of 0 leads nowhere\nhint: write `0:1.5:0.25` for start, end and step",
        printable(.0)
    )]
    NoStep(String),
    /// A range that leads away from its end.
    #[error(
        "strengths `{}`: the step leads away from the end\nhint: turn the sign of the step, or exchange start and end",
        printable(.0)
    )]
    Away(String),
    /// More than [`MAX_STRENGTHS`].
    #[error("strengths: {0} are more than 1000\nhint: take a larger step")]
    TooMany(u128),
    /// None at all.
    #[error("strengths: the list is empty\nhint: write `0,0.4,0.8`, or leave it out")]
    Empty,
}

impl Strengths {
    /// Strengths from numbers: -0 becomes 0, repeated ones are dropped, 0 is put in front where it is
    /// missing.
    pub fn new(values: &[f64]) -> Result<Self, StrengthError> {
        if values.is_empty() {
            return Err(StrengthError::Empty);
        }
        let mut kept: Vec<f64> = Vec::with_capacity(values.len().min(MAX_STRENGTHS) + 1);
        for &value in values {
            if !value.is_finite() || value.abs() > MAX_STRENGTH {
                return Err(StrengthError::Range(value.to_string()));
            }
            let value = value + 0.0; // -0 becomes 0
            if !kept.contains(&value) {
                kept.push(value);
            }
            if kept.len() > MAX_STRENGTHS {
                return Err(StrengthError::TooMany(values.len() as u128));
            }
        }
        if !kept.contains(&0.0) {
            kept.insert(0, 0.0);
        }
        if kept.len() > MAX_STRENGTHS {
            return Err(StrengthError::TooMany(kept.len() as u128));
        }
        Ok(Self(kept))
    }

    /// The strengths; 0 is among them.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Strength 0 alone.
    pub fn base_only() -> Self {
        Self(vec![0.0])
    }

    /// `start:end:step` in the decimals that were written: each value is the number that a person
    /// would write, and none lies beyond the end.
    fn range(text: &str) -> Result<Self, StrengthError> {
        let parts: Vec<&str> = text.split(':').collect();
        let [start, end, step] = parts[..] else {
            return Err(StrengthError::Parts(text.to_owned()));
        };
        let [start, end, step] = [decimal(start)?, decimal(end)?, decimal(step)?];
        let scale = start.scale().max(end.scale()).max(step.scale());
        let whole = |decimal: &Decimal, part: &str| {
            decimal.at_scale(scale).ok_or_else(|| StrengthError::Digits(part.to_owned()))
        };
        let (from, to) = (whole(&start, parts[0])?, whole(&end, parts[1])?);
        let by = whole(&step, parts[2])?;
        if by == 0 {
            return Err(StrengthError::NoStep(text.to_owned()));
        }
        if from != to && (to > from) != (by > 0) {
            return Err(StrengthError::Away(text.to_owned()));
        }
        let steps = (to - from) / by; // of equal signs: rounds towards `start`
        let count = steps.unsigned_abs() + 1;
        if count > MAX_STRENGTHS as u128 {
            return Err(StrengthError::TooMany(count));
        }
        let values: Vec<f64> =
            (0..=steps).map(|k| Decimal::new(from + k * by, scale).to_f64()).collect();
        Self::new(&values)
    }
}

impl Default for Strengths {
    /// The base and the adapter at full strength.
    fn default() -> Self {
        Self(vec![0.0, 1.0])
    }
}

impl FromStr for Strengths {
    type Err = StrengthError;

    fn from_str(text: &str) -> Result<Self, StrengthError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(StrengthError::Empty);
        }
        if text.contains(':') {
            return Self::range(text);
        }
        let values: Result<Vec<f64>, _> = text.split(',').map(number).collect();
        Self::new(&values?)
    }
}

impl fmt::Display for Strengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            write!(f, "{}{value}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// One strength as written, checked for its range.
fn number(text: &str) -> Result<f64, StrengthError> {
    let text = text.trim();
    let value: f64 = text.parse().map_err(|_| StrengthError::Number(text.to_owned()))?;
    if !value.is_finite() || value.abs() > MAX_STRENGTH {
        return Err(StrengthError::Range(text.to_owned()));
    }
    Ok(value)
}

/// One part of a range, in the digits that were written.
fn decimal(text: &str) -> Result<Decimal, StrengthError> {
    number(text)?;
    Decimal::parse(text.trim()).ok_or_else(|| StrengthError::Digits(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<Strengths>().unwrap().to_string()
    }

    fn problem(text: &str) -> String {
        text.parse::<Strengths>().unwrap_err().to_string()
    }

    #[test]
    fn ranges_hold_the_decimals_that_a_person_would_write() {
        // By hand.
        assert_eq!(shown("0:1.5:0.25"), "0,0.25,0.5,0.75,1,1.25,1.5");
        assert_eq!(shown("0:1:0.1"), "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1");
        assert_eq!(shown("0:0.4:0.2"), "0,0.2,0.4");
        assert_eq!(shown("0:0.9:0.15"), "0,0.15,0.3,0.45,0.6,0.75,0.9");
        assert_eq!(shown("0:1:0.3"), "0,0.3,0.6,0.9");
        assert_eq!(shown("1:0:-0.25"), "1,0.75,0.5,0.25,0");
        assert_eq!(shown("1:-1:-0.5"), "1,0.5,0,-0.5,-1");
        assert_eq!(shown("0.5:0.5:1"), "0,0.5");
        assert_eq!(shown("0:1e0:2.5e-1"), "0,0.25,0.5,0.75,1");
        assert_eq!(shown(" 0 : 1 : .5 "), "0,0.5,1");
    }

    #[test]
    fn lists_keep_their_order_and_get_a_zero() {
        assert_eq!(shown("0.8,0.4"), "0,0.8,0.4");
        assert_eq!(shown("0.8, 0, 0.8, 0.80"), "0.8,0");
        assert_eq!(shown("0.8"), "0,0.8");
        assert_eq!(shown("+1,-1"), "0,1,-1");
        assert!(shown("-0").parse::<Strengths>().unwrap().values()[0].is_sign_positive());
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let texts = [
            "",
            ",",
            "a",
            "0,,1",
            "nan",
            "inf",
            "1e400",
            "101",
            "-100.5",
            "0:1",
            "0:1:0.5:2",
            "0:1:0",
            "0:1:-0.1",
            "1:0:0.1",
            "0:1e9:1e-9",
            "0:1:1e-9",
            "0:1:1e-30",
            "0:1:1e-999999999999",
            "0::1",
            "0x1,2",
            "1_0",
        ];
        let all: Vec<String> =
            texts.iter().map(|text| format!("[{text}] {}", problem(text))).collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn at_most_a_thousand() {
        // 0 to 0.999 is 1000 values; one more is too many, and so is a zero put in front.
        assert_eq!("0:0.999:0.001".parse::<Strengths>().unwrap().values().len(), 1000);
        assert!(problem("0:1:0.001").starts_with("strengths: 1001 are more than 1000"));
        assert!(problem("0.001:1:0.001").starts_with("strengths: 1001 are more than 1000"));
        let many = vec![1.0; 100_000];
        assert_eq!(Strengths::new(&many).unwrap().values(), [0.0, 1.0]);
    }

    proptest! {
        #[test]
        fn a_range_stays_within_its_ends_and_is_evenly_spaced(
            from in -400i32..400, to in -400i32..400, by in 1i32..400,
        ) {
            // Hundredths, so that the expected value is an integer divided once.
            let by = if to < from { -by } else { by };
            let hundredths = |n: i32| format!("{:.2}", f64::from(n) / 100.0);
            let text = format!("{}:{}:{}", hundredths(from), hundredths(to), hundredths(by));
            let strengths: Strengths = text.parse().unwrap();
            let expected: Vec<f64> =
                (0..=(to - from) / by).map(|k| f64::from(from + k * by) / 100.0).collect();
            let got: Vec<f64> = if expected.contains(&0.0) {
                strengths.values().to_vec()
            } else {
                strengths.values()[1..].to_vec()
            };
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn what_is_printed_reads_back(values in prop::collection::vec(-100.0f64..=100.0, 1..50)) {
            let strengths = Strengths::new(&values).unwrap();
            prop_assert_eq!(strengths.to_string().parse::<Strengths>().unwrap(), strengths);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9:,.e+-]{0,24}|.{0,24}") {
            if let Ok(strengths) = text.parse::<Strengths>() {
                prop_assert!(strengths.values().len() <= MAX_STRENGTHS);
                prop_assert!(strengths.values().contains(&0.0));
            }
        }
    }
}
