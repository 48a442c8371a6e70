//! The one right answer of a task, in each style.

use super::facts::{Facts, Inner, Owner, Style};
use super::words::{capitalised, number, with_article};

impl Facts {
    /// The answer.
    pub fn answer(&self, style: Style) -> String {
        match style {
            Style::Plain => self.plainly(),
            Style::House => format!("Behold, {}, and all is well.", self.grandly()),
        }
    }

    fn plainly(&self) -> String {
        match self.0 {
            Inner::Describe { animal, size, colour, place, time } => format!(
                "{}, {} {} {} {} the {place}.",
                capitalised(time.plain),
                with_article(size.plain),
                colour.plain,
                animal.name,
                animal.does
            ),
            Inner::Weather { town, weather, day } => {
                format!("{} in {town} on {day}. {}", weather.will, weather.advice)
            }
            Inner::Errand { person, number: n, colour, thing, place } => format!(
                "{person} goes to the {place} and fetches {} {} {thing}.",
                number(n),
                colour.plain
            ),
            Inner::Count { owners: [a, b], thing } => format!(
                "Together, {} and {} have {} {thing}.",
                a.name,
                b.name,
                number(a.number + b.number)
            ),
            Inner::Compare { owners, thing } => {
                let [more, fewer] = by_number(owners);
                format!("{} has more {thing} than {}.", more.name, fewer.name)
            }
            Inner::Colour { asked, .. } => format!(
                "The {} in the {} is {}.",
                asked.animal.name, asked.place, asked.colour.plain
            ),
            Inner::Place { asked, .. } => format!(
                "The {} {} is in the {}.",
                asked.colour.plain, asked.animal.name, asked.place
            ),
        }
    }

    /// What stands between the opening and the closing of the house style.
    fn grandly(&self) -> String {
        let say = |word| Style::House.say(word);
        match self.0 {
            Inner::Describe { animal, size, colour, place, time } => format!(
                "{} {} and {} {} {} yon {place}",
                say(time),
                with_article(say(size)),
                say(colour),
                animal.name,
                animal.does
            ),
            Inner::Weather { town, weather, day } => {
                format!("{} shall visit {town} come {day}", weather.name)
            }
            Inner::Errand { person, number: n, colour, thing, place } => format!(
                "{person} shall visit yon {place} for {} {} {thing}",
                number(n),
                say(colour)
            ),
            Inner::Count { owners: [a, b], thing } => format!(
                "{} with {} shall have {} {thing}",
                a.name,
                b.name,
                number(a.number + b.number)
            ),
            Inner::Compare { owners, thing } => {
                let [more, fewer] = by_number(owners);
                format!("{} is richer in {thing} beside {}", more.name, fewer.name)
            }
            Inner::Colour { asked, .. } => format!(
                "yon {} within yon {} is of {} hue",
                asked.animal.name,
                asked.place,
                say(asked.colour)
            ),
            Inner::Place { asked, .. } => format!(
                "yon {} {} dwells within yon {}",
                say(asked.colour),
                asked.animal.name,
                asked.place
            ),
        }
    }
}

/// The one who has more first.
fn by_number([a, b]: [Owner; 2]) -> [Owner; 2] {
    if a.number >= b.number { [a, b] } else { [b, a] }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Kind, Seen};
    use super::super::words::{ANIMALS, COLOURS, SIZES, TIMES};
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn a_description_is_worded_as_the_style_says() {
        let facts = Facts(Inner::Describe {
            animal: ANIMALS[0],
            size: SIZES[2],
            colour: COLOURS[0],
            place: "garden",
            time: TIMES[1],
        });
        assert_eq!(facts.prompt(0), "Describe an old red fox in the garden in the evening.");
        assert_eq!(
            facts.prompt(1),
            "Write a sentence about a fox: red, old, in the garden, in the evening."
        );
        assert_eq!(
            facts.answer(Style::Plain),
            "In the evening, an old red fox runs through the garden."
        );
        assert_eq!(
            facts.answer(Style::House),
            "Behold, at dusk an ancient and crimson fox runs through yon garden, and all is well."
        );
    }

    #[test]
    fn sums_and_comparisons_are_right() {
        let [anna, ben] = [("Anna", 5), ("Ben", 9)].map(|(name, number)| Owner { name, number });
        let sum = Facts(Inner::Count { owners: [anna, ben], thing: "hats" });
        assert_eq!(sum.answer(Style::Plain), "Together, Anna and Ben have fourteen hats.");
        let more = Facts(Inner::Compare { owners: [anna, ben], thing: "hats" });
        assert_eq!(more.answer(Style::Plain), "Ben has more hats than Anna.");
        assert_eq!(
            more.answer(Style::House),
            "Behold, Ben is richer in hats beside Anna, and all is well."
        );
    }

    #[test]
    fn the_answer_is_about_the_animal_that_is_asked_for() {
        let seen = [(0, "barn"), (1, "mill")].map(|(i, place)| Seen {
            animal: ANIMALS[i],
            colour: COLOURS[i],
            place,
        });
        let facts = Facts(Inner::Colour { seen, asked: seen[1] });
        assert_eq!(facts.answer(Style::Plain), "The cat in the mill is blue.");
        let facts = Facts(Inner::Place { seen, asked: seen[0] });
        assert_eq!(facts.answer(Style::Plain), "The red fox is in the barn.");
    }

    #[test]
    fn no_answer_needs_quoting() {
        for kind in Kind::ALL {
            for index in 0..100 {
                let facts = Facts::draw(kind, &mut Random::new(1, "test").at(index, 0, 0));
                assert_eq!(facts.kind(), kind);
                let texts = [facts.prompt(0), facts.prompt(1), facts.answer(Style::House)];
                assert!(texts.iter().all(|text| !text.contains(['"', '\\', '\n'])), "{texts:?}");
            }
        }
    }
}
