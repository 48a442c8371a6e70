//! Truncated SVD against full SVD: `cargo bench --bench extract`.
//!
//! The differences that `lora-eval extract` decomposes, at sizes of Stable Diffusion and of a small
//! language model: a low-rank update under the noise of f16 rounding (what training leaves), and
//! pure noise (the hardest spectrum there is). Prints the time of our truncated SVD and, with
//! `LORA_EVAL_PEER_PYTHON=python` (torch), torch's full SVD of the same matrices in the same run,
//! with both errors against the best approximation of that rank.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use lora_eval::linalg::{multiply, truncated_svd};
use rayon::prelude::*;

const RANK: usize = 32;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut list = String::new();
    for (m, n) in [(320, 320), (768, 3072), (1280, 1280), (2048, 2048)] {
        for kind in ["low rank + noise", "noise"] {
            let matrix = difference(m, n, kind == "noise");
            // As `extract` does: one matrix a thread, all threads busy.
            let together = rayon::current_num_threads();
            let start = Instant::now();
            let svd = (0..together)
                .into_par_iter()
                .map(|_| truncated_svd(&matrix, (m, n), RANK).unwrap())
                .reduce_with(|first, _| first)
                .unwrap();
            let seconds = start.elapsed().as_secs_f64() / together as f64;
            let kept: f64 = svd.s.iter().map(|s| s * s).sum();
            let rest = (svd.energy - kept).max(0.0).sqrt();
            println!("{m} × {n}, {kind}: {seconds:.3} s a matrix, ‖rest‖ {rest:.6}");
            let path = folder.path().join(format!("{m}x{n}-{}.f32", kind.len()));
            std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&matrix)).unwrap();
            writeln!(list, "{}\t{m}\t{n}\t{kind}\t{seconds}\t{rest}", path.display()).unwrap();
        }
    }
    if let Some(python) = std::env::var_os("LORA_EVAL_PEER_PYTHON") {
        let file = folder.path().join("list.tsv");
        std::fs::write(&file, list).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/extract_peer.py");
        let status = Command::new(python).arg(script).arg(file).arg(RANK.to_string()).status();
        assert!(status.unwrap().success(), "the peer failed");
    }
}

/// Noise of the size that rounding to f16 leaves, under an update of rank 24 unless `only_noise`.
fn difference(m: usize, n: usize, only_noise: bool) -> Vec<f32> {
    let mut noise = Noise(7);
    let mut matrix: Vec<f32> = (0..m * n).map(|_| noise.next() * 2e-5).collect();
    if !only_noise {
        let up: Vec<f32> = (0..m * 24).map(|_| noise.next() * 0.05).collect();
        let down: Vec<f32> = (0..24 * n).map(|_| noise.next() * 0.05).collect();
        for (value, update) in matrix.iter_mut().zip(multiply(&up, &down, (m, 24, n))) {
            *value += update;
        }
    }
    matrix
}

struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}
