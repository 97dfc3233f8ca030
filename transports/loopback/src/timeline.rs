//! Virtual time for code that waits: who sleeps until when, and what happens then.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use fanfare_core::Time;

use crate::agenda::Agenda;

/// One clock for everything of a run, which moves from one thing that is due to the next. A clone is the same one.
///
/// Whatever is due in one millisecond happens in the order in which it was asked for.
///
/// ```
/// use fanfare_core::Time;
/// use fanfare_loopback::Timeline;
/// let timeline = Timeline::default();
/// timeline.at(Time::from_millis(90), || println!("a minute and a half"));
/// assert_eq!(timeline.next(), Some(Time::from_millis(90)));
/// assert!(timeline.step());
/// assert_eq!(timeline.now(), Time::from_millis(90));
/// ```
#[derive(Clone)]
pub struct Timeline(Rc<RefCell<Agenda<(), Due>>>);

enum Due {
    Wake(Waker),
    Happen(Box<dyn FnOnce()>),
}

impl Default for Timeline {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Agenda::new())))
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timeline").field(&self.now()).finish()
    }
}

impl Timeline {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.0.borrow().now()
    }

    /// Lets something happen at this time, or now where that is past.
    pub fn at(&self, time: Time, happens: impl FnOnce() + 'static) {
        let happens = Due::Happen(Box::new(happens));
        self.0.borrow_mut().put(time, (), happens);
    }

    /// Ends when the time has come. Dropped before, it leaves nothing behind.
    #[must_use]
    pub fn sleep_until(&self, at: Time) -> Sleep {
        Sleep {
            timeline: self.clone(),
            at,
            key: None,
        }
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.0.borrow().next().map(|(time, ())| time)
    }

    /// Moves to the next thing that is due, and lets it happen. Whether there was one.
    pub fn step(&self) -> bool {
        // What happens may ask for more.
        let due = self.0.borrow_mut().pop();
        match due {
            None => return false,
            Some(Due::Wake(waker)) => waker.wake(),
            Some(Due::Happen(happens)) => happens(),
        }
        true
    }

    /// Moves to this time, where nothing is due before it.
    ///
    /// # Panics
    /// Where something is.
    pub fn advance_to(&self, time: Time) {
        self.0.borrow_mut().advance_to(time);
    }
}

/// The future of [`Timeline::sleep_until`].
///
/// ```
/// use fanfare_core::Time;
/// use fanfare_loopback::Timeline;
/// let timeline = Timeline::default();
/// let sleep: fanfare_loopback::Sleep = timeline.sleep_until(Time::from_millis(1));
/// drop(sleep);
/// assert_eq!(timeline.next(), None);
/// ```
#[derive(Debug)]
pub struct Sleep {
    timeline: Timeline,
    at: Time,
    key: Option<(Time, (), u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= self.timeline.now() {
            return Poll::Ready(());
        }
        let waker = Due::Wake(cx.waker().clone());
        let (at, key) = (self.at, self.key);
        let mut agenda = self.timeline.0.borrow_mut();
        match key {
            Some(key) => agenda.change(key, waker),
            None => {
                let key = agenda.put(at, (), waker);
                drop(agenda);
                self.key = Some(key);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timeline.0.borrow_mut().take_out(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_happens_in_its_time_and_in_the_order_in_which_it_was_asked_for() {
        let timeline = Timeline::default();
        let seen = Rc::new(RefCell::new(String::new()));
        for (millis, name) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            let (seen, clock) = (Rc::clone(&seen), timeline.clone());
            timeline.at(Time::from_millis(millis), move || {
                assert_eq!(clock.now().as_millis(), millis);
                seen.borrow_mut().push(name);
                if name == 'd' {
                    let seen = Rc::clone(&seen);
                    // In the past: now.
                    clock.at(Time::from_millis(0), move || seen.borrow_mut().push('e'));
                }
            });
        }
        while timeline.step() {}
        assert_eq!(*seen.borrow(), "abcde");
        assert_eq!(timeline.now().as_millis(), 2);
    }

    #[test]
    fn a_sleeper_is_woken_at_its_time_and_one_that_is_gone_is_forgotten() {
        let timeline = Timeline::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut sleep = Box::pin(timeline.sleep_until(Time::from_millis(5)));
        let mut other = Box::pin(timeline.sleep_until(Time::from_millis(3)));
        for _ in 0..2 {
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
            assert!(other.as_mut().poll(&mut cx).is_pending());
        }
        drop(other);
        assert_eq!(timeline.next(), Some(Time::from_millis(5)));
        assert!(timeline.step());
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
        assert!(!timeline.step());
    }
}
