//! How much damage and how much gain a row shows.

use std::collections::BTreeMap;

use crate::run::RunKind;

/// Scores of one output by metric.
pub type Scores = BTreeMap<String, f64>;

/// A quantity that is 0 for the base: how far a score has moved from the base's, in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity {
    /// The metric, as cells have it.
    pub metric: &'static str,
    pub about: &'static str,
    pub unit: &'static str,
    /// Whether more of the metric is more of the quantity.
    rises: bool,
    /// It is about the references of a prompt, so the prompt must have some.
    pub of_references: bool,
}

impl Quantity {
    const fn new(metric: &'static str, about: &'static str, unit: &'static str) -> Self {
        Self { metric, about, unit, rises: true, of_references: false }
    }

    const fn falls(self) -> Self {
        Self { rises: false, ..self }
    }

    const fn of_references(self) -> Self {
        Self { of_references: true, ..self }
    }

    /// How much of it an output shows beside the base's from the same prompt and seed.
    pub fn of(&self, output: &Scores, base: &Scores) -> Option<f64> {
        let moved = score(output, self.metric)? - score(base, self.metric)?;
        let value = if self.rises { moved } else { -moved };
        // no negative zero
        value.is_finite().then_some(value + 0.0)
    }
}

/// Perplexity is compared as the mean negative log-likelihood of a token, which is additive.
fn score(scores: &Scores, metric: &str) -> Option<f64> {
    match metric {
        LIKELIHOOD => Some(scores.get("nll")? / scores.get("scored-tokens")?),
        _ => scores.get(metric).copied(),
    }
}

const LIKELIHOOD: &str = "nll";

/// Distance from the base, the most telling first.
const DISTANCE_TEXT: [Quantity; 2] = [
    Quantity::new("kl", "divergence of the next-token distribution from the base's", "nats"),
    Quantity::new("base-bleu", "BLEU lost against the base's own text", "points").falls(),
];
const DISTANCE_IMAGE: [Quantity; 4] = [
    Quantity::new("lpips", "perceptual distance from the base's picture", "LPIPS"),
    Quantity::new("dino", "DINOv2 likeness to the base's picture that is lost", "points").falls(),
    Quantity::new("clip-image", "CLIP likeness to the base's picture that is lost", "points")
        .falls(),
    Quantity::new("ssim", "structural likeness to the base's picture that is lost", "SSIM").falls(),
];
/// What the references say about an output.
const REFERENCE_TEXT: [Quantity; 1] =
    [Quantity::new(LIKELIHOOD, "log-likelihood of the reference gained a token", "nats")
        .falls()
        .of_references()];
const REFERENCE_IMAGE: [Quantity; 4] = [
    Quantity::new("dino-reference", "DINOv2 likeness to the references gained", "points")
        .of_references(),
    Quantity::new("clip-reference", "CLIP likeness to the references gained", "points")
        .of_references(),
    Quantity::new("ssim-reference", "structural likeness to the references gained", "SSIM")
        .of_references(),
    Quantity::new(
        "histogram-reference",
        "nearness of the colours to the references' gained",
        "fraction",
    )
    .falls()
    .of_references(),
];

/// Candidates for the damage on prompts that must not change.
pub fn damage(kind: RunKind) -> &'static [Quantity] {
    match kind {
        RunKind::Text => &DISTANCE_TEXT,
        RunKind::Image => &DISTANCE_IMAGE,
    }
}

/// Candidates for the gain on held-out prompts; without references, how much of the adapter shows.
pub fn gain(kind: RunKind) -> Vec<Quantity> {
    let references: &[Quantity] = match kind {
        RunKind::Text => &REFERENCE_TEXT,
        RunKind::Image => &REFERENCE_IMAGE,
    };
    references.iter().chain(damage(kind)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(all: &[(&str, f64)]) -> Scores {
        all.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_quantity_grows_with_the_distance_whatever_the_metric_s_direction() {
        let base =
            scores(&[("kl", 0.0), ("base-bleu", 100.0), ("nll", 30.0), ("scored-tokens", 10.0)]);
        let output =
            scores(&[("kl", 0.4), ("base-bleu", 60.0), ("nll", 5.0), ("scored-tokens", 10.0)]);
        let values: Vec<_> = gain(RunKind::Text)
            .iter()
            .map(|quantity| quantity.of(&output, &base).unwrap())
            .collect();
        assert_eq!(values, [2.5, 0.4, 40.0]);
        let same: Vec<_> = gain(RunKind::Text).iter().map(|q| q.of(&base, &base)).collect();
        assert_eq!(same, [Some(0.0); 3]);
        assert_eq!(damage(RunKind::Image)[0].of(&output, &base), None);
    }
}
