//! A table of connections by their numbers: O(1), and a number that was used before reaches nobody.

use crate::ids::ConnId;

/// For each outlet its connections by slot.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    outlets: Vec<Vec<Option<(ConnId, T)>>>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            outlets: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slots<T> {
    /// # Panics
    /// Where another connection has the slot.
    pub(crate) fn insert(&mut self, conn: ConnId, value: T) {
        if self.outlets.len() <= conn.outlet() {
            self.outlets.resize_with(conn.outlet() + 1, Vec::new);
        }
        let Some(slots) = self.outlets.get_mut(conn.outlet()) else {
            return;
        };
        if slots.len() <= conn.slot() {
            slots.resize_with(conn.slot() + 1, || None);
        }
        if let Some(slot) = slots.get_mut(conn.slot()) {
            assert!(slot.is_none(), "a slot is free before it is used again");
            *slot = Some((conn, value));
            self.len += 1;
        }
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<&T> {
        let slot = self.outlets.get(conn.outlet())?.get(conn.slot())?;
        let (_, value) = slot.as_ref().filter(|(its, _)| *its == conn)?;
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        let slot = self.outlets.get_mut(conn.outlet())?.get_mut(conn.slot())?;
        let (_, value) = slot.as_mut().filter(|(its, _)| *its == conn)?;
        Some(value)
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<T> {
        let slot = self.outlets.get_mut(conn.outlet())?.get_mut(conn.slot())?;
        let (_, value) = slot.take_if(|(its, _)| *its == conn)?;
        self.len -= 1;
        Some(value)
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// All connections, by outlet and slot.
    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let slots = self.outlets.iter().flatten().flatten();
        slots.map(|(conn, _)| *conn).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_used_again_is_not_the_same_connection() {
        let mut slots = Slots::default();
        let first = ConnId::new(0, ConnId::first_generation(1));
        slots.insert(first, 'a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = ConnId::new(0, first.next_generation());
        slots.insert(second, 'b');
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        let other = ConnId::new(0, ConnId::first_generation(0));
        slots.insert(other, 'c');
        assert_eq!((slots.get(second), slots.len()), (Some(&'b'), 2));
        assert_eq!(slots.ids(), [other, second]);
    }
}
