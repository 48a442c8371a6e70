//! Floor 1: text into token ids and back, and conversations into text.
//!
//! - [`TextTokenizer`]: of a model folder (`tokenizer.json`) or of a GGUF file
//! - [`ClipTokenizer`]: of a text encoder of Stable Diffusion, from its folder or built in
//! - [`Stream`]: ids that come one by one, into text that never has to be taken back
//! - [`ChatTemplate`], [`Message`]: a conversation into the text that a chat model was trained on
//! - [`Clock`]: the time that a template may ask for
//!
//! The reference is `transformers` (v5): ids, text and rendered conversations are compared with it
//! byte by byte in `tests/tokenizer.rs` and `tests/chat.rs`. Files and templates are untrusted: sizes
//! are bounded, a panic of the `tokenizers` crate becomes an error, and a template cannot run for
//! ever or use up the memory.

mod chat;
mod clip;
mod config;
mod error;
mod folder;
mod from_gguf;
mod guard;
mod pre_tokenizer;
mod spm;
mod stream;
mod tokenizer;

pub use chat::{ChatError, ChatTemplate, Clock, Message};
pub use clip::ClipTokenizer;
pub use error::TextError;
pub use stream::Stream;
pub use tokenizer::TextTokenizer;
