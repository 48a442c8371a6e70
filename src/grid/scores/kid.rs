//! Distances of sets of pictures, from the features that cells keep.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{GridError, Metric};
use crate::metric::Part;
use crate::metric::image::{Features, Kid};
use crate::run::{Cell, MetricScores, ScoreRow};

/// Fewest pictures of either set that a distance is given for.
const FEWEST: usize = 8;

/// Cells of one strength by prompt and seed.
type Cells<'a> = BTreeMap<(&'a str, u64), &'a Cell>;

/// Keeps features in a cell.
pub fn encode(features: &[f32]) -> String {
    STANDARD.encode(bytemuck::cast_slice::<f32, u8>(features))
}

/// A cell's features of a model.
fn decode(cell: &Cell, model: &str) -> Option<Vec<f64>> {
    let bytes = STANDARD.decode(cell.features.get(model)?).ok()?;
    let (values, rest) = bytes.as_chunks::<4>();
    let values = values.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
    rest.is_empty().then_some(values)
}

/// All features of a set, if every cell has as many.
fn of_set(cells: &Cells<'_>, model: &str) -> Option<(usize, Vec<f64>)> {
    let all: Option<Vec<Vec<f64>>> = cells.values().map(|cell| decode(cell, model)).collect();
    let all = all?;
    let width = all.first()?.len();
    (width > 0 && all.len() >= FEWEST && all.iter().all(|one| one.len() == width))
        .then(|| (width, all.concat()))
}

/// The distance of one strength's pictures from the base's.
pub(super) fn row(
    model: &str,
    cells: &Cells<'_>,
    base: Option<&Cells<'_>>,
    strength: f64,
) -> Result<Option<ScoreRow>, GridError> {
    let Some(base) = base.filter(|_| strength != 0.0) else { return Ok(None) };
    let (Some((width, mine)), Some((base_width, theirs))) =
        (of_set(cells, model), of_set(base, model))
    else {
        return Ok(None);
    };
    let kid = Kid::default();
    let score = kid.distance(Features::new(width, &mine)?, Features::new(base_width, &theirs)?)?;
    let end = |name: &str| match score.parts.get(name) {
        Some(Part::Number(value)) if value.is_finite() => Some(*value),
        _ => None,
    };
    Ok(Some(ScoreRow {
        group: String::new(),
        strength,
        axes: BTreeMap::new(),
        value: score.value.is_finite().then_some(score.value),
        low: end("low"),
        high: end("high"),
        n: cells.len(),
        p: None,
        identical: mine == theirs,
    }))
}

impl Metric {
    /// A distance of sets with its rows.
    pub(super) fn of_sets(
        &self,
        rows: Vec<ScoreRow>,
        (model, judges): (&str, &BTreeMap<String, String>),
    ) -> MetricScores {
        let digest: String =
            judges.get(model).map_or("", String::as_str).chars().take(10).collect();
        let version = env!("CARGO_PKG_VERSION");
        MetricScores {
            metric: self.name.to_owned(),
            label: self.label.to_owned(),
            about: self.about.to_owned(),
            unit: self.unit.to_owned(),
            better: self.better,
            signature: format!(
                "features:{model}:{digest}|kernel:cubic|estimate:unbiased|ci:bootstrap95|version:lora-eval-{version}"
            ),
            rows,
        }
    }
}
