//! Image prompts on their way to the text encoders, against the `WebUI`'s answers
//! (`tests/parity/chunks.py`), and prompts as they are found in the wild
//! (`tests/parity/wild_prompts.json`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fmt::Write as _;
use std::sync::LazyLock;

use lora_eval::generate::conditioning::{Chunks, PromptPlan, ROW, emphasise};
use lora_eval::prompt::{Prompt, parse_emphasis};
use lora_eval::text::ClipTokenizer;
use serde_json::{Value, json};

static GOLDEN: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("parity/chunks.json")).unwrap());
static WILD: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("parity/wild_prompts.json")).unwrap());
static OPENAI: LazyLock<ClipTokenizer> = LazyLock::new(|| ClipTokenizer::openai().unwrap());

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().unwrap()
}

fn strings(key: &str) -> impl Iterator<Item = &'static str> {
    list(&WILD, key).iter().map(|prompt| prompt.as_str().unwrap())
}

fn chunks(clip: &ClipTokenizer, text: &str) -> Chunks {
    Chunks::new(clip, &parse_emphasis(text).unwrap()).unwrap()
}

fn singles(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// `[[1.0, 3], [1.1, 2]]` as five weights.
fn weights(row: &Value) -> Vec<f32> {
    let runs: Vec<(f32, usize)> = serde_json::from_value(row["weights"].clone()).unwrap();
    runs.into_iter().flat_map(|(weight, times)| vec![weight; times]).collect()
}

#[test]
fn rows_are_those_of_the_webui() {
    assert!(list(&GOLDEN, "lines").len() >= 60);
    for line in list(&GOLDEN, "lines") {
        let text = line["text"].as_str().unwrap();
        let found = chunks(&OPENAI, text);
        let rows = list(line, "rows");
        assert_eq!(found.ids.len(), rows.len(), "{text:?}");
        for (row, (ids, found_weights)) in rows.iter().zip(found.ids.iter().zip(&found.weights)) {
            assert_eq!(json!(ids.as_slice()), row["ids"], "{text:?}");
            assert_eq!(found_weights.as_slice(), weights(row), "{text:?}");
        }
        assert_eq!(json!(found.tokens), line["tokens"], "{text:?}");
    }
}

#[test]
fn open_clip_pads_after_the_first_end() {
    let clip = ClipTokenizer::open_clip().unwrap();
    for line in list(&GOLDEN, "lines") {
        let text = line["text"].as_str().unwrap();
        let found = chunks(&clip, text);
        for (row, ids) in list(line, "rows").iter().zip(found.ids) {
            let end = usize::try_from(row["end"].as_u64().unwrap()).unwrap();
            let mut expected: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
            expected[end + 1..].fill(0);
            assert_eq!(ids.as_slice(), expected, "{text:?}");
        }
    }
}

#[test]
fn texts_that_applied_at_a_step_are_those_of_the_webui() {
    for case in list(&GOLDEN, "plans") {
        let text = case["prompt"].as_str().unwrap();
        let steps = usize::try_from(case["steps"].as_u64().unwrap()).unwrap();
        let plan = if case["negative"] == true {
            PromptPlan::negative(text, steps)
        } else {
            PromptPlan::new(&Prompt::parse(text).unwrap(), steps)
        };
        let plan = plan.unwrap();
        for (step, expected) in (1..).zip(list(case, "at")) {
            let texts: Vec<(&str, f64)> = plan
                .at(step)
                .iter()
                .map(|(index, weight)| (plan.texts()[*index].text.as_str(), *weight))
                .collect();
            assert_eq!(json!(texts), *expected, "{text:?} at step {step}");
        }
    }
}

#[test]
fn emphasis_is_torchs_within_its_rounding() {
    for case in list(&GOLDEN, "emphasis") {
        let (mut z, expected) = (singles(&case["z"]), singles(&case["expected"]));
        emphasise(&mut z, &singles(&case["weights"])).unwrap();
        // Means near zero: their quotient is less precise than they are.
        for (found, expected) in z.iter().zip(&expected) {
            assert!((found - expected).abs() <= 2e-5 * expected.abs(), "{found} {expected}");
        }
    }
}

#[test]
fn rows_of_no_text_are_added_to_the_length_that_is_asked_for() {
    let (mut text, empty) = (chunks(&OPENAI, "(a:1.2)"), chunks(&OPENAI, ""));
    let tokens = text.tokens;
    text.pad_to(3);
    assert_eq!((text.ids.len(), text.weights.len(), text.tokens), (3, 3, tokens));
    assert_eq!((text.ids[2], text.weights[2]), (empty.ids[0], [1.0; ROW]));
    text.pad_to(1);
    assert_eq!(text.ids.len(), 3);
}

#[test]
fn a_weight_beyond_single_precision_is_an_error() {
    let fragments = parse_emphasis(&format!("(a:{})", "9".repeat(60))).unwrap();
    let problem = Chunks::new(&OPENAI, &fragments).unwrap_err().to_string();
    assert!(problem.starts_with("the weight of `a` is 1000000"), "{problem}");
}

#[test]
fn prompts_of_the_wild_become_rows() {
    assert_eq!(strings("prompts").count(), 20);
    for text in strings("prompts") {
        let prompt = Prompt::parse(text).unwrap();
        assert_eq!(text.contains("<lora:"), !prompt.adapters.is_empty(), "{text:?}");
        let plan = PromptPlan::new(&prompt, 20).unwrap();
        for planned in plan.texts() {
            assert!(!planned.text.contains("<lora:"), "{text:?}");
            let rows = Chunks::new(&OPENAI, &planned.fragments).unwrap();
            assert_eq!(rows.ids.len(), rows.tokens.div_ceil(75).max(1), "{text:?}");
        }
        for step in 1..=20 {
            assert_eq!(plan.at(step).len(), prompt.parts.len(), "{text:?}");
        }
    }
}

#[test]
fn prompts_that_are_wrong_are_refused_at_their_place() {
    let mut all = String::new();
    for text in strings("wrong") {
        let problem = match Prompt::parse(text) {
            Err(error) => format!("{error}\n{}", error.caret(text)),
            Ok(prompt) => PromptPlan::new(&prompt, 20).unwrap_err().to_string(),
        };
        writeln!(all, "{text}\n    =>\n{problem}\n").unwrap();
    }
    insta::assert_snapshot!(all);
}
