//! What a template finds around it: Jinja as `transformers` sets it up, with limits.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

use super::clock::Clock;
use super::{json, methods, tags};

/// About one instruction or 64 bytes of data each: 256 MB of strings at most.
const FUEL: u64 = 4_000_000;
/// Deepest nesting of blocks, macros and values.
const DEPTH: usize = 200;

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub String);

pub(super) fn new(clock: Clock) -> Result<Environment<'static>, Error> {
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(false)
        .build()?;
    let mut environment = Environment::new();
    environment.set_debug(false);
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", json::filter);
    environment.add_filter("trim", trim);
    environment.add_filter(tags::FILTER, marks);
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", raise);
    environment.add_function("strftime_now", move |format: &str| {
        clock.strftime(format).map_err(|e| Error::new(ErrorKind::InvalidOperation, e))
    });
    Ok(environment)
}

fn raise(message: &Value) -> Result<Value, Error> {
    let message = message.to_string();
    Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(Raised(message)))
}

/// A variable that is true where the assistant's own words are to be marked.
pub(super) const MARKED: &str = "generation_marked";
/// What stands before and after them: characters that no text has.
pub(super) const MARKS: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// The assistant's own words, marked if that was asked for.
fn marks(state: &State, words: Value) -> Value {
    if state.lookup(MARKED).is_some_and(|marked| marked.is_true()) {
        let [before, after] = MARKS;
        return Value::from(format!("{before}{words}{after}"));
    }
    words
}

/// Jinja's `trim` is Python's `strip`, whose spaces are not quite Unicode's.
#[expect(clippy::needless_pass_by_value, reason = "the engine passes it so")]
fn trim(value: &Value, chars: Option<&str>, kwargs: Kwargs) -> Result<String, Error> {
    let chars = chars.or(kwargs.get("chars")?);
    kwargs.assert_all_used()?;
    let text = value.to_string();
    Ok(methods::strip(&text, chars, true, true).to_owned())
}

/// In Python, text and mappings have a length and can be indexed too.
fn is_sequence(_: &State, value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined
    ) || (value.kind() == ValueKind::Iterable && value.len().is_some())
}
