//! The era of a store, which begins when the store is put back to an earlier moment of itself.
//!
//! Keeps *Order*: from such a moment on, numbers are given that were given before, to other events. So every epoch that
//! the server names bears the era, and a position of another era is of an unknown epoch. Rows have epochs without it:
//! nothing in them has to change with the era, and whoever opens the store names the same epochs.

use crate::entropy::Entropy;
use crate::error::Error;
use crate::ids::Epoch;
use crate::port::{Change, Table};
use serde::{Deserialize, Serialize};

/// The row of [`Table::Meta`] that has it.
const ERA: &[u8] = b"era";
/// Between an epoch and the era. No epoch is drawn that has it.
const BEFORE: char = '-';

/// Which era a store is in; the first one has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Era(Option<Epoch>);

/// An epoch as rows have it: without the era.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Bare(Epoch);

impl Era {
    /// What the rows of `Meta` say.
    ///
    /// # Errors
    /// [`Error::UnreadableStore`].
    pub(crate) fn read(meta: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, Error> {
        let Some((_, name)) = meta.iter().find(|(key, _)| key == ERA) else {
            return Ok(Self::default());
        };
        let name = std::str::from_utf8(name).map_err(|_| Error::UnreadableStore)?;
        let name = name.parse().map_err(|_| Error::UnreadableStore)?;
        Ok(Self(Some(name)))
    }

    /// The change that begins another one.
    pub(crate) fn begin(seed: [u8; 32]) -> Change {
        Change::Put {
            table: Table::Meta,
            key: ERA.to_vec(),
            value: Entropy::new(seed).epoch().as_str().as_bytes().into(),
        }
    }

    /// An epoch that was drawn just now.
    pub(crate) fn draw(&self, entropy: &mut Entropy) -> Epoch {
        #[expect(
            clippy::expect_used,
            reason = "two words of eight letters are an epoch"
        )]
        Bare(entropy.epoch()).within(self).expect("an epoch")
    }
}

impl Bare {
    pub(crate) fn of(epoch: &Epoch) -> Self {
        let bare = epoch.as_str().split_once(BEFORE);
        let bare = bare.and_then(|(bare, _)| bare.parse().ok());
        Self(bare.unwrap_or_else(|| epoch.clone()))
    }

    /// As the server names it; `None` for one that is too long to be of any version.
    pub(crate) fn within(self, era: &Era) -> Option<Epoch> {
        match &era.0 {
            None => Some(self.0),
            Some(era) => format!("{}{BEFORE}{era}", self.0).parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: Change) -> Era {
        let Change::Put { key, value, .. } = change else {
            panic!("{change:?}")
        };
        Era::read(&[(b"store".to_vec(), vec![]), (key, value.to_vec())]).unwrap()
    }

    #[test]
    fn an_epoch_is_another_one_in_each_era_and_one_and_the_same_in_rows() {
        let first = Era::read(&[]).unwrap();
        let eras = [first, read(Era::begin([1; 32])), read(Era::begin([2; 32]))];
        let mut named = Vec::new();
        for era in &eras {
            let epoch = era.draw(&mut Entropy::new([3; 32]));
            let bare = Bare::of(&epoch);
            assert_eq!(bare.0, Entropy::new([3; 32]).epoch());
            assert_eq!(bare.within(era).as_ref(), Some(&epoch));
            named.push(epoch);
        }
        assert_eq!(named[0].as_str().len(), 8);
        assert!(named[0] != named[1] && named[1] != named[2] && named[0] != named[2]);
    }

    #[test]
    fn an_era_that_no_version_wrote_is_not_passed_over() {
        for row in [&b""[..], b"a b", b"\xff"] {
            let read = Era::read(&[(ERA.to_vec(), row.to_vec())]);
            assert_eq!(read, Err(Error::UnreadableStore), "{row:?}");
        }
    }
}
