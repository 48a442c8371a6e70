//! One group in plain words, never more than the numbers say.
//!
//! "Rises" and "falls" are said of a difference whose p-value is below 0.05 after Bonferroni's
//! correction for the strengths that were compared; any other difference is called uncertain.

use super::lookup::{self, Slice};
use super::{number, text};
use crate::run::{MetricScores, ScoreRow, Scores};

/// The bound below which a p-value counts.
const ALPHA: f64 = 0.05;

/// What the main metric of `slice` says.
pub fn about(scores: &Scores, slice: &Slice) -> String {
    let applies = |metric: &MetricScores| {
        lookup::rows(metric, slice).iter().any(|row| lookup::value(row).is_some())
    };
    match lookup::main_metric(scores, &slice.group, applies) {
        None => "No metric that has a direction has a value here.".to_owned(),
        Some(metric) => Story::new(metric, slice).tell(),
    }
}

/// A metric's finite values by strength, and the one at strength 0.
struct Story<'a> {
    metric: &'a MetricScores,
    rows: Vec<(&'a ScoreRow, f64)>,
    base: Option<f64>,
    decimals: usize,
    /// Strengths that were tested against strength 0.
    tests: usize,
}

impl<'a> Story<'a> {
    fn new(metric: &'a MetricScores, slice: &Slice) -> Self {
        let rows: Vec<(&ScoreRow, f64)> = lookup::rows(metric, slice)
            .into_iter()
            .filter_map(|row| Some((row, lookup::value(row)?)))
            .collect();
        let largest = rows.iter().fold(0.0, |m: f64, (_, v)| m.max(v.abs()));
        Self {
            metric,
            base: rows.iter().find(|(row, _)| row.strength == 0.0).map(|(_, value)| *value),
            decimals: number::decimals(largest),
            tests: rows.iter().filter(|(row, _)| lookup::p(row).is_some()).count(),
            rows,
        }
    }

    fn tell(&self) -> String {
        let label = &self.metric.label;
        let Some(base) = self.base else {
            let Some((row, value)) = self.best() else {
                return format!("{label} has no value.");
            };
            let facts = facts(&self.facts(row, false));
            return format!(
                "{label} is best at strength {}, {}{facts}; there is no value at strength 0 to \
                 compare with.",
                number::axis(row.strength),
                self.show(value),
            );
        };
        let others: Vec<_> = self.rows.iter().filter(|(row, _)| row.strength != 0.0).collect();
        let Some((zero, _)) = self.rows.iter().find(|(row, _)| row.strength == 0.0) else {
            return String::new();
        };
        if others.is_empty() {
            let facts = facts(&self.facts(zero, true));
            return format!(
                "{label} is {} at strength 0{facts}; no other strength has a value.",
                self.show(base)
            );
        }
        if others.iter().all(|(row, _)| row.identical) {
            return "Every output at every strength equals the base's: the adapter changes \
                    nothing here."
                .to_owned();
        }
        if others.iter().all(|(_, value)| *value == base) {
            return format!("{label} is {} at every strength.", self.show(base));
        }
        let said = match self.best() {
            Some((row, value)) if row.strength != 0.0 && value != base => {
                self.gain(base, row, value)
            }
            _ => self.loss(base),
        };
        format!("{said}{}", self.same())
    }

    /// Some strength is better than 0.
    fn gain(&self, base: f64, row: &ScoreRow, value: f64) -> String {
        let start = self.move_from(base, row, value, "best");
        let after = self.rows.iter().rfind(|(other, _)| other.strength > row.strength);
        let Some((last, end)) = after.filter(|_| row.strength > 0.0) else {
            return format!("{start}.");
        };
        let apart = match (lookup::interval(last), lookup::interval(row)) {
            (Some(a), Some(b)) => Some(a.1 < b.0 || b.1 < a.0),
            _ => None,
        };
        let (at, end) = (number::axis(last.strength), self.show(*end));
        match apart {
            Some(true) => format!("{start}; past that it is worse again, {end} at {at}."),
            Some(false) => format!("{start}; it is {end} at {at}, where the intervals overlap."),
            None => format!("{start}; it is {end} at {at}."),
        }
    }

    /// No strength is better than 0: tells of the worst.
    fn loss(&self, base: f64) -> String {
        let worse = |a: f64, b: f64| lookup::improves(self.metric.better, a, b) == Some(false);
        let mut worst: Option<(&ScoreRow, f64)> = None;
        for (row, value) in &self.rows {
            if worst.is_none_or(|(_, most)| worse(*value, most)) {
                worst = Some((row, *value));
            }
        }
        let Some((row, value)) = worst else { return String::new() };
        let start = self.move_from(base, row, value, "furthest from it");
        let first = self
            .rows
            .iter()
            .filter(|(row, _)| row.strength != 0.0 && self.significant(row))
            .min_by(|a, b| a.0.strength.abs().total_cmp(&b.0.strength.abs()));
        match first {
            Some((first, at)) if first.strength != row.strength => format!(
                "{start}; the smallest strength with a significant difference is {} ({}).",
                number::axis(first.strength),
                self.show(*at)
            ),
            _ => format!("{start}."),
        }
    }

    /// `chrF rises from 21.3 at strength 0 to 35.1 at 0.75 (…)`, or words for an uncertain one.
    fn move_from(&self, base: f64, row: &ScoreRow, value: f64, superlative: &str) -> String {
        let label = &self.metric.label;
        let (from, to) = (self.show(base), self.show(value));
        let at = number::axis(row.strength);
        let facts = facts(&self.facts(row, true));
        if self.significant(row) {
            let verb = if value > base { "rises" } else { "falls" };
            return format!("{label} {verb} from {from} at strength 0 to {to} at {at}{facts}");
        }
        let doubt = match lookup::p(row) {
            Some(p) if p < ALPHA => format!(
                "; corrected for the {} compared this is not significant",
                text::count(self.tests, "strength")
            ),
            Some(_) => "; the difference may be chance".to_owned(),
            None => "; no test says whether the difference is chance".to_owned(),
        };
        format!("{label} is {from} at strength 0 and {superlative} at {at}, {to}{facts}{doubt}")
    }

    fn significant(&self, row: &ScoreRow) -> bool {
        lookup::p(row).is_some_and(|p| p * (self.tests.max(1) as f64) < ALPHA)
    }

    /// The best row; of equal ones that with the smallest strength by size.
    fn best(&self) -> Option<(&'a ScoreRow, f64)> {
        self.rows.iter().copied().reduce(|a, b| {
            let closer = b.1 == a.1 && b.0.strength.abs() < a.0.strength.abs();
            if closer || lookup::improves(self.metric.better, b.1, a.1) == Some(true) {
                b
            } else {
                a
            }
        })
    }

    /// Interval, p-value and number of cells of a row.
    fn facts(&self, row: &ScoreRow, with_p: bool) -> Vec<String> {
        let mut facts = Vec::new();
        if let Some((low, high)) = lookup::interval(row) {
            facts.push(format!("95 % interval {}–{}", self.show(low), self.show(high)));
        }
        if with_p {
            facts.extend(lookup::p(row).map(number::p_value));
        }
        facts.push(format!("n = {}", row.n));
        facts
    }

    /// Strengths other than 0 at which nothing changed.
    fn same(&self) -> String {
        let same: Vec<String> = self
            .rows
            .iter()
            .filter(|(row, _)| row.strength != 0.0 && row.identical)
            .map(|(row, _)| number::axis(row.strength))
            .collect();
        if same.is_empty() {
            return String::new();
        }
        format!(" At {} every output equals the base's.", same.join(", "))
    }

    fn show(&self, value: f64) -> String {
        number::fixed(value, self.decimals)
    }
}

fn facts(facts: &[String]) -> String {
    format!(" ({})", facts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Better;

    /// Rows as strength, value, half of the interval's width, p.
    type Given<'a> = &'a [(f64, Option<f64>, f64, Option<f64>)];

    fn told(better: Better, given: Given<'_>) -> String {
        let rows = given
            .iter()
            .map(|(strength, value, half, p)| ScoreRow {
                group: "heldout".to_owned(),
                strength: *strength,
                axes: lookup::Point::new(),
                value: *value,
                low: value.map(|v| v - half),
                high: value.map(|v| v + half),
                n: 12,
                p: *p,
                identical: *p == Some(1.0),
            })
            .collect();
        let metric = MetricScores {
            metric: "chrf".to_owned(),
            label: "chrF".to_owned(),
            about: String::new(),
            unit: "points".to_owned(),
            better,
            signature: String::new(),
            rows,
        };
        let scores =
            Scores { format: 1, planned: 1, present: 1, metrics: vec![metric], notes: vec![] };
        about(&scores, &lookup::slices(&scores)[0])
    }

    #[test]
    fn a_significant_gain_rises_and_what_follows_is_told() {
        let said = told(
            Better::Higher,
            &[
                (0.0, Some(21.3), 3.0, None),
                (0.75, Some(35.1), 4.0, Some(0.004)),
                (1.5, Some(12.0), 4.0, Some(0.01)),
            ],
        );
        assert_eq!(
            said,
            "chrF rises from 21.3 at strength 0 to 35.1 at 0.75 (95 % interval 31.1–39.1, \
             p = 0.004, n = 12); past that it is worse again, 12.0 at 1.5."
        );
    }

    #[test]
    fn an_uncertain_gain_does_not_rise() {
        let said = told(
            Better::Higher,
            &[(0.0, Some(21.3), 3.0, None), (1.0, Some(22.0), 3.0, Some(0.4))],
        );
        assert!(!said.contains("rises"), "{said}");
        assert!(said.contains("may be chance"), "{said}");
        // 0.03 × 2 strengths is above 0.05
        let said = told(
            Better::Higher,
            &[
                (0.0, Some(21.3), 3.0, None),
                (1.0, Some(25.0), 3.0, Some(0.03)),
                (2.0, Some(24.0), 3.0, Some(0.5)),
            ],
        );
        assert!(said.contains("corrected for the 2 strengths compared"), "{said}");
        assert!(said.contains("the intervals overlap"), "{said}");
    }

    #[test]
    fn lower_is_better_where_the_metric_says_so() {
        let said =
            told(Better::Lower, &[(0.0, Some(9.0), 1.0, None), (1.0, Some(4.0), 1.0, Some(0.001))]);
        assert!(said.starts_with("chrF falls from 9.00 at strength 0 to 4.00 at 1 "), "{said}");
    }

    #[test]
    fn a_loss_names_the_worst_and_the_first_significant_strength() {
        let said = told(
            Better::Higher,
            &[
                (0.0, Some(100.0), 0.0, None),
                (0.25, Some(100.0), 0.0, Some(1.0)),
                (0.5, Some(90.0), 2.0, Some(0.001)),
                (1.0, Some(60.0), 2.0, Some(0.001)),
            ],
        );
        assert_eq!(
            said,
            "chrF falls from 100.0 at strength 0 to 60.0 at 1 (95 % interval 58.0–62.0, \
             p = 0.001, n = 12); the smallest strength with a significant difference is 0.5 \
             (90.0). At 0.25 every output equals the base's."
        );
    }

    #[test]
    fn degenerate_input_says_what_is_lacking() {
        let one = told(Better::Higher, &[(0.0, Some(3.0), 1.0, None)]);
        assert!(one.ends_with("no other strength has a value."), "{one}");
        let none =
            told(Better::Higher, &[(0.0, None, 1.0, None), (1.0, Some(f64::NAN), 1.0, None)]);
        assert_eq!(none, "No metric that has a direction has a value here.");
        let no_base = told(Better::Higher, &[(1.0, Some(3.0), 1.0, None)]);
        assert!(no_base.contains("no value at strength 0"), "{no_base}");
        let equal =
            told(Better::Higher, &[(0.0, Some(3.0), 1.0, None), (1.0, Some(3.0), 1.0, None)]);
        assert_eq!(equal, "chrF is 3.00 at every strength.");
        let same =
            told(Better::Higher, &[(0.0, Some(3.0), 1.0, None), (1.0, Some(3.0), 1.0, Some(1.0))]);
        assert!(same.contains("changes nothing"), "{same}");
    }
}
