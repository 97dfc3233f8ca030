//! What a server sends, cut from the bytes of a connection: answers of HTTP, then frames of a WebSocket.

use crate::Outcome;

/// Bytes between a head of HTTP and what follows it.
const BLANK: &[u8] = b"\r\n\r\n";

/// What came whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// An answer of HTTP; one with 101 is the last.
    Answer {
        /// Its status.
        status: u16,
        /// Its body.
        body: &'a [u8],
    },
    /// A text frame.
    Text(&'a [u8]),
    /// A ping.
    Ping,
}

/// What `bytes` begin with, and what follows; `None` where it is not whole yet.
///
/// # Errors
/// Where the bytes are nothing that the server should send.
///
/// ```
/// use fanfare_benches::{Message, cut};
/// let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}\x81\x02hi\x81";
/// let (answer, rest) = cut(bytes)?.ok_or("not whole")?;
/// assert_eq!(answer, Message::Answer { status: 200, body: b"{}" });
/// let (text, rest) = cut(rest)?.ok_or("not whole")?;
/// assert_eq!(text, Message::Text(b"hi"));
/// assert_eq!(cut(rest)?, None);
/// assert!(cut(b"\x88\x00").is_err());
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn cut(bytes: &[u8]) -> Outcome<Option<(Message<'_>, &[u8])>> {
    if bytes.starts_with(b"H") {
        return answer(bytes);
    }
    let (is_ping, payload_at, length) = match *bytes {
        [0x81, 127, a, b, c, d, e, f, g, h, ..] => {
            let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            (false, 10, usize::try_from(length)?)
        }
        [0x81, 126, high, low, ..] => (false, 4, u16::from_be_bytes([high, low]).into()),
        [0x81, length @ 0..126, ..] => (false, 2, length.into()),
        [0x89, length @ 0..126, ..] => (true, 2, length.into()),
        [] | [0x81 | 0x89, ..] => return Ok(None),
        [0x88, _, ref reason @ ..] => {
            let reason = String::from_utf8_lossy(reason);
            return Err(format!("the server closed a connection: {reason:?}").into());
        }
        [other, ..] => return Err(format!("a frame that begins with {other:#x}").into()),
    };
    let cut = bytes
        .get(payload_at..)
        .and_then(|rest| rest.split_at_checked(length));
    Ok(cut.map(|(payload, rest)| match is_ping {
        true => (Message::Ping, rest),
        false => (Message::Text(payload), rest),
    }))
}

fn answer(bytes: &[u8]) -> Outcome<Option<(Message<'_>, &[u8])>> {
    let Some(end) = bytes.windows(BLANK.len()).position(|part| part == BLANK) else {
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(end + BLANK.len());
    let head = str::from_utf8(head)?;
    let status: u16 = head
        .split(' ')
        .nth(1)
        .ok_or("an answer without a status")?
        .parse()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let length = length.map_or(Ok(0), str::parse)?;
    Ok(rest
        .split_at_checked(length)
        .map(|(body, rest)| (Message::Answer { status, body }, rest)))
}

/// The number that stands behind `name` in a text: an event's in a room, or a receipt's.
///
/// ```
/// use fanfare_benches::number_after;
/// assert_eq!(number_after(br#"{"seq":17}"#, br#""seq":"#), Some(17));
/// assert_eq!(number_after(br#"{"seq":null}"#, br#""seq":"#), None);
/// ```
#[must_use]
pub fn number_after(text: &[u8], name: &[u8]) -> Option<u64> {
    let at = text.windows(name.len()).position(|part| part == name)? + name.len();
    let rest = text.get(at..)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |number, digit| {
        Some(number.unwrap_or(0) * 10 + u64::from(digit - b'0'))
    })
}
