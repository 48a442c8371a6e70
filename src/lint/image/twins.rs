//! Pictures that are there twice.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::item::{Item, Likeness};
use crate::base::terminal::printable;
use crate::lint::rules;
use crate::lint::{Finding, Place};

const REMOVE: &str = "remove one of the two; to weigh a picture more, raise its repeats";
const KEEP: &str = "keep the better one: near-copies weigh more than other pictures, and fall on both sides where a part is held out";
const AGREE: &str = "keep one of the two, or give both the same caption";
const SEPARATE: &str =
    "remove it from one of the two: a loss on what was trained on says nothing about new prompts";

/// A picture that an earlier one looks like.
#[derive(Debug, PartialEq)]
pub struct Twin {
    /// Which of the items it is.
    pub at: usize,
    /// What is wrong with that.
    pub finding: Finding,
}

/// A finding for each picture that looks like one before it, by what follows from it: a leak of
/// what is held out, captions that contradict each other, or a mere copy. Of several earlier ones
/// the one that it is most like counts, for a held-out picture first of all a trained one. Items
/// that are held out come last.
///
/// A copy with the same captions adds nothing and can be taken out.
pub fn twins(items: &[Item]) -> Vec<Twin> {
    let indices: Vec<usize> = (0..items.len()).collect();
    indices.into_par_iter().filter_map(|at| twin(items, at)).collect()
}

fn twin(items: &[Item], at: usize) -> Option<Twin> {
    let (before, item) = (items.get(..at)?, items.get(at)?);
    let look = item.look.as_ref()?;
    let alike = before.iter().filter_map(|other| {
        let likeness = look.likeness(other.look.as_ref()?)?;
        Some((item.held_out == other.held_out, likeness, other))
    });
    let (_, likeness, other) =
        alike.min_by_key(|(same_side, likeness, _)| (*same_side, *likeness))?;
    Some(Twin { at, finding: judge(item, other, likeness) })
}

fn judge(item: &Item, other: &Item, likeness: Likeness) -> Finding {
    let (place, name) = (Place::file(&item.picture), other.picture.to_string_lossy());
    let message = match likeness {
        Likeness::Exact => format!("the same file as `{}`", printable(&name)),
        Likeness::Near(bits) => {
            format!("looks like `{}`: {bits} of 64 bits of their pHashes differ", printable(&name))
        }
    };
    if item.held_out != other.held_out {
        let finding = match likeness {
            Likeness::Exact => Finding::error(&rules::LEAKAGE, place, message),
            Likeness::Near(_) => Finding::warning(&rules::LEAKAGE, place, message),
        };
        return finding.advice(SEPARATE);
    }
    if captions(item) != captions(other) {
        let message = format!("{message}; their captions differ");
        return Finding::warning(&rules::CONTRADICTING_CAPTIONS, place, message).advice(AGREE);
    }
    match likeness {
        Likeness::Exact => {
            Finding::warning(&rules::DUPLICATE, place, message).advice(REMOVE).fixable()
        }
        Likeness::Near(_) => Finding::warning(&rules::NEAR_DUPLICATE, place, message).advice(KEEP),
    }
}

fn captions(item: &Item) -> BTreeSet<&str> {
    item.captions.iter().map(|caption| caption.trim()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::{item, look};
    use super::*;

    fn seen(name: &str, caption: &str, size: usize, frequency: f64) -> Item {
        Item { look: Some(look((size, size), frequency, 0)), ..item(name, caption) }
    }

    fn found(items: &[Item]) -> Vec<(usize, &'static str)> {
        twins(items).into_iter().map(|twin| (twin.at, twin.finding.rule)).collect()
    }

    #[test]
    fn copies_are_told_from_contradictions() {
        let items = [
            seen("a.png", "a cat", 96, 7.0),
            seen("b.png", "a cat", 96, 7.0),
            seen("c.png", "a dog", 96, 7.0),
            seen("d.png", "a cat ", 80, 7.0),
            seen("e.png", "a cat", 96, 17.0),
        ];
        let expected = [(1, "duplicate"), (2, "contradicting-captions"), (3, "near-duplicate")];
        assert_eq!(found(&items), expected);
        let fixable: Vec<bool> = twins(&items).iter().map(|twin| twin.finding.fixable).collect();
        assert_eq!(fixable, [true, false, false]);
    }

    #[test]
    fn a_held_out_copy_is_a_leak_first_of_all() {
        let mut items = [
            seen("a.png", "a cat", 96, 7.0),
            seen("b.png", "a cat", 96, 7.0),
            seen("c.png", "a dog", 96, 7.0),
            seen("d.png", "a cat", 80, 7.0),
        ];
        for item in &mut items[1..] {
            item.held_out = true;
        }
        assert_eq!(found(&items), [(1, "leakage"), (2, "leakage"), (3, "leakage")]);
    }
}
