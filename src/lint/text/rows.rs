//! What rows say: in which order, twice, against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::base::digest::sha256;
use crate::base::terminal::printable;
use crate::data::text::{Content, Row, Turn};
use crate::lint::words::words;
use crate::lint::{Finding, Place, rules};

/// So few answers may well be alike.
const FEWEST: usize = 5;
/// With more than this part of the answers the same, that answer is all that is learnt.
const MOST_ALIKE: f64 = 0.8;

const TURNS: &str = "let `user` and `assistant` take turns and end with `assistant`, a `system` message at most in front";
const ANSWER: &str = "write the answer, or remove the row: it teaches to say nothing";
const REMOVE: &str = "remove one of the two; to weigh a row more, raise its repeats";
const KEEP: &str = "keep the better one: near-copies weigh more than other rows, and fall on both sides where a part is held out";
const SEPARATE: &str =
    "remove it from one of the two: a loss on what was trained on says nothing about new prompts";
const DECIDE: &str = "keep the best answer, or say in the prompt what makes the difference";
const VARY: &str =
    "add rows with other answers; as they are, the adapter learns to say this whatever is asked";

/// A row as what is given and what is answered.
#[derive(Debug)]
pub struct Said<'a> {
    /// Its file.
    pub file: &'a Path,
    /// The line where it begins.
    pub line: usize,
    /// Whether it is held out.
    held_out: bool,
    /// Whether the row can be taken out of its file by itself.
    mendable: bool,
    prompt: String,
    answer: String,
    /// Of each turn: whose it is, its length, whether it is learnt.
    turns: Vec<(String, usize, bool)>,
}

/// A row that an earlier one says too.
#[derive(Debug)]
pub struct Twin {
    /// Which of the rows it is.
    pub at: usize,
    /// What is wrong with that.
    pub finding: Finding,
}

impl<'a> Said<'a> {
    /// Of a conversation, the last turn of the assistant answers all turns before it.
    pub fn of(row: &Row, file: &'a Path, held_out: bool, mendable: bool) -> Self {
        let mut of_turns = Vec::new();
        let (prompt, answer) = match &row.content {
            Content::Text(text) => (String::new(), text.clone()),
            Content::Completion { prompt, completion } => (prompt.clone(), completion.clone()),
            Content::Chat(turns) => {
                let of_turn = |Turn { message, learnt }: &Turn| {
                    (message.role.clone(), message.content.len(), *learnt)
                };
                of_turns = turns.iter().map(of_turn).collect();
                let is_answer = |turn: &Turn| turn.message.role == "assistant";
                let at = turns.iter().rposition(is_answer).unwrap_or(turns.len());
                let (given, said) = turns.split_at(at);
                let given = given.iter().map(|turn| &turn.message);
                let given: Vec<String> =
                    given.map(|message| format!("{}: {}", message.role, message.content)).collect();
                let said = said.iter().map(|turn| turn.message.content.as_str());
                (given.join("\n"), said.collect::<Vec<_>>().join("\n"))
            }
        };
        Self { file, line: row.line, held_out, mendable, prompt, answer, turns: of_turns }
    }

    fn place(&self) -> Place {
        Place::line(self.file, self.line)
    }

    /// Digest of what is left when case, spaces and signs do not count; `None` if that is nothing.
    fn gist(&self) -> Option<String> {
        let parts = [&self.prompt, &self.answer].map(|text| words(text).join(" "));
        parts.iter().any(|part| !part.is_empty()).then(|| sha256(parts.join("\n").as_bytes()))
    }
}

/// The first thing that is wrong with the order of a conversation's roles, or an answer that is empty.
pub fn roles(row: &Row, file: &Path) -> Option<Finding> {
    let Content::Chat(turns) = &row.content else { return None };
    let finding = |rule, message: &str, advice| {
        Finding::warning(rule, Place::line(file, row.line), message).advice(advice)
    };
    let order = |message: &str| Some(finding(&rules::ROLE_ORDER, message, TURNS));
    let mut before = "";
    for (at, turn) in turns.iter().enumerate() {
        let role = turn.message.role.as_str();
        let number = at + 1;
        match (before, role) {
            ("", "system" | "developer" | "user") | ("system" | "developer", "user") => {}
            ("user", "user") | ("assistant", "assistant") => {
                return order(&format!("turn {number} is `{role}` again"));
            }
            ("" | "system" | "developer", "assistant") => {
                return order(&format!("turn {number} is `assistant`, and nobody has asked"));
            }
            (_, "system" | "developer") => {
                return order(&format!("turn {number} is `{role}` amid the conversation"));
            }
            _ => {}
        }
        if role == "assistant" && turn.learnt && turn.message.content.trim().is_empty() {
            let message = format!("turn {number} of `assistant` is empty");
            return Some(finding(&rules::EMPTY_ROW, &message, ANSWER));
        }
        before = role;
    }
    if turns.iter().all(|turn| turn.message.role != "assistant") {
        return order("no turn is of `assistant`");
    }
    (before == "user").then(|| order("the last turn is of `user` and stays without answer"))?
}

/// A finding for each row that is there before, word for word or but for case, spaces and signs: a leak
/// if the other is on the other side of what is held out, else a copy.
pub fn twins(rows: &[Said]) -> Vec<Twin> {
    let (mut exact, mut near) = (BTreeMap::new(), BTreeMap::new());
    let mut twins = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        // trained rows come first, so the first is the one that a held-out row leaks from
        let same = *exact.entry((&row.prompt, &row.answer, &row.turns)).or_insert(at);
        let alike = row.gist().map_or(at, |gist| *near.entry(gist).or_insert(at));
        let other = [same, alike].into_iter().filter(|other| *other != at);
        let sided = other.filter_map(|other| Some((rows.get(other)?, other == same)));
        let leaks = |(other, _): &(&Said, bool)| other.held_out != row.held_out;
        let Some((other, is_exact)) = sided.min_by_key(|pair| !leaks(pair)) else { continue };
        twins.push(Twin { at, finding: judge(row, other, is_exact) });
    }
    twins
}

fn judge(row: &Said, other: &Said, is_exact: bool) -> Finding {
    let but = match is_exact {
        true => "",
        false if (&row.prompt, &row.answer) == (&other.prompt, &other.answer) => {
            " but for where turns end or which are learnt"
        }
        false => " but for case, spaces and signs",
    };
    let message = format!("the same as {}{but}", other.place());
    match (row.held_out != other.held_out, is_exact) {
        (true, true) => Finding::error(&rules::LEAKAGE, row.place(), message).advice(SEPARATE),
        (true, false) => Finding::warning(&rules::LEAKAGE, row.place(), message).advice(SEPARATE),
        (false, true) => {
            let finding = Finding::warning(&rules::DUPLICATE, row.place(), message).advice(REMOVE);
            Finding { fixable: row.mendable, ..finding }
        }
        (false, false) => {
            Finding::warning(&rules::NEAR_DUPLICATE, row.place(), message).advice(KEEP)
        }
    }
}

/// A finding for each prompt that trained rows answer differently, at the second answer.
pub fn contradictions(rows: &[Said]) -> Vec<Finding> {
    let mut prompts: BTreeMap<&str, Vec<&Said>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.held_out && !row.prompt.trim().is_empty()) {
        prompts.entry(row.prompt.trim()).or_default().push(row);
    }
    let finding = |rows: &Vec<&Said>| {
        let first = rows.first()?;
        let answers: BTreeSet<String> =
            rows.iter().map(|row| words(&row.answer).join(" ")).collect();
        let other = rows.iter().find(|row| words(&row.answer) != words(&first.answer))?;
        let count = answers.len();
        let message =
            format!("the prompt of {} again, {count} different answers in all", first.place());
        Some(Finding::warning(&rules::CONTRADICTING_ROWS, other.place(), message).advice(DECIDE))
    };
    prompts.values().filter(|rows| rows.len() > 1).filter_map(finding).collect()
}

/// One finding if nearly all trained rows have the same answer.
pub fn same_answers(rows: &[Said]) -> Option<Finding> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let trained = || rows.iter().filter(|row| !row.held_out);
    let place = Place::file(trained().next()?.file);
    for answer in trained().map(|row| row.answer.trim()).filter(|answer| !answer.is_empty()) {
        *counts.entry(answer).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    let (answer, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let message = format!("{count} of {all} answers are `{}`", printable(answer));
    (all >= FEWEST && count as f64 > MOST_ALIKE * all as f64)
        .then(|| Finding::warning(&rules::SAME_COMPLETIONS, place, message).advice(VARY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Message;

    fn chat(turns: &[(&str, &str)]) -> Row {
        let turn = |&(role, content): &(&str, &str)| Turn {
            message: Message::new(role, content),
            learnt: role == "assistant",
        };
        Row { line: 1, content: Content::Chat(turns.iter().map(turn).collect()) }
    }

    fn said<'a>(line: usize, prompt: &str, answer: &str) -> Said<'a> {
        let (prompt, answer) = (prompt.to_owned(), answer.to_owned());
        let file = Path::new("a.jsonl");
        Said {
            file,
            line,
            held_out: line >= 100,
            mendable: true,
            prompt,
            answer,
            turns: Vec::new(),
        }
    }

    #[test]
    fn roles_take_turns() {
        let found = |turns: &[(&str, &str)]| {
            roles(&chat(turns), Path::new("a")).map(|finding| finding.message)
        };
        let (user, bot, system, tool) =
            (("user", "a"), ("assistant", "b"), ("system", "c"), ("tool", "d"));
        for fine in [&[system, user, bot][..], &[user, bot, user, bot], &[user, bot, tool, bot]] {
            assert_eq!(found(fine), None);
        }
        for (turns, message) in [
            (&[user, user, bot][..], "turn 2 is `user` again"),
            (&[user, bot, bot], "turn 3 is `assistant` again"),
            (&[system, bot], "turn 2 is `assistant`, and nobody has asked"),
            (&[user, bot, system, user, bot], "turn 3 is `system` amid the conversation"),
            (&[user], "no turn is of `assistant`"),
            (&[user, bot, user], "the last turn is of `user` and stays without answer"),
            (&[user, ("assistant", " ")], "turn 2 of `assistant` is empty"),
        ] {
            assert_eq!(found(turns).as_deref(), Some(message));
        }
    }

    #[test]
    fn copies_and_leaks_are_told_apart() {
        let rows = [
            said(1, "q", "an answer"),
            said(2, "q", "an answer"),
            said(3, "Q?", "An  answer."),
            said(100, "q", "an answer"),
            said(101, "Q", "an answer!"),
            said(102, "new", "answer"),
        ];
        let found: Vec<(usize, &str, bool)> = twins(&rows)
            .iter()
            .map(|twin| (twin.at, twin.finding.rule, twin.finding.fixable))
            .collect();
        let expected = [
            (1, "duplicate", true),
            (2, "near-duplicate", false),
            (3, "leakage", false),
            (4, "leakage", false),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_that_teach_other_turns_are_no_copies() {
        let row = |content: &[(&str, &str)], learnt: bool, held_out| {
            let mut row = chat(content);
            if let Content::Chat(turns) = &mut row.content {
                turns[1].learnt = learnt;
            }
            Said::of(&row, Path::new("a"), held_out, true)
        };
        let turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")];
        let joined = [("user", "a"), ("assistant", "b\nuser: c"), ("assistant", "d")];
        let rules = |rows: [Said; 2]| {
            let twins = twins(&rows);
            twins.iter().map(|twin| (twin.finding.rule, twin.finding.fixable)).collect::<Vec<_>>()
        };
        let first = || row(&turns, true, false);
        assert_eq!(rules([first(), row(&turns, true, false)]), [("duplicate", true)]);
        assert_eq!(rules([first(), row(&turns, false, false)]), [("near-duplicate", false)]);
        assert_eq!(rules([first(), row(&joined, true, false)]), [("near-duplicate", false)]);
        assert_eq!(rules([first(), row(&turns, false, true)]), [("leakage", false)]);
    }

    #[test]
    fn signs_alone_are_compared_as_they_are() {
        assert!(twins(&[said(1, "", "+"), said(2, "", "-")]).is_empty());
    }

    #[test]
    fn a_prompt_with_two_answers_is_one_finding() {
        let rows =
            [said(1, "q", "yes"), said(2, "q", "Yes."), said(3, "q", "no"), said(4, "", "x")];
        let found = contradictions(&rows);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, Place::line("a.jsonl", 3));
    }

    #[test]
    fn nearly_all_answers_alike_are_one_finding() {
        let mut rows: Vec<Said> = (0..9).map(|line| said(line, "q", "yes")).collect();
        rows.push(said(9, "q", "no"));
        let found = same_answers(&rows).unwrap();
        assert_eq!(found.message, "9 of 10 answers are `yes`");
        assert_eq!(same_answers(&rows[..4]), None);
        rows.extend((10..20).map(|line| said(line, "q", "no")));
        assert_eq!(same_answers(&rows), None);
    }
}
