//! Where a URL leads.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::error::Error;

/// How long an address may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// As it stands in `Host`.
    pub(crate) authority: String,
    host: String,
    port: u16,
}

impl Address {
    /// Takes a URL apart: the address, and the rest from the path on.
    pub(crate) fn of<'a>(url: &'a str, what: &str) -> Result<(Self, &'a str), Error> {
        let wrong = |why: &str| Error::Usage(format!("{what} {url:?}: {why}"));
        let rest = match url.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some(("https" | "wss", _)) => {
                return Err(wrong(
                    "bench speaks no TLS, which would measure the proxy; give it the server's own address, with http or ws",
                ));
            }
            _ => return Err(wrong("it does not begin with http:// or ws://")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if path.contains('#') || path.starts_with('?') {
            return Err(wrong("it has a fragment, or a query without a path"));
        }
        if path.contains(|c: char| c.is_control() || c == ' ') {
            return Err(wrong("it has spaces or control characters"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (
                    host,
                    port.ok_or_else(|| wrong("its port is no number from 1 to 65535"))?,
                )
            }
            _ => (authority, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let odd = |c: char| !(c.is_ascii_alphanumeric() || ".-_:%".contains(c));
        if host.is_empty() || host.contains(odd) {
            return Err(wrong(
                "it has no host, or one with characters that no host has",
            ));
        }
        let address = Self {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
        };
        Ok((address, if path.is_empty() { "/" } else { path }))
    }

    /// The first of its addresses at which somebody listens.
    pub(crate) fn reach(&self) -> Result<SocketAddr, Error> {
        let unreachable = |why: String| Error::Bench {
            status: 4,
            words: format!(
                "can't reach http://{}: {why}\n  does the server run, and is this its address?",
                self.authority
            ),
        };
        let addresses = (&*self.host, self.port).to_socket_addrs();
        let mut why = "its name has no address".to_owned();
        for address in addresses.map_err(|error| unreachable(error.to_string()))? {
            match std::net::TcpStream::connect_timeout(&address, CONNECT) {
                Ok(_) => return Ok(address),
                Err(error) => why = error.to_string(),
            }
        }
        Err(unreachable(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_or_refused_with_the_reason() {
        for (url, host, port, path) in [
            ("ws://h:1/a?b={room}", "h", 1, "/a?b={room}"),
            ("http://127.0.0.1", "127.0.0.1", 80, "/"),
            ("http://[::1]:8080/", "::1", 8080, "/"),
            ("ws://[::1]/x", "::1", 80, "/x"),
        ] {
            let (address, rest) = Address::of(url, "--raw").unwrap();
            assert_eq!((&*address.host, address.port, rest), (host, port, path));
        }
        for (url, why) in [
            ("h:1", "begin"),
            ("wss://h/", "TLS"),
            ("https://h/", "TLS"),
            ("ws://", "no host"),
            ("ws://h:0/", "port"),
            ("ws://h:x/", "port"),
            ("ws://u@h/", "no host"),
            ("ws://h/ x", "spaces"),
            ("ws://h/\r\nX: y", "control"),
            ("ws://h/#a", "fragment"),
        ] {
            let words = Address::of(url, "--raw").unwrap_err().words();
            assert!(words.contains(why) && words.contains("--raw"), "{words}");
        }
    }
}
