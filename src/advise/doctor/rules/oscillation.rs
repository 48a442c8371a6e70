//! Losses that swing, gradients that spike.

use super::super::curve::{Window, median, windows};
use super::super::diagnosis::{Finding, Rule};
use super::super::history::History;
use super::patch::rate_times;
use super::{FEW, percent};

/// So many turns of the mean loss are an oscillation: down, up, down, up again.
const TURNS: usize = 4;
/// So many separate spikes of the gradient are.
const SPIKES: usize = 3;
/// A spike is so many times the norm before it.
const SPIKE: f64 = 10.0;

/// The mean of windows turns four times, each time by more than a tenth and by six standard errors;
/// or the gradient's norm spikes three times after the first tenth of the training. A diffusion loss
/// is noisy because timesteps are drawn at random: its points scatter, their means do not turn.
pub(super) fn oscillation(history: &History) -> Option<Finding> {
    let mut evidence: Vec<String> = swings(history).into_iter().collect();
    evidence.extend(spikes(history));
    if evidence.is_empty() {
        return None;
    }
    let why = "half the rate makes half the step, which no longer jumps over the valley";
    Some(Finding {
        rule: Rule::Oscillation,
        evidence,
        meaning: "the learning rate is too high, or the batch is too small for it".to_owned(),
        patch: rate_times(history, 0.5, why.to_owned()),
    })
}

fn swings(history: &History) -> Option<String> {
    let points = history.loss.points();
    if points.len() < 2 * FEW || restarts_of_the_rate(history) >= 2 {
        return None;
    }
    // Windows of eight points at least, for their errors to be worth something.
    let windows = windows(points, (points.len() / 8).clamp(4, 40));
    let turns = turns(&windows);
    let (first, last) = (turns.first()?, turns.last()?);
    let sizes = turns.windows(2).map(|pair| (pair[1].mean / pair[0].mean - 1.0).abs());
    let largest = sizes.reduce(f64::max)?;
    (turns.len() >= TURNS).then(|| {
        format!(
            "between steps {} and {} the mean loss turns {} times, by up to {}",
            first.first,
            last.last,
            turns.len(),
            percent(largest)
        )
    })
}

/// Windows at which the curve turns: each lies beyond the one before by more than the threshold.
fn turns(windows: &[Window]) -> Vec<Window> {
    let Some(mut extreme) = windows.first().copied() else { return Vec::new() };
    let mut turns = Vec::new();
    let mut rising: Option<bool> = None;
    for window in windows {
        let change = window.mean - extreme.mean;
        let threshold = (0.1 * extreme.mean.abs()).max(6.0 * window.error.hypot(extreme.error));
        let same_way = rising.is_some_and(|rising| (change > 0.0) == rising);
        if same_way {
            extreme = *window;
        } else if change.abs() > threshold {
            if rising.is_some() {
                turns.push(extreme);
            }
            rising = Some(change > 0.0);
            extreme = *window;
        }
    }
    turns
}

/// How often the rate rises to more than twice its value after it had fallen: schedules with restarts
/// make the loss swing by themselves.
fn restarts_of_the_rate(history: &History) -> usize {
    let mut count = 0;
    let (mut low, mut fell) = (f64::INFINITY, false);
    for point in history.rate.points() {
        if fell && point.value > 2.0 * low {
            (count, low, fell) = (count + 1, point.value, false);
        }
        fell |= point.value < 0.9 * low && low.is_finite();
        low = if low.is_finite() { low.min(point.value) } else { point.value };
    }
    count
}

/// Norms beyond ten times the median of the twenty before them: the norm itself falls as a training
/// settles.
fn spikes(history: &History) -> Option<String> {
    const BEFORE: usize = 20;
    let points = history.grad_norm.points();
    let is_spike = |at: usize| {
        let before = points.get(at.saturating_sub(BEFORE)..at).unwrap_or_default();
        let usual = median(before).filter(|usual| *usual > 0.0);
        usual.zip(points.get(at)).is_some_and(|(usual, p)| p.value > SPIKE * usual)
    };
    let all: Vec<usize> =
        (points.len().div_ceil(10)..points.len()).filter(|at| is_spike(*at)).collect();
    let runs: Vec<&[usize]> = all.chunk_by(|a, b| b - a == 1).collect();
    if points.len() < FEW || runs.len() < SPIKES {
        return None;
    }
    let first = runs.iter().take(5).filter_map(|run| points.get(*run.first()?));
    let steps: Vec<String> = first.map(|p| p.step.to_string()).collect();
    Some(format!(
        "the gradient's norm jumps to more than ten times what it was {} times: steps {}",
        runs.len(),
        steps.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::super::super::curve::Curve;
    use super::super::made_up::{healthy, learning_rate, noisy, only, only_patch, well};
    use super::*;

    #[test]
    fn means_that_swing_are_an_oscillation() {
        for seed in 0..50 {
            let mut history = healthy();
            history.loss = noisy(seed, 400, false, |t| 1.5 + 0.6 * (20.0 * t).sin());
            assert_eq!(only_patch(&history, Rule::Oscillation), learning_rate(5e-5), "{seed}");
        }
    }

    #[test]
    fn the_noise_of_a_diffusion_loss_is_no_oscillation() {
        for seed in 0..50 {
            let mut history = healthy();
            history.loss = noisy(seed, 800, true, |t| 0.12 - 0.02 * t);
            well(&history);
        }
    }

    #[test]
    fn gradients_that_spike_are_an_oscillation() {
        let mut history = healthy();
        let spikes = |steps: [u64; 4]| {
            let spike = move |step| if steps.contains(&step) { 8.0 } else { 0.5 };
            Curve::new((1..=200).map(|step| (step, spike(step))))
        };
        history.grad_norm = spikes([50, 90, 91, 160]);
        let finding = only(&history, Rule::Oscillation);
        assert!(finding.evidence[0].ends_with("3 times: steps 50, 90, 160"), "{finding:?}");
        // Gradients that die away have a small median, and are no spikes.
        history.grad_norm = Curve::new((1..=200).map(|step| (step, (-0.05 * step as f64).exp())));
        well(&history);
        // While it warms up, spikes are usual.
        history.grad_norm = spikes([1, 3, 6, 9]);
        well(&history);
    }

    #[test]
    fn restarts_of_the_schedule_swing_by_themselves() {
        let mut history = healthy();
        history.loss = noisy(6, 400, false, |t| 1.5 - 0.6 * ((3.0 * t).fract() - 0.5));
        history.rate = Curve::default();
        only(&history, Rule::Oscillation);
        let restarts = (0..400).map(|i| (i + 1, 1e-4 * (1.0 - (3.0 * i as f64 / 400.0).fract())));
        history.rate = Curve::new(restarts);
        well(&history);
    }
}
