//! What a client proves itself with.

use std::fmt;

/// A token or key. It is in no `Debug` output.
///
/// ```
/// let secret = fanfare_websocket::client::Secret::new("hush");
/// assert_eq!(format!("{secret:?}"), "Secret(…)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a token or key.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to be sent and to be kept out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How a connection proves itself, on the first attempt and on every later one.
///
/// ```
/// use fanfare_websocket::client::{Access, Secret};
/// let fixed = Access::Fixed(Secret::new("eyJ…"));
/// // A token that runs out is made anew for each attempt.
/// let fresh = Access::Fresh(Box::new(|| Secret::new("eyJ…")));
/// # let _ = (fixed, fresh);
/// ```
pub enum Access {
    /// One token, or for the bus an API key.
    Fixed(Secret),
    /// Called in each attempt to connect, once the server is reached.
    Fresh(Box<dyn FnMut() -> Secret + Send>),
}

impl Access {
    pub(crate) fn secret(&mut self) -> Secret {
        match self {
            Self::Fixed(secret) => secret.clone(),
            Self::Fresh(make) => make(),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed(…)",
            Self::Fresh(_) => "Fresh(…)",
        })
    }
}
