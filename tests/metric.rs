//! Text metrics against sacreBLEU 2.6.0 and rouge-score 0.1.2, and what must hold of any text.
//!
//! Expected values: `parity/text.json` by `parity/text_reference.py`, `parity/text_random.json` by
//! `parity/text_random.py`. Scores agree to 10⁻⁹, statistics, tokens, stems, p-values and signatures
//! are equal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use lora_eval::metric::{
    Bleu, Chrf, ExactMatch, MetricError, Overlap, Rouge, RougeKind, Score, Smooth, Ter, Texts,
    Tokenizer, stem,
};
use lora_eval::stats::{Comparison, Segments, Test};
use proptest::prelude::*;
use serde_json::Value;

enum Metric {
    Bleu(Bleu),
    Chrf(Chrf),
    Ter(Ter),
}

impl Metric {
    fn new(kind: &str, args: &Value) -> Self {
        let is = |key: &str| args[key].as_bool().unwrap_or(false);
        let number = |key: &str, usual: u64| args[key].as_u64().unwrap_or(usual);
        match kind {
            "bleu" => Self::Bleu(Bleu {
                lowercase: is("lowercase"),
                tokenize: tokenizer(args["tokenize"].as_str().unwrap_or("13a")),
                smooth: smooth(args),
                max_order: usize::try_from(number("max_ngram_order", 4)).unwrap(),
                effective_order: is("effective_order"),
            }),
            "chrf" => Self::Chrf(Chrf {
                char_order: usize::try_from(number("char_order", 6)).unwrap(),
                word_order: usize::try_from(number("word_order", 0)).unwrap(),
                beta: u32::try_from(number("beta", 2)).unwrap(),
                lowercase: is("lowercase"),
                whitespace: is("whitespace"),
                eps_smoothing: is("eps_smoothing"),
            }),
            _ => Self::Ter(Ter {
                normalized: is("normalized"),
                no_punct: is("no_punct"),
                asian_support: is("asian_support"),
                case_sensitive: is("case_sensitive"),
            }),
        }
    }

    fn corpus(&self, texts: &Texts<'_>) -> Score {
        match self {
            Self::Bleu(metric) => metric.corpus(texts),
            Self::Chrf(metric) => metric.corpus(texts),
            Self::Ter(metric) => metric.corpus(texts),
        }
        .unwrap()
    }

    fn statistics(&self, texts: &Texts<'_>) -> Segments {
        match self {
            Self::Bleu(metric) => metric.statistics(texts).unwrap(),
            Self::Chrf(metric) => metric.statistics(texts).unwrap(),
            Self::Ter(metric) => metric.statistics(texts),
        }
    }

    fn compare(&self, test: Test, base: &Texts<'_>, system: &Texts<'_>) -> Comparison {
        let [base, system] = [base, system].map(|texts| self.statistics(texts));
        match self {
            Self::Bleu(metric) => test.run(metric, &base, &system),
            Self::Chrf(metric) => test.run(metric, &base, &system),
            Self::Ter(metric) => test.run(metric, &base, &system),
        }
        .unwrap()
    }
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::ALL.into_iter().find(|tokenizer| tokenizer.name() == name).unwrap()
}

fn smooth(args: &Value) -> Smooth {
    let value = |usual| args["smooth_value"].as_f64().unwrap_or(usual);
    match args["smooth_method"].as_str() {
        Some("floor") => Smooth::Floor(value(0.1)),
        Some("add-k") => Smooth::AddK(value(1.0)),
        Some("none") => Smooth::None,
        _ => Smooth::Exp,
    }
}

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn lists(value: &Value) -> Vec<Vec<String>> {
    serde_json::from_value(value.clone()).unwrap()
}

#[track_caller]
fn close(found: f64, expected: &Value, what: &dyn std::fmt::Debug) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= 1e-9, "{what:?}: found {found}, expected {expected}");
}

fn reference() -> Value {
    fixture(include_str!("parity/text.json"))
}

fn random() -> Value {
    fixture(include_str!("parity/text_random.json"))
}

#[test]
fn corpora_score_as_in_sacrebleu() {
    let fixture = reference();
    let refs = lists(&fixture["refs"]);
    for row in fixture["corpus"].as_array().unwrap() {
        let hypotheses = strings(&fixture["systems"][row["system"].as_str().unwrap()]);
        let count = usize::try_from(row["n_refs"].as_u64().unwrap()).unwrap();
        let texts = Texts::new(&hypotheses, &refs[..count]).unwrap();
        let score = Metric::new(row["metric"].as_str().unwrap(), &row["args"]).corpus(&texts);
        close(score.value, &row["score"], row);
        assert_eq!(score.metric, row["name"].as_str().unwrap());
        assert_eq!(score.signature, row["signature"].as_str().unwrap());
        let parts = serde_json::to_value(&score.parts).unwrap();
        for (name, part) in parts.as_object().unwrap() {
            match part {
                Value::Array(numbers) => {
                    for (number, expected) in numbers.iter().zip(row[name].as_array().unwrap()) {
                        close(number.as_f64().unwrap(), expected, &(name, row));
                    }
                }
                number => close(number.as_f64().unwrap(), &row[name], &(name, row)),
            }
        }
    }
}

#[test]
fn sentences_score_as_in_sacrebleu() {
    let fixture = reference();
    let refs = lists(&fixture["refs"]);
    for row in fixture["sentence"].as_array().unwrap() {
        let place = usize::try_from(row["i"].as_u64().unwrap()).unwrap();
        let hypothesis = &strings(&fixture["systems"][row["system"].as_str().unwrap()])[place];
        let refs: Vec<&str> = refs.iter().map(|list| list[place].as_str()).collect();
        let bleu = Bleu { effective_order: true, ..Bleu::default() };
        let add_k = Bleu { smooth: Smooth::AddK(1.0), ..bleu };
        for (name, score) in [
            ("bleu_eff", bleu.sentence(hypothesis, &refs)),
            ("bleu_addk", add_k.sentence(hypothesis, &refs)),
            ("chrf2", Chrf::default().sentence(hypothesis, &refs)),
            ("chrf2pp", Chrf::plus_plus().sentence(hypothesis, &refs)),
            ("ter", Ter::default().sentence(hypothesis, &refs)),
        ] {
            close(score.unwrap().value, &row[name], &(name, row));
        }
    }
}

#[test]
fn lines_are_cut_as_in_sacrebleu() {
    let random = random();
    let corpora = random["corpora"].as_array().unwrap().iter();
    let more = corpora.flat_map(|corpus| corpus["tokenize"].as_array().unwrap());
    for row in reference()["tokenize"].as_array().unwrap().iter().chain(more) {
        let line = row["line"].as_str().unwrap();
        for tokenizer in Tokenizer::ALL {
            let expected = row[tokenizer.name()].as_str().unwrap();
            assert_eq!(tokenizer.tokenize(line), expected, "{} {line:?}", tokenizer.name());
        }
        for (name, normalized) in [("tercom", false), ("tercom_norm", true)] {
            if let Some(expected) = row[name].as_str() {
                let ter = Ter { normalized, ..Ter::default() };
                assert_eq!(ter.tokenize(line), expected, "{line:?}");
            }
        }
    }
}

#[test]
fn random_texts_score_as_in_sacrebleu() {
    for corpus in random()["corpora"].as_array().unwrap() {
        let (systems, refs) = (lists(&corpus["systems"]), lists(&corpus["refs"]));
        for row in corpus["scores"].as_array().unwrap() {
            let count = usize::try_from(row["n_refs"].as_u64().unwrap()).unwrap();
            let texts = Texts::new(&systems[0], &refs[..count]).unwrap();
            let metric = Metric::new(row["metric"].as_str().unwrap(), &row["args"]);
            let segments = metric.statistics(&texts);
            for (place, (found, expected)) in
                segments.rows().zip(row["stats"].as_array().unwrap()).enumerate()
            {
                let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
                let hypothesis = &systems[0][place];
                assert_eq!(found, expected, "{} {} {hypothesis:?}", row["metric"], row["args"]);
            }
            let score = metric.corpus(&texts);
            close(score.value, &row["score"], &(&row["metric"], &row["args"], count));
            assert_eq!(score.signature, row["signature"].as_str().unwrap());
        }
    }
}

#[test]
fn paired_tests_agree_with_sacrebleu() {
    for corpus in random()["corpora"].as_array().unwrap() {
        let (systems, refs) = (lists(&corpus["systems"]), lists(&corpus["refs"]));
        let [base, system] = [0, 1].map(|place: usize| Texts::new(&systems[place], &refs).unwrap());
        for row in corpus["paired"].as_array().unwrap() {
            let usual = if row["test"] == "bs" { Test::BOOTSTRAP } else { Test::RANDOMIZATION };
            let trials = usize::try_from(row["n"].as_u64().unwrap()).unwrap();
            let metric = Metric::new(row["metric"].as_str().unwrap(), &Value::Null);
            let found = metric.compare(Test { trials, ..usual }, &base, &system);
            let what = (&row["test"], &row["metric"]);
            close(found.base, &row["results"][0]["score"], &what);
            close(found.system, &row["results"][1]["score"], &what);
            close(found.p, &row["results"][1]["p_value"], &what);
            for (found, expected) in [
                (found.base_interval, &row["results"][0]),
                (found.system_interval, &row["results"][1]),
            ] {
                assert_eq!(found.is_some(), row["test"] == "bs");
                if let Some(found) = found {
                    close(found.mean, &expected["mean"], &what);
                    close(found.half_width, &expected["ci"], &what);
                }
            }
        }
    }
}

#[test]
fn the_written_pair_differs_as_in_sacrebleu() {
    let fixture = reference();
    let refs = lists(&fixture["refs"]);
    let [first, second] = ["sys1", "sys2"].map(|name| strings(&fixture["systems"][name]));
    let [base, system] = [&first, &second].map(|lines| Texts::new(lines, &refs).unwrap());
    for row in fixture["paired"].as_array().unwrap() {
        let usual = if row["test"] == "bs" { Test::BOOTSTRAP } else { Test::RANDOMIZATION };
        for (kind, name) in [("bleu", "BLEU"), ("chrf", "chrF2")] {
            let metric = Metric::new(kind, &Value::Null);
            let found = metric.compare(Test { trials: 1000, ..usual }, &base, &system);
            for (place, score, interval) in
                [(0, found.base, found.base_interval), (1, found.system, found.system_interval)]
            {
                // "score=…,p_value=…,mean=…,ci=…"; numbers of 32 bits have fewer digits.
                let text = row["results"][name][place].as_str().unwrap();
                let fields: Vec<Option<f64>> = text
                    .split(',')
                    .map(|field| field.split_once('=').unwrap().1.parse().ok())
                    .collect();
                let near = |found: f64, expected: Option<f64>, by: f64| {
                    assert!((found - expected.unwrap()).abs() <= by, "{found} in {text}");
                };
                near(score, fields[0], 1e-9);
                if place == 1 {
                    near(found.p, fields[1], 1e-9);
                }
                if let Some(interval) = interval {
                    let by = if kind == "chrf" { 5e-6 } else { 1e-9 };
                    near(interval.mean, fields[2], by);
                    near(interval.half_width, fields[3], by);
                }
            }
            let signature = row["signatures"][name].as_str().unwrap();
            assert!(signature.contains(&format!("|{}|", found.signature)), "{signature}");
        }
    }
}

#[test]
fn rouge_agrees_with_rouge_score() {
    let kinds = [RougeKind::One, RougeKind::Two, RougeKind::Longest, RougeKind::LongestByLine];
    for row in reference()["rouge"].as_array().unwrap() {
        for kind in kinds {
            let rouge = Rouge { kind, stemmer: row["stemmer"].as_bool().unwrap() };
            let [target, prediction] =
                ["target", "prediction"].map(|name| row[name].as_str().unwrap());
            let Overlap { precision, recall, f } = rouge.pair(prediction, target);
            let expected = &row[kind.name()];
            for (found, part) in [(precision, "p"), (recall, "r"), (f, "f")] {
                close(found, &expected[part], &(kind, row));
            }
        }
    }
    for row in random()["rouge"].as_array().unwrap() {
        for kind in kinds {
            let rouge = Rouge { kind, stemmer: true };
            let [target, prediction] =
                ["target", "prediction"].map(|name| row[name].as_str().unwrap());
            let found = rouge.pair(prediction, target);
            for (place, found) in [found.precision, found.recall, found.f].into_iter().enumerate() {
                close(found, &row[kind.name()][place], &(kind, row));
            }
        }
    }
}

#[test]
fn stems_are_nltks() {
    for (word, expected) in random()["stems"].as_object().unwrap() {
        assert_eq!(stem(word), expected.as_str().unwrap(), "{word}");
    }
}

#[test]
fn equal_systems_are_identical_and_never_significant() {
    let lines = vec!["a red kite".to_owned(), "over the harbour".to_owned()];
    let refs = [vec!["a red kite flies".to_owned(), "above the harbour".to_owned()]];
    let texts = Texts::new(&lines, &refs).unwrap();
    for kind in ["bleu", "chrf", "ter"] {
        for test in [Test::BOOTSTRAP, Test::RANDOMIZATION] {
            let found = Metric::new(kind, &Value::Null).compare(test, &texts, &texts);
            assert!(found.identical);
            assert_eq!(found.p, 1.0);
        }
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let [one, two] = [Segments::new(2), Segments::from_iter([vec![1.0, 2.0]])];
    let ter = Ter::default();
    assert!(Test::BOOTSTRAP.run(&ter, &one, &two).is_err());
    let three = Segments::from_iter([vec![1.0, 2.0], vec![1.0, 2.0]]);
    let error = Test::BOOTSTRAP.run(&ter, &two, &three).unwrap_err().to_string();
    assert!(error.contains("hint:"), "{error}");
    let none: [String; 0] = [];
    assert_eq!(Texts::new::<_, String>(&none, &[]).unwrap_err(), MetricError::NoSegments);
    let lengths = Texts::new(&["a"], &[vec!["a", "b"]]).unwrap_err();
    assert_eq!(lengths, MetricError::Lengths { reference: 1, expected: 1, found: 2 });
    let texts = Texts::sentence("a", &["a"]).unwrap();
    assert!(Bleu { max_order: 0, ..Bleu::default() }.corpus(&texts).is_err());
    assert!(Bleu { smooth: Smooth::Floor(-1.0), ..Bleu::default() }.corpus(&texts).is_err());
    assert!(Chrf { char_order: 65, ..Chrf::default() }.corpus(&texts).is_err());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-d ]{0,40}",
        "([a-c]{1,2}[ .,'-]{1,2}){0,30}",
        any::<String>(),
        "[&;<>a-z0-9.,\\n\u{3042}\u{4e2d}\u{3000} -]{0,60}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn scores_stay_within_their_bounds(
        pairs in proptest::collection::vec((text(), text(), text()), 1..6),
        options in any::<[bool; 4]>(),
    ) {
        let hypotheses: Vec<&str> = pairs.iter().map(|pair| pair.0.as_str()).collect();
        let refs = [
            pairs.iter().map(|pair| pair.1.as_str()).collect::<Vec<_>>(),
            pairs.iter().map(|pair| pair.2.as_str()).collect(),
        ];
        let texts = Texts::new(&hypotheses, &refs).unwrap();
        let [a, b, c, d] = options;
        for tokenize in Tokenizer::ALL {
            let smooth = if c { Smooth::Floor(0.1) } else { Smooth::AddK(1.0) };
            let bleu = Bleu { lowercase: a, effective_order: b, smooth, tokenize, max_order: 4 };
            let score = bleu.corpus(&texts).unwrap().value;
            prop_assert!((0.0..=100.0 + 1e-9).contains(&score));
        }
        let chrf = Chrf {
            lowercase: a, whitespace: b, eps_smoothing: c, word_order: usize::from(d), ..Chrf::default()
        };
        prop_assert!((0.0..=100.0 + 1e-9).contains(&chrf.corpus(&texts).unwrap().value));
        let ter = Ter { normalized: a, no_punct: b, asian_support: c, case_sensitive: d };
        let score = ter.corpus(&texts).unwrap().value;
        prop_assert!(score >= 0.0 && score.is_finite());
        for kind in [RougeKind::One, RougeKind::Two, RougeKind::Longest, RougeKind::LongestByLine] {
            let score = Rouge { kind, stemmer: a }.corpus(&texts).unwrap().value;
            prop_assert!((0.0..=1.0).contains(&score));
        }
        let score = ExactMatch { lowercase: a }.corpus(&texts).unwrap().value;
        prop_assert!((0.0..=1.0).contains(&score));
    }

    #[test]
    fn a_text_against_itself_is_perfect(lines in proptest::collection::vec(text(), 1..6)) {
        let texts = [lines.clone()];
        let texts = Texts::new(&lines, &texts).unwrap();
        let bleu = Bleu { effective_order: true, tokenize: Tokenizer::None, ..Bleu::default() };
        let segments = bleu.statistics(&texts).unwrap().sums();
        if segments[0] > 0.0 {
            prop_assert!((bleu.corpus(&texts).unwrap().value - 100.0).abs() < 1e-9);
            prop_assert!((Chrf::plus_plus().corpus(&texts).unwrap().value - 100.0).abs() < 1e-9);
        }
        prop_assert_eq!(Ter::default().corpus(&texts).unwrap().value, 0.0);
        prop_assert_eq!(ExactMatch::default().corpus(&texts).unwrap().value, 1.0);
    }
}
