//! Follows the frames that a client sends (RFC 6455, section 5.2), to see what tungstenite does not show: how many
//! fragments a message has, and whether one was begun and not finished.

/// Longest header of a frame.
const HEADER_MAX: usize = 14;

/// Where in the frames of a client the bytes read so far end. Holds no payload.
#[derive(Debug)]
pub(crate) struct FrameScan {
    header: [u8; HEADER_MAX],
    have: usize,
    payload: u64,
    fragments: usize,
    fragments_max: usize,
    within_message: bool,
}

impl FrameScan {
    pub(crate) const fn new(fragments_max: usize) -> Self {
        Self {
            header: [0; HEADER_MAX],
            have: 0,
            payload: 0,
            fragments: 0,
            fragments_max,
            within_message: false,
        }
    }

    /// Whether a frame or a message was begun that is not complete.
    pub(crate) const fn is_within(&self) -> bool {
        self.within_message || self.have > 0 || self.payload > 0
    }

    /// Follows `bytes`.
    ///
    /// # Errors
    /// How many of them came before a message had more fragments than it may have. The scan is of no use then.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.payload > 0 {
                let here = self.payload.min((bytes.len() - at) as u64);
                self.payload -= here;
                at += usize::try_from(here).unwrap_or(usize::MAX);
                continue;
            }
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == self.header_length() {
                self.have = 0;
                self.frame().map_err(|()| at)?;
            }
            at += 1;
        }
        Ok(())
    }

    /// How long the header is, as far as its first bytes say.
    const fn header_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    /// A header is complete.
    fn frame(&mut self) -> Result<(), ()> {
        let [first, second, b2, b3, rest @ ..] = self.header;
        self.payload = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([b2, b3])),
            127 => {
                let [b4, b5, b6, b7, b8, b9, ..] = rest;
                u64::from_be_bytes([b2, b3, b4, b5, b6, b7, b8, b9])
            }
            short => u64::from(short),
        };
        // Control frames may come between fragments and are none.
        if first & 0x08 == 0 {
            self.fragments = if self.within_message {
                self.fragments + 1
            } else {
                1
            };
            self.within_message = first & 0x80 == 0;
        }
        if self.fragments > self.fragments_max {
            return Err(());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(vec![0xff; length]);
        bytes
    }

    fn feed(frames: &[Vec<u8>], step: usize) -> (Result<(), usize>, bool) {
        let bytes = frames.concat();
        let mut scan = FrameScan::new(4);
        for (number, chunk) in bytes.chunks(step).enumerate() {
            if let Err(at) = scan.feed(chunk) {
                return (Err(number * step + at), scan.is_within());
            }
        }
        (Ok(()), scan.is_within())
    }

    #[test]
    fn whole_and_fragmented_messages_are_followed_in_pieces_of_every_size() {
        for (frames, within) in [
            (vec![], false),
            (
                vec![frame(0x81, 0), frame(0x81, 200), frame(0x81, 70_000)],
                false,
            ),
            (vec![frame(0x01, 3)], true),
            (vec![frame(0x01, 3), frame(0x89, 5)], true),
            (
                vec![
                    frame(0x01, 3),
                    frame(0x89, 5),
                    frame(0x00, 0),
                    frame(0x80, 1),
                ],
                false,
            ),
            (
                vec![
                    frame(0x01, 0),
                    frame(0x00, 0),
                    frame(0x00, 0),
                    frame(0x80, 0),
                ],
                false,
            ),
            (vec![frame(0x81, 4)[..7].to_vec()], true),
            (vec![frame(0x81, 300)[..3].to_vec()], true),
            (vec![frame(0x8a, 0)[..1].to_vec()], true),
        ] {
            for step in [1, 2, 3, 7, 64, 100_000] {
                let got = feed(&frames, step);
                assert_eq!(got, (Ok(()), within), "{} frames by {step}", frames.len());
            }
        }
    }

    #[test]
    fn the_fragment_too_many_is_told_from_the_bytes_before_it() {
        let mut frames = vec![frame(0x81, 9), frame(0x01, 0)];
        frames.resize(20, frame(0x00, 0));
        // The last byte of the header of the fifth fragment.
        let expected = 15 + 5 * 6 - 1;
        for step in [1, 5, 1_000] {
            assert_eq!(feed(&frames, step).0, Err(expected), "by {step}");
        }
    }
}
