//! What nobody asks for any more goes from the store: ids that are too old, events of rooms that are idle, tasks that are over.
//!
//! A few rows at a time, round and round, so that it never walks far at once.

use super::Hub;
use super::reads::{Haste, Purpose};
use crate::ids::{RoomId, Seq};
use crate::port::{Change, Fetched, StoreFailure};
use crate::rows::{self, RoomRow};
use crate::tasks::TASK_IDLE_MS_MAX;
use crate::time::{Now, Time};

/// Milliseconds between two steps, where there is nothing more to be done at once.
const SWEEP_MS: u64 = 1_000;
const ROOMS: usize = 64;
const IDS: usize = 256;
/// Rooms that are loaded in a step, since some of what they keep is too old.
const LOADS_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Sweep {
    due: Option<Time>,
    under_way: bool,
    /// The key of the room after which to go on.
    after: Vec<u8>,
}

impl Sweep {
    /// When the next step is due. The first one also where nothing else ever happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        (!self.under_way).then(|| self.due.unwrap_or_default())
    }
}

impl Hub {
    /// Begins a step, if one is due.
    pub(super) fn sweep(&mut self, now: Now) {
        let draining = self.draining.is_some();
        let Some(work) = &mut self.work else { return };
        if work.commits.failure.is_some() || draining {
            work.sweep.due = Some(now.time.plus(SWEEP_MS));
            return;
        }
        let due = *work
            .sweep
            .due
            .get_or_insert_with(|| now.time.plus(SWEEP_MS));
        if work.sweep.under_way || due > now.time {
            return;
        }
        work.sweep.under_way = true;
        let rooms = rows::fetch_rooms(&work.sweep.after, ROOMS);
        let fetches = vec![rooms, rows::fetch_oldest_ids(IDS)];
        self.fetch(Haste::Later, Purpose::Sweep, fetches);
    }

    /// Removes what is over in these rows.
    pub(super) fn swept(&mut self, now: Now, result: Result<Vec<Fetched>, StoreFailure>) {
        let Some(work) = &mut self.work else { return };
        work.sweep.under_way = false;
        work.sweep.due = Some(now.time.plus(SWEEP_MS));
        let Ok([rooms, ids]) = <[Fetched; 2]>::try_from(result.unwrap_or_default()) else {
            return;
        };
        let more = rooms.more;
        let last = rooms.rows.last().map(|(key, _)| key.clone());
        work.sweep.after = last.filter(|_| more).unwrap_or_default();
        if self.sweep_ids(now, &ids)
            && let Some(work) = &mut self.work
        {
            work.sweep.due = Some(now.time);
        }
        let mut loads = 0;
        let mut over = Vec::new();
        for (key, row) in &rooms.rows {
            let (Some(room), Some(row)) = (rows::room_of(key), RoomRow::read(row, self.bus.era()))
            else {
                continue;
            };
            if self.is_loading(room) {
                continue;
            }
            if self.bus.has(room) {
                if self.bus.is_stale(now.wall, room) {
                    self.load(now, room, Haste::Later);
                } else {
                    self.bus.write_floor(now.wall, room, row.floor);
                }
                continue;
            }
            let has_old = row.floor < row.head && self.bus.is_old(now.wall, room, row.oldest);
            if has_old && self.bus.is_old(now.wall, room, row.at) {
                self.empty(room, &row);
            } else if has_old && loads < LOADS_MAX {
                loads += 1;
                self.load(now, room, Haste::Later);
            }
            let idle_ms = now.wall.since(row.at);
            if matches!(room, RoomId::Task(_)) && idle_ms >= TASK_IDLE_MS_MAX && !has_old {
                over.push(room);
            }
        }
        self.forget_tasks(&over);
    }

    /// Whether there may be more to remove.
    fn sweep_ids(&mut self, now: Now, ids: &Fetched) -> bool {
        let (age_ms_max, ids_max) = self.bus.ids_bounds();
        let Some(journal) = self.bus.journal() else {
            return false;
        };
        let mut removed = 0;
        for (key, _) in &ids.rows {
            let at = rows::id_time(key).unwrap_or_default();
            let too_many = journal.meta.ids > ids_max as u64;
            if !too_many && now.wall.since(at) < age_ms_max {
                break;
            }
            journal.extend(rows::remove_id(key));
            journal.meta.ids = journal.meta.ids.saturating_sub(1);
            removed += 1;
        }
        removed == ids.rows.len() && ids.more
    }

    /// All that a room keeps is too old: it keeps nothing.
    fn empty(&mut self, room: RoomId, row: &RoomRow) {
        let Some(journal) = self.bus.journal() else {
            return;
        };
        let emptied = RoomRow {
            floor: row.head,
            ..row.clone()
        };
        journal.put_room(room, &emptied);
        journal.push(rows::remove_entries(room, row.head));
        if let RoomId::User(user) = room {
            journal.push(rows::remove_unread(user, Seq::ZERO..=row.head));
        }
    }

    /// Tasks of which nothing was heard for so long are unknown again, and their rooms begin anew.
    fn forget_tasks(&mut self, rooms: &[RoomId]) {
        if rooms.is_empty() {
            return;
        }
        self.bus.renew_epoch();
        if let Some(journal) = self.bus.journal() {
            let changes = rooms.iter().flat_map(|room| rows::remove_room(*room));
            let changes: Vec<Change> = changes.collect();
            journal.extend(changes);
        }
    }
}
