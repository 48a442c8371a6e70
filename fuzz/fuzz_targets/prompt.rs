//! Any text at all: reading it never panics, and what has been read can be written and read again.
//!
//! `cargo +nightly fuzz run prompt`

#![no_main]

use libfuzzer_sys::fuzz_target;
use lora_eval::prompt::{Prompt, parse_emphasis, render_fragments};

fuzz_target!(|source: &str| {
    match Prompt::parse(source) {
        Ok(prompt) => {
            let again = Prompt::parse(&prompt.to_string()).expect("the canonical form is valid");
            assert_eq!(again.text, prompt.text);
            assert_eq!(again.fragments, prompt.fragments);
            assert_eq!(again.adapters.len(), prompt.adapters.len());

            let rendered = render_fragments(&prompt.fragments);
            assert_eq!(parse_emphasis(&rendered), Ok(prompt.fragments));

            for part in &prompt.parts {
                let schedule = part.schedule(3).expect("checked when it was read");
                assert_eq!(schedule.last().map(|(end, _)| *end), Some(3));
            }
        }
        Err(error) => {
            let place = error.place();
            assert!(source.get(place.span()).is_some());
            assert!(!error.caret(source).contains('\x1b'));
        }
    }
    let _ = Prompt::parse_text(source);
});
