//! What files of other trainers become.

use std::path::Path;

use super::super::*;
use super::{AXOLOTL, DATASET, FACTORY, FLAT, KOHYA, NESTED, assert_values, read};

#[test]
fn the_articles_nested_yaml_is_read() {
    let resolved = read("nested.yaml", NESTED, &[]).unwrap();
    assert_values(
        &resolved,
        &[
            ("task", "image"),
            ("base.model", "stable-diffusion-v1-5"),
            ("adapter.rank", "8"),
            ("adapter.alpha", "8"),
            ("data.train", "\"./data/style_train\""),
            ("data.metadata", "\"./data/style_train/metadata.csv\""),
            ("optimizer.kind", "adamw"),
            ("optimizer.learning_rate", "0.0002"),
            ("schedule.kind", "cosine"),
            ("schedule.warmup", "100"),
            ("run.length", "10 epochs"),
            ("run.batch_size", "4"),
            ("output.name", "nested"),
            ("output.format", "kohya"),
        ],
    );
    assert_eq!(resolved.notes, [""; 0]);
}

#[test]
fn the_articles_flat_yaml_with_a_quantized_base_is_read() {
    let resolved = read("flat.yaml", FLAT, &[]).unwrap();
    assert_eq!(resolved.task, Task::Text);
    let settings = &resolved.settings;
    assert_eq!(settings.optimizer.learning_rate, 2e-4);
    assert_eq!((settings.adapter.alpha, settings.adapter.dropout), (16.0, 0.1));
    let names = ["q_proj", "v_proj"].map(str::to_owned).to_vec();
    assert_eq!(settings.adapter.targets, Targets::Names(names));
    assert_eq!(settings.output.save_every, Every::Steps(100));
    assert_eq!(settings.data.train, Path::new("./data/llm/train.jsonl"));
    assert_eq!(settings.base.precision, Some(Precision::F16));
    assert_eq!(settings.output.format, FileFormat::Peft);
}

#[test]
fn a_file_of_lora_scripts_is_read() {
    let resolved = read("kohya.toml", KOHYA, &[]).unwrap();
    assert_values(
        &resolved,
        &[
            ("task", "image"),
            ("base.clip_skip", "2"),
            ("base.vae", "null"),
            ("base.precision", "f16"),
            ("adapter.rank", "32"),
            ("adapter.alpha", "16"),
            ("adapter.conv_rank", "4"),
            ("adapter.conv_alpha", "1"),
            ("adapter.denoiser", "true"),
            ("adapter.text_encoder", "true"),
            ("data.regularization", "null"),
            ("data.image.resolution", "[512,768]"),
            ("data.image.shuffle_tags", "true"),
            ("data.image.no_upscale", "true"),
            ("data.image.cache_texts", "false"),
            ("data.image.max_caption_tokens", "225"),
            ("optimizer.learning_rate", "0.0001"),
            ("optimizer.text_encoder_lr", "1.0e-5"),
            ("optimizer.weight_decay", "0.1"),
            ("optimizer.beta2", "0.99"),
            ("schedule.kind", "cosine_with_restarts"),
            ("schedule.warmup", "0"),
            ("diffusion.min_snr_gamma", "5"),
            ("run.checkpointing", "true"),
            ("samples.prompts", "\"./toml/prompts.txt\""),
            ("output.save_every", "2 epochs"),
            ("output.keep_last", "499"),
            ("output.name", "aki"),
        ],
    );
    insta::assert_snapshot!("notes_of_lora_scripts", resolved.notes.join("\n"));
}

#[test]
fn a_file_of_llama_factory_is_read() {
    let resolved = read("factory.yaml", FACTORY, &[]).unwrap();
    assert_values(
        &resolved,
        &[
            ("task", "text"),
            ("base.precision", "bf16"),
            ("adapter.rank", "8"),
            ("adapter.targets", "all-linear"),
            ("data.train", "data/alpaca_en_demo.json"),
            ("data.held_out_split", "0.1"),
            ("data.text.max_length", "2048"),
            ("run.length", "3 epochs"),
            ("run.accumulation", "8"),
            ("schedule.warmup", "0.1"),
            ("validation.every", "500 steps"),
            ("output.log_every", "10"),
            ("output.tensorboard", "false"),
        ],
    );
    insta::assert_snapshot!("notes_of_llama_factory", resolved.notes.join("\n"));
}

#[test]
fn a_file_of_axolotl_is_read() {
    let resolved = read("axolotl.yaml", AXOLOTL, &[]).unwrap();
    assert_values(
        &resolved,
        &[
            ("task", "text"),
            ("base.precision", "null"),
            ("adapter.rank", "16"),
            ("adapter.alpha", "32"),
            ("data.train", "\"./data/teknium.jsonl\""),
            ("data.text.packing", "true"),
            ("data.text.train_on", "answers"),
            ("optimizer.kind", "adamw"),
            ("optimizer.weight_decay", "0"),
            ("schedule.warmup", "10"),
            ("run.batch_size", "2"),
            ("output.save_every", "1 epoch"),
        ],
    );
    let Targets::Names(names) = &resolved.settings.adapter.targets else { panic!() };
    assert_eq!(names.len(), 7);
    insta::assert_snapshot!("notes_of_axolotl", resolved.notes.join("\n"));
}

#[test]
fn an_adapter_config_of_peft_sets_the_adapter() {
    let text = r#"{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 32,
        "base_model_name_or_path": "demo:text", "train_data_dir": "t.jsonl", "bias": "none",
        "target_modules": "all-linear", "lora_dropout": 0.05, "use_rslora": true, "use_dora": false,
        "init_lora_weights": true, "fan_in_fan_out": false, "modules_to_save": null,
        "rank_pattern": {"^model\\.layers\\.0\\..*": 4}, "alpha_pattern": {".*k_proj": 8}}"#;
    let adapter = read("adapter_config.json", text, &[]).unwrap().settings.adapter;
    assert_eq!((adapter.rank, adapter.alpha, adapter.rslora), (16, 32.0, true));
    assert_eq!(adapter.targets, Targets::AllLinear);
    assert_eq!(adapter.rank_pattern, [(r"^model\.layers\.0\..*".to_owned(), 4)]);
    assert_eq!(adapter.alpha_pattern, [(".*k_proj".to_owned(), 8.0)]);
}

#[test]
fn a_dataset_config_is_one_dataset_whose_lower_level_wins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dataset.toml");
    std::fs::write(&file, DATASET).unwrap();
    let text = format!(
        "pretrained_model_name_or_path = 'demo:image'\n[dataset_arguments]\ndataset_config = '{}'\n",
        file.display()
    );
    let resolved = read("a.toml", &text, &[]).unwrap();
    assert_values(
        &resolved,
        &[
            ("data.train", "\"./train/cats\""),
            ("data.regularization", "\"./reg/cats\""),
            ("data.repeats", "10"),
            ("data.image.keep_tags", "2"),
            ("data.image.resolution", "768"),
            ("run.batch_size", "2"),
        ],
    );
    let origin = &resolved.entries.iter().find(|e| e.key == "data.repeats").unwrap().origin;
    assert!(origin.to_string().contains("dataset.toml:13:3"), "{origin}");

    let twice = format!("{text}resolution = 512\n");
    let error = read("a.toml", &twice, &[]).unwrap_err().to_string();
    assert!(error.contains("key `resolution` occurs twice"), "{error}");
    let more = DATASET.replace("  is_reg = true\n", "");
    std::fs::write(&file, more).unwrap();
    let error = read("a.toml", &text, &[]).unwrap_err().to_string();
    assert!(error.contains("expected one subset of pictures"), "{error}");
}
