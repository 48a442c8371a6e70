//! CLIP's tokenizer, id by id as `transformers` has it (`tests/parity/clip_tokenizer.py`), and
//! folders that mean harm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};

use lora_eval::text::{ClipTokenizer, TextError};
use serde_json::Value;
use tempfile::TempDir;

fn parity(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name)
}

/// Every text with the ids that stand at `pointer`.
fn cases(pointer: &str) -> Vec<(String, Vec<u32>)> {
    let all: Value =
        serde_json::from_slice(&fs::read(parity("clip_tokenizer.json")).unwrap()).unwrap();
    let texts: Vec<String> = serde_json::from_value(all["texts"].clone()).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(all.pointer(pointer).unwrap().clone()).unwrap();
    assert!(texts.len() >= 150 && texts.len() == ids.len());
    texts.into_iter().zip(ids).collect()
}

fn compare(clip: &ClipTokenizer, pointer: &str) {
    for (text, ids) in cases(pointer) {
        assert_eq!(clip.encode(&text).unwrap(), ids, "{pointer}: {text:?}");
    }
}

#[test]
fn the_built_in_tokenizer_is_the_one_of_transformers() {
    compare(&ClipTokenizer::openai().unwrap(), "/ids");
    compare(&ClipTokenizer::open_clip().unwrap(), "/ids");
}

#[test]
fn folders_of_a_vocabulary_and_merges_are_read() {
    let clip = ClipTokenizer::from_folder(&parity("clip_small")).unwrap();
    compare(&clip, "/small/ids");
    // 512 symbols, 600 merges, two special tokens
    assert_eq!(
        (clip.vocabulary_size(), clip.bos(), clip.eos(), clip.pad()),
        (1114, 1112, 1113, 1113)
    );
}

#[test]
fn folders_of_one_file_are_read_and_may_pad_with_an_exclamation_mark() {
    let clip = ClipTokenizer::from_folder(&parity("clip_bang")).unwrap();
    compare(&clip, "/bang/ids");
    assert_eq!((clip.bos(), clip.eos(), clip.pad()), (1112, 1113, 0));
    assert_eq!(clip.encode("!").unwrap(), [0]);
}

/// A copy of a folder that can be changed.
struct Folder(TempDir);

impl Folder {
    fn small() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for entry in fs::read_dir(parity("clip_small")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.0.path().join(path.file_name().unwrap())).unwrap();
        }
        folder
    }

    fn write(&self, name: &str, content: &str) -> &Self {
        fs::write(self.0.path().join(name), content).unwrap();
        self
    }

    fn remove(&self, name: &str) -> &Self {
        fs::remove_file(self.0.path().join(name)).unwrap();
        self
    }

    fn load(&self) -> Result<ClipTokenizer, TextError> {
        ClipTokenizer::from_folder(self.0.path())
    }

    fn problem(&self) -> String {
        let problem = self.load().unwrap_err().to_string();
        assert!(problem.contains("\nhint: "), "{problem}");
        problem
    }
}

#[test]
fn special_tokens_need_no_configuration() {
    let folder = Folder::small();
    folder.remove("special_tokens_map.json").remove("tokenizer_config.json");
    let clip = folder.load().unwrap();
    assert_eq!((clip.bos(), clip.eos(), clip.pad()), (1112, 1113, 1113));
    folder.write("special_tokens_map.json", r#"{"pad_token": null, "eos_token": "a</w>"}"#);
    let clip = folder.load().unwrap();
    assert_eq!((clip.eos(), clip.pad()), (clip.encode("a").unwrap()[0], 1113));
}

#[test]
fn folders_that_are_incomplete_say_what_is_missing() {
    let problem = ClipTokenizer::from_folder(Path::new("/no/such")).unwrap_err().to_string();
    assert!(problem.contains("no such folder"), "{problem}");
    let folder = Folder::small();
    assert!(folder.remove("merges.txt").problem().contains("merges.txt: the file is missing"));
    let problem = Folder::small().write("vocab.json", r#"{"a": 0, "a</w>": 1}"#).problem();
    assert!(problem.contains("merges.txt") || problem.contains("vocab.json"), "{problem}");
    let problem = Folder::small()
        .write("vocab.json", r#"{"a": 0}"#)
        .write("merges.txt", "")
        .remove("special_tokens_map.json")
        .problem();
    assert!(
        problem.contains("vocab.json: there is no `bos_token`, expected one such as"),
        "{problem}"
    );
}

#[test]
fn damaged_folders_are_errors() {
    for (name, content, said) in [
        ("vocab.json", "[1, 2]", "not a table of tokens"),
        ("vocab.json", r#"{"a": -1}"#, "not a table of tokens"),
        ("vocab.json", r#"{"a": "\u001b[31m"}"#, "not a table of tokens"),
        ("vocab.json", "", "not a table of tokens"),
        ("merges.txt", "#version: 0.2\na b c\n", "line 2 is `a b c`, expected two tokens"),
        ("merges.txt", "#version: 0.2\nthis that\n", "vocab.json"),
        ("tokenizer_config.json", "[]", "not a JSON object"),
        ("tokenizer.json", "{}", "not a tokenizer"),
    ] {
        let problem = Folder::small().write(name, content).problem();
        assert!(problem.contains(said) && !problem.contains('\u{1b}'), "{name}: {problem}");
    }
}

#[test]
fn long_words_are_no_burden() {
    let clip = ClipTokenizer::openai().unwrap();
    let start = std::time::Instant::now();
    for text in
        ["a".repeat(200_000), "!?".repeat(100_000), "é ".repeat(100_000), " ".repeat(500_000)]
    {
        clip.encode(&text).unwrap();
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}
