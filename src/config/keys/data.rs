//! Keys of the data.

use super::super::choices::TrainOn;
use super::super::kind::{Kind, PART, PROBABILITY};
use super::Peer::{Article, Axolotl, Diffusers, LlamaFactory, SdScripts, Trainer};
use super::{Alias, As, Fallback, Key, Peer, alias, read_as};

const SD: &[Peer] = &[SdScripts];

const DATASET: Alias = Alias {
    note: Some("a path is taken; names in LLaMA-Factory's dataset_info.json are not looked up"),
    ..alias("dataset", &[LlamaFactory])
};

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "data.train",
        Kind::Path,
        Fallback::Required("write `data:` and below it `train: ` and a path"),
        "a folder of pictures with captions, or a file or folder of texts",
    )
    .or(&[
        alias("train_data_dir", &[Article, SdScripts, Diffusers]),
        alias("instance_data_dir", &[Diffusers]),
        alias("image_dir", SD),
        alias("datasets.path", &[Axolotl]),
        DATASET,
    ]),
    Key::new(
        "data.metadata",
        Kind::Path,
        Fallback::None("captions are looked for in the folder"),
        "a list of captions elsewhere than in the folder; of texts, the file of examples",
    )
    .or(&[
        alias("metadata_path", &[Article]),
        alias("in_json", SD),
        alias("metadata_file", SD),
    ]),
    Key::new(
        "data.regularization",
        Kind::Path,
        Fallback::None("no regularization"),
        "pictures of the class without the subject, whose look is to stay (prior preservation)",
    )
    .or(&[alias("reg_data_dir", SD), alias("class_data_dir", &[Diffusers])]),
    Key::new(
        "data.held_out",
        Kind::Path,
        Fallback::None("a part of the training examples"),
        "examples that are never trained on, to measure the loss with",
    )
    .or(&[alias("eval_dataset", &[LlamaFactory])]),
    Key::new(
        "data.held_out_split",
        PART,
        Fallback::Is(
            "0.1",
            "house: a held-out loss is what shows over-training; LLaMA-Factory's examples",
        ),
        "the part of the training examples that is held out where `data.held_out` is not given",
    )
    .or(&[
        alias("validation_split", SD),
        alias("val_size", &[LlamaFactory]),
        alias("val_set_size", &[Axolotl]),
    ]),
    Key::new(
        "data.repeats",
        Kind::Whole(1, 1_000_000),
        Fallback::Is("1", "sd-scripts, diffusers"),
        "how often each example is seen in an epoch, beside what folder names say",
    )
    .or(&[
        alias("dataset_repeats", SD),
        alias("num_repeats", SD),
        alias("repeats", &[Diffusers]),
    ]),
    Key::new(
        "data.image.resolution",
        Kind::Resolution,
        Fallback::Is("512", "sd-scripts, diffusers: SD 1.5's; SDXL's is 1024"),
        "width and height that pictures have the area of",
    )
    .or(&[alias("data.resolution", &[]), alias("resolution", &[SdScripts, Diffusers])]),
    Key::new(
        "data.image.buckets",
        Kind::Flag,
        Fallback::Is("true", "lora-scripts"),
        "whether pictures keep their aspect ratio, in buckets",
    )
    .or(&[alias("enable_bucket", SD)]),
    Key::new(
        "data.image.min_bucket",
        Kind::Eights(8, 8192),
        Fallback::Derived("256 (sd-scripts), at most half the shorter side of the resolution"),
        "shortest side of a bucket",
    )
    .or(&[alias("min_bucket_reso", SD)]),
    Key::new(
        "data.image.max_bucket",
        Kind::Eights(8, 8192),
        Fallback::Derived("1024 (sd-scripts), at least twice the longer side of the resolution"),
        "longest side of a bucket",
    )
    .or(&[alias("max_bucket_reso", SD)]),
    Key::new(
        "data.image.bucket_step",
        Kind::Eights(8, 1024),
        Fallback::Derived("64 (sd-scripts); 8 where the resolution is below 256"),
        "sides of buckets are multiples of it",
    )
    .or(&[alias("bucket_reso_steps", SD)]),
    Key::new(
        "data.image.no_upscale",
        Kind::Flag,
        Fallback::Is("false", "sd-scripts"),
        "whether small pictures stay small",
    )
    .or(&[alias("bucket_no_upscale", SD)]),
    Key::new(
        "data.image.caption_extension",
        Kind::Text,
        Fallback::None("`.txt`, then `.caption`"),
        "the ending of caption files",
    )
    .or(&[alias("caption_extension", SD), alias("caption_extention", SD)]),
    Key::new(
        "data.image.caption_prefix",
        Kind::Text,
        Fallback::Is("", "sd-scripts"),
        "said before every caption",
    )
    .or(&[alias("caption_prefix", SD)]),
    Key::new(
        "data.image.caption_suffix",
        Kind::Text,
        Fallback::Is("", "sd-scripts"),
        "said after every caption",
    )
    .or(&[alias("caption_suffix", SD)]),
    Key::new(
        "data.image.trigger",
        Kind::Text,
        Fallback::None("no word"),
        "the word that is to call the adapter; it replaces `[trigger]` in captions",
    )
    .or(&[alias("data.trigger", &[])]),
    Key::new(
        "data.image.shuffle_tags",
        Kind::Flag,
        Fallback::Is("false", "sd-scripts"),
        "whether tags (parts of a caption between commas) are shuffled",
    )
    .or(&[alias("shuffle_caption", SD)]),
    Key::new(
        "data.image.keep_tags",
        Kind::Whole(0, 10_000),
        Fallback::Is("0", "sd-scripts"),
        "so many tags stay in front when tags are shuffled",
    )
    .or(&[alias("keep_tokens", SD)]),
    Key::new(
        "data.image.caption_dropout",
        PROBABILITY,
        Fallback::Is("0", "sd-scripts"),
        "probability that a caption is left out",
    )
    .or(&[alias("caption_dropout_rate", SD)]),
    Key::new(
        "data.image.tag_dropout",
        PROBABILITY,
        Fallback::Is("0", "sd-scripts"),
        "probability that a tag is left out",
    )
    .or(&[alias("caption_tag_dropout_rate", SD)]),
    Key::new(
        "data.image.flip",
        Kind::Flag,
        Fallback::Is("false", "sd-scripts"),
        "whether pictures are mirrored half of the time",
    )
    .or(&[alias("flip_aug", SD), alias("random_flip", &[Diffusers])]),
    Key::new(
        "data.image.random_crop",
        Kind::Flag,
        Fallback::Is("false", "sd-scripts"),
        "whether pictures are cropped at a random place rather than in the middle",
    )
    .or(&[
        alias("random_crop", SD),
        read_as("center_crop", &[Diffusers], As::Flag("false", "true")),
    ]),
    Key::new(
        "data.image.color_jitter",
        Kind::Flag,
        Fallback::Is("false", "sd-scripts"),
        "whether brightness, contrast, saturation and hue are changed a little",
    )
    .or(&[alias("color_aug", SD)]),
    Key::new(
        "data.image.cache_latents",
        Kind::Flag,
        Fallback::Derived(
            "where pictures are the same each time: neither random crop nor colour jitter",
        ),
        "whether latents are computed once and kept",
    )
    .or(&[alias("cache_latents", SD)]),
    Key::new(
        "data.image.cache_texts",
        Kind::Flag,
        Fallback::Derived(
            "where captions are the same each time and text encoders are not trained",
        ),
        "whether the text encoders' outputs are computed once and kept",
    )
    .or(&[alias("cache_text_encoder_outputs", SD)]),
    Key::new(
        "data.image.cache_dir",
        Kind::Path,
        Fallback::None("`lora-eval` in the user's cache folder"),
        "where latents and outputs of text encoders are kept",
    ),
    Key::new(
        "data.image.max_caption_tokens",
        Kind::OneOf(&[75, 150, 225]),
        Fallback::Is("75", "sd-scripts, diffusers"),
        "tokens of a caption at most",
    )
    .or(&[alias("max_token_length", SD)]),
    Key::new(
        "data.text.max_length",
        Kind::Whole(8, 1 << 24),
        Fallback::Is("1024", "TRL"),
        "tokens of an example at most; what is longer is cut, and counted",
    )
    .or(&[
        alias("cutoff_len", &[LlamaFactory]),
        alias("sequence_len", &[Axolotl]),
        alias("max_length", &[Trainer]),
        alias("max_seq_length", &[Trainer]),
    ]),
    Key::new(
        "data.text.packing",
        Kind::Flag,
        Fallback::Is("false", "TRL"),
        "whether several examples share one row",
    )
    .or(&[alias("packing", &[Trainer, LlamaFactory]), alias("sample_packing", &[Axolotl])]),
    Key::new(
        "data.text.train_on",
        Kind::Choice(TrainOn::NAMES, &[]),
        Fallback::Is("answers", "TRL"),
        "which tokens the loss counts: those of completions and of the assistant, or all",
    )
    .or(&[
        read_as("train_on_inputs", &[Axolotl], As::Flag("all", "answers")),
        read_as("train_on_prompt", &[LlamaFactory], As::Flag("all", "answers")),
        read_as("completion_only_loss", &[Trainer], As::Flag("answers", "all")),
        read_as("assistant_only_loss", &[Trainer], As::Flag("answers", "")),
    ]),
    Key::new(
        "data.text.append_eos",
        Kind::Flag,
        Fallback::Is("true", "TRL"),
        "whether the end-of-text token is learnt after completions and plain texts",
    ),
];
