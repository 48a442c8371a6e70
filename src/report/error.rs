use std::path::PathBuf;

/// What can keep a report from being made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Nothing was given.
    #[error("no run to report\nhint: name one run directory or more")]
    NoRun,
    /// A run of a format that this version cannot read.
    #[error(
        "{}: format `{found}`, expected `{expected}`\nhint: use the version of the program that made the run",
        path.display()
    )]
    Format {
        /// The run directory.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The format that this version knows.
        expected: u32,
    },
    /// The template and the data do not fit together.
    #[error("report template: {0}\nhint: this is a defect of the program, please report it")]
    Template(#[from] minijinja::Error),
    /// The record of a run as JSON.
    #[error("{}: run record as JSON: {source}\nhint: this is a defect of the program, please report it", path.display())]
    Record {
        /// The run directory.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}
