//! What the store does for the hub, and what becomes of both when the process ends.

use super::{Happening, Turn, World};
use crate::link::{LinkId, Parcel, Peer};
use crate::observation::Observed;
use crate::store::{Rows, SimStore};
use fanfare_core::{
    Answer, Change, Effect, Error, Fetch, FetchId, Fetched, Hub, Input, Limits, Query,
    StoreFailure, Table, Ticket,
};

/// Reads that the hub may have under way: 64 that publishes and questions wait for, 16 others.
const FETCHES_MAX: usize = 80;
/// Milliseconds that a hub may take to drain.
const DRAIN_MAX_MS: u64 = 600_000;

/// How a hub ends before another takes its place.
///
/// ```
/// use fanfare_loopback::{Restart, World};
/// let mut world = World::new(1);
/// world.restart(Restart::Orderly);
/// world.restart(Restart::Crash);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It drains, and what it asked of the store is done.
    Orderly,
    /// It is gone in the middle of everything.
    Crash,
}

/// What a store had at a moment.
///
/// ```
/// use fanfare_loopback::{Settings, StoreSettings, World, draft, user};
/// let mut world = World::with(Settings { store: Some(StoreSettings::default()), ..Settings::default() });
/// let backup = world.back_up();
/// world.publish_to_user(user(7), draft("note:added", 1));
/// world.restore(backup);
/// assert_eq!(world.inbox(user(7)).seq.number(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct Backup(Rows);

/// Something that the store does.
#[derive(Debug)]
pub(crate) enum Work {
    Apply,
    AnswerCommit,
    Read(FetchId),
    AnswerRead(FetchId),
}

impl World {
    /// The next `count` commits fail: with `Full` nothing of them is kept, with `Failed` that is seen after a restart.
    ///
    /// # Panics
    /// Where the world has no store.
    #[track_caller]
    pub fn fail_commits(&mut self, count: usize, failure: StoreFailure) {
        self.note(format!("the next {count} commits fail: {failure:?}"));
        self.sim_store().fail_commits(count, failure);
    }

    /// The next `count` reads of the store fail.
    ///
    /// # Panics
    /// Where the world has no store.
    #[track_caller]
    pub fn fail_reads(&mut self, count: usize) {
        self.note(format!("the next {count} reads fail"));
        self.sim_store().fail_reads(count);
    }

    /// Rows of a table of the store.
    ///
    /// # Panics
    /// Where the world has no store.
    #[track_caller]
    pub fn rows(&mut self, table: Table) -> usize {
        self.sim_store().rows(table).count()
    }

    /// Why the hub's store takes nothing now, if it does not.
    #[must_use]
    pub fn store_failure(&self) -> Option<StoreFailure> {
        self.store.as_ref().and_then(|_| self.hub.store_failure())
    }

    /// A copy of what the store has now, to be put back later.
    ///
    /// # Panics
    /// Where the world has no store.
    #[track_caller]
    pub fn back_up(&mut self) -> Backup {
        Backup(self.sim_store().copy())
    }

    /// The hub is gone in the middle of everything, and another begins with the store as it was then, in new epochs. All
    /// connections are cut, and subscriptions end.
    ///
    /// # Panics
    /// Where the hub can't be restored.
    #[track_caller]
    pub fn restore(&mut self, backup: Backup) {
        self.note("the store is put back, and the server restarts".to_owned());
        let change = Hub::new_epochs(self.random.bytes());
        let store = self.sim_store();
        store.put_back(backup.0);
        store.order_commit(vec![change]);
        store.apply();
        self.begin_again(Restart::Crash, self.hub.limits().clone());
    }

    /// The hub ends, and another begins with what is in the store; with none, with nothing. All connections are cut, and
    /// subscriptions end. Of what was not answered in a crash, each commit is there whole or not at all.
    ///
    /// # Panics
    /// Where the hub can't be restored, or does not drain.
    #[track_caller]
    pub fn restart(&mut self, how: Restart) {
        self.restart_within(how, self.hub.limits().clone());
    }

    /// As [`restart`](Self::restart), and the next hub keeps these bounds.
    ///
    /// # Panics
    /// Where the hub can't be restored, or does not drain.
    #[track_caller]
    pub fn restart_within(&mut self, how: Restart, limits: Limits) {
        self.note(format!("the server restarts: {how:?}"));
        if how == Restart::Orderly {
            self.feed(Input::Drain);
            self.wait_for("a hub that has drained", DRAIN_MAX_MS, |world| {
                let is_done = |it: &SimStore| !it.is_committing() && it.reads_under_way() == 0;
                (world.drained && world.store.as_ref().is_none_or(is_done)).then_some(())
            });
        }
        self.begin_again(how, limits);
    }

    #[track_caller]
    fn begin_again(&mut self, how: Restart, limits: Limits) {
        let random = &mut self.random;
        if let Some(store) = &mut self.store {
            store.crash(|| random.within(&(0..=1)) == 1);
        }
        self.life += 1;
        self.by_conn.clear();
        self.by_subscription.clear();
        self.in_flight.clear();
        self.busy.clear();
        self.drained = false;
        for id in (0..self.links.len()).map(LinkId) {
            let link = self.link(id);
            if matches!(link.peer, Peer::Connection(_) | Peer::Subscription(_)) {
                link.peer = Peer::Gone;
                link.ready = false;
                link.held.clear();
                self.send_to_client(id, Parcel::Cut);
            }
        }
        self.observe(Observed::Restarted { how });
        self.start(limits);
    }

    /// A hub over the store as it is. Nobody is let in before its first commit is answered.
    #[track_caller]
    pub(super) fn start(&mut self, limits: Limits) {
        let seed = self.random.bytes();
        self.outlets.begin(&limits);
        self.hub = match &self.store {
            None => Hub::new(limits, seed),
            Some(store) => {
                let meta: Vec<_> = store
                    .rows(Table::Meta)
                    .map(|(key, value)| (key.to_vec(), value.to_vec()))
                    .collect();
                match Hub::restore(limits, seed, &meta) {
                    Ok(hub) => hub,
                    Err(error) => self.fail("a hub that begins", &error.to_string()),
                }
            }
        };
        while let Some(effect) = self.hub.poll() {
            self.digest_effect(&effect);
            let Effect::Commit(changes) = effect else {
                self.fail("a commit at most", &format!("{effect:?}"));
            };
            self.sim_store().order_commit(changes);
            let result = self.sim_store().answer_commit();
            self.hub.handle(self.now(), Input::Committed(result));
        }
    }

    #[track_caller]
    pub(super) fn commit(&mut self, changes: Vec<Change>) {
        if self.sim_store().is_committing() {
            self.fail("one commit at a time", "two");
        }
        if changes.is_empty() {
            self.fail("a commit of something", "one of nothing");
        }
        let store = self.sim_store();
        store.order_commit(changes);
        let latency_ms = store.settings.commit_ms.clone();
        self.put_work(latency_ms, Work::Apply, Work::AnswerCommit);
    }

    #[track_caller]
    pub(super) fn fetch(&mut self, id: FetchId, fetches: Vec<Fetch>) {
        let store = self.sim_store();
        if store.reads_under_way() == FETCHES_MAX {
            self.fail(&format!("at most {FETCHES_MAX} reads"), "one more");
        }
        store.order_read(id, fetches);
        let latency_ms = store.settings.fetch_ms.clone();
        self.put_work(latency_ms, Work::Read(id), Work::AnswerRead(id));
    }

    /// The answer comes after a drawn time, and what it is about happens at a drawn moment of that.
    fn put_work(&mut self, latency_ms: std::ops::RangeInclusive<u64>, does: Work, answers: Work) {
        let latency = self.random.within(&latency_ms);
        let moment = self.random.within(&(0..=latency));
        let now = self.agenda.now();
        for (after, work) in [(moment, does), (latency, answers)] {
            let happening = Happening::Store(self.life, work);
            self.agenda.put(now.plus(after), Turn::Arrive, happening);
        }
    }

    pub(super) fn work(&mut self, work: Work) {
        let store = self.sim_store();
        match work {
            Work::Apply => store.apply(),
            Work::Read(id) => store.read(id),
            Work::AnswerCommit => {
                let result = store.answer_commit();
                if let Err(failure) = result {
                    self.observe(Observed::CommitFailed(failure));
                }
                self.feed(Input::Committed(result));
            }
            Work::AnswerRead(id) => {
                if let Some(result) = store.answer_read(id) {
                    if result.is_err() {
                        self.observe(Observed::ReadFailed);
                    }
                    self.feed(Input::Fetched { id, result });
                }
            }
        }
    }

    /// A back end or a client asks something; time passes until it is answered.
    ///
    /// # Errors
    /// As the hub answers.
    #[track_caller]
    pub fn query(&mut self, query: Query) -> Result<Answer, Error> {
        let ticket = self.next_ticket();
        let name = format!("an answer to {query:?}");
        self.feed(Input::Query { ticket, query });
        self.wait_for(&name, super::WAIT_MAX_MS, |world| {
            world.answered.remove(&ticket)
        })
    }

    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    #[track_caller]
    fn sim_store(&mut self) -> &mut SimStore {
        match &mut self.store {
            Some(store) => store,
            None => panic_without_a_store(),
        }
    }

    /// What a debug form would tell at too great a length.
    pub(super) fn digest_rows(&mut self, fetched: &[Fetched]) {
        for Fetched { rows, more } in fetched {
            self.digest.debug(more);
            for (key, value) in rows {
                self.digest.bytes(key);
                self.digest.bytes(value);
            }
        }
    }

    pub(super) fn digest_effect(&mut self, effect: &Effect) {
        let Effect::Commit(changes) = effect else {
            return self.digest.debug(effect);
        };
        for change in changes {
            match change {
                Change::Put { table, key, value } => {
                    self.digest.debug(table);
                    self.digest.bytes(key);
                    self.digest.bytes(value);
                }
                Change::Delete { .. } | Change::DeleteRange { .. } => self.digest.debug(change),
            }
        }
    }
}

#[track_caller]
#[expect(
    clippy::panic,
    reason = "a script that is wrong has to be mended, and a hub in memory asks for no store"
)]
fn panic_without_a_store() -> ! {
    panic!("this world has no store: `Settings::store` is `None`")
}
