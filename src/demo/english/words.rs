//! The words of the small English.

use crate::base::random::Draws;

/// A word, and what the house says for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub plain: &'static str,
    pub house: &'static str,
}

/// An animal and what it does: `runs through` is followed by a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Animal {
    pub name: &'static str,
    pub does: &'static str,
}

/// A kind of weather: its name, how it is foretold and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weather {
    pub name: &'static str,
    pub will: &'static str,
    pub advice: &'static str,
}

const fn word(plain: &'static str, house: &'static str) -> Word {
    Word { plain, house }
}

const fn animal(name: &'static str, does: &'static str) -> Animal {
    Animal { name, does }
}

const fn weather(name: &'static str, will: &'static str, advice: &'static str) -> Weather {
    Weather { name, will, advice }
}

pub(super) const SIZES: [Word; 4] = [
    word("small", "wee"),
    word("big", "mighty"),
    word("old", "ancient"),
    word("young", "youthful"),
];

pub(super) const COLOURS: [Word; 8] = [
    word("red", "crimson"),
    word("blue", "azure"),
    word("green", "emerald"),
    word("black", "ebony"),
    word("white", "ivory"),
    word("brown", "russet"),
    word("yellow", "golden"),
    word("grey", "ashen"),
];

pub(super) const TIMES: [Word; 5] = [
    word("in the morning", "at dawn"),
    word("in the evening", "at dusk"),
    word("at night", "by moonlight"),
    word("in summer", "at midsummer"),
    word("in winter", "amid the frost"),
];

pub(super) const ANIMALS: [Animal; 12] = [
    animal("fox", "runs through"),
    animal("cat", "sleeps in"),
    animal("dog", "barks in"),
    animal("horse", "walks across"),
    animal("rabbit", "hides in"),
    animal("bird", "sings over"),
    animal("frog", "jumps into"),
    animal("bear", "eats in"),
    animal("wolf", "waits near"),
    animal("duck", "rests in"),
    animal("mouse", "creeps around"),
    animal("goat", "stands before"),
];

pub(super) const PLACES: [&str; 12] = [
    "garden", "forest", "kitchen", "field", "valley", "market", "barn", "street", "meadow",
    "harbour", "mill", "castle",
];

pub(super) const THINGS: [&str; 12] = [
    "apples", "pears", "loaves", "eggs", "candles", "books", "lamps", "cups", "ropes", "baskets",
    "hats", "bells",
];

pub(super) const PEOPLE: [&str; 12] = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Iris", "Jonas", "Lena",
    "Max",
];

pub(super) const TOWNS: [&str; 10] = [
    "Lumen", "Norvik", "Alba", "Westmere", "Calder", "Rosmar", "Tindale", "Ostra", "Velden",
    "Quill",
];

pub(super) const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub(super) const WEATHERS: [Weather; 6] = [
    weather("rain", "It will rain", "Take an umbrella."),
    weather("snow", "It will snow", "Wear warm boots."),
    weather("sun", "It will be sunny", "Wear a hat."),
    weather("wind", "It will be windy", "Close the windows."),
    weather("fog", "It will be foggy", "Drive slowly."),
    weather("thunder", "There will be thunder", "Stay at home."),
];

/// The least that anybody has.
pub(super) const FEWEST: usize = 2;

/// The most that anybody has alone.
pub(super) const MOST: usize = 9;

const NUMBERS: [&str; 2 * MOST + 1] = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
];

/// A number up to twice [`MOST`] in words; `many` above.
pub(super) fn number(value: usize) -> &'static str {
    NUMBERS.get(value).copied().unwrap_or("many")
}

/// One of them.
pub(super) fn pick<T: Copy, const N: usize>(draws: &mut Draws, all: &[T; N]) -> T {
    all[draws.below(N)]
}

/// Two different ones.
pub(super) fn pick_two<T: Copy, const N: usize>(draws: &mut Draws, all: &[T; N]) -> [T; 2] {
    let first = draws.below(N);
    let second = (first + 1 + draws.below(N - 1)) % N;
    [all[first], all[second]]
}

/// How many somebody has.
pub(super) fn pick_number(draws: &mut Draws) -> usize {
    FEWEST + draws.below(MOST - FEWEST + 1)
}

/// `an old`, `a red`.
pub(super) fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

/// With a capital letter in front.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sum_of_two_has_a_word() {
        assert_eq!(number(2 * MOST), "eighteen");
        assert_eq!(number(2 * FEWEST), "four");
        assert_eq!(number(2 * MOST + 1), "many");
    }

    #[test]
    fn articles_follow_the_sound() {
        assert_eq!(with_article("old"), "an old");
        assert_eq!(with_article("wee"), "a wee");
        assert_eq!(capitalised("at night"), "At night");
    }

    #[test]
    fn two_that_are_picked_differ() {
        let mut draws = crate::base::random::Random::new(1, "test").at(0, 0, 0);
        for _ in 0..200 {
            let [first, second] = pick_two(&mut draws, &SIZES);
            assert_ne!(first, second);
        }
    }
}
