//! What a program printed, as lines of plain text.
//!
//! Escape sequences are dropped, a line that is rewritten with a carriage return counts as its last state, bytes that
//! are no UTF-8 become U+FFFD, and a line is cut at [`LINE_BYTES_MAX`]: a viewer gets text, whatever was printed.

use std::mem;

use anstyle_parse::{Params, Parser, Perform};

/// Bytes of one line; what comes after them is dropped and the line ends with `…` (within this bound).
pub(crate) const LINE_BYTES_MAX: usize = 4096;

/// Ends a line that was cut.
pub(crate) const CUT_MARK: char = '…';

/// Cuts one stream of bytes into lines. Bytes may come in any pieces.
#[derive(Default)]
pub(crate) struct Splitter {
    parser: Parser,
    /// The start of a character whose rest has not come yet: at most 3 bytes.
    tail: Vec<u8>,
    screen: Screen,
}

impl Splitter {
    /// Takes what was read; `each` gets every line that it completes.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(String)) {
        let mut joined = mem::take(&mut self.tail);
        joined.extend_from_slice(bytes);
        let mut rest = joined.as_slice();
        while !rest.is_empty() {
            match str::from_utf8(rest) {
                Ok(text) => {
                    self.text(text, &mut each);
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.text(&String::from_utf8_lossy(good), &mut each);
                    let Some(length) = error.error_len() else {
                        self.tail = bad.to_vec();
                        break;
                    };
                    self.text("\u{fffd}", &mut each);
                    rest = bad.get(length..).unwrap_or_default();
                }
            }
        }
    }

    fn text(&mut self, text: &str, each: &mut impl FnMut(String)) {
        for byte in text.bytes() {
            self.parser.advance(&mut self.screen, byte);
            if let Some(line) = self.screen.done.take() {
                each(line);
            }
        }
    }

    /// The line that has not ended yet, as it stands now.
    pub(crate) fn unfinished(&self) -> &str {
        &self.screen.line
    }

    /// The stream has ended: its last line, if that had no newline.
    pub(crate) fn finish(&mut self) -> Option<String> {
        if !mem::take(&mut self.tail).is_empty() {
            self.screen.print(char::REPLACEMENT_CHARACTER);
        }
        let line = self.screen.take();
        (!line.is_empty()).then_some(line)
    }
}

/// The one line on which the program's cursor is.
#[derive(Default)]
struct Screen {
    line: String,
    cut: bool,
    /// After a carriage return: what is printed next replaces the line, a newline keeps it.
    returned: bool,
    done: Option<String>,
}

impl Screen {
    fn take(&mut self) -> String {
        self.returned = false;
        self.cut = false;
        mem::take(&mut self.line)
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        if mem::take(&mut self.returned) {
            self.take();
        }
        if self.cut {
            return;
        }
        if self.line.len() + c.len_utf8() + CUT_MARK.len_utf8() > LINE_BYTES_MAX {
            self.cut = true;
            self.line.push(CUT_MARK);
        } else {
            self.line.push(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => self.done = Some(self.take()),
            b'\r' => self.returned = true,
            b'\t' => self.print('\t'),
            // Backspace: spinners and man pages step back over what they print again.
            0x08 if !self.cut => {
                self.line.pop();
            }
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, _: &[u8], _: bool, action: u8) {
        let first = params
            .iter()
            .next()
            .and_then(|p| p.first().copied())
            .unwrap_or(0);
        match (action, first) {
            // Erase to the end of the line, where the cursor stands at its start; or all of it.
            (b'K', 0) if self.returned => self.line.clear(),
            (b'K', 1 | 2) => self.line.clear(),
            // To the first column, as a carriage return.
            (b'G', 0 | 1) => self.returned = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut splitter = Splitter::default();
        let mut all = Vec::new();
        for piece in pieces {
            splitter.feed(piece, |line| all.push(line));
        }
        (all, splitter.finish())
    }

    /// A name, what is printed, the lines of it, and the last without a newline.
    type Case = (
        &'static str,
        &'static [u8],
        &'static [&'static str],
        Option<&'static str>,
    );

    #[test]
    fn printed_bytes_become_lines_of_plain_text() {
        let cases: &[Case] = &[
            ("plain", b"one\ntwo\n", &["one", "two"], None),
            (
                "as a terminal ends lines",
                b"one\r\ntwo\r\r\n",
                &["one", "two"],
                None,
            ),
            (
                "an empty line is a line",
                b"one\n\ntwo\n",
                &["one", "", "two"],
                None,
            ),
            ("no newline at the end", b"one\ntwo", &["one"], Some("two")),
            (
                "progress collapses to its last state",
                b"1%\r2%\r3%\ndone\n",
                &["3%", "done"],
                None,
            ),
            ("progress without an end", b"1%\r2%\r", &[], Some("2%")),
            (
                "a shorter state leaves nothing of the longer",
                b"Compiling\rok\n",
                &["ok"],
                None,
            ),
            (
                "colours",
                b"\x1b[1;32m   Compiling\x1b[0m x\n",
                &["   Compiling x"],
                None,
            ),
            (
                "title by OSC",
                b"\x1b]0;my title \xc3\xa9\x07text\n",
                &["text"],
                None,
            ),
            (
                "link by OSC 8",
                b"\x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\\n",
                &["here"],
                None,
            ),
            ("erase, then text", b"abc\r\x1b[Kdef\n", &["def"], None),
            (
                "text erased for good",
                b"abc\r\x1b[K\nnext\n",
                &["", "next"],
                None,
            ),
            (
                "whole line erased",
                b"abc\x1b[2K\x1b[1Gdef\n",
                &["def"],
                None,
            ),
            ("spinner by backspace", b"a|\x08/\x08-\n", &["a-"], None),
            (
                "control characters are no text",
                b"a\x00b\x07c\x0e\n",
                &["abc"],
                None,
            ),
            ("tabs stay", b"a\tb\n", &["a\tb"], None),
            (
                "invalid UTF-8",
                b"a\xffb\xc3\nc\n",
                &["a\u{fffd}b\u{fffd}", "c"],
                None,
            ),
            (
                "UTF-8 that breaks off",
                b"a\xe2\x82",
                &[],
                Some("a\u{fffd}"),
            ),
            ("umlauts", "grün €\n".as_bytes(), &["grün €"], None),
            ("nothing", b"", &[], None),
        ];
        check(cases);
    }

    /// In one piece and byte by byte.
    fn check(cases: &[Case]) {
        for (name, input, expected, last) in cases {
            let (all, end) = lines(&[input]);
            assert_eq!(
                (all.as_slice(), end.as_deref()),
                (strings(expected).as_slice(), *last),
                "{name}"
            );
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            let (all, end) = lines(&bytes);
            assert_eq!(
                (all.as_slice(), end.as_deref()),
                (strings(expected).as_slice(), *last),
                "{name}, byte by byte"
            );
        }
    }

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_long_line_is_cut_at_its_bound_and_says_so() {
        for unit in ["x", "é", "€", "🦀"] {
            let long = unit.repeat(5_000) + "\nnext\n";
            let (all, _) = lines(&[long.as_bytes()]);
            assert_eq!(all.len(), 2, "{unit}");
            assert!(
                all[0].len() <= LINE_BYTES_MAX && all[0].len() > LINE_BYTES_MAX - 8,
                "{unit}: {}",
                all[0].len()
            );
            assert!(all[0].ends_with('…'), "{unit}");
            assert_eq!(all[1], "next", "{unit}");
        }
    }

    #[test]
    fn a_line_of_the_greatest_length_is_whole() {
        let fits = "x".repeat(LINE_BYTES_MAX - CUT_MARK.len_utf8());
        assert_eq!(lines(&[format!("{fits}\n").as_bytes()]).0, [fits]);
    }

    #[test]
    fn an_escape_sequence_that_never_ends_holds_no_memory() {
        let mut splitter = Splitter::default();
        splitter.feed(b"\x1b]0;", |_| {});
        for _ in 0..1_000 {
            splitter.feed(&[b'x'; 1_000], |_| {});
        }
        splitter.feed(b"\x07after\n", |line| assert_eq!(line, "after"));
        assert_eq!(splitter.unfinished(), "");
    }

    #[test]
    fn the_unfinished_line_can_be_seen_before_it_ends() {
        let mut splitter = Splitter::default();
        splitter.feed(b"done\nContinue? ", |_| {});
        assert_eq!(splitter.unfinished(), "Continue? ");
        splitter.feed(b"\r 42%", |_| {});
        assert_eq!(splitter.unfinished(), " 42%");
    }
}
