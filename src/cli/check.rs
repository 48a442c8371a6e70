//! `lora-eval check`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use lora_eval::base::atomic;
use lora_eval::base::clock::rfc3339;
use lora_eval::check::{
    Approval, Approving, Case, CheckError, Policy, approve, judge, junit, summary, table,
};
use lora_eval::run::Run;
use lora_eval::run::verdict::{Answer, Verdict};
use lora_eval::tensors::TensorError;

use super::global::Global;
use super::{Usage, output};

/// Judge a run: ship or do not ship, at which strength, how sure
///
/// Reads a run directory, generates nothing. Every strength above 0 is judged by the rules of the policy,
/// each on a confidence bound over the prompts. The run passes when at least one strength keeps every
/// rule, and the one with the largest sure gain is recommended. It is a regression when every strength
/// breaks a rule with evidence, and something got worse or nothing changed at all. Anything else is
/// inconclusive. `--strength S` asks about one strength only. The verdict is written to RUN/verdict.json, where `lora-eval
/// report RUN` finds it; where there is an error instead, an old one is removed.
///
/// A run with missing cells, with scores that are not finite, or with files that were torn or edited is
/// an error, never a verdict.
#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Exit codes: 0 pass, 1 failed (bad run, policy or baseline), 2 wrong usage, 3 regression, 4 inconclusive.\n\
    Examples:\n  \
    lora-eval check runs/style\n  \
    lora-eval check runs/style --policy policy.yaml --junit check.xml --summary \"$GITHUB_STEP_SUMMARY\"\n  \
    lora-eval check runs/style --approve --by ada --reason 'first release' --out approved.json\n  \
    lora-eval check runs/style-2 --baseline approved.json"
)]
pub struct Args {
    /// A run directory that `lora-eval grid` made
    pub run: PathBuf,
    /// Rules and margins (YAML) [default: built in, see examples/policy.yaml]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Judge this strength alone: may it ship?
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub strength: Option<f64>,
    /// Compare with an approved run; a changed suite or base makes it expire
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write an approval of the recommended strength (or of --strength), to commit and to compare with
    #[arg(long, requires_all = ["by", "reason"])]
    pub approve: bool,
    /// Who approves
    #[arg(long, value_name = "NAME", requires = "approve")]
    pub by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", requires = "approve")]
    pub reason: Option<String>,
    /// Where the approval is written [default: RUN/approved.json]
    #[arg(long, value_name = "FILE", requires = "approve")]
    pub out: Option<PathBuf>,
    /// Pictures that the adapter was trained on: are outputs copies of them?
    #[arg(long, value_name = "DIR")]
    pub training: Option<PathBuf>,
    /// Write the rules' outcomes as XML for CI (`JUnit`)
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write a summary as Markdown
    #[arg(long, value_name = "FILE.md")]
    pub summary: Option<PathBuf>,
    /// Exit with 0 where the verdict is inconclusive
    #[arg(long)]
    pub allow_inconclusive: bool,
}

/// What a run directory holds.
const RUN_FILES: [&str; 7] =
    ["run.json", "cells", "outputs", "scores.json", "ablation.json", "report.html", "verdict.json"];

/// Judges, writes what was asked for, prints, and gives the exit code.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let (verdict, approval) = judged_and_approved(args)?;
    if global.json {
        output::json(&verdict)?;
    } else {
        output::print(&table(&verdict))?;
    }
    if let Some(path) = &args.junit {
        write(path, &junit(&verdict)?)?;
    }
    if let Some(path) = &args.summary {
        write(path, &summary(&verdict))?;
    }
    match approval {
        Some((strength, text)) => {
            let out = args.out.clone().unwrap_or_else(|| args.run.join("approved.json"));
            write(&out, &text)?;
            output::note(&format!("{}: approves strength {strength}; commit it", out.display()));
        }
        // the verdict stands, and its exit code is what counts
        None if args.approve => {
            output::warn(&CheckError::NothingToApprove.to_string().replace("\nhint: ", "; "));
        }
        None => {}
    }
    Ok(ExitCode::from(code(&verdict, args.allow_inconclusive)))
}

/// The verdict, which is also written into the run.
pub fn judged(args: &Args) -> anyhow::Result<Verdict> {
    Ok(judged_and_approved(args)?.0)
}

/// An approval's strength and text.
type Approved = (f64, String);

/// The verdict, written into the run, and with `--approve` the approval, not written yet.
fn judged_and_approved(args: &Args) -> anyhow::Result<(Verdict, Option<Approved>)> {
    let signed = signed(args)?;
    outputs(args)?;
    // whatever goes wrong from here on, an old verdict must not be taken for this one's
    Run::remove_verdict(&args.run)?;
    let run = Run::open(&args.run)?;
    let policy = policy(args.policy.as_deref())?;
    let baseline = args.baseline.as_deref().map(Approval::open).transpose()?;
    let cells = run.verified()?;
    let measures = lora_eval::grid::measures(run.record(), &cells.cells.found)?;
    let case = Case {
        path: run.path(),
        record: run.record(),
        cells: &cells,
        measures: &measures,
        policy: &policy,
        strength: args.strength,
        baseline: baseline.as_ref(),
        approving: args.approve,
        training: args.training.as_deref(),
    };
    let verdict = judge(&case)?;
    run.write_verdict(&verdict)?;
    let strength = args.strength.or(verdict.recommended);
    let approval = signed.zip(strength).map(|((by, reason), strength)| {
        let when = rfc3339(SystemTime::now());
        let text = approve(&case, &verdict, &Approving { by, reason, when: &when, strength })?;
        Ok::<_, CheckError>((strength, text))
    });
    let approval = approval.transpose()?;
    Ok((verdict, approval))
}

/// Refuses outputs in place of each other, of what is read, or of the run's own files.
fn outputs(args: &Args) -> Result<(), Usage> {
    let named = [("--junit", &args.junit), ("--summary", &args.summary), ("--out", &args.out)];
    let named: Vec<(&str, &PathBuf)> =
        named.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?))).collect();
    let own = RUN_FILES.map(|name| args.run.join(name));
    let read = [&args.policy, &args.baseline].into_iter().flatten().cloned();
    let kept: Vec<PathBuf> = own.into_iter().chain(read).collect();
    for (at, (flag, path)) in named.iter().enumerate() {
        let other = named.iter().take(at).find(|(_, other)| atomic::collides(path, other));
        let taken = match other {
            Some((other, _)) => Some(format!("{other} names it too")),
            None => kept
                .iter()
                .find(|kept| atomic::collides(path, kept))
                .map(|kept| format!("it would replace {}", kept.display())),
        };
        if let Some(taken) = taken {
            return Err(Usage(format!(
                "{flag} {}: {taken}\nhint: write to another file",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Who approves and why, with `--approve`.
fn signed(args: &Args) -> Result<Option<(&str, &str)>, Usage> {
    let signed = args.by.as_deref().zip(args.reason.as_deref()).filter(|_| args.approve);
    if signed.is_some_and(|(by, reason)| by.trim().is_empty() || reason.trim().is_empty()) {
        let message = "`--by` and `--reason` must not be empty\nhint: say who approves, and why";
        return Err(Usage(message.to_owned()));
    }
    Ok(signed)
}

/// The policy of a file, or the built-in one.
pub fn policy(path: Option<&Path>) -> anyhow::Result<Policy> {
    Ok(match path {
        Some(path) => Policy::open(path)?,
        None => Policy::built_in()?,
    })
}

/// The exit code of a verdict.
pub fn code(verdict: &Verdict, allow_inconclusive: bool) -> u8 {
    match verdict.verdict {
        Answer::Pass => 0,
        Answer::Regression => 3,
        Answer::Inconclusive if allow_inconclusive => 0,
        Answer::Inconclusive => 4,
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let (path, folder) = (path.to_owned(), folder.to_owned());
        return Err(CheckError::Folder { path, folder }.into());
    }
    Ok(atomic::write(path, text.as_bytes()).map_err(|e| TensorError::io(path, e))?)
}
