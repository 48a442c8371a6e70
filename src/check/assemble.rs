//! A verdict out of its parts.

use std::collections::BTreeMap;

use super::Case;
use super::decide::{Strength, nearest, recommend, safe_around};
use super::pairs::Pairs;
use super::policy::Bound;
use super::reasons;
use super::rule::Judged;
use super::worst::worst;
use crate::run::Better;
use crate::run::verdict::{
    Answer, AtStrength, Evidence, Interval, Measured, Nearest, Outcome, PolicyUsed, RuleKind,
    Subject, VERDICT_FORMAT, Verdict,
};
use crate::stats::{Change, SEED};

/// What a verdict is made of.
pub(super) struct Parts<'a, 'p> {
    pub case: &'p Case<'a>,
    pub pairs: &'p Pairs<'a>,
    pub strengths: &'p [Strength<'a>],
    pub answer: Answer,
    /// How many resamples.
    pub trials: usize,
}

impl<'a, 'p> Parts<'a, 'p> {
    /// The strength that is recommended, or the nearest one.
    pub fn focus(&self) -> Option<&'p Strength<'a>> {
        let index = recommend(self.strengths, self.case.policy).or_else(|| nearest(self.strengths));
        self.strengths.get(index?)
    }
}

/// Puts everything together.
pub(super) fn verdict(parts: &Parts<'_, '_>) -> Verdict {
    let Parts { case, strengths, answer, .. } = parts;
    let best = recommend(strengths, case.policy);
    let near = if best.is_none() { nearest(strengths) } else { None };
    let mut verdict = Verdict {
        format: VERDICT_FORMAT,
        program: concat!("lora-eval ", env!("CARGO_PKG_VERSION")).to_owned(),
        verdict: *answer,
        headline: String::new(),
        reasons: Vec::new(),
        asked: case.strength,
        recommended: best.and_then(|best| Some(strengths.get(best)?.strength)),
        safe: best
            .and_then(|best| safe_around(strengths, best))
            .map(|(low, high)| Interval { low, high }),
        nearest: near.and_then(|near| strengths.get(near)).map(|strength| {
            let at = at_strength(strength);
            let own = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect();
            Nearest { strength: strength.strength, broken: own(at.broken()), open: own(at.open()) }
        }),
        strengths: strengths.iter().map(at_strength).collect(),
        evidence: evidence(parts),
        worst: worst(parts),
        notes: reasons::notes(parts),
        policy: PolicyUsed {
            name: case.policy.path.display().to_string(),
            sha256: case.policy.sha256.clone(),
            confidence: case.policy.confidence,
            method: "paired by prompt and seed, clustered by prompt; one-sided bounds: the widest of BCa (stretched), Student's t and, of levels, one unseen prompt; Holm over the strengths' gains and a fixed sequence over their guards (pass), Holm over rules (regression)".to_owned(),
            resamples: parts.trials,
            seed: SEED,
        },
        baseline: case.baseline.map(super::Approval::used),
        subject: subject(case),
        signatures: signatures(strengths),
    };
    verdict.headline = reasons::headline(parts, &verdict);
    verdict.reasons = reasons::reasons(parts);
    verdict
}

fn at_strength(strength: &Strength<'_>) -> AtStrength {
    let judged = strength.rules.iter().any(|judged| judged.result.p_kept.is_some());
    AtStrength {
        strength: strength.strength,
        verdict: strength.verdict,
        safe: strength.safe,
        p: judged.then_some(strength.p),
        adjusted_p: judged.then_some(strength.adjusted_p),
        wins: strength.wins,
        gain: strength.gain().and_then(measured),
        damage: strength.damage().and_then(measured),
        rules: strength.rules.iter().map(|judged| judged.result.clone()).collect(),
    }
}

fn measured(judged: &Judged<'_>) -> Option<Measured> {
    let measure = judged.measure?;
    let turned = judged.rule.kind == RuleKind::Gain && judged.rule.change != Change::Level;
    Some(Measured {
        rule: judged.rule.id.clone(),
        metric: measure.metric.clone(),
        label: measure.label.clone(),
        unit: if judged.rule.change == Change::Ratio {
            "×".to_owned()
        } else {
            measure.unit.clone()
        },
        better: match judged.rule.bound {
            _ if turned => Better::Higher,
            Bound::AtMost(_) => Better::Lower,
            Bound::AtLeast(_) | Bound::None => Better::Higher,
        },
        value: judged.result.value?,
        low: judged.result.low,
        high: judged.result.high,
    })
}

fn evidence(parts: &Parts<'_, '_>) -> Evidence {
    let (pairs, prompts) = parts.pairs.counts();
    let mut further: BTreeMap<String, usize> = BTreeMap::new();
    if parts.answer == Answer::Inconclusive {
        let open = parts.focus().into_iter().flat_map(Strength::deciding);
        let open = open.filter(|judged| judged.result.outcome == Outcome::Inconclusive);
        let open: Vec<_> = open.collect();
        // a rule that more prompts would not settle keeps the whole open
        let all = open.iter().all(|judged| judged.result.further_prompts.is_some());
        for judged in open.into_iter().filter(|_| all) {
            if let (Some(group), Some(more)) = (&judged.rule.group, judged.result.further_prompts) {
                let most = further.entry(group.clone()).or_default();
                *most = more.max(*most);
            }
        }
    }
    Evidence { cells: parts.pairs.cells.len(), pairs, prompts, further_prompts: further }
}

fn subject(case: &Case<'_>) -> Subject {
    let record = case.record;
    let adapters = record.adapters.iter().map(|a| (a.name.clone(), a.sha256.clone()));
    Subject {
        run: case.path.display().to_string(),
        base: record.base.sha256.clone(),
        adapters: adapters.collect(),
        suite: record.suite_sha256.clone(),
        plan: record.plan.sha256.clone(),
        cells: case.cells.sha256.clone(),
    }
}

fn signatures(strengths: &[Strength<'_>]) -> BTreeMap<String, String> {
    let measures = strengths.iter().flat_map(|strength| &strength.rules);
    let measures = measures.filter_map(|judged| judged.measure);
    measures.map(|measure| (measure.metric.clone(), measure.signature.clone())).collect()
}
