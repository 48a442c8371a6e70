//! Image metrics against scikit-image 0.26.0, torchmetrics 1.9.0, `ImageHash` 4.3.2, Pillow 13.0.0
//! and numpy, and what must hold of any image.
//!
//! Expected values: `parity/image.json` by `parity/image_vectors.py`, `parity/image_reference.json`
//! by `parity/image_reference.py`; both make their images by formulas that stand here again. Hashes
//! and resized images are equal to the last bit, scores agree to 10⁻⁹, MS-SSIM to 10⁻⁶ of
//! torchmetrics in double precision and to 10⁻⁴ of single.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use lora_eval::metric::image::{
    Features, HashKind, Histogram, ImageError, Kid, Pixels, ms_ssim, mse, psnr, ssim,
};
use lora_eval::metric::{Part, Score};
use lora_eval::picture::{Filter, resize_rgb};
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("parity/image.json")).unwrap());
static REFERENCE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("parity/image_reference.json")).unwrap());

/// An RGB image of one's own.
struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Image {
    /// An image whose level at (x, y, channel) a formula gives.
    fn new(width: usize, height: usize, level: impl Fn(usize, usize, usize) -> usize) -> Self {
        let at = |i: usize| u8::try_from(level(i / 3 % width, i / 3 / width, i % 3)).unwrap();
        Self { width, height, rgb: (0..3 * width * height).map(at).collect() }
    }

    /// The images of `image_reference.py`.
    fn made(kind: &str, width: usize, height: usize, seed: usize) -> Self {
        match kind {
            "noise" => Self::new(width, height, |x, y, c| scatter(x, y, c, seed) & 255),
            "natural" => Self::new(width, height, |x, y, c| natural(x, y, c, seed)),
            _ => Self::new(width, height, |x, y, _| pattern(x, y, seed)),
        }
    }

    fn pixels(&self) -> Pixels<'_> {
        Pixels::new(self.width, self.height, &self.rgb).unwrap()
    }
}

fn scatter(x: usize, y: usize, channel: usize, seed: usize) -> usize {
    let products = [x * 73_856_093, y * 19_349_663, channel * 83_492_791, seed * 40_503];
    let mixed = products.into_iter().fold(0, |mixed, product| mixed ^ product) & 0xffff_ffff;
    let mixed = ((mixed ^ (mixed >> 13)) * 1_274_126_177) & 0xffff_ffff;
    mixed ^ (mixed >> 16)
}

fn natural(x: usize, y: usize, channel: usize, seed: usize) -> usize {
    let layer = |(cell, share): (usize, usize)| {
        let (left, top, right, down) = (x / cell, y / cell, x % cell, y % cell);
        let corner = |dx, dy| scatter(left + dx, top + dy, channel, seed + cell) & 255;
        let above = corner(0, 0) * (cell - right) + corner(1, 0) * right;
        let below = corner(0, 1) * (cell - right) + corner(1, 1) * right;
        share * ((above * (cell - down) + below * down) / (cell * cell))
    };
    [(64, 8), (32, 4), (16, 2), (8, 1)].map(layer).iter().sum::<usize>() / 15
}

fn pattern(x: usize, y: usize, seed: usize) -> usize {
    let period = 1 + seed % 13;
    let choice = match seed % 4 {
        0 => x / period,
        1 => y / period,
        2 => x / period + y / period,
        _ => (x + y) / period,
    };
    choice % 2 * 255
}

/// The pairs of `image_reference.py`.
fn pair(width: usize, height: usize, kind: &str, seed: usize) -> [Image; 2] {
    let first = Image::made("natural", width, height, seed);
    let level = |x, y, c| usize::from(first.rgb[(y * width + x) * 3 + c]);
    let strength = 5 + seed % 40;
    let second = Image::new(width, height, |x, y, c| match kind {
        "disturbed" => {
            let by = (scatter(x, y, c, seed + 1) & 255) * (2 * strength + 1) / 256;
            (level(x, y, c) + by).saturating_sub(strength).min(255)
        }
        "brighter" => (level(x, y, c) + 25).min(255),
        "inverse" => 255 - level(x, y, c),
        _ => natural(x, y, c, seed + 1),
    });
    [first, second]
}

/// The levels of `image_vectors.py`.
fn vector(name: &str, x: usize, y: usize) -> usize {
    let ramp = (3 * x + 5 * y) % 256;
    match name {
        "A" => ramp,
        "B" => (3 * x + 5 * y + (7 * x + 11 * y) % 17 + 248) % 256,
        "C" => (ramp + 10).min(255),
        "D" => (x / 8 + y / 8) % 2 * 255,
        "Z" => 0,
        other => panic!("no image `{other}`"),
    }
}

fn gray(name: &Value, width: usize, height: usize) -> Image {
    Image::new(width, height, |x, y, _| vector(name.as_str().unwrap(), x, y))
}

fn rows<'a>(file: &'a Value, key: &str) -> &'a [Value] {
    let rows = file[key].as_array().unwrap();
    assert!(!rows.is_empty());
    rows
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn close(found: f64, expected: &Value, tolerance: f64, case: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance, "{case}: {found} and {expected}");
}

fn part(score: &Score, name: &str) -> f64 {
    let Some(Part::Number(number)) = score.parts.get(name) else { panic!("no `{name}`") };
    *number
}

#[test]
fn ssim_and_psnr_are_scikit_images() {
    for case in rows(&VECTORS, "pairs") {
        let [first, second] =
            ["a", "b"].map(|side| gray(&case[side], size(&case["w"]), size(&case["h"])));
        let (first, second) = (first.pixels(), second.pixels());
        close(ssim(first, second).unwrap().value, &case["ssim_gauss_pop"], 1e-12, case);
        close(mse(first, second).unwrap().value, &case["mse"], 1e-10, case);
        let ratio = psnr(first, second).unwrap().value;
        if case["psnr"].is_null() {
            assert_eq!(ratio, f64::INFINITY, "{case}");
        } else {
            close(ratio, &case["psnr"], 1e-10, case);
        }
    }
}

#[test]
fn channels_are_averaged_as_by_scikit_image() {
    let case = &VECTORS["rgb"];
    let stack = |names: [&str; 3]| Image::new(64, 64, |x, y, channel| vector(names[channel], x, y));
    let (first, second) = (stack(["A", "B", "C"]), stack(["B", "C", "A"]));
    close(ssim(first.pixels(), second.pixels()).unwrap().value, &case["ssim"], 1e-12, case);
    close(psnr(first.pixels(), second.pixels()).unwrap().value, &case["psnr"], 1e-10, case);
}

#[test]
fn pairs_score_as_by_the_reference_programs() {
    for case in rows(&REFERENCE, "pairs") {
        let kind = case["kind"].as_str().unwrap();
        let [first, second] =
            pair(size(&case["width"]), size(&case["height"]), kind, size(&case["seed"]));
        let (first, second) = (first.pixels(), second.pixels());
        close(ssim(first, second).unwrap().value, &case["ssim"], 1e-12, case);
        close(psnr(first, second).unwrap().value, &case["psnr"], 1e-10, case);
        let distance = Histogram::of(first).distance(&Histogram::of(second));
        close(distance.value, &case["histogram"], 1e-9, case);
        let scales = ms_ssim(first, second);
        if case["ms_ssim"].is_null() {
            assert!(scales.is_err(), "{case}");
        } else {
            let found = scales.unwrap().value;
            close(found, &case["ms_ssim"], 1e-6, case);
            close(found, &case["ms_ssim_f32"], 1e-4, case);
        }
    }
}

#[test]
fn resized_images_are_pillows() {
    let sides = |value: &Value| (size(&value[0]), size(&value[1]));
    for case in rows(&REFERENCE, "resizes") {
        let filter = match case["filter"].as_str().unwrap() {
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            _ => Filter::Lanczos,
        };
        let (from, to) = (sides(&case["from"]), sides(&case["to"]));
        let image = Image::made(case["kind"].as_str().unwrap(), from.0, from.1, 7);
        let resized = resize_rgb(&image.rgb, from, to, filter).unwrap();
        let digest = Sha256::digest(&resized).map(|byte| format!("{byte:02x}")).as_slice().concat();
        assert_eq!(Value::from(digest), case["sha256"], "{case}");
    }
}

#[test]
fn hashes_are_image_hashes() {
    let hashes = |image: &Image| {
        [HashKind::Perceptual, HashKind::Difference]
            .map(|kind| Value::from(kind.of(image.pixels()).unwrap().to_string()))
    };
    for case in rows(&REFERENCE, "hashes") {
        let (kind, seed) = (case[0].as_str().unwrap(), size(&case[3]));
        let image = Image::made(kind, size(&case[1]), size(&case[2]), seed);
        assert_eq!(hashes(&image), [&case[4], &case[5]].map(Value::clone), "{case}");
    }
    for case in rows(&VECTORS, "hashes") {
        let image = gray(&case["img"], size(&case["w"]), size(&case["h"]));
        assert_eq!(hashes(&image), [&case["phash"], &case["dhash"]].map(Value::clone), "{case}");
    }
}

fn features(rows: usize, width: usize, seed: usize) -> Vec<f64> {
    let feature = |at: usize| {
        let (i, j) = (at / width, at % width);
        ((i * 31 + j * 17 + seed * 7) % 23) as f64 / 23.0 + ((i * j + seed) % 5) as f64 / 10.0
    };
    (0..rows * width).map(feature).collect()
}

#[test]
fn kid_is_clean_fids() {
    let case = &VECTORS["dist"];
    let [first, second] = [0, 3].map(|seed| features(40, 8, seed));
    let [first, second] = [&first, &second].map(|values| Features::new(8, values).unwrap());
    let kid = |other| Kid::default().distance(first, other).unwrap().value;
    close(kid(second), &case["kid"], 1e-12, case);
    close(kid(first), &case["kid_self"], 1e-12, case);
}

#[test]
fn kids_bootstrap_draws_as_numpy() {
    for case in rows(&REFERENCE, "kid") {
        let width = size(&case["width"]);
        let first = features(size(&case["rows"]), width, 0);
        let second = features(size(&case["others"]), width, 3);
        let [first, second] = [&first, &second].map(|values| Features::new(width, values).unwrap());
        let kid = Kid { trials: size(&case["trials"]), ..Kid::default() };
        let score = kid.distance(first, second).unwrap();
        close(score.value, &case["kid"], 1e-12, case);
        close(part(&score, "low"), &case["low"], 1e-12, case);
        close(part(&score, "high"), &case["high"], 1e-12, case);
    }
}

/// `lora-eval metric NAME` with two images in files, and further arguments.
fn program(name: &str, images: [&Image; 2], further: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-eval"));
    command.args(["metric", name]);
    for (file, image) in ["first.png", "second.png"].iter().zip(images) {
        command.arg(write(&folder.path().join(file), image));
    }
    command.args(further).output().unwrap()
}

fn write<'a>(path: &'a Path, image: &Image) -> &'a Path {
    let [width, height] = [image.width, image.height].map(|side| u32::try_from(side).unwrap());
    let colour = image::ExtendedColorType::Rgb8;
    image::save_buffer(path, &image.rgb, width, height, colour).unwrap();
    path
}

fn json(name: &str, images: [&Image; 2]) -> Value {
    let output = program(name, images, &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_program_prints_the_librarys_scores() {
    let images = pair(180, 200, "disturbed", 3);
    let (first, second) = (images[0].pixels(), images[1].pixels());
    let scores: [(&str, Result<Score, ImageError>); 6] = [
        ("ssim", ssim(first, second)),
        ("ms-ssim", ms_ssim(first, second)),
        ("psnr", psnr(first, second)),
        ("phash", HashKind::Perceptual.distance(first, second)),
        ("dhash", HashKind::Difference.distance(first, second)),
        ("histogram", Ok(Histogram::of(first).distance(&Histogram::of(second)))),
    ];
    for (name, score) in scores {
        let (score, found) = (score.unwrap(), json(name, images.each_ref()));
        let expected = serde_json::to_value(&score).unwrap();
        for key in ["score", "signature", "direction", "unit"] {
            assert_eq!(found[key], expected[key], "{name}: {key}");
        }
        assert_eq!((&found["metric"], &found["identical"]), (&name.into(), &false.into()));
        let output = program(name, images.each_ref(), &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&score.metric) && text.contains(&score.signature), "{text}");
    }
}

#[test]
fn the_ratio_of_equal_images_is_null_and_identical() {
    let image = Image::made("noise", 20, 20, 1);
    let found = json("psnr", [&image, &image]);
    assert_eq!((&found["score"], &found["identical"]), (&Value::Null, &true.into()));
}

#[test]
fn the_program_names_both_sizes() {
    let images = [(20, 30), (21, 30)].map(|(width, height)| Image::made("noise", width, height, 1));
    for name in ["ssim", "psnr"] {
        let output = program(name, images.each_ref(), &[]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        for part in ["first.png", "second.png", "`20x30`", "`21x30`", "hint: "] {
            assert!(errors.contains(part), "{errors}");
        }
    }
    assert!(json("phash", images.each_ref())["score"].is_number());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_image_equals_itself_and_nothing_is_beyond_the_best(
        width in 11_usize..40, height in 11_usize..40, seed in 0_usize..1000, other in 0_usize..1000,
    ) {
        let [first, second] = [seed, other].map(|seed| Image::made("noise", width, height, seed));
        let (first, second) = (first.pixels(), second.pixels());
        prop_assert_eq!(ssim(first, first).unwrap().value, 1.0);
        prop_assert_eq!(psnr(first, first).unwrap().value, f64::INFINITY);
        let colours = [first, second].map(Histogram::of);
        prop_assert_eq!(colours[0].distance(&colours[0]).value, 0.0);
        prop_assert!((0.0..=1.0).contains(&colours[0].distance(&colours[1]).value));
        prop_assert!((-1.0..=1.0).contains(&ssim(first, second).unwrap().value));
        for kind in [HashKind::Perceptual, HashKind::Difference] {
            prop_assert_eq!(kind.distance(first, first).unwrap().value, 0.0);
        }
    }

    #[test]
    fn any_size_can_be_resized_to_any(
        from in (1_usize..80, 1_usize..80), to in (1_usize..80, 1_usize..80), level in 0_u8..=255,
    ) {
        let rgb = vec![level; 3 * from.0 * from.1];
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            let resized = resize_rgb(&rgb, from, to, filter).unwrap();
            prop_assert_eq!(&resized, &vec![level; 3 * to.0 * to.1]);
        }
    }
}
