//! What is still to happen: one queue, ordered by time and a tie-break number.

use fanfare_core::Time;
use std::collections::BTreeMap;

/// Who goes first among things of the same millisecond. What a script does comes in before the hub's deadlines, and all
/// of that before sockets are written: so what happens in one moment leaves in one write, as in one turn of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    Arrive,
    Tick,
    Write,
}

/// Things to happen at their time; those of the same time and turn in the order in which they were put here.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    items: BTreeMap<(Time, Turn, u64), T>,
    next: u64,
}

impl<T> Agenda<T> {
    pub(crate) const fn new() -> Self {
        Self {
            items: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn put(&mut self, time: Time, turn: Turn, item: T) {
        self.items.insert((time, turn, self.next), item);
        self.next += 1;
    }

    /// When and in which turn the next thing happens.
    pub(crate) fn next(&self) -> Option<(Time, Turn)> {
        self.items
            .first_key_value()
            .map(|((time, turn, _), _)| (*time, *turn))
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.items.pop_first().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_before_turn_and_turn_before_order_of_arrival() {
        let mut agenda = Agenda::new();
        for (millis, turn, name) in [
            (2, Turn::Arrive, 'e'),
            (1, Turn::Write, 'd'),
            (1, Turn::Tick, 'c'),
            (1, Turn::Arrive, 'a'),
            (1, Turn::Arrive, 'b'),
        ] {
            agenda.put(Time::from_millis(millis), turn, name);
        }
        assert_eq!(agenda.next(), Some((Time::from_millis(1), Turn::Arrive)));
        let order: String = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(order, "abcde");
    }
}
