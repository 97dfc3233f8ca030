//! Where a URL leads.

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use fanfare_websocket::client::Server;

use crate::error::Error;

/// How long an address may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);

/// The address as it stands in `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) String);

/// Where somebody listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) address: SocketAddr,
    /// On this machine.
    pub(crate) local: bool,
}

impl Address {
    /// Takes a URL apart: the address, and the rest from the path on.
    pub(crate) fn of<'a>(url: &'a str, what: &str) -> Result<(Self, &'a str), Error> {
        let wrong = |why: &str| Error::Usage(format!("{what} {url:?}: {why}"));
        let begin = url.find("://").map_or(0, |at| at + 3);
        let rest = url.get(begin..).unwrap_or_default();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (server, path) = url.split_at_checked(begin + end).unwrap_or((url, ""));
        let server = server
            .parse::<Server>()
            .map_err(|error| wrong(&error.to_string()))?;
        let server = server.to_string();
        let Some(authority) = server.strip_prefix("http://") else {
            return Err(wrong(
                "bench speaks no TLS, which would measure the proxy; give it the server's own address, with http or ws",
            ));
        };
        if path.contains('#') || path.starts_with('?') {
            return Err(wrong("it has a fragment, or a query without a path"));
        }
        if path.contains(|c: char| c.is_control() || c == ' ') {
            return Err(wrong("it has spaces or control characters"));
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok((Self(authority.to_owned()), path))
    }

    /// The same with its port.
    fn with_port(&self) -> String {
        let has_port = self
            .0
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        format!("{}{}", self.0, if has_port { "" } else { ":80" })
    }

    /// The first of its addresses at which somebody listens.
    pub(crate) fn reach(&self) -> Result<Reached, Error> {
        let unreachable = |why: String| Error::Bench {
            status: 4,
            words: format!(
                "can't reach http://{}: {why}\n  does the server run, and is this its address?",
                self.0
            ),
        };
        let mut why = "its name has no address".to_owned();
        let addresses = self.with_port().to_socket_addrs();
        for address in addresses.map_err(|error| unreachable(error.to_string()))? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    let own = stream.local_addr().ok();
                    return Ok(Reached {
                        address,
                        local: own.is_some_and(|own| is_local(own.ip(), address.ip())),
                    });
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(unreachable(why))
    }
}

/// Whether who connects from the one address to the other stays on this machine.
fn is_local(from: IpAddr, to: IpAddr) -> bool {
    from == to || to.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_or_refused_with_the_reason() {
        for (url, at, path) in [
            ("ws://h:1/a?b={room}", "h:1", "/a?b={room}"),
            ("http://127.0.0.1", "127.0.0.1:80", "/"),
            ("http://[::1]:8080/", "[::1]:8080", "/"),
            ("ws://[::1]/x", "[::1]:80", "/x"),
        ] {
            let (address, rest) = Address::of(url, "--raw").unwrap();
            assert_eq!((&*address.with_port(), rest), (at, path));
        }
        for (url, why) in [
            ("h:1", "begin"),
            ("wss://h/", "TLS"),
            ("https://h/", "TLS"),
            ("ws://", "no URL"),
            ("ws://:1", "no host"),
            ("ws://h:0/", "port"),
            ("ws://h:x/", "port"),
            ("ws://u@h/", "password"),
            ("ws://h/ x", "spaces"),
            ("ws://h/\r\nX: y", "control"),
            ("ws://h/#a", "fragment"),
        ] {
            let words = Address::of(url, "--raw").unwrap_err().words();
            assert!(words.contains(why) && words.contains("--raw"), "{words}");
        }
    }

    #[test]
    fn only_who_is_met_at_an_own_address_is_on_this_machine() {
        for (from, to, local) in [
            ("127.0.0.1", "127.9.9.9", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("::1", "::1", true),
            ("2001:db8::1", "2001:db8::2", false),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(is_local(from, to), local, "{from} {to}");
        }
    }
}
