//! Whether a loss of power may have taken what [`Durability::Relaxed`](crate::Durability) had answered.
//!
//! Before its first commit such a server marks the store with the boot of the operating system in which it runs, and at
//! an orderly end, after which all is on the disk, it takes the mark away. A mark of another boot says that the system went
//! down in between: what came last may be gone, and its numbers would be given a second time.

use crate::batch::Batch;
use crate::table::Table;

/// The mark's key in [`Table::Meta`]. The value is the boot, or nothing where that is not known.
pub(crate) const MARK: &[u8] = b"relaxed";

/// Whether the system may have lost what was written in the boot of this mark.
pub(crate) fn is_lost(mark: Option<&[u8]>, boot: Option<&str>) -> bool {
    mark.is_some_and(|mark| boot.is_none_or(|boot| boot.as_bytes() != mark))
}

/// Marks a store.
pub(crate) fn mark(boot: Option<&str>) -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::Meta, MARK, boot.unwrap_or_default().as_bytes());
    batch
}

/// Takes the mark away.
pub(crate) fn unmark(batch: &mut Batch) {
    batch.delete(Table::Meta, MARK);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_safe_within_one_known_boot_only() {
        for (name, mark, boot, expected) in [
            ("an orderly end", None, Some("b1"), false),
            ("an orderly end, and no boot is known", None, None, false),
            ("the same boot", Some("b1"), Some("b1"), false),
            ("another boot", Some("b1"), Some("b2"), true),
            ("no boot is known any more", Some("b1"), None, true),
            ("none was known", Some(""), Some("b1"), true),
            ("none was ever known", Some(""), None, true),
        ] {
            let lost = is_lost(mark.map(str::as_bytes), boot);
            assert_eq!(lost, expected, "{name}");
        }
    }
}
