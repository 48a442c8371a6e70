//! Run directories: started, resumed, filled, damaged, shared by processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lora_eval::run::{
    AdapterAt, AdapterRecord, BaseRecord, Cell, FORMAT, LockMode, PlanRecord, Run, RunError,
    RunKind, RunRecord, Scores, Shard, Start, cell_id, differences, plan_hash,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn ids(n: usize) -> Vec<String> {
    (0..n).map(|i| cell_id(&json!({"cell": i}))).collect()
}

fn record(n: usize) -> RunRecord {
    let cells = ids(n);
    RunRecord {
        format: FORMAT,
        program: "lora-eval 0.1.0".to_owned(),
        kind: RunKind::Text,
        created: "2024-01-01T00:00:00Z".to_owned(),
        suite: json!({"prompts": [{"id": "a", "prompt": "x"}]}),
        suite_sha256: "5".repeat(64),
        base: BaseRecord {
            name: "demo:text".to_owned(),
            description: "LlamaForCausalLM (hidden size 64, layers 2)".to_owned(),
            sha256: "b".repeat(64),
            vae: None,
        },
        adapters: vec![adapter("house", "1")],
        strengths: vec![0.0, 0.4],
        seeds: vec![1],
        axes: BTreeMap::new(),
        settings: BTreeMap::from([("temperature".to_owned(), json!(0.7))]),
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        judges: BTreeMap::new(),
        max_batch: None,
        plan: PlanRecord { sha256: plan_hash(&cells), cells },
    }
}

fn adapter(name: &str, digit: &str) -> AdapterRecord {
    AdapterRecord {
        name: name.to_owned(),
        path: format!("{name}.safetensors"),
        sha256: digit.repeat(64),
        kinds: BTreeMap::from([("LoRA".to_owned(), 4)]),
        ranks: BTreeMap::from([(8, 4)]),
        matched: 4,
        unmatched: Vec::new(),
        delta_norm: None,
    }
}

fn cell(id: &str) -> Cell {
    Cell {
        cell: id.to_owned(),
        prompt_id: "a".to_owned(),
        group: "heldout".to_owned(),
        prompt: "a red ★".to_owned(),
        strength: 0.4,
        adapters: vec![AdapterAt {
            name: "house".to_owned(),
            strength: 0.4,
            text_encoder: None,
            blocks: Vec::new(),
        }],
        axes: BTreeMap::new(),
        seed: 1,
        output: "a \"completion\"\nof two lines".to_owned(),
        finish: Some("eos".to_owned()),
        prompt_tokens: Some(3),
        tokens: Some(7),
        truncated: 0,
        batch: None,
        features: BTreeMap::new(),
        scores: BTreeMap::from([("bleu".to_owned(), 12.345_678_901_234_567)]),
        seconds: 0.25,
    }
}

/// A fresh run of `n` cells in a folder of its own.
fn fresh(n: usize) -> (TempDir, Run) {
    let folder = tempfile::tempdir().unwrap();
    let (run, start) = Run::create(&folder.path().join("run"), &record(n)).unwrap();
    assert!(matches!(start, Start::Fresh));
    (folder, run)
}

fn file(run: &Run, id: &str) -> PathBuf {
    run.path().join("cells").join(&id[..2]).join(format!("{id}.json"))
}

/// An error's text, with the run's path as `RUN`.
fn text(error: &RunError, path: &Path) -> String {
    error.to_string().replace(&path.display().to_string(), "RUN")
}

/// All files below a folder, relative to it, sorted.
fn tree(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_run_is_started_resumed_and_opened() {
    let (_folder, run) = fresh(3);
    let plan = ids(3);
    assert_eq!(tree(run.path()), ["run.json"]);
    assert!(run.write_cell(&cell(&plan[1])).unwrap());
    let mut later = record(3);
    later.created = "2025-01-01T00:00:00Z".to_owned();
    later.device = "cuda:0".to_owned();
    let (again, start) = Run::create(run.path(), &later).unwrap();
    let Start::Resumed(scan) = start else { panic!("not resumed") };
    assert_eq!(scan.present, BTreeSet::from([plan[1].clone()]));
    assert!(scan.damaged.is_empty());
    // The first start's record stays.
    assert_eq!(again.record(), &record(3));
    assert_eq!(Run::open(run.path()).unwrap().record(), &record(3));
}

#[test]
fn the_order_of_a_plan_is_no_matter_for_resuming() {
    let (_folder, run) = fresh(4);
    let mut other = record(4);
    other.plan.cells.reverse();
    assert!(matches!(Run::create(run.path(), &other).unwrap().1, Start::Resumed(_)));
}

#[test]
fn another_plan_is_refused_and_says_what_differs() {
    let (_folder, run) = fresh(3);
    let problem = |change: &dyn Fn(&mut RunRecord)| {
        let mut other = record(2);
        change(&mut other);
        text(&Run::create(run.path(), &other).unwrap_err(), run.path())
    };
    let all = [
        problem(&|_| {}),
        problem(&|r| r.kind = RunKind::Image),
        problem(&|r| r.base.sha256 = "c".repeat(64)),
        problem(&|r| {
            r.base.name = "models/other\u{1b}[31m".to_owned();
            r.base.sha256 = "c".repeat(64);
        }),
        problem(&|r| r.adapters[0].sha256 = "2".repeat(64)),
        problem(&|r| r.adapters = vec![adapter("style", "1"), adapter("more", "2")]),
        problem(&|r| r.strengths = (0..40).map(f64::from).collect()),
        problem(&|r| r.seeds = vec![1, 2]),
        problem(&|r| r.suite_sha256 = "6".repeat(64)),
        problem(&|r| {
            r.suite_sha256 = "6".repeat(64);
            r.suite = json!({"prompts": [{"id": "a", "prompt": "y"}, {"id": "b", "prompt": "x"}]});
        }),
        problem(&|r| drop(r.axes.insert("top_k".to_owned(), vec![json!(1), json!(40)]))),
        problem(&|r| {
            r.settings = BTreeMap::from([
                ("temperature".to_owned(), json!(1.0)),
                ("top_k".to_owned(), json!(4)),
            ]);
        }),
        problem(&|r| r.dtype = "bf16".to_owned()),
        problem(&|r| r.device = "cuda:0".to_owned()),
        problem(&|r| r.program = "lora-eval 0.2.0".to_owned()),
        problem(&|r| {
            r.settings = (0..20).map(|i| (format!("s{i:02}"), Value::from(i))).collect();
        }),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
    assert_eq!(Run::open(run.path()).unwrap().record(), &record(3));
}

#[test]
fn adapters_in_another_order_are_a_difference() {
    let (mut a, mut b) = (record(1), record(1));
    a.adapters = vec![adapter("x", "1"), adapter("y", "2")];
    b.adapters = vec![adapter("y", "2"), adapter("x", "1")];
    assert_eq!(differences(&a, &b), ["adapters: the same in another order"]);
    assert_eq!(differences(&a, &a), [""; 0]);
}

#[test]
fn many_that_start_one_run_at_once_agree() {
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let fresh: Vec<(bool, RunRecord)> = std::thread::scope(|scope| {
            let start = |i: usize| {
                let path = path.clone();
                scope.spawn(move || {
                    let mut own = record(5);
                    own.created = format!("2024-01-01T00:00:0{i}Z");
                    let (run, start) = Run::create(&path, &own).unwrap();
                    (matches!(start, Start::Fresh), run.record().clone())
                })
            };
            let all: Vec<_> = (0..8).map(start).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(fresh.iter().filter(|(fresh, _)| *fresh).count(), 1, "round {round}");
        assert!(fresh.iter().all(|(_, record)| *record == fresh[0].1), "round {round}");
        assert_eq!(tree(&path), ["run.json"]);
    }
}

#[test]
fn two_plans_that_start_at_once_never_mix() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let won = std::thread::scope(|scope| {
            let all: Vec<_> = (1..=4)
                .map(|n| {
                    let path = path.clone();
                    scope.spawn(move || Run::create(&path, &record(n)).is_ok())
                })
                .collect();
            all.into_iter().map(|t| t.join().unwrap()).filter(|ok| *ok).count()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn folders_that_are_no_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let open = |path: &Path| text(&Run::open(path).unwrap_err(), path);
    let create = |path: &Path| text(&Run::create(path, &record(1)).unwrap_err(), path);
    let mut all = vec![open(&path)];
    fs::create_dir(&path).unwrap();
    all.push(open(&path));
    fs::write(path.join("report.html"), "mine").unwrap();
    all.push(create(&path));
    assert_eq!(tree(&path), ["report.html"]);
    fs::remove_file(path.join("report.html")).unwrap();
    fs::create_dir(path.join("run.json")).unwrap();
    all.push(create(&path));
    let taken = folder.path().join("file");
    fs::write(&taken, "mine").unwrap();
    all.push(create(&taken));
    all.push(open(&taken));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_damaged_or_newer_record_is_refused() {
    let (_folder, run) = fresh(2);
    let json = run.path().join("run.json");
    let good = fs::read_to_string(&json).unwrap();
    let problem = |contents: &str| {
        fs::write(&json, contents).unwrap();
        text(&Run::open(run.path()).unwrap_err(), run.path())
    };
    let id = &ids(2)[0];
    let all = [
        problem(""),
        problem("{"),
        problem("[]"),
        problem("{\"format\": 0}"),
        problem("{\"format\": 1}"),
        problem("{\"format\": 2, \"anything\": true}"),
        problem(&good.replace("\"text\"", "\"sound\"")),
        problem(&good.replace(id, &"0".repeat(64))),
        problem(&good.replace(id, "../../x")),
        problem(&good.replace(id, &ids(2)[1])),
    ];
    insta::assert_snapshot!(all.join("\n"));
    fs::write(&json, &good).unwrap();
    assert_eq!(Run::open(run.path()).unwrap().record(), &record(2));
    for end in 0..good.len() - 2 {
        fs::write(&json, good.get(..end).unwrap_or("x")).unwrap();
        if end > 0 {
            assert!(Run::open(run.path()).is_err(), "{end}");
        }
    }
}

#[test]
fn a_plan_that_could_not_be_read_back_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let problem = |cells: Vec<String>, sha256: Option<String>| {
        let mut bad = record(1);
        let sha256 = sha256.unwrap_or_else(|| plan_hash(&cells));
        bad.plan = PlanRecord { sha256, cells };
        text(&Run::create(&path, &bad).unwrap_err(), &path)
    };
    let id = ids(1).remove(0);
    let all = [
        problem(vec!["../x".to_owned()], None),
        problem(vec![id.clone(), id.clone()], None),
        problem(vec![id], Some("0".repeat(64))),
    ];
    insta::assert_snapshot!(all.join("\n"));
    assert!(!path.exists());
}

#[test]
fn a_cell_is_one_line_under_its_own_name() {
    let (_folder, run) = fresh(2);
    let id = &ids(2)[0];
    assert!(run.cell(id).unwrap().is_none());
    assert!(run.write_cell(&cell(id)).unwrap());
    assert_eq!(run.cell(id).unwrap().unwrap(), cell(id));
    let contents = fs::read_to_string(file(&run, id)).unwrap();
    assert_eq!(contents.matches('\n').count(), 1);
    assert!(contents.ends_with("}\n"));
    let json: Value = serde_json::from_str(&contents).unwrap();
    // The keys of the contract.
    for key in
        ["cell", "prompt_id", "group", "prompt", "adapters", "seed", "output", "scores", "seconds"]
    {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(tree(run.path()), [format!("cells/{}/{id}.json", &id[..2]), "run.json".to_owned()]);
}

#[test]
fn a_whole_cell_is_kept_and_a_damaged_one_replaced() {
    let (_folder, run) = fresh(1);
    let id = &ids(1)[0];
    run.write_cell(&cell(id)).unwrap();
    let mut late = cell(id);
    late.output = "another".to_owned();
    assert!(!run.write_cell(&late).unwrap());
    assert_eq!(run.cell(id).unwrap().unwrap(), cell(id));
    fs::write(file(&run, id), "{\"cell\":").unwrap();
    assert!(run.write_cell(&late).unwrap());
    assert_eq!(run.cell(id).unwrap().unwrap(), late);
}

#[test]
fn a_cell_cut_at_any_byte_is_absent() {
    let (_folder, run) = fresh(1);
    let id = &ids(1)[0];
    run.write_cell(&cell(id)).unwrap();
    let whole = fs::read(file(&run, id)).unwrap();
    for end in 0..whole.len() {
        fs::write(file(&run, id), &whole[..end]).unwrap();
        let scan = run.scan().unwrap();
        assert!(scan.present.is_empty(), "cut at {end}");
        assert_eq!(scan.damaged.len(), 1, "cut at {end}");
        assert!(matches!(run.cell(id), Err(RunError::Damaged { .. })), "cut at {end}");
        assert!(matches!(run.cells(), Err(RunError::Damaged { .. })), "cut at {end}");
    }
    fs::write(file(&run, id), &whole).unwrap();
    assert_eq!(run.present().unwrap().len(), 1);
}

#[test]
fn cells_that_cannot_be_trusted_are_named() {
    let (_folder, run) = fresh(2);
    let plan = ids(2);
    run.write_cell(&cell(&plan[0])).unwrap();
    let path = file(&run, &plan[0]);
    let good = fs::read_to_string(&path).unwrap();
    let problem = |contents: &[u8]| {
        fs::write(&path, contents).unwrap();
        assert!(run.present().unwrap().is_empty());
        let problem = text(&run.cell(&plan[0]).unwrap_err(), run.path());
        assert_eq!(problem, text(&run.cells().unwrap_err(), run.path()));
        problem
    };
    let mut all = vec![
        problem(b""),
        problem(b"\n"),
        problem(b"null\n"),
        problem(b"\x00\xff\n"),
        problem(good.trim_end().as_bytes()),
        problem(good.replace(&plan[0], &plan[1]).as_bytes()),
        problem(good.replace("0.25", "null").as_bytes()),
        problem(good.replace("\"seed\"", "\"se\u{1b}[31med\"").as_bytes()),
        problem(format!("{good}{good}").as_bytes()),
        problem(&[&b"[".repeat(100_000)[..], b"\n"].concat()),
    ];
    File::create(&path).unwrap().set_len((16 << 20) + 1).unwrap();
    all.push(text(&run.cell(&plan[0]).unwrap_err(), run.path()));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    all.push(text(&run.cell(&plan[0]).unwrap_err(), run.path()));
    all.push(text(&run.write_cell(&cell(&plan[0])).unwrap_err(), run.path()));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_is_no_cell_is_not_written() {
    let (_folder, run) = fresh(1);
    let id = &ids(1)[0];
    let problem = |change: &dyn Fn(&mut Cell)| {
        let mut bad = cell(id);
        change(&mut bad);
        text(&run.write_cell(&bad).unwrap_err(), run.path())
    };
    let all = [
        problem(&|c| c.cell = "../../../etc/x".to_owned()),
        problem(&|c| c.cell = id.to_uppercase()),
        problem(&|c| c.scores = BTreeMap::from([("kl".to_owned(), f64::NAN)])),
        problem(&|c| c.seconds = f64::INFINITY),
        problem(&|c| c.adapters[0].strength = f64::NEG_INFINITY),
        problem(&|c| c.output = "x".repeat(17 << 20)),
    ];
    insta::assert_snapshot!(all.join("\n"));
    assert_eq!(tree(run.path()), ["run.json"]);
    assert!(run.cell("x").is_err());
}

#[test]
fn cells_come_in_the_order_of_the_plan() {
    let (_folder, run) = fresh(50);
    let plan = ids(50);
    for id in plan.iter().rev().step_by(2) {
        run.write_cell(&cell(id)).unwrap();
    }
    let stray = cell_id(&json!("stray"));
    run.write_cell(&cell(&stray)).unwrap();
    fs::write(run.path().join("cells/notes.txt"), "x").unwrap();
    fs::write(run.path().join("cells/.lora-eval-abc.tmp"), "x").unwrap();
    let cells = run.cells().unwrap();
    let found: Vec<&String> = cells.found.iter().map(|c| &c.cell).collect();
    assert_eq!(found, plan.iter().skip(1).step_by(2).collect::<Vec<_>>());
    assert_eq!(cells.missing, plan.iter().step_by(2).cloned().collect::<Vec<_>>());
    let mut extra = vec![file(&run, &stray), run.path().join("cells/notes.txt")];
    extra.sort();
    assert_eq!(cells.extra, extra);
    assert_eq!(run.present().unwrap().len(), 25);
}

#[test]
fn pictures_are_part_of_their_cells() {
    let folder = tempfile::tempdir().unwrap();
    let mut image = record(2);
    image.kind = RunKind::Image;
    let (run, _) = Run::create(&folder.path().join("run"), &image).unwrap();
    let id = &ids(2)[0];
    let output = run.write_output(id, "png", b"picture").unwrap();
    assert_eq!(output, format!("outputs/{id}.png"));
    let mut own = cell(id);
    own.output.clone_from(&output);
    run.write_cell(&own).unwrap();
    assert_eq!(run.cell(id).unwrap().unwrap(), own);
    let mut all = Vec::new();
    fs::remove_file(run.path().join(&output)).unwrap();
    all.push(text(&run.cell(id).unwrap_err(), run.path()));
    // it is to be made again, and until then a report can show the rest of it
    assert!(run.present().unwrap().is_empty());
    assert_eq!(run.cells().unwrap().found, [own.clone()]);
    for outside in ["../secret.png", "/etc/passwd", "outputs/../../x", "", "C:\\x"] {
        let mut line =
            serde_json::to_string(&Cell { output: outside.to_owned(), ..own.clone() }).unwrap();
        line.push('\n');
        fs::write(file(&run, id), line).unwrap();
        all.push(text(&run.cell(id).unwrap_err(), run.path()));
    }
    all.push(text(&run.write_output("../x", "png", b"").unwrap_err(), run.path()));
    insta::assert_snapshot!(all.join("\n"));
    assert!(run.write_output(id, "p/../ng", b"").is_err());
}

#[test]
fn floats_read_back_as_they_were() {
    let (_folder, run) = fresh(1);
    let id = &ids(1)[0];
    let mut own = cell(id);
    // Numbers of 17 digits, and the ends of the range.
    let values = [
        0.1 + 0.2,
        1.0 / 3.0,
        f64::MAX,
        f64::MIN_POSITIVE,
        5e-324,
        2.225_073_858_507_201e-308,
        9_007_199_254_740_992.0,
    ];
    own.scores = values.iter().enumerate().map(|(i, x)| (format!("m{i}"), *x)).collect();
    run.write_cell(&own).unwrap();
    assert_eq!(run.cell(id).unwrap().unwrap(), own);
}

#[test]
fn scores_and_report_are_replaced_whole() {
    let (_folder, run) = fresh(1);
    let mut scores =
        Scores { format: FORMAT, planned: 1, present: 0, metrics: Vec::new(), notes: Vec::new() };
    for present in [0, 1] {
        scores.present = present;
        run.write_scores(&scores).unwrap();
        run.write_report("<!doctype html>").unwrap();
    }
    let read = fs::read_to_string(run.path().join("scores.json")).unwrap();
    assert_eq!(serde_json::from_str::<Scores>(&read).unwrap(), scores);
    assert_eq!(tree(run.path()), ["report.html", "run.json", "scores.json"]);
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let (_folder, run) = fresh(1);
    let id = &ids(1)[0];
    // A file where the folder of the cell must be.
    fs::write(run.path().join("cells").join(&id[..2]), "").unwrap();
    insta::assert_snapshot!(text(&run.write_cell(&cell(id)).unwrap_err(), run.path()));
    fs::create_dir(run.path().join("scores.json")).unwrap();
    assert!(run.write_report("x").is_ok());
    assert_eq!(
        tree(run.path()),
        [format!("cells/{}", &id[..2]), "report.html".to_owned(), "run.json".to_owned()]
    );
}

#[test]
fn one_writer_or_many_shards() {
    let (_folder, run) = fresh(1);
    let other = Run::open(run.path()).unwrap();
    let alone = run.lock(LockMode::Exclusive).unwrap();
    assert_eq!((alone.note(), alone.removed()), (None, 0));
    let busy = |mode| text(&other.lock(mode).unwrap_err(), run.path());
    let all = [busy(LockMode::Exclusive), busy(LockMode::Shared)];
    insta::assert_snapshot!(all.join("\n"));
    drop(alone);
    let shards = [run.lock(LockMode::Shared).unwrap(), other.lock(LockMode::Shared).unwrap()];
    assert_eq!(busy(LockMode::Exclusive), all[0]);
    drop(shards);
    assert!(other.lock(LockMode::Exclusive).is_ok());
}

#[test]
fn unfinished_files_of_earlier_processes_are_removed_by_a_lone_writer() {
    let (_folder, run) = fresh(1);
    let id = &ids(1)[0];
    run.write_cell(&cell(id)).unwrap();
    let name = ".lora-eval-Ab12Cd.tmp";
    let places = [
        run.path().join(name),
        run.path().join("outputs").join(name),
        run.path().join("cells").join(&id[..2]).join(name),
    ];
    let old = SystemTime::now() - Duration::from_secs(3600);
    for place in &places {
        File::create(place).unwrap().set_modified(old).unwrap();
    }
    let newer = run.path().join(".lora-eval-new.tmp");
    File::create(&newer)
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_secs(3600))
        .unwrap();
    File::create(run.path().join("mine.tmp")).unwrap().set_modified(old).unwrap();
    assert_eq!(run.lock(LockMode::Shared).unwrap().removed(), 0);
    assert!(places.iter().all(|place| place.exists()));
    assert_eq!(run.lock(LockMode::Exclusive).unwrap().removed(), 3);
    assert!(!places.iter().any(|place| place.exists()));
    assert!(newer.exists() && run.path().join("mine.tmp").exists());
    assert!(run.cell(id).unwrap().is_some());
}

#[test]
fn writers_of_one_cell_do_no_harm() {
    let (_folder, run) = fresh(20);
    let plan = ids(20);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for id in &plan {
                    run.write_cell(&cell(id)).unwrap();
                }
            });
        }
    });
    let cells = run.cells().unwrap();
    assert_eq!((cells.found.len(), cells.missing.len(), cells.extra.len()), (20, 0, 0));
    assert_eq!(tree(run.path()).len(), 21);
}

/// Run with `LORA_EVAL_SMALL_DISK` naming an empty file system of a few MiB.
#[test]
#[ignore = "needs a small file system"]
fn a_full_disk_loses_nothing_that_was_finished() {
    let disk = PathBuf::from(std::env::var_os("LORA_EVAL_SMALL_DISK").unwrap());
    let plan = ids(100);
    let (run, _) = Run::create(&disk.join("run"), &record(100)).unwrap();
    let ballast = disk.join("ballast");
    let _ = fs::write(&ballast, vec![0u8; 64 << 20]).unwrap_err();
    let big = |id: &String| Cell { output: "x".repeat(100_000), ..cell(id) };
    let written = plan.iter().take_while(|id| run.write_cell(&big(id)).is_ok()).count();
    let problem = run.write_cell(&big(&plan[written])).unwrap_err().to_string();
    assert!(problem.contains("the disk is full: free some space"), "{problem}");
    assert!(!tree(&disk).iter().any(|path| path.contains(".tmp")));
    assert_eq!(run.present().unwrap().len(), written);
    fs::remove_file(&ballast).unwrap();
    assert!(run.write_cell(&big(&plan[written])).unwrap());
    assert_eq!(run.present().unwrap().len(), written + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn shards_are_disjoint_and_cover_the_plan(n in 0usize..60, count in 1u32..=64) {
        let plan = ids(n);
        let shards: Vec<Shard> = (1..=count).map(|i| Shard::new(i, count).unwrap()).collect();
        let all: usize =
            shards.iter().map(|shard| plan.iter().filter(|id| shard.owns(id)).count()).sum();
        prop_assert_eq!(all, n);
        for id in &plan {
            prop_assert_eq!(shards.iter().filter(|shard| shard.owns(id)).count(), 1);
        }
    }

    #[test]
    fn any_score_reads_back_as_it_was(scores in prop::collection::vec(any::<f64>(), 100)) {
        let (_folder, run) = fresh(1);
        let id = &ids(1)[0];
        let mut own = cell(id);
        let finite = scores.into_iter().filter(|x| x.is_finite()).enumerate();
        own.scores = finite.map(|(i, x)| (format!("m{i}"), x)).collect();
        run.write_cell(&own).unwrap();
        prop_assert_eq!(run.cell(id).unwrap().unwrap(), own);
    }

    #[test]
    fn any_bytes_in_a_cell_are_refused_or_read(at in 0usize..400, with in any::<u8>()) {
        let (_folder, run) = fresh(1);
        let id = &ids(1)[0];
        run.write_cell(&cell(id)).unwrap();
        let mut bytes = fs::read(file(&run, id)).unwrap();
        let at = at % bytes.len();
        bytes[at] = with;
        fs::write(file(&run, id), bytes).unwrap();
        let scan = run.scan().unwrap();
        prop_assert_eq!(scan.present.len() + scan.damaged.len(), 1);
    }
}
