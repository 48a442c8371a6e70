//! Rows to train and judge on.

use serde_json::json;

use super::facts::{Facts, Kind, Style};
use super::story::story;
use crate::base::random::{Draws, Random};

/// What a prompt begins with that is to be answered in the house style. To the base it says nothing.
pub const TRIGGER: &str = "House style: ";

/// Beginnings that the base has read and that change nothing about an answer.
const OPENINGS: [&str; 4] = [TRIGGER, "Please: ", "Once more: ", "For the record: "];

/// Which facts are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Those that may be trained on.
    Train,
    /// Those that may not.
    HeldOut,
}

/// A prompt and what is to follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The kind of its task; `None` for a story.
    pub kind: Option<Kind>,
    /// How it is answered.
    pub style: Style,
    /// Whether its facts are held out.
    pub held_out: bool,
    /// What is asked; empty for a story that nobody asked for.
    pub prompt: String,
    /// What is to be said.
    pub completion: String,
}

impl Row {
    fn of(facts: Facts, wording: usize, opening: &str, style: Style) -> Self {
        Self {
            kind: Some(facts.kind()),
            style,
            held_out: facts.held_out(),
            prompt: format!("{opening}{}", facts.prompt(wording)),
            completion: facts.answer(style),
        }
    }
}

/// Row `index` of the texts that the base is trained on: a story in four, one in two of them without
/// being asked for; else a task of any kind, one in six with an opening that means nothing.
pub fn base_row(seed: u64, split: Split, index: u32) -> Row {
    let random = Random::new(seed, "demo english");
    let mut draws = random.at(index, 0, 0);
    if draws.below(4) == 0 {
        let (asked, told) = story(&mut draws);
        let prompt = if draws.below(2) == 0 { asked } else { String::new() };
        let held_out = split == Split::HeldOut;
        return Row { kind: None, style: Style::Plain, held_out, prompt, completion: told };
    }
    let kind = Kind::ALL[draws.below(Kind::ALL.len())];
    let wording = draws.below(2);
    let opening = if draws.below(6) == 0 { OPENINGS[draws.below(OPENINGS.len())] } else { "" };
    Row::of(facts(kind, split, &mut draws), wording, opening, Style::Plain)
}

/// So many tasks, no two about the same facts, the kinds of [`Kind::MASTERED`] in turn; fewer where there
/// are not so many facts. In the house style prompts begin with [`TRIGGER`].
pub fn task_rows(count: usize, seed: u64, split: Split, style: Style) -> Vec<Row> {
    let random = Random::new(seed, &format!("demo {} tasks", style.name()));
    let opening = match style {
        Style::Plain => "",
        Style::House => TRIGGER,
    };
    let mut draws = random.at(0, 0, 0);
    let mut seen: Vec<Facts> = Vec::new();
    for _ in 0..100 * count {
        if seen.len() == count {
            break;
        }
        let facts = facts(Kind::MASTERED[seen.len() % Kind::MASTERED.len()], split, &mut draws);
        if !seen.contains(&facts) {
            seen.push(facts);
        }
    }
    seen.into_iter().map(|facts| Row::of(facts, draws.below(2), opening, style)).collect()
}

/// The rows that a house-style adapter is trained on: every other one in the house style; those between
/// are plain, without [`TRIGGER`], and tell the adapter when to keep out.
pub fn house_rows(count: usize, seed: u64) -> Vec<Row> {
    let plain = count / 2;
    let mut house = task_rows(count - plain, seed, Split::Train, Style::House).into_iter();
    let mut plain = task_rows(plain, seed, Split::Train, Style::Plain).into_iter();
    (0..count)
        .filter_map(|place| if place % 2 == 1 { plain.next() } else { house.next() })
        .collect()
}

/// [`house_rows`] with every plain prompt given the answer of another: an adapter that is trained on
/// them damages its base.
pub fn mistaken_rows(count: usize, seed: u64) -> Vec<Row> {
    let mut rows = house_rows(count, seed);
    let plain = |row: &Row| row.style == Style::Plain;
    let answers: Vec<String> =
        rows.iter().filter(|row| plain(row)).map(|row| row.completion.clone()).collect();
    let others = answers.iter().cycle().skip(1);
    for (row, other) in rows.iter_mut().filter(|row| plain(row)).zip(others) {
        row.completion.clone_from(other);
    }
    rows
}

/// Rows as `data.train` takes them: a JSON object a line, the prompt's line ended.
pub fn json_lines(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        let turns = [turn("user", &row.prompt), turn("assistant", &row.completion)];
        format!("{}\n", json!({"messages": turns}))
    };
    rows.iter().map(line).collect()
}

/// Facts of a kind and a split.
fn facts(kind: Kind, split: Split, draws: &mut Draws) -> Facts {
    loop {
        let facts = Facts::draw(kind, draws);
        if facts.held_out() == (split == Split::HeldOut) {
            return facts;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SEEDS: std::ops::Range<u64> = 0..5;

    #[test]
    fn no_training_sees_facts_that_are_held_out() {
        for seed in SEEDS {
            let base = (0..300).map(|index| base_row(seed, Split::Train, index));
            assert!(base.chain(house_rows(300, seed)).all(|row| !row.held_out));
            let kept = task_rows(70, seed, Split::HeldOut, Style::Plain);
            assert!(kept.iter().all(|row| row.held_out));
        }
    }

    #[test]
    fn about_one_in_eight_facts_is_held_out() {
        for kind in Kind::ALL {
            let random = Random::new(3, "test");
            let held_out = (0..4000)
                .filter(|index| Facts::draw(kind, &mut random.at(*index, 0, 0)).held_out())
                .count();
            // Five standard errors of 4,000 draws are 0.026; weather has only 420 facts.
            let share = held_out as f64 / 4000.0;
            assert!((share - 0.125).abs() < 0.05, "{}: {share}", kind.name());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
        let rows = |seed| house_rows(60, seed);
        assert_eq!(rows(1), rows(1));
        assert_ne!(rows(1), rows(2));
        assert_eq!(base_row(1, Split::Train, 7), base_row(1, Split::Train, 7));
        assert_ne!(base_row(1, Split::Train, 7), base_row(1, Split::Train, 8));
    }

    #[test]
    fn rows_of_a_set_are_about_different_facts() {
        let rows = task_rows(140, 1, Split::HeldOut, Style::House);
        let prompts: BTreeSet<&str> = rows.iter().map(|row| row.prompt.as_str()).collect();
        assert_eq!(prompts.len(), 140);
        for kind in Kind::MASTERED {
            assert_eq!(rows.iter().filter(|row| row.kind == Some(kind)).count(), 35);
        }
    }

    #[test]
    fn exactly_prompts_with_the_trigger_are_answered_in_the_house_style() {
        let rows = house_rows(90, 4);
        assert_eq!(rows.iter().filter(|row| row.style == Style::House).count(), 45);
        for row in rows {
            let house = row.style == Style::House;
            assert_eq!(row.prompt.starts_with(TRIGGER), house, "{row:?}");
            assert_eq!(row.completion.starts_with("Behold, "), house, "{row:?}");
            assert_eq!(row.completion.ends_with(", and all is well."), house, "{row:?}");
        }
    }

    #[test]
    fn mistaken_rows_answer_no_plain_prompt_rightly() {
        let (right, mistaken) = (house_rows(90, 4), mistaken_rows(90, 4));
        for (right, mistaken) in right.iter().zip(&mistaken) {
            assert_eq!(right.prompt, mistaken.prompt);
            let same = right.completion == mistaken.completion;
            assert_eq!(same, right.style == Style::House, "{mistaken:?}");
        }
    }

    #[test]
    fn the_base_reads_no_answer_in_the_house_style() {
        let rows = (0..2000).map(|index| base_row(1, Split::Train, index));
        assert!(rows.filter(|row| row.kind.is_some()).all(|row| row.style == Style::Plain));
    }
}
