//! tercom's edits: greedy shifts of phrases, then the edit distance.
//!
//! As long as it helps, the phrase whose shift lowers the edit distance most is moved: a phrase that
//! the reference has too, wrong where it is and missing where it goes. Ties are broken as tercom
//! does: the longest, then the leftmost, then the leftmost target. Limits: phrases of 10 words, 50
//! positions apart, 1000 shifts tried; the distance keeps to a band of 25 around the diagonal.

const MAX_SHIFT_SIZE: usize = 10;
const MAX_SHIFT_DISTANCE: usize = 50;
const MAX_CANDIDATES: usize = 1000;
const BEAM_WIDTH: usize = 25;
/// Outside the band.
const UNREACHED: u32 = u32::MAX / 2;

/// The number of edits that make `hypothesis` into `reference`.
pub(super) fn edits(hypothesis: &[u32], reference: &[u32]) -> usize {
    if reference.is_empty() {
        return hypothesis.len();
    }
    let mut distance = Distance::new(hypothesis.len(), reference);
    let mut words = hypothesis.to_vec();
    let mut candidates = 0;
    let mut shifts = 0;
    loop {
        let before = distance.fill(&words);
        let best = best_shift(&words, &mut distance, before, &mut candidates);
        match best {
            Some(best) if best.gain > 0 && candidates < MAX_CANDIDATES => {
                shifts += 1;
                words = best.shift.apply(&words);
            }
            _ => return shifts + before as usize,
        }
    }
}

/// A phrase moved before the word at `target`.
#[derive(Debug, Clone, Copy)]
struct Shift {
    start: usize,
    length: usize,
    target: usize,
}

struct Best {
    gain: i64,
    shift: Shift,
}

impl Best {
    /// Whether this shift is to be preferred.
    fn beats(&self, other: &Self) -> bool {
        let rank = |best: &Self| {
            use std::cmp::Reverse;
            let Shift { start, length, target } = best.shift;
            (best.gain, length, Reverse(start), Reverse(target))
        };
        rank(self) > rank(other)
    }
}

impl Shift {
    fn apply(self, words: &[u32]) -> Vec<u32> {
        let Self { start, length, target } = self;
        let part = |from: usize, to: usize| {
            let to = to.min(words.len());
            words.get(from.min(to)..to).unwrap_or_default()
        };
        let end = words.len();
        let phrase = part(start, start + length);
        let parts = if target < start {
            [part(0, target), phrase, part(target, start), part(start + length, end)]
        } else if target > start + length {
            [part(0, start), part(start + length, target), phrase, part(target, end)]
        } else {
            let after = length + target;
            [part(0, start), part(start + length, after), phrase, part(after, end)]
        };
        parts.concat()
    }
}

/// The shift that lowers the distance most.
fn best_shift(
    words: &[u32],
    distance: &mut Distance<'_>,
    before: u32,
    candidates: &mut usize,
) -> Option<Best> {
    let reference = distance.reference;
    let alignment = distance.alignment(words);
    let mut best: Option<Best> = None;
    for start in 0..words.len() {
        let nearest = start.saturating_sub(MAX_SHIFT_DISTANCE);
        let farthest = reference.len().min(start + MAX_SHIFT_DISTANCE + 1);
        for goal in nearest..farthest {
            let same = words[start..].iter().zip(&reference[goal..]).take_while(|(a, b)| a == b);
            let longest = same.take(MAX_SHIFT_SIZE).count();
            for length in 1..=longest {
                if !alignment.allows(start, goal, length) {
                    continue;
                }
                let mut last = None;
                for offset in 0..=length {
                    let Some(target) = alignment.target(goal + offset) else { break };
                    if last.replace(target) == Some(target) {
                        continue;
                    }
                    let shift = Shift { start, length, target };
                    let after = distance.of(&shift.apply(words), start.min(target));
                    *candidates += 1;
                    let found = Best { gain: i64::from(before) - i64::from(after), shift };
                    if best.as_ref().is_none_or(|best| found.beats(best)) {
                        best = Some(found);
                    }
                }
                if *candidates >= MAX_CANDIDATES {
                    return best;
                }
            }
        }
    }
    best
}

/// Which word of the hypothesis stands where the reference's words belong, and what is wrong.
struct Alignment {
    /// For each word of the reference, one past its place in the hypothesis.
    next: Vec<usize>,
    /// How many words before a place are wrong.
    wrong_hypothesis: Vec<u32>,
    wrong_reference: Vec<u32>,
}

impl Alignment {
    fn allows(&self, start: usize, goal: usize, length: usize) -> bool {
        let any_wrong = |wrong: &[u32], from: usize| wrong.get(from + length) != wrong.get(from);
        let place = self.next.get(goal).copied().unwrap_or(0);
        any_wrong(&self.wrong_hypothesis, start)
            && any_wrong(&self.wrong_reference, goal)
            // Not into itself.
            && !(start + 1..=start + length).contains(&place)
    }

    /// Where to put what belongs before the reference's word `place`.
    fn target(&self, place: usize) -> Option<usize> {
        place.checked_sub(1).map_or(Some(0), |before| self.next.get(before).copied())
    }
}

/// Levenshtein's distance to a reference within a band. All hypotheses have the same length.
struct Distance<'a> {
    reference: &'a [u32],
    /// For each number of words of the hypothesis, the part of the reference that is looked at.
    band: Vec<(usize, usize)>,
    /// All rows of the hypothesis given to [`Self::fill`].
    rows: Vec<u32>,
    scratch: [Vec<u32>; 2],
}

impl<'a> Distance<'a> {
    fn new(length: usize, reference: &'a [u32]) -> Self {
        let width = reference.len() + 1;
        let mut rows = vec![UNREACHED; (length + 1) * width];
        for (cost, cell) in (0..).zip(rows.iter_mut().take(width)) {
            *cell = cost;
        }
        let scratch = [vec![UNREACHED; width], vec![UNREACHED; width]];
        Self { reference, band: bands(length, reference.len()), rows, scratch }
    }

    /// The distance of `words`, all rows kept.
    fn fill(&mut self, words: &[u32]) -> u32 {
        let width = self.reference.len() + 1;
        for (place, (word, band)) in words.iter().zip(self.band.iter().skip(1)).enumerate() {
            let (done, rest) = self.rows.split_at_mut((place + 1) * width);
            next_row(&done[place * width..], &mut rest[..width], *word, self.reference, *band);
        }
        self.rows.last().copied().unwrap_or(UNREACHED)
    }

    /// The distance of other words, the first `known` of which are as those given to `fill`.
    fn of(&mut self, words: &[u32], known: usize) -> u32 {
        let width = self.reference.len() + 1;
        let [before, row] = &mut self.scratch;
        before.copy_from_slice(&self.rows[known * width..(known + 1) * width]);
        for (word, band) in words.iter().zip(self.band.iter().skip(1)).skip(known) {
            next_row(before, row, *word, self.reference, *band);
            std::mem::swap(before, row);
        }
        before.last().copied().unwrap_or(UNREACHED)
    }

    /// The path through the rows: keep or substitute, else delete, else insert.
    fn alignment(&self, words: &[u32]) -> Alignment {
        let length = words.len();
        let width = self.reference.len() + 1;
        let at = |i: usize, j: usize| self.rows.get(i * width + j).copied().unwrap_or(UNREACHED);
        let mut found = Alignment {
            next: vec![0; self.reference.len()],
            wrong_hypothesis: vec![0; length + 1],
            wrong_reference: vec![0; width],
        };
        let (mut i, mut j) = (length, width - 1);
        while i > 0 || j > 0 {
            let cost = at(i, j);
            let wrong = u32::from(i == 0 || j == 0 || words[i - 1] != self.reference[j - 1]);
            if i > 0 && j > 0 && at(i - 1, j - 1) + wrong == cost {
                found.next[j - 1] = i;
                found.wrong_hypothesis[i] = wrong;
                found.wrong_reference[j] = wrong;
                (i, j) = (i - 1, j - 1);
            } else if i > 0 && (j == 0 || at(i - 1, j) + 1 == cost) {
                found.wrong_hypothesis[i] = 1;
                i -= 1;
            } else {
                found.next[j - 1] = i;
                found.wrong_reference[j] = 1;
                j -= 1;
            }
        }
        for wrong in [&mut found.wrong_hypothesis, &mut found.wrong_reference] {
            let mut sum = 0;
            for count in wrong.iter_mut() {
                sum += *count;
                *count = sum;
            }
        }
        found
    }
}

fn next_row(
    before: &[u32],
    row: &mut [u32],
    word: u32,
    reference: &[u32],
    (first, end): (usize, usize),
) {
    row.fill(UNREACHED);
    let start = first.max(1);
    let mut left = UNREACHED;
    if first == 0
        && let (Some(cell), Some(above)) = (row.first_mut(), before.first())
    {
        *cell = above + 1;
        left = *cell;
    }
    if start >= end {
        return;
    }
    let cells = row[start..end].iter_mut().zip(&reference[start - 1..end - 1]);
    for ((cell, goal), above) in cells.zip(before[start - 1..end].windows(2)) {
        let &[diagonal, up] = above else { continue };
        let cost = (diagonal + u32::from(word != *goal)).min(up + 1).min(left + 1);
        *cell = cost.min(UNREACHED);
        left = *cell;
    }
}

/// For each number of words of a hypothesis of `length`, the band of the reference, as sacreBLEU
/// has it: around the diagonal from corner to corner, to the end in the last row.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places in a text, floored as the original does"
)]
fn bands(length: usize, reference: usize) -> Vec<(usize, usize)> {
    let ratio = if length == 0 { 1.0 } else { reference as f64 / length as f64 };
    let width = if (BEAM_WIDTH as f64) < ratio / 2.0 {
        (ratio / 2.0 + BEAM_WIDTH as f64).ceil() as usize
    } else {
        BEAM_WIDTH
    };
    let band = |place: usize| {
        let diagonal = (place as f64 * ratio).floor() as usize;
        let end = if place == length { reference + 1 } else { diagonal + width };
        (diagonal.saturating_sub(width), end.min(reference + 1))
    };
    (0..=length).map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> Vec<u32> {
        text.split(' ').map(|word| word.bytes().map(u32::from).sum()).collect()
    }

    /// Cases of sacreBLEU's own tests.
    #[test]
    fn a_shift_is_one_edit() {
        assert_eq!(edits(&letters("d e f g h a b c"), &letters("a b c d e f g h")), 1);
        assert_eq!(edits(&letters("a b c"), &letters("a b c")), 0);
        assert_eq!(edits(&letters("a b c"), &letters("x y z")), 3);
        assert_eq!(edits(&letters("a b"), &[]), 2);
        assert_eq!(edits(&[], &letters("a b")), 2);
    }
}
