//! Single files and folders of the same weights, and an autoencoder that overflows.

use candle_core::{DType, Device};
use lora_eval::generate::image::{ImageModel, Job, RowStrengths};
use lora_eval::model::diffusion::noise::NoiseSource;
use lora_eval::model::diffusion::sampler::Choice;
use lora_eval::model::diffusion::{Diffusion, Placement};
use lora_eval::model::{Base, Slot};
use lora_eval::picture;
use lora_eval::prompt::Prompt;

use super::program::{Place, diffusion, good, parameters, psnr, text};
use super::tensors::{self, multiply, named};

fn open(path: &str) -> Base {
    Base::open_to_run(path.as_ref()).unwrap()
}

/// The values that a module sees.
fn values(base: &Base, slot: &Slot, transposed: bool) -> (Vec<usize>, Vec<f32>) {
    let tensor = base.files[slot.file].file.get(&slot.key).unwrap().rows(slot.rows.clone());
    let values = tensor.to_f32(&slot.key).unwrap();
    match *tensor.shape() {
        [rows, columns] if transposed => {
            let at = |column: usize| (0..rows).map(move |row| row * columns + column);
            (vec![columns, rows], (0..columns).flat_map(at).map(|at| values[at]).collect())
        }
        // a matrix is a 1 × 1 convolution in the original layout
        [out, inputs, 1, 1] => (vec![out, inputs], values),
        _ => (tensor.shape().to_vec(), values),
    }
}

#[test]
fn a_single_file_and_its_folder_hold_the_same_modules() {
    for (family, modules) in [("sd1", 400), ("sd2", 400), ("sdxl", 400)] {
        let (folder, file) =
            (open(&diffusion(family)), open(&diffusion(&format!("{family}.safetensors"))));
        let mut compared = 0;
        for target in folder.table.targets() {
            let other = file.table.get(&target.id).unwrap_or_else(|| panic!("{:?}", target.id));
            let found = values(&file, &other.weight, other.transposed);
            let expected = values(&folder, &target.weight, target.transposed);
            assert!(found == expected, "{family} {:?}", target.id);
            assert_eq!(other.bias.is_some(), target.bias.is_some(), "{family} {:?}", target.id);
            if let (Some(found), Some(expected)) = (&other.bias, &target.bias) {
                let same = values(&file, found, false) == values(&folder, expected, false);
                assert!(same, "{family} bias of {:?}", target.id);
            }
            compared += 1;
        }
        assert!(compared > modules, "{family}: {compared}");
        // a file of 2.x has the layer that is never used, and OpenCLIP's projection
        let more = file.table.targets().filter(|t| folder.table.get(&t.id).is_none());
        for target in more {
            let unused =
                target.id.path.contains("encoder.layers.2.") || target.id.path == "text_projection";
            assert!(family == "sd2" && unused, "{family} {:?}", target.id);
        }
    }
}

#[test]
fn the_text_projection_of_a_single_file_is_turned() {
    let file = open(&diffusion("sdxl.safetensors"));
    let projection = file.table.targets().find(|t| t.id.path == "text_projection").unwrap();
    assert!(projection.transposed);
    let plain = values(&file, &projection.weight, false);
    assert_ne!(plain, values(&file, &projection.weight, true));
}

fn model(path: &str) -> ImageModel {
    ImageModel::open(&open(path), &[], None, &Device::Cpu).unwrap().0
}

fn job<'a>(prompt: &'a Prompt, sampler: &str) -> Job<'a> {
    Job {
        prompt,
        negative: Some("grey"),
        width: 64,
        height: 64,
        steps: 2,
        guidance: 5.0,
        guidance_rescale: 0.0,
        sampler: Choice::parse(sampler, None).unwrap(),
        clip_skip: 1,
        seed: 3,
        source: NoiseSource::Cpu,
    }
}

fn none() -> RowStrengths {
    RowStrengths::default()
}

#[test]
fn a_single_file_draws_what_the_folder_of_its_weights_draws() {
    for family in ["sd1", "sdxl"] {
        let place = Place::new();
        let (file, folder) = tensors::checkpoint(family, &place);
        let file = model(&text(&file));
        let mut folder = model(&text(&folder));
        // OpenAI's tokenizer and the WebUI's noise levels are what a file stands for
        folder.tokenizers.clone_from(&file.tokenizers);
        folder.sampler = file.sampler.clone();
        let prompt = Prompt::parse("a red fox in the (snow:1.2)").unwrap();
        let draw = |model: &ImageModel| {
            let drawn = model.draw(&job(&prompt, "euler_a"), &[none()], &|_| {}).unwrap();
            drawn[0].picture.clone()
        };
        let (found, expected) = (draw(&file), draw(&folder));
        assert_eq!(found, expected, "{family}");
        let mean =
            found.rgb.iter().map(|value| f64::from(*value)).sum::<f64>() / found.rgb.len() as f64;
        let off = found.rgb.iter().map(|value| (f64::from(*value) - mean).powi(2));
        assert!(off.sum::<f64>() / found.rgb.len() as f64 > 4.0, "{family} is one colour");
    }
}

#[test]
fn a_single_file_is_drawn_with_through_the_program_and_named_by_its_hash() {
    let place = Place::new();
    let (file, _) = tensors::checkpoint("sd1", &place);
    let hash = lora_eval::base::digest::sha256_file(&file).unwrap();
    let (file, out, again) = (text(&file), place.text("a.png"), place.text("b.png"));
    let settings = ["--width", "64", "--height", "64", "--steps", "2"];
    let given = ["generate", "a fox", "--base", &file, "--out", &out, "--seed", "5"];
    good(&[given.as_slice(), &settings].concat());
    let about = parameters(out.as_ref());
    assert!(about.contains(&format!("Model hash: {}, Model: sd1-wide", &hash[..10])), "{about}");
    assert!(about.contains("Sampler: DPM++ 2M, Schedule type: Karras"), "{about}");
    good(&["generate", "--like", &out, "--base", &file, "--out", &again]);
    assert_eq!(std::fs::read(out).unwrap(), std::fs::read(again).unwrap());
}

#[test]
fn an_autoencoder_that_overflows_in_f16_is_decoded_again_in_f32() {
    let place = Place::new();
    let folder = place.pipeline("sd1", "large");
    tensors::change(&folder.join("vae/diffusion_pytorch_model.safetensors"), |all| {
        for end in ["decoder.conv_in.weight", "decoder.conv_in.bias"] {
            multiply(named(all, end), 1e6);
        }
    });
    let base = open(&text(&folder));
    let prompt = Prompt::parse("a fox").unwrap();
    let draw = |model: &ImageModel| {
        model.draw(&job(&prompt, "euler"), &[none()], &|_| {}).unwrap().remove(0)
    };
    let mut model = model(&text(&folder));
    let wide = draw(&model);
    assert!(!wide.decoded_again);
    let narrow = Placement { device: Device::Cpu, dtype: DType::F16, stored: None };
    model.diffusion = Diffusion::load(&base, &[], &narrow).unwrap().0;
    let drawn = draw(&model);
    assert!(drawn.decoded_again);
    let psnr = psnr(&drawn.picture, &wide.picture);
    assert!(psnr > 20.0, "{psnr}"); // the denoiser computed in f16
}

#[test]
fn f16_without_an_overflow_is_decoded_once() {
    let base = open(&diffusion("sd1"));
    let mut model = model(&diffusion("sd1"));
    let prompt = Prompt::parse("a fox").unwrap();
    let draw = |model: &ImageModel| {
        model.draw(&job(&prompt, "euler"), &[none()], &|_| {}).unwrap().remove(0)
    };
    let wide = draw(&model);
    let narrow = Placement { device: Device::Cpu, dtype: DType::F16, stored: None };
    model.diffusion = Diffusion::load(&base, &[], &narrow).unwrap().0;
    let drawn = draw(&model);
    assert!(!drawn.decoded_again);
    assert!(psnr(&drawn.picture, &wide.picture) > 30.0);
}

#[test]
fn another_autoencoder_takes_the_place_of_the_own_one() {
    let place = Place::new();
    let base = diffusion("sd1");
    let settings = ["--steps", "2", "--seed", "9"];
    let draw = |name: &str, more: &[&str]| {
        let out = place.text(name);
        let given = ["generate", "a fox", "--base", &base, "--out", &out];
        good(&[given.as_slice(), &settings, more].concat());
        picture::read(out.as_ref()).unwrap()
    };
    let own = draw("own.png", &[]);
    let folder = diffusion("sdxl");
    let other = draw("folder.png", &["--vae", &folder]);
    assert_ne!(own, other);
    assert_eq!(other, draw("inner.png", &["--vae", &format!("{folder}/vae")]));
    // its own, by every way
    for (name, vae) in [("a.png", base.clone()), ("b.png", format!("{base}/vae"))] {
        assert_eq!(own, draw(name, &["--vae", &vae]), "{vae}");
    }
}
