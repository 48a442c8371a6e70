//! A prompt that has been read in full.

use serde::Serialize;

use super::argument::check_strength;
use super::composition::{Part, split_parts};
use super::emphasis::{Fragment, parse_emphasis};
use super::error::PromptError;
use super::place::{Locator, Place, Span, quoted};
use super::schedule::{Change, Schedule, Switch};
use super::tag::{OtherTags, Tagged, split_tags};

/// An adapter that a prompt names, with its strengths. Tags of the same name are added up.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AdapterRef {
    /// The name, to be looked up among the adapters that are available.
    pub name: String,
    /// The strength in the text encoders.
    pub text_encoder: f64,
    /// The strength in everything else.
    pub unet: f64,
    /// How many ranks to use, all if none.
    #[serde(rename = "dyn", skip_serializing_if = "Option::is_none")]
    pub dyn_rank: Option<u32>,
    /// What the strengths are multiplied by in each block of the model, as written; empty if all are 1.
    #[serde(rename = "lbw", skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<f64>,
    /// The tags that name it.
    #[serde(skip)]
    pub places: Vec<Place>,
}

/// Something that is probably not meant, but has a meaning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    /// What it is and what comes of it.
    pub message: String,
    /// Where it is in the source.
    #[serde(flatten)]
    pub at: Place,
}

/// What a prompt can ask for beyond one text for all steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FeatureKind {
    /// `[from:to:when]`
    Schedule(Switch),
    /// `[a|b]`
    Alternation {
        /// The options, taken in turn.
        options: Vec<String>,
    },
    /// `AND`
    Composition,
    /// `:1.2` at the end of a part
    PartWeight,
}

impl From<Change> for FeatureKind {
    fn from(change: Change) -> Self {
        match change {
            Change::Switch(switch) => Self::Schedule(switch),
            Change::Alternate { options } => Self::Alternation { options },
        }
    }
}

/// One such request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Feature {
    /// What it is.
    #[serde(flatten)]
    pub kind: FeatureKind,
    /// Where it is in the source.
    #[serde(flatten)]
    pub at: Place,
}

/// A line that has been read.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Prompt {
    /// The line as it was given.
    #[serde(skip)]
    pub source: String,
    /// The line without its tags.
    pub text: String,
    /// The adapters, in the order in which they are first named.
    pub adapters: Vec<AdapterRef>,
    /// The emphasis of the whole text, read as if it had no schedules, no `AND` and no weight at its end.
    pub fragments: Vec<Fragment>,
    /// What `AND` separates; a prompt without one has one part.
    pub parts: Vec<Part>,
    /// All that goes beyond one text for all steps, in the order of the source.
    pub features: Vec<Feature>,
    /// What is probably not meant.
    pub warnings: Vec<Warning>,
    /// The line's tags.
    #[serde(skip)]
    pub(super) tagged: Tagged,
}

impl Prompt {
    /// Reads a prompt for images.
    ///
    /// # Errors
    /// For a tag that cannot be understood, an emphasis weight that is no number, and brackets nested beyond
    /// reason. The place is one in `source`.
    pub fn parse(source: &str) -> Result<Self, PromptError> {
        let reader = Reader::new(source, split_tags(source, OtherTags::Remove)?);
        let mut prompt = reader.adapters()?;
        let whole = 0..prompt.text.len();
        prompt.fragments = reader.relocated(parse_emphasis(&prompt.text), &whole)?;
        prompt.parts = split_parts(&prompt.text);
        for part in &mut prompt.parts {
            part.fragments = reader.relocated(parse_emphasis(&part.text), &part.span)?;
            reader.read_part(part, &mut prompt.features, &mut prompt.warnings)?;
        }
        Ok(prompt)
    }

    /// Reads a prompt for a language model: only adapter tags have a meaning, all else is text as it is.
    ///
    /// # Errors
    /// For an adapter tag that cannot be understood. The place is one in `source`.
    pub fn parse_text(source: &str) -> Result<Self, PromptError> {
        let reader = Reader::new(source, split_tags(source, OtherTags::Keep)?);
        let mut prompt = reader.adapters()?;
        let fragment = Fragment { text: prompt.text.clone(), weight: 1.0 };
        prompt.fragments.push(fragment.clone());
        prompt.parts.push(Part {
            text: prompt.text.clone(),
            weight: 1.0,
            fragments: vec![fragment],
            span: 0..prompt.text.len(),
            weight_span: None,
            and_span: None,
        });
        Ok(prompt)
    }

    /// Refuses a prompt that needs schedules, alternation or composition: for callers that cannot do those yet.
    ///
    /// # Errors
    /// [`PromptError::NotPlain`] for the first of them.
    pub fn require_plain(&self) -> Result<(), PromptError> {
        let Some(first) = self.features.first() else {
            return Ok(());
        };
        let (what, hint) = match &first.kind {
            FeatureKind::Schedule(_) => {
                ("a schedule `[from:to:when]`", "write one text, or `\\[` for a literal bracket")
            }
            FeatureKind::Alternation { .. } => {
                ("an alternation `[a|b]`", "write one text, or `\\[` for a literal bracket")
            }
            FeatureKind::Composition => {
                ("`AND` between prompts", "write one prompt, or `and` for the word")
            }
            FeatureKind::PartWeight => (
                "a weight of the whole prompt",
                "remove it, or write a backslash after the colon for literal text, as in `16:\\9`",
            ),
        };
        Err(PromptError::NotPlain { what, hint, at: first.at })
    }
}

struct Reader<'s> {
    source: &'s str,
    tagged: Tagged,
    locator: Locator<'s>,
}

impl<'s> Reader<'s> {
    fn new(source: &'s str, tagged: Tagged) -> Self {
        Self { source, tagged, locator: Locator::new(source) }
    }

    /// The prompt as far as its tags tell.
    fn adapters(&self) -> Result<Prompt, PromptError> {
        let mut prompt = Prompt {
            source: self.source.to_owned(),
            text: self.tagged.text.clone(),
            adapters: Vec::new(),
            fragments: Vec::new(),
            parts: Vec::new(),
            features: Vec::new(),
            warnings: Vec::new(),
            tagged: self.tagged.clone(),
        };
        let mut index = std::collections::BTreeMap::new();
        for tag in &self.tagged.tags {
            let at = self.locator.place(tag.span.clone());
            let known = *index.entry(tag.name.as_str()).or_insert(prompt.adapters.len());
            let Some(adapter) = prompt.adapters.get_mut(known) else {
                let name = tag.name.clone();
                let (text_encoder, unet, dyn_rank) = (tag.text_encoder, tag.unet, tag.dyn_rank);
                prompt.adapters.push(AdapterRef {
                    name,
                    text_encoder,
                    unet,
                    dyn_rank,
                    blocks: tag.blocks.clone(),
                    places: vec![at],
                });
                continue;
            };
            if adapter.dyn_rank != tag.dyn_rank {
                return Err(PromptError::DynConflict { name: quoted(&tag.name), at });
            }
            if adapter.blocks != tag.blocks {
                return Err(PromptError::BlockConflict { name: quoted(&tag.name), at });
            }
            adapter.text_encoder = check_strength(adapter.text_encoder + tag.text_encoder, at)?;
            adapter.unet = check_strength(adapter.unet + tag.unet, at)?;
            adapter.places.push(at);
            let (name, sum) = (quoted(&tag.name), sum_of(adapter));
            let message =
                format!("adapter `{name}` is named more than once; its strengths add up to {sum}");
            prompt.warnings.push(Warning { message, at });
        }
        self.warn_of_other_tags(&mut prompt.warnings);
        Ok(prompt)
    }

    fn warn_of_other_tags(&self, warnings: &mut Vec<Warning>) {
        for (word, span) in &self.tagged.dropped {
            let lower = word.to_lowercase();
            let hint = if matches!(lower.as_str(), "lora" | "lyco") {
                "; did you mean `<lora:`?"
            } else {
                ""
            };
            let message = format!(
                "the tag `<{}:…>` names no adapter and is left out of the text{hint}",
                quoted(word)
            );
            warnings.push(Warning { message, at: self.locator.place(span.clone()) });
        }
    }

    /// Notes what a part asks for beyond one text, and warns of what is probably not meant.
    fn read_part(
        &self,
        part: &Part,
        features: &mut Vec<Feature>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), PromptError> {
        if let Some(span) = part.and_span.clone() {
            features.push(Feature { kind: FeatureKind::Composition, at: self.place(&span, 0) });
        }
        let schedule = self.relocated(Schedule::parse(&part.text), &part.span)?;
        for (span, change) in schedule.changes() {
            let at = self.place(&span, part.span.start);
            warnings.extend(warning_of(&change).map(|message| Warning { message, at }));
            features.push(Feature { kind: change.into(), at });
        }
        if schedule.is_disabled() {
            let message = "a `|` outside of `[a|b]`, or a backslash at the end of a line, makes the schedules in this \
                           text literal; write `\\|` for a literal one";
            warnings.push(Warning { message: message.to_owned(), at: self.place(&part.span, 0) });
        }
        self.warn_of_scheduled_tags(&schedule, part.span.start, warnings);
        if let Some(span) = part.weight_span.clone() {
            let at = self.place(&span, 0);
            features.push(Feature { kind: FeatureKind::PartWeight, at });
        }
        Ok(())
    }

    /// Tags leave the text before its schedules are read, so a tag inside a schedule acts at every step.
    fn warn_of_scheduled_tags(
        &self,
        schedule: &Schedule,
        offset: usize,
        warnings: &mut Vec<Warning>,
    ) {
        for span in schedule.outer_spans() {
            let in_text = span.start + offset..span.end + offset;
            if self.tagged.had_tag_inside(&in_text) {
                let message = "a tag inside a schedule acts at every step".to_owned();
                warnings.push(Warning { message, at: self.place(&span, offset) });
            }
        }
    }

    /// The place in the source of a span that counts from `offset` of the text.
    fn place(&self, span: &Span, offset: usize) -> Place {
        self.locator.place(self.tagged.source_span(&(span.start + offset..span.end + offset)))
    }

    /// Moves an error's place from a part of the text to the source.
    fn relocated<T>(&self, result: Result<T, PromptError>, part: &Span) -> Result<T, PromptError> {
        result.map_err(|mut error| {
            let place = error.place_mut();
            *place = self.place(&place.span(), part.start);
            error
        })
    }
}

#[expect(clippy::float_cmp, reason = "two numbers are shown where they are not the same one")]
fn sum_of(adapter: &AdapterRef) -> String {
    let AdapterRef { text_encoder, unet, .. } = adapter;
    if text_encoder == unet { unet.to_string() } else { format!("{text_encoder} and {unet}") }
}

/// `[word:1.2]` looks like emphasis and is not.
fn warning_of(change: &Change) -> Option<String> {
    let Change::Switch(Switch { from, to, when, fraction: true }) = change else {
        return None;
    };
    if *when < 1.0 {
        return None;
    }
    let to = quoted(to);
    let meant = if from.is_empty() {
        format!("; for emphasis write `({to}:{when})`")
    } else {
        String::new()
    };
    Some(format!(
        "`{to}` never appears: {when} is a fraction of all steps, so the change comes after the last one{meant}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> Prompt {
        Prompt::parse(source).expect(source)
    }

    fn warnings(source: &str) -> Vec<String> {
        read(source).warnings.into_iter().map(|warning| warning.message).collect()
    }

    #[test]
    fn a_name_twice_is_summed_with_a_warning() {
        let prompt = read("<lora:x:0.5> a <lyco:x:0.25:1> <lora:y>");
        let sums: Vec<_> =
            prompt.adapters.iter().map(|a| (a.name.as_str(), a.text_encoder, a.unet)).collect();
        assert_eq!(sums, [("x", 0.75, 1.5), ("y", 1.0, 1.0)]);
        assert_eq!(prompt.adapters[0].places.len(), 2);
        assert!(
            prompt.warnings[0].message.contains("add up to 0.75 and 1.5"),
            "{:?}",
            prompt.warnings
        );
        assert_eq!(prompt.warnings[0].at.column, 16);
        let error = Prompt::parse("<lora:x:60> <lora:x:60>").expect_err("out of range");
        assert!(matches!(error, PromptError::StrengthOutOfRange { .. }));
        let error = Prompt::parse("<lora:x:dyn=4> <lora:x>").expect_err("conflict");
        assert!(matches!(error, PromptError::DynConflict { .. }));
        let error = Prompt::parse("<lora:x:lbw=1,0> <lora:x>").expect_err("conflict");
        assert!(matches!(error, PromptError::BlockConflict { .. }));
        assert_eq!(read("<lora:x:lbw=1,0> <lora:x:lbw=1,0>").adapters[0].blocks, [1.0, 0.0]);
    }

    #[test]
    fn doubtful_prompts_are_warned_of() {
        assert!(warnings("a [word:1.2]")[0].contains("write `(word:1.2)`"));
        assert!(warnings("a [b:word:1.0]")[0].contains("never appears"));
        assert!(warnings("a <Lora:x:1>")[0].contains("did you mean"));
        assert!(warnings("[<lora:x>a:b:0.5]")[0].contains("acts at every step"));
        assert!(warnings("[a:0.5] b | c")[0].contains("literal"));
        for fine in ["a <lora:x>", "[a:0.5] <lora:x>", "<lora:x>[a:0.5]", "[a:1]", "a | b", "[a|b]"]
        {
            assert_eq!(warnings(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn only_plain_prompts_are_plain() {
        for plain in ["a (b:1.2) [c] BREAK d <lora:x:0.5>", "[a:b]", "16:9,", r"16:\9", "a and b"] {
            assert_eq!(read(plain).require_plain(), Ok(()), "{plain}");
        }
        for (source, marked) in [
            ("<lora:x> a [b:0.5]", "[b:0.5]"),
            ("é [b|c] AND d", "[b|c]"),
            ("a <lora:x>AND b", "AND"),
            ("aspect 16:9 ", ":9"),
        ] {
            let error = read(source).require_plain().expect_err(source);
            assert_eq!(&source[error.place().span()], marked);
        }
    }

    #[test]
    fn errors_in_the_text_are_placed_in_the_source() {
        let source = "<lora:x> a <lora:y>(b:1.2.3) AND c";
        let error = Prompt::parse(source).expect_err("bad weight");
        assert_eq!(&source[error.place().span()], "1.2.3");
        assert_eq!(error.place().column, 23);
    }

    #[test]
    fn a_language_model_reads_only_adapter_tags() {
        let prompt = Prompt::parse_text("(a) [b:0.5] <x:y> AND 16:9<lora:x:0.5>").expect("valid");
        assert_eq!(prompt.text, "(a) [b:0.5] <x:y> AND 16:9");
        assert_eq!(prompt.fragments, [Fragment { text: prompt.text.clone(), weight: 1.0 }]);
        assert!(prompt.features.is_empty() && prompt.warnings.is_empty());
        assert_eq!(prompt.adapters.len(), 1);
    }
}
