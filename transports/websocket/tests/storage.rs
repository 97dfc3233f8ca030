//! What becomes of a shard whose storage breaks its word.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here fails a test"
)]

use std::future::ready;
use std::rc::Rc;

use fanfare_core::{
    AuthError, Change, Draft, Error, Fetch, Fetched, Hub, Limits, Payload, Publish, StoreFailure,
    Target, UserId,
};
use fanfare_websocket::{Native, Shard, SocketLimits, Storage};
use futures::future::{FutureExt, LocalBoxFuture};
use smol::LocalExecutor;

/// Panics where it is told to: in the call that commits, or in the future that reads.
struct Panics {
    reads: bool,
    commits: bool,
}

impl Storage for Panics {
    fn commit(&self, _: Vec<Change>) -> LocalBoxFuture<'static, Result<(), StoreFailure>> {
        assert!(!self.commits, "this storage panics");
        ready(Ok(())).boxed_local()
    }

    fn fetch(
        &self,
        fetches: Vec<Fetch>,
    ) -> LocalBoxFuture<'static, Result<Vec<Fetched>, StoreFailure>> {
        let reads = self.reads;
        async move {
            assert!(!reads, "this storage panics later");
            Ok(fetches.iter().map(|_| Fetched::default()).collect())
        }
        .boxed_local()
    }
}

fn shard(storage: Panics, native: Native, executor: &Rc<LocalExecutor<'static>>) -> Shard {
    let hub = Hub::restore(Limits::default(), [7; 32], &[]).unwrap();
    let nobody = |_: &_, _| Err(AuthError::BadToken);
    let limits = SocketLimits::default();
    Shard::with_storage(hub, storage, native, limits, nobody, executor)
}

#[test]
fn a_storage_that_panics_has_failed_and_nobody_waits_for_it() {
    for (reads, commits) in [(false, true), (true, false)] {
        let (native, executor) = (Native::new().unwrap(), Rc::new(LocalExecutor::new()));
        let shard = shard(Panics { reads, commits }, native.clone(), &executor);
        let restored = native.block_on(&executor, shard.restored());
        assert_eq!(restored.is_err(), commits, "{restored:?}");
        let publish = Publish {
            target: Target::User(UserId::new(7)),
            draft: Draft::new("note:added".parse().unwrap(), Payload::default()),
        };
        let refused = native
            .block_on(&executor, shard.publish(publish))
            .unwrap_err();
        assert!(matches!(refused, Error::Unavailable(_)), "{refused}");
        assert!(shard.counters().panics > 0);
    }
}
