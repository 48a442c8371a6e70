//! `lora-eval`: LoRA adapters read, merged, converted and judged.
//!
//! The library behind the `lora-eval` program. Its modules stand on floors; a module imports only
//! from floors below its own, and siblings do not import each other (`tests/floors.rs` holds that):
//!
//! | floor | modules | knows about |
//! |---|---|---|
//! | 4 | [`merge`], [`extract`], [`metric`] | adapters applied to a base on disk, and taken out of one; scores |
//! | 3 | [`model`] | bases: layouts, and the table from adapter modules to base tensors |
//! | 1 | [`adapter`], [`prompt`], [`hub`], [`stats`] | adapters as data; the prompt language; names of bases; significance |
//! | 0 | [`base`], [`tensors`], [`linalg`] | files, safetensors, dense matrices |
//!
//! Start at [`adapter::Adapter`] (any format, one type) and [`merge::merge`].

pub mod adapter;
pub mod base;
pub mod extract;
pub mod generate;
pub mod grid;
pub mod hub;
pub mod linalg;
pub mod merge;
pub mod metric;
pub mod model;
pub mod nn;
pub mod picture;
pub mod prompt;
pub mod report;
pub mod run;
pub mod stats;
pub mod suite;
pub mod tensors;
pub mod text;
