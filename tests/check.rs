//! `check` through the program, on run directories made for it: each kind of adapter gets its exit
//! code, and what cannot be trusted is an error and never a pass.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lora_eval::base::random::{Draws, Random};
use lora_eval::run::{
    AdapterAt, AdapterRecord, BaseRecord, Cell, FORMAT, PlanRecord, Run, RunKind, RunRecord,
    Verdict, cell_id, plan_hash,
};
use serde_json::{Value, json};
use tempfile::TempDir;

// ---------------------------------------------------------------------------------------------
// Runs

/// What an adapter does at one strength: shares of words, from 0 to 1.
#[derive(Clone, Copy)]
struct Does {
    /// Words of held-out answers that come from the reference instead of from the base.
    gain: f64,
    /// Words of answers to base prompts that change.
    damage: f64,
    /// Nats per token on base prompts.
    kl: f64,
}

/// A run to be written.
#[derive(Clone)]
struct Plan {
    strengths: Vec<f64>,
    prompts: usize,
    seeds: Vec<u64>,
    does: fn(f64) -> Does,
    matched: usize,
}

impl Plan {
    fn new(does: fn(f64) -> Does) -> Self {
        Self {
            strengths: vec![0.0, 0.4, 0.8, 1.2],
            prompts: 24,
            seeds: vec![1, 2],
            does,
            matched: 4,
        }
    }
}

const WORDS: [&str; 24] = [
    "river", "stone", "quiet", "bridge", "colour", "winter", "garden", "letter", "window",
    "market", "silver", "candle", "harbour", "morning", "shadow", "kitchen", "meadow", "thunder",
    "paper", "forest", "mirror", "ladder", "ribbon", "copper",
];

fn draws(stream: u64) -> Draws {
    Random::new(stream, "check").at(0, 0, 0)
}

fn words(random: &mut Draws, n: usize) -> Vec<&'static str> {
    (0..n).map(|_| WORDS[random.below(WORDS.len())]).collect()
}

/// `text` with a share of its words taken from `other`.
fn mixed(random: &mut Draws, text: &[&'static str], other: &[&'static str], share: f64) -> String {
    let pick = |(own, other): (&&'static str, &&'static str)| {
        if random.uniform() < share { *other } else { *own }
    };
    text.iter().zip(other).map(pick).collect::<Vec<_>>().join(" ")
}

/// Writes the run and gives its folder.
fn write(plan: &Plan) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut prompts = Vec::new();
    let mut cells = Vec::new();
    for (group, number) in [("heldout", 0_u64), ("base", 1)] {
        for index in 0..plan.prompts {
            let id = format!("{group}-{index:02}");
            let mut random = draws(number * 1000 + index as u64);
            let (own, reference) = (words(&mut random, 12), words(&mut random, 12));
            let wanted = if group == "base" { &own } else { &reference };
            prompts.push(json!({
                "id": id, "group": group, "prompt": format!("say {index}"), "references": [wanted.join(" ")],
            }));
            for seed in &plan.seeds {
                let noise = draws(number * 1000 + index as u64 + 100_000 * seed).uniform();
                for strength in &plan.strengths {
                    let none = Does { gain: 0.0, damage: 0.0, kl: 0.0 };
                    let does = if *strength == 0.0 { none } else { (plan.does)(*strength) };
                    // the same draws at each strength: words that moved stay moved
                    let mut random = draws(number * 1000 + index as u64 + 100_000 * seed + 7);
                    let other = words(&mut draws(number * 31 + index as u64 + 9000 * seed), 12);
                    let (to, share) = if group == "base" {
                        (&other, does.damage)
                    } else {
                        (&reference, does.gain)
                    };
                    let text = mixed(&mut random, &own, to, share);
                    let kl = does.kl * (0.7 + 0.6 * noise);
                    cells.push(cell(&id, group, *seed, *strength, text, kl));
                }
            }
        }
    }
    let ids: Vec<String> = cells.iter().map(|cell| cell.cell.clone()).collect();
    let record = RunRecord {
        format: FORMAT,
        program: "lora-eval 0.1.0".to_owned(),
        kind: RunKind::Text,
        created: "2026-01-01T00:00:00Z".to_owned(),
        suite: json!({"name": "made", "prompts": prompts}),
        suite_sha256: "5".repeat(64),
        base: BaseRecord {
            name: "demo:text".to_owned(),
            description: "LlamaForCausalLM".to_owned(),
            sha256: "b".repeat(64),
            vae: None,
        },
        adapters: vec![AdapterRecord {
            name: "house".to_owned(),
            path: "house.safetensors".to_owned(),
            sha256: "a".repeat(64),
            kinds: BTreeMap::from([("LoRA".to_owned(), 4)]),
            ranks: BTreeMap::from([(8, 4)]),
            matched: plan.matched,
            unmatched: (plan.matched..4).map(|n| format!("layers.{n}")).collect(),
            delta_norm: None,
        }],
        strengths: plan.strengths.clone(),
        seeds: plan.seeds.clone(),
        axes: BTreeMap::new(),
        settings: BTreeMap::new(),
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        judges: BTreeMap::new(),
        max_batch: None,
        plan: PlanRecord { sha256: plan_hash(&ids), cells: ids },
    };
    let (run, _) = Run::create(&path, &record).unwrap();
    for cell in &cells {
        assert!(run.write_cell(cell).unwrap());
    }
    (folder, path)
}

fn cell(id: &str, group: &str, seed: u64, strength: f64, output: String, kl: f64) -> Cell {
    let tokens = 16.0;
    let nll = 2.0 * tokens + kl * tokens * 0.1;
    let own = [("repetition", 0.0), ("distinct-2", 1.0)];
    let scores = [("kl", kl), ("nll", nll), ("scored-tokens", tokens)].into_iter().chain(own);
    Cell {
        cell: cell_id(&json!([id, seed, strength])),
        prompt_id: id.to_owned(),
        group: group.to_owned(),
        prompt: "say".to_owned(),
        strength,
        adapters: vec![AdapterAt {
            name: "house".to_owned(),
            strength,
            text_encoder: None,
            blocks: Vec::new(),
        }],
        axes: BTreeMap::new(),
        seed,
        output,
        finish: Some("eos".to_owned()),
        prompt_tokens: Some(3),
        tokens: Some(16),
        truncated: 0,
        batch: None,
        features: BTreeMap::new(),
        scores: scores.map(|(name, score)| (name.to_owned(), score)).collect(),
        seconds: 0.25,
    }
}

fn good(strength: f64) -> Does {
    Does { gain: (strength * 0.6).min(0.7), damage: 0.005 * strength, kl: 0.01 * strength }
}

fn damaging(strength: f64) -> Does {
    Does { gain: (strength * 0.6).min(0.7), damage: (strength * 2.0).min(1.0), kl: 2.0 * strength }
}

/// It leaves the base alone up to 0.6, and breaks it at once above.
fn good_at_06(strength: f64) -> Does {
    let broken = strength > 0.7;
    Does {
        gain: (strength * 0.9).min(0.6),
        damage: if broken { 0.9 } else { 0.004 },
        kl: if broken { 3.0 } else { 0.02 },
    }
}

// ---------------------------------------------------------------------------------------------
// The program

fn check(run: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    command.env("NO_COLOR", "1").arg("check").arg(run).args(arguments).output().unwrap()
}

/// Runs, and gives the exit code, standard output and standard error.
fn told(run: &Path, arguments: &[&str]) -> (i32, String, String) {
    let out = check(run, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(run.to_str().unwrap(), "RUN");
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

/// The verdict, which is on standard output and in the run alike.
fn verdict(run: &Path, code: i32, arguments: &[&str]) -> Verdict {
    let (found, stdout, stderr) = told(run, &[arguments, &["--json"]].concat());
    assert_eq!(found, code, "{stdout}{stderr}");
    let out = check(run, &[arguments, &["--json"]].concat());
    let printed: Verdict = serde_json::from_slice(&out.stdout).unwrap();
    let written: Verdict =
        serde_json::from_slice(&fs::read(run.join("verdict.json")).unwrap()).unwrap();
    assert_eq!(printed, written);
    printed
}

/// Standard error of what must fail with exit code 1 and leave no verdict.
fn refused(run: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = told(run, arguments);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("hint: ") && !run.join("verdict.json").exists(), "{stderr}");
    stderr
}

// ---------------------------------------------------------------------------------------------
// Adapters

#[test]
fn a_good_adapter_ships() {
    let (_folder, run) = write(&Plan::new(good));
    let verdict = verdict(&run, 0, &[]);
    assert_eq!(verdict.recommended, Some(1.2), "{}", verdict.headline);
    assert_eq!(verdict.headline, "SHIP at 1.2 (safe 0.4–1.2)");
    let (code, stdout, _) = told(&run, &[]);
    assert_eq!(code, 0);
    insta::assert_snapshot!("a_good_adapter", stdout);
}

#[test]
fn an_adapter_that_damages_the_base_does_not_ship() {
    let (_folder, run) = write(&Plan::new(damaging));
    let (code, stdout, _) = told(&run, &[]);
    assert_eq!(code, 3, "{stdout}");
    assert!(stdout.starts_with("DO NOT SHIP: ") && stdout.contains("`base-kl`"), "{stdout}");
    insta::assert_snapshot!("an_adapter_that_damages", stdout);
}

#[test]
fn an_adapter_that_leaks_does_not_ship() {
    let leaks = |strength: f64| Does { gain: 0.6, damage: 0.6 * strength.min(1.0), kl: 0.05 };
    let (_folder, run) = write(&Plan::new(leaks));
    let verdict = verdict(&run, 3, &[]);
    let nearest = verdict.nearest.unwrap();
    assert!(nearest.broken.iter().any(|rule| rule == "leak-answers"), "{:?}", nearest.broken);
}

#[test]
fn a_dead_adapter_does_not_ship_and_the_reason_is_told() {
    let dead = |_: f64| Does { gain: 0.0, damage: 0.0, kl: 0.0 };
    let (_folder, run) = write(&Plan::new(dead));
    let verdict = verdict(&run, 3, &[]);
    assert_eq!(
        verdict.headline,
        "DO NOT SHIP: the adapter has no effect; every output equals the base's (96 pairs)"
    );
}

#[test]
fn an_adapter_that_fits_nothing_is_an_error() {
    let (_folder, run) = write(&Plan { matched: 0, ..Plan::new(good) });
    let error = refused(&run, &[]);
    assert!(error.contains("adapter `house` does not fit the base: 0 of 4 modules"), "{error}");
}

#[test]
fn few_prompts_are_inconclusive_and_say_how_many_more() {
    let (_folder, run) = write(&Plan { prompts: 4, ..Plan::new(good) });
    let verdict = verdict(&run, 4, &[]);
    assert!(verdict.headline.starts_with("INCONCLUSIVE: too few prompts"), "{}", verdict.headline);
    assert!(verdict.evidence.further_prompts.values().all(|more| *more >= 4));
    assert_eq!(told(&run, &["--allow-inconclusive"]).0, 0);
}

#[test]
fn an_adapter_that_breaks_above_06_is_recommended_there() {
    let strengths = vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    let (_folder, run) = write(&Plan { strengths, ..Plan::new(good_at_06) });
    let all = verdict(&run, 0, &[]);
    let best = all.recommended.unwrap();
    assert!((0.5..=0.7).contains(&best), "{best}");
    assert!(all.safe.unwrap().high < 0.7);
    let one = verdict(&run, 3, &["--strength", "1"]);
    assert!(one.headline.starts_with("DO NOT SHIP: strength 1 breaks"), "{}", one.headline);
    assert_eq!(verdict(&run, 0, &["--strength", "0.6"]).recommended, Some(0.6));
    assert!(told(&run, &["--strength", "0.7"]).2.contains("the run has no strength 0.7"));
}

#[test]
fn harmless_and_too_weak_is_no_regression() {
    let weak = |strength: f64| Does { gain: 0.004 * strength, damage: 0.0, kl: 0.001 };
    let (_folder, run) = write(&Plan::new(weak));
    let verdict = verdict(&run, 4, &[]);
    assert!(verdict.recommended.is_none(), "{}", verdict.headline);
}

#[test]
fn a_verdict_is_the_same_on_any_number_of_threads() {
    let (_folder, run) = write(&Plan::new(good));
    let one = check(&run, &["--json", "--threads", "1"]).stdout;
    assert_eq!(one, check(&run, &["--json", "--threads", "3"]).stdout);
}

// ---------------------------------------------------------------------------------------------
// Runs that cannot be trusted

/// The file of some cell.
fn some_cell(run: &Path) -> PathBuf {
    let record = Run::open(run).unwrap();
    let id = record.record().plan.cells[5].clone();
    run.join("cells").join(&id[..2]).join(format!("{id}.json"))
}

/// What `check` says of a run that was changed.
fn after(change: impl Fn(&Path)) -> String {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    change(&run);
    refused(&run, &[])
}

fn edit(path: &Path, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let changed = change(&text);
    assert_ne!(text, changed);
    fs::write(path, changed).unwrap();
}

#[test]
fn what_cannot_be_trusted_is_an_error_that_says_what() {
    let missing = after(|run| fs::remove_file(some_cell(run)).unwrap());
    assert!(missing.contains("1 of 128 cells are missing"), "{missing}");
    assert!(missing.contains("lora-eval grid SUITE --base demo:text"), "{missing}");
    let torn = after(|run| edit(&some_cell(run), |text| text[..text.len() / 2].to_owned()));
    assert!(torn.contains("it is cut off"), "{torn}");
    let output =
        after(|run| edit(&some_cell(run), |text| text.replace("\"output\":\"", "\"output\":\"x")));
    assert!(output.contains("it was edited after it was written"), "{output}");
    let score = after(|run| edit(&some_cell(run), |text| text.replace("\"nll\":3", "\"nll\":2")));
    assert!(score.contains("it was edited after it was written"), "{score}");
    let nan = after(|run| {
        edit(&some_cell(run), |text| text.replace("\"repetition\":0.0", "\"repetition\":NaN"));
    });
    assert!(nan.contains("damaged"), "{nan}");
    let null = after(|run| {
        edit(&some_cell(run), |text| text.replace("\"repetition\":0.0", "\"repetition\":null"));
    });
    assert!(null.contains("damaged"), "{null}");
    let huge = after(|run| {
        edit(&some_cell(run), |text| text.replace("\"repetition\":0.0", "\"repetition\":1e999"));
    });
    assert!(huge.contains("damaged"), "{huge}");
    let newer = after(|run| {
        edit(&run.join("run.json"), |text| text.replace("\"format\": 1", "\"format\": 2"));
    });
    assert!(newer.contains("format 2 is newer"), "{newer}");
    let reference = after(|run| {
        edit(&run.join("run.json"), |text| {
            text.replacen("\"references\": [\n          \"", "\"references\": [\n          \"x", 1)
        });
    });
    assert!(reference.contains("run.json: damaged: it was edited"), "{reference}");
    let plan = after(|run| {
        edit(&run.join("run.json"), |text| text.replacen("\"sha256\": \"", "\"sha256\": \"0", 4));
    });
    assert!(plan.contains("damaged"), "{plan}");
    let exchanged = after(|run| {
        let record = Run::open(run).unwrap();
        let ids = &record.record().plan.cells;
        let path = |id: &str| run.join("cells").join(&id[..2]).join(format!("{id}.json"));
        fs::copy(path(&ids[0]), path(&ids[1])).unwrap();
    });
    assert!(exchanged.contains("it holds cell"), "{exchanged}");
    let bare = after(|run| {
        edit(&some_cell(run), |text| {
            let mut cell: Value = serde_json::from_str(text).unwrap();
            cell.as_object_mut().unwrap().remove("seal").unwrap();
            format!("{cell}\n")
        });
    });
    assert!(bare.contains("it has lost its seal"), "{bare}");
    let none = after(|run| fs::remove_file(run.join("run.json")).unwrap());
    assert!(none.contains("not a run"), "{none}");
}

/// A run of which cells were written, seal and all, by another hand.
fn rewritten(change: impl Fn(&mut Cell)) -> String {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    let path = some_cell(&run);
    let mut cell: Cell = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut cell);
    fs::remove_file(&path).unwrap();
    Run::open(&run).unwrap().write_cell(&cell).unwrap();
    refused(&run, &[])
}

#[test]
fn cells_that_do_not_belong_where_they_say_are_errors() {
    for (change, said) in [
        (
            (|cell| cell.group = "base".to_owned()) as fn(&mut Cell),
            "its group is `base`: expected `heldout`",
        ),
        (|cell| cell.prompt_id = "nobody".to_owned(), "its prompt `nobody` is not in the suite"),
        (|cell| cell.strength = 7.0, "its strength 7 is none of the run's"),
        (|cell| cell.seed = 9, "its seed 9 is none of the run's"),
        (|cell| cell.strength = 0.8, "another cell has the same prompt, seed, strength and axes"),
        (
            |cell| assert!(cell.scores.remove("kl").is_some()),
            "it has no `kl`, which others of its pair have",
        ),
    ] {
        let error = rewritten(change);
        assert!(error.contains(said), "{said}: {error}");
    }
}

// ---------------------------------------------------------------------------------------------
// Policies

fn policy(run: &Path, text: &str) -> String {
    let path = run.join("../policy.yaml");
    fs::write(&path, text).unwrap();
    let (code, _, stderr) = told(run, &["--policy", path.to_str().unwrap()]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");
    stderr.rsplit_once("policy.yaml").map_or(stderr.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_at_its_line() {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    let texts = [
        "rules: []\n",
        "rules:\n  - {id: a, metrc: kl, at_most: 1}\n",
        "rules:\n  - {id: a, metric: kl}\n",
        "rules:\n  - {id: a, metric: kl, at_most: 1}\n  - {id: a, metric: kl, at_most: 1}\n",
        "rules:\n  - {id: a, metric: kl, at_most: x}\n",
        "rules:\n  - {id: a, metric: kl, at_most: 1, at_least: 0}\n",
        "rules:\n  - {id: a, kind: efect}\n",
        "confidence: 2\nrules:\n  - {id: a, metric: kl, at_most: 1}\n",
        "rules:\n  - {id: a, metric: kll, at_most: 1}\n",
        "rules:\n  - {id: a, metric: kl, group: nobody, at_most: 1}\n",
        "rules:\n  - {id: a, metric: kl, against: baseline, at_most: 1}\n",
        "rules:\n  - {id: a, metric: kl, at_most: 1, strength: '1:0'}\n",
        "rules:\n  - {id: a, kind: memorisation}\n",
        "rules:\n  - {id: a, kind: memorisation, bits: 33}\n",
        "rules:\n  - {id: a, kind: gain, metric: kl, group: base, at_most: 1}\n",
        "rules:\n  - {id: a, kind: gain, metric: distinct-2, at_least: 0}\n",
        "rules:\n  - {id: a, metric: kl, at_most: 1, strength: '2:3'}\n",
        "rules:\n  - {id: a, metric: kl, at_most: 1, axes: {sampler: euler}}\n",
        "rules:\n  - {id: a, kind: gain, metric: chrf, change: ratio, at_least: -0.05}\n",
        "rules:\n  - {id: a, kind: gain, metric: kl, against: nothing, at_least: 0}\n",
        "rules:\n  - {id: a, metric: kl, at_most: 1, axes: {x: 1, x: 2}}\n",
        "rules:\n  - {id: a, metric: kl, at_most: 1, one_of: x}\n  - {id: b, kind: gain, metric: chrf, at_least: 1, one_of: x}\n",
        "confidence: 0.9999\nrules:\n  - {id: a, metric: kl, at_most: 1}\n",
        "rules: [\n",
    ];
    let all: Vec<String> = texts.iter().map(|text| policy(&run, text)).collect();
    insta::assert_snapshot!("policies_that_make_no_sense", all.join("\n"));
    assert!(!run.join("verdict.json").exists());
}

#[test]
fn a_policy_of_ones_own_decides() {
    let (_folder, run) = write(&Plan::new(good));
    let path = run.join("../policy.yaml");
    let text = "rules:\n  - {id: strict, metric: kl, against: nothing, at_most: 0.0001}\n  - {id: told, metric: kl, against: nothing, at_most: 0.0001, severity: warn}\n";
    fs::write(&path, text).unwrap();
    let verdict = verdict(&run, 3, &["--policy", path.to_str().unwrap()]);
    assert!(verdict.headline.contains("breaks `strict`"), "{}", verdict.headline);
    assert!(verdict.notes.iter().any(|note| note.starts_with("warning: ")), "{:?}", verdict.notes);
}

/// Arguments of a policy, which is written beside the run.
fn judged_by(run: &Path, rules: &[&str]) -> [String; 2] {
    let path = run.join("../policy.yaml");
    let rules: Vec<String> = rules.iter().map(|rule| format!("  - {{{rule}}}\n")).collect();
    fs::write(&path, format!("rules:\n{}", rules.concat())).unwrap();
    ["--policy".to_owned(), path.to_str().unwrap().to_owned()]
}

/// The verdict by rules of one's own.
fn verdict_by(run: &Path, code: i32, rules: &[&str]) -> Verdict {
    let policy = judged_by(run, rules);
    verdict(run, code, &policy.each_ref().map(String::as_str))
}

/// Writes a run's cells anew, each changed.
fn remade(run: &Path, change: impl Fn(&mut Cell)) {
    let record = Run::open(run).unwrap().record().clone();
    let cells = Run::open(run).unwrap().cells().unwrap().found;
    fs::remove_dir_all(run).unwrap();
    let (again, _) = Run::create(run, &record).unwrap();
    for mut cell in cells {
        change(&mut cell);
        again.write_cell(&cell).unwrap();
    }
}

const GAIN: &str = "id: gain, kind: gain, metric: chrf, at_least: 1";
const KL: &str = "id: kl, metric: kl, against: nothing, at_most: 0.1";

#[test]
fn a_rule_of_some_strengths_vouches_for_no_others() {
    let answers = |verdict: &Verdict| -> Vec<bool> {
        let strengths = verdict.strengths.iter();
        strengths.map(|at| at.verdict == lora_eval::run::verdict::Answer::Pass).collect()
    };
    let (_folder, run) = write(&Plan::new(good));
    assert_eq!(answers(&verdict_by(&run, 0, &[GAIN, KL])), [true, true, true]);
    let some = verdict_by(&run, 0, &[&format!("{GAIN}, strength: 0.4"), KL]);
    assert_eq!(answers(&some), [true, false, false]);
    let (_folder, run) = write(&Plan::new(damaging));
    let none = verdict_by(&run, 4, &[GAIN, &format!("{KL}, strength: 0.4")]);
    assert!(none.headline.contains("0.4 comes nearest and breaks `kl`"), "{}", none.headline);
    let above = verdict_by(&run, 4, &[GAIN, &format!("{KL}, strength: '2:3', if_missing: skip")]);
    assert!(above.headline.ends_with("base's own work could be judged by"), "{}", above.headline);
    assert!(above.notes.iter().any(|note| note.contains("the run has no strength in 2:3")));
}

#[test]
fn a_strength_that_breaks_a_guard_of_the_adapters_own_job_is_not_safe() {
    let (_folder, run) = write(&Plan::new(good));
    let own = "id: own, metric: base-bleu, group: heldout, against: nothing, at_least: 15";
    let verdict = verdict_by(&run, 0, &[GAIN, KL, own]);
    let safe: Vec<bool> = verdict.strengths.iter().map(|at| at.safe).collect();
    assert_eq!(safe, [true, true, false], "{}", verdict.headline);
    assert_eq!(verdict.safe.map(|safe| (safe.low, safe.high)), Some((0.4, 0.8)));
}

#[test]
fn what_no_rule_looks_at_must_not_be_given() {
    let (_folder, run) = write(&Plan::new(good));
    let file = run.join("../approved.json");
    let path = file.to_str().unwrap();
    let approve = ["--approve", "--by", "ada", "--reason", "first release", "--out", path];
    assert_eq!(told(&run, &approve).0, 0);
    let policy = judged_by(&run, &[GAIN, KL]);
    let [flag, policy] = policy.each_ref().map(String::as_str);
    let error = refused(&run, &[flag, policy, "--baseline", path]);
    assert!(error.contains("no rule of the policy uses `--baseline`"), "{error}");
    let error = refused(&run, &["--training", run.to_str().unwrap()]);
    assert!(error.contains("no rule of the policy uses `--training`"), "{error}");
    assert!(error.contains("a text run has no pictures"), "{error}");
}

#[test]
fn texts_too_short_for_a_metric_leave_its_rule_out_or_are_an_error() {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    remade(&run, |cell| {
        if cell.strength > 0.0 {
            cell.scores.remove("repetition");
        }
    });
    let verdict = verdict(&run, 0, &[]);
    let said = "no output at strength 0.4 has a score `repetition`";
    assert!(verdict.notes.iter().any(|note| note.contains(said)), "{:?}", verdict.notes);
    let policy = judged_by(&run, &[GAIN, "id: circles, metric: repetition, at_most: 0.05"]);
    let error = refused(&run, &policy.each_ref().map(String::as_str));
    assert!(error.contains("rule `circles` cannot be judged: no output at"), "{error}");
}

#[test]
fn equal_outputs_without_a_word_are_wholly_alike() {
    let (_folder, run) = write(&Plan::new(good));
    remade(&run, |cell| {
        if cell.group == "base" {
            cell.output = String::new();
        }
    });
    let alike = "id: alike, metric: base-bleu, against: nothing, at_least: 60";
    let verdict = verdict_by(&run, 0, &[GAIN, alike]);
    let value = verdict.strengths[0].rules[1].value.unwrap();
    assert!((value - 100.0).abs() < 1e-9, "{value}");
}

#[test]
fn a_rule_on_its_margin_is_named_and_no_number_of_prompts_is() {
    let (_folder, run) = write(&Plan::new(good));
    let value = verdict_by(&run, 0, &[GAIN, KL]).strengths[2].rules[1].value.unwrap();
    let edge = format!("id: edge, metric: kl, against: nothing, at_most: {value}, strength: 1.2");
    let few = "id: few, metric: perplexity, change: ratio, at_most: 1.05, min_prompts: 99";
    let policy = judged_by(&run, &[GAIN, &edge, few]);
    let [flag, policy] = policy.each_ref().map(String::as_str);
    let verdict = verdict(&run, 4, &[flag, policy, "--strength", "1.2"]);
    assert!(verdict.headline.contains("`edge` lies too near its margin"), "{}", verdict.headline);
    assert!(verdict.evidence.further_prompts.is_empty());
}

#[test]
fn a_gain_that_is_a_factor_has_no_sign() {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    let policy =
        judged_by(&run, &["id: gain, kind: gain, metric: chrf, change: ratio, at_least: 1.05", KL]);
    let (_, stdout, _) = told(&run, &policy.each_ref().map(String::as_str));
    let row = stdout.lines().find(|line| line.starts_with("0.4 ")).unwrap();
    assert!(row.contains("  1.") && !row.contains('+'), "{row}");
}

/// Whatever a policy leaves out without a word, it does not vouch for.
#[test]
fn rules_that_fall_away_vouch_for_nothing() {
    let (_folder, run) = write(&Plan { prompts: 10, ..Plan::new(good) });
    let other =
        "id: other, kind: gain, metric: chrf, against: baseline, at_least: 1, if_missing: skip";
    let verdict = verdict_by(&run, 4, &[other, KL]);
    assert!(verdict.headline.contains("a gain could be judged by; the policy compares with a"));
    let kept = "id: kept, metric: kl, against: baseline, at_most: 1, if_missing: skip";
    let verdict = verdict_by(&run, 4, &[GAIN, kept]);
    assert!(verdict.headline.contains("what must stay could be judged by"), "{}", verdict.headline);
    // one that does not decide leaves the decision to the alternative that does
    let warn = "id: warn, kind: gain, metric: chrf, at_least: 1, severity: warn, one_of: gain";
    let much = "id: much, kind: gain, metric: chrf, at_least: 99, one_of: gain";
    let verdict = verdict_by(&run, 4, &[warn, much, KL]);
    assert!(verdict.strengths[0].broken().contains(&"much"), "{:?}", verdict.strengths[0].broken());
    // where the first alternative is judged, the second is not asked
    let first = "id: first, kind: gain, metric: chrf, at_least: 1, strength: 1.2, one_of: gain";
    let verdict = verdict_by(&run, 0, &[first, much, KL]);
    assert_eq!(verdict.recommended, Some(1.2));
}

#[test]
fn however_many_pairs_are_asked_for_the_number_is_told() {
    let (_folder, run) = write(&Plan { prompts: 10, ..Plan::new(good) });
    let pairs = |number: u64| format!("{GAIN}, min_pairs: {number}");
    let verdict = verdict_by(&run, 4, &[&pairs(200), KL]);
    let seeds = verdict.evidence.pairs["heldout"] / verdict.evidence.prompts["heldout"];
    assert_eq!(verdict.evidence.further_prompts["heldout"], 200 / seeds - 10);
    verdict_by(&run, 4, &[&pairs(u64::MAX), KL]);
}

#[test]
fn prompts_of_the_same_words_are_one_prompt() {
    let (_folder, run) = write(&Plan { prompts: 10, ..Plan::new(good) });
    let mut record = Run::open(&run).unwrap().record().clone();
    let cells = Run::open(&run).unwrap().cells().unwrap().found;
    fs::remove_dir_all(&run).unwrap();
    for prompt in record.suite["prompts"].as_array_mut().unwrap() {
        prompt["prompt"] = "the same".into();
    }
    let (again, _) = Run::create(&run, &record).unwrap();
    for cell in cells {
        again.write_cell(&cell).unwrap();
    }
    let verdict = verdict(&run, 4, &[]);
    assert_eq!(verdict.evidence.prompts["heldout"], 1);
    let note = "9 prompts of the same words as prompt `heldout-00`: they count as one";
    assert!(verdict.notes.iter().any(|other| other == note), "{:?}", verdict.notes);
}

#[test]
fn outputs_never_replace_the_run_or_each_other() {
    let (folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let before = fs::read(run.join("run.json")).unwrap();
    for arguments in [
        ["--junit", &path("run/run.json"), "--summary", &path("a.md")],
        ["--junit", &path("a.xml"), "--summary", &path("run/verdict.json")],
        ["--junit", &path("a"), "--summary", &path("a")],
    ] {
        let (code, _, stderr) = told(&run, &arguments);
        assert!(code == 2 && stderr.contains("hint: write to another file"), "{stderr}");
    }
    assert_eq!(fs::read(run.join("run.json")).unwrap(), before);
    // an old verdict does not outlive an error, whatever is wrong
    assert_eq!(told(&run, &[]).0, 0);
    fs::write(run.join("run.json"), "").unwrap();
    assert!(refused(&run, &[]).contains("run.json"));
}

#[test]
fn a_run_of_the_base_alone_is_an_error() {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    let mut record = Run::open(&run).unwrap().record().clone();
    let cells = Run::open(&run).unwrap().cells().unwrap().found;
    fs::remove_dir_all(&run).unwrap();
    record.adapters.clear();
    let (again, _) = Run::create(&run, &record).unwrap();
    for cell in cells {
        again.write_cell(&cell).unwrap();
    }
    assert!(refused(&run, &[]).contains("no adapter was run"));
}

#[test]
fn without_base_prompts_the_base_is_not_vouched_for() {
    let (_folder, run) = write(&Plan { prompts: 10, ..Plan::new(good) });
    // the same run, its base prompts in a group that no rule is about
    let mut record = Run::open(&run).unwrap().record().clone();
    let cells = Run::open(&run).unwrap().cells().unwrap().found;
    fs::remove_dir_all(&run).unwrap();
    for prompt in record.suite["prompts"].as_array_mut().unwrap() {
        if prompt["group"] == "base" {
            prompt["group"] = "other".into();
        }
    }
    record.program = "lora-eval 0.1.0".to_owned();
    let (again, _) = Run::create(&run, &record).unwrap();
    for mut cell in cells {
        if cell.group == "base" {
            cell.group = "other".to_owned();
        }
        again.write_cell(&cell).unwrap();
    }
    let verdict = verdict(&run, 4, &[]);
    assert!(verdict.headline.contains("nothing that the base's own work"), "{}", verdict.headline);
    assert!(verdict.notes.iter().any(|note| note.contains("add prompts of the group `base`")));
}

// ---------------------------------------------------------------------------------------------
// Baselines

#[test]
fn an_approval_is_compared_with_and_expires_with_the_suite() {
    let (_folder, run) = write(&Plan::new(good));
    let file = run.join("../approved.json");
    let path = file.to_str().unwrap();
    let approve = ["--approve", "--by", "ada", "--reason", "first release", "--out", path];
    assert_eq!(told(&run, &approve).0, 0);
    let same = verdict(&run, 0, &["--baseline", path]);
    assert_eq!(same.baseline.unwrap().strength, 1.2);
    // a weaker adapter of the same suite is worse than what was approved
    let weaker = |strength: f64| Does { gain: 0.25 * strength, ..good(strength) };
    let (_other, worse) = write(&Plan::new(weaker));
    let judged = verdict(&worse, 3, &["--baseline", path]);
    assert!(judged.headline.contains("`approved-gain`"), "{}", judged.headline);
    assert_eq!(told(&worse, &[]).0, 0);
    // an edited approval, and one of another suite
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"ada\"", "\"eve\"")).unwrap();
    assert!(told(&run, &["--baseline", path]).2.contains("its seal does not fit"));
    fs::write(&file, &text).unwrap();
    let mut record = Run::open(&run).unwrap().record().clone();
    record.suite_sha256 = "6".repeat(64);
    let cells = Run::open(&run).unwrap().cells().unwrap().found;
    let changed = run.join("../changed");
    let (again, _) = Run::create(&changed, &record).unwrap();
    for cell in &cells {
        assert!(again.write_cell(cell).unwrap());
    }
    let (code, _, stderr) = told(&changed, &["--baseline", path]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("the baseline has expired: the suite has changed since ada approved it"),
        "{stderr}"
    );
}

#[test]
fn an_approval_needs_a_name_a_reason_and_a_strength() {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(damaging) });
    assert_eq!(told(&run, &["--approve"]).0, 2);
    assert_eq!(told(&run, &["--by", "ada"]).0, 2);
    let (code, stdout, stderr) = told(&run, &["--approve", "--by", "ada", "--reason", "x"]);
    assert!(code == 3 && stderr.contains("no strength can be approved"), "{stderr}");
    assert!(stdout.starts_with("DO NOT SHIP") && !run.join("approved.json").exists(), "{stdout}");
    // a blank name is refused before anything is touched
    assert_eq!(told(&run, &["--approve", "--by", " ", "--reason", "x"]).0, 2);
    assert!(run.join("verdict.json").exists());
    let known = ["--approve", "--by", "ada", "--reason", "known", "--strength", "0.4"];
    assert_eq!(told(&run, &known).0, 3);
    assert!(run.join("approved.json").exists());
}

// ---------------------------------------------------------------------------------------------
// For CI

#[test]
fn junit_reads_back_and_the_summary_is_short_and_harmless() {
    let (_folder, run) = write(&Plan::new(damaging));
    let (xml, markdown) = (run.join("../check.xml"), run.join("../summary.md"));
    let files = ["--junit", xml.to_str().unwrap(), "--summary", markdown.to_str().unwrap()];
    assert_eq!(told(&run, &files).0, 3);
    let text = fs::read_to_string(&xml).unwrap();
    let report = quick_junit::Report::deserialize_from_str(&text).unwrap();
    let names: Vec<&str> = report.test_suites.iter().map(|suite| suite.name.as_str()).collect();
    assert_eq!(names, ["verdict", "strength 0.4", "strength 0.8", "strength 1.2"]);
    assert!(report.failures >= 4, "{text}");
    assert_eq!(told(&run, &files).0, 3);
    assert_eq!(fs::read_to_string(&xml).unwrap(), text);
    let summary = fs::read_to_string(&markdown).unwrap();
    assert!(summary.len() < 64_000 && summary.starts_with("## ❌ DO NOT SHIP"), "{summary}");
}

#[test]
fn a_report_into_no_folder_names_it_and_the_verdict_is_printed() {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    let xml = run.join("../nowhere/check.xml");
    let (code, stdout, stderr) = told(&run, &["--junit", xml.to_str().unwrap()]);
    assert!(code == 1 && stdout.starts_with("SHIP at"), "{stdout}");
    assert!(stderr.contains("nowhere` does not exist\nhint: make it first"), "{stderr}");
}

#[test]
fn a_hostile_prompt_id_harms_no_output() {
    let (_folder, run) = write(&Plan { prompts: 9, ..Plan::new(damaging) });
    let mut record = Run::open(&run).unwrap().record().clone();
    let cells = Run::open(&run).unwrap().cells().unwrap().found;
    fs::remove_dir_all(&run).unwrap();
    let hostile = |id: &str| format!("{id}\u{1b}[31m<script>]]>|@all`\n");
    for prompt in record.suite["prompts"].as_array_mut().unwrap() {
        prompt["id"] = hostile(prompt["id"].as_str().unwrap()).into();
    }
    let (again, _) = Run::create(&run, &record).unwrap();
    for mut cell in cells {
        cell.prompt_id = hostile(&cell.prompt_id);
        again.write_cell(&cell).unwrap();
    }
    let (xml, markdown) = (run.join("../check.xml"), run.join("../summary.md"));
    let files = ["--junit", xml.to_str().unwrap(), "--summary", markdown.to_str().unwrap()];
    let (code, stdout, _) = told(&run, &files);
    assert!(code == 3 && !stdout.contains('\u{1b}'), "{stdout}");
    let summary = fs::read_to_string(&markdown).unwrap();
    assert!(!summary.contains("<script>") && !summary.contains("@all"), "{summary}");
    let text = fs::read_to_string(&xml).unwrap();
    assert!(quick_junit::Report::deserialize_from_str(&text).is_ok());
}

#[test]
fn json_is_one_document() {
    let (_folder, run) = write(&Plan { prompts: 8, ..Plan::new(good) });
    let out = check(&run, &["--json"]);
    let value: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(value["format"], 1);
}

// ---------------------------------------------------------------------------------------------
// Parity

/// sacreBLEU, and transformers with PEFT, on the same model, adapter and prompts
/// (tests/parity/check.py).
#[test]
fn bleu_kl_and_perplexity_are_the_peers() {
    let decoder = "tests/parity/decoders/chat";
    same_as_the_peers("check.json", &format!("{decoder}/model"), &format!("{decoder}/adapter"));
}

#[test]
fn bleu_kl_and_perplexity_of_the_demo_are_the_peers() {
    let adapter = "assets/demo/adapters/house-style";
    same_as_the_peers("check_demo.json", "assets/demo/text", adapter);
}

fn same_as_the_peers(expected: &str, model: &str, adapter: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/parity").join(expected)).unwrap();
    let peer: Value = serde_json::from_str(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("suite.yaml"), peer["suite"].to_string()).unwrap();
    let mut rules = Vec::new();
    for group in ["heldout", "base"] {
        for metric in ["bleu", "chrf", "base-bleu", "kl", "perplexity"] {
            rules.push(json!({"id": format!("{group} {metric}"), "metric": metric, "group": group, "at_most": 1e12}));
        }
    }
    fs::write(path("policy.yaml"), json!({"rules": rules}).to_string()).unwrap();
    let mut grid = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    grid.current_dir(root).args(["grid", &path("suite.yaml"), "--base", model]);
    grid.args(["--lora", &format!("a={adapter}"), "--device", "cpu", "--dtype", "f32"]);
    grid.args(["--out", &path("run")]);
    let out = grid.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let run = folder.path().join("run");
    for cell in Run::open(&run).unwrap().cells().unwrap().found {
        let which = usize::from(cell.strength != 0.0);
        assert_eq!(peer["outputs"][&cell.prompt_id][which], cell.output, "{}", cell.prompt_id);
    }
    let verdict = verdict(&run, 0, &["--policy", &path("policy.yaml")]);
    for rule in &verdict.strengths[0].rules {
        let (group, metric) = rule.rule.split_once(' ').unwrap();
        let expected = &peer["groups"][group][metric];
        let near = |found: Option<f64>, expected: &Value| {
            let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
            let off = (found - expected).abs() / expected.abs().max(1.0);
            assert!(
                off < if metric == "perplexity" { 1e-4 } else { 1e-5 },
                "{}: {found} {expected}",
                rule.rule
            );
        };
        match expected {
            Value::Array(both) => {
                near(rule.base_score, &both[0]);
                near(rule.score, &both[1]);
            }
            one => near(rule.score, one),
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Pictures

/// Pictures of blocks of grey: each seed another one.
fn blocks(seed: u64) -> Vec<u8> {
    let mut random = draws(seed);
    let tiles: Vec<u8> = (0..64).map(|_| if random.uniform() < 0.5 { 30 } else { 220 }).collect();
    let picture = image::GrayImage::from_fn(64, 64, |x, y| {
        image::Luma([tiles[(x / 8 + y / 8 * 8) as usize]])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

/// A run of pictures of which held-out ones at strength 1 are blocks of seeds that `copies` gives.
fn pictures(copies: impl Fn(u64) -> u64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let mut made = Vec::new();
    let mut prompts = Vec::new();
    for (group, start) in [("heldout", 0_u64), ("base", 100)] {
        for index in 0..12 {
            let id = format!("{group}-{index:02}");
            prompts.push(json!({"id": id, "group": group, "prompt": format!("draw {id}"), "references": ["r.png"]}));
            for strength in [0.0, 1.0] {
                let changed = group == "heldout" && strength > 0.0;
                let png = blocks(if changed { copies(index) } else { start + index });
                let mut one = cell(&id, group, 1, strength, String::new(), 0.0);
                let likeness = if changed { 0.3 + 0.01 * index as f64 } else { 1.0 };
                let scores = [
                    ("ssim", likeness),
                    ("mse", if changed { 900.0 } else { 0.0 }),
                    ("histogram", 0.0),
                    ("clip-text", 25.0 + if changed { 4.0 + 0.1 * index as f64 } else { 0.0 }),
                ];
                one.scores = scores.map(|(name, score)| (name.to_owned(), score)).into();
                made.push((one, png));
            }
        }
    }
    let (_text, run) = write(&Plan { prompts: 1, ..Plan::new(good) });
    let mut record = Run::open(&run).unwrap().record().clone();
    let ids: Vec<String> = made.iter().map(|(cell, _)| cell.cell.clone()).collect();
    record.kind = RunKind::Image;
    record.suite = json!({"prompts": prompts});
    record.strengths = vec![0.0, 1.0];
    record.plan = PlanRecord { sha256: plan_hash(&ids), cells: ids };
    let (run, _) = Run::create(&path, &record).unwrap();
    for (cell, png) in made {
        assert!(run.write_picture(cell, &png).unwrap());
    }
    (folder, path)
}

#[test]
fn copies_of_training_pictures_are_found() {
    let (folder, run) = pictures(|index| 500 + index);
    let training = folder.path().join("training");
    fs::create_dir(&training).unwrap();
    fs::write(training.join("other.png"), blocks(900)).unwrap();
    // a picture that the base draws as well is no copy
    fs::write(training.join("base.png"), blocks(3)).unwrap();
    let arguments = ["--training", training.to_str().unwrap()];
    let clean = verdict(&run, 0, &arguments);
    assert!(
        clean.strengths[0]
            .rules
            .iter()
            .any(|rule| rule.rule == "copies" && rule.value == Some(0.0))
    );
    fs::write(training.join("seen.png"), blocks(502)).unwrap();
    let copied = verdict(&run, 3, &arguments);
    assert!(
        copied.reasons[0].contains("first `heldout-02` with seed 1 of `seen.png`"),
        "{:?}",
        copied.reasons
    );
}

#[test]
fn a_picture_that_was_exchanged_or_lost_is_an_error() {
    let (_folder, run) = pictures(|index| 500 + index);
    let picture = fs::read_dir(run.join("outputs")).unwrap().next().unwrap().unwrap().path();
    let png = fs::read(&picture).unwrap();
    fs::write(&picture, blocks(77)).unwrap();
    assert!(refused(&run, &[]).contains("it is not the picture of its cell"));
    fs::remove_file(&picture).unwrap();
    assert!(refused(&run, &[]).contains("is missing"));
    fs::write(&picture, png).unwrap();
    assert_ne!(told(&run, &[]).0, 1);
}

// ---------------------------------------------------------------------------------------------
// examples/ci

/// The shell steps of a job, in their order; installing is left out.
fn steps(job: &str) -> Vec<String> {
    use lora_eval::base::yaml::{Kind, Node, read};
    fn collect(node: &Node, out: &mut Vec<String>) {
        match &node.value {
            Kind::Map(entries) => {
                for (key, value) in entries {
                    match (key.value.as_str(), &value.value) {
                        ("run", Kind::Text(text)) => out.push(text.clone()),
                        ("script", Kind::List(all)) => out.extend(all.iter().map(|one| {
                            let Kind::Text(text) = &one.value else { panic!("{one:?}") };
                            text.clone()
                        })),
                        _ => collect(value, out),
                    }
                }
            }
            Kind::List(all) => all.iter().for_each(|one| collect(one, out)),
            _ => {}
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci").join(job);
    let mut out = Vec::new();
    collect(&read(&fs::read_to_string(path).unwrap()).unwrap(), &mut out);
    out.retain(|step| !step.contains("cargo install"));
    assert!(out.len() >= 3, "{out:?}");
    out
}

/// The jobs' own steps in a repository of an adapter: its target branch has a policy, which counts, and
/// the request has an easier one, which does not.
#[cfg(unix)]
#[test]
fn the_jobs_for_ci_run() {
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let peer: Value =
        serde_json::from_str(&fs::read_to_string(parity.join("check.json")).unwrap()).unwrap();
    let chat = parity.join("decoders/chat");
    let bin = Path::new(env!("CARGO_BIN_EXE_lora-eval")).parent().unwrap();
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for job in ["github.yml", "gitlab.yml"] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("suite.yaml"), peer["suite"].to_string()).unwrap();
        let strict = "rules:\n  - {id: strict, metric: kl, against: nothing, at_most: 0.1}\n";
        fs::write(path("policy.yaml"), strict).unwrap();
        let shell = |script: &str| {
            let mut bash = Command::new("bash");
            bash.args(["-e", "-o", "pipefail", "-c", script]).current_dir(folder.path());
            bash.env("PATH", &search).env("BASE", chat.join("model")).env("RUN", "runs/x");
            bash.env("ADAPTER", chat.join("adapter")).env("SUITE", "suite.yaml");
            bash.env("GITHUB_BASE_REF", "main").env("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main");
            bash.env("GITHUB_STEP_SUMMARY", path("steps.md")).output().unwrap()
        };
        let git = "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm a && git update-ref refs/remotes/origin/main HEAD";
        assert!(shell(git).status.success());
        fs::write(path("policy.yaml"), strict.replace("0.1", "1000")).unwrap();
        let all = steps(job);
        let (last, others) = all.split_last().unwrap();
        for step in others {
            let out = shell(step);
            assert!(out.status.success(), "{step}: {}", String::from_utf8_lossy(&out.stderr));
        }
        let out = shell(last);
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.code(), Some(3), "{said}{}", String::from_utf8_lossy(&out.stderr));
        assert!(said.starts_with("DO NOT SHIP: strength 1 breaks `strict`"), "{said}");
        assert!(fs::read_to_string(path("check.xml")).unwrap().contains("<failure"));
        let summary = if job == "github.yml" { "steps.md" } else { "check.md" };
        assert!(fs::read_to_string(path(summary)).unwrap().starts_with("## ❌"));
    }
}
