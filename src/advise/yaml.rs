//! A configuration as text: sections, one key a line, the reason behind it.

use super::claims::Claim;
use super::explain::{Reason, bytes};
use super::memory::MemoryPlan;

/// The configuration of `reasons`; `head` goes before it, the plan and the claims behind, as comments.
pub fn write(
    head: &[String],
    reasons: &[Reason],
    memory: &MemoryPlan,
    claims: &[&'static Claim],
) -> String {
    let mut lines: Vec<String> = head.iter().map(|line| comment(line)).collect();
    let mut open: Vec<&str> = Vec::new();
    for Reason { key, value, why, source } in reasons {
        let mut path: Vec<&str> = key.split('.').collect();
        let Some(name) = path.pop() else { continue };
        let shared = path.iter().zip(&open).take_while(|(a, b)| a == b).count();
        if shared == 0 {
            lines.push(String::new());
        }
        for (depth, section) in path.iter().enumerate().skip(shared) {
            lines.push(format!("{:1$}{section}:", "", 2 * depth));
        }
        let (indent, reason) = (2 * path.len(), comment(&format!("{why} [{source}]")));
        lines.push(format!("{:indent$}{name}: {value}  {reason}", ""));
        open = path;
    }
    lines.extend([String::new(), comment("Memory:")]);
    lines.extend(table(memory).lines().map(comment));
    lines.extend([String::new(), comment("What the article says and is not followed:")]);
    for Claim { number, says, verdict, instead, source, .. } in claims {
        let verdict = verdict.name();
        lines.push(comment(&format!("{number}. “{says}” ({verdict}): {instead} [{source}]")));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The items of a plan, one a line, and their sum.
pub fn table(memory: &MemoryPlan) -> String {
    let width = memory.items.iter().map(|item| item.name.chars().count()).max().unwrap_or(0);
    let line = |name: &str, bytes: u64, more: &str| format!("{name:width$} {bytes:>14}  {more}\n");
    let items = memory.items.iter().map(|item| {
        let phase = item.phase.name();
        line(item.name, item.bytes, &format!("{phase}: {}", item.from))
    });
    let of = memory.limit.map_or_else(String::new, |limit| format!(" of {}", bytes(limit)));
    let sum = format!("{}{of}", bytes(memory.total));
    items.chain([line("at one time", memory.total, &sum)]).collect()
}

/// A line of comment; text that others gave cannot end it.
fn comment(line: &str) -> String {
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {line}").trim_end().to_owned()
}
