//! `grid --ablate`: blocks of an adapter switched off one at a time.

use std::fmt::Write as _;

use anyhow::bail;
use clap::ValueEnum;
use lora_eval::adapter::Adapter;
use lora_eval::grid::{Ablated, Ablating, Backend, Plan, ablation_strength};
use lora_eval::model::{Base, Blocks};
use lora_eval::run::{Ablation, Change, Measure, Run};
use lora_eval::suite::Suite;

use super::job::Job;
use crate::cli::language::Named;
use crate::cli::{output, progress};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Blame")]
pub struct AblateArgs {
    /// When all cells are there, find out which parts of the adapter do the damage and which the work:
    /// the worst and the best prompts with one part off at a time, into RUN/ablation.json and the report
    #[arg(long, value_name = "PARTS", value_enum)]
    ablate: Option<Parts>,
    /// Most prompts of either group
    #[arg(long, value_name = "N", default_value_t = 8, requires = "ablate", value_parser = clap::value_parser!(u16).range(1..=1000))]
    ablate_prompts: u16,
    /// The strength, one of the run's [default: the highest up to 1]
    #[arg(long, value_name = "STRENGTH", requires = "ablate", allow_negative_numbers = true)]
    ablate_strength: Option<f64>,
}

/// What is switched off at a time.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Parts {
    /// A decoder layer; of Stable Diffusion a block as the WebUI's extension LoRA Block Weight counts them
    Blocks,
}

impl AblateArgs {
    /// Not asked for.
    pub fn none() -> Self {
        Self { ablate: None, ablate_prompts: 8, ablate_strength: None }
    }

    /// Most prompts of either group.
    pub fn most(&self) -> u16 {
        self.ablate_prompts
    }

    /// Whether it is asked for.
    pub fn wanted(&self) -> bool {
        self.ablate.is_some()
    }

    /// The adapter to be ablated, if that is asked for: the one on the strength axis.
    pub fn target(
        &self,
        suite: &Suite,
        base: &Base,
        named: &[Named],
    ) -> anyhow::Result<Option<Ablated>> {
        if !self.wanted() {
            return Ok(None);
        }
        let on_axis = named.iter().enumerate().filter(|(_, n)| n.fixed.is_none() && !n.on_demand);
        let on_axis: Vec<(usize, &Named)> = on_axis.collect();
        let [(adapter, named)] = on_axis.as_slice() else {
            bail!(
                "--ablate switches off blocks of one adapter, and {} are on the strength axis\nhint: give one adapter as `--lora NAME=PATH`, the others with a strength, `PATH:0.8`",
                on_axis.len()
            );
        };
        if suite.prompts.iter().all(|prompt| prompt.group != "base") {
            bail!(
                "{}: no prompt is of the group `base`, and damage is what happens to prompts that must not change\nhint: give some `group: base`, or leave `--ablate` out",
                suite.path.display()
            );
        }
        let blocks = Blocks::of(base);
        let acting = blocks.acting(&Adapter::open(&named.path)?, base)?;
        if acting.is_empty() {
            bail!(
                "{}: it changes nothing in any block of the base\nhint: `lora-eval inspect {} --base …` shows what it changes",
                named.path.display(),
                named.path.display()
            );
        }
        let (adapter, name, given) = (*adapter, named.name.clone(), named.blocks.clone());
        let strength = ablation_strength(suite.strengths.values(), self.ablate_strength)?;
        Ok(Some(Ablated { adapter, name, given, blocks, acting, strength }))
    }
}

impl Job<'_> {
    /// Ablates, if that is asked for and the run is whole.
    pub(super) fn ablate(
        &self,
        run: &Run,
        plan: &Plan,
        backend: &mut dyn Backend,
    ) -> anyhow::Result<()> {
        let Some(ablated) = &self.ablated else { return Ok(()) };
        let cells = run.cells()?;
        if !cells.missing.is_empty() {
            output::warn(&format!(
                "{} cells are other shards', so nothing is ablated; when all are done, give `--ablate` once without `--shard`",
                cells.missing.len()
            ));
            return Ok(());
        }
        let bar = progress::steps(self.global);
        let ablation = Ablating {
            record: run.record(),
            cells: &cells.found,
            suite: self.suite,
            plan,
            ablated,
            prompts: usize::from(self.args.ablate.most()),
            progress: &|done, all| {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
            },
        }
        .run(backend);
        bar.finish_and_clear();
        Ok(run.write_ablation(&ablation?)?)
    }
}

/// The blocks as a table, and what is proposed.
pub fn table(ablation: &Ablation) -> String {
    let Ablation { adapter, strength, damage, gain, blocks, .. } = ablation;
    let mut text = format!("blame     {} at strength {strength}\n", output::name(adapter));
    let _ = writeln!(text, "damage    {}", about(damage));
    if let Some(gain) = gain {
        let _ = writeln!(text, "gain      {}", about(gain));
    }
    let _ = writeln!(
        text,
        "\nhow much each changes where one block is off, in % of the whole adapter's:"
    );
    let _ = writeln!(text, "{:<10}{:>16}{:>14}{:>10}", "block off", "damage", "gain", "proposed");
    for block in blocks {
        let gain = gain.as_ref().zip(block.gain.as_ref());
        let _ = writeln!(
            text,
            "{:<10}{:>16}{:>14}{:>10}",
            block.block,
            share(&block.damage, damage),
            gain.map_or_else(|| "–".to_owned(), |(gain, change)| share(change, gain)),
            block.proposed
        );
    }
    for note in &ablation.notes {
        let _ = writeln!(text, "note      {}", output::name(note));
    }
    if let (Some(proposal), Some(gain)) = (&ablation.proposal, gain) {
        let part = |part: f64, whole: f64| output::percent(part / whole);
        let _ = writeln!(
            text,
            "\nproposed  {}\n          keeps {} of the damage and {} of the gain",
            proposal.tag,
            part(proposal.damage, damage.full),
            part(proposal.gain, gain.full)
        );
    }
    text.push('\n');
    text
}

fn about(measure: &Measure) -> String {
    let Measure { about, unit, full, prompts, .. } = measure;
    format!("{full:.4} {unit}: {about}, mean of {} prompts", prompts.len())
}

/// A change as a share of the whole adapter's.
fn share(change: &Change, whole: &Measure) -> String {
    if whole.full == 0.0 {
        return format!("{:+.4}", change.value);
    }
    format!("{:+.1} %", 100.0 * change.value / whole.full)
}
