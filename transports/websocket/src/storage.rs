//! Where a shard's log is kept, as the shard sees it.

use fanfare_core::{Change, Fetch, Fetched, StoreFailure};
use futures::future::LocalBoxFuture;

/// Commits and reads rows for a [`Shard`](crate::Shard) whose log is not in memory.
///
/// The rows of all tables are one map, ordered by table and key. What is in a row is the hub's own affair. A call must not use the shard; a panic in it counts as
/// [`StoreFailure::Failed`], and so does a future that is never finished because the executor is gone.
///
/// ```
/// use std::cell::RefCell;
/// use std::collections::BTreeMap;
/// use std::future::ready;
/// use std::rc::Rc;
///
/// use fanfare_core::{AuthError, Change, Fetch, Fetched, Hub, Limits, StoreFailure, Table};
/// use fanfare_websocket::{Native, Shard, SocketLimits, Storage};
/// use futures::future::{FutureExt, LocalBoxFuture};
///
/// /// Rows that end with the process.
/// #[derive(Default)]
/// struct Map(RefCell<BTreeMap<(Table, Vec<u8>), Vec<u8>>>);
///
/// impl Storage for Map {
///     fn commit(&self, changes: Vec<Change>) -> LocalBoxFuture<'static, Result<(), StoreFailure>> {
///         let mut rows = self.0.borrow_mut();
///         for change in changes {
///             match change {
///                 Change::Put { table, key, value } => drop(rows.insert((table, key), value.to_vec())),
///                 Change::Delete { table, key } => drop(rows.remove(&(table, key))),
///                 Change::DeleteRange { table, from, to } => rows.retain(|(other, key), _| {
///                     *other != table || *key < from || *key > to
///                 }),
///             }
///         }
///         ready(Ok(())).boxed_local()
///     }
///
///     fn fetch(&self, fetches: Vec<Fetch>) -> LocalBoxFuture<'static, Result<Vec<Fetched>, StoreFailure>> {
///         let rows = self.0.borrow();
///         let found = fetches.into_iter().map(|fetch| {
///             let range = rows.range((fetch.table, fetch.from)..=(fetch.table, fetch.to));
///             let mut found: Vec<_> = range.map(|((_, key), value)| (key.clone(), value.clone())).collect();
///             if fetch.newest_first {
///                 found.reverse();
///             }
///             let more = found.len() > fetch.rows;
///             found.truncate(fetch.rows);
///             Fetched { rows: found, more }
///         });
///         ready(Ok(found.collect())).boxed_local()
///     }
/// }
///
/// let (native, executor) = (Native::new()?, Rc::new(smol::LocalExecutor::new()));
/// let hub = Hub::restore(Limits::default(), [7; 32], &[])?;
/// let nobody = |_: &_, _| Err(AuthError::BadToken);
/// let limits = SocketLimits::default();
/// let shard = Shard::with_storage(hub, Map::default(), native.clone(), limits, nobody, &executor);
/// assert_eq!(native.block_on(&executor, shard.restored()), Ok(()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Storage: 'static {
    /// Commits these changes in their order, all or none. One commit is under way at a time.
    fn commit(&self, changes: Vec<Change>) -> LocalBoxFuture<'static, Result<(), StoreFailure>>;

    /// Reads these parts as they are at one moment, with everything whose commit was answered before. What each of them
    /// found comes in their order.
    fn fetch(
        &self,
        fetches: Vec<Fetch>,
    ) -> LocalBoxFuture<'static, Result<Vec<Fetched>, StoreFailure>>;
}
