//! Layouts of rows, and a row's texts.

use std::fmt;

use serde_json::{Map, Value};

use super::error::Fault;
use super::json::kind;
use crate::text::Message;

/// Most messages of a conversation: finding the assistant's turns takes time with their square.
const MOST_MESSAGES: usize = 2000;

/// A JSON object, or a record of a CSV file.
pub(super) type Object = Map<String, Value>;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line where it begins, from 1.
    pub line: usize,
    /// Its texts.
    pub content: Content,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A text, all of which is learnt.
    Text(String),
    /// A beginning and what is to follow it.
    Completion {
        /// What is given.
        prompt: String,
        /// What is learnt.
        completion: String,
    },
    /// A conversation.
    Chat(Vec<Turn>),
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who says what.
    pub message: Message,
    /// Whether it is learnt: the assistant's are, but not those of a `prompt` and those with `weight` 0.
    pub learnt: bool,
}

/// How a file's rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `messages`: each with `role` and `content`.
    Messages,
    /// `conversations`: each with `from` and `value` (`ShareGPT`).
    Conversations,
    /// `prompt` and `completion`: texts or lists of messages.
    PromptCompletion,
    /// `instruction`, perhaps `input`, `system` and `history`, and `output` (Alpaca).
    InstructionOutput,
    /// `instruction`, perhaps `context`, and `response` (Dolly).
    InstructionResponse,
    /// `question` and `answer`.
    QuestionAnswer,
    /// `article` and `summary`.
    ArticleSummary,
    /// `text`.
    Text,
}

impl Layout {
    /// All, the ones that say more before those that say less.
    pub const ALL: [Self; 8] = [
        Self::Messages,
        Self::Conversations,
        Self::PromptCompletion,
        Self::InstructionOutput,
        Self::InstructionResponse,
        Self::QuestionAnswer,
        Self::ArticleSummary,
        Self::Text,
    ];

    /// The keys that every row has.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Messages => &["messages"],
            Self::Conversations => &["conversations"],
            Self::PromptCompletion => &["prompt", "completion"],
            Self::InstructionOutput => &["instruction", "output"],
            Self::InstructionResponse => &["instruction", "response"],
            Self::QuestionAnswer => &["question", "answer"],
            Self::ArticleSummary => &["article", "summary"],
            Self::Text => &["text"],
        }
    }

    /// Whether a row is a question and its answer: one turn each where the model has a chat template,
    /// else two texts.
    pub fn is_question(self) -> bool {
        !matches!(self, Self::Messages | Self::Conversations | Self::PromptCompletion | Self::Text)
    }

    /// All layouts, for errors.
    pub(super) fn expected() -> String {
        let all: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
        all.join(", ")
    }

    /// The first layout whose keys `object` has.
    pub(super) fn of(object: &Object) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.missing(object).is_none())
    }

    fn missing(self, object: &Object) -> Option<&'static str> {
        self.keys().iter().copied().find(|key| value(object, key).is_none())
    }

    /// The texts of a row of this layout.
    pub(super) fn read(self, object: &Object) -> Result<Content, Fault> {
        match self.content(object)? {
            Content::Chat(turns) if turns.len() > MOST_MESSAGES => Err(Fault::Value {
                key: self.keys().first().copied().unwrap_or_default().to_owned(),
                found: "a conversation of very many messages",
                expected: "at most 2000",
            }),
            content => Ok(content),
        }
    }

    fn content(self, object: &Object) -> Result<Content, Fault> {
        if let Some(missing) = self.missing(object) {
            let keys = object.keys().cloned().collect();
            return Err(Fault::Layout { layout: self, missing, keys });
        }
        match self {
            Self::Messages => Ok(Content::Chat(turns(object, "messages", true)?)),
            Self::Conversations => {
                let mut all = system(object)?;
                all.extend(turns(object, "conversations", true)?);
                Ok(Content::Chat(all))
            }
            Self::PromptCompletion => completion(object),
            Self::InstructionOutput => question(object, "instruction", "output"),
            Self::InstructionResponse => question(object, "instruction", "response"),
            Self::QuestionAnswer => question(object, "question", "answer"),
            Self::ArticleSummary => question(object, "article", "summary"),
            Self::Text => Ok(Content::Text(filled(object, "text")?.to_owned())),
        }
    }
}

/// Its keys in backticks.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.keys().join("`+`"))
    }
}

/// The value of a key; tables write `null` where there is none.
fn value<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn text(value: &Value, key: impl FnOnce() -> String) -> Result<&str, Fault> {
    value.as_str().ok_or_else(|| Fault::Value { key: key(), found: kind(value), expected: "text" })
}

/// A text that must be there.
fn filled<'a>(object: &'a Object, key: &str) -> Result<&'a str, Fault> {
    let empty = || Fault::Empty { key: key.to_owned() };
    let text = text(value(object, key).ok_or_else(empty)?, || key.to_owned())?;
    if text.trim().is_empty() { Err(empty()) } else { Ok(text) }
}

/// A text that may be missing or empty.
fn optional<'a>(object: &'a Object, key: &str) -> Result<Option<&'a str>, Fault> {
    let found = value(object, key).map(|value| text(value, || key.to_owned())).transpose()?;
    Ok(found.filter(|text| !text.trim().is_empty()))
}

fn turn(role: &str, content: &str) -> Turn {
    Turn { message: Message::new(role, content), learnt: role == "assistant" }
}

/// The system prompt that stands beside a conversation.
fn system(object: &Object) -> Result<Vec<Turn>, Fault> {
    Ok(optional(object, "system")?.map(|text| turn("system", text)).into_iter().collect())
}

fn completion(object: &Object) -> Result<Content, Fault> {
    let is_list = |key| value(object, key).is_some_and(Value::is_array);
    if is_list("prompt") {
        let mut all = turns(object, "prompt", false)?;
        all.extend(turns(object, "completion", true)?);
        return Ok(Content::Chat(all));
    }
    // An empty prompt is one: the completion follows nothing.
    let prompt = value(object, "prompt").map(|value| text(value, || "prompt".to_owned()));
    let prompt = prompt.transpose()?.unwrap_or_default().to_owned();
    Ok(Content::Completion { prompt, completion: filled(object, "completion")?.to_owned() })
}

/// A question, with what it is about on further lines as LLaMA-Factory has it, and its answer.
fn question(object: &Object, question: &str, answer: &str) -> Result<Content, Fault> {
    let mut all = system(object)?;
    let history = value(object, "history").filter(|value| value.as_str() != Some(""));
    if let Some(history) = history {
        all.extend(earlier(history)?);
    }
    let mut asked = filled(object, question)?.to_owned();
    for key in ["input", "context"] {
        if let Some(more) = optional(object, key)? {
            asked = format!("{asked}\n{more}");
        }
    }
    all.push(turn("user", &asked));
    all.push(turn("assistant", filled(object, answer)?));
    Ok(Content::Chat(all))
}

/// Alpaca's `history`: pairs of a question and its answer.
fn earlier(history: &Value) -> Result<Vec<Turn>, Fault> {
    let wrong = |key: String, found| Fault::Value {
        key,
        found: kind(found),
        expected: "a list of pairs of texts",
    };
    let pairs = history.as_array().ok_or_else(|| wrong("history".to_owned(), history))?;
    let mut all = Vec::with_capacity(2 * pairs.len());
    for (index, pair) in pairs.iter().enumerate() {
        let both = pair.as_array().and_then(|pair| match pair.as_slice() {
            [asked, said] => Some((asked.as_str()?, said.as_str()?)),
            _ => None,
        });
        let (asked, said) = both.ok_or_else(|| wrong(format!("history[{index}]"), pair))?;
        all.extend([turn("user", asked), turn("assistant", said)]);
    }
    Ok(all)
}

/// A list of messages, in OpenAI's keys or in `ShareGPT`'s.
fn turns(object: &Object, key: &str, learnt: bool) -> Result<Vec<Turn>, Fault> {
    let found = value(object, key).unwrap_or(&Value::Null);
    let list = found.as_array().ok_or_else(|| Fault::Value {
        key: key.to_owned(),
        found: kind(found),
        expected: "a list of messages",
    })?;
    let mut all = Vec::with_capacity(list.len());
    for (index, message) in list.iter().enumerate() {
        let mut turn = one_turn(message, &format!("{key}[{index}]"))?;
        turn.learnt &= learnt;
        all.push(turn);
    }
    if all.iter().all(|turn| turn.message.content.trim().is_empty()) {
        return Err(Fault::Empty { key: key.to_owned() });
    }
    Ok(all)
}

fn one_turn(message: &Value, key: &str) -> Result<Turn, Fault> {
    let wrong = |key: String, found, expected| Fault::Value { key, found: kind(found), expected };
    let object = message
        .as_object()
        .ok_or_else(|| wrong(key.to_owned(), message, "an object with `role` and `content`"))?;
    if let Some(calls) = value(object, "tool_calls")
        && calls.as_array().is_none_or(|calls| !calls.is_empty())
    {
        let expected = "none; spell calls out in `content`";
        return Err(wrong(format!("{key}.tool_calls"), calls, expected));
    }
    let field = |name: &str| value(object, name).unwrap_or(&Value::Null);
    let role = match value(object, "role") {
        Some(role) => text(role, || format!("{key}.role"))?,
        None => speaker(text(field("from"), || format!("{key}.role"))?, || format!("{key}.from"))?,
    };
    let name = if value(object, "content").is_none() && value(object, "value").is_some() {
        "value"
    } else {
        "content"
    };
    let said = match field(name) {
        Value::Array(parts) => joined(parts, &format!("{key}.{name}"))?,
        said => text(said, || format!("{key}.{name}"))?.to_owned(),
    };
    let mut turn = turn(role, &said);
    turn.learnt &= value(object, "weight").and_then(Value::as_f64) != Some(0.0);
    Ok(turn)
}

/// The role that `ShareGPT`'s `from` stands for.
fn speaker(from: &str, key: impl FnOnce() -> String) -> Result<&'static str, Fault> {
    match from {
        "human" | "user" => Ok("user"),
        "gpt" | "assistant" | "chatgpt" | "bot" | "model" | "function_call" => Ok("assistant"),
        "system" => Ok("system"),
        "observation" | "tool" => Ok("tool"),
        found => Err(Fault::Speaker { key: key(), found: found.to_owned() }),
    }
}

/// The texts of a content in parts.
fn joined(parts: &[Value], key: &str) -> Result<String, Fault> {
    let mut all = String::new();
    for (index, part) in parts.iter().enumerate() {
        let said = part.get("text").and_then(Value::as_str);
        all.push_str(said.ok_or_else(|| Fault::Value {
            key: format!("{key}[{index}]"),
            found: kind(part),
            expected: "a part with `text`; there are no pictures in texts",
        })?);
    }
    Ok(all)
}
