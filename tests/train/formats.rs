//! The three formats of an adapter.

use std::path::Path;

use serde_json::{Value, json};

use super::program::{Place, diffusion, fixture, good, text};
use super::training::{Config, adapter_path, apart, changes, distance};

fn inspected(path: &Path, base: &str) -> Value {
    let (told, _) = good(&["inspect", &text(path), "--base", base, "--json"]);
    serde_json::from_str(&told).unwrap()
}

#[test]
fn a_training_is_the_same_change_in_every_format_and_each_fits_its_base() {
    for family in ["sd1", "sdxl"] {
        let place = Place::new();
        let config = Config::image(family).set("run.steps", 3).set("output.precision", "f32");
        let config = config.set("adapter.alpha", 2).set("adapter.conv_rank", 2);
        let formats = ["kohya", "diffusers", "peft"];
        let paths = formats.map(|format| {
            adapter_path(&config.clone().set("output.format", format).train(&place, format))
        });
        for (path, format) in paths.iter().zip(formats) {
            let told = inspected(path, &diffusion(family));
            assert_eq!(told["format"], format);
            let kinds = told["kinds"].as_object().unwrap();
            assert!(kinds.keys().eq(["LoRA", "LoCon"]), "{kinds:?}");
            assert_eq!(told["scales"].as_object().unwrap().len(), 2, "{}", told["scales"]);
            assert!(told["unread"].as_array().unwrap().is_empty(), "{told}");
            assert!(told["not_finite"].as_array().unwrap().is_empty(), "{told}");
            // an adapter that was trained fits its base with every key
            let unmatched = &told["base"]["unmatched"];
            assert!(unmatched.as_array().is_none_or(Vec::is_empty), "{unmatched}");
            assert!(apart(path, &paths[0]) < 1e-6, "{family} {format}");
            assert_eq!(told["modules"], inspected(&paths[0], &diffusion(family))["modules"]);
        }
        // and through `convert`
        for (path, to) in [(&paths[0], "peft"), (&paths[1], "kohya"), (&paths[2], "diffusers")] {
            let name = if to == "peft" { "turned" } else { "turned.safetensors" };
            let turned = place.path(&format!("{to}-{name}"));
            good(&["convert", &text(path), "--to", to, "--out", &text(&turned)]);
            assert!(apart(&turned, path) < 1e-6, "{family} {to}");
        }
    }
}

#[test]
fn the_header_says_what_sd_scripts_would() {
    let place = Place::new();
    let config = Config::image("sd1").set("run.steps", 2).set("adapter.alpha", 2);
    let config = config.set("optimizer.text_encoder_lr", 5e-4).set("diffusion.min_snr_gamma", 5);
    let out = config.set("run.accumulation", 2).train(&place, "run");
    let metadata = inspected(&adapter_path(&out), &diffusion("sd1"))["metadata"].clone();
    for (key, value) in [
        ("ss_network_module", "networks.lora"),
        ("ss_network_dim", "4"),
        ("ss_network_alpha", "2"),
        ("ss_unet_lr", "0.001"),
        ("ss_text_encoder_lr", "0.0005"),
        ("ss_lr_scheduler", "cosine"),
        ("ss_num_train_images", "8"),
        ("ss_steps", "2"),
        ("ss_seed", "3"),
        ("ss_batch_size_per_device", "2"),
        ("ss_total_batch_size", "4"),
        ("ss_gradient_accumulation_steps", "2"),
        ("ss_resolution", "(96, 64)"),
        ("ss_min_snr_gamma", "5"),
        ("ss_flip_aug", "True"),
        ("ss_caption_dropout_rate", "0.2"),
        ("ss_output_name", "x"),
        ("ss_sd_model_name", "sd1"),
        ("modelspec.title", "x"),
    ] {
        assert_eq!(metadata[key], value, "{key}");
    }
    let tags: Value = serde_json::from_str(metadata["ss_tag_frequency"].as_str().unwrap()).unwrap();
    assert_eq!(tags["pictures"]["1girl"], 1);
    assert_eq!(tags["pictures"]["blue eyes"], 1);
    assert_eq!(metadata["sshs_model_hash"].as_str().unwrap().len(), 64);
}

#[test]
fn a_language_models_adapter_is_what_peft_reads() {
    let place = Place::new();
    let config = Config::text().set("run.steps", 2).set("adapter.alpha", 8);
    let config = config.set("adapter.targets", json!(["q_proj", "v_proj"]));
    let path = adapter_path(&config.train(&place, "run"));
    let written: Value =
        serde_json::from_slice(&std::fs::read(path.join("adapter_config.json")).unwrap()).unwrap();
    for (key, value) in [
        ("peft_type", json!("LORA")),
        ("task_type", json!("CAUSAL_LM")),
        ("r", json!(4)),
        ("lora_alpha", json!(8)),
        ("lora_dropout", json!(0.1)),
        ("base_model_name_or_path", json!(fixture("decoders/chat/model"))),
    ] {
        let same =
            written[key] == value || written[key].as_f64() == value.as_f64() && value.is_number();
        assert!(same, "{key}: {}", written[key]);
    }
    let targets: Vec<String> = serde_json::from_value(written["target_modules"].clone()).unwrap();
    assert!(targets.iter().all(|name| name.ends_with("q_proj") || name.ends_with("v_proj")));
    let told = inspected(&path, &text(&fixture("decoders/chat/model")));
    assert_eq!((&told["modules"], &told["scales"]), (&json!(4), &json!({"2": 4})));
}

#[test]
fn numbers_are_rounded_to_the_precision_that_is_asked_for() {
    let place = Place::new();
    let config = Config::image("sd1").set("run.steps", 2);
    let full = adapter_path(&config.clone().set("output.precision", "f32").train(&place, "full"));
    for (precision, least, most) in [("f16", 1e-7, 2e-3), ("bf16", 1e-5, 2e-2)] {
        let out = config.clone().set("output.precision", precision).train(&place, precision);
        let told = inspected(&adapter_path(&out), &diffusion("sd1"));
        assert!(told["dtypes"].as_object().unwrap().contains_key(precision), "{}", told["dtypes"]);
        let all = |path: &Path| changes(path).into_values().flatten().collect::<Vec<f64>>();
        let apart = distance(&all(&adapter_path(&out)), &all(&full));
        assert!((least..most).contains(&apart), "{precision}: {apart:e}");
    }
}
