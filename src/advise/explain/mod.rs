//! The advised settings key by key, each with its reason.

mod data;
mod run;

use serde::Serialize;

use super::choose::{BITS_A_PARAMETER, Choice};
use super::question::{Question, Task};
use crate::config::{Every, Settings};

/// A key of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Its name, with dots.
    pub key: &'static str,
    /// Its value as YAML.
    pub value: String,
    /// Why it has this value.
    pub why: String,
    /// From where that is known: `article`, `paper: …`, `peer: …`, `computed`, `given`, `house`.
    pub source: &'static str,
}

/// Gathers reasons in the order of the configuration.
#[derive(Default)]
struct Lines(Vec<Reason>);

impl Lines {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and names are written at the call")]
    fn add(
        &mut self,
        key: &'static str,
        value: impl ToString,
        why: impl Into<String>,
        source: &'static str,
    ) {
        self.0.push(Reason { key, value: value.to_string(), why: why.into(), source });
    }
}

/// All keys that a task has.
pub fn explain(question: &Question, choice: &Choice) -> Vec<Reason> {
    let mut lines = Lines::default();
    base(&mut lines, question, &choice.settings);
    adapter(&mut lines, question, &choice.settings);
    data::add(&mut lines, question, choice);
    run::optimizer(&mut lines, question, choice);
    run::add(&mut lines, question, choice);
    if question.task.draws() {
        diffusion(&mut lines, &choice.settings);
    }
    output(&mut lines, question, &choice.settings);
    lines.0
}

/// Text that a file or a user gave, as YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A small or large number in its short form.
fn number(value: f64) -> String {
    if value == 0.0 || value >= 1e-3 { format!("{value}") } else { format!("{value:e}") }
}

fn every(every: Every) -> String {
    match every {
        Every::Never => "never".to_owned(),
        Every::Steps(count) => counted(count, "step"),
        Every::Epochs(count) => counted(count, "epoch"),
    }
}

fn counted(count: usize, unit: &str) -> String {
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn base(lines: &mut Lines, question: &Question, settings: &Settings) {
    let (kind, learns) = match question.task {
        Task::Style => ("image", "how pictures look is learnt"),
        Task::Character => ("image", "a person or figure is learnt"),
        Task::Concept => ("image", "an object, a pose or a place is learnt"),
        Task::Instruct => ("text", "answers are learnt"),
        Task::Domain => ("text", "texts of a field are learnt"),
    };
    lines.add("task", kind, learns, "given");
    let base = &settings.base;
    let why = "what the adapter is trained on; it works on this base and on its relatives";
    lines.add("base.model", quoted(&base.model), why, "given");
    if let Some(precision) = base.precision {
        let why = "half the memory of f32, and gradients do not vanish as in f16";
        lines.add("base.precision", precision.name(), why, "peer: axolotl `bf16`");
    }
    if question.task.draws() {
        let why = "the text encoder's last layer; 2 for bases made from anime models";
        lines.add("base.clip_skip", base.clip_skip, why, "peer: diffusers default");
    }
}

fn adapter(lines: &mut Lines, question: &Question, settings: &Settings) {
    let adapter = &settings.adapter;
    let (why, source) = match question.task {
        Task::Style => ("styles 4–6: a start; compare with 12 on the held-out loss", "article"),
        Task::Character => ("faces 8–12, 8 best in its own run; compare with 16", "article"),
        Task::Concept => ("start with 8; compare with 16 on the held-out loss", "article"),
        _ if adapter.rank > 16 => (
            "holds what the tokens teach, at 2 bits a parameter and 1.5 bits a token",
            "paper: Thinking Machines, 2025",
        ),
        _ => {
            ("professional 16: a start; raise it while the held-out loss falls with it", "article")
        }
    };
    lines.add("adapter.rank", adapter.rank, why, source);
    let (why, source) = if adapter.rslora {
        ("the change is multiplied by alpha/√rank", "paper: Kalajdzievski, 2023")
    } else {
        ("alpha/rank = 1: the change acts as it was learnt", "peer: diffusers default")
    };
    lines.add("adapter.alpha", number(adapter.alpha), why, source);
    let why = "steps keep their size at high ranks; pointless below 64";
    lines.add("adapter.rslora", adapter.rslora, why, "paper: Kalajdzievski, 2023");
    let why = "attention alone learns less even with as many parameters";
    lines.add("adapter.targets", "all-linear", why, "paper: Thinking Machines, 2025");
    if question.task.draws() {
        let (why, source) = if adapter.text_encoder {
            ("a new word has to be learnt", "peer: sd-scripts default")
        } else if question.task == Task::Style {
            ("a style is no new word: prompts keep their meaning", "house")
        } else {
            ("with two text encoders the result is hard to foresee", "peer: sd-scripts on SDXL")
        };
        lines.add("adapter.text_encoder", adapter.text_encoder, why, source);
    }
    let why = "held-out loss and patience guard against learning by heart";
    lines.add("adapter.dropout", number(adapter.dropout), why, "peer: PEFT default");
    let why = "a quarter slower for little";
    lines.add("adapter.dora", adapter.dora, why, "peer: PEFT's benchmark");
    lines.add("adapter.init", adapter.init.name(), "A at random, B at 0", "peer: PEFT default");
}

/// Bytes in GiB.
pub fn bytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn diffusion(lines: &mut Lines, settings: &Settings) {
    let diffusion = &settings.diffusion;
    if let Some(gamma) = diffusion.min_snr_gamma {
        let why = "timesteps of little noise do not outweigh the others";
        lines.add("diffusion.min_snr_gamma", number(gamma), why, "paper: Hang et al., 2023");
    }
    let why = "0.05 to 0.1 only for very dark or bright pictures";
    let offset = number(diffusion.noise_offset);
    lines.add("diffusion.noise_offset", offset, why, "peer: sd-scripts default");
}

fn output(lines: &mut Lines, question: &Question, settings: &Settings) {
    let (validation, output) = (&settings.validation, &settings.output);
    let why = if validation.every == Every::Never {
        "nothing is held out"
    } else {
        "ten times in the training, at fixed noise and timesteps"
    };
    lines.add("validation.every", every(validation.every), why, "house");
    if let Some(patience) = validation.patience {
        let why = "so many evaluations without improvement end it; the best is kept";
        lines.add("validation.patience", patience, why, "article");
    }
    let improvement = number(validation.min_improvement);
    lines.add("validation.min_improvement", improvement, "any counts", "peer: transformers");
    if let Some(most) = validation.max_examples {
        lines.add("validation.max_examples", most, "enough to tell, quick to measure", "house");
    }
    let why = "give `prompts: FILE` and `every: 100 steps` to see it learn";
    lines.add("samples.every", every(settings.samples.every), why, "house");
    lines.add(
        "output.dir",
        quoted(&output.dir.to_string_lossy()),
        "the training's folder",
        "house",
    );
    lines.add("output.name", quoted(&output.name), "the adapter's name in `<lora:…>`", "house");
    let why = if question.task.draws() {
        "what the WebUI and ComfyUI read"
    } else {
        "what transformers and vLLM read"
    };
    lines.add("output.format", output.format.name(), why, "peer: sd-scripts, PEFT");
    let why =
        if question.task.draws() { "half the size, no visible loss" } else { "nothing is lost" };
    lines.add("output.precision", output.precision.name(), why, "peer: lora-scripts, PEFT");
    let why = "a tenth of the training is lost at most";
    lines.add("output.save_every", every(output.save_every), why, "house");
    lines.add("output.keep_last", output.keep_last, "and the best one", "house");
    lines.add("output.log_every", output.log_every, "curves that `doctor` can read", "house");
    lines.add("output.tensorboard", output.tensorboard, "curves to look at", "article");
}

/// What the user should know besides.
pub fn notes(question: &Question, choice: &Choice) -> Vec<String> {
    let mut notes = Vec::new();
    let memory = &choice.memory;
    if let Some(limit) = memory.limit.filter(|_| !memory.fits()) {
        let what = if question.task.draws() {
            "a device with more memory"
        } else {
            "a smaller base, a quantised one (.gguf), or a device with more memory"
        };
        notes.push(format!(
            "it does not fit: the smallest load takes {}, the device has {}; take {what}",
            bytes(memory.total),
            bytes(limit)
        ));
    }
    if question.examples < 5 {
        notes.push(format!(
            "{} examples are learnt by heart rather than understood: 10 to 20 varied ones are a start",
            question.examples
        ));
    }
    let capacity = memory.trained.saturating_mul(BITS_A_PARAMETER);
    if question.tokens.is_some_and(|tokens| tokens.saturating_mul(3) / 2 > capacity) {
        notes.push(
            "the texts hold more than an adapter of the largest rank: full training may be better"
                .to_owned(),
        );
    }
    if memory.limit.is_none() {
        let total = bytes(memory.total);
        notes.push(format!("needs about {total}; say how much there is for a plan that fits"));
    }
    notes
}
