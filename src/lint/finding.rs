use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::fix::Fixes;
use super::rules::Rule;
use crate::base::terminal::printable;

/// Findings of a rule that are printed; the others are counted.
const SHOWN: usize = 5;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Training would fail, or its result could not be trusted.
    Error,
    /// Training would run, with a worse result than the data could give.
    Warning,
}

/// A file or folder, and a line in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file or folder.
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
}

/// One fault at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule's name, one of [`super::rules::ALL`].
    pub rule: &'static str,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong there.
    pub message: String,
    /// What to do about it.
    pub advice: String,
    /// Whether [`Fixes::apply`] mends it.
    pub fixable: bool,
}

/// All that was found: errors first, then by rule, by what is to be done and by place.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was read, and from where, a sentence each.
    pub notes: Vec<String>,
    /// Examples that were checked, held-out ones included.
    pub examples: usize,
    /// How many findings are errors.
    pub errors: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// How many each rule has.
    pub rules: BTreeMap<&'static str, usize>,
    /// The findings.
    pub findings: Vec<Finding>,
    /// What would mend those that are fixable.
    #[serde(skip)]
    pub fixes: Fixes,
}

impl Place {
    /// A whole file or folder.
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), line: None }
    }

    /// A line, from 1.
    pub fn line(file: impl Into<PathBuf>, line: usize) -> Self {
        Self { file: file.into(), line: Some(line) }
    }
}

impl Finding {
    pub(super) fn error(rule: &Rule, place: Place, message: impl Into<String>) -> Self {
        let (message, advice) = (message.into(), String::new());
        Self { severity: Severity::Error, rule: rule.name, place, message, advice, fixable: false }
    }

    pub(super) fn warning(rule: &Rule, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(rule, place, message) }
    }

    pub(super) fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: advice.into(), ..self }
    }

    pub(super) fn fixable(self) -> Self {
        Self { fixable: true, ..self }
    }

    fn order(&self, other: &Self) -> Ordering {
        let kind = |finding: &'_ Self| (finding.severity, finding.rule);
        kind(self)
            .cmp(&kind(other))
            .then_with(|| self.advice.cmp(&other.advice))
            .then_with(|| self.place.cmp(&other.place))
            .then_with(|| self.message.cmp(&other.message))
    }
}

impl Report {
    pub(super) fn new(
        notes: Vec<String>,
        examples: usize,
        mut findings: Vec<Finding>,
        fixes: Fixes,
    ) -> Self {
        findings.sort_by(Finding::order);
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        let mut rules = BTreeMap::new();
        for finding in &findings {
            *rules.entry(finding.rule).or_default() += 1;
        }
        let warnings = findings.len() - errors;
        Self { notes, examples, errors, warnings, rules, findings, fixes }
    }

    /// How many findings [`Fixes::apply`] mends.
    pub fn fixable(&self) -> usize {
        self.findings.iter().filter(|finding| finding.fixable).count()
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file.to_string_lossy()))?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// What was read; the findings of each rule under its name, the first few in full; the totals.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = |a: &Finding, b: &Finding| {
            (a.severity, a.rule, &a.advice) == (b.severity, b.rule, &b.advice)
        };
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for group in self.findings.chunk_by(same) {
            let Some(first) = group.first() else { continue };
            writeln!(f, "{}[{}]: {}", first.severity, first.rule, count(group.len(), "finding"))?;
            for finding in group.iter().take(SHOWN) {
                writeln!(f, "  {}: {}", finding.place, finding.message)?;
            }
            if let more @ 1.. = group.len().saturating_sub(SHOWN) {
                writeln!(f, "  and {more} more")?;
            }
            writeln!(f, "  advice: {}", first.advice)?;
        }
        write!(f, "{} checked: ", count(self.examples, "example"))?;
        if self.findings.is_empty() {
            return f.write_str("nothing found");
        }
        write!(f, "{}, {}", count(self.errors, "error"), count(self.warnings, "warning"))?;
        match self.fixable() {
            0 => Ok(()),
            fixable => write!(f, "; `--fix` mends {fixable}"),
        }
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A path that need not be UTF-8.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;

    fn report() -> Report {
        let mut findings: Vec<Finding> = (1..=7)
            .rev()
            .map(|line| {
                Finding::warning(&rules::EMPTY_CAPTION, Place::line("a.csv", line), "no caption")
                    .advice("write it")
            })
            .collect();
        let place = Place::file("b\u{1b}.png");
        findings.push(Finding::error(&rules::MISSING_PICTURE, place, "not there").fixable());
        Report::new(vec!["data: 9 pictures".to_owned()], 9, findings, Fixes::default())
    }

    #[test]
    fn errors_come_first_and_long_lists_are_cut() {
        let text = report().to_string();
        let start =
            "data: 9 pictures\nerror[missing-picture]: 1 finding\n  b\u{fffd}.png: not there\n";
        assert!(text.starts_with(start), "{text}");
        let (shown, cut) = ("  a.csv:5: no caption\n  and 2 more\n", "a.csv:6");
        assert!(text.contains(shown) && !text.contains(cut), "{text}");
        assert!(text.ends_with("9 examples checked: 1 error, 7 warnings; `--fix` mends 1"));
    }

    #[test]
    fn json_has_every_finding_at_its_place() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["rules"]["empty-caption"], 7);
        assert_eq!(json["findings"].as_array().unwrap().len(), 8);
        let first = &json["findings"][0];
        assert_eq!((&first["severity"], &first["fixable"]), (&"error".into(), &true.into()));
        assert_eq!((&json["findings"][1]["line"], &first["line"]), (&1.into(), &().into()));
    }
}
