//! What captions say, and what they leave out.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::item::Item;
use crate::base::hint::first_few;
use crate::base::terminal::printable;
use crate::config::ImageDataSettings;
use crate::lint::rules;
use crate::lint::words::{has_phrase, words};
use crate::lint::{Finding, Place};
use crate::text::{ClipTokenizer, TextError};

/// So few captions may well be alike.
const FEWEST_ALIKE: usize = 4;
/// Captions that share more than this part of their words hardly differ.
const SHARED: f64 = 0.9;
/// With fewer captions, a word that most of them have says nothing.
const FEWEST_WITH_WORD: usize = 10;
/// A word in at least this part of the captions may be meant for all.
const NEARLY_ALL: f64 = 0.9;
/// CLIP's vocabulary is in the order of how often its tokens occur: from here on they are rare. `sks`
/// is 48136, `watercolor` 17218, `dog` 1929.
const RARE: u32 = 30_000;

const DESCRIBE: &str = "say in each caption what differs between the pictures: what no caption says becomes part of what the adapter always draws";
const SHORTEN: &str = "shorten it, or set `data.image.max_caption_tokens` to 150 or 225; what is behind the limit is not read";
const CALL: &str = "write the word into every caption, or once into `data.image.caption_prefix`; without it, every prompt calls the adapter a little";

/// Captions with more tokens than are read.
pub fn long(
    items: &[Item],
    settings: &ImageDataSettings,
    clip: &ClipTokenizer,
) -> Result<Vec<Finding>, TextError> {
    let most = settings.max_caption_tokens;
    let of_item = |item: &Item| -> Result<Option<Finding>, TextError> {
        let longest = item.captions.iter().try_fold(0, |longest: usize, caption| {
            clip.encode(caption).map(|tokens| longest.max(tokens.len()))
        })?;
        let message = format!("{longest} tokens, expected at most {most}");
        Ok((longest > most)
            .then(|| Finding::warning(&rules::LONG_CAPTION, item.place(), message).advice(SHORTEN)))
    };
    items.par_iter().filter_map(|item| of_item(item).transpose()).collect()
}

/// One finding if most captions agree word for word, or share nearly all their words.
pub fn same(items: &[Item], folder: &Place) -> Option<Finding> {
    let captions: Vec<&String> = trained(items).map(|(_, caption)| caption).collect();
    let message = word_for_word(&captions).or_else(|| shared_words(&captions))?;
    Some(Finding::warning(&rules::SAME_CAPTIONS, folder.clone(), message).advice(DESCRIBE))
}

fn word_for_word(captions: &[&String]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for caption in captions {
        *counts.entry(caption.trim()).or_default() += 1;
    }
    let (caption, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let (all, caption) = (captions.len(), printable(caption));
    (all >= FEWEST_ALIKE && 2 * count > all)
        .then(|| format!("{count} of {all} captions are `{caption}`"))
}

fn shared_words(captions: &[&String]) -> Option<String> {
    let sets: Vec<BTreeSet<String>> =
        captions.iter().map(|caption| words(caption).into_iter().collect()).collect();
    let counts = occurrences(&sets);
    let common =
        |word: &&String| counts.get(*word).is_some_and(|n| is_part(*n, SHARED, sets.len()));
    let shares = sets.iter().filter(|set| !set.is_empty()).map(|set| {
        let shared = set.iter().filter(common).count();
        shared as f64 / set.len() as f64
    });
    let shares: Vec<f64> = shares.collect();
    let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    (shares.len() >= FEWEST_ALIKE && mean > SHARED).then(|| {
        format!("{:.0} % of the words of {} captions are in all of them", 100.0 * mean, sets.len())
    })
}

/// Captions without the trigger; where none is set, without a rare word that nearly all others have.
pub fn trigger(
    items: &[Item],
    settings: &ImageDataSettings,
    folder: &Place,
    clip: &ClipTokenizer,
) -> Result<Vec<Finding>, TextError> {
    let finding = |place, message: String| {
        Finding::warning(&rules::TRIGGER_COVERAGE, place, message).advice(CALL)
    };
    if let Some(trigger) = &settings.trigger {
        let lacks = trained(items).filter(|(_, caption)| !has_phrase(caption, trigger));
        let says = |(item, _): (&Item, _)| {
            finding(item.place(), format!("no `{}` in the caption", printable(trigger)))
        };
        return Ok(lacks.map(says).collect());
    }
    let captions: Vec<(&Item, &String)> = trained(items).collect();
    let sets: Vec<BTreeSet<String>> =
        captions.iter().map(|(_, caption)| words(caption).into_iter().collect()).collect();
    let mut nearly_all: Vec<(String, usize)> = occurrences(&sets)
        .into_iter()
        .filter(|(_, n)| *n < sets.len() && is_part(*n, NEARLY_ALL, sets.len()))
        .map(|(word, n)| (word.clone(), n))
        .collect();
    nearly_all.sort_by_key(|(_, n)| usize::MAX - n);
    for (word, n) in nearly_all {
        if sets.len() >= FEWEST_WITH_WORD && is_rare(&word, clip)? {
            let lacks = captions.iter().zip(&sets).filter(|(_, set)| !set.contains(&word));
            let lacks: Vec<String> = lacks.map(|((item, _), _)| item.name()).collect();
            let (all, word) = (sets.len(), printable(&word));
            let message = format!("{n} of {all} captions have `{word}`, not {}", first_few(&lacks));
            return Ok(vec![finding(folder.clone(), message)]);
        }
    }
    Ok(Vec::new())
}

/// Whether a word looks made up to call an adapter: CLIP knows it in pieces only, or hardly ever saw it.
fn is_rare(word: &str, clip: &ClipTokenizer) -> Result<bool, TextError> {
    let letters = word.chars().all(char::is_alphabetic);
    Ok(match clip.encode(word)?.as_slice() {
        [token] => *token >= RARE,
        _ => letters,
    })
}

/// Captions that say something, of the pictures that are trained on.
fn trained(items: &[Item]) -> impl Iterator<Item = (&Item, &String)> {
    let trained = items.iter().filter(|item| !item.held_out);
    trained
        .flat_map(|item| item.captions.iter().map(move |caption| (item, caption)))
        .filter(|(_, caption)| !caption.trim().is_empty())
}

/// In how many sets each word is.
fn occurrences(sets: &[BTreeSet<String>]) -> BTreeMap<&String, usize> {
    let mut counts = BTreeMap::new();
    for word in sets.iter().flatten() {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn is_part(n: usize, part: f64, all: usize) -> bool {
    n as f64 >= part * all as f64
}

#[cfg(test)]
mod tests {
    use super::super::item::tests::{item, settings};
    use super::*;

    fn captioned(captions: &[&str]) -> Vec<Item> {
        captions
            .iter()
            .enumerate()
            .map(|(at, caption)| item(&format!("{at}.png"), caption))
            .collect()
    }

    fn folder() -> Place {
        Place::file("data")
    }

    #[test]
    fn captions_that_most_pictures_share_are_the_same() {
        let one = captioned(&["painting of sks"; 4]);
        let message = same(&one, &folder()).unwrap().message;
        assert_eq!(message, "4 of 4 captions are `painting of sks`");
        let subjects = ["cat", "dog", "tree", "house", "river"];
        let style = "an oil painting with thick strokes and warm light in the style of sks on";
        let long: Vec<String> = subjects.iter().map(|s| format!("{style} {s}")).collect();
        let long = captioned(&long.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(
            same(&long, &folder()).unwrap().message,
            "94 % of the words of 5 captions are in all of them"
        );
    }

    #[test]
    fn captions_that_differ_in_what_they_show_are_not_the_same() {
        let captions =
            ["sks, a cat on a roof", "sks, two dogs", "sks, a red house", "sks, a river"];
        assert_eq!(same(&captioned(&captions), &folder()), None);
        assert_eq!(same(&captioned(&["a", "a", "a"]), &folder()), None);
    }

    #[test]
    fn a_set_trigger_must_be_in_every_caption() {
        let clip = ClipTokenizer::openai().unwrap();
        let mut settings = settings();
        settings.trigger = Some("SKS".to_owned());
        let items = captioned(&["sks cat", "a dog", "", "photo of sks"]);
        let found = trigger(&items, &settings, &folder(), &clip).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, Place::file("1.png"));
    }

    #[test]
    fn a_rare_word_of_nearly_all_captions_is_missed_where_it_is_not() {
        let clip = ClipTokenizer::openai().unwrap();
        for (word, rare) in [("sks", true), ("ohwx", true), ("dog", false), ("1girl", false)] {
            let mut captions = vec![format!("{word} outside"); 11];
            captions.push("something outside".to_owned());
            let captions = captioned(&captions.iter().map(String::as_str).collect::<Vec<_>>());
            let found = trigger(&captions, &settings(), &folder(), &clip).unwrap();
            let message = format!("11 of 12 captions have `{word}`, not `11.png`");
            let expected: Vec<String> = rare.then_some(message).into_iter().collect();
            assert_eq!(found.into_iter().map(|f| f.message).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn tokens_are_counted_as_clip_counts_them() {
        let clip = ClipTokenizer::openai().unwrap();
        let items = captioned(&[&"dog ".repeat(75), &"dog ".repeat(76)]);
        let found = long(&items, &settings(), &clip).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].message, "76 tokens, expected at most 75");
    }
}
