//! Tokenizers, id by id and byte by byte as `transformers` has them
//! (`tests/parity/make_tokenizers.py`), and tokenizer files that mean harm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};

use lora_eval::tensors::gguf::Gguf;
use lora_eval::text::{ChatError, Clock, Message, TextError, TextTokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/tokenizers").join(name)
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

/// A folder, or a GGUF file.
fn tokenizer(name: &str) -> TextTokenizer {
    if Path::new(name).extension().is_some_and(|ending| ending == "gguf") {
        TextTokenizer::from_gguf(&Gguf::open(&fixture(name)).unwrap()).unwrap()
    } else {
        TextTokenizer::from_folder(&fixture(name)).unwrap()
    }
}

const NAMES: [&str; 9] = [
    "gpt2",
    "llama3",
    "qwen2",
    "spm",
    "gpt2.gguf",
    "llama3.gguf",
    "qwen2.gguf",
    "smollm.gguf",
    "spm.gguf",
];

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Text, ids with special tokens, ids without, decoded, decoded without special tokens.
type Case = (String, Vec<u32>, Vec<u32>, String, String);

fn cases(name: &str) -> Vec<Case> {
    let (texts, all) = (read("texts.json"), read("expected.json"));
    let expected = all[name]["like"].as_str().map_or(&all[name], |other| &all[other]);
    let or = |value: &Value, other: &str| value.as_str().unwrap_or(other).to_owned();
    let texts = texts.as_array().unwrap().iter().enumerate();
    texts
        .map(|(at, text)| {
            let text = text.as_str().unwrap().to_owned();
            let with = ids(&expected["ids"][at]);
            let plain = &expected["plain_ids"][at];
            let plain = if plain.is_null() { with.clone() } else { ids(plain) };
            let decoded = or(&expected["text"][at], &text);
            let skipped = or(&expected["skipped"][at], &decoded);
            (text, with, plain, decoded, skipped)
        })
        .collect()
}

#[test]
fn ids_and_texts_are_those_of_transformers() {
    for name in NAMES {
        let tokenizer = tokenizer(name);
        let cases = cases(name);
        assert!(cases.len() >= 200);
        for (text, with, plain, decoded, skipped) in cases {
            assert_eq!(tokenizer.encode(&text, true).unwrap(), with, "{name}: {text:?}");
            assert_eq!(tokenizer.encode(&text, false).unwrap(), plain, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&with, false).unwrap(), decoded, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&with, true).unwrap(), skipped, "{name}: {text:?}");
        }
    }
}

/// The pieces of a stream, joined; what was pushed before `finish` never ends inside a character.
fn streamed(tokenizer: &TextTokenizer, ids: &[u32], skip: bool) -> String {
    let mut stream = tokenizer.stream(skip);
    let mut text = String::new();
    for id in ids {
        text.push_str(&stream.push(*id).unwrap());
    }
    text + &stream.finish().unwrap()
}

#[test]
fn a_stream_gives_what_decoding_at_once_gives() {
    for name in NAMES {
        let tokenizer = tokenizer(name);
        for (text, with, _, decoded, skipped) in cases(name) {
            assert_eq!(streamed(&tokenizer, &with, false), decoded, "{name}: {text:?}");
            assert_eq!(streamed(&tokenizer, &with, true), skipped, "{name}: {text:?}");
        }
        // Ids that no text has: bytes that are not UTF-8, special tokens anywhere, unknown ids.
        let size = u32::try_from(tokenizer.vocabulary_size()).unwrap();
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % (size + 2)
        };
        for _ in 0..300 {
            let length = next() % 40;
            let ids: Vec<u32> = (0..length)
                .map(|_| next() % if length % 2 == 0 { 280 } else { size + 2 })
                .collect();
            for skip in [false, true] {
                let at_once = tokenizer.decode(&ids, skip).unwrap();
                assert_eq!(streamed(&tokenizer, &ids, skip), at_once, "{name}: {ids:?}");
            }
        }
    }
}

#[test]
fn a_stream_shows_whole_characters_as_soon_as_they_are_certain() {
    let tokenizer = tokenizer("gpt2");
    let ids = tokenizer.encode("a\u{1f44d}b", false).unwrap();
    let mut stream = tokenizer.stream(true);
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    // A thumb is four bytes, none of which is merged in a vocabulary trained on text without any.
    assert_eq!(pieces, ["a", "", "", "", "\u{1f44d}", "b"]);
    let spm = self::tokenizer("spm");
    let ids = spm.encode("the world", false).unwrap();
    let mut stream = spm.stream(true);
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert_eq!(pieces.concat(), "the world");
    assert!(pieces.iter().all(|piece| !piece.is_empty()), "{pieces:?}");
}

#[test]
fn special_tokens_and_ends() {
    let llama = tokenizer("llama3");
    assert_eq!(llama.special_token("bos_token"), Some("<s>"));
    assert_eq!(llama.eos_ids(), [llama.id("<|eot|>").unwrap()]);
    assert_eq!(llama.token(llama.id("<s>").unwrap()).unwrap(), "<s>");
    assert_eq!(llama.special_token("pad_token"), None);
    let gguf = tokenizer("llama3.gguf");
    assert_eq!(gguf.eos_ids(), [gguf.id("</s>").unwrap(), gguf.id("<|eot|>").unwrap()]);
    let spm = tokenizer("spm.gguf");
    assert_eq!((spm.special_token("unk_token"), spm.eos_ids()), (Some("<unk>"), &[2][..]));
}

// ---------------------------------------------------------------------------------------------
// Folders

/// A copy of a fixture's folder that can be changed.
struct Folder(TempDir);

impl Folder {
    fn of(name: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.0.path().join(path.file_name().unwrap())).unwrap();
        }
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn remove(&self, name: &str) -> &Self {
        fs::remove_file(self.0.path().join(name)).unwrap();
        self
    }

    /// `tokenizer.json` with one value changed; `pointer` as in RFC 6901.
    fn change(&self, pointer: &str, value: Value) -> &Self {
        let path = self.0.path().join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        self.write("tokenizer.json", json.to_string())
    }

    fn load(&self) -> Result<TextTokenizer, TextError> {
        TextTokenizer::from_folder(self.0.path())
    }

    fn chat(&self) -> Result<String, ChatError> {
        let template = self.load().unwrap().chat_template(Clock::At(0))?;
        template.render(&[Message::new("user", "hi")], true)
    }
}

#[test]
fn folders_without_a_tokenizer_say_what_is_needed() {
    let folder = Folder::of("spm");
    folder.remove("tokenizer.json");
    let text = folder.load().unwrap_err().to_string();
    assert!(text.contains("`tokenizer.json` is missing\nhint: fetch"), "{text}");
    let text = folder.write("tokenizer.model", "x").load().unwrap_err().to_string();
    assert!(text.contains("SentencePiece") && text.contains("save_pretrained("), "{text}");
    let text = TextTokenizer::from_folder(Path::new("/no/such")).unwrap_err().to_string();
    assert!(text.starts_with("/no/such: ") && text.contains("no such folder"), "{text}");
}

#[test]
fn ends_come_from_the_first_file_that_names_some() {
    let folder = Folder::of("llama3");
    let eot = folder.load().unwrap().eos_ids().to_vec();
    assert_eq!(eot.len(), 1);
    folder.write("config.json", r#"{"eos_token_id": 7}"#);
    assert_eq!(folder.load().unwrap().eos_ids(), [7]);
    folder.write("generation_config.json", r#"{"eos_token_id": [9, 3, 9]}"#);
    assert_eq!(folder.load().unwrap().eos_ids(), [9, 3]);
    folder.write("generation_config.json", r#"{"eos_token_id": null}"#);
    assert_eq!(folder.load().unwrap().eos_ids(), [7]);
    for wrong in [r#"{"eos_token_id": -1}"#, r#"{"eos_token_id": ["a"]}"#, "[]", "{"] {
        folder.write("generation_config.json", wrong);
        let text = folder.load().unwrap_err().to_string();
        assert!(text.contains("generation_config.json: "), "{text}");
    }
}

#[test]
fn chat_templates_are_found_where_transformers_finds_them() {
    // transformers.tokenization_utils_base: files replace what the configuration has.
    let folder = Folder::of("llama3");
    assert_eq!(folder.chat().unwrap(), "user: hi\n");
    folder.write("chat_template.jinja", "file {{ bos_token }}");
    let config = json!({"chat_template": "config", "bos_token": {"content": "<s>"}});
    folder.write("tokenizer_config.json", config.to_string());
    assert_eq!(folder.chat().unwrap(), "file <s>");
    folder.remove("chat_template.jinja");
    assert_eq!(folder.chat().unwrap(), "config");
    let named =
        json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    folder.write("tokenizer_config.json", json!({"chat_template": named}).to_string());
    assert_eq!(folder.chat().unwrap(), "d");
    folder.write("additional_chat_templates/rag.jinja", "r");
    let text = folder.chat().unwrap_err().to_string();
    assert!(text.contains("no chat template called `default`, only `rag`"), "{text}");
    let text = Folder::of("gpt2").chat().unwrap_err().to_string();
    assert!(text.contains("no chat template\nhint: "), "{text}");
}

#[test]
fn special_tokens_of_either_file() {
    let folder = Folder::of("gpt2");
    folder.write("tokenizer_config.json", "{}");
    let map = json!({"bos_token": {"content": "<|eot|>"}, "pad_token": "<pad>"});
    folder.write("special_tokens_map.json", map.to_string());
    let tokenizer = folder.load().unwrap();
    assert_eq!(tokenizer.special_token("bos_token"), Some("<|eot|>"));
    // A new token gets the next id and is special.
    let pad = tokenizer.id("<pad>").unwrap();
    assert_eq!(pad as usize, tokenizer.vocabulary_size() - 1);
    assert_eq!(tokenizer.encode("a<pad>", false).unwrap().last(), Some(&pad));
    assert_eq!(tokenizer.decode(&[pad], true).unwrap(), "");
    // A configuration with its own table of added tokens makes the other file void.
    folder.write("tokenizer_config.json", r#"{"added_tokens_decoder": {}}"#);
    assert_eq!(folder.load().unwrap().special_token("bos_token"), None);
}

#[test]
fn padding_and_truncation_of_the_file_are_not_applied() {
    let folder = Folder::of("gpt2");
    let plain = folder.load().unwrap().encode("Hello world", false).unwrap();
    folder.change(
        "/truncation",
        json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
    );
    folder.change("/padding", json!({"strategy": {"Fixed": 9_000_000_000_000_000u64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}));
    assert_eq!(folder.load().unwrap().encode("Hello world", false).unwrap(), plain);
}

/// Places in a `tokenizer.json` and what a hostile one may have there.
fn hostile_changes() -> Vec<(&'static str, Value)> {
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    vec![
        ("/model/vocab", json!({})),
        ("/model/vocab", json!({"a": 4_294_967_295u64})),
        ("/model/vocab", json!({"a": -1})),
        ("/model/vocab", json!([["a", 0.5]])),
        ("/model/merges", json!([["zz", "yy"]])),
        ("/model/merges", json!(["nospace"])),
        ("/model/merges", json!([["", ""]])),
        ("/model", json!({"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]]})),
        ("/model", json!({"type": "Unigram", "unk_id": null, "vocab": [["a", 0.0]]})),
        ("/model", json!({"type": "Unigram", "unk_id": null, "vocab": []})),
        ("/model", json!({"type": "Unigram", "unk_id": 0, "vocab": [["", 0.0], ["", null]]})),
        (
            "/model",
            json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 0, "vocab": {"a": 0}}),
        ),
        ("/model", json!({"type": "WordLevel", "unk_token": "?", "vocab": {}})),
        ("/model/unk_token", json!("not there")),
        ("/model/dropout", json!(0.5)),
        ("/model/dropout", json!(9.0)),
        ("/model/continuing_subword_prefix", json!("é")),
        ("/model/end_of_word_suffix", json!("</w>")),
        (
            "/added_tokens",
            json!([{"id": 4_294_967_295u64, "content": "x", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}]),
        ),
        (
            "/added_tokens",
            json!([{"id": 4_294_967_294u64, "content": "x", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}]),
        ),
        (
            "/added_tokens",
            json!([{"id": 1, "content": "", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}]),
        ),
        (
            "/added_tokens",
            json!([{"id": 0, "content": "same", "single_word": true, "lstrip": true, "rstrip": true, "normalized": true, "special": false}]),
        ),
        ("/pre_tokenizer", split("(")),
        ("/pre_tokenizer", split("(a+)+$")),
        ("/pre_tokenizer", split("")),
        ("/pre_tokenizer", split("(?=a)")),
        ("/pre_tokenizer", split("x{100000}{100000}")),
        ("/pre_tokenizer", split(&"(".repeat(100_000))),
        ("/pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        (
            "/pre_tokenizer",
            json!({"type": "Metaspace", "replacement": "", "prepend_scheme": "always", "split": true}),
        ),
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "/////wAAAAAAAAAA"})),
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "CAAAAP////8A////"})),
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "?"})),
        ("/normalizer", json!({"type": "Replace", "pattern": {"Regex": "a*"}, "content": "aa"})),
        ("/normalizer", json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"})),
        ("/normalizer", json!({"type": "Prepend", "prepend": ""})),
        (
            "/decoder",
            json!({"type": "Strip", "content": "a", "start": 9_000_000, "stop": 9_000_000}),
        ),
        ("/decoder", json!({"type": "Replace", "pattern": {"Regex": "("}, "content": "x"})),
        (
            "/decoder",
            json!({"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": true}),
        ),
        ("/decoder", json!({"type": "WordPiece", "prefix": "", "cleanup": true})),
        ("/decoder", json!({"type": "Sequence", "decoders": []})),
        ("/decoder", json!({"type": "Nonsense"})),
        ("/decoder", json!(7)),
        ("/normalizer", json!({"type": "Sequence", "normalizers": 1})),
        (
            "/post_processor",
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "gone", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        (
            "/post_processor",
            json!({"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}),
        ),
        (
            "/post_processor",
            json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        (
            "/post_processor",
            json!({"type": "BertProcessing", "sep": ["x", 4_294_967_295u64], "cls": ["y", 1]}),
        ),
        (
            "/truncation",
            json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}),
        ),
    ]
}

/// Whatever `tokenizer.json` says, there is an error or a tokenizer that gives errors or ids.
#[test]
fn hostile_tokenizers_do_not_panic() {
    for (pointer, value) in hostile_changes() {
        let folder = Folder::of("gpt2");
        let shown: String = format!("{pointer} = {value}").chars().take(150).collect();
        folder.change(pointer, value);
        let Ok(tokenizer) = folder.load() else { continue };
        for text in ["", "a", "same aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab é世 \u{0}", "x x"] {
            if let Ok(ids) = tokenizer.encode(text, true) {
                assert!(ids.len() < 1000, "{shown}");
                let _ = tokenizer.decode(&ids, false);
            }
        }
        let _ = tokenizer.decode(&[0, 1, 300, u32::MAX], true);
        let _ = streamed_or_error(&tokenizer, &[0, 1, 300, u32::MAX, 5]);
    }
}

fn streamed_or_error(tokenizer: &TextTokenizer, ids: &[u32]) -> Result<String, TextError> {
    let mut stream = tokenizer.stream(true);
    let mut text = String::new();
    for id in ids {
        text.push_str(&stream.push(*id)?);
    }
    Ok(text + &stream.finish()?)
}

#[test]
fn hostile_tokenizers_are_refused_with_their_file() {
    let folder = Folder::of("gpt2");
    for (content, part) in [
        ("", "not a tokenizer"),
        ("[]", "not a tokenizer"),
        ("{\"model\": 1}", "not a tokenizer"),
        ("\u{1b}[31m", "not a tokenizer"),
    ] {
        let text = folder.write("tokenizer.json", content).load().unwrap_err().to_string();
        assert!(text.contains("tokenizer.json: ") && text.contains(part), "{text}");
        assert!(text.contains("\nhint: ") && !text.contains('\u{1b}'), "{text}");
    }
    let deep = "[".repeat(1_000_000);
    assert!(folder.write("tokenizer.json", deep).load().is_err());
    let file = fs::File::create(folder.0.path().join("tokenizer.json")).unwrap();
    file.set_len((256 << 20) + 1).unwrap(); // a hole: takes no space
    assert!(matches!(folder.load(), Err(TextError::TooLarge { .. })));
    let random = Folder::of("gpt2");
    let text = random.change("/model/dropout", json!(0.1)).load().unwrap_err().to_string();
    assert!(text.contains("`dropout` makes the ids random"), "{text}");
}
