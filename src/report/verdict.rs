//! The verdict of a run: the answer, the curve of gain against damage, the pairs that lost most.

use std::collections::BTreeMap;

use serde::Serialize;

use super::picture::Picture;
use super::tradeoff::{Plot, plot};
use super::{RunView, number, text};
use crate::run::verdict::{Answer, AtStrength, Measured, Verdict, WorstPair};
use crate::run::{Better, Cell};

/// Longest output of a pair that is shown whole, in characters.
const SHOWN: usize = 240;

/// What a reader sees first.
#[derive(Debug, Serialize)]
pub struct View {
    /// `good`, `bad` or `open`.
    tone: &'static str,
    /// `SHIP at 0.75 (safe 0.5–1)`.
    headline: String,
    reasons: Vec<String>,
    /// Of every bound, `95 %`.
    confidence: String,
    /// The cells were made anew or added to since.
    old: bool,
    gain: String,
    damage: String,
    rows: Vec<Row>,
    plot: Option<Plot>,
    worst: Vec<Pair>,
    notes: Vec<String>,
}

/// A strength.
#[derive(Debug, Serialize)]
struct Row {
    strength: String,
    recommended: bool,
    gain: Value,
    damage: Value,
    wins: String,
    tone: &'static str,
    answer: String,
}

/// A value, and its bounds.
#[derive(Debug, Serialize)]
struct Value {
    value: String,
    /// `63.4 to 69.3`; empty where there is no value.
    bounds: String,
}

/// A pair that lost.
#[derive(Debug, Serialize)]
struct Pair {
    prompt: String,
    /// `plain-3, seed 1, strength 1`.
    name: String,
    /// `SSIM to base 1 → 0.61`.
    change: String,
    base: Option<Shown>,
    own: Option<Shown>,
}

/// An output.
#[derive(Debug, Serialize)]
struct Shown {
    text: String,
    picture: Option<Picture>,
}

/// The verdict of `run`, if it has one. `pictures` are by cell.
pub fn view(run: &RunView, pictures: &BTreeMap<String, Picture>) -> Option<View> {
    let verdict = run.verdict.as_ref()?;
    let label = |find: fn(&AtStrength) -> Option<&Measured>| {
        verdict.strengths.iter().find_map(find).map_or(String::new(), axis)
    };
    Some(View {
        tone: tone(verdict.verdict),
        headline: verdict.headline.clone(),
        reasons: verdict.reasons.clone(),
        confidence: format!("{} %", number::axis(100.0 * verdict.policy.confidence)),
        old: verdict.subject.plan != run.record.plan.sha256
            || verdict.evidence.cells != run.cells.len(),
        gain: label(|s| s.gain.as_ref()),
        damage: label(|s| s.damage.as_ref()),
        rows: verdict.strengths.iter().map(|strength| row(verdict, strength)).collect(),
        plot: plot(verdict),
        worst: verdict.worst.iter().map(|pair| worst(run, pair, pictures)).collect(),
        notes: verdict.notes.clone(),
    })
}

fn tone(answer: Answer) -> &'static str {
    match answer {
        Answer::Pass => "good",
        Answer::Regression => "bad",
        Answer::Inconclusive => "open",
    }
}

/// `chrF ↑`: a metric and which way it is better.
fn axis(measured: &Measured) -> String {
    let arrow = match measured.better {
        Better::Higher => " ↑",
        Better::Lower => " ↓",
        Better::Neither => "",
    };
    format!("{}{arrow}", measured.label)
}

fn row(verdict: &Verdict, strength: &AtStrength) -> Row {
    let (broken, open) = (strength.broken(), strength.open());
    let answer = match strength.verdict {
        Answer::Pass => "pass".to_owned(),
        _ if !broken.is_empty() => format!("breaks {}", broken.join(", ")),
        _ if !open.is_empty() => format!("open: {}", open.join(", ")),
        _ => "open".to_owned(),
    };
    let tone = if broken.is_empty() { tone(strength.verdict) } else { "bad" };
    let shown = |one: &Option<Measured>, head: Option<&Measured>| match one {
        // where the head names another metric
        Some(one) if head.is_some_and(|head| head.label != one.label) => Value {
            value: format!("{}: {}", one.label, number::plain(one.value)),
            bounds: bounds(one),
        },
        Some(one) => Value { value: number::plain(one.value), bounds: bounds(one) },
        None => Value { value: number::NONE.to_owned(), bounds: String::new() },
    };
    Row {
        strength: number::axis(strength.strength),
        recommended: verdict.recommended == Some(strength.strength),
        gain: shown(&strength.gain, verdict.strengths.iter().find_map(|s| s.gain.as_ref())),
        damage: shown(&strength.damage, verdict.strengths.iter().find_map(|s| s.damage.as_ref())),
        wins: format!("{:.0} %", strength.wins * 100.0),
        tone,
        answer,
    }
}

/// `63.4 to 69.3`.
pub fn bounds(one: &Measured) -> String {
    let end = |end: Option<f64>| end.map_or("unbounded".to_owned(), number::plain);
    format!("{} to {}", end(one.low), end(one.high))
}

fn worst(run: &RunView, pair: &WorstPair, pictures: &BTreeMap<String, Picture>) -> Pair {
    let own = run.cells.iter().find(|cell| cell.cell == pair.cell);
    let base = run.cells.iter().find(|cell| {
        cell.strength == 0.0
            && cell.prompt_id == pair.prompt_id
            && cell.seed == pair.seed
            && cell.axes == pair.axes
    });
    let shown = |cell: &Cell| Shown {
        text: text::cut(&cell.output, SHOWN),
        picture: pictures.get(&cell.cell).cloned(),
    };
    let axes = text::axes(&pair.axes);
    let axes = if axes.is_empty() { axes } else { format!(", {axes}") };
    Pair {
        prompt: own.map_or(String::new(), |cell| text::cut(&cell.prompt, SHOWN)),
        name: format!(
            "{}, seed {}, strength {}{axes}",
            pair.prompt_id,
            pair.seed,
            number::axis(pair.strength)
        ),
        change: format!(
            "{} {} → {}",
            pair.label,
            number::plain(pair.base),
            number::plain(pair.score)
        ),
        base: base.map(shown),
        own: own.map(shown),
    }
}
