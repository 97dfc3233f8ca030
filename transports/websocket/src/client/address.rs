//! Where a server is.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use super::Error;

/// The address of a server: `http://host:port`, with a path before `/v1` where a proxy adds one.
///
/// ```
/// use fanfare_websocket::client::Server;
/// let server: Server = "https://events.example.com/fanfare/".parse()?;
/// assert_eq!(server.to_string(), "https://events.example.com/fanfare");
/// assert!("localhost:8080".parse::<Server>().is_err(), "the scheme has to be said");
/// # Ok::<(), fanfare_websocket::client::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub(crate) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    authority: String,
    prefix: String,
}

impl Server {
    /// The `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path of a request, below the prefix.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The URL of a WebSocket endpoint.
    pub(crate) fn websocket(&self, path: &str) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        format!("{scheme}://{}{}{path}", self.authority, self.prefix)
    }
}

impl FromStr for Server {
    type Err = Error;

    /// # Errors
    /// [`Error::Address`] where it is no `http://`, `https://`, `ws://` or `wss://` URL with a host, or bears a user,
    /// a query or a fragment.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why| Error::Address { why };
        let uri: Uri = text.trim().parse().map_err(|_| refuse("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            Some(_) => return Err(refuse("its scheme is none of http, https, ws, wss")),
            None => return Err(refuse("it does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse(
                "a user or password in it would be sent in clear; give a token or key instead",
            ));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(refuse(
                "it has a query or fragment; give only the address, as http://127.0.0.1:8080",
            ));
        }
        let port = match authority
            .as_str()
            .strip_prefix(authority.host())
            .unwrap_or_default()
        {
            "" if tls => 443,
            "" => 80,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or_else(|| refuse("its port is no number from 1 to 65535"))?,
        };
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(refuse("it has no host"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_or_refused_with_the_reason() {
        let good: &[(&str, bool, &str, u16, &str)] = &[
            ("http://127.0.0.1:8080", false, "127.0.0.1", 8080, "/v1"),
            ("http://127.0.0.1:8080/", false, "127.0.0.1", 8080, "/v1"),
            ("ws://localhost", false, "localhost", 80, "/v1"),
            (
                "https://events.example.com",
                true,
                "events.example.com",
                443,
                "/v1",
            ),
            ("wss://h:1/a/b/", true, "h", 1, "/a/b/v1"),
            ("http://[::1]:9", false, "::1", 9, "/v1"),
            (" http://h \n", false, "h", 80, "/v1"),
        ];
        for (text, tls, host, port, path) in good {
            let server: Server = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (
                    server.tls,
                    server.host.as_str(),
                    server.port,
                    server.path("/v1").as_str()
                ),
                (*tls, *host, *port, *path),
                "{text}"
            );
        }
        let bad = [
            ("", "no URL"),
            ("localhost:8080", "http://"),
            ("127.0.0.1", "begin with"),
            ("ftp://h", "scheme"),
            ("http://", "no URL"),
            ("http://:80", "host"),
            ("http://me:secret@h", "password"),
            ("http://h?token=x", "query"),
            ("http://h/#x", "fragment"),
            ("http://h:99999", "port"),
            ("http://h:", "port"),
        ];
        for (text, why) in bad {
            let error = text.parse::<Server>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
