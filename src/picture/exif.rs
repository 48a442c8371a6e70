//! One field of EXIF: the user's comment.

/// Tag of the first directory: where the directory of EXIF is.
const EXIF_DIRECTORY: u16 = 0x8769;
/// Tag of that directory: eight bytes that name an encoding, then text.
const USER_COMMENT: u16 = 0x9286;

/// The `UserComment` of EXIF data (a TIFF header and directories), if there is one with text.
///
/// Text under `UNICODE` is UTF-16, big-endian where no byte order mark says otherwise: so piexif, with
/// which the WebUI writes it, has it in every file (the standard leaves the order open). Any other
/// text is taken for UTF-8.
pub fn user_comment(exif: &[u8]) -> Option<String> {
    let bytes = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let tiff = match bytes.get(..4)? {
        b"II*\0" => Tiff { bytes, little_endian: true },
        b"MM\0*" => Tiff { bytes, little_endian: false },
        _ => return None,
    };
    let entry = tiff.entry(tiff.u32(4)?, EXIF_DIRECTORY)?;
    let entry = tiff.entry(tiff.u32(entry + 8)?, USER_COMMENT)?;
    let length = usize::try_from(tiff.u32(entry + 4)?).ok()?;
    let start = usize::try_from(tiff.u32(entry + 8)?).ok()?;
    let comment = bytes.get(start..start.checked_add(length)?)?;
    let text = match comment.split_at_checked(8) {
        Some((b"UNICODE\0", text)) => utf16(text),
        Some((b"ASCII\0\0\0" | b"\0\0\0\0\0\0\0\0", text)) => {
            String::from_utf8_lossy(text).into_owned()
        }
        _ => String::from_utf8_lossy(comment).into_owned(),
    };
    let text = text.trim_end_matches('\0');
    (!text.is_empty()).then(|| text.to_owned())
}

struct Tiff<'a> {
    bytes: &'a [u8],
    little_endian: bool,
}

impl Tiff<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// Where the entry of `tag` in the directory at `directory` is: tag, type, count, value.
    fn entry(&self, directory: u32, tag: u16) -> Option<usize> {
        let directory = usize::try_from(directory).ok()?;
        let entries = usize::from(self.u16(directory)?);
        // the file's end ends a directory that claims more
        (0..entries)
            .map_while(|entry| {
                let at = directory.checked_add(2 + 12 * entry)?;
                self.u16(at).map(|found| (found, at))
            })
            .find_map(|(found, at)| (found == tag).then_some(at))
    }
}

fn utf16(bytes: &[u8]) -> String {
    let (bytes, read): (_, fn([u8; 2]) -> u16) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => (rest, u16::from_be_bytes),
        _ => (bytes, u16::from_be_bytes),
    };
    let (units, _) = bytes.as_chunks::<2>();
    let units = units.iter().map(|unit| read(*unit));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two directories of one entry each, and the comment behind them.
    fn exif(comment: &[u8], little_endian: bool) -> Vec<u8> {
        let length = u32::try_from(comment.len()).unwrap();
        let mut bytes = if little_endian { b"II".to_vec() } else { b"MM".to_vec() };
        for (value, size) in [(42, 2), (8, 4)]
            .into_iter()
            .chain([(1, 2), (u32::from(EXIF_DIRECTORY), 2), (4, 2), (1, 4), (26, 4), (0, 4)])
            .chain([(1, 2), (u32::from(USER_COMMENT), 2), (7, 2), (length, 4), (44, 4), (0, 4)])
        {
            if little_endian {
                bytes.extend(&value.to_le_bytes()[..size]);
            } else {
                bytes.extend(&value.to_be_bytes()[4 - size..]);
            }
        }
        bytes.extend(comment);
        bytes
    }

    #[test]
    fn comments_are_read_in_every_encoding() {
        let text = "ink, 墨 🖌\nSteps: 20";
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for comment in [
            [b"UNICODE\0", big.as_slice()].concat(),
            [b"UNICODE\0\xff\xfe", little.as_slice()].concat(),
            [b"ASCII\0\0\0", text.as_bytes()].concat(),
            [&[0; 8], text.as_bytes(), &[0; 3]].concat(),
            text.as_bytes().to_vec(),
        ] {
            for little_endian in [false, true] {
                let bytes = exif(&comment, little_endian);
                assert_eq!(user_comment(&bytes).as_deref(), Some(text));
                let marked = [b"Exif\0\0", bytes.as_slice()].concat();
                assert_eq!(user_comment(&marked).as_deref(), Some(text));
            }
        }
        assert_eq!(user_comment(&exif(b"UNICODE\0", false)), None);
    }

    #[test]
    fn damage_is_no_comment_and_no_panic() {
        let whole = exif(b"ASCII\0\0\0some text", false);
        for length in 0..whole.len() {
            assert_eq!(user_comment(&whole[..length]), None);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                user_comment(&bytes);
            }
        }
    }
}
