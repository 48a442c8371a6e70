//! Values that have more than one form: lengths, sizes, sides, names, sets of modules.

use serde_json::{Value as Json, json};

use super::kind::{Kind, LARGEST, Misfit, Synonym, number, scalar, whole};
use super::tree::{Node, Value};
use crate::base::hint::nearest;
use crate::base::terminal::printable;

/// A number and its unit: `500 steps`.
fn with_unit(text: &str) -> Option<(u64, String)> {
    let (count, unit) = text.trim().split_once(char::is_whitespace)?;
    Some((whole(count)?, unit.trim().to_ascii_lowercase()))
}

pub(super) fn stem(text: &str) -> Option<&str> {
    let bad = |c: char| c.is_control() || "/\\:*?\"<>|".contains(c);
    (!text.starts_with('.') && !text.contains(bad) && text.len() <= 200).then_some(text)
}

pub(super) fn choice(
    node: &Node,
    text: &str,
    names: &'static [&'static str],
    synonyms: &'static [Synonym],
) -> Result<Json, Misfit> {
    let lower = text.to_ascii_lowercase();
    let ours = synonyms.iter().find(|s| s.theirs == lower).map(|s| s.ours);
    let known = ours.or_else(|| names.iter().copied().find(|name| *name == lower));
    known.map(Json::from).ok_or_else(|| {
        let misfit = Misfit::new(node, Kind::Choice(names, synonyms).expected());
        match nearest(&lower, names.iter().copied()) {
            Some(near) => misfit.hint(format!("did you mean `{near}`?")),
            None => misfit,
        }
    })
}

pub(super) fn resolution(node: &Node) -> Option<Json> {
    let sides: Vec<u64> = match &node.value {
        Value::List(items) => {
            items.iter().map(|item| scalar(item).and_then(whole)).collect::<Option<_>>()?
        }
        Value::Scalar(text) => text.split([',', 'x']).map(whole).collect::<Option<_>>()?,
        _ => return None,
    };
    let (width, height) = match *sides.as_slice() {
        [side] => (side, side),
        [width, height] => (width, height),
        _ => return None,
    };
    let fits = |side: u64| side.is_multiple_of(8) && (32..=8192).contains(&side);
    (fits(width) && fits(height)).then(|| json!([width, height]))
}

pub(super) fn every(text: &str) -> Option<Json> {
    if text.eq_ignore_ascii_case("never") {
        return Some(json!("Never"));
    }
    length(text)
}

pub(super) fn length(text: &str) -> Option<Json> {
    let (count, unit) = with_unit(text).filter(|(count, _)| (1..=LARGEST).contains(count))?;
    match unit.as_str() {
        "step" | "steps" => Some(json!({ "Steps": count })),
        "epoch" | "epochs" => Some(json!({ "Epochs": count })),
        _ => None,
    }
}

pub(super) fn warmup(text: &str) -> Option<Json> {
    if let Some((count, unit)) = with_unit(text) {
        return (unit.starts_with("step") && count <= LARGEST).then(|| json!({ "Steps": count }));
    }
    match (whole(text), number(text)) {
        (Some(steps), _) if steps <= LARGEST => Some(json!({ "Steps": steps })),
        (None, Some(part)) if (0.0..1.0).contains(&part) => Some(json!({ "Fraction": part })),
        _ => None,
    }
}

pub(super) fn targets(node: &Node) -> Result<Json, Misfit> {
    let named = |text: &str| match text.to_ascii_lowercase().as_str() {
        "all-linear" | "all" => Some(json!("AllLinear")),
        "attention" => Some(json!("Attention")),
        _ => None,
    };
    let is_name = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    match &node.value {
        Value::Scalar(text) => {
            let parts: Vec<&str> = text.split(',').map(str::trim).collect();
            if let Some(set) = named(text) {
                return Ok(set);
            }
            if parts.iter().all(|part| is_name(part)) {
                return Ok(json!({ "Names": parts }));
            }
            regex::Regex::new(text).map_err(|e| bad_pattern(node, &e))?;
            Ok(json!({ "Pattern": text }))
        }
        Value::List(items) if !items.is_empty() => {
            let name = |item| match scalar(item) {
                Some(text) if is_name(text) => Ok(text),
                _ => Err(Misfit::new(item, "a module's name")
                    .hint("write names like `q_proj`, or one text that is a regular expression")),
            };
            let names = items.iter().map(name).collect::<Result<Vec<_>, _>>()?;
            match *names.as_slice() {
                [one] => Ok(named(one).unwrap_or_else(|| json!({ "Names": names }))),
                _ => Ok(json!({ "Names": names })),
            }
        }
        _ => Err(Misfit::new(node, Kind::Targets.expected())),
    }
}

pub(super) fn bad_pattern(node: &Node, error: &regex::Error) -> Misfit {
    let why = error.to_string();
    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
    Misfit::new(node, "a regular expression")
        .hint(format!("{}; lookaround and backreferences are not supported", printable(why)))
}

pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (count, unit) = text.split_at_checked(split)?;
    let unit: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" | "m" => 1024.0 * 1024.0,
        "gib" | "g" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    let total = number(count)? * unit;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 2^24 to 2^53"
    )]
    (16_777_216.0..=LARGEST as f64).contains(&total).then_some(total as u64)
}
