//! Keeps our own keys out of what is published.

use fanfare_websocket::client::Secret;

use crate::args::Connection;

/// Shorter ones would be found in ordinary words.
const LENGTH_MIN: usize = 8;

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

    /// The text with `***` where a secret was.
    pub(crate) fn mask(&self, mut text: String) -> String {
        for secret in &self.0 {
            if text.contains(secret.expose()) {
                text = text.replace(secret.expose(), "***");
            }
        }
        text
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
        assert_eq!(secrets.mask("nothing".to_owned()), "nothing");
    }
}
