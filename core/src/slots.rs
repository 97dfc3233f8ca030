//! A table of connections by their numbers: O(1), and a number that was used before reaches nobody.

use crate::ids::ConnId;

#[derive(Debug)]
struct Slot<T> {
    conn: ConnId,
    value: Option<T>,
}

/// The connections of one outlet.
#[derive(Debug)]
struct Part<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Slots<T> {
    parts: Vec<Part<T>>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slots<T> {
    /// Takes a connection of this outlet.
    pub(crate) fn insert(&mut self, outlet: u8, value: T) -> ConnId {
        let index = usize::from(outlet);
        if self.parts.len() <= index {
            self.parts.resize_with(index + 1, || Part {
                slots: Vec::new(),
                free: Vec::new(),
            });
        }
        self.len += 1;
        #[expect(clippy::indexing_slicing, reason = "there are as many by now")]
        let part = &mut self.parts[index];
        if let Some(number) = part.free.pop()
            && let Some(slot) = part.slots.get_mut(number as usize)
        {
            slot.conn = ConnId::new(number, slot.conn.next_generation());
            slot.value = Some(value);
            return slot.conn;
        }
        #[expect(
            clippy::expect_used,
            reason = "four milliards of connections don't fit into memory"
        )]
        let number = u32::try_from(part.slots.len()).expect("fewer than 2^32 connections");
        let conn = ConnId::new(number, ConnId::first_generation(outlet));
        part.slots.push(Slot {
            conn,
            value: Some(value),
        });
        conn
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<&T> {
        let slot = self.parts.get(conn.outlet())?.slots.get(conn.slot())?;
        slot.value.as_ref().filter(|_| slot.conn == conn)
    }

    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        let part = self.parts.get_mut(conn.outlet())?;
        let slot = part.slots.get_mut(conn.slot())?;
        let is_its = slot.conn == conn;
        slot.value.as_mut().filter(|_| is_its)
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<T> {
        let part = self.parts.get_mut(conn.outlet())?;
        let slot = part.slots.get_mut(conn.slot())?;
        let is_its = slot.conn == conn;
        let value = slot.value.take_if(|_| is_its)?;
        part.free.push(conn.number());
        self.len -= 1;
        Some(value)
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// All connections, by outlet and slot.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let slots = self.parts.iter().flat_map(|part| &part.slots);
        let open = slots.filter(|slot| slot.value.is_some());
        open.map(|slot| slot.conn).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_used_again_is_not_the_same_connection() {
        let mut slots = Slots::default();
        let first = slots.insert(1, 'a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert(1, 'b');
        assert_eq!(second.slot(), first.slot());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        let other = slots.insert(0, 'c');
        assert_eq!((other.slot(), other.outlet()), (second.slot(), 0));
        assert_eq!((slots.get(second), slots.len()), (Some(&'b'), 2));
        assert_eq!(slots.ids(), [other, second]);
    }
}
