//! Each row carries a checksum of its own.
//!
//! redb has a checksum for each page and looks at them when a file is opened, not when a page is read. What is damaged
//! while the store is open would come back as if it had been written. So a value ends with a CRC-32 of the table, the key
//! and the value: a row that changed, or stands under another key or in another table, is seen when it is read.

use crate::table::Table;

/// The bytes that a row needs beside its value.
pub(crate) const SEAL: usize = 4;

/// The checksum of a row.
pub(crate) fn seal(table: Table, key: &[u8], value: &[u8]) -> [u8; SEAL] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.name().as_bytes());
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// The value of a stored row, if the row is what was written.
pub(crate) fn unseal<'v>(table: Table, key: &[u8], stored: &'v [u8]) -> Option<&'v [u8]> {
    let (value, end) = stored.split_last_chunk::<SEAL>()?;
    (*end == seal(table, key, value)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_differs_anywhere_is_refused() {
        let mut stored = b"value".to_vec();
        stored.extend(seal(Table::Rooms, b"key", b"value"));
        assert_eq!(unseal(Table::Rooms, b"key", &stored), Some(&b"value"[..]));
        assert_eq!(unseal(Table::Tasks, b"key", &stored), None, "another table");
        assert_eq!(unseal(Table::Rooms, b"kez", &stored), None, "another key");
        assert_eq!(unseal(Table::Rooms, b"keyv", &stored), None, "a longer key");
        for byte in 0..stored.len() {
            for bit in 0..8 {
                let mut flipped = stored.clone();
                flipped[byte] ^= 1 << bit;
                assert_eq!(unseal(Table::Rooms, b"key", &flipped), None, "{byte}.{bit}");
            }
            assert_eq!(
                unseal(Table::Rooms, b"key", &stored[..byte]),
                None,
                "cut at {byte}"
            );
        }
    }
}
