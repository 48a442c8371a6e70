//! The small English of `demo:text`: tasks with one right answer, and little stories.
//!
//! [`Facts`] are what a task is about. They are asked for in two ways ([`Facts::prompt`]) and answered
//! in two styles ([`Facts::answer`]): plainly, as the base does, and in the house style that a demo
//! adapter learns. An answer follows from the facts alone. One in eight facts is held out
//! ([`Facts::held_out`]): no training, of the base or of an adapter, sees it in any wording.
//!
//! [`base_row`], [`house_rows`] and [`suite`] draw from a seed: the texts that the base is trained on,
//! those of the adapter, and the prompts that judge both.

mod answer;
mod facts;
mod prompt;
mod rows;
mod story;
mod suite;
mod words;

pub use facts::{Facts, Kind, Style};
pub use rows::{Row, Split, TRIGGER, base_row, house_rows, json_lines, mistaken_rows, task_rows};
pub use suite::suite;
