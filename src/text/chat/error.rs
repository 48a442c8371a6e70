use std::error::Error as _;
use std::path::{Path, PathBuf};

use minijinja::ErrorKind;

use super::environment::Raised;
use crate::base::hint::first_few;
use crate::base::terminal::printable;

/// Why a conversation could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model has no chat template that could be used.
    #[error(
        "{}: no chat template{}\nhint: this is not a chat model, or `chat_template.jinja` (or `chat_template` in `tokenizer_config.json`) was not fetched; without one, give the prompt as plain text",
        path.display(), others(names)
    )]
    NoTemplate {
        /// The tokenizer's file.
        path: PathBuf,
        /// Names of templates for other purposes.
        names: Vec<String>,
    },
    /// The template is wrong, or uses something that is not known.
    #[error(
        "{}: chat template, line {line}: {}\nhint: fetch the template again, or give the prompt as plain text",
        path.display(), printable(problem)
    )]
    Template {
        /// The file that has the template.
        path: PathBuf,
        /// The line of the template, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The template refuses the conversation (`raise_exception`).
    #[error(
        "{}: the chat template refuses the conversation: {}\nhint: change the messages as it asks",
        path.display(), printable(message)
    )]
    Raised {
        /// The file that has the template.
        path: PathBuf,
        /// The template's own words.
        message: String,
    },
    /// The template does more than any conversation needs.
    #[error(
        "{}: chat template, line {line}: {what}\nhint: shorten the conversation; if it is short, the template is hostile",
        path.display()
    )]
    Limit {
        /// The file that has the template.
        path: PathBuf,
        /// The line of the template, from 1.
        line: usize,
        /// Which limit was met.
        what: &'static str,
    },
}

impl ChatError {
    pub(in crate::text) fn no_template(path: &Path, names: &[&String]) -> Self {
        Self::NoTemplate {
            path: path.to_owned(),
            names: names.iter().map(|name| (*name).clone()).collect(),
        }
    }

    pub(super) fn new(path: &Path, error: &minijinja::Error) -> Self {
        let path = path.to_owned();
        let line = error.line().unwrap_or(1);
        let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
        if let Some(raised) = causes.find_map(|cause| cause.downcast_ref::<Raised>()) {
            return Self::Raised { path, message: raised.0.clone() };
        }
        match error.kind() {
            ErrorKind::OutOfFuel => Self::Limit { path, line, what: "too much work" },
            ErrorKind::WriteFailure => Self::Limit { path, line, what: "too long a result" },
            kind => {
                let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
                Self::Template { path, line, problem: format!("{kind}{detail}") }
            }
        }
    }
}

fn others(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!(" called `default`, only {}", first_few(names))
}
