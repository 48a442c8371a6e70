//! `lora-eval experiment`
//!
//! Every step is the function of its verb: [`super::train`], [`super::grid`], [`super::check`].

mod plan;
mod step;
mod table;
mod vary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use lora_eval::base::atomic;
use lora_eval::report::{RunView, render_experiment};
use lora_eval::run::Experiment;
use lora_eval::run::experiment::Variant;
use lora_eval::run::verdict::Answer;
use lora_eval::suite::Strengths;
use lora_eval::tensors::TensorError;

use super::global::Global;
use super::{RESUMABLE, Usage, images, output};
use plan::Plan;
use step::Ended;

/// Train, grid and check variants of a configuration that differ in one value, and rank them
///
/// Each value gets a folder DIR/KEY=VALUE with the training (`train`) and its run (`run`). Everything else,
/// seeds among it, is the same. Variants are ranked by verdict, then by the lower bound of the gain at the
/// recommended strength, then by less damage. DIR/experiment.json and DIR/report.html have all of it.
///
/// Run the same command again to go on where it was interrupted, or with further values: what was judged
/// before stays in the ranking. A variant that fails is named and the others go on. Exit codes: 0 a variant passes,
/// 1 one failed, 3 all are regressions, 4 none passes and one is inconclusive, 130 interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    lora-eval experiment ink.yaml --vary lora_rank=4,8,16 --suite prompts/pictures.yaml --out runs/ink-rank\n  \
    lora-eval experiment answers.yaml --vary learning_rate=5e-5,1e-4,2e-4 --suite suite.yaml --strengths 0.5,1\n  \
    lora-eval experiment answers.yaml --vary run.seed=1,2,3 --suite suite.yaml     # how much is chance?")]
pub struct Args {
    /// The configuration: YAML or JSON, or TOML where the name ends in .toml
    config: PathBuf,
    /// The key that is varied, under any of its names, and its values
    #[arg(long, value_name = "KEY=V1,V2,…", required = true, allow_hyphen_values = true)]
    vary: Vec<String>,
    /// The suite that every variant is judged by
    #[arg(long, value_name = "SUITE.yaml")]
    suite: PathBuf,
    /// The experiment's folder [default: the configuration's `output.dir`, `-` and the key]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The policy, as `check` takes it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A value in place of the configuration's, for every variant; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Strengths, `0,0.4,0.8` or `START:END:STEP`, instead of the suite's; 0 is always generated
    #[arg(long, value_name = "STRENGTHS", allow_hyphen_values = true)]
    strengths: Option<Strengths>,
    #[command(flatten)]
    judges: images::JudgeArgs,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let [vary] = args.vary.as_slice() else {
        return Err(Usage(format!(
            "--vary was given {} times: of two values that change at once, neither is known to be the cause\nhint: vary one key; then another with `--set` at the best value of the first",
            args.vary.len()
        ))
        .into());
    };
    let plan = Plan::new(global, args, vary)?;
    for note in plan.notes() {
        output::note(note);
    }
    let misfits = step::misfits(global, args, &plan.variants)?;
    std::fs::create_dir_all(&plan.folder).map_err(|e| TensorError::io(&plan.folder, e))?;
    RESUMABLE.store(true, Ordering::Relaxed);
    let mut experiment = plan.record.clone();
    // whatever happens on the way, what was judged before is not lost
    experiment.variants = plan.variants.iter().filter_map(|one| one.before.clone()).collect();
    let mut views = Vec::new();
    for (number, planned) in plan.variants.iter().enumerate() {
        let (of, name) = (plan.variants.len(), planned.name());
        output::note(&format!("{name} ({} of {of})", number + 1));
        let (variant, view) =
            match step::make(global, args, &plan.folder, (planned, misfits.get(&number))) {
                Ended::Judged(variant, view) => (variant, Some(*view)),
                Ended::Failed(variant) => (variant, None),
                Ended::Stopped => {
                    output::note("stopped; what is finished is kept: the same command goes on");
                    return Ok(ExitCode::from(130));
                }
            };
        if let Some(failed) = &variant.failed {
            output::warn(&format!("{name} failed ({}): {}", failed.step, failed.in_a_line()));
        }
        views.extend(view.map(|view| (variant.folder.clone(), view)));
        experiment.variants.retain(|other| other.folder != variant.folder);
        experiment.variants.push(variant);
        experiment.rank();
        write(&plan.folder, &experiment)?;
    }
    let report = report(&plan.folder, &experiment, views)?;
    if global.json {
        output::json(&experiment)?;
    } else {
        output::print(&table::table(&plan.folder, &experiment, report.as_deref()))?;
    }
    finish(&experiment)
}

fn write(folder: &Path, experiment: &Experiment) -> anyhow::Result<()> {
    let path = folder.join(plan::EXPERIMENT);
    let mut text = serde_json::to_vec_pretty(experiment)?;
    text.push(b'\n');
    Ok(atomic::write(&path, &text).map_err(|e| TensorError::io(&path, e))?)
}

/// The report on all runs there are, the best first.
fn report(
    folder: &Path,
    experiment: &Experiment,
    mut views: Vec<(String, RunView)>,
) -> anyhow::Result<Option<PathBuf>> {
    let place = |of: &str| experiment.variants.iter().position(|variant| variant.folder == of);
    views.sort_by_key(|(of, _)| place(of));
    let views: Vec<RunView> = views.into_iter().map(|(_, view)| view).collect();
    if views.is_empty() {
        return Ok(None);
    }
    let path = folder.join("report.html");
    let html = render_experiment(folder, &views, experiment)?;
    atomic::write(&path, html.as_bytes()).map_err(|e| TensorError::io(&path, e))?;
    Ok(Some(path))
}

/// The exit code of an experiment.
fn finish(experiment: &Experiment) -> anyhow::Result<ExitCode> {
    let failed = experiment.variants.iter().filter(|variant| variant.failed.is_some());
    let failed: Vec<String> = failed.map(|variant| experiment.name(variant)).collect();
    if !failed.is_empty() {
        anyhow::bail!(
            "{} of {} variants failed: {}\nhint: the messages above say why; the same command tries them again and keeps the others",
            failed.len(),
            experiment.variants.len(),
            lora_eval::base::hint::first_few(&failed)
        );
    }
    let open = |variant: &Variant| {
        variant.judged.as_ref().is_some_and(|judged| judged.verdict == Answer::Inconclusive)
    };
    Ok(ExitCode::from(match experiment.best() {
        Some(_) => 0,
        None if experiment.variants.iter().any(open) => 4,
        None => 3,
    }))
}
