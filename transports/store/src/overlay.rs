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
    /// Of the tables that they change.
    layers: BTreeMap<Table, Layer>,
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

    fn of_mut(&mut self, table: Table) -> &mut Layer {
        self.layers.entry(table).or_default()
    }

    pub(crate) fn of(&self, table: Table) -> Option<&Layer> {
        self.layers.get(&table)
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = (Table, &Layer)> {
        self.layers.iter().map(|(table, layer)| (*table, layer))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl Layer {
    fn put(&mut self, key: Vec<u8>, value: Kept) {
        self.rows.insert(key, value);
    }

    /// A range that holds a key, as those of a batch do.
    fn clear(&mut self, range: &KeyRange) {
        let gone = self.rows.range::<[u8], _>(range.bounds());
        let gone: Vec<Vec<u8>> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.rows.remove(&key);
        }
        self.cleared.add(range);
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
        if read.range.is_empty() {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Few bytes, so that keys meet, and begin with each other.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        vec(prop::sample::select(&[0, 1, 255][..]), 0..3)
    }

    fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
        prop_oneof![
            4 => key().prop_map(Bound::Included),
            4 => key().prop_map(Bound::Excluded),
            1 => Just(Bound::Unbounded),
        ]
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        (bound(), bound()).prop_map(|(from, to)| {
            KeyRange::new((
                from.as_ref().map(Vec::as_slice),
                to.as_ref().map(Vec::as_slice),
            ))
        })
    }

    /// Every key of up to three such bytes: those between the bounds too.
    fn keys() -> BTreeSet<Vec<u8>> {
        let mut keys = BTreeSet::from([Vec::new()]);
        for _ in 0..3 {
            let longer = keys
                .iter()
                .flat_map(|key| [0, 1, 255].map(|last| [key.as_slice(), &[last]].concat()));
            let longer: Vec<_> = longer.collect();
            keys.extend(longer);
        }
        keys
    }

    fn overlay(ranges: &[KeyRange]) -> Cleared {
        let mut layer = Layer::default();
        let ranges = ranges.iter().filter(|range| !range.is_empty());
        ranges.for_each(|range| layer.clear(range));
        layer.cleared
    }

    proptest! {
        #[test]
        fn what_is_cleared_is_what_a_plain_set_has(ranges in vec(range(), 0..8), seen in range()) {
            let cleared = overlay(&ranges);
            let part = cleared.overlapping(&seen);
            for key in keys() {
                let gone = ranges.iter().any(|range| range.contains(&key));
                prop_assert_eq!(cleared.contains(&key), gone, "{:?}", key);
                if seen.contains(&key) {
                    prop_assert_eq!(part.contains(&key), gone, "{:?} of a part", key);
                }
            }
            // Each holds a key, and there is one between two of them.
            for (from, to) in &cleared.0 {
                prop_assert!(to.as_ref().is_none_or(|to| from < to), "{:?}", cleared);
            }
            let ends = cleared.0.values().map(Option::as_ref);
            for (end, next) in ends.zip(cleared.0.keys().skip(1)) {
                prop_assert!(end.is_some_and(|end| end < next), "{:?}", cleared);
            }
            let (from, to) = seen.half_open();
            let reaches = |start: &Vec<u8>, end: &Option<Vec<u8>>| {
                to.as_ref().is_none_or(|to| start < to) && end.as_ref().is_none_or(|end| *end > from)
            };
            let expected = cleared.0.iter().filter(|(start, end)| reaches(start, end)).count();
            if !seen.is_empty() {
                prop_assert_eq!(part.0.len(), expected, "{:?} of {:?}", part, cleared);
            }
        }

        #[test]
        fn a_window_holds_what_fills_a_page_and_no_row_more(
            puts in vec((key(), prop::option::weighted(0.7, 0_usize..20)), 0..20),
            clears in vec(range(), 0..3),
            range in range(),
            backward in any::<bool>(),
            rows in 0_usize..5,
            bytes in 0_usize..40,
        ) {
            let mut layer = Layer::default();
            for (key, value) in puts {
                layer.put(key, value.map(|len| vec![7; len].into()));
            }
            clears.iter().filter(|range| !range.is_empty()).for_each(|range| layer.clear(range));
            let order = if backward { Order::Backward } else { Order::Forward };
            let read = Read::new(Table::Rooms, range).order(order).rows(rows).bytes(bytes);
            let window = layer.window(&read);

            let mut all: Vec<_> = layer.rows.clone().into_iter().collect();
            all.retain(|(key, _)| read.range.contains(key));
            if backward {
                all.reverse();
            }
            prop_assert!(all.starts_with(&window.rows));
            let fits = |rows: &[(Vec<u8>, Kept)]| {
                let puts = rows.iter().filter_map(|(key, kept)| Some(key.len() + kept.as_ref()?.len()));
                let (number, sum) = puts.fold((0, 0), |(number, sum), bytes| (number + 1, sum + bytes));
                number <= read.limits.rows && (number <= 1 || sum <= read.limits.bytes)
            };
            prop_assert!(window.rows.len() == all.len() || !fits(&window.rows));
            prop_assert!(window.rows.split_last().is_none_or(|(_, before)| fits(before)));
            for key in keys().iter().filter(|key| read.range.contains(key)) {
                prop_assert_eq!(window.cleared.contains(key), layer.cleared.contains(key));
            }
        }
    }
}
