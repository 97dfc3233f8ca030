//! The two secrets: from the environment or from files, never from a flag or the configuration file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::settings::Config;

/// Bytes of a file that holds a secret.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A secret that the server needs.
pub(crate) struct Secret {
    /// In the spelling of the table of settings.
    pub(crate) name: &'static str,
    pub(crate) variable: &'static str,
    purpose: &'static str,
    file: fn(&Config) -> &Option<PathBuf>,
}

pub(crate) const TOKEN_SECRET: Secret = Secret {
    name: "token-secret",
    variable: "FANFARE_TOKEN_SECRET",
    purpose: "signs the tokens that clients bear",
    file: |config| &config.token_secret_file,
};

pub(crate) const API_KEY: Secret = Secret {
    name: "api-key",
    variable: "FANFARE_API_KEY",
    purpose: "back ends bear it to publish",
    file: |config| &config.api_key_file,
};

/// Every secret.
pub(crate) const ALL: [Secret; 2] = [TOKEN_SECRET, API_KEY];

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("{0}")]
    Missing(String),
    #[error("both {variable} and {variable}_FILE (or its flag) are given; keep one of them")]
    Twice { variable: &'static str },
    #[error("the file for {variable}, {}: {reason}", .path.display())]
    File {
        variable: &'static str,
        path: PathBuf,
        reason: String,
    },
    #[error("{variable}: {source}")]
    Unfit {
        variable: &'static str,
        source: fanfare_websocket::Error,
    },
    #[error("no randomness from the system to make a secret up: {0}")]
    Random(#[from] getrandom::Error),
}

/// The secrets as they were given. No `Debug`: nothing prints them.
pub(crate) struct Secrets {
    pub(crate) token_secret: String,
    pub(crate) api_key: String,
}

impl Secrets {
    /// Takes both secrets from the variables found, or from the files that the settings name. With `--dev` what is
    /// missing is made up.
    ///
    /// # Errors
    /// [`SecretError`]: one that says which lines to add, where a secret is missing.
    pub(crate) fn read(
        config: &Config,
        variables: &BTreeMap<&'static str, String>,
    ) -> Result<Self, Vec<SecretError>> {
        let mut errors = Vec::new();
        let mut missing = Vec::new();
        let mut take = |secret: &'static Secret| {
            let found = match one(secret, config, variables) {
                Ok(None) if config.dev => random().map(Some),
                found => found,
            };
            found
                .unwrap_or_else(|error| {
                    errors.push(error);
                    Some(String::new())
                })
                .unwrap_or_else(|| {
                    missing.push(secret);
                    String::new()
                })
        };
        let secrets = Self {
            token_secret: take(&TOKEN_SECRET),
            api_key: take(&API_KEY),
        };
        if !missing.is_empty() {
            errors.push(SecretError::Missing(advice(&missing)));
        }
        if errors.is_empty() {
            Ok(secrets)
        } else {
            Err(errors)
        }
    }
}

/// 32 random bytes in hexadecimal.
fn random() -> Result<String, SecretError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn one(
    secret: &Secret,
    config: &Config,
    variables: &BTreeMap<&'static str, String>,
) -> Result<Option<String>, SecretError> {
    let variable = secret.variable;
    match ((secret.file)(config), variables.get(variable)) {
        (Some(_), Some(_)) => Err(SecretError::Twice { variable }),
        (None, given) => Ok(given.cloned()),
        (Some(path), None) => match read_bounded(path, FILE_BYTES_MAX) {
            // Editors and `echo` end a file with a line feed that is no part of the secret.
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(reason) => Err(SecretError::File {
                variable,
                path: path.clone(),
                reason,
            }),
        },
    }
}

fn advice(missing: &[&Secret]) -> String {
    let mut text = String::from("no ");
    text += &missing
        .iter()
        .map(|secret| format!("{} ({})", secret.variable, secret.purpose))
        .collect::<Vec<_>>()
        .join(", no ");
    text += ".\n\nAdd to the environment that starts the server, with values that you keep:\n\n";
    for secret in missing {
        text += &format!("  export {}=\"$(openssl rand -hex 32)\"\n", secret.variable);
    }
    text += "\nor name files that hold them:";
    for secret in missing {
        text += &format!(" --{}-file PATH", secret.name);
    }
    text += "\nTo try Fanfare out without any: fanfare-server --dev";
    text
}

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// A reason for humans.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(limit + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > limit {
        return Err(format!("larger than {limit} bytes"));
    }
    Ok(text)
}
