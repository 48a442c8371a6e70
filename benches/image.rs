//! SSIM, MS-SSIM, PSNR, hashes, resizing and KID: `cargo bench --bench image`.
//!
//! Two RGB images of 1024 × 1024, eight pairs of them, and two sets of 200 images' features of 768
//! numbers. Prints our best time of five on one thread and on all and, with
//! `LORA_EVAL_PEER_PYTHON=python` (scikit-image, torchmetrics, `ImageHash`, numpy), the reference
//! programs' best of three on the same data in the same run, as ratios, with both results.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use lora_eval::metric::image::{Features, HashKind, Histogram, Kid, Pixels, ms_ssim, psnr, ssim};
use lora_eval::picture::{Filter, resize_rgb};
use rayon::prelude::*;

const SIDE: usize = 1024;
const IMAGES: usize = 200;
const WIDTH: usize = 768;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let [first, second] = [3, 11].map(image);
    let [base, tuned] = [1, 2].map(features);
    let peer = peer([&first, &second], [&base, &tuned]);
    let [a, b] = [&first, &second].map(|rgb| Pixels::new(SIDE, SIDE, rgb).unwrap());
    let [base, tuned] = [&base, &tuned].map(|values| Features::new(WIDTH, values).unwrap());

    let report = |name: &str, run: &(dyn Fn() -> f64 + Sync)| {
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let alone = one.install(|| best(run));
        let all = best(run);
        let times = format!(
            "{name:<10} {:>8.2} ms on one thread {:>8.2} ms on all",
            alone.0 * 1e3,
            all.0 * 1e3
        );
        match peer.get(name) {
            Some((seconds, score)) => println!(
                "{times}; the peer {:>8.1} ms: {:.1} × and {:.1} ×; {} and {score}",
                seconds * 1e3,
                seconds / alone.0,
                seconds / all.0,
                all.1
            ),
            None => println!("{times}; {}", all.1),
        }
    };
    report("ssim", &|| ssim(a, b).unwrap().value);
    report("ssim-8", &|| (0..8).into_par_iter().map(|_| ssim(a, b).unwrap().value).sum::<f64>());
    report("ms-ssim", &|| ms_ssim(a, b).unwrap().value);
    report("psnr", &|| psnr(a, b).unwrap().value);
    report("histogram", &|| Histogram::of(a).distance(&Histogram::of(b)).value);
    report("phash", &|| HashKind::Perceptual.distance(a, b).unwrap().value);
    report("dhash", &|| HashKind::Difference.distance(a, b).unwrap().value);
    report("bicubic", &|| {
        let small = resize_rgb(&first, (SIDE, SIDE), (224, 224), Filter::Bicubic).unwrap();
        small.into_iter().map(f64::from).sum()
    });
    report("kid", &|| Kid::default().distance(base, tuned).unwrap().value);
}

/// The least time of five, and the result.
fn best(run: &(dyn Fn() -> f64 + Sync)) -> (f64, f64) {
    let mut least = f64::INFINITY;
    let mut result = 0.0;
    for _ in 0..5 {
        let start = Instant::now();
        result = run();
        least = least.min(start.elapsed().as_secs_f64());
    }
    (least, result)
}

/// Seconds and results by name.
fn peer(images: [&Vec<u8>; 2], features: [&Vec<f64>; 2]) -> BTreeMap<String, (f64, f64)> {
    let Some(python) = std::env::var_os("LORA_EVAL_PEER_PYTHON") else { return BTreeMap::new() };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/image_peer.py");
    let mut command = Command::new(python);
    command.arg(script).arg(SIDE.to_string()).arg(WIDTH.to_string());
    let bytes = |values: &Vec<f64>| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let files = [images[0].clone(), images[1].clone(), bytes(features[0]), bytes(features[1])];
    for (place, file) in files.iter().enumerate() {
        let path = folder.path().join(place.to_string());
        std::fs::write(&path, file).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "the peer failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| {
        let mut fields = line.split('\t');
        let name = fields.next()?.to_owned();
        Some((name, (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)))
    };
    lines.lines().filter_map(row).collect()
}

/// Waves with some noise.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "levels are 0 to 255")]
fn image(seed: u32) -> Vec<u8> {
    let mut noise = Noise(seed);
    let level = |i: usize| {
        let (x, y, channel) = (i / 3 % SIDE, i / 3 / SIDE, i % 3);
        let wave = (x as f64 / 40.0).sin() + (y as f64 / 25.0 + channel as f64).cos();
        (128.0 + 45.0 * wave + 30.0 * noise.unit()) as u8
    };
    (0..3 * SIDE * SIDE).map(level).collect()
}

fn features(seed: u32) -> Vec<f64> {
    let mut noise = Noise(seed);
    (0..IMAGES * WIDTH).map(|_| noise.unit() + 0.02 * f64::from(seed)).collect()
}

struct Noise(u32);

impl Noise {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1 << 24)
    }
}
