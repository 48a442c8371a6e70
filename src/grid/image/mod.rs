//! Cells of a diffusion model.

mod infotext;
mod judge;
mod settings;

use std::path::PathBuf;
use std::time::Instant;

use super::blocks::{single, weights};
use super::error::PromptProblem;
use super::text::out_of_memory;
use super::{Axis, Backend, GridError, Made, Plan, PlannedCell, Unit};
use crate::base::terminal::printable;
use crate::generate::image::{Drawn, ImageError, ImageModel, Job, RowStrengths};
use crate::picture::{self, PARAMETERS, Picture};
use crate::prompt::Prompt;
use crate::suite::{Input, Suite};

pub use infotext::ModelName;
use infotext::infotext;
pub(super) use judge::Judge as PictureJudge;
pub use judge::Learned;
use judge::{Judge, words};
use settings::{ImageSettings, image_settings};

/// Makes cells with a diffusion model: all strengths of a prompt and seed in one batch, from one noise.
pub struct ImageBackend<'a> {
    model: &'a ImageModel,
    suite: &'a Suite,
    adapters: &'a [Axis],
    name: ModelName,
    /// Most rows of a batch of the denoiser, where that was limited.
    rows: Option<usize>,
    /// Most cells of a batch, once more did not fit.
    cells: Option<usize>,
    learned: Option<&'a Learned>,
    scored: bool,
    progress: &'a dyn Fn(usize, usize),
}

/// A prompt as the model gets it.
struct Prepared {
    prompt: Prompt,
    settings: ImageSettings,
}

impl<'a> ImageBackend<'a> {
    /// A backend for the units of a suite. `rows` bounds a batch of the denoiser, in which each cell
    /// takes a row for each part of its prompt and one without.
    pub fn new(
        model: &'a ImageModel,
        suite: &'a Suite,
        adapters: &'a [Axis],
        name: ModelName,
        rows: Option<usize>,
    ) -> Self {
        let cells = None;
        let progress = &|_, _| {};
        Self { model, suite, adapters, name, rows, cells, learned: None, scored: true, progress }
    }

    /// The same with scores of these models too.
    #[must_use]
    pub fn judged_by(self, learned: Option<&'a Learned>) -> Self {
        Self { learned, ..self }
    }

    /// The same without scores.
    #[must_use]
    pub fn unscored(self) -> Self {
        Self { scored: false, ..self }
    }

    /// The same, telling steps done of all.
    #[must_use]
    pub fn telling(self, progress: &'a dyn Fn(usize, usize)) -> Self {
        Self { progress, ..self }
    }

    /// Reads every prompt of a plan, so that one that cannot be drawn is found before hours of work.
    pub fn check(&self, plan: &Plan) -> Result<Vec<String>, GridError> {
        let mut notes = Vec::new();
        let mut last: Option<&Unit> = None;
        for unit in &plan.units {
            let before = last.replace(unit).filter(|last| last.prompt == unit.prompt);
            if before.is_some_and(|last| last.settings == unit.settings) {
                continue; // another seed
            }
            let prepared = self.prepare(unit)?;
            let job = prepared.job(unit);
            self.model.check(&job).map_err(|e| self.about(unit, &e.into()))?;
            self.rows_of(unit).map_err(|e| self.about(unit, &e))?;
            if before.is_some() {
                continue;
            }
            self.references(unit)?;
            let id = printable(&self.suite.prompts[unit.prompt].id);
            let clip = self.learned.and_then(|learned| learned.clip.as_ref());
            if let Some(note) = clip.map(|clip| clip.text_note(&words(&prepared.prompt))) {
                notes.extend(note?.map(|note| format!("prompt `{id}`: {note}")));
            }
            // of the prompt as it was written: that of the unit has no tags any more
            if let Input::Prompt(text) = &self.suite.prompts[unit.prompt].input
                && let Ok(written) = Prompt::parse(text)
            {
                let warnings = written.warnings.iter();
                notes.extend(warnings.map(|w| format!("prompt `{id}`: {}", w.message)));
            }
        }
        Ok(notes)
    }

    fn prepare(&self, unit: &Unit) -> Result<Prepared, GridError> {
        self.try_prepare(unit).map_err(|problem| self.about(unit, &problem))
    }

    fn try_prepare(&self, unit: &Unit) -> Result<Prepared, PromptProblem> {
        let Input::Prompt(text) = &unit.input else { return Err(PromptProblem::Messages) };
        let settings = image_settings(&unit.settings, self.model)?;
        Ok(Prepared { prompt: Prompt::parse(text)?, settings })
    }

    /// A row for each cell.
    fn rows_of(&self, unit: &Unit) -> Result<Vec<RowStrengths>, PromptProblem> {
        let name = |adapter: usize| self.adapters.get(adapter).map_or("", |axis| &axis.name);
        let row = |cell: &PlannedCell| {
            Ok(RowStrengths {
                text: single(&cell.text_strengths),
                unet: single(&cell.strengths),
                blocks: weights(&self.model.diffusion.block_list, cell, name)?,
            })
        };
        unit.cells.iter().map(row).collect()
    }

    /// The pictures that a prompt names as good answers.
    fn references(&self, unit: &Unit) -> Result<Vec<Picture>, GridError> {
        let folder = self.suite.folder();
        let open = |reference: &String| {
            let path: PathBuf = folder.join(reference);
            picture::read(&path).map_err(|error| {
                let reference = printable(reference).to_string();
                let problem = PromptProblem::Reference { reference, problem: error.to_string() };
                self.about(unit, &problem)
            })
        };
        self.suite.prompts[unit.prompt].references.iter().map(open).collect()
    }

    fn about(&self, unit: &Unit, problem: &PromptProblem) -> GridError {
        GridError::about(self.suite, unit.prompt, problem)
    }

    /// All rows, in as few batches as fit. Gives the cells of a batch where there were several.
    fn draw(
        &mut self,
        job: &Job<'_>,
        rows: &[RowStrengths],
    ) -> Result<(Vec<Drawn>, Option<usize>), PromptProblem> {
        let parts = job.prompt.parts.len().max(1);
        let groups = parts + usize::from(job.guidance > 1.0 || parts > 1);
        let bound = self.rows.map_or(rows.len(), |most| most / groups);
        loop {
            let limit = self.cells.unwrap_or(bound).min(bound).clamp(1, rows.len().max(1));
            match self.parts(job, rows, limit) {
                Err(ImageError::Device(error)) if out_of_memory(&error) && limit > 1 => {
                    let fewer = limit.div_ceil(2);
                    tracing::warn!(
                        "a batch of {limit} pictures does not fit into memory; going on with {fewer}"
                    );
                    self.cells = Some(fewer);
                }
                Err(ImageError::NotFinite { row, step }) => {
                    let who = rows.get(row).map_or_else(String::new, |row| self.who(row));
                    return Err(PromptProblem::NotDrawn { who, step });
                }
                Err(ImageError::NotDecoded { row }) => {
                    let who = rows.get(row).map_or_else(String::new, |row| self.who(row));
                    return Err(PromptProblem::NotDecoded { who });
                }
                Err(error) => return Err(error.into()),
                Ok(all) => return Ok((all, (limit < rows.len()).then_some(limit))),
            }
        }
    }

    fn parts(
        &self,
        job: &Job<'_>,
        rows: &[RowStrengths],
        limit: usize,
    ) -> Result<Vec<Drawn>, ImageError> {
        let mut all = Vec::new();
        let steps = rows.len().div_ceil(limit) * job.steps;
        for (part, some) in rows.chunks(limit).enumerate() {
            let tell = |step: usize| (self.progress)(part * job.steps + step, steps);
            let drawn = self.model.draw(job, some, &tell);
            all.extend(drawn.map_err(|error| error.after(part * limit))?);
        }
        Ok(all)
    }

    /// `style at strength 1`
    fn who(&self, row: &RowStrengths) -> String {
        let acting = self.adapters.iter().zip(row.unet.iter().zip(&row.text));
        let acting: Vec<String> = acting
            .filter(|(_, (unet, text))| **unet != 0.0 || **text != 0.0)
            .map(|(axis, (unet, text))| {
                let name = printable(&axis.name);
                if unet == text {
                    format!("`{name}` at strength {unet}")
                } else {
                    format!("`{name}` at strength {text} (text) and {unet} (denoiser)")
                }
            })
            .collect();
        if acting.is_empty() { "the base itself".to_owned() } else { acting.join(" with ") }
    }
}

impl Prepared {
    fn job(&self, unit: &Unit) -> Job<'_> {
        let settings = &self.settings;
        Job {
            prompt: &self.prompt,
            negative: settings.negative.as_deref(),
            width: settings.width,
            height: settings.height,
            steps: settings.steps,
            guidance: settings.guidance,
            guidance_rescale: settings.guidance_rescale,
            sampler: settings.sampler,
            clip_skip: settings.clip_skip,
            seed: unit.seed,
            source: settings.source,
        }
    }
}

impl Backend for ImageBackend<'_> {
    fn make(&mut self, unit: &Unit) -> Result<Vec<Made>, GridError> {
        let start = Instant::now();
        let prepared = self.prepare(unit)?;
        let job = prepared.job(unit);
        let rows = self.rows_of(unit).map_err(|e| self.about(unit, &e))?;
        let (drawn, batch) = self.draw(&job, &rows).map_err(|e| self.about(unit, &e))?;
        let judged = if self.scored {
            let pictures: Vec<&Picture> = drawn.iter().map(|drawn| &drawn.picture).collect();
            let judge = Judge { learned: self.learned, references: self.references(unit)? };
            judge.score(&prepared.prompt, &pictures)?
        } else {
            Vec::new()
        };
        let mut judged = judged.into_iter();
        let mut cells = Vec::new();
        for (cell, drawn) in unit.cells.iter().zip(&drawn) {
            let text = infotext((&self.model.diffusion, &self.name), &job, cell, self.adapters);
            let png = picture::encode_png(&drawn.picture, &[(PARAMETERS, &text)]);
            let png = png.map_err(|e| self.about(unit, &ImageError::from(e).into()))?;
            let again = "the autoencoder overflowed; decoded once more in f32".to_owned();
            let (scores, features) = judged.next().unwrap_or_default();
            cells.push(Made {
                picture: Some(png),
                finish: drawn.decoded_again.then_some(again),
                batch,
                scores,
                features,
                ..Made::default()
            });
        }
        let seconds = start.elapsed().as_secs_f64() / cells.len().max(1) as f64;
        for cell in &mut cells {
            cell.seconds = seconds;
        }
        Ok(cells)
    }
}
