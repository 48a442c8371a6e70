//! From rows to token ids.

use std::ops::Range;

use rayon::prelude::*;

use super::error::{Fault, Problem, TextDataError};
use super::read::RowSet;
use super::row::{Content, Layout, Row, Turn};
use super::set::{TextExample, TextSet};
use super::spans;
use crate::config::{TextDataSettings, TrainOn};
use crate::text::{ChatError, ChatTemplate, Clock, TextTokenizer};

/// Ids, each with the bytes of the text that it stands for.
type Tokens = Vec<(u32, Range<usize>)>;

/// All `rows` as token ids. `clock` is what a chat template that asks for the date is told; the same
/// time gives the same ids.
pub fn encode(
    rows: &RowSet,
    tokenizer: &TextTokenizer,
    clock: Clock,
    settings: &TextDataSettings,
) -> Result<TextSet, TextDataError> {
    let encoder = Encoder::new(rows.layout, tokenizer, clock, settings);
    let encoded: Vec<(usize, Result<Encoded, Fault>)> =
        rows.rows.par_iter().map(|row| (row.line, encoder.row(row))).collect();
    let mut set = TextSet {
        layout: rows.layout,
        examples: Vec::with_capacity(encoded.len()),
        truncated: 0,
        truncated_tokens: 0,
        notes: encoder.notes(),
    };
    let bare = |row: &Row| matches!(row.content, Content::Completion { .. });
    if encoder.template.is_ok() && rows.rows.iter().any(bare) {
        set.notes.push(
            "rows of `prompt` and `completion` are taken as they stand, without the model's chat template: write `messages` for answers in a chat (`chat: true` in a suite)".to_owned(),
        );
    }
    let mut problems = Vec::new();
    for (line, encoded) in encoded {
        match encoded {
            Ok(encoded) => {
                set.truncated += usize::from(encoded.cut > 0);
                set.truncated_tokens += encoded.cut;
                set.examples.push(encoded.example);
            }
            Err(fault) => problems.push(Problem { line, fault }),
        }
    }
    TextDataError::of(&rows.path, problems)?;
    if set.examples.is_empty() {
        return Err(TextDataError::NoRows { path: rows.path.clone() });
    }
    Ok(set)
}

/// A row as token ids, and what did not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The example.
    pub example: TextExample,
    /// How many tokens were cut off.
    pub cut: usize,
}

/// Turns rows of one layout into token ids.
#[derive(Debug)]
pub struct Encoder<'a> {
    layout: Layout,
    tokenizer: &'a TextTokenizer,
    template: Result<ChatTemplate, ChatError>,
    settings: &'a TextDataSettings,
    /// What ends a text or a completion.
    eos: Option<u32>,
}

impl<'a> Encoder<'a> {
    /// For rows of `layout`; a model without a chat template is no error before a row needs it.
    pub fn new(
        layout: Layout,
        tokenizer: &'a TextTokenizer,
        clock: Clock,
        settings: &'a TextDataSettings,
    ) -> Self {
        let named = tokenizer.special_token("eos_token").and_then(|token| tokenizer.id(token));
        let eos = named.or_else(|| tokenizer.eos_ids().first().copied());
        let template = tokenizer.chat_template(clock);
        Self { layout, tokenizer, template, settings, eos }
    }

    /// What a user should know about how rows are written.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let plain = self.template_or_plain().is_ok_and(|template| template.is_none());
        if plain {
            notes.push(format!(
                "the model has no chat template: rows of {} are written as plain text, a line end before the answer",
                self.layout
            ));
        }
        let ends = plain || matches!(self.layout, Layout::PromptCompletion | Layout::Text);
        if ends && self.settings.append_eos && self.eos.is_none() {
            notes.push("the tokenizer has no end-of-text token: none is appended".to_owned());
        }
        notes
    }

    /// One row as token ids, at most `max_length`, at least one of them learnt.
    pub fn row(&self, row: &Row) -> Result<Encoded, Fault> {
        let (mut tokens, mut trained): (Vec<u32>, Vec<bool>) = match &row.content {
            Content::Text(text) => self.continued("", text)?,
            Content::Completion { prompt, completion } => self.continued(prompt, completion)?,
            Content::Chat(turns) => {
                if let Some(template) = self.template_or_plain()? {
                    self.chat(template, turns)?
                } else {
                    let (prompt, answer) = plain(turns);
                    self.continued(&prompt, answer)?
                }
            }
        }
        .into_iter()
        .unzip();
        let cut = tokens.len().saturating_sub(self.settings.max_length);
        tokens.truncate(self.settings.max_length);
        trained.truncate(self.settings.max_length);
        if let Some(first) = trained.first_mut() {
            *first = false;
        }
        if !trained.contains(&true) {
            return Err(Fault::NothingLearnt { tokens: tokens.len(), cut });
        }
        Ok(Encoded { example: TextExample { line: row.line, tokens, trained }, cut })
    }

    /// The chat template; `None` for questions and answers of a model without one.
    fn template_or_plain(&self) -> Result<Option<&ChatTemplate>, Fault> {
        match &self.template {
            Ok(template) => Ok(Some(template)),
            Err(ChatError::NoTemplate { .. }) if self.layout.is_question() => Ok(None),
            Err(error) => Err(Fault::from_chat(error)),
        }
    }

    /// `prompt` and its `completion` as one text. A token that has a part in both is learnt.
    fn continued(&self, prompt: &str, completion: &str) -> Result<Vec<(u32, bool)>, Fault> {
        let text = format!("{prompt}{completion}");
        let mut tokens: Tokens = self.tokenizer.encode_with_offsets(&text, true)?;
        let has_end = |tokens: &Tokens| tokens.last().map(|(id, _)| *id) == self.eos;
        if let Some(eos) = self.eos.filter(|_| self.settings.append_eos && !has_end(&tokens)) {
            tokens.push((eos, text.len()..text.len()));
        }
        let given = match self.settings.train_on {
            TrainOn::All => 0,
            TrainOn::Answers => tokens.iter().take_while(|(_, at)| at.end <= prompt.len()).count(),
        };
        Ok(tokens.iter().enumerate().map(|(number, (id, _))| (*id, number >= given)).collect())
    }

    /// A conversation in the words of the template, which has written its special tokens.
    fn chat(&self, template: &ChatTemplate, turns: &[Turn]) -> Result<Vec<(u32, bool)>, Fault> {
        let text = template.render(&spans::messages(turns), false)?;
        let tokens = self.tokenizer.encode_with_offsets(&text, false)?;
        let trained = match self.settings.train_on {
            TrainOn::All => vec![true; tokens.len()],
            TrainOn::Answers => {
                let spans = spans::learnt(template, turns, &text)?;
                spans::mark(&tokens, &spans, self.tokenizer.eos_ids())?
            }
        };
        Ok(tokens.into_iter().map(|(id, _)| id).zip(trained).collect())
    }
}

/// A question and its answer for a model without a chat template: every message on lines of its own,
/// the last one learnt.
fn plain(turns: &[Turn]) -> (String, &str) {
    let Some((answer, given)) = turns.split_last() else { return (String::new(), "") };
    let lines: Vec<String> =
        given.iter().map(|turn| format!("{}\n", turn.message.content)).collect();
    (lines.concat(), &answer.message.content)
}
