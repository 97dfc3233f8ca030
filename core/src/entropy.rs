//! Random-looking bytes out of the one seed that the driver handed in: the same seed gives the same bytes.

use crate::ids::{Epoch, EventId};
use crate::time::Wall;
use sha2::{Digest, Sha256};
use uuid::Builder;

/// A stream of bytes that can't be told from random ones without the seed: SHA-256 over seed and counter.
#[derive(Debug)]
pub(crate) struct Entropy {
    seed: [u8; 32],
    drawn: u64,
}

impl Entropy {
    pub(crate) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.drawn.to_be_bytes())
            .finalize()
            .into()
    }

    fn draw_some<const N: usize>(&mut self) -> [u8; N] {
        let mut some = [0; N];
        for (to, from) in some.iter_mut().zip(self.draw()) {
            *to = from;
        }
        some
    }

    /// A UUIDv7 (RFC 9562, section 5.7).
    pub(crate) fn event_id(&mut self, at: Wall) -> EventId {
        let random = self.draw_some();
        let uuid = Builder::from_unix_timestamp_millis(at.as_unix_millis(), &random).into_uuid();
        // 36 hex digits and hyphens are a valid id.
        EventId::of_uuid(uuid)
    }

    /// Eight letters and digits: 40 bits, against a chance meeting of two stores.
    pub(crate) fn epoch(&mut self) -> Epoch {
        const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";
        let letter = |byte: u8| {
            ALPHABET
                .get(usize::from(byte % 32))
                .copied()
                .map_or('a', char::from)
        };
        let text: String = self.draw_some::<8>().map(letter).iter().collect();
        #[expect(clippy::expect_used, reason = "the alphabet is that of an epoch")]
        text.parse().expect("letters and digits are an epoch")
    }

    /// A whole number from 0 to `below`, without it; 0 where that is 0.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        u64::from_be_bytes(self.draw_some())
            .checked_rem(below)
            .unwrap_or(0)
    }
}
