//! Which web pages may speak to the server: the list of allowed origins, and the CORS headers that follow from it.
//!
//! Nothing here relies on cookies: a page needs a token to get anywhere, and a foreign page has none. So without a list
//! any origin may connect; with one, a request that names another origin is refused, `null` among them. A request
//! without an `Origin` comes from no browser and is judged by its token alone.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

use crate::Error;

/// The origins that may connect.
///
/// ```
/// use fanfare_websocket::Origins;
/// let origins = Origins::parse(["https://*.example.com"])?;
/// assert!(origins.allows("https://app.example.com"));
/// assert!(!origins.allows("https://app.example.com.evil.test"));
/// assert!(Origins::any().allows("null"));
/// # Ok::<(), fanfare_websocket::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Option<Vec<Pattern>>);

/// An origin: scheme, host and port, in lower case, the scheme's own port written out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    origin: Origin,
    /// `*.` stood before the host: one or more labels have to.
    subdomains: bool,
    /// `:*` stood after it.
    any_port: bool,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !scheme_ok || rest.contains('@') {
            return None;
        }
        let authority: Authority = rest.parse().ok()?;
        let (scheme, host) = (
            scheme.to_ascii_lowercase(),
            authority.host().to_ascii_lowercase(),
        );
        // `host:` and `host:99999` have no port that `port_u16` would tell.
        let port = match authority.as_str().get(host.len()..)? {
            "" => match scheme.as_str() {
                "http" => Some(80),
                "https" => Some(443),
                _ => None,
            },
            _ => Some(authority.port_u16()?),
        };
        (!host.is_empty()).then_some(Self { scheme, host, port })
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (text, any_port) = text
            .strip_suffix(":*")
            .map_or((text, false), |text| (text, true));
        let (scheme, host) = text.split_once("://")?;
        let (host, subdomains) = host
            .strip_prefix("*.")
            .map_or((host, false), |host| (host, true));
        let origin = Origin::parse(&format!("{scheme}://{host}"))?;
        (!origin.host.contains('*')).then_some(Self {
            origin,
            subdomains,
            any_port,
        })
    }

    fn matches(&self, origin: &Origin) -> bool {
        let host = if self.subdomains {
            let labels = origin
                .host
                .strip_suffix(&self.origin.host)
                .and_then(|rest| rest.strip_suffix('.'));
            labels.is_some_and(|labels| !labels.is_empty())
        } else {
            origin.host == self.origin.host
        };
        host && origin.scheme == self.origin.scheme
            && (self.any_port || origin.port == self.origin.port)
    }
}

impl Origins {
    /// Any origin may connect.
    #[must_use]
    pub const fn any() -> Self {
        Self(None)
    }

    /// Only these may: `scheme://host[:port]`, where `*.` before the host stands for one or more labels, and `*` as the
    /// port for any. An empty list allows no page at all.
    ///
    /// # Errors
    /// [`Error::Origin`] names the entry that is no origin.
    pub fn parse<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let parse = |text: &str| Pattern::parse(text).ok_or_else(|| Error::Origin(text.to_owned()));
        list.into_iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(|list| Self(Some(list)))
    }

    /// Whether a page of this origin may connect.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        let Some(list) = &self.0 else { return true };
        Origin::parse(origin)
            .is_some_and(|origin| list.iter().any(|pattern| pattern.matches(&origin)))
    }

    /// Whether a request with these headers may pass. Two `Origin`s are none that could be allowed.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        if self.0.is_none() {
            return true;
        }
        let mut values = headers.get_all(ORIGIN).iter();
        match (values.next(), values.next()) {
            (None, _) => true,
            (Some(origin), None) => origin.to_str().is_ok_and(|origin| self.allows(origin)),
            (Some(_), Some(_)) => false,
        }
    }

    /// Adds what lets a page read the answer to its request, where its origin may.
    pub(crate) fn share(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        let Some(origin) = request.get(ORIGIN).filter(|_| self.admits(request)) else {
            return;
        };
        let origin = match self.0 {
            None => HeaderValue::from_static("*"),
            Some(_) => {
                answer.append(VARY, HeaderValue::from_static("Origin"));
                origin.clone()
            }
        };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Retry-After"),
        );
    }

    /// Adds the answer to a preflight request for a path that takes these methods.
    pub(crate) fn preflight(
        &self,
        request: &HeaderMap,
        methods: &HeaderValue,
        answer: &mut HeaderMap,
    ) {
        self.share(request, answer);
        if answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
            answer.insert(
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("Authorization, Content-Type"),
            );
            answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_admits_what_it_names_and_nothing_that_only_looks_like_it() {
        #[rustfmt::skip]
        let rows = [
            ("https://app.example.com", "https://app.example.com", true),
            ("https://app.example.com", "HTTPS://App.Example.COM", true),
            ("https://app.example.com", "https://app.example.com:443", true),
            ("https://app.example.com:443", "https://app.example.com", true),
            ("https://app.example.com", "https://app.example.com:8443", false),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.com", "https://app.example.com.evil.test", false),
            ("https://app.example.com", "https://app.example.com/", false),
            ("https://app.example.com", "https://app.example.com@evil.test", false),
            ("https://app.example.com", "https://x@app.example.com", false),
            ("https://app.example.com", "https://app.example.com:", false),
            ("https://app.example.com", "https://app.example.com:70000", false),
            ("https://app.example.com", "https://app.example.com https://evil.test", false),
            ("https://app.example.com", "null", false),
            ("https://app.example.com", "", false),
            ("https://*.example.com", "https://app.example.com", true),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://app.example.com.evil.test", false),
            ("https://*.example.com:8443", "https://app.example.com:8443", true),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost:*", "http://localhost.evil.test:80", false),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("tauri://localhost", "tauri://localhost", true),
        ];
        for (list, origin, allowed) in rows {
            let origins = Origins::parse([list]).unwrap();
            assert_eq!(origins.allows(origin), allowed, "{list} {origin}");
        }
    }

    #[test]
    fn an_entry_that_is_no_origin_is_refused_by_name() {
        for entry in [
            "example.com",
            "*",
            "null",
            "https://",
            "https://*",
            "https://a.*.com",
            "https://a.com/x",
            "https://a.com:x",
        ] {
            let error = Origins::parse(["https://ok.example", entry]).unwrap_err();
            assert!(
                error.to_string().contains(&format!("`{entry}`")),
                "{entry}: {error}"
            );
        }
    }

    #[test]
    fn a_request_passes_by_its_origin_or_by_having_none() {
        let listed = Origins::parse(["https://app.example.com"]).unwrap();
        let headers = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            headers
        };
        for (origins, with_list, without) in [
            (&[][..], true, true),
            (&["https://app.example.com"], true, true),
            (&["https://evil.test"], false, true),
            (&["null"], false, true),
            (
                &["https://app.example.com", "https://app.example.com"],
                false,
                true,
            ),
        ] {
            assert_eq!(listed.admits(&headers(origins)), with_list, "{origins:?}");
            assert_eq!(
                Origins::any().admits(&headers(origins)),
                without,
                "{origins:?}"
            );
        }
    }

    #[test]
    fn an_answer_is_shared_with_an_allowed_page_only() {
        let listed = Origins::parse(["https://app.example.com"]).unwrap();
        for (origins, origin, shared) in [
            (
                &listed,
                "https://app.example.com",
                Some("https://app.example.com"),
            ),
            (&listed, "https://evil.test", None),
            (&Origins::any(), "https://evil.test", Some("*")),
        ] {
            let request = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
            let mut answer = HeaderMap::new();
            origins.preflight(&request, &HeaderValue::from_static("GET"), &mut answer);
            let allow = answer
                .get(ACCESS_CONTROL_ALLOW_ORIGIN)
                .map(|value| value.to_str().unwrap());
            assert_eq!(allow, shared, "{origin}");
            assert_eq!(
                answer.contains_key(ACCESS_CONTROL_ALLOW_METHODS),
                shared.is_some(),
                "{origin}"
            );
        }
    }
}
