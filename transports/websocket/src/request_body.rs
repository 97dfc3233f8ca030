//! The body of a request that brings JSON: its type, its size and the time that it may take.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::body::Body;

use crate::problem::{Code, Problem};

/// The media type of one JSON text.
pub(crate) const JSON: &str = "application/json";

/// Reads all of a body of this type of JSON: at most `bytes_max` bytes, of which none is read where the length says more, before
/// `late` ends, which it does `ms` milliseconds after it was first polled.
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
    B: Body<Data = Bytes> + Unpin,
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
    let late = async {
        late.await;
        let detail = format!("the body did not come within {ms} ms");
        Err(Problem::new(Code::Timeout, detail))
    };
    // Nobody waits for what is there already.
    smol::future::or(pin!(collect(body, bytes_max)), late).await
}

/// All of the body: as it came, where it came in one piece.
async fn collect<B>(mut body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| {
            Problem::bad_request(
                "the body broke off, or is framed in a way that HTTP does not know",
            )
        })?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + all.len() + data.len() > bytes_max {
            return Err(Problem::too_large(bytes_max));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Whether the headers say this type of JSON, as it is: RFC 8259 knows no other encoding than UTF-8.
pub(crate) fn is(headers: &HeaderMap, media_type: &str) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else {
        return false;
    };
    let is_plain = !headers.contains_key(CONTENT_ENCODING);
    if value == media_type {
        return is_plain;
    }
    let Ok(value) = value.to_str() else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let is_it = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case(media_type));
    is_it && is_plain && parts.all(is_utf8)
}

/// Whether a parameter of the type does not say another encoding.
fn is_utf8(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http::HeaderValue;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// A body that comes in these pieces.
    fn of(pieces: &[&'static str]) -> impl Body<Data = Bytes> + Unpin {
        let frames = pieces.iter().map(|piece| Ok(Frame::data((*piece).into())));
        let frames = frames.chain([Ok::<_, Infallible>(Frame::trailers(HeaderMap::new()))]);
        StreamBody::new(stream::iter(frames.collect::<Vec<_>>()))
    }

    #[test]
    fn a_body_is_read_whole_in_however_many_pieces_and_no_longer_than_it_may_be() {
        for pieces in [
            &[][..],
            &["abcd"],
            &["ab", "cd"],
            &["", "a", "", "bc", "d", ""],
        ] {
            let whole = pieces.concat();
            let read = |bytes_max| smol::block_on(collect(of(pieces), bytes_max));
            assert_eq!(read(whole.len()).unwrap(), whole, "{pieces:?}");
            if !whole.is_empty() {
                let refused = format!("{:?}", read(whole.len() - 1).unwrap_err());
                assert!(refused.contains("TooLarge"), "{pieces:?}: {refused}");
            }
        }
    }

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
