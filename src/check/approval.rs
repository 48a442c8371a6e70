//! An approval: a small file to review and to commit, bound by hashes to what was approved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CheckError;
use super::pairs::{Pairs, Scope};
use super::policy::Policy;
use crate::base::terminal::printable;
use crate::metric::Measure;
use crate::run::verdict::{Answer, BaselineUsed};
use crate::run::{RunRecord, Verdict, canonical_json, cell_id};
use crate::stats::{Statistic as _, Width};

/// Version of the file's layout.
const FORMAT: u32 = 1;

/// Something by metric and group.
type Scores<T> = BTreeMap<String, BTreeMap<String, T>>;

/// An approval and where it was read.
#[derive(Debug, Clone)]
pub struct Approval {
    path: PathBuf,
    file: File,
}

/// Who approves what, and why.
#[derive(Debug, Clone)]
pub struct Approving<'a> {
    /// Who.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
    /// When, RFC 3339.
    pub when: &'a str,
    /// The strength.
    pub strength: f64,
}

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    program: String,
    by: String,
    reason: String,
    when: String,
    /// What `check` said of the run.
    verdict: Answer,
    strength: f64,
    base: String,
    adapters: BTreeMap<String, String>,
    suite: String,
    policy: String,
    /// For readers.
    scores: Scores<f64>,
    signatures: BTreeMap<String, String>,
    /// Each prompt's sums, which runs are compared with.
    sums: Scores<BTreeMap<String, Vec<f64>>>,
    /// Hash of all of the above.
    seal: String,
}

impl Approval {
    /// Reads a file and checks its seal.
    pub fn open(path: &Path) -> Result<Self, CheckError> {
        const ANEW: &str =
            "restore the file from version control, or approve a run anew with `--approve`";
        let wrong = |problem| CheckError::Baseline { path: path.to_owned(), problem, hint: ANEW };
        let text = std::fs::read_to_string(path).map_err(|e| CheckError::read(path, e))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        match value.get("format").and_then(Value::as_u64) {
            Some(found) if found > u64::from(FORMAT) => {
                return Err(wrong(format!(
                    "format {found} is newer than this program's, {FORMAT}"
                )));
            }
            Some(1..) => {}
            _ => return Err(wrong("it is no approval: it has no `format`".to_owned())),
        }
        let seal = seal(&value);
        let file: File = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
        if file.seal != seal {
            return Err(wrong(
                "it was edited after it was written: its seal does not fit".to_owned(),
            ));
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Refuses to compare with what was approved of something else.
    pub(super) fn fits(&self, record: &RunRecord, measures: &[Measure]) -> Result<(), CheckError> {
        let file = &self.file;
        let expired = |what: &str, approved: &str, found: &str| {
            let short = |text: &str| printable(text.get(..12).unwrap_or(text)).into_owned();
            CheckError::Expired {
                path: self.path.clone(),
                what: what.to_owned(),
                by: file.by.clone(),
                approved: short(approved),
                found: short(found),
            }
        };
        if file.suite != record.suite_sha256 {
            return Err(expired("suite", &file.suite, &record.suite_sha256));
        }
        if file.base != record.base.sha256 {
            return Err(expired("base", &file.base, &record.base.sha256));
        }
        for measure in measures {
            match file.signatures.get(&measure.metric) {
                Some(approved) if *approved != measure.signature => {
                    let what = format!("metric `{}`", measure.metric);
                    return Err(expired(&what, approved, &measure.signature));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a metric of a group was approved.
    pub(super) fn has(&self, metric: &str, group: &str) -> bool {
        self.file.sums.get(metric).is_some_and(|groups| groups.contains_key(group))
    }

    /// A prompt's approved sums.
    pub(super) fn row(&self, metric: &str, group: &str, prompt: &str) -> Option<&Vec<f64>> {
        self.file.sums.get(metric)?.get(group)?.get(prompt)
    }

    /// What a verdict says of it.
    pub(super) fn used(&self) -> BaselineUsed {
        BaselineUsed {
            path: self.path.display().to_string(),
            sha256: self.file.seal.clone(),
            by: self.file.by.clone(),
            reason: self.file.reason.clone(),
            strength: self.file.strength,
        }
    }
}

/// The text of an approval of one strength: every metric that the policy names, by prompt.
pub(super) fn write(
    pairs: &Pairs<'_>,
    policy: &Policy,
    verdict: &Verdict,
    approving: &Approving<'_>,
) -> Result<String, CheckError> {
    let record = pairs.record;
    let known = record.strengths.iter().position(|s| *s == approving.strength);
    let place = known.ok_or(CheckError::NothingToApprove)?;
    let (mut sums, mut scores, mut signatures) = (Scores::new(), Scores::new(), BTreeMap::new());
    for rule in &policy.rules {
        let (Some(measure), Some(group)) = (pairs.measure(&rule.metric), &rule.group) else {
            continue;
        };
        let all = BTreeMap::new();
        let scope = Scope { group: Some(group.as_str()), axes: &all };
        let clusters = pairs.clusters(measure, scope, place);
        if clusters.prompts.is_empty() {
            continue;
        }
        let score = measure.combine.score_of(&clusters.candidate.sums(), Width::Double);
        let rows = clusters.prompts.iter().zip(clusters.candidate.rows());
        let rows = rows.map(|(prompt, row)| ((*prompt).to_owned(), row.to_vec())).collect();
        let metric = measure.metric.clone();
        sums.entry(metric.clone()).or_insert_with(BTreeMap::new).insert(group.clone(), rows);
        scores.entry(metric.clone()).or_insert_with(BTreeMap::new).insert(group.clone(), score);
        signatures.insert(metric, measure.signature.clone());
    }
    let file = File {
        format: FORMAT,
        program: verdict.program.clone(),
        by: approving.by.to_owned(),
        reason: approving.reason.to_owned(),
        when: approving.when.to_owned(),
        verdict: verdict.verdict,
        strength: approving.strength,
        base: record.base.sha256.clone(),
        adapters: verdict.subject.adapters.clone(),
        suite: record.suite_sha256.clone(),
        policy: policy.sha256.clone(),
        scores,
        signatures,
        sums,
        seal: String::new(),
    };
    let mut value = serde_json::to_value(&file).unwrap_or_default();
    let seal = seal(&value);
    if let Value::Object(map) = &mut value {
        map.insert("seal".to_owned(), seal.into());
    }
    let mut text = String::new();
    lay_out(&value, 0, &mut text);
    text.push('\n');
    Ok(text)
}

/// The hash of everything but the seal.
fn seal(value: &Value) -> String {
    let mut value = value.clone();
    if let Value::Object(map) = &mut value {
        map.shift_remove("seal");
    }
    cell_id(&value)
}

/// JSON with a line for each entry of an object and a list in one line, so that a change of one prompt
/// is a change of one line.
fn lay_out(value: &Value, depth: usize, out: &mut String) {
    let Value::Object(map) = value else {
        out.push_str(&match value {
            Value::Array(_) => canonical_json(value).replace(',', ", "),
            other => other.to_string(),
        });
        return;
    };
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        out.push_str(if index > 0 { ",\n" } else { "\n" });
        out.push_str(&"  ".repeat(depth + 1));
        out.push_str(&Value::from(key.as_str()).to_string());
        out.push_str(": ");
        lay_out(value, depth + 1, out);
    }
    if !map.is_empty() {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
    out.push('}');
}
