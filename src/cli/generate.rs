//! `lora-eval generate`

use std::path::PathBuf;
use std::time::Instant;

use lora_eval::base::digest::sha256;
use lora_eval::grid::{Backend as _, Plan, Request, TextBackend};
use lora_eval::hub;
use lora_eval::model::Base;
use lora_eval::prompt::Prompt;
use lora_eval::suite::{Settings, Suite};
use serde::Serialize;
use serde_json::json;

use super::global::Global;
use super::{Usage, images, language, output};

/// Draw a picture or complete a text, with adapters
///
/// A base of Stable Diffusion draws into `--out FILE.png`; a language model's completion goes to
/// standard output. Adapters act at the strengths that the prompt's tags (`<lora:NAME:0.8>`) or
/// `--lora PATH:STRENGTH` give.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval generate 'a fox, ink drawing <lora:ink:0.8>' --base v1-5-pruned.safetensors --lora ink.safetensors --out fox.png --seed 42\n  \
    lora-eval generate --like fox.png --seed 43 --base v1-5-pruned.safetensors --lora ink.safetensors --out fox-2.png\n  \
    lora-eval generate 'Once upon a time <lora:style:0.8>' --base Llama-3.2-1B/ --lora style=my-adapter/")]
pub struct Args {
    /// The prompt
    #[arg(value_name = "PROMPT", required_unless_present = "like")]
    pub prompt: Option<String>,
    /// The base: a diffusers or transformers folder, a .safetensors file of Stable Diffusion, a .gguf
    /// file, or hf:OWNER/NAME
    #[arg(long, value_name = "BASE")]
    base: String,
    #[command(flatten)]
    pub lora: language::LoraArgs,
    /// Seed of the noise or of the sampling [default: 1]
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Modules that do not fit the base are an error
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub image: ImageArgs,
    #[command(flatten)]
    pub text: TextArgs,
}

/// Settings of pictures.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Pictures")]
pub struct ImageArgs {
    /// The PNG file to write; it carries its settings as the WebUI's PNG Info reads them
    #[arg(long, value_name = "FILE.png")]
    pub out: Option<PathBuf>,
    /// Take prompt and settings from a picture of the WebUI or of this program; flags win over it
    #[arg(long, value_name = "IMAGE")]
    pub like: Option<PathBuf>,
    /// Sampling steps [default: 20]
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// How strongly the prompt is followed; up to 1 the negative prompt is not used [default: 7]
    #[arg(long, value_name = "G", visible_alias = "cfg")]
    pub guidance: Option<f64>,
    /// How far guidance is kept from raising the contrast, 0 to 1 [default: 0]
    #[arg(long, value_name = "R")]
    pub guidance_rescale: Option<f64>,
    /// Sampler, by the WebUI's or diffusers' name: `euler_a`, `dpmpp_2m_karras`, `ddim`, … [default: the
    /// folder's own, or DPM++ 2M]
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Noise schedule: karras, exponential, … [default: the sampler's own]
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    /// Pixels [default: what the base was trained on]
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<u64>,
    /// Pixels [default: what the base was trained on]
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<u64>,
    /// What the picture should not be
    #[arg(long, value_name = "TEXT")]
    pub negative: Option<String>,
    /// Layer of the text encoder counted from the last [default: 1; 2 for SDXL]
    #[arg(long, value_name = "N")]
    pub clip_skip: Option<u64>,
    /// Whose random numbers: cpu as diffusers, gpu or nv as the WebUI [default: cpu]
    #[arg(long, value_name = "SOURCE")]
    pub rng: Option<String>,
    /// Another autoencoder: a .safetensors file or a folder
    #[arg(long, value_name = "VAE")]
    pub vae: Option<PathBuf>,
}

/// Settings of texts.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Texts")]
pub struct TextArgs {
    /// Most new tokens [default: 128]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<u64>,
    /// Divide logits by this; 0 takes the most probable token [default: 0]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Only the K most probable tokens; 0 for all
    #[arg(long, value_name = "K")]
    top_k: Option<u64>,
    /// Only the fewest most probable tokens with this probability together
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Only tokens with at least this share of the best one's probability
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Penalty on tokens that occurred; 1 for none
    #[arg(long, value_name = "R")]
    repetition_penalty: Option<f64>,
    /// Text that ends the completion; repeatable
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Send the prompt through the base's chat template
    #[arg(long)]
    chat: bool,
    /// A system message in front; implies `--chat`
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Cut the beginning off a prompt that is too long, instead of refusing it
    #[arg(long)]
    truncate: bool,
}

#[derive(Serialize)]
struct Result {
    output: String,
    tokens: Vec<u32>,
    prompt_tokens: usize,
    finish: Option<String>,
    truncated: usize,
    seed: u64,
    adapters: Vec<lora_eval::run::AdapterAt>,
    device: String,
    load_seconds: f64,
    seconds: f64,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let mut base = Base::open_to_run(&hub::resolve(&args.base)?)?;
    if base.draws() {
        if let Some(vae) = &args.image.vae {
            base = base.with_autoencoder(vae)?;
        }
        return images::generate(global, args, base);
    }
    for (flag, given) in [
        ("--out", args.image.out.is_some()),
        ("--like", args.image.like.is_some()),
        ("--vae", args.image.vae.is_some()),
    ] {
        if given {
            return Err(Usage(format!(
                "{flag} is for pictures, and {} is a language model\nhint: give a Stable Diffusion base, or leave it out; texts go to standard output",
                args.base
            ))
            .into());
        }
    }
    complete(global, args, base)
}

/// The adapters that a prompt names, and those given; one that has no strength has none.
pub fn adapters(
    lora: &language::LoraArgs,
    prompt: &Prompt,
) -> anyhow::Result<Vec<language::Named>> {
    let named: Vec<String> = prompt.adapters.iter().map(|tag| tag.name.clone()).collect();
    let mut adapters = lora.named(&named)?;
    for adapter in &mut adapters {
        if adapter.fixed.is_none() && !named.contains(&adapter.name) {
            output::warn(&format!(
                "adapter `{}` has no effect here; write <lora:{}:0.8> into the prompt, or `--lora PATH:0.8`",
                output::name(&adapter.name),
                output::name(&adapter.name)
            ));
        }
        adapter.fixed = adapter.fixed.or(Some(0.0));
    }
    Ok(adapters)
}

fn complete(global: &Global, args: &Args, base: Base) -> anyhow::Result<()> {
    let start = Instant::now();
    let prompt = args.prompt.as_deref().unwrap_or_default();
    let seed = args.seed.unwrap_or(1);
    let parsed = Prompt::parse_text(prompt)
        .map_err(|error| anyhow::anyhow!("{error}\n{}", error.caret(prompt)))?;
    let adapters = adapters(&args.lora, &parsed)?;
    let model = language::open(global, base, &adapters, args.strict)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let suite = Suite::single(prompt, seed, settings(args)?);
    let plan = Plan::new(&Request {
        suite: &suite,
        base: &sha256(args.base.as_bytes()),
        adapters: &model.axes,
        kind: "text",
        dtype: "",
        device: "",
        max_batch: None,
    })?;
    let mut backend = TextBackend::new(&model.loaded, &suite, &model.axes, None).unscored();
    for note in backend.check(&plan)? {
        output::warn(&note);
    }
    let unit = &plan.units[0];
    let mut made = backend.make(unit)?;
    let made = made.swap_remove(0);
    if !global.json {
        return output::text(&made.output);
    }
    output::json(&Result {
        output: made.output,
        tokens: made.token_ids,
        prompt_tokens: made.prompt_tokens.unwrap_or(0),
        finish: made.finish,
        truncated: made.truncated,
        seed,
        adapters: unit.adapters_at(&unit.cells[0], &model.axes),
        device: device_name(&model.loaded),
        load_seconds,
        seconds: start.elapsed().as_secs_f64(),
    })
}

pub fn device_name(loaded: &lora_eval::grid::Loaded) -> String {
    location(loaded.decoder.device())
}

/// `cpu`, `cuda:0`.
pub fn location(device: &candle_core::Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        _ => "cpu".to_owned(),
    }
}

/// What the flags say, checked as a suite's settings are.
pub fn settings(args: &Args) -> anyhow::Result<Settings> {
    let (text, image) = (&args.text, &args.image);
    let given = [
        ("steps", image.steps.map(|n| json!(n))),
        ("guidance", image.guidance.map(|g| json!(g))),
        ("guidance_rescale", image.guidance_rescale.map(|r| json!(r))),
        ("sampler", image.sampler.as_ref().map(|name| json!(name))),
        ("scheduler", image.scheduler.as_ref().map(|name| json!(name))),
        ("width", image.width.map(|n| json!(n))),
        ("height", image.height.map(|n| json!(n))),
        ("negative", image.negative.as_ref().map(|text| json!(text))),
        ("clip_skip", image.clip_skip.map(|n| json!(n))),
        ("rng", image.rng.as_ref().map(|source| json!(source))),
        ("max_new_tokens", text.max_new_tokens.map(|n| json!(n))),
        ("temperature", text.temperature.map(|t| json!(t))),
        ("top_k", text.top_k.map(|k| json!(k))),
        ("top_p", text.top_p.map(|p| json!(p))),
        ("min_p", text.min_p.map(|p| json!(p))),
        ("repetition_penalty", text.repetition_penalty.map(|r| json!(r))),
        ("stop", (!text.stop.is_empty()).then(|| json!(text.stop))),
        ("chat", text.chat.then(|| json!(true))),
        ("system", text.system.as_ref().map(|text| json!(text))),
        ("long_prompts", text.truncate.then(|| json!("truncate"))),
    ];
    let mut settings = Settings::default();
    for (name, value) in given {
        if let Some(value) = value {
            settings.set(name, &value).map_err(|error| Usage(error.to_string()))?;
        }
    }
    Ok(settings)
}
