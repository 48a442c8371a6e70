//! How a task is put.

use super::facts::{Facts, Inner, Owner, Seen};
use super::words::{number, with_article};

impl Facts {
    /// The task in its first (0) or second wording.
    pub fn prompt(&self, wording: usize) -> String {
        if wording == 0 { self.first() } else { self.second() }
    }

    fn first(&self) -> String {
        match self.0 {
            Inner::Describe { animal, size, colour, place, time } => format!(
                "Describe {} {} {} in the {place} {}.",
                with_article(size.plain),
                colour.plain,
                animal.name,
                time.plain
            ),
            Inner::Weather { town, weather, day } => {
                format!("Report the weather in {town} on {day}: {}.", weather.name)
            }
            Inner::Errand { person, number: n, colour, thing, place } => {
                format!("Send {person} to the {place} for {} {} {thing}.", number(n), colour.plain)
            }
            Inner::Count { owners, thing } => {
                format!("{} How many {thing} do they have?", owned(owners, thing))
            }
            Inner::Compare { owners, thing } => {
                format!("{} Who has more {thing}?", owned(owners, thing))
            }
            Inner::Colour { seen, asked } => {
                format!("{} What colour is the {}?", sights(seen), asked.animal.name)
            }
            Inner::Place { seen, asked } => {
                format!("{} Where is the {}?", sights(seen), asked.animal.name)
            }
        }
    }

    fn second(&self) -> String {
        match self.0 {
            Inner::Describe { animal, size, colour, place, time } => format!(
                "Write a sentence about a {}: {}, {}, in the {place}, {}.",
                animal.name, colour.plain, size.plain, time.plain
            ),
            Inner::Weather { town, weather, day } => {
                format!("What will {day} be like in {town} if {} is coming?", weather.name)
            }
            Inner::Errand { person, number: n, colour, thing, place } => format!(
                "There are {} {} {thing} in the {place}. Tell {person} to fetch them.",
                number(n),
                colour.plain
            ),
            Inner::Count { owners: [a, b], thing } => format!(
                "Add the {thing} of {}, {}, and of {}, {}.",
                a.name,
                number(a.number),
                b.name,
                number(b.number)
            ),
            Inner::Compare { owners: [a, b], thing } => format!(
                "Who has more {thing}, {} with {} or {} with {}?",
                a.name,
                number(a.number),
                b.name,
                number(b.number)
            ),
            Inner::Colour { seen, asked } => {
                format!("Say what colour the {} is. {}", asked.animal.name, sights(seen))
            }
            Inner::Place { seen, asked } => {
                format!("Say where the {} is. {}", asked.animal.name, sights(seen))
            }
        }
    }
}

/// `Anna has two apples and Ben has three apples.`
fn owned([a, b]: [Owner; 2], thing: &str) -> String {
    let [first, second] = [a.number, b.number].map(number);
    format!("{} has {first} {thing} and {} has {second} {thing}.", a.name, b.name)
}

/// `The fox in the garden is red. The cat in the barn is white.`
fn sights(seen: [Seen; 2]) -> String {
    seen.map(|one| format!("The {} in the {} is {}.", one.animal.name, one.place, one.colour.plain))
        .join(" ")
}
