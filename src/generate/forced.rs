//! A given text under the models of a batch.

use candle_core::Tensor;
use rayon::prelude::*;

use super::GenerateError;
use super::complete::{Prefilled, strengths_of};
use crate::model::decoder::Decoder;
use crate::nn::Strengths;

/// How one row fares with a text, against row 0 of the same batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Forced {
    /// Tokens that were scored.
    pub tokens: usize,
    /// −Σ ln p(token), in nats.
    pub nll: f64,
    /// Σ KL(row 0 ‖ this row) over the next-token distributions, in nats; exactly 0 for row 0.
    pub kl: f64,
    /// Positions at which this row's most probable token is row 0's.
    pub agree: usize,
}

/// Positions whose logits are held at once.
const CHUNK: usize = 16;

/// Scores `target` after the prompts of `prefilled`, which must be one prompt in all rows. All
/// numbers come from f32 logits of one pass, summed in f64; row 0 is the base.
pub fn teacher_forced(
    decoder: &Decoder,
    prefilled: &Prefilled,
    target: &[u32],
) -> Result<Vec<Forced>, GenerateError> {
    let rows = prefilled.rows.len();
    let mut sums = vec![Forced::default(); rows];
    let Some((first, rest)) = target.split_first() else { return Ok(sums) };
    let width = decoder.config.vocabulary;
    let prompt = &prefilled.rows[0].prompt;
    let crosses = |length: usize| prompt.len() <= length && length < prompt.len() + rest.len();
    if decoder.switches_at().is_some_and(crosses) {
        // the cached keys were turned by frequencies that do not hold for the whole text
        let whole = [prompt.as_slice(), &target[..rest.len()]].concat();
        let mut cache = decoder.cache(vec![0; rows], false);
        let strengths = strengths_of(&prefilled.rows);
        let hidden = decoder.hidden(&vec![whole; rows], &mut cache, &strengths)?;
        let hidden = hidden.narrow(1, prompt.len() - 1, target.len())?;
        in_chunks(decoder, &hidden, &strengths, target, &mut sums)?;
        return Ok(sums);
    }
    let logits = prefilled.logits.flatten_all()?.to_vec1::<f32>()?;
    add(&mut sums, &logits, width, &[*first]);
    if rest.is_empty() {
        return Ok(sums);
    }
    let strengths = strengths_of(&prefilled.rows);
    let mut cache = prefilled.cache.duplicate()?;
    let inputs = vec![target[..rest.len()].to_vec(); rows];
    let hidden = decoder.hidden(&inputs, &mut cache, &strengths)?;
    in_chunks(decoder, &hidden, &strengths, rest, &mut sums)?;
    Ok(sums)
}

/// Adds what a residual stream (rows, tokens, hidden) says about `tokens`, some positions at a time.
fn in_chunks(
    decoder: &Decoder,
    hidden: &Tensor,
    strengths: &Strengths,
    tokens: &[u32],
    sums: &mut [Forced],
) -> Result<(), GenerateError> {
    for (chunk, tokens) in tokens.chunks(CHUNK).enumerate() {
        let part = hidden.narrow(1, chunk * CHUNK, tokens.len())?.contiguous()?;
        let logits = decoder.logits(&part, strengths)?.flatten_all()?.to_vec1::<f32>()?;
        add(sums, &logits, decoder.config.vocabulary, tokens);
    }
    Ok(())
}

/// Adds what `logits` (rows, tokens, vocabulary) say about `tokens`.
fn add(sums: &mut [Forced], logits: &[f32], width: usize, tokens: &[u32]) {
    let of = |row: usize, place: usize| &logits[(row * tokens.len() + place) * width..][..width];
    let base: Vec<(f64, usize)> =
        (0..tokens.len()).into_par_iter().map(|place| partition(of(0, place))).collect();
    sums.par_iter_mut().enumerate().for_each(|(row, sum)| {
        for (place, token) in tokens.iter().enumerate() {
            let (mine, zero) = (of(row, place), of(0, place));
            let (norm, best) = partition(mine);
            let (base_norm, base_best) = base[place];
            sum.tokens += 1;
            sum.nll += norm - f64::from(mine.get(*token as usize).copied().unwrap_or(f32::NAN));
            sum.agree += usize::from(best == base_best);
            if row > 0 {
                sum.kl += divergence((zero, base_norm), (mine, norm));
            }
        }
    });
}

/// ln Σ exp and the place of the largest.
fn partition(logits: &[f32]) -> (f64, usize) {
    let (mut best, mut largest) = (0, f32::NEG_INFINITY);
    for (place, logit) in logits.iter().enumerate() {
        if *logit > largest {
            (best, largest) = (place, *logit);
        }
    }
    let largest = f64::from(largest);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
    (largest + sum.ln(), best)
}

/// KL(p ‖ q) of two softmaxes given with their log-partitions.
fn divergence((p, p_norm): (&[f32], f64), (q, q_norm): (&[f32], f64)) -> f64 {
    p.iter()
        .zip(q)
        .map(|(p, q)| {
            let (log_p, log_q) = (f64::from(*p) - p_norm, f64::from(*q) - q_norm);
            let p = log_p.exp();
            if p == 0.0 { 0.0 } else { p * (log_p - log_q) }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closed forms: (1,2,3)‖(1,2,4) and (0,0)‖(ln 9,0).
    #[test]
    fn divergences_with_known_values() {
        for (p, q, expected) in [
            (vec![1.0, 2.0, 3.0], vec![1.0, 2.0, 4.0], 0.096_999_099_337_083_34),
            (vec![0.0, 0.0], vec![9f32.ln(), 0.0], 0.510_825_623_765_990_7),
            (vec![0.3, -7.0], vec![0.3, -7.0], 0.0),
        ] {
            let found = divergence((&p, partition(&p).0), (&q, partition(&q).0));
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
    }

    #[test]
    fn likelihood_and_agreement_against_row_0() {
        let logits = [1.0, 2.0, 3.0, /* row 1 */ 4.0, 2.0, 1.0];
        let mut sums = vec![Forced::default(); 2];
        add(&mut sums, &logits, 3, &[2]);
        // −ln(e³ / (e + e² + e³)) and −ln(e / (e⁴ + e² + e))
        assert!((sums[0].nll - 0.407_605_964_444_380_1).abs() < 1e-12);
        assert!((sums[1].nll - 3.170_0).abs() < 1e-3);
        assert_eq!((sums[0].agree, sums[0].kl), (1, 0.0));
        assert_eq!(sums[1].agree, 0);
    }
}
