//! A policy's YAML, every value checked where it stands.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::error::CheckError;
use super::policy::{Bound, IfMissing, Policy, Rule};
use super::source::{Fields, Source, line_of};
use crate::base::digest::sha256;
use crate::base::terminal::printable;
use crate::base::yaml::{self, FaultKind, Kind, Node};
use crate::run::RunKind;
use crate::run::verdict::{Against, RuleKind, Severity};
use crate::stats::{Change, LEAST_CLUSTERS};

const KEYS: [&str; 6] = ["version", "confidence", "power", "min_pairs", "min_prompts", "rules"];
const RULE_KEYS: [&str; 17] = [
    "id",
    "kind",
    "runs",
    "group",
    "axes",
    "strength",
    "metric",
    "against",
    "change",
    "at_least",
    "at_most",
    "min_pairs",
    "min_prompts",
    "severity",
    "if_missing",
    "one_of",
    "bits",
];
/// Bits in which the perceptual hashes of near-duplicates differ at most.
const BITS: u32 = 6;
/// Unrelated pictures differ in half of the 64 bits.
const MOST_BITS: u32 = 32;

/// Reads a policy.
pub(super) fn parse(path: &Path, text: &str) -> Result<Policy, CheckError> {
    let source = Source { path, text };
    let root = yaml::read(text).map_err(|fault| {
        let (problem, hint) = match fault.kind {
            FaultKind::SecondDocument => {
                ("a second document starts here".to_owned(), "a policy is one document")
            }
            FaultKind::Limits => {
                ("more values or nesting than a policy may have".to_owned(), "write fewer rules")
            }
            FaultKind::Syntax(problem) => (
                format!("not valid YAML: {problem}"),
                "check the indentation, and put text with special characters in quotes",
            ),
        };
        source.error(fault.line, problem, hint)
    })?;
    let fields = source.fields(&root, "the policy", &KEYS)?;
    if let Some(node) = fields.get("version") {
        source.choice(node, "`version`", &[("1", ())])?;
    }
    let confidence = fields.get("confidence").map(|node| {
        // the resamples say little of rarer events
        source.number(node, "`confidence`", 0.5..=0.999, "a number from 0.5 to 0.999")
    });
    let power = fields
        .get("power")
        .map(|node| source.number(node, "`power`", 0.5..1.0, "a number from 0.5 to below 1"));
    let count = |key: &str| match fields.get(key) {
        None => Ok(LEAST_CLUSTERS),
        Some(node) => source.count(node, key),
    };
    let defaults = (count("min_pairs")?, count("min_prompts")?);
    let nodes = match fields.get("rules") {
        Some(node) => source.list(node, "`rules`")?,
        None => &[],
    };
    if nodes.is_empty() {
        return Err(source.error(
            fields.get("rules").map_or(1, |node| line_of(node)),
            "the policy has no rules, so every run would pass".to_owned(),
            "write `rules:` and below it `- id: …`, or leave `--policy` out for the built-in rules",
        ));
    }
    let rules = nodes.iter().map(|node| source.rule(node, defaults));
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    for (index, rule) in rules.iter().enumerate() {
        if let Some(first) = rules.iter().take(index).find(|other| other.id == rule.id) {
            let hint = format!(
                "the rule in line {} has it; every rule needs an id of its own",
                first.line
            );
            return Err(source.error(
                rule.line,
                format!("id `{}` is taken", printable(&rule.id)),
                hint,
            ));
        }
        let alternative = |other: &&Rule| rule.one_of.is_some() && other.one_of == rule.one_of;
        if let Some(first) = rules.iter().take(index).find(alternative)
            && first.kind != rule.kind
        {
            return Err(source.error(
                rule.line,
                format!(
                    "rule `{}` is a {}, and `{}`, of which it is an alternative, a {}",
                    printable(&rule.id),
                    kind_name(rule.kind),
                    printable(&first.id),
                    kind_name(first.kind)
                ),
                "give rules of different kinds different `one_of`, or none: only one of the alternatives is judged",
            ));
        }
    }
    Ok(Policy {
        path: path.to_owned(),
        sha256: sha256(text.as_bytes()),
        confidence: confidence.transpose()?.unwrap_or(0.95),
        power: power.transpose()?.unwrap_or(0.8),
        rules,
    })
}

impl<'a> Source<'a> {
    fn rule(self, node: &'a Node, (pairs, prompts): (usize, usize)) -> Result<Rule, CheckError> {
        let fields = self.fields(node, "a rule", &RULE_KEYS)?;
        let line = line_of(node);
        let text = |key: &str| fields.get(key).map(|node| self.text(node, key)).transpose();
        let Some(id) = text("id")? else {
            return Err(self.error(
                line,
                "a rule has no `id`".to_owned(),
                "write `id: …`, the name that results call it by",
            ));
        };
        let kinds = [
            ("effect", RuleKind::Effect),
            ("gain", RuleKind::Gain),
            ("guard", RuleKind::Guard),
            ("memorisation", RuleKind::Memorisation),
        ];
        let kind = self.chosen(&fields, "kind", &kinds, RuleKind::Guard)?;
        let group = match (text("group")?, kind) {
            (Some(group), _) => Some(group),
            (None, RuleKind::Effect) => None,
            (None, RuleKind::Gain | RuleKind::Memorisation) => Some("heldout".to_owned()),
            (None, RuleKind::Guard) => Some("base".to_owned()),
        };
        let counted = |key: &str, usual| match fields.get(key) {
            None => Ok(usual),
            Some(node) => self.count(node, key),
        };
        let images = [("text", Some(RunKind::Text)), ("image", Some(RunKind::Image))];
        let compared = [
            ("base", Against::Base),
            ("baseline", Against::Baseline),
            ("nothing", Against::Nothing),
        ];
        let changes = [("difference", Change::Difference), ("ratio", Change::Ratio)];
        let severities = [("error", Severity::Error), ("warn", Severity::Warn)];
        let missing = [("error", IfMissing::Error), ("skip", IfMissing::Skip)];
        let against = self.chosen(&fields, "against", &compared, Against::Base)?;
        let change = self.chosen(&fields, "change", &changes, Change::Difference)?;
        let rule = Rule {
            line,
            kind,
            severity: self.chosen(&fields, "severity", &severities, Severity::Error)?,
            runs: self.chosen(&fields, "runs", &images, None)?,
            group,
            axes: self.axes(fields.get("axes").copied())?,
            strengths: fields.get("strength").map(|node| self.strengths(node)).transpose()?,
            metric: text("metric")?.unwrap_or_default(),
            against,
            change: if against == Against::Nothing { Change::Level } else { change },
            bound: self.bound(&fields, kind)?,
            min_pairs: counted("min_pairs", pairs)?,
            min_prompts: counted("min_prompts", prompts)?,
            if_missing: self.chosen(&fields, "if_missing", &missing, IfMissing::Error)?,
            one_of: text("one_of")?,
            bits: match fields.get("bits") {
                None => BITS,
                Some(node) => self.bits(node)?,
            },
            id,
        };
        self.sense(&rule, &fields).map(|()| rule)
    }

    /// Refuses keys that say nothing together.
    fn sense(self, rule: &Rule, fields: &Fields<'_>) -> Result<(), CheckError> {
        let line = |key: &str| fields.get(key).map_or(rule.line, |node| line_of(node));
        let id = printable(&rule.id);
        let measured = matches!(rule.kind, RuleKind::Gain | RuleKind::Guard);
        if measured && rule.metric.is_empty() {
            return Err(self.error(
                rule.line,
                format!("rule `{id}` has no `metric`"),
                "write `metric: chrf`, `kl`, `ssim` …: a key of the run's scores",
            ));
        }
        if measured && rule.bound == Bound::None {
            return Err(self.error(
                rule.line,
                format!("rule `{id}` has neither `at_least` nor `at_most`"),
                "write the margin that the value must keep, such as `at_most: 0.1`",
            ));
        }
        if rule.kind == RuleKind::Gain
            && rule.change != Change::Level
            && let Bound::AtMost(_) = rule.bound
        {
            return Err(self.error(
                line("at_most"),
                format!("rule `{id}` is a gain, of which more is better, and has `at_most`"),
                "write `at_least`: a gain is turned so that positive (or above 1) is better, whatever the metric",
            ));
        }
        if rule.change == Change::Ratio
            && let Bound::AtLeast(margin) | Bound::AtMost(margin) = rule.bound
            && margin <= 0.0
        {
            let key = if matches!(rule.bound, Bound::AtLeast(_)) { "at_least" } else { "at_most" };
            return Err(self.error(
                line(key),
                format!("rule `{id}` is a ratio, and its margin is {margin}: expected more than 0"),
                "a ratio of 0.95 is 5 % less, 1.05 is 5 % more; without `change: ratio` the margin is a difference",
            ));
        }
        if let Some(key) = ["metric", "against", "change"]
            .into_iter()
            .find(|key| !measured && fields.contains_key(key))
        {
            return Err(self.error(
                line(key),
                format!("rule `{id}` of the kind `{}` has a `{key}`", kind_name(rule.kind)),
                "remove the key, or write `kind: gain` or `kind: guard`",
            ));
        }
        if rule.against == Against::Nothing && fields.contains_key("change") {
            return Err(self.error(
                line("change"),
                format!("rule `{id}` compares with nothing and has a `change`"),
                "remove `change`, or write `against: base`",
            ));
        }
        if rule.against == Against::Baseline && !rule.axes.is_empty() {
            return Err(self.error(
                line("axes"),
                format!(
                    "rule `{id}` compares one point of the axes with a baseline, which has none"
                ),
                "remove `axes` or `against: baseline`",
            ));
        }
        if rule.kind != RuleKind::Memorisation && fields.contains_key("bits") {
            return Err(self.error(
                line("bits"),
                format!("rule `{id}` has `bits` and is no memorisation"),
                "remove `bits`, or write `kind: memorisation`",
            ));
        }
        Ok(())
    }

    fn bits(self, node: &'a Node) -> Result<u32, CheckError> {
        let bits = u32::try_from(self.count(node, "bits")?).ok();
        bits.filter(|bits| *bits <= MOST_BITS).ok_or_else(|| {
            let expected = format!("a whole number from 0 to {MOST_BITS}");
            self.wrong(
                node,
                "`bits`",
                &expected,
                "unrelated pictures differ in about 32 bits of 64",
            )
        })
    }

    fn bound(self, fields: &Fields<'a>, kind: RuleKind) -> Result<Bound, CheckError> {
        let number = |node| self.number(node, "a margin", f64::MIN..f64::INFINITY, "a number");
        let (low, high) = (fields.get("at_least"), fields.get("at_most"));
        match (low, high, kind) {
            (Some(_), Some(node), _) => Err(self.error(
                line_of(node),
                "a rule has both `at_least` and `at_most`".to_owned(),
                "write two rules",
            )),
            (Some(node), None, RuleKind::Effect | RuleKind::Memorisation)
            | (None, Some(node), RuleKind::Effect) => {
                let problem =
                    format!("a margin says nothing in a rule of the kind `{}`", kind_name(kind));
                Err(self.error(line_of(node), problem, "remove it"))
            }
            (Some(node), None, _) => Ok(Bound::AtLeast(number(node)?)),
            (None, Some(node), RuleKind::Memorisation) => {
                Ok(Bound::AtMost(self.count(node, "at_most")? as f64))
            }
            (None, Some(node), _) => Ok(Bound::AtMost(number(node)?)),
            (None, None, RuleKind::Memorisation) => Ok(Bound::AtMost(0.0)),
            (None, None, _) => Ok(Bound::None),
        }
    }

    /// One strength, or two with a colon between them.
    fn strengths(self, node: &'a Node) -> Result<(f64, f64), CheckError> {
        let text = self.text(node, "strength")?;
        let (low, high) = text.split_once(':').unwrap_or((&text, &text));
        let read = |part: &str| part.trim().parse::<f64>().ok().filter(|value| value.is_finite());
        match (read(low), read(high)) {
            (Some(low), Some(high)) if low <= high => Ok((low, high)),
            _ => Err(self.error(
                line_of(node),
                format!(
                    "`strength` is `{}`: expected a number, or two with a colon between",
                    printable(&text)
                ),
                "write `strength: 0.8`, or `strength: \"0.4:1\"` for all from 0.4 to 1",
            )),
        }
    }

    fn axes(self, node: Option<&'a Node>) -> Result<BTreeMap<String, Value>, CheckError> {
        let Some(node) = node else { return Ok(BTreeMap::new()) };
        let Kind::Map(entries) = &node.value else {
            return Err(self.wrong(
                node,
                "`axes`",
                "a mapping",
                "write `axes: {sampler: euler_a}`",
            ));
        };
        let value = |node: &'a Node| match &node.value {
            Kind::Plain(value) => Ok(value.clone()),
            _ => self.text(node, "an axis' value").map(Value::from),
        };
        let mut axes = BTreeMap::new();
        for (key, node) in entries {
            if axes.insert(key.value.clone(), value(node)?).is_some() {
                let problem = format!("the axis `{}` is there twice", printable(&key.value));
                return Err(self.error(line_of(node), problem, "leave one of the two out"));
            }
        }
        Ok(axes)
    }
}

fn kind_name(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Effect => "effect",
        RuleKind::Gain => "gain",
        RuleKind::Guard => "guard",
        RuleKind::Memorisation => "memorisation",
    }
}
