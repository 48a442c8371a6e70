use std::io;
use std::path::{Path, PathBuf};

use crate::base::terminal::printable;
use crate::run::RunError;
use crate::stats::StatsError;

/// Why a run cannot be judged. None of these is a verdict: the run, the policy or the baseline is at
/// fault.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file cannot be read.
    #[error("{}: {source}\nhint: check that it is there and may be read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A policy that makes no sense.
    #[error("{}:{line}: {problem}\nhint: {hint}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A rule of a policy that this run has nothing for.
    #[error(
        "{}:{line}: rule `{}` cannot be judged: {problem}\nhint: {hint}; or write `if_missing: skip` into the rule",
        path.display(),
        printable(rule)
    )]
    Missing {
        /// The policy.
        path: PathBuf,
        /// Where the rule starts.
        line: u32,
        /// The rule.
        rule: String,
        /// What is missing.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// What was given and no rule looks at.
    #[error("{}: no rule of the policy uses `{flag}`\nhint: {hint}", path.display())]
    Unused {
        /// The policy.
        path: PathBuf,
        /// The flag.
        flag: &'static str,
        /// What to do.
        hint: String,
    },
    /// A file is to be written where no folder is.
    #[error("{}: the folder `{}` does not exist\nhint: make it first, or name another file", path.display(), folder.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// The folder that it would be in.
        folder: PathBuf,
    },
    /// Cells that are not there.
    #[error("{}: {missing} of {planned} cells are missing\nhint: {hint}", path.display())]
    Unfinished {
        /// The run.
        path: PathBuf,
        /// Cells missing.
        missing: usize,
        /// Cells planned.
        planned: usize,
        /// The command that makes them.
        hint: String,
    },
    /// A run whose parts do not fit together.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Inconsistent {
        /// The run, or the file in it.
        path: PathBuf,
        /// What does not fit.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// An adapter of which nothing fits the base.
    #[error(
        "{}: adapter `{}` does not fit the base: 0 of {modules} modules were found in it\nhint: use the base that the adapter was made for; `lora-eval inspect {} --base BASE` lists every key",
        path.display(),
        printable(name),
        printable(file)
    )]
    Mismatched {
        /// The run.
        path: PathBuf,
        /// The adapter.
        name: String,
        /// Its file.
        file: String,
        /// Modules that it has.
        modules: usize,
    },
    /// A score that is not finite.
    #[error("{}: rule `{}` at strength {strength}: {source}", path.display(), printable(rule))]
    Score {
        /// The run.
        path: PathBuf,
        /// The rule.
        rule: String,
        /// The strength.
        strength: f64,
        /// Why.
        source: StatsError,
    },
    /// A strength that the run does not have.
    #[error(
        "{}: the run has no strength {strength}: expected one of {known}\nhint: add it to the strengths of the grid, or ask for one of these",
        path.display()
    )]
    Strength {
        /// The run.
        path: PathBuf,
        /// What was asked for.
        strength: f64,
        /// Those that it has.
        known: String,
    },
    /// A run of the base alone.
    #[error("{}: no adapter was run, so there is nothing to judge\nhint: give `lora-eval grid` one, `--lora NAME=PATH`", path.display())]
    NoAdapter {
        /// The run.
        path: PathBuf,
    },
    /// An approval that cannot be used.
    #[error("{}: {}\nhint: {hint}", path.display(), printable(problem))]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// An approval of something else.
    #[error(
        "{}: the baseline has expired: the {what} has changed since {} approved it (approved `{approved}`, found `{found}`)\nhint: judge the run by itself, then approve it anew: `lora-eval check RUN --approve --by NAME --reason TEXT --out {}`",
        path.display(),
        printable(by),
        path.display()
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// `suite`, `base` …
        what: String,
        /// Who approved.
        by: String,
        /// What was approved, shortened.
        approved: String,
        /// What is there, shortened.
        found: String,
    },
    /// Nothing to approve.
    #[error(
        "no strength can be approved: none is recommended\nhint: name the one that you approve in spite of the verdict: `--strength S`"
    )]
    NothingToApprove,
    /// Pictures that the adapter was trained on.
    #[error("{}: {problem}\nhint: name the folder of the training's pictures (.png, .jpg, .webp)", path.display())]
    Training {
        /// The folder or the file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A report for machines that could not be made.
    #[error(
        "the JUnit report cannot be written: {0}\nhint: this is a fault of the program; please report it"
    )]
    Junit(#[from] quick_junit::SerializeError),
}

impl CheckError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}
