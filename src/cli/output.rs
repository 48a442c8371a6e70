//! Printing: results to standard output, errors to standard error.

use std::io::{self, IsTerminal as _, Write as _};

use lora_eval::base::terminal::printable;
use lora_eval::merge::BlockChange;
use serde::Serialize;

/// Prints a result as JSON. A closed pipe is not an error.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    // Only strings hold what is left of control characters: serde_json escapes those below a space.
    let escaped = |c: char| match c {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    print(&(text.chars().map(escaped).collect::<String>() + "\n"))
}

/// Prints text, without control characters that a file may have brought in. A closed pipe is not an
/// error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let keep = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let text: String =
        text.chars().map(|c| if keep(c) { c } else { char::REPLACEMENT_CHARACTER }).collect();
    write(&text)
}

fn write(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints a generated text: as it is into a file or a pipe, without control characters on a terminal.
pub fn text(text: &str) -> anyhow::Result<()> {
    let text = format!("{text}\n");
    if io::stdout().is_terminal() { print(&text) } else { write(&text) }
}

/// An error with its causes and its hint, on as many lines.
pub fn whole(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // A transparent error says the same as its cause.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Prints an error, its causes and its hint.
pub fn error(error: &anyhow::Error) {
    let lines: Vec<String> = whole(error).lines().map(clean).collect();
    let _ = writeln!(io::stderr(), "error: {}", lines.join("\n"));
}

/// What a user should know and need not act on.
pub fn note(message: &str) {
    if tracing::enabled!(tracing::Level::WARN) {
        // who has closed this stream does not want to know
        let _ = writeln!(io::stderr(), "note: {}", clean(message));
    }
}

/// Warns unless `-q` was given.
pub fn warn(message: &str) {
    tracing::warn!("{}", clean(message));
}

fn clean(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A name that came from a file.
pub fn name(text: &str) -> String {
    printable(text).into_owned()
}

/// Numbers as they are written in a tag, `1,0,0.5`.
pub fn list(numbers: &[f64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A share as a percentage that does not round small ones to nothing.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        p if p < 0.01 => "< 0.01 %".to_owned(),
        p if p < 10.0 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// What happened to one block, in a line.
pub fn block(block: &BlockChange) -> String {
    format!(
        "{:<16} {:<24} ‖ΔW‖/‖W‖ {:.4}, lost {}",
        block.component.name(),
        block.block,
        block.relative_change,
        percent(block.lost)
    )
}
