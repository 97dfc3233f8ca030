//! Answers of HTTP/1.1, read from a connection that is kept.

use httparse::Status;

/// The longest head of an answer.
pub(crate) const HEAD_MAX: usize = 16 << 10;
/// Bytes of a body that are kept, to be looked at or shown.
const KEPT: usize = 2 << 10;
/// The longest line of a chunk.
const LINE_MAX: usize = 256;
const HEADERS: usize = 64;

/// A head, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: usize,
    body: Body,
    keep: bool,
    /// Of a WebSocket's opening.
    pub(crate) accept: Option<[u8; 28]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

/// The head that `bytes` begin with; `None` where it is not whole.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(Status::Complete(length)) if length <= HEAD_MAX => length,
        Ok(Status::Partial) if bytes.len() < HEAD_MAX => return Ok(None),
        Ok(_) => return Err("a head of more than 16 KiB".to_owned()),
        Err(error) => {
            let begin = String::from_utf8_lossy(bytes.get(..bytes.len().min(40)).unwrap_or(bytes));
            return Err(format!("no HTTP ({error}): {begin}"));
        }
    };
    let status = response.code.unwrap_or_default();
    let mut head = Head {
        status,
        length,
        body: Body::UntilClose,
        keep: response.version == Some(1),
        accept: None,
    };
    if matches!(status, 100..=199 | 204 | 304) {
        head.body = Body::Length(0);
    }
    for header in response.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let says = |word: &[u8]| {
            let mut words = header.value.split(|byte| *byte == b',');
            words.any(|it| it.trim_ascii().eq_ignore_ascii_case(word))
        };
        if is("content-length") && head.body == Body::UntilClose {
            let length = str::from_utf8(header.value).unwrap_or_default().trim();
            let length = length.parse();
            head.body = Body::Length(length.map_err(|_| "a Content-Length that is none")?);
        } else if is("transfer-encoding") && says(b"chunked") && head.body != Body::Length(0) {
            head.body = Body::Chunked;
        } else if is("connection") && says(b"close") {
            head.keep = false;
        } else if is("sec-websocket-accept") {
            head.accept = header.value.try_into().ok();
        }
    }
    head.keep &= head.body != Body::UntilClose;
    Ok(Some(head))
}

/// An answer that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// Whether the connection may be used again.
    pub(crate) keep: bool,
    /// The first 2 KiB.
    pub(crate) body: &'a [u8],
}

/// Reads one answer after the other.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
    status: u16,
    keep: bool,
    /// Of a head or a line that is not whole.
    partial: Vec<u8>,
    kept: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Body(u64),
    UntilClose,
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    Whole,
}

impl Reader {
    /// Nothing came yet of the next answer.
    pub(crate) fn clear(&mut self) {
        self.state = State::Head;
        self.partial.clear();
        self.kept.clear();
    }

    /// Takes what came. Whether the answer is whole.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<bool, String> {
        loop {
            self.state = match self.state {
                State::Head => {
                    let before = self.partial.len();
                    self.partial.extend_from_slice(bytes);
                    let Some(head) = head(&self.partial)? else {
                        return Ok(false);
                    };
                    bytes = bytes
                        .get(head.length.saturating_sub(before)..)
                        .unwrap_or_default();
                    self.partial.clear();
                    self.status = head.status;
                    self.keep = head.keep;
                    match head.body {
                        // Such as 100: the answer comes after it.
                        _ if head.status < 200 => State::Head,
                        Body::Length(length) => State::Body(length),
                        Body::Chunked => State::ChunkLine,
                        Body::UntilClose => State::UntilClose,
                    }
                }
                State::Body(0) | State::Whole => break,
                State::Body(left) => State::Body(left - self.body(&mut bytes, left)),
                State::UntilClose => {
                    self.body(&mut bytes, u64::MAX);
                    State::UntilClose
                }
                State::Chunk(0) => State::ChunkEnd,
                State::Chunk(left) => State::Chunk(left - self.body(&mut bytes, left)),
                State::ChunkLine | State::ChunkEnd | State::Trailer => {
                    if !self.line(&mut bytes)? {
                        return Ok(false);
                    }
                    let line = self.partial.trim_ascii();
                    let next = match self.state {
                        State::ChunkLine => match httparse::parse_chunk_size(&self.partial) {
                            Ok(Status::Complete((_, 0))) => State::Trailer,
                            Ok(Status::Complete((_, length))) => State::Chunk(length),
                            Ok(Status::Partial) | Err(_) => return Err("a broken chunk".to_owned()),
                        },
                        State::ChunkEnd if line.is_empty() => State::ChunkLine,
                        State::Trailer if line.is_empty() => State::Whole,
                        State::Trailer => State::Trailer,
                        State::Head
                        | State::Body(_)
                        | State::UntilClose
                        | State::Chunk(_)
                        | State::ChunkEnd
                        | State::Whole => return Err("a chunk without an end".to_owned()),
                    };
                    self.partial.clear();
                    next
                }
            };
            let done = matches!(self.state, State::Body(0) | State::Whole);
            if bytes.is_empty() && !done {
                return Ok(false);
            }
        }
        if !bytes.is_empty() {
            return Err("more bytes than an answer has".to_owned());
        }
        Ok(true)
    }

    /// Whether not even a head came.
    pub(crate) fn is_in_head(&self) -> bool {
        self.state == State::Head
    }

    /// Whether the answer is whole where the connection ended.
    pub(crate) fn ends(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The answer that is whole.
    pub(crate) fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            keep: self.keep,
            body: &self.kept,
        }
    }

    /// Takes bytes of a body, at most `left`; how many.
    fn body(&mut self, bytes: &mut &[u8], left: u64) -> u64 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (body, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        let space = KEPT.saturating_sub(self.kept.len()).min(body.len());
        self.kept
            .extend_from_slice(body.get(..space).unwrap_or_default());
        *bytes = rest;
        length as u64
    }

    /// Whether a line is whole now, in `partial`.
    fn line(&mut self, bytes: &mut &[u8]) -> Result<bool, String> {
        let end = memchr::memchr(b'\n', bytes);
        let length = end.map_or(bytes.len(), |end| end + 1);
        let (line, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        if self.partial.len() + line.len() > LINE_MAX {
            return Err("a line between chunks that has no end".to_owned());
        }
        self.partial.extend_from_slice(line);
        *bytes = rest;
        Ok(end.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], piece: usize) -> Result<Option<(u16, bool, Vec<u8>)>, String> {
        let mut reader = Reader::default();
        for piece in bytes.chunks(piece) {
            if reader.take(piece)? {
                let Answer { status, keep, body } = reader.answer();
                return Ok(Some((status, keep, body.to_vec())));
            }
        }
        let Answer { status, keep, body } = reader.answer();
        Ok(reader.ends().then(|| (status, keep, body.to_vec())))
    }

    #[test]
    fn answers_are_read_wherever_their_bytes_break_off() {
        let cases: [(&str, u16, bool, &str); 7] = [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
                200,
                true,
                "{}",
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, true, ""),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length:0\r\n\r\n",
                201,
                true,
                "",
            ),
            (
                "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
                500,
                false,
                "x",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nto the end",
                200,
                false,
                "to the end",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n",
                200,
                true,
                "abc",
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
                200,
                false,
                "x",
            ),
        ];
        for (text, status, keep, body) in cases {
            for piece in [1, 2, 3, 7, 1_000] {
                assert_eq!(
                    whole(text.as_bytes(), piece),
                    Ok(Some((status, keep, body.as_bytes().to_vec()))),
                    "{text} by {piece}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_MAX));
        let line = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}",
            "x".repeat(300)
        );
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "\0\0\0",
            &*endless,
            &*line,
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
        ] {
            for piece in [1, 5_000] {
                let got = whole(text.as_bytes(), piece);
                // Byte by byte the answer is whole before the byte too much.
                let whole_before = piece == 1 && text.ends_with("xy");
                assert!(got.is_err() || whole_before, "{text:.60}: {got:?}");
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        let words = [
            "HTTP/1.1 200 OK\r\n",
            "\r\n",
            "Content-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "5\r\n",
            "hello",
            "0\r\n",
            "ffffffffffffffff\r\n",
            "\0",
            "Content-Length: 18446744073709551615\r\n",
        ];
        for _ in 0..20_000 {
            let text: String = (0..random.usize(..8))
                .map(|_| words[random.usize(..words.len())])
                .collect();
            let _ = whole(text.as_bytes(), random.usize(1..40));
        }
    }
}
