//! A table of connections by dense number: O(1), and a number that was used before reaches nobody.

use crate::ids::ConnId;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    pub(crate) fn insert(&mut self, value: T) -> ConnId {
        if let Some(number) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(number as usize)
        {
            slot.generation = slot.generation.wrapping_add(1);
            slot.value = Some(value);
            return ConnId::new(number, slot.generation);
        }
        #[expect(
            clippy::expect_used,
            reason = "four milliards of connections don't fit into memory"
        )]
        let number = u32::try_from(self.slots.len()).expect("fewer than 2^32 connections");
        self.slots.push(Slot {
            generation: 0,
            value: Some(value),
        });
        ConnId::new(number, 0)
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<&T> {
        let slot = self.slots.get(conn.slot())?;
        slot.value
            .as_ref()
            .filter(|_| slot.generation == conn.generation())
    }

    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        let slot = self.slots.get_mut(conn.slot())?;
        let generation = slot.generation;
        slot.value
            .as_mut()
            .filter(|_| generation == conn.generation())
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<T> {
        self.get(conn)?;
        let slot = self.slots.get_mut(conn.slot())?;
        self.free.push(conn.number());
        slot.value.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// All connections, by number.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let numbered = (0_u32..).zip(&self.slots);
        numbered
            .filter(|(_, slot)| slot.value.is_some())
            .map(|(number, slot)| ConnId::new(number, slot.generation))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_used_again_is_not_the_same_connection() {
        let mut slots = Slots::default();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(first.slot(), second.slot());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(
            (slots.get(second), slots.len(), slots.ids()),
            (Some(&'b'), 1, vec![second])
        );
    }
}
