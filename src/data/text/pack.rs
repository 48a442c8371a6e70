//! Several examples in one row.

use std::collections::{BTreeMap, VecDeque};

/// Examples by their `lengths` into rows of at most `max` tokens: best fit decreasing, as the strategy
/// `bfd` of TRL. The longest example comes first, and each goes into the row that it leaves the least
/// space in; of equal ones the first. An example longer than `max` has a row of its own.
///
/// Every index occurs once, and the same lengths give the same rows.
pub fn pack(lengths: &[usize], max: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<(usize, usize)> = lengths.iter().copied().enumerate().collect();
    order.sort_by_key(|(index, length)| (std::cmp::Reverse(*length), *index));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Rows by the space that is left in them.
    let mut open: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for (index, length) in order {
        let best = open.range(length..).next().map(|(space, _)| *space);
        let found = best.and_then(|space| Some((space, open.get_mut(&space)?.pop_front()?)));
        let (space, row) = found.unwrap_or_else(|| {
            rows.push(Vec::new());
            (max, rows.len() - 1)
        });
        if open.get(&space).is_some_and(VecDeque::is_empty) {
            open.remove(&space);
        }
        if let Some(row) = rows.get_mut(row) {
            row.push(index);
        }
        open.entry(space.saturating_sub(length)).or_default().push_back(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_goes_where_it_leaves_the_least_space() {
        // Sorted: 6, 5, 4, 3, 3, 1 into rows of 8.
        assert_eq!(pack(&[3, 6, 1, 5, 3, 4], 8), [vec![1], vec![3, 0], vec![5, 4, 2]]);
        assert_eq!(pack(&[4, 4, 4, 4], 8), [[0, 1], [2, 3]]);
        assert_eq!(pack(&[9, 2], 8), [[0], [1]]);
        assert!(pack(&[], 8).is_empty());
    }

    proptest! {
        #[test]
        fn rows_hold_every_example_once_and_never_too_much(
            lengths in prop::collection::vec(1_usize..=64, 0..200),
            max in 64_usize..200,
        ) {
            let rows = pack(&lengths, max);
            let mut seen: Vec<usize> = rows.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            let sums: Vec<usize> =
                rows.iter().map(|row| row.iter().map(|i| lengths[*i]).sum()).collect();
            prop_assert!(sums.iter().all(|sum| *sum <= max));
            // Two rows that fit into one would have been one.
            let mut sums = sums;
            sums.sort_unstable();
            prop_assert!(sums.len() < 2 || sums[0] + sums[1] > max);
        }
    }
}
