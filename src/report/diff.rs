//! Two texts compared word by word.
//!
//! Words are aligned by Myers' algorithm (E. W. Myers, "An O(ND) Difference Algorithm and Its
//! Variations", 1986); white space follows its word. Short matches between long changes are
//! dropped, as in diff-match-patch's semantic clean-up, because a lone "the" in the middle of a
//! rewritten sentence helps nobody.
//!
//! Invariant: the kept and deleted parts in order are the old text, the kept and inserted parts
//! the new one.

use std::collections::HashMap;

use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Most words of both texts together that are aligned; the middle of longer ones counts as
/// replaced as a whole, so that a hostile text cannot cost minutes.
const MOST_WORDS: usize = 8_000;

/// What happened to a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// In both texts.
    Keep,
    /// Only in the new text.
    Insert,
    /// Only in the old text.
    Delete,
}

/// A piece of text and what happened to it.
pub type Piece = (Change, String);

/// The pieces that turn `old` into `new`; neighbours differ in their [`Change`].
pub fn words(old: &str, new: &str) -> Vec<Piece> {
    let (a, a_end) = split(old);
    let (b, b_end) = split(new);
    let mut out = Pieces::default();
    let mut next = (0, 0);
    let steps = align(&a, &b).into_iter().map(Some).chain([None]);
    for step in steps {
        let (i, j) = step.unwrap_or((a.len(), b.len()));
        for word in &a[next.0..i] {
            out.push(Change::Delete, word.0);
            out.push(Change::Delete, word.1);
        }
        for word in &b[next.1..j] {
            out.push(Change::Insert, word.0);
            out.push(Change::Insert, word.1);
        }
        if step.is_some() {
            out.gap(a[i].0, b[j].0);
            out.push(Change::Keep, a[i].1);
        }
        next = (i + 1, j + 1);
    }
    out.gap(a_end, b_end);
    clean(&out.0)
}

/// The share of both texts that is not in common, from 0 (equal) to 1.
pub fn changed(pieces: &[Piece]) -> f64 {
    let (mut kept, mut all) = (0usize, 0usize);
    for (change, text) in pieces {
        let n = text.chars().filter(|c| !c.is_whitespace()).count();
        let n = if *change == Change::Keep { 2 * n } else { n };
        all += n;
        kept += if *change == Change::Keep { n } else { 0 };
    }
    if all == 0 { 0.0 } else { 1.0 - kept as f64 / all as f64 }
}

/// White space before a word, and the word.
type Word<'a> = (&'a str, &'a str);

/// Words with the white space before each, and the white space at the end. A word is a run of
/// letters and digits, or any other single character.
fn split(text: &str) -> (Vec<Word<'_>>, &str) {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        let start = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let (space, tail) = rest.split_at(start);
        let Some(first) = tail.chars().next() else { return (words, rest) };
        let end = if first.is_alphanumeric() {
            tail.find(|c: char| !c.is_alphanumeric()).unwrap_or(tail.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = tail.split_at(end);
        words.push((space, word));
        rest = after;
    }
}

/// Pairs of equal words, ascending in both texts.
fn align(a: &[Word<'_>], b: &[Word<'_>]) -> Vec<(usize, usize)> {
    let head = a.iter().zip(b).take_while(|(x, y)| x.1 == y.1).count();
    let (a_rest, b_rest) = (&a[head..], &b[head..]);
    let tail = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(x, y)| x.1 == y.1).count();
    let middle = (&a_rest[..a_rest.len() - tail], &b_rest[..b_rest.len() - tail]);
    let mut pairs: Vec<_> = (0..head).map(|i| (i, i)).collect();
    pairs.extend(align_middle(middle.0, middle.1).into_iter().map(|(i, j)| (head + i, head + j)));
    pairs.extend((0..tail).map(|i| (a.len() - tail + i, b.len() - tail + i)));
    pairs
}

/// As [`align`], over what is left between a common head and tail. Words of one text only cannot
/// match and are set aside first: outputs that share little are then as cheap as alike ones.
fn align_middle(a: &[Word<'_>], b: &[Word<'_>]) -> Vec<(usize, usize)> {
    let mut ids: HashMap<&str, (u32, bool)> = HashMap::with_capacity(a.len());
    for word in a {
        let id = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        ids.entry(word.1).or_insert((id, false));
    }
    let mut right = Vec::new();
    for (j, word) in b.iter().enumerate() {
        if let Some((id, in_both)) = ids.get_mut(word.1) {
            *in_both = true;
            right.push((*id, j));
        }
    }
    let left: Vec<(u32, usize)> = a
        .iter()
        .enumerate()
        .filter_map(|(i, word)| ids.get(word.1).filter(|(_, both)| *both).map(|(id, _)| (*id, i)))
        .collect();
    if left.len() + right.len() > MOST_WORDS {
        return Vec::new();
    }
    let key = |side: &[(u32, usize)]| side.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    let mut pairs = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &key(&left), &key(&right)) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            pairs.extend((0..len).map(|k| (left[old_index + k].1, right[new_index + k].1)));
        }
    }
    pairs
}

/// Pieces under construction; neighbours of one kind grow together.
#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn push(&mut self, change: Change, text: &str) {
        if text.is_empty() {
            return;
        }
        // within one change, what was deleted stands before what was inserted
        let n = self.0.len();
        let at = match self.0.last() {
            Some(last) if last.0 == change => Some(n - 1),
            Some(last) if last.0 == Change::Insert && change == Change::Delete => {
                match self.0.get(n.wrapping_sub(2)) {
                    Some(before) if before.0 == Change::Delete => Some(n - 2),
                    _ => {
                        self.0.insert(n - 1, (change, text.to_owned()));
                        return;
                    }
                }
            }
            _ => None,
        };
        match at {
            Some(at) => self.0[at].1.push_str(text),
            None => self.0.push((change, text.to_owned())),
        }
    }

    /// White space before a word that both texts have.
    fn gap(&mut self, old: &str, new: &str) {
        if old == new {
            self.push(Change::Keep, old);
        } else {
            self.push(Change::Delete, old);
            self.push(Change::Insert, new);
        }
    }
}

/// Drops matches shorter than the changes on both their sides.
fn clean(pieces: &[Piece]) -> Vec<Piece> {
    let sizes: Vec<usize> = pieces.iter().map(|piece| piece.1.trim().chars().count()).collect();
    let change = |range: std::ops::Range<usize>| -> usize {
        range.filter(|&i| pieces[i].0 != Change::Keep).map(|i| sizes[i]).max().unwrap_or(0)
    };
    let keeps: Vec<usize> = (0..pieces.len()).filter(|&i| pieces[i].0 == Change::Keep).collect();
    let mut out = Pieces::default();
    for (i, piece) in pieces.iter().enumerate() {
        let drop = piece.0 == Change::Keep && {
            let at = keeps.partition_point(|&k| k < i);
            let before = if at == 0 { 0 } else { keeps[at - 1] };
            let after = keeps.get(at + 1).copied().unwrap_or(pieces.len());
            // only where both sides of the texts change: additions alone stay readable
            let kinds = |change: Change| pieces[before..after].iter().any(|p| p.0 == change);
            kinds(Change::Delete)
                && kinds(Change::Insert)
                && sizes[i] < 12
                && sizes[i] < change(before..i).min(change(i..after)) / 2
        };
        if drop {
            out.push(Change::Delete, &piece.1);
            out.push(Change::Insert, &piece.1);
        } else {
            out.push(piece.0, &piece.1);
        }
    }
    unindent(out.0)
}

/// Moves white space that a deletion and the insertion after it both start with out of them.
fn unindent(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out = Pieces::default();
    let mut pieces = pieces.into_iter().peekable();
    while let Some((change, text)) = pieces.next() {
        match pieces.peek_mut() {
            Some((Change::Insert, new)) if change == Change::Delete => {
                let shared: usize = text
                    .chars()
                    .zip(new.chars())
                    .take_while(|(a, b)| a == b && a.is_whitespace())
                    .map(|(a, _)| a.len_utf8())
                    .sum();
                out.push(Change::Keep, &text[..shared]);
                out.push(Change::Delete, &text[shared..]);
                new.drain(..shared);
            }
            _ => out.push(change, &text),
        }
    }
    out.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side(pieces: &[Piece], not: Change) -> String {
        pieces.iter().filter(|p| p.0 != not).map(|p| p.1.as_str()).collect()
    }

    fn marked(old: &str, new: &str) -> String {
        words(old, new)
            .into_iter()
            .map(|(change, text)| match change {
                Change::Keep => text,
                Change::Insert => format!("[+{text}]"),
                Change::Delete => format!("[-{text}]"),
            })
            .collect()
    }

    #[test]
    fn a_changed_word_is_marked_and_nothing_else() {
        assert_eq!(marked("a red star", "a blue star"), "a [-red][+blue] star");
        assert_eq!(marked("X", "well X then"), "[+well ]X[+ then]");
        assert_eq!(marked("same\ntext", "same\ntext"), "same\ntext");
        assert_eq!(marked("", "new"), "[+new]");
        assert_eq!(marked("", ""), "");
    }

    #[test]
    fn short_matches_between_long_changes_are_dropped() {
        let text = marked(
            "mountains everywhere a completely desolate place",
            "submarines underneath a thoroughly inhabited harbour",
        );
        assert_eq!(text.matches("[-").count(), 1, "{text}");
    }

    #[test]
    fn texts_too_long_to_align_are_replaced_as_a_whole() {
        let text =
            |step: usize| (0..9_000).map(|i| ["a ", "b ", "c "][i * step % 3]).collect::<String>();
        let (old, new) = (text(1), format!("x {} y", text(2)));
        let pieces = words(&old, &new);
        assert_eq!(side(&pieces, Change::Insert), old);
        assert_eq!(side(&pieces, Change::Delete), new);
    }

    #[test]
    fn share_of_change() {
        assert_eq!(changed(&words("a b", "a b")), 0.0);
        assert_eq!(changed(&words("", "")), 0.0);
        assert_eq!(changed(&words("abc", "xyz")), 1.0);
        // "a" and "star" are 5 of 8 characters in each text
        assert_eq!(changed(&words("a red star", "a hot star")), 1.0 - 10.0 / 16.0);
    }

    proptest! {
        #[test]
        fn pieces_give_back_both_texts(old in "[ab \\n.é]{0,40}", new in "[ab \\n.é]{0,40}") {
            let pieces = words(&old, &new);
            prop_assert_eq!(side(&pieces, Change::Insert), old);
            prop_assert_eq!(side(&pieces, Change::Delete), new);
            prop_assert!(pieces.windows(2).all(|w| w[0].0 != w[1].0));
            prop_assert!(pieces.iter().all(|p| !p.1.is_empty()));
        }

        #[test]
        fn equal_texts_have_no_change(text in "\\PC{0,60}") {
            prop_assert!(words(&text, &text).iter().all(|p| p.0 == Change::Keep));
        }

        #[test]
        fn the_share_is_a_share(old in ".{0,40}", new in ".{0,40}") {
            let share = changed(&words(&old, &new));
            prop_assert!((0.0..=1.0).contains(&share));
        }
    }
}
