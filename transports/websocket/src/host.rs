//! Whether a request names its host, as HTTP/1.1 wants it.

use http::Version;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::Authority;

/// Whether the host stands there once, as RFC 9112, section 3.2, wants it; HTTP/1.0 knows requests without one.
pub(crate) fn is_named(head: &Parts) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => head.version < Version::HTTP_11,
        (Some(host), None) => host.is_empty() || is_authority(host),
        (Some(_), Some(_)) => false,
    }
}

fn is_authority(host: &HeaderValue) -> bool {
    let host = host.as_bytes();
    is_plain_authority(host) || (!host.contains(&b'@') && Authority::try_from(host).is_ok())
}

/// Whether it is a name or a number, and perhaps a port: of these no copy is parsed. All else is the parser's to judge.
fn is_plain_authority(host: &[u8]) -> bool {
    let mut parts = host.splitn(2, |byte| *byte == b':');
    let name = parts.next().unwrap_or_default();
    let port = parts.next().unwrap_or(b"0");
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let all = name.iter().all(is_of_name) && port.iter().all(u8::is_ascii_digit);
    all && !name.is_empty() && !port.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_authority_is_one_for_the_parser_too() {
        let mut hosts = vec![String::new()];
        for at in 0.. {
            let Some(host) = hosts.get(at).cloned() else {
                break;
            };
            if is_plain_authority(host.as_bytes()) {
                assert!(Authority::try_from(host.as_str()).is_ok(), "{host}");
            }
            if host.len() < 5 {
                hosts.extend("a1.-:@[]%/".chars().map(|next| format!("{host}{next}")));
            }
        }
        for (host, is_plain) in [
            ("localhost", true),
            ("127.0.0.1:8080", true),
            ("my-host.example.com:443", true),
            ("[::1]:8080", false),
            ("a:b", false),
            (":80", false),
            ("a:", false),
            ("", false),
        ] {
            assert_eq!(is_plain_authority(host.as_bytes()), is_plain, "{host}");
        }
    }
}
