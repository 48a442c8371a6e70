//! Whole verdicts of made-up runs: `cargo bench --bench check`.
//!
//! `speed` writes a run of 10,000 cells (50 prompts in each of two groups, 10 seeds, 10 strengths) and
//! judges it with the built-in policy: the seconds of each part and the peak of allocated memory.
//! `alarms` judges 1,000 runs each of an adapter that is noise: how often is it said to ship, how often
//! to be a regression? `power` does so for adapters of known gain and harm.
//! One part: `cargo bench --bench check -- speed`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use lora_eval::base::random::Random;
use lora_eval::check::{BUILT_IN, Case, Policy, judge};
use lora_eval::run::verdict::{Answer, Verdict};
use lora_eval::run::{
    AdapterRecord, BaseRecord, Cell, Cells, FORMAT, PlanRecord, Run, RunKind, RunRecord, Verified,
    cell_id, plan_hash,
};
use rayon::prelude::*;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

const PROMPTS: u64 = 50;
const SEEDS: u64 = 10;
const STRENGTHS: [f64; 10] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const WORDS: [&str; 8] = ["river", "stone", "quiet", "bridge", "colour", "winter", "of", "the"];

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let parts: [(&str, fn()); 3] = [("speed", speed), ("alarms", alarms), ("power", power)];
    let wanted = std::env::args().find(|argument| parts.iter().any(|(name, _)| name == argument));
    for (name, part) in parts {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            part();
        }
    }
}

fn speed() {
    let folder = tempfile::tempdir().unwrap();
    let (record, cells) = made();
    let (run, _) = Run::create(&folder.path().join("run"), &record).unwrap();
    cells.par_iter().for_each(|cell| assert!(run.write_cell(cell).unwrap()));
    let number = cells.len();
    drop(cells);
    ALLOCATOR.reset_peak_usage();
    let start = Instant::now();
    let run = Run::open(run.path()).unwrap();
    let cells = run.verified().unwrap();
    let read = start.elapsed().as_secs_f64();
    let verdict = verdict(run.record(), &cells, &Policy::built_in().unwrap(), None);
    let judged = start.elapsed().as_secs_f64();
    println!(
        "{number} cells: read {:.2} s, scored and judged {:.2} s, in all {:.2} s on {} threads; {:.0} MB at most\n{}",
        read,
        judged - read,
        judged,
        rayon::current_num_threads(),
        ALLOCATOR.peak_usage_as_mb(),
        verdict.headline
    );
}

fn verdict(
    record: &RunRecord,
    cells: &Verified,
    policy: &Policy,
    strength: Option<f64>,
) -> Verdict {
    let measures = lora_eval::grid::measures(record, &cells.cells.found).unwrap();
    judge(&Case {
        path: Path::new("run"),
        record,
        cells,
        measures: &measures,
        policy,
        strength,
        baseline: None,
        approving: false,
        training: None,
    })
    .unwrap()
}

const RUNS: u64 = 1000;

/// Margins of zero on everything that has a difference: what is true lies on every margin.
const ZERO: &str = "
version: 1
rules:
  - {id: effect, kind: effect}
  - {id: gain, kind: gain, metric: chrf, at_least: 0}
  - {id: perplexity, metric: perplexity, change: ratio, at_most: 1}
  - {id: repetition, metric: repetition, at_most: 0}
  - {id: leak, metric: chrf, at_least: 0}
";

/// The gain alone has a margin of zero; whatever else is asked for is kept by noise.
const GAIN: &str = "
version: 1
rules:
  - {id: gain, kind: gain, metric: chrf, at_least: 0}
  - {id: perplexity, metric: perplexity, change: ratio, at_most: 1.5}
";

/// What an adapter does, with full effect from strength 0.25 on.
#[derive(Debug, Clone, Copy)]
struct Adapter {
    /// How much likelier each word is the reference's on held-out prompts.
    gain: f64,
    /// How much less likely on base prompts.
    harm: f64,
    /// The share of the words on base prompts that are drawn anew; the others stay as they were.
    anew: f64,
}

/// Nothing but chance, and as much of it as between any two outputs.
const NOISE: Adapter = Adapter { gain: 0.0, harm: 0.0, anew: 1.0 };
const FEW_STRENGTHS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Shares of `verdicts` that ship and that are a regression.
fn shares(verdicts: &[Answer]) -> String {
    let share = |of: Answer| {
        let count = verdicts.iter().filter(|verdict| **verdict == of).count();
        100.0 * count as f64 / verdicts.len() as f64
    };
    format!("ship {:.1} %, regression {:.1} %", share(Answer::Pass), share(Answer::Regression))
}

fn alarms() {
    let policies = [("margins of zero", ZERO), ("gain of zero", GAIN), ("built-in", BUILT_IN)]
        .map(|(name, text)| (name, Policy::parse(Path::new(name), text).unwrap()));
    for prompts in [8, 20, 50] {
        for (name, policy) in &policies {
            for strength in [None, Some(1.0)] {
                let answers = (0..RUNS).into_par_iter().map(|seed| {
                    let (record, cells) = drawn(NOISE, prompts, seed);
                    verdict(&record, &cells, policy, strength).verdict
                });
                let answers: Vec<Answer> = answers.collect();
                let of = strength.map_or("any of four", |_| "one strength");
                println!("noise, {prompts} prompts, {name}, {of}: {}", shares(&answers));
            }
        }
    }
}

fn power() {
    let policy = Policy::built_in().unwrap();
    let gains = [(8, 0.36), (12, 0.24), (20, 0.18), (50, 0.13)];
    let gains = gains.map(|(prompts, gain)| (prompts, Adapter { gain, harm: 0.0, anew: 0.05 }));
    let harms = [(8, 0.14), (12, 0.115), (20, 0.085), (50, 0.06)];
    let harms = harms.map(|(prompts, harm)| (prompts, Adapter { gain: 0.3, harm, anew: 1.0 }));
    for (prompts, adapter) in gains.into_iter().chain(harms) {
        let judged = (0..RUNS).into_par_iter().map(|seed| {
            let (record, cells) = drawn(adapter, prompts, seed);
            let verdict = verdict(&record, &cells, &policy, Some(1.0));
            let rule = if adapter.harm > 0.0 { "leak-answers" } else { "gain-chrf" };
            let rules = verdict.strengths.iter().flat_map(|at| &at.rules);
            let effect = rules.filter(|judged| judged.rule == rule).find_map(|judged| judged.value);
            (verdict.verdict, effect.unwrap())
        });
        let (answers, effects): (Vec<Answer>, Vec<f64>) =
            judged.collect::<Vec<_>>().into_iter().unzip();
        let mean = effects.iter().sum::<f64>() / effects.len() as f64;
        let what = if adapter.harm > 0.0 { "base prompts" } else { "held-out prompts" };
        println!("{prompts} prompts, chrF of {what} by {mean:+.1}: {}", shares(&answers));
    }
}

/// A run of so many prompts in each group, a seed, five strengths. Each word of an output is the
/// reference's with a probability that belongs to the prompt, and is drawn anew at every strength.
fn drawn(adapter: Adapter, count: u64, seed: u64) -> (RunRecord, Verified) {
    let mut random = Random::new(seed, "drawn").at(0, 0, 0);
    let mut prompts: Vec<Value> = Vec::new();
    let mut found = Vec::new();
    for group in ["heldout", "base"] {
        for prompt in 0..count {
            let id = format!("{group}-{prompt}");
            let wanted: Vec<&str> = (0..30).map(|_| WORDS[random.below(WORDS.len())]).collect();
            prompts.push(json!({"id": id, "group": group, "prompt": format!("say {id}"), "references": [wanted.join(" ")]}));
            let right = if group == "base" { 0.97 } else { 0.2 + 0.4 * random.uniform() };
            let loss = 70.0 + 20.0 * random.uniform();
            let mut base: Option<Vec<&str>> = None;
            for strength in FEW_STRENGTHS {
                let on = f64::from(strength > 0.0);
                let moved = if group == "base" { -adapter.harm } else { adapter.gain };
                let mut word = |(place, wanted): (usize, &&'static str)| {
                    let own = base.as_ref().map(|base| base[place]);
                    if group == "base"
                        && random.uniform() >= adapter.anew
                        && let Some(own) = own
                    {
                        return own;
                    }
                    let kept = random.uniform() < right + on * moved;
                    if kept { *wanted } else { WORDS[random.below(WORDS.len())] }
                };
                let output: Vec<&str> = wanted.iter().enumerate().map(&mut word).collect();
                base.get_or_insert_with(|| output.clone());
                let harm = if group == "base" { adapter.harm } else { 0.0 };
                let noise = adapter.anew.sqrt() * random.normal();
                let scores = [
                    ("kl", on * (0.01 + harm) * -random.uniform().ln()),
                    ("nll", loss * (1.0 + on * 0.5 * harm) + 1.5 * noise),
                    ("repetition", 0.1 + 0.02 * random.normal()),
                ];
                found.push(cell(&id, group, 0, strength, output.join(" "), scores));
            }
        }
    }
    let ids: Vec<String> = found.iter().map(|cell| cell.cell.clone()).collect();
    let cells = Cells { found, missing: Vec::new(), extra: Vec::new() };
    let verified = Verified { cells, unsealed: 0, sha256: String::new() };
    (record(&prompts, ids, &FEW_STRENGTHS, 1), verified)
}

/// A run of an adapter that gains with its strength and hardly changes the base.
fn made() -> (RunRecord, Vec<Cell>) {
    let mut prompts: Vec<Value> = Vec::new();
    let mut cells = Vec::new();
    for (group, offset) in [("heldout", 0), ("base", 1_000_000)] {
        for prompt in 0..PROMPTS {
            let id = format!("{group}-{prompt}");
            let text = |stream: u64| -> Vec<&str> {
                let mut random = Random::new(stream, "bench").at(0, 0, 0);
                (0..40).map(|_| WORDS[random.below(WORDS.len())]).collect()
            };
            let (own, wanted) = (text(offset + prompt), text(offset + prompt + 500));
            let reference = if group == "base" { &own } else { &wanted };
            prompts.push(json!({"id": id, "group": group, "prompt": format!("say {id}"), "references": [reference.join(" ")]}));
            for seed in 0..SEEDS {
                for strength in STRENGTHS {
                    let mut random = Random::new(offset + prompt * 100 + seed, "moves").at(0, 0, 0);
                    let share = if group == "base" { 0.02 * strength } else { 0.5 * strength };
                    let pick = |(own, other): (&&'static str, &&'static str)| {
                        if random.uniform() < share { *other } else { *own }
                    };
                    let output: Vec<&str> = own.iter().zip(&wanted).map(pick).collect();
                    let kl = 0.02 * strength * (1.0 + 0.1 * seed as f64);
                    let scores = [("kl", kl), ("nll", 90.0 + kl), ("repetition", 0.1)];
                    cells.push(cell(&id, group, seed, strength, output.join(" "), scores));
                }
            }
        }
    }
    let ids: Vec<String> = cells.iter().map(|cell| cell.cell.clone()).collect();
    (record(&prompts, ids, &STRENGTHS, SEEDS), cells)
}

fn record(prompts: &[Value], ids: Vec<String>, strengths: &[f64], seeds: u64) -> RunRecord {
    RunRecord {
        format: FORMAT,
        program: "lora-eval".to_owned(),
        kind: RunKind::Text,
        created: "2026-01-01T00:00:00Z".to_owned(),
        suite: json!({"name": "bench", "prompts": prompts}),
        suite_sha256: "5".repeat(64),
        base: BaseRecord {
            name: "base".to_owned(),
            description: String::new(),
            sha256: "b".repeat(64),
            vae: None,
        },
        adapters: vec![AdapterRecord {
            name: "a".to_owned(),
            path: "a.safetensors".to_owned(),
            sha256: "a".repeat(64),
            kinds: BTreeMap::new(),
            ranks: BTreeMap::new(),
            matched: 1,
            unmatched: Vec::new(),
            delta_norm: None,
        }],
        strengths: strengths.to_vec(),
        seeds: (0..seeds).collect(),
        axes: BTreeMap::new(),
        settings: BTreeMap::new(),
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        judges: BTreeMap::new(),
        max_batch: None,
        plan: PlanRecord { sha256: plan_hash(&ids), cells: ids },
    }
}

fn cell(
    id: &str,
    group: &str,
    seed: u64,
    strength: f64,
    output: String,
    scores: [(&str, f64); 3],
) -> Cell {
    let scores = scores.into_iter().chain([("scored-tokens", 45.0)]);
    Cell {
        cell: cell_id(&json!([id, seed, strength])),
        prompt_id: id.to_owned(),
        group: group.to_owned(),
        prompt: "say".to_owned(),
        strength,
        adapters: Vec::new(),
        axes: BTreeMap::new(),
        seed,
        output,
        finish: None,
        prompt_tokens: None,
        tokens: None,
        truncated: 0,
        batch: None,
        features: BTreeMap::new(),
        scores: scores.map(|(name, score)| (name.to_owned(), score)).collect(),
        seconds: 0.0,
    }
}
