//! What is read, a page at a time, over the tables and the two halves of the log, against a plain map a table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use std::collections::BTreeMap;
use std::ops::Bound;

use fanfare_loopback::Crash;
use fanfare_store::{
    Batch, Error, KeyRange, Limits, Options, Order, Page, Read, Row, Store, Table,
};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{Rows, SimDisk, all};

mod support;

#[derive(Debug, Clone)]
enum Change {
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    Clear(Table, KeyRange),
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    /// Pages of one moment.
    Read(Vec<Read>),
    /// The next page of each of the last reads that has one.
    Next,
    /// The tables can take no more. Then one half of the log can't go there, and the other is added to.
    Full,
    HasSpace,
    /// Closed, and opened again.
    Reopen,
    /// The process ended, and the store is opened again.
    Crash,
}

/// Few bytes, so that keys meet, and begin with each other.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(&[0, 1, 255][..]), 0..3)
}

fn range() -> impl Strategy<Value = KeyRange> {
    let bound = prop_oneof![
        4 => key().prop_map(Bound::Included),
        4 => key().prop_map(Bound::Excluded),
        1 => Just(Bound::Unbounded),
    ];
    (bound.clone(), bound).prop_map(|(from, to)| {
        let bounds = (
            from.as_ref().map(Vec::as_slice),
            to.as_ref().map(Vec::as_slice),
        );
        KeyRange::new(bounds)
    })
}

fn table() -> impl Strategy<Value = Table> {
    prop::sample::select(&[Table::Rooms, Table::Entries, Table::Meta][..])
}

fn change() -> impl Strategy<Value = Change> {
    // Small, of a sector or more, and too large for the log.
    let value = prop_oneof![
        20 => (any::<u8>(), 0_usize..20),
        6 => (any::<u8>(), 300_usize..1_500),
        1 => (any::<u8>(), 4_000_usize..6_000),
    ];
    let value = value.prop_map(|(byte, len)| vec![byte; len]);
    prop_oneof![
        6 => (table(), key(), value).prop_map(|(table, key, value)| Change::Put(table, key, value)),
        2 => (table(), key()).prop_map(|(table, key)| Change::Delete(table, key)),
        2 => (table(), range()).prop_map(|(table, range)| Change::Clear(table, range)),
    ]
}

fn read() -> impl Strategy<Value = Read> {
    let limits = (
        prop_oneof![0_usize..4, Just(1_000)],
        prop_oneof![0_usize..50, 300_usize..3_000, Just(256 << 10)],
    );
    (table(), range(), any::<bool>(), limits).prop_map(|(table, range, backward, limits)| {
        let (rows, bytes) = limits;
        let order = if backward {
            Order::Backward
        } else {
            Order::Forward
        };
        Read::new(table, range).order(order).rows(rows).bytes(bytes)
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => vec(change(), 0..5).prop_map(Step::Commit),
        8 => vec(read(), 1..4).prop_map(Step::Read),
        8 => Just(Step::Next),
        2 => Just(Step::Full),
        1 => Just(Step::HasSpace),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// A map a table.
#[derive(Debug, Clone, Default)]
struct Model(BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>);

impl Model {
    fn make(&mut self, change: &Change) {
        match change {
            Change::Put(table, key, value) => {
                let rows = self.0.entry(*table).or_default();
                rows.insert(key.clone(), value.clone());
            }
            Change::Delete(table, key) => {
                self.0.entry(*table).or_default().remove(key);
            }
            Change::Clear(table, range) => {
                let rows = self.0.entry(*table).or_default();
                rows.retain(|key, _| !range.contains(key));
            }
        }
    }

    /// The rows of a page, and whether there are more.
    fn page(&self, read: &Read) -> (Vec<Row>, bool) {
        let rows = self.0.get(&read.table).cloned().unwrap_or_default();
        let rows = rows.into_iter().map(|(key, value)| Row { key, value });
        let mut rows: Vec<_> = rows.filter(|row| read.range.contains(&row.key)).collect();
        if read.order == Order::Backward {
            rows.reverse();
        }
        let Limits { rows: most, bytes } = read.limits;
        let mut sum = 0;
        let fits = rows.iter().enumerate().take_while(|(place, row)| {
            sum += row.key.len() + row.value.len();
            *place < most && (*place == 0 || sum <= bytes)
        });
        let page = fits.count();
        // A page of no rows has no next one: a reader would not come on.
        let more = page < rows.len() && most > 0;
        rows.truncate(page);
        (rows, more)
    }

    fn rows(&self) -> Rows {
        let rows = self.0.iter().flat_map(|(table, rows)| {
            let rows = rows.iter();
            rows.map(|(key, value)| ((*table, key.clone()), value.clone()))
        });
        rows.collect()
    }
}

/// A store on a disk, and what must be in it.
struct Run {
    disk: SimDisk,
    store: Option<Store>,
    model: Model,
    /// What is read on.
    reads: Vec<Read>,
}

fn open(disk: &SimDisk) -> Store {
    let options = Options {
        read_threads: 1,
        cache_bytes: 64 << 10,
        // Of eight sectors a half.
        log_bytes: 8 << 10,
        ..Options::default()
    };
    Store::open_on(disk.clone(), "simulated", options).unwrap()
}

impl Run {
    fn new() -> Self {
        let disk = SimDisk::default();
        Self {
            store: Some(open(&disk)),
            disk,
            model: Model::default(),
            reads: Vec::new(),
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(changes) => self.commit(&changes),
            Step::Read(reads) => {
                self.reads = reads;
                self.read();
            }
            Step::Next => self.read(),
            Step::Full => {
                self.disk.space(Some(self.disk.used()));
            }
            Step::HasSpace => self.disk.space(None),
            Step::Reopen => {
                // It may find out now that there is no space.
                let closed = self.store.take().unwrap().close();
                assert!(
                    matches!(closed, Ok(()) | Err(Error::Full { .. })),
                    "{closed:?}"
                );
                self.store = Some(open(&self.disk));
            }
            Step::Crash => {
                let disk = SimDisk::from(self.disk.crash(Crash::Kept, 0));
                self.store = Some(open(&disk));
                self.disk = disk;
            }
        }
    }

    fn commit(&mut self, changes: &[Change]) {
        let mut batch = Batch::new();
        for change in changes.iter().cloned() {
            match change {
                Change::Put(table, key, value) => batch.put(table, key, value),
                Change::Delete(table, key) => batch.delete(table, key),
                Change::Clear(table, range) => batch.delete_range(table, range),
            };
        }
        let commit = || smol::block_on(self.store().commit(batch.clone()));
        match commit() {
            Ok(()) => {}
            Err(Error::Full { .. }) => {
                assert_eq!(all(self.store()).unwrap(), self.model.rows());
                self.disk.space(None);
                commit().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        changes.iter().for_each(|change| self.model.make(change));
    }

    fn read(&mut self) {
        let reads = std::mem::take(&mut self.reads);
        let pages = smol::block_on(self.store().read_all(reads.clone())).unwrap();
        assert_eq!(pages.len(), reads.len());
        for (read, page) in reads.into_iter().zip(pages) {
            self.reads.extend(self.check(read, page));
        }
    }

    /// Checks a page, and says how to read on.
    fn check(&self, read: Read, page: Page) -> Option<Read> {
        let (expected, more) = self.model.page(&read);
        assert_eq!(page.rows, expected, "{read:?}");
        assert_eq!(page.next.is_some(), more, "{read:?}");
        let next = page.next?;
        let last = &expected.last()?.key;
        let keys = self.model.rows().into_keys().map(|(_, key)| key);
        for key in keys {
            let behind = match read.order {
                Order::Forward => key > *last,
                Order::Backward => key < *last,
            };
            let left = behind && read.range.contains(&key);
            assert_eq!(next.contains(&key), left, "{read:?}: {key:?} in {next:?}");
        }
        Some(Read {
            range: next,
            ..read
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn every_page_is_the_models_whatever_half_or_table_its_rows_are_in(steps in vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.step(Step::Crash);
        assert_eq!(all(run.store()).unwrap(), run.model.rows());
    }
}
