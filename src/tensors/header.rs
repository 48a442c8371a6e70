//! The header of a safetensors file, read without trust.
//!
//! Layout: 8 bytes little-endian length `N`, `N` bytes of JSON (`{"name": {"dtype", "shape",
//! "data_offsets"}, …, "__metadata__": {string: string}}`), then the data. See
//! <https://github.com/huggingface/safetensors#format>.

use std::collections::{BTreeMap, HashSet};

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::base::terminal::printable;

/// What a header may ask for before it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest header in bytes.
    pub header: u64,
    /// Most tensors.
    pub tensors: usize,
    /// Largest extent of one dimension.
    pub extent: usize,
}

impl Limits {
    /// For adapters: a header of 8 MiB, 100,000 tensors, dimensions up to 2²⁴.
    pub const ADAPTER: Self = Self { header: 8 << 20, tensors: 100_000, extent: 1 << 24 };
    /// For bases: the reference implementation's own header bound (100 MB).
    pub const BASE: Self = Self { header: 100_000_000, tensors: 1_000_000, extent: 1 << 32 };
}

/// Most dimensions of one tensor; convolutions have four.
const MOST_DIMENSIONS: usize = 8;

/// A checked header: tensors in the order of their data, and the metadata.
#[derive(Debug)]
pub(super) struct Header {
    pub tensors: Vec<(String, TensorInfo)>,
    pub metadata: BTreeMap<String, String>,
    /// Where the data starts in the file.
    pub data_start: usize,
}

/// Why a header was refused: the problem and what to do.
pub(super) type Refusal = (String, &'static str);

const CUT_SHORT: &str = "the file is damaged or was cut short; fetch it again";
const NOT_SAFETENSORS: &str = "only .safetensors files are read; convert other formats first";
const HOSTILE: &str = "the file was not written by a well-behaved program; do not use it";

pub(super) fn parse(bytes: &[u8], limits: Limits) -> Result<Header, Refusal> {
    let json = json_of(bytes, limits)?;
    let data_start = 8 + json.len();
    let text = std::str::from_utf8(json)
        .map_err(|e| (format!("the header is not UTF-8 ({e})"), NOT_SAFETENSORS))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let raw = deserializer
        .deserialize_map(HeaderVisitor { limits })
        .and_then(|raw| deserializer.end().map(|()| raw))
        .map_err(|e| (format!("the header is not valid: {e}"), CUT_SHORT))?;
    let (mut tensors, metadata) = raw;
    tensors.sort_by(|a, b| (a.1.data_offsets, &a.0).cmp(&(b.1.data_offsets, &b.0)));
    let checked = Metadata::new(None, tensors.clone())
        .map_err(|e| (format!("the header contradicts itself: {e}"), CUT_SHORT))?;
    let (promised, held) = (checked.data_len(), bytes.len() - data_start);
    if promised != held {
        let problem =
            format!("the header promises {promised} bytes of data, the file holds {held}");
        return Err((problem, CUT_SHORT));
    }
    for (name, info) in &tensors {
        check_shape(name, &info.shape, limits)?;
    }
    Ok(Header { tensors, metadata, data_start })
}

fn json_of(bytes: &[u8], limits: Limits) -> Result<&[u8], Refusal> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        let problem = format!("{} bytes are too few for a safetensors file", bytes.len());
        return Err((problem, CUT_SHORT));
    };
    let length = u64::from_le_bytes(*length);
    if rest.first().is_some_and(|first| *first != b'{') {
        return Err(("not a safetensors file (no JSON header)".to_owned(), NOT_SAFETENSORS));
    }
    if length > limits.header {
        let problem = format!("a header of {length} bytes is over the limit of {}", limits.header);
        return Err((problem, HOSTILE));
    }
    usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or_else(|| {
        let problem =
            format!("the header claims {length} bytes, the file has {} after it", rest.len());
        (problem, CUT_SHORT)
    })
}

fn check_shape(name: &str, shape: &[usize], limits: Limits) -> Result<(), Refusal> {
    let name = printable(name);
    if shape.len() > MOST_DIMENSIONS {
        let problem = format!("tensor `{name}` has {} dimensions", shape.len());
        return Err((problem, HOSTILE));
    }
    if let Some(extent) = shape.iter().find(|extent| **extent > limits.extent) {
        let problem = format!("tensor `{name}` claims a dimension of {extent}");
        return Err((problem, HOSTILE));
    }
    // A zero hides an overflow from the check of the size.
    let product = shape.iter().filter(|extent| **extent > 0);
    if product.copied().try_fold(1usize, usize::checked_mul).is_none_or(|n| n > isize::MAX as usize)
    {
        let problem = format!("tensor `{name}` claims a shape of {shape:?}");
        return Err((problem, HOSTILE));
    }
    Ok(())
}

struct HeaderVisitor {
    limits: Limits,
}

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = (Vec<(String, TensorInfo)>, BTreeMap<String, String>);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut tensors = Vec::new();
        let mut metadata = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("`{}` stands twice", printable(&name))));
            }
            if name == "__metadata__" {
                metadata = map.next_value()?;
            } else if tensors.len() == self.limits.tensors {
                return Err(A::Error::custom(format!("over {} tensors", self.limits.tensors)));
            } else {
                tensors.push((name, map.next_value()?));
            }
        }
        Ok((tensors, metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn problem(bytes: &[u8]) -> String {
        parse(bytes, Limits::ADAPTER).unwrap_err().0
    }

    const GOOD: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn a_good_header_is_read_in_data_order() {
        let header = r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},
            "__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#;
        let parsed = parse(&file(header, 8), Limits::ADAPTER).unwrap();
        let names: Vec<_> = parsed.tensors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(parsed.metadata["k"], "v");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = file(GOOD, 8);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length], Limits::ADAPTER).is_err(), "cut at {length}");
        }
        assert!(parse(&whole, Limits::ADAPTER).is_ok());
    }

    #[test]
    fn length_fields_that_lie() {
        for length in [0, 1, u64::MAX, 1 << 63, (8 << 20) + 1, GOOD.len() as u64 + 9] {
            let mut bytes = file(GOOD, 8);
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            assert!(parse(&bytes, Limits::ADAPTER).is_err(), "length {length}");
        }
    }

    #[test]
    fn duplicate_names_are_refused() {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        assert!(problem(&file(header, 8)).contains("`a` stands twice"));
    }

    #[test]
    fn offsets_that_overlap_leave_holes_or_leave_the_file() {
        for offsets in ["[0,4]", "[4,12]", "[0,16]", "[8,0]", "[-1,7]", "[0,1e400]"] {
            let header = GOOD.replace("[0,8]", offsets);
            assert!(parse(&file(&header, 8), Limits::ADAPTER).is_err(), "{offsets}");
        }
        let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        assert!(problem(&file(overlap, 12)).contains("contradicts"));
        assert!(problem(&file(GOOD, 9)).contains("promises 8 bytes"));
    }

    #[test]
    fn absurd_shapes() {
        let huge = GOOD.replace("[2]", "[9223372036854775807,4]");
        assert!(parse(&file(&huge, 8), Limits::ADAPTER).is_err());
        let wide = r#"{"a":{"dtype":"F32","shape":[0,99999999],"data_offsets":[0,0]}}"#;
        assert!(problem(&file(wide, 0)).contains("dimension of 99999999"));
        let deep = format!(
            r#"{{"a":{{"dtype":"F32","shape":[{}1],"data_offsets":[0,4]}}}}"#,
            "1,".repeat(20)
        );
        assert!(problem(&file(&deep, 4)).contains("21 dimensions"));
    }

    #[test]
    fn other_formats_are_named() {
        assert!(problem(b"GGUF\x03\0\0\0\0\0\0\0\0\0").contains("no JSON header"));
        assert!(problem(&file("[1]", 0)).contains("no JSON header"));
        assert!(problem(&file(r#"{"__metadata__":{"a":1}}"#, 0)).contains("not valid"));
    }
}
