//! Facts of real bases: what advice counts is what their files hold.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};

use lora_eval::advise::network::Level;
use lora_eval::advise::{
    AdviseError, BaseFacts, Device, Held, MemoryPlan, Network, Phase, Question, Task, advise,
};
use lora_eval::config::{self, Precision};
use lora_eval::model::Base;

fn parity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

fn open(path: &str) -> (Base, BaseFacts) {
    let base = Base::open_to_run(&parity().join(path)).unwrap();
    let facts = BaseFacts::of(path, &base).unwrap();
    (base, facts)
}

fn plan(facts: &BaseFacts, device: Device) -> MemoryPlan {
    let pictures = matches!(facts.network, Network::Diffusion(_));
    let task = if pictures { Task::Style } else { Task::Instruct };
    let base = facts.clone();
    let question = Question { task, examples: 40, tokens: None, device, memory: None, base };
    advise(&question).unwrap().memory
}

/// Bytes of the files' tensors of floating point.
fn held(base: &Base) -> u64 {
    let bytes = |file: &lora_eval::model::BaseFile| -> u64 {
        let floats = file.file.entries().filter(|(name, ..)| !name.ends_with("position_ids"));
        floats.map(|(name, ..)| file.file.range(name).unwrap().len() as u64).sum()
    };
    base.files.iter().map(bytes).sum()
}

const WEIGHTS: [&str; 4] =
    ["base weights", "denoiser's weights", "text encoders' weights", "autoencoder's weights"];

#[test]
fn the_weights_of_a_plan_are_those_of_the_files() {
    let mut decoders: Vec<String> = ["llama", "llama-bf16", "llama-tied-bias", "llama3", "mistral"]
        .map(|name| format!("decoders/{name}/model"))
        .to_vec();
    decoders.extend(
        ["qwen2", "qwen3", "phi3", "gemma2", "gemma3", "smollm3"]
            .map(|name| format!("decoders/{name}/model")),
    );
    decoders.extend(["sd1", "sd2", "sdxl"].map(|name| format!("diffusion/{name}")));
    for path in decoders {
        let (base, facts) = open(&path);
        let plan = plan(&facts, Device::Cpu);
        let counted: u64 = WEIGHTS.iter().map(|name| plan.bytes(name)).sum();
        assert_eq!(counted, held(&base), "{path}: {facts:?}");
        let mapped = plan.items.iter().filter(|item| item.phase == Phase::Mapped);
        assert_eq!(mapped.map(|item| item.bytes).sum::<u64>(), counted, "{path}");
    }
}

#[test]
fn a_folder_and_a_single_file_have_the_same_shapes() {
    for name in ["sd1", "sdxl"] {
        let folder = open(&format!("diffusion/{name}")).1;
        let file = open(&format!("diffusion/{name}.safetensors")).1;
        let [Network::Diffusion(folder), Network::Diffusion(file)] = [folder.network, file.network]
        else {
            panic!("no pictures");
        };
        assert_eq!((&folder.vae, folder.unet.down.len()), (&file.vae, file.unet.down.len()));
        let channels = |levels: &[Level]| -> Vec<(usize, usize, usize)> {
            let layers = levels.iter().flat_map(|level| &level.layers);
            layers.map(|layer| (layer.inputs, layer.outputs, layer.blocks)).collect()
        };
        assert_eq!(channels(&folder.unet.down), channels(&file.unet.down));
        assert_eq!(channels(&folder.unet.up), channels(&file.unet.up));
    }
}

#[test]
fn quantised_blocks_stay_blocks() {
    for name in ["gguf-llama-q4_0", "gguf-qwen3-q8_0"] {
        let folder = parity().join("decoders").join(name);
        let file = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "gguf"));
        let file = file.unwrap_or_else(|| panic!("no file in {}", folder.display()));
        let base = Base::open_to_run(&file).unwrap();
        let facts = BaseFacts::of(name, &base).unwrap();
        assert_eq!(facts.held, Held::Blocks(base.size()));
        for device in [Device::Cpu, Device::Gpu] {
            let plan = plan(&facts, device);
            assert_eq!(plan.bytes("base weights"), base.size());
            assert!(plan.bytes("decoded matrix") > 0);
        }
    }
}

#[test]
fn the_type_of_weights_is_the_files() {
    let held = |path: &str| open(path).1.held;
    assert_eq!(held("decoders/llama/model"), Held::Floats(Precision::F32));
    assert_eq!(held("decoders/llama-bf16/model"), Held::Floats(Precision::Bf16));
    assert_eq!(held("decoders/llama-f16/model"), Held::Floats(Precision::F16));
}

#[test]
fn what_cannot_be_trained_is_refused_with_its_path() {
    let base = Base::open_to_run(&parity().join("bases/gpt2")).unwrap();
    let error = BaseFacts::of("gpt2", &base).unwrap_err();
    assert!(matches!(&error, AdviseError::Config { path, .. } if path.ends_with("gpt2")));
    assert!(error.to_string().contains("gpt2"), "{error}");
}

/// What a configuration of the task does not have is what the reader takes.
#[test]
fn the_configuration_reads_back_as_its_settings() {
    for task in Task::ALL {
        for (device, examples, gib) in [
            (Device::Cpu, 1, 8),
            (Device::Cpu, 450, 4),
            (Device::Gpu, 50, 24),
            (Device::Gpu, 20_000, 80),
        ] {
            let tokens = (!task.draws()).then_some(examples as u64 * 3000);
            let (memory, base) = (Some(gib << 30), BaseFacts::usual(task));
            let question = Question { task, examples, tokens, device, memory, base };
            let advice = advise(&question).unwrap();
            let path = Path::new("advice.yaml");
            let read = config::parse(path, &advice.yaml, &[], &|_| None).unwrap();
            let mut settings = advice.settings;
            if !settings.adapter.text_encoder {
                settings.optimizer.text_encoder_lr = read.settings.optimizer.text_encoder_lr;
            }
            if task.draws() {
                settings.data.text = read.settings.data.text.clone();
            } else {
                settings.data.image = read.settings.data.image.clone();
                settings.diffusion = read.settings.diffusion.clone();
            }
            assert_eq!(read.settings, settings, "{question:?}");
            assert!(read.notes.is_empty(), "{:?}", read.notes);
        }
    }
}
