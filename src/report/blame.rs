//! Which blocks do the damage and which the work: two bars a block, and the same as a table.

use serde::Serialize;

use super::number;
use super::scale::Scale;
use crate::run::{Ablation, BlockEffect, Change, Measure};

/// Width of the picture, its margins, and the height of a block, in SVG units.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 36.0;
const ROW: f64 = 24.0;
const BAR: f64 = 8.0;

/// The ablation of a run, ready for the template.
#[derive(Debug, Serialize)]
pub struct Blame {
    adapter: String,
    strength: String,
    /// What was measured, and on how many prompts.
    damage: About,
    gain: Option<About>,
    sentence: String,
    /// The tag that is proposed, and what is left with it.
    tag: Option<String>,
    outcome: String,
    notes: Vec<String>,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    width: f64,
    height: f64,
    zero: String,
    ticks: Vec<Tick>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct About {
    full: String,
    unit: String,
    what: String,
    metric: String,
    prompts: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: String,
    label: String,
}

/// A block.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Middle of its bars.
    at: String,
    bars: Vec<Bar>,
    damage: String,
    gain: String,
    proposed: String,
}

#[derive(Debug, Serialize)]
struct Bar {
    class: &'static str,
    x: String,
    y: String,
    width: String,
    height: f64,
    title: String,
    /// The interval as a path.
    interval: String,
}

/// What goes away with a block, in per cent of what the whole adapter does.
struct Share {
    value: f64,
    interval: Option<(f64, f64)>,
    n: usize,
}

/// The section of a run with an ablation.
pub fn blame(ablation: &Ablation) -> Blame {
    let shares: Vec<[Option<Share>; 2]> =
        ablation.blocks.iter().map(|block| both(ablation, block)).collect();
    let ends = shares.iter().flatten().flatten().flat_map(|share| {
        let (low, high) = share.interval.unwrap_or((share.value, share.value));
        [share.value, low, high]
    });
    let values: Vec<f64> = ends.chain([0.0]).collect();
    let x = Scale::tight(&values, LEFT + 6.0, WIDTH - RIGHT - 6.0);
    let bottom = TOP + ROW * ablation.blocks.len() as f64;
    let rows = ablation.blocks.iter().zip(&shares).enumerate();
    Blame {
        adapter: ablation.adapter.clone(),
        strength: number::axis(ablation.strength),
        damage: about(&ablation.damage),
        gain: ablation.gain.as_ref().map(about),
        sentence: sentence(ablation, &shares),
        tag: ablation.proposal.as_ref().map(|proposal| proposal.tag.clone()),
        outcome: outcome(ablation),
        notes: ablation.notes.clone(),
        left: LEFT,
        right: WIDTH - RIGHT,
        top: TOP,
        bottom,
        width: WIDTH,
        height: bottom + BOTTOM,
        zero: place(x.place(0.0)),
        ticks: x
            .ticks()
            .into_iter()
            .map(|tick| Tick { at: place(x.place(tick)), label: number::axis(tick) })
            .collect(),
        rows: rows.map(|(index, (block, shares))| row(index, block, shares, &x)).collect(),
    }
}

fn both(ablation: &Ablation, block: &BlockEffect) -> [Option<Share>; 2] {
    let gain = ablation.gain.as_ref().zip(block.gain.as_ref());
    [share(&block.damage, &ablation.damage), gain.and_then(|(gain, change)| share(change, gain))]
}

fn share(change: &Change, whole: &Measure) -> Option<Share> {
    let of = |change: f64| -100.0 * change / whole.full + 0.0;
    let finite = |value: &f64| value.is_finite();
    let value = Some(of(change.value)).filter(finite)?;
    // less of a change is more of a share
    let interval = change.high.zip(change.low).map(|(high, low)| (of(high), of(low)));
    let interval = interval.filter(|(low, high)| finite(low) && finite(high) && low <= high);
    Some(Share { value, interval, n: change.n })
}

fn about(measure: &Measure) -> About {
    let prompts = measure.prompts.iter();
    About {
        full: number::plain(measure.full),
        unit: measure.unit.clone(),
        what: measure.about.clone(),
        metric: measure.metric.clone(),
        prompts: prompts.map(|prompt| format!("{} (seed {})", prompt.id, prompt.seed)).collect(),
    }
}

fn row(index: usize, block: &BlockEffect, shares: &[Option<Share>; 2], x: &Scale) -> Row {
    let middle = TOP + ROW * (index as f64 + 0.5);
    let looks = [("s0", "of the damage", -BAR - 1.0), ("s1", "of the gain", 1.0)];
    let bars = shares.iter().zip(looks).filter_map(|(share, (class, what, above))| {
        let share = share.as_ref()?;
        let (from, to) = (x.place(share.value.min(0.0)), x.place(share.value.max(0.0)));
        let y = middle + above;
        let interval = share.interval.map_or_else(String::new, |(low, high)| {
            let at = place(y + BAR / 2.0);
            format!("M{} {at}H{}", place(x.place(low)), place(x.place(high)))
        });
        Some(Bar {
            class,
            x: place(from),
            y: place(y),
            width: place((to - from).max(0.5)),
            height: BAR,
            title: format!("{} off: {} {what} goes away", block.block, text(share)),
            interval,
        })
    });
    let cell = |share: &Option<Share>| share.as_ref().map_or(number::NONE.to_owned(), text);
    Row {
        name: block.block.clone(),
        at: place(middle),
        bars: bars.collect(),
        damage: cell(&shares[0]),
        gain: cell(&shares[1]),
        proposed: number::axis(block.proposed),
    }
}

/// `12.5 % [10.1, 14], n = 8`
fn text(share: &Share) -> String {
    let value = number::fixed(share.value, 1);
    let interval = share.interval.map_or_else(String::new, |(low, high)| {
        format!(" [{}, {}]", number::fixed(low, 1), number::fixed(high, 1))
    });
    format!("{value} %{interval}, n = {}", share.n)
}

/// The block that does most damage, and what it works.
fn sentence(ablation: &Ablation, shares: &[[Option<Share>; 2]]) -> String {
    let worst = shares.iter().zip(&ablation.blocks).filter_map(|(shares, block)| {
        let [damage, gain] = shares;
        Some((damage.as_ref()?.value, gain.as_ref().map(|gain| gain.value), block))
    });
    let Some((damage, gain, block)) = worst.max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return "The adapter does no damage on these prompts.".to_owned();
    };
    if damage <= 0.0 {
        return "No block does damage by itself.".to_owned();
    }
    let work = match gain {
        Some(gain) if gain >= 0.0 => {
            format!(" and {} % of the gain go away", number::fixed(gain, 0))
        }
        Some(gain) => format!(" goes away, and the gain grows by {} %", number::fixed(-gain, 0)),
        None => " goes away".to_owned(),
    };
    format!(
        "With {} off, {} % of the damage{work}: it does the most damage of all blocks.",
        block.block,
        number::fixed(damage, 0)
    )
}

/// What is left with the proposed weights.
fn outcome(ablation: &Ablation) -> String {
    let (Some(proposal), Some(gain)) = (&ablation.proposal, &ablation.gain) else {
        return String::new();
    };
    let part = |part: f64, whole: f64| number::fixed(100.0 * part / whole, 0);
    format!(
        "{} % of the damage and {} % of the gain are left, measured on the same prompts.",
        part(proposal.damage, ablation.damage.full),
        part(proposal.gain, gain.full)
    )
}

/// A place with one decimal.
fn place(at: f64) -> String {
    format!("{at:.1}")
}
