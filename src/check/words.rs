//! Numbers and rules in plain words.

use super::policy::{Bound, Rule};
use crate::metric::Measure;
use crate::run::verdict::{Outcome, RuleKind, RuleResult};
use crate::stats::Change;

/// About three significant digits, a true minus sign; never `NaN` or `-0`.
pub(super) fn number(value: f64) -> String {
    let text = match value.abs() {
        v if !v.is_finite() => return "unbounded".to_owned(),
        0.0 => "0".to_owned(),
        v if !(1e-4..1e6).contains(&v) => format!("{value:.1e}"),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        v if v >= 0.1 => format!("{value:.3}"),
        v if v >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.5}"),
    };
    let text = if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    text.replace('-', "−")
}

/// A difference with its sign.
pub(super) fn signed(value: f64) -> String {
    if value > 0.0 && value.is_finite() { format!("+{}", number(value)) } else { number(value) }
}

/// A ratio: what matters of one near 1 lies in its third decimal.
pub(super) fn factor(value: f64) -> String {
    if (0.5..2.0).contains(&value) { format!("{value:.3}") } else { number(value) }
}

/// A value on the strength axis, `0.75`.
pub fn strength(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    (rounded + 0.0).to_string().replace('-', "−")
}

/// `1 prompt`, `2 prompts`.
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// What a rule's value is, with its bounds and its margin.
pub(super) fn sentence(rule: &Rule, measure: &Measure, result: &RuleResult) -> String {
    let group = rule.group.as_deref().unwrap_or("all");
    let prompts = count(result.prompts, "prompt");
    let label = &measure.label;
    let Some(value) = result.value else {
        return format!("{label} on {group} prompts was not measured");
    };
    let end_of = |end: Option<f64>| end.unwrap_or(f64::INFINITY);
    let (low, high) = (end_of(result.low), end_of(result.high));
    let shown = |value: f64| match rule.change {
        Change::Difference => signed(value),
        Change::Ratio => factor(value),
        Change::Level => number(value),
    };
    let what = match (rule.change, rule.kind) {
        (Change::Difference, RuleKind::Gain) if value >= 0.0 => {
            format!("{label} on {group} prompts improves by")
        }
        (Change::Difference, RuleKind::Gain) => format!("{label} on {group} prompts gains"),
        (Change::Difference, _) => format!("{label} on {group} prompts changes by"),
        (Change::Ratio, RuleKind::Gain) => {
            format!("{label} on {group} prompts improves by the factor")
        }
        (Change::Ratio, _) => format!("{label} on {group} prompts changes by the factor"),
        (Change::Level, _) => format!("{label} on {group} prompts is"),
    };
    let margin = match rule.bound {
        Bound::AtLeast(margin) => format!("more than {} is asked for", shown(margin)),
        Bound::AtMost(margin) => format!("less than {} is asked for", shown(margin)),
        Bound::None => String::new(),
    };
    let unit = match (rule.change, measure.unit.as_str()) {
        (Change::Ratio, _) | (_, "fraction" | "distance" | "per token") => String::new(),
        (_, unit) => format!(" {unit}"),
    };
    let end = match result.outcome {
        Outcome::Pass => "kept",
        Outcome::Fail => "broken",
        Outcome::Inconclusive | Outcome::NotApplicable => "open",
    };
    let few = if result.prompts < rule.min_prompts {
        format!(", of {} that are asked for", rule.min_prompts)
    } else if result.pairs < rule.min_pairs {
        let pairs = count(result.pairs, "pair");
        format!(", {pairs} of {} that are asked for", rule.min_pairs)
    } else {
        String::new()
    };
    format!(
        "{end}: {what} {}{unit} (between {} and {}, {prompts}{few}); {margin}",
        shown(value),
        shown(low),
        shown(high)
    )
}

/// What to do so that a run has a metric.
pub(super) fn needs(metric: &str, group: &str) -> String {
    let references = format!("add `references` to the suite's prompts of the group `{group}`");
    match metric {
        "bleu" | "chrf" | "rouge-l" | "exact-match" | "ssim-reference" | "histogram-reference" => {
            references
        }
        "clip-reference" => format!("{references} and give the grid `--clip`"),
        "dino-reference" => format!("{references} and give the grid `--dino`"),
        "clip-text" | "clip-image" => "give the grid `--clip`".to_owned(),
        "dino" => "give the grid `--dino`".to_owned(),
        "lpips" => "give the grid `--lpips`".to_owned(),
        _ => format!("add prompts of the group `{group}` to the suite, or judge by another metric"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_no_noise() {
        let shown = [12.345, -0.051_23, 0.000_36, 0.0, 100.0, 1.5, 3e-7, f64::INFINITY, -0.0];
        let shown = shown.map(number);
        assert_eq!(
            shown,
            ["12.3", "−0.0512", "0.00036", "0", "100", "1.5", "3.0e−7", "unbounded", "0"]
        );
        assert_eq!(
            (signed(2.0), signed(-2.0), signed(0.0)),
            ("+2".into(), "−2".into(), "0".into())
        );
        assert_eq!(strength(0.1 + 0.2), "0.3");
    }
}
