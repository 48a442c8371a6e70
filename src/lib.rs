//! `lora-eval`: LoRA adapters trained, read, merged, converted, run and judged.
//!
//! The library behind the `lora-eval` program. Its modules stand on floors; a module imports only
//! from floors below its own, and siblings do not import each other (`tests/floors.rs` holds that):
//!
//! | floor | modules | knows about |
//! |---|---|---|
//! | 6 | the program (`src/cli`) | arguments, printing |
//! | 5 | [`grid`], [`report`], [`check`]; [`train`], [`lint`], [`advise`] | a suite at every strength: cells, scores; what a reader sees of a run; the verdict; trainings, their data checked, configurations to start from and what curves say |
//! | 4 | [`generate`], [`metric`], [`merge`], [`extract`] | texts and pictures from models; scores; adapters applied to a base on disk, and taken out of one |
//! | 3 | [`model`] | bases: layouts, the table from adapter modules to base tensors; models that run: decoders, Stable Diffusion, judges of pictures |
//! | 2 | [`nn`], [`data`], [`demo`] | layers with adapters, a strength for each row, and their gradients; examples of a training; what the program's own models know |
//! | 1 | [`adapter`], [`prompt`], [`suite`], [`run`], [`config`], [`events`], [`text`], [`picture`], [`hub`], [`stats`] | adapters as data; the prompt language; suites and run directories; a training's configuration; TensorBoard's files; tokens; picture files; names of bases; significance |
//! | 0 | [`base`], [`tensors`], [`linalg`] | files, random numbers, safetensors and GGUF, dense matrices |
//!
//! Start at [`adapter::Adapter`] (any format, one type), [`merge::merge`], [`grid::execute`] and
//! [`train::Training`].

pub mod adapter;
pub mod advise;
pub mod base;
pub mod check;
pub mod config;
pub mod data;
pub mod demo;
pub mod events;
pub mod extract;
pub mod generate;
pub mod grid;
pub mod hub;
pub mod linalg;
pub mod lint;
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
pub mod train;
