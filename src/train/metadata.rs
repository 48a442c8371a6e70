//! What sd-scripts writes into an adapter's header, and readers show.
//!
//! Nothing that depends on the hour: the same training gives the same bytes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::state::State;
use crate::config::{Settings, Warmup};

/// `ss_*` and `modelspec.*` of a training that stands there; `examples` and `tags` are those of its data.
pub fn metadata(
    settings: &Settings,
    state: &State,
    (examples, tags): (usize, &Value),
) -> BTreeMap<String, String> {
    let Settings { base, adapter, data, optimizer, schedule, run, diffusion, output, .. } =
        settings;
    let truth = |value: bool| if value { "True" } else { "False" }.to_owned();
    let or_none = |value: Option<f64>| value.map_or("None".to_owned(), |value| value.to_string());
    let warmup = match schedule.warmup {
        Warmup::Steps(steps) => steps.to_string(),
        Warmup::Fraction(part) => part.to_string(),
    };
    let (width, height) = data.image.resolution;
    let args = serde_json::json!({
        "conv_dim": adapter.conv_rank, "conv_alpha": adapter.conv_rank.map(|_| adapter.conv_alpha),
        "dropout": adapter.dropout, "loraplus_lr_ratio": optimizer.loraplus_ratio,
    });
    let name = std::path::Path::new(&base.model).file_name().unwrap_or_default().to_string_lossy();
    let pairs = [
        ("ss_network_args", args.to_string()),
        ("ss_network_dropout", adapter.dropout.to_string()),
        ("ss_learning_rate", optimizer.learning_rate.to_string()),
        ("ss_unet_lr", or_none(adapter.denoiser.then_some(optimizer.learning_rate))),
        ("ss_text_encoder_lr", or_none(adapter.text_encoder.then_some(optimizer.text_encoder_lr))),
        ("ss_optimizer", optimizer.kind.name().to_owned()),
        ("ss_lr_scheduler", schedule.kind.name().to_owned()),
        ("ss_lr_warmup_steps", warmup),
        ("ss_num_train_images", examples.to_string()),
        ("ss_batch_size_per_device", run.batch_size.to_string()),
        ("ss_total_batch_size", (run.batch_size * run.accumulation).to_string()),
        ("ss_gradient_accumulation_steps", run.accumulation.to_string()),
        ("ss_gradient_checkpointing", truth(run.checkpointing)),
        ("ss_steps", state.step.to_string()),
        ("ss_seed", run.seed.to_string()),
        ("ss_resolution", format!("({width}, {height})")),
        ("ss_enable_bucket", truth(data.image.buckets)),
        ("ss_clip_skip", base.clip_skip.to_string()),
        ("ss_max_token_length", data.image.max_caption_tokens.to_string()),
        ("ss_min_snr_gamma", or_none(diffusion.min_snr_gamma)),
        ("ss_noise_offset", diffusion.noise_offset.to_string()),
        ("ss_prior_loss_weight", diffusion.prior_weight.to_string()),
        ("ss_max_grad_norm", optimizer.max_grad_norm.to_string()),
        ("ss_caption_dropout_rate", data.image.caption_dropout.to_string()),
        ("ss_caption_tag_dropout_rate", data.image.tag_dropout.to_string()),
        ("ss_shuffle_caption", truth(data.image.shuffle_tags)),
        ("ss_keep_tokens", data.image.keep_tags.to_string()),
        ("ss_flip_aug", truth(data.image.flip)),
        ("ss_random_crop", truth(data.image.random_crop)),
        ("ss_color_aug", truth(data.image.color_jitter)),
        ("ss_cache_latents", truth(data.image.cache_latents)),
        ("ss_output_name", output.name.clone()),
        ("ss_sd_model_name", name.into_owned()),
        ("ss_tag_frequency", tags.to_string()),
        ("modelspec.sai_model_spec", "1.0.0".to_owned()),
        ("modelspec.title", output.name.clone()),
        (
            "modelspec.implementation",
            "https://github.com/Stability-AI/generative-models".to_owned(),
        ),
        ("modelspec.resolution", format!("{width}x{height}")),
        ("lora_eval_version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut all: BTreeMap<String, String> =
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    if let Some((loss, step)) = state.best {
        all.insert("lora_eval_best_held_out".to_owned(), format!("{loss} at step {step}"));
    }
    all
}
