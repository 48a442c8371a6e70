//! Chat templates, rendered as `transformers` (v5) renders them with Jinja.
//!
//! - [`ChatTemplate`]: a compiled template with the model's special tokens
//! - [`Message`]: one turn; a system prompt is a message like any other
//! - [`Clock`]: what `strftime_now` answers with
//!
//! A template sees `messages`, `add_generation_prompt`, `tools` and `documents` (none), and the
//! special tokens that the model has (`bos_token`, `eos_token`, …); everything else is undefined.
//!
//! Templates are untrusted: the work, the memory, the depth and the length of the result are
//! bounded, and they reach nothing but their variables. One way round the bound on work remains in
//! the engine: a list doubled many times over (`[a, a]`, `a + a`) and then compared (`==`), added or
//! joined to text (`~`, `|string`) takes time that grows with two to the power of the doublings.

mod clock;
mod environment;
mod error;
mod json;
mod methods;
mod tags;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use clock::Clock;
use environment::{MARKED, MARKS};
pub use error::ChatError;
use minijinja::{Environment, Value};

/// Longest template in bytes; the longest published ones have about 100 kB.
const LONGEST_TEMPLATE: usize = 4 << 20;
/// Longest rendered conversation in bytes.
const LONGEST_RESULT: usize = 64 << 20;
/// Stack of the compiler in bytes, enough for the longest expression that is let through.
const STACK: usize = 64 << 20;
/// The one name in the environment.
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    fn value(&self) -> Value {
        Value::from_pairs([("role", self.role.as_str()), ("content", self.content.as_str())])
    }
}

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Environment<'static>,
    special: BTreeMap<String, String>,
    /// Whether it marks the assistant's own words.
    marks: bool,
}

impl ChatTemplate {
    /// Compiles `source`; `path` names it in errors. `special` are the model's special tokens by
    /// their names (`bos_token`, …); a token that the model lacks is left out.
    pub fn new(
        path: &Path,
        source: &str,
        special: BTreeMap<String, String>,
        clock: Clock,
    ) -> Result<Self, ChatError> {
        if source.len() > LONGEST_TEMPLATE {
            let problem = format!(
                "a template of {} bytes, at most {LONGEST_TEMPLATE} are read",
                source.len()
            );
            return Err(ChatError::Template { path: path.to_owned(), line: 1, problem });
        }
        let wrong = |line, problem| ChatError::Template { path: path.to_owned(), line, problem };
        let source = tags::prepare(source).map_err(|(line, problem)| wrong(line, problem))?;
        let marks = source.contains(tags::FILTER);
        let compile = || {
            let mut environment = environment::new(clock)?;
            environment.add_template_owned(NAME, source)?;
            Ok(environment)
        };
        // The compiler calls itself for every level of an expression.
        let compiled = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, compile);
            thread.map(|thread| thread.join().ok())
        });
        let environment = match compiled {
            Ok(Some(compiled)) => compiled.map_err(|e| ChatError::new(path, &e))?,
            Ok(None) => return Err(wrong(1, "the compiler gave up".to_owned())),
            Err(e) => return Err(wrong(1, format!("cannot start the compiler ({e})"))),
        };
        Ok(Self { path: path.to_owned(), environment, special, marks })
    }

    /// The conversation as one text. With `add_generation_prompt` it ends where the assistant is
    /// to go on. Encode it without adding special tokens: the template has written them.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        self.write(messages, add_generation_prompt, false)
    }

    /// The bytes of a finished conversation, as [`ChatTemplate::render`] writes it, that the template
    /// marks as the assistant's own words (`{% generation %}`), in their order. `None` if it marks
    /// none, or goes on to change what it has marked.
    pub fn generation_spans(
        &self,
        messages: &[Message],
    ) -> Result<Option<Vec<Range<usize>>>, ChatError> {
        if !self.marks || messages.iter().any(|message| message.content.contains(MARKS)) {
            return Ok(None);
        }
        let (mut text, mut spans, mut start) = (String::new(), Vec::new(), None);
        for c in self.write(messages, false, true)?.chars() {
            match (MARKS.iter().position(|mark| *mark == c), start) {
                (None, _) => text.push(c),
                (Some(0), None) => start = Some(text.len()),
                (Some(1), Some(begin)) => {
                    spans.push(begin..text.len());
                    start = None;
                }
                _ => return Ok(None),
            }
        }
        let whole = start.is_none() && text == self.render(messages, false)?;
        Ok(whole.then_some(spans))
    }

    fn write(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        marked: bool,
    ) -> Result<String, ChatError> {
        let mut context: BTreeMap<&str, Value> =
            self.special.iter().map(|(name, token)| (name.as_str(), token.into())).collect();
        context.insert("messages", messages.iter().map(Message::value).collect());
        context.insert("add_generation_prompt", add_generation_prompt.into());
        context.insert(MARKED, marked.into());
        context.insert("tools", ().into());
        context.insert("documents", ().into());
        let mut result = Bounded(Vec::new());
        let template = self.environment.get_template(NAME);
        template
            .and_then(|template| template.render_captured_to(context, &mut result).map(drop))
            .map_err(|e| ChatError::new(&self.path, &e))?;
        String::from_utf8(result.0).map_err(|e| ChatError::Template {
            path: self.path.clone(),
            line: 1,
            problem: format!("the result is not UTF-8 ({e})"),
        })
    }
}

/// Output that refuses to grow beyond all use.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_RESULT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
