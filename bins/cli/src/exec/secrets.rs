//! Keeps our own keys out of what is published.

use fanfare_websocket::client::Secret;

use super::lines::CUT_MARK;
use crate::args::Connection;

/// Shorter ones would be found in ordinary words.
const LENGTH_MIN: usize = 8;
/// The same for the beginning of one.
const BEGINNING_MIN: usize = 4;

/// The keys and tokens of this command; the program that runs could print them from its environment.
pub(crate) struct Secrets(Vec<Secret>);

impl Secrets {
    pub(crate) fn of(connection: &Connection) -> Self {
        let all = [
            &connection.api_key,
            &connection.token,
            &connection.token_secret,
        ];
        Self(
            all.into_iter()
                .flatten()
                .filter(|secret| secret.expose().len() >= LENGTH_MIN)
                .cloned()
                .collect(),
        )
    }

    /// The text with `***` where a secret was, or at its end the beginning of one: a line is seen before all of it came,
    /// and a long one is cut.
    pub(crate) fn mask(&self, mut text: String) -> String {
        for secret in &self.0 {
            if text.contains(secret.expose()) {
                text = text.replace(secret.expose(), "***");
            }
        }
        let end = text.trim_end_matches(CUT_MARK).len();
        let body = text.get(..end).unwrap_or_default();
        let beginnings = |secret: &Secret| {
            let secret = secret.expose();
            (BEGINNING_MIN..secret.len())
                .rev()
                .filter_map(|length| secret.get(..length))
                .find_map(|beginning| body.strip_suffix(beginning).map(str::len))
        };
        match self.0.iter().filter_map(beginnings).min() {
            Some(before) => {
                text.replace_range(before..end, "***");
                text
            }
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secrets = Secrets(vec![Secret::new("hush-hush"), Secret::new("other-key")]);
        assert_eq!(
            secrets.mask("key=hush-hush,other-keyhush-hush".to_owned()),
            "key=***,******"
        );
        for (text, masked) in [
            ("nothing", "nothing"),
            ("key=hush-hus", "key=***"),
            ("key=hush", "key=***"),
            ("key=hus", "key=hus"),
            ("key=hush-h…", "key=***…"),
            ("hush-hush hush-", "*** ***"),
            ("hush-h and more", "hush-h and more"),
            ("grün…", "grün…"),
        ] {
            assert_eq!(secrets.mask(text.to_owned()), masked, "{text}");
        }
    }
}
