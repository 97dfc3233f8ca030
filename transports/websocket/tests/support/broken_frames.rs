//! What breaks the WebSocket protocol, or what a server takes of it, and the close code that it gets.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "what fails here fails a test"
)]

use super::raw::{frame, header};

/// The name of a row, what is sent, and the close code.
pub type Row = (&'static str, Vec<u8>, u16);

/// Rows to be sent on a WebSocket of their own, at the default limits.
pub fn broken_frames() -> Vec<Row> {
    let unmasked = |first: u8, payload: &[u8]| {
        let mut bytes = vec![first, u8::try_from(payload.len()).unwrap()];
        bytes.extend(payload);
        bytes
    };
    let close = |code: u16, reason: &[u8]| frame(0x88, &[&code.to_be_bytes(), reason].concat());
    let declared = |first: u8, length: u64| [header(first, length), vec![0; 4]].concat();
    vec![
        ("unmasked", unmasked(0x81, b"{}"), 1002),
        ("unmasked ping", unmasked(0x89, b""), 1002),
        ("rsv1", frame(0xc1, b"{}"), 1002),
        ("rsv2", frame(0xa1, b"{}"), 1002),
        ("rsv3", frame(0x91, b"{}"), 1002),
        ("reserved data opcode", frame(0x83, b""), 1002),
        ("reserved control opcode", frame(0x8b, b""), 1002),
        ("continuation without a start", frame(0x80, b"{}"), 1002),
        (
            "data inside a fragmented message",
            [frame(0x01, b"{"), frame(0x81, b"{}")].concat(),
            1002,
        ),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("ping of 126 bytes", frame(0x89, &[b'x'; 126]), 1002),
        ("close of one byte", frame(0x88, b"x"), 1002),
        ("close reason that is not UTF-8", close(1000, b"\xff"), 1007),
        ("text that is not UTF-8", frame(0x81, b"\"\xff\""), 1007),
        (
            "text that is not UTF-8 over fragments",
            [
                frame(0x01, b"\"\xc3"),
                frame(0x00, b""),
                frame(0x80, b"x\""),
            ]
            .concat(),
            1007,
        ),
        (
            "text that ends within a character",
            frame(0x81, b"\"\xe2\x82"),
            1007,
        ),
        ("binary", frame(0x82, b"{}"), 1003),
        (
            "binary over fragments",
            [frame(0x02, b"{"), frame(0x80, b"}")].concat(),
            1003,
        ),
        (
            "64 KiB and one byte",
            frame(0x81, &[b' '; (64 << 10) + 1]),
            1009,
        ),
        (
            "64 KiB and one byte over fragments",
            [frame(0x01, &[b' '; 40_000]), frame(0x80, &[b' '; 40_000])].concat(),
            1009,
        ),
        ("2^63 bytes declared", declared(0x81, 1 << 63), 1009),
        ("2^64-1 bytes declared", declared(0x82, u64::MAX), 1009),
        (
            "ten thousand empty fragments",
            [frame(0x01, b""), frame(0x00, b"").repeat(10_000)].concat(),
            1008,
        ),
        (
            "65 fragments",
            [
                frame(0x01, b"\""),
                frame(0x00, b"x").repeat(63),
                frame(0x80, b"\""),
            ]
            .concat(),
            1008,
        ),
    ]
}
