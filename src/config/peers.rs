//! Keys of peers that set nothing here: those without a meaning, which are ignored aloud, and those that
//! would change the result, which are errors unless they say what is done anyway.

use super::keys::Peer;
use super::kind::{flag, number};
use super::tree::{Node, Value};

/// Keys without a meaning here, and why; a `*` at the end stands for any ending.
pub(super) const IGNORED: &[(&str, &str)] = &[
    ("xformers", ATTENTION),
    ("xformers_attention", ATTENTION),
    ("enable_xformers_memory_efficient_attention", ATTENTION),
    ("mem_eff_attn", ATTENTION),
    ("sdpa", ATTENTION),
    ("sdp_attention", ATTENTION),
    ("flash_attn", ATTENTION),
    ("flash_attention", ATTENTION),
    ("attn_implementation", ATTENTION),
    ("lowram", MEMORY),
    ("highvram", MEMORY),
    ("low_cpu_mem_usage", MEMORY),
    ("lora_on_cpu", MEMORY),
    ("vae_batch_size", MEMORY),
    ("cpu_offload_checkpointing", MEMORY),
    ("gradient_checkpointing_kwargs*", MEMORY),
    ("no_half_vae", "pictures are encoded in f32"),
    ("cache_latents_to_disk", "latents are kept on disk"),
    ("skip_cache_check", "what is kept is checked by its content"),
    ("cache_text_encoder_outputs_to_disk", "what is kept is kept on disk"),
    ("max_data_loader_n_workers", LOADER),
    ("persistent_data_loader_workers", LOADER),
    ("dataloader_*", LOADER),
    ("preprocessing_num_workers", LOADER),
    ("dataset_processes", LOADER),
    ("dataset_prepared_path", LOADER),
    ("overwrite_cache", LOADER),
    ("ddp*", SEVERAL),
    ("deepspeed*", SEVERAL),
    ("zero_stage", SEVERAL),
    ("fsdp*", SEVERAL),
    ("local_rank", SEVERAL),
    ("multi_gpu", SEVERAL),
    ("num_cpu_threads_per_process", "`--threads` says how many"),
    ("huggingface*", HUB),
    ("async_upload", HUB),
    ("hub_*", HUB),
    ("push_to_hub", HUB),
    ("save_state_to_huggingface", HUB),
    ("resume_from_huggingface", HUB),
    ("wandb*", LOG),
    ("mlflow*", LOG),
    ("comet*", LOG),
    ("log_prefix", LOG),
    ("log_tracker_name", LOG),
    ("log_tracker_config", LOG),
    ("log_config", LOG),
    ("logging_dir", LOG),
    ("logging_first_step", LOG),
    ("plot_loss", LOG),
    ("console_log_*", LOG),
    ("run_name", LOG),
    ("output_config", LOG),
    ("debug", LOG),
    ("ui_*", "it belongs to a graphical interface"),
    ("save_state", STATE),
    ("save_state_on_train_end", STATE),
    ("save_last_n_epochs_state", STATE),
    ("save_last_n_steps", "`output.keep_last` says how many checkpoints are kept"),
    ("save_last_n_steps_state", STATE),
    ("save_only_model", STATE),
    ("save_safetensors", "adapters are safetensors files"),
    ("save_n_epoch_ratio", "`output.save_every` says when"),
    ("load_best_model_at_end", "the best checkpoint is kept beside the last"),
    ("metric_for_best_model", "the best checkpoint is that of the lowest held-out loss"),
    ("overwrite_output_dir", "`--resume` goes on with a folder, another start wants a new one"),
    ("do_train", "`train` trains"),
    ("do_eval", "`validation.every` says when"),
    ("per_device_eval_batch_size", VALIDATION),
    ("eval_batch_size", VALIDATION),
    ("eval_sample_packing", VALIDATION),
    ("eval_max_new_tokens", VALIDATION),
    ("eval_table_size", VALIDATION),
    ("max_validation_steps", "`validation.max_examples` bounds them"),
    ("validation_seed", "noise of the held-out loss follows from `run.seed`"),
    ("sample_sampler", "a suite's settings say which sampler"),
    ("loss_watchdog_*", "losses and gradients are always watched"),
    ("template", TEMPLATE),
    ("chat_template", TEMPLATE),
    ("tokenizer_type", "the base says which tokenizer"),
    ("tokenizer_cache_dir", HUB),
    ("cache_dir", HUB),
    ("model_type", "the base's files say what it is"),
    ("trust_remote_code", "no code of models is run"),
    ("strict", "every key is checked"),
    ("tf32", "NVIDIA's own setting decides"),
    ("allow_tf32", "NVIDIA's own setting decides"),
    ("torch_compile*", "there is nothing to compile"),
    ("torchdynamo", "there is nothing to compile"),
    ("dynamo_backend", "there is nothing to compile"),
    ("pad_to_sequence_len", "padding never enters the loss"),
    ("pad_to_max_length", "padding never enters the loss"),
    ("special_tokens.pad_token", "padding never enters the loss"),
    ("datasets.type", "the layout is read from the file"),
    ("datasets.ds_type", "the layout is read from the file"),
    ("dataset_formatting", "the layout is read from the file"),
    ("use_8bit_adam", "moments are kept in 32 bits; those of an adapter are small"),
    ("inference_mode", "it says nothing of a training"),
    ("auto_mapping", "the base's files say what it is"),
    ("peft_version", "it says nothing of a training"),
    ("training_comment", "it says nothing of a training"),
    ("metadata_*", "it says nothing of a training"),
    ("model_train_type", "the base's files say what it is"),
    ("sdxl", "the base's files say what it is"),
    ("v2", "the base's files say what it is"),
];

const ATTENTION: &str = "attention is exact and needs no library";
const MEMORY: &str = "memory is planned by the program";
const LOADER: &str = "examples are read by the program's threads";
const SEVERAL: &str = "one device is used";
const HUB: &str = "nothing is uploaded; `HF_HOME` says where downloads are kept";
const LOG: &str = "the log is a file in the training's folder";
const STATE: &str = "every checkpoint holds the whole state";
const VALIDATION: &str = "the held-out loss does not depend on it";
const TEMPLATE: &str = "the base's own chat template is used";

/// Keys that would change the result: the values that say what is done anyway, and what to do.
pub(super) const REFUSED: &[(&str, &[&str], &str)] = &[
    (
        "network_module",
        &["networks.lora"],
        "only `networks.lora` is trained: LoRA, with `conv_dim` LoCon",
    ),
    ("network_weights", &[], "start from the base; `combine` adds adapters afterwards"),
    ("dim_from_weights", OFF, "write `network_dim`"),
    ("base_weights", &[], "`merge` the adapter into the base first"),
    ("base_weights_multiplier", &[], "`merge` the adapter into the base first"),
    ("scale_weight_norms", OFF, REMOVE),
    ("network_args.rank_dropout", OFF, "`adapter.dropout` drops inputs"),
    ("network_args.module_dropout", OFF, "`adapter.dropout` drops inputs"),
    ("network_args.algo", &["lora", "locon"], "LoRA and LoCon are trained"),
    ("network_args.block_dims", &[], "`adapter.rank_pattern` gives ranks by module"),
    ("network_args.block_alphas", &[], "`adapter.alpha_pattern` gives alphas by module"),
    ("network_args.conv_block_dims", &[], "`adapter.rank_pattern` gives ranks by module"),
    ("network_args.conv_block_alphas", &[], "`adapter.alpha_pattern` gives alphas by module"),
    ("network_args.down_lr_weight", &[], REMOVE),
    ("network_args.mid_lr_weight", &[], REMOVE),
    ("network_args.up_lr_weight", &[], REMOVE),
    ("network_args.block_lr_zero_threshold", OFF, REMOVE),
    ("network_args.loraplus_unet_lr_ratio", ONE, "`loraplus_lr_ratio` holds for all parts"),
    ("network_args.loraplus_text_encoder_lr_ratio", ONE, "`loraplus_lr_ratio` holds for all parts"),
    ("network_args.dora_wd", OFF, "write `adapter.dora: true`"),
    ("network_args.rs_lora", OFF, "write `adapter.rslora: true`"),
    ("network_args.use_tucker", OFF, REMOVE),
    ("network_args.use_scalar", OFF, REMOVE),
    ("network_args.train_norm", OFF, REMOVE),
    ("network_args.preset", &[], "`adapter.targets` says which modules"),
    ("optimizer_args.decouple", ON, "weight decay is always decoupled"),
    ("optimizer_args.amsgrad", OFF, REMOVE),
    ("optimizer_args.nesterov", OFF, REMOVE),
    ("optimizer_args.dampening", OFF, REMOVE),
    ("optimizer_args.d0", &["1e-6"], REMOVE),
    ("optimizer_args.d_coef", ONE, "scale `learning_rate` instead"),
    ("optimizer_args.growth_rate", &["inf"], REMOVE),
    ("optimizer_args.use_bias_correction", OFF, REMOVE),
    ("optimizer_args.safeguard_warmup", OFF, REMOVE),
    ("optimizer_args.beta3", &[], REMOVE),
    ("optim_args", &[], "write `optimizer.beta1`, `optimizer.weight_decay` and so on"),
    ("lr_scheduler_args", &[], REMOVE),
    ("lr_scheduler_kwargs", &[], REMOVE),
    ("lr_scheduler_timescale", OFF, REMOVE),
    ("lr_scheduler_min_lr_ratio", OFF, REMOVE),
    ("cosine_min_lr_ratio", OFF, REMOVE),
    ("lr_decay_steps", OFF, REMOVE),
    ("full_fp16", OFF, "write `mixed_precision`; what is trained stays in f32"),
    ("full_bf16", OFF, "write `mixed_precision`; what is trained stays in f32"),
    ("pure_bf16", OFF, "write `bf16`; what is trained stays in f32"),
    ("fp8_base", OFF, REMOVE),
    ("multires_noise_iterations", OFF, "`noise_offset` is there"),
    ("multires_noise_discount", &["0.3", "0"], "`noise_offset` is there"),
    ("adaptive_noise_scale", OFF, "`noise_offset` is there"),
    ("noise_offset_random_strength", OFF, "`noise_offset` is there"),
    ("noise_offset_type", &["original"], "`noise_offset` is there"),
    ("ip_noise_gamma", OFF, REMOVE),
    ("ip_noise_gamma_random_strength", OFF, REMOVE),
    ("input_perturbation", OFF, REMOVE),
    ("zero_terminal_snr", OFF, REMOVE),
    ("debiased_estimation_loss", OFF, "`min_snr_gamma` weighs timesteps"),
    ("scale_v_pred_loss_like_noise_pred", OFF, REMOVE),
    ("v_pred_like_loss", OFF, REMOVE),
    ("loss_type", &["l2"], "the loss is the squared error"),
    ("huber_schedule", &["snr"], "the loss is the squared error"),
    ("huber_c", &["0.1"], "the loss is the squared error"),
    ("huber_scale", ONE, "the loss is the squared error"),
    ("masked_loss", OFF, REMOVE),
    ("alpha_mask", OFF, REMOVE),
    ("conditioning_data_dir", &[], REMOVE),
    ("weighted_captions", OFF, REMOVE),
    ("enable_wildcard", OFF, "write the captions out"),
    ("caption_separator", &[","], "separate tags with commas"),
    ("secondary_separator", &[], "separate tags with commas"),
    ("keep_tokens_separator", &[], "`keep_tokens` says how many tags stay in front"),
    ("token_warmup_min", ONE, REMOVE),
    ("token_warmup_step", OFF, REMOVE),
    ("caption_dropout_every_n_epochs", OFF, "`caption_dropout_rate` drops captions"),
    ("class_tokens", &[], "write the words into caption files, or name the folder `10_words`"),
    ("face_crop_aug_range", &[], REMOVE),
    ("token_string", &[], REMOVE),
    ("use_ema", OFF, REMOVE),
    ("ema*", OFF, REMOVE),
    ("resume", OFF, "run `train` with `--resume`"),
    ("resume_from_checkpoint", OFF, "run `train` with `--resume`"),
    ("auto_resume_from_checkpoints", OFF, "run `train` with `--resume`"),
    ("initial_epoch", ONE, "run `train` with `--resume`"),
    ("initial_step", OFF, "run `train` with `--resume`"),
    ("skip_until_initial_step", OFF, "run `train` with `--resume`"),
    ("save_model_as", &["safetensors"], "adapters are safetensors files"),
    ("no_metadata", OFF, "adapters say how they were made"),
    ("validation_prompt", &[], "write the prompts in a file and name it by `samples.prompts`"),
    ("positive_prompts", &[], "write the prompts in a file and name it by `samples.prompts`"),
    ("caption_column", &["text", "prompt", "caption"], "name the column `text`"),
    ("image_column", &["image", "file_name"], "name the column `file_name`"),
    ("dataset_name", &[], "download the data and write `data.train`"),
    ("dataset_dir", &[], "write `data.train` and the path of the data"),
    ("with_prior_preservation", &[], "give `class_data_dir`, or leave it out"),
    ("max_train_samples", &[], "take the part of the data that is to be trained on"),
    ("max_samples", &[], "take the part of the data that is to be trained on"),
    ("stage", &["sft", "pt"], "adapters are trained on examples"),
    ("rl", &[], "adapters are trained on examples"),
    ("finetuning_type", &["lora"], "LoRA adapters are trained"),
    ("peft_type", &["lora"], "LoRA adapters are trained"),
    ("adapter", &["lora", "qlora"], "write `adapter:` and below it `rank: 8`"),
    ("load_in_4bit", OFF, QUANTIZED),
    ("load_in_8bit", OFF, QUANTIZED),
    ("quantization_bit", &[], QUANTIZED),
    ("quantization_method", &[], QUANTIZED),
    ("gptq", OFF, QUANTIZED),
    ("pissa_init", OFF, "write `adapter.init`"),
    ("lora_modules_to_save", &[], REMOVE),
    ("modules_to_save", &[], REMOVE),
    ("additional_target", &[], REMOVE),
    ("exclude_modules", &[], "`adapter.targets` takes a regular expression"),
    ("layers_to_transform", &[], "`adapter.targets` takes a regular expression"),
    ("layers_pattern", &[], "`adapter.targets` takes a regular expression"),
    ("peft_layers_to_transform", &[], "`adapter.targets` takes a regular expression"),
    ("layer_replication", &[], REMOVE),
    ("megatron_config", &[], REMOVE),
    ("loftq_config", &[], REMOVE),
    ("eva_config", &[], REMOVE),
    ("corda_config", &[], REMOVE),
    ("lora_bias", OFF, REMOVE),
    ("bias", &["none"], REMOVE),
    ("fan_in_fan_out", OFF, "the base's files say how weights lie"),
    ("lora_fan_in_fan_out", OFF, "the base's files say how weights lie"),
    ("revision", &["main"], "write `hf:OWNER/NAME@REVISION`"),
    ("neftune_noise_alpha", OFF, REMOVE),
    ("label_smoothing_factor", OFF, REMOVE),
    ("label_smoother", OFF, REMOVE),
    ("group_by_length", OFF, REMOVE),
    ("mask_history", OFF, REMOVE),
    ("neat_packing", OFF, "write `packing: true`"),
    ("use_galore", OFF, REMOVE),
    ("use_badam", OFF, REMOVE),
    ("use_unsloth", OFF, REMOVE),
    ("test_datasets", &[], "write `data.held_out`"),
    ("datasets.split", &["train"], "take the part of the data that is to be trained on"),
    ("special_tokens*", &[], "the base's own tokens are used"),
];

const ON: &[&str] = &["true", "1"];
const OFF: &[&str] = &["false", "0"];
const ONE: &[&str] = &["1"];
const REMOVE: &str = "remove the key if the training may go without it";
const QUANTIZED: &str = "remove the key, or give a base that is quantized: a `.gguf` file";

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

/// Why a key is ignored, if it is.
pub(super) fn ignored(name: &str) -> Option<&'static str> {
    IGNORED.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, why)| *why)
}

/// The values that a refused key may have, and what to do, if it is one.
pub(super) fn refused(name: &str) -> Option<(&'static [&'static str], &'static str)> {
    REFUSED
        .iter()
        .find(|(pattern, ..)| matches(pattern, name))
        .map(|(_, neutral, hint)| (*neutral, *hint))
}

/// Whether a value says what is done anyway.
pub(super) fn is_neutral(node: &Node, neutral: &[&str]) -> bool {
    let same = |text: &str, other: &str| {
        text.eq_ignore_ascii_case(other)
            || number(text).is_some_and(|value| number(other) == Some(value))
            || flag(text).is_some_and(|value| flag(other) == Some(value))
    };
    match &node.value {
        Value::Empty => true,
        Value::Scalar(text) => neutral.iter().any(|other| same(text, other)),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    }
}

/// Where one key of a pair counts and the other does not, in the peers' own reading: winner, loser.
pub(super) const WINS: &[(&str, &str)] = &[
    ("unet_lr", "learning_rate"),
    ("max_train_epochs", "max_train_steps"),
    ("max_train_steps", "num_train_epochs"),
    ("max_steps", "num_train_epochs"),
    ("max_steps", "num_epochs"),
    ("sample_every_n_epochs", "sample_every_n_steps"),
    ("save_strategy", "save_steps"),
    ("eval_strategy", "eval_steps"),
    ("evaluation_strategy", "eval_steps"),
];

/// Defaults of peers that differ from ours and matter: whose, of which key, and which.
pub(super) const OTHER_DEFAULTS: &[(Peer, &str, &str)] = &[
    (Peer::SdScripts, "adapter.alpha", "1"),
    (Peer::SdScripts, "adapter.conv_alpha", "1"),
    (Peer::SdScripts, "adapter.text_encoder", "true"),
    (Peer::SdScripts, "optimizer.text_encoder_lr", "the learning rate"),
    (Peer::SdScripts, "data.image.buckets", "false"),
    (Peer::SdScripts, "data.held_out_split", "0"),
    (Peer::SdScripts, "schedule.kind", "constant"),
    (Peer::SdScripts, "schedule.warmup", "0"),
    (Peer::SdScripts, "run.length", "1600 steps"),
    (Peer::Peft, "adapter.alpha", "8"),
    (Peer::LlamaFactory, "adapter.alpha", "twice the rank"),
    (Peer::LlamaFactory, "run.length", "3 epochs"),
    (Peer::LlamaFactory, "run.batch_size", "8"),
    (Peer::LlamaFactory, "schedule.kind", "linear"),
    (Peer::LlamaFactory, "schedule.warmup", "0"),
    (Peer::LlamaFactory, "data.held_out_split", "0"),
    (Peer::Axolotl, "data.held_out_split", "0"),
];
