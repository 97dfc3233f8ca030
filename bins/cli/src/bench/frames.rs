//! A server's WebSocket frames, cut from the bytes of a connection.

/// The longest payload that is taken: twice what Fanfare delivers.
pub(crate) const PAYLOAD_MAX: usize = 2 << 20;
/// A header of the longest kind.
pub(crate) const HEADER_MAX: usize = 10;
const CONTROL_MAX: u64 = 125;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A message, or the first piece of one.
    Message(&'a [u8]),
    /// A further piece.
    More,
    Ping(&'a [u8]),
    Pong,
    /// Its code and reason.
    Close(&'a [u8]),
}

/// The frame that `bytes` begin with, and its length; `None` where it is not whole.
pub(crate) fn cut(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, &'static str> {
    let (first, second) = match *bytes {
        [] => return Ok(None),
        [first] => (first, 0),
        [first, second, ..] => (first, second),
    };
    if first & 0x70 != 0 {
        return Err("a frame with reserved bits set: an extension that was not offered");
    }
    if second & 0x80 != 0 {
        return Err("a masked frame, which a server must not send");
    }
    let opcode = first & 15;
    if !matches!(opcode, 0..=2 | 8..=10) {
        return Err("a frame of an unknown kind");
    }
    if bytes.len() < 2 {
        return Ok(None);
    }
    let (header, length) = match (second, bytes) {
        (127, [_, _, a, b, c, d, e, f, g, h, ..]) => {
            (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
        }
        (126, [_, _, high, low, ..]) => (4, u64::from(u16::from_be_bytes([*high, *low]))),
        (126 | 127, _) => return Ok(None),
        _ => (2, u64::from(second)),
    };
    if opcode >= 8 && (length > CONTROL_MAX || first & 0x80 == 0) {
        return Err("a control frame that is too long or in pieces");
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > PAYLOAD_MAX {
        return Err("a frame of more than 2 MiB");
    }
    let Some(payload) = bytes.get(header..header + length) else {
        return Ok(None);
    };
    let frame = match opcode {
        0 => Frame::More,
        1 | 2 => Frame::Message(payload),
        8 => Frame::Close(payload),
        9 => Frame::Ping(payload),
        _ => Frame::Pong,
    };
    Ok(Some((frame, header + length)))
}

/// A client's control frame that bears these bytes, at most 125, masked with zeros.
pub(crate) fn control(opcode: u8, payload: &[u8]) -> ([u8; 131], usize) {
    let mut frame = [0; 131];
    let length = payload.len().min(125);
    let [first, second, _, _, _, _, rest @ ..] = &mut frame;
    *first = 0x80 | opcode;
    *second = 0x80 | u8::try_from(length).unwrap_or_default();
    for (to, from) in rest.iter_mut().zip(payload) {
        *to = *from;
    }
    (frame, 6 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_wherever_the_bytes_break_off() {
        let long = [b'x'; 300];
        let cases: [(&[u8], &[u8], Frame<'_>); 7] = [
            (&[0x81, 2], b"hi", Frame::Message(b"hi")),
            (&[0x82, 126, 1, 44], &long, Frame::Message(&long)),
            (
                &[0x01, 127, 0, 0, 0, 0, 0, 0, 1, 44],
                &long,
                Frame::Message(&long),
            ),
            (&[0x80, 1], b"x", Frame::More),
            (&[0x89, 1], b"p", Frame::Ping(b"p")),
            (&[0x8a, 0], b"", Frame::Pong),
            (&[0x88, 2], &[3, 232], Frame::Close(&[3, 232])),
        ];
        for (header, payload, frame) in cases {
            let bytes = [header, payload].concat();
            for length in 0..bytes.len() {
                assert_eq!(cut(&bytes[..length]), Ok(None), "{frame:?} {length}");
            }
            let whole = [&*bytes, &[0x81]].concat();
            assert_eq!(cut(&whole), Ok(Some((frame, bytes.len()))));
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused_as_early_as_it_is_seen() {
        for bytes in [
            &[0xc1][..],
            b"HT",
            &[0x83],
            &[0x81, 0x80],
            &[0x89, 126, 0, 126],
            &[0x09, 0],
            &[0x81, 127, 0, 0, 0, 0, 0, 0x20, 0, 1],
            &[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert!(cut(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let bytes: Vec<u8> = (0..random.usize(..20)).map(|_| random.u8(..)).collect();
            if let Ok(Some((_, length))) = cut(&bytes) {
                assert!(length <= bytes.len() && length > 1);
            }
        }
    }

    #[test]
    fn a_pong_bears_what_the_ping_bore() {
        let (frame, length) = control(10, b"hello");
        assert_eq!(frame[..length], *b"\x8a\x85\0\0\0\0hello");
        assert_eq!(control(10, &[7; 125]).1, 131);
    }
}
