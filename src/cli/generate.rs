//! `lora-eval generate`

use std::time::Instant;

use lora_eval::base::digest::sha256;
use lora_eval::grid::{Backend as _, Plan, Request, TextBackend};
use lora_eval::prompt::Prompt;
use lora_eval::suite::{Settings, Suite};
use serde::Serialize;
use serde_json::json;

use super::global::Global;
use super::{Usage, language, output};

/// Complete a prompt with a language model and adapters
///
/// The completion goes to standard output. Adapters act at the strengths that the prompt's tags
/// (`<lora:NAME:0.8>`) or `--lora PATH:STRENGTH` give.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  lora-eval generate 'Once upon a time <lora:style:0.8>' --base Llama-3.2-1B/ --lora style=my-adapter/"
)]
pub struct Args {
    /// The prompt
    #[arg(value_name = "PROMPT")]
    prompt: String,
    /// The base: a transformers folder, a .gguf file, or hf:OWNER/NAME
    #[arg(long, value_name = "BASE")]
    base: String,
    #[command(flatten)]
    lora: language::LoraArgs,
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
    /// Seed of the sampling
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Modules that do not fit the base are an error
    #[arg(long)]
    strict: bool,
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
    let start = Instant::now();
    let parsed = Prompt::parse_text(&args.prompt)
        .map_err(|error| anyhow::anyhow!("{error}\n{}", error.caret(&args.prompt)))?;
    let named: Vec<String> = parsed.adapters.iter().map(|tag| tag.name.clone()).collect();
    let mut adapters = args.lora.named(&named)?;
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
    let model = language::open(global, &args.base, &adapters, args.strict)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let suite = Suite::single(&args.prompt, args.seed, settings(args)?);
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
        seed: args.seed,
        adapters: unit.adapters_at(&unit.cells[0], &model.axes),
        device: device_name(&model.loaded),
        load_seconds,
        seconds: start.elapsed().as_secs_f64(),
    })
}

pub fn device_name(loaded: &lora_eval::grid::Loaded) -> String {
    match loaded.decoder.device().location() {
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        _ => "cpu".to_owned(),
    }
}

/// What the flags say, checked as a suite's settings are.
fn settings(args: &Args) -> anyhow::Result<Settings> {
    let given = [
        ("max_new_tokens", args.max_new_tokens.map(|n| json!(n))),
        ("temperature", args.temperature.map(|t| json!(t))),
        ("top_k", args.top_k.map(|k| json!(k))),
        ("top_p", args.top_p.map(|p| json!(p))),
        ("min_p", args.min_p.map(|p| json!(p))),
        ("repetition_penalty", args.repetition_penalty.map(|r| json!(r))),
        ("stop", (!args.stop.is_empty()).then(|| json!(args.stop))),
        ("chat", args.chat.then(|| json!(true))),
        ("system", args.system.as_ref().map(|text| json!(text))),
        ("long_prompts", args.truncate.then(|| json!("truncate"))),
    ];
    let mut settings = Settings::default();
    for (name, value) in given {
        if let Some(value) = value {
            settings.set(name, &value).map_err(|error| Usage(error.to_string()))?;
        }
    }
    Ok(settings)
}
