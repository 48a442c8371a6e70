//! Keys of the optimizer, the schedule, the run and diffusion's loss.

use super::super::choices::{LrScaling, OptimizerKind, ScheduleKind};
use super::super::kind::{Kind, NOT_NEGATIVE, PART, POSITIVE, RATE, Synonym};
use super::Peer::{Article, Axolotl, Diffusers, LlamaFactory, SdScripts, Trainer};
use super::{As, Fallback, Key, Peer, alias, read_as, synonym};

const SD: &[Peer] = &[SdScripts];

const fn eight_bit(theirs: &'static str, ours: &'static str) -> Synonym {
    let note = Some("moments are kept in 32 bits; those of an adapter are small");
    Synonym { theirs, ours, note }
}

const OPTIMIZERS: &[Synonym] = &[
    synonym("adamw_torch", "adamw"),
    synonym("adamw_torch_fused", "adamw"),
    synonym("adamw_hf", "adamw"),
    eight_bit("adamw8bit", "adamw"),
    eight_bit("adamw_8bit", "adamw"),
    eight_bit("adamw_bnb_8bit", "adamw"),
    eight_bit("pagedadamw", "adamw"),
    eight_bit("pagedadamw8bit", "adamw"),
    eight_bit("pagedadamw32bit", "adamw"),
    eight_bit("paged_adamw_8bit", "adamw"),
    eight_bit("paged_adamw_32bit", "adamw"),
    synonym("lion_32bit", "lion"),
    eight_bit("lion8bit", "lion"),
    eight_bit("lion_8bit", "lion"),
    eight_bit("pagedlion8bit", "lion"),
    eight_bit("paged_lion_8bit", "lion"),
    eight_bit("paged_lion_32bit", "lion"),
];

const SCHEDULES: &[Synonym] = &[synonym("constant_with_warmup", "constant")];

/// 0 is allowed here and means that text encoders are not trained.
const TEXT_ENCODER_RATE: Kind =
    Kind::Number(|n| (0.0..=1.0).contains(&n), "a number from 0 to 1; 0: not trained");

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "optimizer.kind",
        Kind::Choice(OptimizerKind::NAMES, OPTIMIZERS),
        Fallback::Is("adamw", "article"),
        "the optimizer",
    )
    .or(&[
        alias("optimizer", &[Article, Axolotl]),
        alias("optimizer_type", SD),
        read_as("use_lion_optimizer", SD, As::Flag("lion", "")),
        alias("optim", &[Trainer, LlamaFactory]),
    ]),
    Key::new(
        "optimizer.learning_rate",
        RATE,
        Fallback::Derived(
            "1e-4 for images (lora-scripts), 2e-4 for texts (paper: Dettmers et al., 2023); \
             Lion a third of it, Prodigy 1 (their papers)",
        ),
        "the learning rate of the denoiser or of the language model, 1e-4 or 2e-4 to start with",
    )
    .or(&[
        alias("learning_rate", &[Article, SdScripts, Diffusers, Trainer, LlamaFactory, Axolotl]),
        alias("unet_lr", SD),
    ]),
    Key::new(
        "optimizer.text_encoder_lr",
        TEXT_ENCODER_RATE,
        Fallback::Derived(
            "a tenth of the learning rate (lora-scripts: 1e-5 beside 1e-4); Prodigy 1",
        ),
        "the learning rate of text encoders; 0 leaves them as they are",
    )
    .or(&[read_as("text_encoder_lr", SD, As::Equal)]),
    Key::new(
        "optimizer.weight_decay",
        NOT_NEGATIVE,
        Fallback::Derived("0.01 for AdamW (PyTorch), else 0 (the optimizers' own code)"),
        "decoupled weight decay",
    )
    .or(&[
        alias("weight_decay", &[Trainer, LlamaFactory, Axolotl]),
        alias("adam_weight_decay", &[Diffusers]),
        alias("optimizer_args.weight_decay", SD),
    ]),
    Key::new(
        "optimizer.beta1",
        PART,
        Fallback::Is("0.9", "PyTorch"),
        "the decay of the first moment; SGD's momentum",
    )
    .or(&[
        alias("adam_beta1", &[Diffusers, Trainer, LlamaFactory, Axolotl]),
        alias("optimizer_args.beta1", SD),
        alias("optimizer_args.momentum", SD),
    ]),
    Key::new(
        "optimizer.beta2",
        PART,
        Fallback::Derived("0.999 (PyTorch); Lion 0.99 (paper: Chen et al., 2023)"),
        "the decay of the second moment",
    )
    .or(&[
        alias("adam_beta2", &[Diffusers, Trainer, LlamaFactory, Axolotl]),
        alias("optimizer_args.beta2", SD),
    ]),
    Key::new(
        "optimizer.epsilon",
        POSITIVE,
        Fallback::Is("1e-8", "PyTorch"),
        "added to the root of the second moment",
    )
    .or(&[
        alias("adam_epsilon", &[Diffusers, Trainer, LlamaFactory, Axolotl]),
        alias("optimizer_args.eps", SD),
    ]),
    Key::new(
        "optimizer.loraplus_ratio",
        POSITIVE,
        Fallback::Is("1", "all peers: A and B alike"),
        "B's learning rate over A's (LoRA+: Hayou et al., 2024)",
    )
    .or(&[
        alias("loraplus_lr_ratio", &[LlamaFactory, Axolotl]),
        alias("network_args.loraplus_lr_ratio", SD),
    ]),
    Key::new(
        "optimizer.lr_scaling",
        Kind::Choice(LrScaling::NAMES, &[]),
        Fallback::Is("none", "all peers"),
        "how the learning rate follows the effective batch",
    )
    .or(&[read_as("scale_lr", &[Diffusers], As::Flag("linear", ""))]),
    Key::new(
        "optimizer.max_grad_norm",
        NOT_NEGATIVE,
        Fallback::Is("1", "sd-scripts, diffusers, transformers"),
        "the norm that gradients are clipped to; 0: not clipped",
    )
    .or(&[alias("max_grad_norm", &[SdScripts, Diffusers, Trainer, LlamaFactory, Axolotl])]),
    Key::new(
        "schedule.kind",
        Kind::Choice(ScheduleKind::NAMES, SCHEDULES),
        Fallback::Is("cosine", "article"),
        "the learning rate's course after warm-up",
    )
    .or(&[
        alias("lr_scheduler", &[Article, SdScripts, Diffusers, Axolotl]),
        alias("lr_scheduler_type", &[Trainer, LlamaFactory]),
    ]),
    Key::new(
        "schedule.warmup",
        Kind::Warmup,
        Fallback::Derived(
            "0.05 of all steps (house); 0 where the schedule is `constant` (diffusers)",
        ),
        "how long the learning rate rises from 0, for example `100` (steps) or `0.05` (of all steps)",
    )
    .or(&[
        alias("lr_warmup_steps", &[SdScripts, Diffusers]),
        alias("warmup_steps", &[Article, Trainer, LlamaFactory, Axolotl]),
        read_as("warmup_ratio", &[Trainer, LlamaFactory, Axolotl], As::Ratio),
    ]),
    Key::new(
        "schedule.cycles",
        Kind::Whole(1, 10_000),
        Fallback::Is("1", "sd-scripts, diffusers"),
        "cycles of `cosine_with_restarts`",
    )
    .or(&[
        alias("lr_scheduler_num_cycles", &[SdScripts, Diffusers]),
        alias("lr_restart_cycles", SD),
        alias("lr_num_cycles", &[Diffusers]),
    ]),
    Key::new(
        "schedule.power",
        POSITIVE,
        Fallback::Is("1", "sd-scripts, diffusers"),
        "power of `polynomial`",
    )
    .or(&[alias("lr_scheduler_power", SD), alias("lr_power", &[Diffusers])]),
    Key::new(
        "run.length",
        Kind::Length,
        Fallback::Is("10 epochs", "article"),
        "how long: so many epochs, or so many optimizer steps",
    )
    .or(&[
        read_as("run.epochs", &[], As::Epochs),
        read_as("run.steps", &[], As::Steps),
        read_as("epochs", &[Article], As::Epochs),
        read_as("max_train_epochs", SD, As::Epochs),
        read_as("num_train_epochs", &[Diffusers, Trainer, LlamaFactory], As::Epochs),
        read_as("num_epochs", &[Axolotl], As::Epochs),
        read_as("max_train_steps", &[SdScripts, Diffusers], As::Steps),
        read_as("max_steps", &[Trainer, LlamaFactory, Axolotl], As::Steps),
    ]),
    Key::new(
        "run.batch_size",
        Kind::Whole(1, 1 << 20),
        Fallback::Is("1", "sd-scripts"),
        "examples that are computed at once",
    )
    .or(&[
        alias("batch_size", &[Article, SdScripts]),
        alias("train_batch_size", &[SdScripts, Diffusers]),
        alias("per_device_train_batch_size", &[Trainer, LlamaFactory]),
        alias("micro_batch_size", &[Axolotl]),
    ]),
    Key::new(
        "run.accumulation",
        Kind::Whole(1, 1 << 20),
        Fallback::Is("1", "article"),
        "batches whose gradients make one optimizer step",
    )
    .or(&[alias(
        "gradient_accumulation_steps",
        &[Article, SdScripts, Diffusers, Trainer, LlamaFactory, Axolotl],
    )]),
    Key::new(
        "run.seed",
        Kind::Whole(0, u64::MAX),
        Fallback::Is("1337", "lora-scripts"),
        "of the order, the noise, timesteps, dropout and of A",
    )
    .or(&[alias("seed", &[Article, SdScripts, Diffusers, Trainer, LlamaFactory, Axolotl])]),
    Key::new(
        "run.checkpointing",
        Kind::Flag,
        Fallback::Is("false", "all peers"),
        "whether blocks are computed again in the backward pass: less memory, more time",
    )
    .or(&[alias(
        "gradient_checkpointing",
        &[SdScripts, Diffusers, Trainer, LlamaFactory, Axolotl],
    )]),
    Key::new(
        "run.may_shrink",
        Kind::Flag,
        Fallback::Is("false", "house: what was asked for is not changed unasked"),
        "whether out of memory may lower the rank or the resolution",
    ),
    Key::new(
        "run.memory_limit",
        Kind::Bytes,
        Fallback::None("what the machine has"),
        "memory that the process may take (Linux)",
    ),
    Key::new(
        "run.prove",
        Kind::Flag,
        Fallback::Is("true", "house: a training that cannot learn stops at once"),
        "whether it is proved at the start that every part learns",
    ),
    Key::new(
        "diffusion.min_snr_gamma",
        POSITIVE,
        Fallback::None("timesteps weigh alike"),
        "Min-SNR's γ (Hang et al., 2023: 5)",
    )
    .or(&[
        read_as("min_snr_gamma", SD, As::OffAtZero),
        read_as("snr_gamma", &[Diffusers], As::OffAtZero),
    ]),
    Key::new(
        "diffusion.noise_offset",
        Kind::Number(|n| (0.0..=1.0).contains(&n), "a number from 0 to 1"),
        Fallback::Is("0", "sd-scripts, diffusers"),
        "a constant for each channel is added to the noise, times this",
    )
    .or(&[alias("noise_offset", &[SdScripts, Diffusers])]),
    Key::new(
        "diffusion.prior_weight",
        NOT_NEGATIVE,
        Fallback::Is("1", "sd-scripts, diffusers"),
        "weight of regularization pictures in the loss",
    )
    .or(&[alias("prior_loss_weight", &[SdScripts, Diffusers])]),
    Key::new(
        "diffusion.min_timestep",
        Kind::Whole(0, 999),
        Fallback::Is("0", "sd-scripts"),
        "first timestep that is drawn",
    )
    .or(&[alias("min_timestep", SD)]),
    Key::new(
        "diffusion.max_timestep",
        Kind::Whole(1, 1000),
        Fallback::Is("1000", "sd-scripts"),
        "one past the last timestep that is drawn",
    )
    .or(&[alias("max_timestep", SD)]),
];
