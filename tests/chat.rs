//! Chat templates, byte by byte as `transformers` renders them (`tests/parity/make_chat.py`), and
//! templates that mean harm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::Path;

use lora_eval::text::{ChatError, ChatTemplate, Clock, Message};
use serde_json::Value;

fn template(source: &str) -> Result<ChatTemplate, ChatError> {
    let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    ChatTemplate::new(Path::new("model/chat_template.jinja"), source, special, Clock::At(0))
}

fn render(source: &str) -> Result<String, ChatError> {
    template(source)?.render(&[Message::new("user", "hello")], true)
}

fn parity() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/chat.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn messages(conversation: &Value) -> Vec<Message> {
    let turns = conversation.as_array().unwrap().iter();
    turns.map(|turn| Message::new(turn[0].as_str().unwrap(), turn[1].as_str().unwrap())).collect()
}

/// What is wrong with one case, if anything.
fn differs(found: &Result<String, ChatError>, expected: &Value) -> Option<String> {
    let wrong = || Some(format!("\nexpected {expected}\nfound    {found:?}"));
    if let Some(text) = expected["text"].as_str() {
        return if found.as_ref().is_ok_and(|found| found == text) { None } else { wrong() };
    }
    match (found, expected["raised"].as_str()) {
        (Err(ChatError::Raised { message, .. }), Some(raised)) if message == raised => None,
        // Jinja's other errors have their own words; that it is one, and where, is what counts.
        (Err(ChatError::Template { .. }), None) => None,
        _ => wrong(),
    }
}

#[test]
fn every_template_renders_as_in_transformers() {
    let parity = parity();
    let clock = Clock::At(parity["now"].as_i64().unwrap());
    let (mut cases, mut failures) = (0, Vec::new());
    for entry in parity["templates"].as_array().unwrap() {
        let special: BTreeMap<String, String> =
            serde_json::from_value(entry["special"].clone()).unwrap();
        let source = entry["source"].as_str().unwrap();
        let name = entry["name"].as_str().unwrap();
        let template = ChatTemplate::new(Path::new(name), source, special, clock).unwrap();
        for case in entry["cases"].as_array().unwrap() {
            let conversation = case[0].as_str().unwrap();
            let messages = messages(&parity["conversations"][conversation]);
            let found = template.render(&messages, case[1].as_bool().unwrap());
            cases += 1;
            if let Some(wrong) = differs(&found, &case[2]) {
                failures.push(format!("{name} / {conversation} / {}: {wrong}", case[1]));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases}: {}", failures.len(), failures.join("\n"));
    assert!(cases >= 400);
}

#[test]
fn what_the_template_says_when_it_refuses() {
    let error = render("{{ raise_exception('no\u{1b}[31m ' ~ messages[0].role) }}").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("model/chat_template.jinja: the chat template refuses"), "{text}");
    assert!(text.contains("no\u{fffd}[31m user"), "{text}");
    // Raised inside a macro and a block, it is still the template's own word.
    let nested = "{% macro m() %}{% set x %}{{ raise_exception('deep') }}{% endset %}{% endmacro %}{{ m() }}";
    let error = render(nested).unwrap_err();
    assert!(matches!(&error, ChatError::Raised { message, .. } if message == "deep"), "{error:?}");
}

#[test]
fn wrong_templates_name_file_and_line() {
    for (source, line) in [
        ("ok\n{% if %}", 2),
        ("a\nb\n{{ nothing.at.all }}", 3),
        ("{% for x in messages %}\n{{ x.content.no_such_method() }}{% endfor %}", 2),
        ("{{ 'a' | no_such_filter }}", 1),
        ("\n\n{% include 'other' %}", 3),
        ("{{ strftime_now('%Q') }}", 1),
        ("{{ nothing | tojson }}", 1),
    ] {
        let error = render(source).unwrap_err();
        let ChatError::Template { line: found, .. } = &error else {
            unreachable!("{source}: {error:?}")
        };
        assert_eq!(*found, line, "{source}: {error}");
        let text = error.to_string();
        assert!(text.starts_with("model/chat_template.jinja: chat template, line"), "{text}");
        assert!(text.contains("\nhint: "), "{text}");
    }
}

/// Each would run for very long, or use up the memory or the stack, if nothing stopped it.
#[test]
fn hostile_templates_end_in_an_error() {
    let grow = |body: &str, after: &str| {
        format!(
            "{{% set ns = namespace(a=['xxxxxxxxxxxxxxxx'], s='xxxxxxxxxxxxxxxx') %}}{{% for i in range(90) %}}{{% set {body} %}}{{% endfor %}}{after}"
        )
    };
    let loops =
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}";
    let cases = [
        "{% for i in range(10**9) %}x{% endfor %}".to_owned(),
        loops.to_owned(),
        loops.replace("{{ i }}", ""),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        format!("{}x{}", "{% if true %}".repeat(50_000), "{% endif %}".repeat(50_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "[".repeat(100_000)),
        format!("{{{{ {}true }}}}", "not ".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " ** 1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " if x else 1".repeat(100_000)),
        format!("{{{{ x{} }}}}", ".x".repeat(100_000)),
        format!("{{{{ x{} }}}}", "|e".repeat(100_000)),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(100_000)),
        grow("ns.s = ns.s ~ ns.s", "{{ ns.s|length }}"),
        grow("ns.s = ns.s + ns.s", ""),
        grow("ns.s = ns.s.replace('x', 'xxxx')", ""),
        grow("ns.s = ns.s|replace('x', 'xxxx')", ""),
        grow("ns.s = ns.s|tojson ~ ns.s|tojson", ""),
        grow("ns.s = ns.s * 1000", ""),
        grow("ns.a = [ns.a, ns.a]", "{{ ns.a }}"),
        grow("ns.a = [ns.a, ns.a]", "{{ ns.a|tojson }}"),
        grow("ns.s = ns.s.join(['a', ns.s, ns.s])", ""),
        "{{ 'x' * 10**12 }}".to_owned(),
        "{{ ['x'] * 10**12 }}".to_owned(),
        "{{ 'x'|center(10**12) }}".to_owned(),
        "{{ '%1000000000000d'|format(1) }}".to_owned(),
        "{{ 'x'|indent(10**12) }}".to_owned(),
        "{{ [1]|tojson(indent=10**12) }}".to_owned(),
        "{{ messages|batch(10**12, 'x')|list }}".to_owned(),
        "{{ messages|slice(10**12)|list }}".to_owned(),
    ];
    for source in cases {
        let shown: String = source.chars().take(120).collect();
        assert!(render(&source).is_err(), "{shown}");
    }
}

#[test]
fn long_results_are_refused_and_long_conversations_are_not() {
    let chatml = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'].strip() + '<|im_end|>\n' }}{% endfor %}";
    let long: Vec<Message> =
        (0..2000).map(|_| Message::new("user", " word".repeat(1000))).collect();
    let text = template(chatml).unwrap().render(&long, false).unwrap();
    assert_eq!(text.len(), 2000 * (4999 + "<|im_start|>user\n<|im_end|>\n".len()));
    let huge = [Message::new("user", "x".repeat(1 << 20))];
    let many = template("{% for i in range(100) %}{{ messages[0].content }}{% endfor %}").unwrap();
    assert!(matches!(many.render(&huge, false), Err(ChatError::Limit { .. })));
}

#[test]
fn user_text_is_not_a_template() {
    let text = template("{{ messages[0].content }}")
        .unwrap()
        .render(&[Message::new("user", "{{ bos_token }}{% raw %}")], false)
        .unwrap();
    assert_eq!(text, "{{ bos_token }}{% raw %}");
}

#[test]
fn the_clock_can_be_fixed() {
    assert_eq!(render("{{ strftime_now('%d %b %Y') }}").unwrap(), "01 Jan 1970");
    assert_eq!(Clock::default(), Clock::System);
}

/// The longest of what is let through, against the compiler's stack.
#[test]
fn long_expressions_do_not_overflow_the_stack() {
    for (before, part, after) in [
        ("{{ ", "not ", "true }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ 1", "+1", " }}"),
        ("{{ 1", "**1", " }}"),
        ("{{ 1", " if x else 1", " }}"),
        ("{{ x", ".x", " }}"),
        ("{{ x", "|e", " }}"),
        ("{{ x", "()", " }}"),
        ("{{ x", "==x", " }}"),
        ("{{ x", "~x", " }}"),
        ("{{ ", "[", " }}"),
    ] {
        let _ = render(&format!("{before}{}{after}", part.repeat(4000 / part.trim().len())));
    }
    let _ = render(&format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(990)));
}
