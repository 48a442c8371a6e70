//! Noise levels of the WebUI's schedules, on k-diffusion's denoisers (`PyTorch` in f32).

use super::beta;
use super::float::{count, exp, index, linspace, linspace_f32, ln, narrow, pow};
use super::name::Schedule;
use super::spacing::position;

/// The levels of the training, rising, and their logarithms.
#[derive(Debug)]
pub(super) struct Table {
    pub sigmas: Vec<f32>,
    pub logs: Vec<f32>,
}

impl Table {
    pub fn new(sigmas: Vec<f32>) -> Self {
        let logs = super::spacing::logs(&sigmas);
        Self { sigmas, logs }
    }

    /// The timestep of a level, a fraction (`sigma_to_t`).
    pub fn timestep(&self, sigma: f32) -> f32 {
        let (low, part) = position(f64::from(sigma), &self.logs);
        (1.0 - part) * count(low) + part * count(low + 1)
    }

    /// The level of a timestep (`t_to_sigma`).
    pub fn sigma(&self, timestep: f32) -> f32 {
        let last = self.logs.len() - 1;
        let low = index(f64::from(timestep.floor())).min(last);
        let high = index(f64::from(timestep.ceil())).min(last);
        let part = timestep.fract();
        exp((1.0 - part) * self.logs[low] + part * self.logs[high])
    }

    fn ends(&self) -> (f32, f32) {
        (self.sigmas[0], self.sigmas[self.sigmas.len() - 1])
    }

    /// The levels of a schedule of `n` steps, falling; all but those of `KlOptimal` end in 0.
    pub fn levels(&self, schedule: Schedule, n: usize) -> Vec<f32> {
        let (lowest, highest) = self.ends();
        let (low, high) = (f64::from(lowest), f64::from(highest));
        let mut sigmas = match schedule {
            Schedule::Automatic | Schedule::Uniform => {
                let last = count(self.sigmas.len() - 1);
                linspace_f32(last, 0.0, n).into_iter().map(|t| self.sigma(t)).collect()
            }
            Schedule::Normal => self.between(n).map(|t| self.sigma(t)).collect(),
            Schedule::SgmUniform => self.between(n + 1).take(n).map(|t| self.sigma(t)).collect(),
            Schedule::Karras => karras(low, high, n),
            Schedule::Exponential => {
                let logs = linspace_f32(narrow(high.ln()), narrow(low.ln()), n);
                logs.into_iter().map(exp).collect()
            }
            Schedule::Polyexponential => {
                let (range, low) = (narrow(high.ln() - low.ln()), narrow(low.ln()));
                linspace_f32(1.0, 0.0, n).into_iter().map(|part| exp(part * range + low)).collect()
            }
            Schedule::KlOptimal => return kl_optimal(lowest, highest, n),
            Schedule::Simple => self.simple(n),
            Schedule::Ddim => self.ddim(n),
            Schedule::Beta => {
                let parts = linspace(0.0, 1.0, n).into_iter().map(|part| 1.0 - part);
                parts.map(|part| narrow(low + beta::quantile(part) * (high - low))).collect()
            }
        };
        sigmas.push(0.0);
        sigmas
    }

    /// `n` timesteps from that of the highest level to that of the lowest.
    fn between(&self, n: usize) -> impl Iterator<Item = f32> {
        let (lowest, highest) = self.ends();
        linspace_f32(self.timestep(highest), self.timestep(lowest), n).into_iter()
    }

    fn simple(&self, n: usize) -> Vec<f32> {
        let apart = self.sigmas.len() as f64 / n as f64;
        let last = self.sigmas.len() - 1;
        (0..n).map(|i| self.sigmas[last.saturating_sub(index(i as f64 * apart))]).collect()
    }

    fn ddim(&self, n: usize) -> Vec<f32> {
        let apart = (self.sigmas.len() / n).max(1);
        let rising: Vec<f32> = self.sigmas.iter().skip(1).step_by(apart).copied().collect();
        rising.into_iter().rev().collect()
    }
}

fn karras(low: f64, high: f64, n: usize) -> Vec<f32> {
    let (low, high) = (low.powf(1.0 / 7.0), high.powf(1.0 / 7.0));
    let (start, range) = (narrow(high), narrow(low - high));
    let ramp = linspace_f32(0.0, 1.0, n);
    ramp.into_iter().map(|part| pow(start + part * range, 7.0)).collect()
}

fn kl_optimal(lowest: f32, highest: f32, n: usize) -> Vec<f32> {
    let atan = |sigma: f32| narrow(f64::from(sigma).atan());
    let (low, high) = (atan(lowest), atan(highest));
    let at = |i: usize| {
        let part = count(i) / count(n);
        narrow(f64::from(part * low + (1.0 - part) * high).tan())
    };
    (0..=n).map(at).collect()
}

/// The noise levels at which a model of latent consistency was distilled: every twentieth.
#[derive(Debug)]
pub(super) struct LcmTable(Table);

impl LcmTable {
    /// Timesteps between two levels of the distillation.
    const APART: usize = 20;

    /// From the levels of the training.
    pub fn new(sigmas: &[f32]) -> Self {
        let kept = sigmas.iter().skip(Self::APART - 1).step_by(Self::APART).copied();
        Self(Table::new(kept.collect()))
    }

    /// The timestep of the level nearest in ln σ.
    pub fn timestep(&self, sigma: f32) -> usize {
        let log = ln(sigma);
        let distance = |i: &usize| (log - self.0.logs[*i]).abs();
        let nearest = (0..self.0.logs.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.unwrap_or(0) * Self::APART + Self::APART - 1
    }

    /// The levels of a schedule. Uniform ones lie between levels of the distillation; the others
    /// use only its highest and lowest one, or all of them.
    pub fn levels(&self, schedule: Schedule, n: usize) -> Vec<f32> {
        let (lowest, highest) = self.0.ends();
        let skipped = Self::APART - 1;
        let sigma = |t: f32| {
            let t = (t - count(skipped)) / count(Self::APART);
            self.0.sigma(t.clamp(0.0, count(self.0.sigmas.len() - 1)))
        };
        let between = |n: usize| {
            let [high, low] = [highest, lowest].map(|level| count(self.timestep(level)));
            linspace_f32(high, low, n).into_iter().map(sigma)
        };
        let mut sigmas: Vec<f32> = match schedule {
            Schedule::Automatic | Schedule::Uniform | Schedule::Normal => between(n).collect(),
            Schedule::SgmUniform => between(n + 1).take(n).collect(),
            other => return self.0.levels(other, n),
        };
        sigmas.push(0.0);
        sigmas
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise_schedule::NoiseSchedule;
    use super::*;

    #[test]
    fn every_schedule_falls_from_the_highest_level() {
        let table = Table::new(NoiseSchedule::compvis().levels());
        for schedule in Schedule::ALL {
            for n in [1, 2, 7, 20, 250] {
                let levels = table.levels(schedule, n);
                assert!(levels.windows(2).all(|pair| pair[0] > pair[1]), "{schedule:?} {n}");
                if schedule != Schedule::Ddim {
                    assert!((levels[0] - 14.614_64).abs() < 1e-4, "{schedule:?} {}", levels[0]);
                    assert_eq!(levels.len(), n + 1);
                }
                let last = levels[levels.len() - 1];
                let expected = if schedule == Schedule::KlOptimal { 0.029_167 } else { 0.0 };
                assert!((last - expected).abs() < 1e-5, "{schedule:?} {last}");
            }
        }
    }

    #[test]
    fn latent_consistency_knows_every_twentieth_timestep() {
        let sigmas = NoiseSchedule::compvis().levels();
        let table = LcmTable::new(&sigmas);
        for t in [19, 39, 499, 999] {
            assert_eq!(table.timestep(sigmas[t]), t);
        }
        let levels = table.levels(Schedule::Automatic, 4);
        assert_eq!((levels.len(), levels[4]), (5, 0.0));
        assert!((levels[0] - sigmas[999]).abs() < 1e-5 && (levels[3] - sigmas[19]).abs() < 1e-6);
    }
}
