//! A verdict as Markdown, for a job's summary or a comment on a pull request.

use std::fmt::Write as _;

use super::table::{heads, row, worst};
use super::words::strength as at;
use crate::run::verdict::{Answer, AtStrength, Outcome, Verdict};

/// Longest summary, in bytes: what a comment of GitHub holds.
pub const MAX_SUMMARY: usize = 64_000;

/// The summary, at most [`MAX_SUMMARY`] bytes: what does not fit is cut off between two lines, and said.
pub fn summary(verdict: &Verdict) -> String {
    let mut text = String::new();
    let sign = match verdict.verdict {
        Answer::Pass => "✅",
        Answer::Regression => "❌",
        Answer::Inconclusive => "❔",
    };
    let _ = writeln!(text, "## {sign} {}\n", marked(&verdict.headline));
    let columns = heads(verdict);
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| marked(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    text += &line(&columns);
    let _ = writeln!(text, "|{}", " --- |".repeat(columns.len()));
    for strength in &verdict.strengths {
        text += &line(&row(strength, verdict));
    }
    text.push('\n');
    for reason in &verdict.reasons {
        let _ = writeln!(text, "- {}", marked(reason));
    }
    if !verdict.worst.is_empty() {
        text += "\n**Lost most**\n\n";
    }
    for pair in &verdict.worst {
        let _ = writeln!(text, "1. {}", marked(&worst(pair)));
    }
    for note in &verdict.notes {
        let _ = write!(text, "\n> {}\n", marked(note));
    }
    for strength in &verdict.strengths {
        text += &details(strength);
    }
    let subject = &verdict.subject;
    let short = |sha256: &str| sha256.chars().take(12).collect::<String>();
    let adapters: Vec<String> = subject
        .adapters
        .iter()
        .map(|(name, sha256)| format!("{} {}", escaped(name), short(sha256)))
        .collect();
    let end = format!(
        "\n<sub>base {} · adapter {} · suite {} · policy {} · {}</sub>\n",
        short(&subject.base),
        adapters.join(", "),
        short(&subject.suite),
        short(&verdict.policy.sha256),
        verdict.program
    );
    cut(text, &end)
}

/// Every rule of a strength, folded.
fn details(strength: &AtStrength) -> String {
    let mut text = format!("\n<details><summary>strength {}</summary>\n\n", at(strength.strength));
    for rule in &strength.rules {
        let sign = match rule.outcome {
            Outcome::Pass => "✅",
            Outcome::Fail => "❌",
            Outcome::Inconclusive => "❔",
            Outcome::NotApplicable => "–",
        };
        let _ = writeln!(text, "- {sign} {}: {}", escaped(&rule.rule), marked(&rule.sentence));
    }
    text + "\n</details>\n"
}

/// At most [`MAX_SUMMARY`] bytes, cut between two lines.
fn cut(mut text: String, end: &str) -> String {
    const OPEN: &str = "<details>";
    const CLOSED: &str = "\n</details>\n";
    const LEFT_OUT: &str = "\n\nThe rest does not fit here; `verdict.json` has it.\n";
    if text.len() + end.len() > MAX_SUMMARY {
        let room = MAX_SUMMARY.saturating_sub(end.len() + CLOSED.len() + LEFT_OUT.len());
        let room = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let line = text.get(..room).and_then(|kept| kept.rfind('\n')).unwrap_or(0);
        text.truncate(line);
        if text.matches(OPEN).count() > text.matches(CLOSED).count() {
            text += CLOSED;
        }
        text += LEFT_OUT;
    }
    text + end
}

/// A sentence of ours: what it quotes (`` `gain` ``) is code, where that is plain enough to be left
/// as it is; all else says just what it says.
fn marked(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || " .,:;=+-_/()'".contains(c);
    let pieces: Vec<&str> = text.split('`').collect();
    let quoted = pieces.iter().skip(1).step_by(2);
    if pieces.len().is_multiple_of(2)
        || quoted.clone().any(|piece| piece.is_empty() || !piece.chars().all(plain))
    {
        return escaped(text);
    }
    let pieces = pieces.into_iter().enumerate();
    pieces
        .map(|(at, piece)| if at % 2 == 1 { format!("`{piece}`") } else { escaped(piece) })
        .collect()
}

/// Text from files as Markdown that says just that.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            // an at-sign would call somebody
            '@' => safe += "&#64;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push(char::REPLACEMENT_CHARACTER),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_code_where_it_is_plain() {
        assert_eq!(marked("breaks `gain-chrf` *"), "breaks `gain-chrf` \\*");
        assert_eq!(marked("breaks `a|b`"), "breaks \\`a\\|b\\`");
        assert_eq!(marked("breaks `<b>`"), "breaks \\`&lt;b&gt;\\`");
        assert_eq!(marked("a ` alone"), "a \\` alone");
        assert_eq!(marked("``"), "\\`\\`");
    }

    #[test]
    fn what_is_folded_is_closed_where_it_is_cut() {
        let line = "- a rule of many words that says how it was kept\n";
        let text = format!("<details><summary>one</summary>\n\n{}", line.repeat(3000));
        let short = cut(text, "\nend\n");
        assert!(short.len() <= MAX_SUMMARY);
        assert!(
            short.contains("kept\n</details>\n") || short.contains("kept\n\n</details>\n"),
            "{}",
            &short[short.len() - 200..]
        );
        assert!(short.ends_with("has it.\n\nend\n"));
        assert_eq!(cut("short\n".to_owned(), "end\n"), "short\nend\n");
    }
}
