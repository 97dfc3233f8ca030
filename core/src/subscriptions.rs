//! Who listens to the bus, and what each still has to be given.
//!
//! A subscriber that is slow hurts itself only: what waits for it is bounded in bytes, and what it lost is said.

use crate::event::Entry;
use crate::ids::{Pattern, RoomId, Seq};
use crate::room_log::{Gap, GapReason};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Rooms of which a subscriber may have lost events before it is given up.
const LOST_ROOMS_MAX: usize = 128;

/// A subscriber of the bus. Numbers are not used again.
///
/// ```
/// use fanfare_core::{Hub, Limits, Pattern};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let id = hub.subscribe(vec![Pattern::Any])?;
/// assert!(hub.unsubscribe(id));
/// assert!(!hub.unsubscribe(id));
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(u64);

/// What a subscriber gets next.
///
/// ```
/// use fanfare_core::Delivery;
/// fn is_an_event(delivery: &Delivery) -> bool {
///     matches!(delivery, Delivery::Entry(_))
/// }
/// assert!(!is_an_event(&Delivery::Overrun));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// An event, with all its rooms.
    Entry(Arc<Entry>),
    /// Events of a room that this subscriber was too slow for. History has them.
    Gap {
        /// The room.
        room: RoomId,
        /// Which of its events.
        gap: Gap,
    },
    /// It was so slow that what it lost can't be said any more; it is unsubscribed.
    Overrun,
}

#[derive(Debug)]
struct Subscription {
    patterns: Vec<Pattern>,
    waiting: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Filled only while `waiting` is not empty or these are being told: live events come after all of them.
    lost: BTreeMap<RoomId, Gap>,
    overrun: bool,
    /// Whether it was reported as ready and has not been emptied since.
    ready: bool,
}

impl Subscription {
    fn take(&mut self, entry: &Arc<Entry>, bytes_max: usize) {
        let bytes = self.bytes + entry.cost();
        if self.lost.is_empty() && bytes <= bytes_max {
            self.bytes = bytes;
            self.waiting.push_back(entry.clone());
            return;
        }
        if !entry.is_kept() {
            return;
        }
        // Without a room there is no history, and no seq by which the loss could be said.
        self.overrun |= entry.places().is_empty();
        for place in entry.places() {
            let gap = self.lost.entry(place.room).or_insert_with(|| Gap {
                epoch: place.epoch.clone(),
                from: place.seq,
                to: place.seq,
                reason: GapReason::Slow,
            });
            if gap.epoch != place.epoch {
                (gap.epoch, gap.from) = (place.epoch.clone(), Seq::ZERO.next());
            }
            gap.to = place.seq;
        }
        self.overrun |= self.lost.len() > LOST_ROOMS_MAX;
    }

    fn next(&mut self) -> Option<Delivery> {
        if let Some(entry) = self.waiting.pop_front() {
            self.bytes -= entry.cost();
            return Some(Delivery::Entry(entry));
        }
        if self.overrun {
            return Some(Delivery::Overrun);
        }
        let (room, gap) = self.lost.pop_first()?;
        Some(Delivery::Gap { room, gap })
    }
}

#[derive(Debug)]
pub(crate) struct Subscriptions {
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    ready: VecDeque<SubscriptionId>,
    next: u64,
    bytes_max: usize,
}

impl Subscriptions {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            subscriptions: BTreeMap::new(),
            ready: VecDeque::new(),
            next: 0,
            bytes_max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub(crate) fn add(&mut self, patterns: Vec<Pattern>) -> SubscriptionId {
        let id = SubscriptionId(self.next);
        self.next += 1;
        let subscription = Subscription {
            patterns,
            waiting: VecDeque::new(),
            bytes: 0,
            lost: BTreeMap::new(),
            overrun: false,
            ready: false,
        };
        self.subscriptions.insert(id, subscription);
        id
    }

    pub(crate) fn remove(&mut self, id: SubscriptionId) -> bool {
        self.subscriptions.remove(&id).is_some()
    }

    /// Gives `entry` to all whom it concerns, once each. O(subscriptions).
    pub(crate) fn deliver(&mut self, entry: &Arc<Entry>) {
        for (id, subscription) in &mut self.subscriptions {
            let kind = &entry.event().kind;
            if !subscription
                .patterns
                .iter()
                .any(|pattern| pattern.matches(kind))
            {
                continue;
            }
            subscription.take(entry, self.bytes_max);
            if !std::mem::replace(&mut subscription.ready, true) {
                self.ready.push_back(*id);
            }
        }
    }

    /// The next subscriber that has something to pull; each once until its pull was empty.
    pub(crate) fn poll(&mut self) -> Option<SubscriptionId> {
        self.ready.pop_front()
    }

    pub(crate) fn pull(&mut self, id: SubscriptionId) -> Option<Delivery> {
        let subscription = self.subscriptions.get_mut(&id)?;
        let next = subscription.next();
        match next {
            None => subscription.ready = false,
            Some(Delivery::Overrun) => {
                self.subscriptions.remove(&id);
            }
            Some(Delivery::Entry(_) | Delivery::Gap { .. }) => {}
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Place, Retention};
    use crate::payload::Payload;
    use crate::time::Wall;

    fn entry(kind: &str, places: &[(&str, u64)]) -> Arc<Entry> {
        let event = Event {
            kind: kind.parse().unwrap(),
            id: "1".parse().unwrap(),
            at: Wall::default(),
            from: None,
            data: Payload::default(),
            retention: Retention::Kept,
            notifies: false,
        };
        let place = |(room, seq): &(&str, u64)| Place {
            room: room.parse().unwrap(),
            epoch: "e".parse().unwrap(),
            seq: Seq::new(*seq).unwrap(),
        };
        Arc::new(Entry::new(1, event, places.iter().map(place).collect()))
    }

    #[test]
    fn several_matching_patterns_give_an_event_once() {
        let mut all = Subscriptions::new(1 << 20);
        let patterns = ["*", "a:*", "a:b"].map(|text| text.parse().unwrap());
        let id = all.add(patterns.to_vec());
        let other = all.add(vec!["b:*".parse().unwrap()]);
        all.deliver(&entry("a:b", &[]));
        assert_eq!((all.poll(), all.poll()), (Some(id), None));
        assert!(matches!(all.pull(id), Some(Delivery::Entry(_))));
        assert_eq!(all.pull(id), None);
        assert_eq!(all.pull(other), None);
        assert!(all.remove(id));
        all.deliver(&entry("a:b", &[]));
        assert_eq!(all.poll(), None);
    }

    #[test]
    fn a_slow_subscriber_is_told_what_it_lost_before_what_comes_next() {
        let mut all = Subscriptions::new(entry("a:b", &[("user:7", 1)]).cost());
        let id = all.add(vec![Pattern::Any]);
        for seq in 1..=4 {
            all.deliver(&entry("a:b", &[("user:7", seq)]));
        }
        assert!(
            matches!(all.pull(id), Some(Delivery::Entry(entry)) if entry.places()[0].seq.number() == 1)
        );
        all.deliver(&entry("a:b", &[("user:7", 5)]));
        let Some(Delivery::Gap { gap, .. }) = all.pull(id) else {
            panic!()
        };
        assert_eq!((gap.from.number(), gap.to.number()), (2, 5));
        all.deliver(&entry("a:b", &[("user:7", 6)]));
        assert!(
            matches!(all.pull(id), Some(Delivery::Entry(entry)) if entry.places()[0].seq.number() == 6)
        );
        assert_eq!(all.pull(id), None);
    }

    #[test]
    fn what_cannot_be_said_to_be_lost_ends_the_subscription() {
        let mut all = Subscriptions::new(entry("a:b", &[]).cost());
        let id = all.add(vec![Pattern::Any]);
        all.deliver(&entry("a:b", &[]));
        all.deliver(&entry("a:b", &[]));
        assert!(matches!(all.pull(id), Some(Delivery::Entry(_))));
        assert_eq!(all.pull(id), Some(Delivery::Overrun));
        assert!(!all.remove(id));
    }
}
