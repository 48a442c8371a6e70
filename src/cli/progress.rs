//! A progress bar on a terminal, nothing elsewhere.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::global::Global;

/// A bar that counts cells.
pub fn cells(global: &Global, total: u64) -> ProgressBar {
    bar(global, total, "{bar:30} {pos}/{len} cells  {per_sec}, {eta} left")
}

/// A bar that counts bytes.
pub fn bytes(global: &Global, total: u64) -> ProgressBar {
    let template =
        "{bar:30} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}, {eta} left";
    bar(global, total, template)
}

fn bar(global: &Global, total: u64, template: &str) -> ProgressBar {
    let shown = !global.quiet && !global.json && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A bar that counts sampling steps.
pub fn steps(global: &Global) -> ProgressBar {
    bar(global, 0, "{bar:30} step {pos}/{len}  {eta} left")
}

/// A bar that counts optimizer steps.
pub fn training(global: &Global) -> ProgressBar {
    bar(global, 0, "{bar:30} step {pos}/{len}  {per_sec}, {eta} left  {msg}")
}
