//! `lora-eval prompt`: how a prompt is read.

use std::fmt::Write as _;

use lora_eval::prompt::{FeatureKind, Prompt};

use super::global::Global;
use super::output;

/// Show how a prompt is read: adapters and strengths, weighted fragments, schedules
///
/// The syntax is that of the Stable Diffusion WebUI (AUTOMATIC1111): `<lora:NAME:TE:UNET>`, `(a)`,
/// `(a:1.3)`, `[a]`, `BREAK`, `[from:to:0.5]`, `[a|b]`, `AND`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  lora-eval prompt 'a (red:1.3) fox, <lora:style:0.8>'")]
pub struct Args {
    /// The prompt
    #[arg(allow_hyphen_values = true)]
    text: String,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<()> {
    let prompt = Prompt::parse(&args.text)
        .map_err(|error| anyhow::anyhow!("{error}\n{}", error.caret(&args.text)))?;
    for warning in &prompt.warnings {
        let column = warning.at.column;
        output::warn(&format!("prompt, column {column}: {}", warning.message));
    }
    if global.json {
        return output::json(&prompt);
    }
    let mut text = format!("text       {}\n", output::name(&prompt.text));
    for adapter in &prompt.adapters {
        let name = output::name(&adapter.name);
        let (te, unet) = (adapter.text_encoder, adapter.unet);
        let _ = write!(text, "adapter    {name}: text encoder {te}, UNet {unet}");
        if !adapter.blocks.is_empty() {
            let _ = write!(text, ", by block {}", output::list(&adapter.blocks));
        }
        text.push('\n');
    }
    for fragment in &prompt.fragments {
        if fragment.is_break() {
            text.push_str("fragment   BREAK\n");
        } else {
            let _ = writeln!(text, "fragment   {:<8.4} {:?}", fragment.weight, fragment.text);
        }
    }
    for feature in &prompt.features {
        let what = describe(&feature.kind);
        let _ = writeln!(text, "at column  {:<8} {}", feature.at.column, output::name(&what));
    }
    output::print(&text)
}

/// What a schedule, an alternation or a composition does.
fn describe(kind: &FeatureKind) -> String {
    match kind {
        FeatureKind::Schedule(switch) => {
            let when = if switch.fraction {
                format!("after {} of the steps", output::percent(switch.when))
            } else {
                format!("after step {}", switch.when)
            };
            format!("{:?} becomes {:?} {when}", switch.from, switch.to)
        }
        FeatureKind::Alternation { options } => {
            format!("{} in turn, one a step", options.join(" | "))
        }
        FeatureKind::Composition => "AND: a further prompt".to_owned(),
        FeatureKind::PartWeight => "the weight of a prompt".to_owned(),
        _ => "not executed".to_owned(),
    }
}
