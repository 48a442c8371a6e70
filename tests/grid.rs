//! `grid`, `generate` and `report` through the program: killed, interrupted, shared out, resumed and
//! repeated, a run comes out the same.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

// ---------------------------------------------------------------------------------------------
// Running the program

fn fixture(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(path);
    path.to_str().unwrap().to_owned()
}

fn model() -> String {
    fixture("decoders/chat/model")
}

fn adapter() -> String {
    fixture("decoders/chat/adapter")
}

/// The program, without the variables of a job array that this test may itself run in.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "JOB_COMPLETION_TOTAL"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// Runs, and gives standard output and standard error of a success.
fn good(arguments: &[&str]) -> (String, String) {
    let out = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{arguments:?}: {}{}", out.status, text(&out.stderr));
    (text(&out.stdout), text(&out.stderr))
}

/// Runs with `--json` and reads the one document on standard output.
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&good(&[arguments, &["--json"]].concat()).0).unwrap()
}

/// Runs what must fail with this code, and gives standard error.
fn bad(code: i32, arguments: &[&str]) -> String {
    let out = run(arguments);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(out.stdout.is_empty() && errors.contains("hint:"), "{arguments:?}: {errors}");
    errors
}

fn start(arguments: &[&str]) -> Child {
    let mut command = program();
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> (Option<i32>, String) {
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// In memory where the system has such a folder: a disk that syncs each cell sets the pace of a
    /// run, and what a killed process has written stays on either.
    fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        Self(tempfile::tempdir_in(memory).unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn suite(&self, yaml: &str) -> String {
        fs::write(self.path("suite.yaml"), yaml).unwrap();
        self.text("suite.yaml")
    }
}

// ---------------------------------------------------------------------------------------------
// Suites and runs

/// 300 cells that need no model.
fn many() -> String {
    let prompt = |n: usize| {
        let group = ["heldout", "base"][n % 2];
        format!(
            "  - {{id: p{n}, group: {group}, prompt: Prompt {n}, references: [the quiet river {n}]}}\n"
        )
    };
    let head = "seeds: [1, 2]\nstrengths: [0, 0.25, 0.5, 0.75, 1]\nprompts:\n".to_owned();
    head + &(0..30).map(prompt).collect::<String>()
}

const MANY: usize = 300;

/// Arguments of a run of texts that are made up; a cell takes `pause` milliseconds.
fn made_up(suite: &str, out: &str, pause: u32) -> Vec<String> {
    let lora = format!("style={}", adapter());
    let backend = format!("fake:{pause}");
    ["grid", suite, "--base", "none", "--lora", &lora, "--out", out, "--backend", &backend]
        .map(str::to_owned)
        .to_vec()
}

/// Arguments of a run of the tiny model.
fn real(suite: &str, out: &str) -> Vec<String> {
    let lora = format!("style={}", adapter());
    ["grid", suite, "--base", &model(), "--lora", &lora, "--out", out].map(str::to_owned).to_vec()
}

fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Every file below a folder: path and bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut all, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                // one that is gone was a temporary file of a process that runs
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                all.insert(name.to_owned(), bytes);
            }
        }
    }
    all
}

fn is_temporary(name: &str) -> bool {
    name.rsplit('/').next().unwrap().starts_with(".lora-eval-")
}

/// Everything below `cells/`, and `scores.json`.
fn made(run: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<u8>) {
    (files(&run.join("cells")), fs::read(run.join("scores.json")).unwrap())
}

/// Asserts that nothing unfinished lies in a run, and that it has no files but its own.
fn tidy(run: &Path) {
    let known = [".lock", "run.json", "scores.json", "report.html"];
    for name in files(run).keys() {
        let own = known.contains(&name.as_str()) || name.starts_with("cells/");
        assert!(own && !is_temporary(name), "{name}");
    }
}

/// Cells that can be seen while a run is being made. Each is whole and is the one its name says.
fn visible(run: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, bytes) in files(&run.join("cells")) {
        if is_temporary(&name) {
            continue;
        }
        let cell: Value = serde_json::from_slice(&bytes).unwrap();
        let id = cell["cell"].as_str().unwrap();
        assert_eq!(name, format!("{}/{id}.json", &id[..2]));
        assert_eq!(bytes.last(), Some(&b'\n'));
        all.push(cell);
    }
    all
}

/// Cells without what differs from run to run.
fn timeless(run: &Path) -> BTreeMap<String, Value> {
    let cells = visible(run).into_iter().map(|mut cell| {
        // the time differs, and the seal is of it, too
        for key in ["seconds", "seal"] {
            cell.as_object_mut().unwrap().remove(key).unwrap();
        }
        (cell["cell"].as_str().unwrap().to_owned(), cell)
    });
    cells.collect()
}

/// Outputs by prompt, seed and strength.
fn outputs(run: &Path) -> BTreeMap<(String, u64, String), String> {
    let key = |cell: &Value| {
        let id = cell["prompt_id"].as_str().unwrap().to_owned();
        (id, cell["seed"].as_u64().unwrap(), cell["strength"].to_string())
    };
    visible(run).iter().map(|c| (key(c), c["output"].as_str().unwrap().to_owned())).collect()
}

/// Numbers that are the same in every run of the tests (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most.max(1)
    }

    fn duration(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(most.as_micros()).unwrap()))
    }
}

/// Kills the run again and again, at moments up to `most` after its start, until it was killed
/// `kills` times and at least once after a cell was written; whenever it ends by itself, `finished`
/// sees its folder and the next one starts. However fast the machine is, the last one ends by itself.
fn killed(
    place: &Place,
    kills: usize,
    mut most: Duration,
    arguments: impl Fn(&str) -> Vec<String>,
    finished: impl Fn(&Path),
) {
    let mut random = Random(20);
    let (mut done, mut number, mut amid) = (0, 0, false);
    loop {
        let name = format!("killed{number}");
        let arguments = arguments(&place.text(&name));
        let mut child = start(&strs(&arguments));
        let last = done >= kills && amid;
        if !last {
            sleep(random.duration(most));
            child.kill().unwrap();
        }
        let out = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&out.stderr);
        if out.status.success() {
            finished(&place.path(&name));
            number += 1;
            if last {
                break;
            }
            continue;
        }
        assert_eq!(out.status.signal(), Some(9), "{errors}");
        assert_eq!(errors, "");
        visible(&place.path(&name));
        done += 1;
        amid |= holds_cells(&place.path(&name));
        if done > kills {
            most *= 2; // no cell yet: the machine is slower than it was
        }
    }
}

/// Whether a run has a cell already.
fn holds_cells(run: &Path) -> bool {
    let folders = fs::read_dir(run.join("cells")).into_iter().flatten().map(Result::unwrap);
    folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten()).count() > 0
}

// ---------------------------------------------------------------------------------------------
// Ends that nobody planned

#[test]
fn a_run_killed_200_times_is_the_run_that_went_through() {
    let place = Place::in_memory();
    let suite = place.suite(&many());
    let clock = Instant::now();
    good(&strs(&made_up(&suite, &place.text("whole"), 1)));
    let life = clock.elapsed();
    let whole = made(&place.path("whole"));
    assert_eq!(whole.0.len(), MANY);
    // A third of the time that it takes: each start goes on from another point.
    killed(
        &place,
        200,
        life / 3,
        |out| made_up(&suite, out, 1),
        |folder| {
            tidy(folder);
            assert!(made(folder) == whole, "{}", folder.display());
        },
    );
}

const FEW: &str = "
seeds: [1, 2]
strengths: [0, 0.5, 1]
defaults: {max_new_tokens: 24, temperature: 0.9}
prompts:
  - {id: a, prompt: Hello world, references: [the people of the river]}
  - {id: b, group: base, prompt: The cat}
  - {id: c, prompt: 'When we were', references: [two, three]}
  - {id: d, group: base, prompt: 'Once <lora:style:0.25> upon'}
  - {id: e, prompt: A long way, settings: {temperature: 0, max_new_tokens: 40}}
";

#[test]
fn a_killed_run_of_a_model_goes_on_to_the_same_cells() {
    let place = Place::new();
    let suite = place.suite(FEW);
    let clock = Instant::now();
    good(&strs(&real(&suite, &place.text("whole"))));
    let life = clock.elapsed();
    let whole = place.path("whole");
    killed(
        &place,
        12,
        life / 2,
        |out| real(&suite, out),
        |folder| {
            tidy(folder);
            assert_eq!(timeless(folder), timeless(&whole));
            assert!(made(folder).1 == made(&whole).1);
        },
    );
}

#[test]
fn a_run_that_is_told_to_stop_says_how_to_go_on_and_leaves_nothing_unfinished() {
    let place = Place::new();
    let suite = place.suite(&many());
    good(&strs(&made_up(&suite, &place.text("whole"), 0)));
    let whole = made(&place.path("whole"));
    let mut random = Random(5);
    let out = place.text("stopped");
    let (mut stopped, mut troubles) = (0, Vec::new());
    while stopped < 40 {
        let before = visible(&place.path("stopped")).len();
        let child = start(&strs(&made_up(&suite, &out, 0)));
        // From the first new cell on the program has set up everything.
        while visible(&place.path("stopped")).len() == before {
            sleep(Duration::from_millis(1));
        }
        sleep(random.duration(Duration::from_millis(30)));
        let _ = Command::new("kill")
            .args([["-INT", "-TERM"][stopped % 2], &child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        let (code, errors) = end(child);
        if code == Some(0) {
            // It was faster than the signal.
            tidy(&place.path("stopped"));
            fs::remove_dir_all(place.path("stopped")).unwrap();
            continue;
        }
        stopped += 1;
        if code != Some(130) {
            troubles.push(format!("ended with {code:?}: {errors}"));
        }
        if !errors.contains("run the same command again") || errors.contains("error") {
            troubles.push(format!("said: {errors}"));
        }
        let left: Vec<String> =
            files(&place.path("stopped")).into_keys().filter(|name| is_temporary(name)).collect();
        if !left.is_empty() {
            troubles.push(format!("left {left:?}"));
        }
        if visible(&place.path("stopped")).len() == MANY {
            fs::remove_dir_all(place.path("stopped")).unwrap();
        }
    }
    good(&strs(&made_up(&suite, &out, 0)));
    assert!(made(&place.path("stopped")) == whole);
    assert!(troubles.is_empty(), "{} of {stopped}:\n{}", troubles.len(), troubles.join("\n"));
}

// ---------------------------------------------------------------------------------------------
// Shards

fn with<'a>(arguments: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    [strs(arguments), more.to_vec()].concat()
}

#[test]
fn shards_at_the_same_time_make_the_run_that_one_process_makes() {
    let place = Place::new();
    let suite = place.suite(&many());
    good(&strs(&made_up(&suite, &place.text("whole"), 0)));
    let arguments = made_up(&suite, &place.text("parts"), 1);
    let children: Vec<Child> = ["1/3", "2/3", "3/3", "2/3"] // the second one twice
        .iter()
        .map(|shard| start(&with(&arguments, &["--shard", shard])))
        .collect();
    for child in children {
        let (code, errors) = end(child);
        assert_eq!((code, errors.as_str()), (Some(0), ""));
    }
    tidy(&place.path("parts"));
    assert!(made(&place.path("parts")) == made(&place.path("whole")));
    assert!(place.path("parts/report.html").is_file());
}

#[test]
fn shards_of_a_model_are_the_batches_of_one_process() {
    let place = Place::new();
    let suite = place.suite(FEW);
    good(&strs(&real(&suite, &place.text("whole"))));
    let arguments = real(&suite, &place.text("parts"));
    for shard in ["3/3", "1/3", "2/3"] {
        good(&with(&arguments, &["--shard", shard]));
    }
    assert_eq!(timeless(&place.path("parts")), timeless(&place.path("whole")));
}

#[test]
fn a_report_says_how_much_is_missing() {
    let place = Place::new();
    let suite = place.suite(&many());
    let out = place.text("run");
    let arguments = made_up(&suite, &out, 0);
    let first = json(&with(&arguments, &["--shard", "1/3"]));
    let made = visible(&place.path("run")).len();
    assert_eq!(first["written"], made);
    assert_eq!(first["missing"], MANY - made);
    assert!(first["report"].is_null() && !place.path("run/report.html").exists());
    let (text, _) = good(&with(&arguments, &["--shard", "2/3"]));
    let left = MANY - visible(&place.path("run")).len();
    assert!(text.contains(&format!("{left} cells are other shards'")), "{text}");
    assert!(text.contains("lora-eval report"), "{text}");

    let (text, errors) = good(&["report", &out]);
    assert_eq!(text.trim(), place.text("run/report.html"));
    assert!(errors.contains(&format!("{left} of {MANY} cells are missing")), "{errors}");
    let html = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(html.contains("missing"));
    let report = json(&["report", &out]);
    assert_eq!((&report["missing"], &report["cells"]), (&left.into(), &(MANY - left).into()));
    assert_eq!(report["out"], place.text("run/report.html"));
    let scores: Value =
        serde_json::from_slice(&fs::read(place.path("run/scores.json")).unwrap()).unwrap();
    assert_eq!(scores["present"], MANY - left);
    assert!(scores["notes"][0].as_str().unwrap().contains(&format!("{left} of {MANY} cells")));

    // What is left can be made without `--shard`, too.
    assert_eq!(json(&strs(&arguments))["written"], left);
    good(&["report", &out, &out, "--out", &place.text("both.html")]);
    assert!(bad(2, &["report", &out, &out]).contains("--out"));
    assert!(bad(1, &["report", &place.text("absent")]).contains("absent"));
}

#[test]
fn one_writer_or_many_shards() {
    let place = Place::new();
    let suite = place.suite(&many());
    let arguments = made_up(&suite, &place.text("run"), 50);
    let seen = |least: usize| {
        while visible(&place.path("run")).len() < least {
            sleep(Duration::from_millis(2));
        }
    };
    let mut whole = start(&strs(&arguments));
    seen(1);
    let alone = bad(1, &strs(&arguments));
    let shard = bad(1, &with(&arguments, &["--shard", "1/2"]));
    whole.kill().unwrap();
    whole.wait().unwrap();
    let before = visible(&place.path("run")).len();
    let mut part = start(&with(&arguments, &["--shard", "1/2"]));
    seen(before + 1);
    let beside = bad(1, &strs(&arguments));
    part.kill().unwrap();
    part.wait().unwrap();
    let all = [alone, shard, beside].concat().replace(&place.text("run"), "RUN");
    insta::assert_snapshot!(all);
}

#[test]
fn an_array_tells_its_shards() {
    let place = Place::new();
    let suite = place.suite(&many());
    let part = |name: &str, variables: &[(&str, &str)], shard: &str| {
        let arguments = made_up(&suite, &place.text(name), 0);
        let mut command = program();
        let command = command.args(with(&arguments, &["--shard", shard]));
        let out = command.envs(variables.iter().copied()).output().unwrap();
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code(), errors, files(&place.path(name).join("cells")))
    };
    let slurm = |id, count, low, high| {
        [
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_COUNT", count),
            ("SLURM_ARRAY_TASK_MIN", low),
            ("SLURM_ARRAY_TASK_MAX", high),
        ]
    };
    let second = part("second", &[], "2/3");
    assert_eq!(second.0, Some(0));
    // `sbatch --array=1-3` and `--array=0-2`; a Kubernetes Job of `completions: 3`.
    assert!(part("slurm1", &slurm("2", "3", "1", "3"), "auto") == second);
    assert!(part("slurm0", &slurm("1", "3", "0", "2"), "auto") == second);
    let kubernetes = [("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETION_TOTAL", "3")];
    assert!(part("kubernetes", &kubernetes, "auto") == second);
    // `--array=3,7`; a Job whose author did not say how many there are.
    let mut all = String::new();
    for variables in [&slurm("3", "2", "3", "7")[..], &kubernetes[..1]] {
        let (code, errors, made) = part("none", variables, "auto");
        assert_eq!((code, made.len(), place.path("none").exists()), (Some(2), 0, false));
        all += &errors;
    }
    insta::assert_snapshot!(all);
}

// ---------------------------------------------------------------------------------------------
// Going on

#[test]
fn only_what_is_missing_or_damaged_is_made_again() {
    let place = Place::new();
    let suite = place.suite(&many());
    let arguments = made_up(&suite, &place.text("run"), 0);
    good(&strs(&arguments));
    let whole = made(&place.path("run"));
    let names: Vec<&String> = whole.0.keys().collect();
    let path = |index: usize| place.path("run/cells").join(names[index]);
    let mut random = Random(3);
    let mut touched = BTreeSet::new();
    while touched.len() < 8 {
        touched.insert(usize::try_from(random.below(MANY as u64)).unwrap());
    }
    let touched: Vec<usize> = touched.into_iter().collect();
    for index in &touched[..5] {
        fs::remove_file(path(*index)).unwrap();
    }
    let bytes = |index: usize| &whole.0[names[index]];
    let damages = [
        bytes(touched[5])[..40].to_vec(),
        bytes(touched[0]).clone(), // another cell
        b"\0\xff\n".to_vec(),
    ];
    for (index, damage) in touched[5..].iter().zip(&damages) {
        fs::write(path(*index), damage).unwrap();
    }
    let time = |index: usize| fs::metadata(path(index)).unwrap().modified().unwrap();
    let others: Vec<usize> = (0..MANY).filter(|index| !touched.contains(index)).collect();
    let before: Vec<_> = others.iter().map(|index| time(*index)).collect();

    // A plan of it counts what will be made, and changes nothing.
    let planned = json(&with(&arguments, &["--dry-run"]));
    assert_eq!(planned["to_make"]["cells"], 8);
    let (text, errors) = good(&strs(&arguments));
    assert!(text.contains("300 cells, 8 made now"), "{text}");
    for index in &touched[5..] {
        assert!(errors.contains(names[*index].as_str()), "{errors}");
    }
    assert_eq!(errors.matches("the cell is made again").count(), 3);
    assert!(made(&place.path("run")) == whole);
    let after: Vec<_> = others.iter().map(|index| time(*index)).collect();
    assert!(before == after);
    assert_eq!(json(&strs(&arguments))["written"], 0);
}

#[test]
fn another_suite_does_not_go_into_the_same_folder() {
    let place = Place::new();
    let suite = place.suite(FEW);
    let out = place.text("run");
    good(&strs(&real(&suite, &out)));
    let before = files(&place.path("run"));
    let other = place.suite(&FEW.replace("Hello world", "Hello moon"));
    let errors = bad(1, &strs(&real(&other, &out)));
    assert!(errors.contains("holds another run") && errors.contains("prompt `a`"), "{errors}");
    let (_, warned) = good(&with(&real(&other, &out), &["--dry-run"]));
    assert!(warned.contains("holds another run"), "{warned}");
    assert!(files(&place.path("run")) == before);
}

#[test]
fn a_plan_alone_writes_nothing() {
    let place = Place::new();
    let suite = place.suite(&(FEW.to_owned() + "axes: {top_k: [0, 5]}\n"));
    let out = place.text("run");
    let plan = with(&[], &["--dry-run", "--strengths", "0:1:0.25", "--seeds", "1,2,3"])
        .into_iter()
        .map(str::to_owned);
    let arguments: Vec<String> = real(&suite, &out).into_iter().chain(plan).collect();
    let (text, _) = good(&strs(&arguments));
    // 5 prompts × 5 strengths × 3 seeds × 2 values, one batch for all strengths.
    insta::assert_snapshot!(text);
    let plan = json(&strs(&arguments));
    assert_eq!((&plan["cells"], &plan["batches"]), (&150.into(), &30.into()));
    assert_eq!(plan["to_make"], serde_json::json!({"cells": 150, "batches": 30, "seconds": null}));
    assert_eq!(plan["strengths"], serde_json::json!([0.0, 0.25, 0.5, 0.75, 1.0]));
    assert_eq!(plan["seeds"], serde_json::json!([1, 2, 3]));
    assert!(!place.path("run").exists());
    // Its shards are a part of it.
    let parts = ["1/2", "2/2"].map(|shard| {
        let plan = json(&with(&arguments, &["--shard", shard]));
        assert_eq!(plan["cells"], 150);
        plan["to_make"]["cells"].as_u64().unwrap()
    });
    assert_eq!(parts.iter().sum::<u64>(), 150);

    // After a part was made it tells what is left, and how long that takes.
    let made = json(
        &arguments
            .iter()
            .map(String::as_str)
            .filter(|argument| *argument != "--dry-run")
            .chain(["--shard", "1/2"])
            .collect::<Vec<_>>(),
    );
    let before = files(&place.path("run"));
    let plan = json(&strs(&arguments));
    assert_eq!(plan["to_make"]["cells"], 150 - made["written"].as_u64().unwrap());
    assert!(plan["to_make"]["seconds"].as_f64().unwrap() > 0.0);
    assert!(files(&place.path("run")) == before);
}

// ---------------------------------------------------------------------------------------------
// What scripts read

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn results_are_one_document_with_the_keys_of_the_contract() {
    let place = Place::new();
    let suite = place.suite(FEW);
    let out = place.text("run");
    let grid = json(&strs(&real(&suite, &out)));
    assert_eq!(
        keys(&grid),
        ["out", "cells", "written", "batches", "missing", "report", "scores", "seconds"]
    );
    assert_eq!((&grid["cells"], &grid["written"]), (&30.into(), &30.into()));
    let scores: Value =
        serde_json::from_slice(&fs::read(place.path("run/scores.json")).unwrap()).unwrap();
    assert_eq!(grid["scores"], scores);
    for cell in visible(&place.path("run")) {
        let promised = [
            "cell",
            "prompt_id",
            "group",
            "prompt",
            "adapters",
            "seed",
            "output",
            "scores",
            "seconds",
        ];
        for key in promised {
            assert!(!cell[key].is_null(), "{key}");
        }
        assert_eq!(cell["adapters"][0]["name"], "style");
    }
    let record: Value =
        serde_json::from_slice(&fs::read(place.path("run/run.json")).unwrap()).unwrap();
    for key in ["suite", "base", "adapters", "program", "device", "dtype", "seeds", "settings"] {
        assert!(!record[key].is_null(), "{key}");
    }
    assert_eq!(record["adapters"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(record["base"]["sha256"].as_str().unwrap().len(), 64);

    let text = json(&["generate", "The cat", "--base", &model(), "--max-new-tokens", "5"]);
    for key in ["output", "tokens", "prompt_tokens", "seconds"] {
        assert!(!text[key].is_null(), "{key}");
    }
    assert_eq!(text["tokens"].as_array().unwrap().len(), 5);
    let (plain, _) = good(&["generate", "The cat", "--base", &model(), "--max-new-tokens", "5"]);
    // Into a pipe goes what the model wrote; only a terminal is spared control characters.
    assert_eq!(plain, format!("{}\n", text["output"].as_str().unwrap()));
}

// ---------------------------------------------------------------------------------------------
// The same texts whatever stands around them

#[test]
fn a_text_depends_on_its_prompt_seed_and_strengths_alone() {
    let place = Place::new();
    let run = |name: &str, suite: &str| {
        let suite = place.suite(suite);
        good(&strs(&real(&suite, &place.text(name))));
        place.path(name)
    };
    let one = run("one", FEW);
    assert_eq!(timeless(&run("again", FEW)), timeless(&one));
    let one = outputs(&one);
    assert_eq!(one.len(), 30);
    // Seeds and strengths do something: all but greedy `e`, once a strength, and tagged `d`, once a seed.
    assert_eq!(one.values().collect::<BTreeSet<_>>().len(), 3 * 6 + 3 + 2);

    let (head, prompts) = FEW.split_once("prompts:\n").unwrap();
    let mut lines: Vec<&str> = prompts.lines().collect();
    lines.reverse();
    let suite = |lines: &[&str]| format!("{head}prompts:\n{}\n", lines.join("\n"));
    assert_eq!(outputs(&run("reversed", &suite(&lines))), one);
    let part = outputs(&run("part", &suite(&lines[1..4])));
    assert_eq!(part.len(), 18);
    for (key, output) in &part {
        assert_eq!(output, &one[key], "{key:?}");
    }
    let one_seed = outputs(&run("seed", &FEW.replace("[1, 2]", "[2]")));
    assert_eq!(one_seed.len(), 15);
    for (key, output) in &one_seed {
        assert_eq!(output, &one[key], "{key:?}");
    }
}

/// `generate` with these arguments, and with settings as in [`FEW`].
fn generated(prompt: &str, seed: u64, more: &[&str]) -> String {
    let (base, seed) = (model(), seed.to_string());
    let settings = ["--max-new-tokens", "24", "--temperature", "0.9", "--seed", &seed];
    let arguments = [&["generate", prompt, "--base", &base], &settings[..], more].concat();
    json(&arguments)["output"].as_str().unwrap().to_owned()
}

#[test]
fn generate_writes_what_the_cells_of_a_grid_say() {
    let place = Place::new();
    let suite = place.suite(FEW);
    good(&strs(&real(&suite, &place.text("run"))));
    let cells = outputs(&place.path("run"));
    let lora = format!("style={}", adapter());
    let prompts = [("a", "Hello world"), ("b", "The cat"), ("c", "When we were")];
    for (id, prompt) in prompts {
        for seed in [1, 2] {
            let cell = |strength: &str| &cells[&(id.to_owned(), seed, strength.to_owned())];
            assert_eq!(&generated(prompt, seed, &[]), cell("0.0"));
            let half = format!("{prompt}<lora:style:0.5>");
            assert_eq!(&generated(&half, seed, &["--lora", &lora]), cell("0.5"));
            let one = format!("{lora}:1");
            assert_eq!(&generated(prompt, seed, &["--lora", &one]), cell("1.0"));
        }
    }
    // An adapter that acts nowhere is said to.
    let arguments = ["generate", "The cat", "--base", &model(), "--lora", &lora];
    let (_, errors) = good(&arguments);
    assert!(errors.contains("adapter `style` has no effect here"), "{errors}");
}

/// The commands that a report gives, with the output of the cell under each.
fn commands(html: &str) -> Vec<String> {
    let plain = |text: &str| {
        [
            ("&#x27;", "'"),
            ("&#x2f;", "/"),
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&amp;", "&"),
        ]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    let starts = html.match_indices("lora-eval generate ").map(|(at, _)| &html[at..]);
    starts.map(|text| plain(text.split('<').next().unwrap())).collect()
}

#[test]
fn the_commands_of_a_report_make_its_cells_again() {
    let place = Place::new();
    let suite = place.suite(
        "
seeds: [2]
strengths: [0, 0.5]
defaults: {max_new_tokens: 8, temperature: 0.9}
prompts:
  - {id: plain, prompt: Hello world}
  - {id: own-settings, prompt: Hello world, settings: {temperature: 0.3, max_new_tokens: 12}}
  - {id: other-settings, prompt: Hello world, settings: {top_k: 5, repetition_penalty: 1.3, min_p: 0.01}}
  - {id: stopped, prompt: Hello world, settings: {stop: [e, o], max_new_tokens: 30}}
  - {id: chat, prompt: Hello world, settings: {chat: true}}
  - {id: system, prompt: Hello world, settings: {system: Be brief}}
  - {id: tag, prompt: 'Hello <lora:style:0.7>world'}
  - {id: quote, prompt: \"It's $HOME \\\"x\\\" <b>\"}
axes: {top_p: [0.5, 1]}
",
    );
    good(&strs(&real(&suite, &place.text("run"))));
    let html = fs::read_to_string(place.path("run/report.html")).unwrap();
    let commands = commands(&html);
    let mut wrong = Vec::new();
    let mut wanted: Vec<String> = visible(&place.path("run"))
        .iter()
        .map(|cell| cell["output"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(commands.len(), wanted.len());
    for command in &commands {
        let script = command.replacen("lora-eval generate", "\"$PROGRAM\" generate --json", 1);
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", &script]).env("PROGRAM", env!("CARGO_BIN_EXE_lora-eval"));
        let out = shell.output().unwrap();
        let text: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        match wanted.iter().position(|wanted| text["output"] == *wanted) {
            Some(place) => drop(wanted.swap_remove(place)),
            None => wrong.push(command.as_str()),
        }
    }
    assert!(wrong.is_empty(), "make other texts than their cells:\n{}", wrong.join("\n"));
}

// ---------------------------------------------------------------------------------------------
// Which adapter acts, and how strongly

/// Strengths of the adapters in the cells of a prompt, by the value on the axis.
fn strengths(run: &Path, prompt: &str) -> BTreeMap<String, String> {
    let cells = visible(run).into_iter().filter(|cell| cell["prompt_id"] == prompt);
    let list = |cell: &Value| -> String {
        let all = cell["adapters"].as_array().unwrap();
        let all = all.iter().map(|a| format!("{}:{}", a["name"].as_str().unwrap(), a["strength"]));
        all.collect::<Vec<_>>().join(" ")
    };
    let key = |cell: &Value| match cell["axes"]["adapter"].as_str() {
        Some(name) => format!("{name} {}", cell["strength"]),
        None => cell["strength"].to_string(),
    };
    cells.map(|cell| (key(&cell), list(&cell))).collect()
}

fn pairs(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

const TAGS: &str = "
strengths: [0, 1]
defaults: {max_new_tokens: 6}
prompts:
  - {id: plain, prompt: Hello world}
  - {id: tag, prompt: 'Hello <lora:x:0.7>world'}
  - {id: twice, prompt: 'Hello <lora:x:0.25><lora:x:0.5>world'}
";

#[test]
fn a_tag_fixes_an_adapter_and_a_strength_on_the_command_line_takes_it_off_the_axis() {
    let place = Place::new();
    let suite = place.suite(TAGS);
    let (x, y, base) = (format!("x={}", adapter()), format!("y={}", adapter()), model());
    let out = place.text("both");
    good(&["grid", &suite, "--base", &base, "--lora", &x, "--lora", &y, "--out", &out]);
    let run = place.path("both");
    assert_eq!(strengths(&run, "plain"), pairs(&[("0.0", "x:0.0 y:0.0"), ("1.0", "x:1.0 y:1.0")]));
    assert_eq!(strengths(&run, "tag"), pairs(&[("0.0", "x:0.7 y:0.0"), ("1.0", "x:0.7 y:1.0")]));
    assert_eq!(
        strengths(&run, "twice"),
        pairs(&[("0.0", "x:0.75 y:0.0"), ("1.0", "x:0.75 y:1.0")])
    );

    let (half, out) = (format!("{x}:0.5"), place.text("fixed"));
    good(&["grid", &suite, "--base", &base, "--lora", &half, "--lora", &y, "--out", &out]);
    let run = place.path("fixed");
    assert_eq!(strengths(&run, "plain"), pairs(&[("0.0", "x:0.5 y:0.0"), ("1.0", "x:0.5 y:1.0")]));
    assert_eq!(strengths(&run, "tag"), pairs(&[("0.0", "x:0.7 y:0.0"), ("1.0", "x:0.7 y:1.0")]));
    // Its text is that of the adapter alone at that strength.
    let text = json(&[
        "generate",
        "Hello world",
        "--base",
        &base,
        "--lora",
        &half,
        "--max-new-tokens",
        "6",
    ]);
    let cells = outputs(&run);
    assert_eq!(text["output"], cells[&("plain".to_owned(), 1, "0.0".to_owned())]);
}

#[test]
fn an_axis_of_adapters_takes_one_at_a_time() {
    let place = Place::new();
    let suite = place.suite(&(TAGS.to_owned() + "axes: {adapter: [x, y]}\n"));
    let (x, y, base) = (format!("x={}", adapter()), format!("y={}", adapter()), model());
    let out = place.text("run");
    good(&["grid", &suite, "--base", &base, "--lora", &x, "--lora", &y, "--out", &out]);
    let run = place.path("run");
    assert_eq!(
        strengths(&run, "plain"),
        pairs(&[
            ("x 0.0", "x:0.0 y:0.0"),
            ("x 1.0", "x:1.0 y:0.0"),
            ("y 0.0", "x:0.0 y:0.0"),
            ("y 1.0", "x:0.0 y:1.0"),
        ])
    );
}

fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_folder_of_adapters_is_searched_by_name_and_not_left() {
    let place = Place::new();
    copy(&adapter(), &place.path("loras/deep/down/ink"));
    copy(&adapter(), &place.path("outside/away"));
    copy(&adapter(), &place.path("outside/far"));
    std::os::unix::fs::symlink(place.path("outside/away"), place.path("loras/away")).unwrap();
    std::os::unix::fs::symlink(place.path("outside"), place.path("loras/all")).unwrap();
    // A link in a circle ends.
    std::os::unix::fs::symlink(place.path("loras"), place.path("loras/deep/round")).unwrap();
    let (folder, base) = (place.text("loras"), model());
    let run = |name: &str, out: &str| {
        let suite = place.suite(&TAGS.replace("lora:x", &format!("lora:{name}")));
        let out = place.text(out);
        let arguments = ["grid", &suite, "--base", &base, "--lora-dir", &folder, "--out", &out];
        arguments.map(str::to_owned).to_vec()
    };
    good(&strs(&run("ink", "run")));
    // It acts only where it is named.
    assert_eq!(strengths(&place.path("run"), "plain"), pairs(&[("0.0", ""), ("1.0", "")]));
    let tag = strengths(&place.path("run"), "tag");
    assert_eq!(tag, pairs(&[("0.0", "ink:0.7"), ("1.0", "ink:0.7")]));
    for name in ["away", "far", "../outside/away", "deep/down/ink", "/", ".."] {
        let errors = bad(1, &strs(&run(name, "none")));
        assert!(errors.contains(&format!("`{name}`")), "{errors}");
        assert!(!place.path("none").exists());
    }
}

/// Strength 0 is the base wherever it was written, and short equal texts are wholly alike.
#[test]
fn the_base_is_the_base_wherever_0_stands() {
    let place = Place::new();
    let suite = place.suite(
        "defaults: {max_new_tokens: 2}\nprompts: [{id: a, group: base, prompt: The river}]\n",
    );
    let (run, base, lora) = (place.text("run"), model(), format!("style={}", adapter()));
    let scores = json(&[
        "grid",
        &suite,
        "--base",
        &base,
        "--lora",
        &lora,
        "--strengths",
        "-1:1:1",
        "--out",
        &run,
    ]);
    let row = |metric: &str, strength: f64| {
        let metrics = scores["scores"]["metrics"].as_array().unwrap();
        let metric = metrics.iter().find(|one| one["metric"] == metric).unwrap();
        let rows = metric["rows"].as_array().unwrap();
        rows.iter().find(|row| row["strength"] == strength).unwrap()["value"].as_f64().unwrap()
    };
    assert_eq!((row("kl", 0.0), row("top1", 0.0), row("base-bleu", 0.0)), (0.0, 100.0, 100.0));
    assert!(row("kl", -1.0) > 0.0 && row("kl", 1.0) > 0.0);
}
