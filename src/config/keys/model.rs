//! Keys of the base and of the adapter.

use super::super::choices::{Init, Precision, Task};
use super::super::kind::{Kind, MAX_RANK, PART, POSITIVE, Synonym};
use super::Peer::{Article, Axolotl, Diffusers, LlamaFactory, Peft, SdScripts, Trainer};
use super::{Alias, As, Fallback, Key, alias, read_as, synonym};

const TASKS: &[Synonym] = &[
    synonym("text-to-image", "image"),
    // One of the articles calls the training of Stable Diffusion so.
    synonym("image-to-text", "image"),
    synonym("text-generation", "text"),
    synonym("causal_lm", "text"),
];

pub(super) const PRECISIONS: &[Synonym] = &[
    synonym("no", "f32"),
    synonym("float", "f32"),
    synonym("fp32", "f32"),
    synonym("float32", "f32"),
    synonym("fp16", "f16"),
    synonym("float16", "f16"),
    synonym("bfloat16", "bf16"),
];

const INITS: &[Synonym] = &[synonym("true", "kaiming"), synonym("yes", "kaiming")];

const NETWORK_DROPOUT: Alias = Alias {
    note: Some("inputs of A are dropped, as PEFT does; sd-scripts drops A's outputs"),
    ..alias("network_dropout", &[SdScripts])
};

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "task",
        Kind::Choice(Task::NAMES, TASKS),
        Fallback::Derived("as the base says, else as the keys say"),
        "what is trained: a denoiser of pictures, or a language model",
    )
    .or(&[alias("task_type", &[Article, Peft])]),
    Key::new(
        "base.model",
        Kind::Text,
        Fallback::Required("write `base: ` and a folder, a .safetensors file or `hf:OWNER/NAME`"),
        "the model that the adapter is trained on, as `--base` takes it",
    )
    .or(&[
        alias("base", &[]),
        alias("base_model", &[Article, Axolotl]),
        alias("pretrained_model_name_or_path", &[SdScripts, Diffusers]),
        alias("model_name_or_path", &[LlamaFactory, Trainer]),
        alias("base_model_name_or_path", &[Peft]),
    ]),
    Key::new(
        "base.vae",
        Kind::Path,
        Fallback::None("the base's own"),
        "another autoencoder than the base's own",
    )
    .or(&[alias("vae", &[SdScripts]), alias("pretrained_vae_model_name_or_path", &[Diffusers])]),
    Key::new(
        "base.precision",
        Kind::Choice(Precision::NAMES, PRECISIONS),
        Fallback::None("f32 on a CPU, the base's own on a GPU"),
        "the type that frozen weights are rounded to; what is trained stays in f32",
    )
    .or(&[
        alias("mixed_precision", &[Article, SdScripts, Diffusers]),
        read_as("bf16", &[Trainer, LlamaFactory, Axolotl], As::Flag("bf16", "")),
        read_as("fp16", &[Trainer, LlamaFactory, Axolotl], As::Flag("f16", "")),
    ]),
    Key::new(
        "base.v_prediction",
        Kind::Flag,
        Fallback::None("as the base says"),
        "whether the denoiser predicts velocities (SD 2 at 768)",
    )
    .or(&[
        alias("v_parameterization", &[SdScripts]),
        read_as(
            "prediction_type",
            &[Diffusers],
            As::Words(&[("epsilon", "false"), ("v_prediction", "true")]),
        ),
    ]),
    Key::new(
        "base.clip_skip",
        Kind::Whole(1, 12),
        Fallback::Is("1", "diffusers: the last layer"),
        "which layer of the text encoder is read, 1 the last, 2 the one before",
    )
    .or(&[alias("clip_skip", &[SdScripts])]),
    Key::new(
        "adapter.rank",
        Kind::Whole(1, MAX_RANK),
        Fallback::Is("8", "article: start with 8"),
        "rank of the change: how much the adapter can hold",
    )
    .or(&[
        alias("lora_rank", &[Article, LlamaFactory]),
        alias("network_dim", &[SdScripts]),
        alias("rank", &[Diffusers]),
        alias("r", &[Peft]),
        alias("lora_r", &[Axolotl]),
    ]),
    Key::new(
        "adapter.alpha",
        POSITIVE,
        Fallback::Derived("the rank, so that the change is multiplied by 1 (diffusers)"),
        "the change is multiplied by alpha/rank",
    )
    .or(&[
        alias("lora_alpha", &[Article, Diffusers, Peft, LlamaFactory, Axolotl]),
        alias("network_alpha", &[SdScripts]),
    ]),
    Key::new(
        "adapter.targets",
        Kind::Targets,
        Fallback::Is("all-linear", "sd-scripts' set; paper for texts: Dettmers et al., 2023"),
        "which modules get an adapter",
    )
    .or(&[
        alias("target_modules", &[Article, Peft]),
        alias("lora_target", &[LlamaFactory]),
        alias("lora_target_modules", &[Axolotl]),
        read_as("lora_target_linear", &[Axolotl], As::Flag("all-linear", "")),
    ]),
    Key::new(
        "adapter.conv_rank",
        Kind::Whole(1, MAX_RANK),
        Fallback::None("3×3 convolutions stay"),
        "rank for 3×3 convolutions (LoCon)",
    )
    .or(&[alias("network_args.conv_dim", &[SdScripts])]),
    Key::new(
        "adapter.conv_alpha",
        POSITIVE,
        Fallback::Derived("the rank of convolutions; without one, not used"),
        "alpha of 3×3 convolutions",
    )
    .or(&[alias("network_args.conv_alpha", &[SdScripts])]),
    Key::new(
        "adapter.denoiser",
        Kind::Flag,
        Fallback::Is("true", "all peers"),
        "whether the denoiser is trained",
    )
    .or(&[read_as("network_train_text_encoder_only", &[SdScripts], As::Flag("false", "true"))]),
    Key::new(
        "adapter.text_encoder",
        Kind::Flag,
        Fallback::Derived("where its learning rate is given or the denoiser is not trained"),
        "whether text encoders are trained too",
    )
    .or(&[
        read_as("network_train_unet_only", &[SdScripts], As::Flag("false", "true")),
        alias("train_text_encoder", &[Diffusers]),
    ]),
    Key::new(
        "adapter.dropout",
        PART,
        Fallback::Is("0", "PEFT"),
        "probability that an input of A is dropped",
    )
    .or(&[
        alias("lora_dropout", &[Article, Diffusers, Peft, LlamaFactory, Axolotl]),
        NETWORK_DROPOUT,
    ]),
    Key::new(
        "adapter.rslora",
        Kind::Flag,
        Fallback::Is("false", "PEFT"),
        "alpha/√rank in place of alpha/rank (Kalajdzievski, 2023)",
    )
    .or(&[alias("use_rslora", &[Peft, LlamaFactory]), alias("peft_use_rslora", &[Axolotl])]),
    Key::new(
        "adapter.dora",
        Kind::Flag,
        Fallback::Is("false", "PEFT"),
        "weight-decomposed (DoRA: Liu et al., 2024)",
    )
    .or(&[alias("use_dora", &[Peft, LlamaFactory]), alias("peft_use_dora", &[Axolotl])]),
    Key::new(
        "adapter.init",
        Kind::Choice(Init::NAMES, INITS),
        Fallback::Is("kaiming", "PEFT, sd-scripts"),
        "how A begins; B begins at 0",
    )
    .or(&[alias("init_lora_weights", &[Peft]), alias("peft_init_lora_weights", &[Axolotl])]),
    Key::new(
        "adapter.rank_pattern",
        Kind::Ranks,
        Fallback::Is("{}", "PEFT"),
        "other ranks, by a regular expression on module paths; the first match counts",
    )
    .or(&[alias("rank_pattern", &[Peft])]),
    Key::new(
        "adapter.alpha_pattern",
        Kind::Alphas,
        Fallback::Is("{}", "PEFT"),
        "other alphas, by a regular expression on module paths; the first match counts",
    )
    .or(&[alias("alpha_pattern", &[Peft])]),
];
