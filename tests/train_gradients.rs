//! Gradients of whole models against finite differences, module by module, with A and B both in motion.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use lora_eval::base::random::Random;
use lora_eval::config::{self, Settings};
use lora_eval::data::image;
use lora_eval::data::text::TextExample;
use lora_eval::generate::image::ImageModel;
use lora_eval::model::Base;
use lora_eval::model::decoder::Decoder;
use lora_eval::model::diffusion::Adapters;
use lora_eval::nn::Visit;
use lora_eval::train::memory::Memory;
use lora_eval::train::{
    Gradients, ImageTask, Parameters, Pass, Picture, Task, TextTask, mean, select,
};

fn parity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

fn settings(base: &str, rest: &str) -> Settings {
    let yaml = format!(
        "base: {{model: {:?}}}\ndata: {{train: {:?}, held_out_split: 0, image: {{resolution: [96, 64], min_bucket: 64, max_bucket: 96, bucket_step: 32}}}}\n{rest}\n",
        parity().join(base).to_str().unwrap(),
        parity().join("train/pictures").to_str().unwrap(),
    );
    config::parse(Path::new("train.yaml"), &yaml, &[], &|_| None).unwrap().settings
}

fn parameters(base: &Base, settings: &Settings) -> Parameters {
    let chosen = select(base, &settings.adapter).unwrap();
    let parameters =
        Parameters::new(chosen, &settings.adapter, (base, 1, &Device::Cpu), None).unwrap();
    let random = Random::new(1, "test");
    for (number, (_, _, var)) in (0..).zip(parameters.named()) {
        let noise = random.at(number, 0, 0).normals(var.elem_count());
        let noise = Tensor::from_vec(noise, var.shape(), &Device::Cpu).unwrap();
        var.set(&((noise * 0.05).unwrap() + var.as_tensor()).unwrap()).unwrap();
    }
    parameters
}

/// The slope along each module's own gradient, by central differences.
fn check(task: &dyn Task, parameters: &Parameters, batch: &[Visit]) {
    let variables = parameters.variables();
    let mut gradients = Gradients::new(&variables);
    let memory = Memory::unlimited();
    let total: f64 = batch.iter().map(|visit| task.weight(*visit)).sum();
    let pass = |checkpointing| Pass { checkpointing, memory: &memory };
    task.backward(batch, total, pass(false), &mut gradients).unwrap();
    assert!(gradients.reached().all(|reached| reached));
    let slopes = gradients.take().unwrap();
    task.backward(batch, total, pass(true), &mut gradients).unwrap();
    let again = gradients.take().unwrap();
    let all: f64 = slopes.iter().map(norm).fold(0.0, f64::hypot);
    let each = parameters.named().zip(&slopes).zip(&again).zip(&variables);
    for ((((part, role, _), slope), again), variable) in each {
        let name = format!("{} {}", part.chosen.id.path, role.name());
        let apart = norm(&(slope - again).unwrap());
        assert!(apart <= 2e-6 * all, "{name}: computed again {apart:e} of {all:e}");
        let size = norm(slope);
        if size < 1e-3 * all {
            continue; // below what differences of f32 losses can tell
        }
        // between curvature and rounding, both of which differ from module to module
        let mut numeric = Vec::new();
        let agrees = [3e-5, 1e-4, 1e-3, 1e-5].into_iter().any(|part| {
            numeric.push(difference(task, batch, (variable, slope), part / size));
            numeric.iter().any(|numeric| (numeric - size).abs() < 0.02 * size)
        });
        assert!(agrees, "{name}: {size:e}, differences {numeric:?}");
    }
}

fn norm(tensor: &Tensor) -> f64 {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn difference(
    task: &dyn Task,
    batch: &[Visit],
    (variable, slope): (&Var, &Tensor),
    distance: f64,
) -> f64 {
    let kept = variable.as_tensor().copy().unwrap();
    let at = |distance: f64| {
        let step = (slope * (distance / norm(slope))).unwrap();
        variable.set(&(&kept + step).unwrap()).unwrap();
        mean(&task.loss(batch, 1.0).unwrap())
    };
    let slope = (at(distance) - at(-distance)) / (2.0 * distance);
    variable.set(&kept).unwrap();
    slope
}

fn visits(examples: &[u32]) -> Vec<Visit> {
    examples.iter().map(|example| Visit { example: *example, visit: 0, tokens: 0 }).collect()
}

fn check_images(base: &str, rest: &str) {
    let settings = settings(base, rest);
    let base = Base::open_to_run(Path::new(&settings.base.model)).unwrap();
    let parameters = parameters(&base, &settings);
    let adapters = Adapters::trained(parameters.trained());
    let model = ImageModel::build(&base, &adapters, None, &Device::Cpu).unwrap();
    let pictures = image::read(&settings.data).unwrap().examples.into_iter().map(|example| {
        let (width, height) = lora_eval::picture::size(&example.picture).unwrap();
        let size = (width as usize, height as usize);
        Picture { example, size, placed: image::place(size, &settings.data.image) }
    });
    let task = ImageTask::new(model, (pictures.collect(), Vec::new()), &settings, None).unwrap();
    check(&task, &parameters, &visits(&[3]));
}

#[test]
fn stable_diffusion_with_text_encoder_and_convolutions() {
    check_images("diffusion/sd1", "adapter: {rank: 2, text_encoder: true, conv_rank: 2}");
}

#[test]
fn stable_diffusion_2() {
    check_images("diffusion/sd2", "adapter: {rank: 2}");
}

#[test]
fn stable_diffusion_xl_with_dropout() {
    check_images("diffusion/sdxl", "adapter: {rank: 2, dropout: 0.2}");
}

fn text_task(base: &str, rest: &str, dtype: Option<DType>) -> (TextTask, Parameters) {
    let settings = settings(base, &format!("task: text\n{rest}"));
    let base = Base::open_to_run(Path::new(&settings.base.model)).unwrap();
    let parameters = parameters(&base, &settings);
    let decoder = Decoder::load(&base, dtype, &Device::Cpu).unwrap();
    let vocabulary = decoder.config.vocabulary;
    let example = |line: usize, length: usize| {
        let mut draws = Random::new(7, "tokens").at(u32::try_from(line).unwrap(), 0, 0);
        let tokens = (0..length).map(|_| u32::try_from(draws.below(vocabulary)).unwrap());
        TextExample {
            line,
            tokens: tokens.collect(),
            trained: (0..length).map(|i| i > 2).collect(),
        }
    };
    let examples = (vec![example(1, 9), example(2, 5), example(3, 12)], Vec::new());
    let task = TextTask::new(decoder, &parameters, examples, &settings, &base).unwrap();
    (task, parameters)
}

fn check_texts(base: &str, rest: &str) {
    let (task, parameters) = text_task(base, rest, None);
    check(&task, &parameters, &visits(&[0, 1, 2]));
}

#[test]
fn llama() {
    check_texts("decoders/llama/model", "adapter: {rank: 3}");
}

#[test]
fn qwen2_with_dropout() {
    check_texts("decoders/qwen2/model", "adapter: {rank: 3, dropout: 0.2}");
}

#[test]
fn gemma3() {
    check_texts("decoders/gemma3/model", "adapter: {rank: 3}");
}

#[test]
fn phi3_with_fused_projections() {
    check_texts("decoders/phi3/model", "adapter: {rank: 3}");
}

/// Products with quantised blocks round their inputs, so that the loss has steps and no slope; the
/// gradients are those of the same weights decoded, but for that rounding.
#[test]
fn a_quantised_base_has_the_gradients_of_its_decoded_weights() {
    let slopes = [None, Some(DType::F32)].map(|dtype| {
        let (task, parameters) =
            text_task("decoders/gguf-llama-q8_0/gguf-llama-q8_0.gguf", "adapter: {rank: 3}", dtype);
        let mut gradients = Gradients::new(&parameters.variables());
        let memory = Memory::unlimited();
        let pass = Pass { checkpointing: false, memory: &memory };
        task.backward(&visits(&[0, 1, 2]), 10.0, pass, &mut gradients).unwrap();
        gradients.take().unwrap()
    });
    for (quantised, decoded) in slopes[0].iter().zip(&slopes[1]) {
        let apart = norm(&(quantised - decoded).unwrap());
        assert!(apart < 0.2 * norm(decoded), "{apart} of {}", norm(decoded));
    }
}
