//! The one place with `unsafe`: memory-mapping.

use std::fs::File;
use std::io::{self, Read as _};

use memmap2::Mmap;

/// The bytes of a file: read into memory when small, mapped when large.
#[derive(Debug)]
pub(super) enum Bytes {
    Read(Vec<u8>),
    Mapped(Mmap),
}

/// Files up to this size are read: a file cut short by someone else while it is mapped would kill
/// the process instead of giving an error, and adapters are small.
const READ_UP_TO: u64 = 64 << 20;

impl Bytes {
    #[expect(unsafe_code, reason = "memory-mapping cannot be expressed in safe Rust")]
    pub(super) fn open(file: &mut File, length: u64) -> io::Result<Self> {
        if length <= READ_UP_TO {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            file.read_to_end(&mut bytes)?;
            return Ok(Self::Read(bytes));
        }
        // SAFETY: the mapping is only read. A base that another program shortens meanwhile ends
        // this one with SIGBUS, and one that it rewrites is read as rewritten; the docs of
        // `TensorFile` say so.
        let map = unsafe { Mmap::map(&*file)? };
        Ok(Self::Mapped(map))
    }
}

impl Bytes {
    /// Tells the system that all of it will be read soon, so that a disk is read ahead of the use.
    pub(super) fn will_need(&self) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            // only a hint; what cannot be read ahead is read when it is used
            let _ = map.advise(memmap2::Advice::WillNeed);
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}
