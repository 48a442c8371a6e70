//! From a unit's settings to what the decoder is asked for.

use super::error::PromptProblem;
use super::text::Loaded;
use crate::generate::{GenerateError, Sampling, Stopping};
use crate::suite::{self, Input, LongPrompts};
use crate::text::{Clock, Message};

/// Settings of a text, all of them decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most new tokens.
    pub max_new_tokens: usize,
    /// Texts that end it.
    pub stop: Vec<String>,
    /// Whether a plain prompt goes through the chat template.
    pub chat: bool,
    /// A system message in front.
    pub system: Option<String>,
    /// What becomes of a prompt that is too long.
    pub long_prompts: LongPrompts,
}

/// Most new tokens where a suite does not say.
pub(super) const MAX_NEW_TOKENS: u64 = 128;

/// Decides the settings of a text: greedy and 128 tokens where nothing is said.
pub fn text_settings(given: &suite::Settings) -> Settings {
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let plain = Sampling::default();
    Settings {
        sampling: Sampling {
            temperature: given.temperature.unwrap_or(plain.temperature),
            top_k: given.top_k.map_or(plain.top_k, count),
            top_p: given.top_p.unwrap_or(plain.top_p),
            min_p: given.min_p.unwrap_or(plain.min_p),
            repetition_penalty: given.repetition_penalty.unwrap_or(plain.repetition_penalty),
        },
        max_new_tokens: count(given.max_new_tokens.unwrap_or(MAX_NEW_TOKENS)),
        stop: given.stop.clone().unwrap_or_default(),
        chat: given.chat.unwrap_or(false),
        system: given.system.clone(),
        long_prompts: given.long_prompts.unwrap_or_default(),
    }
}

/// A prompt as the model gets it.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub tokens: Vec<u32>,
    /// What the chat template made of it.
    pub rendered: Option<String>,
    /// Tokens that were cut off.
    pub truncated: usize,
    pub stopping: Stopping,
}

/// Settings that say nothing about a text.
pub(super) fn refuse_image_settings(given: &suite::Settings) -> Result<(), PromptProblem> {
    let set = [
        ("steps", given.steps.is_some()),
        ("guidance", given.guidance.is_some()),
        ("sampler", given.sampler.is_some()),
        ("scheduler", given.scheduler.is_some()),
        ("width", given.width.is_some()),
        ("height", given.height.is_some()),
        ("negative", given.negative.is_some()),
        ("clip_skip", given.clip_skip.is_some()),
        ("guidance_rescale", given.guidance_rescale.is_some()),
        ("rng", given.rng.is_some()),
    ];
    match set.iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(PromptProblem::ForImages { name }),
        None => Ok(()),
    }
}

/// Renders, tokenizes and measures a prompt.
pub(super) fn prepare(
    (loaded, clock): (&Loaded, Clock),
    input: &Input,
    settings: &Settings,
) -> Result<Prepared, PromptProblem> {
    let (text, rendered) = match (input, settings.chat || settings.system.is_some()) {
        (Input::Prompt(text), false) => (text.clone(), false),
        (Input::Prompt(text), true) => {
            (render((loaded, clock), vec![Message::new("user", text)], settings)?, true)
        }
        (Input::Messages(messages), _) => {
            let messages =
                messages.iter().map(|m| Message::new(m.role, m.content.as_str())).collect();
            (render((loaded, clock), messages, settings)?, true)
        }
    };
    // a template writes the start token itself
    let mut tokens = loaded.tokenizer.encode(&text, !rendered)?;
    if tokens.is_empty() {
        return Err(GenerateError::EmptyPrompt.into());
    }
    tokens = known_tokens(loaded, tokens)?;
    let (context, more) = (loaded.decoder.config.context, settings.max_new_tokens);
    let room = context.saturating_sub(more);
    if room == 0 {
        return Err(PromptProblem::NoRoom { more, context });
    }
    let truncated = tokens.len().saturating_sub(room);
    if truncated > 0 {
        if settings.long_prompts == LongPrompts::Refuse {
            return Err(PromptProblem::TooLong { tokens: tokens.len(), more, context });
        }
        let start = loaded.tokenizer.special_token("bos_token");
        let start = start.and_then(|token| loaded.tokenizer.id(token));
        let kept = usize::from(start.is_some() && tokens.first().copied() == start && room > 1);
        tokens.drain(kept..kept + truncated);
    }
    let mut end_tokens = loaded.tokenizer.eos_ids().to_vec();
    for stop in &settings.stop {
        // a special token is no text, so it would never be found in one
        if let Some(id) = loaded.tokenizer.id(stop)
            && loaded.tokenizer.decode(&[id], true)?.is_empty()
        {
            end_tokens.push(id);
        }
    }
    let stopping = Stopping { max_new_tokens: more, end_tokens, stop: settings.stop.clone() };
    Ok(Prepared { tokens, rendered: rendered.then_some(text), truncated, stopping })
}

/// Tokens that the embedding has.
pub(super) fn known_tokens(loaded: &Loaded, tokens: Vec<u32>) -> Result<Vec<u32>, PromptProblem> {
    let known = loaded.decoder.config.vocabulary;
    match tokens.iter().find(|token| **token as usize >= known) {
        Some(&token) => Err(PromptProblem::UnknownToken { token, known }),
        None => Ok(tokens),
    }
}

fn render(
    (loaded, clock): (&Loaded, Clock),
    mut messages: Vec<Message>,
    settings: &Settings,
) -> Result<String, PromptProblem> {
    if let Some(system) = &settings.system
        && messages.first().is_none_or(|first| first.role != "system")
    {
        messages.insert(0, Message::new("system", system));
    }
    Ok(loaded.chat(clock)?.render(&messages, true)?)
}
