//! `lora-eval train --lint`

use anyhow::bail;
use lora_eval::config::{Resolved, Task};
use lora_eval::hub;
use lora_eval::lint::{Examples, lint};
use lora_eval::model::Base;
use lora_eval::text::TextTokenizer;
use serde_json::json;

use super::global::Global;
use super::output;

/// Checks the examples, with `fix` mends what needs no judgement.
pub fn run(global: &Global, resolved: &Resolved, fix: bool) -> anyhow::Result<()> {
    let data = &resolved.settings.data;
    let report = match resolved.task {
        Task::Image => lint(data, Examples::Pictures)?,
        Task::Text => {
            let base = Base::open_to_run(&hub::resolve(&resolved.settings.base.model)?)?;
            let tokenizer = match &base.gguf {
                Some(model) => TextTokenizer::from_gguf(&model.file)?,
                None => TextTokenizer::from_folder(&base.path)?,
            };
            lint(data, Examples::Texts(&tokenizer))?
        }
    };
    let fixed = if fix { report.fixes.apply()? } else { Vec::new() };
    if global.json {
        output::json(&json!({"report": report, "fixed": fixed}))?;
    } else {
        output::print(&report.to_string())?;
        for line in &fixed {
            println!("fixed: {}", output::name(line));
        }
    }
    if report.errors > 0 && !fix {
        bail!(
            "{} of the findings are errors\nhint: mend the data, or let `--lint --fix` mend what it can ({} findings)",
            report.errors,
            report.fixable()
        );
    }
    Ok(())
}
