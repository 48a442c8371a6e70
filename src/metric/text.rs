//! Hypotheses with their references, and Python's notion of white space.

use std::borrow::Cow;

use rayon::prelude::*;

use super::error::MetricError;

/// Hypotheses and one or more lists of references, all of one length.
#[derive(Debug, Clone)]
pub struct Texts<'a> {
    hypotheses: Vec<&'a str>,
    /// Segment by segment, all references of the first one first.
    references: Vec<&'a str>,
    per_segment: usize,
}

impl<'a> Texts<'a> {
    /// Pairs `hypotheses` with `references`, a list for each reference translation.
    pub fn new<H: AsRef<str>, R: AsRef<str>>(
        hypotheses: &'a [H],
        references: &'a [Vec<R>],
    ) -> Result<Self, MetricError> {
        if hypotheses.is_empty() {
            return Err(MetricError::NoSegments);
        }
        if references.is_empty() {
            return Err(MetricError::NoReferences);
        }
        for (place, list) in references.iter().enumerate() {
            if list.len() != hypotheses.len() {
                return Err(MetricError::Lengths {
                    reference: place + 1,
                    expected: hypotheses.len(),
                    found: list.len(),
                });
            }
        }
        let segment = |place: usize| {
            references.iter().filter_map(move |list| list.get(place).map(AsRef::as_ref))
        };
        Ok(Self {
            hypotheses: hypotheses.iter().map(AsRef::as_ref).collect(),
            references: (0..hypotheses.len()).flat_map(segment).collect(),
            per_segment: references.len(),
        })
    }

    /// One hypothesis with its references.
    pub fn sentence(hypothesis: &'a str, references: &[&'a str]) -> Result<Self, MetricError> {
        if references.is_empty() {
            return Err(MetricError::NoReferences);
        }
        Ok(Self {
            hypotheses: vec![hypothesis],
            references: references.to_vec(),
            per_segment: references.len(),
        })
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.hypotheses.len()
    }

    /// Whether there are no segments; never so.
    pub fn is_empty(&self) -> bool {
        self.hypotheses.is_empty()
    }

    /// Number of references a segment.
    pub fn references(&self) -> usize {
        self.per_segment
    }

    /// Each segment's hypothesis and references.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &[&'a str])> {
        self.hypotheses.iter().copied().zip(self.references.chunks(self.per_segment))
    }

    /// `measure` of every segment, on all threads, in order.
    pub(super) fn measure<T: Send>(
        &self,
        measure: impl Fn(&'a str, &[&'a str]) -> T + Sync,
    ) -> Vec<T> {
        self.hypotheses
            .par_iter()
            .zip(self.references.par_chunks(self.per_segment))
            .with_min_len(8)
            .map(|(hypothesis, references)| measure(hypothesis, references))
            .collect()
    }
}

/// Python's `str.isspace`: Unicode's white space and the four ASCII separators.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `str.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Python's `str.lower()`, where asked for.
pub(super) fn lowercase(text: &str, wanted: bool) -> Cow<'_, str> {
    if wanted { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) }
}

/// `yes` or `no`, as signatures have it.
pub(super) fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}
