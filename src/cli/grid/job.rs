//! A grid from its plan to its report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use lora_eval::grid::{Ablated, Backend, Options, Outcome, Plan, Request, execute};
use lora_eval::report::{RunView, render};
use lora_eval::run::{
    AdapterRecord, BaseRecord, FORMAT, LockMode, PlanRecord, Run, RunKind, RunRecord, Shard, Start,
};
use lora_eval::suite::Suite;
use serde_json::json;

use super::{Args, ablate};
use crate::cli::global::Global;
use crate::cli::{RESUMABLE, output, progress, report, table};

/// A grid that is made, as far as it was this process's to make.
pub struct Made {
    /// The run as it lies on disk.
    pub view: RunView,
    done: Outcome,
    report: Option<PathBuf>,
    seconds: f64,
    /// Whether blocks of the adapter were switched off now.
    ablated: bool,
}

/// A grid on its way.
pub(super) struct Job<'a> {
    pub global: &'a Global,
    pub args: &'a Args,
    pub suite: &'a Suite,
    pub kind: RunKind,
    pub base: BaseRecord,
    pub adapters: Vec<AdapterRecord>,
    pub axes: Vec<lora_eval::grid::Axis>,
    /// Digests of the models that judge pictures.
    pub judges: BTreeMap<String, String>,
    pub created: String,
    /// The adapter whose blocks are switched off at the end.
    pub ablated: Option<Ablated>,
}

impl Job<'_> {
    pub fn plan(&self, (device, dtype): (&str, &str)) -> anyhow::Result<Plan> {
        Ok(Plan::new(&Request {
            suite: self.suite,
            base: &self.base.sha256,
            adapters: &self.axes,
            kind: match self.kind {
                RunKind::Text => "text",
                RunKind::Image => "image",
            },
            dtype,
            device: device.split(':').next().unwrap_or_default(),
            max_batch: self.args.max_batch.map(usize::from),
        })?)
    }

    fn record(&self, plan: PlanRecord, (device, dtype): (&str, &str)) -> RunRecord {
        RunRecord {
            format: FORMAT,
            program: format!("lora-eval {}", env!("CARGO_PKG_VERSION")),
            kind: self.kind,
            created: self.created.clone(),
            suite: self.suite.to_json(),
            suite_sha256: match self.kind {
                RunKind::Text => self.suite.sha256.clone(),
                RunKind::Image => self.suite.sha256_with_pictures(),
            },
            base: self.base.clone(),
            adapters: self.adapters.clone(),
            strengths: self.suite.strengths.values().to_vec(),
            seeds: self.suite.seeds.clone(),
            axes: self.suite.axes.clone(),
            settings: self.suite.defaults.to_json(),
            device: device.to_owned(),
            dtype: dtype.to_owned(),
            judges: self.judges.clone(),
            max_batch: self.args.max_batch.map(usize::from),
            plan,
        }
    }

    pub fn make(
        &mut self,
        plan: &Plan,
        on: (&str, &str),
        backend: &mut dyn Backend,
    ) -> anyhow::Result<Option<Made>> {
        if self.args.only_fits {
            return Ok(None);
        }
        let start = Instant::now();
        if self.axes.iter().all(|adapter| adapter.fixed.is_some() || adapter.on_demand) {
            output::warn(
                "no adapter is on the strength axis, so every strength gives the same: give one with `--lora NAME=PATH`, without `:STRENGTH`",
            );
        }
        let record = self.record(plan.record(), on);
        let shard = self.args.shard.unwrap_or(Shard::WHOLE);
        if self.args.dry_run {
            return self.dry_run(plan, &record, shard).map(|()| None);
        }
        let (run, started) = Run::create(&self.args.out, &record)?;
        let judged = run.record().judges.clone();
        if judged != record.judges {
            let names = |judges: &BTreeMap<String, String>| {
                let names: Vec<&str> = judges.keys().map(String::as_str).collect();
                if names.is_empty() { "no model".to_owned() } else { names.join(", ") }
            };
            anyhow::bail!(
                "{}: its pictures are judged by {}, and {} is given now, or another file of it\nhint: give the same `--clip`, `--dino` and `--lpips`, or another `--out`",
                run.path().display(),
                names(&judged),
                names(&record.judges)
            );
        }
        let mode = if self.args.shard.is_some() { LockMode::Shared } else { LockMode::Exclusive };
        let lock = run.lock(mode)?;
        if let Some(note) = lock.note() {
            output::warn(note);
        }
        let scan = match started {
            Start::Fresh => lora_eval::run::Scan::default(),
            Start::Resumed(_) => run.scan()?, // again, now that nobody else writes
        };
        for damaged in &scan.damaged {
            output::warn(&format!("{damaged}; the cell is made again"));
        }
        RESUMABLE.store(true, Ordering::Relaxed);
        let missing = plan.missing(shard, &scan.present);
        let total: usize = missing.iter().map(|(_, cells)| cells).sum();
        let bar = progress::cells(self.global, total as u64);
        let done = execute(
            &run,
            plan,
            backend,
            &Options {
                suite: self.suite,
                adapters: &self.axes,
                shard,
                present: &scan.present,
                progress: &|cells| bar.inc(cells),
            },
        );
        bar.finish_and_clear();
        let done = done?;
        self.ablate(&run, plan, backend)?;
        finish(&run, done, start, self.ablated.is_some()).map(Some)
    }

    fn dry_run(&self, plan: &Plan, record: &RunRecord, shard: Shard) -> anyhow::Result<()> {
        let (mut present, mut seconds) = (BTreeSet::new(), None);
        if self.args.out.join("run.json").is_file() {
            let run = Run::open(&self.args.out)?;
            if run.record().plan.sha256 == record.plan.sha256 {
                let scan = run.scan()?;
                for damaged in &scan.damaged {
                    output::warn(&format!("{damaged}; the cell will be made again"));
                }
                let cells = scan.present.iter().filter_map(|id| run.cell(id).ok().flatten());
                let spent: f64 = cells.map(|cell| cell.seconds).sum();
                seconds = (!scan.present.is_empty()).then(|| spent / scan.present.len() as f64);
                present = scan.present;
            } else {
                output::warn(&format!(
                    "{} holds another run: {}",
                    self.args.out.display(),
                    lora_eval::run::differences(run.record(), record).join("; ")
                ));
            }
        }
        let missing = plan.missing(shard, &present);
        let cells: usize = missing.iter().map(|(_, cells)| cells).sum();
        let expected = seconds.map(|seconds| seconds * cells as f64);
        let most = usize::from(self.args.ablate.most());
        if self.global.json {
            let ablate = self.ablated.as_ref().map(|ablated| {
                json!({"blocks": ablated.acting.len(), "strength": ablated.strength, "prompts_at_most": 2 * most})
            });
            return output::json(&json!({
                "ablate": ablate, "out": self.args.out, "cells": record.plan.cells.len(),
                "batches": plan.units.len(), "prompts": self.suite.prompts.len(),
                "strengths": record.strengths, "seeds": record.seeds,
                "to_make": {"cells": cells, "batches": missing.len(), "seconds": expected},
            }));
        }
        let mut text = format!("{} prompts", self.suite.prompts.len());
        let _ = write!(text, " × {} strengths", record.strengths.len());
        let _ = write!(text, " × {} seed(s)", record.seeds.len());
        for (name, values) in &record.axes {
            let _ = write!(text, " × {} {name}", values.len());
        }
        let (all, batches) = (record.plan.cells.len(), plan.units.len());
        let _ = writeln!(text, ": {all} cells in {batches} batches");
        let _ = writeln!(text, "to make    {cells} cells in {} batches", missing.len());
        let _ = match expected {
            Some(seconds) => {
                writeln!(text, "time       about {seconds:.0} s, as the finished cells took")
            }
            None => {
                writeln!(text, "time       known after the first batch; the progress bar shows it")
            }
        };
        if let Some(ablated) = &self.ablated {
            let blocks = ablated.acting.len();
            let _ = writeln!(
                text,
                "then       {blocks} blocks off, one at a time, at strength {}, for up to {most} prompts of either group",
                ablated.strength
            );
        }
        output::print(&text)
    }
}

/// Scores what is there; a run that is whole gets its scores and its report.
fn finish(run: &Run, done: Outcome, start: Instant, ablated: bool) -> anyhow::Result<Made> {
    let view = report::view(run)?;
    let mut report = None;
    if view.missing.is_empty() {
        run.write_scores(&view.scores)?;
        run.write_report(&render(std::slice::from_ref(&view))?)?;
        report = Some(run.path().join("report.html"));
    }
    Ok(Made { view, done, report, seconds: start.elapsed().as_secs_f64(), ablated })
}

impl Made {
    /// Prints what was made.
    pub fn show(&self, global: &Global) -> anyhow::Result<()> {
        let Self { view, done, report, seconds, ablated } = self;
        let ablation = view.ablation.as_ref().filter(|_| *ablated);
        let planned = view.record.plan.cells.len();
        if global.json {
            let mut result = json!({
                "out": view.path, "cells": planned, "written": done.written,
                "batches": done.batches, "missing": view.missing.len(),
                "report": report, "scores": view.scores, "seconds": seconds,
            });
            if let Some(ablation) = ablation {
                result["ablation"] = json!(ablation);
            }
            return output::json(&result);
        }
        let path = view.path.display();
        let mut text = format!(
            "{path}: {planned} cells, {} made now in {} batches, {seconds:.1} s\n",
            done.written, done.batches,
        );
        if let Some(report) = report {
            text.push_str(&table::scores(&view.scores));
            text.push_str(&ablation.map_or_else(String::new, ablate::table));
            let _ = writeln!(text, "report    {}", report.display());
        } else {
            let missing = view.missing.len();
            let _ = writeln!(
                text,
                "{missing} cells are other shards'; when all are done: lora-eval report {path}"
            );
        }
        output::print(&text)
    }
}
