//! What must hold of a request's head beyond what hyper checks, and where in a request a connection is.
//!
//! hyper's parser takes a bare LF for the end of a line, which a proxy before us may not (request smuggling). The
//! scan sees each byte before hyper does and puts a NUL in such an LF's place, which hyper answers by 400.

use memchr::memchr2;

/// Bytes of a line that are looked at: enough for each name below with a length of 64 bits behind it.
const LINE_MAX: usize = 48;

/// Where in a connection's requests the bytes read so far end.
#[derive(Debug)]
enum Place {
    /// Before the first byte of a request.
    Between,
    /// In the request line or a header.
    Head,
    /// In a body with so many bytes to come.
    Body(u64),
    /// Beyond what can be followed: a chunked body, or another protocol.
    Opaque,
    /// Behind a head that hyper refuses.
    Refused,
}

/// Follows the heads of one connection's requests. Holds [`LINE_MAX`] bytes, whatever comes.
#[derive(Debug)]
pub(crate) struct HeadScan {
    place: Place,
    line: [u8; LINE_MAX],
    /// Bytes of the current line, also beyond what `line` holds, without its CR.
    length: usize,
    after_cr: bool,
    body: u64,
    opaque_body: bool,
}

impl HeadScan {
    pub(crate) const fn new() -> Self {
        Self {
            place: Place::Between,
            line: [0; LINE_MAX],
            length: 0,
            after_cr: false,
            body: 0,
            opaque_body: false,
        }
    }

    /// Whether a head has begun that is not complete.
    pub(crate) const fn is_within(&self) -> bool {
        matches!(self.place, Place::Head)
    }

    /// Whether the connection can't be used for another request, since where that would begin is not known.
    pub(crate) const fn is_opaque(&self) -> bool {
        matches!(self.place, Place::Opaque)
    }

    /// Follows `bytes`, in which a bare LF of a head becomes a NUL. Whether a head was completed.
    pub(crate) fn feed(&mut self, bytes: &mut [u8]) -> bool {
        let mut completed = false;
        let mut rest = bytes;
        loop {
            rest = match self.place {
                Place::Opaque | Place::Refused => break,
                Place::Body(left) => {
                    let here = left.min(rest.len() as u64);
                    let Some(behind) = rest.get_mut(usize::try_from(here).unwrap_or(usize::MAX)..)
                    else {
                        break;
                    };
                    self.place = match left - here {
                        0 => Place::Between,
                        left => Place::Body(left),
                    };
                    behind
                }
                Place::Between | Place::Head => {
                    let end = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    let (text, behind) = rest.split_at_mut(end);
                    self.text(text);
                    let Some((end, behind)) = behind.split_first_mut() else {
                        break;
                    };
                    completed |= self.end(end);
                    behind
                }
            };
            if rest.is_empty() {
                break;
            }
        }
        completed
    }

    /// What stands before a CR or an LF of a head.
    fn text(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.after_cr = false;
        self.place = Place::Head;
        let room = self.line.get_mut(self.length..).unwrap_or_default();
        let length = room.len().min(text.len());
        if let (Some(room), Some(text)) = (room.get_mut(..length), text.get(..length)) {
            room.copy_from_slice(text);
        }
        self.length += text.len();
    }

    /// A CR or an LF of a head, or before one. Whether it completed the head.
    fn end(&mut self, byte: &mut u8) -> bool {
        let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
        if *byte == b'\r' {
            return false;
        }
        if !after_cr {
            *byte = 0;
            self.place = Place::Refused;
            return false;
        }
        self.end_of_line()
    }

    fn end_of_line(&mut self) -> bool {
        let length = std::mem::take(&mut self.length);
        if length == 0 {
            // An empty line before a request is skipped (RFC 9112, section 2.2).
            if !self.is_within() {
                return false;
            }
            let body = std::mem::take(&mut self.body);
            self.place = match (self.opaque_body, body) {
                (true, _) => Place::Opaque,
                (false, 0) => Place::Between,
                (false, body) => Place::Body(body),
            };
            return true;
        }
        let line = self.line.get(..length.min(LINE_MAX)).unwrap_or_default();
        if value_of(line, b"transfer-encoding:").is_some() || value_of(line, b"upgrade:").is_some()
        {
            self.opaque_body = true;
        } else if let Some(value) = value_of(line, b"content-length:") {
            // A length that is not read here is refused by hyper, or is followed no further.
            match str::from_utf8(value)
                .ok()
                .and_then(|value| value.trim().parse().ok())
            {
                Some(body) if length <= LINE_MAX => self.body = body,
                _ => self.opaque_body = true,
            }
        }
        false
    }
}

/// What follows `name` where the line begins with it, in whatever case.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (begin, value) = line.split_at_checked(name.len())?;
    begin.eq_ignore_ascii_case(name).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes after the scan, whether a head was completed, whether the end is opaque and whether within a head.
    fn scan(text: &str, step: usize) -> (String, bool, bool, bool) {
        let mut bytes = text.as_bytes().to_vec();
        let mut scan = HeadScan::new();
        let mut completed = false;
        for chunk in bytes.chunks_mut(step) {
            completed |= scan.feed(chunk);
        }
        let text = String::from_utf8(bytes).unwrap();
        (text, completed, scan.is_opaque(), scan.is_within())
    }

    #[test]
    fn heads_are_followed_in_pieces_of_every_size() {
        // What is sent; whether a head is complete; opaque; within a head.
        for (text, completed, opaque, within) in [
            ("", false, false, false),
            ("\r\n", false, false, false),
            ("G", false, false, true),
            ("GET / HTTP/1.1\r\n", false, false, true),
            ("GET / HTTP/1.1\r\n\r", false, false, true),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false, false),
            ("GET / HTTP/1.1\r\n\r\nG", true, false, true),
            (
                "P / H\r\nContent-Length: 3\r\n\r\n\n\nx",
                true,
                false,
                false,
            ),
            ("P / H\r\nContent-Length:4\r\n\r\n\n\nx", true, false, false),
            ("P / H\r\ncontent-length: 2\r\n\r\n\n\nG", true, false, true),
            (
                "P / H\r\nTransfer-Encoding: chunked\r\n\r\n1\n\n",
                true,
                true,
                false,
            ),
            (
                "P / H\r\nUPGRADE: websocket\r\n\r\n\u{1}\n\n",
                true,
                true,
                false,
            ),
            ("P / H\r\nContent-Length: x\r\n\r\n\n", true, true, false),
            // A CR within a line is hyper's to refuse; here it is nothing.
            (
                "P / H\r\nContent-\rLength: 2\r\n\r\n\n\nG",
                true,
                false,
                true,
            ),
            (
                "P / H\r\nA: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\nContent-Length: 2\r\n\r\n\n\nG",
                true,
                false,
                true,
            ),
            (
                "P / H\r\nContent-Length: 000000000000000000000000000000002\r\n\r\n\n\nG",
                true,
                true,
                false,
            ),
        ] {
            for step in 1..=text.len().max(1) {
                let got = scan(text, step);
                assert_eq!(
                    got,
                    (text.into(), completed, opaque, within),
                    "{text:?} by {step}"
                );
            }
        }
    }

    #[test]
    fn a_bare_lf_in_a_head_becomes_a_nul_and_in_a_body_stays() {
        for (text, expected) in [
            ("\nGET", "\0GET"),
            ("GET /\r HTTP/1.1\n", "GET /\r HTTP/1.1\0"),
            ("GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\0Host: a\n\n"),
            (
                "GET / HTTP/1.1\r\nA: b\n\r\n",
                "GET / HTTP/1.1\r\nA: b\0\r\n",
            ),
            (
                "P / H\r\nContent-Length: 1\r\n\r\n\nGET / H\n",
                "P / H\r\nContent-Length: 1\r\n\r\n\nGET / H\0",
            ),
        ] {
            for step in 1..=text.len() {
                let (got, _, opaque, _) = scan(text, step);
                assert_eq!(got, expected, "{text:?} by {step}");
                assert!(!opaque, "hyper's 400 closes");
            }
        }
    }
}
