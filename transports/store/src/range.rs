//! What a read or a range delete reaches, and the pages in which a read is answered.

use std::ops::{Bound, RangeBounds};

use crate::table::Table;

/// A range of keys, ordered bytewise.
///
/// ```
/// use fanfare_store::KeyRange;
/// let room = KeyRange::prefix(b"task:7/");
/// assert!(room.contains(b"task:7/0001") && !room.contains(b"task:70"));
/// assert!(KeyRange::new(&b"b"[..]..&b"a"[..]).is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            from: Bound::Unbounded,
            to: Bound::Unbounded,
        }
    }

    /// From a standard range over byte strings.
    #[must_use]
    pub fn new<'k>(range: impl RangeBounds<&'k [u8]>) -> Self {
        Self {
            from: range.start_bound().map(|key| key.to_vec()),
            to: range.end_bound().map(|key| key.to_vec()),
        }
    }

    /// One key.
    #[must_use]
    pub fn key(key: &[u8]) -> Self {
        Self::new(key..=key)
    }

    /// Every key that begins with these bytes.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        // The first key behind all of them: the last byte that can be raised is, what follows it is dropped.
        let mut behind = prefix.to_vec();
        while let Some(last) = behind.last_mut() {
            if *last < u8::MAX {
                *last += 1;
                break;
            }
            behind.pop();
        }
        let to = if behind.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(behind)
        };
        Self {
            from: Bound::Included(prefix.to_vec()),
            to,
        }
    }

    /// Whether no key can be in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let (from, to) = self.half_open();
        to.is_some_and(|to| from >= to)
    }

    /// Whether the key is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        RangeBounds::<[u8]>::contains(&self.bounds(), key)
    }

    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (
            self.from.as_ref().map(Vec::as_slice),
            self.to.as_ref().map(Vec::as_slice),
        )
    }

    /// Its first key, and the first behind it. `None`: there is no end.
    pub(crate) fn half_open(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let behind = |key: &[u8]| [key, &[0]].concat();
        let from = match &self.from {
            Bound::Included(key) => key.clone(),
            Bound::Excluded(key) => behind(key),
            Bound::Unbounded => Vec::new(),
        };
        let to = match &self.to {
            Bound::Included(key) => Some(behind(key)),
            Bound::Excluded(key) => Some(key.clone()),
            Bound::Unbounded => None,
        };
        (from, to)
    }

    /// What is left of the range once `key` was read.
    pub(crate) fn after(&self, key: &[u8], order: Order) -> Self {
        let mut rest = self.clone();
        match order {
            Order::Forward => rest.from = Bound::Excluded(key.to_vec()),
            Order::Backward => rest.to = Bound::Excluded(key.to_vec()),
        }
        rest
    }

    pub(crate) fn size(&self) -> usize {
        let bytes = |bound: &Bound<Vec<u8>>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => key.len(),
            Bound::Unbounded => 0,
        };
        bytes(&self.from) + bytes(&self.to)
    }

    /// The longest of its keys.
    pub(crate) fn longest(&self) -> usize {
        let mut longest = 0;
        for bound in [&self.from, &self.to] {
            if let Bound::Included(key) | Bound::Excluded(key) = bound {
                longest = longest.max(key.len());
            }
        }
        longest
    }
}

/// The direction of a read.
///
/// ```
/// assert_eq!(fanfare_store::Order::default(), fanfare_store::Order::Forward);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// From the smallest key.
    #[default]
    Forward,
    /// From the largest key.
    Backward,
}

/// How much one page may hold. A page holds at least one row, whatever its size, so that a reader always comes on.
///
/// ```
/// let limits = fanfare_store::Limits { rows: 100, ..Default::default() };
/// assert_eq!(limits.bytes, 256 * 1024);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most rows.
    pub rows: usize,
    /// Most bytes of keys and values together.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 1_000,
            bytes: 256 * 1024,
        }
    }
}

/// A read of one page.
///
/// ```
/// use fanfare_store::{KeyRange, Order, Read, Table};
/// let newest = Read::new(Table::Entries, KeyRange::all()).order(Order::Backward).rows(10);
/// assert_eq!(newest.limits.rows, 10);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Where to read.
    pub table: Table,
    /// Which keys.
    pub range: KeyRange,
    /// In which direction.
    pub order: Order,
    /// How much.
    pub limits: Limits,
}

impl Read {
    /// Forwards, with the default limits.
    #[must_use]
    pub fn new(table: Table, range: KeyRange) -> Self {
        Self {
            table,
            range,
            order: Order::default(),
            limits: Limits::default(),
        }
    }

    /// In this direction.
    #[must_use]
    pub const fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// At most so many rows.
    #[must_use]
    pub const fn rows(mut self, rows: usize) -> Self {
        self.limits.rows = rows;
        self
    }

    /// At most so many bytes.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }
}

/// A row: what was put under a key.
///
/// ```
/// use fanfare_store::Row;
/// let row = Row { key: b"a".to_vec(), value: b"1".to_vec() };
/// assert_eq!(row.key, b"a");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// One page of a read.
///
/// ```
/// let page = fanfare_store::Page::default();
/// assert!(page.rows.is_empty() && page.next.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The rows, in the order that was asked for.
    pub rows: Vec<Row>,
    /// The range of the next page. `None`: there was nothing more.
    pub next: Option<KeyRange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_begins_with_it_and_nothing_else() {
        type Keys = &'static [&'static [u8]];
        let cases: [(&[u8], Keys, Keys); 4] = [
            (b"a", &[b"a", b"a\xff\xff", b"ab"], &[b"", b"b", b"`"]),
            (b"a\xff", &[b"a\xff", b"a\xff\x00"], &[b"a", b"b", b"a\xfe"]),
            (
                b"\xff\xff",
                &[b"\xff\xff", b"\xff\xff\xff"],
                &[b"\xff\xfe", b"\xff"],
            ),
            (b"", &[b"", b"\xff"], &[]),
        ];
        for (prefix, inside, outside) in cases {
            let range = KeyRange::prefix(prefix);
            assert!(inside.iter().all(|key| range.contains(key)), "{prefix:?}");
            assert!(!outside.iter().any(|key| range.contains(key)), "{prefix:?}");
        }
    }

    #[test]
    fn a_range_is_empty_exactly_when_no_key_fits() {
        let (a, b): (&[u8], &[u8]) = (b"a", b"b");
        let cases = [
            (KeyRange::new(a..b), false),
            (KeyRange::new(b..a), true),
            (KeyRange::new(a..a), true),
            (KeyRange::new(a..=a), false),
            (
                KeyRange::new((Bound::Excluded(a), Bound::Included(a))),
                true,
            ),
            (
                KeyRange::new((Bound::Excluded(a), Bound::Excluded(&b"a\0"[..]))),
                true,
            ),
            (
                KeyRange::new((Bound::Excluded(a), Bound::Included(&b"a\0"[..]))),
                false,
            ),
            (KeyRange::new(..&b""[..]), true),
            (KeyRange::new(..=&b""[..]), false),
            (KeyRange::all(), false),
        ];
        for (range, empty) in cases {
            assert_eq!(range.is_empty(), empty, "{range:?}");
        }
    }
}
