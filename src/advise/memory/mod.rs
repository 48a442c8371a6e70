//! How much memory a training takes, item by item.
//!
//! Weights, gradients and moments follow from shapes alone. Activations are counted operation by
//! operation along the forward pass ([`tape`]). What is needed at one time is what is there always plus
//! the larger of two phases: encoding pictures, or a training step.

mod decoder;
mod denoiser;
#[cfg(test)]
mod measured;
mod tape;
mod targets;

use serde::Serialize;

use super::facts::{BaseFacts, Held, size};
use super::network::{Decoder, Diffusion, Network};
use super::question::Device;
use crate::config::{AdapterSettings, OptimizerKind, Precision, Settings};
use tape::{F32, Tape, product};
use targets::{Part, ranks};

/// When memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// From the start to the end.
    Always,
    /// The same, as pages of a file: the system may drop them and reads them again.
    Mapped,
    /// While pictures are encoded, before the first step.
    Encoding,
    /// In a training step.
    Step,
    /// In the main memory of a machine whose device has its own: not counted.
    Host,
}

impl Phase {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Mapped => "mapped",
            Self::Encoding => "encoding",
            Self::Step => "step",
            Self::Host => "host",
        }
    }
}

/// An item of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: u64,
    /// When it is there.
    pub phase: Phase,
    /// What it follows from.
    pub from: String,
}

/// What a training's memory is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Its items.
    pub items: Vec<Item>,
    /// Bytes needed at one time.
    pub total: u64,
    /// Bytes of the device, if known.
    pub limit: Option<u64>,
    /// Parameters that are trained.
    pub trained: u64,
}

/// Tokens of a caption that a text encoder reads at once, start and end not counted.
const WINDOW: usize = 75;
/// Tokens whose logits are there at once.
const LOSS_TOKENS: usize = 256;
/// Tensors of their size: logits, exponentials, probabilities, gradient.
const LOSS_TENSORS: u64 = 4;
/// Tensors of a picture at full size and of the encoder's first width that are there at once while it
/// is encoded; measured: 5.4.
const ENCODER_TENSORS: u64 = 6;
/// The same where norms are composed, measured: 6.9; and nine for an unfolded 3×3 convolution.
const ENCODER_COMPOSED: u64 = 16;
/// The program and its tokenizer.
const PROGRAM: u64 = 96 << 20;
/// What an NVIDIA driver takes for a process, with the program's kernels.
const CONTEXT: u64 = 600 << 20;
/// One part in so many is lost between blocks of the allocator.
const SLACK: u64 = 10;

impl MemoryPlan {
    /// The plan of a training on `examples` examples. `DoRA`'s own tensors are not counted.
    pub fn of(
        base: &BaseFacts,
        settings: &Settings,
        (device, limit): (Device, Option<u64>),
        examples: usize,
    ) -> Self {
        let load = Load { base, settings, device, examples };
        let mut items = Vec::new();
        let trained = match &base.network {
            Network::Decoder(shape) => load.language(shape, &mut items),
            Network::Diffusion(shape) => load.pictures(shape, &mut items),
        };
        load.adapter(trained, &mut items);
        let (name, bytes) = match device {
            Device::Cpu => ("program", PROGRAM),
            Device::Gpu => ("program and driver", CONTEXT),
        };
        items.push(Item { name, bytes, phase: Phase::Always, from: "a constant".to_owned() });
        let slack = (needed(&items) - sum(&items, Phase::Mapped)) / SLACK;
        let from = format!("1/{SLACK} of what is allocated");
        items.push(Item { name: "allocator's slack", bytes: slack, phase: Phase::Always, from });
        items.retain(|item| item.bytes > 0);
        Self { total: needed(&items), items, limit, trained }
    }

    /// Whether it fits; a device of unknown size holds everything.
    pub fn fits(&self) -> bool {
        self.limit.is_none_or(|limit| self.total <= limit)
    }

    /// Bytes of the items of that name.
    pub fn bytes(&self, name: &str) -> u64 {
        self.items.iter().filter(|item| item.name == name).map(|item| item.bytes).sum()
    }
}

/// Bytes needed at one time.
fn needed(items: &[Item]) -> u64 {
    let [always, mapped, encoding, step] =
        [Phase::Always, Phase::Mapped, Phase::Encoding, Phase::Step].map(|phase| sum(items, phase));
    always.saturating_add(mapped).saturating_add(encoding.max(step))
}

fn sum(items: &[Item], phase: Phase) -> u64 {
    let of = items.iter().filter(|item| item.phase == phase).map(|item| item.bytes);
    of.fold(0, u64::saturating_add)
}

/// A training whose memory is counted.
struct Load<'a> {
    base: &'a BaseFacts,
    settings: &'a Settings,
    device: Device,
    examples: usize,
}

impl Load<'_> {
    fn fused(&self) -> bool {
        self.device == Device::Cpu
    }

    /// The type of activations: f32 on the CPU and where blocks are quantised.
    fn computed(&self) -> Precision {
        match (self.device, self.base.held) {
            (Device::Cpu, _) => Precision::F32,
            (Device::Gpu, held) => self.settings.base.precision.unwrap_or(match held {
                Held::Floats(precision) => precision,
                Held::Blocks(_) => Precision::F32,
            }),
        }
    }

    /// Frozen weights of so many parameters, and where they lie.
    fn weights(&self, name: &'static str, parameters: u64, phase: Phase) -> Item {
        let stored = self.settings.base.precision;
        let floats = |precision: Precision| parameters.saturating_mul(size(precision));
        let (bytes, phase, from) = match (self.device, self.base.held, stored) {
            (Device::Cpu, Held::Floats(held), stored)
                if stored.is_none_or(|asked| asked == held) =>
            {
                (floats(held), Phase::Mapped, format!("{}, in the file", held.name()))
            }
            (_, Held::Blocks(bytes), None) => (bytes, phase, "quantised blocks".to_owned()),
            (Device::Cpu, _, stored) => {
                let precision = stored.unwrap_or(Precision::F32);
                (floats(precision), phase, format!("rounded to {}", precision.name()))
            }
            (Device::Gpu, ..) => {
                let precision = self.computed();
                (floats(precision), phase, precision.name().to_owned())
            }
        };
        Item { name, bytes, phase, from: format!("{parameters} parameters, {from}") }
    }

    fn language(&self, shape: &Decoder, items: &mut Vec<Item>) -> u64 {
        let run = &self.settings.run;
        let length = self.settings.data.text.max_length;
        let ranks = ranks(&self.settings.adapter, Part::Language);
        let mut tape = Tape::new(self.fused(), size(self.computed()), &ranks);
        decoder::pass(&mut tape, shape, run.batch_size, length);
        items.push(self.weights("base weights", tape.parameters, Phase::Always));
        self.step(&tape, &format!("batch {}, rows of {length} tokens", run.batch_size), items);
        let tokens = LOSS_TOKENS.min(run.batch_size.saturating_mul(length));
        items.push(Item {
            name: "logits and their gradient",
            bytes: product(&[tokens, shape.vocabulary]).saturating_mul(F32 * LOSS_TENSORS),
            phase: Phase::Step,
            from: format!("{LOSS_TENSORS} × {tokens} tokens × {} in f32", shape.vocabulary),
        });
        tape.trained
    }

    fn pictures(&self, shape: &Diffusion, items: &mut Vec<Item>) -> u64 {
        let Settings { run, data, adapter, .. } = self.settings;
        let (float, (width, height)) = (size(self.computed()), data.image.resolution);
        let factor = shape.vae.factor.max(1);
        let latent = (height.div_ceil(factor), width.div_ceil(factor));
        let denoised = ranks(adapter, Part::Denoiser);
        let mut tape = Tape::new(self.fused(), float, &denoised);
        let windows = data.image.max_caption_tokens.div_ceil(WINDOW).max(1);
        let places = shape.text.first().map_or(WINDOW, |text| text.places);
        let caption = windows.saturating_mul(places);
        denoiser::pass(&mut tape, &shape.unet, (run.batch_size, caption), latent);
        items.push(self.weights("denoiser's weights", tape.parameters, Phase::Always));
        self.step(&tape, &format!("batch {}, pictures of {width}×{height}", run.batch_size), items);

        let told = ranks(adapter, Part::Text);
        let mut text = Tape::new(self.fused(), float, &told);
        let rows = run.batch_size.saturating_mul(windows);
        shape.text.iter().for_each(|encoder| denoiser::text(&mut text, encoder, rows));
        let cached = data.image.cache_texts && !adapter.text_encoder;
        let phase = if cached { Phase::Encoding } else { Phase::Always };
        items.push(self.weights("text encoders' weights", text.parameters, phase));
        if adapter.text_encoder {
            let from = format!("batch {}, {windows} × {places} tokens", run.batch_size);
            let bytes = text.activations(run.checkpointing);
            let name = "text encoders' activations";
            items.push(Item { name, bytes, phase: Phase::Step, from });
        }

        self.encoding(shape, latent, items);
        tape.trained + text.trained
    }

    /// The autoencoder, and the latents of this height and width that it leaves.
    fn encoding(&self, shape: &Diffusion, latent: (usize, usize), items: &mut Vec<Item>) {
        let image = &self.settings.data.image;
        let (width, height) = image.resolution;
        let phase = if image.cache_latents { Phase::Encoding } else { Phase::Always };
        items.push(self.weights("autoencoder's weights", shape.vae.parameters, phase));
        let tensors = if self.fused() { ENCODER_TENSORS } else { ENCODER_COMPOSED };
        let channels = shape.vae.channels;
        items.push(Item {
            name: "autoencoder's activations",
            bytes: product(&[width, height, channels])
                .saturating_mul(tensors * size(self.computed())),
            phase: Phase::Encoding,
            from: format!("{tensors} tensors of {channels}×{width}×{height}"),
        });
        if image.cache_latents {
            let phase = if self.fused() { Phase::Always } else { Phase::Host };
            let one = product(&[shape.unet.latents, latent.0, latent.1]);
            items.push(Item {
                name: "latents",
                bytes: one.saturating_mul(2 * F32).saturating_mul(self.examples as u64),
                phase,
                from: format!("mean and variance of {} pictures in f32", self.examples),
            });
        }
    }

    /// What a step makes and keeps on its way.
    fn step(&self, tape: &Tape<'_>, what: &str, items: &mut Vec<Item>) {
        let checkpointing = self.settings.run.checkpointing;
        let how = if checkpointing { "results of blocks and one block" } else { "all blocks" };
        items.push(Item {
            name: "activations",
            bytes: tape.activations(checkpointing),
            phase: Phase::Step,
            from: format!("{what}, {how}"),
        });
        items.push(Item {
            name: "backward pass",
            bytes: tape.working(checkpointing),
            phase: Phase::Step,
            from: "gradients of the widest layer, and those of frozen numbers".to_owned(),
        });
        if let (Held::Blocks(_), None) = (self.base.held, self.settings.base.precision) {
            items.push(Item {
                name: "decoded matrix",
                bytes: tape.largest_matrix.saturating_mul(F32),
                phase: Phase::Step,
                from: "the largest quantised matrix in f32, for its gradient".to_owned(),
            });
        }
    }

    /// The adapter, its gradient and the optimizer's state, all f32.
    fn adapter(&self, trained: u64, items: &mut Vec<Item>) {
        let Settings { run, optimizer, .. } = self.settings;
        let one = trained.saturating_mul(F32);
        let mut add = |name, count: u64, from: String| {
            let bytes = one.saturating_mul(count);
            items.push(Item { name, bytes, phase: Phase::Always, from });
        };
        add("adapter", 1, format!("{trained} parameters in f32"));
        let gradients = if run.accumulation > 1 { 2 } else { 1 };
        let sum = if gradients > 1 { "their sum and those of one micro-batch" } else { "f32" };
        add("adapter's gradients", gradients, sum.to_owned());
        let moments = match optimizer.kind {
            OptimizerKind::AdamW => 2,
            OptimizerKind::Sgd | OptimizerKind::Lion => 1,
            OptimizerKind::Prodigy => 4,
        };
        add("optimizer's state", moments, format!("{moments} × the adapter in f32"));
    }
}

/// Parameters of an adapter of rank 1 on a language model.
pub fn parameters_of_rank_one(shape: &Decoder, adapter: &AdapterSettings) -> u64 {
    let ranks = ranks(adapter, Part::Language);
    let one = |path: &str, kernel: usize| ranks(path, kernel).map(|_| 1);
    let mut tape = Tape::new(true, F32, &one);
    decoder::pass(&mut tape, shape, 1, 1);
    tape.trained
}

#[cfg(test)]
mod tests {
    use super::super::choose::choose;
    use super::super::question::{Question, Task};
    use super::*;

    fn question(task: Task, base: BaseFacts) -> Question {
        Question { task, examples: 40, tokens: None, device: Device::Cpu, memory: None, base }
    }

    fn settings(question: &Question) -> Settings {
        choose(question).settings
    }

    fn plan(question: &Question, settings: &Settings) -> MemoryPlan {
        let place = (question.device, question.memory);
        MemoryPlan::of(&question.base, settings, place, question.examples)
    }

    fn llama_3_1_8b() -> Decoder {
        Decoder {
            hidden: 4096,
            inner: 14_336,
            vocabulary: 128_256,
            layers: 32,
            heads: 32,
            groups: 8,
            head: 128,
            bias: false,
            output_bias: false,
            inner_bias: false,
            head_norms: false,
            sandwich: false,
            fused: false,
            tied: false,
            context: 131_072,
        }
    }

    fn parameters(pass: impl FnOnce(&mut Tape<'_>)) -> u64 {
        let none = |_: &str, _: usize| None;
        let mut tape = Tape::new(true, F32, &none);
        pass(&mut tape);
        tape.parameters
    }

    fn diffusion(network: &Network) -> &Diffusion {
        let Network::Diffusion(shape) = network else { panic!("a language model") };
        shape
    }

    fn language(network: &Network) -> &Decoder {
        let Network::Decoder(shape) = network else { panic!("no language model") };
        shape
    }

    /// The numbers of parameters of the released models: `sum(p.numel() for p in model.parameters())`
    /// of diffusers 0.42.1 and transformers 5.24.
    #[test]
    fn passes_have_the_parameters_of_the_released_models() {
        let (sd1, sdxl) = (Network::sd1(), Network::sdxl());
        let unet = |network: &Network| {
            parameters(|tape| denoiser::pass(tape, &diffusion(network).unet, (1, 77), (8, 8)))
        };
        assert_eq!(unet(&sd1), 859_520_964);
        assert_eq!(unet(&sdxl), 2_567_463_684);
        let text =
            |text: &super::super::network::Text| parameters(|tape| denoiser::text(tape, text, 1));
        let sizes: Vec<u64> = diffusion(&sdxl).text.iter().map(text).collect();
        assert_eq!(sizes, [123_060_480, 694_659_840]);
        let qwen = Network::qwen2_5_1_5b();
        let of = |shape: &Decoder| parameters(|tape| decoder::pass(tape, shape, 1, 1));
        assert_eq!(of(language(&qwen)), 1_543_714_304);
        assert_eq!(of(&llama_3_1_8b()), 8_030_261_248);
    }

    /// kohya's modules of Stable Diffusion 1.x at rank 1, diffusers' attention at rank 4 (its file of
    /// 3.19 MB), all linear layers of Llama 3.1 8B at rank 1.
    #[test]
    fn adapters_have_the_parameters_that_peers_train() {
        let question = question(Task::Character, BaseFacts::sd1());
        let mut settings = settings(&question);
        settings.adapter.rank = 1;
        assert_eq!(plan(&question, &settings).trained, 589_824);
        settings.adapter.text_encoder = false;
        settings.adapter.targets = crate::config::Targets::Attention;
        settings.adapter.rank = 4;
        assert_eq!(plan(&question, &settings).trained, 797_184);
        settings.adapter.targets = crate::config::Targets::AllLinear;
        assert_eq!(parameters_of_rank_one(&llama_3_1_8b(), &settings.adapter), 2_621_440);
    }

    #[test]
    fn names_and_patterns_choose_as_the_lists_they_stand_for() {
        let question = question(Task::Style, BaseFacts::sd1());
        let mut settings = settings(&question);
        let mut trained = |targets| {
            settings.adapter.targets = targets;
            plan(&question, &settings).trained
        };
        let attention = trained(crate::config::Targets::Attention);
        let names = ["to_q", "to_k", "to_v", "to_out.0"].map(str::to_owned).to_vec();
        assert_eq!(trained(crate::config::Targets::Names(names)), attention);
        let pattern = r".*\.to_(q|k|v|out\.0)".to_owned();
        assert_eq!(trained(crate::config::Targets::Pattern(pattern)), attention);
        assert_eq!(trained(crate::config::Targets::Pattern("to_q".to_owned())), 0);
        assert_eq!(trained(crate::config::Targets::Pattern("(".to_owned())), 0);
    }

    /// As `train::select` does.
    #[test]
    fn ranks_are_those_of_the_trainer() {
        let question = question(Task::Style, BaseFacts::sd1());
        let mut settings = settings(&question).adapter;
        (settings.rank, settings.conv_rank) = (8, Some(4));
        settings.rank_pattern = vec![("to_q".to_owned(), 16)];
        let rank = |settings: &AdapterSettings, path: &str, kernel| {
            ranks(settings, Part::Denoiser)(path, kernel)
        };
        let (block, resnet) = ("down_blocks.0.attentions.0", "down_blocks.0.resnets.0");
        for (path, kernel, expected) in [
            (format!("{block}.to_q"), 1, Some(16)),
            (format!("{block}.not_to_q"), 1, Some(8)),
            (format!("{block}.to_q.inner"), 1, Some(8)),
            (format!("{resnet}.conv1"), 3, Some(4)),
            (format!("{resnet}.conv_shortcut"), 1, Some(8)),
            (format!("{resnet}.time_emb_proj"), 1, Some(8)),
            ("down_blocks.0.downsamplers.0.conv".to_owned(), 3, Some(4)),
            ("conv_in".to_owned(), 3, None),
        ] {
            assert_eq!(rank(&settings, &path, kernel), expected, "{path}");
        }
        settings.conv_rank = None;
        assert_eq!(rank(&settings, &format!("{resnet}.time_emb_proj"), 1), None);
        settings.targets = crate::config::Targets::Attention;
        assert_eq!(rank(&settings, "elsewhere.to_k", 1), None);
    }

    /// A rank of Stable Diffusion 1.x costs nine MiB with gradients and moments.
    #[test]
    fn a_rank_costs_sixteen_bytes_a_parameter() {
        let question = question(Task::Character, BaseFacts::sd1());
        let mut settings = settings(&question);
        (settings.run.accumulation, settings.adapter.rank) = (1, 1);
        let plan = plan(&question, &settings);
        let names = ["adapter", "adapter's gradients", "optimizer's state"];
        assert_eq!(names.map(|name| plan.bytes(name)), [2_359_296, 2_359_296, 4_718_592]);
    }

    #[test]
    fn memory_grows_with_batch_and_shrinks_by_checkpointing() {
        for (task, base) in
            [(Task::Style, BaseFacts::sd1()), (Task::Instruct, BaseFacts::qwen(true))]
        {
            for device in [Device::Cpu, Device::Gpu] {
                let question = Question { device, ..question(task, base.clone()) };
                let mut settings = settings(&question);
                let mut total = |batch, checkpointing| {
                    settings.run.batch_size = batch;
                    settings.run.checkpointing = checkpointing;
                    plan(&question, &settings).total
                };
                assert!(total(1, true) < total(1, false));
                assert!(total(1, false) < total(2, false));
                assert!(total(4, true) < total(2, false), "{device:?}");
            }
        }
    }

    #[test]
    fn a_phase_does_not_add_to_the_other() {
        let question = question(Task::Style, BaseFacts::sd1());
        let plan = plan(&question, &settings(&question));
        let of = |phase: Phase| -> u64 {
            plan.items.iter().filter(|item| item.phase == phase).map(|item| item.bytes).sum()
        };
        let always = of(Phase::Always) + of(Phase::Mapped);
        assert_eq!(plan.total, always + of(Phase::Step).max(of(Phase::Encoding)));
        assert!(of(Phase::Encoding) > 0 && of(Phase::Step) > of(Phase::Encoding));
    }

    #[test]
    fn weights_on_a_cpu_are_pages_of_their_file_unless_they_are_rounded() {
        let question = question(Task::Style, BaseFacts::sd1());
        let mut settings = settings(&question);
        let weights = |settings: &Settings| {
            let plan = plan(&question, settings);
            let of = |item: &&Item| item.name == "denoiser's weights";
            plan.items.iter().find(of).map(|item| (item.phase, item.bytes))
        };
        assert_eq!(weights(&settings), Some((Phase::Mapped, 4 * 859_520_964)));
        settings.base.precision = Some(Precision::Bf16);
        assert_eq!(weights(&settings), Some((Phase::Always, 2 * 859_520_964)));
    }
}
