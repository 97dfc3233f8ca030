//! What is still to happen, and with it the time: one queue, ordered by time and a tie-break. A [`World`](crate::World) has
//! its own, and a [`Timeline`](crate::Timeline) is one for code that waits.

use fanfare_core::Time;
use std::collections::BTreeMap;

/// Things to happen at their time; those of the same time by their `Turn`, and those of the same turn in the order in which
/// they were put here. The time is that of the last one that was taken out.
#[derive(Debug)]
pub(crate) struct Agenda<Turn, T> {
    now: Time,
    due: BTreeMap<(Time, Turn, u64), T>,
    put: u64,
}

impl<Turn: Copy + Ord, T> Agenda<Turn, T> {
    pub(crate) const fn new() -> Self {
        Self {
            now: Time::from_millis(0),
            due: BTreeMap::new(),
            put: 0,
        }
    }

    pub(crate) const fn now(&self) -> Time {
        self.now
    }

    /// Puts something at this time, or now where that is past. With the key that it gives it can be changed or taken out.
    pub(crate) fn put(&mut self, time: Time, turn: Turn, item: T) -> (Time, Turn, u64) {
        let key = (time.max(self.now), turn, self.put);
        self.put += 1;
        self.due.insert(key, item);
        key
    }

    pub(crate) fn change(&mut self, key: (Time, Turn, u64), item: T) {
        self.due.insert(key, item);
    }

    pub(crate) fn take_out(&mut self, key: (Time, Turn, u64)) {
        self.due.remove(&key);
    }

    /// When and in which turn the next thing happens.
    pub(crate) fn next(&self) -> Option<(Time, Turn)> {
        let first = self.due.first_key_value();
        first.map(|((time, turn, _), _)| (*time, *turn))
    }

    /// Moves to the next thing.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let ((time, ..), item) = self.due.pop_first()?;
        self.now = time;
        Some(item)
    }

    /// Moves to this time, and never back.
    ///
    /// # Panics
    /// Where something is due before it.
    pub(crate) fn advance_to(&mut self, time: Time) {
        assert!(
            self.next().is_none_or(|(next, _)| next >= time),
            "something is due before {time:?}"
        );
        self.now = self.now.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_before_turn_and_turn_before_order_of_arrival() {
        let mut agenda = Agenda::new();
        for (millis, turn, name) in [
            (2, 0, 'e'),
            (1, 2, 'd'),
            (1, 1, 'c'),
            (1, 0, 'a'),
            (1, 0, 'b'),
        ] {
            agenda.put(Time::from_millis(millis), turn, name);
        }
        assert_eq!(agenda.next(), Some((Time::from_millis(1), 0)));
        let order: String = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(order, "abcde");
        assert_eq!(agenda.now(), Time::from_millis(2));
        // In the past: now.
        agenda.put(Time::from_millis(1), 0, 'f');
        assert_eq!(agenda.next(), Some((Time::from_millis(2), 0)));
    }
}
