//! A store that is pretended: rows in memory, whose commits and reads take their time, fail, and are cut short by a crash.

use crate::settings::StoreSettings;
use fanfare_core::{Change, Fetch, FetchId, Fetched, StoreFailure, Table};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type Rows = BTreeMap<(Table, Vec<u8>), Arc<[u8]>>;

/// A commit between its order and its answer.
#[derive(Debug)]
struct Commit {
    changes: Vec<Change>,
    failure: Option<StoreFailure>,
}

/// A read between its order and its answer.
#[derive(Debug)]
enum Read {
    Ordered(Vec<Fetch>),
    Done(Result<Vec<Fetched>, StoreFailure>),
}

#[derive(Debug)]
pub(crate) struct SimStore {
    pub(crate) settings: StoreSettings,
    rows: Rows,
    /// One is under way at a time. `None` inside once its changes can be read.
    commit: Option<Option<Commit>>,
    reads: BTreeMap<FetchId, Read>,
    /// What failed, in its order. Whether it was kept is seen after a restart only.
    in_doubt: Vec<Vec<Change>>,
    failing_commits: (usize, StoreFailure),
    failing_reads: usize,
}

impl SimStore {
    pub(crate) const fn new(settings: StoreSettings) -> Self {
        Self {
            settings,
            rows: BTreeMap::new(),
            commit: None,
            reads: BTreeMap::new(),
            in_doubt: Vec::new(),
            failing_commits: (0, StoreFailure::Full),
            failing_reads: 0,
        }
    }

    /// The next `count` commits fail so.
    pub(crate) const fn fail_commits(&mut self, count: usize, failure: StoreFailure) {
        self.failing_commits = (count, failure);
    }

    /// The next `count` reads fail.
    pub(crate) const fn fail_reads(&mut self, count: usize) {
        self.failing_reads = count;
    }

    pub(crate) const fn is_committing(&self) -> bool {
        self.commit.is_some()
    }

    pub(crate) fn reads_under_way(&self) -> usize {
        self.reads.len()
    }

    pub(crate) fn rows(&self, table: Table) -> impl Iterator<Item = (&[u8], &[u8])> {
        let rows = self.rows.iter().filter(move |((of, _), _)| *of == table);
        rows.map(|((_, key), value)| (&**key, &**value))
    }

    /// What is in it now: what was answered, and what can be read.
    pub(crate) fn copy(&self) -> Rows {
        self.rows.clone()
    }

    /// It is as it was then, and nothing is under way.
    pub(crate) fn put_back(&mut self, rows: Rows) {
        self.crash(|| false);
        self.rows = rows;
    }

    pub(crate) fn order_commit(&mut self, changes: Vec<Change>) {
        let (count, failure) = &mut self.failing_commits;
        let failure = (*count > 0).then_some(*failure);
        *count = count.saturating_sub(1);
        self.commit = Some(Some(Commit { changes, failure }));
    }

    /// The commit can be read from here on, where it does not fail.
    pub(crate) fn apply(&mut self) {
        let sound = |it: &mut Commit| it.failure.is_none();
        let commit = self.commit.as_mut().and_then(|it| it.take_if(sound));
        for change in commit.into_iter().flat_map(|it| it.changes) {
            self.change(change);
        }
    }

    pub(crate) fn answer_commit(&mut self) -> Result<(), StoreFailure> {
        self.apply();
        let Some(Commit { changes, failure }) = self.commit.take().flatten() else {
            return Ok(());
        };
        if failure == Some(StoreFailure::Failed) {
            self.in_doubt.push(changes);
        }
        failure.map_or(Ok(()), Err)
    }

    pub(crate) fn order_read(&mut self, id: FetchId, fetches: Vec<Fetch>) {
        self.reads.insert(id, Read::Ordered(fetches));
    }

    /// Reads all of an order in this moment.
    pub(crate) fn read(&mut self, id: FetchId) {
        let Some(Read::Ordered(fetches)) = self.reads.get(&id) else {
            return;
        };
        let result = if self.failing_reads == 0 {
            Ok(fetches.iter().map(|it| fetch(&self.rows, it)).collect())
        } else {
            self.failing_reads -= 1;
            Err(StoreFailure::Failed)
        };
        self.reads.insert(id, Read::Done(result));
    }

    pub(crate) fn answer_read(
        &mut self,
        id: FetchId,
    ) -> Option<Result<Vec<Fetched>, StoreFailure>> {
        self.read(id);
        match self.reads.remove(&id) {
            Some(Read::Done(result)) => Some(result),
            Some(Read::Ordered(_)) | None => None,
        }
    }

    /// The process ends. Of each commit that was not answered by success, `is_kept` says whether it is there afterwards; one
    /// that could be read is.
    pub(crate) fn crash(&mut self, mut is_kept: impl FnMut() -> bool) {
        self.reads.clear();
        let cut = self.commit.take().flatten();
        let never_kept = [Some(StoreFailure::Full), Some(StoreFailure::Busy)];
        let cut = cut.filter(|it| !never_kept.contains(&it.failure));
        let in_doubt = std::mem::take(&mut self.in_doubt);
        for changes in in_doubt.into_iter().chain(cut.map(|it| it.changes)) {
            if is_kept() {
                for change in changes {
                    self.change(change);
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Put { table, key, value } => {
                self.rows.insert((table, key), value);
            }
            Change::Delete { table, key } => {
                self.rows.remove(&(table, key));
            }
            Change::DeleteRange { table, from, to } => self
                .rows
                .retain(|(of, key), _| *of != table || *key < from || *key > to),
        }
    }
}

/// A store may leave it at a part, by the bounds of the fetch.
fn fetch(rows: &Rows, fetch: &Fetch) -> Fetched {
    let mut found = Fetched::default();
    if fetch.from > fetch.to {
        return found;
    }
    let range = (fetch.table, fetch.from.clone())..=(fetch.table, fetch.to.clone());
    let mut range = rows.range(range);
    let mut bytes = 0;
    while let Some(((_, key), value)) = if fetch.newest_first {
        range.next_back()
    } else {
        range.next()
    } {
        bytes += key.len() + value.len();
        let is_full = found.rows.len() == fetch.rows || bytes > fetch.bytes;
        if is_full && !found.rows.is_empty() {
            found.more = true;
            break;
        }
        found.rows.push((key.clone(), value.to_vec()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        Change::Put {
            table: Table::Meta,
            key: key.into(),
            value: value.as_bytes().into(),
        }
    }

    fn keys(store: &SimStore) -> String {
        let keys = store.rows(Table::Meta);
        keys.map(|(key, _)| String::from_utf8_lossy(key)).collect()
    }

    #[test]
    fn a_fetch_is_bounded_goes_either_way_and_says_whether_there_is_more() {
        let mut store = SimStore::new(StoreSettings::default());
        store.order_commit(["a", "b", "c", "d"].map(|key| put(key, "123456789")).into());
        store.answer_commit().unwrap();
        for (from, to, newest_first, rows, bytes, expected, more) in [
            ("a", "d", false, 9, 99, "abcd", false),
            ("b", "c", false, 9, 99, "bc", false),
            ("b", "c", true, 9, 99, "cb", false),
            ("a", "d", true, 2, 99, "dc", true),
            ("a", "d", false, 4, 99, "abcd", false),
            ("a", "d", false, 9, 20, "ab", true),
            ("a", "d", false, 9, 19, "a", true),
            ("a", "d", true, 9, 1, "d", true),
            ("d", "d", true, 9, 1, "d", false),
            ("e", "z", false, 9, 99, "", false),
            ("d", "a", false, 9, 99, "", false),
        ] {
            let fetch = Fetch {
                table: Table::Meta,
                from: from.into(),
                to: to.into(),
                newest_first,
                rows,
                bytes,
            };
            let found = super::fetch(&store.rows, &fetch);
            let keys = found
                .rows
                .iter()
                .map(|(key, _)| String::from_utf8_lossy(key));
            assert_eq!(
                (&*keys.collect::<String>(), found.more),
                (expected, more),
                "{fetch:?}"
            );
        }
    }

    #[test]
    fn a_commit_is_done_whole_in_its_order_or_not_at_all() {
        let range = |from: &str, to: &str| Change::DeleteRange {
            table: Table::Meta,
            from: from.into(),
            to: to.into(),
        };
        let delete = |key: &str| Change::Delete {
            table: Table::Meta,
            key: key.into(),
        };
        let abc = || ["a", "b", "c"].map(|key| put(key, "1")).to_vec();
        for (name, changes, expected) in [
            ("put", abc(), "abc"),
            (
                "delete",
                [abc(), vec![delete("b"), delete("x")]].concat(),
                "ac",
            ),
            ("range", [abc(), vec![range("b", "c")]].concat(), "a"),
            (
                "the other way",
                [vec![range("a", "c")], abc()].concat(),
                "abc",
            ),
        ] {
            let mut store = SimStore::new(StoreSettings::default());
            store.order_commit(changes.clone());
            assert_eq!(keys(&store), "", "{name}");
            store.apply();
            assert_eq!(keys(&store), expected, "{name}");
            assert_eq!(store.answer_commit(), Ok(()), "{name}");
            for failure in [StoreFailure::Full, StoreFailure::Busy, StoreFailure::Failed] {
                let mut store = SimStore::new(StoreSettings::default());
                store.fail_commits(1, failure);
                store.order_commit(changes.clone());
                store.apply();
                assert_eq!(store.answer_commit(), Err(failure), "{name}");
                assert_eq!(keys(&store), "", "{name}");
            }
        }
    }

    #[test]
    fn after_a_crash_what_was_not_answered_is_there_or_not_and_what_was_full_is_not() {
        let [kept, lost] = [true, false];
        for (name, failure, read, luck, expected) in [
            ("cut short and kept", None, false, kept, "b"),
            ("cut short and lost", None, false, lost, ""),
            ("readable", None, true, lost, "b"),
            (
                "failed and kept",
                Some(StoreFailure::Failed),
                false,
                kept,
                "b",
            ),
            (
                "failed and lost",
                Some(StoreFailure::Failed),
                false,
                lost,
                "",
            ),
            ("full", Some(StoreFailure::Full), false, kept, ""),
        ] {
            for answered in [false, true] {
                let mut store = SimStore::new(StoreSettings::default());
                if let Some(failure) = failure {
                    store.fail_commits(1, failure);
                }
                store.order_commit(vec![put("b", "1")]);
                if read {
                    store.apply();
                }
                let is_sound = answered && store.answer_commit().is_ok();
                store.crash(|| luck);
                let expected = if is_sound { "b" } else { expected };
                assert_eq!(keys(&store), expected, "{name}, answered {answered}");
                store.crash(|| true);
                assert_eq!(keys(&store), expected, "{name}, answered {answered}, once");
            }
        }
    }
}
