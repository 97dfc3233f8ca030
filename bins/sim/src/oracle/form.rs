//! That all that comes is of the protocol.

use super::{Known, Oracle, text};
use crate::history::Seen;

/// Bytes are frames, frames are JSON, and each says what it is.
#[derive(Default)]
pub(super) struct WellFormed;

impl Oracle for WellFormed {
    fn name(&self) -> &'static str {
        "well_formed"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        match seen {
            Seen::Garbled { what, .. } => Err(format!("is none of the protocol: {what}")),
            Seen::Received { frame, .. } => {
                let kind = text(frame, "/type");
                let lacks = |field: &str| Err(format!("a frame of type {kind:?} without {field}"));
                if kind.starts_with("system:") {
                    return match &frame["data"] {
                        data if data.is_object() => Ok(()),
                        _ => lacks("data"),
                    };
                }
                if !kind.contains(':') {
                    return lacks("a type");
                }
                let rooms = frame["rooms"].as_object();
                if rooms
                    .is_none_or(|rooms| rooms.is_empty() || !rooms.values().all(|it| it.is_u64()))
                {
                    return lacks("rooms with its numbers");
                }
                for field in ["id", "at"] {
                    if !frame[field].is_string() {
                        return lacks(field);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
