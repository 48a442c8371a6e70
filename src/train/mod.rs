//! Floor 5: adapters trained.
//!
//! - [`Training`]: from settings to a finished adapter; [`Trainer`] is the loop, readable in one sitting
//! - [`Task`]: what the loop asks of a model; [`TextTask`], [`ImageTask`]
//! - [`Parameters`], [`select`]: what is trained; [`Gradients`], [`backward`]: how gradients are made
//! - [`optimizer`], [`schedule`]: steps and rates, as the peers compute them
//! - [`Event`], [`Watch`]: what happens, told to [`Log`], [`Board`] and whoever else listens
//!
//! Invariants: what a step computes depends on the settings, the data and the step's number, not on
//! micro-batches, recomputation, threads or how often the training was interrupted. No adapter that is
//! not finite is written.

mod backward;
mod board;
mod checkpoint;
mod data;
mod error;
mod finished;
mod gradients;
mod guard;
mod image;
mod ladder;
mod log;
pub mod memory;
mod metadata;
pub mod optimizer;
mod order;
mod parameters;
mod prepare;
mod proof;
mod rates;
mod samples;
pub mod schedule;
mod select;
mod state;
mod task;
mod text;
mod trainer;
mod training;
mod watch;

pub use backward::{Chain, End, Pass, backward};
pub use board::Board;
pub use checkpoint::Saved;
pub use error::TrainError;
pub use finished::{finished, has_begun};
pub use gradients::Gradients;
pub use image::{ImageTask, Picture, Pictures};
pub use ladder::shrink;
pub use log::Log;
pub use order::Order;
pub use parameters::{Parameters, Part, Role};
pub use schedule::{Schedule, ScheduleError};
pub use select::{Chosen, select};
pub use state::State;
pub use task::{Loss, Task, mean};
pub use text::TextTask;
pub use trainer::{Ending, Trainer};
pub use training::{Outcome, Training, task_of};
pub use watch::{Event, Start, Step, Watch};
