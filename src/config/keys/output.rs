//! Keys of validation, samples and output.

use super::super::choices::{FileFormat, Precision};
use super::super::kind::{Kind, LARGEST, PART};
use super::Peer::{Article, Axolotl, Diffusers, LlamaFactory, SdScripts, Trainer};
use super::{As, Fallback, Key, Peer, alias, model, read_as};

const SD: &[Peer] = &[SdScripts];
const STRATEGY: As =
    As::Words(&[("no", "never"), ("epoch", "1 epoch"), ("steps", ""), ("best", "")]);
const TIMES_AN_EPOCH: As = As::Words(&[("0", "never"), ("1", "1 epoch")]);
const LOGGERS: As =
    As::Words(&[("tensorboard", "true"), ("all", "true"), ("none", "false"), ("wandb", "")]);

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "validation.every",
        Kind::Every,
        Fallback::Is("1 epoch", "house"),
        "how often the held-out loss is measured",
    )
    .or(&[
        read_as("validate_every_n_epochs", SD, As::Epochs),
        read_as("validate_every_n_steps", SD, As::Steps),
        read_as("eval_steps", &[Trainer, LlamaFactory, Axolotl], As::Steps),
        read_as("eval_strategy", &[Trainer, LlamaFactory, Axolotl], STRATEGY),
        read_as("evaluation_strategy", &[Trainer, LlamaFactory, Axolotl], STRATEGY),
        read_as("evals_per_epoch", &[Axolotl], TIMES_AN_EPOCH),
    ]),
    Key::new(
        "validation.patience",
        Kind::Whole(1, LARGEST),
        Fallback::None("the training never ends early"),
        "so many validations without improvement end the training",
    )
    .or(&[
        alias("early_stopping_patience", &[Trainer, Axolotl]),
        alias("early_stopping_steps", &[LlamaFactory]),
    ]),
    Key::new(
        "validation.min_improvement",
        PART,
        Fallback::Is("0", "transformers"),
        "an improvement is at least this part of the best loss",
    ),
    Key::new(
        "validation.max_examples",
        Kind::Whole(1, LARGEST),
        Fallback::None("all"),
        "held-out examples at most",
    ),
    Key::new(
        "samples.prompts",
        Kind::Path,
        Fallback::None("no samples"),
        "a suite, or a file of prompts in sd-scripts' grammar",
    )
    .or(&[alias("sample_prompts", SD), alias("prompt_file", SD)]),
    Key::new(
        "samples.every",
        Kind::Every,
        Fallback::Is("1 epoch", "lora-scripts"),
        "how often samples are generated while training",
    )
    .or(&[
        read_as("sample_every_n_epochs", SD, As::Epochs),
        read_as("sample_every_n_steps", SD, As::Steps),
    ]),
    Key::new(
        "samples.at_first",
        Kind::Flag,
        Fallback::Is("false", "sd-scripts"),
        "whether samples are generated before the first step too",
    )
    .or(&[alias("sample_at_first", SD)]),
    Key::new(
        "output.dir",
        Kind::Path,
        Fallback::Is("output", "lora-scripts"),
        "the training's folder",
    )
    .or(&[alias("output_dir", &[Article, SdScripts, Diffusers, Trainer, LlamaFactory, Axolotl])]),
    Key::new(
        "output.name",
        Kind::Stem,
        Fallback::Derived("the configuration's file name without its ending"),
        "the adapter's name",
    )
    .or(&[alias("output_name", SD)]),
    Key::new(
        "output.format",
        Kind::Choice(FileFormat::NAMES, &[]),
        Fallback::Derived("kohya for images (what the WebUI and ComfyUI read), peft for texts"),
        "the adapter's format",
    ),
    Key::new(
        "output.precision",
        Kind::Choice(Precision::NAMES, model::PRECISIONS),
        Fallback::Derived("f16 for images (lora-scripts), f32 for texts (PEFT)"),
        "the type of the adapter's numbers in its file",
    )
    .or(&[alias("save_precision", SD)]),
    Key::new(
        "output.save_every",
        Kind::Every,
        Fallback::Is("1 epoch", "house: a best epoch can only be kept where each was looked at"),
        "how often a checkpoint is made",
    )
    .or(&[
        read_as("save_every_n_epochs", SD, As::Epochs),
        read_as("save_every_n_steps", SD, As::Steps),
        read_as("save_steps", &[Article, Trainer, LlamaFactory, Axolotl], As::Steps),
        read_as("checkpointing_steps", &[Diffusers], As::Steps),
        read_as("save_strategy", &[Trainer, LlamaFactory, Axolotl], STRATEGY),
        read_as("saves_per_epoch", &[Axolotl], TIMES_AN_EPOCH),
    ]),
    Key::new(
        "output.keep_last",
        Kind::Whole(1, LARGEST),
        Fallback::Is("2", "house: the last, and one more in case it is damaged"),
        "checkpoints that are kept, the best not counted",
    )
    .or(&[
        alias("save_last_n_epochs", SD),
        alias("save_total_limit", &[Trainer, LlamaFactory, Axolotl]),
        alias("checkpoints_total_limit", &[Diffusers]),
    ]),
    Key::new(
        "output.log_every",
        Kind::Whole(1, LARGEST),
        Fallback::Is("1", "sd-scripts"),
        "every so many steps a line in the log",
    )
    .or(&[alias("logging_steps", &[Trainer, LlamaFactory, Axolotl])]),
    Key::new(
        "output.tensorboard",
        Kind::Flag,
        Fallback::Is("true", "lora-scripts"),
        "whether TensorBoard's files are written",
    )
    .or(&[
        read_as("log_with", SD, LOGGERS),
        read_as("report_to", &[Diffusers, Trainer, LlamaFactory], LOGGERS),
    ]),
];
