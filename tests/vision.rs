//! Models that judge pictures against transformers, torchmetrics and lpips: values from
//! `tests/parity/make_vision.py`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use lora_eval::base::digest::sha256;
use lora_eval::model::vision::{Clip, Dino, Lpips, Net, Preprocess, clip_score, cosine};
use lora_eval::picture::Picture;
use lora_eval::tensors::{Limits, TensorFile};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/vision").join(name)
}

fn cases() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("cases.json")).unwrap()).unwrap()
}

/// The picture that `picture` of the script makes.
fn picture(size: &Value, seed: usize) -> Picture {
    let [width, height] = [0, 1].map(|axis| usize::try_from(size[axis].as_u64().unwrap()).unwrap());
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let slopes = x * (3 + seed) + y * 5 + c * 67 + x * y / 7;
                rgb.push(u8::try_from((slopes + (x / 5 + y / 3 + seed) % 2 * 90) % 256).unwrap());
            }
        }
    }
    Picture { width: u32::try_from(width).unwrap(), height: u32::try_from(height).unwrap(), rgb }
}

fn pictures(cases: &Value) -> Vec<Picture> {
    let sizes = cases["sizes"].as_array().unwrap();
    sizes.iter().enumerate().map(|(seed, size)| picture(size, seed)).collect()
}

fn texts(cases: &Value) -> Vec<&str> {
    cases["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

struct Expected(Arc<TensorFile>);

impl Expected {
    fn open() -> Self {
        Self(TensorFile::open(&fixture("expected.safetensors"), Limits::BASE).unwrap())
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.0.get(name).unwrap().to_f32(name).unwrap()
    }

    /// The rows of a matrix, each scaled to length 1.
    fn unit_rows(&self, name: &str) -> Vec<Vec<f32>> {
        let width = self.0.shape(name).unwrap()[1];
        let unit = |row: &[f32]| {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(|x| x / length).collect()
        };
        self.values(name).chunks(width).map(unit).collect()
    }
}

fn off(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let of_rows = a.iter().zip(b).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs())
    });
    of_rows.fold(0.0, f32::max)
}

const CLOSE: f32 = 1e-4;

/// Whether a folder's preprocessing gives the values of the script, bit for bit.
fn same_pixels(folder: &str) {
    let (cases, expected) = (cases(), Expected::open());
    let preprocess = Preprocess::open(&fixture(folder)).unwrap();
    for (index, picture) in pictures(&cases).iter().enumerate() {
        let name = format!("{folder}.pixels.{index}");
        let pixels = preprocess.apply(picture).unwrap();
        let shape = expected.0.shape(&name).unwrap();
        assert_eq!([3, pixels.height, pixels.width], *shape, "{name}");
        assert!(pixels.values == expected.values(&name), "{name}");
    }
}

#[test]
fn pictures_are_prepared_to_the_bit() {
    for folder in ["clip", "clip-older", "dino", "dino-registers"] {
        same_pixels(folder);
    }
}

#[test]
fn larger_pictures_are_prepared_to_the_bit_and_smaller_ones_padded() {
    for case in cases()["preprocess"].as_array().unwrap() {
        let folder = case["folder"].as_str().unwrap();
        let preprocess = Preprocess::open(&fixture(folder)).unwrap();
        for (seed, case) in case["digests"].as_array().unwrap().iter().enumerate() {
            let pixels = preprocess.apply(&picture(&case["size"], seed)).unwrap();
            let bytes: Vec<u8> = pixels.values.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(sha256(&bytes), case["sha256"].as_str().unwrap(), "{folder} {seed}");
        }
    }
}

#[test]
fn clip_sees_and_reads_as_transformers_does() {
    let (cases, expected) = (cases(), Expected::open());
    let pictures = pictures(&cases);
    let pictures: Vec<&Picture> = pictures.iter().collect();
    for case in cases["clip"].as_array().unwrap() {
        let folder = case["folder"].as_str().unwrap();
        let clip = Clip::open(&fixture(folder), &Device::Cpu).unwrap();
        let images = clip.image_features(&pictures).unwrap();
        let texts = clip.text_features(&texts(&cases)).unwrap();
        let of_images = off(&images, &expected.unit_rows(&format!("{folder}.images")));
        let of_texts = off(&texts, &expected.unit_rows(&format!("{folder}.texts")));
        println!("{folder}: images off by {of_images:e}, texts by {of_texts:e}");
        assert!(of_images < CLOSE && of_texts < CLOSE, "{folder}: {of_images} {of_texts}");
        for (index, score) in case["scores"].as_array().unwrap().iter().enumerate() {
            let off = clip_score(&images[index], &texts[index]) - score.as_f64().unwrap();
            assert!(off.abs() < f64::from(CLOSE), "{folder}: score {index}: {off}");
        }
        for (index, score) in case["image_scores"].as_array().unwrap().iter().enumerate() {
            let off = clip_score(&images[index], &images[index + 1]) - score.as_f64().unwrap();
            assert!(off.abs() < f64::from(CLOSE), "{folder}: pair {index}: {off}");
        }
    }
}

#[test]
fn dino_sees_as_transformers_does() {
    let (cases, expected) = (cases(), Expected::open());
    let pictures = pictures(&cases);
    let pictures: Vec<&Picture> = pictures.iter().collect();
    for folder in cases["dino"].as_array().unwrap() {
        let folder = folder.as_str().unwrap();
        let dino = Dino::open(&fixture(folder), &Device::Cpu).unwrap();
        let images = dino.image_features(&pictures).unwrap();
        let off = off(&images, &expected.unit_rows(&format!("{folder}.images")));
        println!("{folder}: off by {off:e}");
        assert!(off < CLOSE, "{folder}: {off}");
    }
}

#[test]
fn lpips_measures_as_the_lpips_package_does() {
    let cases = cases();
    let nets = [
        ("alex", "lpips-alex.safetensors", Net::Alex),
        ("vgg", "lpips-vgg.safetensors", Net::Vgg),
        ("squeeze", "lpips-squeeze", Net::Squeeze),
    ];
    for (name, path, net) in nets {
        let lpips = Lpips::open(&fixture(path), &Device::Cpu).unwrap();
        assert_eq!(lpips.net(), net);
        for case in cases["lpips"][name].as_array().unwrap() {
            let [a, b] = [0, 1].map(|seed| picture(&case["size"], seed));
            let expected = case["distance"].as_f64().unwrap();
            let found = lpips.distance(&a, &b).unwrap();
            println!("{name} {}: {found} {expected}", case["size"]);
            assert!(expected > 0.05 && (found - expected).abs() < 1e-5, "{found} {expected}");
            assert_eq!(lpips.distance(&a, &a).unwrap(), 0.0);
            assert!((lpips.distance(&b, &a).unwrap() - found).abs() < 1e-9);
        }
    }
}

#[test]
fn a_feature_does_not_depend_on_the_others_asked_for() {
    let cases = cases();
    let (pictures, texts) = (pictures(&cases), texts(&cases));
    let all: Vec<&Picture> = pictures.iter().collect();
    let clip = Clip::open(&fixture("clip"), &Device::Cpu).unwrap();
    let dino = Dino::open(&fixture("dino"), &Device::Cpu).unwrap();
    let (of_clip, of_dino) =
        (clip.image_features(&all).unwrap(), dino.image_features(&all).unwrap());
    for (index, picture) in all.iter().enumerate() {
        assert_eq!(clip.image_features(&[picture]).unwrap()[0], of_clip[index]);
        assert_eq!(dino.image_features(&[picture]).unwrap()[0], of_dino[index]);
    }
    let together = clip.text_features(&texts).unwrap();
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(clip.text_features(&[text]).unwrap()[0], together[index]);
    }
    assert!(clip.image_features(&[]).unwrap().is_empty());
    assert!((cosine(&of_clip[0], &of_clip[0]) - 1.0).abs() < 1e-6);
}

#[test]
fn a_text_that_is_cut_gets_a_note() {
    let (cases, clip) = (cases(), Clip::open(&fixture("clip"), &Device::Cpu).unwrap());
    let texts = texts(&cases);
    assert_eq!(clip.text_note(texts[0]).unwrap(), None);
    let note = clip.text_note(texts[4]).unwrap().unwrap();
    assert!(note.contains("reads the first 75"), "{note}");
}

/// A copy of a fixture folder in which `from` of a file is `to`.
fn changed(folder: &str, file: &str, (from, to): (&str, &str)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(folder)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = copy.path().join(file);
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let bytes = [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat();
    std::fs::write(&path, bytes).unwrap();
    copy
}

#[test]
fn what_is_wrong_with_a_model_is_said() {
    let weights = "model.safetensors";
    let cases = [
        (
            "clip",
            "config.json",
            ("\"clip\"", "\"siglip\""),
            "`model_type` is `\"siglip\"`, expected",
        ),
        (
            "clip",
            "config.json",
            ("\"num_attention_heads\": 3", "\"num_attention_heads\": 5"),
            "heads",
        ),
        (
            "clip",
            "config.json",
            ("\"num_attention_heads\": 3", "\"num_attention_heads\": 0"),
            "heads",
        ),
        ("clip", "config.json", ("\"image_size\": 28", "\"image_size\": 35"), "position_embedding"),
        (
            "clip",
            "config.json",
            ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
            "no tensor `text",
        ),
        ("clip", "config.json", ("quick_gelu", "quick_relu"), "hidden_act"),
        ("clip", "config.json", ("\"eos_token_id\": 663", "\"eos_token_id\": 17"), "eos_token_id"),
        ("clip", "config.json", ("{", "["), "is not valid JSON"),
        ("clip", "preprocessor_config.json", ("CLIPImageP", "ViTImageP"), "image_processor_type"),
        ("clip", "preprocessor_config.json", ("\"resample\": 3", "\"resample\": 0"), "resample"),
        (
            "clip",
            "preprocessor_config.json",
            ("\"shortest_edge\": 28", "\"shortest_edge\": -1"),
            "`size`",
        ),
        (
            "clip",
            weights,
            ("visual_projection.weight", "visual_projection.Weight"),
            "no tensor `visual",
        ),
        ("clip", weights, ("pre_layrnorm.bias", "pre_layrnorm.Bias"), "pre_layrnorm.bias"),
        ("dino", "config.json", ("dinov2\"", "dinov3\""), "`dinov2` or `dinov2_with_registers`"),
        (
            "dino",
            "config.json",
            ("\"use_swiglu_ffn\": false", "\"use_swiglu_ffn\": true"),
            "weights_in",
        ),
        ("dino", weights, ("[1,101,24]", "[1,24,101]"), "[1, 24, 101]"),
    ];
    for (folder, file, change, expected) in cases {
        let copy = changed(folder, file, change);
        let error = match folder {
            "clip" => Clip::open(copy.path(), &Device::Cpu).err(),
            _ => Dino::open(copy.path(), &Device::Cpu).err(),
        };
        let error = error.unwrap_or_else(|| panic!("{change:?} was not seen")).to_string();
        assert!(error.contains(expected) && error.contains("\nhint: "), "{change:?}: {error}");
    }
}

#[test]
fn a_picture_of_a_size_that_a_model_cannot_take_is_refused() {
    let small = picture(&serde_json::json!([30, 64]), 0);
    let lpips = Lpips::open(&fixture("lpips-alex.safetensors"), &Device::Cpu).unwrap();
    let error = lpips.distance(&small, &small).unwrap_err().to_string();
    assert!(error.contains("`30x64`") && error.contains("`31` or more"), "{error}");
    let other = picture(&serde_json::json!([64, 30]), 0);
    let error = lpips.distance(&small, &other).unwrap_err().to_string();
    assert!(error.contains("`64x30`") && error.contains("`30x64`"), "{error}");
    let smaller = ("\"crop_size\": {\n    \"height\": 28", "\"crop_size\": {\n    \"height\": 6");
    let dino = changed("dino", "preprocessor_config.json", smaller);
    let dino = Dino::open(dino.path(), &Device::Cpu).unwrap();
    let error = dino.image_features(&[&small]).unwrap_err().to_string();
    assert!(error.contains("`7x7` or more"), "{error}");
    let clip = changed("clip", "preprocessor_config.json", smaller);
    let clip = Clip::open(clip.path(), &Device::Cpu).unwrap();
    let error = clip.image_features(&[&small]).unwrap_err().to_string();
    assert!(error.contains("`28x6`") && error.contains("`28x28`"), "{error}");
}

#[test]
fn what_is_no_lpips_is_refused() {
    let error = Lpips::open(&fixture("clip"), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("net.slice1.0.weight") && error.contains("\nhint: "), "{error}");
    let error = Lpips::open(&fixture("preprocess"), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("no .safetensors file"), "{error}");
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("features.safetensors");
    std::fs::copy(fixture("lpips-squeeze/features.safetensors"), file).unwrap();
    let error = Lpips::open(copy.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("lin0.model.1.weight"), "{error}");
}
