//! The curve of gain against damage, a point a strength.

use serde::Serialize;

use super::number;
use super::scale::Scale;
use super::verdict::bounds;
use crate::run::verdict::{AtStrength, Measured, Verdict};

/// Size of the picture and its margins, in SVG units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 52.0;
/// Size of a label, as wide as its characters.
const LETTER: f64 = 8.5;
const LINE: f64 = 15.0;
/// Where a label may stand, from its point: the first place that is free is taken.
const AROUND: [(f64, f64, &str); 12] = [
    (10.0, -8.0, "start"),
    (-10.0, -8.0, "end"),
    (10.0, 19.0, "start"),
    (-10.0, 19.0, "end"),
    (0.0, -14.0, "middle"),
    (0.0, 26.0, "middle"),
    (10.0, -24.0, "start"),
    (-10.0, -24.0, "end"),
    (10.0, -40.0, "start"),
    (-10.0, -40.0, "end"),
    (10.0, 35.0, "start"),
    (-10.0, 35.0, "end"),
];

/// Gain over damage, a point a strength.
#[derive(Debug, Serialize)]
pub struct Plot {
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
    /// Where the label stands, from the point.
    label_x: f64,
    label_y: f64,
    anchor: &'static str,
    title: String,
    recommended: bool,
}

/// The curve of a verdict with at least two strengths that have both.
pub fn plot(verdict: &Verdict) -> Option<Plot> {
    let both: Vec<(&AtStrength, &Measured, &Measured)> = verdict
        .strengths
        .iter()
        .filter_map(|s| Some((s, s.damage.as_ref()?, s.gain.as_ref()?)))
        .collect();
    let unlike = |of: &dyn Fn(&(&AtStrength, &Measured, &Measured)) -> String| {
        both.iter().any(|one| both.first().is_some_and(|first| of(one) != of(first)))
    };
    // points of different metrics have no common axes
    if both.len() < 2 || unlike(&|one| one.1.label.clone()) || unlike(&|one| one.2.label.clone()) {
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
    let places: Vec<(f64, f64)> =
        both.iter().map(|(_, damage, gain)| (x.place(damage.value), y.place(gain.value))).collect();
    let names: Vec<String> =
        both.iter().map(|(strength, ..)| number::axis(strength.strength)).collect();
    let labels = labels(&places, &names);
    let points: Vec<Point> = both
        .iter()
        .zip(names.into_iter().zip(labels))
        .map(|((strength, damage, gain), (label, (label_x, label_y, anchor)))| {
            let [at_x, low_x, high_x] = three(damage).map(|value| place(x.place(value)));
            let [at_y, low_y, high_y] = three(gain).map(|value| place(y.place(value)));
            let measured =
                |one: &Measured| format!("{} ({})", number::plain(one.value), bounds(one));
            Point {
                interval: format!("M{low_x} {at_y}H{high_x}M{at_x} {low_y}V{high_y}"),
                title: format!(
                    "strength {label}: gain {}, {} {}",
                    measured(gain),
                    damage.label,
                    measured(damage)
                ),
                label,
                label_x,
                label_y,
                anchor,
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

/// Left, top, right and bottom.
type Area = [f64; 4];

fn overlap(one: &Area, other: &Area) -> bool {
    one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3]
}

/// A place for each label that no point and no other label has, and that lies inside the picture; the
/// first one where there is none.
fn labels(points: &[(f64, f64)], names: &[String]) -> Vec<(f64, f64, &'static str)> {
    let picture = [0.0, 0.0, WIDTH, HEIGHT - BOTTOM];
    let mut taken: Vec<Area> =
        points.iter().map(|(x, y)| [x - 5.0, y - 5.0, x + 5.0, y + 5.0]).collect();
    let mut places = Vec::with_capacity(points.len());
    for ((x, y), name) in points.iter().zip(names) {
        let wide = LETTER * name.chars().count() as f64;
        let area = |(dx, dy, anchor): (f64, f64, &str)| {
            let left = x + dx
                - match anchor {
                    "end" => wide,
                    "middle" => 0.5 * wide,
                    _ => 0.0,
                };
            [left, y + dy - LINE + 3.0, left + wide, y + dy + 3.0]
        };
        let free = |place: &(f64, f64, &str)| {
            let own = area(*place);
            let inside = own[0] >= picture[0]
                && own[1] >= picture[1]
                && own[2] <= picture[2]
                && own[3] <= picture[3];
            inside && !taken.iter().any(|other| overlap(&own, other))
        };
        let place = AROUND.into_iter().find(free).unwrap_or(AROUND[0]);
        taken.push(area(place));
        places.push(place);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_points_close_together_do_not_overlap() {
        let points = [(430.0, 250.0), (436.0, 252.0), (441.0, 253.0), (538.0, 20.0)];
        let names = ["0.25", "0.5", "0.75", "1"].map(str::to_owned);
        let places = labels(&points, &names);
        let area = |at: usize| {
            let ((x, y), (dx, dy, anchor)) = (points[at], places[at]);
            let wide = LETTER * names[at].len() as f64;
            let left = x + dx
                - if anchor == "end" {
                    wide
                } else if anchor == "middle" {
                    wide / 2.0
                } else {
                    0.0
                };
            [left, y + dy - 12.0, left + wide, y + dy + 3.0]
        };
        for one in 0..4 {
            assert!(area(one)[2] <= WIDTH, "{one}");
            for other in 0..one {
                assert!(!overlap(&area(one), &area(other)), "{one} {other}: {places:?}");
            }
        }
    }
}
