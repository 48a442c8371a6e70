//! Cells out of nothing.

use std::time::Duration;

use super::judge::{Judge, Judged};
use super::{Backend, GridError, Made, Unit};
use crate::base::digest::sha256;
use crate::suite::Suite;

/// Makes texts from the hashes of cells, the same every time, so that planning, running, resuming,
/// scoring and reporting can be tried without weights. It says nothing about any model.
#[derive(Debug)]
pub struct FakeBackend<'a> {
    /// The suite.
    pub suite: &'a Suite,
    /// How long a cell pretends to take. It is not part of what is recorded.
    pub pause: Duration,
}

const WORDS: [&str; 16] = [
    "the", "a", "quiet", "river", "stone", "keeps", "its", "colour", "under", "every", "bridge",
    "and", "waits", "for", "rain", "again",
];

impl Backend for FakeBackend<'_> {
    fn make(&mut self, unit: &Unit) -> Result<Vec<Made>, GridError> {
        let references = &self.suite.prompts[unit.prompt].references;
        let mut judge = Judge::new(references);
        let mut all = Vec::new();
        for cell in &unit.cells {
            std::thread::sleep(self.pause);
            // near strengths share words, as those of a model do
            let key = sha256(format!("{} {}", unit.prompt, unit.seed).as_bytes());
            let changed = sha256(cell.id.as_bytes());
            let share = (cell.strength.abs() * 4.0).min(12.0);
            let words: Vec<&str> = key
                .bytes()
                .zip(changed.bytes())
                .take(14)
                .enumerate()
                .map(|(place, (same, other))| {
                    let byte = if (place as f64) < share { other } else { same };
                    WORDS[usize::from(byte) % WORDS.len()]
                })
                .collect();
            let output = words.join(" ");
            let scores = judge.score(&Judged { text: &output, forced: None })?;
            let tokens = Some(words.len());
            let finish = Some("length".to_owned());
            all.push(Made { output, finish, tokens, scores, ..Made::default() });
        }
        Ok(all)
    }
}
