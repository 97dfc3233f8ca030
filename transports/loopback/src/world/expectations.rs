//! What scripts expect, and what they say when it does not come.

use super::World;
use crate::client::Client;
use crate::expected::{Expected, closed, goodbye};
use crate::received::Received;
use crate::script::seconds;
use fanfare_core::CloseCode;
use std::fmt::Write as _;

impl World {
    /// The next thing that the client receives is this.
    ///
    /// # Panics
    /// Where it is something else, or nothing; with the script so far.
    #[track_caller]
    pub fn expect(&mut self, client: Client, expected: Expected) -> Received {
        self.settle();
        match self.state_mut(client).inbox.pop_front() {
            Some(received) if expected.matches(&received) => received,
            Some(received) => {
                self.state_mut(client).inbox.push_front(received);
                self.fail_expecting(client, &expected.to_string());
            }
            None => self.fail_expecting(client, &expected.to_string()),
        }
    }

    /// The next thing that the client receives is this; time passes until something is there.
    ///
    /// # Panics
    /// Where it is something else, or nothing; with the script so far.
    #[track_caller]
    pub fn expect_later(&mut self, client: Client, expected: Expected) -> Received {
        let what = format!("{}: {expected}", self.state(client).name);
        self.wait_for(&what, super::WAIT_MAX_MS, |world| {
            (!world.state(client).inbox.is_empty()).then_some(())
        });
        self.expect(client, expected)
    }

    /// The client receives these next, in this order.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn expect_all(&mut self, client: Client, expected: impl IntoIterator<Item = Expected>) {
        for expected in expected {
            self.expect(client, expected);
        }
    }

    /// The client has received nothing that was not expected.
    ///
    /// # Panics
    /// Where it has.
    #[track_caller]
    pub fn expect_nothing(&mut self, client: Client) {
        self.settle();
        if !self.state(client).inbox.is_empty() {
            self.fail_expecting(client, "nothing");
        }
    }

    /// The client is told why it is closed, and is closed.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn expect_closed(&mut self, client: Client, code: CloseCode) {
        self.expect(client, goodbye(code));
        self.expect(client, closed(code));
        self.expect_nothing(client);
    }

    /// Takes everything that the client has received and that was not expected yet.
    pub fn received(&mut self, client: Client) -> Vec<Received> {
        self.settle();
        self.state_mut(client).inbox.drain(..).collect()
    }

    #[track_caller]
    fn fail_expecting(&self, client: Client, expected: &str) -> ! {
        let inbox = &self.state(client).inbox;
        let mut seen = String::new();
        for (number, received) in inbox.iter().take(5).enumerate() {
            let before = if number == 0 {
                ""
            } else {
                "\n            then "
            };
            // Writing into a String can't fail.
            let _ = write!(seen, "{before}{received}");
        }
        if inbox.len() > 5 {
            let _ = write!(seen, "\n            and {} more", inbox.len() - 5);
        }
        if inbox.is_empty() {
            seen = "nothing".to_owned();
        }
        self.fail_of(client, expected, &seen)
    }

    #[track_caller]
    pub(super) fn fail_of(&self, client: Client, expected: &str, seen: &str) -> ! {
        let name = &self.state(client).name;
        self.fail(&format!("{name}: {expected}"), seen)
    }

    /// Ends the script, since it did not go as expected.
    #[track_caller]
    #[expect(clippy::panic, reason = "this is how a test fails")]
    pub(super) fn fail(&self, expected: &str, seen: &str) -> ! {
        panic!(
            "at {}\n  expected: {expected}\n      seen: {seen}\n  script so far:\n{}",
            seconds(self.now().time).trim(),
            self.script
        )
    }
}
