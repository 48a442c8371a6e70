//! One variant: trained, its grid made, judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use lora_eval::config::{Resolved, Settings};
use lora_eval::report::{RunView, render};
use lora_eval::run::Run;
use lora_eval::run::experiment::{Failed, Judged, Trained, Variant};
use lora_eval::train::{Ending, Outcome, finished, has_begun};

use super::super::adapters::Reference;
use super::super::global::Global;
use super::super::{check, grid, output, train};
use super::Args;
use super::plan::Planned;

/// What became of a variant.
pub enum Ended {
    /// It has a verdict.
    Judged(Variant, Box<RunView>),
    /// A step failed.
    Failed(Variant),
    /// Somebody wants it to stop.
    Stopped,
}

/// Makes what is missing of a variant.
pub fn make(
    global: &Global,
    args: &Args,
    folder: &Path,
    (planned, misfit): (&Planned, Option<&String>),
) -> Ended {
    let mut variant = Variant {
        value: planned.value.clone(),
        folder: planned.folder.clone(),
        rank: None,
        trained: None,
        judged: None,
        failed: None,
    };
    let fail = |mut variant: Variant, step: &str, error: &anyhow::Error| {
        variant.failed = Some(Failed { step: step.to_owned(), error: output::whole(error) });
        Ended::Failed(variant)
    };
    let resolved = match &planned.resolved {
        Ok(resolved) => resolved,
        Err(error) => return fail(variant, "configuration", error),
    };
    if let Some(misfit) = misfit {
        return fail(variant, "grid", &anyhow::anyhow!("{misfit}"));
    }
    let outcome = match trained(global, &planned.name(), resolved) {
        Ok(Some(outcome)) => outcome,
        Ok(None) => return Ended::Stopped,
        Err(error) => return fail(variant, "train", &error),
    };
    variant.trained = Some(record(folder, &outcome));
    let run = folder.join(&planned.folder).join("run");
    let mut view = match drawn(global, args, &run, resolved, &outcome) {
        Ok(view) => view,
        Err(error) => return fail(variant, "grid", &error),
    };
    match judged(args, &mut view) {
        Ok(judged) => {
            variant.judged = Some(judged);
            // the page's heading says which key it is
            view.title = format!("= {}", planned.value);
            Ended::Judged(variant, Box::new(view))
        }
        Err(error) => fail(variant, "check", &error),
    }
}

/// The adapter that is judged: the one with the lowest held-out loss.
fn adapter(outcome: &Outcome) -> &Path {
    outcome.best.as_ref().unwrap_or(&outcome.adapter)
}

fn record(folder: &Path, outcome: &Outcome) -> Trained {
    let adapter = adapter(outcome);
    let below = adapter.strip_prefix(folder).unwrap_or(adapter);
    Trained {
        adapter: below.display().to_string(),
        steps: outcome.state.step,
        stopped_early: outcome.ending == Ending::EarlyStop,
        held_out: outcome.state.best.map(|(loss, _)| loss),
        held_out_step: outcome.state.best.map(|(_, step)| step),
    }
}

/// The training's end; nothing where it was stopped.
fn trained(global: &Global, name: &str, resolved: &Resolved) -> anyhow::Result<Option<Outcome>> {
    if let Some(outcome) = finished(&resolved.settings)? {
        output::note(&format!("{name} is trained already"));
        return Ok(Some(outcome));
    }
    let outcome = train::train(global, has_begun(&resolved.settings), resolved)?;
    // a request that comes with the last step finds nothing to stop, and is meant all the same
    let stopped = outcome.ending == Ending::Stopped || train::STOP.load(Ordering::Relaxed);
    Ok((!stopped).then_some(outcome))
}

/// Why the suite cannot be run on the base of a variant that is still to be trained, by its place: known
/// before hours of training, not after them. An error where it fits none.
pub fn misfits(
    global: &Global,
    args: &Args,
    variants: &[Planned],
) -> anyhow::Result<BTreeMap<usize, String>> {
    let (mut seen, mut misfits, mut first) = (Vec::new(), BTreeMap::new(), None);
    for (place, planned) in variants.iter().enumerate() {
        let Ok(resolved) = &planned.resolved else { continue };
        let settings = &resolved.settings;
        if finished(settings).is_ok_and(|end| end.is_some()) {
            seen.push((&settings.base, None));
            continue;
        }
        let known = seen.iter().find(|(base, _)| *base == &settings.base);
        let why = if let Some((_, why)) = known {
            why.clone()
        } else {
            let fits = grid::fits(global, &args.suite, &settings.base.model, rest(args, settings));
            let why = fits.as_ref().err().map(output::whole);
            first = first.or(fits.err());
            seen.push((&settings.base, why.clone()));
            why
        };
        misfits.extend(why.map(|why| (place, why)));
    }
    match first {
        Some(error) if seen.iter().all(|(_, why)| why.is_some()) => Err(error),
        _ => Ok(misfits),
    }
}

fn rest(args: &Args, settings: &Settings) -> grid::Rest {
    grid::Rest {
        strengths: args.strengths.clone(),
        vae: settings.base.vae.clone(),
        judges: args.judges.clone(),
    }
}

/// The run of the variant's adapter.
fn drawn(
    global: &Global,
    args: &Args,
    run: &Path,
    resolved: &Resolved,
    outcome: &Outcome,
) -> anyhow::Result<RunView> {
    let settings = &resolved.settings;
    let lora = Reference {
        name: Some(settings.output.name.clone()),
        path: adapter(outcome).to_owned(),
        given: false,
        text_encoder: 1.0,
        unet: 1.0,
        blocks: Vec::new(),
    };
    let rest = rest(args, settings);
    let base = &settings.base.model;
    let args = grid::Args::of(&args.suite, base, vec![lora], run.to_owned(), rest);
    let made = grid::make(global, &args)?;
    made.map(|made| made.view).ok_or_else(|| anyhow::anyhow!("{}: nothing was made", run.display()))
}

/// Judges a run; the verdict also lies in it, and its report begins with it.
fn judged(args: &Args, view: &mut RunView) -> anyhow::Result<Judged> {
    let (run, policy) = (view.path.clone(), args.policy.clone());
    let verdict = check::judged(&check::Args { run, policy, ..check::Args::default() })?;
    let judged = Judged::of(&verdict);
    view.verdict = Some(verdict);
    Run::open(&view.path)?.write_report(&render(std::slice::from_ref(view))?)?;
    Ok(judged)
}
