//! The body of a request that brings JSON: its type, its size and the time that it may take.

use std::future::Future;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;

use crate::problem::{Code, Problem};

/// The media type of one JSON text.
pub(crate) const JSON: &str = "application/json";

/// Reads all of a body of this type of JSON: at most `bytes_max` bytes, of which none is read where the length says more, before
/// `late` ends, which it does after `ms` milliseconds.
///
/// # Errors
/// 415, 413, 408, or 400 where the body breaks off.
pub(crate) async fn read<B>(
    headers: &HeaderMap,
    media_type: &str,
    body: B,
    bytes_max: usize,
    ms: u64,
    late: impl Future<Output = ()>,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>,
{
    if !is(headers, media_type) {
        let detail = format!(
            "the body has to be JSON: send `Content-Type: {media_type}`, in UTF-8 and not compressed"
        );
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Problem::too_large(bytes_max));
    }
    let collected = async { Some(Limited::new(body, bytes_max).collect().await) };
    let late = async {
        late.await;
        None
    };
    match smol::future::or(Box::pin(collected), late).await {
        Some(Ok(body)) => Ok(body.to_bytes()),
        Some(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(bytes_max)),
        Some(Err(_)) => Err(Problem::bad_request(
            "the body broke off, or is framed in a way that HTTP does not know",
        )),
        None => {
            let detail = format!("the body did not come within {ms} ms");
            Err(Problem::new(Code::Timeout, detail))
        }
    }
}

/// Whether the headers say this type of JSON, as it is: RFC 8259 knows no other encoding than UTF-8.
pub(crate) fn is(headers: &HeaderMap, media_type: &str) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else {
        return false;
    };
    let Ok(value) = value.to_str() else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let is_it = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case(media_type));
    is_it && !headers.contains_key(CONTENT_ENCODING) && parts.all(is_utf8)
}

/// Whether a parameter of the type does not say another encoding.
fn is_utf8(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_in_utf8_is_taken_and_nothing_else() {
        for (content_type, taken) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=UTF-8"), true),
            (Some("application/json;charset=\"utf-8\""), true),
            (Some("application/json; charset=latin1"), false),
            (Some("application/jsonp"), false),
            (Some("application/x-ndjson"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("text/plain"), false),
            (Some(""), false),
            (None, false),
        ] {
            let value = content_type.map(|text| (CONTENT_TYPE, HeaderValue::from_static(text)));
            assert_eq!(
                is(&value.into_iter().collect(), JSON),
                taken,
                "{content_type:?}"
            );
        }
        let gzip = [
            ("application/json", CONTENT_TYPE),
            ("gzip", CONTENT_ENCODING),
        ];
        let gzip = gzip.map(|(value, name)| (name, HeaderValue::from_static(value)));
        assert!(!is(&gzip.into_iter().collect(), JSON));
    }
}
