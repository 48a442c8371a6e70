//! The settings before memory and length are known.

use std::path::PathBuf;

use super::{HELD_OUT_FROM, LENGTH, SMALL};
use crate::advise::facts::Held;
use crate::advise::network::{Diffusion, Network};
use crate::advise::question::{Device, Question, Task};
use crate::config::{
    AdapterSettings, BaseSettings, DataSettings, DiffusionSettings, Every, FileFormat,
    ImageDataSettings, Init, Length, LrScaling, OptimizerKind, OptimizerSettings, OutputSettings,
    Precision, RunSettings, SampleSettings, ScheduleKind, ScheduleSettings, Settings, Targets,
    TextDataSettings, TrainOn, ValidationSettings, Warmup,
};

/// Batch, length and what follows from them are still to be set.
pub fn settings(question: &Question) -> Settings {
    let draws = question.task.draws();
    Settings {
        base: base(question),
        adapter: adapter(question),
        data: data(question),
        optimizer: optimizer(question),
        schedule: ScheduleSettings {
            kind: ScheduleKind::Cosine,
            warmup: Warmup::Steps(0),
            cycles: 1,
            power: 1.0,
        },
        run: RunSettings {
            length: Length::Steps(1),
            batch_size: 1,
            accumulation: 1,
            seed: 1337,
            checkpointing: false,
            may_shrink: false,
            memory_limit: None,
            prove: true,
        },
        diffusion: DiffusionSettings {
            min_snr_gamma: draws.then_some(5.0),
            noise_offset: 0.0,
            prior_weight: 1.0,
            min_timestep: 0,
            max_timestep: 1000,
        },
        validation: ValidationSettings {
            every: Every::Never,
            patience: (held_out(question) > 0.0).then_some(3),
            min_improvement: 0.0,
            max_examples: Some(200),
        },
        samples: SampleSettings { prompts: None, every: Every::Never, at_first: false },
        output: output(question),
    }
}

fn base(question: &Question) -> BaseSettings {
    // no loss is scaled, so gradients in f16 would vanish; bf16 has the exponents of f32
    let precision = match (question.device, question.base.held) {
        (Device::Gpu, Held::Floats(Precision::F32 | Precision::F16)) => Some(Precision::Bf16),
        _ => None,
    };
    BaseSettings {
        model: question.base.name.clone(),
        vae: None,
        precision,
        v_prediction: None,
        clip_skip: 1,
    }
}

fn adapter(question: &Question) -> AdapterSettings {
    let rank = match question.task {
        Task::Style => 6,
        Task::Character | Task::Concept => 8,
        Task::Instruct | Task::Domain => 16,
    };
    AdapterSettings {
        rank,
        alpha: rank as f64,
        targets: Targets::AllLinear,
        conv_rank: None,
        conv_alpha: rank as f64,
        denoiser: true,
        text_encoder: trains_text(question),
        dropout: 0.0,
        rslora: false,
        dora: false,
        init: Init::Kaiming,
        rank_pattern: Vec::new(),
        alpha_pattern: Vec::new(),
    }
}

fn data(question: &Question) -> DataSettings {
    let train = if question.task.draws() { "pictures" } else { "train.jsonl" };
    DataSettings {
        train: PathBuf::from(train),
        metadata: None,
        regularization: None,
        held_out: None,
        held_out_split: held_out(question),
        repeats: 1,
        image: ImageDataSettings {
            resolution: (512, 512),
            buckets: true,
            min_bucket: 256,
            max_bucket: 1024,
            bucket_step: 64,
            no_upscale: false,
            caption_extension: None,
            caption_prefix: String::new(),
            caption_suffix: String::new(),
            trigger: None,
            shuffle_tags: false,
            keep_tags: 0,
            caption_dropout: if question.task.draws() { 0.05 } else { 0.0 },
            tag_dropout: 0.0,
            flip: false,
            random_crop: false,
            color_jitter: false,
            cache_latents: true,
            cache_texts: !trains_text(question),
            cache_dir: None,
            max_caption_tokens: 75,
        },
        text: TextDataSettings {
            max_length: LENGTH,
            packing: question.task == Task::Domain,
            train_on: if question.task == Task::Domain { TrainOn::All } else { TrainOn::Answers },
            append_eos: true,
        },
    }
}

fn optimizer(question: &Question) -> OptimizerSettings {
    let two_encoders = matches!(&question.base.network, Network::Diffusion(Diffusion { text, .. }) if text.len() > 1);
    let learning_rate = if question.examples < SMALL || two_encoders { 1e-4 } else { 2e-4 };
    OptimizerSettings {
        kind: OptimizerKind::AdamW,
        learning_rate,
        text_encoder_lr: 0.0,
        weight_decay: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        loraplus_ratio: 1.0,
        lr_scaling: LrScaling::None,
        max_grad_norm: 1.0,
    }
}

fn output(question: &Question) -> OutputSettings {
    let draws = question.task.draws();
    OutputSettings {
        dir: PathBuf::from("output").join(question.task.name()),
        name: question.task.name().to_owned(),
        format: if draws { FileFormat::Kohya } else { FileFormat::Peft },
        precision: if draws { Precision::F16 } else { Precision::F32 },
        save_every: Every::Never,
        keep_last: 2,
        log_every: 1,
        tensorboard: true,
    }
}

/// The part of the examples that is held out.
pub fn held_out(question: &Question) -> f64 {
    match question.examples {
        ..HELD_OUT_FROM => 0.0,
        2000.. => 0.05,
        _ => 0.1,
    }
}

/// Whether text encoders are trained: where a new word is learnt, and not SDXL's two.
fn trains_text(question: &Question) -> bool {
    let one = matches!(&question.base.network, Network::Diffusion(shape) if shape.text.len() == 1);
    one && matches!(question.task, Task::Character | Task::Concept)
}
