//! Pictures and their text: files of Pillow and piexif, what is written, and files meant to harm.
//!
//! Expected values and how they were made: `tests/parity/picture.py`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Crc;
use flate2::write::ZlibEncoder;
use lora_eval::picture::infotext::{Infotext, Settings};
use lora_eval::picture::{
    MAX_SIDE, MAX_TEXT, PARAMETERS, Picture, PictureError, encode_png, read, read_text,
};
use proptest::prelude::*;
use serde_json::Value;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/picture.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn file_of(case: &str) -> Vec<u8> {
    bytes(&cases().iter().find(|found| found["name"] == case).unwrap()["file"])
}

/// A file of a test's own, removed with it.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn holds(&self, bytes: &[u8]) -> PathBuf {
        // the name says nothing: the content counts
        let path = self.0.path().join("picture.txt");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(&kind);
    crc.update(data);
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [length.as_slice(), &kind, data, &crc.sum().to_be_bytes()].concat()
}

fn header(width: u32, height: u32, kind: [u8; 5]) -> Vec<u8> {
    chunk(*b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &kind].concat())
}

fn deflated(pieces: usize, piece: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..pieces).for_each(|_| encoder.write_all(piece).unwrap());
    encoder.finish().unwrap()
}

/// A PNG of one black pixel with chunks in front of it and behind.
fn png(before: &[u8], after: &[u8]) -> Vec<u8> {
    let pixels = chunk(*b"IDAT", &deflated(1, &[0, 0, 0, 0]));
    let header = header(1, 1, [8, 2, 0, 0, 0]);
    [SIGNATURE, &header, before, &pixels, after, &chunk(*b"IEND", &[])].concat()
}

#[test]
fn pictures_and_texts_of_pillow_are_read_as_they_are() {
    let scratch = Scratch::new();
    let cases = cases();
    assert_eq!(cases.len(), 24);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let path = scratch.holds(&bytes(&case["file"]));
        let picture = read(&path).unwrap();
        assert_eq!(Value::from(vec![picture.width, picture.height]), case["size"], "{name}");
        assert_eq!(picture.rgb.len(), 45, "{name}");
        if !case["pixels"].is_null() {
            assert_eq!(picture.rgb, bytes(&case["pixels"]), "{name}");
        }
        let text = read_text(&path, PARAMETERS).unwrap();
        assert_eq!(text.as_deref(), case["text"].as_str(), "{name}");
        assert_eq!(read_text(&path, "other").unwrap(), None, "{name}");
    }
}

#[test]
fn the_chunks_of_text_are_byte_for_byte_those_of_pillow() {
    let scratch = Scratch::new();
    for case in ["tEXt", "iTXt"] {
        let theirs = file_of(case);
        let path = scratch.holds(&theirs);
        let text = read_text(&path, PARAMETERS).unwrap().unwrap();
        let ours = encode_png(&read(&path).unwrap(), &[(PARAMETERS, &text)]).unwrap();
        // signature and header take 33 bytes; text comes next in both
        let length =
            usize::try_from(u32::from_be_bytes(theirs[33..37].try_into().unwrap())).unwrap();
        assert_eq!(&theirs[37..41], case.as_bytes());
        assert_eq!(ours[..45 + length], theirs[..45 + length], "{case}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        (width, height, rgb) in (1_u32..20, 1_u32..20).prop_flat_map(|(width, height)| {
            let count = usize::try_from(width * height * 3).unwrap();
            (Just(width), Just(height), proptest::collection::vec(any::<u8>(), count))
        }),
        prompt in r#"[\PC,:"\\é日🖌]{1,60}"#,
        seed: u64,
    ) {
        let picture = Picture { width, height, rgb };
        let settings = Settings {
            steps: Some(20),
            sampler: Some("Euler a".to_owned()),
            guidance: Some(7.5),
            seed: Some(seed),
            size: Some((width, height)),
            ..Settings::default()
        };
        let info = settings.infotext(prompt.trim(), "blurry\nugly: yes");
        let text = [(PARAMETERS, info.to_string()), ("Comment", "café".to_owned())];
        let text: Vec<(&str, &str)> = text.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let bytes = encode_png(&picture, &text).unwrap();
        prop_assert_eq!(&bytes, &encode_png(&picture, &text).unwrap());
        let scratch = Scratch::new();
        let path = scratch.holds(&bytes);
        prop_assert_eq!(read(&path).unwrap(), picture);
        let read_back = read_text(&path, PARAMETERS).unwrap().unwrap();
        let read_back = Infotext::parse(&read_back);
        prop_assert_eq!(Settings::of(&read_back), Ok(settings));
        prop_assert_eq!(read_back, info);
        prop_assert_eq!(read_text(&path, "Comment").unwrap(), Some("café".to_owned()));
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let picture = Picture { width: 2, height: 1, rgb: vec![0; 6] };
    let key = |key: &str| encode_png(&picture, &[(key, "text")]).map_err(|error| error.to_string());
    for bad in ["", " a", "a ", "ключ", "a\0b", &"a".repeat(80)] {
        assert!(key(bad).unwrap_err().contains("cannot name text in a PNG"), "{bad}");
    }
    key(&"a".repeat(79)).unwrap();
    let long = "a".repeat(MAX_TEXT + 1);
    let error = encode_png(&picture, &[(PARAMETERS, &long)]).unwrap_err();
    assert!(matches!(error, PictureError::LongText { found, .. } if found == MAX_TEXT + 1));
    for (width, height, count) in [(2, 2, 6), (2, 1, 7), (0, 1, 0), (u32::MAX, u32::MAX, 6)] {
        let error = encode_png(&Picture { width, height, rgb: vec![0; count] }, &[]).unwrap_err();
        assert!(matches!(error, PictureError::Pixels { .. }), "{error}");
    }
}

#[test]
fn the_longest_text_that_is_written_is_read() {
    let picture = Picture { width: 1, height: 1, rgb: vec![1, 2, 3] };
    let scratch = Scratch::new();
    for text in ["a".repeat(MAX_TEXT), "日".repeat(MAX_TEXT / 3)] {
        let path = scratch.holds(&encode_png(&picture, &[(PARAMETERS, &text)]).unwrap());
        assert_eq!(read_text(&path, PARAMETERS).unwrap(), Some(text));
    }
}

#[test]
fn what_is_no_picture_is_named() {
    let scratch = Scratch::new();
    let missing = Path::new("no/such/picture.png");
    for (path, expected) in [
        (missing.to_owned(), "no/such/picture.png: "),
        (scratch.0.path().to_owned(), ": "),
        (scratch.holds(b""), ": not a picture, expected PNG, JPEG or WebP\nhint: "),
        (scratch.holds(b"GIF89a and more that follows"), ": not a picture"),
    ] {
        for error in [read(&path).unwrap_err(), read_text(&path, PARAMETERS).unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains(expected) && error.contains("\nhint: "), "{error}");
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_an_error_and_its_text_is_kept() {
    let scratch = Scratch::new();
    let whole = file_of("tEXt");
    let pixels = whole.windows(4).position(|window| window == b"IDAT").unwrap();
    for length in 0..whole.len() - 16 {
        let path = scratch.holds(&whole[..length]);
        read(&path).unwrap_err();
        match read_text(&path, PARAMETERS) {
            Ok(text) => assert!(length >= pixels && text.is_some(), "{length}"),
            Err(error) => assert!(length < pixels + 4, "{length}: {error}"),
        }
    }
    for case in ["JPEG with a comment", "WebP with a comment"] {
        let whole = file_of(case);
        for length in 0..whole.len() - 2 {
            let path = scratch.holds(&whole[..length]);
            let _ = (read(&path), read_text(&path, PARAMETERS));
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let scratch = Scratch::new();
    for case in ["zTXt", "compressed iTXt", "JPEG with a comment", "WebP with a comment"] {
        let whole = file_of(case);
        for at in 0..whole.len() {
            for flip in [0x01, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                let path = scratch.holds(&damaged);
                let _ = (read(&path), read_text(&path, PARAMETERS));
            }
        }
    }
}

#[test]
fn sizes_beyond_the_limits_are_refused_before_they_are_decoded() {
    let scratch = Scratch::new();
    let pixels = chunk(*b"IDAT", &deflated(1, &[0; 100]));
    for (width, height, kind) in [
        (MAX_SIDE + 1, 1, [8, 2, 0, 0, 0]),
        (1, MAX_SIDE + 1, [8, 2, 0, 0, 0]),
        (u32::MAX >> 1, u32::MAX >> 1, [16, 6, 0, 0, 0]),
        // 1 GiB of RGBA
        (MAX_SIDE, MAX_SIDE, [8, 6, 0, 0, 0]),
    ] {
        let png = [SIGNATURE, &header(width, height, kind), &pixels].concat();
        let error = read(&scratch.holds(&png)).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { .. }), "{width}x{height}: {error}");
    }
}

#[test]
fn text_that_unpacks_without_end_is_refused() {
    let scratch = Scratch::new();
    // 256 MiB in 1 MiB
    let bomb = deflated(256, &vec![b'a'; 1 << 20]);
    let international = [b"parameters\0\x01\0\0\0", bomb.as_slice()].concat();
    let latin = [b"parameters\0\0", bomb.as_slice()].concat();
    for bomb in [chunk(*b"zTXt", &latin), chunk(*b"iTXt", &international)] {
        for png in [png(&bomb, &[]), png(&[], &bomb)] {
            let path = scratch.holds(&png);
            let error = read_text(&path, PARAMETERS).unwrap_err();
            assert!(matches!(error, PictureError::Text { .. }), "{error}");
            assert_eq!(read_text(&path, "other").unwrap(), None);
            // the pixels are not to blame
            assert_eq!(read(&path).unwrap().rgb, [0; 3]);
        }
    }
    let long = [b"parameters\0".to_vec(), vec![b'a'; MAX_TEXT + 1]].concat();
    let error = read_text(&scratch.holds(&png(&chunk(*b"tEXt", &long), &[])), PARAMETERS);
    assert!(matches!(error, Err(PictureError::TextTooLarge { .. })));
}

#[test]
fn chunks_that_claim_too_much_or_are_wrong_are_errors() {
    let scratch = Scratch::new();
    for length in [0x7fff_ffff_u32, 0x8000_0000, 0xffff_ffff] {
        for kind in [b"tEXt", b"zTXt", b"iTXt", b"IDAT", b"iCCP", b"aaAa"] {
            let claim = [&length.to_be_bytes(), kind.as_slice(), b"parameters\0text"].concat();
            let png = [SIGNATURE, &header(1, 1, [8, 2, 0, 0, 0]), &claim].concat();
            let path = scratch.holds(&png);
            read(&path).unwrap_err();
            read_text(&path, PARAMETERS).unwrap_err();
        }
    }
    // not UTF-8; no text at all; an unknown compression
    for (kind, data) in [
        (b"iTXt", b"parameters\0\0\0\0\0\xff\xfe".as_slice()),
        (b"iTXt", b"parameters"),
        (b"iTXt", b"parameters\0"),
        (b"zTXt", b"parameters\0\x07abc"),
        (b"zTXt", b"parameters\0"),
        (b"tEXt", b"parameters"),
        (b"tEXt", b""),
    ] {
        let path = scratch.holds(&png(&chunk(*kind, data), &[]));
        if let Ok(Some(text)) = read_text(&path, PARAMETERS) {
            panic!("{kind:?} {data:?}: {text}");
        }
    }
}

#[test]
fn text_behind_the_pixels_is_found() {
    let scratch = Scratch::new();
    let text = chunk(*b"tEXt", b"parameters\0late");
    let path = scratch.holds(&png(&[], &text));
    assert_eq!(read_text(&path, PARAMETERS).unwrap().as_deref(), Some("late"));
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    let scratch = Scratch::new();
    let pixels = chunk(*b"IDAT", &deflated(1, &[0, 0, 127, 0x80, 0x80, 0xff, 0x7f]));
    let header = header(1, 1, [16, 2, 0, 0, 0]);
    let png = [SIGNATURE, &header, &pixels, &chunk(*b"IEND", &[])].concat();
    assert_eq!(read(&scratch.holds(&png)).unwrap().rgb, [0, 128, 255]);
}
