//! Rooms come into memory when they are needed, and go out of it when there are too many.

use super::Hub;
use super::reads::{Haste, Purpose};
use super::work::Work;
use crate::bus::StoredRoom;
use crate::era::Era;
use crate::ids::{RoomId, Seq};
use crate::inbox::{Device, Unread};
use crate::port::{Fetch, FetchId, Fetched, Table};
use crate::rows::{self, InboxRow, RoomRow};
use crate::sim_reached;
use crate::tasks::Record;
use crate::time::{Now, Wall};

/// Rows of an inbox that are read at a time.
const INBOX_ROWS: usize = 2_048;
/// Rooms that are put out of memory after one input.
const PUT_OUT_MAX: usize = 64;

/// A room that is being read.
#[derive(Debug)]
pub(super) struct Loading {
    load: Load,
    haste: Haste,
    /// The fetch that waits or is under way for it.
    fetch: FetchId,
}

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
    pub(super) fn load(&mut self, now: Now, room: RoomId, haste: Haste) {
        let Some(work) = &mut self.work else { return };
        if work.loads.contains_key(&room) {
            if haste == Haste::Soon {
                self.hasten(room);
            }
            return;
        }
        if !self.bus.has(room) {
            let rest = match room {
                RoomId::Task(_) => Fetch::key(Table::Tasks, rows::room_key(room)),
                RoomId::User(user) => rows::fetch_inbox(user, None, INBOX_ROWS),
            };
            let fetches = vec![Fetch::key(Table::Rooms, rows::room_key(room)), rest];
            self.begin_load(room, Load::Whole(Box::default()), haste, fetches);
        } else if self.bus.is_stale(now.wall, room)
            && let Some(log) = self.bus.room_log(room)
        {
            let (old, young) = (log.floor(), log.cached_floor().next());
            let probe = old.next();
            let load = Load::Oldest {
                old,
                young,
                at: None,
                probe,
            };
            self.begin_load(room, load, haste, fetch_probe(room, probe));
        }
    }

    fn begin_load(&mut self, room: RoomId, load: Load, haste: Haste, fetches: Vec<Fetch>) {
        let Some(fetch) = self.fetch(haste, Purpose::Room(room), fetches) else {
            return;
        };
        if let Some(work) = &mut self.work {
            let loading = Loading { load, haste, fetch };
            work.loads.insert(room, loading);
        }
    }

    /// Reads more of a room that is being read.
    fn load_on(&mut self, room: RoomId, fetches: Vec<Fetch>) {
        let loading = |work: &Work| Some(work.loads.get(&room)?.haste);
        let Some(haste) = self.work.as_deref().and_then(loading) else {
            return;
        };
        let fetch = self.fetch(haste, Purpose::Room(room), fetches);
        let loading = self.work.as_mut().and_then(|it| it.loads.get_mut(&room));
        if let (Some(fetch), Some(loading)) = (fetch, loading) {
            loading.fetch = fetch;
        }
    }

    /// A room that only connections waited for is needed soon.
    fn hasten(&mut self, room: RoomId) {
        let Some(work) = &mut self.work else { return };
        let Some(loading) = work.loads.get_mut(&room) else {
            return;
        };
        if std::mem::replace(&mut loading.haste, Haste::Soon) == Haste::Soon {
            return;
        }
        sim_reached!("load_hastened");
        work.reads.hasten(loading.fetch);
        self.read_on();
    }

    /// Whether the room's load is done with this; `None` where it can't be.
    pub(super) fn room_fetched(
        &mut self,
        now: Now,
        room: RoomId,
        fetched: Vec<Fetched>,
    ) -> Option<bool> {
        let work = self.work.as_mut()?;
        match &mut work.loads.get_mut(&room)?.load {
            Load::Whole(stored) => {
                let last = read_room(stored, room, fetched, self.bus.era())?;
                if let (RoomId::User(user), Some(last)) = (room, last) {
                    let fetch = rows::fetch_inbox(user, Some(last), INBOX_ROWS);
                    self.load_on(room, vec![fetch]);
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
        } = &mut work.loads.get_mut(&room)?.load
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
        let fetches = fetch_probe(room, *probe);
        self.load_on(room, fetches);
        Some(false)
    }

    pub(super) fn loaded(&mut self, now: Now, room: RoomId) {
        let loading = self.work.as_mut().and_then(|work| work.loads.remove(&room));
        match loading.map(|loading| loading.load) {
            Some(Load::Whole(stored)) => {
                sim_reached!("room_loaded");
                self.bus.install(now.wall, room, *stored);
            }
            Some(Load::Oldest { old, at, .. }) => {
                let oldest = at.unwrap_or_default();
                self.bus.raise_floor(now.wall, room, old, oldest);
            }
            None => {}
        }
        self.advance(now, [room]);
    }

    pub(super) fn not_loaded(&mut self, now: Now, room: RoomId) {
        if let Some(work) = &mut self.work {
            sim_reached!("room_unreadable");
            work.loads.remove(&room);
        }
        self.refuse_waiting(now, room);
    }

    /// Puts out of memory what is too much for it. The store has it.
    pub(super) fn put_out(&mut self) {
        for _ in 0..PUT_OUT_MAX {
            let (Some(work), Some(room)) = (&mut self.work, self.bus.excess()) else {
                return;
            };
            let members = match room {
                RoomId::Task(task) => self.tasks.count(task),
                RoomId::User(user) => self.users.members(user).len(),
            };
            let under_way = self.bus.journal().is_some_and(|it| it.concerns(room));
            let pinned = under_way
                || members > 0
                || work.jobs.concern(room)
                || work.loads.contains_key(&room);
            sim_reached!("room_put_out", !pinned);
            self.bus.put_out(room, pinned);
        }
    }
}

fn fetch_probe(room: RoomId, seq: Seq) -> Vec<Fetch> {
    vec![rows::fetch_entries(room, seq..=seq, false, (1, usize::MAX))]
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
