//! What a publish bears in its data, so that it is known again in whatever a server makes of it: a run's own name, then
//! who sent it, to which room, as which number, and when it was due. Letters, digits and hyphens only: it stands in JSON,
//! in a header or in plain text as it is.

use memchr::memmem::Finder;

/// Bytes of a mark.
pub(crate) const BYTES: usize = NAME + SENDER + ROOM + NUMBER + DUE;
const NAME: usize = 17;
const SENDER: usize = 4;
const ROOM: usize = 6;
const NUMBER: usize = 8;
const DUE: usize = 14;

/// Rooms that a mark can tell apart.
pub(crate) const ROOMS_MAX: u32 = 1 << (4 * ROOM);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) sender: u16,
    pub(crate) room: u32,
    /// Of this sender's in this room, from 1.
    pub(crate) number: u32,
    /// Nanoseconds since the run began.
    pub(crate) due: u64,
}

/// Writes and finds the marks of one run.
pub(crate) struct Marker {
    name: [u8; NAME],
    finder: Finder<'static>,
}

impl Marker {
    pub(crate) fn new(run: u32) -> Self {
        let mut name = *b"fanfare-........-";
        if let Some(digits) = name.get_mut(8..16) {
            hex(digits, u64::from(run));
        }
        Self {
            name,
            finder: Finder::new(&name).into_owned(),
        }
    }

    /// Writes a mark to the beginning of `data`, which has room for one.
    pub(crate) fn write(&self, data: &mut [u8], mark: Mark) {
        let mut rest = data;
        let mut part = |length| -> &mut [u8] {
            let (part, after) = std::mem::take(&mut rest)
                .split_at_mut_checked(length)
                .unwrap_or_default();
            rest = after;
            part
        };
        let name = part(NAME);
        if name.len() == NAME {
            name.copy_from_slice(&self.name);
        }
        hex(part(SENDER), u64::from(mark.sender));
        hex(part(ROOM), u64::from(mark.room));
        hex(part(NUMBER), u64::from(mark.number));
        hex(part(DUE), mark.due);
    }

    /// The first mark of this run in a message.
    pub(crate) fn find(&self, message: &[u8]) -> Option<Mark> {
        let at = self.finder.find(message)? + NAME;
        let mut rest = message.get(at..)?;
        let mut part = |length| {
            let (part, after) = rest.split_at_checked(length)?;
            rest = after;
            number(part)
        };
        Some(Mark {
            sender: part(SENDER)?.try_into().ok()?,
            room: part(ROOM)?.try_into().ok()?,
            number: part(NUMBER)?.try_into().ok()?,
            due: part(DUE)?,
        })
    }
}

/// Fills all of `digits` with the last hexadecimal digits of `value`.
fn hex(digits: &mut [u8], value: u64) {
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        let low = u8::try_from(rest & 15).unwrap_or_default();
        *digit = low + if low < 10 { b'0' } else { b'a' - 10 };
        rest >>= 4;
    }
}

/// What `hex` wrote; of at most 15 digits.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let low = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(low))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark {
        sender: 0x3ff,
        room: ROOMS_MAX - 1,
        number: u32::MAX,
        due: 1_234_567_890_123,
    };

    #[test]
    fn a_mark_is_found_in_whatever_stands_around_it() {
        let marker = Marker::new(0xbeef);
        let mut mark = [b'x'; BYTES];
        marker.write(&mut mark, MARK);
        for (before, after) in [("", ""), ("{\"d\":\"", "\"}"), ("fanfare-0000be", "")] {
            let message = [before.as_bytes(), &mark, after.as_bytes()].concat();
            assert_eq!(marker.find(&message), Some(MARK), "{before} {after}");
        }
    }

    #[test]
    fn a_mark_that_is_cut_or_broken_or_of_another_run_is_none() {
        let marker = Marker::new(1);
        let mut mark = [b'x'; BYTES];
        marker.write(&mut mark, MARK);
        for length in 0..BYTES {
            assert_eq!(marker.find(&mark[..length]), None, "{length}");
        }
        for at in 0..BYTES {
            let mut broken = mark;
            broken[at] = b'!';
            assert_eq!(marker.find(&broken), None, "{at}");
        }
        assert_eq!(Marker::new(2).find(&mark), None);
    }
}
