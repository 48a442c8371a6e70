//! A verdict as `JUnit` XML: a suite for each strength, a case for each rule.

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::error::CheckError;
use super::words::strength as at;
use crate::run::verdict::{Answer, AtStrength, Outcome, RuleResult, Severity, Verdict};

/// The report. The first suite, `verdict`, has the answer as its one case. A broken rule fails only
/// where the answer is not *pass*: where a strength is recommended, others may be broken, and such a rule
/// is skipped, as open ones and broken ones of the severity `warn` are. Equal verdicts give equal bytes.
pub fn junit(verdict: &Verdict) -> Result<String, CheckError> {
    let mut report = Report::new("lora-eval check");
    let status = match verdict.verdict {
        Answer::Pass => TestCaseStatus::success(),
        Answer::Regression => failed(NonSuccessKind::Failure, "regression", &verdict.headline),
        Answer::Inconclusive => failed(NonSuccessKind::Error, "inconclusive", &verdict.headline),
    };
    let mut case = TestCase::new("verdict", status);
    case.set_classname("verdict");
    case.set_system_out(format!("{}\n{}", verdict.headline, verdict.reasons.join("\n")));
    let mut suite = TestSuite::new("verdict");
    suite.add_test_case(case);
    let subject = &verdict.subject;
    let mut put = |name: &str, value: &str| {
        suite.add_property(Property::new(name, value));
    };
    put("base", &subject.base);
    for (name, sha256) in &subject.adapters {
        put(&format!("adapter.{name}"), sha256);
    }
    put("suite", &subject.suite);
    put("policy", &verdict.policy.sha256);
    for (metric, signature) in &verdict.signatures {
        put(&format!("signature.{metric}"), signature);
    }
    report.add_test_suite(suite);
    for strength in &verdict.strengths {
        let name = format!("strength {}", at(strength.strength));
        let mut suite = TestSuite::new(name.as_str());
        for rule in &strength.rules {
            suite.add_test_case(case_of(verdict, strength, rule, &name));
        }
        report.add_test_suite(suite);
    }
    Ok(report.to_string()?)
}

fn case_of(verdict: &Verdict, strength: &AtStrength, rule: &RuleResult, suite: &str) -> TestCase {
    // where one strength is recommended, the others only tell why they are not
    let decides = rule.severity == Severity::Error
        && (verdict.verdict != Answer::Pass || verdict.recommended == Some(strength.strength));
    let status = match rule.outcome {
        Outcome::Fail if decides => failed(NonSuccessKind::Failure, "broken", &rule.sentence),
        Outcome::Pass => TestCaseStatus::success(),
        Outcome::Fail => skipped(&format!("does not decide here; {}", rule.sentence)),
        Outcome::Inconclusive | Outcome::NotApplicable => skipped(&rule.sentence),
    };
    let mut case = TestCase::new(rule.rule.as_str(), status);
    case.set_classname(suite);
    case.set_system_out(rule.sentence.as_str());
    case
}

fn skipped(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(message);
    status
}

fn failed(kind: NonSuccessKind, of: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(of).set_message(message);
    status
}
