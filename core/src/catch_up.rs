//! What one connection reads from the log: what it missed before it came, or what it was too slow for.
//!
//! Keeps *Resume* and *No silent gap*. Rooms that are read here get no live events: those are in the log, and come in
//! their turn. Several rooms come merged in the order of entries, each entry once. Holds positions only, whatever the
//! length of what is read; with a store, also a page for each room whose entries are not in memory.

use crate::bus::EventBus;
use crate::era::Era;
use crate::event::{Entry, Place};
use crate::frame::Frame;
use crate::ids::{Epoch, Position, RoomId, Seq};
use crate::port::{Fetch, Fetched};
use crate::protocol;
use crate::room_log::GapReason;
use crate::rows;
use crate::sim_reached;
use std::sync::Arc;

/// Entries and bytes that are read from the store at once for one room.
const PAGE_ROWS: usize = 64;
const PAGE_BYTES: usize = 64 << 10;

#[derive(Debug)]
struct Cursor {
    room: RoomId,
    epoch: Epoch,
    after: Seq,
    /// Whether something before may be missing, of which an outlet has yet to tell. A client that joins says where it begins.
    may_rewind: bool,
    /// The last page that was read from the store.
    page: Page,
    /// Whether the page after `after` is being read.
    waits: bool,
    /// The store has nothing up to here.
    missing: Seq,
}

impl Cursor {
    /// Goes on behind `after`, where nothing is being read yet.
    fn go_on(&mut self, after: Seq) {
        (self.after, self.waits) = (after, false);
    }
}

/// Entries of a room as they follow each other, with their seqs. Everybody who reads them shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page(Arc<[(Seq, Arc<Entry>)]>);

impl Page {
    /// What the store has of what was asked for.
    pub(crate) fn read(asked: &PageOf, fetched: &Fetched, era: &Era) -> Self {
        let rows = fetched.rows.iter();
        let mut entries: Vec<(Seq, Arc<Entry>)> = Vec::with_capacity(rows.len());
        for (seq, entry) in rows.map_while(|(key, row)| rows::read_entry(key, row, era)) {
            let of_epoch = |place: &Place| {
                (place.room, &place.epoch, place.seq) == (asked.room, &asked.epoch, seq)
            };
            let follows = entries.last().is_none_or(|(last, _)| seq == last.next());
            if !follows || !entry.places().iter().any(of_epoch) {
                break;
            }
            entries.push((seq, entry));
        }
        Self(entries.into())
    }

    pub(crate) fn entries(&self) -> &[(Seq, Arc<Entry>)] {
        &self.0
    }

    /// The first entry after `after`.
    fn after(&self, after: Seq) -> Option<&Arc<Entry>> {
        let (first, _) = self.0.first()?;
        let skip = after.next().number().saturating_sub(first.number());
        let (_, entry) = self.0.get(usize::try_from(skip).ok()?)?;
        Some(entry)
    }
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    /// These pages have to be read from the store first.
    Pages(Vec<PageOf>),
    /// Pages are being read.
    Wait,
    Done,
}

/// A page of a room: what comes after `after`, up to `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PageOf {
    pub(crate) room: RoomId,
    pub(crate) epoch: Epoch,
    after: Seq,
    to: Seq,
}

impl PageOf {
    pub(crate) fn fetch(&self) -> Fetch {
        let bounds = (PAGE_ROWS, PAGE_BYTES);
        rows::fetch_entries(self.room, self.after.next()..=self.to, false, bounds)
    }
}

#[derive(Debug)]
pub(crate) struct CatchUp {
    cursors: Vec<Cursor>,
    reason: GapReason,
    /// The first entry that is new to who reads, and not missed: `system:welcome` said what was unread before.
    new_from: u64,
}

impl CatchUp {
    /// `reason` is said of what is trimmed before it was read; entries from `new_from` on are new, and not missed.
    pub(crate) const fn new(reason: GapReason, new_from: u64) -> Self {
        Self {
            cursors: Vec::new(),
            reason,
            new_from,
        }
    }

    /// Reads `room` too, in which a client joined, from the event after `after`.
    pub(crate) fn read(&mut self, room: RoomId, epoch: Epoch, after: Seq) {
        self.begin(room, epoch, after, false);
    }

    /// Reads `room` from here on, which came live before.
    pub(crate) fn read_on(&mut self, room: RoomId, epoch: Epoch, after: Seq) {
        self.begin(room, epoch, after, true);
    }

    fn begin(&mut self, room: RoomId, epoch: Epoch, after: Seq, may_rewind: bool) {
        assert!(!self.reads(room), "a room is read by one cursor");
        self.cursors.push(Cursor {
            room,
            epoch,
            after,
            may_rewind,
            page: Page::default(),
            waits: false,
            missing: Seq::ZERO,
        });
    }

    pub(crate) fn reads(&self, room: RoomId) -> bool {
        self.cursors.iter().any(|cursor| cursor.room == room)
    }

    /// How far `room` was read, where it is.
    pub(crate) fn position(&self, room: RoomId) -> Option<Seq> {
        let cursor = self.cursors.iter().find(|cursor| cursor.room == room)?;
        Some(cursor.after)
    }

    /// Stops reading `room`; where it was read up to.
    pub(crate) fn stop(&mut self, room: RoomId) -> Option<Position> {
        let at = self.cursors.iter().position(|cursor| cursor.room == room)?;
        let Cursor { epoch, after, .. } = self.cursors.swap_remove(at);
        Some(Position { epoch, seq: after })
    }

    /// Entry `index` is new to who reads too, and what follows it.
    pub(crate) fn is_new_from(&mut self, index: u64) {
        self.new_from = self.new_from.min(index);
    }

    /// Reads `room` from `first` on, which was not sent as it seemed. Of another epoch there is nothing any more.
    pub(crate) fn rewind(&mut self, room: RoomId, first: &Position) {
        let mut cursors = self.cursors.iter_mut();
        let cursor = cursors.find(|cursor| cursor.room == room && cursor.epoch == first.epoch);
        if let Some(cursor) = cursor {
            let before = first.seq.before();
            if cursor.may_rewind && before < cursor.after {
                cursor.go_on(before);
            }
        }
    }

    /// Whether pages are being read.
    pub(crate) fn waits(&self) -> bool {
        self.cursors.iter().any(|cursor| cursor.waits)
    }

    /// Entries of pages that it holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        let pages = self.cursors.iter().map(|cursor| cursor.page.entries());
        pages.map(<[_]>::len).sum()
    }

    /// Takes a page that was to be read; none, where it could not be. Whether it was waited for.
    pub(crate) fn fill(&mut self, asked: &PageOf, page: Option<&Page>) -> bool {
        let cursor = self.cursors.iter_mut().find(|cursor| {
            let of = (cursor.room, &cursor.epoch, cursor.after);
            cursor.waits && of == (asked.room, &asked.epoch, asked.after)
        });
        let Some(cursor) = cursor else { return false };
        cursor.waits = false;
        if let Some(page) = page {
            // What was removed while it was read is said to be missing.
            let first = page.entries().first().map(|(seq, _)| seq.before());
            cursor.missing = first.unwrap_or(asked.to);
            sim_reached!("page_read");
            cursor.page = page.clone();
        }
        true
    }

    /// The next event or gap. O(rooms that are read).
    pub(crate) fn next(&mut self, bus: &EventBus) -> Next {
        let mut next: Option<(u64, Arc<Entry>)> = None;
        let (mut wanted, mut waits) = (Vec::new(), false);
        for (at, cursor) in self.cursors.iter_mut().enumerate() {
            let position = bus.position(cursor.room);
            if position.epoch != cursor.epoch {
                let (gap, frame) = protocol::begins_anew(bus, cursor.room);
                sim_reached!("epoch_changes_while_reading");
                cursor.epoch = position.epoch;
                cursor.go_on(gap.to);
                return Next::Frame(frame);
            }
            let Some(log) = bus.room_log(cursor.room) else {
                continue;
            };
            if let Some(gap) = log.missing_after(cursor.after, cursor.missing, self.reason) {
                cursor.go_on(gap.to);
                sim_reached!("gap_while_reading");
                if !wanted.is_empty() {
                    sim_reached!("gap_before_a_page");
                }
                if !planted!(SlowGapUntold) {
                    return Next::Frame(protocol::gap(cursor.room, &gap));
                }
            }
            // Thousands may wait for their next page: the last one must not stay for that.
            if cursor.page.after(cursor.after).is_none() {
                cursor.page = Page::default();
            }
            let entry = match cursor.page.after(cursor.after) {
                Some(entry) => Some(entry),
                None if cursor.after < log.cached_floor() => {
                    waits = true;
                    if !cursor.waits {
                        let page = PageOf {
                            room: cursor.room,
                            epoch: cursor.epoch.clone(),
                            after: cursor.after,
                            to: log.cached_floor(),
                        };
                        cursor.waits = planted!(PageNeverAsked);
                        wanted.push((at, page));
                    }
                    None
                }
                None => log.next_after(cursor.after).map(|(_, entry)| entry),
            };
            if let Some(entry) = entry
                && next
                    .as_ref()
                    .is_none_or(|(index, _)| entry.index() < *index)
            {
                next = Some((entry.index(), entry.clone()));
            }
        }
        if waits {
            if wanted.is_empty() {
                return Next::Wait;
            }
            // Not before: where another room's gap was told first, nobody asks for these yet.
            let ask = |(at, page): (usize, PageOf)| {
                sim_reached!("page_wanted");
                if let Some(cursor) = self.cursors.get_mut(at) {
                    cursor.waits = true;
                }
                page
            };
            return Next::Pages(wanted.into_iter().map(ask).collect());
        }
        let Some((_, entry)) = next else {
            return Next::Done;
        };
        Next::Frame(self.take(bus, &entry))
    }

    /// Encodes an entry for all rooms that are read and have it next, and goes on behind it.
    fn take(&mut self, bus: &EventBus, entry: &Entry) -> Frame {
        let mut places = Vec::new();
        for cursor in &mut self.cursors {
            let place = entry
                .places()
                .iter()
                .find(|place| place.room == cursor.room);
            // A room that began to be read after this entry has it behind it already.
            if let Some(place) =
                place.filter(|place| place.epoch == cursor.epoch && place.seq > cursor.after)
            {
                assert_eq!(place.seq, cursor.after.next(), "a replay has no hole");
                cursor.go_on(place.seq);
                places.push(place);
            }
        }
        places.sort_unstable_by_key(|place| place.room);
        let is_new = entry.index() >= self.new_from;
        let unread = places
            .iter()
            .filter(|_| is_new)
            .find_map(|place| unread(bus, place));
        let places = places.iter().map(|place| (&place.room, place.seq));
        entry.encode(places, unread)
    }
}

/// What the user has unread, with the last event of the user's room.
fn unread(bus: &EventBus, place: &Place) -> Option<usize> {
    match place.room {
        RoomId::User(user) if bus.position(place.room).seq == place.seq => Some(bus.unread(user)),
        RoomId::User(_) | RoomId::Task(_) => None,
    }
}
