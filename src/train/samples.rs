//! Generations while an adapter is trained.

use std::path::Path;

use super::TrainError;
use super::watch::Event;
use crate::config::SampleSettings;
use crate::generate::image::{ImageModel, Job, RowStrengths};
use crate::generate::{Noise, Row, Sampling, Stopping, complete, prefill};
use crate::model::decoder::Decoder;
use crate::model::diffusion::noise::NoiseSource;
use crate::model::diffusion::sampler::{Algorithm, Choice, Schedule};
use crate::picture::encode_png;
use crate::prompt::Prompt;
use crate::text::TextTokenizer;

/// Prompts to generate from.
#[derive(Debug, Default)]
pub struct Samples {
    lines: Vec<Line>,
}

/// A line of sd-scripts' prompt files: `PROMPT --n NEGATIVE --w W --h H --d SEED --s STEPS --l GUIDANCE`.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    prompt: String,
    negative: Option<String>,
    width: Option<usize>,
    height: Option<usize>,
    seed: u64,
    steps: usize,
    guidance: f64,
}

/// Tokens of a sample of text.
const TOKENS: usize = 64;

impl Samples {
    /// Reads the prompts' file; none is no prompt.
    pub fn open(settings: &SampleSettings, draws: bool) -> Result<Self, TrainError> {
        let Some(path) = &settings.prompts else { return Ok(Self::default()) };
        let failed = |problem: String| TrainError::Prompts { path: path.clone(), problem };
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let read = |(place, line): (usize, &str)| {
            if !draws {
                return Ok(Line::plain(line));
            }
            Line::read(line).map_err(|problem| failed(format!("line {}: {problem}", place + 1)))
        };
        let lines = lines.map(read).collect::<Result<Vec<_>, _>>()?;
        if lines.is_empty() {
            return Err(failed("no prompt".to_owned()));
        }
        Ok(Self { lines })
    }

    /// Completions of the prompts, greedy.
    pub fn texts(
        &self,
        step: usize,
        decoder: &Decoder,
        tokenizer: &TextTokenizer,
    ) -> Result<Vec<Event>, TrainError> {
        let mut events = Vec::new();
        for line in &self.lines {
            let prompt = tokenizer.encode(&line.prompt, true)?;
            let rows = vec![Row { prompt, strengths: vec![1.0] }];
            let stopping = Stopping {
                max_new_tokens: TOKENS,
                end_tokens: tokenizer.eos_ids().to_vec(),
                stop: Vec::new(),
            };
            let noise = [Noise::new(line.seed, &rows[0].prompt)];
            let prefilled = prefill(decoder, &rows)?;
            let greedy = (&Sampling::default(), &noise[..]);
            let done = complete(decoder, Some(tokenizer), &prefilled, greedy, &stopping)?;
            events.extend(done.into_iter().map(|completion| Event::Sample {
                step,
                name: line.prompt.clone(),
                text: completion.text,
                path: None,
            }));
        }
        Ok(events)
    }

    /// Pictures of the prompts, written into a folder.
    pub fn pictures(
        &self,
        step: usize,
        model: &ImageModel,
        folder: &Path,
    ) -> Result<Vec<Event>, TrainError> {
        let mut events = Vec::new();
        for (place, line) in self.lines.iter().enumerate() {
            let path = folder.join(format!("step-{step:08}-{}.png", place + 1));
            line.draw(model, &path)?;
            let (name, text) = (line.prompt.clone(), String::new());
            events.push(Event::Sample { step, name, text, path: Some(path) });
        }
        Ok(events)
    }
}

impl Line {
    /// Draws it into a file.
    fn draw(&self, model: &ImageModel, path: &Path) -> Result<(), TrainError> {
        let refused = |problem: String| TrainError::Prompts { path: path.to_owned(), problem };
        let prompt = Prompt::parse(&self.prompt).map_err(|e| refused(e.to_string()))?;
        let side = model.side();
        let sampler =
            Choice { algorithm: Algorithm::EulerAncestral, schedule: Schedule::Automatic };
        let job = Job {
            prompt: &prompt,
            negative: self.negative.as_deref(),
            width: self.width.unwrap_or(side),
            height: self.height.unwrap_or(side),
            steps: self.steps,
            guidance: self.guidance,
            guidance_rescale: 0.0,
            sampler,
            clip_skip: 1,
            seed: self.seed,
            source: NoiseSource::Cpu,
        };
        let row = RowStrengths { text: vec![1.0], unet: vec![1.0] };
        let drawn = model.draw(&job, &[row], &|_| ())?;
        let written = |source| TrainError::Write { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(written)?;
        }
        for drawn in drawn {
            let bytes = encode_png(&drawn.picture, &[])?;
            crate::base::atomic::write(path, &bytes).map_err(written)?;
        }
        Ok(())
    }

    fn plain(text: &str) -> Self {
        let prompt = text.trim().to_owned();
        let (negative, width, height) = (None, None, None);
        Self { prompt, negative, width, height, seed: 0, steps: 20, guidance: 7.5 }
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut parts = text.split(" --");
        let mut line = Self::plain(parts.next().unwrap_or_default());
        for part in parts {
            let (key, value) = part.split_once(' ').unwrap_or((part, ""));
            let value = value.trim();
            let wrong = || format!("`--{key} {value}`: expected a number");
            match key {
                "n" => line.negative = Some(value.to_owned()),
                "w" => line.width = Some(value.parse().map_err(|_| wrong())?),
                "h" => line.height = Some(value.parse().map_err(|_| wrong())?),
                "d" => line.seed = value.parse().map_err(|_| wrong())?,
                "s" => line.steps = value.parse().map_err(|_| wrong())?,
                "l" => line.guidance = value.parse().map_err(|_| wrong())?,
                _ => return Err(format!("`--{key}`: expected --n, --w, --h, --d, --s or --l")),
            }
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_sd_scripts() {
        let line = Line::read("a fox, --ink --n ugly, blurry --w 512 --h 768 --d 7 --s 30 --l 5.5");
        assert_eq!(line, Err("`--ink`: expected --n, --w, --h, --d, --s or --l".to_owned()));
        let line =
            Line::read("a fox --n ugly, blurry --w 512 --h 768 --d 7 --s 30 --l 5.5").unwrap();
        assert_eq!(
            (line.prompt.as_str(), line.negative.as_deref()),
            ("a fox", Some("ugly, blurry"))
        );
        assert_eq!((line.width, line.height, line.seed), (Some(512), Some(768), 7));
        assert_eq!((line.steps, line.guidance), (30, 5.5));
        assert!(Line::read("a fox --w wide").is_err());
    }
}
