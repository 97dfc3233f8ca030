//! What a publisher sent as `data`: JSON that was checked once and is carried as it came.

use crate::error::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// How deep JSON may be nested: receivers' parsers have limits of their own.
pub const JSON_DEPTH_MAX: usize = 64;

/// Checked JSON, shared by reference. Its debug form does not show the content.
///
/// ```
/// use fanfare_core::Payload;
/// assert_eq!(Payload::parse(r#"{"text": "hello"}"#)?.as_str(), r#"{"text": "hello"}"#);
/// assert!(Payload::parse("{").is_err());
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// Checks `json`, in O(length).
    ///
    /// # Errors
    /// [`Error::BadRequest`] where it is not JSON or nested deeper than [`JSON_DEPTH_MAX`].
    pub fn parse(json: &str) -> Result<Self, Error> {
        check_depth(json)?;
        let raw: Box<RawValue> = serde_json::from_str(json)
            .map_err(|error| Error::unreadable("data is not valid JSON", &error))?;
        Ok(Self(raw.into()))
    }

    /// The JSON of `value`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where it has no JSON form.
    pub fn from_value<T: Serialize>(value: &T) -> Result<Self, Error> {
        let json = serde_json::to_string(value)
            .map_err(|error| Error::unreadable("data has no JSON form", &error))?;
        Self::parse(&json)
    }

    /// The JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    pub(crate) fn raw(&self) -> &RawValue {
        &self.0
    }

    /// What was checked when it came.
    pub(crate) fn of_raw(raw: &RawValue) -> Self {
        Self(raw.to_owned().into())
    }
}

impl Default for Payload {
    /// `null`.
    fn default() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.as_str().len())
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        check_depth(raw.get()).map_err(serde::de::Error::custom)?;
        Ok(Self(raw.into()))
    }
}

/// Refuses `json` that is nested too deep. What is no JSON at all is the parser's to find.
pub(crate) fn check_depth(json: &str) -> Result<(), Error> {
    // Where so few brackets open, those of strings among them, none is too deep.
    if opening(json.as_bytes()) <= JSON_DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        if in_string {
            (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(Error::BadRequest(format!(
                "the JSON is nested deeper than {JSON_DEPTH_MAX} levels"
            )));
        }
    }
    Ok(())
}

/// How many brackets open in `json`. In pieces whose count a byte holds, so that many bytes are counted at a time.
fn opening(json: &[u8]) -> usize {
    let of_piece = |piece: &[u8]| -> u8 {
        let opens = piece.iter().map(|byte| matches!(byte, b'[' | b'{'));
        opens.map(u8::from).sum()
    };
    let pieces = json.chunks(usize::from(u8::MAX));
    pieces.map(of_piece).map(usize::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Payload::parse(&nested(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(
            Payload::parse(&nested(JSON_DEPTH_MAX + 1))
                .unwrap_err()
                .code(),
            "bad_request"
        );
        let objects = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(Payload::parse(&objects(JSON_DEPTH_MAX)).is_ok());
        let error = Payload::parse(&objects(JSON_DEPTH_MAX + 1)).unwrap_err();
        assert!(error.to_string().contains("nested"), "{error}");
        assert!(Payload::parse(&format!("[{}{{}}]", "[],".repeat(1_000))).is_ok());
        assert!(Payload::parse(&format!(r#""{}""#, "[".repeat(1_000))).is_ok());
        assert!(Payload::parse(&format!(r#"["\\", "\"{}"]"#, "[".repeat(1_000))).is_ok());
        assert!(Payload::parse(&nested(100_000)).is_err());
    }

    #[test]
    fn every_bracket_that_opens_is_counted() {
        for (json, count) in [
            (String::new(), 0),
            (r#"[{}]"[""#.into(), 3),
            ("]}\u{7b}[".into(), 2),
            ("[".repeat(255), 255),
            ("{".repeat(256), 256),
            ("[".repeat(10_000), 10_000),
        ] {
            assert_eq!(opening(json.as_bytes()), count, "{json:.20}");
        }
    }

    #[test]
    fn the_content_is_not_in_the_debug_form() {
        assert!(!format!("{:?}", Payload::parse("\"secret\"").unwrap()).contains("secret"));
    }
}
