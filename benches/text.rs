//! BLEU, chrF, TER and the paired tests: `cargo bench --bench text`.
//!
//! 3000 segments of 5 to 45 words of a Zipf vocabulary against one disturbed reference each. Prints
//! our best time of five on one thread and on all and, with `LORA_EVAL_PEER_PYTHON=python`
//! (sacrebleu 2.6), sacreBLEU's on the same texts in the same run, as ratios, with both scores.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use lora_eval::metric::{Bleu, Chrf, Ter, Texts};
use lora_eval::stats::Test;

const SEGMENTS: usize = 3000;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut noise = Noise(7);
    let vocabulary: Vec<String> = (0..8000).map(|_| word(&mut noise)).collect();
    let reference: Vec<String> = (0..SEGMENTS).map(|_| line(&mut noise, &vocabulary)).collect();
    let [first, second] = [3, 5].map(|errors| -> Vec<String> {
        reference.iter().map(|line| disturbed(&mut noise, &vocabulary, line, errors)).collect()
    });
    let peer = peer([&reference, &first, &second]);
    let references = [reference];
    let [base, system] = [&first, &second].map(|lines| Texts::new(lines, &references).unwrap());

    let report = |name: &str, run: &(dyn Fn() -> f64 + Sync)| {
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let alone = one.install(|| best(run));
        let all = best(run);
        let times = format!(
            "{name:<8} {:>9.2} ms on one thread {:>9.2} ms on all",
            alone.0 * 1e3,
            all.0 * 1e3
        );
        match peer.get(name) {
            Some((seconds, score)) => println!(
                "{times}; sacreBLEU {:>9.1} ms: {:.1} × and {:.1} ×; {} and {score}",
                seconds * 1e3,
                seconds / alone.0,
                seconds / all.0,
                all.1
            ),
            None => println!("{times}; {}", all.1),
        }
    };
    report("BLEU", &|| Bleu::default().corpus(&base).unwrap().value);
    report("chrF", &|| Chrf::default().corpus(&base).unwrap().value);
    report("chrF++", &|| Chrf::plus_plus().corpus(&base).unwrap().value);
    report("TER", &|| Ter::default().corpus(&base).unwrap().value);
    let bleu = Bleu::default();
    let statistics = [&base, &system].map(|texts| bleu.statistics(texts).unwrap());
    for (name, test) in [("bs", Test::BOOTSTRAP), ("ar", Test::RANDOMIZATION)] {
        report(name, &|| test.run(&bleu, &statistics[0], &statistics[1]).unwrap().p);
    }
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
fn peer(texts: [&Vec<String>; 3]) -> BTreeMap<String, (f64, f64)> {
    let Some(python) = std::env::var_os("LORA_EVAL_PEER_PYTHON") else { return BTreeMap::new() };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/text_peer.py");
    let mut command = Command::new(python);
    command.arg(script);
    for (name, lines) in ["reference", "first", "second"].iter().zip(texts) {
        let path = folder.path().join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
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

fn word(noise: &mut Noise) -> String {
    let length = 2 + noise.below(8);
    (0..length).map(|_| char::from(b"etaoinshrdlucmfw"[noise.below(16)])).collect()
}

/// A word as often as the inverse of its place.
fn frequent(noise: &mut Noise, vocabulary: &[String]) -> String {
    let place = (vocabulary.len() as f64).powf(noise.unit()) - 1.0;
    let place = (0..vocabulary.len()).take_while(|n| (*n as f64) < place).count();
    vocabulary[place.min(vocabulary.len() - 1)].clone()
}

fn line(noise: &mut Noise, vocabulary: &[String]) -> String {
    let words: Vec<String> = (0..5 + noise.below(40))
        .map(|_| {
            let mark = if noise.below(8) == 0 { "," } else { "" };
            frequent(noise, vocabulary) + mark
        })
        .collect();
    words.join(" ") + "."
}

fn disturbed(noise: &mut Noise, vocabulary: &[String], line: &str, errors: usize) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for _ in 0..words.len() * errors / 12 {
        let at = noise.below(words.len());
        match noise.below(4) {
            0 => words[at] = frequent(noise, vocabulary),
            1 => words.insert(at, frequent(noise, vocabulary)),
            2 if words.len() > 2 => drop(words.remove(at)),
            _ => {
                let end = words.len().min(at + 1 + noise.below(4));
                let phrase: Vec<String> = words.drain(at..end).collect();
                let to = noise.below(words.len() + 1);
                words.splice(to..to, phrase);
            }
        }
    }
    words.join(" ")
}

struct Noise(u32);

impl Noise {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1 << 24)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }
}
