/// In which share of the resamples each strength is the best that is allowed; `[strength][trial]`.
///
/// Equally good strengths share a resample; one in which none is allowed counts for none, so the
/// shares may sum to less than 1.
pub fn wins(objective: &[Vec<f64>], allowed: &[Vec<bool>]) -> Vec<f64> {
    let trials = objective.iter().map(Vec::len).max().unwrap_or(0);
    let mut shares = vec![0.0; objective.len()];
    for trial in 0..trials {
        let scores: Vec<Option<f64>> = objective
            .iter()
            .zip(allowed)
            .map(|(scores, allowed)| {
                let score = *scores.get(trial)?;
                (allowed.get(trial) == Some(&true) && !score.is_nan()).then_some(score)
            })
            .collect();
        let best = scores.iter().flatten().copied().reduce(f64::max);
        let winners = scores.iter().filter(|score| score.is_some() && **score == best).count();
        for (share, score) in shares.iter_mut().zip(&scores) {
            if score.is_some() && *score == best {
                *share += 1.0 / (winners * trials) as f64;
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_allowed_strength_wins_a_resample_and_equal_ones_share_it() {
        let objective = [vec![1.0, 5.0, 2.0, 9.0], vec![2.0, 3.0, 2.0, 9.0]];
        let allowed = [vec![true, true, true, false], vec![true, true, true, false]];
        assert_eq!(wins(&objective, &allowed), [0.375, 0.375]);
        let allowed = [vec![false, false, true, true], vec![true, true, true, false]];
        assert_eq!(wins(&objective, &allowed), [0.375, 0.625]);
    }

    #[test]
    fn a_score_that_is_no_number_never_wins() {
        let objective = [vec![f64::NAN], vec![-1.0]];
        assert_eq!(wins(&objective, &[vec![true], vec![true]]), [0.0, 1.0]);
        assert!(wins(&[], &[]).is_empty());
    }
}
