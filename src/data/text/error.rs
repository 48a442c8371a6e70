use std::io;
use std::path::{Path, PathBuf};

use super::row::Layout;
use crate::base::hint::first_few;
use crate::base::terminal::printable;
use crate::text::{ChatError, TextError};

/// Why a file of texts cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum TextDataError {
    /// The operating system refused.
    #[error("{}: {source}\nhint: name a JSONL, JSON or CSV file, or a folder with `train.jsonl`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More bytes than are read.
    #[error("{}: larger than {most} bytes\nhint: split it, or take a part of its rows", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        most: u64,
    },
    /// A file of another kind.
    #[error("{}: {found}: expected rows as JSONL, JSON or CSV\nhint: {hint}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// How to make rows of it.
        hint: &'static str,
    },
    /// A folder without a file that is clearly meant.
    #[error(
        "{}: expected `train.jsonl` or one file of rows, found {}\nhint: name the file itself",
        path.display(), if found.is_empty() { "none".to_owned() } else { first_few(found) }
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The files of rows in it.
        found: Vec<String>,
    },
    /// The first row has the keys of no layout.
    #[error(
        "{}:{line}: unknown layout: expected {}; found {}\nhint: {hint}",
        path.display(), Layout::expected(), keys_of(keys)
    )]
    UnknownLayout {
        /// The file.
        path: PathBuf,
        /// The row's line.
        line: usize,
        /// Its keys.
        keys: Vec<String>,
        /// The nearest layout, or what to write.
        hint: String,
    },
    /// Nothing in it.
    #[error("{}: no rows\nhint: write one JSON object a line, such as {{\"prompt\": \"…\", \"completion\": \"…\"}}", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// Rows that cannot be used.
    #[error("{}:{}: {}{}\nhint: {}", path.display(), first.line, first.fault, others(*more), first.fault.hint())]
    Rows {
        /// The file.
        path: PathBuf,
        /// The first of them.
        first: Box<Problem>,
        /// How many there are beside it.
        more: usize,
    },
}

impl TextDataError {
    /// The error that `problems` are, if there are any.
    pub(super) fn of(path: &Path, problems: Vec<Problem>) -> Result<(), Self> {
        let more = problems.len().saturating_sub(1);
        match problems.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Self::Rows { path: path.to_owned(), first: Box::new(first), more }),
        }
    }
}

/// A row that cannot be used.
#[derive(Debug)]
pub struct Problem {
    /// The line where it begins, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a row.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no text.
    #[error("not UTF-8: byte {byte} of the {of} is `0x{value:02x}`")]
    NotUtf8 {
        /// `line` or `cell`.
        of: &'static str,
        /// Which byte of it, from 1.
        byte: usize,
        /// Its value.
        value: u8,
    },
    /// A line beyond all use.
    #[error("a row of {bytes} bytes: at most {most} are read")]
    Long {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// Not JSON.
    #[error("not valid JSON: {problem}")]
    Json {
        /// What the parser says, with the column.
        problem: String,
    },
    /// Not CSV.
    #[error("not valid CSV: {problem}")]
    Csv {
        /// What is wrong.
        problem: String,
    },
    /// A row without a key of the layout.
    #[error("no `{missing}`: found {}, the file's layout is {layout}", keys_of(keys))]
    Layout {
        /// The layout of the file.
        layout: Layout,
        /// The key that is not there.
        missing: &'static str,
        /// Those that are.
        keys: Vec<String>,
    },
    /// A value of the wrong kind.
    #[error("`{key}` is {found}: expected {expected}")]
    Value {
        /// The key, as `messages[2].content`.
        key: String,
        /// What is there.
        found: &'static str,
        /// What may be there.
        expected: &'static str,
    },
    /// A speaker that is not known.
    #[error(
        "`{key}` is `{}`: expected `human`, `gpt`, `system`, `observation` or `function_call`",
        printable(found)
    )]
    Speaker {
        /// The key.
        key: String,
        /// The speaker.
        found: String,
    },
    /// Nothing but spaces where a text must be.
    #[error("`{key}` is empty")]
    Empty {
        /// The key.
        key: String,
    },
    /// No token whose loss counts: its mean would be 0/0.
    #[error("no token is learnt: {}", nothing(*tokens, *cut))]
    NothingLearnt {
        /// Tokens that the row has.
        tokens: usize,
        /// Tokens that were cut off.
        cut: usize,
    },
    /// A chat template that does not say where a turn stands.
    #[error(
        "turn {turn}: the chat template writes the beginning of a conversation differently once it goes on, so the assistant's words cannot be told from the others"
    )]
    Prefix {
        /// The assistant's turn, from 1.
        turn: usize,
    },
    /// The chat template cannot be used, or refuses the row.
    #[error("{message}")]
    Chat {
        /// What it says.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The tokenizer failed.
    #[error("{message}")]
    Tokenizer {
        /// What it says.
        message: String,
        /// What to do.
        hint: String,
    },
}

impl Fault {
    /// What to do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::NotUtf8 { .. } => "save the file as UTF-8",
            Self::Long { .. } => "split the row into several",
            Self::Json { .. } => {
                "write one JSON object a line, with line ends in texts as `\\n`; a list of objects also needs `[` and `]` around it"
            }
            Self::Csv { .. } => {
                "put cells with commas, quotes or line ends in double quotes, and double the quotes in them"
            }
            Self::Layout { .. } => "all rows of a file have the layout of its first row",
            Self::Value { .. } => "correct the value, or remove the row",
            Self::Speaker { .. } => "write one of these",
            Self::Empty { .. } => "write the text, or remove the row",
            Self::NothingLearnt { cut: 0, .. } => {
                "add a turn of the assistant, remove the row, or set `train_on: all`"
            }
            Self::NothingLearnt { .. } => "raise `max_length`, or shorten or remove the row",
            Self::Prefix { .. } => {
                "set `train_on: all`, or write rows of `prompt` and `completion` with one answer each"
            }
            Self::Chat { hint, .. } | Self::Tokenizer { hint, .. } => hint,
        }
    }
}

impl Fault {
    /// What `error` says, for a row.
    pub(super) fn from_chat(error: &ChatError) -> Self {
        let (message, hint) = split(&error.to_string());
        let hint = match error {
            ChatError::NoTemplate { .. } => {
                "take a chat model, fetch its `chat_template.jinja`, or write rows of `prompt` and `completion`".to_owned()
            }
            _ => hint,
        };
        Self::Chat { message, hint }
    }
}

impl From<ChatError> for Fault {
    fn from(error: ChatError) -> Self {
        Self::from_chat(&error)
    }
}

impl From<TextError> for Fault {
    fn from(error: TextError) -> Self {
        let (message, hint) = split(&error.to_string());
        Self::Tokenizer { message, hint }
    }
}

/// An error's message and its hint.
fn split(text: &str) -> (String, String) {
    let (message, hint) = text.split_once("\nhint: ").unwrap_or((text, "remove the row"));
    (message.to_owned(), hint.to_owned())
}

fn keys_of(keys: &[String]) -> String {
    if keys.is_empty() { "no keys".to_owned() } else { first_few(keys) }
}

fn others(more: usize) -> String {
    match more {
        0 => String::new(),
        1 => " (and one more row with a problem)".to_owned(),
        more => format!(" (and {more} more rows with problems)"),
    }
}

fn nothing(tokens: usize, cut: usize) -> String {
    if cut == 0 {
        return format!("there is no answer in its {tokens} tokens");
    }
    format!(
        "what comes before the answer fills the {tokens} tokens of `max_length`, {cut} were cut off"
    )
}
