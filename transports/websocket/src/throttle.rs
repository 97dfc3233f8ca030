//! What strangers can make happen as often as they like is said in the log once a second at most.

use std::collections::BTreeMap;

use fanfare_core::Time;

/// Milliseconds for which a thing is not said again.
const PAUSE_MS: u64 = 1_000;

/// When what was said last. By a name that is the program's own, so that there are few.
#[derive(Debug, Default)]
pub(crate) struct Throttle(BTreeMap<&'static str, Said>);

#[derive(Debug, Default)]
struct Said {
    until: Option<Time>,
    times: u64,
}

impl Throttle {
    /// `what` happened. How many times it did since it was last said, where it may be said now.
    pub(crate) fn admit(&mut self, what: &'static str, now: Time) -> Option<u64> {
        let said = self.0.entry(what).or_default();
        said.times += 1;
        if said.until.is_some_and(|until| now < until) {
            return None;
        }
        said.until = Some(now.plus(PAUSE_MS));
        Some(std::mem::take(&mut said.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once_a_second_with_how_often_it_happened() {
        let mut throttle = Throttle::default();
        for (at, what, said) in [
            (0, "a", Some(1)),
            (0, "b", Some(1)),
            (1, "a", None),
            (999, "a", None),
            (1_000, "a", Some(3)),
            (1_999, "a", None),
            (9_000, "b", Some(1)),
            (9_000, "a", Some(2)),
        ] {
            let admitted = throttle.admit(what, Time::from_millis(at));
            assert_eq!(admitted, said, "{what} at {at}");
        }
    }
}
