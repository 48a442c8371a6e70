//! Rows of texts as token ids, row by row as transformers and TRL have them
//! (`tests/parity/train_text.py`), and rows that cannot be learnt.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};

use lora_eval::config::{TextDataSettings, TrainOn};
use lora_eval::data::text::{
    Encoder, Fault, RowSet, TextDataError, TextSet, encode, pack, read_rows,
};
use lora_eval::text::{Clock, TextTokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

const SETTINGS: TextDataSettings = TextDataSettings {
    max_length: 1024,
    packing: false,
    train_on: TrainOn::Answers,
    append_eos: true,
};

fn parity(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name)
}

fn chat() -> TextTokenizer {
    TextTokenizer::from_folder(&parity("decoders/chat/model")).unwrap()
}

fn written(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn joined(lines: &[Value]) -> String {
    lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The texts of `lines` under `settings`.
fn encoded(
    lines: &[Value],
    tokenizer: &TextTokenizer,
    settings: &TextDataSettings,
) -> Result<TextSet, TextDataError> {
    let folder = TempDir::new().unwrap();
    let rows = read_rows(&written(&folder, "rows.jsonl", &joined(lines)))?;
    encode(&rows, tokenizer, Clock::At(0), settings)
}

/// What an error says, without the folder that its file is in.
fn said(error: &TextDataError) -> String {
    let text = error.to_string();
    text[text.find("rows.").unwrap()..].to_owned()
}

/// What is learnt of an example, as text.
fn learnt(set: &TextSet, example: usize, tokenizer: &TextTokenizer) -> String {
    let example = &set.examples[example];
    let ids = example.tokens.iter().zip(&example.trained);
    let ids: Vec<u32> = ids.filter(|(_, trained)| **trained).map(|(id, _)| *id).collect();
    tokenizer.decode(&ids, false).unwrap()
}

/// The tokenizer of a case: a folder's files with its own template and special tokens.
fn tokenizer(case: &Value) -> TextTokenizer {
    let folder = TempDir::new().unwrap();
    let from = parity(case["tokenizer"].as_str().unwrap());
    fs::copy(from.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let config = fs::read(from.join("tokenizer_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    for (key, value) in case["config"].as_object().unwrap() {
        config[key] = value.clone();
    }
    if case["template"].is_string() {
        config["chat_template"] = case["template"].clone();
    }
    written(&folder, "tokenizer_config.json", &config.to_string());
    if case["ends"].is_array() {
        let ends = json!({ "eos_token_id": case["ends"] });
        written(&folder, "generation_config.json", &ends.to_string());
    }
    TextTokenizer::from_folder(folder.path()).unwrap()
}

#[test]
fn every_row_is_as_in_transformers() {
    let path = parity("train_text.json");
    let parity: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let clock = Clock::At(parity["now"].as_i64().unwrap());
    let (mut count, mut failures) = (0, Vec::new());
    for case in parity["cases"].as_array().unwrap() {
        let tokenizer = tokenizer(case);
        let settings = TextDataSettings {
            max_length: usize::try_from(case["max_length"].as_u64().unwrap()).unwrap(),
            packing: false,
            train_on: TrainOn::from_name(case["train_on"].as_str().unwrap()).unwrap(),
            append_eos: case["append_eos"].as_bool().unwrap(),
        };
        let folder = TempDir::new().unwrap();
        let one = |row: &Value| {
            let rows = read_rows(&written(&folder, "rows.jsonl", &row.to_string()));
            rows.and_then(|rows| encode(&rows, &tokenizer, clock, &settings))
        };
        for (number, row) in case["rows"].as_array().unwrap().iter().enumerate() {
            let tokens: Vec<u32> = serde_json::from_value(case["tokens"][number].clone()).unwrap();
            let trained = case["trained"][number].as_str().unwrap();
            count += 1;
            let found = match one(row) {
                Ok(set) => set.examples[0].clone(),
                // A completion of spaces is a row that teaches nothing; TRL takes it.
                Err(TextDataError::Rows { first, .. })
                    if matches!(first.fault, Fault::Empty { .. }) =>
                {
                    assert_eq!(row["completion"].as_str().unwrap().trim(), "");
                    continue;
                }
                Err(error) => {
                    failures.push(format!("{} / {row}: {error}", case["name"]));
                    continue;
                }
            };
            let flags: String =
                found.trained.iter().map(|trained| if *trained { '1' } else { '0' }).collect();
            if found.tokens != tokens || flags != trained {
                failures.push(format!(
                    "{} / {row}:\nexpected {tokens:?}\nfound    {:?}\nexpected {trained}\nfound    {flags}",
                    case["name"], found.tokens
                ));
            }
        }
        for row in case["refused"].as_array().unwrap() {
            assert!(one(row).is_err(), "{} / {row}", case["name"]);
        }
    }
    assert!(failures.is_empty(), "{} of {count}: {}", failures.len(), failures.join("\n"));
    assert!(count >= 150, "{count}");
}

#[test]
fn questions_go_through_the_chat_template_where_there_is_one() {
    let row = json!({"instruction": "Add.", "input": "2+2", "output": "4", "system": "Be brief.",
        "history": [["Hi", "Hello"]]});
    let tokenizer = chat();
    let set = encoded(&[row], &tokenizer, &SETTINGS).unwrap();
    assert_eq!(
        tokenizer.decode(&set.examples[0].tokens, false).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
         <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nAdd.\n2+2<|im_end|>\n\
         <|im_start|>assistant\n4<|im_end|>\n"
    );
    assert_eq!(learnt(&set, 0, &tokenizer), "Hello<|im_end|>\n4<|im_end|>\n");
    assert!(set.notes.is_empty(), "{:?}", set.notes);
}

#[test]
fn questions_are_plain_text_where_there_is_no_template_and_that_is_said() {
    let tokenizer = TextTokenizer::from_folder(&parity("tokenizers/gpt2")).unwrap();
    let rows = [json!({"question": "Why?", "answer": "So."})];
    let set = encoded(&rows, &tokenizer, &SETTINGS).unwrap();
    let text = tokenizer.decode(&set.examples[0].tokens, false).unwrap();
    assert_eq!(text, "Why?\nSo.<|eot|>");
    assert_eq!(learnt(&set, 0, &tokenizer), "So.<|eot|>");
    assert!(set.notes[0].contains("no chat template"), "{:?}", set.notes);
    let error =
        encoded(&[json!({"messages": [{"role": "user", "content": "Hi"}]})], &tokenizer, &SETTINGS);
    let text = said(&error.unwrap_err());
    assert!(text.starts_with("rows.jsonl:1: ") && text.contains("tokenizers/gpt2"), "{text}");
    assert!(text.contains("no chat template"), "{text}");
    assert!(text.contains("\nhint: take a chat model"), "{text}");
}

#[test]
fn only_turns_that_are_meant_are_learnt() {
    let tokenizer = chat();
    let say = |role: &str, text: &str| json!({"role": role, "content": text});
    let rows = [json!({"prompt": [say("user", "a"), say("assistant", "b"), say("user", "c")],
               "completion": [say("assistant", "d")]})];
    let set = encoded(&rows, &tokenizer, &SETTINGS).unwrap();
    assert_eq!(learnt(&set, 0, &tokenizer), "d<|im_end|>\n");
    let mut light = say("assistant", "b");
    light["weight"] = json!(0);
    let rows =
        [json!({"messages": [say("user", "a"), light, say("user", "c"), say("assistant", "d")]})];
    let set = encoded(&rows, &tokenizer, &SETTINGS).unwrap();
    assert_eq!(learnt(&set, 0, &tokenizer), "d<|im_end|>\n");
    let all = TextDataSettings { train_on: TrainOn::All, ..SETTINGS };
    let set = encoded(&rows, &tokenizer, &all).unwrap();
    let example = &set.examples[0];
    assert!(!example.trained[0] && example.trained[1..].iter().all(|trained| *trained));
}

#[test]
fn what_is_cut_is_counted_and_what_is_left_without_an_answer_is_an_error() {
    let tokenizer = chat();
    let rows = [
        json!({"prompt": "the river ", "completion": "is long and wide and deep and old"}),
        json!({"prompt": "the river ", "completion": "is"}),
    ];
    let whole = encoded(&rows, &tokenizer, &SETTINGS).unwrap();
    let (long, short) = (whole.lengths()[0], whole.lengths()[1]);
    let cut = TextDataSettings { max_length: short, ..SETTINGS };
    let set = encoded(&rows, &tokenizer, &cut).unwrap();
    assert_eq!((set.truncated, set.truncated_tokens), (1, long - short));
    assert_eq!(set.lengths(), [short, short]);
    assert!(set.summary().contains(&format!("1 cut ({} tokens)", long - short)));
    let too_short = TextDataSettings { max_length: 2, ..SETTINGS };
    let text = said(&encoded(&rows, &tokenizer, &too_short).unwrap_err());
    assert_eq!(
        text,
        format!(
            "rows.jsonl:1: no token is learnt: what comes before the answer fills the 2 tokens of `max_length`, {} were cut off (and one more row with a problem)\nhint: raise `max_length`, or shorten or remove the row",
            long - 2
        )
    );
    let rows = [json!({"messages": [{"role": "user", "content": "Hi"}]})];
    let text = said(&encoded(&rows, &tokenizer, &SETTINGS).unwrap_err());
    assert!(text.contains("no token is learnt: there is no answer"), "{text}");
    let rows = read_back(&rows);
    let encoder = Encoder::new(rows.layout, &tokenizer, Clock::At(0), &SETTINGS);
    assert!(matches!(encoder.row(&rows.rows[0]), Err(Fault::NothingLearnt { cut: 0, .. })));
}

fn read_back(rows: &[Value]) -> RowSet {
    let folder = TempDir::new().unwrap();
    read_rows(&written(&folder, "rows.jsonl", &joined(rows))).unwrap()
}

#[test]
fn the_same_time_gives_the_same_ids_and_the_order_is_the_files() {
    let tokenizer = chat();
    let rows: Vec<Value> =
        (0..200).map(|n| json!({"text": format!("the river number {n}")})).collect();
    let set = encoded(&rows, &tokenizer, &SETTINGS).unwrap();
    let lines: Vec<usize> = set.examples.iter().map(|example| example.line).collect();
    assert_eq!(lines, (1..=200).collect::<Vec<_>>());
    for (n, example) in set.examples.iter().enumerate() {
        let text = tokenizer.decode(&example.tokens, true).unwrap();
        assert_eq!(text, format!("the river number {n}"));
    }
    let packed = pack(&set.lengths(), 64);
    assert!(packed.len() < 200 / 2);
}

#[test]
fn a_template_that_refuses_a_row_is_an_error_that_names_the_line() {
    let folder = TempDir::new().unwrap();
    let from = parity("decoders/chat/model");
    fs::copy(from.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system!') }}{% endif %}{{ m.content }}{% endfor %}";
    written(&folder, "chat_template.jinja", template);
    let tokenizer = TextTokenizer::from_folder(folder.path()).unwrap();
    let say = |role: &str| json!({"role": role, "content": "x"});
    let rows = [
        json!({"messages": [say("user"), say("assistant")]}),
        json!({"messages": [say("system"), say("user"), say("assistant")]}),
    ];
    let text = said(&encoded(&rows, &tokenizer, &SETTINGS).unwrap_err());
    assert!(text.starts_with("rows.jsonl:2: "), "{text}");
    assert!(
        text.contains("the chat template refuses the conversation: No system!\nhint: "),
        "{text}"
    );
}

#[test]
fn a_turn_that_cannot_be_found_is_an_error_that_says_what_to_do() {
    let from = parity("decoders/chat/model");
    for (template, turn) in [
        // The number of messages comes first, so no beginning is a beginning of the whole.
        ("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", 2),
        // Only the last turn ends with a token that ends a text.
        (
            "{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}{{ 'assistant: ' if add_generation_prompt else '<|im_end|>' }}",
            2,
        ),
    ] {
        let folder = TempDir::new().unwrap();
        fs::copy(from.join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
        written(&folder, "chat_template.jinja", template);
        written(&folder, "tokenizer_config.json", r#"{"eos_token": "<|im_end|>"}"#);
        let tokenizer = TextTokenizer::from_folder(folder.path()).unwrap();
        let say = |role: &str| json!({"role": role, "content": "x"});
        let turns = [say("user"), say("assistant"), say("user"), say("assistant")];
        let rows = [json!({ "messages": turns })];
        let text = said(&encoded(&rows, &tokenizer, &SETTINGS).unwrap_err());
        assert!(text.starts_with(&format!("rows.jsonl:1: turn {turn}: ")), "{text}");
        assert!(text.contains("\nhint: set `train_on: all`"), "{text}");
        let all = TextDataSettings { train_on: TrainOn::All, ..SETTINGS };
        assert!(encoded(&rows, &tokenizer, &all).is_ok());
    }
}

#[test]
fn words_that_look_like_the_marks_of_a_template_do_no_harm() {
    let path = parity("train_text.json");
    let parity: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let cases = parity["cases"].as_array().unwrap();
    let tokenizer = tokenizer(cases.iter().find(|case| case["name"] == "marked").unwrap());
    for word in ["x", "\u{fdd0}x", "x\u{fdd1}"] {
        let say = |role: &str| json!({"role": role, "content": word});
        let rows = [json!({"messages": [say("user"), say("assistant"), say("user")]})];
        let set = encoded(&rows, &tokenizer, &SETTINGS).unwrap();
        assert_eq!(learnt(&set, 0, &tokenizer).trim_end(), format!("{word}<|im_end|>"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn offsets_cover_the_text_spaces_included(text in "([ \n\té世👩a-c]|\\PC){0,30}") {
        for name in ["tokenizers/gpt2", "tokenizers/llama3"] {
            let tokenizer = TextTokenizer::from_folder(&parity(name)).unwrap();
            let tokens = tokenizer.encode_with_offsets(&text, false).unwrap();
            let ids: Vec<u32> = tokens.iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(&ids, &tokenizer.encode(&text, false).unwrap());
            let mut covered = 0;
            for (_, at) in &tokens {
                prop_assert!(at.start <= covered && at.end >= covered, "{:?}", tokens);
                covered = at.end;
            }
            prop_assert_eq!(covered, text.len());
        }
    }

    #[test]
    fn the_whole_completion_is_learnt_and_whole_tokens_of_the_prompt_are_not(
        prompt in "([ \n.é世👩a-c]|\\PC){0,12}",
        completion in "([ \n.é世👩a-c]|\\PC){0,12}x",
        max_length in 1_usize..60,
    ) {
        prop_assume!(!completion.contains('\u{fffd}'));
        let tokenizer = TextTokenizer::from_folder(&parity("tokenizers/gpt2")).unwrap();
        let row = json!({"prompt": format!("a{prompt}"), "completion": completion});
        let set = encoded(std::slice::from_ref(&row), &tokenizer, &SETTINGS).unwrap();
        let example = &set.examples[0];
        prop_assert!(!example.trained[0]);
        let said = learnt(&set, 0, &tokenizer);
        prop_assert!(said.ends_with(&format!("{completion}<|eot|>")), "{said:?}");
        let first = example.trained.iter().position(|trained| *trained).unwrap();
        prop_assert!(example.trained[first..].iter().all(|trained| *trained));
        let one_less = tokenizer.decode(&example.tokens[first + 1..], false).unwrap();
        prop_assert!(!one_less.ends_with(&format!("{completion}<|eot|>")), "{one_less:?}");
        let cut = TextDataSettings { max_length, ..SETTINGS };
        if let Ok(set) = encoded(&[row], &tokenizer, &cut) {
            let short = &set.examples[0];
            prop_assert!(short.tokens.len() <= max_length);
            prop_assert_eq!(&short.tokens[..], &example.tokens[..short.tokens.len()]);
            prop_assert_eq!(short.tokens.len() + set.truncated_tokens, example.tokens.len());
        }
    }
}
