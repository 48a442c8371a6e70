//! `TFRecord`: length (u64), its checksum (u32), data, its checksum (u32), all little endian
//! (`tensorflow/core/lib/io/record_writer.h`).

use std::io::{self, Read};

/// CRC-32C, rotated and shifted so that checksums of checksums do not cancel out.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// `data` as a record.
pub(super) fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole record: where it starts, and its data.
    Record(u64, Vec<u8>),
    /// The end, after a whole record.
    End,
    /// A record that is cut off or fails its checksum; it starts at this byte.
    Torn(u64),
}

/// The records of a file of a known size.
#[derive(Debug)]
pub(super) struct Records<R> {
    source: R,
    at: u64,
    size: u64,
}

impl<R: Read> Records<R> {
    pub(super) fn new(source: R, size: u64) -> Self {
        Self { source, at: 0, size }
    }

    /// The next record. After [`Next::Torn`] there is nothing more to be had.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        let start = self.at;
        let left = self.size.saturating_sub(start);
        if left == 0 {
            return Ok(Next::End);
        }
        self.at = self.size;
        let (mut length, mut crc) = ([0; 8], [0; 4]);
        if !fill(&mut self.source, &mut length)? || !fill(&mut self.source, &mut crc)? {
            return Ok(Next::Torn(start));
        }
        if masked_crc(&length).to_le_bytes() != crc {
            return Ok(Next::Torn(start));
        }
        // Nothing is allocated that the file is too short for.
        let length = u64::from_le_bytes(length);
        let whole = length.checked_add(16).filter(|whole| *whole <= left);
        let (Some(whole), Ok(length)) = (whole, usize::try_from(length)) else {
            return Ok(Next::Torn(start));
        };
        let mut data = vec![0; length];
        if !fill(&mut self.source, &mut data)? || !fill(&mut self.source, &mut crc)? {
            return Ok(Next::Torn(start));
        }
        if masked_crc(&data).to_le_bytes() != crc {
            return Ok(Next::Torn(start));
        }
        self.at = start + whole;
        Ok(Next::Record(start, data))
    }
}

/// Fills the buffer; `false` where the file ends before.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Next> {
        let mut records = Records::new(bytes, bytes.len() as u64);
        let mut all = Vec::new();
        loop {
            all.push(records.next().unwrap());
            if !matches!(all.last(), Some(Next::Record(..))) {
                return all;
            }
        }
    }

    /// `RecordWriter` of tensorboard 2.21.0 (`tests/parity/events.py`).
    #[test]
    fn a_record_is_that_of_tensorboard() {
        let expected = [1, 0, 0, 0, 0, 0, 0, 0, 1, 117, 222, 65, 97, 120, 110, 228, 40];
        assert_eq!(frame(b"a"), expected);
    }

    #[test]
    fn records_come_back_and_a_cut_anywhere_ends_them() {
        let first = frame(b"first");
        let bytes = [first.clone(), frame(b""), frame(b"third")].concat();
        let whole = all(&bytes);
        let at = first.len() as u64;
        assert_eq!(whole[0], Next::Record(0, b"first".to_vec()));
        assert_eq!(whole[1], Next::Record(at, Vec::new()));
        assert_eq!(whole[2], Next::Record(at + 16, b"third".to_vec()));
        assert_eq!(whole[3], Next::End);
        for cut in 1..first.len() {
            assert_eq!(all(&first[..cut]), [Next::Torn(0)], "{cut}");
        }
        for cut in first.len() + 17..bytes.len() {
            assert_eq!(all(&bytes[..cut])[2], Next::Torn(at + 16), "{cut}");
        }
    }

    #[test]
    fn a_changed_byte_is_seen_wherever_it_is() {
        let bytes = frame(b"data");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(all(&changed), [Next::Torn(0)], "{at}");
        }
        assert_eq!(all(&[0; 40]), [Next::Torn(0)]);
    }

    #[test]
    fn a_length_beyond_the_file_takes_no_memory() {
        let length = (u64::MAX - 3).to_le_bytes();
        let bytes = [&length[..], &masked_crc(&length).to_le_bytes(), &[0; 8]].concat();
        assert_eq!(all(&bytes), [Next::Torn(0)]);
    }
}
