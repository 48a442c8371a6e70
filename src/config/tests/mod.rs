//! The configuration as a whole: what peers' files become, what is refused, what comes back.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

mod messages;
mod peers;

const NESTED: &str = include_str!("../../../tests/config/article-nested.yaml");
const FLAT: &str = include_str!("../../../tests/config/article-flat.yaml");
const KOHYA: &str = include_str!("../../../tests/config/lora-scripts.toml");
const DATASET: &str = include_str!("../../../tests/config/dataset.toml");
const FACTORY: &str = include_str!("../../../tests/config/llama-factory.yaml");
const AXOLOTL: &str = include_str!("../../../tests/config/axolotl.yaml");

const SAMPLES: [(&str, &str); 5] = [
    ("nested.yaml", NESTED),
    ("flat.yaml", FLAT),
    ("kohya.toml", KOHYA),
    ("factory.yaml", FACTORY),
    ("axolotl.yaml", AXOLOTL),
];

/// The least that can be trained.
const LEAST: &str = "base: demo:image\ndata:\n  train: pictures\n";

fn read(file: &str, text: &str, overrides: &[&str]) -> Result<Resolved, ConfigError> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    parse(Path::new(file), text, &overrides, &|_| None)
}

fn least(more: &str) -> Result<Resolved, ConfigError> {
    read("a.yaml", &format!("{LEAST}{more}\n"), &[])
}

fn value<'a>(resolved: &'a Resolved, key: &str) -> &'a str {
    &resolved.entries.iter().find(|entry| entry.key == key).unwrap().value
}

fn assert_values(resolved: &Resolved, expected: &[(&str, &str)]) {
    for (key, expected) in expected {
        assert_eq!(value(resolved, key), *expected, "{key}");
    }
}

/// A value that such a key or alias takes, other than the default where there is one.
fn sample(key: &Key, how: As) -> &'static str {
    match (how, key.kind) {
        (As::Flag(yes, no), _) => match key.default {
            Fallback::Is(default, _) if default == yes && !no.is_empty() => "false",
            _ => "true",
        },
        (As::Words(words), _) => {
            let odd = |value: &str| {
                !value.is_empty()
                    && !matches!(key.default,
                Fallback::Is(default, _) if default == value)
            };
            words.iter().find(|(_, value)| odd(value)).unwrap().0
        }
        (As::Ratio, _) => "0.25",
        (As::Equal, _) => "[3e-5, 3e-5]",
        (As::Steps | As::Epochs, _) => "7",
        _ => match key.name {
            "base.model" => "hf:owner/name",
            "optimizer.kind" => "Lion8bit",
            "schedule.kind" => "linear",
            "base.precision" | "output.precision" => "bf16",
            "adapter.init" => "gaussian",
            "adapter.text_encoder" => "true",
            "adapter.rank_pattern" | "adapter.alpha_pattern" => "{a.*: 4}",
            "data.image.min_bucket" => "128",
            "data.image.max_bucket" => "2048",
            "data.image.bucket_step" => "32",
            "data.image.max_caption_tokens" => "150",
            "data.text.train_on" => "all",
            "optimizer.lr_scaling" => "sqrt",
            "validation.every" | "samples.every" | "output.save_every" | "run.length" => "7 steps",
            "run.memory_limit" => "8 GiB",
            "output.format" => "diffusers",
            "optimizer.beta1" | "optimizer.beta2" | "adapter.dropout" => "0.5",
            _ => match (key.kind, key.default) {
                (Kind::Flag, Fallback::Is("true", _) | Fallback::Derived(_)) => "false",
                (Kind::Flag, _) => "true",
                (Kind::Whole(..), _) => "9",
                (Kind::Number(..), _) => "0.25",
                (Kind::Resolution, _) => "768x512",
                (Kind::Targets, _) => "[to_q, to_k]",
                (Kind::Warmup, _) => "33",
                _ => "something",
            },
        },
    }
}

#[test]
fn every_name_of_every_key_sets_it() {
    let usual = least("").unwrap();
    for key in keys().filter(|key| key.name != "task") {
        let names = key.aliases.iter().map(|alias| (alias.name, alias.how));
        for (name, how) in std::iter::once((key.name, As::Same)).chain(names) {
            let mut set = format!("{name}={}", sample(key, how));
            if name == "network_train_unet_only" {
                set = format!("{name}=false");
            }
            let sets = ["task=image", &set];
            let resolved = read("a.yaml", LEAST, &sets).unwrap_or_else(|e| panic!("{set}: {e}"));
            let entry = resolved.entries.iter().find(|entry| entry.key == key.name).unwrap();
            assert_eq!(entry.origin.to_string(), format!("--set {set}"));
            let only_default = matches!((how, key.default),
                (As::Flag(yes, ""), Fallback::Is(default, _)) if yes == default);
            assert_eq!(entry.value == value(&usual, key.name), only_default, "{set}");
        }
    }
}

#[test]
fn every_setting_has_a_key() {
    fn leaves(path: &str, value: &Json, found: &mut BTreeSet<String>) {
        match value {
            Json::Object(fields) if path.is_empty() || keys::is_section(path) => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    leaves(&format!("{path}{dot}{name}"), value, found);
                }
            }
            _ => {
                found.insert(path.to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    let settings = serde_json::to_value(least("").unwrap().settings).unwrap();
    leaves("", &settings, &mut found);
    let known = keys().map(|key| key.name.to_owned()).filter(|name| name != "task").collect();
    assert_eq!(found, known);
}

#[test]
fn every_default_is_of_its_kind() {
    for key in keys() {
        if let Fallback::Is(text, _) = key.default {
            assert!(values::default_json(key, text).is_some(), "{}", key.name);
        }
    }
}

#[test]
fn what_is_saved_gives_equal_settings_and_no_notes() {
    let odd = "adapter: {targets: '.*(to_q|to_k)', rank_pattern: {'a\"b: c': 4}}\n\
               optimizer: {learning_rate: 3.3333333333333335e-7, text_encoder_lr: 1e-5}\n\
               run: {steps: 7, seed: 18446744073709551615, memory_limit: 8 GiB}\n\
               schedule: {warmup: 0.07}\noutput: {name: 'no', save_every: never}\n\
               validation: {every: 1 step}\n";
    let odd = format!("{LEAST}{odd}");
    for (file, text) in SAMPLES.into_iter().chain([("odd.yaml", odd.as_str())]) {
        let first = read(file, text, &[]).unwrap();
        let again = read("settings.yaml", &first.to_yaml(), &[]).unwrap();
        assert_eq!(first.settings, again.settings, "{file}");
        assert_eq!(first.task, again.task, "{file}");
        assert_eq!(first.to_yaml(), again.to_yaml(), "{file}");
        assert_eq!(again.notes, [""; 0], "{file}");
    }
}

#[test]
fn numbers_may_be_written_in_every_way() {
    for rate in ["2e-4", "0.0002", "\"2e-4\"", "2.0E-4", "'0.0002'", "0.000_2"] {
        let resolved = least(&format!("learning_rate: {rate}")).unwrap();
        assert_eq!(resolved.settings.optimizer.learning_rate, 2e-4, "{rate}");
    }
}

#[test]
fn overrides_replace_what_the_file_says_and_the_last_counts() {
    let text = format!("{LEAST}lora_rank: 4\nmax_train_steps: 100\nvae: v\n");
    let sets =
        ["adapter.rank=16", "network_dim=32", "run.epochs=3", "base.vae=", "lora_target=q,v"];
    let resolved = read("a.yaml", &text, &sets).unwrap();
    assert_values(
        &resolved,
        &[
            ("adapter.rank", "32"),
            ("run.length", "3 epochs"),
            ("base.vae", "null"),
            ("adapter.targets", "[\"q\",\"v\"]"),
        ],
    );
}

#[test]
fn what_is_trained_is_asked_of_the_configuration_then_of_the_base_then_of_the_keys() {
    let task = |text: &str, of_base: Option<Task>| {
        parse(Path::new("a.yaml"), text, &[], &|_| of_base).map(|resolved| resolved.task)
    };
    let text = "base: some/folder\ntrain_data_dir: t\n";
    assert_eq!(task(&format!("{text}task: text"), Some(Task::Image)).unwrap(), Task::Text);
    assert_eq!(task(&format!("{text}cutoff_len: 99"), Some(Task::Image)).unwrap(), Task::Image);
    assert_eq!(task(&format!("{text}cutoff_len: 99"), None).unwrap(), Task::Text);
    assert_eq!(task(&format!("{text}network_dim: 9"), None).unwrap(), Task::Image);
    let error = task(text, None).unwrap_err().to_string();
    assert!(error.contains("hint: write `task: image` or `task: text`"), "{error}");
}

#[test]
fn rates_and_flags_of_text_encoders_agree() {
    let trained = |more: &str| least(more).map(|r| r.settings.adapter.text_encoder);
    assert!(!trained("").unwrap());
    assert!(trained("text_encoder_lr: 1e-5").unwrap());
    assert!(!trained("text_encoder_lr: 0").unwrap());
    assert!(!trained("text_encoder_lr: 0\nnetwork_train_unet_only: false").unwrap());
    assert!(!trained("text_encoder_lr: 1e-5\nnetwork_train_unet_only: true").unwrap());
    assert!(trained("network_train_text_encoder_only: true").unwrap());
    assert!(trained("text_encoder_lr: 0\nadapter: {text_encoder: true}").is_err());
}

#[test]
fn the_stronger_of_two_keys_of_a_peer_counts() {
    let resolved = least("learning_rate: 1e-3\nunet_lr: 5e-4\nmax_train_steps: 9").unwrap();
    assert_eq!(resolved.settings.optimizer.learning_rate, 5e-4);
    let note = "a.yaml:4:1: `learning_rate` does not count beside `unet_lr`";
    assert!(resolved.notes.iter().any(|n| n == note), "{:?}", resolved.notes);
}

#[test]
fn explain_tells_every_value_and_its_origin() {
    let resolved = read("a.yaml", LEAST, &["adapter.rank=4"]).unwrap();
    insta::assert_snapshot!("explain", resolved.explain());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let message = || load(&path, &[], &|_| None).unwrap_err().to_string();
    assert!(message().contains("hint: name a YAML, JSON or TOML file"));
    std::fs::write(&path, b"a: \xff").unwrap();
    assert!(message().contains("not UTF-8"));
    std::fs::write(&path, vec![b'#'; MAX_CONFIG + 1]).unwrap();
    assert!(message().contains("larger than 4 MiB"));
    std::fs::write(&path, LEAST).unwrap();
    assert!(load(&path, &[], &|_| None).is_ok());
}

#[test]
fn nesting_without_end_is_an_error() {
    let dots = vec!["a"; 200_000].join(".");
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    for (file, text) in [
        ("a.toml", format!("{dots} = 1\n")),
        ("a.toml", format!("[{dots}]\nb = 1\n")),
        ("a.toml", format!("a = {open}{close}\n")),
        ("a.yaml", format!("a: {open}{close}\n")),
        ("a.yaml", format!("{}: 1\n", "? ".repeat(100_000))),
        ("a.yaml", format!("{dots}: 1\n")),
    ] {
        assert!(read(file, &text, &[]).is_err());
    }
    assert!(read("a.yaml", LEAST, &[&format!("{dots}=1")]).is_err());
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                c: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    assert!(read("a.yaml", bomb, &[]).is_err());
}

#[test]
fn empty_sections_and_empty_values_keep_defaults() {
    let usual = least("").unwrap();
    let resolved = least("adapter:\nrun: ~\nlora_rank:\nvae: ''\noutput: {}").unwrap();
    assert_eq!(resolved.settings, usual.settings);
}

#[test]
fn what_is_seldom_meant_is_said() {
    let said = |more: &str| least(more).unwrap().notes.join("; ");
    assert_eq!(said("lora_rank: 8\nlora_alpha: 2"), "");
    assert!(said("lora_rank: 8\nlora_alpha: 1").contains("multiplied by 0.125 (alpha 1, rank 8)"));
    assert!(said("optimizer_type: Prodigy\nlearning_rate: 1e-4").contains("1 is the rule"));
    assert_eq!(said("optimizer: {kind: prodigy}"), "");
    assert!(said("learning_rate: 0.5").contains("seldom stays finite"));
    assert!(said("optimizer: {lr_scaling: linear}").contains("square root is the rule"));
    assert_eq!(said("optimizer: {kind: sgd, lr_scaling: linear}"), "");
    assert!(said("lr_scheduler: constant\nwarmup_steps: 9").contains("leave the warm-up out"));
    assert_eq!(said("lr_scheduler: constant_with_warmup\nwarmup_steps: 9"), "");
    assert!(said("cutoff_len: 99").contains("sets nothing where a denoiser is trained"));
    assert!(said("network_dropout: 0.1").contains("sd-scripts drops A's outputs"));
    assert!(said("network_dim: 16").contains("`adapter.alpha` is not given: it is 16"));
}

#[test]
fn defaults_follow_from_what_is_given() {
    let of = |more: &str, key: &str| value(&least(more).unwrap(), key).to_owned();
    assert_eq!(of("lr_scheduler: constant", "schedule.warmup"), "0");
    assert_eq!(of("lr_scheduler: constant_with_warmup", "schedule.warmup"), "0.05");
    assert_eq!(of("optimizer_type: Lion", "optimizer.beta2"), "0.99");
    assert_eq!(of("optimizer_type: Prodigy", "optimizer.learning_rate"), "1");
    assert_eq!(of("resolution: 64", "data.image.min_bucket"), "32");
    assert_eq!(of("resolution: 64", "data.image.bucket_step"), "8");
    assert_eq!(of("resolution: 1024", "data.image.max_bucket"), "2048");
    assert_eq!(of("color_aug: true", "data.image.cache_latents"), "false");
    assert_eq!(of("shuffle_caption: true", "data.image.cache_texts"), "false");
    assert_eq!(of("task: text", "optimizer.learning_rate"), "0.0002");
    assert_eq!(of("task: text", "output.format"), "peft");
}

#[test]
fn values_that_would_do_no_harm_are_accepted() {
    let neutral = "network_module: networks.lora\nscale_weight_norms: 0.0\nmasked_loss: no\n\
                   multires_noise_discount: 0.3\nresume: ''\nadapter: {peft_type: LORA}\n";
    assert_eq!(least(neutral).unwrap().notes, [""; 0]);
}

#[test]
fn every_example_is_read_without_a_note() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let all = ["", "demo"].map(|below| std::fs::read_dir(folder.join(below)).unwrap());
    let mut seen = 0;
    for entry in all.into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let trains = !name.ends_with("policy") && !name.ends_with("suite");
        if trains && path.extension().is_some_and(|ending| ending == "yaml") {
            let resolved = load(&path, &[], &|_| None).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(resolved.notes, [""; 0], "{}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 6);
}

#[test]
fn the_baseline_is_the_same_in_its_nested_form() {
    let text = include_str!("../../../examples/article-baseline.yaml");
    let (_, nested) = text.split_once("which is read too:\n#\n").unwrap();
    let lines: Vec<&str> = nested.lines().map(|line| line.strip_prefix("# ").unwrap()).collect();
    let nested = lines.join("\n");
    let [flat, nested] = [text, &nested].map(|text| read("a.yaml", text, &[]).unwrap().settings);
    assert_eq!(flat, nested);
    assert_eq!((flat.adapter.rank, flat.run.batch_size), (8, 4));
}

#[test]
fn a_training_is_not_measured_on_its_own_examples_however_they_are_written() {
    for held_out in ["pictures", "pictures/", "./pictures", "./pictures//."] {
        let error = least(&format!("  held_out: {held_out}")).unwrap_err().to_string();
        assert!(error.contains("`data.held_out` is `data.train`"), "{error}");
    }
    assert!(least("  held_out: pictures2").is_ok());
}

fn line() -> impl Strategy<Value = String> {
    let names: Vec<&str> =
        keys().flat_map(|k| k.aliases.iter().map(|a| a.name).chain([k.name])).collect();
    let value = prop_oneof![
        "[0-9]{1,4}",
        "[0-9.e+-]{1,6}",
        "true|false|auto|never|null|adamw|fp16|[0-9] (steps|epochs)",
        "\\[[a-z0-9, ]{0,8}\\]",
        "\\PC{0,12}",
    ];
    (proptest::sample::select(names), value).prop_map(|(name, value)| format!("{name}={value}"))
}

#[test]
fn every_character_comes_back() {
    let odd: String = ('\u{1}'..='\u{2fff}').chain(['\u{feff}', '\u{ffff}', '🦀']).collect();
    let text =
        odd.chars().fold(String::new(), |text, c| text + &format!("\\U{:08x}", u32::from(c)));
    let first = least(&format!("caption_prefix: \"{text}\"")).unwrap();
    assert_eq!(first.settings.data.image.caption_prefix, odd);
    let again = read("a.yaml", &first.to_yaml(), &[]).unwrap();
    assert_eq!(again.settings, first.settings);
    assert!(!first.explain().contains('\u{1b}'));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}", set in ".{0,40}") {
        for file in ["a.yaml", "a.toml"] {
            let _ = read(file, &text, &[&set]);
            let _ = read(file, LEAST, &[&set]);
        }
    }

    #[test]
    fn whatever_is_accepted_comes_back(lines in proptest::collection::vec(line(), 1..4)) {
        let sets: Vec<&str> = lines.iter().map(String::as_str).collect();
        if let Ok(first) = read("a.yaml", LEAST, &sets) {
            let again = read("b.yaml", &first.to_yaml(), &[]);
            prop_assert_eq!(first.settings, again.unwrap().settings);
        }
    }
}
