//! How often each thing went wrong, by the words that tell it.

/// Kinds that are told apart: a server can make up new words each time.
const KINDS_MAX: usize = 16;
/// Characters of a kind.
const WORDS_MAX: usize = 200;

#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    kinds: Vec<(String, u64)>,
    others: u64,
}

impl Tally {
    /// Counts one more of these words, which may be a server's.
    pub(crate) fn count(&mut self, words: &str) {
        let shown = shown(words);
        if let Some((_, count)) = self.kinds.iter_mut().find(|(kind, _)| *kind == shown) {
            *count += 1;
        } else if self.kinds.len() < KINDS_MAX {
            self.kinds.push((shown, 1));
        } else {
            self.others += 1;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.kinds.iter().map(|(_, count)| count).sum::<u64>() + self.others
    }

    /// The kinds with their counts; what was one kind too many is the last.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, u64)> {
        let others = (self.others > 0).then_some(("other words", self.others));
        let kinds = self.kinds.iter().map(|(words, count)| (&**words, *count));
        kinds.chain(others)
    }
}

/// One line of what a server said, without what a terminal would obey.
pub(crate) fn shown(words: &str) -> String {
    let clean = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = clean.take(WORDS_MAX).collect();
    if words.chars().count() > WORDS_MAX {
        shown.push('…');
    }
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_cleaned_and_bounded() {
        let mut tally = Tally::default();
        for n in 0..100 {
            tally.count("the same\x1b[31m");
            tally.count(&format!("always another {n}{}", "x".repeat(1_000)));
        }
        assert_eq!(tally.total(), 200);
        let kinds: Vec<_> = tally.kinds().collect();
        assert_eq!(kinds[0], ("the same [31m", 100));
        assert_eq!(kinds.len(), KINDS_MAX + 1);
        assert_eq!(kinds[KINDS_MAX], ("other words", 85));
        assert!(kinds.iter().all(|(words, _)| words.len() < 300));
    }
}
