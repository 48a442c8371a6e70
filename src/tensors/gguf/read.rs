//! The header of a GGUF file, read without trust.
//!
//! Layout: magic, version, number of tensors, number of metadata entries; the entries (key, type,
//! value); the tensors (name, extents, type, offset); padding; the data. All integers are
//! little-endian, all lengths are 64 bits.

use std::collections::BTreeMap;

use super::value::{GgufArray, GgufValue};
use super::{GgmlType, GgufTensor};
use crate::base::terminal::printable;

/// Why a file was refused: the problem and what to do.
pub(super) type Refusal = (String, &'static str);

type Checked<T> = Result<T, Refusal>;

const MOST_ENTRIES: u64 = 65_536;
const MOST_TENSORS: u64 = 100_000;
const MOST_ELEMENTS: u64 = 16 << 20;
const MOST_DEPTH: u32 = 4;
const MOST_DIMENSIONS: u32 = 4;
/// Longest name of a key or tensor in bytes; the format's own bound on keys.
const LONGEST_NAME: u64 = 65_535;
const LARGEST_ALIGNMENT: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;

const CUT_SHORT: &str = "the file is damaged or was cut short; fetch it again";
const NOT_GGUF: &str = "only GGUF files are read here; convert other formats first";
const HOSTILE: &str = "the file was not written by a well-behaved program; do not use it";

/// Metadata by key and tensors by name, every length and place checked.
pub(super) fn parse(
    bytes: &[u8],
) -> Checked<(BTreeMap<String, GgufValue>, BTreeMap<String, GgufTensor>)> {
    let mut cursor = Cursor { bytes, at: 0 };
    check_version(&mut cursor)?;
    let tensors = cursor.u64("the number of tensors")?;
    let entries = cursor.u64("the number of metadata entries")?;
    bound(tensors, MOST_TENSORS, "tensors")?;
    bound(entries, MOST_ENTRIES, "metadata entries")?;
    let mut metadata = BTreeMap::new();
    for _ in 0..entries {
        let key = cursor.name("a metadata key")?;
        let value = read_value(&mut cursor, &key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err((format!("metadata key `{}` stands twice", printable(&key)), HOSTILE));
        }
    }
    let alignment = alignment(&metadata)?;
    let mut table = Vec::new();
    for _ in 0..tensors {
        table.push(read_tensor(&mut cursor, alignment)?);
    }
    Ok((metadata, place(table, &cursor, alignment)?))
}

fn bound(found: u64, most: u64, what: &str) -> Checked<()> {
    if found > most {
        return Err((format!("claims {found} {what}, at most {most} are read"), HOSTILE));
    }
    Ok(())
}

fn check_version(cursor: &mut Cursor<'_>) -> Checked<()> {
    let magic: [u8; 4] = cursor.array("the magic")?;
    if &magic != b"GGUF" {
        let found = printable(&String::from_utf8_lossy(&magic)).into_owned();
        return Err((format!("begins with `{found}`, expected `GGUF`"), NOT_GGUF));
    }
    match u32::from_le_bytes(cursor.array("the version")?) {
        2 | 3 => Ok(()),
        1 => Err((
            "GGUF version 1, expected 2 or 3".to_owned(),
            "convert the model again with a current converter",
        )),
        swapped if (1..=3).contains(&swapped.swap_bytes()) => Err((
            "a big-endian GGUF file, expected little-endian".to_owned(),
            "convert it with `gguf-convert-endian FILE little` of the `gguf` Python package",
        )),
        other => Err((
            format!("GGUF version {other}, expected 2 or 3"),
            "the file is newer than this program or damaged",
        )),
    }
}

fn alignment(metadata: &BTreeMap<String, GgufValue>) -> Checked<u64> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    value.to_u64().filter(|n| n.is_power_of_two() && *n <= LARGEST_ALIGNMENT).ok_or_else(|| {
        let problem = format!(
            "`general.alignment` holds {}, expected a power of two up to {LARGEST_ALIGNMENT}",
            value.describe()
        );
        (problem, HOSTILE)
    })
}

// ---------------------------------------------------------------------------------------------
// Metadata

fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Checked<GgufValue> {
    let kind = cursor.u32("the type of a value")?;
    Ok(match kind {
        0 => GgufValue::U8(cursor.array::<1>("a value")?[0]),
        1 => GgufValue::I8(i8::from_le_bytes(cursor.array("a value")?)),
        2 => GgufValue::U16(u16::from_le_bytes(cursor.array("a value")?)),
        3 => GgufValue::I16(i16::from_le_bytes(cursor.array("a value")?)),
        4 => GgufValue::U32(cursor.u32("a value")?),
        5 => GgufValue::I32(i32::from_le_bytes(cursor.array("a value")?)),
        6 => GgufValue::F32(f32::from_le_bytes(cursor.array("a value")?)),
        7 => GgufValue::Bool(truth(cursor.array("a value")?, key)?),
        8 => GgufValue::String(cursor.text(u64::MAX, "a string")?),
        9 => GgufValue::Array(read_array(cursor, key, 1)?),
        10 => GgufValue::U64(cursor.u64("a value")?),
        11 => GgufValue::I64(i64::from_le_bytes(cursor.array("a value")?)),
        12 => GgufValue::F64(f64::from_le_bytes(cursor.array("a value")?)),
        other => return Err(unknown_type(other, key)),
    })
}

fn unknown_type(number: u32, key: &str) -> Refusal {
    (format!("metadata key `{}` has the unknown type `{number}`", printable(key)), HOSTILE)
}

fn truth(byte: [u8; 1], key: &str) -> Checked<bool> {
    match byte {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => {
            let problem = format!(
                "metadata key `{}` holds the bool `{other}`, expected 0 or 1",
                printable(key)
            );
            Err((problem, HOSTILE))
        }
    }
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, depth: u32) -> Checked<GgufArray> {
    if depth > MOST_DEPTH {
        let problem =
            format!("metadata key `{}` nests arrays over {MOST_DEPTH} deep", printable(key));
        return Err((problem, HOSTILE));
    }
    let kind = cursor.u32("the type of an array")?;
    let count = cursor.u64("the length of an array")?;
    bound(count, MOST_ELEMENTS, &format!("elements under `{}`", printable(key)))?;
    Ok(match kind {
        0 => GgufArray::U8(cursor.numbers(count, u8::from_le_bytes)?),
        1 => GgufArray::I8(cursor.numbers(count, i8::from_le_bytes)?),
        2 => GgufArray::U16(cursor.numbers(count, u16::from_le_bytes)?),
        3 => GgufArray::I16(cursor.numbers(count, i16::from_le_bytes)?),
        4 => GgufArray::U32(cursor.numbers(count, u32::from_le_bytes)?),
        5 => GgufArray::I32(cursor.numbers(count, i32::from_le_bytes)?),
        6 => GgufArray::F32(cursor.numbers(count, f32::from_le_bytes)?),
        7 => {
            let bytes = cursor.numbers(count, |byte: [u8; 1]| byte)?;
            GgufArray::Bool(bytes.into_iter().map(|b| truth(b, key)).collect::<Checked<_>>()?)
        }
        8 => GgufArray::String(
            (0..count).map(|_| cursor.text(u64::MAX, "a string")).collect::<Checked<_>>()?,
        ),
        9 => GgufArray::Array(
            (0..count).map(|_| read_array(cursor, key, depth + 1)).collect::<Checked<_>>()?,
        ),
        10 => GgufArray::U64(cursor.numbers(count, u64::from_le_bytes)?),
        11 => GgufArray::I64(cursor.numbers(count, i64::from_le_bytes)?),
        12 => GgufArray::F64(cursor.numbers(count, f64::from_le_bytes)?),
        other => return Err(unknown_type(other, key)),
    })
}

// ---------------------------------------------------------------------------------------------
// Tensors

/// A row of the table: the offset counts from the start of the data.
struct Row {
    name: String,
    shape: Vec<usize>,
    kind: GgmlType,
    offset: u64,
    bytes: u64,
}

fn read_tensor(cursor: &mut Cursor<'_>, alignment: u64) -> Checked<Row> {
    let name = cursor.name("the name of a tensor")?;
    let shown = printable(&name);
    let dimensions = cursor.u32("the number of dimensions")?;
    if dimensions > MOST_DIMENSIONS {
        let problem = format!("tensor `{shown}` has {dimensions} dimensions, at most 4 are read");
        return Err((problem, HOSTILE));
    }
    let extents: Vec<u64> =
        (0..dimensions).map(|_| cursor.u64("an extent")).collect::<Checked<_>>()?;
    let number = cursor.u32("the type of a tensor")?;
    let offset = cursor.u64("the offset of a tensor")?;
    let kind = GgmlType::from_number(number).map_err(|known_as| {
        (
            format!("tensor `{shown}` is stored as type `{number}` ({known_as})"),
            "use a file quantised to F16, BF16, Q8_0, Q6_K, Q5_K, Q4_K or another block type up to Q8_K",
        )
    })?;
    let bytes = bytes_of(&extents, kind).ok_or_else(|| {
        let problem = format!("tensor `{shown}` claims the shape {extents:?} of type {kind}");
        (problem, HOSTILE)
    })?;
    if offset % alignment != 0 {
        let problem = format!("tensor `{shown}` lies at `{offset}`, not a multiple of {alignment}");
        return Err((problem, HOSTILE));
    }
    let shape = extents.iter().rev().map(|n| usize::try_from(*n)).collect::<Result<_, _>>();
    let shape = shape.map_err(|_| (format!("tensor `{shown}` is too large"), HOSTILE))?;
    Ok(Row { name, shape, kind, offset, bytes })
}

/// Bytes of a tensor; `None` if rows are not whole blocks or the number is beyond all use.
fn bytes_of(extents: &[u64], kind: GgmlType) -> Option<u64> {
    let block = kind.block_size() as u64;
    if extents.first().copied().unwrap_or(1) % block != 0 {
        return None;
    }
    // A zero would hide an overflow in the other extents.
    let whole = extents.iter().filter(|n| **n > 0).copied().try_fold(1u64, u64::checked_mul)?;
    if i64::try_from(whole.checked_mul(4)?).is_err() {
        return None;
    }
    let values = if extents.contains(&0) { 0 } else { whole };
    (values / block).checked_mul(kind.block_bytes() as u64)
}

/// Puts the tensors into the file: inside it, none over another.
fn place(
    mut table: Vec<Row>,
    cursor: &Cursor<'_>,
    alignment: u64,
) -> Checked<BTreeMap<String, GgufTensor>> {
    let (header, length) = (cursor.at as u64, cursor.bytes.len() as u64);
    let start = header.next_multiple_of(alignment);
    table.sort_by(|a, b| (a.offset, a.bytes, &a.name).cmp(&(b.offset, b.bytes, &b.name)));
    let mut tensors = BTreeMap::new();
    let mut last: Option<(u64, String)> = None;
    for row in table {
        let first = start.checked_add(row.offset);
        let end = first.and_then(|first| first.checked_add(row.bytes)).filter(|end| *end <= length);
        let range = first.zip(end).and_then(|(first, end)| {
            Some(usize::try_from(first).ok()?..usize::try_from(end).ok()?)
        });
        let Some(range) = range else {
            let problem = format!(
                "tensor `{}` claims {} bytes at `{}` of the data, the file holds {}",
                printable(&row.name),
                row.bytes,
                row.offset,
                length.saturating_sub(start)
            );
            return Err((problem, CUT_SHORT));
        };
        if row.bytes > 0 {
            if let Some((_, other)) = last.as_ref().filter(|(end, _)| row.offset < *end) {
                let (a, b) = (printable(other), printable(&row.name));
                return Err((format!("tensors `{a}` and `{b}` overlap"), HOSTILE));
            }
            last = Some((row.offset + row.bytes, row.name.clone()));
        }
        let tensor = GgufTensor { shape: row.shape, kind: row.kind, range };
        if tensors.insert(row.name.clone(), tensor).is_some() {
            return Err((format!("tensor `{}` stands twice", printable(&row.name)), HOSTILE));
        }
    }
    Ok(tensors)
}

// ---------------------------------------------------------------------------------------------
// Bytes

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64, what: &str) -> Checked<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let found = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let found = found.ok_or_else(|| {
            let left = rest.len();
            let problem =
                format!("{what} at byte {} claims {length} bytes, {left} are left", self.at);
            (problem, CUT_SHORT)
        })?;
        self.at += found.len();
        Ok(found)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Checked<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &str) -> Checked<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Checked<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn text(&mut self, longest: u64, what: &str) -> Checked<String> {
        let (at, length) = (self.at, self.u64(what)?);
        if length > longest {
            let problem = format!("{what} at byte {at} claims {length} bytes, at most {longest}");
            return Err((problem, HOSTILE));
        }
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|e| (format!("{what} at byte {at} is not UTF-8 ({e})"), HOSTILE))
    }

    fn name(&mut self, what: &str) -> Checked<String> {
        self.text(LONGEST_NAME, what)
    }

    /// An array of fixed-size elements, which are all there before any is copied.
    fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        read: impl Fn([u8; N]) -> T,
    ) -> Checked<Vec<T>> {
        let bytes = self.take(count.saturating_mul(N as u64), "an array")?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect())
    }
}
