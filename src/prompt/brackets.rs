//! Which brackets are a schedule. The grammar is that of the `WebUI`:
//!
//! ```text
//! text      = ( group | `[` | `]` | `(` | `)` | `:` | words )*
//! run       = ( group | words )*                              words: no ()[]:| unless after a backslash
//! group     = `(` run `)` | `(` run `:` run `)` | `[` run `]` | switch | alternate
//! switch    = `[` ( run `:` )? run `:` space? number space? `]`
//! alternate = `[` run ( `|` run )+ `]`
//! ```
//!
//! A group always wins over the same brackets read as literals. A text that does not fit, because of a `|`
//! outside of an alternate or a backslash that escapes nothing, is taken as it is, without any schedule.

use super::error::PromptError;
use super::place::{Locator, Span};
use super::scan::{is_space, leading_number};
use super::schedule::MAX_SCHEDULE_DEPTH;

/// A schedule or an alternation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
    depth: usize,
}

impl Node {
    pub(super) fn runs(&self) -> Vec<&Run> {
        match &self.kind {
            Kind::Switch { from, to, .. } => from.iter().chain([to]).collect(),
            Kind::Alternate(options) => options.iter().collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Switch { from: Option<Run>, to: Run, when: When },
    Alternate(Vec<Run>),
}

/// A piece of the text that is written, or not, as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) span: Span,
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct When {
    pub(super) value: f64,
    pub(super) fraction: bool,
}

impl When {
    /// Reads what stands after the last colon: a number, with spaces around it or not.
    fn parse(text: &str) -> Option<Self> {
        let number = text.trim_matches(is_space);
        if leading_number(number)? != number.len() {
            return None;
        }
        Some(Self { value: number.parse().ok()?, fraction: number.contains('.') })
    }

    /// The last step of `from`, none where that is before the first step.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers of steps are small, and the cast is meant to truncate and to saturate"
    )]
    pub(super) fn last_step(self, steps: usize) -> Option<usize> {
        let end = if self.fraction { self.value * steps as f64 } else { self.value };
        (end >= 0.0).then(|| (end as usize).min(steps))
    }
}

/// Finds the outermost schedules of a text, those inside them within, and whether the text fits the grammar.
pub(super) fn read(text: &str) -> Result<(Vec<Node>, bool), PromptError> {
    let mut reader = Reader::new(text);
    reader.read()?;
    Ok(reader.finish())
}

/// A bracket that is still open.
#[derive(Debug)]
struct Frame {
    open: usize,
    square: bool,
    colons: Vec<usize>,
    pipes: Vec<usize>,
    /// How many nodes were there before it.
    first: usize,
}

#[derive(Debug)]
struct Reader<'t> {
    text: &'t str,
    stack: Vec<Frame>,
    /// The outermost schedules so far; those inside a bracket that becomes one move into it.
    nodes: Vec<Node>,
    /// Whether nothing has been met so far that has no place in the grammar.
    fits: bool,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, stack: Vec::new(), nodes: Vec::new(), fits: true }
    }

    fn read(&mut self) -> Result<(), PromptError> {
        let mut bytes = self.text.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => self.fits &= !matches!(bytes.next(), None | Some((_, b'\n'))),
                b'(' | b'[' => self.stack.push(Frame {
                    open: at,
                    square: byte == b'[',
                    colons: Vec::new(),
                    pipes: Vec::new(),
                    first: self.nodes.len(),
                }),
                b')' | b']' => self.close(at, byte == b']')?,
                b':' => {
                    if let Some(frame) = self.stack.last_mut() {
                        frame.colons.push(at);
                    }
                }
                b'|' => match self.stack.last_mut() {
                    Some(frame) => frame.pipes.push(at),
                    None => self.fits = false,
                },
                _ => {}
            }
        }
        Ok(())
    }

    fn close(&mut self, at: usize, square: bool) -> Result<(), PromptError> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let span = frame.open..at + 1;
        let inside = frame.open + 1..at;
        let when = frame.colons.last().and_then(|colon| When::parse(&self.text[colon + 1..at]));
        match (frame.square, frame.colons.len(), frame.pipes.len(), when) {
            _ if frame.square != square => self.all_literal(&frame),
            (false, 0 | 1, 0, _) | (true, 0, 0, _) => {} // emphasis leaves what is inside where it is
            (true, 0, 1.., _) => {
                let options = cut(inside, &frame.pipes, self.nodes.split_off(frame.first));
                self.push(span, Kind::Alternate(options))?;
            }
            (true, 1 | 2, 0, Some(when)) => {
                let mut runs = cut(inside, &frame.colons, self.nodes.split_off(frame.first));
                runs.pop(); // the number
                if let (Some(to), from) = (runs.pop(), runs.pop()) {
                    self.push(span, Kind::Switch { from, to, when })?;
                }
            }
            _ => self.all_literal(&frame),
        }
        Ok(())
    }

    fn push(&mut self, span: Span, kind: Kind) -> Result<(), PromptError> {
        let mut node = Node { span, kind, depth: 1 };
        let inside = node.runs().into_iter().flat_map(|run| &run.nodes);
        node.depth += inside.map(|node| node.depth).max().unwrap_or(0);
        if node.depth > MAX_SCHEDULE_DEPTH {
            return Err(PromptError::ScheduleTooDeep {
                at: Locator::new(self.text).place(node.span),
            });
        }
        self.nodes.push(node);
        Ok(())
    }

    /// Makes a bracket and all that are open around it literals: none of them can be part of a group any more.
    fn all_literal(&mut self, inner: &Frame) {
        self.fits &=
            inner.pipes.is_empty() && self.stack.iter().all(|frame| frame.pipes.is_empty());
        self.stack.clear();
    }

    fn finish(mut self) -> (Vec<Node>, bool) {
        if let Some(frame) = self.stack.pop() {
            self.all_literal(&frame);
        }
        (self.nodes, self.fits)
    }
}

/// Cuts a span at separators of one byte, and gives each piece the nodes that lie in it.
fn cut(span: Span, separators: &[usize], nodes: Vec<Node>) -> Vec<Run> {
    let mut nodes = nodes.into_iter().peekable();
    let mut start = span.start;
    let mut runs = Vec::with_capacity(separators.len() + 1);
    for end in separators.iter().copied().chain([span.end]) {
        let inside = std::iter::from_fn(|| nodes.next_if(|node| node.span.end <= end)).collect();
        runs.push(Run { span: start..end, nodes: inside });
        start = end + 1;
    }
    runs
}
