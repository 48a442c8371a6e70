//! Generations while an adapter is trained.

use std::path::Path;

use super::TrainError;
use super::data::CLOCK;
use super::watch::Event;
use crate::config::Settings;
use crate::generate::image::{ImageModel, Job, RowStrengths};
use crate::generate::{Noise, Row, Sampling, Stopping, complete, prefill};
use crate::model::decoder::Decoder;
use crate::model::diffusion::noise::NoiseSource;
use crate::model::diffusion::sampler::{Algorithm, Choice, Schedule};
use crate::picture::encode_png;
use crate::prompt::Prompt;
use crate::suite::{self, Input, Suite};
use crate::text::{Message, TextTokenizer};

/// Prompts to generate from.
#[derive(Debug, Default)]
pub struct Samples {
    lines: Vec<Line>,
    clip_skip: usize,
}

/// A prompt of a suite, or a line of sd-scripts' prompt files: `PROMPT --n NEGATIVE --w W --h H --d SEED --s STEPS --l GUIDANCE`.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    prompt: String,
    /// A conversation in place of the prompt.
    messages: Vec<Message>,
    negative: Option<String>,
    width: Option<usize>,
    height: Option<usize>,
    seed: u64,
    steps: usize,
    guidance: f64,
    most_tokens: usize,
}

/// Tokens of a sample of text that says nothing else.
const TOKENS: usize = 64;

impl Samples {
    /// Reads the prompts' file; none is no prompt.
    pub fn open(settings: &Settings, draws: bool) -> Result<Self, TrainError> {
        let Some(path) = &settings.samples.prompts else { return Ok(Self::default()) };
        let clip_skip = settings.base.clip_skip;
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if matches!(ending, "yaml" | "yml") {
            let suite = Suite::open(path)?;
            let lines = suite.prompts.iter().map(|of| Line::of_suite(&suite, of)).collect();
            return Ok(Self { lines, clip_skip });
        }
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
        Ok(Self { lines, clip_skip })
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
            let prompt = line.tokens(tokenizer)?;
            let rows = vec![Row { prompt, strengths: vec![1.0], ..Row::default() }];
            let stopping = Stopping {
                max_new_tokens: line.most_tokens,
                end_tokens: tokenizer.eos_ids().to_vec(),
                stop: Vec::new(),
            };
            let noise = [Noise::new(line.seed, &rows[0].prompt)];
            let prefilled = prefill(decoder, &rows)?;
            let greedy = (&Sampling::default(), &noise[..]);
            let done = complete(decoder, Some(tokenizer), &prefilled, greedy, &stopping)?;
            events.extend(done.into_iter().map(|completion| Event::Sample {
                step,
                name: line.name.clone(),
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
            line.draw(model, self.clip_skip, &path)?;
            let (name, text) = (line.name.clone(), String::new());
            events.push(Event::Sample { step, name, text, path: Some(path) });
        }
        Ok(events)
    }
}

impl Line {
    /// A prompt of a suite with its settings over the suite's.
    fn of_suite(suite: &Suite, prompt: &suite::Prompt) -> Self {
        let (text, messages) = match &prompt.input {
            Input::Prompt(text) => (text.clone(), Vec::new()),
            Input::Messages(messages) => {
                let all = messages.iter().map(|m| Message::new(m.role, m.content.clone()));
                (prompt.id.clone(), all.collect())
            }
        };
        let settings = prompt.settings.merged_over(&suite.defaults);
        let count = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok());
        let plain = Self::plain(&text);
        Self {
            name: prompt.id.clone(),
            messages,
            negative: settings.negative.clone(),
            width: count(settings.width),
            height: count(settings.height),
            seed: suite.seeds.first().copied().unwrap_or(plain.seed),
            steps: count(settings.steps).unwrap_or(plain.steps),
            guidance: settings.guidance.unwrap_or(plain.guidance),
            most_tokens: count(settings.max_new_tokens).unwrap_or(plain.most_tokens),
            ..plain
        }
    }

    /// A text's tokens; a conversation goes through the chat template.
    fn tokens(&self, tokenizer: &TextTokenizer) -> Result<Vec<u32>, TrainError> {
        if self.messages.is_empty() {
            return Ok(tokenizer.encode(&self.prompt, true)?);
        }
        let text = tokenizer.chat_template(CLOCK)?.render(&self.messages, true)?;
        Ok(tokenizer.encode(&text, false)?)
    }

    /// Draws it into a file.
    fn draw(&self, model: &ImageModel, clip_skip: usize, path: &Path) -> Result<(), TrainError> {
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
            clip_skip,
            seed: self.seed,
            source: NoiseSource::Cpu,
        };
        let row = RowStrengths { text: vec![1.0], unet: vec![1.0], ..RowStrengths::default() };
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
        let (name, seed, steps, guidance) = (prompt.clone(), 0, 20, 7.5);
        let messages = Vec::new();
        Self {
            name,
            prompt,
            messages,
            negative,
            width,
            height,
            seed,
            steps,
            guidance,
            most_tokens: TOKENS,
        }
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
        let side = |side: Option<usize>| side.is_none_or(|side| side > 0 && side.is_multiple_of(8));
        if !side(line.width) || !side(line.height) {
            return Err("sides are multiples of 8".to_owned());
        }
        if line.steps == 0 {
            return Err("`--s 0`: expected at least one step".to_owned());
        }
        Prompt::parse(&line.prompt).map_err(|e| e.to_string())?;
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
