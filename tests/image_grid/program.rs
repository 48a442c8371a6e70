//! Running the program, and what it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lora_eval::picture::{self, PARAMETERS, Picture};
use serde_json::Value;
use tempfile::TempDir;

pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(path)
}

/// A base or an adapter among the pipelines that draw.
pub fn diffusion(name: &str) -> String {
    text(&fixture("diffusion").join(name))
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The program, without the variables of a job array that this test may itself run in.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "JOB_COMPLETION_TOTAL"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").env("RAYON_NUM_THREADS", "2");
    command
}

pub fn run<S: AsRef<str>>(arguments: &[S]) -> Output {
    program().args(arguments.iter().map(AsRef::as_ref)).output().unwrap()
}

/// Runs, and gives standard output and standard error of a success.
pub fn good<S: AsRef<str>>(arguments: &[S]) -> (String, String) {
    let out = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    assert!(out.status.success(), "{shown:?}: {}{}", out.status, text(&out.stderr));
    (text(&out.stdout), text(&out.stderr))
}

/// Runs what must fail, and gives standard error.
pub fn bad<S: AsRef<str>>(arguments: &[S]) -> String {
    let out = run(arguments);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    let shown: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    assert!(matches!(out.status.code(), Some(1 | 2)), "{shown:?}: {}{errors}", out.status);
    assert!(out.stdout.is_empty() && errors.contains("hint:"), "{shown:?}: {errors}");
    errors
}

pub struct Place(TempDir);

impl Place {
    /// In memory where the system has such a folder: a disk that syncs each cell sets the pace.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        Self(tempfile::tempdir_in(memory).unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        text(&self.path(name))
    }

    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.text(name)
    }

    /// A copy of a pipeline, to be changed.
    pub fn pipeline(&self, from: &str, name: &str) -> PathBuf {
        copy(&fixture("diffusion").join(from), &self.path(name));
        self.path(name)
    }

    /// Every file below it and what it holds.
    pub fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        files(self.0.path())
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Every file below a folder: path and bytes.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
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

/// Changes a JSON file.
pub fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// A finished cell.
pub struct Made {
    /// Its record, without the time that it took.
    pub record: Value,
    /// Its picture's file.
    pub png: PathBuf,
}

impl Made {
    pub fn picture(&self) -> Picture {
        picture::read(&self.png).unwrap()
    }

    pub fn parameters(&self) -> String {
        parameters(&self.png)
    }

    pub fn strength(&self) -> f64 {
        self.record["strength"].as_f64().unwrap()
    }

    pub fn is(&self, prompt: &str, seed: u64, strength: f64) -> bool {
        self.record["prompt_id"] == prompt
            && self.record["seed"] == seed
            && self.strength() == strength
    }
}

pub fn parameters(png: &Path) -> String {
    picture::read_text(png, PARAMETERS).unwrap().unwrap()
}

/// The cells of a run by their ids.
pub fn cells(run: &Path) -> BTreeMap<String, Made> {
    let records = files(&run.join("cells"))
        .into_iter()
        .filter(|(name, _)| !name.rsplit('/').next().unwrap().starts_with(".lora-eval-"));
    let made = records.map(|(_, bytes)| {
        let mut record: Value = serde_json::from_slice(&bytes).unwrap();
        // the time differs, and the seal is of it, too
        for key in ["seconds", "seal"] {
            record.as_object_mut().unwrap().remove(key).unwrap();
        }
        let png = run.join(record["output"].as_str().unwrap());
        (record["cell"].as_str().unwrap().to_owned(), Made { record, png })
    });
    made.collect()
}

/// Records and pictures by the cells' ids.
type Contents = BTreeMap<String, (Value, Vec<u8>)>;

/// All of a run that is the same whenever it is made: records, pictures, scores.
pub fn made(run: &Path) -> (Contents, Vec<u8>) {
    let cells = cells(run).into_iter();
    let cells = cells.map(|(id, made)| (id, (made.record, fs::read(made.png).unwrap())));
    (cells.collect(), fs::read(run.join("scores.json")).unwrap())
}

/// The cell of a prompt, a seed and a strength.
pub fn cell<'a>(
    all: &'a BTreeMap<String, Made>,
    prompt: &str,
    seed: u64,
    strength: f64,
) -> &'a Made {
    let mut found = all.values().filter(|made| made.is(prompt, seed, strength));
    let cell = found.next().unwrap();
    assert!(found.next().is_none());
    cell
}

/// Peak signal to noise of bytes, in dB; infinite for equal pictures.
pub fn psnr(a: &Picture, b: &Picture) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let square = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mse = a.rgb.iter().zip(&b.rgb).map(square).sum::<f64>() / a.rgb.len() as f64;
    10.0 * (255.0 * 255.0 / mse).log10()
}

/// Arguments of a grid of a pipeline with its adapter on the axis.
pub fn grid(family: &str, suite: &str, out: &str) -> Vec<String> {
    let lora = format!("style={}", diffusion(&format!("{family}-lora.safetensors")));
    ["grid", suite, "--base", &diffusion(family), "--lora", &lora, "--out", out]
        .map(str::to_owned)
        .to_vec()
}

/// Arguments and more of them.
pub fn with(arguments: &[String], more: &[&str]) -> Vec<String> {
    arguments.iter().cloned().chain(more.iter().map(|&word| word.to_owned())).collect()
}
