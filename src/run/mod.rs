//! Floor 1: a run directory, the cells, scores and report of one suite.
//!
//! | path | what |
//! |---|---|
//! | `run.json` | [`RunRecord`]: all that is needed to make the run again, and its plan |
//! | `cells/ab/ab….json` | a [`Cell`], one line; the file is the mark that the cell is finished |
//! | `outputs/` | pictures |
//! | `scores.json`, `report.html`, `verdict.json` | made from the cells, at any time |
//! | `ablation.json` | an [`Ablation`], where one was asked for |
//! | `.lock` | held while a program writes; the system releases it when the program ends |
//!
//! - [`Run`]: [`Run::create`] starts or resumes one, [`Run::open`] reads one
//! - [`Run::verified`]: its cells, every file's seal checked; [`Verdict`]: what is concluded from them
//! - [`cell_id`], [`plan_hash`]: what a cell and a plan are called by
//! - [`Shard`]: the part of a plan that one of several processes makes
//! - [`verdict`], [`experiment`]: what was found in a run, and in the runs of several trainings
//!
//! Invariants: a cell is whole or absent, whatever happens while it is written. Processes that start
//! the same run at once agree on one `run.json`. What is finished is a property of cells, never of
//! shards, so the number of shards may change between two starts.

mod ablation;
mod cells;
mod differ;
mod directory;
mod error;
pub mod experiment;
mod id;
mod lock;
mod record;
mod seal;
mod shard;
pub mod verdict;
mod verify;

pub use ablation::{Ablation, BlockEffect, Change, Measure, PromptAt, Proposal};
pub use cells::{Cells, Scan};
pub use differ::differences;
pub use directory::{MAX_CELL, MAX_RUN, Run, Start};
pub use error::RunError;
pub use experiment::Experiment;
pub use id::{canonical_json, cell_id, is_cell_id, plan_hash};
pub use lock::{LockMode, RunLock};
pub use record::{
    AdapterAt, AdapterRecord, BaseRecord, Better, Cell, FORMAT, MetricScores, PlanRecord, RunKind,
    RunRecord, ScoreRow, Scores,
};
pub use shard::{MAX_SHARDS, Shard, ShardError};
pub use verdict::Verdict;
pub use verify::Verified;
