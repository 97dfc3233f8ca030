//! What one connection still has to be sent.
//!
//! Keeps *Slow hurts itself only*: what waits is bounded in bytes. What becomes of a connection that is full is decided
//! by the hub: an ephemeral event is dropped, a kept one is read from the log later, and a connection that can't even
//! take what the server has to say about itself is closed.

use crate::frame::Frame;
use crate::ids::{Key, RoomId};
use crate::sim_reached;
use std::collections::VecDeque;

/// Bytes above the bound that are kept free of events, for replies, gaps and the goodbye.
const RESERVE_BYTES: usize = 64 << 10;
/// Bytes that a waiting frame costs beside its own.
pub(crate) const ITEM_COST: usize = size_of::<Item>();
/// Frames for which an empty outbox keeps room.
const IDLE_CAPACITY: usize = 8;

/// The outbox is full; nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug)]
struct Item {
    frame: Frame,
    replaceable: Option<Box<(RoomId, Key)>>,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    bytes: usize,
    bytes_max: usize,
}

impl Outbox {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Takes an event. O(1).
    pub(crate) fn push_event(&mut self, frame: Frame) -> Result<(), Full> {
        self.push(frame, None, self.bytes_max)
    }

    /// Takes an ephemeral event in the place of one of the same room and key that still waits. O(what waits).
    pub(crate) fn replace_event(
        &mut self,
        room: RoomId,
        key: &Key,
        frame: Frame,
    ) -> Result<(), Full> {
        let same = |item: &Item| {
            let replaceable = item.replaceable.as_deref();
            replaceable.is_some_and(|(its_room, its_key)| *its_room == room && its_key == key)
        };
        // The new one goes to the end: its room numbers are those of now, and must not come before smaller ones.
        if let Some(item) = self
            .items
            .iter()
            .position(same)
            .and_then(|at| self.items.remove(at))
        {
            sim_reached!("ephemeral_replaced");
            self.bytes -= item.frame.wire().len() + ITEM_COST;
        }
        self.push(frame, Some(Box::new((room, key.clone()))), self.bytes_max)
    }

    /// Takes what the server says about itself, also where events no longer fit.
    pub(crate) fn push_system(&mut self, frame: Frame) -> Result<(), Full> {
        self.push(frame, None, self.bytes_max.saturating_add(RESERVE_BYTES))
    }

    /// Takes what was asked for when nothing waited: it has bounds of its own.
    pub(crate) fn push_read(&mut self, frame: Frame) {
        self.bytes += frame.wire().len() + ITEM_COST;
        self.items.push_back(Item {
            frame,
            replaceable: None,
        });
    }

    fn push(
        &mut self,
        frame: Frame,
        replaceable: Option<Box<(RoomId, Key)>>,
        bytes_max: usize,
    ) -> Result<(), Full> {
        let bytes = self.bytes + frame.wire().len() + ITEM_COST;
        // A single frame larger than the whole bound must not wait for ever: it goes when nothing else waits.
        if bytes > bytes_max && !self.items.is_empty() {
            sim_reached!("outbox_full");
            return Err(Full);
        }
        self.bytes = bytes;
        self.items.push_back(Item { frame, replaceable });
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<Frame> {
        let item = self.items.pop_front()?;
        self.bytes -= item.frame.wire().len() + ITEM_COST;
        if self.items.is_empty() {
            assert_eq!(self.bytes, 0, "an empty outbox holds no bytes");
            if self.items.capacity() > IDLE_CAPACITY {
                self.items = VecDeque::new();
            }
        }
        Some(item.frame)
    }

    pub(crate) fn clear(&mut self) {
        self.items = VecDeque::new();
        self.bytes = 0;
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop())
            .map(|frame| frame.text().to_owned())
            .collect()
    }

    #[test]
    fn events_stop_at_the_bound_and_the_servers_own_words_at_the_reserve() {
        let mut outbox = Outbox::new(1_000);
        let frame = || Frame::from_text(&"x".repeat(300));
        let events = (0..100)
            .take_while(|_| outbox.push_event(frame()).is_ok())
            .count();
        assert!((2..=3).contains(&events), "{events}");
        assert!(outbox.bytes() <= 1_000);
        while outbox.push_system(frame()).is_ok() {
            assert!(outbox.bytes() <= 1_000 + RESERVE_BYTES);
        }
        assert!(outbox.items.len() > events);
        outbox.clear();
        assert_eq!((outbox.bytes(), outbox.pop()), (0, None));
        assert_eq!(
            outbox.push_event(Frame::from_text(&"x".repeat(5_000))),
            Ok(())
        );
        assert_eq!(outbox.push_event(frame()), Err(Full));
    }

    #[test]
    fn a_later_ephemeral_event_replaces_an_earlier_one_of_its_room_and_key_only() {
        let mut outbox = Outbox::new(1_000_000);
        let rooms: [RoomId; 2] = ["user:1".parse().unwrap(), "user:2".parse().unwrap()];
        let keys: [Key; 2] = ["a".parse().unwrap(), "b".parse().unwrap()];
        for (room, key, text) in [
            (0, 0, "1"),
            (0, 1, "2"),
            (1, 0, "3"),
            (0, 0, "4"),
            (0, 0, "5"),
        ] {
            outbox
                .replace_event(rooms[room], &keys[key], Frame::from_text(text))
                .unwrap();
            outbox.push_event(Frame::from_text("-")).unwrap();
        }
        assert_eq!(texts(&mut outbox).concat(), "-2-3--5-");
    }
}
