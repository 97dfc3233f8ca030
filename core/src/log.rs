//! The log: every kept publish with one place in the order of all, in all its rooms at once or in none.
//!
//! Without a store all of it is in memory, bounded in bytes: the rooms that were idle longest are forgotten first, and begin
//! anew with another epoch, so that no seq of an epoch is ever used twice. With a store, memory has some rooms, each with
//! the newest part of what is kept: what was forgotten is loaded again.

use crate::entropy::Entropy;
use crate::event::{Entry, Place};
use crate::ids::{Epoch, Position, RoomId, Seq, UserId};
use crate::inbox::Kept;
use crate::limits::Limits;
use crate::lookup::Lookup;
use crate::recency::{Recency, Turn};
use crate::room_log::{Bounds, Gap, GapReason, Resume, RoomLog, share};
use crate::rows::RoomRow;
use crate::sim_reached;
use crate::time::Wall;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that a room costs beside its entries, about.
const ROOM_COST: usize = 256;
/// Forgotten rooms that are remembered by name; beyond, all rooms without a log get a new epoch.
const FORGOTTEN_MAX: usize = 100_000;

#[derive(Debug)]
struct Room {
    log: RoomLog,
    turn: Turn,
}

/// What becomes of what is too much for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// It is lost: memory is all there is.
    Memory,
    /// A store has it.
    Store,
}

#[derive(Debug)]
pub(crate) struct Log {
    rooms: Lookup<RoomId, Room>,
    idle: Recency<RoomId>,
    carrier: Carrier,
    /// The epoch of rooms in which nothing ever happened.
    epoch: Epoch,
    /// Without a store: rooms that had another life, with the epoch of the next. They had seqs in `epoch` already.
    forgotten: BTreeMap<RoomId, Epoch>,
    /// The index of the entry that is appended next.
    next_index: u64,
    bytes: usize,
    task: Bounds,
    user: Bounds,
    bytes_max: usize,
    evicted: Vec<RoomId>,
}

impl Log {
    /// A log whose next entry has the index `next_index`, and whose rooms begin in `epoch`.
    pub(crate) fn new(limits: &Limits, carrier: Carrier, epoch: Epoch, next_index: u64) -> Self {
        Self {
            rooms: Lookup::default(),
            idle: Recency::default(),
            carrier,
            epoch,
            forgotten: BTreeMap::new(),
            next_index,
            bytes: 0,
            task: Bounds {
                events_max: limits.task_log_events,
                age_ms_max: limits.task_log_ms,
            },
            user: Bounds {
                events_max: limits.user_log_events,
                age_ms_max: limits.user_log_ms,
            },
            bytes_max: limits.log_bytes,
            evicted: Vec::new(),
        }
    }

    /// The epoch of rooms in which nothing ever happened.
    pub(crate) const fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Rooms in which nothing ever happened, and that are not in memory, begin in another epoch from now on.
    pub(crate) fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Takes an entry into all its rooms, in each as the one after the head. One that is not kept moves nothing.
    pub(crate) fn append(&mut self, entry: &Arc<Entry>, entropy: &mut Entropy) {
        if !entry.is_kept() {
            return;
        }
        self.next_index = self.next_index.max(entry.index() + 1);
        let cost = share(entry);
        for place in entry.places() {
            if self.carrier == Carrier::Memory {
                self.begin(place.room);
            }
            let kept = self.rooms.get_mut(&place.room);
            assert!(kept.is_some(), "who publishes to a room has loaded it");
            let Some(kept) = kept else { continue };
            self.bytes -= kept.log.bytes();
            kept.log.append(entry.clone(), cost);
            self.bytes += kept.log.bytes();
            self.idle.touch(&mut kept.turn);
            let position = kept.log.position();
            assert!(
                position.seq == place.seq && position.epoch == place.epoch,
                "an entry has the seq it was given"
            );
        }
        if self.carrier == Carrier::Memory {
            self.forget_idle(entry.places(), entropy);
        }
    }

    /// The room's log, made where there is none.
    fn begin(&mut self, room: RoomId) {
        let epoch = self.forgotten.get(&room).unwrap_or(&self.epoch).clone();
        let bounds = self.bounds(room);
        self.insert(room, || RoomLog::new(epoch, bounds));
    }

    fn insert(&mut self, room: RoomId, log: impl FnOnce() -> RoomLog) {
        let (idle, bytes) = (&mut self.idle, &mut self.bytes);
        self.rooms.entry_or_insert_with(room, || {
            *bytes += ROOM_COST;
            Room {
                log: log(),
                turn: idle.insert(room),
            }
        });
    }

    const fn bounds(&self, room: RoomId) -> Bounds {
        match room {
            RoomId::Task(_) => self.task,
            RoomId::User(_) => self.user,
        }
    }

    /// Whether the room is in memory, in a log with a store.
    pub(crate) fn has(&self, room: RoomId) -> bool {
        self.rooms.get(&room).is_some()
    }

    /// Takes what the store has of a room into memory; with no row, nothing ever happened in it.
    pub(crate) fn install(&mut self, room: RoomId, row: Option<RoomRow>) {
        let bounds = self.bounds(room);
        let epoch = self.epoch.clone();
        self.insert(room, || match row {
            Some(row) => RoomLog::restored(row, bounds),
            None => RoomLog::new(epoch, bounds),
        });
    }

    /// Whether an event of this time is too old to be kept in the room.
    pub(crate) const fn is_old(&self, now: Wall, room: RoomId, at: Wall) -> bool {
        now.since(at) >= self.bounds(room).age_ms_max
    }

    /// Nothing up to `floor` is kept in the room any more, and nothing older than `oldest`.
    pub(crate) fn raise_floor(&mut self, room: RoomId, floor: Seq, oldest: Wall) {
        self.change(room, |log| log.raise_floor(floor, oldest));
    }

    fn change(&mut self, room: RoomId, change: impl FnOnce(&mut RoomLog)) {
        if let Some(kept) = self.rooms.get_mut(&room) {
            self.bytes -= kept.log.bytes();
            change(&mut kept.log);
            self.bytes += kept.log.bytes();
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The room that was idle longest, where there is too much in memory.
    pub(crate) fn excess(&self) -> Option<RoomId> {
        (self.bytes > self.bytes_max).then(|| self.idle.oldest())?
    }

    /// Takes entries of a room back into memory, where they end where that begins.
    pub(crate) fn cache(&mut self, room: RoomId, epoch: &Epoch, entries: &[(Seq, Arc<Entry>)]) {
        if self.position(room).epoch == *epoch {
            self.change(room, |log| log.cache(entries));
        }
    }

    /// Puts a room's entries out of memory, and counts it as used just now. The store has them.
    pub(crate) fn uncache(&mut self, room: RoomId) {
        self.change(room, RoomLog::uncache);
        if let Some(kept) = self.rooms.get_mut(&room) {
            self.idle.touch(&mut kept.turn);
        }
    }

    /// Puts a room out of memory. The store has it.
    pub(crate) fn evict(&mut self, room: RoomId) {
        if let Some(kept) = self.rooms.remove(&room) {
            self.bytes -= ROOM_COST + kept.log.bytes();
            self.idle.remove(kept.turn);
        }
    }

    /// The place before the next event's. A room without entries costs nothing, also when it is asked for.
    pub(crate) fn position(&self, room: RoomId) -> Position {
        if let Some(kept) = self.rooms.get(&room) {
            return kept.log.position();
        }
        Position {
            epoch: self.forgotten.get(&room).unwrap_or(&self.epoch).clone(),
            seq: Seq::ZERO,
        }
    }

    /// The gap for a position that can't be compared with the room's: everything that ever was in this epoch.
    pub(crate) fn unknown_position(&self, room: RoomId) -> Gap {
        let Position { epoch, seq } = self.position(room);
        Gap {
            epoch,
            from: Seq::ZERO.next(),
            to: seq,
            reason: GapReason::Epoch,
        }
    }

    /// What the room has for somebody who got as far as `since`.
    pub(crate) fn resume(&mut self, now: Wall, room: RoomId, since: &Position) -> Resume {
        self.trim(now, room);
        let position = self.position(room);
        let is_foreign = since.epoch != position.epoch && !planted!(ForeignEpochRecovered);
        if is_foreign || (since.seq > position.seq && !planted!(FutureRecovered)) {
            sim_reached!("position_unknown");
            return Resume::Gap {
                gap: self.unknown_position(room),
                after: position.seq,
            };
        }
        let log = self.room(room);
        match log.and_then(|log| log.missing_after(since.seq, Seq::ZERO, GapReason::Trimmed)) {
            Some(gap) => {
                sim_reached!("position_trimmed");
                Resume::Gap { after: gap.to, gap }
            }
            None if planted!(ReplayRepeats) => Resume::Complete {
                after: since
                    .seq
                    .before()
                    .max(log.map_or(Seq::ZERO, RoomLog::floor)),
            },
            None => Resume::Complete { after: since.seq },
        }
    }

    /// What the user's room has for a device with this cursor. In another epoch it has nothing yet, and gets all that is kept.
    pub(crate) fn resume_device(&mut self, now: Wall, room: RoomId, cursor: &Position) -> Resume {
        let resume = self.resume(now, room, cursor);
        let floor = self.room(room).map(RoomLog::floor);
        match (resume, floor) {
            (Resume::Gap { gap, .. }, Some(floor)) if gap.epoch != cursor.epoch => {
                sim_reached!("cursor_of_another_epoch");
                Resume::Gap {
                    gap: Gap { to: floor, ..gap },
                    after: floor,
                }
            }
            (resume, _) => resume,
        }
    }

    /// Drops what is too old, as far as memory can tell: age counts on reading too.
    pub(crate) fn trim(&mut self, now: Wall, room: RoomId) {
        self.change(room, |log| log.trim(now));
    }

    pub(crate) fn room(&self, room: RoomId) -> Option<&RoomLog> {
        self.rooms.get(&room).map(|kept| &kept.log)
    }

    pub(crate) const fn next_index(&self) -> u64 {
        self.next_index
    }

    /// A user's room, as far as the user's inbox has to know it.
    pub(crate) fn kept(&self, user: UserId) -> Kept {
        let Position { epoch, seq: head } = self.position(user.into());
        let floor = self.room(user.into()).map_or(head, RoomLog::floor);
        Kept { epoch, floor, head }
    }

    /// Forgets the room's entries and numbering: it begins anew in `epoch`.
    pub(crate) fn forget(&mut self, room: RoomId, epoch: Epoch, entropy: &mut Entropy) {
        if !self.has(room) {
            return;
        }
        self.evict(room);
        if self.carrier == Carrier::Store {
            let bounds = self.bounds(room);
            return self.insert(room, || RoomLog::new(epoch, bounds));
        }
        if self.forgotten.len() >= FORGOTTEN_MAX {
            self.forgotten.clear();
            self.epoch = entropy.epoch();
        }
        self.forgotten.insert(room, epoch);
    }

    /// Keeps the bound in bytes. The rooms of `places` got an entry just now: they lose their oldest ones, never that one.
    fn forget_idle(&mut self, places: &[Place], entropy: &mut Entropy) {
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.idle.oldest() else {
                return;
            };
            if !places.iter().any(|place| place.room == oldest) {
                let epoch = if planted!(ForgottenKeepsEpoch) {
                    self.position(oldest).epoch
                } else {
                    entropy.epoch()
                };
                self.forget(oldest, epoch, entropy);
                sim_reached!("room_evicted");
                self.evicted.push(oldest);
                continue;
            }
            let rooms = places.iter().map(|place| place.room);
            let length = |room: &RoomId| self.room(*room).map(RoomLog::len);
            let longest = rooms.max_by_key(length);
            let Some(kept) = longest.and_then(|room| self.rooms.get_mut(&room)) else {
                return;
            };
            if kept.log.len() <= 1 {
                return;
            }
            sim_reached!("drops_its_own_oldest");
            self.bytes -= kept.log.bytes();
            kept.log.drop_oldest();
            self.bytes += kept.log.bytes();
        }
    }

    /// The rooms that were forgotten for want of memory since the last call.
    pub(crate) fn take_evicted(&mut self) -> Vec<RoomId> {
        std::mem::take(&mut self.evicted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Retention};
    use crate::payload::Payload;
    use proptest::prelude::*;

    fn event(at: u64, bytes: usize, retention: Retention) -> Event {
        Event {
            kind: "a:b".parse().unwrap(),
            id: "1".parse().unwrap(),
            at: Wall::from_unix_millis(at),
            from: None,
            data: Payload::parse(&format!("\"{}\"", "x".repeat(bytes))).unwrap(),
            retention,
            notifies: false,
        }
    }

    fn memory(limits: &Limits, entropy: &mut Entropy) -> Log {
        Log::new(limits, Carrier::Memory, entropy.epoch(), 1)
    }

    fn append(log: &mut Log, event: Event, rooms: &[RoomId], entropy: &mut Entropy) -> Arc<Entry> {
        let kept = event.retention == Retention::Kept;
        let places = rooms.iter().map(|&room| {
            let Position { epoch, seq } = log.position(room);
            let seq = if kept { seq.next() } else { seq };
            Place { room, epoch, seq }
        });
        let entry = Entry::new(log.next_index(), event, places.collect());
        let entry = Arc::new(entry);
        log.append(&entry, entropy);
        entry
    }

    fn user(number: u64) -> RoomId {
        RoomId::User(UserId::new(number))
    }

    fn seqs(log: &Log, room: RoomId, after: Seq) -> Vec<u64> {
        let mut seqs = Vec::new();
        let mut after = after;
        while let Some((seq, _)) = log.room(room).and_then(|log| log.next_after(after)) {
            seqs.push(seq.number());
            after = seq;
        }
        seqs
    }

    #[test]
    fn an_evicted_room_begins_anew_in_another_epoch() {
        let mut entropy = Entropy::new([1; 32]);
        let limits = Limits {
            log_bytes: 4_000,
            ..Limits::default()
        };
        let mut log = memory(&limits, &mut entropy);
        append(
            &mut log,
            event(1, 1_000, Retention::Kept),
            &[user(1)],
            &mut entropy,
        );
        let before = log.position(user(1));
        for _ in 0..3 {
            append(
                &mut log,
                event(1, 1_000, Retention::Kept),
                &[user(2)],
                &mut entropy,
            );
        }
        assert_eq!(log.take_evicted(), [user(1)]);
        let after = log.position(user(1));
        assert_ne!(before.epoch, after.epoch);
        let wall = Wall::from_unix_millis(1);
        let resume = log.resume(wall, user(1), &before);
        assert!(matches!(resume, Resume::Gap { .. }), "{resume:?}");
        assert_eq!(
            append(
                &mut log,
                event(1, 1, Retention::Kept),
                &[user(1)],
                &mut entropy
            )
            .places()[0]
                .epoch,
            after.epoch
        );
    }

    #[test]
    fn an_ephemeral_event_has_the_head_and_moves_nothing() {
        let mut entropy = Entropy::new([1; 32]);
        let mut log = memory(&Limits::default(), &mut entropy);
        let before = log.position(user(1));
        let ephemeral = event(1, 1, Retention::Ephemeral { key: None });
        let entry = append(&mut log, ephemeral, &[user(1)], &mut entropy);
        assert_eq!(entry.places()[0].seq, Seq::ZERO);
        assert_eq!(log.position(user(1)), before);
    }

    #[test]
    fn age_counts_on_reading_too() {
        let mut entropy = Entropy::new([1; 32]);
        let limits = Limits {
            user_log_ms: 100,
            ..Limits::default()
        };
        let mut log = memory(&limits, &mut entropy);
        for at in [1, 50] {
            append(
                &mut log,
                event(at, 1, Retention::Kept),
                &[user(1)],
                &mut entropy,
            );
        }
        let since = Position {
            epoch: log.position(user(1)).epoch,
            seq: Seq::ZERO,
        };
        let resume = log.resume(Wall::from_unix_millis(120), user(1), &since);
        let Resume::Gap { gap, after } = resume else {
            panic!("{resume:?}")
        };
        assert_eq!(
            (gap.from.number(), gap.to.number(), gap.reason),
            (1, 1, GapReason::Trimmed)
        );
        assert_eq!(seqs(&log, user(1), after), [2]);
    }

    proptest! {
        #[test]
        fn what_comes_after_a_position_is_complete_or_said_to_be_missing(
            publishes in prop::collection::vec((prop::collection::btree_set(0_u64..4, 1..4), any::<bool>()), 1..80),
            room in 0_u64..4,
            since in 0_u64..60,
        ) {
            let mut entropy = Entropy::new([1; 32]);
            let limits = Limits { user_log_events: 10, ..Limits::default() };
            let mut log = memory(&limits, &mut entropy);
            let room = user(room);
            let mut model = Vec::new();
            for (rooms, kept) in publishes {
                let rooms: Vec<_> = rooms.into_iter().map(user).collect();
                let retention = if kept { Retention::Kept } else { Retention::Ephemeral { key: None } };
                let entry = append(&mut log, event(1, 1, retention), &rooms, &mut entropy);
                if kept && rooms.contains(&room) {
                    model.push(entry.index());
                }
            }
            let epoch = log.position(room).epoch;
            let since = Position { epoch, seq: Seq::new(since).unwrap() };
            let wall = Wall::from_unix_millis(1);
            let owed: Vec<u64> = (since.seq.number() + 1..=model.len() as u64).collect();
            match log.resume(wall, room, &since) {
                Resume::Complete { after } => prop_assert_eq!(seqs(&log, room, after), owed),
                Resume::Gap { gap, after } if gap.reason == GapReason::Trimmed => {
                    let mut told: Vec<u64> = (gap.from.number()..=gap.to.number()).collect();
                    told.extend(seqs(&log, room, after));
                    prop_assert_eq!(told, owed);
                }
                Resume::Gap { gap, .. } => {
                    prop_assert_eq!(gap.reason, GapReason::Epoch);
                    prop_assert!(since.seq.number() > model.len() as u64);
                }
            }
        }
    }
}
