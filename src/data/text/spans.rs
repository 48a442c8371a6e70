//! Where the assistant's turns stand in a conversation that a chat template has written.
//!
//! Some templates mark the assistant's words themselves (`{% generation %}`). Others are programs of
//! which only the result is seen, so its parts are found by what it writes for beginnings of the
//! conversation: `messages[..turn]` with the generation prompt ends where the turn begins, and
//! `messages[..=turn]` where it ends, its end-of-turn token included.

use std::ops::Range;

use super::error::Fault;
use super::row::Turn;
use crate::text::{ChatError, ChatTemplate, Message};

/// A turn in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Which message it is.
    pub turn: usize,
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: End,
}

/// Where a turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Before this byte.
    At(usize),
    /// With the first token that ends a text, before this byte.
    Token(usize),
}

/// The spans of the turns that are learnt in `whole`, which is what `template` makes of all `turns`.
pub(super) fn learnt(
    template: &ChatTemplate,
    turns: &[Turn],
    whole: &str,
) -> Result<Vec<Span>, Fault> {
    let messages = messages(turns);
    if let Some(spans) = marked(template, turns, &messages)? {
        return Ok(spans);
    }
    let numbers = turns.iter().enumerate().filter(|(_, turn)| turn.learnt).map(|(n, _)| n);
    numbers.map(|turn| span(template, &messages, turn, whole)).collect()
}

/// The spans that a template marks, if there is one for each turn of the assistant.
fn marked(
    template: &ChatTemplate,
    turns: &[Turn],
    messages: &[Message],
) -> Result<Option<Vec<Span>>, Fault> {
    let Some(marks) = template.generation_spans(messages)? else { return Ok(None) };
    let spoken = turns.iter().enumerate().filter(|(_, turn)| turn.message.role == "assistant");
    if spoken.clone().count() != marks.len() {
        return Ok(None);
    }
    let learnt = spoken.zip(marks).filter(|((_, turn), _)| turn.learnt);
    let span =
        |((turn, _), at): (_, Range<usize>)| Span { turn, start: at.start, end: End::At(at.end) };
    Ok(Some(learnt.map(span).collect()))
}

/// The messages of `turns`.
pub(super) fn messages(turns: &[Turn]) -> Vec<Message> {
    turns.iter().map(|turn| turn.message.clone()).collect()
}

fn span(
    template: &ChatTemplate,
    messages: &[Message],
    turn: usize,
    whole: &str,
) -> Result<Span, Fault> {
    let beginning = |count: usize, prompt: bool| -> Result<String, Fault> {
        let messages = messages.get(..count).unwrap_or(messages);
        template.render(messages, prompt).map_err(|e| match e {
            // What the template says of the whole conversation was heard before.
            ChatError::Raised { .. } | ChatError::Template { .. } => {
                Fault::Prefix { turn: turn + 1 }
            }
            e => e.into(),
        })
    };
    let before = beginning(turn, true)?;
    let start = if whole.starts_with(&before) {
        before.len()
    } else {
        // The generation prompt may say more than a finished turn has, as `<think>`.
        let plain = beginning(turn, false)?;
        match (before.strip_prefix(&plain), whole.strip_prefix(&plain)) {
            (Some(prompt), Some(rest)) => plain.len() + shared(prompt, rest),
            _ => return Err(Fault::Prefix { turn: turn + 1 }),
        }
    };
    if turn + 1 == messages.len() {
        return Ok(Span { turn, start, end: End::At(whole.len()) });
    }
    // A finished turn may be written otherwise once the conversation goes on: the thoughts in it are
    // left out, or an end of text follows the last one only. So it is no longer than it was.
    let after = beginning(turn + 1, false)?;
    let known = whole.starts_with(&after) && after.len() >= start;
    let end = if known { End::At(after.len()) } else { End::Token(after.len()) };
    Ok(Span { turn, start, end })
}

/// Bytes that both begin with, up to a character's end.
fn shared(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}

/// Sets the flag of every token that has a part in one of `spans`; `ends` are the tokens that end a
/// text.
pub(super) fn mark(
    tokens: &[(u32, Range<usize>)],
    spans: &[Span],
    ends: &[u32],
) -> Result<Vec<bool>, Fault> {
    let mut trained = vec![false; tokens.len()];
    for span in spans {
        let end = match span.end {
            End::At(end) => Some(end),
            End::Token(most) => tokens
                .iter()
                .find(|(id, at)| at.start >= span.start && ends.contains(id))
                .map(|(_, at)| at.end)
                .filter(|end| *end <= most),
        };
        let end = end.ok_or(Fault::Prefix { turn: span.turn + 1 })?;
        for (trained, (_, at)) in trained.iter_mut().zip(tokens) {
            *trained |= at.end > span.start && at.start < end;
        }
    }
    Ok(trained)
}
