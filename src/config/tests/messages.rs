//! What is refused, and in which words.

use super::{LEAST, least, read};

const BAD: &[&str] = &[
    "lora_rnk: 8",
    "adapter: {rnk: 8}",
    "adapter: {learning: 8}",
    "rank_: 8",
    "resolutoin: 512",
    "job: extension",
    "whatever: 1",
    "samples: prompts.txt",
    "modl_config: {lora_rank: 8}\nmodel: {lora_rank: 8}",
    "lora_rank: 0",
    "lora_rank: -4",
    "lora_rank: 8.5",
    "lora_rank: [8]",
    "lora_rank: eight",
    "lora_alpha: 0",
    "learning_rate: 0",
    "learning_rate: -1e-4",
    "learning_rate: 2",
    "learning_rate: .nan",
    "learning_rate: nan",
    "learning_rate: 1e999",
    "learning_rate: {a: 1}",
    "lora_dropout: 1",
    "caption_dropout_rate: 1.5",
    "batch_size: 0",
    "epochs: 0",
    "epochs: 2.5",
    "epochs: 10\nmax_steps: 5",
    "resolution: 500",
    "resolution: 16",
    "resolution: '512,512,512'",
    "min_bucket_reso: 1024\nmax_bucket_reso: 512",
    "resolution: 512\nmin_bucket_reso: 576",
    "max_token_length: 77",
    "min_timestep: 500\nmax_timestep: 400",
    "optimizer_type: AdaFactor",
    "optimizer: adamv",
    "lr_scheduler: cosine_with_min_lr",
    "lr_warmup_steps: -5",
    "warmup_ratio: 1.5",
    "gradient_checkpointing: maybe",
    "target_modules: '(q_proj'",
    "target_modules: [q_proj, '']",
    "rank_pattern: {'(a': 4}",
    "rank_pattern: {a: 0}",
    "output_name: a/b",
    "run: {memory_limit: 3 bytes}",
    "validation: {every: sometimes}",
    "lora_rank: 8\nnetwork_dim: 16",
    "lora_rank: 8\nlora_rank: 16",
    "lora_rank: 8\nmodel_config: {lora_rank: 8}",
    "adapter: {rank: 8}\nadapter: {alpha: 8}",
    "network_module: lycoris.kohya",
    "network_args: ['rank_dropout=0.1']",
    "network_args: ['conv_dm=4']",
    "network_args: [conv_dim]",
    "network_args: 4",
    "optimizer_args: 'betas=0.9,2'",
    "optimizer_args: 'd_coef=2.0'",
    "multires_noise_iterations: 6",
    "masked_loss: true",
    "loss_type: huber",
    "ema_config: {use_ema: true}",
    "scale_weight_norms: 1",
    "load_in_4bit: true",
    "quantization_bit: 4",
    "resume: ./state",
    "special_tokens: {eos_token: x}",
    "text_encoder_lr: [1e-5, 2e-5]",
    "cache_latents: true\nrandom_crop: true",
    "cache_text_encoder_outputs: true\nadapter: {text_encoder: true}",
    "adapter: {denoiser: false, text_encoder: false}",
    "validation: {every: never, patience: 3}",
    "data: {train: x}",
    "a: [1",
    "---\na: 1",
    "\"\\e[31m\": 1",
];

#[test]
fn messages_say_what_is_wrong_where_and_what_to_do() {
    let mut messages = Vec::new();
    for more in BAD {
        let error = least(more).map(|r| r.settings).expect_err(more).to_string();
        assert!(error.contains("\nhint: "), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
        messages.push(format!("{more}\n→ {}\n", error.replace('\n', "\n  ")));
    }
    insta::assert_snapshot!("messages", messages.join("\n"));
}

#[test]
fn messages_of_other_files_and_of_overrides() {
    let toml = "pretrained_model_name_or_path = 'demo:image'\ntrain_data_dir = 't'\n";
    let cases: &[(&str, &str, &[&str])] = &[
        ("a.yaml", "", &[]),
        ("a.yaml", "base: demo:image\n", &[]),
        ("a.yaml", "- a\n", &[]),
        ("a.yaml", LEAST, &["adapter.rank"]),
        ("a.yaml", LEAST, &["=3"]),
        ("a.yaml", LEAST, &["adapter.rank=0"]),
        ("a.yaml", LEAST, &["adapter.rnk=8"]),
        ("a.yaml", LEAST, &["training_config.lerning_rate=8"]),
        ("a.yaml", LEAST, &["lora_target=[a"]),
        ("a.yaml", LEAST, &["masked_loss=true"]),
        ("a.toml", &format!("{toml}network_dim = 0\n"), &[]),
        ("a.toml", &format!("{toml}[x]\nnetwork_dmi = 8\n"), &[]),
        ("a.toml", &format!("{toml}seed = 1\nseed = 2\n"), &[]),
        ("a.toml", &format!("{toml}[a]\nseed = 1\n[b]\nseed = 2\n"), &[]),
        ("a.toml", &format!("{toml}seed = \n"), &[]),
        ("a.toml", &format!("{toml}network_alpha = nan\n"), &[]),
        ("a.yaml", "base: demo:text\ndatasets: [{path: a}, {path: b}]\n", &[]),
        ("a.yaml", "base: demo:text\ndatasets: []\n", &[]),
        ("a.yaml", "base: demo:text\ndatasets: [{path: a, split: test}]\n", &[]),
    ];
    let mut messages = Vec::new();
    for (file, text, sets) in cases {
        let error = read(file, text, sets).map(|r| r.settings).unwrap_err().to_string();
        assert!(error.contains("\nhint: "), "{error}");
        messages.push(error);
    }
    insta::assert_snapshot!("messages_elsewhere", messages.join("\n\n"));
}
