//! The arguments of an adapter tag: a name, strengths and a rank, none of them to be trusted.

use super::error::PromptError;
use super::place::{Locator, Place, Span, quoted};
use super::scan::is_space;
use super::tag::{AdapterTag, Found, MAX_BLOCKS, MAX_NAME_BYTES, MAX_STRENGTH};

/// The arguments of an adapter tag while they are read.
#[derive(Debug)]
pub(super) struct Arguments<'s, 'l> {
    found: &'l Found<'s>,
    locator: &'l Locator<'s>,
    positional: Vec<(&'s str, Span)>,
    text_encoder: Option<f64>,
    unet: Option<f64>,
    dyn_rank: Option<u32>,
    blocks: Option<Vec<f64>>,
}

impl<'s, 'l> Arguments<'s, 'l> {
    pub(super) fn new(found: &'l Found<'s>, locator: &'l Locator<'s>) -> Self {
        Self {
            found,
            locator,
            positional: Vec::new(),
            text_encoder: None,
            unet: None,
            dyn_rank: None,
            blocks: None,
        }
    }

    pub(super) fn read(mut self) -> Result<AdapterTag, PromptError> {
        let mut start = self.found.end - 1 - self.found.arguments.len();
        for item in self.found.arguments.split(':') {
            let span = trimmed_span(item, start);
            start += item.len() + 1;
            let item = item.trim_matches(is_space);
            // an item with two equal signs is positional, so a name may hold two of them but not one
            match item.split_once('=') {
                Some((key, value)) if !value.contains('=') => self.named(key, value, span)?,
                _ => self.positional.push((item, span)),
            }
        }
        self.finish()
    }

    fn named(&mut self, key: &'s str, value: &'s str, span: Span) -> Result<(), PromptError> {
        let at = self.locator.place(span.clone());
        let value_span = trimmed_span(value, span.end - value.len());
        let key = key.trim_end_matches(is_space);
        let value = value.trim_matches(is_space);
        let repeated = match key {
            "te" => self.text_encoder.replace(strength(value, value_span, self.locator)?).is_some(),
            "unet" => self.unet.replace(strength(value, value_span, self.locator)?).is_some(),
            "dyn" => self.dyn_rank.replace(rank(value, value_span, self.locator)?).is_some(),
            "lbw" => self.blocks.replace(blocks(value, value_span, self.locator)?).is_some(),
            _ => {
                let hint = unknown_argument_hint(key, self.positional.is_empty());
                return Err(PromptError::UnknownArgument { name: quoted(key), hint, at });
            }
        };
        if repeated { Err(PromptError::RepeatedArgument { name: quoted(key), at }) } else { Ok(()) }
    }

    fn finish(self) -> Result<AdapterTag, PromptError> {
        let mut positional = self.positional.into_iter();
        let name = match positional.next() {
            Some(("", _)) => None,
            other => other,
        };
        let Some((name, name_span)) = name else {
            return Err(PromptError::EmptyName { at: self.locator.place(self.found.span()) });
        };
        check_name(name, name_span, self.locator)?;
        let mut next_strength = || {
            let next = positional.next();
            next.map(|(value, span)| strength(value, span, self.locator)).transpose()
        };
        let (first, second) = (next_strength()?, next_strength()?);
        let third =
            positional.next().map(|(value, span)| rank(value, span, self.locator)).transpose()?;
        if let Some((value, span)) = positional.next() {
            return Err(PromptError::TooManyArguments {
                value: quoted(value),
                at: self.locator.place(span),
            });
        }
        let text_encoder = self.text_encoder.or(first).unwrap_or(1.0);
        Ok(AdapterTag {
            name: name.to_owned(),
            text_encoder,
            unet: self.unet.or(second).unwrap_or(text_encoder),
            dyn_rank: self.dyn_rank.or(third),
            blocks: self.blocks.unwrap_or_default(),
            span: self.found.span(),
        })
    }
}

/// The span of `item`, which starts at `start`, without the spaces around it.
fn trimmed_span(item: &str, start: usize) -> Span {
    let left = item.trim_start_matches(is_space);
    let start = start + item.len() - left.len();
    start..start + left.trim_end_matches(is_space).len()
}

fn unknown_argument_hint(key: &str, in_place_of_name: bool) -> &'static str {
    match key {
        _ if in_place_of_name => "a name cannot hold `=`; rename the adapter's file",
        "lbwe" => "weights per element are not supported; use `lbw=`, one number for each block",
        "start" | "stop" | "step" => "strengths that change with the step are not supported",
        "in" | "mid" | "out" => "use `lbw=`, one number for each block of the model",
        _ => "the named arguments are `te=`, `unet=`, `dyn=` and `lbw=`",
    }
}

fn strength(value: &str, span: Span, locator: &Locator<'_>) -> Result<f64, PromptError> {
    let at = locator.place(span);
    let Ok(number) = value.parse::<f64>() else {
        let hint = match value {
            _ if value.contains('@') => {
                "strengths that change with the step are not supported; use one number"
            }
            _ if value.contains('<') => "is a `>` missing? write `<lora:NAME:0.8>`",
            _ if value.matches(',').count() > 1 => "weights by block are written `lbw=1,0,…`",
            _ if value.contains(',') => "use one number, with a point for decimals, as in `0.8`",
            _ => "use a number, as in `<lora:NAME:0.8>`",
        };
        return Err(PromptError::BadStrength { value: quoted(value), hint, at });
    };
    check_strength(number, at)
        .map_err(|_| PromptError::StrengthOutOfRange { value: quoted(value), at })
}

/// Gives the strength back where it is one that can be used.
pub(super) fn check_strength(strength: f64, at: Place) -> Result<f64, PromptError> {
    if strength.abs() <= MAX_STRENGTH {
        Ok(strength)
    } else {
        Err(PromptError::StrengthOutOfRange { value: strength.to_string(), at })
    }
}

/// Weights by block, `1,0,0.5`. How many there are depends on the model.
fn blocks(value: &str, span: Span, locator: &Locator<'_>) -> Result<Vec<f64>, PromptError> {
    let mut weights = Vec::new();
    let mut start = span.start;
    for item in value.split(',') {
        let at = trimmed_span(item, start);
        start += item.len() + 1;
        let item = item.trim_matches(is_space);
        let weight = item.parse().ok().filter(|weight: &f64| weight.abs() <= MAX_STRENGTH);
        let Some(weight) = weight.filter(|_| weights.len() < MAX_BLOCKS) else {
            let by_name = item.starts_with(|c: char| c.is_ascii_alphabetic());
            let hint = if by_name && item.parse::<f64>().is_err() {
                "presets by name are not known here; write their numbers, as in `lbw=1,0,0,…`"
            } else {
                "write one number for each block, as in `lbw=1,0,0,…`"
            };
            let at = locator.place(at);
            return Err(PromptError::BadBlockWeight { value: quoted(item), hint, at });
        };
        weights.push(weight);
    }
    Ok(weights)
}

fn rank(value: &str, span: Span, locator: &Locator<'_>) -> Result<u32, PromptError> {
    let bad = || PromptError::BadDyn { value: quoted(value), at: locator.place(span) };
    value.parse().ok().filter(|rank| *rank >= 1).ok_or_else(bad)
}

fn check_name(name: &str, span: Span, locator: &Locator<'_>) -> Result<(), PromptError> {
    let problem = if name.contains(['/', '\\']) {
        "holds a path separator"
    } else if name.contains("..") {
        "holds `..`"
    } else if name.contains(char::is_control) {
        "holds a control character"
    } else if name.contains('<') {
        "holds `<`, so a `>` seems to be missing"
    } else if name.len() > MAX_NAME_BYTES {
        "is too long"
    } else {
        return Ok(());
    };
    Err(PromptError::BadName { name: quoted(name), problem, at: locator.place(span) })
}
