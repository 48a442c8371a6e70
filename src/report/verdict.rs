//! The verdict of a run: the answer, the curve of gain against damage, the pairs that lost most.

use std::collections::BTreeMap;

use serde::Serialize;

use super::picture::Picture;
use super::scale::Scale;
use super::{RunView, number, text};
use crate::run::verdict::{Answer, AtStrength, Measured, Verdict, WorstPair};
use crate::run::{Better, Cell};

/// Size of the picture and its margins, in SVG units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
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
    gain: String,
    damage: String,
    wins: String,
    tone: &'static str,
    answer: String,
}

/// Gain over damage, a point a strength.
#[derive(Debug, Serialize)]
struct Plot {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    line: String,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: String,
    label: String,
}

#[derive(Debug, Serialize)]
struct Point {
    x: String,
    y: String,
    /// The intervals as a path.
    interval: String,
    label: String,
    title: String,
    recommended: bool,
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
    let shown = |one: &Option<Measured>| one.as_ref().map_or(number::NONE.to_owned(), measured);
    Row {
        strength: number::axis(strength.strength),
        recommended: verdict.recommended == Some(strength.strength),
        gain: shown(&strength.gain),
        damage: shown(&strength.damage),
        wins: format!("{:.0} %", strength.wins * 100.0),
        tone,
        answer,
    }
}

/// `66.4 (63.4 to 69.3)`.
fn measured(one: &Measured) -> String {
    let end = |end: Option<f64>| end.map_or("unbounded".to_owned(), number::plain);
    format!("{} ({} to {})", number::plain(one.value), end(one.low), end(one.high))
}

fn plot(verdict: &Verdict) -> Option<Plot> {
    let both: Vec<(&AtStrength, &Measured, &Measured)> = verdict
        .strengths
        .iter()
        .filter_map(|s| Some((s, s.damage.as_ref()?, s.gain.as_ref()?)))
        .collect();
    if both.len() < 2 {
        return None;
    }
    let three =
        |one: &Measured| [one.value, one.low.unwrap_or(one.value), one.high.unwrap_or(one.value)];
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let across = both.iter().flat_map(|(_, damage, _)| three(damage));
    let along = both.iter().flat_map(|(_, _, gain)| three(gain));
    let x = Scale::new(&across.collect::<Vec<_>>(), LEFT, right);
    let y = Scale::new(&along.collect::<Vec<_>>(), bottom, TOP);
    let ticks = |scale: &Scale| {
        let tick = |at: f64| Tick { at: place(scale.place(at)), label: number::axis(at) };
        scale.ticks().into_iter().map(tick).collect::<Vec<_>>()
    };
    let points: Vec<Point> = both
        .iter()
        .map(|(strength, damage, gain)| {
            let [at_x, low_x, high_x] = three(damage).map(|value| place(x.place(value)));
            let [at_y, low_y, high_y] = three(gain).map(|value| place(y.place(value)));
            Point {
                interval: format!("M{low_x} {at_y}H{high_x}M{at_x} {low_y}V{high_y}"),
                label: number::axis(strength.strength),
                title: format!(
                    "strength {}: gain {}, {} {}",
                    number::axis(strength.strength),
                    measured(gain),
                    damage.label,
                    measured(damage)
                ),
                recommended: verdict.recommended == Some(strength.strength),
                x: at_x,
                y: at_y,
            }
        })
        .collect();
    let line: Vec<String> = points.iter().map(|point| format!("{} {}", point.x, point.y)).collect();
    Some(Plot {
        width: WIDTH,
        height: HEIGHT,
        left: LEFT,
        right,
        top: TOP,
        bottom,
        x_ticks: ticks(&x),
        y_ticks: ticks(&y),
        line: format!("M{}", line.join("L")),
        points,
    })
}

fn place(value: f64) -> String {
    format!("{value:.1}")
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
