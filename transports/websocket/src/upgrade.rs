//! Whether a request may become a WebSocket (RFC 6455, section 4.2), and what it says about its client.
//!
//! Pure: a request's head in, an answer out. Who the client is and what it may do is the API's business.

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_core::{DeviceId, Pattern, Position, RoomId, Token, parse_since};
use http::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};

/// The subprotocol that Fanfare speaks.
pub const SUBPROTOCOL: &str = "fanfare.v1";
/// What stands before a token in the list of subprotocols.
const TOKEN_PREFIX: &str = "fanfare.token.";

/// Why a request does not become a WebSocket: an answer for its client.
///
/// ```
/// use fanfare_websocket::upgrade::Refusal;
/// assert_eq!(Refusal::Method.status(), 405);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a GET.
    #[error("a WebSocket begins with a GET")]
    Method,
    /// Not HTTP/1.1.
    #[error("a WebSocket needs HTTP/1.1")]
    Http,
    /// No `Host`, or several.
    #[error("exactly one `Host` is needed")]
    Host,
    /// A body, or an announcement of one.
    #[error("a request for a WebSocket has no body")]
    Body,
    /// An ordinary request.
    #[error("this is a WebSocket: ask with `Connection: Upgrade` and `Upgrade: websocket`")]
    NotAsked,
    /// Another version of the protocol.
    #[error("`Sec-WebSocket-Version` has to be 13")]
    Version,
    /// The key is not what RFC 6455 wants.
    #[error("exactly one `Sec-WebSocket-Key` is needed: 16 bytes in base64")]
    Key,
    /// None of the subprotocols offered is spoken here.
    #[error("none of these subprotocols is spoken here: offer `fanfare.v1`, or none")]
    Subprotocol,
    /// Different tokens in different places.
    #[error("several tokens that differ: send one, in one place")]
    Tokens,
    /// A parameter of the query stands there twice.
    #[error("`{0}` stands twice in the query")]
    Twice(&'static str),
    /// A parameter of the query is malformed.
    #[error("in the query: {0}")]
    Query(fanfare_core::Error),
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAsked | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Http
            | Self::Host
            | Self::Body
            | Self::Key
            | Self::Subprotocol
            | Self::Tokens
            | Self::Twice(_)
            | Self::Query(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Puts the headers that belong to this answer among its `headers`.
    pub fn describe(&self, headers: &mut HeaderMap) {
        let fields: &[(HeaderName, &'static str)] = match self {
            Self::Method => &[(ALLOW, "GET")],
            Self::NotAsked => &[(UPGRADE, "websocket"), (CONNECTION, "Upgrade")],
            Self::Version => &[
                (UPGRADE, "websocket"),
                (CONNECTION, "Upgrade"),
                (SEC_WEBSOCKET_VERSION, "13"),
            ],
            // Where the next request would begin is not known.
            Self::Body => &[(CONNECTION, "close")],
            Self::Http
            | Self::Host
            | Self::Key
            | Self::Subprotocol
            | Self::Tokens
            | Self::Twice(_)
            | Self::Query(_) => &[],
        };
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
    }
}

/// A request that may become a WebSocket.
///
/// ```
/// use fanfare_websocket::upgrade::Handshake;
/// let (head, ()) = http::Request::get("/v1/user/notifications")
///     .header("Host", "example.com")
///     .header("Connection", "keep-alive, Upgrade")
///     .header("Upgrade", "websocket")
///     .header("Sec-WebSocket-Version", "13")
///     .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(())
///     .unwrap()
///     .into_parts();
/// let response = Handshake::check(&head).unwrap().response(());
/// assert_eq!(response.headers()["Sec-WebSocket-Accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[derive(Debug)]
pub struct Handshake {
    accept: String,
    subprotocol: bool,
}

impl Handshake {
    /// Checks a request by RFC 6455, section 4.2.1. Extensions that it offers are not taken.
    ///
    /// # Errors
    /// What is wrong with it, as an answer.
    pub fn check(head: &Parts) -> Result<Self, Refusal> {
        let headers = &head.headers;
        if head.method != Method::GET {
            return Err(Refusal::Method);
        }
        if head.version != Version::HTTP_11 {
            return Err(Refusal::Http);
        }
        let lengths = headers.get_all(CONTENT_LENGTH);
        if headers.contains_key(TRANSFER_ENCODING) || lengths.iter().any(|length| length != "0") {
            return Err(Refusal::Body);
        }
        if !has_word(headers, &UPGRADE, "websocket") || !has_word(headers, &CONNECTION, "upgrade") {
            return Err(Refusal::NotAsked);
        }
        if one(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
            return Err(Refusal::Version);
        }
        one(headers, &HOST).ok_or(Refusal::Host)?;
        let key = one(headers, &SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?;
        if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
            return Err(Refusal::Key);
        }
        let offers_any = headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
        let subprotocol = words(headers, &SEC_WEBSOCKET_PROTOCOL).any(|word| word == SUBPROTOCOL);
        if offers_any && !subprotocol {
            return Err(Refusal::Subprotocol);
        }
        Ok(Self {
            accept: derive_accept_key(key.as_bytes()),
            subprotocol,
        })
    }

    /// The answer by which the connection becomes a WebSocket.
    pub fn response<B>(&self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        // Base64 is always a header's value.
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.subprotocol {
            headers.insert(
                SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(SUBPROTOCOL),
            );
        }
        response
    }
}

/// What the query of a WebSocket's address says. Parameters that Fanfare does not know are left alone.
///
/// ```
/// use fanfare_websocket::upgrade::Query;
/// let query = Query::parse(Some("device=phone&since=user:7@k3J9:41")).unwrap();
/// assert_eq!(query.device.unwrap().as_str(), "phone");
/// assert_eq!(query.since.len(), 1);
/// ```
#[derive(Debug, Default)]
pub struct Query {
    /// `device`: the client's name for this device.
    pub device: Option<DeviceId>,
    /// `since`: what the client has, by room.
    pub since: Vec<(RoomId, Position)>,
    /// `types`: what a subscriber of the bus wants.
    pub types: Vec<Pattern>,
    /// `token`.
    pub token: Option<Token>,
}

impl Query {
    /// Reads what stands behind the `?` of an address.
    ///
    /// # Errors
    /// [`Refusal::Query`] where a value is malformed, [`Refusal::Twice`] where a parameter is repeated.
    pub fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        let mut seen = [false; 4];
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let (place, name) = match &*name {
                "device" => (0, "device"),
                "since" => (1, "since"),
                "types" => (2, "types"),
                "token" => (3, "token"),
                _ => continue,
            };
            if let Some(seen) = seen.get_mut(place)
                && std::mem::replace(seen, true)
            {
                return Err(Refusal::Twice(name));
            }
            match name {
                "device" => parsed.device = Some(value.parse().map_err(Refusal::Query)?),
                "since" => parsed.since = parse_since(&value).map_err(Refusal::Query)?,
                "types" => {
                    parsed.types = value
                        .split(',')
                        .map(str::parse)
                        .collect::<Result<_, _>>()
                        .map_err(Refusal::Query)?;
                }
                _ => parsed.token = Some(Token::new(value.into_owned())),
            }
        }
        Ok(parsed)
    }
}

/// The token that a client sent along: as `Authorization: Bearer`, among the subprotocols, or in the query (as
/// [`Query::parse`] found it). The same one in several places is one.
///
/// # Errors
/// [`Refusal::Tokens`] where they differ: which one was meant is not for us to guess.
pub fn token(headers: &HeaderMap, query: Option<Token>) -> Result<Option<Token>, Refusal> {
    let bearers = headers
        .get_all(AUTHORIZATION)
        .into_iter()
        .filter_map(bearer);
    let offered =
        words(headers, &SEC_WEBSOCKET_PROTOCOL).filter_map(|word| word.strip_prefix(TOKEN_PREFIX));
    let mut found = query;
    for text in bearers.chain(offered) {
        match &found {
            Some(token) if token.expose() != text => return Err(Refusal::Tokens),
            Some(_) => {}
            None => found = Some(Token::new(text.to_owned())),
        }
    }
    Ok(found)
}

/// What stands behind `Bearer` in the value of an `Authorization`; another scheme is somebody else's.
fn bearer(value: &HeaderValue) -> Option<&str> {
    // What is no ASCII is no token either: it is refused as one that does not verify.
    let text = value.to_str().unwrap_or("Bearer \u{0}");
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// The value of a header that stands there exactly once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

/// The members of a header whose value is a list.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|word| word.trim_matches([' ', '\t']))
        .filter(|word| !word.is_empty())
}

fn has_word(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    words(headers, name).any(|word| word.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// The head of a good request, changed: a name with a value replaces, with "-" removes, with "+…" adds.
    fn head(changes: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::get("/v1/user/notifications")
            .header("Host", "example.com")
            .header("Connection", "keep-alive, Upgrade")
            .header("Upgrade", "WebSocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", KEY)
            .body(())
            .unwrap();
        for (name, value) in changes {
            let headers = request.headers_mut();
            match (*name, value.strip_prefix('+')) {
                ("method", _) => *request.method_mut() = value.parse().unwrap(),
                ("version", _) => *request.version_mut() = Version::HTTP_10,
                (name, Some(value)) => {
                    headers.append(name, value.parse().unwrap());
                }
                (name, None) if *value == "-" => {
                    headers.remove(name);
                }
                (name, None) => {
                    headers.insert(name, value.parse().unwrap());
                }
            }
        }
        request.into_parts().0
    }

    #[test]
    fn every_fault_of_a_handshake_has_its_answer() {
        for (name, value, refusal, status) in [
            ("method", "POST", Refusal::Method, 405),
            ("version", "1.0", Refusal::Http, 400),
            ("host", "-", Refusal::Host, 400),
            ("host", "+b.test", Refusal::Host, 400),
            ("content-length", "1", Refusal::Body, 400),
            ("transfer-encoding", "chunked", Refusal::Body, 400),
            ("transfer-encoding", "identity", Refusal::Body, 400),
            ("upgrade", "-", Refusal::NotAsked, 426),
            ("upgrade", "h2c", Refusal::NotAsked, 426),
            ("upgrade", "websockets", Refusal::NotAsked, 426),
            ("connection", "-", Refusal::NotAsked, 426),
            ("connection", "keep-alive", Refusal::NotAsked, 426),
            ("sec-websocket-version", "-", Refusal::Version, 426),
            ("sec-websocket-version", "8", Refusal::Version, 426),
            ("sec-websocket-version", "+8", Refusal::Version, 426),
            ("sec-websocket-key", "-", Refusal::Key, 400),
            ("sec-websocket-key", "", Refusal::Key, 400),
            (
                "sec-websocket-key",
                "+dGhlIHNhbXBsZSBub25jZQ==",
                Refusal::Key,
                400,
            ),
            (
                "sec-websocket-key",
                "dGhlIHNhbXBsZSBub25j",
                Refusal::Key,
                400,
            ),
            (
                "sec-websocket-key",
                "dGhlIHNhbXBsZSBub25jZQ",
                Refusal::Key,
                400,
            ),
            (
                "sec-websocket-key",
                "dGhlIHNhbXBsZSBub25jZR==",
                Refusal::Key,
                400,
            ),
            (
                "sec-websocket-key",
                "dGhlIHNhbXBsZSBub25jZTE=",
                Refusal::Key,
                400,
            ),
            (
                "sec-websocket-key",
                "dGhlIHNhbXBs_SBub25jZQ==",
                Refusal::Key,
                400,
            ),
            (
                "sec-websocket-protocol",
                "graphql-ws",
                Refusal::Subprotocol,
                400,
            ),
            (
                "sec-websocket-protocol",
                "fanfare.token.abc",
                Refusal::Subprotocol,
                400,
            ),
            ("sec-websocket-protocol", "", Refusal::Subprotocol, 400),
        ] {
            let got = Handshake::check(&head(&[(name, value)])).unwrap_err();
            assert_eq!(got, refusal, "{name}: {value}");
            assert_eq!(got.status(), status, "{name}: {value}");
        }
    }

    #[test]
    fn answers_bear_the_headers_that_say_what_to_do_instead() {
        for (refusal, name, value) in [
            (Refusal::Method, ALLOW, "GET"),
            (Refusal::NotAsked, UPGRADE, "websocket"),
            (Refusal::Version, UPGRADE, "websocket"),
            (Refusal::Version, SEC_WEBSOCKET_VERSION, "13"),
            (Refusal::Body, CONNECTION, "close"),
        ] {
            let mut headers = HeaderMap::new();
            refusal.describe(&mut headers);
            assert_eq!(headers[&name], value, "{refusal}");
        }
    }

    #[test]
    fn only_our_subprotocol_is_echoed_and_no_extension_is_taken() {
        for (offered, echoed) in [
            (None, None),
            (Some("fanfare.v1"), Some("fanfare.v1")),
            (
                Some("fanfare.v1, fanfare.token.a.b-c_d"),
                Some("fanfare.v1"),
            ),
            (Some("x,\tfanfare.v1"), Some("fanfare.v1")),
        ] {
            let mut changes = vec![("sec-websocket-extensions", "permessage-deflate")];
            changes.extend(offered.map(|offered| ("sec-websocket-protocol", offered)));
            changes.push(("content-length", "0"));
            let response = Handshake::check(&head(&changes)).unwrap().response(());
            assert_eq!(response.status(), 101, "{offered:?}");
            let headers = response.headers();
            let echo = headers.get(SEC_WEBSOCKET_PROTOCOL);
            assert_eq!(
                echo.map(|echo| echo.to_str().unwrap()),
                echoed,
                "{offered:?}"
            );
            assert!(!headers.contains_key("sec-websocket-extensions"));
        }
    }

    #[test]
    fn a_token_is_found_in_each_place_and_several_have_to_agree() {
        let bearer = |value| ("authorization", value);
        let offer = |value| ("sec-websocket-protocol", value);
        for (changes, query, expected) in [
            (vec![], None, Ok(None)),
            (vec![bearer("Bearer a.b")], None, Ok(Some("a.b"))),
            (vec![bearer("bearer  a.b")], None, Ok(Some("a.b"))),
            (vec![bearer("Bearer")], None, Ok(Some(""))),
            (vec![bearer("Basic dTpw")], None, Ok(None)),
            (
                vec![offer("fanfare.v1, fanfare.token.a.b")],
                None,
                Ok(Some("a.b")),
            ),
            (vec![], Some("a.b"), Ok(Some("a.b"))),
            (vec![bearer("Bearer a.b")], Some("a.b"), Ok(Some("a.b"))),
            (vec![bearer("Bearer a.b")], Some("c"), Err(Refusal::Tokens)),
            (
                vec![bearer("Bearer a"), bearer("+Bearer b")],
                None,
                Err(Refusal::Tokens),
            ),
            (
                vec![bearer("Bearer a.b"), offer("fanfare.v1, fanfare.token.c")],
                None,
                Err(Refusal::Tokens),
            ),
        ] {
            let got = token(
                &head(&changes).headers,
                query.map(|text: &str| Token::new(text.into())),
            );
            let got = got.map(|token| token.map(|token| token.expose().to_owned()));
            let expected = expected.map(|text| text.map(str::to_owned));
            assert_eq!(got, expected, "{changes:?} {query:?}");
        }
    }

    #[test]
    fn a_query_is_read_strictly_and_unknown_parameters_are_left_alone() {
        let task = "task:550e8400-e29b-41d4-a716-446655440000";
        for (query, good) in [
            ("", true),
            ("v=1&cache=no", true),
            ("device=my-phone_1.0", true),
            ("device=my%2Dphone", true),
            ("device=", false),
            ("device=a%20b", false),
            ("device=%ff", false),
            ("device=a&device=a", false),
            (&format!("since={task}@e:3,user:7@e:2"), true),
            (&format!("since={task}%40e%3A3"), true),
            ("since=user:7", false),
            ("since=user:7@e:-1", false),
            ("types=task:*,chat:message,*", true),
            ("types=task:*,", false),
            ("types=TASK", false),
            ("token=a&token=a", false),
        ] {
            let got = Query::parse(Some(query));
            assert_eq!(got.is_ok(), good, "{query}: {got:?}");
        }
        assert!(Query::parse(None).unwrap().token.is_none());
    }

    #[test]
    fn a_token_is_in_no_debug_print() {
        let query = Query::parse(Some("token=s3cret")).unwrap();
        assert!(!format!("{query:?}").contains("s3cret"));
    }
}
