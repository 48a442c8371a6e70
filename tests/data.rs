//! Examples of a training against the peers: buckets of sd-scripts, pixels and colours of torchvision.
//!
//! Expected values and how they were made: `tests/parity/buckets.py`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use lora_eval::config::ImageDataSettings;
use lora_eval::data::image::{Augment, Jitter, Placed, bucket_sizes, pixels, place};
use lora_eval::picture::{self, Picture};
use serde_json::{Value, json};

fn read(name: &str) -> Value {
    let path = format!("{}/tests/parity/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn parity() -> Value {
    read("buckets.json")
}

fn settings(case: &Value) -> ImageDataSettings {
    let mut settings = json!({
        "caption_extension": null, "caption_prefix": "", "caption_suffix": "", "trigger": null,
        "shuffle_tags": false, "keep_tags": 0, "caption_dropout": 0.0, "tag_dropout": 0.0,
        "flip": false, "random_crop": false, "color_jitter": false, "cache_latents": false,
        "cache_texts": false, "cache_dir": null, "max_caption_tokens": 75,
    });
    for key in ["resolution", "min_bucket", "max_bucket", "bucket_step", "buckets", "no_upscale"] {
        settings[key] = case[key].clone();
    }
    serde_json::from_value(settings).unwrap()
}

#[test]
fn buckets_and_places_are_those_of_sd_scripts() {
    let mut placed = 0;
    for case in parity()["cases"].as_array().unwrap() {
        let settings = settings(case);
        let sizes: Vec<(usize, usize)> = serde_json::from_value(case["sizes"].clone()).unwrap();
        assert_eq!(bucket_sizes(&settings), sizes, "{settings:?}");
        let rows: Vec<[usize; 6]> = serde_json::from_value(case["placed"].clone()).unwrap();
        for [width, height, bucket_width, bucket_height, resized_width, resized_height] in rows {
            let expected = Placed {
                bucket: (bucket_width, bucket_height),
                resized: (resized_width, resized_height),
            };
            let found = place((width, height), &settings);
            assert_eq!(found, expected, "{width}x{height} under {settings:?}");
            placed += 1;
        }
    }
    assert!(placed > 2500, "{placed}");
}

#[test]
fn colours_change_as_torchvision_s() {
    for case in parity()["colours"].as_array().unwrap() {
        let [brightness, contrast, saturation, hue]: [f32; 4] =
            serde_json::from_value(case["factors"].clone()).unwrap();
        let levels: Vec<[u8; 3]> = serde_json::from_value(case["pixels"].clone()).unwrap();
        let after: Vec<[f32; 3]> = serde_json::from_value(case["after"].clone()).unwrap();
        let mut pixels: Vec<[f32; 3]> =
            levels.iter().map(|pixel| pixel.map(|level| f32::from(level) / 255.0)).collect();
        Jitter { brightness, contrast, saturation, hue }.apply(&mut pixels);
        for (found, expected) in pixels.as_flattened().iter().zip(after.as_flattened()) {
            assert!((found - expected).abs() < 2e-6, "{found} for {expected}");
        }
    }
}

#[test]
fn pixels_are_those_of_pillow_and_torchvision_to_the_bit() {
    for case in parity()["pixels"].as_array().unwrap() {
        let pair = |key: &str| -> (u32, u32) { serde_json::from_value(case[key].clone()).unwrap() };
        let number = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
        let sides = |key: &str| (pair(key).0 as usize, pair(key).1 as usize);
        let (width, height) = pair("size");
        let level = |x: u32, y: u32, c: u32| {
            u8::try_from((x * 37 + y * 91 + c * 53 + x * y) % 256).unwrap()
        };
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = places.flat_map(|(x, y)| [0, 1, 2].map(|c| level(x, y, c))).collect();
        let placed = Placed { bucket: sides("bucket"), resized: sides("resized") };
        let (left, top) = (number("left"), number("top"));
        let flip = case["flip"].as_bool().unwrap();
        let augment = Augment { left, top, flip, jitter: None };
        let found = pixels(&Picture { width, height, rgb }, placed, &augment).unwrap();
        let expected: Vec<f32> = serde_json::from_value(case["values"].clone()).unwrap();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_header_gives_the_size_of_the_picture_turned_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    let mut turned = 0;
    for case in read("picture.json")["cases"].as_array().unwrap() {
        let digits = case["file"].as_str().unwrap().as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        std::fs::write(&path, digits.map(byte).collect::<Vec<u8>>()).unwrap();
        let expected: (u32, u32) = serde_json::from_value(case["size"].clone()).unwrap();
        assert_eq!(picture::size(&path).unwrap(), expected, "{}", case["name"]);
        let read = picture::read(&path).unwrap();
        assert_eq!((read.width, read.height), expected);
        turned += usize::from(expected.0 < expected.1);
    }
    assert!(turned >= 4, "{turned}");
}
