//! Who was touched longest ago, for maps that have to give something up when they are full.

use std::collections::BTreeMap;

/// An order of keys by their last touch. O(log n) a touch.
#[derive(Debug)]
pub(crate) struct Recency<K> {
    by_turn: BTreeMap<u64, K>,
    next: u64,
}

/// When a key was touched last; kept beside the key's value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn(u64);

impl<K> Default for Recency<K> {
    fn default() -> Self {
        Self {
            by_turn: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<K: Copy> Recency<K> {
    pub(crate) fn insert(&mut self, key: K) -> Turn {
        let turn = self.next;
        self.next += 1;
        self.by_turn.insert(turn, key);
        Turn(turn)
    }

    pub(crate) fn touch(&mut self, turn: &mut Turn) {
        if let Some(key) = self.by_turn.remove(&turn.0) {
            *turn = self.insert(key);
        }
    }

    pub(crate) fn remove(&mut self, turn: Turn) {
        self.by_turn.remove(&turn.0);
    }

    pub(crate) fn oldest(&self) -> Option<K> {
        self.by_turn.first_key_value().map(|(_, key)| *key)
    }

    /// The keys, the one touched last first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = K> {
        self.by_turn.values().rev().copied()
    }
}
