//! Where things are in the file: a block that says what it is, the two halves of the log, and then redb's part.

use std::io;

use redb::StorageBackend;

/// The format that this version writes. It rises when an older version could not read what a newer one wrote. Format 1 was
/// redb's file alone; in format 2, zeros were a part of the log that nothing was written to.
pub(crate) const FORMAT: u32 = 3;

const BLOCK: u64 = 4_096;
/// What a store begins with. The line ends show a file that was copied as text.
const MAGIC: &[u8; 16] = b"Fanfare store\r\n\0";
/// What a file of format 1 began with.
const MAGIC_1: &[u8] = b"redb";
/// Magic, format, length of a half, CRC-32.
const NAMED: usize = 32;
/// Longest half of a log. It is read as a whole when a file is opened.
const HALF_MAX: u64 = 1 << 30;

/// How a file is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    half: u64,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Store(Layout),
    /// Nothing was written to it yet.
    Blank,
    Older(u32),
    Newer(u32),
    /// It begins like a store.
    Damaged,
    Foreign,
}

impl Layout {
    /// With a log of at least so many bytes in all, in whole blocks.
    pub(crate) fn new(log: usize) -> Self {
        let half = (log as u64 / 2).next_multiple_of(BLOCK);
        Self {
            half: half.clamp(BLOCK, HALF_MAX),
        }
    }

    /// Length of a half of the log, in bytes.
    pub(crate) const fn half(self) -> u64 {
        self.half
    }

    /// Where a half begins.
    pub(crate) const fn half_at(self, half: u64) -> u64 {
        BLOCK + half * self.half
    }

    /// Where redb's part begins.
    pub(crate) const fn tables_at(self) -> u64 {
        self.half_at(2)
    }

    /// What the file begins with.
    pub(crate) fn named(self) -> [u8; NAMED] {
        let mut named = [0; NAMED];
        let (content, checksum) = named.split_at_mut(NAMED - 4);
        let parts = [&MAGIC[..], &FORMAT.to_le_bytes(), &self.half.to_le_bytes()];
        content.copy_from_slice(&parts.concat());
        checksum.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
        named
    }

    /// Looks at how a file begins.
    pub(crate) fn find(backend: &dyn StorageBackend) -> io::Result<Kind> {
        let len = backend.len()?;
        let mut start = [0; NAMED];
        let there = usize::try_from(len).unwrap_or(NAMED).min(NAMED);
        if let Some(there) = start.get_mut(..there) {
            backend.read(0, there)?;
        }
        if start.starts_with(MAGIC_1) {
            return Ok(Kind::Older(1));
        }
        if !start.starts_with(MAGIC) {
            let blank = start.iter().all(|byte| *byte == 0);
            return Ok(if blank { Kind::Blank } else { Kind::Foreign });
        }
        let (content, checksum) = start.split_at(NAMED - 4);
        if crc32fast::hash(content).to_le_bytes() != *checksum {
            return Ok(Kind::Damaged);
        }
        let mut numbers = content.split_at(MAGIC.len()).1.iter().copied();
        let mut little = |bytes: u32| {
            (0..bytes).fold(0, |sum, at| {
                sum | u64::from(numbers.next().unwrap_or(0)) << (8 * at)
            })
        };
        let (format, half) = (little(4), little(8));
        let format = u32::try_from(format).unwrap_or(u32::MAX);
        let layout = Self { half };
        Ok(match format {
            FORMAT if half % BLOCK != 0 || !(BLOCK..=HALF_MAX).contains(&half) => Kind::Damaged,
            FORMAT if len < layout.tables_at() => Kind::Damaged,
            FORMAT => Kind::Store(layout),
            newer if newer > FORMAT => Kind::Newer(newer),
            older => Kind::Older(older),
        })
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn what_a_file_is_shows_in_its_first_bytes() {
        let layout = Layout::new(10_000);
        assert_eq!(
            (layout.half(), layout.tables_at()),
            (8_192, 4_096 + 2 * 8_192)
        );
        let store = |format: u32| {
            let mut named = layout.named();
            named[16..20].copy_from_slice(&format.to_le_bytes());
            let checksum = crc32fast::hash(&named[..NAMED - 4]);
            named[NAMED - 4..].copy_from_slice(&checksum.to_le_bytes());
            let mut bytes = named.to_vec();
            bytes.resize(usize::try_from(layout.tables_at()).unwrap(), 0);
            bytes
        };
        let mut damaged = store(FORMAT);
        damaged[17] ^= 1;
        let mut cut = store(FORMAT);
        cut.pop();
        let cases = [
            (store(FORMAT), Kind::Store(layout)),
            (store(FORMAT + 1), Kind::Newer(FORMAT + 1)),
            (store(1), Kind::Older(1)),
            (damaged, Kind::Damaged),
            (cut, Kind::Damaged),
            (b"redb".repeat(100), Kind::Older(1)),
            (b"text".repeat(100), Kind::Foreign),
            (b"x".to_vec(), Kind::Foreign),
            (vec![0; 100], Kind::Blank),
            (vec![], Kind::Blank),
        ];
        for (number, (bytes, kind)) in cases.into_iter().enumerate() {
            let backend = InMemoryBackend::new();
            backend.set_len(bytes.len() as u64).unwrap();
            backend.write(0, &bytes).unwrap();
            assert_eq!(Layout::find(&backend).unwrap(), kind, "case {number}");
        }
    }
}
