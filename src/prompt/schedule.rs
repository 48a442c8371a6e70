//! Schedules: `[from:to:when]`, `[to:when]`, `[from::when]`, and `[a|b|c]`.
//!
//! `when` is the last step of `from`. A number with a point is a fraction of all steps, another one is a
//! step. `[a|b|c]` takes the next option at each step. Both nest, inside emphasis as well.
//!
//! Which brackets are a schedule is decided in `brackets`.

use serde::Serialize;

use super::brackets::{Kind, Node, Run, read};
use super::error::PromptError;
use super::place::Span;

/// How deep schedules may nest. The `WebUI` gives up at some hundreds, with a traceback.
pub const MAX_SCHEDULE_DEPTH: usize = 64;

/// The schedule of a text: [`schedule`] gives the text for each range of steps.
///
/// # Errors
/// [`PromptError::ScheduleTooDeep`], with its place in `text`.
pub fn schedule(text: &str, steps: usize) -> Result<Vec<(usize, String)>, PromptError> {
    Ok(Schedule::parse(text)?.at(steps))
}

/// `[from:to:when]`, as it was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Switch {
    /// The text up to the moment; empty where only `[to:when]` is written.
    pub from: String,
    /// The text after it.
    pub to: String,
    /// The moment.
    pub when: f64,
    /// Whether `when` is a fraction of all steps rather than a step.
    pub fraction: bool,
}

/// One change of the text over the steps, as it was written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// `[from:to:when]`
    Switch(Switch),
    /// `[a|b|c]`
    Alternate {
        /// The options, taken in turn.
        options: Vec<String>,
    },
}

/// A text whose schedules have been found.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    text: String,
    nodes: Vec<Node>,
    /// Whether the text holds what would be a schedule, had the rest of it fitted the grammar.
    disabled: bool,
}

impl Schedule {
    /// Finds the schedules of a text.
    ///
    /// # Errors
    /// [`PromptError::ScheduleTooDeep`], with its place in `text`.
    pub fn parse(text: &str) -> Result<Self, PromptError> {
        let (nodes, fits) = read(text)?;
        let disabled = !fits && !nodes.is_empty();
        Ok(Self { text: text.to_owned(), nodes: if fits { nodes } else { Vec::new() }, disabled })
    }

    /// Whether the text is the same at every step.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether something like a schedule is there but taken literally, since the text does not fit the grammar.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// The text for each range of steps: each text applies up to its step, counted from 1, the last one to the end.
    #[must_use]
    pub fn at(&self, steps: usize) -> Vec<(usize, String)> {
        let mut ends = vec![steps];
        for node in self.walk() {
            match &node.kind {
                Kind::Switch { when, .. } => {
                    ends.extend(when.last_step(steps).filter(|end| *end >= 1));
                }
                Kind::Alternate(_) => ends.extend(1..=steps),
            }
        }
        ends.sort_unstable();
        ends.dedup();
        ends.into_iter().map(|end| (end, self.text_at(end, steps))).collect()
    }

    /// All changes, outer ones before those inside them, each with its place in the text.
    #[must_use]
    pub fn changes(&self) -> Vec<(Span, Change)> {
        let slice = |run: &Run| self.text[run.span.clone()].to_owned();
        let describe = |node: &Node| match &node.kind {
            Kind::Switch { from, to, when } => Change::Switch(Switch {
                from: from.as_ref().map(slice).unwrap_or_default(),
                to: slice(to),
                when: when.value,
                fraction: when.fraction,
            }),
            Kind::Alternate(options) => {
                Change::Alternate { options: options.iter().map(slice).collect() }
            }
        };
        self.walk().into_iter().map(|node| (node.span.clone(), describe(node))).collect()
    }

    /// The places of the outermost changes.
    pub(super) fn outer_spans(&self) -> Vec<Span> {
        self.nodes.iter().map(|node| node.span.clone()).collect()
    }

    fn text_at(&self, step: usize, steps: usize) -> String {
        let mut text = String::with_capacity(self.text.len());
        self.write(&mut text, &(0..self.text.len()), &self.nodes, step, steps);
        text
    }

    /// Writes the text of a span. Recursion is bounded by [`MAX_SCHEDULE_DEPTH`].
    fn write(&self, out: &mut String, span: &Span, nodes: &[Node], step: usize, steps: usize) {
        let mut at = span.start;
        for node in nodes {
            out.push_str(&self.text[at..node.span.start]);
            at = node.span.end;
            let chosen = match &node.kind {
                Kind::Switch { from, to, when } => {
                    let early = when.last_step(steps).is_some_and(|end| step <= end);
                    if early { from.as_ref() } else { Some(to) }
                }
                Kind::Alternate(options) => {
                    let turn = (step + options.len() - 1) % options.len().max(1);
                    options.get(turn)
                }
            };
            if let Some(run) = chosen {
                self.write(out, &run.span, &run.nodes, step, steps);
            }
        }
        out.push_str(&self.text[at..span.end]);
    }

    fn walk(&self) -> Vec<&Node> {
        let mut found = Vec::new();
        let mut pending: Vec<&Node> = self.nodes.iter().rev().collect();
        while let Some(node) = pending.pop() {
            found.push(node);
            pending.extend(node.runs().into_iter().rev().flat_map(|run| run.nodes.iter().rev()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, steps: usize) -> Vec<(usize, String)> {
        schedule(text, steps).expect(text)
    }

    fn rows(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
        expected.iter().map(|(end, text)| (*end, (*text).to_owned())).collect()
    }

    #[test]
    fn a_switch_has_a_last_step() {
        assert_eq!(read("a [b:c:3] d", 10), rows(&[(3, "a b d"), (10, "a c d")]));
        assert_eq!(read("[b:.5]", 7), rows(&[(3, ""), (7, "b")]));
        assert_eq!(read("[b::1.]", 4), rows(&[(4, "b")]));
        assert_eq!(read("[a:b:-1]", 4), rows(&[(4, "b")]));
    }

    #[test]
    fn an_alternate_takes_turns() {
        assert_eq!(read("[a|b|]c", 4), rows(&[(1, "ac"), (2, "bc"), (3, "c"), (4, "ac")]));
    }

    #[test]
    fn what_is_no_group_is_literal() {
        for text in ["[a:b]", "[a:3", "(a:b:c)", "[a:b:c:3]", "[a:3x]", "[a)", "a]"] {
            assert_eq!(read(text, 5), rows(&[(5, text)]), "{text}");
        }
        assert_eq!(read("[x (a] [b:3]", 5), rows(&[(3, "[x (a] "), (5, "[x (a] b")]));
    }

    #[test]
    fn a_stray_pipe_or_backslash_turns_schedules_off() {
        for text in ["a|b [c:3]", "[c:3] \\", "[c:3] \\\n", "([c:3]|d)"] {
            assert_eq!(read(text, 5), rows(&[(5, text)]), "{text}");
            assert!(Schedule::parse(text).expect(text).is_disabled(), "{text}");
        }
        assert!(!Schedule::parse("a|b").expect("valid").is_disabled());
    }

    #[test]
    fn changes_are_described_from_the_outside_in() {
        let changes = Schedule::parse("x [a:[b|c]:0.5]").expect("valid").changes();
        assert_eq!(changes[0].0, 2..15);
        let inner = Change::Alternate { options: vec!["b".into(), "c".into()] };
        assert_eq!(changes[1], (5..10, inner));
        let outer = Change::Switch(Switch {
            from: "a".into(),
            to: "[b|c]".into(),
            when: 0.5,
            fraction: true,
        });
        assert_eq!(changes[0].1, outer);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}a{}", "[".repeat(depth), ":1]".repeat(depth));
        assert!(schedule(&nested(MAX_SCHEDULE_DEPTH), 3).is_ok());
        let error = schedule(&nested(100_000), 3).expect_err("too deep");
        assert!(matches!(error, PromptError::ScheduleTooDeep { .. }));
    }

    #[test]
    fn long_texts_of_brackets_are_no_burden() {
        for text in ["(".repeat(1_000_000), "[".repeat(1_000_000), "[a|".repeat(300_000)] {
            assert_eq!(read(&text, 2), [(2, text)]);
        }
        let emphasis = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(read(&emphasis, 2), [(2, emphasis)]);
    }

    #[test]
    fn no_steps_are_no_trouble() {
        assert_eq!(read("[a|b]", 0), rows(&[(0, "b")]));
        assert_eq!(read("[a:1e999]", 3), rows(&[(3, "")]));
    }
}
