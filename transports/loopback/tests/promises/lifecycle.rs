//! A task's life as `docs/protocol.md` tells it.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Life {
    #[default]
    Unknown,
    Created,
    Started,
    Over,
    Deleted,
}

impl Life {
    /// Where an event leads; `None` where it may not come.
    pub(crate) fn after(self, kind: &str) -> Option<Self> {
        use Life::{Created, Deleted, Over, Started, Unknown};
        match (self, kind) {
            (Deleted, _) => None,
            (_, "task:deleted") => Some(Deleted),
            (Unknown, "task:created") => Some(Created),
            (Unknown | Created, "task:started") => Some(Started),
            (Unknown | Started, "task:completed")
            | (Unknown | Created | Started, "task:failed" | "task:cancelled") => Some(Over),
            (Unknown | Created | Started, "task:status") => Some(self),
            (_, kind) if kind.starts_with("task:") => None,
            _ => Some(self),
        }
    }
}
