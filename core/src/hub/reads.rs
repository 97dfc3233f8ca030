//! What is read from the store: rooms that are not in memory, pages for who catches up, history, ids.
//!
//! Few reads are under way at a time; the others wait here, in the order in which they were wanted. What publishes and
//! questions need does not wait for what connections read that come or catch up: of these there may be very many at once.

use super::{Answer, Effect, Hub, Ticket};
use crate::catch_up::{Page, PageOf};
use crate::close::CloseCode;
use crate::era::Era;
use crate::error::Error;
use crate::history::{self, Plan};
use crate::ids::{ConnId, EventId, RoomId, Seq};
use crate::outlet::Order;
use crate::port::{Fetch, FetchId, Fetched, StoreFailure};
use crate::rows;
use crate::sim_reached;
use crate::time::Now;
use std::collections::{BTreeMap, VecDeque};

/// Fetches of each haste that are under way at a time.
const SOON_MAX: usize = 64;
const LATER_MAX: usize = 16;

/// What a fetch is for.
#[derive(Debug)]
pub(super) enum Purpose {
    Room(RoomId),
    /// The id of a job that waits.
    Id(u64, EventId),
    Page(PageOf),
    History(Ticket, Plan),
    Sweep,
}

/// Which of the fetches that wait goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// Publishes and questions wait for it.
    Soon,
    /// Only connections wait for it, or nobody.
    Later,
}

#[derive(Debug, Default)]
pub(super) struct Reads {
    purposes: BTreeMap<FetchId, (Haste, Purpose)>,
    next: u64,
    soon: Queue,
    later: Queue,
    /// Who waits for each page: many may want the same.
    pages: BTreeMap<PageOf, Vec<ConnId>>,
}

impl Reads {
    const fn queue(&mut self, haste: Haste) -> &mut Queue {
        match haste {
            Haste::Soon => &mut self.soon,
            Haste::Later => &mut self.later,
        }
    }

    /// Somebody needs soon what was wanted later.
    pub(super) fn hasten(&mut self, fetch: FetchId) {
        // In this queue ids rise.
        let waiting = &mut self.later.waiting;
        let place = waiting.binary_search_by_key(&fetch, |(id, _)| *id);
        if let Some(read) = place.ok().and_then(|at| waiting.remove(at)) {
            if let Some((haste, _)) = self.purposes.get_mut(&fetch) {
                *haste = Haste::Soon;
            }
            self.soon.waiting.push_back(read);
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(FetchId, Vec<Fetch>)>,
    under_way: usize,
}

impl Hub {
    pub(super) fn fetch_id(&mut self, job: u64, id: &EventId) {
        let purpose = Purpose::Id(job, id.clone());
        self.fetch(Haste::Soon, purpose, vec![rows::fetch_id(id)]);
    }

    pub(super) fn fetch_pages(&mut self, conn: ConnId, pages: Vec<PageOf>) {
        for page in pages {
            let Some(work) = &mut self.work else { return };
            if let Some(readers) = work.reads.pages.get_mut(&page) {
                readers.push(conn);
                continue;
            }
            work.reads.pages.insert(page.clone(), vec![conn]);
            let fetch = page.fetch();
            self.fetch(Haste::Later, Purpose::Page(page), vec![fetch]);
        }
    }

    pub(super) fn fetch_history(&mut self, ticket: Ticket, plan: Plan, fetch: Fetch) {
        self.fetch(Haste::Soon, Purpose::History(ticket, plan), vec![fetch]);
    }

    pub(super) fn fetch(
        &mut self,
        haste: Haste,
        purpose: Purpose,
        fetches: Vec<Fetch>,
    ) -> Option<FetchId> {
        let reads = &mut self.work.as_mut()?.reads;
        let id = FetchId(reads.next);
        reads.next += 1;
        reads.purposes.insert(id, (haste, purpose));
        reads.queue(haste).waiting.push_back((id, fetches));
        self.read_on();
        Some(id)
    }

    pub(super) fn read_on(&mut self) {
        let Some(work) = &mut self.work else { return };
        let reads = &mut work.reads;
        for (queue, most) in [(&mut reads.soon, SOON_MAX), (&mut reads.later, LATER_MAX)] {
            while queue.under_way < most
                && let Some((id, fetches)) = queue.waiting.pop_front()
            {
                queue.under_way += 1;
                self.effects.push_back(Effect::Fetch { id, fetches });
            }
        }
    }

    /// What was fetched, or that it could not be read.
    pub(super) fn fetched(
        &mut self,
        now: Now,
        id: FetchId,
        result: Result<Vec<Fetched>, StoreFailure>,
    ) {
        let Some(work) = &mut self.work else { return };
        let Some((haste, purpose)) = work.reads.purposes.remove(&id) else {
            return;
        };
        work.reads.queue(haste).under_way -= 1;
        self.read_on();
        match purpose {
            Purpose::Room(room) => {
                let result = result
                    .ok()
                    .and_then(|fetched| self.room_fetched(now, room, fetched));
                match result {
                    Some(true) => self.loaded(now, room),
                    Some(false) => {}
                    None => self.not_loaded(now, room),
                }
            }
            Purpose::Id(job, id) => {
                let row = result.map(|fetched| fetched.into_iter().next());
                let stored = row.map(|found| {
                    let (_, row) = found?.rows.into_iter().next()?;
                    rows::read_id(&id, &row, self.bus.era()).map(Box::new)
                });
                self.id_fetched(now, job, stored);
            }
            Purpose::Page(page) => self.page_fetched(now, &page, result),
            Purpose::History(ticket, plan) => {
                let era = self.bus.era();
                let result =
                    result.map(|fetched| Answer::History(history_page(plan, &fetched, era)));
                let result = result.map_err(|_| {
                    Error::Unavailable("history could not be read: try again in a moment")
                });
                self.effects.push_back(Effect::Answered { ticket, result });
            }
            Purpose::Sweep => self.swept(now, result),
        }
    }

    /// Everybody who waits for the page gets it, read once.
    fn page_fetched(
        &mut self,
        now: Now,
        asked: &PageOf,
        result: Result<Vec<Fetched>, StoreFailure>,
    ) {
        let Some(work) = &mut self.work else { return };
        let readers = work.reads.pages.remove(asked).unwrap_or_default();
        let fetched = result.ok().and_then(|fetched| fetched.into_iter().next());
        let page = fetched.map(|fetched| Page::read(asked, &fetched, self.bus.era()));
        if let Some(page) = &page
            && self.is_shared(asked.room)
        {
            sim_reached!("page_cached");
            self.bus.cache(asked.room, &asked.epoch, page.entries());
        }
        for conn in readers {
            let session = self.sessions.get_mut(conn);
            let Some(catch_up) = session.and_then(|session| session.catch_up.as_mut()) else {
                continue;
            };
            if !catch_up.fill(asked, page.as_ref()) {
                continue;
            }
            match page {
                Some(_) if catch_up.waits() => {}
                Some(_) => self.order(now, Order::Again { conn }),
                None => {
                    sim_reached!("page_unreadable");
                    self.close(now, conn, CloseCode::UNAVAILABLE);
                }
            }
        }
    }

    /// Whether several are in the room: what one of them missed others are likely to have missed too.
    fn is_shared(&self, room: RoomId) -> bool {
        let members = match room {
            RoomId::Task(task) => self.tasks.count(task),
            RoomId::User(user) => self.users.members(user).len(),
        };
        members > 1
    }
}

fn history_page(mut plan: Plan, fetched: &[Fetched], era: &Era) -> history::Page {
    let rows = fetched.iter().flat_map(|fetched| &fetched.rows);
    let entries: BTreeMap<Seq, _> = rows
        .filter_map(|(key, row)| rows::read_entry(key, row, era))
        .collect();
    plan.begin(entries.keys().next().copied());
    plan.page(|seq| entries.get(&seq).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Claims, Principal, TaskGrant};
    use crate::event::{Draft, Publish, Target};
    use crate::hub::Input;
    use crate::hub::pull::Pull;
    use crate::ids::{Position, TaskId, UserId};
    use crate::limits::Limits;
    use crate::payload::Payload;
    use crate::port::{Change, Table};
    use crate::session::{Endpoint, Open};
    use crate::time::Wall;
    use std::ops::Range;
    use uuid::Uuid;

    const NOW: Now = Now {
        time: crate::time::Time::from_millis(0),
        wall: Wall::from_unix_millis(1_800_000_000_000),
    };

    /// More than a page.
    const EVENTS: u64 = 100;

    /// Rows, and the reads of them that wait for an answer.
    #[derive(Default)]
    struct Rows {
        rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
        reads: Vec<(FetchId, Vec<Fetch>)>,
    }

    impl Rows {
        fn restored(&self) -> Hub {
            self.restored_within(Limits::default())
        }

        fn restored_within(&self, limits: Limits) -> Hub {
            let meta = self.rows.iter().filter(|((of, _), _)| *of == Table::Meta);
            let meta: Vec<_> = meta
                .map(|((_, key), row)| (key.clone(), row.clone()))
                .collect();
            Hub::restore(limits, [0; 32], &meta).unwrap()
        }

        /// Carries out what the hub wants, commits at once.
        fn take(&mut self, hub: &mut Hub) {
            while let Some(effect) = hub.poll() {
                match effect {
                    Effect::Commit(changes) => {
                        for change in changes {
                            if let Change::Put { table, key, value } = change {
                                self.rows.insert((table, key), value.to_vec());
                            }
                        }
                        hub.handle(NOW, Input::Committed(Ok(())));
                    }
                    Effect::Fetch { id, fetches } => self.reads.push((id, fetches)),
                    Effect::Ready(_)
                    | Effect::Verify { .. }
                    | Effect::Drop(_)
                    | Effect::Published { .. }
                    | Effect::Answered { .. }
                    | Effect::Subscription(_)
                    | Effect::Drained => {}
                }
            }
        }

        /// Answers every read, and those that follow.
        fn answer(&mut self, hub: &mut Hub) {
            self.take(hub);
            while !self.reads.is_empty() {
                for (id, fetches) in std::mem::take(&mut self.reads) {
                    let result = Ok(fetches.iter().map(|fetch| self.fetch(fetch)).collect());
                    hub.handle(NOW, Input::Fetched { id, result });
                }
                self.take(hub);
            }
        }

        fn fetch(&self, fetch: &Fetch) -> Fetched {
            let range = (fetch.table, fetch.from.clone())..=(fetch.table, fetch.to.clone());
            let mut rows = self.rows.range(range);
            let rows = rows.by_ref().take(fetch.rows);
            let rows: Vec<_> = rows
                .map(|((_, key), row)| (key.clone(), row.clone()))
                .collect();
            Fetched {
                more: rows.len() == fetch.rows,
                rows,
            }
        }

        /// How many reads of this table wait.
        fn waiting(&self, table: Table) -> usize {
            let of = |(_, fetches): &&(FetchId, Vec<Fetch>)| fetches[0].table == table;
            self.reads.iter().filter(of).count()
        }
    }

    fn task() -> TaskId {
        TaskId::new(Uuid::from_u128(1))
    }

    fn publish(hub: &mut Hub, target: Target, id: &str) {
        let draft = Draft::new("chat:message".parse().unwrap(), Payload::default());
        let draft = draft.with_id(id.parse().unwrap());
        let publish = Publish { target, draft };
        let ticket = Ticket(0);
        hub.handle(NOW, Input::Publish { ticket, publish });
    }

    fn to_task() -> Target {
        Target::Task {
            task: task(),
            users: Vec::new(),
        }
    }

    /// A user comes to the task, and has nothing of it where `since` is said.
    fn arrive(hub: &mut Hub, user: u64, since: Option<Position>) -> ConnId {
        let claims = Claims::new(UserId::new(user), 1_900_000_000, TaskGrant::All);
        let since = since.map(|since| (task().into(), since));
        let open = Open {
            principal: Principal::new(claims, NOW.wall).ok(),
            since: since.into_iter().collect(),
            ..Open::new(Endpoint::Task(task()))
        };
        hub.open(NOW, open)
    }

    /// A store in which the task has so many events.
    fn filled(events: u64) -> (Rows, Position) {
        let mut rows = Rows::default();
        let mut hub = rows.restored();
        for number in 0..events {
            publish(&mut hub, to_task(), &format!("old-{number}"));
            rows.answer(&mut hub);
        }
        let epoch = hub.bus.position(task().into()).epoch;
        let seq = Seq::ZERO;
        (rows, Position { epoch, seq })
    }

    #[test]
    fn who_is_told_a_gap_in_one_room_gets_all_of_another() {
        const FEW: usize = 8;
        for (task_log_events, user_log_events) in [(FEW, 10_000), (10_000, FEW)] {
            let limits = || Limits {
                task_log_events,
                user_log_events,
                ..Limits::default()
            };
            let (mut rows, user) = (Rows::default(), UserId::new(7));
            let mut hub = rows.restored_within(limits());
            for number in 0..EVENTS {
                publish(&mut hub, to_task(), &format!("task-{number}"));
                publish(&mut hub, Target::User(user), &format!("user-{number}"));
                rows.answer(&mut hub);
            }
            let rooms: [RoomId; 2] = [task().into(), user.into()];
            let since = rooms.map(|room| {
                let epoch = hub.bus.position(room).epoch;
                let few =
                    [task_log_events, user_log_events][usize::from(room == user.into())] == FEW;
                let seq = if few { EVENTS - FEW as u64 } else { 0 };
                let seq = Seq::new(seq).unwrap();
                (room, Position { epoch, seq })
            });
            // Nothing of it is in memory.
            let mut hub = rows.restored_within(limits());
            let claims = Claims::new(user, 1_900_000_000, TaskGrant::All);
            let open = Open {
                principal: Principal::new(claims, NOW.wall).ok(),
                since: since.to_vec(),
                ..Open::new(Endpoint::Task(task()))
            };
            let conn = hub.open(NOW, open);
            rows.answer(&mut hub);
            // The first that it lacks of the one room goes before it is read.
            let target =
                [to_task(), Target::User(user)][usize::from(user_log_events == FEW)].clone();
            publish(&mut hub, target, "one-more");
            let (mut gaps, mut events) = (0, 0);
            for _ in 0..20 {
                rows.answer(&mut hub);
                while let Pull::Frame(frame) = hub.pull(NOW, conn) {
                    gaps += usize::from(frame.text().contains("system:gap"));
                    events += u64::from(frame.text().contains("chat:message"));
                }
            }
            assert_eq!((gaps, events), (1, EVENTS + FEW as u64));
        }
    }

    /// So many users come, and each gets its welcome and these events of the task in their order. How many pages were read.
    fn resume(hub: &mut Hub, rows: &mut Rows, users: Range<u64>, since: &Position) -> usize {
        let arrive = |user| (arrive(hub, user, Some(since.clone())), 0);
        let mut all: Vec<_> = users.map(arrive).collect();
        let mut pages = 0;
        rows.answer(hub);
        for _ in 0..10 {
            for (conn, seq) in &mut all {
                while let Pull::Frame(frame) = hub.pull(NOW, *conn) {
                    if !frame.text().contains("system:welcome") {
                        *seq += 1;
                        let event = format!(r#"{}":{seq}}},"data""#, task());
                        assert!(frame.text().contains(&event), "{seq}: {}", frame.text());
                    }
                }
            }
            rows.take(hub);
            pages += rows.waiting(Table::Entries);
            rows.answer(hub);
        }
        assert!(all.iter().all(|(_, seq)| *seq == EVENTS), "{all:?}");
        pages
    }

    #[test]
    fn what_many_missed_of_one_room_is_read_once_and_then_found_in_memory() {
        let (mut rows, since) = filled(EVENTS);
        let mut hub = rows.restored();
        for (users, pages) in [(0..50, 2), (50..51, 1), (51..99, 0)] {
            let read = resume(&mut hub, &mut rows, users.clone(), &since);
            assert_eq!(read, pages, "{users:?}");
        }
    }

    #[test]
    fn what_only_one_has_missed_takes_no_memory() {
        let (mut rows, since) = filled(EVENTS);
        let mut hub = rows.restored();
        assert_eq!(resume(&mut hub, &mut rows, 0..1, &since), 2);
        let log = hub.bus.room_log(task().into()).unwrap();
        assert_eq!(log.len(), 0);
    }

    #[test]
    fn who_waits_for_a_page_holds_none() {
        let (mut rows, since) = filled(EVENTS);
        let mut hub = rows.restored();
        let conn = arrive(&mut hub, 7, Some(since));
        let held = |hub: &Hub| {
            let catch_up = hub.sessions.get(conn).and_then(|it| it.catch_up.as_ref());
            catch_up.map(|it| it.held())
        };
        rows.answer(&mut hub);
        while let Pull::Frame(_) = hub.pull(NOW, conn) {}
        rows.answer(&mut hub);
        assert_eq!(held(&hub), Some(64));
        while let Pull::Frame(_) = hub.pull(NOW, conn) {}
        rows.take(&mut hub);
        assert_eq!((held(&hub), rows.waiting(Table::Entries)), (Some(0), 1));
    }

    #[test]
    fn a_publish_waits_for_nothing_that_those_who_come_have_to_read() {
        let (mut rows, _) = filled(1);
        let mut hub = rows.restored();
        for user in 0..1_000 {
            arrive(&mut hub, user, None);
        }
        rows.take(&mut hub);
        assert_eq!(rows.reads.len(), LATER_MAX);
        // Its id, and the room of a user who is among the last to come.
        publish(&mut hub, Target::User(UserId::new(999)), "new");
        rows.take(&mut hub);
        assert_eq!(rows.waiting(Table::Ids), 1);
        let room = rows::room_key(UserId::new(999).into());
        let of = |fetches: &Vec<Fetch>| fetches[0].from == room;
        let reads = rows.reads.iter().filter(|(_, fetches)| of(fetches));
        assert_eq!(reads.count(), 1);
        assert_eq!(rows.reads.len(), LATER_MAX + 2);
        // Once, and all others come in as well.
        rows.answer(&mut hub);
        assert_eq!(hub.bus.position(UserId::new(999).into()).seq.number(), 1);
        assert_eq!(hub.tasks.count(task()), 1_000);
    }
}
