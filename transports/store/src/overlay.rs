//! Changes that are safe in the log, and that the tables don't have yet.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::batch::{Batch, Change};
use crate::range::{KeyRange, Order, Read};
use crate::table::Table;

/// A value, or that there is none.
pub(crate) type Kept = Option<Arc<[u8]>>;

/// What some batches, made in their order, come to.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    layers: [Layer; Table::ALL.len()],
}

/// Of one table.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    rows: BTreeMap<Vec<u8>, Kept>,
    cleared: Cleared,
}

/// Ranges of which nothing is left of what was there before: from a key to before another, or to the end. They don't touch.
#[derive(Debug, Default, Clone)]
pub(crate) struct Cleared(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

/// What one read may need of a layer.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// In the read's order.
    pub(crate) rows: Vec<(Vec<u8>, Kept)>,
    pub(crate) cleared: Cleared,
}

impl Overlay {
    pub(crate) fn add(&mut self, batch: Batch) {
        for change in batch.into_changes() {
            match change {
                Change::Put(table, key, value) => self.of_mut(table).put(key, Some(value)),
                Change::Delete(table, key) => self.of_mut(table).put(key, None),
                Change::DeleteRange(table, range) => self.of_mut(table).clear(&range),
            }
        }
    }

    pub(crate) fn of(&self, table: Table) -> &Layer {
        let [rooms, entries, tasks, inboxes, ids, id_times, meta] = &self.layers;
        match table {
            Table::Rooms => rooms,
            Table::Entries => entries,
            Table::Tasks => tasks,
            Table::Inboxes => inboxes,
            Table::Ids => ids,
            Table::IdTimes => id_times,
            Table::Meta => meta,
        }
    }

    fn of_mut(&mut self, table: Table) -> &mut Layer {
        let [rooms, entries, tasks, inboxes, ids, id_times, meta] = &mut self.layers;
        match table {
            Table::Rooms => rooms,
            Table::Entries => entries,
            Table::Tasks => tasks,
            Table::Inboxes => inboxes,
            Table::Ids => ids,
            Table::IdTimes => id_times,
            Table::Meta => meta,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers.iter().all(Layer::is_empty)
    }
}

impl Layer {
    fn put(&mut self, key: Vec<u8>, value: Kept) {
        self.rows.insert(key, value);
    }

    fn clear(&mut self, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        let gone = self.rows.range::<[u8], _>(range.bounds());
        let gone: Vec<Vec<u8>> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.rows.remove(&key);
        }
        self.cleared.add(range);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.cleared.0.is_empty()
    }

    pub(crate) const fn cleared(&self) -> &Cleared {
        &self.cleared
    }

    /// In the order of the keys.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Vec<u8>, &Kept)> {
        self.rows.iter()
    }

    /// In a read's order.
    pub(crate) fn walk<'l>(
        &'l self,
        read: &Read,
    ) -> Box<dyn Iterator<Item = (&'l [u8], &'l Kept)> + 'l> {
        let rows = self.rows.range::<[u8], _>(read.range.bounds());
        let rows = rows.map(|(key, kept)| (key.as_slice(), kept));
        match read.order {
            Order::Forward => Box::new(rows),
            Order::Backward => Box::new(rows.rev()),
        }
    }

    /// A copy of what fills the read's page whatever lies below.
    pub(crate) fn window(&self, read: &Read) -> Window {
        if self.is_empty() || read.range.is_empty() {
            return Window::default();
        }
        let (mut rows, mut puts, mut bytes) = (Vec::new(), 0, 0);
        for (key, kept) in self.walk(read) {
            rows.push((key.to_vec(), kept.clone()));
            if let Some(value) = kept {
                puts += 1;
                bytes += key.len() + value.len();
                // A page has its first row whatever its size.
                if puts > read.limits.rows || (puts > 1 && bytes > read.limits.bytes) {
                    break;
                }
            }
        }
        let cleared = self.cleared.overlapping(&read.range);
        Window { rows, cleared }
    }
}

impl Cleared {
    fn add(&mut self, range: &KeyRange) {
        let (mut from, mut to) = range.half_open();
        let behind = to.as_deref().map_or(Bound::Unbounded, Bound::Included);
        // What it touches becomes one with it.
        let touching = self.0.range::<[u8], _>((Bound::Unbounded, behind));
        let touching: Vec<Vec<u8>> = touching
            .rev()
            .take_while(|(_, end)| end.as_ref().is_none_or(|end| *end >= from))
            .map(|(start, _)| start.clone())
            .collect();
        for start in touching {
            if let Some(end) = self.0.remove(&start) {
                from = from.min(start);
                to = to.zip(end).map(|(to, end)| to.max(end));
            }
        }
        self.0.insert(from, to);
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let mut before = self
            .0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        let before = before.next_back();
        before.is_some_and(|(_, to)| to.as_ref().is_none_or(|to| key < to.as_slice()))
    }

    fn overlapping(&self, range: &KeyRange) -> Self {
        let (from, to) = range.half_open();
        let behind = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.0.range::<[u8], _>((Bound::Unbounded, behind)).rev();
        let found = found.take_while(|(_, end)| end.as_ref().is_none_or(|end| *end > from));
        Self(found.map(|(from, to)| (from.clone(), to.clone())).collect())
    }

    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Bound<&[u8]>, Bound<&[u8]>)> {
        self.0.iter().map(|(from, to)| {
            let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            (Bound::Included(from.as_slice()), to)
        })
    }
}
