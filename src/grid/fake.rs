//! Cells out of nothing.

use std::time::Duration;

use image::{Rgb, RgbImage};

use super::image::PictureJudge;
use super::judge::{Judge, Judged};
use super::prepare::refuse_image_settings;
use super::{Backend, GridError, Made, PlannedCell, Unit};
use crate::base::digest::sha256;
use crate::generate::image::ImageError;
use crate::picture::{self, Picture};
use crate::prompt::Prompt;
use crate::run::RunKind;
use crate::suite::{Input, Suite};

/// Makes texts or pictures from the hashes of cells, the same every time, so that planning, running,
/// resuming, scoring and reporting can be tried without weights. It says nothing about any model.
#[derive(Debug)]
pub struct FakeBackend<'a> {
    /// The suite.
    pub suite: &'a Suite,
    /// How long a cell pretends to take. It is not part of what is recorded.
    pub pause: Duration,
}

const WORDS: [&str; 16] = [
    "the", "a", "quiet", "river", "stone", "keeps", "its", "colour", "under", "every", "bridge",
    "and", "waits", "for", "rain", "again",
];

/// Sides of a picture where the suite says nothing, and the largest that is drawn.
const SIDE: u64 = 256;
const MAX_SIDE: u64 = 512;

impl FakeBackend<'_> {
    /// What it makes for `suite`: pictures where a setting of pictures is given.
    pub fn kind(suite: &Suite) -> RunKind {
        let of_images = |prompt| refuse_image_settings(&suite.settings(prompt)).is_err();
        let axes = ["sampler", "steps", "guidance", "clip_skip", "scheduler"];
        if suite.prompts.iter().any(of_images) || axes.iter().any(|a| suite.axes.contains_key(*a)) {
            RunKind::Image
        } else {
            RunKind::Text
        }
    }

    fn pictures(&self, unit: &Unit) -> Result<Vec<Made>, GridError> {
        let mut pictures = Vec::new();
        for cell in &unit.cells {
            std::thread::sleep(self.pause);
            let drawn = draw(unit, cell);
            let (width, height) = drawn.dimensions();
            pictures.push(Picture { width, height, rgb: drawn.into_raw() });
        }
        let judge = PictureJudge { learned: None, references: Vec::new() };
        let text = match &unit.input {
            Input::Prompt(text) => Prompt::parse(text),
            Input::Messages(_) => Prompt::parse(""),
        };
        let prompt =
            text.map_err(|error| GridError::about(self.suite, unit.prompt, &error.into()))?;
        let judged = judge.score(&prompt, &pictures.iter().collect::<Vec<_>>())?;
        let made = pictures.iter().zip(judged).map(|(picture, (scores, _))| {
            let png = picture::encode_png(picture, &[]).map_err(ImageError::from);
            let png = png.map_err(|e| GridError::about(self.suite, unit.prompt, &e.into()))?;
            Ok(Made { picture: Some(png), scores, ..Made::default() })
        });
        made.collect()
    }
}

/// Discs on a gradient; with the strength they move, and stripes come over them.
fn draw(unit: &Unit, cell: &PlannedCell) -> RgbImage {
    let key = sha256(format!("{} {} {:?}", unit.prompt, unit.seed, unit.axes).as_bytes());
    let key = key.as_bytes();
    let byte = |at: usize| f64::from(key[at % key.len()] % 40) * 6.0;
    let side = |given: Option<u64>| {
        u32::try_from(given.unwrap_or(SIDE).min(MAX_SIDE)).unwrap_or_default().max(1)
    };
    let (width, height) = (side(unit.settings.width), side(unit.settings.height));
    let shift = cell.strength * 0.08;
    let stripes = (cell.strength.abs() * 0.45).min(0.8);
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
        let mut colour = [0, 1, 2].map(|c| byte(c) * (1.0 - v) + byte(c + 3) * v);
        for disc in 0..4 {
            let at = |place: usize| byte(6 + disc * 6 + place) / 240.0;
            let (dx, dy) = (u - at(0) - shift, v - at(1) + shift * at(2));
            if dx.hypot(dy) < 0.08 + 0.2 * at(2) {
                colour = [3, 4, 5].map(|c| 255.0 - byte(6 + disc * 6 + c));
            }
        }
        if stripes > 0.0 && ((u + v) * 24.0).fract() < 0.5 {
            colour = colour.map(|c| c * (1.0 - stripes) + (255.0 - c) * stripes);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
        Rgb(colour.map(|c| c.clamp(0.0, 255.0) as u8))
    })
}

impl Backend for FakeBackend<'_> {
    fn make(&mut self, unit: &Unit) -> Result<Vec<Made>, GridError> {
        if Self::kind(self.suite) == RunKind::Image {
            return self.pictures(unit);
        }
        let references = &self.suite.prompts[unit.prompt].references;
        let mut judge = Judge::new(references);
        let mut all = Vec::new();
        for cell in &unit.cells {
            std::thread::sleep(self.pause);
            // near strengths share words, as those of a model do
            let key = sha256(format!("{} {}", unit.prompt, unit.seed).as_bytes());
            let changed = sha256(cell.id.as_bytes());
            let share = (cell.strength.abs() * 4.0).min(12.0);
            let words: Vec<&str> = key
                .bytes()
                .zip(changed.bytes())
                .take(14)
                .enumerate()
                .map(|(place, (same, other))| {
                    let byte = if (place as f64) < share { other } else { same };
                    WORDS[usize::from(byte) % WORDS.len()]
                })
                .collect();
            let output = words.join(" ");
            let scores = judge.score(&Judged { text: &output, forced: None })?;
            let tokens = Some(words.len());
            let finish = Some("length".to_owned());
            all.push(Made { output, finish, tokens, scores, ..Made::default() });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::grid::{Plan, Request};

    fn made(yaml: &str) -> Vec<Made> {
        let suite = Suite::parse(Path::new("suite.yaml"), yaml).unwrap();
        let plan = Plan::new(&Request {
            suite: &suite,
            base: "b",
            adapters: &[],
            kind: "image",
            dtype: "f32",
            device: "cpu",
            max_batch: None,
        });
        let mut backend = FakeBackend { suite: &suite, pause: Duration::ZERO };
        plan.unwrap().units.iter().flat_map(|unit| backend.make(unit).unwrap()).collect()
    }

    #[test]
    fn a_suite_with_a_setting_of_pictures_gets_pictures() {
        let suite = "strengths: [0, 1]\nprompts: [{id: a, prompt: one}]\n";
        assert!(made(suite).iter().all(|made| made.picture.is_none() && !made.output.is_empty()));
        let pictures = made(&format!("defaults: {{width: 128, height: 64}}\n{suite}"));
        let pictures: Vec<RgbImage> = pictures
            .iter()
            .map(|made| image::load_from_memory(made.picture.as_ref().unwrap()).unwrap())
            .map(image::DynamicImage::into_rgb8)
            .collect();
        assert!(pictures.iter().all(|picture| picture.dimensions() == (128, 64)));
        assert_ne!(pictures[0], pictures[1]);
        assert_eq!(
            made(&format!("axes: {{sampler: [a, b]}}\n{suite}")),
            made(&format!("axes: {{sampler: [a, b]}}\n{suite}"))
        );
    }
}
