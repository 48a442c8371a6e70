//! From values to places on a chart, and the ticks of an axis.

/// A value axis: linear, or logarithmic where the values span more than three powers of ten.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    /// Powers of ten instead of values.
    pub log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// A scale that shows all of `values` with some air, between the places `from` and `to`.
    pub fn new(values: &[f64], from: f64, to: f64) -> Self {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let (least, most) =
            finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), v| (l.min(v), m.max(v)));
        if least > most {
            return Self { low: 0.0, high: 1.0, log: false, from, to };
        }
        if least > 0.0 && most / least > 1000.0 {
            let (low, high) = (least.log10().floor(), most.log10().ceil());
            return Self { low, high, log: true, from, to };
        }
        // halves before the difference, which could otherwise overflow
        let span = (most / 2.0 - least / 2.0) * 2.0;
        let air = if span > 0.0 && span.is_finite() {
            span * 0.08
        } else if most == 0.0 {
            1.0
        } else {
            most.abs() * 0.1
        };
        let low = if least >= 0.0 { (least - air).max(0.0) } else { least - air };
        Self { low, high: most + air, log: false, from, to }
    }

    /// A scale whose ends are the least and the most of `values`; one value lies in the middle.
    pub fn tight(values: &[f64], from: f64, to: f64) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low < high {
            Self { low, high, log: false, from, to }
        } else {
            let middle = if low.is_finite() { low } else { 0.0 };
            Self { low: middle - 1.0, high: middle + 1.0, log: false, from, to }
        }
    }

    /// Where `value` lies; outside the scale, at its nearer end.
    pub fn place(&self, value: f64) -> f64 {
        let value = match (self.log, value > 0.0) {
            (true, true) => value.log10(),
            (true, false) => self.low,
            (false, _) => value,
        };
        // halves before the differences, as above
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.5 };
        self.from + share * (self.to - self.from)
    }

    /// Three to six round values inside the scale.
    pub fn ticks(&self) -> Vec<f64> {
        let step = if self.log {
            ((self.high - self.low) / 5.0).ceil().max(1.0)
        } else {
            nice(self.high / 6.0 - self.low / 6.0)
        };
        let first = (self.low / step).ceil();
        (0..12)
            .map(|k| (first + f64::from(k)) * step)
            .take_while(|tick| *tick <= self.high + step * 1e-9)
            .map(|tick| if self.log { 10f64.powf(tick) } else { tick })
            .filter(|tick| tick.is_finite())
            .collect()
    }
}

/// 1, 2 or 5 times a power of ten, the nearest at or above `step`.
fn nice(step: f64) -> f64 {
    if !(step.is_finite() && step > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= step * 0.999_999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let near = |ticks: Vec<f64>, wanted: &[f64]| {
            ticks.len() == wanted.len()
                && ticks.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9)
        };
        let ticks = Scale::new(&[0.0, 100.0], 0.0, 1.0).ticks();
        assert!(near(ticks.clone(), &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]), "{ticks:?}");
        let ticks = Scale::new(&[21.3, 35.1], 0.0, 1.0).ticks();
        assert!(near(ticks.clone(), &[25.0, 30.0, 35.0]), "{ticks:?}");
    }

    #[test]
    fn wide_positive_values_go_on_a_logarithmic_scale() {
        let scale = Scale::new(&[3.0, 40_000.0], 0.0, 5.0);
        assert!(scale.log);
        assert_eq!(scale.place(1.0), 0.0);
        assert_eq!(scale.place(1e5), 5.0);
        assert_eq!(scale.place(0.0), 0.0);
    }

    #[test]
    fn degenerate_values_have_places() {
        for values in [
            &[][..],
            &[5.0],
            &[0.0, 0.0],
            &[f64::NAN],
            &[f64::MAX, f64::MIN],
            &[f64::MIN_POSITIVE, f64::MAX],
            &[-1e-300, 1e-300],
        ] {
            for scale in [Scale::new(values, 10.0, 20.0), Scale::tight(values, 10.0, 20.0)] {
                for value in values.iter().copied().chain([0.0, f64::INFINITY]) {
                    let place = scale.place(value);
                    assert!((10.0..=20.0).contains(&place), "{values:?} {value} {place}");
                }
                assert!(scale.ticks().len() <= 12);
            }
        }
        assert_eq!(Scale::tight(&[0.5], 0.0, 10.0).place(0.5), 5.0);
    }
}
