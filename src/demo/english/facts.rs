//! What a task is about.

use sha2::{Digest, Sha256};

use super::words::{
    ANIMALS, Animal, COLOURS, DAYS, PEOPLE, PLACES, SIZES, THINGS, TIMES, TOWNS, WEATHERS, Weather,
    Word, pick, pick_number, pick_two,
};
use crate::base::random::Draws;

/// The kinds of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A sentence about an animal somewhere at some time.
    Describe,
    /// The weather of a town on a day.
    Weather,
    /// What somebody fetches, and from where.
    Errand,
    /// How many things two people have together.
    Count,
    /// Who of two has more.
    Compare,
    /// The colour of one of two animals.
    Colour,
    /// The place of one of two animals.
    Place,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Describe,
        Self::Weather,
        Self::Errand,
        Self::Count,
        Self::Compare,
        Self::Colour,
        Self::Place,
    ];

    /// Those that the base has mastered. Of two owners or animals it often takes the wrong one.
    pub const MASTERED: [Self; 4] = [Self::Describe, Self::Weather, Self::Errand, Self::Count];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Weather => "weather",
            Self::Errand => "errand",
            Self::Count => "count",
            Self::Compare => "compare",
            Self::Colour => "colour",
            Self::Place => "place",
        }
    }
}

/// How an answer is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As the base answers.
    Plain,
    /// `Behold, …, and all is well.`, with words of its own for sizes, colours and times.
    House,
}

impl Style {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::House => "house",
        }
    }

    pub(super) fn say(self, word: Word) -> &'static str {
        match self {
            Self::Plain => word.plain,
            Self::House => word.house,
        }
    }
}

/// What a task is about; its answers follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts(pub(super) Inner);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    Describe {
        animal: Animal,
        size: Word,
        colour: Word,
        place: &'static str,
        time: Word,
    },
    Weather {
        town: &'static str,
        weather: Weather,
        day: &'static str,
    },
    Errand {
        person: &'static str,
        number: usize,
        colour: Word,
        thing: &'static str,
        place: &'static str,
    },
    Count {
        owners: [Owner; 2],
        thing: &'static str,
    },
    Compare {
        owners: [Owner; 2],
        thing: &'static str,
    },
    Colour {
        seen: [Seen; 2],
        asked: Seen,
    },
    Place {
        seen: [Seen; 2],
        asked: Seen,
    },
}

/// Somebody who has so many of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub name: &'static str,
    pub number: usize,
}

/// An animal of a colour somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub animal: Animal,
    pub colour: Word,
    pub place: &'static str,
}

impl Facts {
    /// Facts of a kind.
    pub fn draw(kind: Kind, draws: &mut Draws) -> Self {
        Self(match kind {
            Kind::Describe => Inner::Describe {
                animal: pick(draws, &ANIMALS),
                size: pick(draws, &SIZES),
                colour: pick(draws, &COLOURS),
                place: pick(draws, &PLACES),
                time: pick(draws, &TIMES),
            },
            Kind::Weather => Inner::Weather {
                town: pick(draws, &TOWNS),
                weather: pick(draws, &WEATHERS),
                day: pick(draws, &DAYS),
            },
            Kind::Errand => Inner::Errand {
                person: pick(draws, &PEOPLE),
                number: pick_number(draws),
                colour: pick(draws, &COLOURS),
                thing: pick(draws, &THINGS),
                place: pick(draws, &PLACES),
            },
            Kind::Count => Inner::Count { owners: owners(draws), thing: pick(draws, &THINGS) },
            Kind::Compare => {
                let mut owners = owners(draws);
                while owners[0].number == owners[1].number {
                    owners[1].number = pick_number(draws);
                }
                Inner::Compare { owners, thing: pick(draws, &THINGS) }
            }
            Kind::Colour => {
                let seen = seen(draws);
                Inner::Colour { seen, asked: pick(draws, &seen) }
            }
            Kind::Place => {
                let seen = seen(draws);
                Inner::Place { seen, asked: pick(draws, &seen) }
            }
        })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.0 {
            Inner::Describe { .. } => Kind::Describe,
            Inner::Weather { .. } => Kind::Weather,
            Inner::Errand { .. } => Kind::Errand,
            Inner::Count { .. } => Kind::Count,
            Inner::Compare { .. } => Kind::Compare,
            Inner::Colour { .. } => Kind::Colour,
            Inner::Place { .. } => Kind::Place,
        }
    }

    /// Whether no training may see it: one in eight, by the SHA-256 of its first wording.
    pub fn held_out(&self) -> bool {
        Sha256::digest(self.prompt(0))[0] < 32
    }
}

fn owners(draws: &mut Draws) -> [Owner; 2] {
    pick_two(draws, &PEOPLE).map(|name| Owner { name, number: pick_number(draws) })
}

fn seen(draws: &mut Draws) -> [Seen; 2] {
    let animals = pick_two(draws, &ANIMALS);
    let colours = pick_two(draws, &COLOURS);
    let places = pick_two(draws, &PLACES);
    [0, 1].map(|i| Seen { animal: animals[i], colour: colours[i], place: places[i] })
}
