//! GGUF files: those of the `gguf` Python package (`tests/parity/make_tokenizers.py`), and every
//! kind of damage.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;

use lora_eval::tensors::gguf::{GgmlType, Gguf, GgufArray, GgufError, GgufValue, optional};
use lora_eval::text::TextTokenizer;

fn fixture(name: &str) -> Gguf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/tokenizers").join(name);
    Gguf::open(&path).unwrap()
}

/// A file written by hand, as the format's description says.
#[derive(Clone)]
struct Writer {
    magic: [u8; 4],
    version: u32,
    tensors: u64,
    entries: u64,
    header: Vec<u8>,
    table: Vec<u8>,
    data: Vec<u8>,
    alignment: usize,
}

impl Writer {
    fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensors: 0,
            entries: 0,
            header: vec![],
            table: vec![],
            data: vec![],
            alignment: 32,
        }
    }

    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }

    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        Self::text(&mut self.header, key);
        self.header.extend(kind.to_le_bytes());
        self.header.extend(value);
        self.entries += 1;
        self
    }

    fn tensor(mut self, name: &str, extents: &[u64], kind: u32, offset: u64) -> Self {
        Self::text(&mut self.table, name);
        self.table.extend(u32::try_from(extents.len()).unwrap().to_le_bytes());
        for n in extents {
            self.table.extend(n.to_le_bytes());
        }
        self.table.extend(kind.to_le_bytes());
        self.table.extend(offset.to_le_bytes());
        self.tensors += 1;
        self
    }

    fn data(mut self, bytes: usize) -> Self {
        self.data = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensors.to_le_bytes());
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend(&self.header);
        bytes.extend(&self.table);
        if !self.data.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        }
        bytes.extend(&self.data);
        bytes
    }

    fn read(&self) -> Result<Gguf, GgufError> {
        Gguf::from_bytes(Path::new("x.gguf"), self.bytes())
    }

    /// The error, which names the file and says what to do.
    fn problem(&self) -> String {
        let text = self.read().unwrap_err().to_string();
        assert!(text.starts_with("x.gguf: ") && text.contains("\nhint: "), "{text}");
        text
    }
}

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::text(&mut bytes, text);
    bytes
}

/// One of everything: a text, a number, arrays in an array, two tensors.
fn good() -> Writer {
    let inner = array(U32, 1, &7u32.to_le_bytes());
    Writer::new()
        .entry("general.architecture", STRING, &string("llama"))
        .entry("n", U32, &5u32.to_le_bytes())
        .entry("a", ARRAY, &array(ARRAY, 2, &[inner.clone(), inner].concat()))
        .tensor("w", &[32, 2], 8, 0) // Q8_0: 2 blocks of 34 bytes
        .tensor("b", &[2], 0, 96)
        .data(96 + 8)
}

#[test]
fn a_good_file_in_either_version() {
    for version in [2, 3] {
        let gguf = Writer { version, ..good() }.read().unwrap();
        assert_eq!(gguf.string("general.architecture").unwrap(), "llama");
        assert_eq!(gguf.u64("n").unwrap(), 5);
        let inner = GgufArray::U32(vec![7]);
        assert_eq!(
            gguf.metadata["a"],
            GgufValue::Array(GgufArray::Array(vec![inner.clone(), inner]))
        );
        let tensor = &gguf.tensors["w"];
        assert_eq!((tensor.shape.as_slice(), tensor.kind), (&[2, 32][..], GgmlType::Q8_0));
        assert_eq!(gguf.bytes(tensor).len(), 68);
        assert_eq!(gguf.bytes(&gguf.tensors["b"]), [96, 97, 98, 99, 100, 101, 102, 103]);
    }
}

#[test]
fn every_truncation_is_an_error() {
    let whole = good().bytes();
    for length in 0..whole.len() {
        let cut = Gguf::from_bytes(Path::new("x.gguf"), whole[..length].to_vec());
        assert!(matches!(cut, Err(GgufError::Malformed { .. })), "cut at {length}");
    }
}

/// Any one byte of the header changed: an error or another valid file, never a panic.
#[test]
fn every_changed_byte_is_survived() {
    let whole = good().bytes();
    for at in 0..whole.len() - 104 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            if let Ok(gguf) = Gguf::from_bytes(Path::new("x.gguf"), bytes) {
                for tensor in gguf.tensors.values() {
                    assert_eq!(gguf.bytes(tensor).len(), tensor.range.len());
                }
            }
        }
    }
}

#[test]
fn other_formats_and_versions() {
    assert!(Writer { magic: *b"PK\x03\x04", ..good() }.problem().contains("begins with `PK"));
    assert!(Writer { version: 1, ..good() }.problem().contains("GGUF version 1, expected 2 or 3"));
    assert!(Writer { version: 4, ..good() }.problem().contains("GGUF version 4"));
    assert!(Writer { version: 3 << 24, ..good() }.problem().contains("big-endian"));
    let folder = Gguf::open(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err().to_string();
    assert!(folder.contains("directory"), "{folder}");
}

#[test]
fn counts_and_lengths_that_lie() {
    let huge = 1u64 << 63;
    assert!(Writer { tensors: huge, ..good() }.problem().contains("tensors, at most 100000"));
    assert!(Writer { entries: huge, ..good() }.problem().contains("entries, at most 65536"));
    assert!(Writer { entries: 4, ..good() }.read().is_err());
    assert!(Writer { entries: 2, ..good() }.read().is_err());
    let empty = Writer::new();
    let key = Writer { header: huge.to_le_bytes().to_vec(), entries: 1, ..empty.clone() };
    assert!(key.problem().contains("claims 9223372036854775808 bytes, at most 65535"));
    let text = empty.clone().entry("k", STRING, &huge.to_le_bytes());
    assert!(text.problem().contains("claims 9223372036854775808 bytes, 0 are left"));
    for kind in [0, 4, 7, 8, 9, 12] {
        let lying = empty.clone().entry("k", ARRAY, &array(kind, huge, &[]));
        assert!(lying.problem().contains("elements under `k`"));
        let bounded = empty.clone().entry("k", ARRAY, &array(kind, 1 << 24, &[0; 64]));
        assert!(bounded.read().is_err(), "type {kind}");
    }
}

#[test]
fn values_that_are_not_what_they_say() {
    let empty = Writer::new();
    assert!(empty.clone().entry("k", 13, &[0; 8]).problem().contains("unknown type `13`"));
    assert!(empty.clone().entry("k", 7, &[2]).problem().contains("bool `2`"));
    let latin = [&1u64.to_le_bytes()[..], &[0xe9]].concat();
    assert!(empty.clone().entry("k", STRING, &latin).problem().contains("not UTF-8"));
    let twice = empty.clone().entry("k", U32, &[0; 4]).entry("k", U32, &[0; 4]);
    assert!(twice.problem().contains("`k` stands twice"));
    let hidden = empty.clone().entry("\u{1b}[2J", 13, &[]).problem();
    assert!(!hidden.contains('\u{1b}'), "{hidden}");
    let mut nested = array(0, 0, &[]);
    for depth in 2..8 {
        nested = array(ARRAY, 1, &nested);
        let read = empty.clone().entry("k", ARRAY, &nested).read();
        assert_eq!(read.is_ok(), depth <= 4, "{depth} deep");
    }
}

#[test]
fn tensors_that_cannot_be() {
    let one =
        |extents: &[u64], kind, offset| Writer::new().tensor("t", extents, kind, offset).data(128);
    assert!(one(&[8], 0, 0).read().is_ok());
    assert!(one(&[], 0, 0).read().is_ok(), "a single value has no extents");
    assert!(one(&[0, 5], 0, 0).read().is_ok(), "nothing is stored");
    assert!(one(&[1; 5], 0, 0).problem().contains("5 dimensions"));
    assert!(
        one(&[33], 0, 0)
            .problem()
            .contains("claims 132 bytes at `0` of the data, the file holds 128")
    );
    assert!(one(&[1 << 63, 4], 0, 0).problem().contains("claims the shape"));
    assert!(one(&[0, 1 << 62, 4], 0, 0).problem().contains("claims the shape"));
    assert!(one(&[31], 8, 0).problem().contains("claims the shape [31] of type Q8_0"));
    assert!(one(&[8], 0, 16).problem().contains("not a multiple of 32"));
    assert!(one(&[8], 0, 128).problem().contains("at `128`"));
    assert!(one(&[8], 0, u64::MAX - 31).problem().contains("claims 32 bytes"));
    assert!(one(&[32], 20, 0).problem().contains("type `20` (IQ4_NL)"));
    assert!(one(&[32], 77, 0).problem().contains("type `77` (unknown)"));
    let twice = one(&[8], 0, 0).tensor("t", &[8], 0, 32);
    assert!(twice.problem().contains("`t` stands twice"));
    let over = one(&[16], 0, 0).tensor("u", &[8], 0, 32);
    assert!(over.problem().contains("`t` and `u` overlap"));
    assert!(one(&[16], 0, 0).tensor("u", &[8], 0, 64).read().is_ok());
}

#[test]
fn alignments() {
    let with = |alignment: u32, offset| {
        let file = Writer::new().entry("general.alignment", U32, &alignment.to_le_bytes());
        Writer { alignment: 64, ..file.tensor("t", &[8], 0, offset).data(128) }
    };
    assert!(with(64, 64).read().is_ok());
    assert!(with(64, 32).problem().contains("not a multiple of 64"));
    for wrong in [0, 3, 48, (1 << 20) + 1, 1 << 21, u32::MAX] {
        assert!(with(wrong, 0).problem().contains("expected a power of two"), "{wrong}");
    }
    let text = Writer::new().entry("general.alignment", STRING, &string("32"));
    assert!(text.problem().contains("`general.alignment` holds a string"));
}

#[test]
fn getters_name_file_key_and_types() {
    let gguf = good().read().unwrap();
    let text = gguf.string("n").unwrap_err().to_string();
    assert!(text.contains("x.gguf: metadata key `n` holds the u32 5, expected a string"), "{text}");
    let text = gguf.strings("a").unwrap_err().to_string();
    assert!(text.contains("holds an array of 2 arrays, expected an array of strings"), "{text}");
    let text = gguf.f64("gone").unwrap_err().to_string();
    assert!(text.contains("x.gguf: metadata key `gone` is missing\nhint: "), "{text}");
    assert_eq!(optional(gguf.u64("gone")).unwrap(), None);
    assert!(optional(gguf.bool("n")).is_err());
}

#[test]
fn files_of_the_python_package() {
    // The values are those that `write_reader` of make_tokenizers.py puts in.
    let gguf = fixture("reader.gguf");
    assert_eq!(gguf.string("general.architecture").unwrap(), "llama");
    assert_eq!(gguf.u64("general.alignment").unwrap(), 64);
    assert_eq!(gguf.u64("t.u8").unwrap(), 200);
    assert_eq!(gguf.metadata["t.i8"], GgufValue::I8(-100));
    assert_eq!(gguf.u64("t.u16").unwrap(), 60_000);
    assert_eq!(gguf.metadata["t.i16"], GgufValue::I16(-30_000));
    assert_eq!(gguf.u64("t.u32").unwrap(), 4_000_000_000);
    assert!(gguf.u64("t.i32").is_err());
    assert_eq!(gguf.u64("t.u64").unwrap(), (1 << 63) + 1);
    assert_eq!(gguf.metadata["t.i64"], GgufValue::I64(-(1 << 40)));
    assert_eq!(gguf.f64("t.f32").unwrap(), 0.5);
    assert_eq!(gguf.f64("t.f64").unwrap(), 0.1);
    assert!(gguf.bool("t.bool").unwrap());
    assert_eq!(gguf.string("t.text").unwrap(), "Größe");
    assert_eq!(gguf.strings("t.texts").unwrap(), ["a", "", "世界"]);
    assert_eq!(gguf.f32s("t.f32s").unwrap(), [0.5, -1.0]);
    assert_eq!(gguf.i32s("t.i32s").unwrap(), [1, -2]);
    assert!(gguf.u32s("t.i32s").is_err());
    let shapes: Vec<_> =
        gguf.tensors.iter().map(|(n, t)| (n.as_str(), t.kind.name(), t.shape.clone())).collect();
    let expected = [
        ("BF16", "BF16", vec![2, 256]),
        ("Q4_0", "Q4_0", vec![2, 256]),
        ("Q8_0", "Q8_0", vec![2, 256]),
        ("f16", "F16", vec![4]),
        ("f32", "F32", vec![2, 3]),
    ];
    assert_eq!(shapes, expected);
    let bytes: Vec<u8> = (0..6u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    assert_eq!(gguf.bytes(&gguf.tensors["f32"]), bytes);
    assert_eq!(gguf.bytes(&gguf.tensors["Q8_0"]).len(), 512 / 32 * 34);
    assert_eq!(gguf.bytes(&gguf.tensors["Q4_0"]).len(), 512 / 32 * 18);
    // -1 in BF16, little-endian.
    assert_eq!(gguf.bytes(&gguf.tensors["BF16"])[..2], [0x80, 0xbf]);
}

// ---------------------------------------------------------------------------------------------
// Tokenizers of damaged metadata

fn texts(kind: u32, elements: &[&str]) -> Vec<u8> {
    let bytes: Vec<u8> = elements.iter().flat_map(|text| string(text)).collect();
    array(kind, elements.len() as u64, &bytes)
}

fn vocabulary(model: &str) -> Writer {
    let scores: Vec<u8> = [0.0f32, -1.0, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    Writer::new()
        .entry("tokenizer.ggml.model", STRING, &string(model))
        .entry("tokenizer.ggml.tokens", ARRAY, &texts(STRING, &["a", "b", "ab"]))
        .entry("tokenizer.ggml.scores", ARRAY, &array(6, 3, &scores))
}

fn refusal(file: &Writer) -> String {
    TextTokenizer::from_gguf(&file.read().unwrap()).unwrap_err().to_string()
}

#[test]
fn tokenizers_that_cannot_be_built_say_why() {
    assert!(TextTokenizer::from_gguf(&vocabulary("llama").read().unwrap()).is_ok());
    assert!(refusal(&Writer::new()).contains("`tokenizer.ggml.tokens` is missing"));
    assert!(refusal(&vocabulary("bert")).contains("tokenizer `bert`"));
    assert!(refusal(&vocabulary("gpt2")).contains("`tokenizer.ggml.merges` is missing"));
    let merges = |lines: &[&str]| {
        vocabulary("gpt2").entry("tokenizer.ggml.merges", ARRAY, &texts(STRING, lines))
    };
    assert!(TextTokenizer::from_gguf(&merges(&["a b"]).read().unwrap()).is_ok());
    assert!(refusal(&merges(&["ab"])).contains("the merge `ab` has no space"));
    assert!(refusal(&merges(&["a zz"])).contains("x.gguf: "));
    let pre = merges(&["a b"]).entry("tokenizer.ggml.pre", STRING, &string("new-pre"));
    let text = refusal(&pre);
    assert!(text.contains("pre-tokenizer `new-pre`") && text.contains("`llama-bpe`"), "{text}");
    let far = vocabulary("llama").entry("tokenizer.ggml.bos_token_id", U32, &3u32.to_le_bytes());
    assert!(refusal(&far).contains("`tokenizer.ggml.bos_token_id` is `3`, expected below 3"));
    let types = array(5, 1, &[1, 0, 0, 0]);
    let few = vocabulary("llama").entry("tokenizer.ggml.token_type", ARRAY, &types);
    assert!(refusal(&few).contains("3 tokens, but 1 types"));
    let long = Writer::new()
        .entry("tokenizer.ggml.model", STRING, &string("llama"))
        .entry("tokenizer.ggml.tokens", ARRAY, &texts(STRING, &["a", &"b".repeat(513)]))
        .entry("tokenizer.ggml.scores", ARRAY, &array(6, 2, &[0; 8]));
    assert!(refusal(&long).contains("has over 512 characters"));
}

#[test]
fn letters_of_deepseek_are_one_piece_and_digits_are_not() {
    // A vocabulary of single bytes with one merge shows where text is cut: "1 1" may not merge.
    for (pre, text, expected) in [
        ("deepseek-llm", "ab", vec![2]),
        ("deepseek-llm", "a\nb", vec![0, 3, 1]),
        ("deepseek-coder", "ab", vec![2]),
        ("deepseek-llm", "11", vec![4, 4]),
        ("smollm", "11", vec![4, 4]),
        ("gpt-2", "11", vec![5]),
        ("tekken", "11", vec![4, 4]),
        ("gpt-4o", "11", vec![5]),
        ("qwen35", "11", vec![4, 4]),
    ] {
        let file = Writer::new()
            .entry("tokenizer.ggml.model", STRING, &string("gpt2"))
            .entry("tokenizer.ggml.pre", STRING, &string(pre))
            .entry(
                "tokenizer.ggml.tokens",
                ARRAY,
                &texts(STRING, &["a", "b", "ab", "Ċ", "1", "11"]),
            )
            .entry("tokenizer.ggml.merges", ARRAY, &texts(STRING, &["a b", "1 1"]));
        let tokenizer = TextTokenizer::from_gguf(&file.read().unwrap()).unwrap();
        assert_eq!(tokenizer.encode(text, true).unwrap(), expected, "{pre}: {text:?}");
    }
}
