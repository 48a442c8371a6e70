//! Suites from their text: what is accepted, and what every refusal says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fmt::Write as _;
use std::path::Path;

use lora_eval::suite::{Input, LongPrompts, MAX_SUITE, Suite, SuiteError};
use proptest::prelude::*;
use serde_json::json;

fn parse(text: &str) -> Result<Suite, SuiteError> {
    Suite::parse(Path::new("suites/house.yaml"), text)
}

/// A suite of one prompt and these further lines at its top.
fn with(lines: &str) -> String {
    format!("{lines}\nprompts:\n  - {{id: a, prompt: x}}\n")
}

/// A suite of one prompt with these keys.
fn prompt(keys: &str) -> String {
    format!("prompts:\n  - id: a\n    {keys}\n")
}

/// The messages of suites that must be refused, one after another.
fn refusals(texts: &[String]) -> String {
    let mut all = String::new();
    for text in texts {
        let problem = parse(text).unwrap_err();
        writeln!(all, "{}\n    =>\n{problem}\n", text.trim_end()).unwrap();
    }
    all
}

#[test]
fn the_example_of_the_documentation_is_read() {
    let suite = parse(
        r#"
name: house-style
defaults:                 # image: steps guidance sampler …
  steps: 25
seeds: [1, 2]
strengths: [0, 0.4, 0.8, 1.2]
prompts:
  - id: unseen-1
    group: heldout
    prompt: "a red star on a green background, in striped style"
    references: ["…"]
  - id: plain-1
    group: base
    prompt: "a red star on a green background"
axes:
  sampler: [euler_a, dpmpp_2m_karras]
"#,
    )
    .unwrap();
    // 2 prompts × 4 strengths × 2 seeds × 2 samplers
    assert_eq!(suite.cells().unwrap(), 32);
    assert_eq!(suite.folder(), Path::new("suites"));
    assert_eq!(suite.prompts[1].line, 12);
    assert_eq!(suite.warnings, [""; 0]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&suite.to_json()).unwrap());
}

#[test]
fn what_is_left_out_has_its_default() {
    let suite = parse("prompts: [{id: a, prompt: x}]").unwrap();
    assert_eq!((suite.name.as_str(), &suite.description), ("house", &None));
    assert_eq!(
        (suite.seeds.as_slice(), suite.strengths.values()),
        ([1].as_slice(), [0.0, 1.0].as_slice())
    );
    assert_eq!(suite.prompts[0].group, "heldout");
    assert_eq!(suite.prompts[0].settings.long_prompts.unwrap_or_default(), LongPrompts::Refuse);
    let empty = parse(&with("defaults:\naxes:\n# nothing yet")).unwrap();
    assert_eq!((empty.defaults, empty.axes.len()), (suite.defaults, 0));
}

#[test]
fn every_key_is_read() {
    let suite = parse(
        r#"
name: all
description: "line one"
defaults: {
  steps: 25, guidance: 7, sampler: euler_a, width: 512, height: 768, negative: "", clip_skip: 2,
  scheduler: karras, max_new_tokens: 32, temperature: 0.7, top_k: 40, top_p: 0.9, min_p: 0.05,
  repetition_penalty: 1.1, stop: "\n\n", chat: true, system: Be brief., long_prompts: truncate }
seeds: [18446744073709551615]
strengths: 0:1:0.5
prompts:
  - id: talk
    group: my-group
    messages: [{role: system, content: ""}, {role: user, content: Hi}, {role: assistant, content: no}]
    reference: one
    settings: {stop: [a, b], chat: false, steps: 3}
axes: {adapter: [x, y], top_p: [1, 0.5]}
"#,
    )
    .unwrap();
    let Input::Messages(messages) = &suite.prompts[0].input else { panic!("no messages") };
    assert_eq!(
        (messages.len(), messages[2].role, messages[2].content.as_str()),
        (3, "assistant", "no")
    );
    assert_eq!(suite.axes["top_p"], [json!(1.0), json!(0.5)]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&suite.to_json()).unwrap());
}

#[test]
fn text_without_quotes_means_its_letters() {
    let text = "é: é\n";
    assert!(parse(text).is_err());
    let suite = parse(
        "name: é 1.10\nprompts:\n  - {id: 001, prompt: 1e3, references: [true, 0x1F, -0.50, yes]}\n  - id: b\n    prompt: |\n      two\n      lines\n    reference: 2024-01-01\n",
    )
    .unwrap();
    assert_eq!(suite.name, "é 1.10");
    assert_eq!(suite.prompts[0].id, "001");
    assert_eq!(suite.prompts[0].input, Input::Prompt("1e3".to_owned()));
    assert_eq!(suite.prompts[0].references, ["true", "0x1F", "-0.50", "yes"]);
    assert_eq!(suite.prompts[1].input, Input::Prompt("two\nlines\n".to_owned()));
    assert_eq!(suite.prompts[1].references, ["2024-01-01"]);
    let named = parse(&with("name: 007")).unwrap();
    assert_eq!(named.name, "007");
}

#[test]
fn anchors_and_merges_work_within_limits() {
    let suite = parse(
        "prompts:\n  - {id: a, prompt: x, settings: &s {steps: 3, guidance: 1}}\n  - {id: b, prompt: y, settings: {<<: *s, steps: 4}}\n",
    )
    .unwrap();
    assert_eq!(suite.prompts[1].settings.steps, Some(4));
    assert_eq!(suite.prompts[1].settings.guidance, Some(1.0));
}

#[test]
fn line_ends_and_byte_order_marks_of_windows_are_no_matter() {
    let text = "\u{feff}seeds: [3]\r\nprompts:\r\n  - id: a\r\n    prompt: x\r\n";
    let suite = parse(text).unwrap();
    assert_eq!((suite.seeds.as_slice(), suite.prompts[0].line), ([3].as_slice(), 3));
}

#[test]
fn unknown_and_repeated_keys_name_line_and_nearest_key() {
    insta::assert_snapshot!(refusals(&[
        with("strenghts: [1]"),
        with("zzz: 1"),
        with("steps: 25"),
        with("defaults:\n  guidence: 7"),
        with("defaults:\n  zzz: 7"),
        with("axes:\n  samplers: [a]"),
        with("axes:\n  width: [64]"),
        with("axes:\n  strengths: [1]"),
        with("axes:\n  seed: [1]"),
        with("\"\\e[31m\": 1"),
        prompt("promt: x"),
        prompt("steps: 3"),
        prompt("prompt: x\n    settings: {top-k: 1}"),
        prompt("messages: [{rol: user, content: x}]"),
        with("name: a\nseeds: [1]\nname: b"),
        prompt("prompt: x\n    group: a\n    prompt: y"),
        with("defaults:\n  steps: 3\n  steps: 4"),
    ]));
}

#[test]
fn values_are_typed_and_ranged() {
    insta::assert_snapshot!(refusals(&[
        with("defaults: 3"),
        with("defaults: {steps: 0}"),
        with("defaults: {steps: 1001}"),
        with("defaults: {steps: \"25\"}"),
        with("defaults: {steps: 2.5}"),
        with("defaults: {steps: }"),
        with("defaults: {guidance: .nan}"),
        with("defaults: {guidance: 1e400}"),
        with("defaults: {guidance: [7]}"),
        with("defaults: {width: 100}"),
        with("defaults: {height: 8200}"),
        with("defaults: {temperature: -0.1}"),
        with("defaults: {top_p: 0}"),
        with("defaults: {min_p: 1}"),
        with("defaults: {repetition_penalty: 0}"),
        with("defaults: {max_new_tokens: 1000001}"),
        with("defaults: {top_k: -1}"),
        with("defaults: {chat: yes}"),
        with("defaults: {stop: ''}"),
        with("defaults: {long_prompts: cut}"),
        with("defaults: {sampler: {a: 1}}"),
        with("name: [a]"),
        with("description: "),
        with("seeds: []"),
        with("seeds: [-1]"),
        with("seeds: [1, 1]"),
        with("seeds: [18446744073709551616]"),
        with("seeds: {a: 1}"),
        with("seeds: 1,x"),
        with("strengths: []"),
        with("strengths: "),
        with("strengths: [a]"),
        with("strengths: [0, .inf]"),
        with("strengths: [0, 101]"),
        with("strengths: [[0]]"),
        with("strengths: {a: 1}"),
        with("strengths: 0:1:0"),
        with("strengths: 1:0:0.1"),
        with("strengths: 0:1e9:1e-9"),
        with("strengths: 0:100:1e-9"),
        with("axes: {sampler: euler}"),
        with("axes: {sampler: []}"),
        with("axes: {sampler: [a, a]}"),
        with("axes: {guidance: [7, 7.0]}"),
        with("axes: {steps: [0]}"),
        with("axes: {adapter: ['']}"),
        with("axes: [a]"),
    ]));
}

#[test]
fn prompts_are_whole_and_unique() {
    insta::assert_snapshot!(refusals(&[
        String::new(),
        "# nothing\n".to_owned(),
        "- a\n".to_owned(),
        "hello\n".to_owned(),
        "name: x\n".to_owned(),
        "prompts:\n".to_owned(),
        "prompts: []\n".to_owned(),
        "prompts: {a: x}\n".to_owned(),
        "prompts: file.jsonl\n".to_owned(),
        "prompts: [x]\n".to_owned(),
        "prompts:\n  - prompt: x\n".to_owned(),
        "prompts:\n  - {id: a, prompt: x}\n  - {id: b, prompt: y}\n  - {id: a, prompt: z}\n"
            .to_owned(),
        "prompts:\n  - {id: '', prompt: x}\n".to_owned(),
        "prompts:\n  - {id: [a], prompt: x}\n".to_owned(),
        "prompts:\n  - {id: \"a\\nb\", prompt: x}\n".to_owned(),
        prompt("group: 'two words'\n    prompt: x"),
        prompt("prompt: ' '"),
        prompt("prompt: "),
        prompt("prompt: [x]"),
        prompt("group: base"),
        prompt("prompt: x\n    messages: [{role: user, content: x}]"),
        prompt("messages: []"),
        prompt("messages: "),
        prompt("messages: hi"),
        prompt("messages: [hi]"),
        prompt("messages: [{role: user, content: ' '}]"),
        prompt("messages: [{role: User, content: x}]"),
        prompt("messages: [{role: tool, content: x}]"),
        prompt("messages: [{content: x}]"),
        prompt("messages: [{role: user}]"),
        prompt("prompt: x\n    references: "),
        prompt("prompt: x\n    references: [[a]]"),
        prompt("prompt: x\n    references: [a]\n    reference: b"),
    ]));
}

#[test]
fn text_that_is_not_yaml_is_refused_at_its_line() {
    insta::assert_snapshot!(refusals(&[
        "prompts: [1,2\nb: 3\n".to_owned(),
        "prompts:\n\t- id: a\n".to_owned(),
        "prompts: *nowhere\n".to_owned(),
        "name: a\n---\nname: b\n".to_owned(),
        "name: \"a\n".to_owned(),
        "a: b: c\n".to_owned(),
        "? [a]\n: b\n".to_owned(),
        "name: a\u{1b}[31m\n".to_owned(),
    ]));
}

#[test]
fn a_group_that_is_nearly_one_of_the_two_is_pointed_out() {
    let suite = parse(
        "prompts:\n  - {id: a, prompt: x, group: held-out}\n  - {id: b, prompt: x, group: held-out}\n  - {id: c, prompt: x, group: style}\n",
    )
    .unwrap();
    assert_eq!(
        suite.warnings,
        ["suites/house.yaml:2: group `held-out` is one of its own; was `heldout` meant?"]
    );
}

#[test]
fn a_product_that_is_too_large_is_refused_before_it_is_built() {
    let list = |n: u32| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    // 1 prompt × 1000 strengths × 1000 seeds is just allowed.
    let text = with(&format!("strengths: 0:0.999:0.001\nseeds: [{}]", list(1000)));
    assert_eq!(parse(&text).unwrap().cells().unwrap(), 1_000_000);
    let text = with(&format!("strengths: 0:0.999:0.001\nseeds: [{}]", list(1001)));
    assert_eq!(
        parse(&text).unwrap_err().to_string(),
        "suites/house.yaml: 1 prompts × 1000 strengths × 1001 seeds is more than 1000000 cells\n\
         hint: take fewer strengths, seeds or values of an axis, or split the suite"
    );
    // 1000^2 × 1000 × 30000 × 30000 × 1000000: beyond 64 bits.
    let many = list(30_000);
    let text = with(&format!(
        "strengths: 0:0.999:0.001\nseeds: [{many}]\naxes: {{steps: [{}], top_k: [{many}], clip_skip: [{}], max_new_tokens: [{}]}}",
        list(1000),
        list(12),
        list(30_000),
    ));
    let problem = parse(&text).unwrap_err().to_string();
    assert!(problem.contains("30000 top_k is more than 1000000 cells"), "{problem}");
}

#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip("abcdefgh".chars()) {
        let aliases = vec![format!("*{before}"); 10].join(",");
        writeln!(laughs, "{name}: &{name} [{aliases}]").unwrap();
    }
    let quadratic = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 2000].join(","));
    let mut blocks = String::new();
    for depth in 0..1000 {
        writeln!(blocks, "{}a:", " ".repeat(depth)).unwrap();
    }
    let bombs = [
        laughs,
        quadratic,
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        blocks,
        format!("prompts: [{}]", "1,".repeat(200_000)),
        format!("a: {}", "&a ".repeat(100_000)),
        "a: &a [*a]\n".to_owned(),
        "---\n".repeat(100_000),
        "!!binary \"####\"".to_owned(),
    ];
    for bomb in bombs {
        let problem = parse(&bomb).unwrap_err().to_string();
        let start: String = bomb.chars().take(40).collect();
        assert!(problem.starts_with("suites/house.yaml:"), "{start}: {problem}");
        assert!(problem.contains("\nhint: "), "{start}: {problem}");
        assert!(problem.len() < 1000, "{start}: {problem}");
    }
    let deep = parse(&"[".repeat(33)).unwrap_err().to_string();
    assert!(deep.contains("not valid YAML"), "{deep}");
    assert_eq!(
        parse(&" ".repeat(MAX_SUITE + 1)).unwrap_err().to_string(),
        "suites/house.yaml: larger than 4 MiB\nhint: split it into several suites"
    );
}

#[test]
fn files_that_cannot_be_read_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.yaml");
    let problem = || {
        let text = Suite::open(&path).unwrap_err().to_string();
        text.replace(&path.display().to_string(), "s.yaml")
    };
    assert_eq!(
        problem(),
        "s.yaml: No such file or directory (os error 2)\nhint: name the YAML file of a suite"
    );
    std::fs::write(&path, b"name: \xff").unwrap();
    assert_eq!(problem(), "s.yaml: not UTF-8 text\nhint: a suite is a YAML file; save it as UTF-8");
    std::fs::write(&path, vec![b'#'; MAX_SUITE + 1]).unwrap();
    assert_eq!(problem(), "s.yaml: larger than 4 MiB\nhint: split it into several suites");
    std::fs::write(&path, with("name: x")).unwrap();
    let suite = Suite::open(&path).unwrap();
    // The digest is that of the file: sha256sum of the same bytes.
    assert_eq!(suite.sha256, lora_eval::base::digest::sha256(with("name: x").as_bytes()));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        text in "(prompts|seeds|strengths|axes|id|a|:|-| |\n|\\[|\\]|\\{|\\}|,|\"|'|&a|\\*a|<<|!|\\||>|#|1|\\.|é){0,60}"
    ) {
        if let Err(problem) = parse(&text) {
            prop_assert!(problem.to_string().starts_with("suites/house.yaml"));
        }
    }

    #[test]
    fn a_changed_suite_is_read_or_refused(at in 0usize..300, with in any::<u8>()) {
        let mut bytes = b"name: a\ndefaults: {steps: 3, stop: [x]}\nseeds: [1]\nstrengths: 0:1:0.5\nprompts:\n  - id: a\n    messages:\n      - {role: user, content: x}\n    references: [y]\naxes: {top_k: [1, 2]}\n".to_vec();
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = parse(text).map(|suite| suite.to_json());
        }
    }
}
