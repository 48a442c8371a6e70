//! Bad input against the built program: whatever it is given, it ends by itself with the right exit
//! code, says which file and what to do, and writes nothing.
//!
//! Most tests are tables. A row that fails is reported with its name, all rows are tried.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lora_eval::tensors::{Limits, TensorFile};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

// ---------------------------------------------------------------------------------------------
// Running the program

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(path)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs the program; on Linux with 2 GB of address space and 20 s of processor time, so that an
/// input which asks for more shows as a signal.
fn run<S: AsRef<str>>(args: &[S]) -> Output {
    let program = env!("CARGO_BIN_EXE_lora-eval");
    let mut command = if cfg!(target_os = "linux") {
        let mut shell = Command::new("sh");
        let limits = "ulimit -c 0 -v 2000000 -t 20 2>/dev/null; exec \"$0\" \"$@\"";
        shell.args(["-c", limits, program]);
        shell
    } else {
        Command::new(program)
    };
    command.args(args.iter().map(AsRef::as_ref)).env("NO_COLOR", "1").output().unwrap()
}

/// What an outcome breaks of the rules for every command.
fn broken_rules(out: &Output, code: i32, words: &[&str]) -> Vec<String> {
    let (stdout, stderr) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let mut broken = Vec::new();
    if out.status.code() != Some(code) {
        broken.push(format!("ended with {}, expected {code}", out.status));
    }
    if stderr.contains("panicked") {
        broken.push("panicked".to_owned());
    }
    if stderr.len() > 16 << 10 {
        broken.push(format!("{} bytes on standard error", stderr.len()));
    }
    for (name, text) in [("output", &stdout), ("error", &stderr)] {
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            broken.push(format!("control characters on standard {name}"));
        }
    }
    if code == 1 && !stderr.contains("hint:") {
        broken.push("no hint".to_owned());
    }
    if code != 0 && !stdout.is_empty() {
        broken.push("something on standard output".to_owned());
    }
    for word in words {
        if !stderr.contains(word) {
            broken.push(format!("does not say `{word}`"));
        }
    }
    if !broken.is_empty() {
        broken.push(format!("standard error: {}", short(&stderr)));
    }
    broken
}

fn short(text: &str) -> String {
    text.chars().take(600).collect()
}

/// Collects the rows that fail, so that a table is tried to its end.
#[derive(Default)]
struct Table {
    rows: usize,
    failed: Vec<String>,
}

impl Table {
    fn row<S: AsRef<str>>(&mut self, name: &str, args: &[S], code: i32, words: &[&str]) -> Output {
        let start = Instant::now();
        let out = run(args);
        self.check(name, &broken_rules(&out, code, words));
        if start.elapsed() > Duration::from_secs(5) {
            self.check(name, &[format!("took {:.1} s", start.elapsed().as_secs_f64())]);
        }
        out
    }

    fn check(&mut self, name: &str, broken: &[String]) {
        self.rows += 1;
        if !broken.is_empty() {
            self.failed.push(format!("{name}: {}", broken.join("; ")));
        }
    }

    fn holds(&mut self, name: &str, holds: bool, otherwise: &str) {
        let broken = [otherwise.to_owned()];
        self.check(name, if holds { &[] } else { &broken });
    }

    fn end(self) {
        let (failed, rows) = (self.failed.len(), self.rows);
        assert!(failed == 0, "{failed} of {rows} rows failed:\n{}", self.failed.join("\n"));
    }
}

// ---------------------------------------------------------------------------------------------
// Making files

/// A module of the fixture `sd1`, 12 × 12.
const Q: &str = "lora_te_text_model_encoder_layers_0_self_attn_q_proj";

struct Made {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A tensor of `value`s. A name that starts with a dot is a part of the module [`Q`].
fn filled(name: &str, shape: &[usize], value: f32) -> Made {
    let name = if name.starts_with('.') { format!("{Q}{name}") } else { name.to_owned() };
    let bytes = value.to_le_bytes().repeat(shape.iter().product());
    Made { name, dtype: "F32", shape: shape.to_vec(), bytes }
}

fn t(name: &str, shape: &[usize]) -> Made {
    filled(name, shape, 0.5)
}

/// A tensor of another type, all its bytes zero but the lowest of each element.
fn typed(name: &str, dtype: &'static str, size: usize, shape: &[usize], first: u8) -> Made {
    let mut made = t(name, shape);
    made.dtype = dtype;
    let mut element = vec![0; size];
    element[0] = first;
    made.bytes = element.repeat(shape.iter().product());
    made
}

fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn with_metadata(tensors: Vec<Made>, metadata: &Value) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), metadata.clone());
    let mut data = Vec::new();
    for made in tensors {
        let offsets = [data.len(), data.len() + made.bytes.len()];
        let entry = json!({"dtype": made.dtype, "shape": made.shape, "data_offsets": offsets});
        assert!(header.insert(made.name, entry).is_none());
        data.extend(made.bytes);
    }
    let mut bytes = raw(&Value::Object(header).to_string(), 0);
    bytes.extend(data);
    bytes
}

fn file<const N: usize>(tensors: [Made; N]) -> Vec<u8> {
    with_metadata(tensors.into(), &json!({}))
}

fn low_rank(down: &[usize], up: &[usize]) -> [Made; 2] {
    [t(".lora_down.weight", down), t(".lora_up.weight", up)]
}

fn good() -> Vec<u8> {
    file(low_rank(&[2, 12], &[12, 2]))
}

/// A good module and these tensors.
fn good_and<const N: usize>(more: [Made; N]) -> Vec<u8> {
    with_metadata(low_rank(&[2, 12], &[12, 2]).into_iter().chain(more).collect(), &json!({}))
}

/// A header with one tensor of that description, and as many bytes of data.
fn one(description: &str, data: usize) -> Vec<u8> {
    raw(&format!("{{\"{Q}.alpha\":{{{description}}}}}"), data)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below a folder and what it holds.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            all.push((entry.path(), Vec::new()));
            all.extend(tree(&entry.path()));
        } else {
            all.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    all.sort();
    all
}

/// Files that are no safetensors files or damaged ones, and words of the error.
#[expect(clippy::too_many_lines, reason = "one table")]
fn damaged() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let f32s = "\"dtype\":\"F32\",\"shape\":";
    let length = |n: u64| {
        let mut bytes = good();
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    let tail = || {
        let mut bytes = good();
        bytes.push(0);
        bytes
    };
    let two = |a: &str, b: &str| {
        let header = format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{b}}}}}"#
        );
        raw(&header, 8)
    };
    let not_utf8 = || {
        let mut bytes = good();
        bytes[10] = 0xff;
        bytes
    };
    let entry = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let many: Vec<String> = (0..200_000).map(|i| format!("\"a{i}\":{entry}")).collect();
    vec![
        ("empty file", Vec::new(), "too few"),
        ("seven bytes", vec![0; 7], "too few"),
        ("only a length of 0", vec![0; 8], "not valid"),
        ("length 0", length(0), "not valid"),
        ("length 1", length(1), "not valid"),
        ("length 2^63", length(1 << 63), "over the limit"),
        ("length 2^64 - 1", length(u64::MAX), "over the limit"),
        ("length beyond the file", length(1 << 20), "claims"),
        ("tail", tail(), "promises"),
        ("not UTF-8", not_utf8(), "UTF-8"),
        ("not JSON", raw("{\"a\": nonsense}", 0), "not valid"),
        ("a list", raw("[1, 2]", 0), "not a safetensors"),
        ("two documents", raw("{}{}", 0), "not valid"),
        ("deep nesting", raw(&format!("{{\"a\":{}", "[".repeat(100_000)), 0), "not valid"),
        ("deep maps", raw(&"{\"a\":".repeat(100_000), 0), "not valid"),
        ("metadata that is no text", raw(r#"{"__metadata__":{"a":1}}"#, 0), "not valid"),
        ("metadata twice", raw(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "twice"),
        ("same name twice", raw(&format!("{{\"a\":{entry},\"a\":{entry}}}"), 0), "twice"),
        ("overlap", two("[0,4]", "[2,6]"), "contradicts"),
        ("same bytes twice", two("[0,4]", "[0,4]"), "contradicts"),
        ("hole", two("[0,4]", "[5,9]"), "contradicts"),
        ("reversed", two("[0,4]", "[8,4]"), "contradicts"),
        ("not from 0", two("[1,5]", "[5,9]"), "contradicts"),
        ("beyond the file", two("[0,4]", "[4,4000]"), "contradicts"),
        ("negative", two("[0,4]", "[-4,8]"), "not valid"),
        ("float", two("[0,4]", "[4.0,8.0]"), "not valid"),
        ("1e400", two("[0,4]", "[4,1e400]"), "not valid"),
        ("offset 2^64", two("[0,4]", "[4,18446744073709551616]"), "not valid"),
        ("three offsets", two("[0,4]", "[4,8,8]"), "not valid"),
        ("unknown type", one(r#""dtype":"F33","shape":[],"data_offsets":[0,4]"#, 4), "not valid"),
        ("no shape", one(r#""dtype":"F32","data_offsets":[0,4]"#, 4), "not valid"),
        ("extent below 0", one(&format!("{f32s}[-1],\"data_offsets\":[0,4]"), 4), "not valid"),
        (
            "product over 2^64",
            one(&format!("{f32s}[4294967296,4294967296,2],\"data_offsets\":[0,4]"), 4),
            "contradicts",
        ),
        (
            "product over 2^64 that wraps to 1",
            one(
                &format!(
                    "{f32s}[18446744073709551615,18446744073709551615],\"data_offsets\":[0,4]"
                ),
                4,
            ),
            "contradicts",
        ),
        (
            "2^40 by nothing",
            one(&format!("{f32s}[0,1099511627776],\"data_offsets\":[0,0]"), 0),
            "dimension of 1099511627776",
        ),
        (
            "20 dimensions",
            one(&format!("{f32s}{:?},\"data_offsets\":[0,4]", [1; 20]), 4),
            "20 dimensions",
        ),
        (
            "100,000 dimensions",
            one(&format!("{f32s}{:?},\"data_offsets\":[0,4]", vec![1; 100_000]), 4),
            "100000 dimensions",
        ),
        ("200,000 empty tensors", raw(&format!("{{{}}}", many.join(",")), 0), ""),
        ("pickle", b"\x80\x02}q\x00.".to_vec(), "pickle"),
        ("zip", b"PK\x03\x04\x14\x00\x00\x00\x08\x00archive/data.pkl".to_vec(), "pickle"),
        ("GGUF", b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec(), ""),
        (
            "text",
            b"version https://git-lfs.github.com/spec/v1\noid x".to_vec(),
            "not a safetensors",
        ),
        (
            "a web page",
            b"<!DOCTYPE html><html><body>404</body></html>".to_vec(),
            "not a safetensors",
        ),
        ("zeros", vec![0; 4096], ""),
        ("ones", vec![0xff; 4096], ""),
    ]
}

// ---------------------------------------------------------------------------------------------
// Adapters

/// A folder to work in, with a good adapter and the names of a base and of an output.
struct Place {
    dir: TempDir,
    base: String,
    good: String,
    out: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let good_file = dir.path().join("good.safetensors");
        fs::write(&good_file, good()).unwrap();
        Self {
            base: text(&fixture("bases/sd1.safetensors")),
            good: text(&good_file),
            out: text(&dir.path().join("out")),
            dir,
        }
    }

    fn path(&self, name: &str) -> String {
        text(&self.dir.path().join(name))
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        text(&path)
    }

    /// Inspects and merges an adapter. Only a merge that succeeds writes.
    fn both(
        &self,
        table: &mut Table,
        (name, adapter): (&str, &str),
        codes: [i32; 2],
        words: &[&str],
    ) {
        let base = self.base.as_str();
        self.both_on(table, base, (name, adapter), codes, words);
    }

    fn both_on(
        &self,
        table: &mut Table,
        base: &str,
        (name, adapter): (&str, &str),
        [inspect, merge]: [i32; 2],
        words: &[&str],
    ) {
        let kept = if inspect == merge { words } else { &[] };
        table.row(&format!("inspect {name}"), &["inspect", adapter], inspect, kept);
        let args = ["merge", "--base", base, "--lora", adapter, "--out", &self.out];
        table.row(&format!("merge {name}"), &args, merge, words);
        self.nothing_written(table, name, merge);
    }

    fn nothing_written(&self, table: &mut Table, name: &str, code: i32) {
        let out = Path::new(&self.out);
        table.holds(name, out.exists() == (code == 0), "the output is there, or is not");
        let _ = fs::remove_file(out);
        let _ = fs::remove_dir_all(out);
        let litter = fs::read_dir(self.dir.path())
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".lora-eval"));
        table.holds(name, !litter, "a temporary file was left behind");
    }
}

#[test]
fn damaged_files_are_refused_as_adapters_and_as_bases() {
    let (place, mut table) = (Place::new(), Table::default());
    for (name, bytes, words) in damaged() {
        let bad = place.put("bad.safetensors", bytes);
        place.both(&mut table, (name, &bad), [1, 1], &[words, "bad.safetensors"]);
        let args = ["merge", "--base", &bad, "--lora", &place.good, "--out", &place.out];
        table.row(&format!("base: {name}"), &args, 1, &["bad.safetensors"]);
        place.nothing_written(&mut table, name, 1);
    }
    let mut long = String::from("{\"__metadata__\":{\"a\":\"");
    long.push_str(&"x".repeat(9 << 20));
    long.push_str("\"}}");
    let long = place.put("bad.safetensors", raw(&long, 0));
    place.both(&mut table, ("header over 8 MiB", &long), [1, 1], &["over the limit"]);
    table.end();
}

#[test]
fn an_adapter_cut_anywhere_is_refused() {
    let (place, mut table) = (Place::new(), Table::default());
    let whole = good();
    let steps = (0..24).chain((24..whole.len()).step_by(whole.len() / 24)).chain([whole.len() - 1]);
    for length in steps {
        let cut = place.put("cut.safetensors", &whole[..length]);
        table.row(&format!("{length} bytes"), &["inspect", &cut], 1, &["cut.safetensors"]);
    }
    table.end();
}

#[test]
fn what_is_no_file_of_tensors_is_refused() {
    let (place, mut table) = (Place::new(), Table::default());
    let none: [(&str, String, &str); 12] = [
        ("a .pt", place.put("x.pt", b"\x80\x02}q\x00."), "pickle"),
        ("a .ckpt", place.put("x.ckpt", b"PK\x03\x04\x00\x00\x08\x08\x00\x00"), "pickle"),
        ("missing", place.path("missing.safetensors"), "missing.safetensors"),
        ("missing folder", place.path("missing/x.safetensors"), "x.safetensors"),
        ("below a file", place.path("good.safetensors/x.safetensors"), "x.safetensors"),
        ("name too long", place.path(&"x".repeat(300)), "xxx"),
        ("empty folder", text(&place.dir.path().join("empty")), "empty"),
        ("folder of two", text(&place.dir.path().join("two")), "several"),
        ("folder of others", text(&place.dir.path().join("other")), "holds neither"),
        ("only adapter_model.bin", text(&place.dir.path().join("bin")), "pickle"),
        ("no weights beside the configuration", text(&place.dir.path().join("bare")), "bare"),
        ("no configuration, only .bin", text(&place.dir.path().join("bin2")), "pickle"),
    ];
    fs::create_dir(place.dir.path().join("empty")).unwrap();
    place.put("two/a.safetensors", good());
    place.put("two/b.safetensors", good());
    place.put("other/readme.txt", "x");
    for (folder, name) in [("bin", "adapter_model.bin"), ("bin2", "adapter_model.bin")] {
        place.put(&format!("{folder}/{name}"), b"\x80\x02}q\x00.");
    }
    for folder in ["bin", "bare"] {
        place.put(&format!("{folder}/adapter_config.json"), "{\"peft_type\": \"LORA\"}");
    }
    for (name, path, words) in &none {
        place.both(&mut table, (name, path), [1, 1], &[words]);
        let args = ["merge", "--base", path, "--lora", &place.good, "--out", &place.out];
        table.row(&format!("base: {name}"), &args, 1, &[]);
    }
    #[cfg(unix)]
    {
        let (a, b) = (place.path("a.safetensors"), place.path("b.safetensors"));
        std::os::unix::fs::symlink(&a, &b).unwrap();
        std::os::unix::fs::symlink(&b, &a).unwrap();
        place.both(&mut table, ("symlink loop", &a), [1, 1], &["a.safetensors"]);
    }
    table.end();
}

#[cfg(unix)]
#[test]
fn a_file_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (place, mut table) = (Place::new(), Table::default());
    let secret = place.put("secret.safetensors", good());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&secret).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    place.both(&mut table, ("no permission", &secret), [1, 1], &["ermission"]);
    table.end();
}

/// Name, file, exit codes of `inspect` and `merge`, words of the error.
type Row<'a> = (&'a str, Vec<u8>, [i32; 2], &'a [&'a str]);

/// Contents that are well-formed as files: what the program makes of them as adapters.
#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn contradicting_adapters_are_refused_by_module() {
    let (place, mut table) = (Place::new(), Table::default());
    let (unet, up) = ("lora_unet_down_blocks_0_attentions_0_proj_in", ".lora_up.weight");
    let rows: Vec<Row<'_>> = vec![
        ("good", good(), [0, 0], &[]),
        ("up without down", file([t(up, &[12, 2])]), [1, 1], &[Q, "no `down`"]),
        ("down without up", file([t(".lora_down.weight", &[2, 12])]), [1, 1], &[Q, "no `up`"]),
        ("ranks that disagree", file(low_rank(&[2, 12], &[12, 3])), [1, 1], &[Q, "shape"]),
        ("rank 0", file(low_rank(&[0, 12], &[12, 0])), [1, 1], &[Q, "rank 0"]),
        ("a vector", file(low_rank(&[12], &[12, 1])), [1, 1], &[Q, "shape"]),
        ("a cube", file(low_rank(&[2, 12, 1], &[12, 2])), [1, 1], &[Q, "shape"]),
        ("a scalar", file(low_rank(&[], &[])), [1, 1], &[Q, "shape"]),
        ("eight dimensions", file(low_rank(&[1, 1, 1, 1, 1, 1, 1, 1], &[12, 1])), [1, 1], &[Q]),
        ("no outputs", file(low_rank(&[2, 12], &[0, 2])), [0, 1], &[]),
        ("no inputs", file(low_rank(&[2, 0], &[12, 2])), [0, 1], &[]),
        ("rank 64 of 12", file(low_rank(&[64, 12], &[12, 64])), [0, 0], &["larger than both"]),
        ("only an alpha", file([t(".alpha", &[])]), [1, 1], &["no key"]),
        ("alpha of two numbers", good_and([t(".alpha", &[2])]), [1, 1], &[Q, "alpha"]),
        ("alpha of none", good_and([t(".alpha", &[0])]), [1, 1], &[Q, "alpha"]),
        ("alpha NaN", good_and([filled(".alpha", &[], f32::NAN)]), [1, 1], &[Q, "alpha"]),
        ("alpha Inf", good_and([filled(".alpha", &[], f32::INFINITY)]), [1, 1], &[Q, "alpha"]),
        ("alpha 0", good_and([filled(".alpha", &[], 0.0)]), [0, 0], &["alpha 0"]),
        ("alpha -1", good_and([filled(".alpha", &[], -1.0)]), [0, 0], &[]),
        ("alpha I64", good_and([typed(".alpha", "I64", 8, &[], 2)]), [0, 0], &[]),
        ("alpha F8", good_and([typed(".alpha", "F8_E4M3", 1, &[], 0x38)]), [1, 1], &[Q, "alpha"]),
        ("alpha BOOL", good_and([typed(".alpha", "BOOL", 1, &[], 1)]), [1, 1], &[Q, "alpha"]),
        ("alpha C64", good_and([typed(".alpha", "C64", 8, &[], 1)]), [1, 1], &[Q, "alpha"]),
        (
            "I64 weights",
            file([typed(".lora_down.weight", "I64", 8, &[2, 12], 1), t(up, &[12, 2])]),
            [1, 1],
            &[Q, "I64"],
        ),
        (
            "F8 weights",
            file([typed(".lora_down.weight", "F8_E4M3", 1, &[2, 12], 1), t(up, &[12, 2])]),
            [1, 1],
            &[Q, "F8_E4M3"],
        ),
        (
            "BOOL weights",
            file([t(".lora_down.weight", &[2, 12]), typed(up, "BOOL", 1, &[12, 2], 1)]),
            [1, 1],
            &[Q, "BOOL"],
        ),
        (
            "NaN weights",
            file([t(".lora_down.weight", &[2, 12]), filled(up, &[12, 2], f32::NAN)]),
            [0, 0],
            &["NaN", Q],
        ),
        (
            "Inf weights",
            file([filled(".lora_down.weight", &[2, 12], f32::INFINITY), t(up, &[12, 2])]),
            [0, 0],
            &["infinite", Q],
        ),
        (
            "beyond F16",
            file([t(".lora_down.weight", &[2, 12]), filled(up, &[12, 2], 1e30)]),
            [0, 1],
            &["F16", "too large"],
        ),
        ("mid of a wrong shape", good_and([t(".lora_mid.weight", &[3, 3, 3, 3])]), [1, 1], &[Q]),
        ("mid of two dimensions", good_and([t(".lora_mid.weight", &[2, 2])]), [1, 1], &[Q]),
        ("mid with nothing in it", good_and([t(".lora_mid.weight", &[2, 2, 0, 3])]), [1, 1], &[Q]),
        ("only a mid", file([t(".lora_mid.weight", &[2, 2, 3, 3])]), [1, 1], &[Q]),
        ("dora_scale alone", file([t(".dora_scale", &[12, 1])]), [1, 1], &[]),
        ("dora_scale of another length", good_and([t(".dora_scale", &[7, 1])]), [1, 1], &[Q]),
        ("dora_scale of 7 inputs", good_and([t(".dora_scale", &[1, 7])]), [0, 1], &[Q]),
        ("dora_scale a scalar", good_and([t(".dora_scale", &[])]), [1, 1], &[Q]),
        (
            "two kinds in one module",
            good_and([t(".hada_w1_a", &[12, 2]), t(".hada_w1_b", &[2, 12])]),
            [1, 1],
            &[Q],
        ),
        (
            "hada with one half",
            file([t(".hada_w1_a", &[12, 2]), t(".hada_w1_b", &[2, 12])]),
            [1, 1],
            &[Q, "hada_w2"],
        ),
        (
            "hada without a factor",
            file([t(".hada_w1_a", &[12, 2]), t(".hada_w2_a", &[12, 2]), t(".hada_w2_b", &[2, 12])]),
            [1, 1],
            &[Q, "hada_w1_b"],
        ),
        ("hada, first rank 0", file(hada([[12, 0], [0, 12], [12, 2], [2, 12]])), [1, 1], &[Q]),
        ("hada, second rank 0", file(hada([[12, 2], [2, 12], [12, 0], [0, 12]])), [1, 1], &[Q]),
        ("hada of two sizes", file(hada([[12, 2], [2, 12], [7, 2], [2, 12]])), [0, 1], &[]),
        (
            "hada, core of rank 0",
            with_metadata(
                hada([[0, 12], [2, 12], [12, 2], [2, 12]])
                    .into_iter()
                    .chain([t(".hada_t1", &[0, 2, 3, 3])])
                    .collect(),
                &json!({}),
            ),
            [1, 1],
            &[Q],
        ),
        ("lokr without w2", file([t(".lokr_w1", &[2, 2])]), [1, 1], &[Q, "lokr_w2"]),
        ("lokr without w1", file([t(".lokr_w2", &[6, 6])]), [1, 1], &[Q, "lokr_w1"]),
        (
            "lokr with half a factor",
            file([t(".lokr_w1", &[2, 2]), t(".lokr_w2_a", &[6, 2])]),
            [1, 1],
            &[Q, "lokr_w2_b"],
        ),
        ("lokr of vectors", file([t(".lokr_w1", &[2]), t(".lokr_w2", &[6])]), [1, 1], &[Q]),
        ("lokr of nothing", file([t(".lokr_w1", &[0, 2]), t(".lokr_w2", &[6, 6])]), [0, 1], &[]),
        (
            "lokr, first rank 0",
            file([
                t(".lokr_w1_a", &[2, 0]),
                t(".lokr_w1_b", &[0, 2]),
                t(".lokr_w2_a", &[6, 1]),
                t(".lokr_w2_b", &[1, 6]),
            ]),
            [1, 1],
            &[Q],
        ),
        (
            "glora without b2",
            file([t(".a1.weight", &[12, 2]), t(".a2.weight", &[2, 12]), t(".b1.weight", &[12, 2])]),
            [1, 1],
            &[Q, "b2"],
        ),
        (
            "glora, second rank 0",
            file([
                t(".a1.weight", &[12, 2]),
                t(".a2.weight", &[2, 12]),
                t(".b1.weight", &[12, 0]),
                t(".b2.weight", &[0, 12]),
            ]),
            [1, 1],
            &[Q],
        ),
        ("ia3 without on_input", file([t(".weight", &[12])]), [1, 1], &[Q, "on_input"]),
        (
            "ia3 of 7 lines",
            file([t(".weight", &[7]), typed(".on_input", "BOOL", 1, &[], 1)]),
            [0, 1],
            &[Q],
        ),
        ("diff of another shape", file([t(".diff", &[12, 7])]), [0, 1], &["made for"]),
        (
            "diff of nothing",
            file([t(".diff", &[0, 16_777_216, 16_777_216, 16_777_216])]),
            [1, 1],
            &[Q, "claims a shape"],
        ),
        ("bias of another length", good_and([t(".diff_b", &[7])]), [0, 1], &[Q]),
        ("bias of integers", good_and([typed(".diff_b", "I32", 4, &[12], 1)]), [1, 1], &[Q, "I32"]),
        (
            "one module in two dialects",
            good_and([t(
                "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
                &[2, 12],
            )]),
            [1, 1],
            &["is also named"],
        ),
        (
            "a model",
            file([t("model.diffusion_model.input_blocks.0.0.weight", &[4, 4])]),
            [1, 1],
            &["no key"],
        ),
        ("nothing", raw("{}", 0), [1, 1], &["no key"]),
        ("a name that is a path", good_and([t("../../etc/passwd", &[1])]), [0, 0], &[]),
        ("a name that is empty", good_and([t("", &[1])]), [0, 0], &[]),
        (
            "layer 2^64 - 1",
            file([
                t(
                    "base_model.model.model.layers.18446744073709551615.self_attn.q_proj.lora_A.weight",
                    &[2, 12],
                ),
                t(
                    "base_model.model.model.layers.18446744073709551615.self_attn.q_proj.lora_B.weight",
                    &[12, 2],
                ),
            ]),
            [0, 1],
            &["was made for"],
        ),
        (
            "block 2^64 - 1",
            file([
                t(
                    "lora_unet_input_blocks_18446744073709551615_1_proj_in.lora_down.weight",
                    &[2, 12],
                ),
                t("lora_unet_input_blocks_18446744073709551615_1_proj_in.lora_up.weight", &[12, 2]),
            ]),
            [0, 1],
            &["was made for"],
        ),
        (
            "kernel of 2^48 places and nothing in it",
            file([
                t(&format!("{unet}.hada_w1_a"), &[0, 8]),
                t(&format!("{unet}.hada_w1_b"), &[1, 65_536]),
                t(&format!("{unet}.hada_t1"), &[0, 1, 16_777_216, 16_777_216]),
                t(&format!("{unet}.hada_w2_a"), &[8, 1]),
                t(&format!("{unet}.hada_w2_b"), &[1, 8]),
            ]),
            [1, 1],
            &["lora_unet_down_blocks"],
        ),
        (
            "diffusers metadata that is not JSON",
            with_metadata(
                low_rank(&[2, 12], &[12, 2]).into(),
                &json!({"lora_adapter_metadata": "{"}),
            ),
            [1, 1],
            &["lora_adapter_metadata"],
        ),
        (
            "diffusers metadata of another kind",
            with_metadata(
                low_rank(&[2, 12], &[12, 2]).into(),
                &json!({"lora_adapter_metadata": "{\"text_encoder.r\": \"many\"}"}),
            ),
            [1, 1],
            &["`r`"],
        ),
    ];
    for (name, bytes, codes, words) in rows {
        let bad = place.put("bad.safetensors", bytes);
        place.both(&mut table, (name, &bad), codes, words);
    }
    table.end();
}

/// Shapes of `hada_w1_a`, `hada_w1_b`, `hada_w2_a`, `hada_w2_b`.
fn hada(shapes: [[usize; 2]; 4]) -> [Made; 4] {
    let [a, b, c, d] = shapes;
    [t(".hada_w1_a", &a), t(".hada_w1_b", &b), t(".hada_w2_a", &c), t(".hada_w2_b", &d)]
}

/// A small PEFT folder with another configuration.
fn peft(place: &Place, config: &str) -> String {
    let folder = fixture("adapters/llama-peft-one-layer");
    let weights = fs::read(folder.join("adapter_model.safetensors")).unwrap();
    place.put("peft/adapter_model.safetensors", weights);
    place.put("peft/adapter_config.json", config);
    place.path("peft")
}

#[test]
fn broken_configurations_are_refused_by_key() {
    let (place, mut table) = (Place::new(), Table::default());
    let base = text(&fixture("bases/llama"));
    let huge_number = format!("{{\"r\": 1{}}}", "0".repeat(400));
    let huge_pattern = json!({"rank_pattern": {"(((a{1,100}){1,100}){1,100}){1,100}": 4}});
    let long_pattern = json!({"rank_pattern": {"x".repeat(3 << 20): 4}});
    let rows: [(&str, &str, i32, &[&str]); 18] = [
        ("good", r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4}"#, 0, &[]),
        ("not JSON", "{\"r\": ", 1, &["adapter_config.json", "JSON"]),
        ("empty", "", 1, &["adapter_config.json", "JSON"]),
        ("a list", "[]", 1, &["adapter_config.json", "object"]),
        ("deep", &"[".repeat(200_000), 1, &["adapter_config.json"]),
        ("r is text", r#"{"r": "many"}"#, 1, &["adapter_config.json", "`r`"]),
        ("r is 1e400", r#"{"r": 1e400}"#, 1, &["adapter_config.json"]),
        ("r of 400 digits", &huge_number, 1, &["adapter_config.json"]),
        ("unknown kind", r#"{"peft_type": "VERA"}"#, 1, &["peft_type", "VERA"]),
        ("replicated layers", r#"{"layer_replication": [[0, 4]]}"#, 1, &["layer_replication"]),
        ("bad pattern", r#"{"rank_pattern": {"(": 4}}"#, 1, &["rank_pattern"]),
        ("huge pattern", &huge_pattern.to_string(), 1, &["rank_pattern"]),
        ("long pattern", &long_pattern.to_string(), 1, &["rank_pattern"]),
        ("pattern of text", r#"{"alpha_pattern": {"a": "b"}}"#, 1, &["alpha_pattern"]),
        ("patterns in a list", r#"{"alpha_pattern": ["a"]}"#, 1, &["alpha_pattern"]),
        ("a name that is a number", r#"{"base_model_name_or_path": 7}"#, 1, &["base_model_name"]),
        ("unknown setting", r#"{"r": 2, "use_new_thing": true}"#, 0, &["use_new_thing"]),
        ("another rank", r#"{"r": 16}"#, 0, &["another rank"]),
    ];
    for (name, config, code, words) in rows {
        let folder = peft(&place, config);
        place.both_on(&mut table, &base, (name, &folder), [code, code], words);
    }
    peft(&place, "x");
    place.put("peft/adapter_config.json", [0xff, 0xfe, b'{', b'}']);
    let folder = place.path("peft");
    place.both_on(&mut table, &base, ("not UTF-8", &folder), [1, 1], &["adapter_config.json"]);
    table.end();
}

#[test]
fn broken_base_folders_are_refused() {
    let (place, mut table) = (Place::new(), Table::default());
    let adapter = text(&fixture("adapters/llama-peft-one-layer"));
    let index = |map: Value| json!({"weight_map": map}).to_string();
    let shard = "model-00001-of-00003.safetensors";
    let rows: [(&str, &str, String, &[&str]); 13] = [
        ("config.json is not JSON", "config.json", "{".into(), &["config.json"]),
        ("config.json is empty", "config.json", String::new(), &["config.json"]),
        ("config.json is deep", "config.json", "[".repeat(200_000), &["config.json"]),
        ("index is not JSON", "model.safetensors.index.json", "{".into(), &["index.json"]),
        ("index is a list", "model.safetensors.index.json", "[]".into(), &["weight_map"]),
        ("no weight_map", "model.safetensors.index.json", "{}".into(), &["weight_map"]),
        (
            "weight_map is text",
            "model.safetensors.index.json",
            r#"{"weight_map": "x"}"#.into(),
            &["weight_map"],
        ),
        (
            "outside",
            "model.safetensors.index.json",
            index(json!({"a": "../x.safetensors"})),
            &["../x.safetensors"],
        ),
        (
            "absolute",
            "model.safetensors.index.json",
            index(json!({"a": "/etc/passwd"})),
            &["/etc/passwd"],
        ),
        ("the folder itself", "model.safetensors.index.json", index(json!({"a": "."})), &[]),
        ("a number", "model.safetensors.index.json", index(json!({"a": 7})), &["weight_map"]),
        (
            "missing shard",
            "model.safetensors.index.json",
            index(json!({"a": shard, "b": "gone.safetensors"})),
            &["gone.safetensors"],
        ),
        ("no shards", "model.safetensors.index.json", index(json!({})), &[]),
    ];
    for (name, part, contents, words) in rows {
        let folder = place.dir.path().join("base");
        let _ = fs::remove_dir_all(&folder);
        copy_folder(&fixture("bases/llama-sharded"), &folder);
        place.put("x.safetensors", good());
        fs::write(folder.join(part), contents).unwrap();
        let args = ["merge", "--base", &text(&folder), "--lora", &adapter, "--out", &place.out];
        table.row(name, &args, 1, words);
        place.nothing_written(&mut table, name, 1);
    }
    // Well-formed, but not what a model's configuration looks like: the weights tell enough.
    for odd in ["[]", "7", "null", r#"{"architectures": 7}"#, r#"{"architectures": [[]]}"#] {
        let folder = place.dir.path().join("base");
        fs::write(folder.join("config.json"), odd).unwrap();
        fs::copy(
            fixture("bases/llama-sharded/model.safetensors.index.json"),
            folder.join("model.safetensors.index.json"),
        )
        .unwrap();
        let args = ["merge", "--base", &text(&folder), "--lora", &adapter, "--out", &place.out];
        table.row(&format!("config.json {odd}"), &args, 0, &[]);
        place.nothing_written(&mut table, odd, 0);
    }
    // A file with hostile shapes where an adapter's module goes.
    let weight = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight";
    let norm = "cond_stage_model.transformer.text_model.encoder.layers.0.layer_norm1.weight";
    let shapes: [(&str, &[usize]); 5] = [
        ("2^64 of nothing", &[0, 4_294_967_296, 4_294_967_296]),
        ("no columns", &[12, 0]),
        ("no rows", &[0, 12]),
        ("a scalar", &[]),
        ("a vector", &[12]),
    ];
    let ia3 = |on_input: u8| {
        let flag = typed(".on_input", "BOOL", 1, &[], on_input);
        file([t(".weight", &[if on_input == 1 { 0 } else { 12 }]), flag])
    };
    let adapters = [
        ("lora", good()),
        ("ia3 on inputs", ia3(1)),
        ("ia3 on outputs", ia3(0)),
        ("diff of nothing", file([t(".diff", &[0])])),
        ("dora", good_and([t(".dora_scale", &[12, 1])])),
    ];
    for (shape_name, shape) in shapes {
        let base = file([t(weight, shape), t(norm, &[12])]);
        let base = place.put("odd.safetensors", base);
        for (kind, adapter) in &adapters {
            let name = format!("{kind} on {shape_name}");
            let adapter = place.put("adapter.safetensors", adapter);
            let out = run(&["merge", "--base", &base, "--lora", &adapter, "--out", &place.out]);
            // Scaling nothing, or one number an output, is well-defined; all else is a misfit.
            let code = out.status.code().unwrap_or(-1);
            table.check(&name, &broken_rules(&out, i32::from(code != 0), &[]));
            place.nothing_written(&mut table, &name, code);
        }
    }
    table.end();
}

#[test]
fn no_control_character_of_a_file_reaches_the_terminal() {
    let (place, mut table) = (Place::new(), Table::default());
    let evil = "\u{1b}[31m\u{7}\r\u{9b}2J";
    let metadata = json!({"ss_output_name": evil, evil: evil, "modelspec.architecture": evil});
    let with = |more: Vec<Made>, metadata: &Value| {
        let all = low_rank(&[2, 12], &[12, 2]).into_iter().chain(more).collect();
        with_metadata(all, metadata)
    };
    let module = |stem: &str| {
        vec![
            t(&format!("{stem}.lora_A.weight"), &[2, 12]),
            t(&format!("{stem}.lora_B.weight"), &[12, 2]),
        ]
    };
    let llm = format!("base_model.model.layers.0.{evil}");
    let rows = [
        ("metadata", with(vec![], &metadata), [0, 0]),
        ("key that is not read", with(vec![t(evil, &[1])], &json!({})), [0, 0]),
        ("module", with(module(&llm), &json!({})), [0, 0]),
        ("only that module", with_metadata(module(&llm), &json!({})), [0, 1]),
        (
            "half a module",
            with(vec![t(&format!("{llm}.lora_A.weight"), &[2, 12])], &json!({})),
            [1, 1],
        ),
        (
            "damaged tensor",
            raw(
                &json!({evil: {"dtype": evil, "shape": [], "data_offsets": [0, 0]}}).to_string(),
                0,
            ),
            [1, 1],
        ),
        (
            "20 dimensions",
            raw(
                &json!({evil: {"dtype": "U8", "shape": vec![0; 20], "data_offsets": [0, 0]}})
                    .to_string(),
                0,
            ),
            [1, 1],
        ),
    ];
    for (name, bytes, codes) in rows {
        let bad = place.put("bad.safetensors", bytes);
        place.both(&mut table, (name, &bad), codes, &[]);
        let code = codes[0];
        table.row(&format!("inspect -v {name}"), &["inspect", "-v", &bad], code, &[]);
        let args = ["inspect", &bad, "--base", &place.base];
        table.row(&format!("inspect --base {name}"), &args, codes[1], &[]);
        let (to, out) = ("--to", place.path("converted.safetensors"));
        let converted = run(&["convert", &bad, to, "diffusers", "--out", &out]);
        let code = i32::from(!converted.status.success());
        table.check(&format!("convert {name}"), &broken_rules(&converted, code, &[]));
    }
    let config = json!({"r": 2, "base_model_name_or_path": evil, "use_\u{1b}[31m": true, "peft_type": "LORA"});
    let folder = peft(&place, &config.to_string());
    let base = text(&fixture("bases/llama"));
    place.both_on(&mut table, &base, ("adapter_config.json", &folder), [0, 0], &[]);
    let base = place.dir.path().join("base");
    copy_folder(&fixture("bases/llama"), &base);
    let config = json!({"architectures": [evil], "model_type": evil, "hidden_size": 16});
    fs::write(base.join("config.json"), config.to_string()).unwrap();
    let adapter = text(&fixture("adapters/llama-peft-one-layer"));
    place.both_on(&mut table, &text(&base), ("config.json", &adapter), [0, 0], &[]);
    #[cfg(unix)]
    {
        let name = place.put("a\u{1b}[31m.safetensors", good());
        place.both(&mut table, ("file name", &name), [0, 0], &[]);
    }
    table.end();
}

// ---------------------------------------------------------------------------------------------
// Bases that do not fit

#[test]
fn a_wrong_base_is_named_and_nothing_is_written() {
    let (place, mut table) = (Place::new(), Table::default());
    let sdxl = fixture("adapters/sdxl-kohya-sgm.safetensors");
    let llama = fixture("adapters/llama-peft");
    let wide = place.put("wide.safetensors", file(low_rank(&[2, 20], &[20, 2])));
    for (name, base, adapter, words) in [
        ("SDXL on SD1", "bases/sd1.safetensors", text(&sdxl), "Stable Diffusion XL"),
        ("SDXL on an SD1 folder", "bases/sd1", text(&sdxl), "Stable Diffusion XL"),
        ("SDXL on SD2", "bases/sd2.safetensors", text(&sdxl), "Stable Diffusion XL"),
        ("SDXL on Llama", "bases/llama", text(&sdxl), "Stable Diffusion XL"),
        ("Llama on GPT-2", "bases/gpt2", text(&llama), "a language model"),
        ("Llama on SD1", "bases/sd1.safetensors", text(&llama), "a language model"),
        ("20 wide on 12 wide", "bases/sd1.safetensors", wide, "text encoder width 20"),
    ] {
        let base = text(&fixture(base));
        let words = ["the adapter was made for", words, "the base is"];
        place.both_on(&mut table, &base, (name, &adapter), [0, 1], &words);
        let args = ["inspect", &adapter, "--base", &base];
        table.row(&format!("inspect --base {name}"), &args, 1, &words);
    }
    table.end();
}

#[test]
fn a_module_without_a_place_is_counted_and_strict_refuses_it() {
    let (place, mut table) = (Place::new(), Table::default());
    let lost = "lora_te_text_model_encoder_layers_9_self_attn_q_proj";
    let partly = place.put(
        "partly.safetensors",
        good_and([
            t(&format!("{lost}.lora_down.weight"), &[2, 12]),
            t(&format!("{lost}.lora_up.weight"), &[12, 2]),
            t("not.a.key", &[1]),
        ]),
    );
    let args = ["merge", "--base", &place.base, "--lora", &partly, "--out", &place.out];
    table.row("partly", &args, 0, &["2 module(s) do not fit", lost, "not.a.key"]);
    place.nothing_written(&mut table, "partly", 0);
    let strict: Vec<&str> = args.into_iter().chain(["--strict"]).collect();
    table.row("strict", &strict, 1, &["partly.safetensors", "2 module(s)", lost]);
    place.nothing_written(&mut table, "strict", 1);
    let json: Vec<&str> = args.into_iter().chain(["--json"]).collect();
    let out = table.row("--json", &json, 0, &[]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    table.holds("--json", report["unmatched"].as_array().unwrap().len() == 2, "not two unmatched");
    table.end();
}

/// Name and bytes of every tensor.
fn tensors(path: &str) -> Vec<(String, Vec<u8>)> {
    let file = TensorFile::open(Path::new(path), Limits::BASE).unwrap();
    let bytes = |name: &str| file.get(name).unwrap().bytes().to_vec();
    file.names().map(|name| (name.to_owned(), bytes(name))).collect()
}

#[test]
fn strength_0_is_the_base_to_the_bit() {
    let (place, mut table) = (Place::new(), Table::default());
    let weight = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight";
    let nan = [t(".lora_down.weight", &[2, 12]), filled(".lora_up.weight", &[12, 2], f32::NAN)];
    let plain = place.put("plain.safetensors", file([t(weight, &[12, 12])]));
    let minus = place.put("minus.safetensors", file([filled(weight, &[12, 12], -0.0)]));
    let rows = [
        ("at 0", &plain, good(), "0"),
        ("NaN at 0", &plain, file(nan), "0"),
        ("-0 in the base, at 0", &minus, good(), "0"),
    ];
    for (name, base, adapter, strength) in rows {
        let adapter = format!("{}:{strength}", place.put("adapter.safetensors", adapter));
        table.row(
            name,
            &["merge", "--base", base, "--lora", &adapter, "--out", &place.out],
            0,
            &[],
        );
        table.holds(name, tensors(base) == tensors(&place.out), "the weights are not the base's");
    }
    table.end();
}

#[test]
fn integer_alphas_are_read_with_their_sign() {
    let (place, mut table) = (Place::new(), Table::default());
    for (dtype, size) in [("I8", 1), ("I16", 2), ("I32", 4), ("I64", 8)] {
        let mut alpha = typed(".alpha", dtype, size, &[], 0);
        alpha.bytes.fill(0xff); // -1
        let path = place.put("x.safetensors", good_and([alpha]));
        let out = table.row(dtype, &["inspect", "--json", &path], 0, &[]);
        let alphas = serde_json::from_slice::<Value>(&out.stdout).unwrap()["alphas"].clone();
        table.holds(dtype, alphas == json!({"-1": 1}), &format!("alphas {alphas}, expected -1"));
    }
    table.end();
}

// ---------------------------------------------------------------------------------------------
// Outputs

#[test]
fn bad_outputs_are_refused_and_leave_everything_as_it_was() {
    let (place, mut table) = (Place::new(), Table::default());
    let llama = text(&fixture("adapters/llama-peft-one-layer"));
    place.put("base.safetensors", fs::read(&place.base).unwrap());
    copy_folder(&fixture("bases/llama"), &place.dir.path().join("model"));
    // A model inside a folder that has a config.json of its own, as projects have.
    copy_folder(&fixture("bases/llama"), &place.dir.path().join("project/model"));
    place.put("project/config.json", "{\"name\": \"my project\"}");
    place.put("project/notes.txt", "years of work");
    place.put("work/config.json", "{\"name\": \"my project\"}");
    place.put("work/notes.txt", "years of work");
    place.put("old.safetensors", "what was there");
    fs::create_dir(place.dir.path().join("folder")).unwrap();
    let wide = place.put("wide.safetensors", file(low_rank(&[2, 20], &[20, 2])));
    let (base, good) = (place.path("base.safetensors"), place.good.clone());
    let model = place.path("model");
    let before = tree(place.dir.path());
    let rows = [
        ("the base itself", &base, &good, "base.safetensors"),
        ("the base by another path", &base, &good, "folder/../base.safetensors"),
        ("the base's folder itself", &model, &llama, "model"),
        ("a folder for a file", &base, &good, "folder"),
        ("a file for a folder", &model, &llama, "old.safetensors"),
        ("missing parent", &base, &good, "missing/out.safetensors"),
        ("missing parent of a folder", &model, &llama, "missing/out"),
        ("below a file", &base, &good, "old.safetensors/out.safetensors"),
        ("a wrong base leaves the old output", &base, &wide, "old.safetensors"),
        ("a folder that holds the base", &place.path("project/model"), &llama, "project"),
        ("a folder that is no model", &model, &llama, "work"),
        ("inside the base", &model, &llama, "model/merged"),
    ];
    for (name, base, adapter, out) in rows {
        let out = place.path(out);
        table.row(name, &["merge", "--base", base, "--lora", adapter, "--out", &out], 1, &[]);
        table.holds(name, tree(place.dir.path()) == before, "files have changed");
        restore(place.dir.path(), &before);
    }
    // An adapter is read whole before it is written, but a model that is compared must stay.
    let tuned = place.path("tuned.safetensors");
    run(&["merge", "--base", &base, "--lora", &good, "--out", &tuned]);
    let before = tree(place.dir.path());
    for (name, out) in [("extract to the base", &base), ("extract to the tuned model", &tuned)] {
        let args = ["extract", "--base", &base, "--tuned", &tuned, "--rank", "2", "--out", out];
        table.row(name, &args, 1, &[]);
        table.holds(name, tree(place.dir.path()) == before, "files have changed");
        restore(place.dir.path(), &before);
    }
    for (name, out) in
        [("convert to a folder", "folder"), ("convert below a file", "tuned.safetensors/x")]
    {
        let args = ["convert", &good, "--to", "kohya", "--out", &place.path(out)];
        table.row(name, &args, 1, &[]);
        table.holds(name, tree(place.dir.path()) == before, "files have changed");
    }
    table.end();
}

/// Makes a folder what it was, for the next row.
fn restore(folder: &Path, before: &[(PathBuf, Vec<u8>)]) {
    if tree(folder) == before {
        return;
    }
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let _ = fs::remove_file(entry.path());
        let _ = fs::remove_dir_all(entry.path());
    }
    let is_folder = |path: &Path| before.iter().any(|(other, _)| other.parent() == Some(path));
    for (path, bytes) in before {
        if is_folder(path) || path.file_name().is_some_and(|name| name == "folder") {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// A file system of 1 MiB, until it is dropped.
#[cfg(target_os = "linux")]
struct Small(TempDir);

#[cfg(target_os = "linux")]
impl Small {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", &text(dir.path())])
            .output();
        mount.is_ok_and(|out| out.status.success()).then_some(Self(dir))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_output() {
    let Some(small) = Small::new() else {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    };
    let (place, mut table) = (Place::new(), Table::default());
    let old = small.0.path().join("old.safetensors");
    fs::write(&old, vec![7; 700_000]).unwrap();
    let before = tree(small.0.path());
    let base = text(&fixture("bases/sd1-f32.safetensors"));
    let merge = |base: &str, out: &Path| {
        let args = ["merge", "--base", base, "--lora", &place.good, "--out", &text(out)];
        args.map(str::to_owned)
    };
    table.row("a file", &merge(&base, &old), 1, &["old.safetensors", "space"]);
    table.holds("a file", tree(small.0.path()) == before, "files have changed");
    fs::remove_file(&old).unwrap();
    let folder = small.0.path().join("model");
    let first = run(&merge(&text(&fixture("bases/sd1")), &folder)); // what a merge wrote, a merge may replace
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let before = tree(small.0.path());
    table.row("a folder", &merge(&text(&fixture("bases/sd1")), &folder), 1, &["space"]);
    table.holds("a folder", tree(small.0.path()) == before, "files have changed");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(small.0.path().join("filler"), vec![7; (1 << 20) - 8192]).unwrap();
    let before = tree(small.0.path());
    let sd1 = text(&fixture("adapters/sd1-kohya.safetensors"));
    for (format, name) in
        [("kohya", "x.safetensors"), ("diffusers", "x.safetensors"), ("peft", "x")]
    {
        let out = text(&small.0.path().join(name));
        let args = ["convert", &sd1, "--to", format, "--out", &out];
        table.row(&format!("convert to {format}"), &args, 1, &["space"]);
        table.holds(format, tree(small.0.path()) == before, "files have changed");
    }
    table.end();
}

/// A merge that is killed at any moment leaves the old output; one that is not ends well.
#[cfg(unix)]
#[test]
fn a_killed_merge_leaves_the_old_output() {
    let place = Place::new();
    let weight = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight";
    let ballast = typed("ballast", "F16", 2, &[4096, 8192], 1);
    let base = place.put("base.safetensors", file([t(weight, &[12, 12]), ballast]));
    let folder = place.dir.path().join("outputs");
    let out = place.put("outputs/out.safetensors", "what was there");
    let mut killed = 0;
    for round in 0..6 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lora-eval"))
            .args([
                "merge",
                "--dtype",
                "f32",
                "--base",
                &base,
                "--lora",
                &place.good,
                "--out",
                &out,
            ])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Until it writes, and a little longer each time.
        while child.try_wait().unwrap().is_none() && fs::read_dir(&folder).unwrap().count() < 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round * 8));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            break;
        }
        killed += 1;
        assert_eq!(fs::read(&out).unwrap(), b"what was there", "round {round}");
        let temporary = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        temporary
            .filter(|path| *path != Path::new(&out))
            .for_each(|path| fs::remove_file(path).unwrap());
    }
    assert!(killed > 0, "every merge ended before it was killed");
    let args = ["merge", "--base", &base, "--lora", &place.good, "--out", &out];
    assert_eq!(broken_rules(&run(&args), 0, &[]), Vec::<String>::new());
    assert_eq!(tensors(&out).len(), 2);
}

// ---------------------------------------------------------------------------------------------
// The command line

#[test]
fn wrong_usage_is_2() {
    let place = Place::new();
    let (base, good, out) = (place.base.as_str(), place.good.as_str(), place.out.as_str());
    let merge = ["merge", "--base", base, "--lora", good, "--out", out];
    let resize = ["resize", good, "--out", out];
    let with = |args: &[&str], more: &[&str]| -> Vec<String> {
        args.iter().chain(more).map(|s| (*s).to_owned()).collect()
    };
    let lora = |text: String| with(&["merge", "--base", base, "--out", out, "--lora"], &[&text]);
    let rows = [
        ("nothing", vec![], ""),
        ("unknown verb", with(&["merg"], &[]), "merge"),
        ("unknown flag", with(&merge, &["--strickt"]), "--strict"),
        ("unknown global flag", with(&["--jsn", "inspect", good], &[]), "--json"),
        ("no --out", with(&merge[..5], &[]), "--out"),
        ("no --lora", with(&["merge", "--base", base, "--out", out], &[]), "--lora"),
        ("no --base", with(&["merge", "--lora", good, "--out", out], &[]), "--base"),
        ("no file", with(&["inspect"], &[]), "FILE"),
        ("strength abc", lora(format!("{good}:abc")), "strength"),
        ("strength nan", lora(format!("{good}:nan")), "out of range"),
        ("strength inf", lora(format!("{good}:-inf")), "out of range"),
        ("strength 1e9", lora(format!("{good}:1e9")), "out of range"),
        ("strength of nothing", lora(format!("{good}:")), "strength"),
        ("strength nan of the text encoder", lora(format!("{good}:nan:1")), "nan"),
        ("strength abc of the text encoder", lora(format!("{good}:abc:1")), "abc"),
        ("empty --lora", lora(String::new()), "--lora"),
        ("unknown --dtype", with(&merge, &["--dtype", "f8"]), "f8"),
        ("unknown --device", with(&merge, &["--device", "tpu"]), "cuda"),
        ("--threads 0", with(&merge, &["--threads", "0"]), "--threads"),
        ("--threads -1", with(&merge, &["--threads", "-1"]), "-1"),
        ("-q and -v", with(&merge, &["-q", "-v"]), "--verbose"),
        ("no rank", with(&resize, &[]), "--rank"),
        ("--rank 0", with(&resize, &["--rank", "0"]), "--rank"),
        ("--rank -1", with(&resize, &["--rank", "-1"]), "-1"),
        ("--rank 1e3", with(&resize, &["--rank", "1e3"]), "--rank"),
        ("--rank 2^64", with(&resize, &["--rank", "18446744073709551616"]), "--rank"),
        ("--sv-fro 2", with(&resize, &["--sv-fro", "2"]), "--sv-fro"),
        ("--sv-fro nan", with(&resize, &["--sv-fro", "nan"]), "--sv-fro"),
        ("--sv-ratio 1", with(&resize, &["--sv-ratio", "1"]), "--sv-ratio"),
        ("--sv-ratio inf", with(&resize, &["--sv-ratio", "inf"]), "--sv-ratio"),
        ("--sv-cumulative 0", with(&resize, &["--sv-cumulative", "0"]), "--sv-cumulative"),
        (
            "two rules",
            with(&resize, &["--sv-fro", "0.9", "--sv-ratio", "2"]),
            "cannot be used with",
        ),
        (
            "extract without a rank",
            with(&["extract", "--base", base, "--tuned", base, "--out", out], &[]),
            "--rank",
        ),
        ("combine of nothing", with(&["combine", "--out", out], &[]), "IN"),
        (
            "--method svd without a rank",
            with(&["combine", good, "--method", "svd", "--out", out], &[]),
            "--rank",
        ),
        (
            "--rank without --method svd",
            with(&["combine", good, "--rank", "4", "--out", out], &[]),
            "--rank",
        ),
        ("--to nowhere", with(&["convert", good, "--to", "onnx", "--out", out], &[]), "kohya"),
    ];
    let mut table = Table::default();
    for (name, args, words) in rows {
        table.row(name, &args, 2, &[words]);
        place.nothing_written(&mut table, name, 2);
    }
    table.end();
}

#[test]
fn json_is_one_document_and_quiet_is_quiet() {
    let (place, mut table) = (Place::new(), Table::default());
    let nan = [t(".lora_down.weight", &[2, 12]), filled(".lora_up.weight", &[12, 2], f32::NAN)];
    let nan = place.put("nan.safetensors", file(nan));
    let (base, good, out) = (place.base.as_str(), place.good.as_str(), place.out.as_str());
    let rows: [(&str, Vec<&str>, &str); 8] = [
        ("inspect", vec!["inspect", &nan], "NaN"),
        ("inspect two", vec!["inspect", &nan, good], "NaN"),
        ("inspect --base", vec!["inspect", &nan, "--base", base], "NaN"),
        ("merge", vec!["merge", "--base", base, "--lora", &nan, "--out", out], "NaN"),
        ("convert", vec!["convert", &nan, "--to", "diffusers", "--out", out], "NaN"),
        ("resize", vec!["resize", good, "--rank", "1", "--out", out], ""),
        ("combine", vec!["combine", good, good, "--out", out], ""),
        ("prompt", vec!["prompt", "a (fox:1.2) <lora:style:0.8>"], ""),
    ];
    for (name, args, words) in rows {
        let loud: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let result = table.row(name, &loud, 0, &[words]);
        let document = serde_json::from_slice::<Value>(&result.stdout);
        table.holds(name, document.is_ok(), "not one JSON document");
        let quiet: Vec<&str> = args.iter().copied().chain(["-q"]).collect();
        let result = table.row(&format!("{name} -q"), &quiet, 0, &[]);
        table.holds(name, result.stderr.is_empty(), "`-q` says something");
    }
    let bad = place.put("bad.safetensors", "x");
    table.row("an error with --json", &["inspect", "--json", &bad], 1, &["bad.safetensors"]);
    table.row("an error with -q", &["inspect", "-q", &bad], 1, &["bad.safetensors"]);
    table.end();
}
