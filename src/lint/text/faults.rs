//! What the reader of texts says, as findings.

use std::fs;
use std::path::Path;

use crate::data::text::{Fault, TextDataError};
use crate::lint::repair::{Encoding, decode};
use crate::lint::rules::{self, Rule};
use crate::lint::{Finding, Fixes, LintError, Place};

/// A row that cannot be used.
pub fn of_row(path: &Path, line: usize, fault: &Fault) -> Finding {
    let place = Place::line(path, line);
    Finding::error(rule(fault), place, fault.to_string()).advice(fault.hint())
}

fn rule(fault: &Fault) -> &'static Rule {
    match fault {
        Fault::NotUtf8 { .. } => &rules::ENCODING,
        Fault::Long { .. } => &rules::BAD_ROW,
        Fault::Json { .. } => &rules::BAD_JSON,
        Fault::Csv { .. } => &rules::CSV_QUOTING,
        Fault::Layout { .. } | Fault::Value { .. } | Fault::Speaker { .. } => {
            &rules::UNKNOWN_LAYOUT
        }
        Fault::Empty { .. } => &rules::EMPTY_ROW,
        Fault::NothingLearnt { .. } => &rules::ZERO_LOSS,
        Fault::Prefix { .. } | Fault::Chat { .. } | Fault::Tokenizer { .. } => {
            &rules::NOT_ENCODABLE
        }
    }
}

/// The finding that a file is of which no row can be used; other errors stay what they are.
pub fn of_file(error: TextDataError, fixes: &mut Fixes) -> Result<Finding, LintError> {
    match &error {
        TextDataError::Rows { path, first, .. } => Ok(of_row(path, first.line, &first.fault)),
        TextDataError::UnknownLayout { path, line, .. } => {
            let all = error.to_string();
            let (message, hint) = all.split_once("\nhint: ").unwrap_or((&all, "rename the keys"));
            let place = Place::line(path, *line);
            // the message begins with the place
            let message = message.strip_prefix(&format!("{}:{line}: ", path.display()));
            let message = message.unwrap_or("unknown layout");
            Ok(Finding::error(&rules::UNKNOWN_LAYOUT, place, message).advice(hint))
        }
        TextDataError::Format { path, hint, .. } if is_utf16(path) => {
            fixes.encode(path);
            let message = "UTF-16 text, expected UTF-8";
            Ok(Finding::error(&rules::ENCODING, Place::file(path), message).advice(*hint).fixable())
        }
        _ => Err(error.into()),
    }
}

fn is_utf16(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| matches!(decode(&bytes), Ok((_, Encoding::Utf16))))
}
