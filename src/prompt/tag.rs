//! Tags: `<lora:NAME>`, `<lora:NAME:STRENGTH>`, `<lora:NAME:TEXT_ENCODER:UNET>`, `<lora:NAME:te=…:unet=…:dyn=…:lbw=…>`.
//!
//! A tag is `<`, a word, `:`, anything but `>`, and `>`. Tags are taken out of the text and nothing else is:
//! spaces and commas around them stay. `<lyco:…>` is `<lora:…>`.

use super::argument::Arguments;
use super::error::PromptError;
use super::place::{Locator, Span, quoted};
use super::scan::is_word;

/// The longest name of an adapter, that of a file on most systems.
pub const MAX_NAME_BYTES: usize = 255;
/// The largest strength, in either direction.
pub const MAX_STRENGTH: f64 = 100.0;

/// The most weights by block that a tag may have.
pub const MAX_BLOCKS: usize = 1025;

/// What becomes of tags like `<word:argument>` that name no adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherTags {
    /// They are taken out of the text, as in the `WebUI`; `<hypernet:…>` is an error. For prompts of images.
    Remove,
    /// They are text like any other. For prompts of language models, where `<https://example.org>` is one.
    Keep,
}

/// One adapter tag, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterTag {
    /// The adapter's name. It is not empty and leads to no other folder.
    pub name: String,
    /// The strength in the text encoders.
    pub text_encoder: f64,
    /// The strength in everything else.
    pub unet: f64,
    /// How many ranks to use, all if none.
    pub dyn_rank: Option<u32>,
    /// What the strengths are multiplied by in each block of the model; empty if all are 1.
    pub blocks: Vec<f64>,
    /// Where the tag is in the source.
    pub span: Span,
}

/// A line without its tags.
#[derive(Debug, Clone, PartialEq)]
pub struct Tagged {
    /// The text that is left.
    pub text: String,
    /// The adapter tags, in their order, each name as often as it was written.
    pub tags: Vec<AdapterTag>,
    /// Other tags that were taken out: the word and the place in the source.
    pub dropped: Vec<(String, Span)>,
    /// For each tag taken out: its place in the text that is left, and how many bytes are gone up to there.
    removed: Vec<(usize, usize)>,
}

impl Tagged {
    /// The place in the source of a place in the text.
    #[must_use]
    pub fn source_span(&self, span: &Span) -> Span {
        let start = self.source_offset(span.start);
        let end = if span.is_empty() { start } else { self.source_offset(span.end - 1) + 1 };
        start..end
    }

    /// Whether a tag, of an adapter or not, was inside a span of the text.
    pub(super) fn had_tag_inside(&self, span: &Span) -> bool {
        let first = self.removed.partition_point(|(at, _)| *at <= span.start);
        self.removed.get(first).is_some_and(|(at, _)| *at < span.end)
    }

    fn source_offset(&self, offset: usize) -> usize {
        let before = self.removed.partition_point(|(at, _)| *at <= offset);
        let gone = before.checked_sub(1).and_then(|last| self.removed.get(last));
        offset + gone.map_or(0, |(_, bytes)| *bytes)
    }
}

/// Takes the tags out of a line.
///
/// # Errors
/// For any adapter tag that cannot be understood in full; see the variants of [`PromptError`].
pub fn split_tags(source: &str, others: OtherTags) -> Result<Tagged, PromptError> {
    let locator = Locator::new(source);
    let last_close = source.rfind('>').unwrap_or(0);
    let mut tagged = Tagged {
        text: String::with_capacity(source.len()),
        tags: Vec::new(),
        dropped: Vec::new(),
        removed: Vec::new(),
    };
    let (mut copied, mut at) = (0, 0);
    while let Some(open) = source[at..].find('<').map(|found| at + found) {
        at = open + 1;
        let Some(found) = found_tag(source, open, last_close, &locator)? else {
            continue;
        };
        match found.word {
            "lora" | "lyco" => tagged.tags.push(Arguments::new(&found, &locator).read()?),
            _ if others == OtherTags::Keep => continue,
            "hypernet" => {
                return Err(PromptError::UnsupportedTag {
                    word: quoted(found.word),
                    at: locator.place(found.span()),
                });
            }
            word => tagged.dropped.push((word.to_owned(), found.span())),
        }
        at = found.end;
        tagged.text.push_str(&source[copied..open]);
        copied = at;
        tagged.removed.push((tagged.text.len(), at - (tagged.text.len())));
    }
    tagged.text.push_str(&source[copied..]);
    Ok(tagged)
}

#[derive(Debug)]
pub(super) struct Found<'s> {
    open: usize,
    word: &'s str,
    /// What is between the first colon and the `>`.
    pub(super) arguments: &'s str,
    pub(super) end: usize,
}

impl Found<'_> {
    pub(super) fn span(&self) -> Span {
        self.open..self.end
    }
}

fn found_tag<'s>(
    source: &'s str,
    open: usize,
    last_close: usize,
    locator: &Locator<'_>,
) -> Result<Option<Found<'s>>, PromptError> {
    let rest = &source[open + 1..];
    let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let word = &rest[..length];
    if word.is_empty() || !rest[length..].starts_with(':') {
        return Ok(None);
    }
    let start = open + 1 + length + 1;
    let adapter = matches!(word, "lora" | "lyco");
    if start > last_close {
        let at = locator.place(open..start);
        return if adapter {
            Err(PromptError::UnclosedTag { word: word.to_owned(), at })
        } else {
            Ok(None)
        };
    }
    let length = source[start..].find('>').unwrap_or(0);
    let end = start + length + 1;
    match (length, adapter) {
        (0, true) => Err(PromptError::EmptyName { at: locator.place(open..end) }),
        (0, false) => Ok(None),
        _ => Ok(Some(Found { open, word, arguments: &source[start..start + length], end })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> Result<(f64, f64, Option<u32>), PromptError> {
        let tagged = split_tags(source, OtherTags::Remove)?;
        let tag = tagged.tags.first().expect("a tag");
        assert_eq!(tag.name, "x", "{source}");
        Ok((tag.text_encoder, tag.unet, tag.dyn_rank))
    }

    #[test]
    fn strengths_are_those_of_the_webui() {
        for (source, expected) in [
            ("<lora:x>", (1.0, 1.0, None)),
            ("<lyco:x>", (1.0, 1.0, None)),
            ("<lora:x:0.5>", (0.5, 0.5, None)),
            ("<lora:x:-0.5>", (-0.5, -0.5, None)),
            ("<lora:x:0>", (0.0, 0.0, None)),
            ("<lora:x:1e-1>", (0.1, 0.1, None)),
            ("<lora:x:0.5:0.7>", (0.5, 0.7, None)),
            ("<lora:x:0.5:0.7:4>", (0.5, 0.7, Some(4))),
            ("<lora:x:te=0.5>", (0.5, 0.5, None)),
            ("<lora:x:unet=0.5>", (1.0, 0.5, None)),
            ("<lora:x:te=0.5:unet=1>", (0.5, 1.0, None)),
            ("<lora:x:1:unet=0.3>", (1.0, 0.3, None)),
            ("<lora:x:0.2:te=0.4>", (0.4, 0.4, None)),
            ("<lora:x:0.2:0.3:te=0.4>", (0.4, 0.3, None)),
            ("<lora:te=0.5:x>", (0.5, 0.5, None)),
            ("<lora:x:dyn=8:0.5>", (0.5, 0.5, Some(8))),
            ("<lora: x : 0.5 : unet = 1 >", (0.5, 1.0, None)),
        ] {
            assert_eq!(read(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn weights_by_block_are_numbers_between_commas() {
        for (source, expected) in [
            ("<lora:x:1>", vec![]),
            ("<lora:x:0.8:lbw=1,0,-.5>", vec![1.0, 0.0, -0.5]),
            ("<lora:x:lbw= 1 , 0.25 :0.5>", vec![1.0, 0.25]),
            ("<lora:x:te=0:unet=1:lbw=1>", vec![1.0]),
        ] {
            let tagged = split_tags(source, OtherTags::Keep).expect(source);
            assert_eq!(tagged.tags[0].blocks, expected, "{source}");
        }
        let many = format!("<lora:x:lbw={}1>", "1,".repeat(MAX_BLOCKS));
        let error = split_tags(&many, OtherTags::Keep).expect_err("too many");
        assert!(matches!(error, PromptError::BadBlockWeight { .. }));
    }

    #[test]
    fn only_the_tags_leave_the_text() {
        let text = |source| split_tags(source, OtherTags::Remove).expect(source).text;
        assert_eq!(text("a, <lora:x:1>, b <lora:y>"), "a, , b ");
        assert_eq!(text("<lo<lora:x:1>ra:y:1>"), "<lora:y:1>");
        assert_eq!(text("a <b:c> d"), "a  d");
        for untouched in ["a < b", "<b>", "<b:>", "<:b>", "<b:c", "< lora:x>", "a > b", "<lora>"] {
            assert_eq!(text(untouched), untouched);
        }
        let kept =
            split_tags("<https://a.b> <hypernet:h> <lora:x>", OtherTags::Keep).expect("valid");
        assert_eq!(kept.text, "<https://a.b> <hypernet:h> ");
    }

    #[test]
    fn mistakes_are_errors_at_their_place() {
        for (source, marked, message) in [
            ("<lora:x", "<lora:", "never closed"),
            ("<lora:>", "<lora:>", "no name"),
            ("<lora: :1>", "<lora: :1>", "no name"),
            ("<lora:te=1>", "<lora:te=1>", "no name"),
            ("<lora:../x:1>", "../x", "path separator"),
            ("<lora:a\\x:1>", "a\\x", "path separator"),
            ("<lora:..:1>", "..", "holds `..`"),
            ("<lora:a\x1bx>", "a\x1bx", "control character"),
            ("<lora:x <lora:y>", "x <lora", "missing"),
            ("<lora:x:>", "", "strength `` is not a number"),
            ("<lora:x: high >", "high", "strength `high`"),
            ("<lora:x:0,8>", "0,8", "with a point"),
            ("<lora:x:0@0,1@0.5>", "0@0,1@0.5", "change with the step"),
            ("<lora:x:nan>", "nan", "out of range"),
            ("<lora:x:inf>", "inf", "out of range"),
            ("<lora:x:101>", "101", "out of range"),
            ("<lora:x:te=no>", "no", "strength `no`"),
            ("<lora:x:1:1:0>", "0", "not a rank"),
            ("<lora:x:dyn=1.5>", "1.5", "not a rank"),
            ("<lora:x:1:lbw=MIDD>", "MIDD", "presets by name"),
            ("<lora:x:1:lbw=1,,1>", "", "block weight ``"),
            ("<lora:x:1:lbw=>", "", "block weight ``"),
            ("<lora:x:1:lbw=1, nan>", "nan", "one number for each block"),
            ("<lora:x:1:lbw=1,101>", "101", "from -100 to 100"),
            ("<lora:x:1:lbw=1:lbw=1>", "lbw=1", "given twice"),
            ("<lora:x:1:lbwe=1>", "lbwe=1", "per element"),
            ("<lora:x:1,0,0>", "1,0,0", "lbw=1,0"),
            ("<lora:x:1:TE=1>", "TE=1", "unknown argument `TE=`"),
            ("<lora:a=b:1>", "a=b", "a name cannot hold `=`"),
            ("<lora:x:te=1:te=1>", "te=1", "given twice"),
            ("<lora:x:1:1:1:1>", "1", "unexpected argument"),
            ("<hypernet:h:1>", "<hypernet:h:1>", "not supported"),
        ] {
            let source = format!("é {source}");
            let error = split_tags(&source, OtherTags::Remove).expect_err(&source);
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.to_string().contains("\nhint: "), "{error}");
            assert_eq!(&source[error.place().span()], marked, "{error}");
        }
        let long = format!("<lora:{}>", "x".repeat(256));
        assert!(matches!(split_tags(&long, OtherTags::Remove), Err(PromptError::BadName { .. })));
    }

    #[test]
    fn places_in_the_text_lead_back_to_the_source() {
        let source = "ab<lora:x>cd<lora:y>ef";
        let tagged = split_tags(source, OtherTags::Remove).expect("valid");
        assert_eq!(tagged.text, "abcdef");
        let there = |span: Span| &source[tagged.source_span(&span)];
        assert_eq!((there(0..2), there(2..4), there(5..6)), ("ab", "cd", "f"));
        assert_eq!(there(1..3), "b<lora:x>c");
        assert_eq!(there(6..6), "");
    }
}
