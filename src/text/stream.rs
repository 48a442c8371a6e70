//! Text of ids that come one by one.

use super::{TextError, TextTokenizer};

/// Turns ids into text as they come, for printing and for stop strings.
///
/// What has been given out never changes: the pieces of [`Stream::push`] and [`Stream::finish`]
/// joined are what [`TextTokenizer::decode`] gives for all ids at once, except that the clean-up of
/// spaces (which no BPE tokenizer has) is not applied. For that, a character is held back until all
/// its bytes are there, and bytes of byte fallback (`<0xE2>`) until another token follows, since
/// one wrong byte turns all of their run into `�`.
///
/// The decoders of some models eat the first space of a text, so a token cannot be decoded alone:
/// each is decoded together with the piece before it (as text-generation-inference does).
#[derive(Debug)]
pub struct Stream<'a> {
    tokenizer: &'a TextTokenizer,
    skip_special: bool,
    /// The ids of the last piece, and those that came after it.
    ids: Vec<u32>,
    /// How many of `ids` had been pushed when the last piece was given out in full.
    read: usize,
    /// The text of `ids` that has been given out.
    shown: String,
}

impl<'a> Stream<'a> {
    pub(super) fn new(tokenizer: &'a TextTokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, ids: Vec::new(), read: 0, shown: String::new() }
    }

    /// Takes the next id; the text that is certain now and was not before, maybe none.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        if self.tokenizer.is_left_out(id, self.skip_special) {
            return Ok(String::new());
        }
        self.ids.push(id);
        if self.tokenizer.is_byte(id) {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode_plain(&self.ids, self.skip_special)?;
        // Bytes that do not yet make a character are shown as one `�` at the end.
        let certain = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(&text);
        let Some(piece) = certain.strip_prefix(self.shown.as_str()).map(str::to_owned) else {
            return Ok(String::new()); // fewer bytes are certain than before: still in a character
        };
        self.shown.push_str(&piece);
        if certain.len() == text.len() && !piece.is_empty() {
            self.ids.drain(..self.read);
            self.read = self.ids.len();
            self.shown = self.tokenizer.decode_plain(&self.ids, self.skip_special)?;
        }
        Ok(piece)
    }

    /// The rest: what was held back, with `�` for bytes that never became a character.
    pub fn finish(self) -> Result<String, TextError> {
        let text = self.tokenizer.decode_plain(&self.ids, self.skip_special)?;
        Ok(text.strip_prefix(self.shown.as_str()).unwrap_or_default().to_owned())
    }
}
