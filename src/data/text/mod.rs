//! Texts to train on: files of rows, and rows as token ids.
//!
//! - [`scan`], [`read_rows`]: a JSONL, JSON or CSV file, or a folder with one, into a [`RowSet`] of
//!   [`Row`]s; its [`Layout`] is that of the first row, and every other row must have it too
//! - [`encode`], [`Encoder`]: rows into a [`TextSet`] of [`TextExample`]s: ids, and which are learnt
//! - [`pack`]: which examples share a row of a batch
//! - [`TextDataError`], [`Problem`], [`Fault`]: what is wrong, by line
//!
//! Invariant: an example has one flag a token, its first token is never learnt (nothing stands before
//! it to predict it from), and at least one other is.
//!
//! The reference is `SFTTrainer` of TRL: completions and the assistant's turns are learnt, plain texts
//! and completions end with the end-of-text token, what is too long loses its end.

mod encode;
mod error;
mod json;
mod pack;
mod read;
mod row;
mod set;
mod spans;

pub use encode::{Encoded, Encoder, encode};
pub use error::{Fault, Problem, TextDataError};
pub use pack::pack;
pub use read::{RowSet, read_rows, scan};
pub use row::{Content, Layout, Row, Turn};
pub use set::{TextExample, TextSet};
