//! Files of text read leniently and written again as they should be.

use std::collections::BTreeSet;

use csv::{ReaderBuilder, StringRecord};

/// How text is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it should be.
    Utf8,
    /// With a byte order mark in front, which some readers take for part of the first word.
    Marked,
    /// UTF-16 with its mark, as Windows' "Unicode".
    Utf16,
}

/// Text without its mark, and how it was stored; or the offset of the first byte that is no text.
pub fn decode(bytes: &[u8]) -> Result<(String, Encoding), usize> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, left) = rest.as_chunks::<2>();
        let units: Vec<u16> = units.iter().map(|pair| unit(*pair)).collect();
        match String::from_utf16(&units) {
            Ok(text) if left.is_empty() => Ok((text, Encoding::Utf16)),
            _ => Err(0),
        }
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => {
            let text = std::str::from_utf8(bytes).map_err(|error| error.valid_up_to())?;
            Ok(match text.strip_prefix('\u{feff}') {
                Some(rest) => (rest.to_owned(), Encoding::Marked),
                None => (text.to_owned(), Encoding::Utf8),
            })
        }
    }
}

/// A CSV without the rows that start at the lines `dropped`; the others stay byte for byte.
pub fn csv_without(text: &str, dropped: &BTreeSet<usize>) -> String {
    records(text).filter(|row| !dropped.contains(&row.line)).map(|row| row.raw).collect()
}

/// A CSV of two columns, pictures and captions, written with quotes where they belong and without the
/// rows that start at the lines `dropped`. What follows a row's first field is its caption, also where
/// it has commas outside quotes; lines are split at their first comma where there is no `header` but one
/// has to be written.
pub fn csv_quoted(text: &str, header: bool, dropped: &BTreeSet<usize>) -> Option<String> {
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    if header {
        for row in records(text).filter(|row| !dropped.contains(&row.line)) {
            if row.fields.len() > 2 {
                writer.write_record(rejoined(&row)).ok()?;
            } else {
                writer.write_record(&row.fields).ok()?;
            }
        }
    } else {
        writer.write_record(["file_name", "text"]).ok()?;
        let lines = text.lines().zip(1..);
        let kept = lines.filter(|(line, at)| !line.trim().is_empty() && !dropped.contains(at));
        for (line, _) in kept {
            writer.write_record(split(line)).ok()?;
        }
    }
    String::from_utf8(writer.into_inner().ok()?).ok()
}

/// A row of a CSV.
struct Record<'a> {
    /// The line that it starts at, from 1.
    line: usize,
    /// All of it, with empty lines in front and its end.
    raw: &'a str,
    fields: StringRecord,
}

fn records(text: &str) -> impl Iterator<Item = Record<'_>> {
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let offset = |position: &csv::Position| usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let mut line = 1;
    std::iter::from_fn(move || {
        let (start, mut fields) = (offset(reader.position()), StringRecord::new());
        // text in memory that is UTF-8 cannot fail to be read
        if !reader.read_record(&mut fields).unwrap_or(false) {
            return None;
        }
        let raw = text.get(start..offset(reader.position())).unwrap_or_default();
        let row = raw.trim_start_matches(['\r', '\n']);
        let blank = raw.get(..raw.len() - row.len()).unwrap_or_default();
        let first = line + blank.matches('\n').count();
        line = first + row.matches('\n').count();
        Some(Record { line: first, raw, fields })
    })
}

/// Picture and caption of a row with commas outside quotes, as `data::image` reads it.
fn rejoined(row: &Record<'_>) -> [String; 2] {
    let raw = row.raw.trim_start_matches(['\r', '\n']);
    let end = if raw.starts_with('"') { "\"," } else { "," };
    let caption = raw.split_once(end).map(|(_, rest)| unquoted(rest)).unwrap_or_default();
    [row.fields.get(0).unwrap_or_default().trim().to_owned(), caption]
}

/// A line's picture and caption, each without the quotes around it.
fn split(line: &str) -> [String; 2] {
    let (picture, caption) = line.split_once(',').unwrap_or((line, ""));
    [picture, caption].map(unquoted)
}

fn unquoted(field: &str) -> String {
    let field = field.trim();
    match field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\"").trim().to_owned(),
        None => field.to_owned(),
    }
}

/// Lines without those of the numbers `dropped`, each with the end that it had.
pub fn without_lines(text: &str, dropped: &BTreeSet<usize>) -> String {
    let kept = |(at, line)| (!dropped.contains(&(at + 1))).then_some(line);
    text.split_inclusive('\n').enumerate().filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_decoded_by_its_mark() {
        let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(bytes).collect()
        };
        let read = |bytes: &[u8]| decode(bytes);
        assert_eq!(read("墨".as_bytes()), Ok(("墨".to_owned(), Encoding::Utf8)));
        assert_eq!(read("\u{feff}a".as_bytes()), Ok(("a".to_owned(), Encoding::Marked)));
        for bytes in [wide("\u{feff}墨🖌", u16::to_le_bytes), wide("\u{feff}墨🖌", u16::to_be_bytes)]
        {
            assert_eq!(read(&bytes), Ok(("墨🖌".to_owned(), Encoding::Utf16)));
        }
        assert_eq!(read(b"caf\xe9"), Err(3));
        assert_eq!(read(b"\xff\xfea"), Err(0));
    }

    #[test]
    fn a_csv_loses_the_rows_that_start_at_a_line() {
        let text = "file_name,text\r\na.png,\"a, b\"\r\n\r\nb.png,\"c\nd\"\r\nc.png,e";
        let lines: Vec<usize> = records(text).map(|row| row.line).collect();
        assert_eq!(lines, [1, 2, 4, 6]);
        let kept = csv_without(text, &[2, 4].into());
        assert_eq!(kept, "file_name,text\r\nc.png,e");
    }

    #[test]
    fn a_csv_without_header_gets_one() {
        let text = "a.png, a cat, black\n\nb.png,\"a \"\"red\"\" dog\"\nc.png,gone\n";
        let written = csv_quoted(text, false, &[4].into()).unwrap();
        let expected = "file_name,text\na.png,\"a cat, black\"\nb.png,\"a \"\"red\"\" dog\"\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn commas_outside_of_quotes_get_quotes() {
        let text = "image,prompt\na.png,one\nb.png,two, three\nc.png,\"four, five\"\n";
        let written = csv_quoted(text, true, &[2].into()).unwrap();
        assert_eq!(written, "image,prompt\nb.png,\"two, three\"\nc.png,\"four, five\"\n");
    }

    #[test]
    fn a_comma_in_a_quoted_name_does_not_end_it() {
        let text = "file_name,text\n\n\"a,b.png\",a star, red\n\"c.png\",\"x\",y\n";
        let written = csv_quoted(text, true, &BTreeSet::new()).unwrap();
        let expected = "file_name,text\n\"a,b.png\",\"a star, red\"\nc.png,\"\"\"x\"\",y\"\n";
        assert_eq!(written, expected);
    }

    proptest! {
        #[test]
        fn what_is_mended_stays_as_it_is(text in "[ab,\"\\r\\n é]{0,40}") {
            let mended = csv_quoted(&text, false, &BTreeSet::new()).unwrap();
            prop_assert_eq!(csv_quoted(&mended, true, &BTreeSet::new()), Some(mended));
        }

        #[test]
        fn rows_that_are_not_dropped_stay(text in "[ab,\"\\r\\n é]{0,40}") {
            let rows = csv_without(&text, &BTreeSet::new());
            prop_assert_eq!(rows.trim_end_matches(['\r', '\n']), text.trim_end_matches(['\r', '\n']));
        }

        #[test]
        fn lines_that_are_not_dropped_stay(text in "[a\\r\\n]{0,20}") {
            prop_assert_eq!(without_lines(&text, &BTreeSet::new()), text);
        }
    }
}
