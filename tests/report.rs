//! The report as a whole: what it shows, and that no text of a run can change its structure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use html5ever::tendril::TendrilSink as _;
use lora_eval::report::{ReportError, RunView, render, render_experiment};
use lora_eval::run::{
    Ablation, AdapterAt, AdapterRecord, BaseRecord, Better, BlockEffect, Cell, Change, Experiment,
    FORMAT, Measure, MetricScores, PlanRecord, PromptAt, Proposal, RunKind, RunRecord, ScoreRow,
    Scores, Verdict,
};
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use serde_json::json;

/// A cell for each of `groups` at each of `strengths`.
fn cells(text: &str, groups: &[(&str, String)], strengths: &[f64]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (group, id) in groups {
        for strength in strengths {
            let output = match *strength {
                0.0 => format!("a{text}z"),
                0.5 => format!("a{text}z then more"),
                _ => format!("well, a{text}z"),
            };
            cells.push(Cell {
                cell: format!("{group}{strength}{text}"),
                prompt_id: id.clone(),
                group: (*group).to_owned(),
                prompt: format!("p{text}q"),
                strength: *strength,
                adapters: vec![AdapterAt {
                    name: text.to_owned(),
                    strength: *strength,
                    text_encoder: None,
                    blocks: Vec::new(),
                }],
                axes: BTreeMap::from([(format!("x{text}"), json!(text))]),
                seed: 1,
                output,
                finish: Some(format!("f{text}")),
                prompt_tokens: Some(3),
                tokens: Some(5),
                truncated: 0,
                batch: None,
                features: BTreeMap::new(),
                scores: BTreeMap::from([
                    ("chrf".to_owned(), 20.0 + 10.0 * strength),
                    (format!("i{text}"), 1.0),
                ]),
                seconds: 0.5,
            });
        }
    }
    cells
}

/// A metric with a direction and one without.
fn metrics(text: &str, groups: &[(&str, String)], strengths: &[f64]) -> Vec<MetricScores> {
    let row = |group: &str, strength: f64| ScoreRow {
        group: group.to_owned(),
        strength,
        axes: BTreeMap::from([(format!("x{text}"), json!(text))]),
        value: Some(20.0 + 10.0 * strength),
        low: Some(15.0 + 10.0 * strength),
        high: Some(25.0 + 10.0 * strength),
        n: 4,
        p: (strength != 0.0).then_some(0.01),
        identical: false,
    };
    let rows = groups.iter().flat_map(|(g, _)| strengths.iter().map(|s| row(g, *s)));
    let metric = MetricScores {
        metric: "chrf".to_owned(),
        label: format!("chrF{text}"),
        about: format!("about{text}"),
        unit: format!("u{text}"),
        better: Better::Higher,
        signature: format!("s{text}"),
        rows: rows.collect(),
    };
    vec![
        metric.clone(),
        MetricScores { metric: format!("i{text}"), better: Better::Neither, ..metric },
    ]
}

/// A small run of which every text holds `text`.
/// Two blocks, of which the second does most of the damage and none of the work.
fn ablation(text: &str) -> Ablation {
    let measure = |full| Measure {
        metric: format!("kl{text}"),
        about: format!("about{text}"),
        unit: format!("nats{text}"),
        full,
        prompts: vec![PromptAt { id: format!("b{text}"), seed: 1, value: full }],
    };
    let change =
        |value: f64| Change { value, low: Some(value - 0.05), high: Some(value + 0.05), n: 4 };
    let block = |name: &str, damage, gain, proposed| BlockEffect {
        block: format!("{name}{text}"),
        damage: change(damage),
        gain: Some(change(gain)),
        proposed,
    };
    Ablation {
        format: FORMAT,
        program: format!("lora-eval{text}"),
        plan: String::new(),
        adapter: format!("ink{text}"),
        strength: 1.0,
        damage: measure(0.5),
        gain: Some(measure(2.0)),
        blocks: vec![block("L00", 0.01, -1.5, 1.0), block("L01", -0.4, 0.0, 0.0)],
        proposal: Some(Proposal {
            lbw: vec![1.0, 0.0],
            tag: format!("<lora:ink{text}:1:lbw=1,0>"),
            damage: 0.1,
            gain: 2.0,
        }),
        notes: vec![format!("note{text}")],
    }
}

/// A verdict on two strengths, the second of which breaks a rule.
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
fn verdict(text: &str) -> Verdict {
    let measured = |rule: &str, value: f64| {
        json!({
            "rule": format!("{rule}{text}"), "metric": format!("chrf{text}"), "unit": "points",
            "label": format!("l{rule}{text}"), "better": "higher",
            "value": value, "low": value - 1.0, "high": value + 1.0,
        })
    };
    let at = |strength: f64, verdict: &str, outcome: &str| {
        json!({
            "strength": strength, "verdict": verdict, "safe": verdict == "pass", "p": 0.01,
            "adjusted_p": 0.02, "wins": 0.75, "gain": measured("gain", 10.0 * strength),
            "damage": measured("guard", 90.0 - 10.0 * strength),
            "rules": [{
                "rule": format!("r{text}"), "kind": "guard", "severity": "error",
                "outcome": outcome, "sentence": format!("s{text}"), "against": "base",
                "pairs": 3, "prompts": 3,
            }],
        })
    };
    serde_json::from_value(json!({
        "format": 1, "program": format!("lora-eval{text}"), "verdict": "pass",
        "headline": format!("SHIP at 0.5{text}"), "reasons": [format!("reason{text}")],
        "asked": null, "recommended": 0.5, "safe": {"low": 0.5, "high": 0.5}, "nearest": null,
        "strengths": [at(0.5, "pass", "pass"), at(1.0, "regression", "fail")],
        "evidence": {"cells": 9, "pairs": {}, "prompts": {}, "further_prompts": {}},
        "worst": [{
            "prompt_id": format!("b{text}"), "group": "base", "seed": 1, "strength": 0.5,
            "axes": {format!("x{text}"): text}, "cell": format!("base0.5{text}"),
            "metric": format!("chrf{text}"), "label": format!("chrF{text}"),
            "base": 20.0, "score": 15.0, "change": -5.0,
        }],
        "notes": [format!("verdict note{text}")],
        "policy": {
            "name": text, "sha256": text, "confidence": 0.95, "method": text, "resamples": 2000,
            "seed": 1,
        },
        "subject": {
            "run": text, "base": text, "adapters": {}, "suite": text, "plan": format!("8{text}"),
            "cells": text,
        },
        "signatures": {},
    }))
    .unwrap()
}

#[test]
fn the_verdict_is_the_first_thing_seen_with_the_pair_that_lost_most() {
    let page = render(&[run("")]).unwrap();
    let shown = words(&page);
    let place = |what: &str| shown.find(what).unwrap();
    let summary = place("Held-out prompts");
    assert!(place("SHIP at 0.5") < summary && place("breaks r") < summary);
    assert!(place("chrF 20 → 15") < summary);
    // the base's output and the adapter's
    let lost = &shown[place("chrF 20 → 15")..];
    assert!(lost.find("az").unwrap() < lost.find("az then more").unwrap(), "{lost}");
    assert!(page.contains("Gain against damage"));
    let without = RunView { verdict: None, ..run("") };
    assert!(!render(&[without]).unwrap().contains("SHIP"));
}

#[test]
fn a_verdict_on_other_cells_says_so() {
    let mut older = run("");
    older.verdict.as_mut().unwrap().evidence.cells = 7;
    let shown = words(&render(&[older]).unwrap());
    assert!(shown.contains("has changed since it was judged"), "{shown}");
    assert!(!words(&render(&[run("")]).unwrap()).contains("has changed since"));
}

#[test]
fn blame_names_the_worst_block_and_draws_two_bars_a_block() {
    let page = render(&[run("")]).unwrap();
    let shown = words(&page);
    let sentence = "With L01 off, 80 % of the damage and 0 % of the gain go away";
    assert!(shown.contains(sentence), "{shown}");
    assert!(shown.contains("<lora:ink:1:lbw=1,0>"));
    assert!(shown.contains("20 % of the damage and 100 % of the gain are left"));
    // the table holds what the bars show
    assert!(shown.contains("80.0 % [70.0, 90.0], n = 4"), "{shown}");
    let bars = page.split("aria-label=\"Damage and gain").nth(1).unwrap();
    let bars = &bars[..bars.find("</svg>").unwrap()];
    assert_eq!(bars.matches("<rect").count(), 4);
    let without = RunView { ablation: None, ..run("") };
    assert!(!render(&[without]).unwrap().contains("Blame"));
}

#[test]
fn an_ablation_without_effect_has_a_picture_of_nothing() {
    let mut odd = run("");
    let ablation = odd.ablation.as_mut().unwrap();
    ablation.damage.full = 0.0;
    ablation.gain = None;
    ablation.proposal = None;
    for block in &mut ablation.blocks {
        block.damage = Change { value: 0.0, low: None, high: None, n: 1 };
        block.gain = None;
    }
    let shown = words(&render(&[odd]).unwrap());
    assert!(shown.contains("The adapter does no damage on these prompts."), "{shown}");
    assert!(!shown.contains("NaN"));
}

fn run(text: &str) -> RunView {
    let strengths = vec![0.0, 0.5, 1.0];
    let own_group = format!("g{text}");
    let groups = [
        ("heldout", format!("h{text}")),
        ("base", format!("b{text}")),
        (own_group.as_str(), format!("o{text}")),
    ];
    let cells = cells(text, &groups, &strengths);
    let prompts: Vec<_> = groups
        .iter()
        .map(|(group, id)| {
            let reference = format!("a{text}z");
            json!({"id": id, "group": group, "prompt": text, "references": [reference]})
        })
        .collect();
    RunView {
        title: format!("run{text}"),
        path: format!("runs/{text}").into(),
        missing: vec![format!("m{text}")],
        ablation: Some(ablation(text)),
        verdict: Some(verdict(text)),
        record: RunRecord {
            format: FORMAT,
            program: format!("lora-eval{text}"),
            kind: RunKind::Text,
            created: format!("2026{text}"),
            suite: json!({"name": format!("suite{text}"), "prompts": prompts}),
            suite_sha256: format!("5{text}"),
            base: BaseRecord {
                name: format!("base{text}"),
                description: format!("Llama{text}"),
                sha256: format!("6{text}"),
                vae: None,
            },
            adapters: vec![AdapterRecord {
                name: text.to_owned(),
                path: format!("adapters/{text}"),
                sha256: format!("7{text}"),
                kinds: BTreeMap::from([(format!("LoRA{text}"), 3)]),
                ranks: BTreeMap::from([(8, 3)]),
                matched: 3,
                unmatched: vec![format!("module{text}")],
                delta_norm: None,
            }],
            strengths: strengths.clone(),
            seeds: vec![1],
            axes: BTreeMap::from([(format!("x{text}"), vec![json!(text)])]),
            settings: BTreeMap::from([(format!("set{text}"), json!({"deep": text}))]),
            device: format!("cpu{text}"),
            dtype: format!("f32{text}"),
            judges: BTreeMap::new(),
            max_batch: None,
            plan: PlanRecord {
                sha256: format!("8{text}"),
                cells: cells.iter().map(|cell| cell.cell.clone()).collect(),
            },
        },
        scores: Scores {
            format: FORMAT,
            planned: cells.len(),
            present: cells.len(),
            metrics: metrics(text, &groups, &strengths),
            notes: vec![format!("note{text}")],
        },
        cells,
    }
}

fn parse(html: &str) -> RcDom {
    html5ever::parse_document(RcDom::default(), html5ever::ParseOpts::default()).one(html)
}

/// Every element with its depth and the names of its attributes.
fn skeleton(html: &str) -> String {
    fn walk(node: &Handle, depth: usize, out: &mut String) {
        if let NodeData::Element { name, attrs, .. } = &node.data {
            let names: Vec<String> =
                attrs.borrow().iter().map(|a| a.name.local.to_string()).collect();
            // what a sentence quotes in backticks is code, whoever wrote the backticks
            if &*name.local != "code" || !names.is_empty() {
                let _ = writeln!(out, "{depth} {} {}", name.local, names.join(" "));
            }
        }
        for child in node.children.borrow().iter() {
            walk(child, depth + 1, out);
        }
    }
    let mut out = String::new();
    walk(&parse(html).document, 0, &mut out);
    out
}

/// The text of the page outside its style and script.
fn words(html: &str) -> String {
    fn walk(node: &Handle, out: &mut String) {
        match &node.data {
            NodeData::Text { contents } => out.push_str(&contents.borrow()),
            NodeData::Element { name, .. } if matches!(&*name.local, "style" | "script") => return,
            _ => {}
        }
        for child in node.children.borrow().iter() {
            walk(child, out);
        }
    }
    let mut out = String::new();
    walk(&parse(html).document, &mut out);
    out
}

/// Strings that break pages made without care, and some that break terminals and layouts.
fn hostile() -> Vec<String> {
    let mut strings: Vec<String> = [
        "<script>alert(1)</script>",
        "</script><script>alert(1)</script>",
        "</style><style>*{display:none}</style>",
        "</title><img src=x onerror=alert(1)>",
        "</textarea><script>x</script>",
        "</div></div></div></main>",
        "</td></tr></table><b>",
        "</code></pre><i>",
        "</svg><svg onload=alert(1)>",
        "</details></article>",
        "</html>",
        "<body onload=alert(1)>",
        "<base href=//evil>",
        "<meta http-equiv=refresh content=0>",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"\">",
        "<link rel=stylesheet href=//evil>",
        "<iframe src=javascript:alert(1)>",
        "<object data=x>",
        "<form action=//evil><input>",
        "<template><p>",
        "<plaintext>",
        "<xmp>",
        "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
        "<math><mi//xlink:href=\"data:x,<script>alert(4)</script>\">",
        "<svg><foreignObject><p>",
        "<select><option>",
        "<table><tr><td>",
        "<a href=\"javascript:alert(1)\">x</a>",
        "<!--",
        "-->",
        "<!-- --!> <img src=x>",
        "<![CDATA[",
        "]]>",
        "<!doctype html>",
        "<?php echo 1 ?>",
        "\"",
        "'",
        "`",
        "\" onmouseover=\"alert(1)",
        "' onmouseover='alert(1)",
        "\"><script>alert(1)</script>",
        "'><img src=x onerror=alert(1)>",
        " autofocus onfocus=alert(1) x=",
        "/>",
        ">",
        "<",
        "&",
        "&lt;script&gt;",
        "&#60;script&#62;",
        "&quot; onclick=x",
        "&notanentity; &amp",
        "{{ 7 * 7 }}",
        "{% for x in range(9) %}x{% endfor %}",
        "{# comment #}",
        "{{ style | safe }}",
        "${7*7} #{7*7} <%= 7*7 %>",
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "url(//evil) } * { color: red",
        "@import '//evil'; /* */",
        "\u{2028}\u{2029}",
        "\u{202e}txet\u{202c}",
        "\u{2066}iso\u{2069}\u{200f}",
        "\u{feff}\u{200b}\u{2060}",
        "\0",
        "\0<script>",
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}]0;title\u{7}",
        "\r\n\r\nSet-Cookie: x",
        "\r",
        "\u{b}\u{c}\u{8}\u{7f}\u{85}\u{9b}",
        "\u{fffe}\u{ffff}\u{fdd0}",
        "\u{e0001}\u{e0041}",
        "+ADw-script+AD4-",
        "%3Cscript%3E",
        "\\u003cscript\\u003e",
        "＜script＞",
        "ʺ onclick=x",
        "<scr\0ipt>",
        "<img src=x onerror=alert(1)//",
        "<<script>alert(1)//<</script>",
        "<a\u{c}href=x>",
        "Z̸̢͌a̵͝l̶̛g̷o",
        "../../etc/passwd",
        "$(rm -rf /); `id`",
        "-rf",
    ]
    .map(str::to_owned)
    .to_vec();
    strings.push("W".repeat(5_000));
    strings.push("<b>".repeat(600));
    strings
}

#[test]
fn no_text_changes_the_structure_of_the_page() {
    let harmless = skeleton(&render(&[run("x")]).unwrap());
    let two_harmless = skeleton(&render(&[run("x"), run("x")]).unwrap());
    // the count guards against a skeleton that is empty or cut off
    assert!(harmless.lines().count() > 200, "{harmless}");
    let strings = hostile();
    assert!(strings.len() >= 60);
    for text in &strings {
        let html = render(&[run(text)]).unwrap();
        assert!(skeleton(&html) == harmless, "structure changed by {text:?}");
        // and of several runs
        assert_eq!(
            skeleton(&render(&[run(text), run(text)]).unwrap()),
            two_harmless,
            "structure of two runs changed by {text:?}"
        );
        let acting = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!html.contains(acting), "{text:?} reached the page");
        assert!(!html.contains(['\u{202e}', '\u{2028}', '\u{200b}']), "{text:?} reached the page");
    }
}

/// An experiment of two variants, of which every text holds `text`.
fn experiment(text: &str) -> serde_json::Result<Experiment> {
    let measured = json!({
        "rule": text, "metric": text, "label": format!("label{text}"), "unit": text,
        "better": "higher", "value": 3.0, "low": 1.0, "high": 5.0,
    });
    let variant = |value: &str| {
        json!({
            "value": format!("{value}{text}"), "folder": text, "rank": 1,
            "trained": {
                "adapter": text, "steps": 3, "stopped_early": false, "held_out": 1.25,
                "held_out_step": 2,
            },
            "judged": {
                "verdict": "pass", "headline": format!("headline{text}"), "strength": 0.75,
                "gain": measured, "damage": null,
            },
        })
    };
    let failed = json!({"step": text, "error": format!("error{text}")});
    let failed = json!({"value": text, "folder": text, "rank": null, "failed": failed});
    let variants = [variant("a"), variant("b"), failed];
    let experiment = json!({
        "format": 1, "program": text, "key": format!("key{text}"), "written": text, "config": text,
        "suite": text, "suite_sha256": text, "notes": [format!("remark{text}")],
        "variants": variants,
    });
    serde_json::from_value(experiment)
}

#[test]
fn the_ranking_of_an_experiment_comes_first_and_no_text_changes_its_structure() {
    let page = |text: &str| {
        let folder = std::path::Path::new("runs");
        render_experiment(folder, &[run(text)], &experiment(text).unwrap()).unwrap()
    };
    let (harmless, plain) = (skeleton(&page("x")), skeleton(&render(&[run("x")]).unwrap()));
    assert!(harmless.lines().count() > plain.lines().count() + 40);
    for text in &hostile() {
        let html = page(text);
        assert!(skeleton(&html) == harmless, "structure changed by {text:?}");
    }
    let text = "</td> {{ 7 * 7 }} & \"q\" <b>";
    let shown = words(&page(text));
    let expected = [
        format!("key{text} varied"),
        format!("label{text} 3 (at least 1)"),
        format!("remark{text}"),
        format!("a{text} is not told from b{text}"),
        format!("failed: {text}"),
        format!("error{text}"),
    ];
    for wanted in expected {
        let at = shown.find(&wanted);
        assert!(at.is_some() && at < shown.find("Curves over strength"), "{wanted}");
    }
}

#[test]
fn texts_are_shown_as_they_are() {
    let text = "</script> {{ 7 * 7 }} & \"q\" <b>";
    let shown = words(&render(&[run(text)]).unwrap());
    for wanted in [format!("a{text}z"), format!("p{text}q"), format!("note{text}")] {
        assert!(shown.contains(&wanted), "{wanted}");
    }
}

#[test]
fn the_policy_allows_exactly_the_style_and_script_of_the_page() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let html = render(&[run("x")]).unwrap();
    for (tag, source) in [("style", "style-src"), ("script", "script-src")] {
        let content = html.split(&format!("<{tag}>")).nth(1).unwrap();
        let content = content.split(&format!("</{tag}>")).next().unwrap();
        let hash = base64::engine::general_purpose::STANDARD
            .encode(sha2::Sha256::digest(content.as_bytes()))
            .replace('/', "&#x2f;");
        assert!(html.contains(&format!("{source} &#x27;sha256-{hash}&#x27;")), "{tag}");
        assert_eq!(html.matches(&format!("<{tag}>")).count(), 1);
    }
    // nothing that the policy would refuse, and nothing to fetch
    let forbidden = |attribute: &str| attribute == "style" || attribute.starts_with("on");
    assert!(!skeleton(&html).lines().any(|l| l.split(' ').skip(2).any(forbidden)));
    // the namespace of the icon
    assert_eq!(html.matches("http://").count(), 1);
    assert!(!html.contains("https://"));
}

#[test]
fn the_same_input_gives_the_same_bytes_in_whatever_order_the_cells_come() {
    let first = render(&[run("x")]).unwrap();
    let mut shuffled = run("x");
    shuffled.cells.reverse();
    assert_eq!(first, render(&[run("x")]).unwrap());
    assert_eq!(first, render(&[shuffled]).unwrap());
}

#[test]
fn an_empty_run_says_so() {
    let mut empty = run("x");
    empty.cells.clear();
    empty.scores.metrics.clear();
    empty.record.adapters.clear();
    empty.record.suite = json!(null);
    let shown = words(&render(&[empty]).unwrap());
    for wanted in ["There are no cells yet", "There are no scores yet", "No metric has a value"] {
        assert!(shown.contains(wanted), "{wanted}");
    }
}

#[test]
fn missing_cells_are_loud_and_have_their_place_in_the_grid() {
    let mut partial = run("x");
    let gone = partial.cells.remove(1);
    partial.missing = vec![gone.cell];
    let shown = words(&render(&[partial]).unwrap());
    assert!(shown.contains("1 of 9 cells are missing."));
    assert!(shown.contains("The scores are of 9 cells, but the run now has 8"));
    let whole = run("x");
    let whole = words(&render(&[RunView { missing: vec![], ..whole }]).unwrap());
    assert!(!whole.contains("missing."));
}

#[test]
fn one_strength_and_values_that_are_none_have_a_page() {
    let mut one = run("x");
    one.record.strengths = vec![0.0];
    one.cells.retain(|cell| cell.strength == 0.0);
    for metric in &mut one.scores.metrics {
        metric.rows.retain(|row| row.strength == 0.0);
        metric.rows[0].n = 1;
        metric.rows[1].value = None;
    }
    let html = render(&[one]).unwrap();
    assert!(words(&html).contains("no other strength has a value"));
    assert!(!html.contains("NaN") && !html.contains("inf "));

    let mut odd = run("x");
    for (i, row) in odd.scores.metrics[0].rows.iter_mut().enumerate() {
        row.value = [Some(f64::NAN), Some(f64::INFINITY), None][i % 3];
    }
    odd.cells[0].scores.insert("chrf".to_owned(), f64::NAN);
    odd.cells[1].scores.insert("chrf".to_owned(), f64::NEG_INFINITY);
    let html = render(&[odd]).unwrap();
    assert!(!words(&html).contains("NaN"));
}

#[test]
fn several_runs_have_one_line_each_and_their_own_grids() {
    let mut other = run("x");
    other.title = "second".to_owned();
    let html = render(&[run("x"), other]).unwrap();
    assert!(html.contains("id=\"grid-0\"") && html.contains("id=\"grid-1\""));
    assert!(words(&html).contains("2 runs side by side"));
    assert!(html.contains("second, xx = x, strength 0.5: 25"));
}

#[test]
fn commands_make_the_cell_again() {
    let mut plain = run("x");
    plain.record.settings = BTreeMap::from([
        ("max_new_tokens".to_owned(), json!(32)),
        ("chat".to_owned(), json!(true)),
    ]);
    for cell in &mut plain.cells {
        cell.axes.clear();
        cell.prompt = "it's dawn".to_owned();
    }
    let mut weighed = plain.clone();
    let shown = words(&render(&[plain]).unwrap());
    let wanted = r"lora-eval generate 'it'\''s dawn' --base basex --lora x=adapters/x:0.5 --seed 1 --chat --max-new-tokens 32 --dtype f32x --device cpux";
    assert!(shown.contains(wanted));
    for cell in &mut weighed.cells {
        cell.adapters[0].blocks = vec![1.0, 0.0, -0.5];
    }
    let shown = words(&render(&[weighed]).unwrap());
    assert!(shown.contains("--lora x=adapters/x:0.5:lbw=1,0,-0.5 --seed 1"));
}

#[test]
fn what_cannot_be_reported_is_an_error() {
    assert!(matches!(render(&[]), Err(ReportError::NoRun)));
    let mut newer = run("x");
    newer.record.format = 99;
    let error = render(&[newer]).unwrap_err().to_string();
    assert!(error.starts_with("runs/x: format `99`, expected `1`"), "{error}");
}

#[test]
fn a_small_run_in_words() {
    let mut small = run("");
    for cell in &mut small.cells {
        cell.axes.clear();
        cell.adapters[0].name = "style".to_owned();
    }
    small.scores.metrics.truncate(1);
    for row in &mut small.scores.metrics[0].rows {
        row.axes.clear();
    }
    small.record.adapters[0].name = "style".to_owned();
    small.record.axes.clear();
    small.record.settings.clear();
    small.missing.clear();
    small.ablation = None;
    let shown = words(&render(&[small]).unwrap());
    let lines: Vec<&str> = shown.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
