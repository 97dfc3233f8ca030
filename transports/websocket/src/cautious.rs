//! What of a client's words may stand in the log.

use std::fmt::{self, Display, Formatter};

/// Bytes of the longest part that is shown: as a UUID has. Tokens and keys are longer.
const PART_MAX: usize = 36;
/// Parts that are shown: more than any path of ours has.
const PARTS_MAX: usize = 8;

/// A path without what may be a token in a wrong place, or meant for whoever reads the log: a part that is long or has
/// anything but ASCII is shown as `…`.
pub(crate) struct Cautious<'a>(pub(crate) &'a str);

impl Display for Cautious<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, part) in self.0.split('/').enumerate() {
            if number > 0 {
                f.write_str("/")?;
            }
            if number == PARTS_MAX {
                return f.write_str("…");
            }
            let plain = part.len() <= PART_MAX && part.bytes().all(|byte| byte.is_ascii_graphic());
            f.write_str(if plain { part } else { "…" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_and_tokens_are_not() {
        let task = "/v1/tasks/550e8400-e29b-41d4-a716-446655440000/chat";
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl";
        for (path, shown) in [
            ("/", "/"),
            ("*", "*"),
            ("//x/", "//x/"),
            (task, task),
            (&format!("/v1/tasks/{token}/chat"), "/v1/tasks/…/chat"),
            (token, "…"),
            ("/a\u{9b}31m/b\u{202e}", "/…/…"),
            (&"/a".repeat(9_000), "/a/a/a/a/a/a/a/…"),
        ] {
            assert_eq!(Cautious(path).to_string(), shown, "{path:.80}");
        }
    }
}
