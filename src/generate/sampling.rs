//! From logits to the next token.

use std::collections::BTreeSet;

use super::Noise;

/// How the next token is chosen. The order is that of transformers: repetition penalty,
/// temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most probable token.
    pub temperature: f64,
    /// Only the k most probable tokens; 0 for all.
    pub top_k: usize,
    /// Only the fewest most probable tokens that together have this probability; 1 for all.
    pub top_p: f64,
    /// Only tokens with at least this share of the best one's probability; 0 for all.
    pub min_p: f64,
    /// Positive logits of tokens that occurred are divided by it, negative ones multiplied (Keskar et
    /// al., 2019); 1 for none.
    pub repetition_penalty: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// Whether the choice needs no random number.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The next token. `context` are the tokens so far, the prompt's included. `None` if no logit is
    /// a number.
    pub fn choose(
        &self,
        logits: &mut [f32],
        context: &[u32],
        (noise, step): (Noise, usize),
    ) -> Option<u32> {
        self.penalise(logits, context);
        if self.is_greedy() {
            return best(logits);
        }
        let kept = self.kept(logits);
        let noisy =
            kept.into_iter().map(|(token, log_p)| (log_p + noise.gumbel(step, token), token));
        noisy.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, token)| token)
    }

    /// Applies the repetition penalty for the tokens that occurred.
    #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
    pub fn penalise(&self, logits: &mut [f32], context: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let penalty = self.repetition_penalty as f32;
        let seen: BTreeSet<u32> = context.iter().copied().collect();
        for token in seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
    }

    /// The tokens that may be drawn with their unnormalised log-probabilities, most probable first.
    pub fn kept(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let mut all: Vec<(u32, f64)> = (0..)
            .zip(logits)
            .filter(|(_, logit)| !logit.is_nan() && **logit > f32::NEG_INFINITY)
            .map(|(token, logit)| (token, f64::from(*logit) / self.temperature))
            .collect();
        let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if self.top_k > 0 && self.top_k < all.len() {
            all.select_nth_unstable_by(self.top_k - 1, order);
            // transformers keeps every token that ties with the last one
            let last = all[self.top_k - 1].1;
            let (_, rest) = all.split_at(self.top_k);
            let ties: Vec<(u32, f64)> = rest.iter().filter(|t| t.1 == last).copied().collect();
            all.truncate(self.top_k);
            all.extend(ties);
        }
        if self.top_p >= 1.0 && self.min_p <= 0.0 {
            return all;
        }
        all.sort_unstable_by(order);
        let Some(top) = all.first().map(|t| t.1) else { return all };
        if self.top_p < 1.0 {
            let total: f64 = all.iter().map(|t| (t.1 - top).exp()).sum();
            // a token goes if it and all less probable ones have at most 1 − p together
            let mut tail = 0.0;
            let mut kept = all.len();
            for token in all.iter().skip(1).rev() {
                tail += (token.1 - top).exp() / total;
                if tail > 1.0 - self.top_p {
                    break;
                }
                kept -= 1;
            }
            all.truncate(kept);
        }
        if self.min_p > 0.0 {
            let least = self.min_p.ln();
            all.retain(|token| token.1 - top >= least);
        }
        all
    }
}

/// The first of the largest logits.
fn best(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, logit) in (0..).zip(logits) {
        if !logit.is_nan() && best.is_none_or(|(_, largest)| *logit > largest) {
            best = Some((token, *logit));
        }
    }
    best.map(|(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(sampling: Sampling, logits: &[f32], context: &[u32], step: usize) -> Option<u32> {
        sampling.choose(&mut logits.to_vec(), context, (Noise::new(1, &[]), step))
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_skips_nan() {
        let greedy = Sampling::default();
        assert_eq!(choose(greedy, &[f32::NAN, 1.0, 3.0, 3.0], &[], 0), Some(2));
        assert_eq!(choose(greedy, &[f32::NAN], &[], 0), None);
    }

    #[test]
    fn the_penalty_turns_to_what_has_not_occurred() {
        let penalised = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(choose(penalised, &[1.0, 1.5, -1.0], &[1, 1], 0), Some(0));
        assert_eq!(choose(penalised, &[-3.0, -2.0], &[1], 0), Some(0));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let drawn = Sampling { temperature: 1.0, ..Sampling::default() };
        let mut counts = [0u32; 3];
        let n = 20_000;
        for step in 0..n {
            counts[choose(drawn, &logits, &[], step).unwrap() as usize] += 1;
        }
        // χ² with 2 degrees of freedom stays below 18.4 with probability 0.9999
        let square: f64 = counts
            .iter()
            .zip([0.5, 0.3, 0.2])
            .map(|(count, p)| {
                let expected = p * n as f64;
                (f64::from(*count) - expected).powi(2) / expected
            })
            .sum();
        assert!(square < 18.4, "{counts:?}");
    }
}
