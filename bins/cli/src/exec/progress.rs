//! How far a program is, read from what it prints.
//!
//! Seen are percentages (`42%`, `42.5 %`, `[ 42%]`) and counts (`[12/340]`, `(12/340)`, cargo's `] 12/340`). The first
//! of a line counts. A number that speaks of something else (`0% packet loss`) is told by the word after it.

/// Words that may follow a percentage which says how far the program is.
const WORDS_AFTER: [&str; 9] = [
    "of",
    "done",
    "complete",
    "completed",
    "finished",
    "downloaded",
    "uploaded",
    "eta",
    "remaining",
];

/// The progress shown so far, 0 to 1.
///
/// It rises. A smaller value is taken only where the program evidently started over: after 100 %, or when it falls by
/// more than half; anything else is the noise of steps that run side by side.
#[derive(Debug, Default)]
pub(crate) struct Progress(Option<f64>);

impl Progress {
    /// Looks at a line; true where what is shown changed.
    pub(crate) fn observe(&mut self, line: &str) -> bool {
        let Some(found) = find(line) else {
            return false;
        };
        let taken = match self.0 {
            None => true,
            Some(shown) => {
                found > shown || (found < shown && (shown >= 1.0 || found < shown / 2.0))
            }
        };
        if taken {
            self.0 = Some(found);
        }
        taken
    }

    pub(crate) fn shown(&self) -> Option<f64> {
        self.0
    }
}

/// The progress that a line tells, 0 to 1 with four decimals.
fn find(line: &str) -> Option<f64> {
    let mut rest = line;
    let mut before = ' ';
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        before = rest
            .get(..start)
            .and_then(|text| text.chars().next_back())
            .unwrap_or(before);
        let number = rest.get(start..).unwrap_or_default();
        let end = number
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(number.len());
        let (digits, after) = number.split_at(end);
        let outside = rest.get(..start).unwrap_or_default();
        if let Some(value) =
            percentage(before, digits, after).or_else(|| count(outside, digits, after))
        {
            return Some((value * 10_000.0).round() / 10_000.0);
        }
        before = digits.chars().next_back().unwrap_or(before);
        rest = after;
    }
    None
}

fn percentage(before: char, digits: &str, after: &str) -> Option<f64> {
    let after = after.strip_prefix(' ').unwrap_or(after).strip_prefix('%')?;
    if before.is_alphanumeric() || matches!(before, '.' | ',' | '-' | '_' | '/' | '%') {
        return None;
    }
    let word = after.trim_start();
    let word = word
        .split(|c: char| !c.is_alphabetic())
        .next()
        .unwrap_or_default();
    if !word.is_empty()
        && !WORDS_AFTER
            .iter()
            .any(|known| known.eq_ignore_ascii_case(word))
    {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    (value <= 100.0).then_some(value / 100.0)
}

/// `[12/340]`, `(12/340)`, or `12/340` after a bar that ends with `] `: a bare `12/31` may be a date.
fn count(outside: &str, digits: &str, after: &str) -> Option<f64> {
    let total = after.strip_prefix('/')?;
    let end = total
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(total.len());
    let (total, after) = total.split_at(end);
    let opened = outside.trim_end_matches(' ');
    let closed = after.trim_start_matches(' ');
    let held = (opened.ends_with('[') && closed.starts_with(']'))
        || (opened.ends_with('(') && closed.starts_with(')'))
        || outside.ends_with("] ");
    let (done, total): (f64, f64) = (digits.parse().ok()?, total.parse().ok()?);
    (held && total >= 1.0 && done <= total).then_some(done / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_seen_where_programs_print_it_and_nowhere_else() {
        let cases: &[(&str, Option<f64>)] = &[
            ("42%", Some(0.42)),
            ("42.5 %", Some(0.425)),
            ("[ 42%] Building CXX object", Some(0.42)),
            ("Receiving objects:  42% (420/1000)", Some(0.42)),
            (
                "[download]  42.0% of 10.00MiB at 1.00MiB/s ETA 00:07",
                Some(0.42),
            ),
            ("archive.tar   7%[=>      ] 4.2M", Some(0.07)),
            ("      1,234,567  42%   1.20MB/s    0:00:01", Some(0.42)),
            ("progress: 100% done", Some(1.0)),
            ("0%", Some(0.0)),
            ("[ 12/340] cc main.c", Some(0.0353)),
            ("[12/340] cc main.c", Some(0.0353)),
            ("    Building [=>       ] 12/340: serde, syn", Some(0.0353)),
            ("Step (3/4)", Some(0.75)),
            ("[4/4] Linking", Some(1.0)),
            ("done 99.99% ETA 1s", Some(0.9999)),
            (
                "4 packets transmitted, 4 received, 0% packet loss, time 3004ms",
                None,
            ),
            ("101%", None),
            ("-5%", None),
            ("1.2.3%", None),
            ("v42%", None),
            ("3.14%", Some(0.0314)),
            ("2026/11/25 12/31", None),
            ("http://host/12/340", None),
            ("[0/0]", None),
            ("[5/4]", None),
            ("cpu: 93% idle, 12% done", Some(0.12)),
            ("no number at all", None),
            ("", None),
            ("%", None),
            ("99999999999999999999999999999999999999999999%", None),
            ("日本 42% 完了", None),
            ("進捗 42%", Some(0.42)),
        ];
        for (line, expected) in cases {
            assert_eq!(find(line), *expected, "{line:?}");
        }
    }

    #[test]
    fn progress_rises_and_falls_only_where_the_program_started_over() {
        let steps: &[(&str, bool, f64)] = &[
            ("10%", true, 0.1),
            ("40%", true, 0.4),
            ("40%", false, 0.4),
            ("39%", false, 0.4),
            ("nothing", false, 0.4),
            ("19%", true, 0.19),
            ("100%", true, 1.0),
            ("60%", true, 0.6),
        ];
        let mut progress = Progress::default();
        for (line, changed, shown) in steps {
            assert_eq!(
                (progress.observe(line), progress.shown()),
                (*changed, Some(*shown)),
                "{line}"
            );
        }
    }
}
