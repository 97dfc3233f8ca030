//! Which events were taken already, so that a publisher's retry is not doubled.
//!
//! Bounded in time and number: the oldest id is forgotten first.

use crate::event::{Draft, Retention, Target};
use crate::ids::{EventId, UserId};
use crate::lookup::Lookup;
use crate::receipt::Receipt;
use crate::time::Wall;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// What two publishes must share to be the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// O(length of the data).
    pub(crate) fn of(from: Option<UserId>, target: &Target, draft: &Draft) -> Self {
        let mut hash = Sha256::new();
        // Each part ends in a character that it can't contain, so that no two publishes run together to one text.
        let part = |hash: &mut Sha256, text: &str| hash.update([text.as_bytes(), b"\n"].concat());
        part(&mut hash, draft.kind.as_str());
        part(
            &mut hash,
            &from.map_or_else(String::new, |user| user.to_string()),
        );
        match target.rooms() {
            Ok(rooms) => rooms
                .iter()
                .for_each(|room| part(&mut hash, &room.to_string())),
            Err(_) => part(&mut hash, "too many"),
        }
        match &draft.retention {
            Retention::Kept => part(&mut hash, "kept"),
            Retention::Ephemeral { key } => {
                part(
                    &mut hash,
                    key.as_ref().map_or("ephemeral", |key| key.as_str()),
                );
            }
        }
        part(&mut hash, &format!("{:?}", draft.notify));
        hash.update(draft.data.as_str());
        let mut fingerprint = [0; 16];
        for (to, from) in fingerprint.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(u128::from_str_radix(text, 16)?.to_be_bytes()))
    }
}

/// What is known of an id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    New,
    /// The same publish; its first answer.
    Same(Receipt),
    /// Another publish.
    Other,
}

impl Known {
    fn compare(first: Fingerprint, now: Fingerprint, receipt: &Receipt) -> Self {
        if first == now && planted!(RetryUnsaid) {
            Self::Same(receipt.clone())
        } else if first == now || planted!(OtherContentTaken) {
            Self::Same(receipt.duplicate_of())
        } else {
            Self::Other
        }
    }
}

/// What the store has of an id: its publish, when that came, and the answer.
pub(crate) type Stored = (Fingerprint, Wall, Receipt);

#[derive(Debug)]
pub(crate) struct Retries {
    answers: Lookup<EventId, (Fingerprint, Receipt)>,
    oldest_first: VecDeque<(Wall, EventId)>,
    ids_max: usize,
    age_ms_max: u64,
}

impl Retries {
    pub(crate) fn new(ids_max: usize, age_ms_max: u64) -> Self {
        Self {
            answers: Lookup::default(),
            oldest_first: VecDeque::new(),
            ids_max,
            age_ms_max,
        }
    }

    pub(crate) fn known(&mut self, now: Wall, id: &EventId, fingerprint: Fingerprint) -> Known {
        let keep = if planted!(IdsForgottenEarly) {
            2
        } else {
            self.ids_max
        };
        self.forget(now, keep);
        match self.answers.get(id) {
            None => Known::New,
            Some((first, receipt)) => Known::compare(*first, fingerprint, receipt),
        }
    }

    /// What is known of an id whose row is in the store.
    pub(crate) fn stored(&self, now: Wall, row: &Stored, fingerprint: Fingerprint) -> Known {
        let (first, at, receipt) = row;
        if now.since(*at) >= self.age_ms_max || planted!(StoredIdsForgotten) {
            return Known::New;
        }
        Known::compare(*first, fingerprint, receipt)
    }

    pub(crate) const fn age_ms_max(&self) -> u64 {
        self.age_ms_max
    }

    pub(crate) const fn ids_max(&self) -> usize {
        self.ids_max
    }

    /// Remembers the answer to a publish whose id is new.
    pub(crate) fn remember(
        &mut self,
        now: Wall,
        id: &EventId,
        fingerprint: Fingerprint,
        receipt: Receipt,
    ) {
        self.forget(now, self.ids_max.saturating_sub(1));
        let before = self.answers.insert(id.clone(), (fingerprint, receipt));
        assert!(before.is_none(), "an id is remembered once");
        self.oldest_first.push_back((now, id.clone()));
        assert_eq!(self.oldest_first.len(), self.answers.len());
    }

    fn forget(&mut self, now: Wall, keep: usize) {
        while let Some((at, id)) = self.oldest_first.front() {
            if self.oldest_first.len() <= keep && now.since(*at) < self.age_ms_max {
                return;
            }
            self.answers.remove(id);
            self.oldest_first.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    fn id(number: u64) -> EventId {
        number.to_string().parse().unwrap()
    }

    fn print(data: &str) -> Fingerprint {
        let draft = Draft::new("a:b".parse().unwrap(), Payload::parse(data).unwrap());
        Fingerprint::of(None, &Target::Bus, &draft)
    }

    #[test]
    fn a_retry_is_the_same_and_another_content_is_not() {
        let mut retries = Retries::new(10, 100);
        let now = Wall::from_unix_millis(5);
        assert_eq!(retries.known(now, &id(1), print("1")), Known::New);
        retries.remember(now, &id(1), print("1"), Receipt::new(id(1), Vec::new()));
        assert!(
            matches!(retries.known(now, &id(1), print("1")), Known::Same(receipt) if receipt.duplicate())
        );
        assert_eq!(retries.known(now, &id(1), print("2")), Known::Other);
    }

    #[test]
    fn ids_are_forgotten_by_age_and_by_number() {
        let mut retries = Retries::new(2, 100);
        for number in 1..=3 {
            let now = Wall::from_unix_millis(number);
            retries.remember(
                now,
                &id(number),
                print("1"),
                Receipt::new(id(number), Vec::new()),
            );
        }
        assert_eq!(
            retries.known(Wall::from_unix_millis(3), &id(1), print("1")),
            Known::New
        );
        assert_ne!(
            retries.known(Wall::from_unix_millis(101), &id(2), print("1")),
            Known::New
        );
        assert_eq!(
            retries.known(Wall::from_unix_millis(102), &id(2), print("1")),
            Known::New
        );
        assert_ne!(
            retries.known(Wall::from_unix_millis(102), &id(3), print("1")),
            Known::New
        );
    }

    #[test]
    fn whatever_differs_makes_another_fingerprint() {
        let draft = || Draft::new("a:b".parse().unwrap(), Payload::default());
        let user = |number| Target::User(UserId::new(number));
        let prints = [
            Fingerprint::of(None, &Target::Bus, &draft()),
            Fingerprint::of(None, &user(1), &draft()),
            Fingerprint::of(None, &user(2), &draft()),
            Fingerprint::of(Some(UserId::new(1)), &user(2), &draft()),
            Fingerprint::of(None, &user(2), &draft().ephemeral(None)),
            Fingerprint::of(None, &user(2), &draft().ephemeral("k".parse().ok())),
            Fingerprint::of(
                None,
                &user(2),
                &Draft {
                    notify: Some(true),
                    ..draft()
                },
            ),
            Fingerprint::of(
                None,
                &user(2),
                &Draft::new("a:c".parse().unwrap(), Payload::default()),
            ),
        ];
        for (number, one) in prints.iter().enumerate() {
            assert_eq!(prints.iter().position(|other| other == one), Some(number));
        }
    }
}
