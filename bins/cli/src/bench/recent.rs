//! Messages that came just now, with what they say: all who are in a room get the same bytes, of which each need be read once only.

use super::mark::Mark;

/// How many are remembered.
const MESSAGES: u64 = 128;
/// Longer ones are read each time.
const BYTES_MAX: usize = 4 << 10;

/// The last messages of one room, by their numbers there.
#[derive(Debug, Default)]
pub(crate) struct Recent(Vec<Said>);

#[derive(Debug, Default)]
struct Said {
    number: u64,
    mark: Option<Mark>,
    bytes: Vec<u8>,
}

impl Recent {
    /// What is said by a message that should have this number, where it is one that came before.
    pub(crate) fn get(&self, number: u64, message: &[u8]) -> Option<Mark> {
        let said = self.0.get(place(number))?;
        said.mark
            .filter(|_| said.number == number && said.bytes == message)
    }

    /// Remembers a message in the place of an older one.
    pub(crate) fn put(&mut self, number: u64, message: &[u8], mark: Mark) {
        if self.0.is_empty() {
            // Room for all at once: those of a run differ by some digits.
            let room = message.len().next_power_of_two().min(BYTES_MAX);
            self.0.resize_with(place(MESSAGES - 1) + 1, || Said {
                bytes: Vec::with_capacity(room),
                ..Said::default()
            });
        }
        if let Some(said) = self.0.get_mut(place(number))
            && message.len() <= BYTES_MAX
        {
            (said.number, said.mark) = (number, Some(mark));
            said.bytes.clear();
            said.bytes.extend_from_slice(message);
        }
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % MESSAGES).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark {
        sender: 1,
        room: 0,
        number: 2,
        due: 3,
    };

    #[test]
    fn a_message_is_known_by_its_number_and_all_its_bytes() {
        let mut recent = Recent::default();
        assert_eq!(recent.get(0, b""), None);
        recent.put(7, b"seven", MARK);
        for (number, message, known) in [
            (7, &b"seven"[..], Some(MARK)),
            (7, b"sevem", None),
            (7, b"seve", None),
            (8, b"seven", None),
            (7 + MESSAGES, b"seven", None),
        ] {
            assert_eq!(recent.get(number, message), known, "{number} {message:?}");
        }
        recent.put(7 + MESSAGES, b"another", MARK);
        assert_eq!(recent.get(7, b"seven"), None);
        let long = [b'x'; BYTES_MAX + 1];
        recent.put(9, &long, MARK);
        assert_eq!(recent.get(9, &long), None);
    }
}
