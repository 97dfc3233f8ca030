//! Who is in which room.
//!
//! Two managers of one kind, typed apart as ADR 017 decided: a task's watchers and a user's connections can't be mixed up.
//! What a task has beside watchers lives in `tasks`, what a user's connections are called in `devices`.

use crate::ids::{ConnId, TaskId, UserId};
use crate::lookup::Lookup;
use std::hash::Hash;

/// The rooms of tasks: who watches a task.
pub type TaskRooms = Rooms<TaskId>;
/// The rooms of users: all connections of one person.
pub type UserRooms = Rooms<UserId>;

/// Members of rooms named by `K`. An empty room costs nothing.
///
/// ```
/// use fanfare_core::{Endpoint, Hub, Limits, Now, Open, UserId, UserRooms};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let conn = hub.open(Now::default(), Open::new(Endpoint::Notifications));
/// let mut rooms = UserRooms::new();
/// assert!(rooms.join(UserId::new(7), conn));
/// assert_eq!(rooms.members(UserId::new(7)), [conn]);
/// assert_eq!(rooms.leave_all(conn), [UserId::new(7)]);
/// ```
#[derive(Debug)]
pub struct Rooms<K> {
    members: Lookup<K, Vec<ConnId>>,
    /// For each connection its rooms, with its place in each.
    joined: Lookup<ConnId, Vec<(K, usize)>>,
}

impl<K: Copy + Eq + Hash> Rooms<K> {
    /// No rooms.
    #[must_use]
    pub fn new() -> Self {
        Self {
            members: Lookup::default(),
            joined: Lookup::default(),
        }
    }

    /// Adds `conn` to `room`; false where it was in it already. O(rooms of the connection).
    pub fn join(&mut self, room: K, conn: ConnId) -> bool {
        if self.contains(room, conn) {
            return false;
        }
        let members = self.members.entry_or_insert_with(room, Vec::new);
        let joined = self.joined.entry_or_insert_with(conn, Vec::new);
        joined.push((room, members.len()));
        members.push(conn);
        true
    }

    /// Takes `conn` out of `room`; false where it was not in it. O(rooms of two connections), however many members.
    pub fn leave(&mut self, room: K, conn: ConnId) -> bool {
        let Some(joined) = self.joined.get_mut(&conn) else {
            return false;
        };
        let Some(at) = joined.iter().position(|(joined, _)| *joined == room) else {
            return false;
        };
        let (_, place) = joined.swap_remove(at);
        if joined.is_empty() {
            self.joined.remove(&conn);
        }
        self.vacate(room, place, conn);
        true
    }

    /// The place that `conn` has among the members of `room`.
    pub(crate) fn place(&self, room: K, conn: ConnId) -> Option<usize> {
        let joined = self.joined.get(&conn)?;
        let joined = joined.iter().find(|(joined, _)| *joined == room);
        joined.map(|(_, place)| *place)
    }

    /// Takes `conn` out of all its rooms, and names them.
    pub fn leave_all(&mut self, conn: ConnId) -> Vec<K> {
        let joined = self.joined.remove(&conn).unwrap_or_default();
        let leave = |(room, place)| {
            self.vacate(room, place, conn);
            room
        };
        joined.into_iter().map(leave).collect()
    }

    /// Gives the place that `conn` left to the room's last member.
    fn vacate(&mut self, room: K, place: usize, conn: ConnId) {
        let Some(members) = self.members.get_mut(&room) else {
            return;
        };
        assert_eq!(
            members.get(place),
            Some(&conn),
            "a member is where its place says"
        );
        members.swap_remove(place);
        let moved = members.get(place).copied();
        if members.is_empty() {
            self.members.remove(&room);
        }
        let rooms_of_moved = moved.and_then(|moved| self.joined.get_mut(&moved));
        for (joined, moved_place) in rooms_of_moved.into_iter().flatten() {
            if *joined == room {
                *moved_place = place;
            }
        }
    }

    /// The members of `room`, in an order that the same joins and leaves repeat. O(1).
    #[must_use]
    pub fn members(&self, room: K) -> &[ConnId] {
        self.members.get(&room).map_or(&[], Vec::as_slice)
    }

    /// Whether `conn` is in `room`. O(rooms of the connection).
    #[must_use]
    pub fn contains(&self, room: K, conn: ConnId) -> bool {
        self.rooms_of(conn).any(|joined| joined == room)
    }

    /// The rooms of `conn`.
    pub fn rooms_of(&self, conn: ConnId) -> impl Iterator<Item = K> {
        let joined = self.joined.get(&conn).map_or(&[][..], Vec::as_slice);
        joined.iter().map(|(room, _)| *room)
    }
}

impl<K: Copy + Eq + Hash> Default for Rooms<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Debug, Clone)]
    enum Step {
        Join(u64, u32),
        Leave(u64, u32),
        LeaveAll(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0_u64..5, 0_u32..8).prop_map(|(room, conn)| Step::Join(room, conn)),
            2 => (0_u64..5, 0_u32..8).prop_map(|(room, conn)| Step::Leave(room, conn)),
            1 => (0_u32..8).prop_map(Step::LeaveAll),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn members_are_those_of_a_plain_set_of_pairs(steps in steps()) {
            let mut rooms = UserRooms::new();
            let mut model = BTreeSet::new();
            let conn = |number| ConnId::new(number, 1);
            for step in steps {
                match step {
                    Step::Join(room, number) => {
                        let new = model.insert((room, number));
                        prop_assert_eq!(rooms.join(UserId::new(room), conn(number)), new);
                    }
                    Step::Leave(room, number) => {
                        let was = model.remove(&(room, number));
                        prop_assert_eq!(rooms.leave(UserId::new(room), conn(number)), was);
                    }
                    Step::LeaveAll(number) => {
                        let before = model.len();
                        model.retain(|(_, other)| *other != number);
                        prop_assert_eq!(rooms.leave_all(conn(number)).len(), before - model.len());
                    }
                }
                for room in 0..5 {
                    let mut members: Vec<_> = rooms.members(UserId::new(room)).to_vec();
                    members.sort();
                    let expected: Vec<_> = model.iter().filter(|(other, _)| *other == room).map(|(_, number)| conn(*number)).collect();
                    prop_assert_eq!(members, expected);
                }
            }
            for number in 0..8 {
                rooms.leave_all(conn(number));
            }
            prop_assert_eq!(rooms.members.len() + rooms.joined.len(), 0, "empty rooms cost nothing");
        }
    }
}
