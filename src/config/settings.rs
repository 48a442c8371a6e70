//! What a training does, every value decided.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::choices::{
    FileFormat, Init, LrScaling, OptimizerKind, Precision, ScheduleKind, TrainOn,
};

/// All settings of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The base model.
    pub base: BaseSettings,
    /// The adapter that is trained.
    pub adapter: AdapterSettings,
    /// Examples.
    pub data: DataSettings,
    /// The optimizer.
    pub optimizer: OptimizerSettings,
    /// The learning rate over time.
    pub schedule: ScheduleSettings,
    /// How long, in which batches.
    pub run: RunSettings,
    /// What diffusion's loss is.
    pub diffusion: DiffusionSettings,
    /// The loss on held-out examples.
    pub validation: ValidationSettings,
    /// Generations while training.
    pub samples: SampleSettings,
    /// What is written, and where.
    pub output: OutputSettings,
}

/// Which base, and how it is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseSettings {
    /// As `--base` takes it: a folder, a file, `hf:OWNER/NAME`.
    pub model: String,
    /// Another autoencoder.
    pub vae: Option<PathBuf>,
    /// The type that frozen weights are rounded to; `None`: f32 on a CPU, the base's own on a GPU.
    pub precision: Option<Precision>,
    /// Whether the denoiser predicts velocities; `None`: as the base says.
    pub v_prediction: Option<bool>,
    /// Which layer of the text encoder is read, 1 the last.
    pub clip_skip: usize,
}

/// Which modules get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Targets {
    /// Every linear layer of the blocks: `all-linear`; for the denoiser kohya's set (linear layers and
    /// 1×1 convolutions of the transformers: attention, feed-forward, projections in and out).
    AllLinear,
    /// Attention's q, k, v and output only: diffusers' set.
    Attention,
    /// Last parts of module names (`q_proj`, `to_k`), as PEFT's list.
    Names(Vec<String>),
    /// A regular expression that the whole module path matches, as PEFT's string.
    Pattern(String),
}

impl Targets {
    /// Last parts of the names of attention's projections, in all families.
    pub const ATTENTION_LAYERS: [&'static str; 11] = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "out_proj",
        "qkv_proj",
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "query_key_value",
    ];
    /// Parts of the denoiser that convolutions belong to, as sd-scripts adapts them.
    pub const CONVOLUTION_PARTS: [&'static str; 3] =
        [".resnets.", ".downsamplers.", ".upsamplers."];
}

/// The adapter.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in every peer")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterSettings {
    /// Rank of the change.
    pub rank: usize,
    /// Alpha; the change is multiplied by alpha/rank (rsLoRA: alpha/√rank).
    pub alpha: f64,
    /// Which modules of the denoiser or of the language model.
    pub targets: Targets,
    /// Rank for 3×3 convolutions (`LoCon`); `None`: they stay.
    pub conv_rank: Option<usize>,
    /// Their alpha.
    pub conv_alpha: f64,
    /// Whether the denoiser is trained.
    pub denoiser: bool,
    /// Whether text encoders are trained.
    pub text_encoder: bool,
    /// Probability that an input of A is dropped (PEFT's `lora_dropout`).
    pub dropout: f64,
    /// alpha/√rank in place of alpha/rank (Kalajdzievski, 2023).
    pub rslora: bool,
    /// Weight-decomposed (Liu et al., 2024).
    pub dora: bool,
    /// How A begins.
    pub init: Init,
    /// Other ranks, by a regular expression on module paths; the first match counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// Other alphas, likewise.
    pub alpha_pattern: Vec<(String, f64)>,
}

/// Examples and what is done to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSettings {
    /// A folder of pictures, or a file or folder of texts.
    pub train: PathBuf,
    /// A list of captions elsewhere than in the folder (`metadata_path`, `in_json`).
    pub metadata: Option<PathBuf>,
    /// Regularization pictures (prior preservation).
    pub regularization: Option<PathBuf>,
    /// Held-out examples; `None`: a part of the training examples.
    pub held_out: Option<PathBuf>,
    /// The part of the training examples that is held out where there is no such folder, 0…1.
    pub held_out_split: f64,
    /// How often each example is seen in an epoch, beside what folder names say.
    pub repeats: usize,
    /// Pictures.
    pub image: ImageDataSettings,
    /// Texts.
    pub text: TextDataSettings,
}

/// Pictures and captions.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in every peer")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageDataSettings {
    /// Width and height that pictures have the area of.
    pub resolution: (usize, usize),
    /// Whether pictures keep their aspect ratio, in buckets.
    pub buckets: bool,
    /// Shortest side of a bucket.
    pub min_bucket: usize,
    /// Longest side of a bucket.
    pub max_bucket: usize,
    /// Sides are multiples of it.
    pub bucket_step: usize,
    /// Whether small pictures stay small.
    pub no_upscale: bool,
    /// The ending of caption files; `None`: `.txt`, then `.caption`.
    pub caption_extension: Option<String>,
    /// Said before every caption.
    pub caption_prefix: String,
    /// Said after every caption.
    pub caption_suffix: String,
    /// The word that is to call the adapter; replaces `[trigger]` in captions.
    pub trigger: Option<String>,
    /// Whether tags (parts between commas) are shuffled.
    pub shuffle_tags: bool,
    /// So many tags stay in front.
    pub keep_tags: usize,
    /// Probability that a caption is left out.
    pub caption_dropout: f64,
    /// Probability that a tag is left out.
    pub tag_dropout: f64,
    /// Mirrored half of the time.
    pub flip: bool,
    /// Cropped at a random place rather than in the middle.
    pub random_crop: bool,
    /// Brightness, contrast, saturation and hue changed a little.
    pub color_jitter: bool,
    /// Whether latents are kept.
    pub cache_latents: bool,
    /// Whether the text encoders' outputs are kept.
    pub cache_texts: bool,
    /// Where; `None`: `lora-eval` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// Tokens of a caption at most: 75, 150 or 225.
    pub max_caption_tokens: usize,
}

/// Texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextDataSettings {
    /// Tokens of an example at most; what is longer is cut, and counted.
    pub max_length: usize,
    /// Whether several examples share one row of at most `max_length` tokens.
    pub packing: bool,
    /// Which tokens the loss counts.
    pub train_on: TrainOn,
    /// Whether the end-of-text token is learnt after completions and plain texts.
    pub append_eos: bool,
}

/// The optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptimizerSettings {
    /// Which one.
    pub kind: OptimizerKind,
    /// The learning rate of the denoiser or of the language model.
    pub learning_rate: f64,
    /// That of text encoders.
    pub text_encoder_lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// First moment's decay; SGD's momentum.
    pub beta1: f64,
    /// Second moment's decay.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// B's rate over A's (LoRA+: Hayou et al., 2024).
    pub loraplus_ratio: f64,
    /// How the rate follows the effective batch.
    pub lr_scaling: LrScaling,
    /// The norm that gradients are clipped to; 0: not clipped.
    pub max_grad_norm: f64,
}

/// The learning rate over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSettings {
    /// Its course after warm-up.
    pub kind: ScheduleKind,
    /// Warm-up.
    pub warmup: Warmup,
    /// Cycles of `cosine_with_restarts`.
    pub cycles: usize,
    /// Power of `polynomial`.
    pub power: f64,
}

/// How long the rate rises from 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Warmup {
    /// So many optimizer steps.
    Steps(usize),
    /// A part of all steps, 0…1.
    Fraction(f64),
}

/// How long a training lasts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Length {
    /// So often over all examples.
    Epochs(usize),
    /// So many optimizer steps.
    Steps(usize),
}

/// Length and batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// How long.
    pub length: Length,
    /// Examples in a micro-batch.
    pub batch_size: usize,
    /// Micro-batches in an optimizer step.
    pub accumulation: usize,
    /// Of order, noise, timesteps, dropout and of A.
    pub seed: u64,
    /// Whether blocks are computed again in the backward pass rather than kept.
    pub checkpointing: bool,
    /// Whether out of memory may lower rank or resolution.
    pub may_shrink: bool,
    /// Bytes that the process may take (Linux); `None`: what the machine has.
    pub memory_limit: Option<u64>,
    /// Whether learning is proved at the start.
    pub prove: bool,
}

/// The loss of a denoiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffusionSettings {
    /// Min-SNR's γ (Hang et al., 2023).
    pub min_snr_gamma: Option<f64>,
    /// A constant a channel added to the noise, times this.
    pub noise_offset: f64,
    /// Weight of regularization pictures.
    pub prior_weight: f64,
    /// First timestep that is drawn.
    pub min_timestep: usize,
    /// One past the last.
    pub max_timestep: usize,
}

/// How often something is done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Every {
    /// Never.
    Never,
    /// Every so many optimizer steps.
    Steps(usize),
    /// Every so many epochs.
    Epochs(usize),
}

/// The held-out loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationSettings {
    /// How often.
    pub every: Every,
    /// So many times without improvement end the training; `None`: never.
    pub patience: Option<usize>,
    /// An improvement is at least this part of the best loss.
    pub min_improvement: f64,
    /// Examples at most; `None`: all.
    pub max_examples: Option<usize>,
}

/// Generations while training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleSettings {
    /// A suite, or a file of prompts in sd-scripts' grammar.
    pub prompts: Option<PathBuf>,
    /// How often.
    pub every: Every,
    /// Whether before the first step too.
    pub at_first: bool,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSettings {
    /// The training's folder.
    pub dir: PathBuf,
    /// The adapter's name, a file stem.
    pub name: String,
    /// The adapter's format.
    pub format: FileFormat,
    /// The adapter's type.
    pub precision: Precision,
    /// How often a checkpoint is made.
    pub save_every: Every,
    /// Checkpoints kept, the best not counted.
    pub keep_last: usize,
    /// Every so many steps a line in the log.
    pub log_every: usize,
    /// Whether `TensorBoard`'s files are written.
    pub tensorboard: bool,
}
