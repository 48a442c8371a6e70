//! Which text applies at which step.

use std::collections::{BTreeMap, BTreeSet};

use super::ConditioningError;
use crate::prompt::{Fragment, Prompt, parse_emphasis, schedule};

/// A text that applies at some steps.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedText {
    /// The text, without tags and schedules.
    pub text: String,
    /// Its emphasis.
    pub fragments: Vec<Fragment>,
}

/// The texts of a prompt and, for each step, those that apply.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptPlan {
    texts: Vec<PlannedText>,
    /// Up to which step, and the texts with their weights.
    ranges: Vec<(usize, Vec<(usize, f64)>)>,
}

impl PromptPlan {
    /// The plan of a prompt over `steps` steps: what `AND` separates, each with its weight and its
    /// own schedule (`get_multicond_learned_conditioning` of the `WebUI`).
    pub fn new(prompt: &Prompt, steps: usize) -> Result<Self, ConditioningError> {
        let parts = prompt.parts.iter().map(|part| (part.text.as_str(), part.weight));
        Self::of_parts(parts, steps)
    }

    /// The plan of a negative prompt. Schedules and emphasis apply; `AND` and a weight at the end
    /// are words like all others (`get_learned_conditioning` of the `WebUI`, to which tags are
    /// words, too).
    pub fn negative(text: &str, steps: usize) -> Result<Self, ConditioningError> {
        Self::of_parts([(text, 1.0)].into_iter(), steps)
    }

    fn of_parts<'p>(
        parts: impl Iterator<Item = (&'p str, f64)>,
        steps: usize,
    ) -> Result<Self, ConditioningError> {
        let mut schedules = Vec::new();
        for (text, weight) in parts {
            let schedule = schedule(text, steps).map_err(|source| ConditioningError::Prompt {
                step: steps,
                text: text.to_owned(),
                source,
            })?;
            schedules.push((schedule, weight));
        }
        let ends: BTreeSet<usize> =
            schedules.iter().flat_map(|(schedule, _)| schedule).map(|(end, _)| *end).collect();
        let mut texts = Texts::default();
        let mut ranges: Vec<(usize, Vec<(usize, f64)>)> = Vec::new();
        for end in ends {
            let mut parts = Vec::with_capacity(schedules.len());
            for (schedule, weight) in &schedules {
                let next = schedule.partition_point(|(last, _)| *last < end);
                if let Some((_, text)) = schedule.get(next).or(schedule.last()) {
                    parts.push((texts.index(text, end)?, *weight));
                }
            }
            match ranges.last_mut() {
                Some((last, same)) if *same == parts => *last = end,
                _ => ranges.push((end, parts)),
            }
        }
        Ok(Self { texts: texts.list, ranges })
    }

    /// The distinct texts, in the order of their steps.
    pub fn texts(&self) -> &[PlannedText] {
        &self.texts
    }

    /// The texts at a step, as indices of [`PromptPlan::texts`] with what the guidance of each is multiplied by. After
    /// the last step the last ones apply.
    ///
    /// A text applies up to and including its step. Steps are looked up from 0, as in the `WebUI`, so `[a:b:3]` is `a`
    /// for four steps.
    pub fn at(&self, step: usize) -> &[(usize, f64)] {
        let next = self.ranges.partition_point(|(end, _)| *end < step);
        self.ranges.get(next).or(self.ranges.last()).map_or(&[], |(_, parts)| parts)
    }
}

/// Texts that have been met, each once.
#[derive(Default)]
struct Texts {
    list: Vec<PlannedText>,
    known: BTreeMap<String, usize>,
}

impl Texts {
    fn index(&mut self, text: &str, step: usize) -> Result<usize, ConditioningError> {
        if let Some(index) = self.known.get(text) {
            return Ok(*index);
        }
        let fragments = parse_emphasis(text).map_err(|source| ConditioningError::Prompt {
            step,
            text: text.to_owned(),
            source,
        })?;
        self.known.insert(text.to_owned(), self.list.len());
        self.list.push(PlannedText { text: text.to_owned(), fragments });
        Ok(self.list.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(plan: &PromptPlan) -> Vec<&str> {
        plan.texts().iter().map(|planned| planned.text.as_str()).collect()
    }

    #[test]
    fn a_text_is_listed_once() {
        let prompt = Prompt::parse("[a|b] AND a AND [b:a:2]:0.5").unwrap();
        let plan = PromptPlan::new(&prompt, 4).unwrap();
        assert_eq!(texts(&plan), ["a", " a", " b", "b"]);
        assert_eq!(plan.at(1), [(0, 1.0), (1, 1.0), (2, 0.5)]);
        assert_eq!(plan.at(2), [(3, 1.0), (1, 1.0), (2, 0.5)]);
        assert_eq!(plan.at(3), [(0, 1.0), (1, 1.0), (1, 0.5)]);
        assert_eq!(plan.at(4), [(3, 1.0), (1, 1.0), (1, 0.5)]);
    }

    #[test]
    fn steps_outside_of_the_plan_take_its_ends() {
        let plan = PromptPlan::negative("[a:b:2]", 4).unwrap();
        assert_eq!((plan.at(0), plan.at(2), plan.at(3)), (plan.at(1), plan.at(1), plan.at(4)));
        assert_eq!(plan.at(1000), plan.at(4));
        assert_eq!(PromptPlan::negative("[a:b:2]", 0).unwrap().at(1).len(), 1);
    }

    #[test]
    fn a_negative_prompt_knows_no_and() {
        let plan = PromptPlan::negative("(bad:1.2) AND [worse:3] :2", 5).unwrap();
        assert_eq!(texts(&plan), ["(bad:1.2) AND  :2", "(bad:1.2) AND worse :2"]);
        assert_eq!(plan.texts()[0].fragments[0].weight, 1.2);
        assert_eq!(plan.at(5), [(1, 1.0)]);
    }

    #[test]
    fn a_text_that_a_schedule_breaks_is_shown() {
        let error = PromptPlan::negative("(a:1.[1|2.3])", 3).unwrap_err();
        let start = "step 2, where the prompt is `(a:1.2.3)`: column 4: emphasis weight `1.2.3`";
        assert!(error.to_string().starts_with(start), "{error}");
        assert!(error.to_string().contains("\nhint: "), "{error}");
    }
}
