//! The statistics behind a verdict: `cargo bench --bench verdict`.
//!
//! Prints, for data of known effect, how often the one-sided bounds at 5 % miss it (below and above),
//! how often the two-sided 90 % interval covers it, power at stated effects, and the time of a large
//! run's effects. One part: `cargo bench --bench verdict -- coverage` (`power`, `speed`). False alarms and
//! power of whole verdicts are in `benches/check.rs`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::f64::consts::TAU;
use std::time::Instant;

use lora_eval::stats::{
    Change, Claim, Effect, Paired, Pcg64, Resampling, SEED, Segments, Statistic, Width, effect,
};

const RUNS: usize = 1000;
const ALPHA: f64 = 0.05;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let parts: [(&str, fn()); 3] = [("coverage", coverage), ("power", power), ("speed", speed)];
    let wanted = std::env::args().find(|argument| parts.iter().any(|(name, _)| name == argument));
    for (name, part) in parts {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            part();
        }
    }
}

/// Σ value / Σ weight.
struct Mean;

impl Statistic for Mean {
    fn score_of(&self, sums: &[f64], _: Width) -> f64 {
        sums[0] / sums[1]
    }
}

/// exp(Σ value / Σ weight).
struct Perplexity;

impl Statistic for Perplexity {
    fn score_of(&self, sums: &[f64], _: Width) -> f64 {
        (sums[0] / sums[1]).exp()
    }
}

/// Corpus BLEU: lengths of hypothesis and reference, matches and totals of four orders.
struct Bleu;

impl Statistic for Bleu {
    fn score_of(&self, sums: &[f64], _: Width) -> f64 {
        let precision: f64 =
            (2..6).map(|at| (sums[at].max(0.5) / sums[at + 4].max(1.0)).ln()).sum();
        100.0 * (0.25 * precision + (1.0 - sums[1] / sums[0].max(1.0)).min(0.0)).exp()
    }
}

/// Random numbers of the simulated data.
struct Noise(Pcg64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    fn flips(&mut self, times: usize, p: f64) -> f64 {
        (0..times).filter(|_| self.uniform() < p).count() as f64
    }

    /// BLEU's statistics of a text of `length` words, each right with probability `quality`.
    fn bleu(&mut self, length: usize, quality: f64) -> Vec<f64> {
        let own = (length + self.0.index(7) as usize).saturating_sub(3).max(4);
        let totals: Vec<usize> = (1..5).map(|order| own + 1 - order).collect();
        let orders = totals.iter().zip(1..);
        let matches: Vec<f64> =
            orders.map(|(total, order)| self.flips(*total, quality.powi(order))).collect();
        let totals = totals.iter().map(|total| *total as f64);
        [own as f64, length as f64].into_iter().chain(matches).chain(totals).collect()
    }
}

/// One cluster's base and candidate.
type Draw = fn(&mut Noise) -> (Vec<f64>, Vec<f64>);

struct Case {
    name: &'static str,
    statistic: &'static dyn Statistic,
    change: Change,
    range: Option<(f64, f64)>,
    draw: Draw,
    /// The effect of infinitely many clusters; simulated where `None`.
    truth: Option<f64>,
}

fn mean_of(value: f64) -> Vec<f64> {
    vec![value, 1.0]
}

fn exact_match(noise: &mut Noise, seeds: usize) -> (Vec<f64>, Vec<f64>) {
    let p = noise.uniform();
    let mut side = || vec![noise.flips(seeds, p), seeds as f64];
    (side(), side())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of words, at most 200"
)]
fn bleu_pair(noise: &mut Noise, shift: f64) -> (Vec<f64>, Vec<f64>) {
    let length = (3.0 + 0.5 * noise.normal()).exp().min(200.0) as usize + 5;
    let prompt = 0.3 + 0.9 * noise.normal();
    let mut side = |shift: f64| {
        let quality = 1.0 / (1.0 + (-(prompt + shift + 0.5 * noise.normal())).exp());
        noise.bleu(length, quality)
    };
    (side(0.0), side(shift))
}

/// Perplexity's sums; a `harm` is that of the mean prompt, little for most and much for some.
fn likelihood(noise: &mut Noise, harm: f64) -> (Vec<f64>, Vec<f64>) {
    let tokens = f64::from(20 + noise.0.index(180));
    let base = 2.0 + 0.5 * noise.normal();
    let mut candidate = base + 0.1 * (noise.exponential() - noise.exponential());
    if harm > 0.0 {
        candidate += harm * noise.exponential();
    }
    (vec![base * tokens, tokens], vec![candidate * tokens, tokens])
}

/// Without a difference first, then with effects of known size.
const CASES: [Case; 11] = [
    Case {
        name: "mean, normal",
        statistic: &Mean,
        change: Change::Difference,
        range: None,
        draw: |noise| (mean_of(noise.normal()), mean_of(noise.normal())),
        truth: Some(0.0),
    },
    Case {
        name: "mean, exponential",
        statistic: &Mean,
        change: Change::Difference,
        range: None,
        draw: |noise| (mean_of(noise.exponential()), mean_of(noise.exponential())),
        truth: Some(0.0),
    },
    Case {
        name: "BLEU",
        statistic: &Bleu,
        change: Change::Difference,
        range: None,
        draw: |noise| bleu_pair(noise, 0.0),
        truth: Some(0.0),
    },
    Case {
        name: "exact match, one seed",
        statistic: &Mean,
        change: Change::Difference,
        range: Some((0.0, 1.0)),
        draw: |noise| exact_match(noise, 1),
        truth: Some(0.0),
    },
    Case {
        name: "exact match, four seeds",
        statistic: &Mean,
        change: Change::Difference,
        range: Some((0.0, 1.0)),
        draw: |noise| exact_match(noise, 4),
        truth: Some(0.0),
    },
    Case {
        name: "perplexity ratio",
        statistic: &Perplexity,
        change: Change::Ratio,
        range: None,
        draw: |noise| likelihood(noise, 0.0),
        truth: Some(1.0),
    },
    Case {
        name: "BLEU, better by some 11",
        statistic: &Bleu,
        change: Change::Difference,
        range: None,
        draw: |noise| bleu_pair(noise, 0.5),
        truth: None,
    },
    Case {
        name: "perplexity ratio, worse by 5 %",
        statistic: &Perplexity,
        change: Change::Ratio,
        range: None,
        draw: |noise| likelihood(noise, 0.05),
        truth: None,
    },
    Case {
        name: "exact match, one in ten lost",
        statistic: &Mean,
        change: Change::Difference,
        range: Some((0.0, 1.0)),
        draw: |noise| {
            let base = noise.flips(1, 0.9);
            let kept = noise.flips(1, 0.9);
            (mean_of(base), mean_of(base * kept))
        },
        truth: Some(-0.09),
    },
    Case {
        name: "KL level, exponential",
        statistic: &Mean,
        change: Change::Level,
        range: None,
        draw: |noise| (mean_of(0.0), mean_of(noise.exponential())),
        truth: Some(1.0),
    },
    Case {
        name: "KL level, log-normal",
        statistic: &Mean,
        change: Change::Level,
        range: None,
        draw: |noise| (mean_of(0.0), mean_of(noise.normal().exp())),
        truth: Some(1.648_721_270_700_128_2),
    },
];

impl Case {
    fn data(&self, noise: &mut Noise, clusters: usize) -> (Segments, Segments) {
        let rows = (0..clusters).map(|_| (self.draw)(noise));
        let (base, candidate): (Vec<_>, Vec<_>) = rows.unzip();
        (Segments::from_iter(base), Segments::from_iter(candidate))
    }

    fn judged(&self, base: &Segments, candidate: &Segments, resampling: &Resampling) -> Effect {
        let (statistic, change, range) = (self.statistic, self.change, self.range);
        effect(&Paired { base, candidate, statistic, change, range }, resampling).unwrap()
    }

    fn truth(&self) -> f64 {
        self.truth.unwrap_or_else(|| {
            let (base, candidate) = self.data(&mut Noise(Pcg64::seeded(99)), 400_000);
            let [base, candidate] =
                [base, candidate].map(|side| self.statistic.score_of(&side.sums(), Width::Double));
            match self.change {
                Change::Difference => candidate - base,
                Change::Ratio => candidate / base,
                Change::Level => candidate,
            }
        })
    }
}

fn coverage() {
    println!(
        "one-sided misses at 5 % and coverage of 90 % intervals, {RUNS} runs (standard error 0.7)"
    );
    println!("{:<32} clusters  says too much  too little  covered", "data");
    for case in &CASES {
        let truth = case.truth();
        for clusters in [8, 12, 20, 50] {
            let resampling = Resampling::new(clusters, Resampling::TRIALS, SEED).unwrap();
            let mut noise = Noise(Pcg64::seeded(clusters as u64));
            let (mut above, mut below, mut covered) = (0, 0, 0);
            for _ in 0..RUNS {
                let (base, candidate) = case.data(&mut noise, clusters);
                let effect = case.judged(&base, &candidate, &resampling);
                above += usize::from(effect.p_above(truth) <= ALPHA);
                below += usize::from(effect.p_below(truth) <= ALPHA);
                let (low, high) = effect.interval(0.9);
                covered += usize::from(low <= truth && truth <= high);
            }
            let [above, below, covered] = [above, below, covered].map(percent);
            println!("{:<32} {clusters:>8} {above:>12} % {below:>9} % {covered:>6} %", case.name);
        }
    }
}

fn percent(count: usize) -> String {
    format!("{:.1}", 100.0 * count as f64 / RUNS as f64)
}

/// Four strengths, each judged by six claims on different data, of which none has a difference.
/// Normal differences of standard deviation 1 with a mean of `size`, judged against 0.
fn power() {
    println!(
        "\npower: claims of a gain above 0 that are seen, of an effect in standard deviations of a prompt's difference"
    );
    println!("clusters  effect  pass  inconclusive  further clusters (median)");
    for (clusters, size) in [(8, 1.1), (12, 0.85), (20, 0.65), (50, 0.38), (100, 0.27), (20, 0.3)] {
        let resampling = Resampling::new(clusters, Resampling::TRIALS, SEED).unwrap();
        let mut noise = Noise(Pcg64::seeded(clusters as u64));
        let (mut passes, mut more) = (0, Vec::new());
        for _ in 0..RUNS {
            let rows = (0..clusters).map(|_| {
                let base = noise.normal();
                (mean_of(base), mean_of(base + size + noise.normal()))
            });
            let (base, candidate): (Vec<_>, Vec<_>) = rows.unzip();
            let (base, candidate) = (Segments::from_iter(base), Segments::from_iter(candidate));
            let effect = CASES[0].judged(&base, &candidate, &resampling);
            if effect.p_above(0.0) <= ALPHA {
                passes += 1;
            } else if effect.p_below(0.0) > ALPHA {
                let number = Claim::Above(0.0).further_clusters(&effect, ALPHA, 0.8);
                more.push(number.unwrap_or(usize::MAX));
            }
        }
        more.sort_unstable();
        let median = more.get(more.len() / 2).map_or(String::new(), ToString::to_string);
        let (passes, open) = (percent(passes), percent(more.len()));
        println!("{clusters:>8} {size:>7} {passes:>5} % {open:>10} % {median:>12}");
    }
}

/// 10,000 cells: two groups of 100 prompts, ten strengths, five seeds; ten metrics.
fn speed() {
    println!(
        "\ntime of 200 effects (10 metrics × 10 strengths × 2 groups), {} resamples",
        Resampling::TRIALS
    );
    for clusters in [100, 500] {
        let mut noise = Noise(Pcg64::seeded(3));
        let bleu: Vec<_> = (0..40).map(|_| CASES[2].data(&mut noise, clusters)).collect();
        let mean: Vec<_> = (0..160).map(|_| CASES[1].data(&mut noise, clusters)).collect();
        let start = Instant::now();
        let resampling = Resampling::new(clusters, Resampling::TRIALS, SEED).unwrap();
        let judged = bleu.iter().map(|data| (2, data)).chain(mean.iter().map(|data| (1, data)));
        let p: f64 = judged
            .map(|(case, (base, candidate)): (usize, &(Segments, Segments))| {
                let effect = CASES[case].judged(base, candidate, &resampling);
                effect.p_above(0.0) + effect.p_below(0.0) + effect.low(0.05) + effect.high(0.05)
            })
            .sum();
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{clusters} prompts: {seconds:.2} s on {} threads ({p:.3})",
            rayon::current_num_threads()
        );
    }
}
