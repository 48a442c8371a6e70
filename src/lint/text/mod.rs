//! Rows of text.

mod faults;
mod rows;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use self::rows::Said;
use super::{Finding, Fixes, LintError, Place, Report, Severity, rules};
use crate::config::{DataSettings, TextDataSettings};
use crate::data::text::{Encoder, Fault, Row, RowSet, scan};
use crate::text::{Clock, TextTokenizer};

const LENGTHEN: &str = "raise `data.text.max_length`, or split the row: what is cut off is not learnt, the end of the answer included";
const UNMARK: &str = "it is left out; save the file without it";

/// Checks the files of texts that the settings name.
pub fn lint(data: &DataSettings, tokenizer: &TextTokenizer) -> Result<Report, LintError> {
    let paths = [(Some(&data.train), false), (data.held_out.as_ref(), true)];
    let paths = paths.into_iter().filter_map(|(path, held_out)| Some((path?, held_out)));
    let roots: Vec<PathBuf> = paths.clone().map(|(path, _)| path.clone()).collect();
    let (mut findings, mut fixes, mut sets) = (Vec::new(), Fixes::new(roots), Vec::new());
    for (path, held_out) in paths {
        match scan(path) {
            Ok(set) => sets.push((set, held_out)),
            Err(error) => findings.push(faults::of_file(error, &mut fixes)?),
        }
    }
    let (mut said, mut notes, mut examples) = (Vec::new(), Vec::new(), 0);
    for (set, held_out) in &sets {
        let count = set.rows.len() + set.problems.len();
        notes.push(format!("{}: {count} rows of {}", set.path.display(), set.layout));
        notes.extend(set.notes.iter().cloned());
        examples += count;
        let start = Start::of(&set.path)?;
        let is_text = |fault: &Fault| !matches!(fault, Fault::NotUtf8 { .. });
        let is_text = set.problems.iter().all(|problem| is_text(&problem.fault));
        if start.is_marked {
            findings.push(marked(&set.path, is_text, &mut fixes));
        }
        let problems = set.problems.iter();
        findings.extend(problems.map(|p| faults::of_row(&set.path, p.line, &p.fault)));
        findings.extend(row_by_row(set, tokenizer, &data.text));
        let mendable = start.is_lines && is_text;
        said.extend(set.rows.iter().map(|row| Said::of(row, &set.path, *held_out, mendable)));
    }
    for twin in rows::twins(&said) {
        if let Some(copy) = said.get(twin.at).filter(|_| twin.finding.fixable) {
            fixes.drop_row(copy.file, copy.line);
        }
        findings.push(twin.finding);
    }
    findings.extend(rows::contradictions(&said));
    findings.extend(rows::same_answers(&said));
    Ok(Report::new(notes, examples, findings, fixes))
}

fn marked(path: &Path, is_text: bool, fixes: &mut Fixes) -> Finding {
    let message = "a byte order mark in front of the text";
    let finding = Finding::warning(&rules::ENCODING, Place::line(path, 1), message).advice(UNMARK);
    if is_text {
        fixes.encode(path);
    }
    Finding { fixable: is_text, ..finding }
}

/// How a file begins.
struct Start {
    is_marked: bool,
    /// Whether it is an object a line.
    is_lines: bool,
}

impl Start {
    fn of(path: &Path) -> Result<Self, LintError> {
        const LOOKED_AT: u64 = 4096;
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(LintError::io(path))?;
        file.take(LOOKED_AT).read_to_end(&mut bytes).map_err(LintError::io(path))?;
        let rest = bytes.strip_prefix(b"\xef\xbb\xbf");
        let is_lines = rest.unwrap_or(&bytes).trim_ascii_start().starts_with(b"{");
        Ok(Self { is_marked: rest.is_some(), is_lines })
    }
}

/// What is wrong with each row by itself.
fn row_by_row(
    set: &RowSet,
    tokenizer: &TextTokenizer,
    settings: &TextDataSettings,
) -> Vec<Finding> {
    // only the lengths matter, so any time will do
    let encoder = Encoder::new(set.layout, tokenizer, Clock::At(0), settings);
    let check = |row: &Row| {
        let roles = rows::roles(row, &set.path);
        let encoded = match encoder.row(row) {
            Ok(encoded) if encoded.cut > 0 => {
                let all = encoded.cut + encoded.example.tokens.len();
                let message = format!("{} of {all} tokens are cut off", encoded.cut);
                let place = Place::line(&set.path, row.line);
                Some(Finding::warning(&rules::TRUNCATED, place, message).advice(LENGTHEN))
            }
            Ok(_) => None,
            Err(fault) => Some(faults::of_row(&set.path, row.line, &fault)),
        };
        match (roles, encoded) {
            // the order of the roles is why nothing is learnt, or why the template refuses
            (Some(roles), Some(Finding { severity: Severity::Error, .. })) => {
                vec![Finding { severity: Severity::Error, ..roles }]
            }
            (roles, encoded) => roles.into_iter().chain(encoded).collect(),
        }
    };
    set.rows.par_iter().flat_map_iter(check).collect()
}
