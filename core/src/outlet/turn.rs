//! Events that went to all watchers of a task and wait to be sent: kept once, however many wait for them.
//!
//! A watcher for whom nothing else waits rides on the turn of its task: of it there is only how far it got. What comes for it
//! alone, or a turn that holds too much, puts the rest into the outboxes of those who ride.

use crate::event::{Entry, Retention};
use crate::frame::Frame;
use crate::ids::{Key, TaskId};
use crate::outbox::ITEM_COST;
use crate::sim_reached;
use crate::time::Time;
use std::sync::Arc;

/// Most events of a turn.
const ITEMS_MAX: usize = 64;
/// Bytes of a turn, unless its first event has more.
const BYTES_MAX: usize = 64 << 10;
/// Turns that keep their memory while nobody rides on them.
const IDLE_MAX: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) entry: Arc<Entry>,
    pub(super) frame: Frame,
    /// When it came.
    pub(super) since: Time,
}

impl Item {
    fn cost(&self) -> usize {
        self.frame.wire().len() + ITEM_COST
    }

    fn key(&self) -> Option<&Key> {
        match &self.entry.event().retention {
            Retention::Ephemeral { key } => key.as_ref(),
            Retention::Kept => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Turn {
    pub(super) task: TaskId,
    /// None in the place of one that a later one replaced.
    items: Vec<Option<Item>>,
    bytes: usize,
    riders: usize,
    /// All frames one after another, once somebody wants several.
    wire: Vec<u8>,
    /// Where each begins, and how many are before it.
    starts: Vec<(usize, u64)>,
    frames: u64,
}

impl Turn {
    const fn new(task: TaskId) -> Self {
        Self {
            task,
            items: Vec::new(),
            bytes: 0,
            riders: 0,
            wire: Vec::new(),
            starts: Vec::new(),
            frames: 0,
        }
    }

    /// The number that the next event gets.
    pub(super) fn len(&self) -> u32 {
        // At most 64, and what replaced another.
        u32::try_from(self.items.len()).unwrap_or(u32::MAX)
    }

    /// Whether `item` may ride too, where an outbox has this bound.
    pub(super) fn has_room(&self, item: &Item, outbox_bytes: usize) -> bool {
        let bytes = self.bytes + item.cost();
        self.items.is_empty()
            || (self.items.len() < ITEMS_MAX && bytes <= BYTES_MAX.min(outbox_bytes))
    }

    /// Takes an event; an ephemeral one in the place of the one with its key that still waits.
    pub(super) fn push(&mut self, item: Item) {
        if let Some(key) = item.key() {
            let same =
                |old: &&mut Option<Item>| old.as_ref().is_some_and(|old| old.key() == Some(key));
            if let Some(old) = self.items.iter_mut().find(same).and_then(Option::take) {
                sim_reached!("ephemeral_replaced_in_a_turn");
                self.bytes -= old.cost();
            }
        }
        self.bytes += item.cost();
        self.items.push(Some(item));
        self.wire.clear();
        self.starts.clear();
    }

    /// The events from number `at` on.
    pub(super) fn rest(&self, at: u32) -> impl Iterator<Item = &Item> {
        self.items.iter().skip(at as usize).flatten()
    }

    /// The frames from number `at` on as they go over the wire, and how many they are. O(bytes of the turn) for the first
    /// who asks since an event came, O(1) for the others.
    pub(super) fn wire(&mut self, at: u32) -> (&[u8], u64) {
        if let [Some(only)] = self.items.as_slice() {
            return match at {
                0 => (only.frame.wire(), 1),
                _ => (&[], 0),
            };
        }
        if self.starts.is_empty() {
            let mut frames = 0;
            for item in &self.items {
                self.starts.push((self.wire.len(), frames));
                if let Some(item) = item {
                    self.wire.extend_from_slice(item.frame.wire());
                    frames += 1;
                }
            }
            self.frames = frames;
        }
        let all = (self.wire.len(), self.frames);
        let (start, before) = self.starts.get(at as usize).copied().unwrap_or(all);
        let bytes = self.wire.get(start..).unwrap_or_default();
        (bytes, self.frames - before)
    }

    /// Bytes that the events from number `at` on would have in an outbox.
    pub(super) fn bytes_from(&self, at: u32) -> usize {
        self.rest(at).map(Item::cost).sum()
    }

    fn empty(&mut self, keeps_memory: bool) {
        if keeps_memory && self.wire.capacity() <= 2 * BYTES_MAX {
            self.items.clear();
            self.wire.clear();
            self.starts.clear();
            self.bytes = 0;
        } else {
            *self = Self::new(self.task);
        }
    }
}

/// The turns that somebody rides on, by number.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: Vec<Turn>,
    idle: Vec<u32>,
}

impl Turns {
    pub(super) fn begin(&mut self, task: TaskId) -> u32 {
        if let Some(number) = self.idle.pop()
            && let Some(turn) = self.get_mut(number)
        {
            turn.task = task;
            return number;
        }
        self.turns.push(Turn::new(task));
        // Fewer than there are connections.
        u32::try_from(self.turns.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Turn> {
        self.turns.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Turn> {
        self.turns.get_mut(number as usize)
    }

    /// One more rides on it.
    pub(super) fn ride(&mut self, number: u32) {
        if let Some(turn) = self.get_mut(number) {
            turn.riders += 1;
        }
    }

    /// One rides on it no longer. Its task, where that was the last: the turn is over then.
    pub(super) fn alight(&mut self, number: u32) -> Option<TaskId> {
        let keeps_memory = self.idle.len() < IDLE_MAX;
        let turn = self.get_mut(number)?;
        assert!(turn.riders > 0, "who alights was riding");
        turn.riders -= 1;
        if turn.riders > 0 {
            return None;
        }
        let task = turn.task;
        turn.empty(keeps_memory);
        self.idle.push(number);
        Some(task)
    }
}
