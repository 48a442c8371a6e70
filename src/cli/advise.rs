//! `lora-eval advise`

use lora_eval::advise::{BaseFacts, Device, Question, Task, advise};
use lora_eval::hub;
use lora_eval::model::Base;

use super::global::Global;
use super::output;

/// Write a starting configuration, with the reason and the source of each value
///
/// The configuration is standard output, ready to be saved and, once `data.train` names your examples,
/// trained with. It ends with the memory that it plans with and with the popular advice that it
/// deliberately does not follow.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval advise --task style --images 40 --vram 8 > style.yaml\n  \
    lora-eval advise --task instruct --examples 5000 --base Qwen2.5-1.5B-Instruct/ > instruct.yaml")]
pub struct Args {
    /// What is to be learnt: `style`, `character`, `concept` from pictures, `instruct`, `domain` from texts
    #[arg(long, value_name = "TASK", default_value = "style", value_parser = task)]
    pub task: Task,
    /// How many pictures or texts there are to learn from
    #[arg(long, visible_alias = "examples", value_name = "N", default_value_t = 50)]
    pub images: usize,
    /// Tokens of all texts together, where they are known
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
    /// Memory of the GPU in GB; without it the CPU and its free memory are planned with
    #[arg(long, value_name = "GB")]
    pub vram: Option<f64>,
    /// The base that is trained on, a path or `hf:OWNER/NAME`; without it a usual one for the task
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
}

fn task(name: &str) -> Result<Task, String> {
    let known = || Task::ALL.map(Task::name).join(", ");
    Task::from_name(name).ok_or_else(|| format!("expected one of {}", known()))
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let base = match &args.base {
        Some(name) => BaseFacts::of(name, &Base::open_to_run(&hub::resolve(name)?)?),
        None => Ok(BaseFacts::usual(args.task)),
    }?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of bytes; the cast saturates"
    )]
    let (device, memory) = match args.vram {
        Some(gigabytes) => (Device::Gpu, Some((gigabytes * 1e9) as u64)),
        None => (Device::Cpu, lora_eval::train::memory::Memory::new(None).limit()),
    };
    let (task, examples, tokens) = (args.task, args.images, args.tokens);
    let advice = advise(&Question { task, examples, tokens, device, memory, base })?;
    if global.json {
        return output::json(&advice);
    }
    for note in &advice.notes {
        output::note(note);
    }
    if !advice.memory.fits() {
        output::warn("this does not fit; the plan at the end says what takes how much");
    }
    output::print(&advice.yaml)
}
