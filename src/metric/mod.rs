//! Floor 4: metrics. A metric is a function: it gets texts or images and gives a [`Score`] with its
//! direction, unit and signature. It knows no grid and no report.
//!
//! - [`Texts`]: hypotheses and their references, checked once
//! - [`Bleu`], [`Chrf`], [`Ter`]: sacreBLEU 2.6's, on sums of per-segment statistics, so that
//!   [`crate::stats::Test`] can compare two systems without scoring the texts again
//! - [`Rouge`]: rouge-score 0.1.2's; [`ExactMatch`]
//! - [`Degeneration`]: does a text repeat itself? Needs no reference
//! - [`image`]: metrics of images
//! - [`Measure`]: a metric over the cells of a run, as sums
//!
//! Invariant: equal texts and options give equal bits, on any number of threads.

mod bleu;
mod chrf;
mod degeneration;
mod error;
mod exact;
mod grams;
pub mod image;
mod measure;
mod porter;
mod rouge;
mod score;
mod ter;
mod ter_edits;
mod tercom;
mod text;
mod tokenize;

pub use bleu::{Bleu, BleuParts, MAX_ORDER, Smooth};
pub use chrf::Chrf;
pub use degeneration::Degeneration;
pub use error::MetricError;
pub use exact::ExactMatch;
pub use measure::{Combine, Measure};
pub use porter::stem;
pub use rouge::{Overlap, Rouge, RougeKind};
pub use score::{Direction, Part, Score};
pub use ter::Ter;
pub use text::Texts;
pub use tokenize::Tokenizer;

/// The program whose BLEU, chrF and TER these are, and whose signatures say so.
pub const SACREBLEU: &str = "2.6.0";
/// The program whose ROUGE this is.
pub const ROUGE_SCORE: &str = "0.1.2";
