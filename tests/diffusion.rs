//! Stable Diffusion against diffusers: values from `tests/parity/make_diffusion.py`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lora_eval::adapter::{Adapter, Component};
use lora_eval::generate::conditioning::{Chunks, emphasise};
use lora_eval::generate::image::{ImageModel, Job, RowStrengths};
use lora_eval::model::Base;
use lora_eval::model::diffusion::noise::{NoiseSource, NoiseStream};
use lora_eval::model::diffusion::sampler::Choice;
use lora_eval::model::diffusion::{
    Adapters, Added, Context, Family, Parts, Placement, Skip, TextEncoder, Unet, Vae,
};
use lora_eval::nn::Strengths;
use lora_eval::prompt::{Prompt, parse_emphasis};
use lora_eval::tensors::{Limits, TensorFile};
use lora_eval::text::ClipTokenizer;
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/diffusion")
}

fn cases() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join("cases.json")).unwrap()).unwrap()
}

/// A file of expected values.
struct Expected(std::sync::Arc<TensorFile>);

impl Expected {
    fn open(name: &str) -> Self {
        Self(TensorFile::open(&fixtures().join(name), Limits::BASE).unwrap())
    }

    fn tensor(&self, name: &str) -> Tensor {
        let tensor = self.0.get(name).unwrap();
        Tensor::from_vec(tensor.to_f32(name).unwrap(), tensor.shape(), &Device::Cpu).unwrap()
    }

    fn integers(&self, name: &str) -> Vec<u32> {
        let tensor = self.0.get(name).unwrap();
        let ids = tensor.bytes().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
        ids.map(|id| u32::try_from(id).unwrap()).collect()
    }

    /// Rows of 77 tokens.
    fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        self.integers(name).chunks(77).map(<[u32]>::to_vec).collect()
    }
}

fn off(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let off = (a - b).unwrap().abs().unwrap().max_all().unwrap();
    off.to_scalar().unwrap()
}

fn base(path: &str) -> Base {
    Base::open_to_run(&fixtures().join(path)).unwrap()
}

fn cpu() -> Placement {
    Placement { device: Device::Cpu, dtype: DType::F32, stored: None }
}

const FAMILIES: [&str; 3] = ["sd1", "sd2", "sdxl"];

/// The adapter of a family, attached as number 0.
fn adapter(family: &str) -> [Adapter; 1] {
    [Adapter::open(&fixtures().join(format!("{family}-lora.safetensors"))).unwrap()]
}

#[test]
fn text_encoders_give_what_transformers_gives() {
    for family in FAMILIES {
        let base = base(family);
        let adapters = adapter(family);
        let (changes, _) = Adapters::new(&adapters, &base).unwrap();
        let expected = Expected::open(&format!("{family}-parts.safetensors"));
        for (component, name) in
            [(Component::TextEncoder, "text_encoder"), (Component::TextEncoder2, "text_encoder_2")]
        {
            if !base.table.components().contains(&component) {
                continue;
            }
            let placement = cpu();
            let parts = Parts::new(&base, component, &placement, &changes);
            let encoder = TextEncoder::load(&parts, false).unwrap();
            let ids = expected.ids(&format!("{name}.ids"));
            let end = u32::try_from(encoder.vocabulary() - 1).unwrap();
            for (prefix, strength, ids) in
                [("", 0.0, ids.clone()), ("lora.", 0.8, ids[2..].to_vec())]
            {
                for (what, layers, norm) in
                    [("last", 0, true), ("penultimate", 1, false), ("penultimate_normed", 1, true)]
                {
                    let strengths = Strengths::new(vec![vec![strength]; ids.len()]);
                    let skip = Skip { layers, norm };
                    let found = encoder.encode(&ids, end, skip, &strengths, &Device::Cpu).unwrap();
                    let hidden = expected.tensor(&format!("{prefix}{name}.{what}"));
                    let pooled = expected.tensor(&format!("{prefix}{name}.pooled"));
                    let off = (off(&found.hidden, &hidden), off(&found.pooled, &pooled));
                    assert!(
                        off.0 < 1e-4 && off.1 < 1e-4,
                        "{family} {prefix}{name} {what}: {off:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_denoiser_gives_what_diffusers_gives() {
    for family in FAMILIES {
        let base = base(family);
        let adapters = adapter(family);
        let (changes, _) = Adapters::new(&adapters, &base).unwrap();
        let placement = cpu();
        let parts = Parts::new(&base, Component::Unet, &placement, &changes);
        let unet = Unet::load(&parts).unwrap();
        let expected = Expected::open(&format!("{family}-parts.safetensors"));
        let timesteps: Vec<f64> =
            expected.integers("unet.timesteps").iter().map(|t| f64::from(*t)).collect();
        let tokens = expected.tensor("unet.context");
        let context = Context { tokens, starts: Vec::new() };
        let added = unet.pooled_width().map(|_| Added {
            pooled: expected.tensor("unet.text_embeds"),
            time_ids: expected
                .tensor("unet.time_ids")
                .to_vec2::<f32>()
                .unwrap()
                .into_iter()
                .map(|ids| ids.try_into().unwrap())
                .collect(),
        });
        for size in ["8x8", "8x12", "10x6"] {
            for (prefix, strength) in [("", 0.0), ("lora.", 0.8)] {
                let strengths = Strengths::new(vec![vec![strength]; 2]);
                let sample = expected.tensor(&format!("unet.sample.{size}"));
                let found = unet
                    .forward(&sample, &timesteps, &context, added.as_ref(), &strengths)
                    .unwrap();
                let off = off(&found, &expected.tensor(&format!("{prefix}unet.out.{size}")));
                assert!(off < 1e-4, "{family} {prefix}{size}: {off}");
            }
        }
    }
}

#[test]
fn the_autoencoder_gives_what_diffusers_gives() {
    for family in FAMILIES {
        let base = base(family);
        let (placement, none) = (cpu(), Adapters::default());
        let parts = Parts::new(&base, Component::Vae, &placement, &none);
        let vae = Vae::load(&parts, 1.0).unwrap();
        let expected = Expected::open(&format!("{family}-parts.safetensors"));
        let latents = vae.scale(&expected.tensor("vae.latents")).unwrap();
        let decoded = vae.decode(&latents, false).unwrap();
        let (mean, variance) = vae.encode(&expected.tensor("vae.image")).unwrap();
        for (found, name) in [(decoded, "decoded"), (mean, "mean"), (variance, "logvar")] {
            let off = off(&found, &expected.tensor(&format!("vae.{name}")));
            assert!(off < 1e-4, "{family} {name}: {off}");
        }
    }
}

/// Peak signal to noise of bytes, in dB.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mse = a.iter().zip(b).map(square).sum::<f64>() / a.len() as f64;
    10.0 * (255.0 * 255.0 / mse).log10()
}

fn model(family: &str) -> ImageModel {
    ImageModel::open(&base(family), &adapter(family), None, &Device::Cpu).unwrap().0
}

/// What a case of `cases.json` asks for.
fn job<'a>(case: &'a Value, prompt: &'a Prompt, model: &ImageModel) -> Job<'a> {
    let number = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
    let sampler = match case["sampler"].as_str() {
        Some(name) => Choice::parse(name, None).unwrap(),
        None => model.sampler.default_choice().unwrap(),
    };
    Job {
        prompt,
        negative: case["negative_prompt"].as_str(),
        width: number("width"),
        height: number("height"),
        steps: number("steps"),
        guidance: case["guidance"].as_f64().unwrap(),
        guidance_rescale: case["guidance_rescale"].as_f64().unwrap(),
        sampler,
        // diffusers counts from the layer that is used without a skip: SDXL's last but one
        clip_skip: match (case["clip_skip"].as_u64(), model.diffusion.family) {
            (None, _) => 1,
            (Some(n), Family::Sdxl) => usize::try_from(n).unwrap() + 2,
            (Some(n), _) => usize::try_from(n).unwrap() + 1,
        },
        seed: case["seed"].as_u64().unwrap(),
        source: NoiseSource::Cpu,
    }
}

#[test]
fn pictures_are_those_of_diffusers() {
    let cases = cases();
    let mut worst = Vec::new();
    for family in FAMILIES {
        let model = model(family);
        let expected = Expected::open(&format!("{family}-images.safetensors"));
        for case in cases["families"][family]["images"]["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            // diffusers skips layers of SD 1.x's and 2.x's prompt and not of its negative prompt
            if !case["clip_skip"].is_null() && case["clip_skip_negative"] == false {
                continue;
            }
            let prompt = Prompt::parse(case["prompt"].as_str().unwrap()).unwrap();
            let strength = if case["lora"] == true { 0.8 } else { 0.0 };
            let row = RowStrengths {
                text: vec![strength],
                unet: vec![strength],
                ..RowStrengths::default()
            };
            let drawn = model.draw(&job(case, &prompt, &model), &[row], &|_| {}).unwrap();
            let found = &drawn[0].picture.rgb;
            let image = expected.0.get(&format!("{name}.image")).unwrap();
            worst.push((psnr(found, image.bytes()), format!("{family} {name}")));
        }
    }
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(worst[0].0 >= 50.0);
}

/// What an encoder makes of a text's chunks, emphasised: (chunks · 77, width) and the pooled output of
/// the first.
fn read(
    (encoder, tokenizer): (&TextEncoder, &ClipTokenizer),
    (case, skip): (&Value, Skip),
    expected: (&[Vec<u32>], &Tensor),
) -> (Tensor, Tensor) {
    // emphasis alone, without schedules
    let fragments = parse_emphasis(case["prompt"].as_str().unwrap()).unwrap();
    let mut chunks = Chunks::new(tokenizer, &fragments).unwrap();
    chunks.pad_to(usize::try_from(case["chunks"].as_u64().unwrap()).unwrap());
    let ids: Vec<Vec<u32>> = chunks.ids.iter().map(|ids| ids.to_vec()).collect();
    assert_eq!(ids, expected.0, "{}", case["name"]);
    let weights = expected.1.to_vec2::<f32>().unwrap();
    for (found, expected) in chunks.weights.iter().zip(&weights) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{}", case["name"]);
    }
    let strengths = Strengths::none(ids.len());
    let encoded = encoder.encode(&ids, tokenizer.eos(), skip, &strengths, &Device::Cpu).unwrap();
    let mut z = encoded.hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (z, weights) in z.chunks_mut(77 * encoder.width()).zip(&chunks.weights) {
        emphasise(z, weights).unwrap();
    }
    let z = Tensor::from_vec(z, (ids.len() * 77, encoder.width()), &Device::Cpu).unwrap();
    (z, encoded.pooled.narrow(0, 0, 1).unwrap())
}

#[test]
fn emphasis_is_the_webui_s_arithmetic() {
    let all = cases();
    for family in ["sd1", "sdxl"] {
        let model = model(family);
        let expected = Expected::open(&format!("{family}-emphasis.safetensors"));
        for case in all["families"][family]["emphasis"]["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let skip = case["clip_skip"].as_u64().map_or(2, |n| usize::try_from(n).unwrap());
            let skip = model.diffusion.skip(skip);
            let weights = expected.tensor(&format!("{name}.weights"));
            let mut parts = Vec::new();
            let mut pooled = None;
            let encoders = model.diffusion.text.iter().zip(&model.tokenizers);
            for (encoder, ids) in encoders.zip(["ids", "ids_2"]) {
                let ids = expected.ids(&format!("{name}.{ids}"));
                let (z, last) = read(encoder, (case, skip), (&ids, &weights));
                parts.push(z);
                pooled = Some(last);
            }
            let off_by =
                off(&Tensor::cat(&parts, 1).unwrap(), &expected.tensor(&format!("{name}.z")));
            assert!(off_by < 1e-4, "{family} {name}: {off_by}");
            if family == "sdxl" {
                let expected = expected.tensor(&format!("{name}.pooled"));
                let expected = expected.reshape((1, ())).unwrap();
                assert!(off(&pooled.unwrap(), &expected) < 1e-4, "{family} {name}");
            }
        }
    }
}

#[test]
fn noise_is_that_of_torch_s_generator_draw_by_draw() {
    let expected = Expected::open("noise.safetensors");
    for size in ["8x8", "12x8"] {
        let draws = expected.tensor(size);
        let mut stream = NoiseStream::new(NoiseSource::Cpu, 1234);
        for draw in 0..draws.dim(0).unwrap() {
            let draw = draws.get(draw).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(stream.normal(draw.len()), draw);
        }
    }
}
