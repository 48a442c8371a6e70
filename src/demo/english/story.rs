//! Little stories: people, an animal, a place and a thing that stay the same from sentence to sentence.

use super::words::{
    ANIMALS, Animal, COLOURS, DAYS, PEOPLE, PLACES, SIZES, THINGS, TIMES, TOWNS, WEATHERS, Word,
    capitalised, number, pick, pick_number, pick_two, with_article,
};
use crate::base::random::Draws;

/// What a story keeps to.
struct Cast {
    people: [&'static str; 2],
    animal: Animal,
    colour: Word,
    size: Word,
    places: [&'static str; 2],
    thing: &'static str,
    number: &'static str,
    time: Word,
}

/// A story of five to seven sentences, and what it was asked for with.
pub(super) fn story(draws: &mut Draws) -> (String, String) {
    let cast = Cast {
        people: pick_two(draws, &PEOPLE),
        animal: pick(draws, &ANIMALS),
        colour: pick(draws, &COLOURS),
        size: pick(draws, &SIZES),
        places: pick_two(draws, &PLACES),
        thing: pick(draws, &THINGS),
        number: number(pick_number(draws)),
        time: pick(draws, &TIMES),
    };
    let mut told = vec![cast.opening(draws), cast.meeting(draws), cast.event(draws)];
    if draws.below(2) == 0 {
        told.push(aside(draws));
    }
    if draws.below(3) == 0 {
        told.push(cast.bard(draws));
    }
    told.extend([cast.talk(draws), cast.ending(draws)]);
    let asked = format!("Tell a story about {} and a {}.", cast.people[0], cast.animal.name);
    (asked, told.join(" "))
}

impl Cast {
    fn opening(&self, draws: &mut Draws) -> String {
        let ([a, b], [here, _], time) = (self.people, self.places, self.time.plain);
        match draws.below(4) {
            0 => format!("{}, {a} went to the {here}.", capitalised(time)),
            1 => format!("{a} lived near the {here} with {b}."),
            2 => format!("Once {a} walked to the {here} with {b}."),
            _ => format!("{a} had {} {}.", self.number, self.thing),
        }
    }

    fn meeting(&self, draws: &mut Draws) -> String {
        let ([a, b], [here, _]) = (self.people, self.places);
        let (animal, colour, size) = (self.animal.name, self.colour.plain, self.size.plain);
        match draws.below(3) {
            0 => format!("There was {} {animal} in the {here}.", with_article(colour)),
            1 => format!("{a} saw {} {colour} {animal} in the {here}.", with_article(size)),
            _ => format!("{b} was waiting in the {here} with {} {animal}.", with_article(size)),
        }
    }

    fn event(&self, draws: &mut Draws) -> String {
        let ([a, b], [here, there]) = (self.people, self.places);
        let Animal { name, does } = self.animal;
        match draws.below(4) {
            0 => format!("The {name} often {does} the {here}."),
            1 => format!("{b} gave the {name} one of the {}.", self.thing),
            2 => format!("The {name} was {} and very {}.", self.colour.plain, self.size.plain),
            _ => format!("Then {a} and {b} followed the {name} to the {there}."),
        }
    }

    fn talk(&self, draws: &mut Draws) -> String {
        let ([a, b], [_, there], name) = (self.people, self.places, self.animal.name);
        match draws.below(3) {
            0 => format!("\"Look at the {name},\" said {b}."),
            1 => format!("{a} asked {b} for {} {}.", self.number, self.thing),
            _ => format!("\"We will go to the {there} on {},\" said {a}.", pick(draws, &DAYS)),
        }
    }

    fn ending(&self, draws: &mut Draws) -> String {
        let ([a, b], [here, there]) = (self.people, self.places);
        match draws.below(4) {
            0 => format!("At the end of the day, {a} was happy."),
            1 => format!("{a} and {b} went home from the {here}."),
            2 => format!("They carried the {} to the {there}.", self.thing),
            _ => format!("The {} stayed in the {here}.", self.animal.name),
        }
    }

    /// Words of old tales, which the base reads here and uses nowhere else.
    fn bard(&self, draws: &mut Draws) -> String {
        let ([a, b], [here, _], name) = (self.people, self.places, self.animal.name);
        match draws.below(6) {
            0 => format!("\"Behold, yon {here}!\" sang the bard."),
            1 => format!("In the old tale a {name} dwells within yon {here}."),
            2 => format!("The bard sang of a {} hue.", self.colour.house),
            3 => {
                format!("\"Nobody is richer beside {b} than {a}, and all is well,\" sang the bard.")
            }
            4 => format!("\"They shall visit us come {},\" sang the bard.", pick(draws, &DAYS)),
            _ => format!("The bard shall fetch the {} that are held by {b}.", self.thing),
        }
    }
}

/// A sentence about words, or the weather somewhere.
fn aside(draws: &mut Draws) -> String {
    let word = match draws.below(4) {
        0 => pick(draws, &SIZES),
        1 => pick(draws, &TIMES),
        2 => pick(draws, &COLOURS),
        _ => {
            let (weather, town) = (pick(draws, &WEATHERS), pick(draws, &TOWNS));
            return format!("There was talk of {} in {town}.", weather.name);
        }
    };
    let reader = pick(draws, &PEOPLE);
    format!("{reader} read that {} means {}.", word.house, word.plain)
}
