//! A running hash of everything that went into a hub and came out of it.

use std::fmt;

/// What a run did, as one number: two runs that took the same inputs at the same times and gave the same effects and
/// frames, byte for byte, have the same digest.
///
/// ```
/// use fanfare_loopback::World;
/// assert_eq!(World::new(1).digest(), World::new(1).digest());
/// assert_eq!(World::new(1).digest().to_string().len(), 16);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// That of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes some bytes in. FNV-1a: here nobody looks for collisions on purpose.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // What follows is another part: "ab" and "c" are not "a" and "bc".
        self.0 = (self.0 ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }

    /// It as a number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn debug(&mut self, value: &impl fmt::Debug) {
        self.bytes(format!("{value:?}").as_bytes());
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
