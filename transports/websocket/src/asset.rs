//! Files that the server carries in itself: the browser client, and the demo page of `--dev`.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};

/// What a page of ours may load: itself. Browsers differ in whether `'self'` covers WebSockets, so those are named.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file and the path at which it is served.
///
/// ```
/// use fanfare_websocket::Asset;
/// let asset = Asset { path: "/fanfare.js", content_type: "text/javascript; charset=utf-8", bytes: b"export {}" };
/// assert_eq!(asset.bytes.len(), 9);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// The path, from `/` on.
    pub path: &'static str,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub bytes: &'static [u8],
}

/// An asset with its tag, by which a browser knows whether its copy is still the same.
#[derive(Debug)]
pub(crate) struct Tagged {
    asset: Asset,
    tag: String,
}

impl From<Asset> for Tagged {
    fn from(asset: Asset) -> Self {
        let digest = Sha256::digest(asset.bytes);
        let tag = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        Self {
            asset,
            tag: format!("\"{tag}\""),
        }
    }
}

impl Tagged {
    pub(crate) fn response(&self, request: &HeaderMap) -> Response<Full<Bytes>> {
        let same = request
            .get(IF_NONE_MATCH)
            .is_some_and(|tag| tag.as_bytes() == self.tag.as_bytes());
        let body = if same {
            Bytes::new()
        } else {
            Bytes::from_static(self.asset.bytes)
        };
        let mut response = Response::new(Full::new(body));
        if same {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, self.asset.content_type),
            // A new version of the server is seen at the next load.
            (CACHE_CONTROL, "no-cache"),
            (ETAG, self.tag.as_str()),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}
