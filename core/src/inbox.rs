//! What each user has not read, and how far each of the user's devices got.
//!
//! Keeps *Offline is not lost* and *Acknowledged is final*. That a device has something (`ack`) and that a person saw it
//! (`read`) are two things. The events themselves are in the user's log; here are numbers only. Bounded in devices a user
//! and in bytes: the hub forgets the user who was idle longest first, who has then read all and no device.

use crate::ids::{DeviceId, Epoch, EventId, Position, Seq, UserId};
use crate::lookup::Lookup;
use crate::recency::{Recency, Turn};
use crate::time::Wall;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// Bytes that a user and a device cost beside what grows, about.
const USER_COST: usize = 192;
const DEVICE_COST: usize = 128;
/// Numbers for which an inbox may hold memory though nothing is unread.
const UNREAD_MIN: usize = 16;

/// A device that the server knows, with its cursor: one of `devices` of `GET /v1/users/{id}/inbox`.
///
/// ```
/// use fanfare_core::{Hub, Limits, Now, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// assert!(hub.inbox(Now::default(), UserId::new(7)).devices.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownDevice {
    /// Its name.
    pub device: DeviceId,
    /// It has everything up to here, in the room's epoch; 0 where that changed since.
    pub cursor: Seq,
    /// When it last came, went or acknowledged.
    pub seen: Wall,
    /// Its connections now.
    pub connected: usize,
}

/// The user's room, as far as inboxes have to know it: what is kept is numbered from after `floor` to `head`.
pub(crate) struct Kept {
    pub(crate) epoch: Epoch,
    pub(crate) floor: Seq,
    pub(crate) head: Seq,
}

/// A notification that was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) seq: Seq,
    /// The beginning of its id's digest, by which it is found.
    pub(crate) id: u64,
}

/// The beginning of the digest of an id. Two notifications of one user that meet in it are read together: with 10,000
/// unread that is once in 10^11 inboxes, and whoever publishes both can bring it about for no gain.
pub(crate) fn id_digest(id: &EventId) -> u64 {
    let digest = Sha256::digest(id.as_str());
    digest
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: DeviceId,
    pub(crate) cursor: Position,
    pub(crate) seen: Wall,
}

/// What a device's coming changed.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// From where it goes on; `None` where it gets what is new only.
    pub(crate) cursor: Option<Position>,
    /// Devices that are no longer known.
    pub(crate) forgotten: Vec<DeviceId>,
}

#[derive(Debug)]
struct Inbox {
    epoch: Epoch,
    /// Of notifications that are kept, in order.
    unread: VecDeque<Unread>,
    devices: Vec<Device>,
    turn: Turn,
}

impl Inbox {
    fn cost(&self) -> usize {
        let devices = self.devices.len() * (size_of::<Device>() + DEVICE_COST);
        USER_COST + self.unread.capacity() * size_of::<Unread>() + devices
    }

    /// Gives back what was needed when more was unread.
    fn shrink(&mut self) {
        let wanted = self.unread.len().max(UNREAD_MIN);
        if self.unread.capacity() > 4 * wanted {
            self.unread.shrink_to(2 * wanted);
        }
    }

    /// What is no longer kept can't be read, and numbers of another epoch mean nothing.
    fn trim(&mut self, kept: &Kept) {
        if self.epoch != kept.epoch {
            self.epoch = kept.epoch.clone();
            self.unread.clear();
        }
        while self
            .unread
            .front()
            .is_some_and(|unread| unread.seq <= kept.floor)
        {
            self.unread.pop_front();
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) devices_max: usize,
    pub(crate) device_ms_max: u64,
    pub(crate) bytes_max: usize,
}

/// The inboxes of all users.
#[derive(Debug)]
pub(crate) struct Inboxes {
    inboxes: Lookup<UserId, Inbox>,
    idle: Recency<UserId>,
    bytes: usize,
    bounds: Bounds,
}

impl Inboxes {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            inboxes: Lookup::default(),
            idle: Recency::default(),
            bytes: 0,
            bounds,
        }
    }

    /// Takes what the store has of a user's inbox.
    pub(crate) fn install(
        &mut self,
        user: UserId,
        kept: &Kept,
        unread: Vec<Unread>,
        devices: Vec<Device>,
    ) {
        if unread.is_empty() && devices.is_empty() {
            return;
        }
        self.with(user, kept, |inbox| {
            if !planted!(StoredUnreadForgotten) {
                inbox.unread = unread.into();
            }
            if !planted!(StoredCursorsForgotten) {
                inbox.devices = devices;
            }
        });
    }

    /// The user who was idle longest, where there is too much in memory.
    pub(crate) fn excess(&self) -> Option<UserId> {
        (self.bytes > self.bounds.bytes_max).then(|| self.idle.oldest())?
    }

    /// The same, but for the user who was active last.
    pub(crate) fn excess_but_last(&self) -> Option<UserId> {
        let last = self.idle.newest_first().next();
        self.excess().filter(|user| Some(*user) != last)
    }

    /// Counts the user as active just now.
    pub(crate) fn touch(&mut self, user: UserId) {
        if let Some(inbox) = self.inboxes.get_mut(&user) {
            self.idle.touch(&mut inbox.turn);
        }
    }

    /// Works on a user's inbox, which is made where there is none.
    fn with<T>(&mut self, user: UserId, kept: &Kept, work: impl FnOnce(&mut Inbox) -> T) -> T {
        let (idle, bytes) = (&mut self.idle, &mut self.bytes);
        let inbox = self.inboxes.entry_or_insert_with(user, || {
            *bytes += USER_COST;
            Inbox {
                epoch: kept.epoch.clone(),
                unread: VecDeque::new(),
                devices: Vec::new(),
                turn: idle.insert(user),
            }
        });
        self.bytes -= inbox.cost();
        inbox.trim(kept);
        let result = work(inbox);
        inbox.shrink();
        self.bytes += inbox.cost();
        self.idle.touch(&mut inbox.turn);
        result
    }

    pub(crate) fn forget(&mut self, user: UserId) {
        if let Some(inbox) = self.inboxes.remove(&user) {
            self.bytes -= inbox.cost();
            self.idle.remove(inbox.turn);
        }
    }

    /// Counts the notification at the head of the user's room, by its id's digest.
    pub(crate) fn notify(&mut self, user: UserId, kept: &Kept, id: u64) {
        self.with(user, kept, |inbox| {
            let last = inbox.unread.back();
            assert!(last.is_none_or(|last| last.seq < kept.head));
            inbox.unread.push_back(Unread { seq: kept.head, id });
        });
    }

    /// Notifications that are kept and that the user has not read. O(log of their number).
    pub(crate) fn unread(&self, user: UserId, kept: &Kept) -> usize {
        self.all_unread(user, kept).len()
    }

    /// Those notifications, in order.
    pub(crate) fn all_unread(
        &self,
        user: UserId,
        kept: &Kept,
    ) -> impl ExactSizeIterator<Item = Unread> + Clone {
        let inbox = self.inboxes.get(&user);
        let unread = inbox.filter(|inbox| inbox.epoch == kept.epoch);
        let unread = unread.map(|inbox| {
            let trimmed = inbox
                .unread
                .partition_point(|unread| unread.seq <= kept.floor);
            inbox.unread.range(trimmed..).copied()
        });
        let none: std::iter::Copied<std::collections::vec_deque::Iter<'_, Unread>> =
            std::collections::vec_deque::Iter::default().copied();
        unread.unwrap_or(none)
    }

    /// The user has read the notifications for which `is_read` holds. How many that were.
    pub(crate) fn read(
        &mut self,
        user: UserId,
        kept: &Kept,
        is_read: impl Fn(&Unread) -> bool,
    ) -> usize {
        if self.unread(user, kept) == 0 {
            return 0;
        }
        self.with(user, kept, |inbox| {
            let before = inbox.unread.len();
            let oldest = inbox.unread.front().copied();
            let stays = |unread: &Unread| planted!(ReadLeavesOne) && oldest == Some(*unread);
            inbox
                .unread
                .retain(|unread| !is_read(unread) || stays(unread));
            before - inbox.unread.len()
        })
    }

    /// A device that names no position comes. It is known from now on.
    /// One that is connected is in use: it is forgotten last.
    pub(crate) fn arrive(
        &mut self,
        now: Wall,
        user: UserId,
        kept: &Kept,
        device: &DeviceId,
        is_connected: impl Fn(&DeviceId) -> bool,
    ) -> Arrival {
        let bounds = self.bounds;
        self.with(user, kept, |inbox| {
            let mut forgotten = Vec::new();
            inbox.devices.retain(|known| {
                let stays =
                    now.since(known.seen) < bounds.device_ms_max || is_connected(&known.name);
                if !stays {
                    forgotten.push(known.name.clone());
                }
                stays
            });
            if let Some(known) = inbox.devices.iter_mut().find(|known| known.name == *device) {
                known.seen = known.seen.max(now);
                let cursor = Some(known.cursor.clone());
                return Arrival { cursor, forgotten };
            }
            if inbox.devices.len() >= bounds.devices_max.max(1) {
                let idle = inbox.devices.iter().enumerate();
                let idle = idle.min_by_key(|(_, known)| (is_connected(&known.name), known.seen));
                if let Some((at, _)) = idle {
                    forgotten.push(inbox.devices.swap_remove(at).name);
                }
            }
            let oldest = inbox.unread.front().map(|unread| unread.seq.before());
            let cursor = Position {
                epoch: kept.epoch.clone(),
                seq: oldest.unwrap_or(kept.head),
            };
            inbox.devices.push(Device {
                name: device.clone(),
                cursor: cursor.clone(),
                seen: now,
            });
            Arrival {
                cursor: oldest.map(|_| cursor),
                forgotten,
            }
        })
    }

    /// The device has everything up to `seq`. Never moves a cursor back. Where the cursor is now.
    pub(crate) fn ack(
        &mut self,
        now: Wall,
        user: UserId,
        kept: &Kept,
        device: &DeviceId,
        seq: Seq,
        is_connected: impl Fn(&DeviceId) -> bool,
    ) -> (Seq, Vec<DeviceId>) {
        // One that was forgotten for want of room is known again.
        let arrival = self.arrive(now, user, kept, device, is_connected);
        let seq = self.with(user, kept, |inbox| {
            let known = inbox.devices.iter_mut().find(|known| known.name == *device);
            let Some(known) = known else {
                return seq;
            };
            if known.cursor.epoch != kept.epoch {
                known.cursor = Position {
                    epoch: kept.epoch.clone(),
                    seq: Seq::ZERO,
                };
            }
            known.cursor.seq = if planted!(CursorGoesBack) {
                seq
            } else {
                known.cursor.seq.max(seq)
            };
            known.cursor.seq
        });
        (seq, arrival.forgotten)
    }

    /// What is known of a device.
    pub(crate) fn device(&self, user: UserId, device: &DeviceId) -> Option<&Device> {
        self.devices(user).find(|known| known.name == *device)
    }

    /// A device's cursor, in the room's epoch.
    pub(crate) fn cursor(&self, user: UserId, kept: &Kept, device: &DeviceId) -> Option<Seq> {
        let known = self.devices(user).find(|known| known.name == *device)?;
        (known.cursor.epoch == kept.epoch).then_some(known.cursor.seq)
    }

    /// A device of the user's went.
    pub(crate) fn leave(&mut self, now: Wall, user: UserId, device: &DeviceId) {
        if let Some(inbox) = self.inboxes.get_mut(&user)
            && let Some(known) = inbox.devices.iter_mut().find(|known| known.name == *device)
        {
            known.seen = known.seen.max(now);
        }
    }

    /// The devices that are known, by name.
    pub(crate) fn known(
        &self,
        now: Wall,
        user: UserId,
        kept: &Kept,
        connected: impl Fn(&DeviceId) -> usize,
    ) -> Vec<KnownDevice> {
        let known = self.devices(user).filter(|known| {
            now.since(known.seen) < self.bounds.device_ms_max || connected(&known.name) > 0
        });
        let mut known: Vec<KnownDevice> = known
            .map(|known| KnownDevice {
                device: known.name.clone(),
                cursor: if known.cursor.epoch == kept.epoch {
                    known.cursor.seq
                } else {
                    Seq::ZERO
                },
                seen: known.seen,
                connected: connected(&known.name),
            })
            .collect();
        known.sort_by(|a, b| a.device.cmp(&b.device));
        known
    }

    fn devices(&self, user: UserId) -> impl Iterator<Item = &Device> {
        let inbox = self.inboxes.get(&user);
        inbox.into_iter().flat_map(|inbox| &inbox.devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_takes_no_memory_any_more() {
        let bounds = Bounds {
            devices_max: 2,
            device_ms_max: 1_000,
            bytes_max: 1 << 20,
        };
        let (mut inboxes, user) = (Inboxes::new(bounds), UserId::new(7));
        let kept = |head| Kept {
            epoch: "k3:1".parse::<Position>().unwrap().epoch,
            floor: Seq::ZERO,
            head: Seq::new(head).unwrap(),
        };
        for head in 1..=10_000 {
            inboxes.notify(user, &kept(head), head);
        }
        let held = |inboxes: &Inboxes| inboxes.inboxes.get(&user).unwrap().unread.capacity();
        assert!(inboxes.bytes >= held(&inboxes) * size_of::<Unread>());
        inboxes.read(user, &kept(10_000), |unread| unread.seq.number() > 1);
        assert_eq!(inboxes.unread(user, &kept(10_000)), 1);
        assert!(held(&inboxes) <= 64, "{}", held(&inboxes));
    }
}
