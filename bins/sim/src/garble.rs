//! What no client should send: bytes that break the WebSocket protocol, or say more than a server takes.

use serde::{Deserialize, Serialize};

/// Bytes of a message that is larger than any server takes.
const TOO_LONG: u16 = u16::MAX;
/// Frames of a message in so many pieces that no client needs them.
const PIECES: usize = 2_000;

/// How a client breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Garble {
    /// A binary frame.
    Binary,
    /// A text that is no UTF-8.
    NotText,
    /// A frame without a mask.
    Unmasked,
    /// An operation code that is reserved.
    Reserved,
    /// A ping of more than 125 bytes.
    LongControl,
    /// A message above the limit, in frames below it.
    TooLong,
    /// A message in thousands of frames.
    Pieces,
    /// A frame that goes on with a message that has not begun.
    NoBegin,
}

impl Garble {
    pub(crate) const ALL: [Self; 8] = [
        Self::Binary,
        Self::NotText,
        Self::Unmasked,
        Self::Reserved,
        Self::LongControl,
        Self::TooLong,
        Self::Pieces,
        Self::NoBegin,
    ];

    /// What a reader is told that a client sends.
    pub(crate) const fn story(self) -> &'static str {
        match self {
            Self::Binary => "a binary frame",
            Self::NotText => "a text that is no UTF-8",
            Self::Unmasked => "a frame without a mask",
            Self::Reserved => "a frame of a reserved kind",
            Self::LongControl => "a ping that is too long",
            Self::TooLong => "a message that is too long",
            Self::Pieces => "a message in too many pieces",
            Self::NoBegin => "the end of a message that has not begun",
        }
    }

    /// The bytes on the wire.
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Binary => frame(0x82, b"{}"),
            Self::NotText => frame(0x81, &[0xff, 0xfe]),
            Self::Unmasked => vec![0x81, 2, b'{', b'}'],
            Self::Reserved => frame(0x83, b""),
            Self::LongControl => frame(0x89, &[b'x'; 126]),
            Self::TooLong => {
                let piece = vec![b' '; usize::from(TOO_LONG)];
                [frame(0x01, &piece), frame(0x80, &piece)].concat()
            }
            Self::Pieces => {
                let mut bytes = frame(0x01, b" ");
                (0..PIECES).for_each(|_| bytes.extend(frame(0x00, b" ")));
                bytes
            }
            Self::NoBegin => frame(0x80, b"{}"),
        }
    }
}

/// A client's frame, masked with zeros. `first` has the bit of the last one, and the kind.
pub(crate) fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(content.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(0xfe);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0xff);
            frame.extend((content.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(content);
    frame
}
