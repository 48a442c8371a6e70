//! Shared n-grams of a hypothesis and its references, counted exactly and without hashing them.
//!
//! Every position starts one gram of each order. All positions of all texts are sorted by their
//! longest gram; then the grams of every order lie in runs, and one pass over neighbours counts
//! them: a run of order n is part of a run of order n − 1. Where the symbols are few enough, a
//! longest gram and its text are packed into 64 bits, so sorting is sorting integers.

/// Matches of each order 1 to `order`: Σ over grams of min(count in the first text, greatest count
/// in any other). Symbols must be 1 to `alphabet`.
pub(super) fn matches(texts: &[&[u32]], alphabet: usize, order: usize) -> Vec<u64> {
    let mut runs = Runs::new(texts.len(), order);
    let bits = usize::BITS - alphabet.leading_zeros();
    let text_bits = usize::BITS - texts.len().leading_zeros();
    let gram_bits = u32::try_from(order).unwrap_or(u32::MAX).saturating_mul(bits);
    if gram_bits.saturating_add(text_bits) <= u64::BITS {
        packed(texts, &mut runs, bits, text_bits);
    } else {
        compared(texts, &mut runs);
    }
    runs.finish()
}

fn packed(texts: &[&[u32]], runs: &mut Runs, bits: u32, text_bits: u32) {
    let order = runs.order;
    let mut keys = Vec::with_capacity(texts.iter().map(|text| text.len()).sum());
    let top = bits * u32::try_from(order).unwrap_or(1).saturating_sub(1);
    for (which, text) in texts.iter().enumerate() {
        let mut gram = 0_u64;
        keys.extend(text.iter().rev().map(|symbol| {
            gram = (gram >> bits) | (u64::from(*symbol) << top);
            (gram << text_bits) | which as u64
        }));
    }
    keys.sort_unstable();
    // How many whole symbols lie above a bit.
    let above: [usize; 64] = std::array::from_fn(|bit| {
        order.saturating_sub(1).saturating_sub(bit / bits.max(1) as usize)
    });
    let mask = (1_u64 << text_bits) - 1;
    let mut before = 0;
    for key in keys {
        let gram = key >> text_bits;
        let common = match gram ^ before {
            0 => order,
            difference => above[difference.ilog2() as usize & 63],
        };
        let length = above[gram.trailing_zeros() as usize & 63] + 1;
        runs.push(common, length, usize::try_from(key & mask).unwrap_or(0));
        before = gram;
    }
}

fn compared(texts: &[&[u32]], runs: &mut Runs) {
    let order = runs.order;
    let mut grams: Vec<(&[u32], usize)> = Vec::new();
    for (which, text) in texts.iter().enumerate() {
        let gram = |start| text.get(start..text.len().min(start + order)).unwrap_or_default();
        grams.extend((0..text.len()).map(|start| (gram(start), which)));
    }
    grams.sort_unstable();
    let mut before: &[u32] = &[];
    for (gram, which) in grams {
        let common = gram.iter().zip(before).take_while(|(a, b)| a == b).count();
        runs.push(common, gram.len(), which);
        before = gram;
    }
}

/// Counts of the runs that are open, one of each order, by text.
struct Runs {
    order: usize,
    texts: usize,
    /// `texts` counts for each order, of grams that are no part of a longer open run.
    counts: Vec<u64>,
    /// The longest open run.
    open: usize,
    matched: Vec<u64>,
}

impl Runs {
    fn new(texts: usize, order: usize) -> Self {
        let counts = vec![0; texts * order];
        Self { order, texts, counts, open: 0, matched: vec![0; order] }
    }

    /// The next position in sorted order: its gram has `length` symbols, the first `common` of them
    /// as the one before.
    fn push(&mut self, common: usize, length: usize, text: usize) {
        self.close(common);
        self.open = length;
        if let Some(count) = self.counts.get_mut((length - 1) * self.texts + text) {
            *count += 1;
        }
    }

    /// Closes the runs longer than `order`. Their counts are also those of the shorter run.
    fn close(&mut self, order: usize) {
        while self.open > order {
            self.open -= 1;
            let (shorter, longer) = self.counts.split_at_mut(self.open * self.texts);
            let longer = &mut longer[..self.texts];
            let wanted = longer[1..].iter().copied().max().unwrap_or(0);
            self.matched[self.open] += wanted.min(longer[0]);
            match shorter.len().checked_sub(self.texts).and_then(|at| shorter.get_mut(at..)) {
                Some(shorter) => {
                    for (short, long) in shorter.iter_mut().zip(longer) {
                        *short += std::mem::take(long);
                    }
                }
                None => longer.fill(0),
            }
        }
    }

    fn finish(mut self) -> Vec<u64> {
        self.close(0);
        self.matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted one by one.
    fn plain(texts: &[&[u32]], order: usize) -> Vec<u64> {
        let count =
            |text: &[u32], gram: &[u32]| text.windows(gram.len()).filter(|w| *w == gram).count();
        (1..=order)
            .map(|n| {
                let mut grams: Vec<&[u32]> = texts[0].windows(n).collect();
                grams.sort_unstable();
                grams.dedup();
                let clipped = grams.iter().map(|gram| {
                    let wanted = texts[1..].iter().map(|text| count(text, gram)).max().unwrap();
                    wanted.min(count(texts[0], gram)) as u64
                });
                clipped.sum()
            })
            .collect()
    }

    #[test]
    fn both_ways_count_as_one_by_one() {
        let mut state = 1_u32;
        for round in 0..200 {
            let mut text = |length: u32| -> Vec<u32> {
                let mut symbol = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state >> 29
                };
                (0..length).map(|_| symbol() % 3 + 1).collect()
            };
            let lists = [text(round % 23), text(round % 19), text(round % 7)];
            let texts: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
            for order in 1..=6 {
                let expected = plain(&texts, order);
                assert_eq!(matches(&texts, 3, order), expected, "{texts:?}");
                assert_eq!(matches(&texts, 1 << 30, order), expected, "{texts:?}");
            }
        }
    }
}
