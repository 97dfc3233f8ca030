//! What is read from the store: rooms that are not in memory, pages for who catches up, history, ids.
//!
//! Few reads are under way at a time; the others wait here, in the order in which they were wanted.

use super::jobs::Jobs;
use super::sweep::Sweep;
use super::{Answer, Effect, Hub, Ticket, commits::Commits};
use crate::bus::StoredRoom;
use crate::catch_up::PageOf;
use crate::close::CloseCode;
use crate::era::Era;
use crate::error::Error;
use crate::history::Plan;
use crate::ids::{ConnId, EventId, RoomId, Seq};
use crate::inbox::{Device, Unread};
use crate::port::{Fetch, FetchId, Fetched, StoreFailure, Table};
use crate::rows::{self, InboxRow, RoomRow};
use crate::tasks::Record;
use crate::time::{Now, Wall};
use std::collections::{BTreeMap, VecDeque};

/// Fetches that are under way at a time.
const READING_MAX: usize = 64;
/// Rows of an inbox that are read at a time.
const INBOX_ROWS: usize = 2_048;
/// Rooms that are put out of memory after one input.
const PUT_OUT_MAX: usize = 64;

/// Everything that a hub with a store has to do with it.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) jobs: Jobs,
    pub(super) commits: Commits,
    loads: BTreeMap<RoomId, Load>,
    reads: Reads,
    pub(super) sweep: Sweep,
}

impl Work {
    pub(super) fn new(is_new: bool) -> Self {
        Self {
            jobs: Jobs::default(),
            commits: Commits::new(is_new),
            loads: BTreeMap::new(),
            reads: Reads::default(),
            sweep: Sweep::default(),
        }
    }
}

/// What a fetch is for.
#[derive(Debug)]
pub(super) enum Purpose {
    Room(RoomId),
    /// The id of a job that waits.
    Id(u64, EventId),
    Pages(ConnId, Vec<PageOf>),
    History(Ticket, Plan),
    Sweep,
}

#[derive(Debug, Default)]
struct Reads {
    purposes: BTreeMap<FetchId, Purpose>,
    next: u64,
    waiting: VecDeque<(FetchId, Vec<Fetch>)>,
    under_way: usize,
}

/// A room that is being read.
#[derive(Debug)]
enum Load {
    /// Its row, and what belongs to it, a page at a time.
    Whole(Box<StoredRoom>),
    /// It is in memory, and some of what it keeps may be too old: the first event that is not is after `old`, and at
    /// the latest `young`, which was taken at `at` where that is known.
    Oldest {
        old: Seq,
        young: Seq,
        at: Option<Wall>,
        probe: Seq,
    },
}

impl Hub {
    /// Whether the room is being read.
    pub(super) fn is_loading(&self, room: RoomId) -> bool {
        let work = self.work.as_ref();
        work.is_some_and(|work| work.loads.contains_key(&room))
    }

    /// Whether all of a room that is decided by is in memory.
    pub(super) fn is_ready(&self, now: Now, room: RoomId) -> bool {
        self.bus.has(room) && !self.bus.is_stale(now.wall, room)
    }

    /// Reads what is missing of a room, unless that is under way.
    pub(super) fn load(&mut self, now: Now, room: RoomId) {
        let Some(work) = &mut self.work else { return };
        if work.loads.contains_key(&room) {
            return;
        }
        if !self.bus.has(room) {
            let rest = match room {
                RoomId::Task(_) => Fetch::key(Table::Tasks, rows::room_key(room)),
                RoomId::User(user) => rows::fetch_inbox(user, None, INBOX_ROWS),
            };
            let fetches = vec![Fetch::key(Table::Rooms, rows::room_key(room)), rest];
            work.loads.insert(room, Load::Whole(Box::default()));
            self.fetch(Purpose::Room(room), fetches);
        } else if self.bus.is_stale(now.wall, room)
            && let Some(log) = self.bus.room_log(room)
        {
            let (old, young) = (log.floor(), log.cached_floor().next());
            let load = Load::Oldest {
                old,
                young,
                at: None,
                probe: old.next(),
            };
            work.loads.insert(room, load);
            self.probe(room, old.next());
        }
    }

    fn probe(&mut self, room: RoomId, seq: Seq) {
        let fetch = rows::fetch_entries(room, seq..=seq, false, (1, usize::MAX));
        self.fetch(Purpose::Room(room), vec![fetch]);
    }

    pub(super) fn fetch_id(&mut self, job: u64, id: &EventId) {
        self.fetch(Purpose::Id(job, id.clone()), vec![rows::fetch_id(id)]);
    }

    pub(super) fn fetch_pages(&mut self, conn: ConnId, pages: Vec<PageOf>) {
        let fetches = pages.iter().map(PageOf::fetch).collect();
        self.fetch(Purpose::Pages(conn, pages), fetches);
    }

    pub(super) fn fetch_history(&mut self, ticket: Ticket, plan: Plan, fetch: Fetch) {
        self.fetch(Purpose::History(ticket, plan), vec![fetch]);
    }

    pub(super) fn fetch(&mut self, purpose: Purpose, fetches: Vec<Fetch>) {
        let Some(work) = &mut self.work else { return };
        let id = FetchId(work.reads.next);
        work.reads.next += 1;
        work.reads.purposes.insert(id, purpose);
        work.reads.waiting.push_back((id, fetches));
        self.read_on();
    }

    fn read_on(&mut self) {
        let Some(work) = &mut self.work else { return };
        while work.reads.under_way < READING_MAX
            && let Some((id, fetches)) = work.reads.waiting.pop_front()
        {
            work.reads.under_way += 1;
            self.effects.push_back(Effect::Fetch { id, fetches });
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
        let Some(purpose) = work.reads.purposes.remove(&id) else {
            return;
        };
        work.reads.under_way -= 1;
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
            Purpose::Pages(conn, pages) => self.pages_fetched(now, conn, &pages, result),
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

    /// Whether the room's load is done with this; `None` where it can't be.
    fn room_fetched(&mut self, now: Now, room: RoomId, fetched: Vec<Fetched>) -> Option<bool> {
        let work = self.work.as_mut()?;
        match work.loads.get_mut(&room)? {
            Load::Whole(stored) => {
                let last = read_room(stored, room, fetched, self.bus.era())?;
                if let (RoomId::User(user), Some(last)) = (room, last) {
                    let fetch = rows::fetch_inbox(user, Some(last), INBOX_ROWS);
                    self.fetch(Purpose::Room(room), vec![fetch]);
                    return Some(false);
                }
                Some(true)
            }
            Load::Oldest { probe, at, .. } => {
                let fetched = fetched.into_iter().next()?;
                let row = fetched.rows.first();
                let entry = row.and_then(|(key, row)| rows::read_entry(key, row, self.bus.era()));
                *at = entry.map(|(_, entry)| entry.event().at).or(*at);
                let (found, probe) = (row.is_some(), *probe);
                self.narrow(now, room, (found, probe))
            }
        }
    }

    /// Goes on to look for the first event that is not too old. `found` says whether the last one looked at is there.
    fn narrow(&mut self, now: Now, room: RoomId, (found, probed): (bool, Seq)) -> Option<bool> {
        let work = self.work.as_mut()?;
        let Load::Oldest {
            old,
            young,
            at,
            probe,
        } = work.loads.get_mut(&room)?
        else {
            return None;
        };
        let is_old = |at: &Option<Wall>| at.is_none_or(|at| self.bus.is_old(now.wall, room, at));
        if !found || is_old(at) {
            *old = probed;
            *at = None;
        } else {
            *young = probed;
        }
        if old.next() >= *young {
            return Some(true);
        }
        let middle = old.number().midpoint(young.number());
        *probe = Seq::new(middle).ok()?.max(old.next());
        let probe = *probe;
        self.probe(room, probe);
        Some(false)
    }

    fn loaded(&mut self, now: Now, room: RoomId) {
        let load = self.work.as_mut().and_then(|work| work.loads.remove(&room));
        match load {
            Some(Load::Whole(stored)) => self.bus.install(now.wall, room, *stored),
            Some(Load::Oldest { old, at, .. }) => {
                let oldest = at.unwrap_or_default();
                self.bus.raise_floor(now.wall, room, old, oldest);
            }
            None => {}
        }
        self.advance(now, [room]);
    }

    fn not_loaded(&mut self, now: Now, room: RoomId) {
        if let Some(work) = &mut self.work {
            work.loads.remove(&room);
        }
        self.refuse_waiting(now, room);
    }

    fn pages_fetched(
        &mut self,
        now: Now,
        conn: ConnId,
        pages: &[PageOf],
        result: Result<Vec<Fetched>, StoreFailure>,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let Some(catch_up) = &mut session.catch_up else {
            return;
        };
        match result {
            Ok(fetched) => {
                catch_up.fill(pages, &fetched, self.bus.era());
                self.ready(now.time, conn);
            }
            Err(_) => self.close(now, conn, CloseCode::UNAVAILABLE),
        }
    }

    /// Puts out of memory what is too much for it. The store has it.
    pub(super) fn put_out(&mut self) {
        for _ in 0..PUT_OUT_MAX {
            let (Some(work), Some(room)) = (&mut self.work, self.bus.excess()) else {
                return;
            };
            let members = match room {
                RoomId::Task(task) => self.tasks.members(task),
                RoomId::User(user) => self.users.members(user),
            };
            let under_way = self.bus.journal().is_some_and(|it| it.concerns(room));
            let pinned = under_way
                || !members.is_empty()
                || work.jobs.concern(room)
                || work.loads.contains_key(&room);
            self.bus.put_out(room, pinned);
        }
    }
}

/// Adds a page to what was read of a room. The key after which to go on, where there is more; `None` for what can't be read.
fn read_room(
    stored: &mut StoredRoom,
    room: RoomId,
    fetched: Vec<Fetched>,
    era: &Era,
) -> Option<Option<Vec<u8>>> {
    let mut last = None;
    let mut fetched = fetched.into_iter();
    // The room's own row comes once, before the rest; the following pages are of the inbox only.
    if fetched.len() == 2
        && let Some((_, row)) = fetched.next()?.rows.first()
    {
        stored.row = Some(RoomRow::read(row, era)?);
    }
    for Fetched { rows, more } in fetched {
        for (key, row) in rows {
            match room {
                RoomId::Task(_) => stored.record = Some(Record::read(&row)?),
                RoomId::User(_) => match rows::read_inbox(&key, &row, era)? {
                    InboxRow::Unread(seq, id) => stored.unread.push(Unread { seq, id }),
                    InboxRow::Device(name, cursor, seen) => {
                        stored.devices.push(Device { name, cursor, seen });
                    }
                },
            }
            last = more.then_some(key);
        }
    }
    Some(last)
}

fn history_page(mut plan: Plan, fetched: &[Fetched], era: &Era) -> crate::history::Page {
    let rows = fetched.iter().flat_map(|fetched| &fetched.rows);
    let entries: BTreeMap<Seq, _> = rows
        .filter_map(|(key, row)| rows::read_entry(key, row, era))
        .collect();
    plan.begin(entries.keys().next().copied());
    plan.page(|seq| entries.get(&seq).cloned())
}
