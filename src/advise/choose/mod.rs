//! The settings that are advised: every number is a function of the question.

mod start;

use super::memory::{MemoryPlan, parameters_of_rank_one};
use super::network::Network;
use super::question::{Device, Question, Task};
use crate::config::{AdapterSettings, Every, Length, Settings, Warmup};
use start::held_out;

/// From so many examples on, some are held out.
pub const HELD_OUT_FROM: usize = 20;
/// Fewer examples than this are a small set.
pub const SMALL: usize = 100;
/// Fewer optimizer steps than this are a short run.
pub const SHORT: usize = 100;
/// Bits that a trained parameter holds (Thinking Machines, 2025).
pub const BITS_A_PARAMETER: u64 = 2;
/// From this rank on the scale is alpha/√rank.
pub const STABILIZED_FROM: usize = 64;
/// Alpha there (Kalajdzievski, 2023): the change is multiplied by 2 at rank 64, by 1 at 256.
const STABILIZED_ALPHA: f64 = 16.0;
/// The largest rank that is advised: TRL's for post-training on large sets.
const LARGEST_RANK: usize = 256;
/// Tokens of a row where nothing is known: TRL's `max_length`.
pub const LENGTH: usize = 1024;
/// The longest rows where lengths are known.
const LONGEST: usize = 2048;
/// The shortest rows that short memory leads to.
const SHORTEST: usize = 256;

/// What is advised.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The settings.
    pub settings: Settings,
    /// Their memory.
    pub memory: MemoryPlan,
    /// Micro-batch × accumulation.
    pub effective: usize,
    /// Optimizer steps.
    pub steps: usize,
    /// Examples that are trained on.
    pub trained: usize,
    /// What the next larger load would take, if it does not fit.
    pub refused: Option<u64>,
    /// Whether resolution or length was lowered for memory.
    pub shrunk: bool,
}

/// Chooses settings: the largest load that fits, or the smallest if none does.
pub fn choose(question: &Question) -> Choice {
    let mut start = start::settings(question);
    raise_rank(question, &mut start.adapter);
    let largest = Rung::largest(question);
    let place = |rung: Rung| {
        let mut settings = start.clone();
        rung.apply(question, &mut settings);
        let place = (question.device, question.memory);
        let memory = MemoryPlan::of(&question.base, &settings, place, question.examples);
        (settings, memory)
    };
    let (mut rung, mut refused) = (largest, None);
    let (mut settings, mut memory) = place(rung);
    while !memory.fits() {
        let Some(smaller) = rung.smaller(question) else { break };
        refused = Some(memory.total);
        rung = smaller;
        (settings, memory) = place(rung);
    }
    let effective = effective_batch(question);
    let steps = lengthen(question, &mut settings);
    Choice {
        settings,
        memory,
        effective,
        steps,
        trained: trained(question),
        refused,
        shrunk: rung.size < largest.size,
    }
}

/// How much is on the device at once.
#[derive(Debug, Clone, Copy)]
struct Rung {
    micro: usize,
    checkpointing: bool,
    /// Side of a picture or tokens of a row.
    size: usize,
}

impl Rung {
    fn largest(question: &Question) -> Self {
        let size = match &question.base.network {
            Network::Diffusion(shape) => shape.side,
            Network::Decoder(shape) => length(question).min(shape.context),
        };
        Self { micro: micro_batch(question), checkpointing: false, size }
    }

    /// The next in the order of what they cost: smaller micro-batches hardly cost anything, as
    /// accumulation keeps the effective batch; checkpointing costs a third of the speed, smaller
    /// pictures and shorter rows quality, so they come last and at micro-batch 1.
    fn smaller(self, question: &Question) -> Option<Self> {
        if self.micro > 1 {
            return Some(Self { micro: self.micro / 2, ..self });
        }
        if !self.checkpointing {
            return Some(Self { checkpointing: true, micro: micro_batch(question), ..self });
        }
        let (smaller, least) = match &question.base.network {
            Network::Diffusion(shape) => (self.size / 4 * 3 / 64 * 64, shape.side / 2),
            Network::Decoder(_) => (self.size / 2, SHORTEST),
        };
        (smaller >= least.max(1)).then_some(Self { size: smaller, ..self })
    }

    fn apply(self, question: &Question, settings: &mut Settings) {
        settings.run.batch_size = self.micro;
        settings.run.accumulation = effective_batch(question) / self.micro.max(1);
        settings.run.checkpointing = self.checkpointing;
        let (image, text) = (&mut settings.data.image, &mut settings.data.text);
        if question.task.draws() {
            image.resolution = (self.size, self.size);
            image.min_bucket = (self.size / 2).next_multiple_of(8);
            image.max_bucket = self.size * 2;
            // Stable Diffusion's own steps; below them pictures are too small for buckets of 64
            image.bucket_step = if self.size < 256 { 8 } else { 64 };
        } else {
            text.max_length = self.size;
        }
    }
}

/// Examples that are trained on.
fn trained(question: &Question) -> usize {
    let all = question.examples;
    // rounded down, as the trainer does
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the count")]
    let kept = (all as f64 * held_out(question)) as usize;
    all.saturating_sub(kept).max(1)
}

/// Examples of an optimizer step.
fn effective_batch(question: &Question) -> usize {
    match (question.task.draws(), question.examples) {
        (true, ..200) => 4,
        (true, _) | (false, ..1000) => 8,
        (false, _) => 16,
    }
}

/// The largest micro-batch that is tried. On a CPU pictures go through the denoiser one by one
/// anyway, as its caches hold no more; where the memory is unknown the smallest is safe.
fn micro_batch(question: &Question) -> usize {
    if question.memory.is_none() || (question.task.draws() && question.device == Device::Cpu) {
        return 1;
    }
    1 << effective_batch(question).min(trained(question)).max(1).ilog2()
}

/// Tokens of a row: twice the mean, as lengths spread.
fn length(question: &Question) -> usize {
    let Some(tokens) = question.tokens else { return LENGTH };
    let mean = tokens / (question.examples as u64).max(1);
    let twice = usize::try_from(mean.saturating_mul(2)).unwrap_or(LONGEST).min(LONGEST);
    twice.max(SHORTEST).next_power_of_two()
}

/// Doubles the rank until the adapter can hold what the texts teach.
fn raise_rank(question: &Question, adapter: &mut AdapterSettings) {
    let Some(tokens) = question.tokens.filter(|_| !question.task.draws()) else { return };
    let Network::Decoder(shape) = &question.base.network else { return };
    let per_rank = parameters_of_rank_one(shape, adapter);
    // a loss of about one nat is one and a half bits a token
    let taught = tokens.saturating_mul(3) / 2;
    let holds = |rank: usize| per_rank.saturating_mul(rank as u64 * BITS_A_PARAMETER);
    while adapter.rank < LARGEST_RANK && holds(adapter.rank) < taught {
        adapter.rank *= 2;
    }
    (adapter.alpha, adapter.conv_alpha) = (adapter.rank as f64, adapter.rank as f64);
    if adapter.rank >= STABILIZED_FROM {
        adapter.rslora = true;
        adapter.alpha = STABILIZED_ALPHA;
    }
}

/// Sets how long the training lasts and what follows from that; gives the optimizer steps.
fn lengthen(question: &Question, settings: &mut Settings) -> usize {
    let (trained, effective) = (trained(question), effective_batch(question));
    let steps = if let Some(views) = views(question.task) {
        let steps = views.max(trained.saturating_mul(5)).div_ceil(effective);
        settings.run.length = Length::Steps(steps);
        steps
    } else {
        // packed rows are full, so there are as many as tokens fill
        let filled = question.tokens.filter(|_| settings.data.text.packing).map(|tokens| {
            let rows = tokens.div_ceil(settings.data.text.max_length.max(1) as u64);
            usize::try_from(rows).unwrap_or(usize::MAX)
        });
        let (rows, epochs) = (filled.map_or(trained, |rows| rows.min(trained)), epochs(question));
        settings.run.length = Length::Epochs(epochs);
        rows.div_ceil(effective).saturating_mul(epochs)
    };
    let tenth = (steps / 10).max(1);
    settings.validation.every =
        if held_out(question) > 0.0 { Every::Steps(tenth) } else { Every::Never };
    settings.output.save_every = Every::Steps(tenth);
    settings.schedule.warmup = Warmup::Steps((steps / 20).clamp(10, 200).min((steps / 4).max(1)));
    if steps < SHORT {
        settings.optimizer.learning_rate = decimal(settings.optimizer.learning_rate * 1.5);
    }
    settings.optimizer.text_encoder_lr = decimal(settings.optimizer.learning_rate / 10.0);
    steps
}

/// The number that its short decimal form says, as the configuration will be read.
fn decimal(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

/// How often pictures are looked at in all.
fn views(task: Task) -> Option<usize> {
    match task {
        Task::Style => Some(2400),
        Task::Character => Some(1800),
        Task::Concept => Some(1500),
        Task::Instruct | Task::Domain => None,
    }
}

/// How often texts are read.
fn epochs(question: &Question) -> usize {
    match (question.task, question.tokens) {
        (Task::Domain, Some(1_000_000..)) => 1,
        (Task::Domain, _) => 2,
        _ => 3,
    }
}
