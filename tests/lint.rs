//! Data with planted faults: each is found, nothing else is, and what can be mended without judgement is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use lora_eval::base::random::Random;
use lora_eval::config::{DataSettings, ImageDataSettings, TextDataSettings, TrainOn};
use lora_eval::lint::{Examples, LintError, Report, lint};
use lora_eval::picture::{Filter, Picture, encode_png, resize_rgb};
use lora_eval::text::TextTokenizer;

fn settings(train: &Path) -> DataSettings {
    DataSettings {
        train: train.to_owned(),
        metadata: None,
        regularization: None,
        held_out: None,
        held_out_split: 0.0,
        repeats: 1,
        image: ImageDataSettings {
            resolution: (128, 128),
            buckets: true,
            min_bucket: 64,
            max_bucket: 256,
            bucket_step: 32,
            no_upscale: false,
            caption_extension: None,
            caption_prefix: String::new(),
            caption_suffix: String::new(),
            trigger: None,
            shuffle_tags: false,
            keep_tags: 0,
            caption_dropout: 0.1,
            tag_dropout: 0.0,
            flip: false,
            random_crop: false,
            color_jitter: false,
            cache_latents: false,
            cache_texts: false,
            cache_dir: None,
            max_caption_tokens: 75,
        },
        text: TextDataSettings {
            max_length: 96,
            packing: false,
            train_on: TrainOn::Answers,
            append_eos: true,
        },
    }
}

/// A picture of coloured clouds; each `seed` has others.
fn clouds(seed: u64, width: usize, height: usize) -> Picture {
    const COARSE: usize = 6;
    let mut draws = Random::new(seed, "clouds").at(0, 0, 0);
    let coarse: Vec<u8> =
        (0..COARSE * COARSE * 3).map(|_| u8::try_from(draws.below(256)).unwrap()).collect();
    let rgb = resize_rgb(&coarse, (COARSE, COARSE), (width, height), Filter::Bicubic).unwrap();
    let [width, height] = [width, height].map(|side| u32::try_from(side).unwrap());
    Picture { width, height, rgb }
}

fn save(path: &Path, picture: &Picture) {
    fs::write(path, encode_png(picture, &[]).unwrap()).unwrap();
}

/// `rule at file:line`, in the report's order.
fn found(report: &Report) -> Vec<String> {
    let place = |file: &Path| file.file_name().unwrap().to_string_lossy().into_owned();
    let line = |line: Option<usize>| line.map(|line| format!(":{line}")).unwrap_or_default();
    let findings = report.findings.iter();
    findings
        .map(|f| format!("{} at {}{}", f.rule, place(&f.place.file), line(f.place.line)))
        .collect()
}

const SUBJECTS: [&str; 8] = [
    "a cat asleep on a red sofa",
    "two dogs running along the beach",
    "an old house between birches, snow",
    "a bowl of oranges",
    "the harbour at night, many lights",
    "a woman reading by a window",
    "mountains behind a lake",
    "a tram in the rain",
];

/// Eight good pictures with captions in `metadata.csv`.
fn good_pictures(folder: &Path) -> String {
    fs::create_dir_all(folder).unwrap();
    let mut list = "file_name,text\n".to_owned();
    for (seed, subject) in (0..).zip(SUBJECTS) {
        let (width, height) = [(128, 128), (150, 120), (130, 170), (400, 400)][seed % 4];
        save(&folder.join(format!("good{seed}.png")), &clouds(seed as u64, width, height));
        writeln!(list, "good{seed}.png,\"zkz style, {subject}\"").unwrap();
    }
    list
}

fn pictures(settings: &DataSettings) -> Report {
    lint(settings, Examples::Pictures).unwrap()
}

#[test]
fn good_pictures_give_no_finding() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let list = good_pictures(&data);
    fs::write(data.join("metadata.csv"), list).unwrap();
    let mut settings = settings(&data);
    settings.image.trigger = Some("zkz".to_owned());
    let report = pictures(&settings);
    assert_eq!(found(&report), [""; 0]);
    let text = report.to_string();
    assert!(text.contains(": 8 pictures, captions from "), "{text}");
    assert!(text.ends_with("\n8 examples checked: nothing found"), "{text}");
    assert!(report.fixes.is_empty());
}

/// Fifteen faults of fourteen kinds beside eight good pictures.
fn planted_pictures(home: &Path) -> DataSettings {
    let (data, held_out) = (home.join("data"), home.join("held-out"));
    let mut list = good_pictures(&data);
    let mut add = |name: &str, picture: &Picture, row: &str| {
        save(&data.join(name), picture);
        writeln!(list, "{name},{row}").unwrap();
    };
    let good = |seed| clouds(seed, 128, 128);
    add("broken.png", &good(100), "\"zkz style, an owl\""); // line 10
    add("comma.png", &good(101), "zkz style, a fox");
    add("empty.png", &good(102), "");
    let long = format!("\"zkz style {}\"", "very ".repeat(80));
    add("long.png", &good(103), &long);
    add("other.png", &good(0), "\"zkz style, a submarine\"");
    add("plain.png", &good(104), "\"a kite\"");
    add("tiny.png", &clouds(105, 40, 40), "\"zkz style, a key\"");
    add("small.png", &clouds(106, 110, 110), "\"zkz style, a bee\"");
    add("wide.png", &clouds(107, 900, 100), "\"zkz style, a fence\"");
    add("copy.png", &clouds(1, 150, 120), &format!("\"zkz style, {}\"", SUBJECTS[1]));
    add("near.png", &clouds(2, 260, 340), &format!("\"zkz style, {}\"", SUBJECTS[2])); // line 20
    list += "gone.png,\"zkz style, a ghost\"\n";
    let broken = fs::read(data.join("broken.png")).unwrap();
    fs::write(data.join("broken.png"), &broken[..broken.len() / 2]).unwrap();
    save(&data.join("unlisted.png"), &good(108));
    fs::write(data.join("metadata.csv"), format!("\u{feff}{list}")).unwrap();
    fs::create_dir(&held_out).unwrap();
    save(&held_out.join("leak.png"), &clouds(3, 400, 400));
    save(&held_out.join("new.png"), &good(109));
    for (name, subject) in [("leak", "a bowl of oranges"), ("new", "a hat")] {
        fs::write(held_out.join(name).with_extension("txt"), format!("zkz style, {subject}"))
            .unwrap();
    }
    let mut settings = settings(&data);
    settings.held_out = Some(held_out);
    settings.image.trigger = Some("zkz".to_owned());
    settings
}

const PLANTED_PICTURES: [&str; 15] = [
    "leakage at leak.png",
    "missing-picture at metadata.csv:21",
    "unreadable-picture at broken.png",
    "aspect-outlier at wide.png",
    "contradicting-captions at other.png",
    "csv-quoting at metadata.csv:11",
    "duplicate at good1.png",
    "empty-caption at metadata.csv:12",
    "encoding at metadata.csv:1",
    "ignored-picture at metadata.csv",
    "long-caption at metadata.csv:13",
    "near-duplicate at near.png",
    "resolution-outlier at tiny.png",
    "trigger-coverage at metadata.csv:15",
    "upscaled at small.png",
];

#[test]
fn every_planted_fault_of_pictures_is_found_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let report = pictures(&planted_pictures(home.path()));
    assert_eq!(found(&report), PLANTED_PICTURES, "{report}");
    assert_eq!((report.errors, report.warnings, report.examples), (3, 12, 21));
}

#[test]
fn pictures_are_mended_without_loss() {
    let home = tempfile::tempdir().unwrap();
    let settings = planted_pictures(home.path());
    let report = pictures(&settings);
    assert_eq!(report.fixable(), 3);
    let before = fs::read(settings.train.join("metadata.csv")).unwrap();
    let done = report.fixes.apply().unwrap();
    assert_eq!(done.len(), 2, "{done:?}");

    let mended = pictures(&settings);
    let is_mended = |rule: &str| ["encoding", "csv-quoting", "duplicate"].contains(&rule);
    let left: Vec<&str> = report.rules.keys().copied().filter(|rule| !is_mended(rule)).collect();
    assert_eq!(mended.rules.keys().copied().collect::<Vec<_>>(), left, "{mended}");
    assert_eq!((mended.examples, mended.fixable()), (20, 0));
    let list = fs::read_to_string(settings.train.join("metadata.csv")).unwrap();
    assert!(list.contains("comma.png,\"zkz style, a fox\"\n"), "{list}");
    assert!(!list.contains("good1.png"), "{list}");

    let removed = home.path().join("data-removed");
    assert_eq!(fs::read(removed.join("metadata.csv")).unwrap(), before);
    assert!(removed.join("good1.png").is_file());
    assert!(!settings.train.join("good1.png").exists());
}

#[test]
fn faults_of_caption_files_are_found() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    good_pictures(&data);
    for (seed, subject) in (0..).zip(SUBJECTS) {
        fs::write(data.join(format!("good{seed}.txt")), subject).unwrap();
    }
    let wide = |text: &str| -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    fs::write(data.join("good0.txt"), wide("a cat, 墨")).unwrap();
    fs::write(data.join("good1.txt"), b"a caf\xe9").unwrap();
    fs::write(data.join("good2.txt"), "\u{feff}an old house").unwrap();
    fs::rename(data.join("good3.txt"), data.join("good3.tags")).unwrap();
    fs::write(data.join("nothing.txt"), "a ghost").unwrap();
    fs::create_dir(data.join("more")).unwrap();
    save(&data.join("more/a.png"), &clouds(200, 128, 128));
    let report = pictures(&settings(&data));
    let expected = [
        "encoding at good0.txt:1",
        "encoding at good1.txt:1",
        "caption-not-read at good3.tags",
        "encoding at good2.txt:1",
        "ignored-folder at more",
        "missing-picture at nothing.txt",
    ];
    assert_eq!(found(&report), expected, "{report}");
    let fixable: Vec<bool> = report.findings.iter().map(|finding| finding.fixable).collect();
    assert_eq!(fixable, [true, false, false, true, false, false]);

    report.fixes.apply().unwrap();
    assert_eq!(fs::read_to_string(data.join("good0.txt")).unwrap(), "a cat, 墨");
    assert_eq!(fs::read(home.path().join("data-removed/good0.txt")).unwrap(), wide("a cat, 墨"));
    let left = [expected[1], expected[2], expected[4], expected[5]];
    assert_eq!(found(&pictures(&settings(&data))), left);
}

#[test]
fn a_copy_goes_with_its_caption() {
    let home = tempfile::tempdir().unwrap();
    let (parent, data) = (home.path().join("data"), home.path().join("data/10_style"));
    fs::create_dir_all(&data).unwrap();
    for (name, seed, caption) in [("a", 1, "a cat"), ("b", 2, "a dog"), ("c", 1, "a cat")] {
        save(&data.join(name).with_extension("png"), &clouds(seed, 128, 128));
        fs::write(data.join(name).with_extension("txt"), caption).unwrap();
    }
    let settings = settings(&parent);
    let report = pictures(&settings);
    assert_eq!(found(&report), ["duplicate at c.png"]);
    report.fixes.apply().unwrap();
    assert_eq!(found(&pictures(&settings)), [""; 0]);
    let removed = home.path().join("data-removed/10_style");
    assert!(["c.png", "c.txt"].iter().all(|name| removed.join(name).is_file()));
}

#[test]
fn a_style_that_every_caption_spells_out_is_found() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    good_pictures(&data);
    let rows = (0..8).map(|seed| format!("good{seed}.png,a painting in the style of zkz\n"));
    let rows: String = rows.collect();
    fs::write(data.join("metadata.csv"), &rows).unwrap();
    let report = pictures(&settings(&data));
    assert_eq!(found(&report), ["csv-quoting at metadata.csv:1", "same-captions at data"]);
    report.fixes.apply().unwrap();
    assert_eq!(found(&pictures(&settings(&data))), ["same-captions at data"]);
    let list = fs::read_to_string(data.join("metadata.csv")).unwrap();
    assert_eq!(list, format!("file_name,text\n{rows}"));
}

#[test]
fn a_list_that_cannot_be_read_is_a_finding_and_a_missing_folder_an_error() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let list = good_pictures(&data);
    let wide: Vec<u8> =
        format!("\u{feff}{list}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    fs::write(data.join("metadata.csv"), wide).unwrap();
    let report = pictures(&settings(&data));
    assert_eq!(found(&report), ["encoding at metadata.csv"]);
    report.fixes.apply().unwrap();
    assert_eq!(found(&pictures(&settings(&data))), [""; 0]);
    assert_eq!(fs::read_to_string(data.join("metadata.csv")).unwrap(), list);

    fs::write(data.join("metadata.csv"), "name;words\ngood0.png;a cat\n").unwrap();
    assert_eq!(found(&pictures(&settings(&data))), ["bad-row at metadata.csv:1"]);

    let gone = lint(&settings(&home.path().join("gone")), Examples::Pictures);
    assert!(matches!(gone, Err(LintError::Pictures(_))));
}

fn tokenizer() -> TextTokenizer {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    TextTokenizer::from_folder(&root.join("tests/parity/decoders/chat/model")).unwrap()
}

fn texts(settings: &DataSettings) -> Report {
    lint(settings, Examples::Texts(&tokenizer())).unwrap()
}

fn row(prompt: &str, answer: &str) -> String {
    let turn = |role: &str, content: &str| serde_json::json!({"role": role, "content": content});
    let turns = [turn("user", prompt), turn("assistant", answer)];
    format!("{}\n", serde_json::json!({"messages": turns}))
}

fn good_rows() -> String {
    let rows = [("2+2?", "4"), ("3+3?", "6"), ("name a fish", "trout"), ("name a bird", "wren")];
    let more = [("say hi", "hi"), ("capital of Peru?", "Lima")];
    rows.into_iter().chain(more).map(|(prompt, answer)| row(prompt, answer)).collect()
}

#[test]
fn good_rows_give_no_finding() {
    let home = tempfile::tempdir().unwrap();
    let (train, held_out) = (home.path().join("train.jsonl"), home.path().join("held-out.jsonl"));
    fs::write(&train, good_rows()).unwrap();
    fs::write(&held_out, row("name a tree", "oak")).unwrap();
    let mut settings = settings(&train);
    settings.held_out = Some(held_out);
    let report = texts(&settings);
    assert_eq!(found(&report), [""; 0]);
    let text = report.to_string();
    assert!(text.contains("train.jsonl: 6 rows of `messages`\n"), "{text}");
    assert!(text.ends_with("\n7 examples checked: nothing found"), "{text}");
}

/// Twelve faults of twelve kinds behind six good rows.
fn planted_rows(home: &Path) -> DataSettings {
    let (train, held_out) = (home.join("train.jsonl"), home.join("held-out.jsonl"));
    let mut rows = good_rows();
    rows += "{\"messages\": [{\"role\": \"user\"\n"; // line 7
    rows += "{\"text\": \"another layout\"}\n";
    rows += &row(" ", " ");
    rows += &row(&"please ".repeat(60), "no");
    rows += &row("count", &"one two three ".repeat(30));
    rows += &row("2+2?", "4");
    rows += &row("Say hi!", "Hi");
    rows += &row("name a fish", "shark");
    rows += "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"b\"}, {\"role\": \"assistant\", \"content\": \"c\"}]}\n";
    rows += "{\"messages\": [{\"role\": \"user\", \"content\": \"nobody answers\"}]}\n";
    fs::write(&train, format!("\u{feff}{rows}")).unwrap();
    fs::write(&held_out, row("3+3?", "6") + &row("name a tree", "oak")).unwrap();
    let mut settings = settings(&train);
    settings.held_out = Some(held_out);
    settings
}

const PLANTED_ROWS: [&str; 12] = [
    "bad-json at train.jsonl:7",
    "empty-row at train.jsonl:9",
    "leakage at held-out.jsonl:1",
    "role-order at train.jsonl:16",
    "unknown-layout at train.jsonl:8",
    "zero-loss at train.jsonl:10",
    "contradicting-rows at train.jsonl:14",
    "duplicate at train.jsonl:12",
    "encoding at train.jsonl:1",
    "near-duplicate at train.jsonl:13",
    "role-order at train.jsonl:15",
    "truncated at train.jsonl:11",
];

#[test]
fn every_planted_fault_of_rows_is_found_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let report = texts(&planted_rows(home.path()));
    assert_eq!(found(&report), PLANTED_ROWS, "{report}");
    assert_eq!((report.errors, report.warnings, report.examples), (6, 6, 18));
}

#[test]
fn rows_are_mended_without_loss() {
    let home = tempfile::tempdir().unwrap();
    let settings = planted_rows(home.path());
    let before = fs::read_to_string(&settings.train).unwrap();
    let report = texts(&settings);
    assert_eq!(report.fixable(), 2);
    assert_eq!(report.fixes.apply().unwrap().len(), 1);
    let after = fs::read_to_string(&settings.train).unwrap();
    let kept = before.trim_start_matches('\u{feff}').lines().enumerate();
    let kept: Vec<&str> = kept.filter(|(at, _)| *at != 11).map(|(_, line)| line).collect();
    assert_eq!(after.lines().collect::<Vec<_>>(), kept);
    let original = home.path().join("train.jsonl-removed/train.jsonl");
    assert_eq!(fs::read_to_string(original).unwrap(), before);
    let mended = texts(&settings);
    assert_eq!((mended.findings.len(), mended.fixable()), (10, 0), "{mended}");
}

#[test]
fn one_answer_to_everything_is_found() {
    let home = tempfile::tempdir().unwrap();
    let train = home.path().join("train.csv");
    let rows: Vec<String> = (0..9).map(|n| format!("question {n},yes")).collect();
    let rows = rows.join("\n");
    fs::write(&train, format!("prompt,completion\n{rows}\nquestion 9,no\n")).unwrap();
    let report = texts(&settings(&train));
    assert_eq!(found(&report), ["same-completions at train.csv"]);
    assert_eq!(report.findings[0].message, "9 of 10 answers are `yes`");
}

#[test]
fn a_report_is_the_same_on_one_thread_and_on_many() {
    let home = tempfile::tempdir().unwrap();
    let settings = planted_pictures(home.path());
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| serde_json::to_string(&pictures(&settings)).unwrap())
    };
    assert_eq!(on(1), on(5));
}
