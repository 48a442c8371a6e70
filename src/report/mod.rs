//! Floor 5: one run, or several side by side, as one HTML file that opens offline.
//!
//! - [`render`], [`render_in`], [`render_experiment`]: the file as text
//! - [`RunView`]: what a run gives to it
//! - [`quoted`]: a word as a shell takes it
//!
//! Nothing is computed here that decides anything: scores, intervals and p-values are those of
//! `scores.json`. The page needs no network and no script to be read; its content security policy
//! names the hashes of its own style and script and forbids all else. Of pictures it holds small
//! ones, and shows the whole ones where they still lie beside it.
//!
//! Invariant: the same input gives the same bytes, and no text of a run, whatever it holds, adds
//! an element or an attribute to the page, but for `<code>` around what a sentence has in backticks.

mod blame;
mod cell;
mod chart;
mod command;
mod curves;
mod diff;
mod error;
mod grid;
mod head;
mod lookup;
mod number;
mod order;
mod page;
mod picture;
mod ranking;
mod scale;
mod sentence;
mod summary;
mod text;
mod tradeoff;
mod verdict;
mod view;

pub use command::quoted;
pub use error::ReportError;
pub use view::{RunView, render, render_experiment, render_in};
