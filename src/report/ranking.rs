//! The ranking of an experiment.

use serde::Serialize;

use crate::run::Experiment;
use crate::run::experiment::{COLUMNS, Row};
use crate::run::verdict::Answer;

/// The variants of an experiment, the best first.
#[derive(Debug, Serialize)]
pub struct Ranking {
    /// `adapter.rank`.
    pub key: String,
    /// Column heads.
    pub columns: Row,
    /// One row a variant.
    pub rows: Vec<Ranked>,
    /// What a reader should know.
    pub remarks: Vec<String>,
}

/// A variant.
#[derive(Debug, Serialize)]
pub struct Ranked {
    /// One cell a column.
    pub cells: Row,
    /// The verdict in a line.
    pub headline: String,
    /// `good`, `bad` or nothing.
    pub tone: &'static str,
}

/// What the page shows of an experiment.
pub fn ranking(experiment: &Experiment) -> Ranking {
    let mut columns = COLUMNS.map(str::to_owned);
    columns[1].clone_from(&experiment.written);
    let rows = experiment.variants.iter().map(|variant| {
        let judged = variant.judged.as_ref();
        Ranked {
            cells: variant.row(),
            headline: judged.map_or(String::new(), |judged| judged.headline.clone()),
            tone: match judged.map(|judged| judged.verdict) {
                Some(Answer::Pass) => "good",
                Some(Answer::Inconclusive) => "",
                Some(Answer::Regression) | None => "bad",
            },
        }
    });
    Ranking {
        key: experiment.key.clone(),
        columns,
        rows: rows.collect(),
        remarks: experiment.remarks(),
    }
}
