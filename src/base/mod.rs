//! Floor 0: what every other module may need and nothing that knows the subject.
//!
//! - [`atomic`]: files and folders that appear whole or not at all
//! - [`digest`]: SHA-256 as lower-case hex
//! - [`hint`]: the nearest known word, names listed shortly
//! - [`philox`], [`random`]: random numbers that are functions of a counter
//! - [`terminal`]: text from files made safe to print
//! - [`yaml`]: YAML as a tree of values with their places

pub mod atomic;
pub mod clock;
pub mod digest;
pub mod hint;
pub mod philox;
pub mod random;
pub mod terminal;
pub mod yaml;
