//! `lora-eval train --lint`

use anyhow::bail;
use lora_eval::config::{Resolved, Task};
use lora_eval::hub;
use lora_eval::lint::{Examples, Severity, lint};
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
        output::print(&format!("{}\n", report.to_string().trim_end()))?;
        for line in &fixed {
            output::text(&format!("fixed: {}", output::name(line)))?;
        }
    }
    let left = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error && !(fix && finding.fixable));
    let left = left.count();
    if left > 0 {
        bail!(
            "{left} of the findings are errors{}\nhint: mend the data; `--lint --fix` mends what needs no judgement ({} findings)",
            if fix { " that are not mended" } else { "" },
            report.fixable()
        );
    }
    Ok(())
}
