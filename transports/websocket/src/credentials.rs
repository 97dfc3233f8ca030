//! Who may: clients by a signed token, back ends by the API key.
//!
//! The algorithm comes from the configured secret (HS256), never from a token, and nothing that a token names (`jku`,
//! `jwk`, `x5u`) is fetched or believed. What a token allows is the core's business: [`fanfare_core::Principal`].

use std::fmt;

use fanfare_core::{AuthError, Claims, Principal, Wall};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Error;

/// Fewest bytes of a secret: as many as HS256's hash has (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Most bytes of a token; a longer one is refused before it is decoded.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

fn long_enough(secret: &[u8]) -> Result<(), Error> {
    let bytes = secret.len();
    if bytes < SECRET_BYTES_MIN {
        Err(Error::ShortSecret { bytes })
    } else {
        Ok(())
    }
}

/// The secret by which clients' tokens are signed and checked.
///
/// ```
/// use fanfare_core::{Claims, Wall};
/// use fanfare_websocket::TokenKey;
/// let key = TokenKey::new(b"a secret of thirty-two bytes or more")?;
/// let claims: Claims = serde_json::from_str(r#"{"sub":"7","exp":2000000000,"tasks":["*"]}"#)?;
/// let token = key.issue(&claims);
/// let principal = key.verify(&token, Wall::from_unix_millis(1_700_000_000_000))?;
/// assert_eq!(principal.user().number(), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TokenKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    issuer: Option<String>,
    audience: Option<String>,
}

/// Claims as they are signed: ours, and those that were configured.
#[derive(Serialize)]
struct Signed<'a> {
    #[serde(flatten)]
    claims: &'a Claims,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

impl TokenKey {
    /// A key from its secret.
    ///
    /// # Errors
    /// [`Error::ShortSecret`] below [`SECRET_BYTES_MIN`] bytes.
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        long_enough(secret)?;
        let mut validation = Validation::new(Algorithm::HS256);
        // The core judges `exp` and `nbf`, by the time of the input; here `exp` only has to be there.
        validation.validate_exp = false;
        // An audience that nobody configured is nobody's business.
        validation.validate_aud = false;
        validation.leeway = 0;
        Ok(Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            issuer: None,
            audience: None,
        })
    }

    /// From now on a token must have this `iss`, and is issued with it.
    #[must_use]
    pub fn with_issuer(mut self, issuer: &str) -> Self {
        self.validation.set_issuer(&[issuer]);
        self.validation
            .required_spec_claims
            .insert("iss".to_owned());
        self.issuer = Some(issuer.to_owned());
        self
    }

    /// From now on a token must have this `aud` (or a list with it), and is issued with it.
    #[must_use]
    pub fn with_audience(mut self, audience: &str) -> Self {
        self.validation.set_audience(&[audience]);
        self.validation.validate_aud = true;
        self.validation
            .required_spec_claims
            .insert("aud".to_owned());
        self.audience = Some(audience.to_owned());
        self
    }

    /// Signs a token.
    #[must_use]
    pub fn issue(&self, claims: &Claims) -> String {
        let signed = Signed {
            claims,
            iss: self.issuer.as_deref(),
            aud: self.audience.as_deref(),
        };
        #[expect(
            clippy::expect_used,
            reason = "claims have a JSON form, and HMAC takes a key of any length"
        )]
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &signed, &self.encoding)
            .expect("claims can be signed")
    }

    /// Checks a token: its form, its signature, what it claims, and whether it holds at `wall`.
    ///
    /// # Errors
    /// [`AuthError`]; which check failed is told to nobody but by the kinds that it has.
    pub fn verify(&self, token: &str, wall: Wall) -> Result<Principal, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::BadToken);
        }
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| AuthError::BadToken)?;
        // Who does not understand what a header declares critical has to refuse it (RFC 7515, section 4.1.11).
        if data.header.crit.is_some() {
            return Err(AuthError::BadToken);
        }
        Principal::new(data.claims, wall)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// The key that back ends bear, as its digest: so a comparison takes the same time whatever is presented.
///
/// ```
/// use fanfare_websocket::ApiKey;
/// let key = ApiKey::new("an API key of thirty-two bytes or more")?;
/// assert!(key.matches("an API key of thirty-two bytes or more"));
/// assert!(!key.matches("another"));
/// # Ok::<(), fanfare_websocket::Error>(())
/// ```
#[derive(Clone)]
pub struct ApiKey([u8; 32]);

impl ApiKey {
    /// A key from its text.
    ///
    /// # Errors
    /// [`Error::ShortSecret`] below [`SECRET_BYTES_MIN`] bytes; [`Error::KeyCharacters`] where it could not come in a
    /// header.
    pub fn new(key: &str) -> Result<Self, Error> {
        long_enough(key.as_bytes())?;
        // Around a header's value spaces do not count.
        if key.trim_matches(' ') != key || !key.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(Error::KeyCharacters);
        }
        Ok(Self(Sha256::digest(key).into()))
    }

    /// Whether `presented` is the key, in constant time.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.0.ct_eq(&presented).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Both: what decides who may do anything here.
///
/// ```
/// use fanfare_websocket::{ApiKey, Credentials, TokenKey};
/// let credentials = Credentials {
///     tokens: TokenKey::new(b"a secret of thirty-two bytes or more")?,
///     api_key: ApiKey::new("an API key of thirty-two bytes or more")?,
/// };
/// let header = "Bearer an API key of thirty-two bytes or more".parse().unwrap();
/// assert!(credentials.backend(Some(&header)));
/// assert!(!credentials.backend(None));
/// # Ok::<(), fanfare_websocket::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Judges clients.
    pub tokens: TokenKey,
    /// Judges back ends.
    pub api_key: ApiKey,
}

impl Credentials {
    /// Who a client is, by its token: see [`TokenKey::verify`].
    ///
    /// # Errors
    /// [`AuthError`] for a token that does not hold at `wall`.
    pub fn client(&self, token: &str, wall: Wall) -> Result<Principal, AuthError> {
        self.tokens.verify(token, wall)
    }

    /// Whether the value of an `Authorization` header bears the API key.
    #[must_use]
    pub fn backend(&self, authorization: Option<&HeaderValue>) -> bool {
        authorization
            .and_then(bearer)
            .is_some_and(|key| self.api_key.matches(key))
    }

    /// Signs a token for a client.
    #[must_use]
    pub fn issue(&self, claims: &Claims) -> String {
        self.tokens.issue(claims)
    }
}

/// The one `Authorization` header of a request. Of several none counts: a proxy may have judged another one.
pub(crate) fn authorization(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    values.next().filter(|_| values.next().is_none())
}

/// What stands behind `Bearer`.
pub(crate) fn bearer(authorization: &HeaderValue) -> Option<&str> {
    const SCHEME: &str = "bearer ";
    let (scheme, rest) = authorization
        .to_str()
        .ok()?
        .split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| rest.trim_matches(' '))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use fanfare_core::{TaskGrant, UserId};

    use super::*;

    const SECRET: &[u8] = b"the secret of these tests, 32 bytes";
    const NOW_S: u64 = 1_800_000_000;

    fn key() -> TokenKey {
        TokenKey::new(SECRET).unwrap()
    }

    fn verify(key: &TokenKey, token: &str) -> Result<u64, AuthError> {
        key.verify(token, Wall::from_unix_millis(NOW_S * 1_000))
            .map(|principal| principal.user().number())
    }

    /// A token of any header and claims, signed by HS256.
    fn signed(secret: &[u8], header: &str, claims: &str) -> String {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let key = EncodingKey::from_secret(secret);
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    fn hs256(claims: &str) -> String {
        signed(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, claims)
    }

    #[test]
    fn only_a_token_that_holds_now_and_here_is_taken() {
        let good = r#"{"sub":"7","exp":1800000001,"tasks":["*"]}"#;
        let none = signed(SECRET, r#"{"alg":"none"}"#, good);
        let unsigned = format!("{}.", none.rsplit_once('.').unwrap().0);
        let mut tampered = hs256(good);
        tampered.pop();
        let public_key = b"-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----\n";
        #[rustfmt::skip]
        let rows = [
            ("good", hs256(good), Ok(7)),
            ("alg none", none, Err(AuthError::BadToken)),
            ("alg none, no signature", unsigned, Err(AuthError::BadToken)),
            ("alg RS256", signed(SECRET, r#"{"alg":"RS256"}"#, good), Err(AuthError::BadToken)),
            ("alg HS512", signed(SECRET, r#"{"alg":"HS512"}"#, good), Err(AuthError::BadToken)),
            ("alg missing", signed(SECRET, "{}", good), Err(AuthError::BadToken)),
            ("another secret", signed(b"another secret", r#"{"alg":"HS256"}"#, good), Err(AuthError::BadToken)),
            ("a public key as secret", signed(public_key, r#"{"alg":"HS256"}"#, good), Err(AuthError::BadToken)),
            ("signature cut", tampered, Err(AuthError::BadToken)),
            ("crit", signed(SECRET, r#"{"alg":"HS256","crit":["exp"]}"#, good), Err(AuthError::BadToken)),
            ("expired", hs256(r#"{"sub":"7","exp":1799999999}"#), Err(AuthError::Expired)),
            ("expires now", hs256(r#"{"sub":"7","exp":1800000000}"#), Err(AuthError::Expired)),
            ("nbf ahead", hs256(r#"{"sub":"7","exp":1800000009,"nbf":1800000001}"#), Err(AuthError::NotYet)),
            ("nbf now", hs256(r#"{"sub":"7","exp":1800000009,"nbf":1800000000}"#), Ok(7)),
            ("no exp", hs256(r#"{"sub":"7"}"#), Err(AuthError::BadToken)),
            ("exp null", hs256(r#"{"sub":"7","exp":null}"#), Err(AuthError::BadToken)),
            ("exp text", hs256(r#"{"sub":"7","exp":"x"}"#), Err(AuthError::BadToken)),
            ("exp 1e400", hs256(r#"{"sub":"7","exp":1e400}"#), Err(AuthError::BadToken)),
            ("exp negative", hs256(r#"{"sub":"7","exp":-1}"#), Err(AuthError::BadToken)),
            ("exp twice", hs256(r#"{"sub":"7","exp":1,"exp":1800000001}"#), Err(AuthError::BadToken)),
            ("no sub", hs256(r#"{"exp":1800000001}"#), Err(AuthError::BadToken)),
            ("sub no user", hs256(r#"{"sub":"admin","exp":1800000001}"#), Err(AuthError::BadToken)),
            ("claims no object", hs256("[]"), Err(AuthError::BadToken)),
            ("foreign iss and aud, none configured", hs256(r#"{"sub":"7","exp":1800000001,"iss":"a","aud":["b"]}"#), Ok(7)),
            ("1 MiB", "a".repeat(1 << 20), Err(AuthError::BadToken)),
            ("longer than 8 KiB", hs256(&good.replace('7', &format!("7\",\"x\":\"{}", "a".repeat(8 << 10)))), Err(AuthError::BadToken)),
            ("empty", String::new(), Err(AuthError::BadToken)),
            ("dots", "..".to_owned(), Err(AuthError::BadToken)),
            ("NUL", "\0.\0.\0".to_owned(), Err(AuthError::BadToken)),
            ("four parts", format!("{}.x", hs256(good)), Err(AuthError::BadToken)),
        ];
        for (name, token, expected) in rows {
            assert_eq!(verify(&key(), &token), expected, "{name}");
        }
    }

    #[test]
    fn issuer_and_audience_have_to_be_those_that_are_configured() {
        let key = key()
            .with_issuer("https://id.example")
            .with_audience("fanfare");
        for (more, taken) in [
            (r#""iss":"https://id.example","aud":"fanfare""#, true),
            (
                r#""iss":"https://id.example","aud":["other","fanfare"]"#,
                true,
            ),
            (r#""iss":"https://id.example","aud":"other""#, false),
            (r#""iss":"https://id.example","aud":[]"#, false),
            (r#""iss":"https://id.example""#, false),
            (r#""iss":"https://evil.test","aud":"fanfare""#, false),
            (r#""aud":"fanfare""#, false),
            (r#""iss":7,"aud":"fanfare""#, false),
        ] {
            let token = hs256(&format!(r#"{{"sub":"7","exp":1800000001,{more}}}"#));
            assert_eq!(verify(&key, &token).is_ok(), taken, "{more}");
        }
        let issued = key.issue(&Claims::new(UserId::new(9), NOW_S + 1, TaskGrant::All));
        assert_eq!(verify(&key, &issued), Ok(9), "a key takes what it issued");
    }

    #[test]
    fn what_a_header_points_to_is_never_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let good = r#"{"sub":"7","exp":1800000001}"#;
        for name in ["jku", "x5u"] {
            let token = signed(
                SECRET,
                &format!(r#"{{"alg":"HS256","{name}":"{url}"}}"#),
                good,
            );
            assert_eq!(verify(&key(), &token), Ok(7), "{name}");
            let token = signed(
                b"theirs",
                &format!(r#"{{"alg":"HS256","{name}":"{url}"}}"#),
                good,
            );
            assert_eq!(verify(&key(), &token), Err(AuthError::BadToken), "{name}");
        }
        let jwk = format!(
            r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#,
            URL_SAFE_NO_PAD.encode("theirs")
        );
        assert_eq!(
            verify(&key(), &signed(b"theirs", &jwk, good)),
            Err(AuthError::BadToken)
        );
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            ErrorKind::WouldBlock,
            "nobody asked"
        );
    }

    #[test]
    fn a_back_end_is_known_by_the_one_key_in_the_one_header() {
        let text = "an API key of thirty-two bytes, or more";
        let credentials = Credentials {
            tokens: key(),
            api_key: ApiKey::new(text).unwrap(),
        };
        for (values, known) in [
            (vec![format!("Bearer {text}")], true),
            (vec![format!("bearer   {text} ")], true),
            (vec![], false),
            (vec![text.to_owned()], false),
            (vec!["Bearer".to_owned()], false),
            (vec!["Bearer ".to_owned()], false),
            (vec![format!("Basic {text}")], false),
            (vec![format!("Bearer {text}x")], false),
            (vec![format!("Bearer {}", text.to_uppercase())], false),
            (vec![format!("Bearer {text}"), "Bearer x".to_owned()], false),
        ] {
            let headers = values
                .iter()
                .map(|value| (AUTHORIZATION, value.parse().unwrap()))
                .fold(HeaderMap::new(), |mut headers, (name, value)| {
                    headers.append(name, value);
                    headers
                });
            assert_eq!(
                credentials.backend(authorization(&headers)),
                known,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_key_that_no_header_can_bear_is_refused() {
        let long = "0123456789abcdef0123456789abcdef";
        for (key, taken) in [
            (long.to_owned(), true),
            (format!("two words, {long} ~!"), true),
            (format!("{long} "), false),
            (format!(" {long}"), false),
            (format!("{long}\t"), false),
            (format!("{long}\r\n{long}"), false),
            (format!("{long}\0"), false),
            (format!("{long}ü"), false),
        ] {
            let made = ApiKey::new(&key);
            assert_eq!(made.is_ok(), taken, "{key:?}");
            if let Ok(api_key) = made {
                let header = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
                let tokens = self::key();
                let credentials = Credentials { tokens, api_key };
                assert!(credentials.backend(Some(&header)), "{key:?}");
            }
        }
    }

    #[test]
    fn short_secrets_are_refused_and_no_secret_is_in_a_debug_print() {
        let error = TokenKey::new(&[b'x'; 31]).unwrap_err().to_string();
        assert!(
            error.contains("31 bytes") && error.contains("at least 32"),
            "{error}"
        );
        assert!(ApiKey::new(&"x".repeat(31)).is_err());
        let api_key = ApiKey::new("an API key of thirty-two bytes, or more").unwrap();
        let shown = format!(
            "{:?}",
            Credentials {
                tokens: key(),
                api_key
            }
        );
        assert!(
            !shown.contains("secret of") && !shown.contains("an API") && !shown.contains('['),
            "{shown}"
        );
    }
}
