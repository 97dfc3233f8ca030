//! One text for a client, encoded once with its WebSocket header and shared by all who get it.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Longest header of an unmasked frame (RFC 6455, section 5.2).
const HEADER_MAX: usize = 10;

/// A whole unmasked text frame. Cloning shares it.
///
/// Frames from server to client are not masked (RFC 6455, section 5.1), so one byte sequence serves every receiver.
///
/// ```
/// use fanfare_core::Frame;
/// let frame = Frame::from_text("hi");
/// assert_eq!(frame.wire(), [0x81, 2, b'h', b'i']);
/// assert_eq!(frame.text(), "hi");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    wire: Arc<[u8]>,
    header: u8,
}

impl Frame {
    /// The frame of this text.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self::build(text.len(), |out| {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        })
    }

    /// The frame of what `write` writes, which has to be UTF-8.
    pub(crate) fn build(
        capacity: usize,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_MAX + capacity);
        bytes.resize(HEADER_MAX, 0);
        #[expect(clippy::expect_used, reason = "writing into a Vec can't fail")]
        write(&mut bytes).expect("a Vec takes everything");
        let length = bytes.len() - HEADER_MAX;
        let (header, used) = header(length);
        let start = HEADER_MAX - usize::from(used);
        for (place, byte) in bytes.iter_mut().take(HEADER_MAX).skip(start).zip(header) {
            *place = byte;
        }
        Self {
            wire: bytes.get(start..).unwrap_or_default().into(),
            header: used,
        }
    }

    /// Header and text, ready to be written to a client.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The text. O(its length): it is checked anew.
    #[must_use]
    pub fn text(&self) -> &str {
        let text = self
            .wire
            .get(usize::from(self.header)..)
            .unwrap_or_default();
        debug_assert!(std::str::from_utf8(text).is_ok(), "a frame holds UTF-8");
        std::str::from_utf8(text).unwrap_or_default()
    }
}

/// The header of a final text frame of `length` bytes, and how many of its bytes count.
fn header(length: usize) -> ([u8; HEADER_MAX], u8) {
    let mut header = [0; HEADER_MAX];
    header[0] = 0x81;
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 || (short == 126 && planted!(LengthOff)) => {
            header[1] = short;
            (header, 2)
        }
        (_, Ok(medium)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            (header, 10)
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.wire.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_shortest_form_for_each_length() {
        for (length, expected) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 255, 255]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = "x".repeat(length);
            let frame = Frame::from_text(&text);
            assert_eq!(frame.wire()[..expected.len()], expected, "{length}");
            assert_eq!(frame.wire().len(), expected.len() + length);
            assert_eq!(frame.text(), text);
        }
    }
}
