//! `lora-eval check` on a run of 10,000 cells: `cargo bench --bench check`.
//!
//! Writes a made-up run (50 prompts in each of two groups, 10 seeds, 10 strengths) and judges it with
//! the built-in policy. Prints the seconds of each part and the peak of allocated memory.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::collections::BTreeMap;
use std::time::Instant;

use lora_eval::base::random::Random;
use lora_eval::check::{Case, Policy, judge};
use lora_eval::run::{
    AdapterRecord, BaseRecord, Cell, FORMAT, PlanRecord, Run, RunKind, RunRecord, cell_id,
    plan_hash,
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
    let measures = lora_eval::grid::measures(run.record(), &cells.cells.found).unwrap();
    let measured = start.elapsed().as_secs_f64();
    let policy = Policy::built_in().unwrap();
    let verdict = judge(&Case {
        path: run.path(),
        record: run.record(),
        cells: &cells,
        measures: &measures,
        policy: &policy,
        strength: None,
        baseline: None,
        approving: false,
        training: None,
    });
    let judged = start.elapsed().as_secs_f64();
    println!(
        "{number} cells: read {:.2} s, scored {:.2} s, judged {:.2} s, in all {:.2} s on {} threads; {:.0} MB at most\n{}",
        read,
        measured - read,
        judged - measured,
        judged,
        rayon::current_num_threads(),
        ALLOCATOR.peak_usage_as_mb(),
        verdict.unwrap().headline
    );
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
            prompts.push(json!({"id": id, "group": group, "prompt": "say", "references": [reference.join(" ")]}));
            for seed in 0..SEEDS {
                for strength in STRENGTHS {
                    let mut random = Random::new(offset + prompt * 100 + seed, "moves").at(0, 0, 0);
                    let share = if group == "base" { 0.02 * strength } else { 0.5 * strength };
                    let pick = |(own, other): (&&'static str, &&'static str)| {
                        if random.uniform() < share { *other } else { *own }
                    };
                    let output: Vec<&str> = own.iter().zip(&wanted).map(pick).collect();
                    let kl = 0.02 * strength * (1.0 + 0.1 * seed as f64);
                    cells.push(cell(&id, group, seed, strength, output.join(" "), kl));
                }
            }
        }
    }
    let ids: Vec<String> = cells.iter().map(|cell| cell.cell.clone()).collect();
    (record(&prompts, ids), cells)
}

fn record(prompts: &[Value], ids: Vec<String>) -> RunRecord {
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
        strengths: STRENGTHS.to_vec(),
        seeds: (0..SEEDS).collect(),
        axes: BTreeMap::new(),
        settings: BTreeMap::new(),
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        judges: BTreeMap::new(),
        max_batch: None,
        plan: PlanRecord { sha256: plan_hash(&ids), cells: ids },
    }
}

fn cell(id: &str, group: &str, seed: u64, strength: f64, output: String, kl: f64) -> Cell {
    let scores = [("kl", kl), ("nll", 90.0 + kl), ("scored-tokens", 45.0), ("repetition", 0.1)];
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
        scores: scores.map(|(name, score)| (name.to_owned(), score)).into(),
        seconds: 0.0,
    }
}
