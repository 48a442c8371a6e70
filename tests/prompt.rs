//! The prompt parser against the `WebUI`'s answers, and against anything at all.
//!
//! `tests/parity/prompt.json` was written by `tests/parity/prompt_reference.py`, which reads the same
//! language with Python's `re` and the `lark` grammar.

#![expect(clippy::expect_used, reason = "a test that cannot go on should stop")]

use std::time::{Duration, Instant};

use lora_eval::prompt::{
    OtherTags, Prompt, parse_emphasis, render_fragments, schedule, split_parts, split_tags,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const GOLDEN: &str = include_str!("parity/prompt.json");

fn golden() -> Vec<Value> {
    serde_json::from_str(GOLDEN).expect("the golden file is JSON")
}

fn text_of(case: &Value) -> &str {
    case["text"].as_str().expect("a case has a text")
}

/// Whether two pairs of a text and a number are the same to twelve digits.
fn same_pair(text: &str, number: f64, expected: &Value) -> bool {
    let wanted = expected[1].as_f64().expect("a number");
    expected[0] == text && (number - wanted).abs() <= 1e-12 * wanted.abs()
}

#[test]
fn the_golden_file_is_large_enough() {
    assert!(golden().len() >= 600);
}

#[test]
fn emphasis_equals_the_webui() {
    for case in golden() {
        let text = text_of(&case);
        match (parse_emphasis(text), case["fragments"].as_array()) {
            (Ok(found), Some(expected)) => {
                let same = found.len() == expected.len()
                    && found.iter().zip(expected).all(|(f, e)| same_pair(&f.text, f.weight, e));
                assert!(same, "{text:?}\n found {found:?}\n expected {expected:?}");
            }
            (Err(_), None) => {}
            (found, expected) => panic!("{text:?}\n found {found:?}\n expected {expected:?}"),
        }
    }
}

#[test]
fn parts_equal_the_webui() {
    for case in golden() {
        let text = text_of(&case);
        let found = split_parts(text);
        let expected = case["parts"].as_array().expect("parts");
        let same = found.len() == expected.len()
            && found.iter().zip(expected).all(|(part, e)| same_pair(&part.text, part.weight, e));
        assert!(same, "{text:?}\n found {found:?}\n expected {expected:?}");
    }
}

#[test]
fn schedules_equal_the_webui() {
    for case in golden() {
        let text = text_of(&case);
        let found: Value = [("10", 10), ("7", 7)]
            .into_iter()
            .map(|(key, steps)| (key.to_owned(), json!(schedule(text, steps).expect("shallow"))))
            .collect();
        let answers = case["schedules"].as_array().expect("schedules");
        assert!(answers.contains(&found), "{text:?}\n found {found}\n expected one of {answers:?}");
    }
}

#[test]
fn the_document_of_the_command_line_has_the_promised_keys() {
    let prompt =
        Prompt::parse("a (red:1.3) fox <lora:ink:0.8> <lora:wash:0.5:0.25:4>").expect("valid");
    assert_eq!(
        serde_json::to_value(&prompt).expect("serializes"),
        json!({
            "text": "a (red:1.3) fox  ",
            "adapters": [
                {"name": "ink", "text_encoder": 0.8, "unet": 0.8},
                {"name": "wash", "text_encoder": 0.5, "unet": 0.25, "dyn": 4},
            ],
            "fragments": [
                {"text": "a ", "weight": 1.0},
                {"text": "red", "weight": 1.3},
                {"text": " fox  ", "weight": 1.0},
            ],
            "parts": [{
                "text": "a (red:1.3) fox",
                "weight": 1.0,
                "fragments": [
                    {"text": "a ", "weight": 1.0},
                    {"text": "red", "weight": 1.3},
                    {"text": " fox", "weight": 1.0},
                ],
            }],
            "features": [],
            "warnings": [],
        })
    );
}

#[test]
fn what_a_prompt_asks_for_is_described() {
    let prompt = Prompt::parse("<lora:x>[a:b:0.5] AND [c|d]:2").expect("valid");
    assert_eq!(
        serde_json::to_value(&prompt.features).expect("serializes"),
        json!([
            {"kind": "schedule", "from": "a", "to": "b", "when": 0.5, "fraction": true, "start": 8, "end": 17, "column": 9},
            {"kind": "composition", "start": 18, "end": 21, "column": 19},
            {"kind": "alternation", "options": ["c", "d"], "start": 22, "end": 27, "column": 23},
            {"kind": "part-weight", "start": 27, "end": 29, "column": 28},
        ])
    );
}

#[test]
fn errors_read_well() {
    for (source, expected) in [
        (
            "a fox <lora:ink:0,8>",
            "column 17: strength `0,8` is not a number\n\
             hint: use one number, with a point for decimals, as in `0.8`\n\
             a fox <lora:ink:0,8>\n                ^^^",
        ),
        (
            "a fox <lora:ink:1:lbw=\x1b[31m>",
            "column 23: block weight `\\u{1b}[31m`: expected a number from -100 to 100, and at most 1025 of them\n\
             hint: write one number for each block, as in `lbw=1,0,0,…`\n\
             a fox <lora:ink:1:lbw=\u{fffd}[31m>\n                      ^^^^^",
        ),
        (
            "fox (in snow:1..2)",
            "column 14: emphasis weight `1..2` is not a number\n\
             hint: write `(text:1.2)`; for a literal bracket write `\\(`\n\
             fox (in snow:1..2)\n             ^^^^",
        ),
    ] {
        let error = Prompt::parse(source).expect_err(source);
        assert_eq!(format!("{error}\n{}", error.caret(source)), expected);
    }
}

/// Long hostile texts, each of a shape that makes naive parsers slow or deep.
#[test]
fn long_texts_of_any_shape_are_read_in_linear_time() {
    const LENGTH: usize = 1 << 17;
    let shapes = [
        "(",
        "[",
        ")",
        "]",
        "<",
        "<lora:",
        "<a:",
        "<a:>",
        "<a:b>",
        "<lora:x>",
        "\\",
        ":",
        "|",
        ": ",
        "(a",
        "[a",
        "(a)",
        "[a:1]",
        "[a|",
        "([a:1]",
        "BREAK",
        " BREAK ",
        "AND",
        " AND ",
        "a AND :1 ",
        "1.",
        ":1.)",
        "(:1)",
        "()",
        "[]",
        "[:[",
        "\u{a0}",
        "<é",
        "[:     ",
        "[<lora:x>a:1.5] AND ",
    ];
    let closing = ")".repeat(LENGTH / 8);
    let start = Instant::now();
    for shape in shapes {
        let text = shape.repeat(LENGTH / shape.len());
        for source in [format!("{text}x"), format!("x{text}{closing}")] {
            let _ = Prompt::parse(&source).map(|prompt| prompt.to_string());
            let _ = Prompt::parse_text(&source);
            let _ = schedule(&source, 2);
        }
    }
    // a quadratic step takes hours
    assert!(start.elapsed() < Duration::from_mins(2), "{:?}", start.elapsed());
}

/// Prompts made of the pieces of the language.
fn prompts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a",
        "b",
        " ",
        "é",
        "(",
        ")",
        "[",
        "]",
        ":",
        "|",
        "\\",
        "1",
        "1.5",
        ":1.2)",
        ":0.5]",
        ":-1)",
        ":0)",
        "BREAK",
        " BREAK ",
        " AND ",
        "AND",
        "<",
        ">",
        "<lora:x:0.5>",
        "<lora:x:te=1:unet=-2>",
        "<lora:y:dyn=4>",
        "<b:c>",
        "<lora:",
        "\n",
        ",",
        "_",
        "日本",
        "\u{a0}",
        "\x1b",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

fn anything() -> impl Strategy<Value = String> {
    prop_oneof![4 => prompts(), 1 => any::<String>()]
}

fn meaning(prompt: &Prompt) -> impl PartialEq + std::fmt::Debug {
    let adapters: Vec<_> = prompt
        .adapters
        .iter()
        .map(|a| (a.name.clone(), a.text_encoder, a.unet, a.dyn_rank))
        .collect();
    let parts: Vec<_> =
        prompt.parts.iter().map(|p| (p.text.clone(), p.weight, p.fragments.clone())).collect();
    let features: Vec<_> = prompt.features.iter().map(|feature| feature.kind.clone()).collect();
    let warnings: Vec<_> = prompt.warnings.iter().map(|warning| warning.message.clone()).collect();
    (prompt.text.clone(), adapters, prompt.fragments.clone(), parts, features, warnings)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(source in anything(), steps in 0usize..12) {
        for result in [Prompt::parse(&source), Prompt::parse_text(&source)] {
            match result {
                Ok(prompt) => {
                    for part in &prompt.parts {
                        let schedule = part.schedule(steps).expect("checked when it was read");
                        prop_assert_eq!(schedule.last().map(|(end, _)| *end), Some(steps));
                    }
                    let plain = prompt.features.is_empty();
                    prop_assert_eq!(prompt.require_plain().is_ok(), plain);
                    for place in prompt.warnings.iter().map(|w| w.at).chain(prompt.features.iter().map(|f| f.at)) {
                        prop_assert!(source.get(place.span()).is_some());
                    }
                }
                Err(error) => {
                    let place = error.place();
                    let before = source.get(..place.start).expect("a boundary");
                    prop_assert!(source.get(place.span()).is_some());
                    prop_assert_eq!(before.chars().count() + 1, place.column);
                    prop_assert!(!error.caret(&source).contains('\x1b'));
                    prop_assert!(!error.to_string().contains('\x1b'));
                }
            }
        }
    }

    #[test]
    fn a_prompt_written_out_means_the_same(source in anything()) {
        if let Ok(prompt) = Prompt::parse(&source) {
            let again = Prompt::parse(&prompt.to_string()).expect("canonical form is valid");
            prop_assert_eq!(meaning(&again), meaning(&prompt));
            prop_assert_eq!(again.to_string(), prompt.to_string());
        }
    }

    #[test]
    fn fragments_written_out_are_the_same(text in anything()) {
        if let Ok(fragments) = parse_emphasis(&text) {
            let rendered = render_fragments(&fragments);
            prop_assert_eq!(parse_emphasis(&rendered), Ok(fragments.clone()), "{}", rendered);
            // no other layer of the language sees anything in it
            let prompt = Prompt::parse(&rendered).expect("a plain prompt");
            prop_assert_eq!(&prompt.fragments, &fragments, "{}", rendered);
            prop_assert_eq!(prompt.features, [], "{}", rendered);
            prop_assert_eq!(prompt.adapters, [], "{}", rendered);
        }
    }

    #[test]
    fn neighbours_differ_in_weight(text in anything()) {
        if let Ok(fragments) = parse_emphasis(&text) {
            prop_assert!(!fragments.is_empty());
            prop_assert!(fragments.windows(2).all(|pair| pair[0].weight.total_cmp(&pair[1].weight).is_ne()));
            prop_assert!(fragments.iter().all(|fragment| fragment.weight.is_finite()));
        }
    }

    #[test]
    fn tags_and_text_make_up_the_source(source in anything()) {
        if let Ok(tagged) = split_tags(&source, OtherTags::Keep) {
            let tags: usize = tagged.tags.iter().map(|tag| tag.span.len()).sum();
            prop_assert_eq!(tagged.text.len() + tags, source.len());
        }
    }

    #[test]
    fn schedules_end_at_the_last_step(text in anything(), steps in 1usize..9) {
        let rows = schedule(&text, steps).expect("shallow");
        prop_assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
        prop_assert_eq!(rows.last().map(|row| row.0), Some(steps));
    }
}
